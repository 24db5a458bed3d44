//! One line of a node's log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::base::clock::Timestamp;
use crate::base::id::{Epoch, ExecutionId, NodeId};
use crate::base::ring::Counts;

/// The longest text of one line, in bytes; a longer one is split over several, each but the last ending with [`SPLIT_MARK`].
pub const MAX_TEXT: usize = 16 * 1024;

/// Stands at the end of a line that goes on in the next one.
pub const SPLIT_MARK: &str = " ⏎…";

/// How much a line matters. Ordered: `Error` is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Every step.
    Trace,
    /// For whoever looks for a fault.
    Debug,
    /// What was done.
    Info,
    /// Something to look at.
    Warn,
    /// Something failed.
    Error,
}

impl Level {
    /// All, least first.
    pub const ALL: [Self; 5] = [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error];

    /// Its place in [`Level::ALL`], in [`Counts`] and in the database.
    #[must_use]
    pub const fn index(self) -> u8 {
        self as u8
    }

    /// The level at this place, if there is one.
    #[must_use]
    pub fn from_index(index: u8) -> Option<Self> {
        Self::ALL.get(usize::from(index)).copied()
    }

    /// As written in settings, JSON and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Level {
    type Err = BadLevel;

    fn from_str(text: &str) -> Result<Self, BadLevel> {
        Self::ALL.into_iter().find(|level| level.as_str() == text).ok_or_else(|| BadLevel(text.to_owned()))
    }
}

/// A text that names no level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no level; levels are trace, debug, info, warn and error")]
pub struct BadLevel(String);

/// Which of a program's two outputs a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line before it has its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// When it was written.
    #[serde(rename = "t")]
    pub time: Timestamp,
    /// How much it matters.
    #[serde(rename = "l")]
    pub level: Level,
    /// Who wrote it: a dispatcher's name, or the module of the program.
    #[serde(rename = "s")]
    pub source: Box<str>,
    /// During which run, if during one.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<ExecutionId>,
    /// From which output of a command, if from one.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<Stream>,
    /// What it says: at most [`MAX_TEXT`] bytes, no line breaks, not escaped for anything.
    #[serde(rename = "m")]
    pub text: Box<str>,
}

impl LogEntry {
    /// What the line weighs in a ring: its texts and what every line costs besides.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.text.len() + self.source.len() + std::mem::size_of::<Self>()
    }
}

/// A line as it stands in a node's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Whose log.
    pub node: NodeId,
    /// In which life of that node.
    pub epoch: Epoch,
    /// Its number within that life.
    pub seq: u64,
    /// What it says.
    pub entry: LogEntry,
}

/// The lines `from..=to` of one life of a node, which can't be shown any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogGap {
    /// The first one lost.
    pub from: u64,
    /// The last one lost.
    pub to: u64,
    /// How many of each level, in the order of [`Level::ALL`]; fewer in all if it is too long ago to tell.
    pub by_level: Counts,
}

impl LogGap {
    /// The part of it from number `from` to `to`. Its levels are known if it is all of it, or if all of it is of one level.
    #[must_use]
    pub fn part(&self, from: u64, to: u64) -> Self {
        let (from, to) = (from.max(self.from), to.min(self.to));
        if (from, to) == (self.from, self.to) {
            return *self;
        }
        let (all, lines) = (self.to - self.from + 1, (to + 1).saturating_sub(from));
        let by_level = self.by_level.map(|count| if count == all { lines } else { 0 });
        Self { from, to, by_level }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_gap_has_the_level_of_all_of_it_or_none_that_is_known() {
        let gap = LogGap { from: 3, to: 12, by_level: [0, 0, 10, 0, 0] };
        assert_eq!(gap.part(1, 20), gap);
        assert_eq!(gap.part(5, 8), LogGap { from: 5, to: 8, by_level: [0, 0, 4, 0, 0] });
        let mixed = LogGap { by_level: [0, 0, 9, 0, 1], ..gap };
        assert_eq!((mixed.part(3, 12).by_level, mixed.part(4, 12).by_level), (mixed.by_level, [0; 5]));
    }

    #[test]
    fn levels_are_ordered_and_named() {
        for (at, level) in Level::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(level.index()), at);
            assert_eq!(Level::from_index(level.index()), Some(level));
            assert_eq!(level.as_str().parse(), Ok(level));
        }
        assert!(Level::Error > Level::Warn);
        assert!("warning".parse::<Level>().unwrap_err().to_string().contains("trace, debug, info, warn"));
    }
}
