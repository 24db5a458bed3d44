//! One life of a service node as far as its lines are held: items without holes, and the levels of those that made room.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::id::{Cursor, Epoch};
use crate::base::ring::Counts;
use crate::live::life::LifeFacts;
use crate::model::log_entry::{LogEntry, LogGap};

/// A line with its number and its JSON array: `[seq, time in ms, level 0–4, source, execution, stream, text]`.
pub type NumberedLine = (u64, Arc<LogEntry>, Bytes);

/// The levels of so many lines that made room are remembered, a byte each; older losses are counted without their level.
const REMEMBERED: usize = 1 << 16;

/// Marks a remembered level that belongs to one of several lines, which of them is not known.
const IN_SUM: u8 = 0x80;

/// A part of a life.
#[derive(Debug)]
pub(crate) enum Item {
    Line(NumberedLine),
    Gap(LogGap),
}

impl Item {
    pub(crate) fn first(&self) -> u64 {
        match self {
            Self::Line((seq, ..)) => *seq,
            Self::Gap(gap) => gap.from,
        }
    }

    pub(crate) fn last(&self) -> u64 {
        match self {
            Self::Line((seq, ..)) => *seq,
            Self::Gap(gap) => gap.to,
        }
    }

    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Line((_, entry, json)) => entry.weight() + json.len() + size_of::<Self>(),
            Self::Gap(_) => size_of::<Self>(),
        }
    }
}

/// Which stretch of a log it is. A node that is primary again goes on counting where it was left: its lines of before and those
/// of now are two stretches, with those of others between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// Rises from stretch to stretch, whatever their lives.
    pub(crate) number: u64,
    pub(crate) epoch: Epoch,
    /// The last line of its life that was known when it began.
    pub(crate) after: u64,
    /// A line of its life before that: nothing that was kept earlier is of whoever was primary in between.
    pub(crate) settled: u64,
}

impl Stretch {
    /// What was read up to here was read in this stretch; where it begins, that was the one before.
    pub(crate) const fn has_read(self, seq: u64) -> bool {
        self.after < seq || (self.after == 0 && seq == 0)
    }
}

/// Where a reader stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPlace {
    pub(crate) at: Cursor,
    /// The stretch whose beginning it is, if it is not the end of the one before.
    pub(crate) entered: Option<u64>,
}

impl From<Cursor> for LogPlace {
    fn from(at: Cursor) -> Self {
        Self { at, entered: None }
    }
}

/// One life, as long as its node was primary at a stretch: items without holes, from the first held to `last`.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) facts: LifeFacts,
    pub(crate) stretch: Stretch,
    pub(crate) items: VecDeque<Item>,
    pub(crate) last: u64,
    /// Levels of lines that made room, the last of them that of the line before the first held.
    lost: VecDeque<u8>,
}

impl Life {
    /// Nothing of it yet.
    pub(crate) const fn new(facts: LifeFacts, stretch: Stretch) -> Self {
        Self { facts, stretch, items: VecDeque::new(), last: stretch.after, lost: VecDeque::new() }
    }

    /// The number of the first item held; that of the next line, if none is.
    pub(crate) fn first(&self) -> u64 {
        self.items.front().map_or(self.last + 1, Item::first)
    }

    /// The number from which on lines are held, `next` or a later one: past what made room, and past gaps that readers get.
    pub(crate) fn held_from(&self, next: u64, upto: u64) -> u64 {
        let mut from = next.max(self.first());
        let start = self.items.partition_point(|item| item.last() < from);
        for item in self.items.range(start..) {
            match item {
                Item::Gap(gap) if gap.from <= upto => from = gap.to + 1,
                _ => break,
            }
        }
        from
    }

    /// Takes what follows its last line.
    pub(crate) fn push(&mut self, item: Item) {
        self.last = item.last();
        self.items.push_back(item);
    }

    /// Remembers the level of what made room.
    pub(crate) fn forget(&mut self, item: &Item) {
        match item {
            Item::Line((_, entry, _)) => self.lost.push_back(entry.level.index()),
            // which of its lines had which level is not known: what came before can't be told by level any more
            Item::Gap(gap) => {
                self.lost.clear();
                let known: u64 = gap.by_level.iter().sum();
                if known == gap.to - gap.from + 1 && known <= REMEMBERED as u64 {
                    for (level, count) in (0..).zip(gap.by_level) {
                        self.lost.extend((0..count).map(|_| level | IN_SUM));
                    }
                }
            }
        }
        let over = self.lost.len().saturating_sub(REMEMBERED);
        self.lost.drain(..over);
    }

    /// The levels of the lines `from..=to` that are not held, as far as it is known of each which one it had.
    pub(crate) fn lost_levels(&self, from: u64, to: u64) -> Counts {
        let mut counts = Counts::default();
        let known = self.lost.iter().rev().zip((1..self.first()).rev());
        for (level, _) in known.skip_while(|(_, seq)| *seq > to).take_while(|(_, seq)| *seq >= from) {
            if let Some(count) = counts.get_mut(usize::from(*level)) {
                *count += 1;
            }
        }
        let start = self.items.partition_point(|item| item.last() < from);
        for item in self.items.range(start..).take_while(|item| item.first() <= to) {
            if let Item::Gap(gap) = item {
                add(&mut counts, gap.part(from, to).by_level);
            }
        }
        counts
    }

    /// What is not held after this place, to begin with.
    pub(crate) fn lost_since(&self, seen: u64) -> LogGap {
        let (from, to) = (seen + 1, self.first() - 1);
        let mut by_level = Counts::default();
        for level in self.lost.iter().rev().take(usize::try_from(to - seen).unwrap_or(usize::MAX)) {
            by_level[usize::from(*level & !IN_SUM)] += 1;
        }
        LogGap { from, to, by_level }
    }
}

/// Two gaps with nothing between them as one.
pub(crate) fn join(before: Option<LogGap>, gap: LogGap) -> LogGap {
    let Some(before) = before else {
        return gap;
    };
    let mut by_level = before.by_level;
    add(&mut by_level, gap.by_level);
    LogGap { from: before.from, to: gap.to, by_level }
}

/// Adds counts to a sum, level by level.
pub(crate) fn add(sum: &mut Counts, counts: Counts) {
    for (sum, count) in sum.iter_mut().zip(counts) {
        *sum += count;
    }
}
