//! Where a service node says that it is reached.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::UdpSocket;

use crate::config::database::DatabaseUrl;

/// Where this node says it is reached, if the operator says nothing: the address from which it reaches the database, for there
/// its web nodes are as well; without another machine to reach, this one.
pub async fn own_address(database: Option<&DatabaseUrl>) -> String {
    let local = IpAddr::from(Ipv4Addr::LOCALHOST);
    match database {
        None => local.to_string(),
        Some(url) => match route_to(url.host(), url.port()).await {
            Some(address) => address.to_string(),
            None => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        },
    }
}

/// The address of this machine from which packets to `host` go. Nothing is sent.
async fn route_to(host: &str, port: u16) -> Option<IpAddr> {
    if host.starts_with('/') {
        // a socket of this machine
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    for to in tokio::net::lookup_host((host.trim_matches(['[', ']']), port)).await.ok()? {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse::<SocketAddr>().ok()?;
        let Ok(socket) = UdpSocket::bind(any).await else { continue };
        if socket.connect(to).await.is_ok() {
            return socket.local_addr().ok().map(|from| from.ip());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_own_address_is_the_one_that_reaches_the_database() {
        assert_eq!(own_address(None).await, "127.0.0.1");
        let url = DatabaseUrl::parse("postgres://switchboard@127.0.0.1:5432/switchboard").unwrap();
        assert_eq!(own_address(Some(&url)).await, "127.0.0.1");
    }
}
