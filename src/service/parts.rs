//! What every part of a service node uses: its database, state, log and clock.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::base::chain::chain;
use crate::base::clock::SharedClock;
use crate::base::id::{ExecutionId, NodeId};
use crate::base::shutdown::Shutdown;
use crate::config::settings::Settings;
use crate::model::log_entry::{Level, LogEntry};
use crate::service::feed::Feed;
use crate::service::lead::Lead;
use crate::service::log::LogRing;
use crate::service::plan::Now;
use crate::store::Store;
use crate::store::error::Error;

/// What every part of a service node uses.
#[derive(Clone)]
pub(crate) struct Parts {
    /// The database.
    pub store: Store,
    /// The state.
    pub feed: Feed,
    /// The log.
    pub log: LogRing,
    /// Tells the time.
    pub clock: SharedClock,
    /// Which node this is.
    pub node: NodeId,
    /// The settings in force.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// When the node is to stop, and where tasks are spawned.
    pub shutdown: Shutdown,
    /// The runs that this process goes on with, of whichever term.
    pub held: Held,
    /// Whether the database failed the last time it was asked: an outage is told once, not per try.
    troubled: Arc<AtomicBool>,
}

/// Runs that somebody in this process goes on with, from their beginning until their end is written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held(Arc<Mutex<BTreeSet<ExecutionId>>>);

impl Held {
    pub(crate) fn add(&self, id: ExecutionId) {
        self.runs().insert(id);
    }

    pub(crate) fn remove(&self, id: ExecutionId) {
        self.runs().remove(&id);
    }

    pub(crate) fn has(&self, id: ExecutionId) -> bool {
        self.runs().contains(&id)
    }

    fn runs(&self) -> MutexGuard<'_, BTreeSet<ExecutionId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the loops of a term as primary use besides.
#[derive(Clone)]
pub(crate) struct TermParts {
    /// What every part uses.
    pub parts: Parts,
    /// Stops when the term ends, or the node does.
    pub over: Shutdown,
    /// Whether this node is primary still.
    pub lead: Lead,
}

impl Deref for TermParts {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Parts {
    pub(crate) fn new(
        store: Store,
        feed: Feed,
        log: LogRing,
        clock: SharedClock,
        node: NodeId,
        settings: watch::Receiver<Arc<Settings>>,
        shutdown: Shutdown,
    ) -> Self {
        Self { store, feed, log, clock, node, settings, shutdown, held: Held::default(), troubled: Arc::default() }
    }

    /// Both clocks, now.
    pub(crate) fn now(&self) -> Now {
        Now { wall: self.clock.now(), monotonic: Instant::now() }
    }

    /// Writes a line as a dispatcher.
    pub(crate) fn say(&self, dispatcher: &str, execution: Option<ExecutionId>, level: Level, text: &str) {
        self.log.push(LogEntry {
            time: self.clock.now(),
            level,
            source: dispatcher.into(),
            execution,
            stream: None,
            text: text.into(),
        });
    }

    /// The database answered or failed. The first failure after it answered is told, and the first answer after it failed.
    pub(crate) fn judge<T>(&self, what: &'static str, answer: Result<T, Error>) -> Result<T, Error> {
        match &answer {
            Ok(_) if self.troubled.swap(false, Ordering::Relaxed) => {
                tracing::info!("the database answers again; what waited for it goes on");
            }
            Ok(_) => {}
            Err(error) => {
                if !self.troubled.swap(true, Ordering::Relaxed) {
                    tracing::warn!(error = %chain(error), "{what} could not be written or read; it is tried again until it works");
                }
            }
        }
        answer
    }
}
