//! Between which kept rows of logs to read: places of lives as row ids.

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
    /// Rows of this life alone (true), or of all others.
    pub(crate) life: Option<(i64, bool)>,
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
        life: None,
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

    /// After this line of a life, oldest first.
    async fn after_line(snapshot: &mut Begun, life: i64, seq: u64) -> Result<Self, Error> {
        let mut bounds = Self { oldest_first: true, ..Self::NONE };
        let last: Option<(i64, Option<i64>)> =
            sql::query_as("select id, gap_to from log_rows where life = $1 and seq <= $2 order by seq desc limit 1")
                .bind(life)
                .bind(bound(seq))
                .fetch_optional(snapshot.on())
                .await?;
        bounds.anchored = last.is_some();
        bounds.above = match last {
            // the reader saw a part of what others lost; the rest is lost for it, too
            Some((id, Some(to))) if to.cast_unsigned() > seq => {
                bounds.unseen = Some(seq.saturating_add(1));
                id - 1
            }
            Some((id, _)) => id,
            None => first_from(snapshot, life, 0).await?.map_or(i64::MAX, |first| first - 1),
        };
        Ok(bounds)
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
