//! Floor 2: carries envelopes between nodes, sealed, over any transport. Bodies are opaque here.

pub mod admission;
pub(crate) mod attempt;
pub mod client;
pub(crate) mod delivery;
pub(crate) mod dialler;
pub mod doctor;
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
pub mod target;
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

impl Pace {
    /// The calmest over a network, where the other end can vanish without a word: noticed within ten seconds, on both ends.
    const OVER_A_NETWORK: Self = Self { beat: Duration::from_secs(4), silence: Duration::from_secs(9) };

    /// This pace on a link to `endpoint`. A pipe's end is told by the system, so there it may be as calm as it likes.
    fn at(self, endpoint: &endpoint::Endpoint) -> Self {
        let calmest = Self::OVER_A_NETWORK;
        match endpoint {
            endpoint::Endpoint::Tcp { .. } => {
                Self { beat: self.beat.min(calmest.beat), silence: self.silence.min(calmest.silence) }
            }
            endpoint::Endpoint::Pipe(_) | endpoint::Endpoint::Memory(_) => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::endpoint::Endpoint;
    use super::*;

    #[test]
    fn over_a_network_silence_is_noticed_within_ten_seconds() {
        let pace = |beat, silence| Pace { beat: Duration::from_secs(beat), silence: Duration::from_secs(silence) };
        let tcp = Endpoint::from_setting("tcp://host:1", std::path::Path::new("/"));
        assert_eq!(pace(15, 40).at(&tcp), Pace::OVER_A_NETWORK);
        assert!(Pace::OVER_A_NETWORK.silence < Duration::from_secs(10));
        assert_eq!(pace(1, 4).at(&tcp), pace(1, 4));
        assert_eq!(pace(15, 40).at(&Endpoint::Memory("m".into())), pace(15, 40));
    }
}
