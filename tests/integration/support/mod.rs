//! What a test says in one line.

pub(crate) mod log;
pub(crate) mod proxy;

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use secrecy::ExposeSecret;
use switchboard::base::clock::SystemClock;
use switchboard::base::id::NodeId;
use switchboard::base::shutdown::Shutdown;
use switchboard::config::endpoint::Host;
use switchboard::messenger::client::{Client, Incoming, LinkState, LinkStatus};
use switchboard::messenger::endpoint::Endpoint;
use switchboard::messenger::envelope::Envelope;
use switchboard::messenger::secure::keys::{Key, KeyRing};
use switchboard::messenger::secure::{Receiver, SecureChannel, Sender, SharedKeys};
use switchboard::messenger::server::Server;
use switchboard::messenger::target::Target;
use switchboard::messenger::{Identity, Pace, Peer};
use tokio::sync::mpsc;

/// No event that a test waits for takes so long, on any machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A pace that never disturbs a test that is not about it.
pub(crate) const CALM: Pace = Pace { beat: Duration::from_secs(15), silence: Duration::from_secs(40) };

/// Waits for an event; a test that waits in vain fails and says for what.
pub(crate) async fn soon<F: Future>(what: &str, event: F) -> F::Output {
    tokio::time::timeout(PATIENCE, event).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// Endpoints of one transport that nobody else uses; what they need is removed at the end.
pub(crate) enum Place {
    Memory,
    Pipe(tempfile::TempDir),
    Tcp { host: IpAddr, taken: Mutex<Vec<OwnedFd>> },
}

impl Place {
    pub(crate) fn memory() -> Self {
        Self::Memory
    }

    pub(crate) fn pipe() -> Self {
        Self::Pipe(tempfile::tempdir().unwrap())
    }

    pub(crate) fn tcp() -> Self {
        Self::Tcp { host: Ipv4Addr::LOCALHOST.into(), taken: Mutex::default() }
    }

    /// None where the machine has no IPv6.
    pub(crate) fn tcp6() -> Option<Self> {
        let has_ipv6 = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        has_ipv6.then(|| Self::Tcp { host: Ipv6Addr::LOCALHOST.into(), taken: Mutex::default() })
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        match self {
            Self::Memory => Endpoint::Memory(format!("test {number}")),
            Self::Pipe(directory) => Endpoint::Pipe(directory.path().join(format!("{number}.sock"))),
            Self::Tcp { host, taken } => {
                let (socket, port) = take_port(*host);
                taken.lock().unwrap().push(socket);
                Endpoint::Tcp { host: Host::Address(*host), port }
            }
        }
    }
}

/// A free port that is nobody else's as long as the socket is held: it is bound and does not listen, which keeps others away
/// but not who may use the address again and listens.
fn take_port(host: IpAddr) -> (OwnedFd, u16) {
    let family = if host.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true).unwrap();
    rustix::net::bind(&socket, &SocketAddr::new(host, 0)).unwrap();
    let address = SocketAddr::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap();
    (socket, address.port())
}

/// Rings of the same key, one for each node.
pub(crate) fn same_keys<const N: usize>() -> [SharedKeys; N] {
    let key = Key::generate();
    std::array::from_fn(|_| Arc::new(KeyRing::new(copy(&key))))
}

/// The same key once more.
pub(crate) fn copy(key: &Key) -> Key {
    Key::from_base64(key.to_base64().expose_secret()).unwrap()
}

/// A service node's messenger. Dropped, it stops, and its endpoint is free again.
pub(crate) struct Service {
    pub(crate) server: Server,
    pub(crate) links: mpsc::Receiver<SecureChannel>,
    pub(crate) shutdown: Shutdown,
}

impl Service {
    pub(crate) async fn start(endpoint: &Endpoint, keys: &SharedKeys) -> Self {
        let shutdown = Shutdown::new();
        let identity = Identity { node: NodeId::new("service-1") };
        let (server, links) = Server::listen(identity, endpoint.clone(), Arc::clone(keys), &shutdown).await.unwrap();
        Self { server, links, shutdown }
    }

    /// The next web node's link.
    pub(crate) async fn link(&mut self) -> (Sender, Receiver) {
        let channel = soon("a web node", self.links.recv()).await.unwrap();
        assert_eq!(channel.peer(), &Peer { node: NodeId::new("web-2"), version: 1 });
        channel.split()
    }

    /// Stops and waits until nothing of it runs.
    pub(crate) async fn stop(mut self) {
        self.shutdown.stop();
        self.links.close();
        assert_eq!(self.shutdown.finished(PATIENCE).await, Ok(()));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.shutdown.stop();
    }
}

/// A web node's messenger. Dropped, it stops.
pub(crate) struct Web {
    pub(crate) client: Client,
    pub(crate) incoming: mpsc::Receiver<Incoming>,
    pub(crate) shutdown: Shutdown,
}

impl Web {
    pub(crate) fn start(target: impl Into<Target>, keys: &SharedKeys, pace: Pace) -> Self {
        let shutdown = Shutdown::new();
        let identity = Identity { node: NodeId::new("web-2") };
        let clock = Arc::new(SystemClock);
        let (client, incoming) = Client::start(identity, target, Arc::clone(keys), pace, clock, &shutdown);
        Self { client, incoming, shutdown }
    }

    /// Waits until the status is as wanted.
    pub(crate) async fn status(&self, what: &str, wanted: impl FnMut(&LinkStatus) -> bool) -> LinkStatus {
        let mut status = self.client.status();
        soon(what, status.wait_for(wanted)).await.unwrap().clone()
    }

    /// Waits until the link is live.
    pub(crate) async fn live(&self) -> LinkStatus {
        self.status("a live link", |status| status.state == LinkState::Live).await
    }

    /// The next thing that comes must be that the link is up.
    pub(crate) async fn up(&mut self) {
        match soon("Up", self.incoming.recv()).await {
            Some(Incoming::Up(peer)) => assert_eq!(peer, Peer { node: NodeId::new("service-1"), version: 1 }),
            other => panic!("not Up but {other:?}"),
        }
    }

    /// The next thing that comes must be that the link is gone.
    pub(crate) async fn down(&mut self) {
        match soon("Down", self.incoming.recv()).await {
            Some(Incoming::Down) => {}
            other => panic!("not Down but {other:?}"),
        }
    }

    /// The next so many envelopes.
    pub(crate) async fn envelopes(&mut self, count: usize) -> Vec<Envelope> {
        let mut all = Vec::new();
        while all.len() < count {
            match soon("envelopes", self.incoming.recv()).await {
                Some(Incoming::Envelopes(envelopes)) => all.extend(envelopes),
                other => panic!("not envelopes but {other:?}"),
            }
        }
        assert_eq!(all.len(), count);
        all
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.shutdown.stop();
    }
}

/// The next envelopes, which come after any signs of life.
pub(crate) async fn next_envelopes(receiver: &mut Receiver) -> Vec<Envelope> {
    loop {
        match soon("envelopes", receiver.recv()).await.unwrap() {
            Some(batch) if batch.is_empty() => {}
            Some(batch) => return batch,
            None => panic!("closed"),
        }
    }
}

/// How a link ends, after whatever else comes.
pub(crate) async fn ending(receiver: &mut Receiver) -> Result<(), switchboard::messenger::error::Error> {
    loop {
        match soon("the end of a link", receiver.recv()).await {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// A body that tells which it is.
pub(crate) fn numbered(number: u64) -> (u8, Bytes) {
    (1, Bytes::copy_from_slice(&number.to_be_bytes()))
}

/// The number in such a body.
pub(crate) fn number(envelope: &Envelope) -> u64 {
    u64::from_be_bytes(envelope.body[..].try_into().unwrap())
}
