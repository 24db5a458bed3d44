//! Runs of dispatchers: what is known of them, and who asks for one.

use sqlx::FromRow;

use crate::base::clock::Timestamp;
use crate::base::id::{ExecutionId, NodeId};
use crate::model::execution::{Cause, Execution, Outcome, Phase};
use crate::store::error::Error;
use crate::store::sql::{self, Builder};
use crate::store::{Store, Transaction};

/// How many runs of one dispatcher may wait; more are refused.
pub const MOST_QUEUED: u32 = 100;

/// A run asked for.
#[derive(Clone, Debug)]
pub struct NewExecution {
    /// Of which dispatcher.
    pub dispatcher: String,
    /// Why.
    pub cause: Cause,
    /// Who asked.
    pub requested_by: Option<String>,
    /// When.
    pub queued_at: Timestamp,
    /// The newest execution of this dispatcher that the asker saw (0 if none): unique with the dispatcher, so that a double
    /// click asks once. None: not checked.
    pub after: Option<i64>,
    /// The asker's own key for the same purpose (`Idempotency-Key`), unique with the dispatcher.
    pub idempotency_key: Option<String>,
    /// The failed run that this one repeats.
    pub retry_of: Option<ExecutionId>,
}

/// What came of asking.
#[derive(Clone, Debug)]
pub struct Requested {
    /// The run: a new one, or the one that was asked for before with the same `after` or key.
    pub execution: Execution,
    /// Whether it is new.
    pub new: bool,
}

/// What came of cancelling.
#[derive(Clone, Debug)]
pub enum Cancelled {
    /// It had not begun: it is ended now, outcome cancelled.
    Ended(Execution),
    /// It runs: its node is to end it.
    Asked(Execution),
    /// It had ended already.
    TooLate(Execution),
}

/// Which executions to list; newest first.
#[derive(Clone, Debug, Default)]
pub struct ExecutionFilter {
    /// Of this dispatcher.
    pub dispatcher: Option<String>,
    /// That ended so.
    pub outcome: Option<Outcome>,
    /// That are so far.
    pub phase: Option<Phase>,
    /// Older than this one.
    pub before: Option<ExecutionId>,
    /// At most so many.
    pub limit: u32,
}

/// A row of the table `executions`, as [`columns`] lists it.
#[derive(FromRow)]
pub(crate) struct ExecutionRow {
    id: i64,
    dispatcher: String,
    node: Option<String>,
    cause: String,
    requested_by: Option<String>,
    queued_at: i64,
    started_at: Option<i64>,
    finished_at: Option<i64>,
    outcome: Option<String>,
    message: Option<String>,
    retry_of: Option<i64>,
    cancelled_by: Option<String>,
}

macro_rules! columns {
    () => {
        "id, dispatcher, node, cause, requested_by, queued_at, started_at, finished_at, outcome, message, retry_of,
         cancelled_by"
    };
}
pub(crate) use columns;

macro_rules! select {
    ($rest:literal) => {
        concat!("select ", columns!(), " from executions ", $rest)
    };
}

impl TryFrom<ExecutionRow> for Execution {
    type Error = Error;

    fn try_from(row: ExecutionRow) -> Result<Self, Error> {
        Ok(Self {
            id: ExecutionId(row.id),
            dispatcher: row.dispatcher,
            node: row.node.map(NodeId::new),
            cause: row.cause.parse().map_err(Error::unreadable)?,
            requested_by: row.requested_by,
            queued_at: Timestamp::from_micros(row.queued_at),
            started_at: row.started_at.map(Timestamp::from_micros),
            finished_at: row.finished_at.map(Timestamp::from_micros),
            outcome: row.outcome.map(|word| word.parse()).transpose().map_err(Error::unreadable)?,
            message: row.message,
            retry_of: row.retry_of.map(ExecutionId),
            cancelled_by: row.cancelled_by,
        })
    }
}

/// Reads every row.
pub(crate) fn read(rows: Vec<ExecutionRow>) -> Result<Vec<Execution>, Error> {
    rows.into_iter().map(Execution::try_from).collect()
}

impl Store {
    /// The execution of this number.
    pub async fn execution(&self, id: ExecutionId) -> Result<Option<Execution>, Error> {
        let row: Option<ExecutionRow> =
            sql::query_as(select!("where id = $1")).bind(id.0).fetch_optional(self.read()).await?;
        row.map(Execution::try_from).transpose()
    }

    /// Executions, newest first.
    pub async fn executions(&self, filter: &ExecutionFilter) -> Result<Vec<Execution>, Error> {
        let mut query = Builder::new(select!("where id < "));
        query.push_bind(filter.before.map_or(i64::MAX, |id| id.0));
        if let Some(dispatcher) = &filter.dispatcher {
            query.push(" and dispatcher = ").push_bind(dispatcher);
        }
        if let Some(outcome) = filter.outcome {
            query.push(" and outcome = ").push_bind(outcome.as_str());
        }
        match filter.phase {
            None => {}
            Some(Phase::Queued) => drop(query.push(" and outcome is null and started_at is null")),
            Some(Phase::Running) => drop(query.push(" and outcome is null and started_at is not null")),
            Some(Phase::Completed) => drop(query.push(" and outcome is not null")),
        }
        query.push(" order by id desc limit ").push_bind(i64::from(filter.limit));
        read(query.build_query_as().fetch_all(self.read()).await?)
    }

    /// Those that wait, oldest first.
    pub async fn queued_executions(&self) -> Result<Vec<Execution>, Error> {
        read(
            sql::query_as(select!("where outcome is null and started_at is null order by id"))
                .fetch_all(self.read())
                .await?,
        )
    }

    /// Those that wait or run, oldest first.
    pub async fn open_executions(&self) -> Result<Vec<Execution>, Error> {
        read(sql::query_as(select!("where outcome is null order by id")).fetch_all(self.read()).await?)
    }

    /// Those that began on this node before `before` and have not ended, oldest first.
    pub async fn running_since(&self, node: &NodeId, before: Timestamp) -> Result<Vec<Execution>, Error> {
        read(
            sql::query_as(select!("where outcome is null and node = $1 and started_at < $2 order by id"))
                .bind(node.as_str())
                .bind(before.as_micros())
                .fetch_all(self.read())
                .await?,
        )
    }

    /// Those running on other nodes than this one, oldest first.
    pub async fn running_elsewhere(&self, node: &NodeId) -> Result<Vec<Execution>, Error> {
        read(
            sql::query_as(select!("where outcome is null and started_at is not null and node <> $1 order by id"))
                .bind(node.as_str())
                .fetch_all(self.read())
                .await?,
        )
    }

    /// Those running on this node that somebody asked to cancel.
    pub async fn cancel_requests(&self, node: &NodeId) -> Result<Vec<Execution>, Error> {
        read(
            sql::query_as(select!(
                "where outcome is null and started_at is not null and cancelled_by is not null and node = $1 order by id"
            ))
            .bind(node.as_str())
            .fetch_all(self.read())
            .await?,
        )
    }

    /// The newest execution of a dispatcher, however far it has come.
    pub async fn latest_execution(&self, dispatcher: &str) -> Result<Option<Execution>, Error> {
        let row: Option<ExecutionRow> = sql::query_as(select!("where dispatcher = $1 order by id desc limit 1"))
            .bind(dispatcher)
            .fetch_optional(self.read())
            .await?;
        row.map(Execution::try_from).transpose()
    }

    /// The number of the newest execution of every dispatcher that is present and has one.
    pub async fn latest_executions(&self) -> Result<Vec<(String, ExecutionId)>, Error> {
        let rows: Vec<(String, Option<i64>)> = sql::query_as(
            "select name, (select max(id) from executions where dispatcher = name) from dispatchers where present order by name",
        )
        .fetch_all(self.read())
        .await?;
        Ok(rows.into_iter().filter_map(|(name, id)| Some((name, ExecutionId(id?)))).collect())
    }

    /// The newest runs that ended, at most so many of each dispatcher that is present: by dispatcher, then oldest first.
    pub async fn recent_runs(&self, limit_per_dispatcher: u32) -> Result<Vec<Execution>, Error> {
        if limit_per_dispatcher == 0 {
            return Ok(Vec::new());
        }
        // a cross join keeps this order of tables in SQLite: few dispatchers first, then only the end of each one's runs
        read(
            sql::query_as(concat!(
                "select ",
                columns!(),
                " from dispatchers cross join executions
                 where dispatchers.present and executions.dispatcher = dispatchers.name and outcome is not null
                    and id >= coalesce(
                        (select newer.id from executions newer
                         where newer.dispatcher = dispatchers.name and newer.outcome is not null
                         order by newer.id desc limit 1 offset $1), 0)
                 order by dispatcher, id"
            ))
            .bind(i64::from(limit_per_dispatcher) - 1)
            .fetch_all(self.read())
            .await?,
        )
    }

    /// How many of the executions that are kept ended how; outcomes that none has are left out.
    pub async fn execution_counts(&self) -> Result<Vec<(Outcome, u64)>, Error> {
        let rows: Vec<(String, i64)> = sql::query_as(
            "select outcome, count(*) from executions where outcome is not null group by outcome order by outcome",
        )
        .fetch_all(self.read())
        .await?;
        rows.into_iter()
            .map(|(word, count)| Ok((word.parse().map_err(Error::unreadable)?, count.cast_unsigned())))
            .collect()
    }
}

impl Transaction {
    /// Asks for a run; it waits until a service node claims it.
    ///
    /// # Errors
    /// [`Error::Conflict`] if [`MOST_QUEUED`] runs of this dispatcher wait already.
    pub async fn request_execution(&mut self, new: &NewExecution) -> Result<Requested, Error> {
        if let Some(execution) = self.asked_before(new).await? {
            return Ok(Requested { execution, new: false });
        }
        let queued: i64 = sql::query_scalar(
            "select count(*) from executions where dispatcher = $1 and outcome is null and started_at is null",
        )
        .bind(&new.dispatcher)
        .fetch_one(self.write())
        .await?;
        if queued >= i64::from(MOST_QUEUED) {
            return Err(Error::Conflict(format!(
                "{queued} runs of {} wait already; wait until they are done, or cancel some",
                new.dispatcher
            )));
        }
        let row: Option<ExecutionRow> = sql::query_as(concat!(
            "insert into executions
                (dispatcher, cause, requested_by, queued_at, after_id, idempotency_key, retry_of)
             values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing returning ",
            columns!()
        ))
        .bind(&new.dispatcher)
        .bind(new.cause.as_str())
        .bind(&new.requested_by)
        .bind(new.queued_at.as_micros())
        .bind(new.after)
        .bind(&new.idempotency_key)
        .bind(new.retry_of.map(|id| id.0))
        .fetch_optional(self.write())
        .await?;
        match row {
            Some(row) => Ok(Requested { execution: row.try_into()?, new: true }),
            None => match self.asked_before(new).await? {
                Some(execution) => Ok(Requested { execution, new: false }),
                None => Err(Error::Conflict("this run was asked for at the same time; look again".to_owned())),
            },
        }
    }

    /// The run that was asked for with the same key, or else the same `after`.
    async fn asked_before(&mut self, new: &NewExecution) -> Result<Option<Execution>, Error> {
        if let Some(key) = &new.idempotency_key {
            let row: Option<ExecutionRow> = sql::query_as(select!("where dispatcher = $1 and idempotency_key = $2"))
                .bind(&new.dispatcher)
                .bind(key)
                .fetch_optional(self.write())
                .await?;
            if let Some(row) = row {
                return row.try_into().map(Some);
            }
        }
        let Some(after) = new.after else { return Ok(None) };
        let row: Option<ExecutionRow> = sql::query_as(select!("where dispatcher = $1 and after_id = $2"))
            .bind(&new.dispatcher)
            .bind(after)
            .fetch_optional(self.write())
            .await?;
        row.map(Execution::try_from).transpose()
    }
}
