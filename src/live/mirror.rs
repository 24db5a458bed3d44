//! The state of a service node as this web node mirrors it, each part with the version of its last change.
//!
//! Readers ask what changed since the version they have: a row that changed forty times in between is told once, as it is now.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::base::id::Epoch;
use crate::messenger::client::{LinkState, LinkStatus};
use crate::protocol::event::Event;
use crate::protocol::state::{Activity, Applied, DispatcherState, NodeFacts, NodeState};

/// So many withdrawn dispatchers are remembered; a reader from before the oldest of them starts over.
const WITHDRAWN: usize = 256;

/// How the dispatchers are, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// All of them.
    pub total: u32,
    /// Those of which a run goes on.
    pub running: u32,
    /// Those that fail.
    pub failing: u32,
    /// Those that should have run, and did not.
    pub overdue: u32,
    /// Those that somebody paused.
    pub paused: u32,
}

impl Summary {
    fn count(&mut self, row: &DispatcherState) {
        self.total += 1;
        self.running += u32::from(!row.running.is_empty());
        match &row.activity {
            Activity::Failing { .. } => self.failing += 1,
            Activity::Overdue { .. } => self.overdue += 1,
            _ => {}
        }
        self.paused += u32::from(row.pause().is_some());
    }
}

/// What changed since a version.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The version this leads to.
    pub version: u64,
    /// The link, if that changed.
    pub link: Option<LinkStatus>,
    /// Whether the link is live now.
    pub live: bool,
    /// The node, if that changed.
    pub node: Option<NodeFacts>,
    /// Dispatchers that changed, each with the version of its change (for a cache of rendered rows).
    pub dispatchers: Vec<(u64, Arc<DispatcherState>)>,
    /// Dispatchers that are gone.
    pub withdrawn: Vec<String>,
    /// Whether the reader must forget what it had: this is everything.
    pub whole: bool,
    /// How the dispatchers are, counted.
    pub summary: Summary,
}

impl Changed {
    /// What of it is about this dispatcher, or about all.
    #[must_use]
    pub fn only(mut self, name: &str, summary: Summary) -> Self {
        self.dispatchers.retain(|(_, row)| row.name == name);
        self.withdrawn.retain(|gone| gone == name);
        Self { summary, ..self }
    }

    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { link, node, dispatchers, withdrawn, whole, .. } = self;
        !whole && link.is_none() && node.is_none() && dispatchers.is_empty() && withdrawn.is_empty()
    }
}

/// The mirror. Changed by one feed, read by all.
#[derive(Debug)]
pub(crate) struct Mirror {
    version: u64,
    /// Readers of versions before this one start over.
    oldest: u64,
    link: (u64, LinkStatus),
    node: (u64, Option<NodeFacts>),
    state: Option<NodeState>,
    /// The same, to be handed out; made when asked for.
    shared: Option<Arc<NodeState>>,
    rows: BTreeMap<String, (u64, Arc<DispatcherState>)>,
    withdrawn: VecDeque<(u64, String)>,
    summary: Summary,
}

impl Mirror {
    /// Knows nothing yet. Versions rise from `version`, so that those of an earlier process are older than all of ours.
    pub(crate) fn new(version: u64, link: LinkStatus) -> Self {
        Self {
            version,
            oldest: version,
            link: (version, link),
            node: (version, None),
            state: None,
            shared: None,
            rows: BTreeMap::new(),
            withdrawn: VecDeque::new(),
            summary: Summary::default(),
        }
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn link(&self) -> &LinkStatus {
        &self.link.1
    }

    pub(crate) fn summary(&self) -> Summary {
        self.summary
    }

    /// The same of one dispatcher alone.
    pub(crate) fn summary_of(&self, name: &str) -> Summary {
        let mut summary = Summary::default();
        if let Some((_, row)) = self.rows.get(name) {
            summary.count(row);
        }
        summary
    }

    pub(crate) fn node(&self) -> Option<&NodeFacts> {
        self.node.1.as_ref()
    }

    /// The life and the number of the last event, as far as anything is known.
    pub(crate) fn place(&self) -> Option<(Epoch, u64)> {
        self.state.as_ref().map(|state| (state.epoch, state.number))
    }

    pub(crate) fn state(&mut self) -> Option<Arc<NodeState>> {
        if self.shared.is_none() {
            self.shared = self.state.clone().map(Arc::new);
        }
        self.shared.clone()
    }

    pub(crate) fn row(&self, name: &str) -> Option<Arc<DispatcherState>> {
        self.rows.get(name).map(|(_, row)| Arc::clone(row))
    }

    pub(crate) fn rows(&self) -> Vec<Arc<DispatcherState>> {
        self.rows.values().map(|(_, row)| Arc::clone(row)).collect()
    }

    /// Whether the link is another than it was; a changed latency alone is noted, but no change.
    pub(crate) fn set_link(&mut self, link: LinkStatus) -> bool {
        let same = LinkStatus { latency: self.link.1.latency, ..link.clone() } == self.link.1
            && self.link.1.latency.is_some() == link.latency.is_some();
        if same {
            self.link.1.latency = link.latency;
            return false;
        }
        self.version += 1;
        if (link.state == LinkState::Live) != (self.link.1.state == LinkState::Live) {
            // a row says whether what it foretells can come true
            self.rows.values_mut().for_each(|(of, _)| *of = self.version);
        }
        self.link = (self.version, link);
        true
    }

    /// Takes the whole state; only what differs counts as changed.
    pub(crate) fn set_whole(&mut self, state: NodeState) {
        self.version += 1;
        self.shared = None;
        self.set_node(&state.node);
        self.set_rows(state.dispatchers.values());
        self.state = Some(state);
    }

    /// Shows these rows, from the database, while the service can't be reached; what it last said is kept.
    pub(crate) fn show_stored(&mut self, rows: &[DispatcherState]) {
        self.version += 1;
        self.set_rows(rows.iter());
    }

    /// Applies events in order. Stops at the first that does not fit: the whole state is needed then.
    pub(crate) fn apply(&mut self, epoch: Epoch, events: &[Event]) -> Applied {
        let Some(state) = self.state.as_mut().filter(|state| state.epoch == epoch) else {
            return Applied::Missing;
        };
        let mut touched = BTreeSet::new();
        let mut said = Applied::Known;
        let before = state.number;
        for event in events {
            match state.apply(event) {
                Applied::Changed => {
                    said = Applied::Changed;
                    match event.change.dispatcher() {
                        Some(name) => drop(touched.insert(name.to_owned())),
                        // whether it is stopping is said of each
                        None => touched.extend(state.dispatchers.keys().cloned()),
                    }
                }
                Applied::Known => {}
                Applied::Missing => {
                    said = Applied::Missing;
                    break;
                }
            }
        }
        if state.number == before {
            return said;
        }
        self.version += 1;
        self.shared = None;
        let state = self.state.take().expect("it was there above");
        self.set_node(&state.node);
        for name in touched {
            match state.dispatchers.get(&name) {
                Some(dispatcher) => self.set_row(dispatcher),
                None => self.withdraw(&name),
            }
        }
        self.state = Some(state);
        self.count();
        said
    }

    /// What changed since `version`; everything if that is 0, too old, or not a version of this mirror.
    pub(crate) fn since(&self, version: u64) -> Changed {
        let whole = version < self.oldest || version > self.version;
        let newer = |of: u64| whole || of > version;
        Changed {
            version: self.version,
            link: newer(self.link.0).then(|| self.link.1.clone()),
            node: self.node.1.clone().filter(|_| newer(self.node.0)),
            live: self.link.1.state == LinkState::Live,
            dispatchers: self
                .rows
                .values()
                .filter(|(of, _)| newer(*of))
                .map(|(of, row)| (*of, Arc::clone(row)))
                .collect(),
            withdrawn: if whole {
                Vec::new()
            } else {
                let gone = self.withdrawn.iter().filter(|(of, name)| *of > version && !self.rows.contains_key(name));
                gone.map(|(_, name)| name.clone()).collect()
            },
            whole,
            summary: self.summary,
        }
    }

    fn set_node(&mut self, node: &NodeFacts) {
        if self.node.1.as_ref() != Some(node) {
            self.node = (self.version, Some(node.clone()));
        }
    }

    fn set_rows<'a>(&mut self, rows: impl Iterator<Item = &'a DispatcherState>) {
        let mut names = BTreeSet::new();
        for row in rows {
            names.insert(row.name.as_str());
            self.set_row(row);
        }
        let gone: Vec<String> = self.rows.keys().filter(|name| !names.contains(name.as_str())).cloned().collect();
        for name in gone {
            self.withdraw(&name);
        }
        self.count();
    }

    fn set_row(&mut self, row: &DispatcherState) {
        if self.rows.get(&row.name).is_none_or(|(_, known)| **known != *row) {
            self.rows.insert(row.name.clone(), (self.version, Arc::new(row.clone())));
        }
    }

    fn withdraw(&mut self, name: &str) {
        if self.rows.remove(name).is_none() {
            return;
        }
        if self.withdrawn.len() == WITHDRAWN
            && let Some((of, _)) = self.withdrawn.pop_front()
        {
            self.oldest = self.oldest.max(of);
        }
        self.withdrawn.push_back((self.version, name.to_owned()));
    }

    fn count(&mut self) {
        let mut summary = Summary::default();
        for (_, row) in self.rows.values() {
            summary.count(row);
        }
        self.summary = summary;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::base::id::NodeId;
    use crate::protocol::event::Change;
    use crate::protocol::state::Origin;

    pub(crate) fn link(state: LinkState) -> LinkStatus {
        LinkStatus {
            state,
            since: Timestamp::from_micros(1),
            endpoint: "memory:test".into(),
            peer: None,
            error: None,
            attempts: 0,
            next_attempt_at: None,
            latency: None,
        }
    }

    pub(crate) fn facts() -> NodeFacts {
        NodeFacts {
            id: NodeId::new("service-1"),
            host: "here".into(),
            version: "0.1.0".into(),
            pid: 1,
            started_at: Timestamp::from_micros(1),
            stopping: false,
            absences: Vec::new(),
        }
    }

    pub(crate) fn dispatcher(name: &str) -> DispatcherState {
        DispatcherState {
            name: name.into(),
            title: name.into(),
            description: String::new(),
            origin: Origin::Job,
            schedule: "every 5 m".into(),
            activity: Activity::Idle,
            paused: None,
            next_at: None,
            running: Vec::new(),
            limit: 1,
            queued: 0,
            recent: Vec::new(),
            last_error: None,
            failures: 0,
            skipped: 0,
            stopping: false,
        }
    }

    fn state(names: &[&str]) -> NodeState {
        let mut state = NodeState::new(Epoch::from_u64(1), facts());
        for name in names {
            state.dispatchers.insert((*name).into(), dispatcher(name));
        }
        state
    }

    fn queued(number: u64, name: &str, queued: u32) -> Event {
        Event { number, change: Change::Queued { dispatcher: name.into(), queued } }
    }

    fn mirror(names: &[&str]) -> Mirror {
        let mut mirror = Mirror::new(100, link(LinkState::Live));
        mirror.set_whole(state(names));
        mirror
    }

    fn names(difference: &Changed) -> Vec<&str> {
        difference.dispatchers.iter().map(|(_, row)| row.name.as_str()).collect()
    }

    #[test]
    fn a_row_that_changed_forty_times_is_told_once_as_it_is_now() {
        let mut mirror = mirror(&["a", "b"]);
        let seen = mirror.version();
        for number in 1..=40 {
            let changed = mirror.apply(Epoch::from_u64(1), &[queued(number, "b", u32::try_from(number).unwrap())]);
            assert_eq!(changed, Applied::Changed);
        }
        let difference = mirror.since(seen);
        assert_eq!(names(&difference), ["b"]);
        assert_eq!(difference.dispatchers[0].1.queued, 40);
        assert!(!difference.whole && difference.link.is_none() && difference.node.is_none());
        assert!(mirror.since(difference.version).dispatchers.is_empty());
    }

    #[test]
    fn the_same_whole_again_changes_nothing_for_readers() {
        let mut mirror = mirror(&["a", "b"]);
        let seen = mirror.version();
        mirror.set_whole(state(&["a", "b"]));
        let difference = mirror.since(seen);
        assert!(difference.dispatchers.is_empty() && difference.withdrawn.is_empty() && difference.node.is_none());
    }

    #[test]
    fn what_is_gone_is_told_and_what_came_back_is_not_gone() {
        let mut mirror = mirror(&["a", "b", "c"]);
        let seen = mirror.version();
        mirror.set_whole(state(&["b"]));
        assert_eq!(mirror.since(seen).withdrawn, ["a", "c"]);
        mirror.set_whole(state(&["b", "c"]));
        let difference = mirror.since(seen);
        assert_eq!((names(&difference), difference.withdrawn.as_slice()), (vec!["c"], &["a".to_owned()][..]));
    }

    #[test]
    fn a_reader_from_another_process_or_too_long_ago_starts_over() {
        let mut mirror = mirror(&["a"]);
        assert!(mirror.since(0).whole);
        assert!(mirror.since(mirror.version() + 1).whole, "a version this mirror never had");
        let seen = mirror.version();
        for turn in 0..=WITHDRAWN {
            let name = format!("x{turn}");
            mirror.set_whole(state(&["a", &name]));
        }
        mirror.set_whole(state(&["a"]));
        let difference = mirror.since(seen);
        assert!(difference.whole && difference.withdrawn.is_empty());
        assert_eq!(names(&difference), ["a"]);
        assert!(difference.link.is_some() && difference.node.is_some());
    }

    #[test]
    fn missing_events_and_other_lives_ask_for_the_whole_state() {
        let mut mirror = mirror(&["a"]);
        assert_eq!(mirror.apply(Epoch::from_u64(1), &[queued(2, "a", 1)]), Applied::Missing);
        assert_eq!(mirror.apply(Epoch::from_u64(2), &[queued(1, "a", 1)]), Applied::Missing);
        assert_eq!(mirror.apply(Epoch::from_u64(1), &[queued(1, "a", 7), queued(3, "a", 9)]), Applied::Missing);
        assert_eq!(mirror.state().unwrap().dispatchers["a"].queued, 7, "what did fit counts");
        assert_eq!(mirror.apply(Epoch::from_u64(1), &[queued(1, "a", 8)]), Applied::Known);
    }

    #[test]
    fn rows_are_told_anew_when_the_service_goes_away_and_when_it_is_back() {
        let mut mirror = mirror(&["a", "b"]);
        let seen = mirror.version();
        mirror.set_link(link(LinkState::Connecting));
        assert_eq!(names(&mirror.since(seen)), ["a", "b"]);
        let seen = mirror.version();
        mirror.set_link(link(LinkState::Down));
        assert_eq!(names(&mirror.since(seen)), [""; 0], "away is away");
        mirror.set_link(link(LinkState::Live));
        assert_eq!(names(&mirror.since(seen)), ["a", "b"]);
    }

    #[test]
    fn latency_alone_is_no_change() {
        let mut mirror = mirror(&[]);
        let measured = |ms| LinkStatus { latency: Some(std::time::Duration::from_millis(ms)), ..link(LinkState::Live) };
        assert!(mirror.set_link(measured(1)), "the first measure is one");
        assert!(!mirror.set_link(measured(2)));
        assert_eq!(mirror.link().latency, Some(std::time::Duration::from_millis(2)));
        assert!(mirror.set_link(link(LinkState::Down)));
    }
}
