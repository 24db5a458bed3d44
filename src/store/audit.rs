//! Who did what, from where.

use std::time::Duration;

use sqlx::FromRow;

use crate::base::clock::Timestamp;
use crate::model::audit::{AuditEntry, NewAuditEntry};
use crate::store::error::Error;
use crate::store::sql::{self, Builder};
use crate::store::{Store, Transaction, cutoff};

/// Which entries to list; newest first.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// By this user.
    pub who: Option<String>,
    /// Of this action.
    pub action: Option<String>,
    /// About this.
    pub subject: Option<String>,
    /// Older than this entry.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: u32,
}

#[derive(FromRow)]
struct Row {
    id: i64,
    at: i64,
    who: String,
    address: String,
    action: String,
    subject: String,
    result: String,
}

impl From<Row> for AuditEntry {
    fn from(row: Row) -> Self {
        let Row { id, at, who, address, action, subject, result } = row;
        Self { id, at: Timestamp::from_micros(at), who, address, action, subject, result }
    }
}

impl Store {
    /// Entries, newest first.
    pub async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditEntry>, Error> {
        let mut query =
            Builder::new("select id, at, who, address, action, subject, result from audit_entries where id < ");
        query.push_bind(filter.before.unwrap_or(i64::MAX));
        for (condition, value) in
            [(" and who = ", &filter.who), (" and action = ", &filter.action), (" and subject = ", &filter.subject)]
        {
            if let Some(value) = value {
                query.push(condition).push_bind(value);
            }
        }
        query.push(" order by id desc limit ").push_bind(i64::from(filter.limit));
        let rows: Vec<Row> = query.build_query_as().fetch_all(self.read()).await?;
        Ok(rows.into_iter().map(AuditEntry::from).collect())
    }
}

impl Transaction {
    /// Writes one down.
    pub async fn append_audit(&mut self, entry: &NewAuditEntry, at: Timestamp) -> Result<(), Error> {
        sql::query(
            "insert into audit_entries (at, who, address, action, subject, result) values ($1, $2, $3, $4, $5, $6)",
        )
        .bind(at.as_micros())
        .bind(&entry.who)
        .bind(&entry.address)
        .bind(entry.action)
        .bind(&entry.subject)
        .bind(&entry.result)
        .execute(self.write_quietly())
        .await?;
        Ok(())
    }

    /// Deletes those older than `age`. How many went.
    pub async fn purge_audit(&mut self, age: Duration, now: Timestamp) -> Result<u64, Error> {
        let gone = sql::query("delete from audit_entries where at < $1")
            .bind(cutoff(now, age))
            .execute(self.write_quietly())
            .await?;
        Ok(gone.rows_affected())
    }
}
