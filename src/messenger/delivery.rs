//! Takes what comes over a live link to who waits for it, in a task of its own: nothing else stands in the way of a message.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::messenger::Peer;
use crate::messenger::error::Error;
use crate::messenger::secure::Receiver;
use crate::messenger::status::Incoming;

/// Why nothing more is delivered.
pub(crate) enum Ended {
    /// The link is gone.
    Lost(Error),
    /// Nobody takes what comes.
    Unwanted,
}

/// Delivers that the link is up and everything that comes, until one of the ends is gone. Waits while nobody takes: the link is
/// not read then, and the other end is held back. Every answer to a ping changes `latency`.
pub(crate) async fn deliver(
    peer: Peer,
    mut receiver: Receiver,
    incoming: mpsc::Sender<Incoming>,
    latency: watch::Sender<Option<Duration>>,
) -> Ended {
    if incoming.send(Incoming::Up(peer)).await.is_err() {
        return Ended::Unwanted;
    }
    let mut measured = receiver.latency();
    loop {
        match receiver.recv().await {
            Ok(Some(envelopes)) => {
                if !envelopes.is_empty() && incoming.send(Incoming::Envelopes(envelopes)).await.is_err() {
                    return Ended::Unwanted;
                }
                if receiver.latency() != measured {
                    measured = receiver.latency();
                    latency.send_replace(measured);
                }
            }
            Ok(None) => return Ended::Lost(Error::Closed),
            Err(error) => return Ended::Lost(error),
        }
    }
}
