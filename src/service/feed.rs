//! The node's state: every change becomes a numbered event, is applied, and is kept for whoever sends it on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::base::ring::Ring;
use crate::protocol::event::{Change, Event};
use crate::protocol::state::{Applied, NodeFacts, NodeState};

/// So many of the newest events are kept for links that are a little behind; one that is further behind gets the whole state.
const KEPT_EVENTS: usize = 1024;

/// So much they may weigh, in bytes, as estimated by [`weight`].
const KEPT_BYTES: usize = 4 << 20;

/// A node's state and its newest events. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    current: Mutex<Current>,
    number: watch::Sender<u64>,
}

#[derive(Debug)]
struct Current {
    state: NodeState,
    /// Numbered as the events are.
    events: Ring<Event>,
}

/// What came after a number.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Since {
    /// These, in order and without gaps; may be none.
    Events(Vec<Event>),
    /// More than is kept: the whole state is needed.
    Missed,
}

impl Feed {
    /// Begins with a state that had no event yet.
    pub(crate) fn new(state: NodeState) -> Self {
        debug_assert_eq!(state.number, 0, "events are numbered from 1");
        let (number, _) = watch::channel(0);
        let current = Current { state, events: Ring::new(KEPT_EVENTS, KEPT_BYTES) };
        Self { shared: Arc::new(Shared { current: Mutex::new(current), number }) }
    }

    /// Something changed: gives it the next number, applies it, tells those who wait. Never waits for them.
    pub(crate) fn change(&self, change: Change) {
        self.tell(&mut self.lock(), change);
    }

    /// Something changed about the node itself.
    pub(crate) fn change_node(&self, change: impl FnOnce(&mut NodeFacts)) {
        let mut current = self.lock();
        let mut facts = current.state.node.clone();
        change(&mut facts);
        self.tell(&mut current, Change::Node(facts));
    }

    fn tell(&self, current: &mut Current, change: Change) {
        let event = Event { number: current.state.number + 1, change };
        let number = event.number;
        let applied = current.state.apply(&event);
        debug_assert_eq!(applied, Applied::Changed, "numbers follow one another");
        let weight = weight(&event.change);
        current.events.push(event, weight, 0);
        // still under the lock, so that numbers are told in order
        self.shared.number.send_replace(number);
    }

    /// The state, all of it.
    pub(crate) fn state(&self) -> NodeState {
        self.lock().state.clone()
    }

    /// Looks at the state without copying it. Changes wait meanwhile: `look` is short.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&NodeState) -> T) -> T {
        look(&self.lock().state)
    }

    /// At most `most` events after this number.
    pub(crate) fn since(&self, number: u64, most: usize) -> Since {
        let current = self.lock();
        if number > current.state.number || current.events.missed(number).is_some() {
            return Since::Missed;
        }
        Since::Events(current.events.after(number).take(most).map(|(_, event)| event.clone()).collect())
    }

    /// The number of the newest event, told with each.
    pub(crate) fn numbers(&self) -> watch::Receiver<u64> {
        self.shared.number.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.shared.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// About what an event takes in memory. Only declarations and long messages are large.
fn weight(change: &Change) -> usize {
    let text = match change {
        Change::Declared(dispatcher) => {
            dispatcher.recent.len() * 40 + dispatcher.running.len() * 200 + dispatcher.description.len()
        }
        Change::Finished { message, .. } => message.as_ref().map_or(0, String::len),
        _ => 0,
    };
    std::mem::size_of::<Event>() + 200 + text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::base::id::{Epoch, NodeId};

    fn facts(version: &str) -> NodeFacts {
        NodeFacts {
            id: NodeId::new("service-1"),
            host: "here".into(),
            version: version.into(),
            pid: 1,
            started_at: Timestamp::from_micros(0),
            stopping: false,
            absences: Vec::new(),
        }
    }

    #[test]
    fn a_reader_that_keeps_up_gets_events_and_a_late_one_is_told() {
        let feed = Feed::new(NodeState::new(Epoch::from_u64(1), facts("0")));
        for number in 1..=2000 {
            feed.change(Change::Node(facts(&number.to_string())));
        }
        assert_eq!(*feed.numbers().borrow(), 2000);
        assert_eq!(feed.since(2000, 10), Since::Events(Vec::new()));
        match feed.since(1995, 3) {
            Since::Events(events) => {
                assert_eq!(events.iter().map(|event| event.number).collect::<Vec<_>>(), [1996, 1997, 1998]);
            }
            Since::Missed => panic!("five events are kept"),
        }
        assert_eq!(feed.since(100, 10), Since::Missed);
        assert_eq!(feed.since(5000, 10), Since::Missed, "a number of another life");
        assert_eq!(feed.look(|state| state.node.version.clone()), "2000");
    }
}
