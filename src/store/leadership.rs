//! Which service node is primary: one row with a holder, a fencing number and an expiry by the database's clock.
//!
//! Only the database judges whether a term is over, so clocks of nodes that differ change nothing. A term is never prolonged by
//! anyone but its holder, and never taken before it expired or was given back.

use std::time::Duration;

use sqlx::FromRow;

use crate::base::clock::Timestamp;
use crate::base::id::NodeId;
use crate::store::error::Error;
use crate::store::{Store, Transaction, sql};

/// A node for which a term was asked has it for itself so long before others may take it.
const FIRST_REFUSAL: Duration = Duration::from_secs(2);

/// Who is primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// Who is, or was last; none once it was given back, and at the very beginning.
    pub holder: Option<NodeId>,
    /// Which term it is.
    pub fencing: i64,
    /// When the holder became primary.
    pub since: Timestamp,
    /// How much longer the term is good; zero once it is over.
    pub left: Duration,
    /// For how long the term has been over; zero while it is good.
    pub over_for: Duration,
    /// Who wants it handed over, and to which node, if to a certain one.
    pub asked: Option<(String, Option<NodeId>)>,
}

impl Leadership {
    /// Who is primary now; none if nobody is.
    #[must_use]
    pub fn primary(&self) -> Option<&NodeId> {
        self.holder.as_ref().filter(|_| !self.left.is_zero())
    }
}

#[derive(FromRow)]
struct Row {
    holder: Option<String>,
    fencing: i64,
    since: i64,
    left_micros: i64,
    asked_by: Option<String>,
    asked_to: Option<String>,
}

impl From<Row> for Leadership {
    fn from(row: Row) -> Self {
        Self {
            holder: row.holder.map(NodeId::new),
            fencing: row.fencing,
            since: Timestamp::from_micros(row.since),
            left: Duration::from_micros(u64::try_from(row.left_micros).unwrap_or(0)),
            over_for: Duration::from_micros(u64::try_from(row.left_micros.saturating_neg()).unwrap_or(0)),
            asked: row.asked_by.map(|by| (by, row.asked_to.map(NodeId::new))),
        }
    }
}

impl Store {
    /// Who is primary.
    pub async fn leadership(&self) -> Result<Leadership, Error> {
        let row: Row = sql::query_as(
            "select holder, fencing, since, expires_at - {now} as left_micros, asked_by, asked_to from leadership",
        )
        .fetch_one(self.read())
        .await?;
        Ok(row.into())
    }
}

impl Transaction {
    /// Becomes primary for `term`, if nobody is, or this node was (in a former life); gives the fencing number. `alone`: no other
    /// service node can live beside this one, so that nobody's term has to be waited for.
    ///
    /// Who gave it away takes it back only `term` later, and a node that is asked for comes first.
    pub async fn take_lead(&mut self, node: &NodeId, term: Duration, alone: bool) -> Result<Option<i64>, Error> {
        let fencing = sql::query_scalar(
            "update leadership set holder = $1, fencing = fencing + 1, since = {now}, expires_at = {now} + $2,
                released_by = null, asked_by = null, asked_to = null
             where $3 = 1 or holder = $1
                or ((holder is null or expires_at <= {now})
                    and (released_by is null or released_by <> $1 or expires_at + $2 <= {now})
                    and (asked_to is null or asked_to = $1 or expires_at + $4 <= {now}))
             returning fencing",
        )
        .bind(node.as_str())
        .bind(micros(term))
        .bind(i64::from(alone))
        .bind(micros(FIRST_REFUSAL))
        .fetch_optional(self.write())
        .await?;
        Ok(fencing)
    }

    /// Stays primary for `term` from now, never shorter than it was to be before (its holder may rely on that), also if the term before is over and nobody took the next. False if somebody did.
    pub async fn renew_lead(&mut self, node: &NodeId, fencing: i64, term: Duration) -> Result<bool, Error> {
        let renewed = sql::query("update leadership
             set expires_at = case when expires_at > {now} + $3 then expires_at else {now} + $3 end where holder = $1 and fencing = $2")
            .bind(node.as_str())
            .bind(fencing)
            .bind(micros(term))
            .execute(self.write_quietly())
            .await?;
        Ok(renewed.rows_affected() == 1)
    }

    /// Whether this node is primary in this term, as the database sees it now. In a transaction that claims a run it holds until
    /// the commit: nobody can take a run at the same time.
    pub async fn holds_lead(&mut self, node: &NodeId, fencing: i64) -> Result<bool, Error> {
        let held: i64 = sql::query_scalar(
            "select count(*) from leadership where holder = $1 and fencing = $2 and expires_at > {now}",
        )
        .bind(node.as_str())
        .bind(fencing)
        .fetch_one(self.write_quietly())
        .await?;
        Ok(held == 1)
    }

    /// Is primary no more. `handing_over`: another is to be, so this node does not take it back soon.
    pub async fn release_lead(&mut self, node: &NodeId, fencing: i64, handing_over: bool) -> Result<(), Error> {
        sql::query(
            "update leadership set holder = null, expires_at = {now},
                released_by = case when $3 = 1 then $1 end
             where holder = $1 and fencing = $2",
        )
        .bind(node.as_str())
        .bind(fencing)
        .bind(i64::from(handing_over))
        .execute(self.write())
        .await?;
        Ok(())
    }

    /// Asks the primary to hand over, to a certain node or to any. False if nobody is primary, or that node is already.
    pub async fn ask_hand_over(&mut self, by: &str, to: Option<&NodeId>) -> Result<bool, Error> {
        let asked = sql::query(
            "update leadership set asked_by = $1, asked_to = $2
             where holder is not null and expires_at > {now} and ($2 is null or holder <> $2)",
        )
        .bind(by)
        .bind(to.map(NodeId::as_str))
        .execute(self.write())
        .await?;
        Ok(asked.rows_affected() == 1)
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
