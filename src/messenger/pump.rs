//! Carries messages over the live link, beats, and moves to another link without losing this one first.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, Sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::base::clock::SharedClock;
use crate::base::shutdown::Shutdown;
use crate::messenger::attempt::Attempts;
use crate::messenger::delivery::{Ended, deliver};
use crate::messenger::endpoint::Endpoint;
use crate::messenger::error::Error;
use crate::messenger::secure::{SecureChannel, Sender};
use crate::messenger::status::{Incoming, LinkState, LinkStatus};
use crate::messenger::target::Target;
use crate::messenger::{Pace, Peer};

/// How long a move to another endpoint is tried before it is given up.
pub(crate) const MOVE_PATIENCE: Duration = Duration::from_secs(4);

/// A link is renewed after so many bytes or so long: keys age.
const RENEW_AFTER_BYTES: u64 = 1 << 36;
const RENEW_AFTER: Duration = Duration::from_hours(24);

/// The next try, if a link could not be renewed.
const RENEW_AGAIN: Duration = Duration::from_mins(1);

/// Messages that are sealed as one batch.
const MOST_AT_ONCE: usize = 64;

/// A wish to go to another target, or to this one again.
pub(crate) struct Move {
    pub(crate) target: Target,
    /// Who waits for the outcome; nobody, if a link is renewed.
    pub(crate) answer: Option<oneshot::Sender<Result<(), Error>>>,
}

impl Move {
    pub(crate) fn answer(self, outcome: Result<(), Error>) {
        if let Some(answer) = self.answer {
            // who no longer waits needs no answer
            let _ = answer.send(outcome);
        }
    }
}

/// What the client's task holds as long as it lives, whether a link is up or not.
pub(crate) struct Wires {
    pub(crate) attempts: Attempts,
    pub(crate) outgoing: mpsc::Receiver<(u8, Bytes)>,
    /// Bytes of bodies in `outgoing`.
    pub(crate) waiting: Arc<AtomicUsize>,
    pub(crate) incoming: mpsc::Sender<Incoming>,
    pub(crate) status: watch::Sender<LinkStatus>,
    pub(crate) pace: watch::Receiver<Pace>,
    pub(crate) moves: mpsc::Receiver<Move>,
    pub(crate) clock: SharedClock,
    pub(crate) shutdown: Shutdown,
}

impl Wires {
    /// The pace on a link to `endpoint`.
    pub(crate) fn pace(&mut self, endpoint: &Endpoint) -> Pace {
        self.pace.borrow_and_update().at(endpoint)
    }

    fn tell_live(&self, endpoint: &Endpoint, peer: &Peer, latency: Option<Duration>) {
        let since = self.clock.now();
        self.status.send_replace(LinkStatus {
            state: LinkState::Live,
            since,
            endpoint: endpoint.to_string(),
            peer: Some(peer.clone()),
            error: None,
            attempts: 0,
            next_attempt_at: None,
            latency,
        });
    }
}

/// Why the pump stopped.
pub(crate) enum After {
    /// The node stops, or nobody wants the link any more.
    Stop,
    /// The link is gone.
    Lost {
        why: Error,
        lived: Duration,
        /// A move that was under way.
        moving: Option<Move>,
    },
}

/// The link that is up.
struct Live {
    sender: Sender,
    delivery: AbortOnDropHandle<Ended>,
    latency: watch::Receiver<Option<Duration>>,
    born: Instant,
    renew_at: Instant,
    flushed: bool,
}

impl Live {
    /// Tells that the link is up, and takes what comes from it to who waits for it.
    fn start(channel: SecureChannel, endpoint: &Endpoint, wires: &Wires) -> Self {
        let peer = channel.peer().clone();
        let (sender, receiver) = channel.split();
        wires.tell_live(endpoint, &peer, receiver.latency());
        let (measured, latency) = watch::channel(receiver.latency());
        let delivery = deliver(peer, receiver, wires.incoming.clone(), measured);
        let delivery = AbortOnDropHandle::new(wires.shutdown.spawn("messenger delivery", delivery));
        let born = Instant::now();
        Self { sender, delivery, latency, born, renew_at: born + RENEW_AFTER, flushed: true }
    }

    fn is_old(&self) -> bool {
        Instant::now() >= self.renew_at || self.sender.bytes() >= RENEW_AFTER_BYTES
    }

    fn beat(&mut self, pace: Pace) -> Result<(), Error> {
        self.flushed = false;
        // a peer that does not read gets no further pings; its silence ends the link
        if self.sender.is_flushed() { self.sender.ping(pace.silence) } else { Ok(()) }
    }

    /// Closes the link; nothing of it is delivered afterwards.
    async fn close(self) {
        drop(self.sender);
        self.delivery.abort();
        // how it ended does not matter any more
        let _ = self.delivery.await;
    }
}

/// A move under way: the wish, and the new link as soon as it is there.
type Moving = (Move, Pin<Box<dyn Future<Output = Result<SecureChannel, Error>> + Send>>);

fn begin(wish: Move, wires: &mut Wires) -> Moving {
    let (attempts, target, silence) =
        (wires.attempts.clone(), wish.target.clone(), wires.pace(&wish.target.endpoint).silence);
    (wish, Box::pin(async move { attempts.several(&target, silence, MOVE_PATIENCE).await }))
}

async fn arrive(moving: &mut Option<Moving>) -> Result<SecureChannel, Error> {
    match moving {
        Some((_, link)) => link.await,
        None => std::future::pending().await,
    }
}

/// Carries messages until the link is gone or nobody wants it any more. `target` is where it leads, also after a move.
pub(crate) async fn pump(wires: &mut Wires, target: &mut Target, channel: SecureChannel) -> After {
    let mut live = Live::start(channel, &target.endpoint, wires);
    let mut batch = Vec::with_capacity(MOST_AT_ONCE);
    let mut moving: Option<Moving> = None;
    // at once: the pace may have changed since the link was dialled
    let mut beat: Pin<Box<Sleep>> = Box::pin(tokio::time::sleep(Duration::ZERO));
    let shutdown = wires.shutdown.clone();
    let mut stopping = pin!(shutdown.stopping());
    let why = loop {
        tokio::select! {
            biased;
            () = &mut stopping => return After::Stop,
            ended = &mut live.delivery => match ended {
                Ok(Ended::Lost(error)) => break error,
                Ok(Ended::Unwanted) => return After::Stop,
                // it panicked, and the panic was told
                Err(_) => break Error::Closed,
            },
            // if it can't be written to, the end that is read tells why, when the last was delivered
            _ = live.sender.flush(), if !live.flushed => live.flushed = true,
            taken = wires.outgoing.recv_many(&mut batch, MOST_AT_ONCE), if live.flushed => {
                if taken == 0 {
                    return After::Stop;
                }
                let bytes = batch.iter().map(|(_, body)| body.len()).sum();
                wires.waiting.fetch_sub(bytes, Ordering::Relaxed);
                // if it fails, the flush does too
                let _ = live.sender.enqueue(&batch);
                live.flushed = false;
                batch.clear();
            },
            () = &mut beat => {
                let pace = wires.pace(&target.endpoint);
                let _ = live.beat(pace);
                if moving.is_none() && live.is_old() {
                    moving = Some(begin(Move { target: target.clone(), answer: None }, wires));
                }
                beat.as_mut().reset(Instant::now() + pace.beat);
            },
            Ok(()) = wires.pace.changed() => beat.as_mut().reset(Instant::now()),
            Ok(()) = live.latency.changed() => {
                let latency = *live.latency.borrow_and_update();
                wires.status.send_modify(|status| status.latency = latency);
            },
            Some(wish) = wires.moves.recv(), if moving.is_none() => moving = Some(begin(wish, wires)),
            arrived = arrive(&mut moving), if moving.is_some() => match (arrived, moving.take()) {
                (Ok(channel), Some((wish, _))) => {
                    // the new link is up; only now the old one is closed
                    live.close().await;
                    let is_the_same = wires.status.borrow().peer.as_ref() == Some(channel.peer());
                    if !is_the_same || *target != wish.target {
                        tracing::info!(
                            "messenger: the link leads to {} at {} now",
                            channel.peer().node,
                            wish.target.endpoint
                        );
                    }
                    target.clone_from(&wish.target);
                    live = Live::start(channel, &target.endpoint, wires);
                    beat.as_mut().reset(Instant::now());
                    wish.answer(Ok(()));
                }
                (Err(error), Some((wish, _))) => {
                    live.renew_at = live.renew_at.max(Instant::now() + RENEW_AGAIN);
                    wish.answer(Err(error));
                }
                (_, None) => {}
            },
        }
    };
    After::Lost { why, lived: live.born.elapsed(), moving: moving.map(|(wish, _)| wish) }
}
