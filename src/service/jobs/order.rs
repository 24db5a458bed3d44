//! What a node and the guard of one run say to each other: one line of JSON each, over the guard's standard input.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The first word of a guard's command line.
pub(crate) const WORD: &str = "__guard";

/// Set for a guard, and taken away for the command: a program that finds it and is no guard knows that it was to be one.
pub(crate) const VARIABLE: &str = "SWITCHBOARD_GUARD";

/// The longest order, in bytes. A configuration file has at most 1 MiB; escaped for JSON it may be six times as long.
pub(crate) const MAX_ORDER: u64 = 8 << 20;

/// What the node says first: what to start. After it, it says nothing more; when it closes its side (because it has died, or
/// wants the run to end), everything is ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The file to run.
    pub(crate) program: PathBuf,
    /// What the program finds as its name, and its arguments.
    pub(crate) argv: Vec<String>,
    /// Where; where the guard runs, if nothing is said.
    pub(crate) directory: Option<PathBuf>,
    /// Variables set besides those of the guard.
    pub(crate) environment: BTreeMap<String, String>,
}

/// What the guard says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Told {
    /// The command runs.
    Started,
    /// The command could not be started, for this reason.
    NotStarted(String),
    /// The command ended by itself with this exit code.
    Exited(i32),
    /// The command was ended by this signal.
    Killed(i32),
    /// The command has ended and left so many processes behind, which are ended now.
    Left(usize),
    /// So many processes do not end, although they were killed.
    Stuck(usize),
}
