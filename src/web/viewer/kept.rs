//! Lines that are no longer in a ring, from the rows the service node kept: lines, and gaps where rows are missing.

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;

use crate::base::id::{Cursor, Epoch};
use crate::base::ring::Counts;
use crate::live::filter::LineFilter;
use crate::live::hub::Hub;
use crate::live::log::{Restart, encode};
use crate::model::log_entry::{Level, LogGap, LogLine};
use crate::store::Store;
use crate::store::error::Error;
use crate::store::logs::{KeptFilter, KeptRow};
use crate::web::viewer::wire;

/// So many rows are read at once.
pub(crate) const ROWS: u32 = 2000;

/// A message holds at most so many bytes of lines.
const LONGEST: usize = 48 << 10;

/// One step of a log that was put together again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A line that is wanted.
    Line(LogLine),
    /// Lines that can't be had.
    Gap(Epoch, LogGap),
    /// Another life begins.
    Restart(Epoch),
}

/// What was found, and up to where the log is complete with it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) at: Cursor,
    /// Whether there may be more rows after `at`.
    pub(crate) more: bool,
    /// The life before which reading stopped.
    life: Option<Epoch>,
}

/// How far kept rows are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upto<'a> {
    /// To this number of the same life: from there on a ring has them.
    Line(u64),
    /// Over later lives, to the beginning of one of these.
    Lives(&'a [Epoch]),
}

/// How a reader gets from the end of one life, as far as the hub knows it, to the next.
#[derive(Debug)]
pub(crate) struct Left {
    /// What was kept of the rest, and of lives in between.
    pub(crate) pieces: Vec<Piece>,
    /// The next life that the hub holds; none if there are more kept rows before it.
    pub(crate) restart: Option<Restart>,
    /// Where the reader is then.
    pub(crate) at: Cursor,
}

/// The lines after `at`, as far as they are wanted and kept.
pub(crate) async fn after(store: &Store, at: Cursor, upto: Upto<'_>, filter: &LineFilter) -> Result<Found, Error> {
    let kept = KeptFilter { after: Some(at), limit: ROWS, ..KeptFilter::default() };
    let rows = store.kept_rows(None, &kept).await?;
    let full = rows.len() >= ROWS as usize;
    Ok(weave(rows, at, upto, full, filter))
}

/// Leads on from a place whose life is over, or not held: kept rows first, then the next life. None if no life is held.
pub(crate) async fn leave(store: Option<&Store>, hub: &Hub, at: Cursor, filter: &LineFilter) -> Option<Left> {
    let lives = hub.lives();
    let own = lives.iter().position(|life| life.epoch == at.epoch);
    let later = &lives[own.map_or(0, |own| own + 1)..];
    let epochs: Vec<Epoch> = later.iter().map(|life| life.epoch).collect();
    let first = later.first()?;
    let found = match store {
        // rows that can't be read are as good as not kept
        Some(store) => after(store, at, Upto::Lives(&epochs), filter).await.ok(),
        None => None,
    };
    let found = found.unwrap_or(Found { pieces: Vec::new(), at, more: false, life: None });
    if found.more {
        return Some(Left { pieces: found.pieces, restart: None, at: found.at });
    }
    let next = later.iter().find(|life| Some(life.epoch) == found.life).unwrap_or(first).clone();
    let from = own.filter(|_| found.at.epoch == at.epoch).map(|own| lives[own].version.clone());
    let at = Cursor { epoch: next.epoch, seq: 0 };
    Some(Left { pieces: found.pieces, restart: Some(Restart { from, to: next }), at })
}

/// The newest kept lines that match and are older than what the hub holds (from `first` on), at most `most`.
pub(crate) async fn newest(
    store: &Store,
    first: Option<Cursor>,
    filter: &LineFilter,
    most: usize,
) -> Result<Vec<Piece>, Error> {
    let kept = KeptFilter {
        execution: filter.execution,
        level: filter.level,
        sources: filter.sources.clone(),
        limit: ROWS,
        ..KeptFilter::default()
    };
    let rows = store.kept_rows(None, &kept).await?;
    Ok(older(rows, first, filter, most))
}

/// Puts kept rows together: what is missing between them is a gap, if it could have been wanted.
fn weave(rows: Vec<KeptRow>, at: Cursor, upto: Upto<'_>, full: bool, filter: &LineFilter) -> Found {
    // rows below INFO are never kept; who does not want them does not miss them
    let tell_holes = filter.level.is_none_or(|level| level < Level::Info);
    let mut found = Found { pieces: Vec::new(), at, more: full, life: None };
    let last = if let Upto::Line(last) = upto { last } else { u64::MAX };
    let mut seen_any = false;
    for row in rows {
        let (epoch, from, to) = match &row {
            KeptRow::Line(line) => (line.epoch, line.seq, line.seq),
            KeptRow::Gap(_, epoch, gap) => (*epoch, gap.from, gap.to.min(last)),
        };
        if epoch != found.at.epoch {
            let stops = match upto {
                Upto::Line(_) => true,
                Upto::Lives(lives) => lives.contains(&epoch),
            };
            if stops {
                (found.more, found.life) = (false, Some(epoch));
                break;
            }
            found.pieces.push(Piece::Restart(epoch));
            found.at = Cursor { epoch, seq: 0 };
            seen_any = false;
        }
        if from > last {
            found.more = false;
            break;
        }
        if to <= found.at.seq {
            continue;
        }
        if from > found.at.seq + 1 && (tell_holes || !seen_any) {
            found.pieces.push(hole(epoch, found.at.seq + 1, from - 1));
        }
        seen_any = true;
        let before = std::mem::replace(&mut found.at.seq, to);
        match row {
            KeptRow::Line(line) if filter.matches(&line.entry) => found.pieces.push(Piece::Line(line)),
            KeptRow::Line(_) => {}
            KeptRow::Gap(_, epoch, gap) => {
                let whole = gap.from > before && gap.to == to;
                let by_level = if whole { gap.by_level } else { Counts::default() };
                found.pieces.push(Piece::Gap(epoch, LogGap { from: gap.from.max(before + 1), to, by_level }));
            }
        }
    }
    found.more &= found.at != at;
    if let Upto::Line(last) = upto
        && !found.more
        && found.at.seq < last
    {
        found.pieces.push(hole(at.epoch, found.at.seq + 1, last));
        found.at.seq = last;
    }
    found
}

/// The newest rows that match and that the hub does not hold.
fn older(rows: Vec<KeptRow>, first: Option<Cursor>, filter: &LineFilter, most: usize) -> Vec<Piece> {
    let held = |epoch: Epoch, seq: u64| first.is_some_and(|first| first.epoch == epoch && seq >= first.seq);
    let mut pieces: Vec<Piece> = rows
        .into_iter()
        .filter_map(|row| match row {
            KeptRow::Line(line) if !held(line.epoch, line.seq) && filter.matches(&line.entry) => {
                Some(Piece::Line(line))
            }
            KeptRow::Line(_) => None,
            KeptRow::Gap(_, epoch, gap) => (!held(epoch, gap.from)).then_some(Piece::Gap(epoch, gap)),
        })
        .collect();
    pieces.drain(..pieces.len().saturating_sub(most));
    let mut whole = Vec::with_capacity(pieces.len());
    let mut life = None;
    for piece in pieces {
        let epoch = piece.epoch();
        if life.replace(epoch).is_some_and(|before| before != epoch) {
            whole.push(Piece::Restart(epoch));
        }
        whole.push(piece);
    }
    whole
}

impl Piece {
    pub(crate) fn epoch(&self) -> Epoch {
        match self {
            Self::Line(line) => line.epoch,
            Self::Gap(epoch, _) | Self::Restart(epoch) => *epoch,
        }
    }

    /// The place after it.
    pub(crate) fn end(&self) -> Cursor {
        let seq = match self {
            Self::Line(line) => line.seq,
            Self::Gap(_, gap) => gap.to,
            Self::Restart(_) => 0,
        };
        Cursor { epoch: self.epoch(), seq }
    }
}

/// Messages that say so.
pub(crate) fn messages(pieces: &[Piece]) -> Vec<Utf8Bytes> {
    let mut messages = Vec::new();
    let mut rows: Vec<Bytes> = Vec::new();
    let mut bytes = 0;
    for (at, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Line(line) => {
                rows.push(encode(line.seq, &line.entry));
                bytes += rows.last().map_or(0, Bytes::len);
                let goes_on = matches!(pieces.get(at + 1), Some(Piece::Line(next)) if next.epoch == line.epoch);
                if !goes_on || bytes > LONGEST {
                    messages.push(wire::log(line.epoch, line.seq, rows.iter(), &Counts::default()));
                    rows.clear();
                    bytes = 0;
                }
            }
            Piece::Gap(epoch, gap) => messages.push(wire::gap(*epoch, gap)),
            Piece::Restart(epoch) => messages.push(wire::bare_restart(*epoch)),
        }
    }
    messages
}

fn hole(epoch: Epoch, from: u64, to: u64) -> Piece {
    Piece::Gap(epoch, LogGap { from, to, by_level: Counts::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::base::id::NodeId;
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

    /// As text: `3` a line, `4-6` a gap, `|` a restart.
    fn told(pieces: &[Piece]) -> String {
        let words: Vec<String> = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Line(line) => line.seq.to_string(),
                Piece::Gap(_, gap) => format!("{}-{}", gap.from, gap.to),
                Piece::Restart(_) => "|".into(),
            })
            .collect();
        words.join(" ")
    }

    #[test]
    fn missing_rows_are_told_and_nothing_twice() {
        let all = LineFilter::default();
        let found = weave(info([3, 4, 7]), at(1), Upto::Line(9), false, &all);
        assert_eq!((told(&found.pieces).as_str(), found.at), ("2-2 3 4 5-6 7 8-9", at(9)));
        let found = weave(info([2, 3, 4]), at(3), Upto::Line(4), false, &all);
        assert_eq!(told(&found.pieces), "4");
        let found = weave(info([]), at(3), Upto::Line(8), false, &all);
        assert_eq!((told(&found.pieces).as_str(), found.at), ("4-8", at(8)));
        let found = weave(info([]), at(3), Upto::Lives(&[]), false, &all);
        assert_eq!((told(&found.pieces).as_str(), found.at), ("", at(3)));
    }

    #[test]
    fn rows_at_the_limit_leave_the_rest_for_later() {
        let found = weave(info([4, 5]), at(3), Upto::Line(9), true, &LineFilter::default());
        assert_eq!((told(&found.pieces).as_str(), found.at, found.more), ("4 5", at(5), true));
    }

    #[test]
    fn lives_in_between_are_told_and_the_present_one_is_left_to_the_ring() {
        let (between, present) = (Epoch::from_u64(8), Epoch::from_u64(9));
        let mut rows = info([4]);
        rows.extend([line(between, 1, Level::Info), line(between, 3, Level::Info), line(present, 1, Level::Info)]);
        let found = weave(rows, at(3), Upto::Lives(&[present]), true, &LineFilter::default());
        assert_eq!(told(&found.pieces), "4 | 1 2-2 3");
        assert_eq!((found.at, found.more, found.life), (Cursor { epoch: between, seq: 3 }, false, Some(present)));
    }

    #[test]
    fn who_wants_no_details_misses_no_details() {
        let warnings = LineFilter { level: Some(Level::Warn), ..LineFilter::default() };
        let mut rows = info([2]);
        rows.push(line(LIFE, 5, Level::Warn));
        rows.push(KeptRow::Gap(NodeId::new("n"), LIFE, LogGap { from: 6, to: 9, by_level: [0, 0, 4, 0, 0] }));
        rows.push(line(LIFE, 10, Level::Error));
        assert_eq!(told(&weave(rows, at(1), Upto::Line(10), false, &warnings).pieces), "5 6-9 10");
    }

    #[test]
    fn a_kept_gap_is_cut_to_what_was_asked() {
        let gap = KeptRow::Gap(NodeId::new("n"), LIFE, LogGap { from: 2, to: 9, by_level: [0, 0, 8, 0, 0] });
        let found = weave(vec![gap], at(4), Upto::Line(7), false, &LineFilter::default());
        assert_eq!(found.pieces, [hole(LIFE, 5, 7)]);
    }

    #[test]
    fn older_rows_stop_where_the_ring_begins_and_lives_are_told_apart() {
        let other = Epoch::from_u64(3);
        let mut rows = vec![line(other, 1, Level::Info), line(other, 2, Level::Info)];
        rows.extend(info([1, 2, 3, 4]));
        let pieces = older(rows.clone(), Some(at(3)), &LineFilter::default(), 10);
        assert_eq!(told(&pieces), "1 2 | 1 2");
        assert_eq!(told(&older(rows, Some(at(3)), &LineFilter::default(), 3)), "2 | 1 2");
    }

    #[test]
    fn messages_hold_lines_together() {
        let pieces = weave(info([1, 2, 5]), at(0), Upto::Line(5), false, &LineFilter::default()).pieces;
        let kinds: Vec<String> = messages(&pieces)
            .iter()
            .map(|message| serde_json::from_str::<serde_json::Value>(message).unwrap())
            .map(|value| format!("{}{}", value["t"].as_str().unwrap(), value["rows"].as_array().map_or(0, Vec::len)))
            .collect();
        assert_eq!(kinds, ["log2", "gap0", "log1"]);
    }
}
