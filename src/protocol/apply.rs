//! The one function that applies an event to a state, on both sides of a link.

use crate::base::clock::Timestamp;
use crate::base::id::ExecutionId;
use crate::model::execution::Outcome;
use crate::protocol::event::{Change, Event};
use crate::protocol::state::{Applied, BARS, Bar, DispatcherState, LastError, NodeState, Run};

impl NodeState {
    /// Applies one event. Never fails: what speaks of a dispatcher or run this state does not hold changes only the number.
    pub fn apply(&mut self, event: &Event) -> Applied {
        if event.number <= self.number {
            return Applied::Known;
        }
        if event.number != self.number + 1 {
            return Applied::Missing;
        }
        self.number = event.number;
        match &event.change {
            Change::Node(facts) => {
                self.node = facts.clone();
                // a dispatcher is told alone too, and what it foretells hangs on this
                self.dispatchers.values_mut().for_each(|dispatcher| dispatcher.stopping = facts.stopping);
            }
            Change::Declared(dispatcher) => {
                self.dispatchers.insert(dispatcher.name.clone(), (**dispatcher).clone());
            }
            Change::Withdrawn { dispatcher } => {
                self.dispatchers.remove(dispatcher);
            }
            change => {
                if let Some(dispatcher) = change.dispatcher().and_then(|name| self.dispatchers.get_mut(name)) {
                    dispatcher.apply(change);
                }
            }
        }
        Applied::Changed
    }
}

impl DispatcherState {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Node(_) | Change::Declared(_) | Change::Withdrawn { .. } => {}
            Change::Activity { activity, paused, next_at, .. } => {
                self.activity = activity.clone();
                self.paused.clone_from(paused);
                self.next_at = *next_at;
            }
            Change::Queued { queued, .. } => self.queued = *queued,
            Change::Started { run, .. } => {
                self.running.retain(|known| known.execution != run.execution);
                self.running.push(run.clone());
            }
            Change::Progressed { execution, progress, .. } => {
                if let Some(run) = self.run_mut(*execution) {
                    run.progress = Some(progress.clone());
                }
            }
            Change::Cancelling { execution, by, .. } => {
                if let Some(run) = self.run_mut(*execution) {
                    run.cancelled_by = Some(by.clone());
                }
            }
            Change::Finished { execution, started_at, finished_at, outcome, message, .. } => {
                self.running.retain(|run| run.execution != *execution);
                if self.recent.len() >= BARS {
                    self.recent.remove(0);
                }
                self.recent.push(Bar {
                    execution: *execution,
                    started_at: *started_at,
                    finished_at: *finished_at,
                    outcome: *outcome,
                });
                self.judge(*execution, *finished_at, *outcome, message.as_deref());
            }
            Change::Skipped { skipped, .. } => self.skipped = *skipped,
        }
    }

    fn judge(&mut self, execution: ExecutionId, at: Timestamp, outcome: Outcome, message: Option<&str>) {
        match outcome {
            Outcome::Normal | Outcome::Warning => {
                self.failures = 0;
                self.last_error = None;
            }
            Outcome::Error | Outcome::Abandoned => {
                self.failures = self.failures.saturating_add(1);
                let message = message.unwrap_or(outcome.as_str()).to_owned();
                self.last_error = Some(LastError { execution, at, message });
            }
            Outcome::Cancelled => {}
        }
    }

    fn run_mut(&mut self, execution: ExecutionId) -> Option<&mut Run> {
        self.running.iter_mut().find(|run| run.execution == execution)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::base::id::{Epoch, NodeId};
    use crate::model::execution::{Cause, Progress};
    use crate::protocol::Report;
    use crate::protocol::state::{Activity, NodeFacts, Origin, Pause};

    fn facts(pid: u32) -> NodeFacts {
        let started_at = Timestamp::from_micros(1);
        NodeFacts {
            id: NodeId::new("service-1"),
            host: "here".into(),
            version: "1".into(),
            pid,
            started_at,
            stopping: false,
            absences: Vec::new(),
        }
    }

    fn declared(name: &str, limit: u32) -> DispatcherState {
        DispatcherState {
            name: name.to_owned(),
            title: name.to_uppercase(),
            description: String::new(),
            origin: Origin::Job,
            schedule: "every 5m".into(),
            activity: Activity::Idle,
            paused: None,
            next_at: None,
            running: Vec::new(),
            limit,
            queued: 0,
            recent: Vec::new(),
            last_error: None,
            failures: 0,
            skipped: 0,
            stopping: false,
        }
    }

    fn moment() -> impl Strategy<Value = Timestamp> {
        any::<i64>().prop_map(Timestamp::from_micros)
    }

    fn activity() -> impl Strategy<Value = Activity> {
        prop_oneof![
            Just(Activity::Idle),
            Just(Activity::Queued),
            Just(Activity::Running),
            moment().prop_map(|since| Activity::Paused { by: "ann".into(), since }),
            prop::option::of(moment()).prop_map(|next_attempt| Activity::Failing { next_attempt }),
            moment().prop_map(|expected_by| Activity::Overdue { expected_by }),
            Just(Activity::Standby { primary: NodeId::new("service-2") }),
            Just(Activity::Disabled { by: "enabled = false".into() }),
        ]
    }

    /// Any change, also of dispatchers and runs that are not there.
    fn change() -> impl Strategy<Value = Change> {
        let name = || select(vec!["a", "b", "c"]).prop_map(str::to_owned);
        let execution = || (0_i64..6).prop_map(ExecutionId);
        prop_oneof![
            any::<u32>().prop_map(|pid| Change::Node(facts(pid))),
            (name(), 1_u32..4).prop_map(|(name, limit)| Change::Declared(Box::new(declared(&name, limit)))),
            name().prop_map(|dispatcher| Change::Withdrawn { dispatcher }),
            (name(), activity(), prop::option::of(moment()), prop::option::of(moment())).prop_map(
                |(dispatcher, activity, paused, next_at)| {
                    let paused = paused.map(|since| Pause { by: "ann".into(), since });
                    Change::Activity { dispatcher, activity, paused, next_at }
                }
            ),
            (name(), any::<u32>()).prop_map(|(dispatcher, queued)| Change::Queued { dispatcher, queued }),
            (name(), execution(), moment(), select(Cause::ALL)).prop_map(
                |(dispatcher, execution, started_at, cause)| {
                    let by = (cause == Cause::Manual).then(|| "ann".to_owned());
                    let run = Run { execution, cause, by, started_at, progress: None, cancelled_by: None };
                    Change::Started { dispatcher, run }
                }
            ),
            (name(), execution(), any::<u64>(), 1_u64..).prop_map(|(dispatcher, execution, done, total)| {
                Change::Progressed { dispatcher, execution, progress: Progress { done, total, text: None } }
            }),
            (name(), execution()).prop_map(|(dispatcher, execution)| Change::Cancelling {
                dispatcher,
                execution,
                by: "bob".into()
            }),
            (name(), execution(), moment(), moment(), select(Outcome::ALL), prop::option::of("[a-z]{0,5}")).prop_map(
                |(dispatcher, execution, started_at, finished_at, outcome, message)| Change::Finished {
                    dispatcher,
                    execution,
                    started_at,
                    finished_at,
                    outcome,
                    message,
                }
            ),
            (name(), any::<u64>()).prop_map(|(dispatcher, skipped)| Change::Skipped { dispatcher, skipped }),
        ]
    }

    fn events(changes: &[Change]) -> Vec<Event> {
        (1..).zip(changes).map(|(number, change)| Event { number, change: change.clone() }).collect()
    }

    /// As it arrives at the other end.
    fn sent(report: &Report) -> Report {
        Report::decode(&report.encode()).unwrap()
    }

    #[test]
    fn a_node_that_stops_says_so_of_every_dispatcher_and_an_older_one_says_nothing() {
        let mut state = NodeState::new(Epoch::from_u64(1), facts(1));
        let stopping = NodeFacts { stopping: true, ..facts(1) };
        let changes = [Change::Declared(Box::new(declared("a", 1))), Change::Node(stopping.clone())];
        for (number, change) in (1..).zip(changes) {
            assert_eq!(state.apply(&Event { number, change }), Applied::Changed);
        }
        assert!(state.node.stopping && state.dispatchers["a"].stopping);
        let mut old = serde_json::to_value(&stopping).unwrap();
        old.as_object_mut().unwrap().remove("stopping");
        assert!(!serde_json::from_value::<NodeFacts>(old).unwrap().stopping);
    }

    #[test]
    fn a_pause_is_known_while_a_run_goes_on_and_from_an_older_version_that_tells_only_its_activity() {
        let pause = Pause { by: "ann".into(), since: Timestamp::from_micros(5) };
        let mut state = declared("a", 1);
        let change = |activity, paused| Change::Activity { dispatcher: "a".into(), activity, paused, next_at: None };
        state.apply(&change(Activity::Running, Some(pause.clone())));
        assert_eq!((state.activity.as_str(), state.pause()), ("running", Some(pause.clone())));
        state.apply(&change(Activity::Running, None));
        assert_eq!(state.pause(), None);
        state.apply(&change(Activity::Paused { by: pause.by.clone(), since: pause.since }, None));
        assert_eq!((&state.paused, state.pause()), (&None, Some(pause)));
    }

    proptest! {
        /// Both sides apply the same events: they hold the same, whatever the events are, and wherever the reader began.
        #[test]
        fn a_state_and_the_events_after_it_are_the_state(
            changes in prop::collection::vec(change(), 0..120),
            begins in 0_usize..120,
            batch in 1_usize..20,
        ) {
            let epoch = Epoch::from_u64(7);
            let events = events(&changes);
            let begins = begins.min(events.len());
            let mut here = NodeState::new(epoch, facts(0));
            for event in &events[..begins] {
                prop_assert_eq!(here.apply(event), Applied::Changed);
            }
            let Report::Whole(mut there) = sent(&Report::Whole(Box::new(here.clone()))) else {
                return Err(TestCaseError::fail("a whole state arrives as one"));
            };
            prop_assert_eq!(&*there, &here);
            for events in events[begins..].chunks(batch) {
                for event in events {
                    here.apply(event);
                }
                let Report::Events { events, .. } = sent(&Report::Events { epoch, events: events.to_vec() }) else {
                    return Err(TestCaseError::fail("events arrive as such"));
                };
                for event in &events {
                    prop_assert_eq!(there.apply(event), Applied::Changed);
                }
                prop_assert_eq!(&*there, &here);
            }
            for dispatcher in there.dispatchers.values() {
                prop_assert!(dispatcher.recent.len() <= BARS);
            }
        }

        /// What was applied before changes nothing, and what is missing is noticed before anything changes.
        #[test]
        fn repeats_and_gaps_change_nothing(changes in prop::collection::vec(change(), 2..40), at in 0_usize..40) {
            let events = events(&changes);
            let at = at % (events.len() - 1);
            let mut state = NodeState::new(Epoch::from_u64(7), facts(0));
            for event in &events[..at] {
                state.apply(event);
            }
            let before = state.clone();
            prop_assert_eq!(state.apply(&events[at + 1]), Applied::Missing);
            for event in &events[..at] {
                prop_assert_eq!(state.apply(event), Applied::Known);
            }
            prop_assert_eq!(state, before);
        }
    }
}
