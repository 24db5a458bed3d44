//! Between which kept rows of logs to read: places of lives as row ids, and how a database looks for what lies there.

use crate::base::id::{Cursor, Epoch, NodeId};
use crate::store::database::Begun;
use crate::store::error::Error;
use crate::store::sql::{self, Builder};

/// Between which rows to read, both left out.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) above: i64,
    pub(crate) below: i64,
    pub(crate) oldest_first: bool,
    /// In a gap that the cursor stands in, the first line the reader has not seen.
    pub(crate) unseen: Option<u64>,
    /// Whether the row at the cursor, or one before it in its life, is there.
    pub(crate) anchored: bool,
    /// Lives before this one are read whole: a standby's rows may be older than those of the primary before it.
    pub(crate) whole_before: i64,
    pub(crate) whose: Whose,
    /// The numbers of a life's rows that follow the cursor are greater.
    seq_above: i64,
}

/// Of which lives rows are read.
#[derive(Clone, Copy)]
pub(crate) enum Whose {
    All,
    /// All but these two.
    Others(i64, i64),
    /// This one alone: what follows one number, up to another.
    Life {
        id: i64,
        above: i64,
        upto: i64,
    },
}

impl Bounds {
    /// Everything, newest first.
    const NONE: Self = Self {
        above: 0,
        below: i64::MAX,
        oldest_first: false,
        unseen: None,
        anchored: false,
        whole_before: 0,
        whose: Whose::All,
        seq_above: 0,
    };

    /// After this place and before that one, as far as something is known of their lives.
    pub(crate) async fn find(
        snapshot: &mut Begun,
        node: Option<&NodeId>,
        after: Option<Cursor>,
        before: Option<Cursor>,
    ) -> Result<Self, Error> {
        let mut bounds = Self::NONE;
        if let Some(after) = after
            && let Some(life) = life(snapshot, node, after.epoch).await?
        {
            bounds = Self::after_line(snapshot, life, after.seq).await?;
        }
        if let Some(before) = before
            && let Some(life) = life(snapshot, node, before.epoch).await?
        {
            bounds.below = first_from(snapshot, life, bound(before.seq)).await?.unwrap_or(i64::MAX);
            bounds.whole_before = life;
        }
        Ok(bounds)
    }

    /// Up to this place, or the last row of its life before, as far as something is known of that life.
    pub(crate) async fn end_at(&mut self, snapshot: &mut Begun, upto: Option<Cursor>) -> Result<(), Error> {
        if let Some(upto) = upto
            && let Some(life) = life(snapshot, None, upto.epoch).await?
        {
            self.below = Self::after_line(snapshot, life, upto.seq).await?.above.saturating_add(1);
        }
        Ok(())
    }

    /// Only rows of this life, up to one of its lines; `after`, if the place to read after is one of it, too.
    pub(crate) async fn keep_to(
        &mut self,
        snapshot: &mut Begun,
        epoch: Epoch,
        after: Option<Cursor>,
        upto: Option<u64>,
    ) -> Result<(), Error> {
        // no row is of life 0
        let id = life(snapshot, None, epoch).await?.unwrap_or(0);
        let above = if after.is_some_and(|after| after.epoch == epoch) { self.seq_above } else { 0 };
        self.whose = Whose::Life { id, above, upto: upto.map_or(i64::MAX, bound) };
        Ok(())
    }

    /// No rows of this life, nor of the other one if there is one.
    pub(crate) async fn leave_out(
        &mut self,
        snapshot: &mut Begun,
        epoch: Epoch,
        nor: Option<Epoch>,
    ) -> Result<(), Error> {
        let one = life(snapshot, None, epoch).await?.unwrap_or(0);
        let other = if let Some(nor) = nor { life(snapshot, None, nor).await?.unwrap_or(0) } else { 0 };
        self.whose = Whose::Others(one, other);
        Ok(())
    }

    /// After this line of a life, oldest first.
    async fn after_line(snapshot: &mut Begun, life: i64, seq: u64) -> Result<Self, Error> {
        let mut bounds = Self { oldest_first: true, ..Self::NONE };
        let last: Option<(i64, i64, Option<i64>)> = sql::query_as(
            "select id, seq, gap_to from log_rows where life = $1 and seq <= $2 order by seq desc limit 1",
        )
        .bind(life)
        .bind(bound(seq))
        .fetch_optional(snapshot.on())
        .await?;
        bounds.anchored = last.is_some();
        (bounds.above, bounds.seq_above) = match last {
            // the reader saw a part of what others lost; the rest is lost for it, too
            Some((id, from, Some(to))) if to.cast_unsigned() > seq => {
                bounds.unseen = Some(seq.saturating_add(1));
                (id - 1, from - 1)
            }
            Some((id, from, _)) => (id, from),
            None => (first_from(snapshot, life, 0).await?.map_or(i64::MAX, |first| first - 1), 0),
        };
        Ok(bounds)
    }
}

/// How the database is to look for rows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walk {
    /// Row by row, or life by life: most pass.
    Rows,
    /// By the index of what few rows have.
    Rare,
}

impl Walk {
    /// Whether rows are read by their numbers in the one life they are of.
    const fn is_by_seq(self, bounds: Bounds) -> bool {
        matches!((self, bounds.whose), (Self::Rows, Whose::Life { .. }))
    }
}

pub(crate) fn select<'q>(node: Option<&NodeId>, bounds: Bounds, walk: Walk) -> Builder<'q> {
    let mut query = Builder::new(
        "select r.id, l.node, l.epoch, r.seq, r.at, r.level, r.source, r.execution, r.stream, r.gap_to, r.text
         from log_rows r join log_lives l on l.id = r.life where r.id > ",
    );
    query.push_bind(bounds.above);
    if bounds.whole_before > 0 && bounds.below < i64::MAX {
        query.push(" and (r.id < ").push_bind(bounds.below);
        query.push(" or r.life < ").push_bind(bounds.whole_before).push(")");
    } else {
        query.push(" and r.id < ").push_bind(bounds.below);
    }
    if let Some(node) = node {
        query.push(" and l.node = ").push_bind(node.as_str().to_owned());
    }
    match bounds.whose {
        Whose::All => {}
        Whose::Others(one, other) => {
            query.push(" and r.life <> ").push_bind(one).push(" and r.life <> ").push_bind(other);
        }
        Whose::Life { id, above, upto } => {
            // with the sign SQLite does not read a whole life by its index and sort it
            query.push(if walk.is_by_seq(bounds) { " and r.life = " } else { " and +r.life = " }).push_bind(id);
            query.push(" and r.seq > ").push_bind(above).push(" and r.seq <= ").push_bind(upto);
        }
    }
    query
}

/// The rows of one life are kept in the order of their numbers.
pub(crate) const fn order(bounds: Bounds, walk: Walk) -> &'static str {
    match (walk.is_by_seq(bounds), bounds.oldest_first) {
        (true, true) => " order by r.seq limit ",
        (true, false) => " order by r.seq desc limit ",
        (false, true) => " order by r.id limit ",
        (false, false) => " order by r.id desc limit ",
    }
}

/// The first row of this life from `seq` on, or else of a later one.
async fn first_from(snapshot: &mut Begun, life: i64, seq: i64) -> Result<Option<i64>, Error> {
    let own: Option<i64> =
        sql::query_scalar("select id from log_rows where life = $1 and seq >= $2 order by seq limit 1")
            .bind(life)
            .bind(seq)
            .fetch_optional(snapshot.on())
            .await?;
    if own.is_some() {
        return Ok(own);
    }
    let later = sql::query_scalar("select id from log_rows where life > $1 order by life, seq limit 1")
        .bind(life)
        .fetch_optional(snapshot.on())
        .await?;
    Ok(later)
}

/// The last line of another life that was kept before a place; 0 if none was. Between the first and the last row of that life halving
/// finds it: it may be as far from the one as from the other.
pub(crate) async fn last_before(snapshot: &mut Begun, at: Cursor, other: Epoch) -> Result<u64, Error> {
    let bounds = Bounds::find(snapshot, None, Some(at), None).await?;
    let Some(other) = life(snapshot, None, other).await?.filter(|_| bounds.oldest_first) else { return Ok(0) };
    let mut last = 0;
    let (mut low, mut high) = (0, i64::MAX);
    // the last row up to a number: its numbers are below that, so a step halves what is left, or more
    let mut middle = high;
    while low < high {
        let row: Option<(i64, i64, Option<i64>)> = sql::query_as(
            "select id, seq, gap_to from log_rows where life = $1 and seq > $2 and seq <= $3 order by seq desc limit 1",
        )
        .bind(other)
        .bind(low)
        .bind(middle)
        .fetch_optional(snapshot.on())
        .await?;
        match row {
            Some((id, seq, gap_to)) if id <= bounds.above => {
                (low, last) = (middle, gap_to.unwrap_or(seq).cast_unsigned());
            }
            Some((_, seq, _)) => high = seq - 1,
            None => low = middle,
        }
        middle = low + (high - low + 1) / 2;
    }
    Ok(last)
}

/// The row of a life, if lines of it were kept.
pub(crate) async fn life(snapshot: &mut Begun, node: Option<&NodeId>, epoch: Epoch) -> Result<Option<i64>, Error> {
    let mut query = Builder::new("select id from log_lives where epoch = ");
    query.push_bind(epoch.to_string());
    if let Some(node) = node {
        query.push(" and node = ").push_bind(node.as_str());
    }
    query.push(" order by id desc limit 1");
    Ok(query.build_query_scalar().fetch_optional(snapshot.on()).await?)
}

/// A line's number as the database has it; a cursor may hold any.
fn bound(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::clock::SystemClock;
    use crate::base::shutdown::Shutdown;
    use crate::store::{OpenOptions, Store};

    /// How SQLite reads these rows.
    async fn plan(store: &Store, whose: Whose, walk: Walk, narrowed: &'static str) -> String {
        let bounds = Bounds { above: 1, below: 100, whose, ..Bounds::NONE };
        let mut query = select(None, bounds, walk).explained();
        query.push(narrowed).push(order(bounds, walk)).push_bind(10);
        let steps = query.build_query_as::<(i64, i64, i64, String)>().fetch_all(store.read()).await.unwrap();
        steps.into_iter().map(|(.., step)| step).collect::<Vec<_>>().join("; ")
    }

    #[tokio::test]
    async fn no_more_rows_are_looked_at_than_are_read() {
        let root = tempfile::tempdir().unwrap();
        let shutdown = Shutdown::new();
        let options = OpenOptions {
            data: root.path().to_owned(),
            database: None,
            encryption_key: None,
            clock: Arc::new(SystemClock),
        };
        let store = Store::open(options, &shutdown).await.unwrap();
        let own = Whose::Life { id: 3, above: 4, upto: 90 };
        let bad = " and r.level >= 3";
        let source = " and r.source = 's'";
        for (whose, walk, narrowed, expected) in [
            (own, Walk::Rows, "", "log_rows_seq (life=? AND seq>? AND seq<?)"),
            (own, Walk::Rare, bad, "log_rows_bad (id>? AND id<?)"),
            (own, Walk::Rare, source, "log_rows_source (source=? AND rowid>? AND rowid<?)"),
            (Whose::Others(3, 2), Walk::Rows, "", "r USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
            (Whose::Others(3, 2), Walk::Rare, bad, "log_rows_bad (id>? AND id<?)"),
            (Whose::All, Walk::Rare, source, "log_rows_source (source=? AND rowid>? AND rowid<?)"),
        ] {
            let plan = plan(&store, whose, walk, narrowed).await;
            assert!(plan.contains(expected) && !plan.contains("B-TREE"), "{plan}");
        }
        shutdown.stop_now();
    }
}
