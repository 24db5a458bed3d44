//! What the log says of runs, in words.

use std::fmt::Write as _;
use std::time::Duration;

use crate::base::id::NodeId;
use crate::model::execution::{Cause, Execution, Outcome};
use crate::model::log_entry::Level;

/// A run began.
pub(crate) fn started(execution: &Execution) -> String {
    let cause = match execution.cause {
        Cause::Schedule => "by schedule".to_owned(),
        Cause::StartUp => "because the node started".to_owned(),
        Cause::Manual | Cause::Api => match &execution.requested_by {
            Some(by) => format!("told by {by}"),
            None => "told".to_owned(),
        },
        Cause::CatchUp => "to make up for a time missed".to_owned(),
        Cause::Retry => match execution.retry_of {
            Some(failed) => format!("to repeat run {failed}"),
            None => "to repeat a failed run".to_owned(),
        },
    };
    format!("run {} started {cause}", execution.id)
}

/// A run ended; `again` is which attempt it was and how many repetitions there are, if it is going to be repeated.
pub(crate) fn ended(
    outcome: Outcome,
    message: Option<&str>,
    took: Duration,
    again: Option<(u32, u32)>,
) -> (Level, String) {
    let (level, how) = match outcome {
        Outcome::Normal => (Level::Info, "ended"),
        Outcome::Warning => (Level::Warn, "ended with a warning"),
        Outcome::Error => (Level::Error, "failed"),
        Outcome::Cancelled => (Level::Warn, "ended early"),
        Outcome::Abandoned => (Level::Error, "was abandoned"),
    };
    let mut text = format!("{how} after {}", length(took));
    if let Some(message) = message {
        text.push_str(": ");
        text.push_str(message);
    }
    if let Some((attempt, retries)) = again {
        // writing into a String does not fail
        let _ = write!(text, " (repetition {attempt} of {retries} follows)");
    }
    (level, text)
}

/// How a run ended, as part of a sentence.
pub(crate) fn adverb(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Normal => "normally",
        Outcome::Warning => "with a warning",
        Outcome::Error => "with an error",
        Outcome::Cancelled => "early",
        Outcome::Abandoned => "somehow",
    }
}

/// So many runs.
pub(crate) fn runs(count: usize) -> String {
    format!("{count} {}", if count == 1 { "run" } else { "runs" })
}

/// Why a run of another node is given up: that node gave no sign of life for too long.
pub(crate) fn given_up(node: &NodeId) -> String {
    format!(
        "{node} gave no sign of life for too long while this ran; if that node lives, the run may still go on there"
    )
}

/// Why a run that the database says began here is over, though it did not begin.
pub(crate) const NEVER_BEGUN: &str =
    "not begun: the database wrote that it began, but could not tell this node so, which therefore did not start it";

/// Why a run that still counts as running when its node starts is over. What is known of when is its `finished_at`.
pub(crate) const ABANDONED: &str = "the service node ended while this ran; found at its next start";

/// A length of time as people read it: as exact as is of use.
fn length(took: Duration) -> String {
    let seconds = took.as_secs();
    match seconds {
        0 => format!("{} ms", took.as_millis()),
        1..60 => format!("{:.1} s", took.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::base::id::ExecutionId;

    #[test]
    fn lines_say_why_and_how() {
        let mut execution = Execution {
            id: ExecutionId(7),
            dispatcher: "backup".into(),
            node: None,
            cause: Cause::Manual,
            requested_by: Some("ann".into()),
            queued_at: Timestamp::from_micros(0),
            started_at: None,
            finished_at: None,
            outcome: None,
            message: None,
            retry_of: Some(ExecutionId(6)),
            cancelled_by: None,
        };
        assert_eq!(started(&execution), "run 7 started told by ann");
        execution.cause = Cause::Retry;
        assert_eq!(started(&execution), "run 7 started to repeat run 6");
        let (level, text) = ended(Outcome::Error, Some("exit code 3"), Duration::from_millis(1250), Some((1, 3)));
        assert_eq!((level, &*text), (Level::Error, "failed after 1.2 s: exit code 3 (repetition 1 of 3 follows)"));
        assert_eq!(
            ended(Outcome::Normal, None, Duration::from_millis(12), None),
            (Level::Info, "ended after 12 ms".into())
        );
        assert_eq!(
            ended(Outcome::Cancelled, Some("cancelled by ann"), Duration::from_secs(3725), None).1,
            "ended early after 1 h 2 min: cancelled by ann"
        );
    }
}
