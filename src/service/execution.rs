//! One run: its body in a task of its own, its time limit, its cancelling, its output, and how it is judged.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::base::clock::{SharedClock, Timestamp};
use crate::base::id::ExecutionId;
use crate::config::value::show_duration;
use crate::model::execution::{Execution, Outcome, Progress};
use crate::model::log_entry::{Level, LogEntry, Stream};
use crate::protocol::event::Change;
use crate::service::dispatcher::{Dispatcher, Run, RunOutput, Verdict};
use crate::service::feed::Feed;
use crate::service::lead::Lead;
use crate::service::log::LogRing;
use crate::service::parts::TermParts;

/// How long a run that was told to end may take before its future is dropped.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// Progress of one run is passed on once in so long.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// The longest message of a run's end, in bytes.
const LONGEST_MESSAGE: usize = 1000;

/// Why the node itself ends a run: it stops.
pub(crate) const NODE_STOPPED: &str = "because the node stopped";

/// Why the node itself ends a run: another may be primary, and start the same.
const MAY_OVERLAP: &str =
    "because this node could not prove in time that it is the primary, and another may start the same";

/// What a run may do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// It is ended after so long.
    pub time: Option<Duration>,
    /// Whether it goes on when another node may be primary and start the same.
    pub overlap: bool,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself.
    Itself(Verdict),
    /// It did not begin: the node is primary no more.
    NotBegun,
    /// Another node may be primary, and start the same.
    Evicted,
    /// It was told to end.
    Cancelled,
    /// It took longer than this.
    TimedOut(Duration),
    /// Its code panicked.
    Panicked(String),
}

/// A run that ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    /// Which one.
    pub execution: ExecutionId,
    /// When.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// How.
    pub end: End,
    /// Whether it did not react within [`GRACE`] when it was told to end, and was dropped.
    pub dropped: bool,
}

impl Ended {
    /// The end of a run whose own task fell.
    pub(crate) fn fallen(execution: ExecutionId, at: Timestamp, error: &tokio::task::JoinError) -> Self {
        let end = End::Panicked(error.to_string());
        Self { execution, at, took: Duration::ZERO, end, dropped: false }
    }

    /// The outcome and what is said about it. `why` says who cancelled it, or what made the node end it.
    pub(crate) fn judge(&self, why: Option<&str>) -> (Outcome, Option<String>) {
        let (outcome, message) = match &self.end {
            End::Itself(verdict) => {
                // a dispatcher says how it went; who cancelled what is for the runner to say
                let outcome = match verdict.outcome {
                    Outcome::Cancelled | Outcome::Abandoned => Outcome::Error,
                    outcome => outcome,
                };
                (outcome, verdict.message.clone())
            }
            End::NotBegun => {
                (Outcome::Cancelled, Some("not begun: this node stopped being the primary at that moment".to_owned()))
            }
            End::Evicted => (Outcome::Cancelled, Some(format!("cancelled {MAY_OVERLAP}"))),
            End::Cancelled => (Outcome::Cancelled, Some(format!("cancelled {}", why.unwrap_or(NODE_STOPPED)))),
            End::TimedOut(limit) => {
                (Outcome::Error, Some(format!("it took longer than {} and was ended", show_duration(*limit))))
            }
            End::Panicked(text) => (Outcome::Error, Some(format!("the dispatcher panicked: {text}"))),
        };
        let message = message.map(|message| {
            let message = one_line(&message);
            if self.dropped { format!("{message}; it did not react within {}", show_duration(GRACE)) } else { message }
        });
        (outcome, message)
    }
}

/// The first line of a text that says something, not too long.
fn one_line(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    if line.len() <= LONGEST_MESSAGE {
        return line.to_owned();
    }
    format!("{}…", &line[..line.floor_char_boundary(LONGEST_MESSAGE)])
}

/// Runs a dispatcher once; `began` is when that was decided. Ends within [`GRACE`] after `cancel`, whatever the dispatcher does.
pub(crate) async fn perform(
    parts: Arc<TermParts>,
    dispatcher: Arc<dyn Dispatcher>,
    limits: Limits,
    execution: Execution,
    began: Instant,
    cancel: CancellationToken,
) -> Ended {
    let id = execution.id;
    let lead = parts.lead.clone();
    // before the next look at it, so that what happens in between is not missed
    let evictions = lead.evictions();
    // the claim may have taken long, or the node been frozen since: what the database said then may not hold any more
    if !parts.lead.holds() {
        return Ended {
            execution: id,
            at: parts.clock.now(),
            took: Duration::ZERO,
            end: End::NotBegun,
            dropped: false,
        };
    }
    let (progress, told) = watch::channel(None);
    // not a child of `cancel`: the run hears of it only after it is settled that it did not end by itself
    let stop = CancellationToken::new();
    let output = Output {
        log: parts.log.clone(),
        clock: Arc::clone(&parts.clock),
        dispatcher: execution.dispatcher.as_str().into(),
        execution: id,
        progress,
    };
    let run = Run {
        execution: id,
        dispatcher: execution.dispatcher.clone(),
        cause: execution.cause,
        clock: Arc::clone(&parts.clock),
        cancel: stop.clone(),
        output: Arc::new(output),
    };
    let span = tracing::info_span!("run", dispatcher = %execution.dispatcher, execution = id.0);
    let body = async move { dispatcher.run_once(&run).await }.instrument(span);
    let mut body = parts.shutdown.spawn("run of a dispatcher", body);

    let mut dropped = false;
    let end = tokio::select! {
        biased;
        ended = &mut body => match ended {
            Ok(verdict) => End::Itself(verdict),
            Err(error) => End::Panicked(panic_text(error)),
        },
        () = cancel.cancelled() => End::Cancelled,
        limit = over(limits.time) => End::TimedOut(limit),
        () = evicted(lead, evictions), if !limits.overlap => End::Evicted,
        never = pass_on(told, &parts.feed, &execution.dispatcher, id) => match never {},
    };
    if matches!(end, End::Cancelled | End::Evicted | End::TimedOut(_)) {
        stop.cancel();
        if timeout(GRACE, &mut body).await.is_err() {
            body.abort();
            dropped = true;
        }
    }
    Ended { execution: id, at: parts.clock.now(), took: began.elapsed(), end, dropped }
}

/// Comes back when another node may be primary and start the same.
async fn evicted(mut lead: Lead, before: u32) {
    while lead.evictions() == before {
        lead.changed().await;
    }
}

/// Comes back when the time is over; never, without a limit.
async fn over(limit: Option<Duration>) -> Duration {
    match limit {
        Some(limit) => {
            sleep(limit).await;
            limit
        }
        None => std::future::pending().await,
    }
}

/// Passes on how far a run is, the latest, at most so often. Never comes back.
async fn pass_on(
    mut told: watch::Receiver<Option<Progress>>,
    feed: &Feed,
    dispatcher: &str,
    execution: ExecutionId,
) -> Infallible {
    while told.changed().await.is_ok() {
        let progress = told.borrow_and_update().clone();
        if let Some(progress) = progress {
            feed.change(Change::Progressed { dispatcher: dispatcher.to_owned(), execution, progress });
        }
        sleep(PROGRESS_EVERY).await;
    }
    // the run is about to end, and that is for its body to say
    std::future::pending().await
}

fn panic_text(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "without words".to_owned()),
        Err(_) => "its task was dropped".to_owned(),
    }
}

/// Where a run's lines and progress go.
struct Output {
    log: LogRing,
    clock: SharedClock,
    dispatcher: Box<str>,
    execution: ExecutionId,
    progress: watch::Sender<Option<Progress>>,
}

impl RunOutput for Output {
    fn line(&self, level: Level, stream: Option<Stream>, text: &str) {
        self.log.push_output(LogEntry {
            time: self.clock.now(),
            level,
            source: self.dispatcher.clone(),
            execution: Some(self.execution),
            stream,
            text: text.into(),
        });
    }

    fn progress(&self, progress: Progress) {
        self.progress.send_replace(Some(progress));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(end: End, dropped: bool) -> Ended {
        let (at, took) = (Timestamp::from_micros(1), Duration::from_secs(1));
        Ended { execution: ExecutionId(1), at, took, end, dropped }
    }

    #[test]
    fn the_runner_judges_what_the_dispatcher_can_not() {
        let say = |end, by: Option<&str>| {
            let (outcome, message) = ended(end, false).judge(by);
            (outcome, message.unwrap_or_default())
        };
        assert_eq!(say(End::Itself(Verdict::warning("look\nhere")), None), (Outcome::Warning, "look".into()));
        assert_eq!(say(End::Itself(Verdict::normal(None)), None), (Outcome::Normal, String::new()));
        let cheat = Verdict { outcome: Outcome::Cancelled, message: None };
        assert_eq!(say(End::Itself(cheat), None).0, Outcome::Error);
        assert_eq!(say(End::NotBegun, None).0, Outcome::Cancelled);
        assert_eq!(say(End::Cancelled, Some("by ann")), (Outcome::Cancelled, "cancelled by ann".into()));
        assert_eq!(say(End::Cancelled, None), (Outcome::Cancelled, "cancelled because the node stopped".into()));
        let (outcome, text) = say(End::TimedOut(Duration::from_secs(90)), None);
        assert_eq!((outcome, text.as_str()), (Outcome::Error, "it took longer than 1m 30s and was ended"));
        assert!(say(End::Panicked("index out of bounds".into()), None).1.ends_with("index out of bounds"));
        let (_, text) = ended(End::TimedOut(Duration::from_secs(1)), true).judge(None);
        assert!(text.unwrap().ends_with("it did not react within 5s"));
    }

    #[test]
    fn a_message_is_one_line_of_bounded_length() {
        assert_eq!(one_line("\n  \n first \nsecond"), "first");
        assert!(one_line(&"ä".repeat(5000)).len() <= LONGEST_MESSAGE + '…'.len_utf8());
    }
}
