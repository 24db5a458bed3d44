//! A web node of tests: what a link brings, put together as a hub does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use switchboard::base::clock::SystemClock;
use switchboard::base::id::{Cursor, NodeId};
use switchboard::messenger::client::{Client, Incoming, LinkState};
use switchboard::messenger::{Identity, Pace};
use switchboard::model::log_entry::LogGap;
use switchboard::protocol::command::Command;
use switchboard::protocol::event::Change;
use switchboard::protocol::state::{Applied, DispatcherState, NodeState};
use switchboard::protocol::{Kind, Report};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::service::{LIMIT, TestNode};

/// What came so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// The state, changed by events.
    pub(crate) state: Option<NodeState>,
    /// Whole states.
    pub(crate) wholes: u32,
    /// Events, by their number.
    pub(crate) events: u32,
    /// How many events had come when each whole state did.
    pub(crate) events_before: Vec<u32>,
    /// Events that said how far a run is, by dispatcher.
    pub(crate) progressed: BTreeMap<String, u32>,
    /// Lines: number and text.
    pub(crate) lines: Vec<(u64, String)>,
    /// What was told as lost.
    pub(crate) gaps: Vec<LogGap>,
}

impl Seen {
    pub(crate) fn dispatcher(&self, name: &str) -> &DispatcherState {
        &self.state.as_ref().expect("the whole state came first").dispatchers[name]
    }

    fn take(&mut self, report: Report) {
        match report {
            Report::Whole(state) => {
                self.wholes += 1;
                self.events_before.push(self.events);
                self.state = Some(*state);
            }
            Report::Events { epoch, events } => {
                let state = self.state.as_mut().expect("the whole state comes first");
                assert_eq!(epoch, state.epoch);
                for event in events {
                    assert_eq!(state.apply(&event), Applied::Changed, "event {} after {}", event.number, state.number);
                    self.events += 1;
                    if let Change::Progressed { dispatcher, .. } = event.change {
                        *self.progressed.entry(dispatcher).or_default() += 1;
                    }
                }
            }
            Report::Log(batch) => {
                if let Some(gap) = batch.gap {
                    assert_eq!(gap.to + 1, batch.first);
                    self.gaps.push(gap);
                }
                if let (Some((last, _)), None) = (self.lines.last(), batch.gap) {
                    assert!(batch.first == last + 1 || batch.first <= *last, "a line is missing after {last}");
                }
                let entries = (batch.first..).zip(batch.entries);
                self.lines.extend(entries.map(|(seq, entry)| (seq, entry.text.into())));
            }
            Report::Beat { .. } => {}
        }
    }
}

/// A client and what it has seen.
pub(crate) struct Mirror {
    pub(crate) client: Client,
    seen: watch::Receiver<Seen>,
}

pub(crate) fn dial(node: &TestNode) -> (Client, mpsc::Receiver<Incoming>) {
    let pace = Pace { beat: Duration::from_secs(5), silence: Duration::from_secs(20) };
    let identity = Identity { node: NodeId::random("web") };
    let (endpoint, keys) = (node.endpoint.clone(), Arc::clone(&node.keys));
    Client::start(identity, endpoint, keys, pace, Arc::new(SystemClock), &node.shutdown)
}

pub(crate) async fn live(client: &Client) {
    let mut status = client.status();
    let live = status.wait_for(|status| status.state == LinkState::Live);
    timeout(LIMIT, live).await.expect("the link comes up").unwrap();
}

impl Mirror {
    /// A web node where nobody watches.
    pub(crate) async fn idle(node: &TestNode) -> Self {
        let (client, mut incoming) = dial(node);
        let (sender, seen) = watch::channel(Seen::default());
        node.shutdown.spawn("mirror", async move {
            while let Some(incoming) = incoming.recv().await {
                let Incoming::Envelopes(envelopes) = incoming else { continue };
                sender.send_modify(|seen| {
                    for envelope in envelopes {
                        assert_eq!(envelope.kind, Kind::Report as u8);
                        seen.take(Report::decode(&envelope.body).unwrap());
                    }
                });
            }
        });
        live(&client).await;
        Self { client, seen }
    }

    /// A web node where somebody watches.
    pub(crate) async fn watching(node: &TestNode) -> Self {
        let mirror = Self::idle(node).await;
        mirror.until(|seen| seen.wholes == 1).await;
        mirror.watch(None).await;
        mirror
    }

    /// Begins to watch, after this line.
    pub(crate) async fn watch(&self, since: Option<Cursor>) {
        let before = self.now().wholes;
        self.tell(&Command::Watch { since });
        self.until(|seen| seen.wholes > before).await;
    }

    pub(crate) fn tell(&self, command: &Command) {
        self.client.send(Kind::Command as u8, command.encode()).unwrap();
    }

    pub(crate) fn now(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until what came is so.
    pub(crate) async fn until(&self, reached: impl Fn(&Seen) -> bool) -> Seen {
        let mut seen = self.seen.clone();
        let wait = seen.wait_for(|seen| reached(seen));
        let reached = timeout(LIMIT, wait).await;
        let reached = reached.unwrap_or_else(|_| panic!("waited in vain; the last state is {:#?}", self.now().state));
        reached.expect("the mirror's task lives").clone()
    }
}
