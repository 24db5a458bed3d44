//! The operator's own jobs, as the configuration file declares them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

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
    /// Whether it runs when the service node starts.
    pub run_at_start: bool,
    /// Whether a time missed while the node was down is made up for, once.
    pub catch_up: bool,
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
