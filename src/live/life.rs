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

/// A reader went over from one life to the next; what is none nobody knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restart {
    /// The node whose lines end here.
    pub before: Option<NodeId>,
    /// The version of the life that ends.
    pub from: Option<String>,
    /// The node whose lines begin here.
    pub node: Option<NodeId>,
    /// The life that begins, if its node was heard, as the primary is, and its lines do not only stand in the database.
    pub to: Option<LifeFacts>,
}

/// What a [`Restart`] means to a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn<'a> {
    /// The node was started again.
    Again,
    /// Another node is the primary now.
    Primary {
        /// Which.
        node: &'a NodeId,
        /// And which was.
        before: &'a NodeId,
    },
    /// Lines of another node begin, which may be the primary or not.
    Lines {
        /// Which.
        node: &'a NodeId,
        /// Whose lines those before were.
        before: &'a NodeId,
    },
}

impl Restart {
    /// To a life that was heard.
    #[must_use]
    pub fn to(life: LifeFacts) -> Self {
        Self { node: Some(life.node.clone()), to: Some(life), ..Self::default() }
    }

    /// What it means.
    #[must_use]
    pub fn turn(&self) -> Turn<'_> {
        match (&self.node, &self.before) {
            (Some(node), Some(before)) if node != before && self.to.is_some() => Turn::Primary { node, before },
            (Some(node), Some(before)) if node != before => Turn::Lines { node, before },
            _ => Turn::Again,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_node_that_is_heard_is_said_to_be_the_primary() {
        let (a, b) = (NodeId::new("service-a"), NodeId::new("service-b"));
        let life = LifeFacts {
            epoch: Epoch::from_u64(1),
            node: b.clone(),
            version: "1.0.0".into(),
            started_at: Timestamp::from_micros(0),
        };
        let heard = |before: &NodeId| Restart { before: Some(before.clone()), ..Restart::to(life.clone()) };
        assert_eq!(heard(&a).turn(), Turn::Primary { node: &b, before: &a });
        assert_eq!(heard(&b).turn(), Turn::Again);
        assert_eq!(Restart { to: None, ..heard(&a) }.turn(), Turn::Lines { node: &b, before: &a });
        assert_eq!(Restart::to(life.clone()).turn(), Turn::Again, "nobody knows who was before");
    }
}
