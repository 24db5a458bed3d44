//! Service to web: every change of state, numbered.

use serde::{Deserialize, Serialize};

use crate::base::clock::Timestamp;
use crate::base::id::ExecutionId;
use crate::model::execution::{Outcome, Progress};
use crate::protocol::state::{Activity, DispatcherState, NodeFacts, Pause, Run};

/// One change of a node's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Follows the number of the event before; the first of a life is 1.
    pub number: u64,
    /// What changed.
    pub change: Change,
}

/// What can change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// The facts about the node.
    Node(NodeFacts),
    /// A dispatcher is there, or is another than it was: this is all of it.
    Declared(Box<DispatcherState>),
    /// A dispatcher is gone.
    Withdrawn {
        /// Which one.
        dispatcher: String,
    },
    /// What it is about, and when it is due next.
    Activity {
        /// Which one.
        dispatcher: String,
        /// What it is doing or waiting for.
        activity: Activity,
        /// Who holds it back, also while a run goes on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        paused: Option<Pause>,
        /// When it runs by itself, if it is going to.
        next_at: Option<Timestamp>,
    },
    /// How many runs wait.
    Queued {
        /// Of which dispatcher.
        dispatcher: String,
        /// So many.
        queued: u32,
    },
    /// A run began.
    Started {
        /// Of which dispatcher.
        dispatcher: String,
        /// The run.
        run: Run,
    },
    /// A run says how far it is.
    Progressed {
        /// Of which dispatcher.
        dispatcher: String,
        /// Which run.
        execution: ExecutionId,
        /// How far.
        progress: Progress,
    },
    /// Somebody asked to end a run.
    Cancelling {
        /// Of which dispatcher.
        dispatcher: String,
        /// Which run.
        execution: ExecutionId,
        /// Who asked.
        by: String,
    },
    /// A run ended.
    Finished {
        /// Of which dispatcher.
        dispatcher: String,
        /// Which run.
        execution: ExecutionId,
        /// When it began.
        started_at: Timestamp,
        /// When it ended.
        finished_at: Timestamp,
        /// How.
        outcome: Outcome,
        /// What it said about it, in one line.
        message: Option<String>,
    },
    /// Times that were passed over because the run before had not ended.
    Skipped {
        /// Of which dispatcher.
        dispatcher: String,
        /// In all, since the node started.
        skipped: u64,
    },
}

impl Change {
    /// The dispatcher it is about; none if it is about the node.
    #[must_use]
    pub fn dispatcher(&self) -> Option<&str> {
        match self {
            Self::Node(_) => None,
            Self::Declared(dispatcher) => Some(&dispatcher.name),
            Self::Withdrawn { dispatcher }
            | Self::Activity { dispatcher, .. }
            | Self::Queued { dispatcher, .. }
            | Self::Started { dispatcher, .. }
            | Self::Progressed { dispatcher, .. }
            | Self::Cancelling { dispatcher, .. }
            | Self::Finished { dispatcher, .. }
            | Self::Skipped { dispatcher, .. } => Some(dispatcher),
        }
    }
}
