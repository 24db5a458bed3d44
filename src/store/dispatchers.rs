//! What is declared of dispatchers, and what administrators want of them.

use sqlx::FromRow;

use crate::base::clock::Timestamp;
use crate::store::error::Error;
use crate::store::sql;
use crate::store::{Store, Transaction};

/// A dispatcher as the database knows it: what a page shows while the service can't be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDispatcher {
    /// Its name.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// What it does.
    pub description: String,
    /// `built_in`, `job` or `program`.
    pub origin: String,
    /// When it runs, in words.
    pub schedule: String,
    /// Whether the service node declared it at its last start.
    pub present: bool,
    /// By which setting or line it is switched off.
    pub disabled_by: Option<String>,
    /// How many runs may go on at once.
    pub limit: u32,
    /// When it was due next, when last written (at each end of a run).
    pub next_at: Option<Timestamp>,
    /// Who paused it, and when.
    pub paused: Option<(String, Timestamp)>,
}

#[derive(FromRow)]
struct Row {
    name: String,
    title: String,
    description: String,
    origin: String,
    schedule: String,
    present: bool,
    disabled_by: Option<String>,
    run_limit: i64,
    next_at: Option<i64>,
    paused_by: Option<String>,
    paused_at: Option<i64>,
}

impl From<Row> for StoredDispatcher {
    fn from(row: Row) -> Self {
        Self {
            name: row.name,
            title: row.title,
            description: row.description,
            origin: row.origin,
            schedule: row.schedule,
            present: row.present,
            disabled_by: row.disabled_by,
            limit: u32::try_from(row.run_limit).unwrap_or(u32::MAX),
            next_at: row.next_at.map(Timestamp::from_micros),
            paused: row.paused_by.zip(row.paused_at.map(Timestamp::from_micros)),
        }
    }
}

impl Store {
    /// All that are present, by name.
    pub async fn dispatchers(&self) -> Result<Vec<StoredDispatcher>, Error> {
        let rows: Vec<Row> = sql::query_as(
            "select name, title, description, origin, schedule, present, disabled_by, run_limit, next_at, paused_by, paused_at
             from dispatchers where present order by name",
        )
        .fetch_all(self.read())
        .await?;
        Ok(rows.into_iter().map(StoredDispatcher::from).collect())
    }

    /// The one of this name, present or not.
    pub async fn dispatcher(&self, name: &str) -> Result<Option<StoredDispatcher>, Error> {
        let row: Option<Row> = sql::query_as(
            "select name, title, description, origin, schedule, present, disabled_by, run_limit, next_at, paused_by, paused_at
             from dispatchers where name = $1",
        )
        .bind(name)
        .fetch_optional(self.read())
        .await?;
        Ok(row.map(StoredDispatcher::from))
    }
}

impl Transaction {
    /// Declares exactly these (their `paused` is not touched); the others are no longer present. A `next_at` that is not
    /// given stays, unless the schedule changed or it is switched off: so a time missed while the node was down can be seen.
    pub async fn declare_dispatchers(&mut self, declared: &[StoredDispatcher]) -> Result<(), Error> {
        sql::query("update dispatchers set present = false").execute(self.write()).await?;
        for dispatcher in declared {
            sql::query(
                "insert into dispatchers
                    (name, title, description, origin, schedule, present, disabled_by, run_limit, next_at)
                 values ($1, $2, $3, $4, $5, true, $6, $7, $8)
                 on conflict (name) do update set
                    title = excluded.title, description = excluded.description, origin = excluded.origin,
                    schedule = excluded.schedule, present = true, disabled_by = excluded.disabled_by,
                    run_limit = excluded.run_limit,
                    next_at = case
                        when excluded.next_at is not null then excluded.next_at
                        when excluded.schedule = dispatchers.schedule and excluded.disabled_by is null
                            then dispatchers.next_at
                    end",
            )
            .bind(&dispatcher.name)
            .bind(&dispatcher.title)
            .bind(&dispatcher.description)
            .bind(&dispatcher.origin)
            .bind(&dispatcher.schedule)
            .bind(&dispatcher.disabled_by)
            .bind(i64::from(dispatcher.limit))
            .bind(dispatcher.next_at.map(Timestamp::as_micros))
            .execute(self.write())
            .await?;
        }
        Ok(())
    }

    /// Writes when it is due next.
    pub async fn schedule_dispatcher(&mut self, name: &str, next_at: Option<Timestamp>) -> Result<(), Error> {
        sql::query("update dispatchers set next_at = $2 where name = $1")
            .bind(name)
            .bind(next_at.map(Timestamp::as_micros))
            .execute(self.write())
            .await?;
        Ok(())
    }

    /// Pauses it: from now on nothing is begun by itself, only what a person or a script asks for (see
    /// [`Transaction::claim_execution`]). False if none of this name is present; an earlier pause stays as it was.
    pub async fn pause_dispatcher(&mut self, name: &str, by: &str, at: Timestamp) -> Result<bool, Error> {
        let paused = sql::query(
            "update dispatchers set paused_by = coalesce(paused_by, $2), paused_at = coalesce(paused_at, $3)
             where name = $1 and present",
        )
        .bind(name)
        .bind(by)
        .bind(at.as_micros())
        .execute(self.write())
        .await?;
        Ok(paused.rows_affected() > 0)
    }

    /// Lets it go on. False if none of this name is present.
    pub async fn resume_dispatcher(&mut self, name: &str) -> Result<bool, Error> {
        let resumed =
            sql::query("update dispatchers set paused_by = null, paused_at = null where name = $1 and present")
                .bind(name)
                .execute(self.write())
                .await?;
        Ok(resumed.rows_affected() > 0)
    }
}
