//! The whole state of a service node: its dispatchers, what they do and what they did.
//!
//! Both sides keep a [`NodeState`] and change it only by [`NodeState::apply`]: what the service node has and what a page shows
//! can't differ, but in how far they have come.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::clock::Timestamp;
use crate::base::id::{Epoch, ExecutionId, NodeId};
use crate::model::execution::{Cause, Outcome, Progress};

/// How many past runs a state remembers of each dispatcher: the bars of its row.
pub const BARS: usize = 40;

/// So many of a node's absences are told, the newest.
pub const ABSENCES: usize = 8;

/// Everything there is to know about a service node's work now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeState {
    /// In which life of the node.
    pub epoch: Epoch,
    /// The number of the last event in it.
    pub number: u64,
    /// Which node, and what is known of it.
    pub node: NodeFacts,
    /// Every dispatcher, by name.
    pub dispatchers: BTreeMap<String, DispatcherState>,
}

/// What is known of a node besides its dispatchers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// Which one.
    pub id: NodeId,
    /// The machine it runs on.
    pub host: String,
    /// The program's version.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// When the process started.
    pub started_at: Timestamp,
    /// Whether it has been asked to stop: runs that go on may finish, no other begins. An older version does not say.
    #[serde(default)]
    pub stopping: bool,
    /// Which lines of its log it wrote while it was not the primary, before each of its terms; oldest first, the newest
    /// [`ABSENCES`]. An older version does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absences: Vec<Absence>,
}

/// A part of a node's log, written before a term as primary and after the one before that: other nodes may have been primary
/// meanwhile, and what they wrote comes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absence {
    /// The last line of the term before; 0 if there was none.
    pub after: u64,
    /// The last line before the next term; may be the same.
    pub upto: u64,
}

/// A dispatcher: what it is, what it does, what it did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DispatcherState {
    /// Its name: `[a-z0-9][a-z0-9_-]{0,63}`.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// What it does, in a sentence.
    pub description: String,
    /// Who declared it.
    pub origin: Origin,
    /// When it runs, in words (`every 5 m`, `15 3 * * * Europe/Berlin`, `when told`).
    pub schedule: String,
    /// What it is doing or waiting for.
    pub activity: Activity,
    /// Who holds it back, also while a run goes on; read it by [`DispatcherState::pause`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// When it runs by itself, if it is going to.
    pub next_at: Option<Timestamp>,
    /// The runs that are going on.
    pub running: Vec<Run>,
    /// How many may go on at once.
    pub limit: u32,
    /// How many runs wait.
    pub queued: u32,
    /// The last runs that ended, oldest first, at most [`BARS`].
    pub recent: Vec<Bar>,
    /// The last failure, until a run is normal again.
    pub last_error: Option<LastError>,
    /// How many runs failed one after the other.
    pub failures: u32,
    /// Times passed over because the run before had not ended.
    pub skipped: u64,
    /// Whether its node is stopping, so that none of its runs begins any more.
    #[serde(default)]
    pub stopping: bool,
}

/// Who declared a dispatcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// It does the product's own work.
    BuiltIn,
    /// The operator, in the configuration file.
    Job,
    /// The program that embeds this one.
    Program,
}

/// What a dispatcher is doing or waiting for, with the reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Activity {
    /// It waits until it is due or told.
    Idle,
    /// A run waits to begin.
    Queued,
    /// It runs.
    Running,
    /// Somebody paused it.
    Paused {
        /// Who.
        by: String,
        /// Since when.
        since: Timestamp,
    },
    /// Its last run failed; it tries again.
    Failing {
        /// When.
        next_attempt: Option<Timestamp>,
    },
    /// It should have run, and did not.
    Overdue {
        /// By when it should have.
        expected_by: Timestamp,
    },
    /// Another node does this work.
    Standby {
        /// Which one.
        primary: NodeId,
    },
    /// It is switched off.
    Disabled {
        /// By which setting or line of the configuration file.
        by: String,
    },
}

impl Activity {
    /// The one word for it, as in JSON and in the page's classes.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Paused { .. } => "paused",
            Self::Failing { .. } => "failing",
            Self::Overdue { .. } => "overdue",
            Self::Standby { .. } => "standby",
            Self::Disabled { .. } => "disabled",
        }
    }
}

/// A dispatcher held back by somebody: it begins nothing by itself. Runs that go on are not ended by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Who.
    pub by: String,
    /// Since when.
    pub since: Timestamp,
}

impl From<(String, Timestamp)> for Pause {
    fn from((by, since): (String, Timestamp)) -> Self {
        Self { by, since }
    }
}

/// A run that is going on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Which one.
    pub execution: ExecutionId,
    /// Why.
    pub cause: Cause,
    /// Who asked for it, if somebody did.
    pub by: Option<String>,
    /// Since when.
    pub started_at: Timestamp,
    /// How far it says it is.
    pub progress: Option<Progress>,
    /// Who asked to end it, if somebody did.
    pub cancelled_by: Option<String>,
}

/// A run that ended: a bar of the row's chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bar {
    /// Which one.
    pub execution: ExecutionId,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended; of an abandoned one, when its node last gave a sign of life: not before that.
    pub finished_at: Timestamp,
    /// How it ended.
    pub outcome: Outcome,
}

impl Bar {
    /// How long it took; none if nobody knows when it ended.
    #[must_use]
    pub fn duration(&self) -> Option<std::time::Duration> {
        (self.outcome != Outcome::Abandoned).then(|| self.finished_at.since(self.started_at))
    }
}

/// A failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// Of which run.
    pub execution: ExecutionId,
    /// When.
    pub at: Timestamp,
    /// What it said.
    pub message: String,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is part of the state now.
    Changed,
    /// It was already: its number is not above the state's.
    Known,
    /// Events before it are missing: the whole state is needed.
    Missing,
}

impl NodeState {
    /// A node that has done nothing yet.
    #[must_use]
    pub fn new(epoch: Epoch, node: NodeFacts) -> Self {
        Self { epoch, number: 0, node, dispatchers: BTreeMap::new() }
    }
}

impl NodeFacts {
    /// A term as primary begins after this absence.
    pub fn note_absence(&mut self, absence: Absence) {
        let surplus = (self.absences.len() + 1).saturating_sub(ABSENCES);
        self.absences.drain(..surplus);
        self.absences.push(absence);
    }
}

/// How long those of these runs took that ended normally, in the middle; none if there is none.
#[must_use]
pub fn median_duration(runs: &[Bar]) -> Option<std::time::Duration> {
    let normal = runs.iter().filter(|bar| matches!(bar.outcome, Outcome::Normal | Outcome::Warning));
    let mut durations: Vec<_> = normal.filter_map(Bar::duration).collect();
    durations.sort_unstable();
    durations.get(durations.len() / 2).copied()
}

impl DispatcherState {
    /// Who holds it back, and since when. A neighbour of an older version tells it only as the activity.
    #[must_use]
    pub fn pause(&self) -> Option<Pause> {
        self.paused.clone().or_else(|| match &self.activity {
            Activity::Paused { by, since } => Some(Pause { by: by.clone(), since: *since }),
            _ => None,
        })
    }

    /// How long its runs that ended normally took, in the middle; none if there is none.
    #[must_use]
    pub fn median_duration(&self) -> Option<std::time::Duration> {
        median_duration(&self.recent)
    }

    /// The last run that ended.
    #[must_use]
    pub fn last(&self) -> Option<&Bar> {
        self.recent.last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_absences_are_told_and_an_older_version_tells_none() {
        let mut facts = NodeFacts {
            id: NodeId::new("service-1"),
            host: "here".into(),
            version: "1".into(),
            pid: 1,
            started_at: Timestamp::from_micros(1),
            stopping: false,
            absences: Vec::new(),
        };
        let older = rmp_serde::to_vec_named(&facts).unwrap();
        assert!(!older.windows(8).any(|bytes| bytes == b"absences"), "as an older version writes it");
        assert_eq!(rmp_serde::from_slice::<NodeFacts>(&older).unwrap(), facts);
        for term in 0..=ABSENCES as u64 {
            facts.note_absence(Absence { after: term * 10, upto: term * 10 + 5 });
        }
        assert_eq!((facts.absences.len(), facts.absences[0].after), (ABSENCES, 10));
        let sent = rmp_serde::to_vec_named(&facts).unwrap();
        assert_eq!(rmp_serde::from_slice::<NodeFacts>(&sent).unwrap(), facts);
    }
}
