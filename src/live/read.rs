//! Lines of one stretch of a life as readers get them: what follows a place, or the newest.

use crate::base::id::{Epoch, NodeId};
use crate::base::ring::Counts;
use crate::live::held::{Item, Life, NumberedLine, Stretch, add, join};
use crate::live::life::LifeFacts;
use crate::model::log_entry::{LogEntry, LogGap};

/// One call looks at so many lines at most, whether they match or not, so that nobody else waits long for the ring.
const LOOKED_AT: usize = 8192;

/// What was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Read {
    pub(crate) life: Option<LifeFacts>,
    pub(crate) gap: Option<LogGap>,
    pub(crate) lines: Vec<NumberedLine>,
    pub(crate) next: u64,
    pub(crate) hidden: Counts,
    pub(crate) more: bool,
}

/// Lines read from the ring.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// Of which node.
    pub node: Option<NodeId>,
    /// Of which life of it.
    pub epoch: Option<Epoch>,
    /// What the ring no longer holds, before the lines.
    pub gap: Option<LogGap>,
    /// The lines that match, each with its number and its JSON array (encoded once, shared by all viewers).
    pub lines: Vec<NumberedLine>,
    /// The number up to which the ring was read: go on from there, in the life `epoch`.
    pub next: u64,
    /// How many did not match, by level.
    pub hidden: [u64; 5],
    /// Whether there is more to read at once.
    pub more: bool,
}

impl From<Read> for Lines {
    fn from(read: Read) -> Self {
        Self {
            node: read.life.as_ref().map(|life| life.node.clone()),
            epoch: read.life.map(|life| life.epoch),
            gap: read.gap,
            lines: read.lines,
            next: read.next,
            hidden: read.hidden,
            more: read.more,
        }
    }
}

/// Lines without holes between them, the newest that are wanted of a stretch or of what lies before a gap in it.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) stretch: Stretch,
    pub(crate) read: Read,
    /// What is missing before these lines, back to those before, or to where the stretch began.
    pub(crate) lost: Option<LogGap>,
    /// Whether nothing before it is of its stretch but what is missing.
    pub(crate) begins: bool,
}

impl Life {
    /// What follows `seen`, at most `most` lines that match, up to `upto`.
    pub(crate) fn read(&self, seen: u64, upto: u64, most: usize, matches: impl Fn(&LogEntry) -> bool) -> Read {
        let mut read = Read { next: seen, ..Read::of(self) };
        if seen < self.first() - 1 && self.first() - 1 <= upto {
            read.gap = Some(self.lost_since(seen));
            read.next = self.first() - 1;
        }
        let start = self.items.partition_point(|item| item.last() <= read.next);
        for (looked, item) in self.items.range(start..).enumerate() {
            if item.first() > upto {
                break;
            }
            if read.lines.len() >= most || looked >= LOOKED_AT {
                read.more = true;
                break;
            }
            match item {
                Item::Line(numbered) => {
                    read.next = numbered.0;
                    if matches(&numbered.1) {
                        read.lines.push(numbered.clone());
                    } else {
                        read.hidden[usize::from(numbered.1.level.index())] += 1;
                    }
                }
                Item::Gap(gap) => {
                    let lines_between = read.gap.map_or(seen, |before| before.to) != read.next;
                    if lines_between {
                        read.more = true;
                        break;
                    }
                    read.gap = Some(join(read.gap, gap.part(read.next + 1, gap.to)));
                    read.next = gap.to;
                }
            }
        }
        read
    }

    /// The newest `most` lines up to `upto` that match, back to the next gap.
    pub(crate) fn newest(&self, upto: u64, most: usize, matches: impl Fn(&LogEntry) -> bool) -> Read {
        let mut read = Read { next: upto, ..Read::of(self) };
        let mut hidden = Counts::default();
        let end = self.items.partition_point(|item| item.first() <= upto);
        for item in self.items.range(..end).rev() {
            match item {
                Item::Line(_) if read.lines.len() >= most => break,
                Item::Line(numbered) if matches(&numbered.1) => {
                    read.lines.push(numbered.clone());
                    add(&mut read.hidden, std::mem::take(&mut hidden));
                }
                Item::Line(numbered) => hidden[usize::from(numbered.1.level.index())] += 1,
                Item::Gap(gap) => {
                    if read.lines.len() < most {
                        read.gap = Some(*gap);
                    }
                    break;
                }
            }
        }
        if read.lines.len() < most {
            add(&mut read.hidden, hidden);
        }
        read.lines.reverse();
        read
    }

    /// The same with what lies before gaps, newest first, in so many parts at most.
    pub(crate) fn newest_parts(
        &self,
        mut upto: u64,
        most: usize,
        parts: usize,
        matches: impl Fn(&LogEntry) -> bool,
    ) -> Vec<Part> {
        let mut missing = most;
        let mut found = Vec::new();
        for left in (0..parts).rev() {
            let read = self.newest(upto, missing, &matches);
            missing -= read.lines.len();
            let (gap, after) = (read.gap, self.stretch.after);
            let first = gap.map_or(self.first(), |gap| gap.from);
            // further back than so many parts the kept rows may tell all of it
            let begins = first <= self.first() || left == 0;
            let before = (missing > 0 && begins && first - 1 > after).then(|| {
                let all = LogGap { from: after + 1, to: first - 1, by_level: Counts::default() };
                if first > self.first() { all } else { self.lost_since(after) }
            });
            let lost = gap.map(|gap| join(before, gap)).or(before);
            found.push(Part { stretch: self.stretch, read, lost, begins });
            match gap {
                Some(gap) if missing > 0 && !begins => upto = gap.from - 1,
                _ => break,
            }
        }
        found
    }
}

impl Read {
    /// Nothing yet of this life.
    fn of(life: &Life) -> Self {
        Self { life: Some(life.facts.clone()), ..Self::default() }
    }
}
