//! Floor 2: carries envelopes between nodes, sealed, over any transport. Bodies are opaque here.

pub(crate) mod attempt;
pub mod client;
pub(crate) mod delivery;
pub(crate) mod dialler;
pub mod endpoint;
pub mod envelope;
pub mod error;
pub mod frame;
pub mod metrics;
pub(crate) mod pump;
pub(crate) mod refusals;
pub mod secure;
pub mod server;
pub mod status;
pub mod transport;

use std::time::Duration;

use crate::base::id::NodeId;

/// Who a node says it is in the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub node: NodeId,
}

/// The other end of a link, once the handshake proved that it holds the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its id.
    pub node: NodeId,
    /// The protocol version both speak.
    pub version: u8,
}

/// How often a node says that it lives and how long it bears the other's silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// A beat goes out so often; its answer shows that the other end lives, and how soon it answers.
    pub beat: Duration,
    /// The link is given up when nothing came for so long.
    pub silence: Duration,
}
