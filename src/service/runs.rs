//! The runs of one dispatcher that go on, and those whose end is not written yet.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::base::backoff::Backoff;
use crate::base::clock::Timestamp;
use crate::base::id::ExecutionId;
use crate::model::execution::{Execution, Outcome};
use crate::model::log_entry::Level;
use crate::protocol::event::Change;
use crate::protocol::state::Run;
use crate::service::claims::{self, NextAt, Verdict};
use crate::service::dispatcher::{Definition, Dispatcher};
use crate::service::execution::{Ended, Limits, perform};
use crate::service::parts::TermParts;
use crate::service::words;
use crate::store::error::Error;

/// The runs of one dispatcher, from their beginning until their end is written.
pub(crate) struct Runs {
    parts: Arc<TermParts>,
    dispatcher: Arc<dyn Dispatcher>,
    name: String,
    next_at: NextAt,
    going: Vec<Going>,
    steps: FuturesUnordered<BoxFuture<'static, Step>>,
}

struct Going {
    execution: ExecutionId,
    started_at: Timestamp,
    attempt: u32,
    cancel: CancellationToken,
    /// Why it is to end, once it is.
    cancelled: Option<String>,
    /// Set once it ended.
    verdict: Option<Verdict>,
    /// Whether its end could not be written at once.
    unwritten: bool,
    backoff: Backoff,
}

/// What comes of runs.
pub(crate) enum Step {
    /// A run ended.
    Ended(Ended),
    /// Its end was written, or not.
    Wrote(ExecutionId, Result<bool, Error>),
}

/// A run that ended, judged.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    /// How it ended.
    pub outcome: Outcome,
    /// What is said about it.
    pub message: Option<String>,
    /// Which attempt it was.
    pub attempt: u32,
}

impl Runs {
    pub(crate) fn new(parts: Arc<TermParts>, dispatcher: Arc<dyn Dispatcher>, name: String, next_at: NextAt) -> Self {
        Self { parts, dispatcher, name, next_at, going: Vec::new(), steps: FuturesUnordered::new() }
    }

    /// How many there are, with those whose end is not written: for the database they go on.
    pub(crate) fn count(&self) -> usize {
        self.going.len()
    }

    /// How many have not ended, as far as is told.
    pub(crate) fn running(&self) -> usize {
        self.going.iter().filter(|going| !going.unwritten).count()
    }

    /// Whether the end of one could not be written yet.
    pub(crate) fn has_unwritten(&self) -> bool {
        self.going.iter().any(|going| going.unwritten)
    }

    /// Whether this run is among them.
    pub(crate) fn holds(&self, id: ExecutionId) -> bool {
        self.going.iter().any(|going| going.execution == id)
    }

    /// What comes next of them; none if there are none. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Step> {
        self.steps.next().await
    }

    /// Sets a claimed run going, and tells it.
    pub(crate) fn begin(&mut self, definition: &Definition, execution: &Execution, attempt: u32, began: Instant) {
        let id = execution.id;
        let started_at = execution.started_at.unwrap_or_else(|| self.parts.clock.now());
        let cancel = CancellationToken::new();
        let run = Run {
            execution: id,
            cause: execution.cause,
            by: execution.requested_by.clone(),
            started_at,
            progress: None,
            cancelled_by: None,
        };
        self.parts.feed.change(Change::Started { dispatcher: self.name.clone(), run });
        if !definition.quiet {
            self.parts.say(&self.name, Some(id), Level::Info, &words::started(execution));
        }
        let (parts, dispatcher) = (Arc::clone(&self.parts), Arc::clone(&self.dispatcher));
        let limits = Limits { time: definition.timeout, overlap: definition.overlap };
        let work = perform(parts, dispatcher, limits, execution.clone(), began, cancel.clone());
        // in a task of its own, so that its time limit holds also while the loop waits for the database
        let work = self.parts.shutdown.spawn("run", work);
        let clock = Arc::clone(&self.parts.clock);
        self.steps.push(Box::pin(async move {
            Step::Ended(work.await.unwrap_or_else(|error| Ended::fallen(id, clock.now(), &error)))
        }));
        self.parts.held.add(id);
        self.going.push(Going {
            execution: id,
            started_at,
            attempt,
            cancel,
            cancelled: None,
            verdict: None,
            unwritten: false,
            backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(15)),
        });
    }

    /// Judges a run that ended.
    pub(crate) fn judge(&mut self, ended: &Ended) -> Option<Judged> {
        let going = self.going.iter_mut().find(|going| going.execution == ended.execution)?;
        let (outcome, message) = ended.judge(going.cancelled.as_deref());
        going.verdict = Some(Verdict { outcome, message: message.clone(), at: ended.at });
        Some(Judged { outcome, message, attempt: going.attempt })
    }

    /// Writes the end of a run that was judged, and when the dispatcher is due next, after a delay.
    pub(crate) fn write(&mut self, id: ExecutionId, delay: Duration) {
        let going = self.going.iter().find(|going| going.execution == id);
        let Some(verdict) = going.and_then(|going| going.verdict.clone()) else { return };
        let (parts, name, next_at) = (Arc::clone(&self.parts), self.name.clone(), self.next_at.clone());
        // in a task of its own: a transaction that waits for this loop would keep all others from writing meanwhile
        let written = self.parts.shutdown.spawn("end of a run", async move {
            sleep(delay).await;
            claims::finish(&parts, &name, id, &verdict, &next_at).await
        });
        // given up with the loop, when the node stops and the database does not take it
        let written = AbortOnDropHandle::new(written);
        self.steps.push(Box::pin(async move {
            let fallen = |error: tokio::task::JoinError| Err(Error::Conflict(error.to_string()));
            Step::Wrote(id, written.await.unwrap_or_else(fallen))
        }));
    }

    /// The end of a run was written, or is to be tried again. Whether one that could not be written at once is written now.
    pub(crate) fn wrote(&mut self, id: ExecutionId, result: Result<bool, Error>) -> bool {
        let result = self.parts.judge("the end of a run", result);
        if let Ok(false) = result {
            let text = "this run had been given up as abandoned; another may have gone on at the same time";
            self.parts.say(&self.name, Some(id), Level::Warn, text);
        }
        let Some(at) = self.going.iter().position(|going| going.execution == id) else { return false };
        let going = &mut self.going[at];
        // told at the first try, whatever came of it: the run is over, and what is shown is to be so
        if let Some(verdict) = going.verdict.as_ref().filter(|_| !going.unwritten) {
            self.parts.feed.change(Change::Finished {
                dispatcher: self.name.clone(),
                execution: id,
                started_at: going.started_at,
                finished_at: verdict.at,
                outcome: verdict.outcome,
                message: verdict.message.clone(),
            });
        }
        if result.is_ok() {
            self.parts.held.remove(id);
            return self.going.swap_remove(at).unwritten;
        }
        going.unwritten = true;
        let delay = going.backoff.next_delay();
        self.write(id, delay);
        false
    }

    /// Ends a run because somebody asked for it. No effect if it ended, or is ending already.
    pub(crate) fn cancel(&mut self, id: ExecutionId, by: &str) {
        let going = self.going.iter_mut().find(|going| going.execution == id && going.verdict.is_none());
        if let Some(going) = going.filter(|going| going.cancelled.is_none()) {
            going.cancelled = Some(format!("by {by}"));
            going.cancel.cancel();
            let dispatcher = self.name.clone();
            self.parts.feed.change(Change::Cancelling { dispatcher, execution: id, by: by.to_owned() });
        }
    }

    /// Ends all, for a reason of the node's own.
    pub(crate) fn cancel_all(&mut self, why: &str) {
        for going in self.going.iter_mut().filter(|going| going.verdict.is_none()) {
            going.cancelled.get_or_insert_with(|| why.to_owned());
            going.cancel.cancel();
        }
    }
}
