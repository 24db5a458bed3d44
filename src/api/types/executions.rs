//! Runs, as `/api` tells and takes them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::base::clock::Timestamp;
use crate::base::id::{ExecutionId, NodeId};
use crate::model::execution::{Cause, Outcome, Phase};

/// Runs, newest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ExecutionsAnswer {
    /// Newest first.
    pub executions: Vec<ExecutionItem>,
    /// Give this as `before` to see older ones; none if there are none.
    #[schema(value_type = Option<i64>)]
    pub next: Option<ExecutionId>,
}

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ExecutionItem {
    /// Its number.
    #[schema(value_type = i64)]
    pub id: ExecutionId,
    /// Of which dispatcher.
    pub dispatcher: String,
    /// `queued`, `running` or `completed`.
    #[schema(value_type = String)]
    pub phase: Phase,
    /// On which node it ran or runs.
    #[schema(value_type = Option<String>)]
    pub node: Option<NodeId>,
    /// `schedule`, `start_up`, `manual`, `api`, `catch_up` or `retry`.
    #[schema(value_type = String)]
    pub cause: Cause,
    /// Who asked for it.
    pub requested_by: Option<String>,
    /// When it was asked for or due.
    #[schema(value_type = String, format = DateTime)]
    pub queued_at: Timestamp,
    /// When it began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended; of an abandoned one, when its node last gave a sign of life: not before that.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// How long it took, in milliseconds; none while it goes on, or if nobody knows (abandoned).
    pub duration_ms: Option<u64>,
    /// `normal`, `warning`, `error`, `cancelled` or `abandoned`.
    #[schema(value_type = Option<String>)]
    pub outcome: Option<Outcome>,
    /// What it said about its end.
    pub message: Option<String>,
    /// The failed run that this one repeats.
    #[schema(value_type = Option<i64>)]
    pub retry_of: Option<ExecutionId>,
    /// Who asked to cancel it.
    pub cancelled_by: Option<String>,
}

/// A run that was asked for.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RunAnswer {
    /// The run.
    pub execution: ExecutionItem,
    /// Whether it is new, or the one asked for before with the same key or `after`.
    pub new: bool,
    /// Whether the service was told at once; if not it looks within the poll interval, or when it is started again.
    pub told: bool,
    /// Whether the service node is stopping: the run is stored, and starts when the service is started again.
    pub stopping: bool,
}

/// What a dispatcher was told.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ToldAnswer {
    /// Which one.
    pub dispatcher: String,
    /// `paused` or `resumed`.
    pub done: String,
    /// Whether the service was told at once; if not it looks within the poll interval.
    pub told: bool,
}

/// Asking for a run; may be left out.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunBody {
    /// The newest execution of this dispatcher you saw (0 if none): asking twice with the same number runs once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
}
