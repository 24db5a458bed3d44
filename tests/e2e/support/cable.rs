//! A cable between a node and a server: a TCP proxy that can be cut, and mended.

use std::net::SocketAddr;
use std::sync::Arc;

use switchboard::base::shutdown::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A proxy. Dropped: it ends with its tasks.
pub(crate) struct Cable {
    address: SocketAddr,
    whole: watch::Sender<bool>,
    shutdown: Shutdown,
}

impl Cable {
    /// Listens at a free port and passes on to `server` (`HOST:PORT`).
    pub(crate) async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (whole, seen) = watch::channel(true);
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
                    // cut: whoever comes is turned away at once
                    if *seen.borrow() {
                        tokio::select! {
                            () = pass(near, &server) => {}
                            _ = seen.wait_for(|whole| !whole) => {}
                        }
                    }
                });
            }
        });
        Self { address, whole, shutdown }
    }

    /// The same URL, by way of this cable.
    pub(crate) fn through(&self, url: &str) -> String {
        let (before, place) = url.rsplit_once('@').unwrap();
        let (_, name) = place.split_once('/').unwrap();
        format!("{before}@{}/{name}", self.address)
    }

    /// Ends every connection and takes no more.
    pub(crate) fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Takes connections again.
    pub(crate) fn mend(&self) {
        self.whole.send_replace(true);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.cut();
        self.shutdown.stop_now();
    }
}

async fn pass(mut near: TcpStream, server: &str) {
    if let Ok(mut far) = TcpStream::connect(server).await {
        let _ = near.set_nodelay(true);
        let _ = far.set_nodelay(true);
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    }
}
