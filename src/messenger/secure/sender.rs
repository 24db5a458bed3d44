//! The half of a channel that sends.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::base::clock::SharedClock;
use crate::messenger::envelope::{self, MAX_BODY};
use crate::messenger::error::Error;
use crate::messenger::secure::writing::Writing;

/// The half that sends. Dropped, it says the last word, so that the other end knows that nothing was cut off.
pub struct Sender {
    writing: Arc<Writing>,
    clock: SharedClock,
    born: Instant,
}

impl Sender {
    pub(super) fn new(writing: Arc<Writing>, clock: SharedClock, born: Instant) -> Self {
        Self { writing, clock, born }
    }

    /// Seals and sends all of these as one batch and flushes it: (kind, body) each. Waits while the other end does not read; the
    /// sealed batch is held meanwhile, and nothing beyond it. Given up before it is done, the batch still goes out, whole, with
    /// what is sent next.
    ///
    /// # Errors
    /// If a body is too long (nothing is sent then) or the link is gone.
    pub async fn send(&mut self, batch: &[(u8, Bytes)]) -> Result<(), Error> {
        check(batch)?;
        let waiting = Waiting(&self.writing);
        let mut batch = Some((batch, self.clock.now()));
        poll_fn(|cx| waiting.0.poll_send(cx, &mut batch)).await?;
        waiting.over();
        Ok(())
    }

    /// Seals a batch to be written by the next flush.
    pub(crate) fn enqueue(&mut self, batch: &[(u8, Bytes)]) -> Result<(), Error> {
        check(batch)?;
        self.writing.seal_batch(batch, self.clock.now())
    }

    /// Asks for an answer, which the receiver takes; "give me up if you hear nothing for `silence`". From now on the receiver
    /// bears no longer silence either. Written by the next flush.
    pub(crate) fn ping(&mut self, silence: Duration) -> Result<(), Error> {
        self.writing.set_silence(silence);
        // the answer brings the time back to where it is understood
        let token = u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.writing.seal(&envelope::ping(token, silence))
    }

    /// Writes what waits. Cancel safe.
    pub(crate) async fn flush(&mut self) -> Result<(), Error> {
        let waiting = Waiting(&self.writing);
        poll_fn(|cx| waiting.0.poll_flush(cx)).await?;
        waiting.over();
        Ok(())
    }

    /// Whether nothing waits to be written.
    pub(crate) fn is_flushed(&self) -> bool {
        self.writing.is_flushed()
    }

    /// Bytes sealed and opened so far, on the whole link.
    pub(crate) fn bytes(&self) -> u64 {
        self.writing.bytes()
    }
}

/// Tells the writing side that the sender no longer waits, if it was given up while it did.
struct Waiting<'a>(&'a Writing);

impl Waiting<'_> {
    /// It was written: nobody waits any more, and there is no need to say so.
    fn over(self) {
        std::mem::forget(self);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.stop_waiting();
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.writing.close();
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("writing", &self.writing).finish_non_exhaustive()
    }
}

fn check(batch: &[(u8, Bytes)]) -> Result<(), Error> {
    match batch.iter().find(|(_, body)| body.len() > MAX_BODY) {
        Some((_, body)) => Err(Error::TooLong(body.len())),
        None => Ok(()),
    }
}
