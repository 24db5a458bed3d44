//! Where the primary is, for whoever dials it.

use std::net::Ipv4Addr;

use crate::base::id::NodeId;
use crate::config::address::Address;
use crate::config::endpoint::Host;
use crate::messenger::endpoint::Endpoint;
use crate::messenger::target::Target;
use crate::model::node::Node;
use crate::store::Store;
use crate::store::error::Error;

/// Whom a web node dials: where service nodes listen everywhere, the primary. While nobody is, this machine: most likely a service
/// node is about to start here.
///
/// # Errors
/// If the database fails.
pub async fn to_dial(store: &Store, endpoint: &Endpoint, own: &NodeId) -> Result<Target, Error> {
    if !endpoint.is_wildcard() {
        return Ok(endpoint.clone().into());
    }
    Ok(find(store, endpoint, own).await?.unwrap_or_else(|| here(endpoint).into()))
}

/// The primary, where the endpoint names no host: at the address it has, or, if nothing tells where it is, on this machine. None
/// while nobody is primary.
///
/// # Errors
/// If the database fails.
pub async fn find(store: &Store, everywhere: &Endpoint, own: &NodeId) -> Result<Option<Target>, Error> {
    let Some(primary) = store.leadership().await?.primary().cloned() else { return Ok(None) };
    let endpoint = if primary == *own {
        None
    } else {
        let nodes = store.nodes().await?;
        nodes.iter().find(|node| node.id == primary).and_then(|node| dialled(node, everywhere))
    };
    let endpoint = endpoint.unwrap_or_else(|| here(everywhere));
    Ok(Some(Target { endpoint, primary: Some(primary) }))
}

fn here(everywhere: &Endpoint) -> Endpoint {
    everywhere.clone().with_host(Host::Address(Ipv4Addr::LOCALHOST.into()))
}

/// Where a node is dialled: where an administrator says, or else where it says itself; at the endpoint's port unless it has one
/// of its own.
fn dialled(node: &Node, everywhere: &Endpoint) -> Option<Endpoint> {
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
            id_file: None,
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
}
