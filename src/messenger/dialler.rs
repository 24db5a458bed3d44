//! Dials until a link is up, and again when it is lost; says once that it is away and once that it is back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::base::backoff::Backoff;
use crate::base::chain::chain;
use crate::base::clock::Timestamp;
use crate::messenger::attempt::BACKOFF;
use crate::messenger::endpoint::Endpoint;
use crate::messenger::error::Error;
use crate::messenger::pump::{After, MOVE_PATIENCE, Move, Wires, pump};
use crate::messenger::secure::SecureChannel;
use crate::messenger::status::{Incoming, LinkState};
use crate::messenger::target::Target;

/// A link that lived so long was a good one: the next is dialled at once, and its loss is worth a line in the log.
const STEADY: Duration = Duration::from_secs(5);

/// Losses of links that did not live long are told no more often than this.
const QUIET: Duration = Duration::from_mins(1);

/// The client's task.
pub(crate) struct Dialler {
    wires: Wires,
    target: Target,
    reconnect: Arc<Notify>,
    backoff: Backoff,
    outage: Outage,
    /// A wish to move that came while no link was up, and until when it is answered.
    wish: Option<(Move, Instant)>,
}

/// What was said of the present outage, if there is one.
#[derive(Default)]
struct Outage {
    began: Option<Instant>,
    attempts: u64,
    told: bool,
    last_told: Option<Instant>,
}

impl Dialler {
    pub(crate) fn new(wires: Wires, target: Target, reconnect: Arc<Notify>) -> Self {
        Self { wires, target, reconnect, backoff: BACKOFF, outage: Outage::default(), wish: None }
    }

    /// Keeps a link up until the node stops or nobody wants it any more.
    pub(crate) async fn run(mut self) {
        while let Some(channel) = self.dial().await {
            self.outage.end(&self.target.endpoint, channel.peer().node.as_str());
            if let Some((wish, _)) = self.wish.take() {
                wish.answer(Ok(()));
            }
            let after = pump(&mut self.wires, &mut self.target, channel).await;
            let After::Lost { why, lived, moving } = after else { break };
            self.lose(&why, lived);
            if self.wires.incoming.send(Incoming::Down).await.is_err() {
                break;
            }
            if let Some(wish) = moving {
                self.adopt(wish);
            } else if lived < STEADY && !self.pause(&chain(&why)).await {
                break;
            }
        }
        self.tell_away(LinkState::Down, Some("the messenger was stopped".to_owned()), None);
    }

    /// Attempts until one works. None if the node stops or nobody wants the link any more.
    async fn dial(&mut self) -> Option<SecureChannel> {
        let shutdown = self.wires.shutdown.clone();
        loop {
            self.tell_away(self.outage.state(), None, None);
            let silence = self.wires.pace(&self.target.endpoint).silence;
            let attempted = tokio::select! {
                biased;
                () = shutdown.stopping() => return None,
                () = self.wires.incoming.closed() => return None,
                wish = self.wires.moves.recv() => {
                    // none: every client was dropped
                    self.adopt(wish?);
                    continue;
                }
                attempted = self.wires.attempts.once(&self.target, silence) => attempted,
            };
            match attempted {
                Ok(channel) => return Some(channel),
                Err(error) => {
                    let text = chain(&error);
                    self.outage.attempts += 1;
                    if self.outage.is_news(Duration::ZERO) {
                        tracing::warn!("messenger: no link to {}: {text}; trying on", self.target.endpoint);
                    }
                    if let Some((wish, _)) = self.wish.take_if(|(_, until)| Instant::now() >= *until) {
                        wish.answer(Err(error));
                    }
                    if !self.pause(&text).await {
                        return None;
                    }
                }
            }
        }
    }

    /// Waits before the next attempt; false if there is to be none.
    async fn pause(&mut self, why: &str) -> bool {
        let delay = self.backoff.next_delay();
        let next = self.wires.clock.now().plus(delay);
        self.tell_away(self.outage.state(), Some(why.to_owned()), Some(next));
        let shutdown = self.wires.shutdown.clone();
        tokio::select! {
            biased;
            () = shutdown.stopping() => return false,
            () = self.wires.incoming.closed() => return false,
            wish = self.wires.moves.recv() => match wish {
                Some(wish) => self.adopt(wish),
                None => return false,
            },
            () = self.reconnect.notified() => self.backoff.reset(),
            () = tokio::time::sleep(delay) => {}
        }
        true
    }

    /// Goes to another target at once: no link is up, so there is none to keep.
    fn adopt(&mut self, wish: Move) {
        self.target.clone_from(&wish.target);
        self.wires.status.send_modify(|status| status.endpoint = self.target.endpoint.to_string());
        self.backoff.reset();
        if let Some((superseded, _)) = self.wish.replace((wish, Instant::now() + MOVE_PATIENCE)) {
            superseded.answer(Err(Error::Closed));
        }
    }

    /// The link is gone: what was queued for it was for it alone.
    fn lose(&mut self, why: &Error, lived: Duration) {
        if lived >= STEADY {
            self.backoff.reset();
        }
        if self.outage.is_news(lived) {
            tracing::warn!("messenger: link to {} lost: {}; dialling again", self.target.endpoint, chain(why));
        }
        self.tell_away(self.outage.state(), Some(chain(why)), None);
        while let Ok((_, body)) = self.wires.outgoing.try_recv() {
            self.wires.waiting.fetch_sub(body.len(), Ordering::Relaxed);
        }
    }

    /// Tells that the link is away. An error is kept until there is another; since when it is away is the moment it was lost,
    /// however many attempts are made.
    fn tell_away(&self, state: LinkState, error: Option<String>, next_attempt_at: Option<Timestamp>) {
        let now = self.wires.clock.now();
        self.wires.status.send_modify(|status| {
            if status.state == LinkState::Live {
                status.since = now;
            }
            status.state = state;
            status.attempts = self.outage.attempts;
            if error.is_some() {
                status.error = error;
            }
            status.peer = None;
            status.latency = None;
            status.next_attempt_at = next_attempt_at;
        });
    }
}

impl Outage {
    /// One failed attempt makes it down, and down it stays until the link is live.
    fn state(&self) -> LinkState {
        if self.attempts == 0 { LinkState::Connecting } else { LinkState::Down }
    }

    /// The link is away: whether that is to be told now, once in an outage. `lived` is how long the link had lived, if there
    /// was one.
    fn is_news(&mut self, lived: Duration) -> bool {
        let now = Instant::now();
        self.began.get_or_insert(now);
        let lately = self.last_told.is_some_and(|at| now.duration_since(at) < QUIET);
        let news = !self.told && (lived >= STEADY || !lately);
        if news {
            self.told = true;
            self.last_told = Some(now);
        }
        news
    }

    /// The link is up: says so, if it was said that it was away, or if it is the first.
    fn end(&mut self, endpoint: &Endpoint, peer: &str) {
        let (attempts, lasted) = (self.attempts, self.began.map(|began| began.elapsed()));
        match lasted {
            Some(lasted) if self.told => {
                tracing::info!(
                    attempts,
                    "messenger: link to {peer} is up after {attempts} failed attempts in {lasted:.1?}"
                );
            }
            Some(_) => {}
            None => tracing::info!("messenger: link to {peer} at {endpoint} is up"),
        }
        *self = Self { last_told: self.last_told, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_told_once_and_flapping_once_a_minute() {
        let endpoint = Endpoint::Memory("told".into());
        let mut outage = Outage::default();
        assert!(outage.is_news(Duration::ZERO));
        assert!((0..100).all(|_| !outage.is_news(Duration::ZERO)));
        // up for a moment only, again and again
        for _ in 0..50 {
            outage.end(&endpoint, "service-1");
            assert!(!outage.is_news(STEADY / 2));
        }
        // one that lasts is told after all
        tokio::time::advance(QUIET).await;
        assert!(outage.is_news(Duration::ZERO));
        // a good link's loss is told at once
        outage.end(&endpoint, "service-1");
        assert!(outage.is_news(STEADY));
    }
}
