//! Lines that are no longer in a ring, from the rows the service node kept: lines, and gaps where rows are missing.

use crate::base::id::{Cursor, Epoch, NodeId};
use crate::base::ring::Counts;
use crate::live::filter::LineFilter;
use crate::live::life::Restart;
use crate::model::log_entry::{Level, LogGap, LogLine};
use crate::store::Store;
use crate::store::error::Error;
use crate::store::logs::{KeptAfter, KeptRow};

/// So many rows are read at once.
pub const ROWS: u32 = 2000;

/// And so many bytes of text: what one reader makes wait is bounded.
pub(crate) const BYTES: usize = 512 << 10;

/// One step of a log that was put together again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A line that is wanted.
    Line(LogLine),
    /// Lines that can't be had.
    Gap(Epoch, LogGap),
    /// So many lines up to this place are not wanted, by level.
    Hidden(Cursor, Counts),
    /// Another life begins; how, where that is known.
    Restart(Epoch, Restart),
}

/// What was found, and up to where the log is complete with it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) at: Cursor,
    /// Whether there may be more rows after `at`.
    pub(crate) more: bool,
    /// Lines passed over that no piece tells of yet.
    hidden: Counts,
}

/// How far kept rows are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upto<'a> {
    /// To this number of the same life: from there on a ring has them.
    Line(u64),
    /// Over later lives, to the beginning of what is read elsewhere: of each of these lives what follows a place; of its own life to
    /// this number.
    Lives(&'a [Cursor], u64),
}

/// Where among the kept rows to look: after one place, and up to when another was kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) from: Cursor,
    pub(crate) upto: Option<Cursor>,
}

/// Tells the levels of the lines `from..=to` of a life that were in a ring once, as far as they are known.
pub(crate) type Levels<'a> = &'a (dyn Fn(Epoch, u64, u64) -> Counts + Sync);

/// The lines after `at`, as far as they are wanted and kept; `span` begins there, or before it.
pub(crate) async fn after(
    store: &Store,
    at: Cursor,
    span: Span,
    upto: Upto<'_>,
    filter: &LineFilter,
    levels: Levels<'_>,
) -> Result<Found, Error> {
    let rows = match upto {
        Upto::Line(last) => store.kept_of_life(span.from, last, ROWS, BYTES).await?,
        Upto::Lives(..) => store.kept_after(span.from, span.upto, ROWS, BYTES).await?,
    };
    let mut left = Vec::<Cursor>::new();
    for epoch in rows.rows.iter().map(KeptRow::epoch).filter(|epoch| *epoch != at.epoch) {
        if left.iter().all(|known| known.epoch != epoch) {
            left.push(Cursor { epoch, seq: store.kept_before(span.from, epoch).await? });
        }
    }
    let mut found = weave(rows, at, left, upto, filter, levels);
    let first = found
        .pieces
        .iter_mut()
        .find_map(|piece| if let Piece::Restart(_, restart) = piece { Some(restart) } else { None });
    if let Some(restart) = first.filter(|restart| restart.before.is_none()) {
        restart.before = store.kept_node(at.epoch).await?;
    }
    Ok(found)
}

/// What is left of a gap when these kept pieces stand before it: only lines below info were not kept.
pub(crate) fn left_of(gap: LogGap, epoch: Epoch, older: &[Piece], filter: &LineFilter) -> Option<LogGap> {
    match older.last().map(Piece::end).filter(|end| end.epoch == epoch && end.seq >= gap.from) {
        None => Some(gap),
        Some(end) if filter.wants_details() && end.seq < gap.to => Some(gap.part(end.seq + 1, gap.to)),
        Some(_) => None,
    }
}

/// Puts kept rows together: what is missing between them is a gap, if it could have been wanted. `left`: where other lives were
/// left before.
fn weave(
    rows: KeptAfter,
    at: Cursor,
    mut left: Vec<Cursor>,
    upto: Upto<'_>,
    filter: &LineFilter,
    levels: Levels<'_>,
) -> Found {
    let mut found = Found { pieces: Vec::new(), at, more: rows.full, hidden: Counts::default() };
    let (last, own) = match upto {
        Upto::Line(last) => (last, last),
        Upto::Lives(_, own) => (u64::MAX, own),
    };
    let mut anchored = rows.anchored;
    // whether a life was seen that is read elsewhere
    let mut stopped = false;
    let mut before: Option<NodeId> = None;
    for row in rows.rows {
        let (node, epoch, from, to) = match &row {
            KeptRow::Line(line) => (&line.node, line.epoch, line.seq, line.seq),
            KeptRow::Gap(node, epoch, gap) => {
                (node, *epoch, gap.from, gap.to.min(if *epoch == at.epoch { own } else { last }))
            }
        };
        if epoch != found.at.epoch {
            match upto {
                Upto::Line(_) => stopped = true,
                Upto::Lives(ahead, _) => match ahead.iter().find(|ahead| ahead.epoch == epoch) {
                    // told already: what its node wrote as it handed over
                    Some(ahead) if to <= ahead.seq => continue,
                    Some(_) => stopped = true,
                    None => {}
                },
            }
            if stopped {
                // not the end of this life: where several service nodes write, their rows stand between each other
                continue;
            }
            found.tell_hidden();
            let restart = Restart { before: before.take(), node: Some(node.clone()), ..Restart::default() };
            found.pieces.push(Piece::Restart(epoch, restart));
            let seq = left.iter().rev().find(|at| at.epoch == epoch).map_or(0, |at| at.seq);
            left.push(std::mem::replace(&mut found.at, Cursor { epoch, seq }));
        }
        before.get_or_insert_with(|| node.clone());
        if from > last {
            found.more = false;
            break;
        }
        let read_elsewhere = matches!(upto, Upto::Lives(..)) && epoch == at.epoch && from > own;
        if to <= found.at.seq || read_elsewhere {
            continue;
        }
        if from - 1 > found.at.seq {
            found.hole(from - 1, anchored, filter, levels);
        }
        anchored = true;
        match row {
            KeptRow::Line(line) if filter.matches(&line.entry) => found.pieces.push(Piece::Line(line)),
            KeptRow::Line(line) => found.hidden[usize::from(line.entry.level.index())] += 1,
            KeptRow::Gap(_, epoch, gap) => {
                found.tell_hidden();
                found.pieces.push(Piece::Gap(epoch, gap.part(found.at.seq + 1, to)));
            }
        }
        found.at.seq = to;
    }
    found.more &= found.at != at;
    // of a life that is not over nobody knows the last number
    if own < u64::MAX && !found.more && found.at.epoch == at.epoch && found.at.seq < own {
        found.hole(own, false, filter, levels);
    }
    found.tell_hidden();
    found
}

impl Found {
    /// No row is kept from the place to `to`: that is a gap, unless nothing in it could have been wanted. `anchored`: nothing
    /// was deleted there, so these lines were below info, or they would have been kept.
    fn hole(&mut self, to: u64, anchored: bool, filter: &LineFilter, levels: Levels<'_>) {
        let (epoch, from) = (self.at.epoch, self.at.seq + 1);
        let gap = LogGap { from, to, by_level: levels(epoch, from, to) };
        let missed = filter.missed(&gap);
        let details = anchored && !filter.wants_details();
        if missed.count() > 0 && !(details && missed.count() == missed.unknown) {
            self.tell_hidden();
            self.pieces.push(Piece::Gap(epoch, gap));
            self.at.seq = to;
            return;
        }
        self.at.seq = to;
        for (sum, count) in self.hidden.iter_mut().zip(gap.by_level) {
            *sum += count;
        }
        // trace or debug, nobody remembers which
        self.hidden[usize::from(Level::Debug.index())] += missed.unknown;
    }

    fn tell_hidden(&mut self) {
        if self.hidden != Counts::default() {
            self.pieces.push(Piece::Hidden(self.at, std::mem::take(&mut self.hidden)));
        }
    }
}

impl Piece {
    /// Of which life.
    pub fn epoch(&self) -> Epoch {
        match self {
            Self::Line(line) => line.epoch,
            Self::Gap(epoch, _) | Self::Restart(epoch, _) => *epoch,
            Self::Hidden(at, _) => at.epoch,
        }
    }

    /// The place after it.
    pub fn end(&self) -> Cursor {
        let seq = match self {
            Self::Line(line) => line.seq,
            Self::Gap(_, gap) => gap.to,
            Self::Restart(..) => 0,
            Self::Hidden(at, _) => at.seq,
        };
        Cursor { epoch: self.epoch(), seq }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::model::log_entry::LogEntry;

    const LIFE: Epoch = Epoch::from_u64(7);

    fn line(epoch: Epoch, seq: u64, level: Level) -> KeptRow {
        let entry = LogEntry {
            time: Timestamp::from_micros(0),
            level,
            source: "s".into(),
            execution: None,
            stream: None,
            text: format!("line {seq}").into(),
        };
        KeptRow::Line(LogLine { node: NodeId::new("n"), epoch, seq, entry })
    }

    fn info(seqs: impl IntoIterator<Item = u64>) -> Vec<KeptRow> {
        seqs.into_iter().map(|seq| line(LIFE, seq, Level::Info)).collect()
    }

    fn at(seq: u64) -> Cursor {
        Cursor { epoch: LIFE, seq }
    }

    fn nothing_known(_: Epoch, _: u64, _: u64) -> Counts {
        Counts::default()
    }

    /// The first part of what is kept: whether it is all of it is not known.
    fn woven(rows: Vec<KeptRow>, at: Cursor, upto: Upto<'_>, full: bool, filter: &LineFilter) -> Found {
        weave(KeptAfter { rows, full, anchored: false }, at, Vec::new(), upto, filter, &nothing_known)
    }

    /// As text: `3` a line, `4-6` a gap, `|` a restart.
    fn told(pieces: &[Piece]) -> String {
        let words: Vec<String> = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Line(line) => line.seq.to_string(),
                Piece::Gap(_, gap) => format!("{}-{}", gap.from, gap.to),
                Piece::Restart(..) => "|".into(),
                Piece::Hidden(at, counts) => format!("({} to {})", counts.iter().sum::<u64>(), at.seq),
            })
            .collect();
        words.join(" ")
    }

    #[test]
    fn missing_rows_are_told_and_nothing_twice() {
        let all = LineFilter::default();
        let found = woven(info([3, 4, 7]), at(1), Upto::Line(9), false, &all);
        assert_eq!((told(&found.pieces).as_str(), found.at), ("2-2 3 4 5-6 7 8-9", at(9)));
        let found = woven(info([2, 3, 4]), at(3), Upto::Line(4), false, &all);
        assert_eq!(told(&found.pieces), "4");
        let found = woven(info([]), at(3), Upto::Line(8), false, &all);
        assert_eq!((told(&found.pieces).as_str(), found.at), ("4-8", at(8)));
        let found = woven(info([]), at(3), Upto::Lives(&[], u64::MAX), false, &all);
        assert_eq!((told(&found.pieces).as_str(), found.at), ("", at(3)));
    }

    #[test]
    fn rows_at_the_limit_leave_the_rest_for_later() {
        let found = woven(info([4, 5]), at(3), Upto::Line(9), true, &LineFilter::default());
        assert_eq!((told(&found.pieces).as_str(), found.at, found.more), ("4 5", at(5), true));
    }

    #[test]
    fn lives_in_between_are_told_and_the_present_one_is_left_to_the_ring() {
        let (between, present) = (Epoch::from_u64(8), Epoch::from_u64(9));
        let mut rows = info([4]);
        rows.extend([line(between, 1, Level::Info), line(between, 3, Level::Info), line(present, 1, Level::Info)]);
        let found = woven(
            rows,
            at(3),
            Upto::Lives(&[Cursor { epoch: present, seq: 0 }], u64::MAX),
            true,
            &LineFilter::default(),
        );
        assert_eq!(told(&found.pieces), "4 | 1 2-2 3");
        assert_eq!((found.at, found.more), (Cursor { epoch: between, seq: 3 }, true), "the next look finds no more");
    }

    #[test]
    fn rows_of_several_service_nodes_between_each_other_are_neither_lost_nor_missed() {
        let other = Epoch::from_u64(9);
        let mut rows = Vec::new();
        for (seq, others) in [(4, 1), (5, 2), (6, 3)] {
            rows.extend([line(LIFE, seq, Level::Info), line(other, others, Level::Info)]);
        }
        let all = LineFilter::default();
        for upto in [Upto::Lives(&[Cursor { epoch: other, seq: 0 }], u64::MAX), Upto::Line(6)] {
            let found = woven(rows.clone(), at(3), upto, false, &all);
            assert_eq!((told(&found.pieces).as_str(), found.at), ("4 5 6", at(6)), "{upto:?}");
        }
        let found = woven(rows, at(3), Upto::Lives(&[], u64::MAX), false, &all);
        assert_eq!(told(&found.pieces), "4 | 1 | 5 | 2 | 6 | 3");
    }

    #[test]
    fn rows_of_who_handed_over_stand_between_those_of_the_next_primary_and_end_them_not() {
        let other = Epoch::from_u64(9);
        let mut rows = info([2]);
        for (seq, others) in [(3, 1), (4, 2), (5, 3)] {
            rows.extend([line(other, others, Level::Info), line(LIFE, seq, Level::Info)]);
        }
        rows.push(line(Epoch::from_u64(10), 1, Level::Info));
        let found = woven(rows, at(3), Upto::Lives(&[at(3)], 3), false, &LineFilter::default());
        assert_eq!((told(&found.pieces).as_str(), found.at), ("| 1 2 3", Cursor { epoch: other, seq: 3 }));
    }

    #[test]
    fn who_wants_no_details_misses_no_details() {
        let warnings = LineFilter { level: Some(Level::Warn), ..LineFilter::default() };
        let mut rows = info([2]);
        rows.push(line(LIFE, 5, Level::Warn));
        rows.push(KeptRow::Gap(NodeId::new("n"), LIFE, LogGap { from: 6, to: 9, by_level: [0, 0, 4, 0, 0] }));
        rows.push(line(LIFE, 10, Level::Error));
        let found = woven(rows, at(1), Upto::Line(10), false, &warnings);
        assert_eq!(told(&found.pieces), "5 (3 to 5) 6-9 10", "an info line and two that were below info");
    }

    #[test]
    fn what_may_have_been_deleted_is_missed_by_everybody_and_by_nobody_where_nothing_was() {
        let warnings = LineFilter { level: Some(Level::Warn), ..LineFilter::default() };
        let rows = || vec![line(LIFE, 4, Level::Warn)];
        assert_eq!(told(&woven(rows(), at(1), Upto::Line(4), false, &warnings).pieces), "2-3 4");
        let anchored = KeptAfter { rows: rows(), full: false, anchored: true };
        assert_eq!(
            told(&weave(anchored, at(1), Vec::new(), Upto::Line(4), &warnings, &nothing_known).pieces),
            "4 (2 to 4)"
        );
    }

    #[test]
    fn the_ring_remembers_levels_of_what_was_not_kept() {
        let levels =
            |_, from: u64, to: u64| if (from, to) == (2, 3) { [0, 1, 0, 0, 1] } else { [0, to + 1 - from, 0, 0, 0] };
        let rows = || KeptAfter { rows: info([1, 4]), full: false, anchored: true };
        let warnings = LineFilter { level: Some(Level::Warn), ..LineFilter::default() };
        let found = weave(rows(), at(0), Vec::new(), Upto::Line(6), &warnings, &levels);
        let gap = LogGap { from: 2, to: 3, by_level: [0, 1, 0, 0, 1] };
        let before = Piece::Hidden(at(1), [0, 0, 1, 0, 0]);
        let after = Piece::Hidden(at(6), [0, 2, 1, 0, 0]);
        assert_eq!(found.pieces, [before, Piece::Gap(LIFE, gap), after]);
        assert_eq!(found.at, at(6));
    }

    #[test]
    fn a_kept_gap_is_cut_to_what_was_asked() {
        let gap = KeptRow::Gap(NodeId::new("n"), LIFE, LogGap { from: 2, to: 9, by_level: [0, 0, 8, 0, 0] });
        let found = woven(vec![gap], at(4), Upto::Line(7), false, &LineFilter::default());
        assert_eq!(found.pieces, [Piece::Gap(LIFE, LogGap { from: 5, to: 7, by_level: [0, 0, 3, 0, 0] })]);
    }

    #[test]
    fn of_a_gap_before_which_kept_rows_stand_only_details_are_left() {
        let gap = LogGap { from: 3, to: 9, by_level: [0; 5] };
        let piece = |seq: &u64| match line(LIFE, *seq, Level::Info) {
            KeptRow::Line(line) => Piece::Line(line),
            KeptRow::Gap(_, epoch, gap) => Piece::Gap(epoch, gap),
        };
        let pieces = |seqs: &[u64]| seqs.iter().map(piece).collect::<Vec<_>>();
        let left = |seqs: &[u64], filter: &LineFilter| left_of(gap, LIFE, &pieces(seqs), filter);
        let (all, from_info) =
            (LineFilter::default(), LineFilter { level: Some(Level::Info), ..LineFilter::default() });
        assert_eq!(left(&[1, 5], &all), Some(LogGap { from: 6, ..gap }));
        assert_eq!((left(&[5, 9], &all), left(&[5], &from_info)), (None, None));
        assert_eq!((left(&[2], &from_info), left(&[], &from_info)), (Some(gap), Some(gap)), "nothing of it was kept");
        assert_eq!(left_of(gap, Epoch::from_u64(3), &pieces(&[5]), &all), Some(gap), "kept rows of another life");
    }
}
