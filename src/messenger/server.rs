//! Accepts peers, proves them, and hands over their channels.

use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

use crate::base::clock::{SharedClock, SystemClock};
use crate::base::shutdown::Shutdown;
use crate::messenger::Identity;
use crate::messenger::admission::{Admission, Place};
use crate::messenger::endpoint::Endpoint;
use crate::messenger::error::Error;
pub use crate::messenger::metrics::Counters;
use crate::messenger::metrics::Meter;
use crate::messenger::refusals::Refusals;
use crate::messenger::secure::handshake::turn_away;
use crate::messenger::secure::{Arrived, Proven, SecureChannel, SharedKeys};
use crate::messenger::transport::{self, Link, Listener};

/// How long a connection may take to prove itself and to be taken by the node.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// Proven channels that wait to be taken; at the bound their connections count as unproven for longer.
const HANDED_OVER: usize = 16;

/// The pause after the system could not accept a connection (out of file descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A service node's listening end. Clones share it. It listens until the shutdown (soft) is asked for.
#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
    listening: Arc<Mutex<Listening>>,
    /// The same endpoint, to be read without waiting.
    endpoint: Arc<StdMutex<Endpoint>>,
}

struct Inner {
    identity: Identity,
    keys: SharedKeys,
    shutdown: Shutdown,
    channels: mpsc::Sender<SecureChannel>,
    admission: Arc<Admission>,
    meter: Arc<Meter>,
    refusals: Refusals,
    clock: SharedClock,
    /// Links that were handed over, to be ended if their key is given up or their address is not allowed any more.
    links: StdMutex<Vec<Proven>>,
}

/// The listener that is open, and how to close it.
struct Listening {
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens. Each connection shakes hands in a task of its own, within a time limit and under a cap of pending handshakes;
    /// those that proved themselves come out of the receiver.
    ///
    /// # Errors
    /// If the endpoint can't be listened at.
    pub async fn listen(
        identity: Identity,
        endpoint: Endpoint,
        keys: SharedKeys,
        shutdown: &Shutdown,
    ) -> Result<(Self, mpsc::Receiver<SecureChannel>), Error> {
        let listener = open(&endpoint).await?;
        let (channels, handed_over) = mpsc::channel(HANDED_OVER);
        let inner = Arc::new(Inner {
            identity,
            keys,
            shutdown: shutdown.clone(),
            channels,
            admission: Arc::default(),
            meter: Arc::default(),
            refusals: Refusals::default(),
            clock: Arc::new(SystemClock),
            links: StdMutex::default(),
        });
        let listening = Arc::new(Mutex::new(Listening::start(&inner, listener)));
        Ok((Self { inner, listening, endpoint: Arc::new(StdMutex::new(endpoint)) }, handed_over))
    }

    /// Where it listens.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Listens elsewhere: the new listener first, then the old is closed; links that are up stay up. The same endpoint again
    /// changes nothing.
    ///
    /// # Errors
    /// If the new endpoint can't be listened at; the old one stays.
    pub async fn relisten(&self, endpoint: Endpoint) -> Result<(), Error> {
        let mut listening = self.listening.lock().await;
        if endpoint == self.endpoint() {
            return Ok(());
        }
        let listener = open(&endpoint).await?;
        let old = std::mem::replace(&mut *listening, Listening::start(&self.inner, listener));
        *self.endpoint.lock().unwrap_or_else(PoisonError::into_inner) = endpoint;
        old.close().await;
        Ok(())
    }

    /// Ends the links whose key is neither the current nor the former one any more: after
    /// [`KeyRing::forget_former`](crate::messenger::secure::keys::KeyRing::forget_former), at the end of a rotation or because a
    /// key leaked.
    pub fn end_links_of_forgotten_keys(&self) {
        for link in self.inner.links.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if let Some(writing) = link.writing.upgrade()
                && self.inner.keys.accepted(link.fingerprint).is_none()
            {
                writing.end();
            }
        }
    }

    /// From now on only peers in these networks are let in; none: everyone who holds the key. Links from elsewhere end. A
    /// pipe is no network: only its owner can open it.
    pub fn allow(&self, networks: Vec<IpNet>) {
        self.inner.admission.allow(networks);
        for link in self.inner.links.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            self.inner.end_if_stranger(link);
        }
    }

    /// Frames, bytes, refused handshakes and repeats so far.
    pub fn counters(&self) -> Counters {
        self.inner.meter.read()
    }

    /// Why a peer was refused last, in words, if one was.
    pub fn last_refusal(&self) -> Option<String> {
        self.inner.refusals.last()
    }
}

async fn open(endpoint: &Endpoint) -> Result<Box<dyn Listener>, Error> {
    transport::to(endpoint)
        .listen()
        .await
        .map_err(|error| Error::Io(std::io::Error::new(error.kind(), format!("can't listen at {endpoint}: {error}"))))
}

impl Listening {
    fn start(inner: &Arc<Inner>, listener: Box<dyn Listener>) -> Self {
        let shutdown = inner.shutdown.child();
        let task = accept(Arc::clone(inner), listener, shutdown.clone());
        Self { task: inner.shutdown.spawn("messenger listener", task), shutdown }
    }

    async fn close(self) {
        self.shutdown.stop();
        // a listener that panicked is closed too
        let _ = self.task.await;
    }
}

async fn accept(inner: Arc<Inner>, mut listener: Box<dyn Listener>, shutdown: Shutdown) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.stopping() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(link) => admit(&inner, link),
            Err(error) => {
                inner.refusals.tell("no connection can be accepted", &Error::Io(error));
                tokio::select! {
                    () = shutdown.stopping() => return,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
}

/// Lets a connection prove itself in a task of its own, or turns it away at once: too many do, or it is a stranger.
fn admit(inner: &Arc<Inner>, link: Link) {
    let place = match inner.admission.admit(link.address) {
        Ok(place) => place,
        Err(error) => {
            inner.meter.refused();
            inner.refusals.tell("a connection was turned away", &error);
            turn_away(link, &error);
            return;
        }
    };
    let task = prove(Arc::clone(inner), link, place);
    let shutdown = inner.shutdown.clone();
    inner.shutdown.spawn("messenger handshake", async move {
        tokio::select! {
            biased;
            () = shutdown.stopping() => {}
            () = task => {}
        }
    });
}

async fn prove(inner: Arc<Inner>, link: Link, place: Place) {
    let proof = async {
        let (node, clock) = (&inner.identity.node, Arc::clone(&inner.clock));
        let arrived = SecureChannel::respond(link, node, &inner.keys, &inner.meter, clock, || place.heard()).await?;
        place.proved();
        match arrived {
            Arrived::Link(channel, proven) => {
                inner.remember(proven);
                // fails only if the node takes no more links, because it stops
                let _ = inner.channels.send(channel).await;
            }
            Arrived::Probe(channel) => {
                let (_sender, mut receiver) = channel.split();
                // it has its answer; whether it says good-bye or vanishes is all the same
                while let Ok(Some(_)) = receiver.recv().await {}
            }
        }
        Ok(())
    };
    let proof = tokio::select! {
        biased;
        () = place.displaced() => Err(Error::Displaced),
        proof = tokio::time::timeout(HANDSHAKE_LIMIT, proof) => proof.unwrap_or(Err(Error::Silent(HANDSHAKE_LIMIT))),
    };
    if let Err(error) = proof {
        inner.meter.refused();
        inner.refusals.tell("a connection was refused", &error);
    }
}

impl Inner {
    fn remember(&self, proven: Proven) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|link| link.writing.strong_count() > 0);
        // the networks may have changed while it proved itself
        self.end_if_stranger(&proven);
        links.push(proven);
    }

    fn end_if_stranger(&self, link: &Proven) {
        if let Some(writing) = link.writing.upgrade()
            && !self.admission.allows(link.address)
        {
            writing.end();
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("endpoint", &self.endpoint()).finish_non_exhaustive()
    }
}
