//! The secure channel: envelopes in, sealed frames out.

pub(crate) mod handshake;
pub(crate) mod hello;
pub mod keys;
mod receiver;
mod sender;
mod session;
mod writing;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::base::clock::SharedClock;
use crate::base::id::NodeId;
use crate::messenger::Peer;
use crate::messenger::error::Error;
use crate::messenger::metrics::Meter;
use crate::messenger::transport::Link;

use self::handshake::{Agreed, Purpose};
use self::hello::Versions;
use self::keys::{Fingerprint, KeyRing};
pub use self::receiver::Receiver;
pub use self::sender::Sender;
pub(crate) use self::writing::Writing;

/// Keys shared by all links of a process; a changed key is seen by the next handshake.
pub type SharedKeys = Arc<KeyRing>;

/// A link whose both ends proved that they hold the key.
#[derive(Debug)]
pub struct SecureChannel {
    peer: Peer,
    sender: Sender,
    receiver: Receiver,
}

impl SecureChannel {
    /// The other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Both halves, to be used by two tasks.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// After the handshake of the end that dialled: waits until the other end answered a sealed ping; only then it is known to
    /// hold the key. `silence` is both the limit for that end's silence and the one that it is told for ours.
    pub(crate) async fn prove(
        agreed: Agreed,
        silence: Duration,
        meter: &Arc<Meter>,
        clock: SharedClock,
    ) -> Result<Self, Error> {
        let (mut channel, _) = Self::over(agreed, meter, clock);
        channel.sender.ping(silence)?;
        channel.sender.flush().await?;
        channel.receiver.prove().await?;
        Ok(channel)
    }

    /// Shakes hands as the end that listens and waits for the first sealed frame. `heard` is told of the hello.
    pub(crate) async fn respond(
        link: Link,
        node: &NodeId,
        keys: &KeyRing,
        meter: &Arc<Meter>,
        clock: SharedClock,
        heard: impl FnOnce(),
    ) -> Result<Arrived, Error> {
        let agreed = handshake::respond(link, node, keys, Versions::OURS, heard).await?;
        let (fingerprint, address, purpose) = (agreed.fingerprint, agreed.address, agreed.purpose);
        let uncounted = Arc::default();
        let meter = if purpose == Purpose::Probe { &uncounted } else { meter };
        let (mut channel, writing) = Self::over(agreed, meter, clock);
        channel.receiver.prove().await?;
        Ok(match purpose {
            Purpose::Link => Arrived::Link(channel, Proven { fingerprint, address, writing: Arc::downgrade(&writing) }),
            Purpose::Probe => Arrived::Probe(channel),
        })
    }

    fn over(agreed: Agreed, meter: &Arc<Meter>, clock: SharedClock) -> (Self, Arc<Writing>) {
        let Agreed { link, sealer, opener, node, version, .. } = agreed;
        let born = Instant::now();
        let writing = Arc::new(Writing::new(link.sink, sealer, Arc::clone(meter)));
        let sender = Sender::new(Arc::clone(&writing), clock, born);
        let receiver = Receiver::new(link.stream, opener, node.clone(), Arc::clone(&writing), born);
        (Self { peer: Peer { node, version }, sender, receiver }, writing)
    }
}

/// Who proved to hold the key.
pub(crate) enum Arrived {
    /// A node that wants a link.
    Link(SecureChannel, Proven),
    /// One that only tries.
    Probe(SecureChannel),
}

/// A link that was handed over, the key that proved it, and where the other end is.
#[derive(Debug)]
pub(crate) struct Proven {
    pub(crate) address: Option<IpAddr>,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) writing: std::sync::Weak<Writing>,
}
