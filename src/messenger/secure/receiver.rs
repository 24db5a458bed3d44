//! The half of a channel that receives.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Sleep};

use crate::base::id::NodeId;
use crate::messenger::envelope::{self, Envelope, Said, Unpacker};
use crate::messenger::error::Error;
use crate::messenger::secure::session::Opener;
use crate::messenger::secure::writing::Writing;
use crate::messenger::transport::FrameStream;

/// How long the other end may be silent until it says itself what to expect.
const FIRST_SILENCE: Duration = Duration::from_mins(1);

/// The bounds of what it may say.
const LEAST_SILENCE: Duration = Duration::from_millis(100);
const MOST_SILENCE: Duration = Duration::from_hours(1);

/// One batch takes no more frames in once it has so many envelopes, or opened so many bytes for them.
const MOST_AT_ONCE: usize = 512;
const MOST_BYTES_AT_ONCE: u64 = 64 << 10;

/// The half that receives. It also answers pings and watches for silence: the limit is what the other end promised in its last
/// ping, or what this end decided on when it pinged.
pub struct Receiver {
    stream: Box<dyn FrameStream>,
    opener: Opener,
    unpacker: Unpacker,
    writing: Arc<Writing>,
    /// The answer to a ping waits to be written, and the sender does not do it.
    answering: bool,
    silence: Silence,
    born: Instant,
    latency: Option<Duration>,
    bytes: u64,
    /// What comes after the batch that is given first.
    held: Option<Result<Option<Vec<Envelope>>, Error>>,
    done: bool,
}

impl Receiver {
    pub(super) fn new(
        stream: Box<dyn FrameStream>,
        opener: Opener,
        source: NodeId,
        writing: Arc<Writing>,
        born: Instant,
    ) -> Self {
        Self {
            stream,
            opener,
            unpacker: Unpacker::new(source),
            writing,
            answering: false,
            silence: Silence::new(),
            born,
            latency: None,
            bytes: 0,
            held: None,
            done: false,
        }
    }

    /// The next batch, in order; empty if the other end only showed that it lives; none when it closed properly. Cancel safe.
    ///
    /// # Errors
    /// If what came does not open, is out of order, the other end was silent for too long, or the link is gone. The link is
    /// over then, for the sender too.
    pub async fn recv(&mut self) -> Result<Option<Vec<Envelope>>, Error> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Waits until the first frame opened, and keeps what was in it.
    pub(super) async fn prove(&mut self) -> Result<(), Error> {
        match self.recv().await? {
            Some(batch) if batch.is_empty() => Ok(()),
            Some(batch) => {
                self.held = Some(Ok(Some(batch)));
                Ok(())
            }
            None => Err(Error::Closed),
        }
    }

    /// How long the answer to the last answered ping took.
    pub(crate) fn latency(&self) -> Option<Duration> {
        self.latency
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Vec<Envelope>>, Error>> {
        let next = match self.held.take() {
            Some(held) => held,
            None if self.done => Ok(None),
            None => ready!(self.poll_batch(cx)),
        };
        if !matches!(next, Ok(Some(_))) {
            self.done = true;
            self.writing.end();
        }
        Poll::Ready(next)
    }

    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Vec<Envelope>>, Error>> {
        if self.answering {
            self.answering = self.writing.poll_answer(cx, None).is_pending();
        }
        let mut batch = Vec::new();
        let mut alive = false;
        let enough = self.bytes + MOST_BYTES_AT_ONCE;
        let end = loop {
            match self.poll_said(cx, &mut batch) {
                Poll::Ready(Ok(Some(Said::Close))) => break Ok(None),
                Poll::Ready(Ok(Some(said))) => {
                    alive = true;
                    self.hear(cx, &said);
                    if batch.len() >= MOST_AT_ONCE || self.bytes >= enough || !self.stream.is_ready() {
                        self.silence.heard();
                        return Poll::Ready(Ok(Some(batch)));
                    }
                }
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Err(error)) => break Err(error),
                Poll::Pending if alive => {
                    self.silence.heard();
                    return Poll::Ready(Ok(Some(batch)));
                }
                Poll::Pending => {
                    self.writing.register_receiver(cx);
                    if self.writing.has_ended() {
                        break Err(Error::Closed);
                    }
                    if let Some(limit) = self.writing.silence() {
                        self.silence.set(limit);
                    }
                    break Err(ready!(self.silence.poll(cx)));
                }
            }
        };
        if batch.is_empty() {
            return Poll::Ready(end);
        }
        self.held = Some(end);
        Poll::Ready(Ok(Some(batch)))
    }

    /// What the next frame said; none if it was dropped as a repeat.
    fn poll_said(&mut self, cx: &mut Context<'_>, batch: &mut Vec<Envelope>) -> Poll<Result<Option<Said>, Error>> {
        let Some(frame) = ready!(self.stream.poll_frame(cx))? else { return Poll::Ready(Err(Error::Closed)) };
        let meter = self.writing.meter();
        let Some(plain) = self.opener.open(frame)? else {
            meter.repeat();
            return Poll::Ready(Ok(None));
        };
        meter.received(frame.len());
        self.bytes += frame.len() as u64;
        self.writing.set_received(self.bytes);
        let said = self.unpacker.unpack(Bytes::from(plain), batch);
        Poll::Ready(said.map(Some).map_err(|_| Error::Invalid("message in a sealed frame")))
    }

    fn hear(&mut self, cx: &mut Context<'_>, said: &Said) {
        match said {
            Said::Ping { token, silence } => {
                if self.writing.silence().is_none() {
                    self.silence.set((*silence).clamp(LEAST_SILENCE, MOST_SILENCE));
                }
                self.answering |= self.writing.poll_answer(cx, Some(&envelope::pong(*token))).is_pending();
            }
            Said::Pong(token) => {
                self.latency = self.born.elapsed().checked_sub(Duration::from_micros(*token));
            }
            Said::Envelopes | Said::Close => {}
        }
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("writing", &self.writing).finish_non_exhaustive()
    }
}

/// Watches for silence with one timer, which is moved only when it fires: a frame costs no timer.
struct Silence {
    limit: Duration,
    last_heard: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Silence {
    fn new() -> Self {
        let limit = FIRST_SILENCE;
        Self { limit, last_heard: Instant::now(), timer: Box::pin(tokio::time::sleep(limit)) }
    }

    fn heard(&mut self) {
        self.last_heard = Instant::now();
    }

    fn set(&mut self, limit: Duration) {
        if limit != self.limit {
            self.limit = limit;
            self.timer.as_mut().reset(self.last_heard + limit);
        }
    }

    /// Ready when nothing was heard for too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let deadline = self.last_heard + self.limit;
            if Instant::now() >= deadline {
                return Poll::Ready(Error::Silent(self.limit));
            }
            self.timer.as_mut().reset(deadline);
        }
    }
}
