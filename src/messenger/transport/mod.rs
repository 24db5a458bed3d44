//! The transport contract: listen, accept, connect; a link carries frames both ways.
//!
//! Frames, not bytes: a message broker has no byte stream. A transport delivers each frame whole, in order, or ends the link; it
//! may deliver one twice. It hides nothing: what crosses it is sealed above.

pub mod memory;
pub mod pipe;
pub mod stream;
pub mod tcp;

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;

use crate::messenger::endpoint::Endpoint;

/// A way to reach peers.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Waits for peers here.
    ///
    /// # Errors
    /// `AddrInUse` if a living process listens there already; what a dead one left behind is no obstacle.
    async fn listen(&self) -> io::Result<Box<dyn Listener>>;

    /// One attempt to reach who listens.
    ///
    /// # Errors
    /// `ConnectionRefused` if nobody listens; `NotFound` if there is no such pipe or name; `TimedOut`, `HostUnreachable` or
    /// `NetworkUnreachable` if no answer came.
    async fn connect(&self) -> io::Result<Link>;
}

/// Who waits for peers. Dropped, it stops at once and leaves nothing behind; links that are up stay up.
#[async_trait]
pub trait Listener: Send {
    /// The next peer. Cancel safe.
    async fn accept(&mut self) -> io::Result<Link>;
}

/// The half of a link that sends frames.
pub trait FrameSink: Send {
    /// Queues a frame of `len` bytes (1 to [`MAX_FRAME`](crate::messenger::frame::MAX_FRAME)); the caller fills it, all of it.
    fn reserve(&mut self, len: usize) -> &mut [u8];

    /// What waits, in bytes.
    fn queued(&self) -> usize;

    /// Sends what waits, as much in one go as the transport takes; ready when all is handed over.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// The half of a link that receives frames.
pub trait FrameStream: Send {
    /// The next frame, valid until the next call; none when the other end has closed.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<&[u8]>>>;

    /// Whether the next frame is here already, without asking the system.
    fn is_ready(&self) -> bool;
}

/// A way to one peer and back. Dropping a half closes its direction.
pub struct Link {
    /// Sends.
    pub sink: Box<dyn FrameSink>,
    /// Receives.
    pub stream: Box<dyn FrameStream>,
    /// The address of the other end, on a network.
    pub address: Option<IpAddr>,
}

impl Link {
    /// Sends one frame and flushes it.
    ///
    /// # Errors
    /// If the link is gone.
    pub async fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.sink.reserve(frame.len()).copy_from_slice(frame);
        poll_fn(|cx| self.sink.poll_flush(cx)).await
    }

    /// The next frame; none when the other end has closed. Cancel safe.
    ///
    /// # Errors
    /// If the link is gone or what comes is no frame.
    pub async fn recv(&mut self) -> io::Result<Option<Bytes>> {
        poll_fn(|cx| self.stream.poll_frame(cx).map_ok(|frame| frame.map(Bytes::copy_from_slice))).await
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

/// The transport that reaches `endpoint`: the one place where transports are chosen.
#[must_use]
pub fn to(endpoint: &Endpoint) -> Box<dyn Transport> {
    match endpoint {
        Endpoint::Pipe(path) => Box::new(pipe::Pipe::new(path.clone())),
        Endpoint::Tcp { host, port } => Box::new(tcp::Tcp::new(host.clone(), *port)),
        Endpoint::Memory(name) => Box::new(memory::Memory::new(name.clone())),
    }
}
