//! Frames over TCP.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::config::endpoint::Host;
use crate::messenger::transport::{Link, Listener, Transport, stream};

/// How long resolving a name may take, and how long connecting to its addresses. Together less than one attempt may take, so
/// that it is told which of them it was.
const RESOLVE_LIMIT: Duration = Duration::from_secs(2);
const CONNECT_LIMIT: Duration = Duration::from_millis(2500);

/// While one address does not answer, the next is tried after so long beside it.
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// A name may stand for so many addresses; further ones are passed over.
const MOST_ADDRESSES: usize = 16;

/// Connections the system holds until they are accepted.
const BACKLOG: i32 = 1024;

/// The system asks a silent other end after so long, so often, and gives it up after so many questions in vain. The beats above
/// notice sooner; this is for connections that have not proved themselves or that nobody reads.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(10), Duration::from_secs(5), 4);

/// What was sent and is not acknowledged for so long ends the connection. Longer than any silence borne above: an other end that
/// is alive but does not read (its window is closed) is not to be taken for a dead one too soon.
const UNACKNOWLEDGED: Duration = Duration::from_secs(45);

/// Listens and connects at one port of a host.
#[derive(Clone, Debug)]
pub struct Tcp {
    host: Host,
    port: u16,
}

impl Tcp {
    /// At this port of this host.
    #[must_use]
    pub fn new(host: Host, port: u16) -> Self {
        Self { host, port }
    }

    /// The addresses the host stands for: IPv6 and IPv4 in turn, beginning with what the system prefers.
    ///
    /// # Errors
    /// `NotFound` if there is no such name, `TimedOut` if nobody knew in time, `InvalidInput` for the wildcard.
    pub(crate) async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let name = match &self.host {
            Host::Address(address) => return Ok(vec![SocketAddr::new(*address, self.port)]),
            Host::Name(name) => name,
            Host::Any => {
                let text = "it says where to listen, not whom to dial; a host in place of * is needed";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        };
        let found = timeout(RESOLVE_LIMIT, tokio::net::lookup_host((name.as_str(), self.port))).await;
        let addresses: Vec<_> = found
            .map_err(|_| told(io::ErrorKind::TimedOut, format!("nobody said which address {name} has")))?
            .map_err(|error| told(io::ErrorKind::NotFound, format!("{name}: {error}")))?
            .collect();
        if addresses.is_empty() {
            return Err(told(io::ErrorKind::NotFound, format!("{name} has no address")));
        }
        Ok(in_turn(addresses))
    }
}

fn told(kind: io::ErrorKind, text: String) -> io::Error {
    io::Error::new(kind, text)
}

/// Both families in turn, so that one that leads nowhere does not hold up the other.
fn in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let v6_first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == v6_first);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut turns = Vec::new();
    loop {
        match (first.next(), second.next()) {
            (None, None) => break,
            (a, b) => turns.extend(a.into_iter().chain(b)),
        }
    }
    turns.dedup();
    turns.truncate(MOST_ADDRESSES);
    turns
}

#[async_trait]
impl Transport for Tcp {
    async fn listen(&self) -> io::Result<Box<dyn Listener>> {
        let sockets = match self.host {
            Host::Any => vec![bind_all(self.port)?],
            _ => bind_those_here(&self.resolve().await?)?,
        };
        Ok(Box::new(Bound { sockets, next: 0 }))
    }

    async fn connect(&self) -> io::Result<Link> {
        connect(&self.resolve().await?).await
    }
}

/// Connects to whichever of the addresses answers first.
///
/// # Errors
/// Of all that failed, what says most: refused before timed out before unreachable. Each address is named with what it said.
pub(crate) async fn connect(addresses: &[SocketAddr]) -> io::Result<Link> {
    let mut failed = Vec::new();
    let race = async {
        let (mut waiting, mut running) = (addresses.iter(), FuturesUnordered::new());
        loop {
            running.extend(waiting.next().map(|address| async { (*address, connect_one(*address).await) }));
            let patience = if waiting.len() == 0 { CONNECT_LIMIT } else { NEXT_ADDRESS };
            match timeout(patience, running.next()).await {
                Ok(Some((_, Ok(socket)))) => return Some(socket),
                Ok(Some((address, Err(error)))) => failed.push((address, error)),
                Ok(None) => return None,
                Err(_) => {}
            }
        }
    };
    let connected = timeout(CONNECT_LIMIT, race).await;
    match connected {
        Ok(Some(socket)) => {
            let address = socket.peer_addr().ok();
            Ok(link(socket, address))
        }
        Ok(None) => Err(why(addresses, &failed, false)),
        Err(_) => Err(why(addresses, &failed, true)),
    }
}

async fn connect_one(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(address).await?;
    if socket.local_addr().ok() == Some(address) {
        // a free port of this machine was chosen as our own one: TCP connects such a socket to itself
        return Err(told(io::ErrorKind::ConnectionRefused, "nobody but this process".to_owned()));
    }
    Ok(socket)
}

fn why(addresses: &[SocketAddr], failed: &[(SocketAddr, io::Error)], timed_out: bool) -> io::Error {
    use io::ErrorKind as Kind;
    let weight = |kind: Kind| match kind {
        Kind::ConnectionRefused => 0,
        Kind::TimedOut => 1,
        Kind::HostUnreachable | Kind::NetworkUnreachable => 2,
        _ => 3,
    };
    let kinds = failed.iter().map(|(_, error)| error.kind()).chain(timed_out.then_some(Kind::TimedOut));
    let kind = kinds.min_by_key(|kind| weight(*kind)).unwrap_or(Kind::NotFound);
    let silent = format!("no answer within {CONNECT_LIMIT:?}");
    let said = addresses.iter().map(|address| match failed.iter().find(|(of, _)| of == address) {
        Some((_, error)) => format!("{address}: {error}"),
        None => format!("{address}: {silent}"),
    });
    told(kind, said.collect::<Vec<_>>().join("; "))
}

fn link(socket: TcpStream, address: Option<SocketAddr>) -> Link {
    // an option that can't be set costs some speed or patience, not the link
    let _ = tune(&socket);
    let (reader, writer) = socket.into_split();
    Link { address: address.map(|address| address.ip().to_canonical()), ..stream::link(reader, writer) }
}

fn tune(socket: impl AsFd) -> rustix::io::Result<()> {
    let milliseconds = u32::try_from(UNACKNOWLEDGED.as_millis()).unwrap_or(u32::MAX);
    let (idle, interval, count) = KEEPALIVE;
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, idle)?;
    sockopt::set_tcp_keepintvl(&socket, interval)?;
    sockopt::set_tcp_keepcnt(&socket, count)?;
    sockopt::set_tcp_user_timeout(&socket, milliseconds)
}

/// All addresses of this machine by one socket for both families; where there is no IPv6, by one for IPv4.
fn bind_all(port: u16) -> io::Result<TcpListener> {
    match bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), false) {
        Err(error) if is_missing_family(&error) => bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), false),
        bound => bound,
    }
}

fn is_missing_family(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

/// Those of the addresses that are this machine's.
fn bind_those_here(addresses: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
    let mut sockets = Vec::new();
    for address in addresses {
        match bind(*address, true) {
            Ok(socket) => sockets.push(socket),
            Err(error) if is_missing_family(&error) => {}
            Err(error) => return Err(told(error.kind(), format!("{address}: {error}"))),
        }
    }
    if sockets.is_empty() {
        let list = addresses.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(", ");
        let port = addresses.first().map_or(0, SocketAddr::port);
        let text = format!("{list} is no address of this machine; tcp://*:{port} listens at all it has");
        return Err(told(io::ErrorKind::AddrNotAvailable, text));
    }
    Ok(sockets)
}

fn bind(address: SocketAddr, one_family: bool) -> io::Result<TcpListener> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, one_family)?;
    }
    // connections of a former process that are still being closed are no obstacle; one that listens is
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    TcpListener::from_std(std::net::TcpListener::from(socket))
}

struct Bound {
    sockets: Vec<TcpListener>,
    /// Whose turn it is to be asked first.
    next: usize,
}

#[async_trait]
impl Listener for Bound {
    async fn accept(&mut self) -> io::Result<Link> {
        let count = self.sockets.len();
        let mut accepting = pin!(poll_fn(|cx| {
            for turn in 0..count {
                let at = (self.next + turn) % count;
                loop {
                    match self.sockets[at].poll_accept(cx) {
                        Poll::Ready(Err(error)) if is_the_peers(&error) => {}
                        Poll::Ready(accepted) => {
                            self.next = (at + 1) % count;
                            return Poll::Ready(accepted);
                        }
                        Poll::Pending => break,
                    }
                }
            }
            Poll::Pending
        }));
        let (socket, address) = accepting.as_mut().await?;
        Ok(link(socket, Some(address)))
    }
}

/// Linux tells here what befell a connection that waited; the listener is well.
fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::TimedOut
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(port: u16) -> Tcp {
        Tcp::new(Host::Address(Ipv4Addr::LOCALHOST.into()), port)
    }

    fn listening() -> (std::net::TcpListener, SocketAddr) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[test]
    fn families_take_turns_and_the_preferred_one_is_first() {
        let addresses = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let given = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "10.0.0.1:1"]);
        assert_eq!(in_turn(given), addresses(&["[::1]:1", "10.0.0.1:1", "[::2]:1", "[::3]:1"]));
        let many = (0..99_u8).map(|n| SocketAddr::from(([10, 0, 0, n], 1))).collect();
        assert_eq!(in_turn(many).len(), MOST_ADDRESSES);
    }

    #[tokio::test]
    async fn a_port_where_nobody_listens_is_refused_and_named() {
        let (listener, address) = listening();
        drop(listener);
        let error = here(address.port()).connect().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }

    #[tokio::test]
    async fn the_address_that_answers_is_taken_whatever_the_others_say() {
        let (gone, dead) = listening();
        drop(gone);
        let (_listener, alive) = listening();
        let link = connect(&[dead, alive]).await.unwrap();
        assert_eq!(link.address, Some(Ipv4Addr::LOCALHOST.into()));
    }

    #[test]
    fn of_several_failures_the_one_that_says_most_counts() {
        let [a, b]: [SocketAddr; 2] = [([10, 0, 0, 1], 7).into(), ([10, 0, 0, 2], 7).into()];
        let failed = [(a, io::Error::from(io::ErrorKind::NetworkUnreachable))];
        let error = why(&[a, b], &failed, true);
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("10.0.0.1:7: ") && error.to_string().contains("10.0.0.2:7: no answer"));
        assert_eq!(why(&[a], &failed, false).kind(), io::ErrorKind::NetworkUnreachable);
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_not_found() {
        let nowhere = Tcp::new(Host::Name("no-such-host.invalid".into()), 1);
        let error = nowhere.connect().await.unwrap_err();
        // without a name server nobody says no either
        assert!(matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::TimedOut), "{error}");
        assert!(error.to_string().contains("no-such-host.invalid"), "{error}");
    }

    #[tokio::test]
    async fn who_listens_is_not_pushed_aside_and_a_strange_address_is_refused() {
        let (_first, address) = listening();
        let second = here(address.port()).listen().await.err().unwrap();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        assert!(second.to_string().contains(&address.to_string()), "{second}");
        // TEST-NET-1 is nobody's
        let strange = Tcp::new(Host::Address([192, 0, 2, 1].into()), 33237).listen().await.err().unwrap();
        assert_eq!(strange.kind(), io::ErrorKind::AddrNotAvailable);
        assert!(strange.to_string().contains("tcp://*:33237"), "{strange}");
    }

    #[tokio::test]
    async fn the_wildcard_is_not_dialled() {
        let error = Tcp::new(Host::Any, 1).connect().await.unwrap_err();
        assert!(error.to_string().contains("not whom to dial"), "{error}");
    }

    #[tokio::test]
    async fn both_ends_are_tuned() {
        let (listener, address) = listening();
        let socket = TcpStream::connect(address).await.unwrap();
        tune(&socket).unwrap();
        assert!(sockopt::tcp_nodelay(&socket).unwrap() && sockopt::socket_keepalive(&socket).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&socket).unwrap(), KEEPALIVE.0);
        assert_eq!(u128::from(sockopt::tcp_user_timeout(&socket).unwrap()), UNACKNOWLEDGED.as_millis());
        drop(listener);
    }
}
