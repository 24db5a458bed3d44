//! Dials, shakes hands, pumps, and dials again.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::base::clock::SharedClock;
use crate::base::shutdown::Shutdown;
use crate::messenger::attempt::Attempts;
use crate::messenger::dialler::Dialler;
use crate::messenger::envelope::MAX_BODY;
use crate::messenger::error::Error;
use crate::messenger::metrics::{Counters, Meter};
use crate::messenger::pump::{Move, Wires};
use crate::messenger::secure::SharedKeys;
pub use crate::messenger::status::{Incoming, LinkState, LinkStatus};
use crate::messenger::target::Target;
use crate::messenger::{Identity, Pace};

/// Messages that wait to be sent; beyond it they are not sent.
const MOST_WAITING: usize = 256;

/// Bytes that wait to be sent; beyond it messages are not sent.
const MOST_WAITING_BYTES: usize = 2 * MAX_BODY;

/// Batches (of 64 KiB and a frame, or one long message) that wait to be taken; at the bound the link is not read, and the other
/// end is held back.
const MOST_INCOMING: usize = 16;

/// A web node's way to a service node: one link, kept up as long as this lives. Clones share it.
#[derive(Clone)]
pub struct Client {
    outgoing: mpsc::Sender<(u8, Bytes)>,
    waiting: Arc<AtomicUsize>,
    status: watch::Receiver<LinkStatus>,
    pace: watch::Sender<Pace>,
    reconnect: Arc<Notify>,
    moves: mpsc::Sender<Move>,
    meter: Arc<Meter>,
}

/// The message can't be sent now; what matters is in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the service can't be reached now")]
pub struct NotSent;

impl Client {
    /// Starts dialling, in a task of its own, and goes on until the shutdown (soft) is asked for, every clone is dropped or the
    /// receiver is. Logs an outage once, and its end with the number of attempts; never per attempt.
    pub fn start(
        identity: Identity,
        target: impl Into<Target>,
        keys: SharedKeys,
        pace: Pace,
        clock: SharedClock,
        shutdown: &Shutdown,
    ) -> (Self, mpsc::Receiver<Incoming>) {
        let target = target.into();
        let (outgoing, to_send) = mpsc::channel(MOST_WAITING);
        let (to_deliver, incoming) = mpsc::channel(MOST_INCOMING);
        let (moves, to_move) = mpsc::channel(1);
        let (set_status, status) = watch::channel(LinkStatus {
            state: LinkState::Connecting,
            since: clock.now(),
            endpoint: target.endpoint.to_string(),
            peer: None,
            error: None,
            attempts: 0,
            next_attempt_at: None,
            latency: None,
        });
        let (set_pace, pace) = watch::channel(pace);
        let (meter, waiting, reconnect) = (Arc::<Meter>::default(), Arc::<AtomicUsize>::default(), Arc::default());
        let wires = Wires {
            attempts: Attempts { node: identity.node, keys, meter: Arc::clone(&meter), clock: Arc::clone(&clock) },
            outgoing: to_send,
            waiting: Arc::clone(&waiting),
            incoming: to_deliver,
            status: set_status,
            pace,
            moves: to_move,
            clock,
            shutdown: shutdown.clone(),
        };
        shutdown.spawn("messenger client", Dialler::new(wires, target, Arc::clone(&reconnect)).run());
        (Self { outgoing, waiting, status, pace: set_pace, reconnect, moves, meter }, incoming)
    }

    /// How the link is; the receiver is told of every change.
    pub fn status(&self) -> watch::Receiver<LinkStatus> {
        self.status.clone()
    }

    /// Queues a message without waiting. What is still queued when the link is lost is dropped: the next link starts anew.
    ///
    /// # Errors
    /// If the link is not live or its bounded queue is full (256 messages or 8 MiB), or the body is longer than
    /// [`MAX_BODY`].
    pub fn send(&self, kind: u8, body: Bytes) -> Result<(), NotSent> {
        let len = body.len();
        if len > MAX_BODY || self.status.borrow().state != LinkState::Live {
            return Err(NotSent);
        }
        let before = self.waiting.fetch_add(len, Ordering::Relaxed);
        if before + len > MOST_WAITING_BYTES || self.outgoing.try_send((kind, body)).is_err() {
            self.waiting.fetch_sub(len, Ordering::Relaxed);
            return Err(NotSent);
        }
        Ok(())
    }

    /// Makes the next attempt now (the Reconnect button). No effect on a live link.
    pub fn reconnect(&self) {
        if self.status.borrow().state != LinkState::Live {
            self.reconnect.notify_one();
        }
    }

    /// Changes beat and silence of the present and later links; the other end is told at once.
    pub fn set_pace(&self, pace: Pace) {
        self.pace.send_if_modified(|present| std::mem::replace(present, pace) != pace);
    }

    /// Goes to another target: opens the new link first and closes the old after; if the new one can't be had within a
    /// few seconds the old stays and the error is given back. Also called after a changed key, with the same target. While
    /// no link is up there is none to keep: the new target is dialled from now on, also after an error.
    ///
    /// # Errors
    /// Why the new link could not be had.
    pub async fn redial(&self, target: impl Into<Target>) -> Result<(), Error> {
        let (answer, outcome) = oneshot::channel();
        let wish = Move { target: target.into(), answer: Some(answer) };
        self.moves.send(wish).await.map_err(|_| Error::Closed)?;
        outcome.await.unwrap_or(Err(Error::Closed))
    }

    /// Frames, bytes and repeats so far, over all links of this client.
    pub fn counters(&self) -> Counters {
        self.meter.read()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("status", &*self.status.borrow()).finish_non_exhaustive()
    }
}
