//! Run, pause, resume, cancel; and what came of runs.

use std::sync::Arc;

use crate::api::Api;
use crate::api::error::ApiError;
use crate::api::request::{Answer, Call};
use crate::api::status::{PATIENCE, millis};
use crate::api::types::executions::{ExecutionItem, ExecutionsAnswer, RunAnswer, RunBody, ToldAnswer};
use crate::base::id::ExecutionId;
use crate::control::Asked;
use crate::model::execution::{Cause, Execution};
use crate::store::executions::ExecutionFilter;

/// How many runs an answer holds, unless it is asked for another number.
const DEFAULT_LIMIT: u32 = 100;
/// How many it holds at most.
const MOST: u32 = 1_000;

/// `POST /api/dispatchers/{name}:run`.
pub(crate) async fn run(api: Arc<Api>, call: Call) -> Result<Answer, ApiError> {
    let body: RunBody = call.json_or_default()?;
    let key = call.idempotency_key.clone();
    // whether the service node is stopping is heard only while somebody watches
    let _watcher = api.hub.watch();
    api.hub.current(PATIENCE).await;
    let asked = api.control.run(call.actor(), call.parameter(0), Cause::Api, body.after, key).await?;
    let Asked { execution, new, told, stopping } = asked;
    Ok(Answer::json(&RunAnswer { execution: item(execution), new, told, stopping }))
}

/// `POST /api/dispatchers/{name}:pause`.
pub(crate) async fn pause(api: Arc<Api>, call: Call) -> Result<Answer, ApiError> {
    call.no_body()?;
    let told = api.control.pause(call.actor(), call.parameter(0)).await?;
    Ok(Answer::json(&ToldAnswer { dispatcher: call.parameter(0).to_owned(), done: "paused".to_owned(), told }))
}

/// `POST /api/dispatchers/{name}:resume`.
pub(crate) async fn resume(api: Arc<Api>, call: Call) -> Result<Answer, ApiError> {
    call.no_body()?;
    let told = api.control.resume(call.actor(), call.parameter(0)).await?;
    Ok(Answer::json(&ToldAnswer { dispatcher: call.parameter(0).to_owned(), done: "resumed".to_owned(), told }))
}

/// `POST /api/dispatchers/{name}:cancel`.
pub(crate) async fn cancel_all(api: Arc<Api>, call: Call) -> Result<Answer, ApiError> {
    call.no_body()?;
    let cancelled = api.control.cancel_all(call.actor(), call.parameter(0)).await?;
    Ok(Answer::json(&ExecutionsAnswer { executions: cancelled.into_iter().map(item).collect(), next: None }))
}

/// `GET /api/executions`.
pub(crate) async fn list(api: Arc<Api>, call: Call) -> Result<Answer, ApiError> {
    let limit = call.limit(DEFAULT_LIMIT, MOST)?;
    let filter = ExecutionFilter {
        dispatcher: call.text("dispatcher").map(str::to_owned),
        outcome: call.read("outcome")?,
        phase: call.read("phase")?,
        before: call.number("before", 1, i64::MAX)?.map(ExecutionId),
        limit,
    };
    let executions: Vec<_> = api.store.executions(&filter).await?.into_iter().map(item).collect();
    let full = executions.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
    let next = executions.last().filter(|_| full).map(|last| last.id);
    Ok(Answer::json(&ExecutionsAnswer { executions, next }))
}

/// `GET /api/executions/{id}`.
pub(crate) async fn show(api: Arc<Api>, call: Call) -> Result<Answer, ApiError> {
    let id = id(&call)?;
    match api.store.execution(id).await? {
        Some(execution) => Ok(Answer::json(&item(execution))),
        None => Err(ApiError::not_found(format!("there is no execution {id}"))),
    }
}

/// `POST /api/executions/{id}:cancel`.
pub(crate) async fn cancel(api: Arc<Api>, call: Call) -> Result<Answer, ApiError> {
    call.no_body()?;
    let execution = api.control.cancel(call.actor(), id(&call)?).await?;
    Ok(Answer::json(&item(execution)))
}

/// The number of an execution in the path.
///
/// # Errors
/// 400 if it is none.
pub(crate) fn id(call: &Call) -> Result<ExecutionId, ApiError> {
    match call.parameter(0).parse::<i64>() {
        Ok(id) if id > 0 => Ok(ExecutionId(id)),
        _ => Err(ApiError::invalid("an execution is named by its number, as /api/executions lists it")),
    }
}

/// A run, as answers tell it.
fn item(execution: Execution) -> ExecutionItem {
    ExecutionItem {
        id: execution.id,
        phase: execution.phase(),
        duration_ms: execution.duration().map(millis),
        dispatcher: execution.dispatcher,
        node: execution.node,
        cause: execution.cause,
        requested_by: execution.requested_by,
        queued_at: execution.queued_at,
        started_at: execution.started_at,
        finished_at: execution.finished_at,
        outcome: execution.outcome,
        message: execution.message,
        retry_of: execution.retry_of,
        cancelled_by: execution.cancelled_by,
    }
}
