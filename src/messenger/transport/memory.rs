//! Frames inside one process, by name: for tests and embedding.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use crate::messenger::transport::{FrameSink, FrameStream, Link, Listener, Transport};

/// Frames on the way in one direction; at the bound the sender waits. At most a megabyte.
const FRAMES: usize = 16;

/// Peers that were not accepted yet; at the bound the next one waits.
const WAITING: usize = 16;

/// Who listens in this process.
static LISTENERS: LazyLock<Mutex<HashMap<String, mpsc::Sender<Link>>>> = LazyLock::new(Mutex::default);

/// Listens and connects under one name in this process.
#[derive(Clone, Debug)]
pub struct Memory {
    name: String,
}

impl Memory {
    /// Under this name.
    #[must_use]
    pub fn new(name: String) -> Self {
        Self { name }
    }
}

/// Two ends of one link.
#[must_use]
pub fn pair() -> (Link, Link) {
    let ((a_out, b_in), (b_out, a_in)) = (mpsc::channel(FRAMES), mpsc::channel(FRAMES));
    (link(a_out, a_in), link(b_out, b_in))
}

fn link(out: mpsc::Sender<Vec<u8>>, frames: mpsc::Receiver<Vec<u8>>) -> Link {
    Link {
        sink: Box::new(Sink { out: PollSender::new(out), waiting: VecDeque::new(), queued: 0 }),
        stream: Box::new(Stream { frames, current: Vec::new() }),
        address: None,
    }
}

#[async_trait]
impl Transport for Memory {
    async fn listen(&self) -> io::Result<Box<dyn Listener>> {
        let mut listeners = LISTENERS.lock().unwrap_or_else(PoisonError::into_inner);
        if listeners.get(&self.name).is_some_and(|listener| !listener.is_closed()) {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                format!("memory:{} has a listener already", self.name),
            ));
        }
        listeners.retain(|_, listener| !listener.is_closed());
        let (sender, links) = mpsc::channel(WAITING);
        listeners.insert(self.name.clone(), sender);
        Ok(Box::new(Waiting { links }))
    }

    async fn connect(&self) -> io::Result<Link> {
        let listener = LISTENERS.lock().unwrap_or_else(PoisonError::into_inner).get(&self.name).cloned();
        let (ours, theirs) = pair();
        match listener {
            Some(listener) if listener.send(theirs).await.is_ok() => Ok(ours),
            _ => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

struct Waiting {
    links: mpsc::Receiver<Link>,
}

#[async_trait]
impl Listener for Waiting {
    async fn accept(&mut self) -> io::Result<Link> {
        match self.links.recv().await {
            Some(link) => Ok(link),
            // another listener took the name, which it can only once this one is closed
            None => std::future::pending().await,
        }
    }
}

struct Sink {
    out: PollSender<Vec<u8>>,
    waiting: VecDeque<Vec<u8>>,
    queued: usize,
}

impl FrameSink for Sink {
    fn reserve(&mut self, len: usize) -> &mut [u8] {
        self.queued += len;
        self.waiting.push_back(vec![0; len]);
        self.waiting.back_mut().expect("a frame was just queued")
    }

    fn queued(&self) -> usize {
        self.queued
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        while !self.waiting.is_empty() {
            ready!(self.out.poll_reserve(cx)).map_err(gone)?;
            if let Some(frame) = self.waiting.pop_front() {
                self.queued -= frame.len();
                self.out.send_item(frame).map_err(gone)?;
            }
        }
        Poll::Ready(Ok(()))
    }
}

struct Stream {
    frames: mpsc::Receiver<Vec<u8>>,
    current: Vec<u8>,
}

impl FrameStream for Stream {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<&[u8]>>> {
        Poll::Ready(Ok(match ready!(self.frames.poll_recv(cx)) {
            Some(frame) => {
                self.current = frame;
                Some(&self.current)
            }
            None => None,
        }))
    }

    fn is_ready(&self) -> bool {
        !self.frames.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_has_one_listener_and_is_free_again_when_it_goes() {
        let memory = Memory::new("one listener".into());
        assert_eq!(memory.connect().await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let mut listener = memory.listen().await.unwrap();
        assert_eq!(memory.listen().await.err().unwrap().kind(), io::ErrorKind::AddrInUse);
        let (ours, theirs) = tokio::join!(memory.connect(), listener.accept());
        drop(listener);
        assert!(memory.listen().await.is_ok());
        let (mut ours, mut theirs) = (ours.unwrap(), theirs.unwrap());
        ours.send(b"still up").await.unwrap();
        assert_eq!(theirs.recv().await.unwrap().unwrap(), b"still up".as_slice());
    }
}
