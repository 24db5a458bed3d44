//! The program that runs a node's jobs, and what every job gets from it.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What every job of a node is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The program that is the guard when started as `PROGRAM __guard`, and that the word `switchboard` stands for in a command.
    pub program: PathBuf,
    /// Variables every job gets, as `SWITCHBOARD_DATA`; a job's own `environment` wins over them. No secrets: what a job can
    /// read, everybody can whom it tells.
    pub environment: BTreeMap<String, String>,
}

impl Host {
    /// This very program, also if its file was replaced or removed since it was started. It calls
    /// [`main_if_asked`](crate::service::jobs::guard::main_if_asked) first in its `main`.
    #[must_use]
    pub fn this_program() -> Self {
        let own = PathBuf::from("/proc/self/exe");
        let program = if own.exists() { own } else { std::env::current_exe().unwrap_or(own) };
        Self { program, environment: BTreeMap::new() }
    }

    /// The same, with a variable for every job.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }
}
