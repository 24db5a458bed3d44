//! The dispatcher trait: what it is, when it is due, one run.

use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::base::clock::SharedClock;
use crate::base::id::ExecutionId;
use crate::config::job::Schedule;
use crate::model::execution::{Cause, Outcome, Progress};
use crate::model::log_entry::{Level, Stream};
use crate::protocol::state::Origin;

/// What a dispatcher is. A value; asked for once, at the start.
#[derive(Clone, Debug)]
pub struct Definition {
    /// `[a-z0-9][a-z0-9_-]{0,63}`, unique on the node.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// What it does, in a sentence.
    pub description: String,
    /// Who declared it.
    pub origin: Origin,
    /// When it is due.
    pub schedule: Schedule,
    /// By what it is switched off, if it is.
    pub disabled_by: Option<String>,
    /// How many runs may go on at once.
    pub limit: u32,
    /// A run longer than this is cancelled, with outcome error.
    pub timeout: Option<Duration>,
    /// How often a failed run is repeated.
    pub retries: u32,
    /// How long the first repetition waits; each further one twice as long, at most an hour.
    pub retry_delay: Duration,
    /// Whether it runs when the node starts.
    pub run_at_start: bool,
    /// Whether a time missed while the node was down is made up for, once.
    pub catch_up: bool,
    /// Whether a run may go on when another node may have become primary, and may start the same. If not it is ended then.
    pub overlap: bool,
    /// Whether its runs that did nothing worth telling are kept out of the log (a heartbeat).
    pub quiet: bool,
}

impl Definition {
    /// A dispatcher of the embedding program: one run at a time, no time limit, no retries, a missed time is not made up for.
    #[must_use]
    pub fn new(name: impl Into<String>, title: impl Into<String>, schedule: Schedule) -> Self {
        Self {
            name: name.into(),
            title: title.into(),
            description: String::new(),
            origin: Origin::Program,
            schedule,
            disabled_by: None,
            limit: 1,
            timeout: None,
            retries: 0,
            retry_delay: Duration::from_mins(1),
            run_at_start: false,
            catch_up: false,
            overlap: false,
            quiet: false,
        }
    }
}

/// How a run ended, by its own account. A cancelled or timed-out run is judged by the runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Normal, warning or error.
    pub outcome: Outcome,
    /// One line about it, if there is something to say.
    pub message: Option<String>,
}

impl Verdict {
    /// It went well.
    #[must_use]
    pub fn normal(message: impl Into<Option<String>>) -> Self {
        Self { outcome: Outcome::Normal, message: message.into() }
    }

    /// There is something to look at.
    #[must_use]
    pub fn warning(message: impl Into<String>) -> Self {
        Self { outcome: Outcome::Warning, message: Some(message.into()) }
    }

    /// It failed.
    #[must_use]
    pub fn error(message: impl Into<String>) -> Self {
        Self { outcome: Outcome::Error, message: Some(message.into()) }
    }
}

/// A named task that looks for due work: due or told, it runs once and reports.
#[async_trait]
pub trait Dispatcher: Send + Sync + 'static {
    /// What it is.
    fn definition(&self) -> Definition;

    /// One run. It ends soon after [`Run::cancelled`] comes back; the future may be dropped 5 s after that.
    async fn run_once(&self, run: &Run) -> Verdict;
}

/// What a run may use. Made by the runner.
pub struct Run {
    /// Which run.
    pub execution: ExecutionId,
    /// Of which dispatcher.
    pub dispatcher: String,
    /// Why.
    pub cause: Cause,
    /// Tells the time.
    pub clock: SharedClock,
    /// Cancelled when the run is to end.
    pub cancel: CancellationToken,
    /// Where lines and progress go.
    pub(crate) output: std::sync::Arc<dyn RunOutput>,
}

/// Where a run's lines and progress go.
pub(crate) trait RunOutput: Send + Sync {
    /// A line; long ones are split, control characters are kept as they are (viewers make them visible).
    fn line(&self, level: Level, stream: Option<Stream>, text: &str);
    /// How far it is; latest wins, at most ten a second are passed on.
    fn progress(&self, progress: Progress);
}

impl Run {
    /// A run outside a node, for tests of a single dispatcher: `on_line` and `on_progress` get what it says.
    #[doc(hidden)]
    pub fn alone(
        dispatcher: &str,
        cancel: CancellationToken,
        on_line: impl Fn(Level, Option<Stream>, &str) + Send + Sync + 'static,
        on_progress: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Self {
        Self {
            execution: ExecutionId(1),
            dispatcher: dispatcher.to_owned(),
            cause: Cause::Manual,
            clock: std::sync::Arc::new(crate::base::clock::SystemClock),
            cancel,
            output: std::sync::Arc::new((on_line, on_progress)),
        }
    }

    /// Writes a line into the log, as this dispatcher, during this run. Never blocks.
    pub fn log(&self, level: Level, text: &str) {
        self.output.line(level, None, text);
    }

    /// Writes a line of a command's output.
    pub fn output(&self, level: Level, stream: Stream, text: &str) {
        self.output.line(level, Some(stream), text);
    }

    /// Says how far it is.
    pub fn progress(&self, done: u64, total: u64, text: Option<String>) {
        self.output.progress(Progress { done, total: total.max(1), text });
    }

    /// Comes back when the run is to end.
    pub async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }
}

impl<L, P> RunOutput for (L, P)
where
    L: Fn(Level, Option<Stream>, &str) + Send + Sync,
    P: Fn(Progress) + Send + Sync,
{
    fn line(&self, level: Level, stream: Option<Stream>, text: &str) {
        self.0(level, stream, text);
    }

    fn progress(&self, progress: Progress) {
        self.1(progress);
    }
}
