//! Which dispatchers a node has, and how each stands at its start.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::base::clock::Timestamp;
use crate::base::id::Epoch;
use crate::config::job::{EXECUTION_DISPATCH, NAME, is_name};
use crate::config::schema::name;
use crate::model::execution::Execution;
use crate::protocol::event::{Change, Event};
use crate::protocol::state::{Activity, DispatcherState, NodeFacts, NodeState, Origin, Pause};
use crate::service::dispatcher::{Definition, Dispatcher};
use crate::service::schedule::{Timetable, in_words};
use crate::store::dispatchers::StoredDispatcher;

/// A dispatcher of this node.
pub(crate) struct Entry {
    /// The dispatcher.
    pub dispatcher: Arc<dyn Dispatcher>,
    /// What it is.
    pub definition: Definition,
    /// Its schedule, understood.
    pub timetable: Timetable,
    /// The setting that holds its interval, if one does.
    pub interval_setting: Option<&'static str>,
}

/// Asks each what it is. Those that can't be had (a name that is none, or is taken) are left out, and told; one whose schedule
/// nobody can follow is switched off by it.
pub(crate) fn enlist(dispatchers: Vec<Arc<dyn Dispatcher>>) -> (Vec<Entry>, Vec<String>) {
    let mut entries: Vec<Entry> = Vec::new();
    let mut complaints = Vec::new();
    let mut names = BTreeSet::new();
    for dispatcher in dispatchers {
        let mut definition = dispatcher.definition();
        let name = definition.name.clone();
        if !is_name(&name) {
            complaints.push(format!("`{name}` is no name for a dispatcher, so it is left out; a name is {NAME}"));
            continue;
        }
        if !names.insert(name.clone()) {
            complaints.push(format!("there are two dispatchers named {name}; the second is left out"));
            continue;
        }
        let timetable = Timetable::new(&definition.schedule).unwrap_or_else(|error| {
            complaints.push(format!("{name} is switched off by its schedule: {error}"));
            definition.disabled_by = Some(format!("its schedule: {error}"));
            Timetable::Manual
        });
        let interval_setting = match (definition.origin, name.as_str()) {
            (Origin::BuiltIn, EXECUTION_DISPATCH) => Some(name::POLL_INTERVAL),
            _ => None,
        };
        entries.push(Entry { dispatcher, definition, timetable, interval_setting });
    }
    (entries, complaints)
}

/// How a dispatcher stands at the start, `history` being its last runs that ended, oldest first.
pub(crate) fn state(
    definition: &Definition,
    next_at: Option<Timestamp>,
    paused: Option<&(String, Timestamp)>,
    history: &[Execution],
) -> DispatcherState {
    let activity = match (&definition.disabled_by, paused) {
        (Some(by), _) => Activity::Disabled { by: by.clone() },
        (None, Some((by, since))) => Activity::Paused { by: by.clone(), since: *since },
        (None, None) => Activity::Idle,
    };
    let fresh = DispatcherState {
        name: definition.name.clone(),
        title: definition.title.clone(),
        description: definition.description.clone(),
        origin: definition.origin,
        schedule: in_words(&definition.schedule),
        activity,
        paused: paused.filter(|_| definition.disabled_by.is_none()).cloned().map(Pause::from),
        next_at,
        running: Vec::new(),
        limit: definition.limit.max(1),
        queued: 0,
        recent: Vec::new(),
        last_error: None,
        failures: 0,
        skipped: 0,
        stopping: false,
    };
    remember(fresh, history)
}

/// What the last runs say of a dispatcher is what their events would have said.
fn remember(dispatcher: DispatcherState, history: &[Execution]) -> DispatcherState {
    let name = dispatcher.name.clone();
    let nobody = NodeFacts {
        id: crate::base::id::NodeId::new(""),
        host: String::new(),
        version: String::new(),
        pid: 0,
        started_at: Timestamp::default(),
        stopping: false,
        absences: Vec::new(),
    };
    let mut state = NodeState::new(Epoch::from_u64(0), nobody);
    state.dispatchers.insert(name.clone(), dispatcher.clone());
    for run in history {
        // a run cancelled while it waited is no bar
        if let (Some(started_at), Some(finished_at), Some(outcome)) = (run.started_at, run.finished_at, run.outcome) {
            let change = Change::Finished {
                dispatcher: name.clone(),
                execution: run.id,
                started_at,
                finished_at,
                outcome,
                message: run.message.clone(),
            };
            state.apply(&Event { number: state.number + 1, change });
        }
    }
    state.dispatchers.remove(&name).unwrap_or(dispatcher)
}

/// A dispatcher as it is declared in the database.
pub(crate) fn row(definition: &Definition, next_at: Option<Timestamp>) -> StoredDispatcher {
    let origin = match definition.origin {
        Origin::BuiltIn => "built_in",
        Origin::Job => "job",
        Origin::Program => "program",
    };
    StoredDispatcher {
        name: definition.name.clone(),
        title: definition.title.clone(),
        description: definition.description.clone(),
        origin: origin.to_owned(),
        schedule: in_words(&definition.schedule),
        present: true,
        disabled_by: definition.disabled_by.clone(),
        limit: definition.limit.max(1),
        next_at,
        paused: None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_trait::async_trait;

    use super::*;
    use crate::base::id::ExecutionId;
    use crate::config::job::Schedule;
    use crate::model::execution::{Cause, Outcome};
    use crate::service::dispatcher::{Run, Verdict};

    struct Named(&'static str, Schedule);

    #[async_trait]
    impl Dispatcher for Named {
        fn definition(&self) -> Definition {
            Definition {
                name: self.0.to_owned(),
                title: self.0.to_owned(),
                description: String::new(),
                origin: Origin::Program,
                schedule: self.1.clone(),
                disabled_by: None,
                limit: 0,
                timeout: None,
                retries: 0,
                retry_delay: Duration::ZERO,
                run_at_start: false,
                catch_up: false,
                overlap: false,
                quiet: false,
            }
        }

        async fn run_once(&self, _run: &Run) -> Verdict {
            Verdict::normal(None)
        }
    }

    fn named(name: &'static str, schedule: Schedule) -> Arc<dyn Dispatcher> {
        Arc::new(Named(name, schedule))
    }

    #[test]
    fn who_can_not_be_had_is_told() {
        let cron = Schedule::Cron { line: "never".into(), time_zone: "UTC".into() };
        let (entries, complaints) = enlist(vec![
            named("a", Schedule::Manual),
            named("a", Schedule::Manual),
            named("B c", Schedule::Manual),
            named("-x", Schedule::Manual),
            named("c", cron),
        ]);
        let names: Vec<_> = entries.iter().map(|entry| entry.definition.name.as_str()).collect();
        assert_eq!(names, ["a", "c"]);
        assert_eq!(complaints.len(), 4, "{complaints:?}");
        assert!(entries[1].definition.disabled_by.as_ref().unwrap().contains("`never` is no cron line"));
    }

    #[test]
    fn history_makes_the_bars_and_the_last_error() {
        let run = |id: i64, outcome, started: bool| Execution {
            id: ExecutionId(id),
            dispatcher: "a".into(),
            node: None,
            cause: Cause::Schedule,
            requested_by: None,
            queued_at: Timestamp::from_micros(id),
            started_at: started.then(|| Timestamp::from_micros(id)),
            finished_at: Some(Timestamp::from_micros(id + 1)),
            outcome: Some(outcome),
            message: Some(format!("message {id}")),
            retry_of: None,
            cancelled_by: None,
        };
        let history = [
            run(1, Outcome::Normal, true),
            run(2, Outcome::Abandoned, true),
            run(3, Outcome::Cancelled, false),
            run(4, Outcome::Error, true),
        ];
        let definition = named("a", Schedule::Manual).definition();
        let state = state(&definition, None, None, &history);
        assert_eq!(state.recent.iter().map(|bar| bar.execution.0).collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!((state.failures, state.last_error.unwrap().message.as_str()), (2, "message 4"));
        assert_eq!(state.limit, 1);
    }
}
