//! Where service nodes are reached: what this one says of itself, and where the primary is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::UdpSocket;

use crate::base::id::NodeId;
use crate::config::address::Address;
use crate::config::database::DatabaseUrl;
use crate::config::endpoint::Host;
use crate::messenger::endpoint::Endpoint;
use crate::model::node::Node;
use crate::store::Store;
use crate::store::error::Error;

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

/// Where web nodes dial the primary when the endpoint names no host. None while nobody is primary, or nothing tells where it is.
///
/// # Errors
/// If the database fails.
pub async fn primary(store: &Store, everywhere: &Endpoint, own: &NodeId) -> Result<Option<Endpoint>, Error> {
    let Some(primary) = store.leadership().await?.primary().cloned() else { return Ok(None) };
    if primary == *own {
        let here = Host::Address(Ipv4Addr::LOCALHOST.into());
        return Ok(Some(everywhere.clone().with_host(here)));
    }
    let nodes = store.nodes().await?;
    Ok(nodes.iter().find(|node| node.id == primary).and_then(|node| dialled(node, everywhere)))
}

/// Where a node is dialled: where an administrator says, or else where it says itself; at the endpoint's port unless it has one
/// of its own.
pub fn dialled(node: &Node, everywhere: &Endpoint) -> Option<Endpoint> {
    let address = node.address_override.as_ref().or(node.address.as_ref())?;
    let Address { host, port } = Address::parse(address).ok()?;
    match everywhere {
        Endpoint::Tcp { port: usual, .. } => Some(Endpoint::Tcp { host, port: port.unwrap_or(*usual) }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::model::node::Role;

    #[test]
    fn who_an_administrator_corrects_is_dialled_there() {
        let node = |address: Option<&str>, address_override: Option<&str>| Node {
            id: NodeId::new("service-1"),
            role: Role::Service,
            host: "here".into(),
            version: "1.0.0".into(),
            pid: 1,
            started_at: Timestamp::default(),
            heartbeat_at: Timestamp::default(),
            stopped_at: None,
            key_fingerprint: None,
            address: address.map(Into::into),
            address_override: address_override.map(Into::into),
        };
        let everywhere = Endpoint::Tcp { host: Host::Any, port: 33237 };
        for (address, corrected, expected) in [
            (Some("10.0.0.7"), None, Some("tcp://10.0.0.7:33237")),
            (Some("10.0.0.7"), Some("gateway:5000"), Some("tcp://gateway:5000")),
            (Some("fd00::7"), None, Some("tcp://[fd00::7]:33237")),
            (None, Some("[fd00::7]:81"), Some("tcp://[fd00::7]:81")),
            (None, None, None),
        ] {
            let found = dialled(&node(address, corrected), &everywhere).map(|endpoint| endpoint.to_string());
            assert_eq!(found.as_deref(), expected, "{address:?} {corrected:?}");
        }
    }

    #[tokio::test]
    async fn the_own_address_is_the_one_that_reaches_the_database() {
        assert_eq!(own_address(None).await, "127.0.0.1");
        let url = DatabaseUrl::parse("postgres://switchboard@127.0.0.1:5432/switchboard").unwrap();
        assert_eq!(own_address(Some(&url)).await, "127.0.0.1");
    }
}
