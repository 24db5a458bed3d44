//! The newest lines, to begin with: those held, and what was kept before them and between, in the order in which who follows gets it.

use crate::base::id::{Cursor, Epoch, NodeId};
use crate::base::ring::Counts;
use crate::live::filter::LineFilter;
use crate::live::held::Stretch;
use crate::live::hub::Hub;
use crate::live::kept::{self, BYTES, Piece, ROWS};
use crate::live::life::{LifeFacts, Restart};
use crate::live::read::{Lines, Part, Read};
use crate::model::log_entry::{LogEntry, LogLine};
use crate::store::Store;
use crate::store::error::Error;
use crate::store::logs::{KeptFilter, KeptRow, KeptSpan};

/// What a first look shows.
#[derive(Debug, Default)]
pub(crate) struct Newest {
    /// What comes before the lines.
    pub(crate) pieces: Vec<Piece>,
    /// Those of the present stretch.
    pub(crate) lines: Lines,
    /// Which one that is, if anything was heard.
    pub(crate) present: Option<Stretch>,
}

/// One part with what comes before it.
#[derive(Debug, Default)]
struct Chunk {
    /// Kept rows of other lives before it, and of its own before its stretch.
    between: Vec<(NodeId, Piece)>,
    /// Kept rows for what is missing of its stretch before its lines.
    own: Vec<Piece>,
    /// What is held.
    part: Option<Part>,
}

/// At most `most` lines; without a store only what is held.
///
/// # Errors
/// If the kept lines can't be read now.
pub(crate) async fn newest(
    hub: &Hub,
    store: Option<&Store>,
    filter: &LineFilter,
    most: usize,
) -> Result<Newest, Error> {
    let parts = hub.log().newest_parts(most, |entry| filter.matches(entry));
    let search = store.map(|store| Search { store, filter, parts: &parts, looked_at: 0, left: BYTES, cut: false });
    let chunks = match search {
        Some(search) => search.chunks(most).await?,
        None => parts.iter().map(Chunk::of).collect(),
    };
    Ok(put_together(chunks, filter))
}

/// Looks for kept rows where too few lines are held.
struct Search<'a> {
    store: &'a Store,
    filter: &'a LineFilter,
    /// Newest first.
    parts: &'a [Part],
    /// So many rows were looked at: with a filter that few lines pass the search has an end, and only what is held is told then.
    looked_at: usize,
    /// For so many bytes more there is room.
    left: usize,
    /// Whether there was none for a row that is wanted: nothing older is told, or that one would be missing.
    cut: bool,
}

impl Search<'_> {
    /// Newest first.
    async fn chunks(mut self, most: usize) -> Result<Vec<Chunk>, Error> {
        let mut missing = most;
        let mut chunks = Vec::new();
        for (at, part) in self.parts.iter().enumerate() {
            let mut chunk = Chunk::of(part);
            missing -= chunk.keep_newest(missing);
            if let Some(lost) = part.lost.filter(|_| missing > 0 && self.may_look()) {
                let epoch = part.stretch.epoch;
                let place = |seq| Some(Cursor { epoch, seq });
                let span = KeptSpan { epoch, own: true, nor: None, after: place(lost.from - 1), upto: place(lost.to) };
                let rows = self.look(span).await?;
                let own = pick(rows, self.filter, missing, |_| (lost.from - 1, lost.to));
                missing -= own.len();
                chunk.own = own.into_iter().map(|(_, piece)| piece).collect();
            }
            if missing > 0 && part.begins && self.may_look() {
                chunk.between = match self.parts.get(at + 1) {
                    Some(former) => self.between(former, at, missing).await?,
                    None => self.before(part, at, missing).await?,
                };
                missing -= chunk.between.len();
            }
            chunks.push(chunk);
            if missing == 0 || self.cut {
                return Ok(chunks);
            }
        }
        if self.parts.is_empty() {
            let rows = self.store.kept_rows(None, &self.rows()).await?;
            let between = by_life(pick(rows, self.filter, missing, |_| (0, u64::MAX)));
            chunks.push(Chunk { between, ..Chunk::default() });
        }
        Ok(chunks)
    }

    /// What was kept between the end of a former stretch and the beginning of the part `at`.
    async fn between(&mut self, former: &Part, at: usize, most: usize) -> Result<Vec<(NodeId, Piece)>, Error> {
        let own = self.parts[at].stretch;
        let left = Cursor { epoch: former.stretch.epoch, seq: former.read.next };
        // around a change to who was not heard the rows of both stand between each other
        let seq = if left.epoch == own.epoch { own.settled } else { left.seq };
        let after = Some(Cursor { seq, ..left });
        let nor = Some(own.epoch);
        let span = KeptSpan { epoch: left.epoch, own: false, nor, after, upto: self.settled_after(at) };
        let rows = self.look(span).await?;
        let heard = |epoch| self.parts[..=at].iter().any(|part| part.stretch.epoch == epoch);
        let within = |epoch| if heard(epoch) { (0, 0) } else { (0, u64::MAX) };
        let mut found = by_life(pick(rows, self.filter, most, within));
        if left.epoch != own.epoch && found.len() < most && !self.cut {
            // the rest of it may not have been heard
            let goes_on = self.parts[..at].iter().rev().find(|part| part.stretch.epoch == left.epoch);
            let end = goes_on.map_or(u64::MAX, |part| part.stretch.after);
            let upto = goes_on.map(|_| Cursor { seq: end, ..left });
            let span = KeptSpan { epoch: left.epoch, own: true, nor: None, after: Some(left), upto };
            let rest = pick(self.look(span).await?, self.filter, most - found.len(), |_| (left.seq, end));
            found.splice(0..0, rest);
        }
        Ok(found)
    }

    /// What was kept before the oldest part.
    async fn before(&mut self, oldest: &Part, at: usize, most: usize) -> Result<Vec<(NodeId, Piece)>, Error> {
        let Stretch { epoch, after, .. } = oldest.stretch;
        let rows = if let Some(upto) = self.settled_after(at) {
            self.look(KeptSpan { epoch, own: false, nor: None, after: None, upto: Some(upto) }).await?
        } else {
            let seq = oldest.lost.map_or(after, |lost| lost.to) + 1;
            let before = KeptFilter { before: Some(Cursor { epoch, seq }), ..self.rows() };
            self.store.kept_rows(None, &before).await?
        };
        // of what was heard here only what comes before that
        let first = |epoch| self.parts.iter().rev().find(|part| part.stretch.epoch == epoch);
        let within = |epoch| (0, first(epoch).map_or(u64::MAX, |part| part.stretch.after));
        Ok(by_life(pick(rows, self.filter, most, within)))
    }

    /// Where after a part its life goes on, and nobody was heard in between: rows that were kept later come after it.
    fn settled_after(&self, at: usize) -> Option<Cursor> {
        let own = self.parts[at].stretch;
        let next = self.parts[..at].iter().rev().find(|part| part.stretch != own)?;
        let Stretch { epoch, settled, .. } = next.stretch;
        (epoch == own.epoch).then_some(Cursor { epoch, seq: settled })
    }

    fn may_look(&self) -> bool {
        self.looked_at < ROWS as usize && !self.cut
    }

    async fn look(&mut self, span: KeptSpan) -> Result<Vec<KeptRow>, Error> {
        let found = self.store.kept_within(span, &self.rows()).await?;
        self.looked_at += found.rows.len();
        self.left = self.left.saturating_sub(found.rows.iter().map(KeptRow::bytes).sum());
        if found.cut && self.filter.search.is_some() {
            self.looked_at = ROWS as usize;
        }
        self.cut |= found.cut && self.filter.search.is_none();
        Ok(found.rows)
    }

    fn rows(&self) -> KeptFilter {
        KeptFilter {
            execution: self.filter.execution,
            level: self.filter.level,
            sources: self.filter.sources.clone(),
            limit: ROWS,
            bytes: Some(self.left),
            ..KeptFilter::default()
        }
    }
}

/// The newest of these rows that are wanted, `most` of them; of each life those after one line up to another.
fn pick(
    rows: Vec<KeptRow>,
    filter: &LineFilter,
    most: usize,
    within: impl Fn(Epoch) -> (u64, u64),
) -> Vec<(NodeId, Piece)> {
    let picked = rows.into_iter().filter_map(|row| {
        let (after, upto) = within(row.epoch());
        match row {
            KeptRow::Line(line) => (after < line.seq && line.seq <= upto && filter.matches(&line.entry))
                .then(|| (line.node.clone(), Piece::Line(line))),
            KeptRow::Gap(node, epoch, gap) => {
                (gap.from <= upto && gap.to > after).then(|| (node, Piece::Gap(epoch, gap.part(after + 1, upto))))
            }
        }
    });
    let mut picked: Vec<_> = picked.collect();
    picked.drain(..picked.len().saturating_sub(most));
    picked
}

/// Rows of several service nodes stand between each other: life by life.
fn by_life(mut pieces: Vec<(NodeId, Piece)>) -> Vec<(NodeId, Piece)> {
    let mut order: Vec<Epoch> = Vec::new();
    for (_, piece) in &pieces {
        if !order.contains(&piece.epoch()) {
            order.push(piece.epoch());
        }
    }
    pieces.sort_by_key(|(_, piece)| order.iter().position(|epoch| *epoch == piece.epoch()));
    pieces
}

impl Chunk {
    fn of(part: &Part) -> Self {
        Self { part: Some(part.clone()), ..Self::default() }
    }

    /// Only so many of its lines are still wanted; gives how many there are.
    fn keep_newest(&mut self, most: usize) -> usize {
        let Some(Part { read, .. }) = &mut self.part else { return 0 };
        let surplus = read.lines.len().saturating_sub(most);
        if surplus > 0 {
            read.lines.drain(..surplus);
            read.hidden = Counts::default();
        }
        read.lines.len()
    }
}

/// What was found, newest first, as it is told.
fn put_together(chunks: Vec<Chunk>, filter: &LineFilter) -> Newest {
    let mut told = Told::default();
    let newest = chunks.len().saturating_sub(1);
    for (at, chunk) in chunks.into_iter().rev().enumerate() {
        for (node, piece) in chunk.between {
            told.turn_to(piece.epoch(), Restart { node: Some(node), ..Restart::default() });
            told.newest.pieces.push(piece);
        }
        let Some(Part { stretch, read, lost, .. }) = chunk.part else { continue };
        let Some(life) = read.life.clone() else { continue };
        let epoch = life.epoch;
        // what is missing before the first lines that are told nobody misses
        let gap = if told.newest.pieces.is_empty() { read.gap } else { lost };
        let gap = gap.and_then(|gap| kept::left_of(gap, epoch, &chunk.own, filter));
        if at < newest && chunk.own.is_empty() && read.lines.is_empty() && gap.is_none() {
            continue;
        }
        told.turn_to(epoch, Restart::to(life.clone()));
        told.newest.pieces.extend(chunk.own);
        if at == newest {
            told.newest.lines = Lines { gap, ..Lines::from(read) };
            told.newest.present = Some(stretch);
        } else {
            told.newest.pieces.extend(gap.map(|gap| Piece::Gap(epoch, gap)));
            told.newest.pieces.extend(pieces_of(life, read));
        }
    }
    told.newest
}

/// What is told, in the making.
#[derive(Default)]
struct Told {
    newest: Newest,
    last: Option<(Epoch, Restart)>,
}

impl Told {
    /// What comes now is of this life.
    fn turn_to(&mut self, epoch: Epoch, restart: Restart) {
        if let Some((_, before)) = self.last.take().filter(|(last, _)| *last != epoch) {
            let from = before.to.map(|life| life.version);
            self.newest.pieces.push(Piece::Restart(epoch, Restart { before: before.node, from, ..restart.clone() }));
        }
        self.last = Some((epoch, restart));
    }
}

/// Lines that are held, as steps of a log.
fn pieces_of(life: LifeFacts, read: Read) -> impl Iterator<Item = Piece> {
    let epoch = life.epoch;
    let hidden =
        (read.hidden != Counts::default()).then_some(Piece::Hidden(Cursor { epoch, seq: read.next }, read.hidden));
    let lines = read.lines.into_iter().map(move |(seq, entry, _)| {
        Piece::Line(LogLine { node: life.node.clone(), epoch, seq, entry: LogEntry::clone(&entry) })
    });
    lines.chain(hidden)
}
