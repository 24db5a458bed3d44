//! Lives of service nodes, as their logs tell them apart.

use crate::base::clock::Timestamp;
use crate::base::id::{Epoch, NodeId};

/// A life of a service node, as its log tells it apart from the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LifeFacts {
    /// Which one.
    pub epoch: Epoch,
    /// Of which node.
    pub node: NodeId,
    /// The program's version.
    pub version: String,
    /// When it began.
    pub started_at: Timestamp,
}

/// A reader went over from one life to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    /// The version before; none if nobody knows.
    pub from: Option<String>,
    /// The life that begins.
    pub to: LifeFacts,
}
