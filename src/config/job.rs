//! The operator's own jobs, as the configuration file declares them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What may be the name of a dispatcher, and so of a job.
pub const NAME: &str = "1 to 64 of a-z, 0-9, `-` and `_`, beginning with a letter or digit";

/// The name of the dispatcher that gives up runs of nodes that are gone.
pub const FAILOVER: &str = "failover-detection";

/// The name of the dispatcher that shows that service and database work.
pub const HEARTBEAT: &str = "heartbeat";

/// The name of the dispatcher that takes stored commands.
pub const EXECUTION_DISPATCH: &str = "execution-dispatch";

/// The name of the dispatcher that deletes what is too old.
pub const CLEAN_UP: &str = "clean-up";

/// Names that no job can have: the product's own dispatchers have them.
pub const RESERVED: &[&str] = &[HEARTBEAT, FAILOVER, EXECUTION_DISPATCH, CLEAN_UP];

/// Whether a text is `[a-z0-9][a-z0-9_-]{0,63}`: what [`NAME`] says in words.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= 64
        && text.bytes().next().is_some_and(plain)
        && text.bytes().all(|byte| plain(byte) || byte == b'-' || byte == b'_')
}

/// One `[[job]]`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// `[a-z0-9][a-z0-9_-]{0,63}`, unique.
    pub name: String,
    /// What people call it; the name, if the file says nothing.
    pub title: String,
    /// What it does, in a sentence; may be empty.
    pub description: String,
    /// What it runs.
    pub work: Work,
    /// When.
    pub schedule: Schedule,
    /// A run longer than this is ended, with outcome error.
    pub timeout: Duration,
    /// How often a failed run is repeated.
    pub retries: u32,
    /// How long the first repetition waits; each further one twice as long, at most an hour.
    pub retry_delay: Duration,
    /// How many runs may go on at once.
    pub concurrency: u32,
    /// Whether it runs by schedule and can be told to.
    pub enabled: bool,
    /// Whether it runs when a service node becomes primary: at its start, and when it takes over.
    pub run_at_start: bool,
    /// Whether a time missed while the node was down is made up for, once.
    pub catch_up: bool,
    /// Whether a run may go on while another node may start the same; if not it is ended before that.
    pub overlap: bool,
}

/// What a job runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// A program, without a shell.
    Command {
        /// The program and its arguments; never empty.
        argv: Vec<String>,
        /// Where it runs; where the node runs, if the file says nothing.
        directory: Option<PathBuf>,
        /// Variables set besides those of the node (of which `SWITCHBOARD_…` secrets are taken away).
        environment: BTreeMap<String, String>,
        /// Exit codes that mean success.
        success: Vec<i32>,
        /// Exit codes that mean "look at it".
        warning: Vec<i32>,
    },
    /// A request that must be answered with one of these codes.
    Http {
        /// Where.
        url: String,
        /// Answers that mean success; 200–299 if empty.
        expect: Vec<u16>,
    },
}

/// When a dispatcher is due by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// So long after the run before began.
    Every(Duration),
    /// At the times of a five-field cron line, in a time zone.
    Cron {
        /// The line.
        line: String,
        /// IANA name, as `Europe/Berlin`.
        time_zone: String,
    },
    /// Only when told.
    Manual,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for name in ["a", "0", "disk-space", "a_b-c", &"x".repeat(64)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "-a", "_a", "Disk", "disk space", "a/b", "a\"b", "ä", "a\n", &"x".repeat(65)] {
            assert!(!is_name(name), "{name}");
        }
        assert!(RESERVED.iter().all(|name| is_name(name)));
    }
}
