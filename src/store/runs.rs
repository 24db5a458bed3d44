//! How a run goes on: claimed, finished, cancelled, abandoned, forgotten.

use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::base::id::{ExecutionId, NodeId};
use crate::model::execution::{Execution, Outcome};
use crate::store::error::Error;
use crate::store::executions::{Cancelled, ExecutionRow, NewExecution, columns, read};
use crate::store::sql;
use crate::store::{Transaction, cutoff};

impl Transaction {
    /// Takes a waiting run for this node: one conditional update. None if it waits no more, `limit` runs of its dispatcher go
    /// on already, or its dispatcher is paused. A pause holds back what the product starts by itself (due, at start, caught
    /// up, repeated); a run that a person or a script asked for goes ahead.
    pub async fn claim_execution(
        &mut self,
        id: ExecutionId,
        node: &NodeId,
        limit: u32,
        at: Timestamp,
    ) -> Result<Option<Execution>, Error> {
        let row: Option<ExecutionRow> = sql::query_as(concat!(
            "update executions set node = $2, started_at = $4
             where id = $1 and started_at is null and outcome is null
                and (select count(*) from executions other where other.dispatcher = executions.dispatcher
                    and other.started_at is not null and other.outcome is null) < $3
                and (cause in ('manual', 'api') or not exists (
                    select 1 from dispatchers where name = executions.dispatcher and paused_at is not null))
             returning ",
            columns!()
        ))
        .bind(id.0)
        .bind(node.as_str())
        .bind(i64::from(limit))
        .bind(at.as_micros())
        .fetch_optional(self.write())
        .await?;
        row.map(Execution::try_from).transpose()
    }

    /// Asks for a run and claims it at once (a due one). It starts now; `queued_at` is when it was due. None if `limit` runs
    /// of its dispatcher go on already, its dispatcher is paused (as in [`Transaction::claim_execution`]), or it was asked
    /// for before with the same `after` or key.
    pub async fn begin_execution(
        &mut self,
        new: &NewExecution,
        node: &NodeId,
        limit: u32,
    ) -> Result<Option<Execution>, Error> {
        let now = self.inner.clock.now();
        let row: Option<ExecutionRow> = sql::query_as(concat!(
            "insert into executions
                (dispatcher, cause, requested_by, queued_at, after_id, idempotency_key, retry_of, node, started_at)
             select cast($1 as text), cast($2 as text), cast($3 as text), cast($4 as bigint), cast($5 as bigint),
                cast($6 as text), cast($7 as bigint), cast($8 as text), cast($9 as bigint)
             where (select count(*) from executions where dispatcher = $1
                    and started_at is not null and outcome is null) < $10
                and ($2 in ('manual', 'api') or not exists (
                    select 1 from dispatchers where name = $1 and paused_at is not null))
             on conflict do nothing returning ",
            columns!()
        ))
        .bind(&new.dispatcher)
        .bind(new.cause.as_str())
        .bind(&new.requested_by)
        .bind(new.queued_at.as_micros())
        .bind(new.after)
        .bind(&new.idempotency_key)
        .bind(new.retry_of.map(|id| id.0))
        .bind(node.as_str())
        .bind(now.as_micros())
        .bind(i64::from(limit))
        .fetch_optional(self.write())
        .await?;
        row.map(Execution::try_from).transpose()
    }

    /// Writes down how a run ended; one that never began may end too (nobody can run it any more). False if it had ended
    /// already (then nothing is changed).
    pub async fn finish_execution(
        &mut self,
        id: ExecutionId,
        outcome: Outcome,
        message: Option<&str>,
        at: Timestamp,
    ) -> Result<bool, Error> {
        let finished = sql::query(
            "update executions set outcome = $2, message = $3, finished_at = $4 where id = $1 and outcome is null",
        )
        .bind(id.0)
        .bind(outcome.as_str())
        .bind(message)
        .bind(at.as_micros())
        .execute(self.write())
        .await?;
        Ok(finished.rows_affected() > 0)
    }

    /// Ends a waiting run, or asks the node of a running one to end it. None if there is no such run. Who asked first is
    /// written down.
    pub async fn cancel_execution(
        &mut self,
        id: ExecutionId,
        by: &str,
        at: Timestamp,
    ) -> Result<Option<Cancelled>, Error> {
        let ended: Option<ExecutionRow> = sql::query_as(concat!(
            "update executions set outcome = $2, cancelled_by = $3, finished_at = $4
             where id = $1 and started_at is null and outcome is null returning ",
            columns!()
        ))
        .bind(id.0)
        .bind(Outcome::Cancelled.as_str())
        .bind(by)
        .bind(at.as_micros())
        .fetch_optional(self.write())
        .await?;
        if let Some(row) = ended {
            return Ok(Some(Cancelled::Ended(row.try_into()?)));
        }
        let asked: Option<ExecutionRow> = sql::query_as(concat!(
            "update executions set cancelled_by = coalesce(cancelled_by, $2) where id = $1 and outcome is null returning ",
            columns!()
        ))
        .bind(id.0)
        .bind(by)
        .fetch_optional(self.write())
        .await?;
        if let Some(row) = asked {
            return Ok(Some(Cancelled::Asked(row.try_into()?)));
        }
        let late: Option<ExecutionRow> =
            sql::query_as(concat!("select ", columns!(), " from executions where id = $1"))
                .bind(id.0)
                .fetch_optional(self.write())
                .await?;
        Ok(late.map(Execution::try_from).transpose()?.map(Cancelled::TooLate))
    }

    /// Marks every run that still counts as running on this node as abandoned, with the reason: at its start, when none can
    /// be. Nobody knows when they ended; `seen` is the node's last sign of life before, so none is written down as longer.
    pub async fn abandon_executions(
        &mut self,
        node: &NodeId,
        seen: Option<Timestamp>,
        message: &str,
    ) -> Result<Vec<Execution>, Error> {
        read(
            sql::query_as(concat!(
                "update executions set outcome = $2, message = $4,
                    finished_at = case when started_at < $3 then $3 else started_at end
                 where node = $1 and started_at is not null and outcome is null returning ",
                columns!()
            ))
            .bind(node.as_str())
            .bind(Outcome::Abandoned.as_str())
            .bind(seen.map(Timestamp::as_micros))
            .bind(message)
            .fetch_all(self.write())
            .await?,
        )
    }

    /// Gives up runs of other nodes that gave no sign of life since `silent_since`, and of those that are not known any more: they
    /// are abandoned as of that node's last heartbeat. `message` says why, given the node.
    pub async fn abandon_runs_of_silent(
        &mut self,
        own: &NodeId,
        silent_since: Timestamp,
        message: impl Fn(&NodeId) -> String,
    ) -> Result<Vec<Execution>, Error> {
        let silent: Vec<(String, Option<i64>)> = sql::query_as(
            "select distinct executions.node, nodes.heartbeat_at
             from executions left join nodes on nodes.id = executions.node
             where executions.outcome is null and executions.started_at is not null and executions.node <> $1
                and (nodes.id is null or nodes.stopped_at is not null or nodes.heartbeat_at <= $2)",
        )
        .bind(own.as_str())
        .bind(silent_since.as_micros())
        .fetch_all(self.write_quietly())
        .await?;
        let mut abandoned = Vec::new();
        for (node, seen) in silent {
            let node = NodeId::new(node);
            let why = message(&node);
            abandoned.extend(self.abandon_executions(&node, seen.map(Timestamp::from_micros), &why).await?);
        }
        Ok(abandoned)
    }

    /// Adds to a run of this node that was given up that it ended after all. False if it was not given up.
    pub async fn note_late_end(&mut self, id: ExecutionId, node: &NodeId, text: &str) -> Result<bool, Error> {
        let noted = sql::query(
            "update executions set message = coalesce(message || '; ', '') || $4
             where id = $1 and node = $2 and outcome = $3",
        )
        .bind(id.0)
        .bind(node.as_str())
        .bind(Outcome::Abandoned.as_str())
        .bind(text)
        .execute(self.write())
        .await?;
        Ok(noted.rows_affected() > 0)
    }

    /// Deletes ended runs older than `age`, but never the newest `keep` of a dispatcher. How many went.
    pub async fn purge_executions(&mut self, age: Duration, keep: u32, now: Timestamp) -> Result<u64, Error> {
        let dispatchers: Vec<String> =
            sql::query_scalar("select distinct dispatcher from executions").fetch_all(self.write()).await?;
        let mut gone = 0;
        for dispatcher in dispatchers {
            // fewer than `keep` give no limit, and nothing is less than that
            let deleted = sql::query(
                "delete from executions where dispatcher = $1 and outcome is not null and finished_at < $2
                    and id <= (select id from executions where dispatcher = $1 order by id desc limit 1 offset $3)",
            )
            .bind(dispatcher)
            .bind(cutoff(now, age))
            .bind(i64::from(keep))
            .execute(self.write())
            .await?;
            gone += deleted.rows_affected();
        }
        Ok(gone)
    }

    /// Deletes runs of a dispatcher that began by themselves and ended normally with nothing to tell, but never its newest
    /// `keep` runs: a heartbeat leaves thousands a day. How many went.
    pub async fn purge_uneventful(&mut self, dispatcher: &str, keep: u32) -> Result<u64, Error> {
        let deleted = sql::query(
            "delete from executions where dispatcher = $1 and outcome = $3 and message is null
                and requested_by is null
                and id <= (select id from executions where dispatcher = $1 order by id desc limit 1 offset $2)",
        )
        .bind(dispatcher)
        .bind(i64::from(keep))
        .bind(Outcome::Normal.as_str())
        .execute(self.write())
        .await?;
        Ok(deleted.rows_affected())
    }
}
