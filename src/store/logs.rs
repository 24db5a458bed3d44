//! Kept log lines: what is kept, and how it is read again.

use sqlx::FromRow;

use crate::base::clock::Timestamp;
use crate::base::id::{Cursor, Epoch, ExecutionId, NodeId};
use crate::base::ring::Counts;
use crate::model::log_entry::{Level, LogEntry, LogGap, LogLine, Stream};
use crate::store::Store;
use crate::store::database::Begun;
use crate::store::error::Error;
use crate::store::log_bounds::{self, Bounds, Walk, order, select};
use crate::store::sql::{self, Builder};

/// The level a gap has in the database: above all others, so that it passes every filter by level.
pub(crate) const GAP_LEVEL: i64 = 5;

/// A gap that is written so long after a run ended may still hold lines of it, in microseconds.
const GAP_DELAY: i64 = 10_000_000;

/// A row of the kept log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeptRow {
    /// A line.
    Line(LogLine),
    /// Lines that were not kept because there were too many.
    Gap(NodeId, Epoch, LogGap),
}

impl KeptRow {
    /// Of which life.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        match self {
            Self::Line(line) => line.epoch,
            Self::Gap(_, epoch, _) => *epoch,
        }
    }

    /// How long its text is.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Line(line) => line.entry.text.len(),
            Self::Gap(..) => 0,
        }
    }
}

/// Which kept rows to read. Rows come oldest first, in the order in which they were kept. Gaps pass the filters by level and
/// source: what was lost might have passed. Those that fall into the time of a run count as its own.
#[derive(Clone, Debug, Default)]
pub struct KeptFilter {
    /// Of this run only.
    pub execution: Option<ExecutionId>,
    /// Of this level and above.
    pub level: Option<Level>,
    /// From these sources; from all if empty. Each costs a query: few.
    pub sources: Vec<String>,
    /// After this place of its life; from the newest `limit` if none, or if nothing is known of that life (any more).
    pub after: Option<Cursor>,
    /// Before this place of its life (to scroll back). As if there were none if nothing is known of that life.
    pub before: Option<Cursor>,
    /// At most so many (the newest ones that fit, unless `after` is given).
    pub limit: u32,
    /// And, if it is given, hardly more bytes of text than that.
    pub bytes: Option<usize>,
}

impl KeptFilter {
    /// Whether gaps are looked for by themselves: where lines are looked for by another index.
    const fn wants_gaps(&self) -> bool {
        self.execution.is_some() || !self.sources.is_empty()
    }

    /// How many bytes there are for each query.
    fn bytes_each(&self) -> usize {
        let queries = self.sources.len().max(1) + usize::from(self.wants_gaps());
        self.bytes.map_or(usize::MAX, |bytes| bytes / queries)
    }
}

/// A span of the kept rows, by when they were kept.
#[derive(Clone, Copy, Debug)]
pub struct KeptSpan {
    /// Of this life, or not of it.
    pub epoch: Epoch,
    /// Whether its own rows are wanted, or those of all others.
    pub own: bool,
    /// Of all others but this one.
    pub nor: Option<Epoch>,
    /// After this place, or the last row of its life before; from the beginning if none.
    pub after: Option<Cursor>,
    /// Up to this place, or the last row of its life before; to the end if none.
    pub upto: Option<Cursor>,
}

/// The newest kept rows of a span.
#[derive(Clone, Debug)]
pub struct KeptNewest {
    /// Oldest first.
    pub rows: Vec<KeptRow>,
    /// Whether there are older ones than these for which there were not bytes enough.
    pub cut: bool,
}

/// Kept rows after a place.
#[derive(Clone, Debug)]
pub struct KeptAfter {
    /// Oldest first.
    pub rows: Vec<KeptRow>,
    /// Whether the row at that place, or one before it in its life, is kept still: rows are deleted oldest first, so then none
    /// after it was.
    pub anchored: bool,
    /// Whether there may be more.
    pub full: bool,
}

#[derive(FromRow)]
struct Row {
    id: i64,
    node: String,
    epoch: String,
    seq: i64,
    at: i64,
    level: i64,
    source: String,
    execution: Option<i64>,
    stream: Option<i64>,
    gap_to: Option<i64>,
    text: String,
}

impl Store {
    /// Kept rows of a node's log (of all nodes if none is named).
    pub async fn kept_rows(&self, node: Option<&NodeId>, filter: &KeptFilter) -> Result<Vec<KeptRow>, Error> {
        // one snapshot for all queries, so that nothing moves between them
        let mut snapshot = self.inner.database.begin_reading().await?;
        let bounds = Bounds::find(&mut snapshot, node, filter.after, filter.before).await?;
        let (rows, _) = matching(&mut snapshot, node, filter, bounds).await?;
        snapshot.commit().await?;
        rows.into_iter().map(|row| row.read(bounds.unseen)).collect()
    }

    /// The newest kept rows in a span, oldest first; `after` and `before` of the filter are not heeded. A place in a life of which
    /// nothing is known bounds nothing.
    pub async fn kept_within(&self, span: KeptSpan, filter: &KeptFilter) -> Result<KeptNewest, Error> {
        let mut snapshot = self.inner.database.begin_reading().await?;
        let mut bounds = Bounds::find(&mut snapshot, None, span.after, None).await?;
        (bounds.oldest_first, bounds.unseen) = (false, None);
        bounds.end_at(&mut snapshot, span.upto).await?;
        if span.own {
            let upto = span.upto.filter(|upto| upto.epoch == span.epoch).map(|upto| upto.seq);
            bounds.keep_to(&mut snapshot, span.epoch, span.after, upto).await?;
        } else {
            bounds.leave_out(&mut snapshot, span.epoch, span.nor).await?;
        }
        let (rows, cut) = matching(&mut snapshot, None, filter, bounds).await?;
        snapshot.commit().await?;
        let rows = rows.into_iter().map(|row| row.read(None)).collect::<Result<_, _>>()?;
        Ok(KeptNewest { rows, cut })
    }

    /// Kept rows of all nodes' logs after a place, and up to when that one was kept, oldest first: so many, or so many bytes of
    /// text, at most.
    pub async fn kept_after(
        &self,
        after: Cursor,
        upto: Option<Cursor>,
        limit: u32,
        bytes: usize,
    ) -> Result<KeptAfter, Error> {
        let mut snapshot = self.inner.database.begin_reading().await?;
        let mut bounds = Bounds::find(&mut snapshot, None, Some(after), None).await?;
        bounds.end_at(&mut snapshot, upto).await?;
        let rows = read_on(&mut snapshot, bounds, limit, bytes).await?;
        snapshot.commit().await?;
        Ok(rows)
    }

    /// The same of one life alone: what follows a place in it, up to another of its lines.
    pub async fn kept_of_life(&self, after: Cursor, upto: u64, limit: u32, bytes: usize) -> Result<KeptAfter, Error> {
        let mut snapshot = self.inner.database.begin_reading().await?;
        let mut bounds = Bounds::find(&mut snapshot, None, Some(after), None).await?;
        bounds.keep_to(&mut snapshot, after.epoch, Some(after), Some(upto)).await?;
        let rows = read_on(&mut snapshot, bounds, limit, bytes).await?;
        snapshot.commit().await?;
        Ok(rows)
    }

    /// The last line of another life that was kept before this place; 0 if none was.
    pub async fn kept_before(&self, at: Cursor, other: Epoch) -> Result<u64, Error> {
        let mut snapshot = self.inner.database.begin_reading().await?;
        let last = log_bounds::last_before(&mut snapshot, at, other).await?;
        snapshot.commit().await?;
        Ok(last)
    }

    /// Whose life it is, if lines of it were kept.
    pub async fn kept_node(&self, epoch: Epoch) -> Result<Option<NodeId>, Error> {
        let node: Option<String> =
            sql::query_scalar("select node from log_lives where epoch = $1 order by id desc limit 1")
                .bind(epoch.to_string())
                .fetch_optional(self.read())
                .await?;
        Ok(node.map(NodeId::new))
    }

    /// The lives of which lines were kept, oldest first; the last thousand at least.
    pub async fn kept_lives(&self) -> Result<Vec<Epoch>, Error> {
        let lives: Vec<String> =
            sql::query_scalar("select epoch from log_lives order by id").fetch_all(self.read()).await?;
        lives.iter().map(|epoch| epoch.parse().map_err(Error::unreadable)).collect()
    }

    /// How many rows are kept, and for how many bytes they count in [`Transaction::purge_rows`].
    ///
    /// [`Transaction::purge_rows`]: crate::store::Transaction::purge_rows
    pub async fn kept_total(&self) -> Result<(u64, u64), Error> {
        let (rows, bytes): (i64, i64) =
            sql::query_as("select row_count, bytes from log_total").fetch_one(self.read()).await?;
        Ok((rows.cast_unsigned(), bytes.cast_unsigned()))
    }
}

/// Rows between bounds, oldest first: so many, or so many bytes of text, at most.
async fn read_on(snapshot: &mut Begun, bounds: Bounds, limit: u32, bytes: usize) -> Result<KeptAfter, Error> {
    let (mut rows, full) = fetch(snapshot, select(None, bounds, Walk::Rows), bounds, Walk::Rows, limit, bytes).await?;
    if !bounds.oldest_first {
        rows.reverse();
    }
    let rows = rows.into_iter().map(|row| row.read(bounds.unseen)).collect::<Result<_, _>>()?;
    Ok(KeptAfter { rows, anchored: bounds.anchored, full })
}

/// These rows in order: so many, or so many bytes of text, at most; and whether there may be more.
async fn fetch(
    snapshot: &mut Begun,
    mut query: Builder<'_>,
    bounds: Bounds,
    walk: Walk,
    limit: u32,
    bytes: usize,
) -> Result<(Vec<Row>, bool), Error> {
    query.push(order(bounds, walk)).push_bind(i64::from(limit));
    let mut rows = Vec::new();
    let mut left = bytes;
    let mut full = false;
    let taken = query.build_query_as::<Row>().take_while(snapshot.on(), |row| {
        left = left.saturating_sub(row.text.len());
        rows.push(row);
        full = left == 0 || rows.len() >= limit as usize;
        !full
    });
    taken.await?;
    Ok((rows, full))
}

/// The rows that pass the filter, oldest first, at most so many as it says; and whether there are more for which there were not
/// bytes enough.
async fn matching(
    snapshot: &mut Begun,
    node: Option<&NodeId>,
    filter: &KeptFilter,
    bounds: Bounds,
) -> Result<(Vec<Row>, bool), Error> {
    let mut parts = Vec::new();
    if filter.sources.is_empty() {
        parts.push(lines(snapshot, node, filter, None, bounds).await?);
    }
    for source in &filter.sources {
        parts.push(lines(snapshot, node, filter, Some(source), bounds).await?);
    }
    if filter.wants_gaps() {
        parts.push(gaps(snapshot, node, filter, bounds).await?);
    }
    let far = |row: &Row| if bounds.oldest_first { row.id } else { -row.id };
    // beyond the last row of a part that is not all there is rows of that part would be missing
    let end = parts.iter().filter(|(_, full)| *full).filter_map(|(rows, _)| rows.last().map(far)).min();
    let mut rows: Vec<Row> = parts.into_iter().flat_map(|(rows, _)| rows).collect();
    rows.retain(|row| end.is_none_or(|end| far(row) <= end));
    rows.sort_unstable_by_key(far);
    rows.dedup_by_key(|row| row.id);
    let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    let cut = end.is_some() && rows.len() < limit;
    rows.truncate(limit);
    if !bounds.oldest_first {
        rows.reverse();
    }
    Ok((rows, cut))
}

/// The rows that pass by level, and are of this run and source if there is one; each source by itself, which its index serves
/// however rare it is.
async fn lines(
    snapshot: &mut Begun,
    node: Option<&NodeId>,
    filter: &KeptFilter,
    source: Option<&str>,
    bounds: Bounds,
) -> Result<(Vec<Row>, bool), Error> {
    let bad = filter.level.is_some_and(|level| level >= Level::Warn);
    let rare = bad || source.is_some() || filter.execution.is_some();
    let walk = if rare { Walk::Rare } else { Walk::Rows };
    let mut query = select(node, bounds, walk);
    if let Some(execution) = filter.execution {
        query.push(" and r.execution = ").push_bind(execution.0);
    }
    if let Some(source) = source {
        query.push(" and r.source = ").push_bind(source.to_owned());
    }
    if let Some(level) = filter.level.filter(|level| *level > Level::Trace) {
        if bad {
            // in so many words, so that the index of warnings and errors is used
            query.push(" and r.level >= 3");
        }
        query.push(" and r.level >= ").push_bind(i64::from(level.index()));
    }
    fetch(snapshot, query, bounds, walk, filter.limit, filter.bytes_each()).await
}

/// The gaps; of a run those written while it went on, or shortly after.
async fn gaps(
    snapshot: &mut Begun,
    node: Option<&NodeId>,
    filter: &KeptFilter,
    bounds: Bounds,
) -> Result<(Vec<Row>, bool), Error> {
    let mut query = select(node, bounds, Walk::Rare);
    query.push(" and r.level >= 3 and r.level = ").push_bind(GAP_LEVEL);
    if let Some(execution) = filter.execution {
        let run: Option<(Option<i64>, Option<i64>)> =
            sql::query_as("select started_at, finished_at from executions where id = $1")
                .bind(execution.0)
                .fetch_optional(snapshot.on())
                .await?;
        let Some((Some(started), finished)) = run else { return Ok((Vec::new(), false)) };
        query.push(" and r.at >= ").push_bind(started);
        query.push(" and r.at <= ").push_bind(finished.map_or(i64::MAX, |finished| finished.saturating_add(GAP_DELAY)));
    }
    fetch(snapshot, query, bounds, Walk::Rare, filter.limit, filter.bytes_each()).await
}

impl Row {
    /// `unseen`: in the gap that the cursor stands in, the first line the reader has not seen.
    fn read(self, unseen: Option<u64>) -> Result<KeptRow, Error> {
        let (node, seq) = (NodeId::new(self.node), self.seq.cast_unsigned());
        let epoch = self.epoch.parse().map_err(Error::unreadable)?;
        if let Some(to) = self.gap_to {
            let to = to.cast_unsigned();
            let gap = LogGap { from: seq, to, by_level: read_counts(&self.text) };
            return Ok(KeptRow::Gap(
                node,
                epoch,
                match unseen {
                    Some(unseen) if (seq..=to).contains(&unseen) => gap.part(unseen, to),
                    _ => gap,
                },
            ));
        }
        let entry = LogEntry {
            time: Timestamp::from_micros(self.at),
            level: u8::try_from(self.level).ok().and_then(Level::from_index).unwrap_or(Level::Error),
            source: self.source.into(),
            execution: self.execution.map(ExecutionId),
            stream: self.stream.map(|stream| if stream == STDERR { Stream::Stderr } else { Stream::Stdout }),
            text: self.text.into(),
        };
        Ok(KeptRow::Line(LogLine { node, epoch, seq, entry }))
    }
}

const STDOUT: i64 = 1;
const STDERR: i64 = 2;

/// As a stream stands in the database.
pub(crate) const fn stream_number(stream: Stream) -> i64 {
    match stream {
        Stream::Stdout => STDOUT,
        Stream::Stderr => STDERR,
    }
}

/// As a gap's counts stand in the database: five numbers.
pub(crate) fn write_counts(counts: &Counts) -> String {
    counts.map(|count| count.to_string()).join(" ")
}

fn read_counts(text: &str) -> Counts {
    let mut counts = Counts::default();
    for (count, word) in counts.iter_mut().zip(text.split(' ')) {
        *count = word.parse().unwrap_or(0);
    }
    counts
}
