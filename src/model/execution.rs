//! One run of a dispatcher, its cause and its outcome.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::base::clock::Timestamp;
use crate::base::id::{ExecutionId, NodeId};

/// Why a run was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It was due.
    Schedule,
    /// The service node started.
    StartUp,
    /// Somebody pressed "run now" on a page.
    Manual,
    /// A script asked through `/api` or the command line.
    Api,
    /// A time was missed while the node was down.
    CatchUp,
    /// The run before it failed.
    Retry,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As it should.
    Normal,
    /// With something to look at.
    Warning,
    /// It failed.
    Error,
    /// Somebody stopped it, or the node was stopped.
    Cancelled,
    /// Its node went away; nobody knows how it ended, nor when.
    Abandoned,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Asked for, not begun.
    Queued,
    /// Begun, not ended.
    Running,
    /// Ended; it has an outcome.
    Completed,
}

macro_rules! words {
    ($type:ty, $what:literal: $($variant:ident = $word:literal),+ $(,)?) => {
        impl $type {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// As it stands in the database, in JSON and in addresses.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(UnknownWord { what: $what, text: text.to_owned(), allowed: &[$($word),+] }),
                }
            }
        }
    };
}

words!(Cause, "cause":
    Schedule = "schedule", StartUp = "start_up", Manual = "manual", Api = "api", CatchUp = "catch_up", Retry = "retry");
words!(Outcome, "outcome":
    Normal = "normal", Warning = "warning", Error = "error", Cancelled = "cancelled", Abandoned = "abandoned");
words!(Phase, "phase": Queued = "queued", Running = "running", Completed = "completed");

/// A word where one of a few was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {what}; allowed are {}", allowed.join(", "))]
pub struct UnknownWord {
    what: &'static str,
    text: String,
    allowed: &'static [&'static str],
}

/// How far a run says it is: `done` of `total`, in words of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done.
    pub done: u64,
    /// Steps in all; never 0.
    pub total: u64,
    /// What it is doing, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl Progress {
    /// In percent, at most 100.
    #[must_use]
    pub fn percent(&self) -> u8 {
        u8::try_from((u128::from(self.done) * 100 / u128::from(self.total.max(1))).min(100)).unwrap_or(100)
    }
}

/// One run of a dispatcher, as it stands in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// Its number.
    pub id: ExecutionId,
    /// Of which dispatcher.
    pub dispatcher: String,
    /// On which node it ran or runs; none while it is queued.
    pub node: Option<NodeId>,
    /// Why it was started.
    pub cause: Cause,
    /// Who asked for it, if somebody did.
    pub requested_by: Option<String>,
    /// When it was asked for or due.
    pub queued_at: Timestamp,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended; of an abandoned one, when its node last gave a sign of life: not before that.
    pub finished_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// What it said about its end, in one line.
    pub message: Option<String>,
    /// The failed run that this one repeats.
    pub retry_of: Option<ExecutionId>,
    /// Who asked to cancel it, if somebody did.
    pub cancelled_by: Option<String>,
}

impl Execution {
    /// How far it has come.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match (self.started_at, self.outcome) {
            (_, Some(_)) => Phase::Completed,
            (Some(_), None) => Phase::Running,
            (None, None) => Phase::Queued,
        }
    }

    /// How long it ran, if it began and ended and somebody knows when.
    #[must_use]
    pub fn duration(&self) -> Option<std::time::Duration> {
        if self.outcome == Some(Outcome::Abandoned) {
            return None;
        }
        Some(self.finished_at?.since(self.started_at?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_as_it_is_written() {
        for cause in Cause::ALL {
            assert_eq!(cause.as_str().parse(), Ok(*cause));
            assert_eq!(serde_json::to_value(cause).unwrap(), cause.as_str());
        }
        for outcome in Outcome::ALL {
            assert_eq!(outcome.as_str().parse(), Ok(*outcome));
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.as_str());
        }
        assert_eq!(
            "fine".parse::<Phase>().unwrap_err().to_string(),
            "`fine` is no phase; allowed are queued, running, completed"
        );
    }

    #[test]
    fn progress_past_the_end_is_all_of_it() {
        let at = |done, total| Progress { done, total, text: None }.percent();
        assert_eq!((at(3, 10), at(20, 10), at(1, 0), at(u64::MAX, u64::MAX)), (30, 100, 100, 100));
    }
}
