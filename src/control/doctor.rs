//! Tries an endpoint and a key before they are saved: the same for the command line and for pages.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use crate::config::endpoint::Host;
use crate::config::value::{BadValue, Kind};
use crate::messenger::doctor::{self, Examination};
use crate::messenger::endpoint::Endpoint;
use crate::messenger::secure::keys::KeyRing;

/// How long it may take in all.
const LIMIT: Duration = Duration::from_secs(10);

/// Tries what `endpoint` means as a value of `Service.MessengerEndpoint`, with these keys. `tcp://*:port`, which names no host, is
/// tried on this machine.
///
/// # Errors
/// If the text is no endpoint: what is wrong with it and what is allowed.
pub async fn examine(endpoint: &str, keys: &KeyRing, data: &Path) -> Result<Examination, BadValue> {
    let value = Kind::Endpoint.check(endpoint)?;
    let mut endpoint = Endpoint::from_setting(&value, data);
    if endpoint.is_wildcard() {
        endpoint = endpoint.with_host(Host::Address(Ipv4Addr::LOCALHOST.into()));
    }
    Ok(doctor::examine(&endpoint, keys, LIMIT).await)
}
