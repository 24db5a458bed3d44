//! Takes what is stored (runs asked for, pauses, cancellations) and hands it to the dispatchers' loops.
//!
//! Looks when a web node says that something is stored, when the database changed, and at least once in every
//! `Service.PollInterval`: the last alone is enough for everything to happen.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::base::id::ExecutionId;
use crate::config::job::EXECUTION_DISPATCH;
use crate::config::schema::name;
use crate::model::execution::{Execution, Outcome};
use crate::model::log_entry::Level;
use crate::protocol::event::Change;
use crate::protocol::state::Run;
use crate::service::dispatchers::execution_dispatch::Ask;
use crate::service::parts::TermParts;
use crate::service::runner::Orders;
use crate::service::words;
use crate::store::dispatchers::StoredDispatcher;
use crate::store::error::Error;

/// Changes of the database, which are mostly our own, are looked into at most once in so long.
const APART: Duration = Duration::from_millis(100);

/// After a look that failed the next one comes so soon, if the poll interval is longer.
const AFTER_FAILURE: Duration = Duration::from_secs(2);

/// A run that began so long ago, as the database has it, is in the hands of whoever claimed it: no statement takes so long.
const CLAIM_SETTLED: Duration = Duration::from_mins(1);

/// The longest one look may take.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// Where a dispatcher's orders go.
#[derive(Debug)]
pub(crate) struct Post {
    /// To its loop.
    pub orders: watch::Sender<Orders>,
    /// By what it is switched off, so that it has no loop.
    pub disabled_by: Option<String>,
}

/// Takes what is stored and hands it out.
pub(crate) struct Registry {
    parts: Arc<TermParts>,
    posts: BTreeMap<String, Post>,
    wake: Arc<Notify>,
    asks: mpsc::Receiver<Ask>,
    /// Stored runs that were handed out and still wait.
    handed_out: HashSet<ExecutionId>,
    /// How many were handed out since somebody asked.
    taken: u64,
    /// Runs that a former primary goes on with, and their dispatchers.
    elsewhere: BTreeMap<ExecutionId, String>,
}

/// What the database holds for this node.
#[derive(Debug, Default)]
struct Stored {
    dispatchers: Vec<StoredDispatcher>,
    queued: Vec<Execution>,
    cancels: Vec<Execution>,
    elsewhere: Vec<Execution>,
    /// Of this node, for long enough that whoever claimed them knows of it.
    here: Vec<Execution>,
}

impl Registry {
    pub(crate) fn new(
        parts: Arc<TermParts>,
        posts: BTreeMap<String, Post>,
        wake: Arc<Notify>,
        asks: mpsc::Receiver<Ask>,
    ) -> Self {
        Self { parts, posts, wake, asks, handed_out: HashSet::new(), taken: 0, elsewhere: BTreeMap::new() }
    }

    /// Looks again and again until `end`.
    pub(crate) async fn run(mut self, end: CancellationToken) {
        let mut changes = self.parts.store.changes();
        let mut settings = self.parts.settings.clone();
        // whether the database changed and nobody looked yet
        let mut stale = false;
        let mut watches_changes = true;
        let mut looked_at = Instant::now();
        let mut failed = !self.look().await;
        loop {
            let poll = settings.borrow_and_update().duration(name::POLL_INTERVAL);
            let pause = match (stale, failed) {
                (true, false) => APART,
                (_, true) => AFTER_FAILURE.min(poll),
                (false, false) => poll,
            };
            let mut asked = None;
            tokio::select! {
                () = end.cancelled() => return,
                Some(ask) = self.asks.recv() => asked = Some(ask),
                () = self.wake.notified() => {}
                now = changes.changed(), if watches_changes && !stale => {
                    watches_changes = now.is_ok();
                    stale = now.is_ok();
                    continue;
                }
                Ok(()) = settings.changed() => continue,
                () = sleep_until(looked_at + pause) => {}
            }
            // what changes from here on is looked for next time
            changes.borrow_and_update();
            stale = false;
            looked_at = Instant::now();
            failed = !self.look().await;
            if let Some(asked) = asked {
                let answer = if failed {
                    Err("the database can't be read".to_owned())
                } else {
                    Ok(std::mem::take(&mut self.taken))
                };
                // who asked may be gone; then the next who asks is told
                if let Err(Ok(taken)) = asked.send(answer) {
                    self.taken += taken;
                }
            }
        }
    }

    /// One look. Whether it worked.
    async fn look(&mut self) -> bool {
        let read = match timeout(LOOK_LIMIT, self.read()).await {
            Ok(read) => read,
            Err(_) => Err(Error::Conflict("the database did not answer in time".to_owned())),
        };
        match self.parts.judge("what is stored for this node", read) {
            Ok(mut stored) => {
                for lost in std::mem::take(&mut stored.here).iter().filter(|run| !self.parts.held.has(run.id)) {
                    self.refuse(lost, words::NEVER_BEGUN).await;
                }
                let elsewhere = std::mem::take(&mut stored.elsewhere);
                // after the term they are the next primary's to show
                if !self.parts.over.is_stopping() {
                    self.show_elsewhere(elsewhere).await;
                }
                self.hand_out(stored).await;
                true
            }
            Err(_) => false,
        }
    }

    async fn read(&self) -> Result<Stored, Error> {
        let store = &self.parts.store;
        Ok(Stored {
            dispatchers: store.dispatchers().await?,
            queued: store.queued_executions().await?,
            cancels: store.cancel_requests(&self.parts.node).await?,
            elsewhere: store.running_elsewhere(&self.parts.node).await?,
            here: store.running_since(&self.parts.node, self.parts.clock.now().minus(CLAIM_SETTLED)).await?,
        })
    }

    /// Shows what a former primary still runs, until it ends there.
    async fn show_elsewhere(&mut self, going: Vec<Execution>) {
        let known = std::mem::take(&mut self.elsewhere);
        for execution in &going {
            self.elsewhere.insert(execution.id, execution.dispatcher.clone());
            if !known.contains_key(&execution.id) {
                let run = Run {
                    execution: execution.id,
                    cause: execution.cause,
                    by: execution.requested_by.clone(),
                    started_at: execution.started_at.unwrap_or(execution.queued_at),
                    progress: None,
                    cancelled_by: execution.cancelled_by.clone(),
                };
                self.parts.feed.change(Change::Started { dispatcher: execution.dispatcher.clone(), run });
            }
        }
        for (id, dispatcher) in known {
            if self.elsewhere.contains_key(&id) {
                continue;
            }
            let Ok(Some(ended)) = self.parts.judge("the end of a run", self.parts.store.execution(id).await) else {
                // looked for again at the next look
                self.elsewhere.insert(id, dispatcher);
                continue;
            };
            if let (Some(finished_at), Some(outcome)) = (ended.finished_at, ended.outcome) {
                let started_at = ended.started_at.unwrap_or(ended.queued_at);
                let (execution, message) = (id, ended.message);
                self.parts.feed.change(Change::Finished {
                    dispatcher,
                    execution,
                    started_at,
                    finished_at,
                    outcome,
                    message,
                });
            }
        }
    }

    async fn hand_out(&mut self, stored: Stored) {
        let waiting: HashSet<_> = stored.queued.iter().map(|execution| execution.id).collect();
        self.handed_out.retain(|id| waiting.contains(id));
        let (mut orders, refused) = sort(stored, &self.posts);
        for dispatcher in self.elsewhere.values() {
            if let Some(orders) = orders.get_mut(dispatcher) {
                orders.elsewhere += 1;
            }
        }
        for (name, orders) in orders {
            for execution in &orders.queued {
                self.taken += u64::from(self.handed_out.insert(execution.id));
            }
            if let Some(post) = self.posts.get(&name) {
                // runs that still wait are handed out again: a claim that failed is tried again by this
                post.orders.send_if_modified(|present| {
                    let tell = *present != orders || !orders.queued.is_empty();
                    *present = orders;
                    tell
                });
            }
        }
        // who is primary no more leaves to the next one what it does not know
        let refused = if self.parts.over.is_stopping() || !self.parts.lead.holds() { Vec::new() } else { refused };
        for (execution, why) in refused {
            self.refuse(&execution, &why).await;
        }
    }

    /// Ends a run that nobody here can do, with the reason.
    async fn refuse(&self, execution: &Execution, why: &str) {
        let refused = async {
            let mut transaction = self.parts.store.begin().await?;
            let at = self.parts.clock.now();
            let ended = transaction.finish_execution(execution.id, Outcome::Cancelled, Some(why), at).await?;
            transaction.commit().await?;
            Ok(ended)
        };
        if let Ok(true) = self.parts.judge("the refusal of a run", refused.await) {
            let text = format!("run {} was asked for and refused: {why}", execution.id);
            self.parts.say(&execution.dispatcher, Some(execution.id), Level::Warn, &text);
        }
    }
}

/// Sorts what is stored by dispatcher; what none can do comes second, with the reason.
fn sort(stored: Stored, posts: &BTreeMap<String, Post>) -> (BTreeMap<String, Orders>, Vec<(Execution, String)>) {
    let mut orders: BTreeMap<String, Orders> = posts.keys().map(|name| (name.clone(), Orders::default())).collect();
    let mut refused = Vec::new();
    for dispatcher in stored.dispatchers {
        if let Some(orders) = orders.get_mut(&dispatcher.name) {
            orders.paused = dispatcher.paused;
        }
    }
    // whoever pauses the execution dispatch wants nothing stored to begin; pauses and cancellations are obeyed all the same
    let held = orders.get(EXECUTION_DISPATCH).is_some_and(|orders| orders.paused.is_some());
    for execution in stored.queued {
        match (posts.get(&execution.dispatcher), orders.get_mut(&execution.dispatcher)) {
            (Some(Post { disabled_by: Some(by), .. }), _) => {
                refused.push((execution, format!("the dispatcher is switched off by {by}")));
            }
            (Some(_), Some(orders)) => {
                if !held || execution.dispatcher == EXECUTION_DISPATCH {
                    orders.queued.push(execution);
                }
            }
            _ => refused.push((execution, "this node has no dispatcher of this name".to_owned())),
        }
    }
    for execution in stored.cancels {
        if let (Some(orders), Some(by)) = (orders.get_mut(&execution.dispatcher), execution.cancelled_by) {
            orders.cancels.push((execution.id, by));
        }
    }
    (orders, refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::model::execution::Cause;

    fn execution(id: i64, dispatcher: &str, cancelled_by: Option<&str>) -> Execution {
        Execution {
            id: ExecutionId(id),
            dispatcher: dispatcher.into(),
            node: None,
            cause: Cause::Manual,
            requested_by: None,
            queued_at: Timestamp::from_micros(0),
            started_at: None,
            finished_at: None,
            outcome: None,
            message: None,
            retry_of: None,
            cancelled_by: cancelled_by.map(Into::into),
        }
    }

    fn dispatcher(name: &str, paused: bool) -> StoredDispatcher {
        StoredDispatcher {
            name: name.into(),
            title: String::new(),
            description: String::new(),
            origin: "job".into(),
            schedule: String::new(),
            present: true,
            disabled_by: None,
            limit: 1,
            next_at: None,
            paused: paused.then(|| ("ann".to_owned(), Timestamp::from_micros(3))),
        }
    }

    fn posts(names: &[(&str, Option<&str>)]) -> BTreeMap<String, Post> {
        names
            .iter()
            .map(|(name, disabled_by)| {
                let (orders, _) = watch::channel(Orders::default());
                ((*name).to_owned(), Post { orders, disabled_by: disabled_by.map(Into::into) })
            })
            .collect()
    }

    fn ids(orders: &Orders) -> Vec<i64> {
        orders.queued.iter().map(|execution| execution.id.0).collect()
    }

    #[test]
    fn what_is_stored_is_sorted_by_dispatcher_and_what_none_can_do_is_refused() {
        let posts = posts(&[("a", None), ("b", None), ("off", Some("enabled = false"))]);
        let stored = Stored {
            dispatchers: vec![dispatcher("a", false), dispatcher("b", true), dispatcher("unknown", true)],
            queued: vec![
                execution(1, "b", None),
                execution(2, "a", None),
                execution(3, "b", None),
                execution(4, "off", None),
                execution(5, "gone", None),
            ],
            cancels: vec![execution(6, "a", Some("ann")), execution(7, "gone", Some("ann"))],
            elsewhere: Vec::new(),
            here: Vec::new(),
        };
        let (orders, refused) = sort(stored, &posts);
        assert_eq!((ids(&orders["a"]), ids(&orders["b"])), (vec![2], vec![1, 3]));
        assert_eq!(orders["a"].paused, None);
        assert_eq!(orders["b"].paused, Some(("ann".into(), Timestamp::from_micros(3))));
        assert_eq!(orders["a"].cancels, [(ExecutionId(6), "ann".to_owned())]);
        let refused: Vec<_> = refused.iter().map(|(execution, why)| (execution.id.0, why.as_str())).collect();
        assert_eq!(
            refused,
            [(4, "the dispatcher is switched off by enabled = false"), (5, "this node has no dispatcher of this name"),]
        );
    }

    #[test]
    fn a_paused_execution_dispatch_begins_nothing_but_obeys() {
        let posts = posts(&[("a", None), (EXECUTION_DISPATCH, None)]);
        let stored = Stored {
            dispatchers: vec![dispatcher("a", true), dispatcher(EXECUTION_DISPATCH, true)],
            queued: vec![execution(1, "a", None), execution(2, EXECUTION_DISPATCH, None)],
            cancels: vec![execution(3, "a", Some("ann"))],
            elsewhere: Vec::new(),
            here: Vec::new(),
        };
        let (orders, refused) = sort(stored, &posts);
        assert!(refused.is_empty());
        assert_eq!((ids(&orders["a"]), ids(&orders[EXECUTION_DISPATCH])), (vec![], vec![2]));
        assert!(orders["a"].paused.is_some());
        assert_eq!(orders["a"].cancels.len(), 1);
    }
}
