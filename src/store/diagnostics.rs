//! This product's own warnings and errors.

use sqlx::FromRow;

use crate::base::clock::Timestamp;
use crate::base::id::NodeId;
use crate::model::log_entry::Level;
use crate::store::database::Begun;
use crate::store::error::Error;
use crate::store::sql;
use crate::store::{Store, Transaction};

/// One warning or error of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// In the order in which they were kept; 0 for one about to be.
    pub id: i64,
    /// When; when last, if it was said more than once.
    pub at: Timestamp,
    /// On which node.
    pub node: NodeId,
    /// How bad.
    pub level: Level,
    /// Which part.
    pub source: String,
    /// What.
    pub message: String,
    /// How often the same was said in a row.
    pub count: u64,
}

#[derive(FromRow)]
struct Row {
    id: i64,
    at: i64,
    node: String,
    level: i64,
    source: String,
    message: String,
    said: i64,
}

impl From<Row> for Diagnostic {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            at: Timestamp::from_micros(row.at),
            node: NodeId::new(row.node),
            level: u8::try_from(row.level).ok().and_then(Level::from_index).unwrap_or(Level::Error),
            source: row.source,
            message: row.message,
            count: row.said.cast_unsigned(),
        }
    }
}

impl Store {
    /// The newest, newest first, of this level and above. By time: a node that was cut off from the database keeps its own late.
    pub async fn diagnostics(&self, level: Level, limit: u32) -> Result<Vec<Diagnostic>, Error> {
        let rows: Vec<Row> = sql::query_as(
            "select id, at, node, level, source, message, said from diagnostics where level >= $1
             order by at desc, id desc limit $2",
        )
        .bind(i64::from(level.index()))
        .bind(i64::from(limit))
        .fetch_all(self.read())
        .await?;
        Ok(rows.into_iter().map(Diagnostic::from).collect())
    }
}

impl Transaction {
    /// Keeps these, in their order. One that says the same as its node's newest is counted there.
    pub async fn keep_diagnostics(&mut self, entries: &[Diagnostic]) -> Result<(), Error> {
        keep(&mut self.begun, entries).await
    }

    /// Deletes all but the newest `keep`. How many went.
    pub async fn purge_diagnostics(&mut self, keep: u32) -> Result<u64, Error> {
        let gone = sql::query(
            "delete from diagnostics
             where (at, id) <= (select at, id from diagnostics order by at desc, id desc limit 1 offset $1)",
        )
        .bind(i64::from(keep))
        .execute(self.write_quietly())
        .await?;
        Ok(gone.rows_affected())
    }
}

/// The same in a transaction that was begun before a store is open.
pub(crate) async fn keep(begun: &mut Begun, entries: &[Diagnostic]) -> Result<(), Error> {
    for entry in entries {
        let counted = sql::query(
            "update diagnostics set said = said + $1, at = $2
             where id = (select max(id) from diagnostics where node = $3) and level = $4 and source = $5 and message = $6",
        )
        .bind(entry.count.max(1).cast_signed())
        .bind(entry.at.as_micros())
        .bind(entry.node.as_str())
        .bind(i64::from(entry.level.index()))
        .bind(&entry.source)
        .bind(&entry.message)
        .execute(begun.on())
        .await?;
        if counted.rows_affected() > 0 {
            continue;
        }
        sql::query("insert into diagnostics (at, node, level, source, message, said) values ($1, $2, $3, $4, $5, $6)")
            .bind(entry.at.as_micros())
            .bind(entry.node.as_str())
            .bind(i64::from(entry.level.index()))
            .bind(&entry.source)
            .bind(&entry.message)
            .bind(entry.count.max(1).cast_signed())
            .execute(begun.on())
            .await?;
    }
    Ok(())
}
