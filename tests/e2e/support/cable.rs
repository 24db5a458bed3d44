//! A cable between a node and a server: a TCP proxy that can be cut, or swallow everything, and be mended.

use std::net::SocketAddr;
use std::sync::Arc;

use switchboard::base::shutdown::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Whole,
    /// Connections are ended, and whoever comes is turned away.
    Cut,
    /// Connections stay; nothing comes through.
    Silent,
}

/// A proxy. Dropped: it ends with its tasks.
pub(crate) struct Cable {
    address: SocketAddr,
    state: watch::Sender<State>,
    shutdown: Shutdown,
}

impl Cable {
    /// Listens at a free port and passes on to `server` (`HOST:PORT`).
    pub(crate) async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, seen) = watch::channel(State::Whole);
        let shutdown = Shutdown::new();
        let (server, tasks) = (Arc::<str>::from(server), shutdown.clone());
        shutdown.spawn("cable", async move {
            loop {
                let near = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    () = tasks.stopping() => return,
                };
                let (server, mut seen) = (Arc::clone(&server), seen.clone());
                tasks.spawn("wire", async move {
                    let mut cut = seen.clone();
                    tokio::select! {
                        () = pass(near, &server, &mut seen) => {}
                        _ = cut.wait_for(|state| *state == State::Cut) => {}
                    }
                });
            }
        });
        Self { address, state, shutdown }
    }

    /// The same URL, by way of this cable.
    pub(crate) fn through(&self, url: &str) -> String {
        let (before, place) = url.rsplit_once('@').unwrap();
        let (_, name) = place.split_once('/').unwrap();
        format!("{before}@{}/{name}", self.address)
    }

    /// Ends every connection and takes no more.
    pub(crate) fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Lets nothing through, and says nothing of it.
    pub(crate) fn silence(&self) {
        self.state.send_replace(State::Silent);
    }

    /// Takes connections again; those that were there at a silence are ended.
    pub(crate) fn mend(&self) {
        self.state.send_replace(State::Whole);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.cut();
        self.shutdown.stop_now();
    }
}

async fn pass(mut near: TcpStream, server: &str, state: &mut watch::Receiver<State>) {
    let Ok(mut far) = TcpStream::connect(server).await else { return };
    let _ = near.set_nodelay(true);
    let _ = far.set_nodelay(true);
    let _ = state.wait_for(|state| *state == State::Whole).await;
    let silenced = tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => false,
        silenced = state.wait_for(|state| *state == State::Silent) => silenced.is_ok(),
    };
    if silenced {
        // what was taken from one end and not yet given to the other is lost, so it does not go on
        let _ = state.wait_for(|state| *state == State::Whole).await;
    }
}
