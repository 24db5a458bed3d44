//! Log lines, as `/api` tells them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::base::clock::Timestamp;
use crate::base::id::{Cursor, Epoch, ExecutionId, NodeId};
use crate::model::log_entry::{Level, Stream};

/// How many lines an answer holds at most.
pub const MOST: u32 = 1_000;

/// Lines of the log.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LogsAnswer {
    /// Oldest first.
    pub lines: Vec<LogItem>,
    /// Lines before or among these that can't be shown any more. Lines between `from` and `to` may be there: the counts tell.
    pub gap: Option<GapItem>,
    /// Give this as `since` to go on from here. None while nothing is known of the node.
    #[schema(value_type = Option<String>)]
    pub next: Option<Cursor>,
    /// Whether there is more to read at once.
    pub more: bool,
}

/// A line of the log.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LogItem {
    /// Whose log.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// In which life of that node.
    #[schema(value_type = String)]
    pub epoch: Epoch,
    /// Its number within that life.
    pub seq: u64,
    /// When it was written.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    #[schema(value_type = String)]
    pub level: Level,
    /// Who wrote it.
    pub source: String,
    /// During which execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub execution: Option<ExecutionId>,
    /// `stdout` or `stderr`, if a command wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub stream: Option<Stream>,
    /// What it says; not escaped for anything.
    pub message: String,
}

/// Lines that can't be shown any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GapItem {
    /// In which life of the node.
    #[schema(value_type = String)]
    pub epoch: Epoch,
    /// The first one lost.
    pub from: u64,
    /// The last one lost.
    pub to: u64,
    /// How many of `trace`, `debug`, `info`, `warn` and `error` could have matched.
    pub by_level: [u64; 5],
    /// How many could have matched of which nobody knows the level any more.
    #[serde(default)]
    pub unknown: u64,
}
