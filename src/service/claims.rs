//! What a runner writes: that a run began, that it ended, when the next one is due. One transaction each.
//!
//! A run begins only while this node is primary, as the database sees it in the same transaction.

use std::sync::{Arc, Mutex, PoisonError};

use crate::base::clock::Timestamp;
use crate::base::id::ExecutionId;
use crate::model::execution::{Execution, Outcome};
use crate::service::lead::Lead;
use crate::service::parts::{Parts, TermParts};
use crate::service::plan::Due;
use crate::service::words;
use crate::store::Transaction;
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

/// What came of claiming a run.
#[derive(Debug)]
pub(crate) enum Claim {
    /// It is this node's to run.
    Mine(Box<Execution>),
    /// It waits no more, or as many runs of its dispatcher go on as may.
    Refused,
    /// The database takes another node, or nobody, for the primary.
    NotPrimary,
}

impl From<Option<Execution>> for Claim {
    fn from(execution: Option<Execution>) -> Self {
        execution.map_or(Self::Refused, |execution| Self::Mine(Box::new(execution)))
    }
}

/// Begins a run that is due. Refused if `limit` runs of the dispatcher go on already, as the database sees it.
pub(crate) async fn begin(
    parts: &TermParts,
    dispatcher: &str,
    due: &Due,
    limit: u32,
    next_at: &NextAt,
) -> Result<Claim, Error> {
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
    if !is_primary(&mut transaction, parts, &parts.lead).await? {
        return Ok(Claim::NotPrimary);
    }
    let execution = transaction.begin_execution(&new, &parts.node, limit).await?;
    if execution.is_some() {
        // so that a node that dies now does not take this time for one it missed
        transaction.schedule_dispatcher(dispatcher, next_at.get()).await?;
    }
    transaction.commit().await?;
    Ok(execution.into())
}

async fn is_primary(transaction: &mut Transaction, parts: &Parts, lead: &Lead) -> Result<bool, Error> {
    transaction.holds_lead(&parts.node, lead.fencing()).await
}

/// Takes a run that waits. Refused if it waits no more, or `limit` runs of the dispatcher go on already.
pub(crate) async fn claim(
    parts: &TermParts,
    dispatcher: &str,
    id: ExecutionId,
    limit: u32,
    next_at: &NextAt,
) -> Result<Claim, Error> {
    let mut transaction = parts.store.begin().await?;
    if !is_primary(&mut transaction, parts, &parts.lead).await? {
        return Ok(Claim::NotPrimary);
    }
    let execution = transaction.claim_execution(id, &parts.node, limit, parts.clock.now()).await?;
    if execution.is_some() {
        transaction.schedule_dispatcher(dispatcher, next_at.get()).await?;
    }
    transaction.commit().await?;
    Ok(execution.into())
}

/// Writes how a run ended, and, as long as this node is primary, when the dispatcher is due next. False if it was given up
/// meanwhile: then that stays its outcome, with a word that it went on.
pub(crate) async fn finish(
    parts: &TermParts,
    dispatcher: &str,
    id: ExecutionId,
    verdict: &Verdict,
    next_at: &NextAt,
) -> Result<bool, Error> {
    let mut transaction = parts.store.begin().await?;
    let first = transaction.finish_execution(id, verdict.outcome, verdict.message.as_deref(), verdict.at).await?;
    let mut given_up = false;
    if !first {
        let at = verdict.at.to_jiff().strftime("%Y-%m-%d %H:%M:%S UTC");
        let text = format!("it went on and ended {} at {}", words::adverb(verdict.outcome), at);
        // if it was not, the answer to an earlier attempt to write its end was lost
        given_up = transaction.note_late_end(id, &parts.node, &text).await?;
    }
    if is_primary(&mut transaction, parts, &parts.lead).await? {
        transaction.schedule_dispatcher(dispatcher, next_at.get()).await?;
    }
    transaction.commit().await?;
    Ok(!given_up)
}

/// Writes when a dispatcher is due next, as long as this node is primary.
pub(crate) async fn schedule(parts: &TermParts, dispatcher: &str, next_at: &NextAt) -> Result<(), Error> {
    let mut transaction = parts.store.begin().await?;
    // after the term it is the next primary's to say
    if is_primary(&mut transaction, parts, &parts.lead).await? {
        transaction.schedule_dispatcher(dispatcher, next_at.get()).await?;
    }
    transaction.commit().await
}
