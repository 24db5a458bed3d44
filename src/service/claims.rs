//! What a runner writes: that a run began, that it ended, when the next one is due. One transaction each.

use std::sync::{Arc, Mutex, PoisonError};

use crate::base::clock::Timestamp;
use crate::base::id::ExecutionId;
use crate::model::execution::{Execution, Outcome};
use crate::service::parts::Parts;
use crate::service::plan::Due;
use crate::store::error::Error;
use crate::store::executions::NewExecution;

/// How a run ended, as it is written down.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// How.
    pub outcome: Outcome,
    /// What is said about it.
    pub message: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// When a dispatcher is due next, as its loop sees it now. Read inside a transaction, of which there is one at a time: so what
/// is written last is what holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct NextAt(Arc<Mutex<Option<Timestamp>>>);

impl NextAt {
    pub(crate) fn set(&self, at: Option<Timestamp>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    fn get(&self) -> Option<Timestamp> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins a run that is due. None if `limit` runs of the dispatcher go on already, as the database sees it.
pub(crate) async fn begin(
    parts: &Parts,
    dispatcher: &str,
    due: &Due,
    limit: u32,
    next_at: &NextAt,
) -> Result<Option<Execution>, Error> {
    let new = NewExecution {
        dispatcher: dispatcher.to_owned(),
        cause: due.cause,
        requested_by: None,
        queued_at: due.expected,
        after: None,
        idempotency_key: None,
        retry_of: due.retry_of,
    };
    let mut transaction = parts.store.begin().await?;
    let execution = transaction.begin_execution(&new, &parts.node, limit).await?;
    if execution.is_some() {
        // so that a node that dies now does not take this time for one it missed
        transaction.schedule_dispatcher(dispatcher, next_at.get()).await?;
    }
    transaction.commit().await?;
    Ok(execution)
}

/// Takes a run that waits. None if it waits no more, or `limit` runs of the dispatcher go on already.
pub(crate) async fn claim(
    parts: &Parts,
    dispatcher: &str,
    id: ExecutionId,
    limit: u32,
    next_at: &NextAt,
) -> Result<Option<Execution>, Error> {
    let mut transaction = parts.store.begin().await?;
    let execution = transaction.claim_execution(id, &parts.node, limit, parts.clock.now()).await?;
    if execution.is_some() {
        transaction.schedule_dispatcher(dispatcher, next_at.get()).await?;
    }
    transaction.commit().await?;
    Ok(execution)
}

/// Writes how a run ended, and when the dispatcher is due next.
pub(crate) async fn finish(
    parts: &Parts,
    dispatcher: &str,
    id: ExecutionId,
    verdict: &Verdict,
    next_at: &NextAt,
) -> Result<(), Error> {
    let mut transaction = parts.store.begin().await?;
    // false if it had ended already: somebody else wrote an end, and a run has one
    transaction.finish_execution(id, verdict.outcome, verdict.message.as_deref(), verdict.at).await?;
    transaction.schedule_dispatcher(dispatcher, next_at.get()).await?;
    transaction.commit().await
}

/// Writes when a dispatcher is due next.
pub(crate) async fn schedule(parts: &Parts, dispatcher: &str, next_at: &NextAt) -> Result<(), Error> {
    let mut transaction = parts.store.begin().await?;
    transaction.schedule_dispatcher(dispatcher, next_at.get()).await?;
    transaction.commit().await
}
