//! One listener: TLS if there is a certificate, then HTTP/1.1, within limits of time and number.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt::set_tcp_user_timeout;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::app::front::Front;
use crate::app::quiet::{Quiet, QuietOnes};
use crate::app::tls::Tls;
use crate::base::chain::chain;
use crate::base::shutdown::Shutdown;

/// Whoever takes nothing of an answer for so long is cut off, in milliseconds: a stalled reader does not keep its connection.
const STALLED_MS: u32 = 60_000;

/// The head of a request comes within this time; a connection without one is closed after it.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);

/// So many connections may wait for an answer at once, if the process may have twice as many files open; the next ones wait to
/// be taken. Sockets of viewers are counted elsewhere.
const MOST_CONNECTIONS: u64 = 4096;

/// The process asks for so many open files, of those the system lets it have: enough for every viewer and connection.
const OPEN_FILES: u64 = 16_384;

/// A TLS handshake is done within this time, its turn waited for included.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);

/// So many handshakes go on at once, each from its first byte on: each costs work before anybody is known.
const MOST_HANDSHAKES: usize = 256;

/// What the first byte of a TLS connection is.
const HANDSHAKE: u8 = 0x16;

/// What somebody is told who speaks HTTP where TLS is spoken.
const NOT_HTTPS: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n\r\n\
    This port speaks https: write https:// instead of http:// before the address.\n";

/// After a connection could not be taken, the next one is tried after so long.
const TAKE_AGAIN: Duration = Duration::from_millis(500);

/// Takes the address.
///
/// # Errors
/// If it can't be had: with what to do about it.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("can't listen on {address}: is another program there? `--listen ADDRESS` takes another one, port 0 a free one")
    })
}

/// What answers connections.
#[derive(Clone)]
struct Door {
    front: Arc<Front>,
    tls: Option<Tls>,
    handshakes: Arc<Semaphore>,
    quiet: QuietOnes,
}

/// Answers requests until a soft stop, then finishes those that are being answered.
pub fn serve(listener: TcpListener, front: Front, tls: Option<Tls>, shutdown: &Shutdown) {
    let connections = (open_files() / 2).min(MOST_CONNECTIONS);
    serve_at_most(usize::try_from(connections).unwrap_or(usize::MAX), listener, front, tls, shutdown);
}

fn serve_at_most(connections: usize, listener: TcpListener, front: Front, tls: Option<Tls>, shutdown: &Shutdown) {
    let handshakes = Arc::new(Semaphore::new(MOST_HANDSHAKES));
    let door = Door { front: Arc::new(front), tls, handshakes, quiet: QuietOnes::default() };
    let places = Arc::new(Semaphore::new(connections));
    let node = shutdown.clone();
    shutdown.spawn_essential("http", async move {
        loop {
            let (stream, peer, place) = tokio::select! {
                biased;
                () = node.stopping() => return,
                taken = take(&listener, &places) => taken,
            };
            let (door, ending) = (door.clone(), node.clone());
            node.spawn("http connection", async move {
                door.open(stream, peer, &ending).await;
                drop(place);
            });
        }
    });
}

/// The next connection, once there is a place for it.
async fn take(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let place = Arc::clone(places).acquire_owned().await.expect("nobody closes the semaphore");
    let mut complained = false;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, place),
            Err(error) => {
                // a peer that went away meanwhile, or no file is left to open: it passes
                if !std::mem::replace(&mut complained, true) {
                    tracing::warn!("a connection can't be taken, it is tried again: {}", chain(&error));
                }
                sleep(TAKE_AGAIN).await;
            }
        }
    }
}

impl Door {
    async fn open(self, stream: TcpStream, peer: SocketAddr, node: &Shutdown) {
        let Some(quiet) = self.admit(peer.ip().to_canonical()) else {
            tracing::debug!("{} has too many connections without a request", peer.ip());
            return;
        };
        // Nagle's algorithm would hold small frames back for up to 40 ms
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("TCP_NODELAY: {}", chain(&error));
        }
        if let Err(error) = set_tcp_user_timeout(&stream, STALLED_MS) {
            tracing::debug!("TCP_USER_TIMEOUT: {error}");
        }
        let Some(tls) = &self.tls else {
            return answer(stream, peer, &self.front, false, quiet, node).await;
        };
        let shaken = tokio::select! {
            // in a box: the connection's task is not to be as large as a handshake for all its life
            shaken = timeout(HANDSHAKE_PATIENCE, Box::pin(self.shake_hands(stream, tls))) => shaken.ok().flatten(),
            () = node.stopping() => None,
        };
        if let Some(stream) = shaken {
            answer(stream, peer, &self.front, true, quiet, node).await;
        }
    }

    /// Counts a connection until its first request, if it is a stranger's: this machine and trusted proxies speak for many. None if
    /// there are too many of its address.
    fn admit(&self, address: IpAddr) -> Option<Quiet> {
        if address.is_loopback() || self.front.trusts(address) {
            return Some(self.quiet.uncounted());
        }
        self.quiet.admit(address)
    }

    /// The secure connection; none if it does not come about: whose fault that is only the other side knows.
    async fn shake_hands(&self, stream: TcpStream, tls: &Tls) -> Option<TlsStream<TcpStream>> {
        let mut first = [0];
        if stream.peek(&mut first).await.ok()? == 1 && first[0] != HANDSHAKE {
            if first[0].is_ascii_uppercase() {
                tell_of_https(stream).await;
            }
            return None;
        }
        // only now: whoever says nothing has no turn
        let _turn = self.handshakes.acquire().await.ok()?;
        TlsAcceptor::from(tls.config()).accept(stream).await.inspect_err(|error| tracing::debug!("TLS: {error}")).ok()
    }
}

/// Answers plain HTTP with a hint.
async fn tell_of_https(mut stream: TcpStream) {
    // what is not read before the end takes the answer back
    let mut request = [0; 4096];
    if stream.read(&mut request).await.is_ok() && stream.write_all(NOT_HTTPS).await.is_ok() {
        let _ = stream.shutdown().await;
        while stream.read(&mut request).await.is_ok_and(|read| read > 0) {}
    }
}

/// Answers the requests of one connection.
async fn answer<S>(stream: S, peer: SocketAddr, front: &Arc<Front>, tls: bool, quiet: Quiet, node: &Shutdown)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let front = Arc::clone(front);
    let quiet = Mutex::new(Some(quiet));
    let service = service_fn(move |request: Request<Incoming>| {
        quiet.lock().unwrap_or_else(PoisonError::into_inner).take();
        let front = Arc::clone(&front);
        async move { Ok::<_, Infallible>(front.answer(request.map(Body::new), peer, tls).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    // how it ends is the other side's matter
    tokio::select! {
        _ = connection.as_mut() => return,
        () = node.stopping() => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        _ = connection => {}
        () = node.stopping_now() => {}
    }
}

/// How many files this process may have open, after it asked for [`OPEN_FILES`].
fn open_files() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    let (now, most) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    let wanted = OPEN_FILES.min(most);
    if now >= wanted {
        return now;
    }
    limit.current = Some(wanted);
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => wanted,
        Err(error) => {
            tracing::debug!("the limit of open files stays at {now}: {error}");
            now
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::extract::ConnectInfo;
    use axum::routing::get;
    use tokio::sync::watch;

    use super::*;
    use crate::app::tls::{Files, Loaded};
    use crate::base::clock::{Clock as _, SystemClock};
    use crate::config::base_path::BasePath;
    use crate::config::settings::Settings;

    async fn started(connections: usize) -> (SocketAddr, Shutdown) {
        started_with(connections, None).await
    }

    async fn started_with(connections: usize, tls: Option<Tls>) -> (SocketAddr, Shutdown) {
        let (listener, shutdown) = (bind("127.0.0.1:0".parse().unwrap()).await.unwrap(), Shutdown::new());
        let address = listener.local_addr().unwrap();
        let who = get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() });
        let settings = watch::channel(Arc::new(Settings::default())).1;
        let router = Router::new().route("/who", who);
        let front = Front::new(router, Router::new(), BasePath::default(), settings, shutdown.clone());
        serve_at_most(connections, listener, front, tls, &shutdown);
        (address, shutdown)
    }

    async fn asked(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /who HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    // time stands still but for waits: nobody waits half a minute here
    #[tokio::test(start_paused = true)]
    async fn half_a_request_holds_its_place_for_half_a_minute_at_most() {
        let (address, shutdown) = started(1).await;
        assert!(asked(address).await.ends_with("\r\n\r\n127.0.0.1"));
        let mut half = TcpStream::connect(address).await.unwrap();
        half.write_all(b"GET /who HTTP/1.1\r\nhost: x").await.unwrap();
        // waits until the one place is free again
        assert!(asked(address).await.ends_with("127.0.0.1"));
        assert_eq!(half.read(&mut [0; 1]).await.unwrap_or(0), 0, "it is closed");
        shutdown.stop();
    }

    #[tokio::test]
    async fn who_says_nothing_has_no_turn_of_a_handshake() {
        let file = |name: &str| format!("{}/tests/fixtures/keys/{name}", env!("CARGO_MANIFEST_DIR")).into();
        let files = Files { certificate: file("self-signed.crt"), key: file("self-signed.key") };
        let (clock, node) = (Arc::new(SystemClock) as _, Shutdown::new());
        let loaded = Loaded::read(&files, SystemClock.now()).unwrap();
        let tls = Tls::start(files, loaded, &clock, &node).unwrap();
        let (address, shutdown) = started_with(1024, Some(tls)).await;
        let mut silent = Vec::new();
        for _ in 0..=MOST_HANDSHAKES {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        // nobody holds a turn: this one is read at once, and told what it did wrong
        let told = timeout(HANDSHAKE_PATIENCE / 2, asked(address)).await.expect("it is answered at once");
        assert!(told.contains("This port speaks https"), "{told}");
        shutdown.stop();
        node.stop();
    }

    #[tokio::test]
    async fn a_stop_closes_what_waits_for_nothing() {
        let (address, shutdown) = started(8).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(b"GET /who HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert!(idle.read(&mut [0; 1024]).await.unwrap() > 0);
        shutdown.stop();
        let closed = timeout(Duration::from_secs(5), idle.read(&mut [0; 1])).await.expect("it is closed at once");
        assert_eq!(closed.unwrap_or(0), 0);
    }
}
