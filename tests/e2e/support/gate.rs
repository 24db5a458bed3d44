//! A gate on the way between two nodes: a TCP proxy that lets bytes through, late, or not at all, without either end being told.

use std::net::SocketAddr;
use std::time::Duration;

use switchboard::base::shutdown::Shutdown;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passage {
    /// They pass, each so much later.
    Late(Duration),
    /// They vanish; connections stay open, also new ones.
    Nowhere,
}

/// A gate. Dropped: it ends with its connections.
pub(crate) struct Gate {
    address: SocketAddr,
    passage: watch::Sender<Passage>,
    shutdown: Shutdown,
}

impl Gate {
    /// Listens at a free port and leads to `server` (`HOST:PORT`).
    pub(crate) async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (passage, seen) = watch::channel(Passage::Late(Duration::ZERO));
        let shutdown = Shutdown::new();
        let tasks = shutdown.clone();
        shutdown.spawn("gate", async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(&server).await else { continue };
                let ((near_in, near_out), (far_in, far_out)) = (split(near), split(far));
                tasks.spawn("out", pass(near_in, far_out, seen.clone(), tasks.clone()));
                tasks.spawn("in", pass(far_in, near_out, seen.clone(), tasks.clone()));
            }
        });
        Self { address, passage, shutdown }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on.
    pub(crate) fn set(&self, passage: Passage) {
        self.passage.send_replace(passage);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shutdown.stop_now();
    }
}

fn split(stream: TcpStream) -> (OwnedReadHalf, OwnedWriteHalf) {
    stream.set_nodelay(true).unwrap();
    stream.into_split()
}

/// One way. What is late waits in a queue, so that lateness costs no throughput.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, passage: watch::Receiver<Passage>, tasks: Shutdown) {
    let (queue, mut late) = mpsc::channel::<(Instant, Vec<u8>)>(1024);
    tasks.spawn("late", async move {
        while let Some((due, bytes)) = late.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    let mut room = vec![0; 64 << 10];
    let mut lost = false;
    loop {
        let Ok(read) = from.read(&mut room).await else { return };
        let now = *passage.borrow();
        // bytes that are lost are lost for good: what came after them would be garbage
        lost = lost || now == Passage::Nowhere;
        match now {
            _ if lost && read == 0 => return std::future::pending().await,
            Passage::Late(by) if !lost && read > 0 => {
                if queue.send((Instant::now() + by, room[..read].to_vec())).await.is_err() {
                    return;
                }
            }
            _ if lost => {}
            _ => return,
        }
    }
}
