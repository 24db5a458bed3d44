//! The log ring as this web node mirrors it: the same lives and numbers, each line encoded once, losses kept as gaps.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::id::{Cursor, Epoch};
use crate::base::ring::Counts;
use crate::live::borders::{Border, Borders};
use crate::live::held::{Item, Life, LogPlace, Stretch, add};
use crate::live::life::LifeFacts;
use crate::live::read::{Part, Read};
use crate::model::log_entry::{LogEntry, LogGap};
use crate::protocol::LogBatch;
use crate::protocol::state::Absence;

/// Lines of so many stretches of service nodes' lives are held, the oldest make room.
const STRETCHES: usize = 16;

/// Of so many stretches that made room it is remembered where they stood.
const REMEMBERED: usize = 256;

/// The newest lines are looked for in so many parts at most.
const PARTS: usize = 16;

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
    /// At which lines of the life that goes on others begin.
    borders: Borders,
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
            borders: Borders::default(),
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

    /// Lines from here on are of this life, whose node was absent so far. False if it goes on already. One that was left for another
    /// service node's goes on where it was left, in a stretch of its own: who reads what it wrote before reads the other's lines in
    /// between. What a life that was never heard wrote before the other it wrote as a former primary: the kept rows have it.
    pub(crate) fn begin(&mut self, facts: &LifeFacts, absences: &[Absence]) -> bool {
        if let Some(life) = self.lives.back_mut().filter(|life| life.facts.epoch == facts.epoch) {
            life.facts = facts.clone();
            self.borders.heed(absences, life.last);
            return false;
        }
        let known = self.stretches().rev().find(|(stretch, _)| stretch.epoch == facts.epoch).map(|(_, last)| last);
        let (border, borders) = if self.lives.is_empty() {
            (Border::default(), Borders::of_first(absences))
        } else {
            Borders::of_later(absences, known)
        };
        self.borders = borders;
        self.begin_stretch(facts.clone(), border);
        true
    }

    /// The life that goes on was absent so far, as its node says now.
    pub(crate) fn heed(&mut self, epoch: Epoch, absences: &[Absence]) {
        if let Some(life) = self.lives.back().filter(|life| life.facts.epoch == epoch) {
            self.borders.heed(absences, life.last);
        }
    }

    fn begin_stretch(&mut self, facts: LifeFacts, border: Border) {
        if self.lives.len() == STRETCHES {
            self.drop_oldest();
        }
        self.begun += 1;
        let Border { after, settled } = border;
        let stretch = Stretch { number: self.begun, epoch: facts.epoch, after, settled };
        self.lives.push_back(Life::new(facts, stretch));
        self.published = after;
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

    /// Whether no stretch of its life is known before this one.
    pub(crate) fn is_first(&self, own: Stretch) -> bool {
        self.stretches().all(|(stretch, _)| stretch.epoch != own.epoch || stretch.number >= own.number)
    }

    /// The end of the stretch before this one.
    pub(crate) fn end_before(&self, number: u64) -> Option<Cursor> {
        let (stretch, last) = self.stretches().rfind(|(stretch, _)| stretch.number < number)?;
        Some(Cursor { epoch: stretch.epoch, seq: last })
    }

    /// Takes a batch of the life that goes on. What is known already is passed over; numbers nobody speaks of become a gap.
    /// False if it is of another life.
    pub(crate) fn append(&mut self, batch: LogBatch) -> bool {
        if self.current().is_none_or(|life| life.epoch != batch.epoch) {
            return false;
        }
        if let Some(gap) = batch.gap {
            self.lose(gap);
        }
        if !batch.entries.is_empty() {
            self.lose(LogGap { from: self.last() + 1, to: batch.first.saturating_sub(1), by_level: Counts::default() });
        }
        for (seq, entry) in (batch.first..).zip(batch.entries) {
            if seq > self.last() {
                let json = encode(seq, &entry);
                self.push(Item::Line((seq, Arc::new(entry), json)));
            }
        }
        self.shrink();
        true
    }

    /// Notes that these numbers can't be had, as far as they are new; each stretch its own.
    fn lose(&mut self, gap: LogGap) {
        while gap.from <= gap.to && gap.to > self.last() {
            let from = self.last() + 1;
            let to = self.borders.next(self.last()).map_or(gap.to, |border| border.min(gap.to));
            self.push(Item::Gap(LogGap { from, ..gap.part(from, to) }));
        }
    }

    /// Takes the next item of the life that goes on, into a stretch of its own if it is the first after a border.
    fn push(&mut self, item: Item) {
        let crossed = self.borders.cross(item.first());
        if let (Some(border), Some(facts)) = (crossed, self.current().cloned()) {
            self.begin_stretch(facts, border);
        }
        if let Some(life) = self.lives.back_mut() {
            self.lines += usize::from(matches!(item, Item::Line(_)));
            self.bytes += item.weight();
            life.push(item);
        }
    }

    /// The last line that is known of the newest life.
    fn last(&self) -> u64 {
        self.lives.back().map_or(0, |life| life.last)
    }

    /// Lets readers have everything; whether there is more for them than before.
    pub(crate) fn publish(&mut self) -> bool {
        let last = self.last();
        let more = last != self.published;
        self.published = last;
        more
    }

    /// The stretch in which a reader stands, if it is held.
    fn life_at(&self, place: LogPlace) -> Option<&Life> {
        let own = self.stretch_of(place.at, place.entered)?;
        self.lives.iter().find(|life| life.stretch == own)
    }

    /// How a place lies to what is held; `entered` as for [`Log::stretch_of`].
    pub(crate) fn reach(&self, at: Cursor, entered: Option<u64>) -> Reach {
        let Some(life) = self.life_at(LogPlace { at, entered }) else {
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

    /// What follows `since` in its stretch, at most `most` lines that match; without a place the newest `most` lines that match.
    /// Nothing, but that there is more, if the stretch is over, or not held (any more): how to leave it [`Log::reach`] says.
    pub(crate) fn read(&self, since: Option<LogPlace>, most: usize, matches: impl Fn(&LogEntry) -> bool) -> Read {
        let Some(place) = since else {
            return self.lives.back().map_or_else(Read::default, |life| life.newest(self.upto(life), most, matches));
        };
        let seen = place.at.seq;
        match self.life_at(place) {
            Some(life) => {
                let mut read = life.read(seen, self.upto(life), most, matches);
                read.more |= !self.is_newest(life);
                read
            }
            None => Read { next: seen, more: true, ..Read::default() },
        }
    }

    /// The newest `most` lines that match, or all that is held if they are fewer, the newest part first; the newest stretch is there
    /// even if it has none.
    pub(crate) fn newest_parts(&self, most: usize, matches: impl Fn(&LogEntry) -> bool) -> Vec<Part> {
        let mut found = Vec::new();
        let mut missing = most;
        for life in self.lives.iter().rev() {
            let left = PARTS.saturating_sub(found.len());
            let parts = life.newest_parts(self.upto(life), missing, left, &matches);
            missing -= parts.iter().map(|part| part.read.lines.len()).sum::<usize>();
            found.extend(parts);
            if missing == 0 || found.len() >= PARTS {
                break;
            }
        }
        found
    }

    fn upto(&self, life: &Life) -> u64 {
        if self.is_newest(life) { self.published } else { life.last }
    }

    fn is_newest(&self, life: &Life) -> bool {
        self.lives.back().is_some_and(|back| back.stretch == life.stretch)
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
        assert!(log.begin(&life(2), &[]));
        log.append(batch(2, None, 1..=2));
        // it tells again what it has, and what came since
        assert!(log.begin(&life(1), &[]));
        log.append(batch(1, None, 1..=5));
        log.publish();
        // who was behind comes to the other's lines before those that it wrote since
        assert_eq!(seqs(&log.read(Some(at(1, 1).into()), 100, all)), [2, 3]);
        assert_eq!(
            [at(1, 1), at(1, 3), at(2, 2)].map(|at| log.reach(at, None)),
            [Reach::Held, Reach::Over, Reach::Over]
        );
        let again = log.held_after(2);
        let (stretch, _) = &again[0];
        assert_eq!((again.len(), stretch.after, log.end_before(stretch.number)), (1, 3, Some(at(2, 2))));
        assert_eq!(log.reach(at(1, 3), Some(stretch.number)), Reach::Held);
        let entered = LogPlace { at: at(1, 3), entered: Some(stretch.number) };
        assert_eq!(seqs(&log.read(Some(entered), 100, all)), [4, 5]);
        let read = log.read(Some(at(1, 3).into()), 100, all);
        assert_eq!(
            (seqs(&read), read.more),
            (vec![], true),
            "who stands at the end of a stretch was not led to the next"
        );
        assert_eq!(log.reach(at(1, 5), None), Reach::Held);
    }

    type Told = (u64, Vec<u64>, Option<(u64, u64)>);

    /// The newest lines that are wanted, newest part first: the number of its stretch, its lines, and what is lost before them.
    fn parts(log: &Log, most: usize, matches: fn(&LogEntry) -> bool) -> Vec<Told> {
        let parts = log.newest_parts(most, matches).into_iter();
        let lost = |part: &Part| part.lost.map(|lost| (lost.from, lost.to));
        parts.map(|part| (part.stretch.number, seqs(&part.read), lost(&part))).collect()
    }

    #[test]
    fn the_newest_lines_are_looked_for_in_former_lives_too() {
        let mut log = log(100);
        log.append(batch(1, None, 1..=10));
        log.begin(&life(2), &[]);
        log.append(batch(2, None, 1..=3));
        log.publish();
        assert_eq!(parts(&log, 3, all), [(2, vec![1, 2, 3], None)]);
        assert_eq!(parts(&log, 5, all), [(2, vec![1, 2, 3], None), (1, vec![9, 10], None)]);
        assert_eq!(parts(&log, 20, all), [(2, vec![1, 2, 3], None), (1, (1..=10).collect(), None)]);
        let errors = |entry: &LogEntry| entry.level == Level::Error;
        assert_eq!(parts(&log, 1, errors), [(2, vec![], None), (1, vec![10], None)]);
    }

    #[test]
    fn the_newest_lines_are_looked_for_beyond_gaps_too() {
        let mut log = log(6);
        log.append(batch(1, None, 1..=4));
        log.append(batch(1, Some(LogGap { from: 5, to: 9, by_level: [0; 5] }), 10..=11));
        log.append(batch(1, Some(LogGap { from: 12, to: 12, by_level: [0; 5] }), 13..=14));
        log.publish();
        let newest = (1, vec![13, 14], Some((12, 12)));
        assert_eq!(
            parts(&log, 9, all),
            [newest.clone(), (1, vec![10, 11], Some((5, 9))), (1, vec![3, 4], Some((1, 2)))]
        );
        assert_eq!(parts(&log, 3, all), [newest, (1, vec![11], None)]);
    }

    fn away(after: u64, upto: u64) -> Absence {
        Absence { after, upto }
    }

    #[test]
    fn what_a_node_wrote_after_it_was_absent_is_another_stretch() {
        let absences = [away(0, 2), away(5, 7), away(9, 9), away(12, 12)];
        let mut log = Log::new(100, usize::MAX);
        log.begin(&life(1), &absences[..3]);
        // two borders lie within a batch, one of them within what the service node lost
        log.append(batch(1, Some(LogGap { from: 4, to: 6, by_level: [0, 0, 3, 0, 0] }), 7..=11));
        log.publish();
        let after = |log: &Log| log.held().map(|(stretch, _)| stretch.after).collect::<Vec<_>>();
        assert_eq!(after(&log), [0, 5, 9]);
        assert_eq!([at(1, 0), at(1, 5), at(1, 8), at(1, 9), at(1, 10)].map(|at| log.reach(at, None)), {
            [Reach::Older(6), Reach::Over, Reach::Held, Reach::Over, Reach::Held]
        });
        let gap = |from, to, lines| Some(LogGap { from, to, by_level: [0, 0, lines, 0, 0] });
        // of what came before 4, which is a part of the same, nobody spoke
        assert_eq!(log.read(Some(at(1, 3).into()), 9, all).gap, gap(4, 5, 0));
        let entered = LogPlace { at: at(1, 5), entered: Some(2) };
        let second = log.read(Some(entered), 9, all);
        assert_eq!((second.gap, seqs(&second), second.more), (gap(6, 6, 1), vec![7, 8, 9], true));
        // it is told again, with a new one
        assert!(!log.begin(&life(1), &absences));
        log.append(batch(1, None, 12..=14));
        assert_eq!(after(&log), [0, 5, 9, 12]);
        log.heed(Epoch::from_u64(1), &[away(20, 20)]);
        log.heed(Epoch::from_u64(2), &[away(14, 14)]);
        log.append(batch(1, None, 15..=21));
        assert_eq!(after(&log), [0, 5, 9, 12, 20]);
    }

    #[test]
    fn where_another_was_heard_meanwhile_there_is_no_border_more() {
        let absences = [away(0, 2), away(3, 4), away(8, 9)];
        let mut log = Log::new(100, usize::MAX);
        log.begin(&life(1), &absences[..1]);
        log.append(batch(1, None, 1..=3));
        log.begin(&life(2), &[]);
        log.append(batch(2, None, 1..=1));
        log.begin(&life(1), &absences[..2]);
        log.append(batch(1, None, 1..=6));
        // and one that is heard for the first time was primary before
        log.begin(&life(3), &absences);
        log.append(batch(3, None, 1..=12));
        let held: Vec<_> = log.held().map(|(stretch, life)| at_of(life, stretch.after)).collect();
        assert_eq!(held, [at(1, 0), at(2, 0), at(1, 3), at(3, 8)]);
    }

    fn at_of(life: &LifeFacts, seq: u64) -> Cursor {
        Cursor { epoch: life.epoch, seq }
    }

    #[test]
    fn a_life_of_which_nothing_is_held_goes_on_where_it_was_left_too() {
        let mut log = log(3);
        log.append(batch(1, None, 1..=3));
        log.begin(&life(2), &[]);
        log.append(batch(2, None, 1..=5));
        assert!(log.held_after(1).len() == 1 && log.reach(at(1, 3), None) == Reach::Unknown);
        log.begin(&life(1), &[]);
        log.append(batch(1, None, 1..=4));
        log.publish();
        assert_eq!(seqs(&log.read(None, 100, all)), [4]);
        let own = log.stretch_of(at(1, 2), None).unwrap();
        assert_eq!((own.number, log.held_after(own.number).len()), (1, 2));
    }

    fn log(most_lines: usize) -> Log {
        let mut log = Log::new(most_lines, usize::MAX);
        log.begin(&life(1), &[]);
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
        let read = log.read(Some(at(1, 0).into()), 100, all);
        assert_eq!((seqs(&read), read.next, read.more), (vec![1, 2, 3, 4], 4, true));
        let read = log.read(Some(at(1, 4).into()), 100, all);
        assert_eq!(read.gap, Some(LogGap { from: 5, to: 7, by_level: [0; 5] }));
        assert_eq!((seqs(&read), read.next, read.more), (vec![8, 9], 9, false));
    }

    #[test]
    fn the_services_losses_and_our_own_are_one_gap_with_counts() {
        let mut log = log(3);
        log.append(batch(1, Some(LogGap { from: 1, to: 4, by_level: [0, 0, 4, 0, 0] }), 5..=6));
        log.append(batch(1, None, 7..=10));
        log.publish();
        let read = log.read(Some(at(1, 0).into()), 100, all);
        // lost: 1–4 at the service, 5 (an error), 6 and 7 here
        assert_eq!(read.gap, Some(LogGap { from: 1, to: 7, by_level: [0, 0, 6, 0, 1] }));
        assert_eq!(seqs(&read), [8, 9, 10]);
        let read = log.read(Some(at(1, 6).into()), 100, all);
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
        let read = log.read(Some(at(9, 4).into()), 3, all);
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
        assert_eq!(seqs(&log.read(Some(at(1, 0).into()), 9, all)), [1, 2]);
        assert_eq!(seqs(&log.read(None, 9, all)), [1, 2]);
        assert!(log.publish() && !log.publish());
        assert_eq!(seqs(&log.read(Some(at(1, 2).into()), 9, all)), [3, 4]);
    }

    #[test]
    fn a_reader_at_the_end_of_a_life_is_told_that_it_is_over() {
        let mut log = log(100);
        log.append(batch(1, None, 1..=3));
        assert_eq!(log.reach(at(1, 3), None), Reach::Held, "it may go on");
        log.begin(&life(2), &[]);
        log.append(batch(2, None, 1..=1));
        log.publish();
        let read = log.read(Some(at(1, 2).into()), 9, all);
        assert_eq!((seqs(&read), read.more), (vec![3], true));
        assert_eq!((log.reach(at(1, 2), None), log.reach(at(1, 3), None)), (Reach::Held, Reach::Over));
        assert_eq!(seqs(&log.read(Some(at(1, 3).into()), 9, all)), [0; 0], "nobody is led on without a word");
        assert!(!log.begin(&life(2), &[]), "it goes on");
    }

    #[test]
    fn levels_of_lost_lines_are_known_one_by_one_or_not_at_all() {
        let mut log = log(3);
        log.append(batch(1, Some(LogGap { from: 1, to: 4, by_level: [0, 0, 3, 0, 1] }), 5..=13));
        let epoch = Epoch::from_u64(1);
        log.publish();
        assert_eq!(parts(&log, 9, all), [(1, vec![11, 12, 13], Some((1, 10)))]);
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
        log.begin(&life(2), &[]);
        assert_eq!((log.reach(at(1, 61), None), log.reach(at(1, u64::MAX), None)), (Reach::Over, Reach::Over));
    }

    #[test]
    fn bytes_are_a_bound_too_but_the_newest_line_stays() {
        let mut log = Log::new(1000, 10_000);
        log.begin(&life(1), &[]);
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
        assert_eq!(seqs(&log.read(Some(at(1, 0).into()), 9, all)), [51]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64),
        Send(u64),
        Reconnect,
        SendAgain(u64),
        Restart,
        Away(u64),
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
            2 => (0..9_u64).prop_map(Step::Away),
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
        absences: Vec<Absence>,
    }

    impl Service {
        fn start(epoch: u64) -> Self {
            Self { epoch, last: 0, sent: 0, absences: Vec::new() }
        }

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
        entered: Option<u64>,
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
            let mut service = Service::start(1);
            let mut viewer = Viewer { epoch: 1, seen: 0, entered: None };
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
                        service = Service::start(service.epoch + 1);
                        log.begin(&life(service.epoch), &[]);
                    }
                    Step::Away(lines) => {
                        let after = service.last;
                        service.last += lines;
                        service.absences.push(Absence { after, upto: service.last });
                        log.heed(Epoch::from_u64(service.epoch), &service.absences);
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
            // what a reader does at the end of a stretch, and when nothing of it is held any more: it goes over to a later one
            let reach = log.reach(place, self.entered);
            if matches!(reach, Reach::Unknown | Reach::Over) {
                let own = log.stretch_of(place, self.entered).map_or(0, |own| own.number);
                let (next, life) = log.held().find(|(stretch, _)| stretch.number > own).unwrap();
                if life.epoch == place.epoch && reach == Reach::Over {
                    assert_eq!(next.after, self.seen, "its own life goes on without a hole");
                }
                self.epoch = u64::from_str_radix(&life.epoch.to_string(), 16).unwrap();
                (self.seen, self.entered) = (next.after, Some(next.number));
                return;
            }
            self.take(&log.read(Some(LogPlace { at: place, entered: self.entered }), most, wanted));
            self.entered = self.entered.filter(|_| self.seen == place.seq);
        }
    }
}
