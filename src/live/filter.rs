//! Which lines of a log a viewer wants.

use crate::base::id::ExecutionId;
use crate::model::log_entry::{Level, LogEntry};

/// Which lines a viewer wants.
#[derive(Clone, Debug, Default)]
pub struct LineFilter {
    /// Of this level and above.
    pub level: Option<Level>,
    /// From these sources; from all if empty.
    pub sources: Vec<String>,
    /// Whose text matches.
    pub search: Option<regex::Regex>,
    /// Whether `search` is to be turned round: lines that do not match.
    pub inverse: bool,
    /// Of this run.
    pub execution: Option<ExecutionId>,
}

impl LineFilter {
    /// Whether a line is wanted.
    #[must_use]
    pub fn matches(&self, entry: &LogEntry) -> bool {
        self.level.is_none_or(|least| entry.level >= least)
            && self.execution.is_none_or(|run| entry.execution == Some(run))
            && (self.sources.is_empty() || self.sources.iter().any(|source| **source == *entry.source))
            && self.search.as_ref().is_none_or(|search| search.is_match(&entry.text) != self.inverse)
    }
}
