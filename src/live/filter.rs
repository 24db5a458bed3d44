//! Which lines of a log a viewer wants.

use crate::base::id::ExecutionId;
use crate::model::log_entry::{Level, LogEntry, LogGap};

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

    /// Whether more is filtered than the level, so that nobody can tell of a lost line whether it was wanted.
    #[must_use]
    pub fn is_narrow(&self) -> bool {
        self.search.is_some() || self.execution.is_some() || !self.sources.is_empty()
    }

    /// Whether lines below info are wanted: these are never kept.
    #[must_use]
    pub fn wants_details(&self) -> bool {
        self.level.is_none_or(|level| level < Level::Info)
    }

    /// What of a gap could have been wanted, as far as that can be told by level.
    #[must_use]
    pub fn missed(&self, gap: &LogGap) -> Missed {
        let mut missed = Missed::of(gap);
        let least = self.level.map_or(0, |level| usize::from(level.index()));
        missed.by_level[..least].fill(0);
        missed
    }
}

/// Lines that can't be had, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missed {
    /// Those whose level is known.
    pub by_level: [u64; 5],
    /// Those whose level nobody knows.
    pub unknown: u64,
}

impl Missed {
    /// Everything in a gap.
    #[must_use]
    pub fn of(gap: &LogGap) -> Self {
        let known: u64 = gap.by_level.iter().sum();
        let all = gap.to.saturating_sub(gap.from).saturating_add(1);
        Self { by_level: gap.by_level, unknown: all.saturating_sub(known) }
    }

    /// How many in all.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.by_level.iter().sum::<u64>() + self.unknown
    }

    /// Both together.
    pub fn add(&mut self, other: &Self) {
        for (sum, count) in self.by_level.iter_mut().zip(other.by_level) {
            *sum += count;
        }
        self.unknown += other.unknown;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_missed_as_far_as_it_could_have_been_wanted() {
        let gap = LogGap { from: 1, to: 10, by_level: [0, 2, 3, 0, 1] };
        let missed = |level| LineFilter { level, ..LineFilter::default() }.missed(&gap);
        assert_eq!(missed(None), Missed { by_level: [0, 2, 3, 0, 1], unknown: 4 });
        assert_eq!(missed(Some(Level::Warn)), Missed { by_level: [0, 0, 0, 0, 1], unknown: 4 });
        let known = LogGap { from: 1, to: 5, by_level: [0, 2, 3, 0, 0] };
        let errors = LineFilter { level: Some(Level::Error), ..LineFilter::default() };
        assert_eq!(errors.missed(&known).count(), 0);
    }
}
