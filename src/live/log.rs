//! The log ring as this web node mirrors it: the same lives and numbers, each line encoded once, losses kept as gaps.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::id::{Cursor, Epoch};
use crate::base::ring::Counts;
use crate::live::held::{Item, Life, NumberedLine, Stretch, add, join};
use crate::live::life::LifeFacts;
use crate::model::log_entry::{LogEntry, LogGap};
use crate::protocol::LogBatch;

/// Lines of so many stretches of service nodes' lives are held, the oldest make room.
const STRETCHES: usize = 8;

/// Of so many stretches that made room it is remembered where they stood.
const REMEMBERED: usize = 256;

/// One call looks at so many lines at most, whether they match or not, so that nobody else waits long for the ring.
const LOOKED_AT: usize = 8192;

/// What was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Read {
    pub(crate) life: Option<LifeFacts>,
    pub(crate) gap: Option<LogGap>,
    pub(crate) lines: Vec<NumberedLine>,
    /// The number of the first line or gap held of the life: what is older made room.
    pub(crate) first: u64,
    pub(crate) next: u64,
    pub(crate) hidden: Counts,
    pub(crate) more: bool,
}

/// A place in a former stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Back {
    pub(crate) stretch: Stretch,
    /// After this line of its life.
    pub(crate) after: u64,
    /// So many wanted lines are not held.
    pub(crate) missing: usize,
}

/// How a place lies to what is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// What follows it is held, or comes next.
    Held,
    /// Its life is held, but only from this number on: what lies between made room, or never came here.
    Older(u64),
    /// Everything held up to the next change of primary was read. What the service node wrote last while nobody watched never
    /// came here: only kept rows tell.
    Over,
    /// Nothing of its life is held, or not of that stretch of it.
    Unknown,
}

/// The ring. Bounded in lines and bytes over all lives together; the newest line always stays.
#[derive(Debug)]
pub(crate) struct Log {
    /// One after the other, as they were primary; the same life more than once, if others were in between.
    lives: VecDeque<Life>,
    /// Those of which nothing is held any more, and where they ended.
    gone: VecDeque<(Stretch, u64)>,
    /// So many stretches have begun.
    begun: u64,
    lines: usize,
    bytes: usize,
    most_lines: usize,
    most_bytes: usize,
    /// Readers get lines up to this number of the newest life.
    published: u64,
}

impl Log {
    pub(crate) fn new(most_lines: usize, most_bytes: usize) -> Self {
        Self {
            lives: VecDeque::new(),
            gone: VecDeque::new(),
            begun: 0,
            lines: 0,
            bytes: 0,
            most_lines: most_lines.max(1),
            most_bytes,
            published: 0,
        }
    }

    pub(crate) fn resize(&mut self, most_lines: usize, most_bytes: usize) {
        (self.most_lines, self.most_bytes) = (most_lines.max(1), most_bytes);
        self.shrink();
    }

    /// The life that goes on, and the number of the last line known in it.
    pub(crate) fn cursor(&self) -> Option<Cursor> {
        self.lives.back().map(|life| Cursor { epoch: life.facts.epoch, seq: life.last })
    }

    /// Lines from here on are of this life. False if it goes on already. One that was left for another service node's goes on
    /// where it was left, in a stretch of its own: who reads what it wrote before reads the other's lines in between.
    pub(crate) fn begin(&mut self, facts: &LifeFacts) -> bool {
        if let Some(life) = self.lives.back_mut().filter(|life| life.facts.epoch == facts.epoch) {
            life.facts = facts.clone();
            return false;
        }
        if self.lives.len() == STRETCHES {
            self.drop_oldest();
        }
        let known = self.stretches().rev().find(|(stretch, _)| stretch.epoch == facts.epoch);
        let after = known.map_or(0, |(_, last)| last);
        self.begun += 1;
        let stretch = Stretch { number: self.begun, epoch: facts.epoch, after };
        self.lives.push_back(Life::new(facts.clone(), stretch));
        self.published = after;
        true
    }

    /// All that are known, oldest first, and where each ends.
    fn stretches(&self) -> impl DoubleEndedIterator<Item = (Stretch, u64)> {
        self.gone.iter().copied().chain(self.lives.iter().map(|life| (life.stretch, life.last)))
    }

    /// In which stretch a reader stands; `entered`, if it came to the beginning of one and read nothing of it yet.
    pub(crate) fn stretch_of(&self, at: Cursor, entered: Option<u64>) -> Option<Stretch> {
        let own = || self.stretches().filter(|(stretch, _)| stretch.epoch == at.epoch);
        if let Some(number) = entered {
            return own().map(|(stretch, _)| stretch).find(|stretch| stretch.number == number);
        }
        let mut read = own().filter(|(stretch, _)| stretch.has_read(at.seq));
        let first = read.find(|(_, last)| at.seq <= *last);
        first.or_else(|| own().rfind(|(stretch, _)| stretch.has_read(at.seq))).map(|(stretch, _)| stretch)
    }

    /// The end of the stretch before this one.
    pub(crate) fn end_before(&self, number: u64) -> Option<Cursor> {
        let (stretch, last) = self.stretches().rfind(|(stretch, _)| stretch.number < number)?;
        Some(Cursor { epoch: stretch.epoch, seq: last })
    }

    /// Takes a batch of the life that goes on. What is known already is passed over; numbers nobody speaks of become a gap.
    /// False if it is of another life.
    pub(crate) fn append(&mut self, batch: LogBatch) -> bool {
        let Some(life) = self.lives.back_mut().filter(|life| life.facts.epoch == batch.epoch) else {
            return false;
        };
        let before = life.items.len();
        if let Some(gap) = batch.gap {
            life.lose(gap);
        }
        if batch.first > life.last + 1 && !batch.entries.is_empty() {
            life.lose(LogGap { from: life.last + 1, to: batch.first - 1, by_level: Counts::default() });
        }
        for (seq, entry) in (batch.first..).zip(batch.entries) {
            if seq > life.last {
                let json = encode(seq, &entry);
                life.items.push_back(Item::Line((seq, Arc::new(entry), json)));
                life.last = seq;
            }
        }
        for item in life.items.range(before..) {
            self.lines += usize::from(matches!(item, Item::Line(_)));
            self.bytes += item.weight();
        }
        self.shrink();
        true
    }

    /// Lets readers have everything; whether there is more for them than before.
    pub(crate) fn publish(&mut self) -> bool {
        let last = self.lives.back().map_or(0, |life| life.last);
        let more = last != self.published;
        self.published = last;
        more
    }

    /// How a place lies to what is held; `entered` as for [`Log::stretch_of`].
    pub(crate) fn reach(&self, at: Cursor, entered: Option<u64>) -> Reach {
        let own = self.stretch_of(at, entered);
        let Some(life) = own.and_then(|own| self.lives.iter().find(|life| life.stretch == own)) else {
            return Reach::Unknown;
        };
        let next = at.seq.saturating_add(1);
        match life.held_from(next, self.upto(life)) {
            held if held > next => Reach::Older(held),
            _ if at.seq >= life.last && !self.is_newest(life) => Reach::Over,
            _ => Reach::Held,
        }
    }

    /// The levels of lines that made room or never came here, as far as it is known of each which one it had.
    pub(crate) fn lost_levels(&self, epoch: Epoch, from: u64, to: u64) -> Counts {
        let mut counts = Counts::default();
        for life in self.lives.iter().filter(|life| life.facts.epoch == epoch) {
            let (from, to) = (from.max(life.stretch.after + 1), to.min(life.last));
            if from <= to {
                add(&mut counts, life.lost_levels(from, to));
            }
        }
        counts
    }

    /// Every stretch that is held, oldest first, and of which life it is.
    pub(crate) fn held(&self) -> impl Iterator<Item = (Stretch, &LifeFacts)> {
        self.lives.iter().map(|life| (life.stretch, &life.facts))
    }

    /// Every stretch that is held after this one.
    pub(crate) fn held_after(&self, number: u64) -> Vec<(Stretch, LifeFacts)> {
        let later = self.held().filter(|(stretch, _)| stretch.number > number);
        later.map(|(stretch, life)| (stretch, life.clone())).collect()
    }

    /// Of which life a stretch is, if it is held.
    pub(crate) fn life_of(&self, own: Stretch) -> Option<LifeFacts> {
        self.held().find(|(stretch, _)| *stretch == own).map(|(_, life)| life.clone())
    }

    /// The newest life that is held.
    pub(crate) fn current(&self) -> Option<&LifeFacts> {
        self.lives.back().map(|life| &life.facts)
    }

    /// What follows `since` in its life, at most `most` lines that match; without a place the newest `most` lines that match.
    /// Nothing, but that there is more, if the life is not held (any more): how to leave it [`Log::reach`] says.
    pub(crate) fn read(&self, since: Option<Cursor>, most: usize, matches: impl Fn(&LogEntry) -> bool) -> Read {
        let Some(at) = since else {
            return self.newest(most, matches);
        };
        // whoever stands where one stretch ends and the next begins was led to the next
        let holds = |life: &&Life| life.facts.epoch == at.epoch && life.stretch.after <= at.seq;
        match self.lives.iter().rfind(holds) {
            Some(life) => self.read_life(life, at.seq, most, matches),
            None => Read { next: at.seq, more: true, ..Read::default() },
        }
    }

    /// Where the newest `most` lines that match begin, or all that is held if they are fewer. None if that is in the newest stretch.
    pub(crate) fn back(&self, most: usize, matches: impl Fn(&LogEntry) -> bool) -> Option<Back> {
        let mut missing = most;
        for life in self.lives.iter().rev() {
            let end = life.items.partition_point(|item| item.first() <= self.upto(life));
            for item in life.items.range(..end).rev() {
                if matches!(item, Item::Line((_, entry, _)) if matches(entry)) {
                    missing = missing.saturating_sub(1);
                }
                if missing == 0 {
                    let back = Back { stretch: life.stretch, after: item.first() - 1, missing };
                    return (!self.is_newest(life)).then_some(back);
                }
            }
        }
        let oldest = self.lives.front().filter(|life| !self.is_newest(life))?;
        Some(Back { stretch: oldest.stretch, after: oldest.first() - 1, missing })
    }

    /// From which line on each stretch is held, oldest first.
    pub(crate) fn held_from(&self) -> Vec<Cursor> {
        self.lives.iter().map(|life| Cursor { epoch: life.facts.epoch, seq: life.first() }).collect()
    }

    fn upto(&self, life: &Life) -> u64 {
        if self.is_newest(life) { self.published } else { life.last }
    }

    fn read_life(&self, life: &Life, seen: u64, most: usize, matches: impl Fn(&LogEntry) -> bool) -> Read {
        let mut read = Read { next: seen, ..Read::of(life) };
        let upto = self.upto(life);
        if seen < life.first() - 1 && life.first() - 1 <= upto {
            read.gap = Some(life.lost_since(seen));
            read.next = life.first() - 1;
        }
        let start = life.items.partition_point(|item| item.last() <= read.next);
        for (looked, item) in life.items.range(start..).enumerate() {
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
        read.more |= !self.is_newest(life);
        read
    }

    fn is_newest(&self, life: &Life) -> bool {
        self.lives.back().is_some_and(|back| back.stretch == life.stretch)
    }

    fn newest(&self, most: usize, matches: impl Fn(&LogEntry) -> bool) -> Read {
        let Some(life) = self.lives.back() else {
            return Read::default();
        };
        let mut read = Read { next: self.published, ..Read::of(life) };
        let mut hidden = Counts::default();
        let end = life.items.partition_point(|item| item.first() <= self.published);
        for item in life.items.range(..end).rev() {
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

    fn shrink(&mut self) {
        while self.lines > self.most_lines || (self.bytes > self.most_bytes && self.lines > 1) {
            let last = self.lives.len() == 1;
            let Some(life) = self.lives.front_mut() else {
                return;
            };
            match life.items.pop_front() {
                Some(item) => {
                    self.bytes -= item.weight();
                    self.lines -= usize::from(matches!(item, Item::Line(_)));
                    life.forget(&item);
                }
                None if last => return,
                None => self.drop_oldest(),
            }
        }
    }

    fn drop_oldest(&mut self) {
        let Some(life) = self.lives.pop_front() else { return };
        for item in &life.items {
            self.lines -= usize::from(matches!(item, Item::Line(_)));
            self.bytes -= item.weight();
        }
        if self.gone.len() == REMEMBERED {
            self.gone.pop_front();
        }
        self.gone.push_back((life.stretch, life.last));
    }
}

impl Read {
    /// Nothing yet of this life.
    fn of(life: &Life) -> Self {
        Self { life: Some(life.facts.clone()), first: life.first(), ..Self::default() }
    }
}

/// A line as browsers and scripts get it: `[seq, time in ms, level 0–4, source, execution, stream, text]`.
pub fn encode(seq: u64, entry: &LogEntry) -> Bytes {
    let row =
        (seq, entry.time.as_millis(), entry.level.index(), &entry.source, entry.execution, entry.stream, &entry.text);
    serde_json::to_vec(&row).expect("numbers and texts are JSON").into()
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::clock::Timestamp;
    use crate::base::id::NodeId;
    use crate::model::log_entry::{Level, Stream};

    pub(crate) fn life(number: u64) -> LifeFacts {
        LifeFacts {
            epoch: Epoch::from_u64(number),
            node: NodeId::new("service-1"),
            version: format!("0.{number}.0"),
            started_at: Timestamp::from_micros(1),
        }
    }

    pub(crate) fn entry(level: Level, text: &str) -> LogEntry {
        LogEntry {
            time: Timestamp::from_micros(1_795_223_419_123_456),
            level,
            source: "s".into(),
            execution: None,
            stream: None,
            text: text.into(),
        }
    }

    /// Every fifth line is an error, the others tell something.
    fn level_of(seq: u64) -> Level {
        if seq.is_multiple_of(5) { Level::Error } else { Level::Info }
    }

    fn batch(epoch: u64, gap: Option<LogGap>, seqs: std::ops::RangeInclusive<u64>) -> LogBatch {
        LogBatch {
            epoch: Epoch::from_u64(epoch),
            gap,
            first: *seqs.start(),
            entries: seqs.map(|seq| entry(level_of(seq), &seq.to_string())).collect(),
        }
    }

    #[test]
    fn a_life_that_was_left_goes_on_where_it_was_left() {
        let mut log = log(100);
        log.append(batch(1, None, 1..=3));
        log.publish();
        assert!(log.begin(&life(2)));
        log.append(batch(2, None, 1..=2));
        // it tells again what it has, and what came since
        assert!(log.begin(&life(1)));
        log.append(batch(1, None, 1..=5));
        log.publish();
        // who was behind comes to the other's lines before those that it wrote since
        assert_eq!(seqs(&log.read(Some(at(1, 1)), 100, all)), [2, 3]);
        assert_eq!(
            [at(1, 1), at(1, 3), at(2, 2)].map(|at| log.reach(at, None)),
            [Reach::Held, Reach::Over, Reach::Over]
        );
        let again = log.held_after(2);
        let (stretch, _) = &again[0];
        assert_eq!((again.len(), stretch.after, log.end_before(stretch.number)), (1, 3, Some(at(2, 2))));
        assert_eq!(log.reach(at(1, 3), Some(stretch.number)), Reach::Held);
        assert_eq!(seqs(&log.read(Some(at(1, 3)), 100, all)), [4, 5]);
        assert_eq!(log.reach(at(1, 5), None), Reach::Held);
    }

    #[test]
    fn the_newest_lines_are_looked_for_in_former_lives_too() {
        let mut log = log(100);
        log.append(batch(1, None, 1..=10));
        log.begin(&life(2));
        log.append(batch(2, None, 1..=3));
        log.publish();
        let back = |most, matches: fn(&LogEntry) -> bool| {
            log.back(most, matches).map(|back| (back.stretch.number, back.after, back.missing))
        };
        assert_eq!(back(3, all), None, "the newest life has them");
        assert_eq!(back(5, all), Some((1, 8, 0)));
        assert_eq!(back(20, all), Some((1, 0, 7)));
        assert_eq!(back(1, |entry| entry.level == Level::Error), Some((1, 9, 0)));
        assert_eq!(back(20, |entry| entry.level == Level::Error), Some((1, 0, 18)));
        assert_eq!(log.held_from(), [at(1, 1), at(2, 1)]);
    }

    #[test]
    fn a_life_of_which_nothing_is_held_goes_on_where_it_was_left_too() {
        let mut log = log(3);
        log.append(batch(1, None, 1..=3));
        log.begin(&life(2));
        log.append(batch(2, None, 1..=5));
        assert!(log.held_after(1).len() == 1 && log.reach(at(1, 3), None) == Reach::Unknown);
        log.begin(&life(1));
        log.append(batch(1, None, 1..=4));
        log.publish();
        assert_eq!(seqs(&log.read(None, 100, all)), [4]);
        let own = log.stretch_of(at(1, 2), None).unwrap();
        assert_eq!((own.number, log.held_after(own.number).len()), (1, 2));
    }

    fn log(most_lines: usize) -> Log {
        let mut log = Log::new(most_lines, usize::MAX);
        log.begin(&life(1));
        log
    }

    fn at(epoch: u64, seq: u64) -> Cursor {
        Cursor { epoch: Epoch::from_u64(epoch), seq }
    }

    fn seqs(read: &Read) -> Vec<u64> {
        read.lines.iter().map(|(seq, ..)| *seq).collect()
    }

    fn all(_: &LogEntry) -> bool {
        true
    }

    #[test]
    fn a_line_is_encoded_as_browsers_get_it() {
        let mut line = entry(Level::Warn, "94 % \"full\"\u{1b}");
        (line.execution, line.stream) = (Some(crate::base::id::ExecutionId(7)), Some(Stream::Stderr));
        let expected = r#"[9,1795223419123,3,"s",7,"stderr","94 % \"full\"\u001b"]"#;
        assert_eq!(std::str::from_utf8(&encode(9, &line)).unwrap(), expected);
        assert_eq!(
            std::str::from_utf8(&encode(1, &entry(Level::Info, ""))).unwrap(),
            r#"[1,1795223419123,2,"s",null,null,""]"#
        );
    }

    #[test]
    fn what_came_before_is_passed_over_and_what_nobody_speaks_of_is_a_gap() {
        let mut log = log(100);
        assert!(log.append(batch(1, None, 1..=3)));
        assert!(log.append(batch(1, None, 2..=4)), "a repeat");
        assert!(log.append(batch(1, None, 8..=9)), "5 to 7 are missing without a word");
        assert!(!log.append(batch(2, None, 1..=1)), "another life");
        log.publish();
        let read = log.read(Some(at(1, 0)), 100, all);
        assert_eq!((seqs(&read), read.next, read.more), (vec![1, 2, 3, 4], 4, true));
        let read = log.read(Some(at(1, 4)), 100, all);
        assert_eq!(read.gap, Some(LogGap { from: 5, to: 7, by_level: [0; 5] }));
        assert_eq!((seqs(&read), read.next, read.more), (vec![8, 9], 9, false));
    }

    #[test]
    fn the_services_losses_and_our_own_are_one_gap_with_counts() {
        let mut log = log(3);
        log.append(batch(1, Some(LogGap { from: 1, to: 4, by_level: [0, 0, 4, 0, 0] }), 5..=6));
        log.append(batch(1, None, 7..=10));
        log.publish();
        let read = log.read(Some(at(1, 0)), 100, all);
        // lost: 1–4 at the service, 5 (an error), 6 and 7 here
        assert_eq!(read.gap, Some(LogGap { from: 1, to: 7, by_level: [0, 0, 6, 0, 1] }));
        assert_eq!(seqs(&read), [8, 9, 10]);
        let read = log.read(Some(at(1, 6)), 100, all);
        assert_eq!(read.gap, Some(LogGap { from: 7, to: 7, by_level: [0, 0, 1, 0, 0] }));
        assert_eq!(log.reach(at(1, 6), None), Reach::Older(8));
        assert_eq!(log.reach(at(1, 7), None), Reach::Held);
        assert_eq!(log.reach(at(2, 7), None), Reach::Unknown);
    }

    #[test]
    fn without_a_place_the_newest_that_match_are_read() {
        let mut log = log(100);
        log.append(batch(1, None, 1..=20));
        log.publish();
        let errors = |entry: &LogEntry| entry.level == Level::Error;
        let read = log.read(None, 2, errors);
        assert_eq!((seqs(&read), read.next), (vec![15, 20], 20));
        assert_eq!(read.hidden, [0, 0, 4, 0, 0], "16 to 19");
        let read = log.read(Some(at(9, 4)), 3, all);
        assert_eq!(
            (seqs(&read), read.next, read.more),
            (vec![], 4, true),
            "nobody jumps out of a life that is not held"
        );
        assert!(read.life.is_none());
        let read = log.read(None, 9, errors);
        assert_eq!((seqs(&read), read.hidden), (vec![5, 10, 15, 20], [0, 0, 16, 0, 0]));
    }

    #[test]
    fn what_is_not_published_is_not_read() {
        let mut log = log(100);
        log.append(batch(1, None, 1..=2));
        assert!(log.publish());
        log.append(batch(1, None, 3..=4));
        assert_eq!(seqs(&log.read(Some(at(1, 0)), 9, all)), [1, 2]);
        assert_eq!(seqs(&log.read(None, 9, all)), [1, 2]);
        assert!(log.publish() && !log.publish());
        assert_eq!(seqs(&log.read(Some(at(1, 2)), 9, all)), [3, 4]);
    }

    #[test]
    fn a_reader_at_the_end_of_a_life_is_told_that_it_is_over() {
        let mut log = log(100);
        log.append(batch(1, None, 1..=3));
        assert_eq!(log.reach(at(1, 3), None), Reach::Held, "it may go on");
        log.begin(&life(2));
        log.append(batch(2, None, 1..=1));
        log.publish();
        let read = log.read(Some(at(1, 2)), 9, all);
        assert_eq!((seqs(&read), read.more), (vec![3], true));
        assert_eq!((log.reach(at(1, 2), None), log.reach(at(1, 3), None)), (Reach::Held, Reach::Over));
        assert_eq!(seqs(&log.read(Some(at(1, 3)), 9, all)), [0; 0], "nobody is led on without a word");
        assert!(!log.begin(&life(2)), "it goes on");
    }

    #[test]
    fn levels_of_lost_lines_are_known_one_by_one_or_not_at_all() {
        let mut log = log(3);
        log.append(batch(1, Some(LogGap { from: 1, to: 4, by_level: [0, 0, 3, 0, 1] }), 5..=13));
        let epoch = Epoch::from_u64(1);
        assert_eq!(log.read(None, 1, all).first, 11);
        assert_eq!(log.lost_levels(epoch, 5, 10), [0, 0, 4, 0, 2]);
        assert_eq!(log.lost_levels(epoch, 6, 9), [0, 0, 4, 0, 0]);
        assert_eq!(log.lost_levels(epoch, 2, 5), [0, 0, 0, 0, 1], "which of the first four was the error nobody knows");
        assert_eq!(log.lost_levels(Epoch::from_u64(2), 1, 9), [0; 5]);
    }

    #[test]
    fn what_lies_in_a_gap_of_the_service_node_is_older_than_what_is_held() {
        let mut log = log(3);
        log.append(batch(1, Some(LogGap { from: 1, to: 40, by_level: [0, 0, 40, 0, 0] }), 41..=43));
        assert_eq!(log.reach(at(1, 0), None), Reach::Held, "not before readers get it");
        log.publish();
        assert_eq!([0, 7, 39, 40, 43].map(|seq| log.reach(at(1, seq), None)), {
            let older = Reach::Older(41);
            [older, older, older, Reach::Held, Reach::Held]
        });
        assert_eq!(log.lost_levels(Epoch::from_u64(1), 31, 42), [0, 0, 10, 0, 0]);
        // then 41 to 43 make room, and a gap stands first in the ring
        log.append(batch(1, Some(LogGap { from: 44, to: 50, by_level: [0, 0, 7, 0, 0] }), 51..=53));
        log.publish();
        assert_eq!(log.reach(at(1, 42), None), Reach::Older(51), "what made room and what never came are one");
        assert_eq!(log.reach(at(1, 50), None), Reach::Held);
        // lines up to the gap are read first
        log.append(batch(1, Some(LogGap { from: 54, to: 60, by_level: [0; 5] }), 61..=61));
        log.publish();
        assert_eq!([52, 53, 60].map(|seq| log.reach(at(1, seq), None)), [Reach::Held, Reach::Older(61), Reach::Held]);
        log.begin(&life(2));
        assert_eq!((log.reach(at(1, 61), None), log.reach(at(1, u64::MAX), None)), (Reach::Over, Reach::Over));
    }

    #[test]
    fn bytes_are_a_bound_too_but_the_newest_line_stays() {
        let mut log = Log::new(1000, 10_000);
        log.begin(&life(1));
        for seq in 1..=50 {
            let entries = vec![entry(Level::Info, &"x".repeat(1000))];
            log.append(LogBatch { epoch: Epoch::from_u64(1), gap: None, first: seq, entries });
            assert!(log.bytes <= 10_000, "{} bytes", log.bytes);
        }
        log.append(LogBatch {
            epoch: Epoch::from_u64(1),
            gap: None,
            first: 51,
            entries: vec![entry(Level::Info, &"x".repeat(16_000))],
        });
        log.publish();
        assert_eq!(seqs(&log.read(Some(at(1, 0)), 9, all)), [51]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64),
        Send(u64),
        Reconnect,
        SendAgain(u64),
        Restart,
        Publish,
        Read(usize),
        Resize(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1..30_u64).prop_map(Step::Write),
            6 => (1..12_u64).prop_map(Step::Send),
            1 => Just(Step::Reconnect),
            1 => (1..9_u64).prop_map(Step::SendAgain),
            1 => Just(Step::Restart),
            4 => Just(Step::Publish),
            4 => (0..20_usize).prop_map(Step::Read),
            1 => (1..40_usize).prop_map(Step::Resize),
        ]
    }

    /// A service node as far as its log goes: a ring of 25 lines, and how far this link has come.
    struct Service {
        epoch: u64,
        last: u64,
        sent: u64,
    }

    impl Service {
        fn send(&mut self, most: u64) -> LogBatch {
            let first_held = self.last.saturating_sub(24).max(1);
            let gap = (self.sent + 1 < first_held).then(|| LogGap {
                from: self.sent + 1,
                to: first_held - 1,
                by_level: [0; 5],
            });
            let first = first_held.max(self.sent + 1);
            let to = self.last.min(first + most - 1);
            self.sent = to.max(first - 1);
            LogBatch {
                epoch: Epoch::from_u64(self.epoch),
                gap,
                first,
                entries: (first..=to).map(|seq| entry(level_of(seq), "x")).collect(),
            }
        }
    }

    /// One viewer that keeps account: every number of a life is a line, hidden, or in a gap, exactly once.
    struct Viewer {
        epoch: u64,
        seen: u64,
    }

    impl Viewer {
        fn take(&mut self, read: &Read) {
            let Some(life) = &read.life else { return };
            assert_eq!(life.epoch, Epoch::from_u64(self.epoch), "no life begins without a word");
            let mut place = self.seen;
            if let Some(gap) = read.gap {
                assert_eq!(gap.from, place + 1, "a gap begins where the reader stands");
                assert!(gap.to >= gap.from);
                place = gap.to;
            }
            let mut last = place;
            for (seq, ..) in &read.lines {
                assert!(*seq > last, "no line twice: {seq} after {last}");
                last = *seq;
            }
            assert!(last <= read.next);
            let hidden: u64 = read.hidden.iter().sum();
            assert_eq!(read.next - place, hidden + read.lines.len() as u64, "every number is told of");
            self.seen = read.next;
        }
    }

    proptest! {
        #[test]
        fn no_line_is_lost_untold_or_comes_twice(steps in prop::collection::vec(step(), 1..80), errors_only: bool) {
            let wanted = |entry: &LogEntry| !errors_only || entry.level == Level::Error;
            let mut log = log(30);
            let mut service = Service { epoch: 1, last: 0, sent: 0 };
            let mut viewer = Viewer { epoch: 1, seen: 0 };
            for step in steps {
                match step {
                    Step::Write(count) => service.last += count,
                    Step::Send(most) => prop_assert!(log.append(service.send(most))),
                    Step::Reconnect => service.sent = log.cursor().unwrap().seq,
                    Step::SendAgain(back) => {
                        let known = log.cursor().unwrap();
                        service.sent = known.seq.saturating_sub(back);
                    }
                    Step::Restart => {
                        service = Service { epoch: service.epoch + 1, last: 0, sent: 0 };
                        log.begin(&life(service.epoch));
                    }
                    Step::Publish => {
                        log.publish();
                    }
                    Step::Read(most) => viewer.read(&log, most, wanted),
                    Step::Resize(lines) => log.resize(lines, usize::MAX),
                }
            }
            while service.sent < service.last {
                log.append(service.send(5));
            }
            log.publish();
            for _ in 0..2000 {
                viewer.read(&log, 3, wanted);
            }
            prop_assert_eq!((viewer.epoch, viewer.seen), (service.epoch, service.last), "the viewer comes to the end");
        }
    }

    impl Viewer {
        fn read(&mut self, log: &Log, most: usize, wanted: impl Fn(&LogEntry) -> bool) {
            let place = at(self.epoch, self.seen);
            // what a reader does at the end of a life, and when nothing of its life is held any more: it goes over to a later one
            let reach = log.reach(place, None);
            if matches!(reach, Reach::Unknown | Reach::Over) {
                let mut lives = log
                    .held()
                    .map(|(_, life)| life)
                    .skip_while(|life| reach == Reach::Over && life.epoch != place.epoch);
                let next = if reach == Reach::Over { lives.nth(1) } else { lives.next() };
                let epoch = next.unwrap().epoch.to_string();
                (self.epoch, self.seen) = (u64::from_str_radix(&epoch, 16).unwrap(), 0);
                return;
            }
            self.take(&log.read(Some(place), most, wanted));
        }
    }
}
