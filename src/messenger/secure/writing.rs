//! The writing side of a channel, which both halves use: the sender for envelopes, the receiver for the answer to a ping.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;

use crate::base::clock::Timestamp;
use crate::messenger::envelope;
use crate::messenger::error::Error;
use crate::messenger::metrics::Meter;
use crate::messenger::secure::session::{MAX_PLAIN, Sealer};
use crate::messenger::transport::FrameSink;

/// A peer that pings but does not read gets no more answers beyond so many waiting bytes.
const MOST_WAITING_ANSWERS: usize = 64 << 10;

/// Room for plaintext that is kept for the next batch.
const KEPT_PLAIN: usize = 128 << 10;

/// The lock is held while sealing and while the system takes the bytes, never while waiting.
pub(crate) struct Writing {
    out: Mutex<Out>,
    /// The link is over; both halves say so from now on.
    ended: AtomicBool,
    /// Woken when the link ends: the sender if it waits, and the receiver.
    sender: AtomicWaker,
    receiver: AtomicWaker,
    /// The longest silence of the other end that this end bears, in milliseconds; 0 while the other end decides.
    silence_ms: AtomicU64,
    received_bytes: AtomicU64,
    meter: Arc<Meter>,
}

struct Out {
    /// None once the direction is closed.
    sink: Option<Box<dyn FrameSink>>,
    sealer: Sealer,
    plain: Vec<u8>,
    /// The sender waits for the flush, so it is the one the transport must wake.
    sender_waits: bool,
    bytes: u64,
}

impl Out {
    fn seal(&mut self, plain: &[u8], meter: &Meter) -> Result<(), Error> {
        let sink = self.sink.as_mut().ok_or(Error::Closed)?;
        let len = Sealer::sealed_len(plain.len());
        self.sealer.seal(plain, sink.reserve(len));
        meter.sent(len);
        self.bytes += len as u64;
        Ok(())
    }

    fn seal_batch(&mut self, batch: &[(u8, Bytes)], time: Timestamp, meter: &Meter) -> Result<(), Error> {
        let mut plain = std::mem::take(&mut self.plain);
        let mut sealed = Ok(());
        envelope::pack(batch, time, MAX_PLAIN, &mut plain, |frame| {
            if sealed.is_ok() {
                sealed = self.seal(frame, meter);
            }
        });
        plain.clear();
        plain.shrink_to(KEPT_PLAIN);
        self.plain = plain;
        sealed
    }

    fn queued(&self) -> usize {
        self.sink.as_ref().map_or(0, |sink| sink.queued())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some(sink) = self.sink.as_mut() else { return Poll::Ready(Err(Error::Closed)) };
        let flushed = sink.poll_flush(cx).map_err(Error::from);
        if matches!(flushed, Poll::Ready(Err(_))) {
            self.sink = None;
        }
        flushed
    }
}

impl Writing {
    pub(crate) fn new(sink: Box<dyn FrameSink>, sealer: Sealer, meter: Arc<Meter>) -> Self {
        meter.up();
        let out = Out { sink: Some(sink), sealer, plain: Vec::new(), sender_waits: false, bytes: 0 };
        Self {
            out: Mutex::new(out),
            ended: AtomicBool::new(false),
            sender: AtomicWaker::new(),
            receiver: AtomicWaker::new(),
            silence_ms: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
            meter,
        }
    }

    fn out(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Bytes sealed and opened so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.out().bytes + self.received_bytes.load(Ordering::Relaxed)
    }

    /// So many bytes were opened so far.
    pub(crate) fn set_received(&self, bytes: u64) {
        self.received_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Whether nothing waits to be written.
    pub(crate) fn is_flushed(&self) -> bool {
        self.out().queued() == 0
    }

    /// Seals one plaintext of the messenger's own.
    pub(crate) fn seal(&self, plain: &[u8]) -> Result<(), Error> {
        self.out().seal(plain, &self.meter)
    }

    /// Seals a batch of envelopes whose lengths were checked.
    pub(crate) fn seal_batch(&self, batch: &[(u8, Bytes)], time: Timestamp) -> Result<(), Error> {
        if self.has_ended() { Err(Error::Closed) } else { self.out().seal_batch(batch, time, &self.meter) }
    }

    /// Writes what waits, for the sender.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_send(cx, &mut None)
    }

    /// Writes what waits, then seals the batch and writes it too. The batch is taken when it is sealed.
    pub(crate) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        batch: &mut Option<(&[(u8, Bytes)], Timestamp)>,
    ) -> Poll<Result<(), Error>> {
        if self.has_ended() {
            return Poll::Ready(Err(Error::Closed));
        }
        let mut out = self.out();
        let mut flushed = if out.queued() == 0 { Poll::Ready(Ok(())) } else { out.poll_flush(cx) };
        if matches!(flushed, Poll::Ready(Ok(())))
            && let Some((batch, time)) = batch.take()
        {
            out.seal_batch(batch, time, &self.meter)?;
            flushed = out.poll_flush(cx);
        }
        out.sender_waits = flushed.is_pending();
        drop(out);
        if flushed.is_pending() {
            self.sender.register(cx.waker());
            if self.has_ended() {
                return Poll::Ready(Err(Error::Closed));
            }
        }
        flushed
    }

    /// The sender gave up waiting; what waits goes out with the next flush of either half.
    pub(crate) fn stop_waiting(&self) {
        self.out().sender_waits = false;
    }

    /// Answers a ping, for the receiver; pending while the answer waits and the sender does not write it.
    pub(crate) fn poll_answer(&self, cx: &mut Context<'_>, answer: Option<&[u8]>) -> Poll<()> {
        let mut out = self.out();
        if let Some(plain) = answer
            && (out.queued() > MOST_WAITING_ANSWERS || out.seal(plain, &self.meter).is_err())
        {
            return Poll::Ready(());
        }
        // a broken link is noticed by reading from it
        if out.sender_waits { Poll::Ready(()) } else { out.poll_flush(cx).map(|_| ()) }
    }

    /// Says the last word, without waiting, and closes this direction.
    pub(crate) fn close(&self) {
        let mut out = self.out();
        if out.seal(&envelope::close(), &self.meter).is_ok() {
            let _ = out.poll_flush(&mut Context::from_waker(Waker::noop()));
            out.sink = None;
        }
    }

    /// Closes the link for both halves and wakes them.
    pub(crate) fn end(&self) {
        self.close();
        self.ended.store(true, Ordering::Release);
        self.sender.wake();
        self.receiver.wake();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// From now on the receiver bears this silence, whatever the other end promises.
    pub(crate) fn set_silence(&self, limit: Duration) {
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1);
        if self.silence_ms.swap(limit_ms, Ordering::Relaxed) != limit_ms {
            self.receiver.wake();
        }
    }

    /// The silence that this end decided on, if it did.
    pub(crate) fn silence(&self) -> Option<Duration> {
        Some(Duration::from_millis(self.silence_ms.load(Ordering::Relaxed))).filter(|limit| !limit.is_zero())
    }

    /// The receiver waits; it is woken when the link ends or the silence it bears changes.
    pub(crate) fn register_receiver(&self, cx: &Context<'_>) {
        self.receiver.register(cx.waker());
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.meter.down();
    }
}

impl std::fmt::Debug for Writing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writing").field("ended", &self.ended).finish_non_exhaustive()
    }
}
