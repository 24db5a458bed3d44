//! Where a node says it is reached: a host, with or without a port.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use crate::config::endpoint::{Host, Written};

/// What is allowed.
pub const ALLOWED: &str =
    "a host name or address, with a port if it is not the endpoint's: service-1, 10.0.0.5:33237, [fd00::5]:33237";

/// A host that can be dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Which; never "all".
    pub host: Host,
    /// Its port, if it is not the endpoint's.
    pub port: Option<u16>,
}

impl Address {
    /// Reads what was typed.
    ///
    /// # Errors
    /// What is wrong with it; [`ALLOWED`] says what is not.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let bare = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<Ipv6Addr>() {
            return Self::dialable(Host::Address(IpAddr::V6(address).to_canonical()), None, text);
        }
        if text.is_empty() || text.contains("://") {
            return Err(format!("`{text}` is no address"));
        }
        match (Written::parse(&format!("tcp://{text}")), Written::parse(&format!("tcp://{text}:1"))) {
            (Ok(Written::Tcp { host, port }), _) => Self::dialable(host, Some(port), text),
            (_, Ok(Written::Tcp { host, .. })) => Self::dialable(host, None, text),
            _ => Err(format!("`{text}` is no address")),
        }
    }

    fn dialable(host: Host, port: Option<u16>, text: &str) -> Result<Self, String> {
        match host {
            Host::Any => Err(format!("`{text}` is every address: nobody can dial it")),
            Host::Address(address) if address.is_unspecified() => {
                Err(format!("`{text}` is every address: nobody can dial it"))
            }
            host => Ok(Self { host, port }),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => write!(f, "{}", self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_and_without_a_port() {
        for (text, shown) in [
            (" Service-1 ", "service-1"),
            ("service-1:33237", "service-1:33237"),
            ("10.0.0.5", "10.0.0.5"),
            ("10.0.0.5:1", "10.0.0.5:1"),
            ("fd00::5", "[fd00::5]"),
            ("[fd00::5]", "[fd00::5]"),
            ("[fd00::5]:81", "[fd00::5]:81"),
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), shown, "{text:?}");
        }
        for text in ["", "*", "*:33237", "0.0.0.0", "::", "tcp://h:1", "h:0", "h:70000", "a b", "h/x", "u@h", "[::1"] {
            assert!(Address::parse(text).is_err(), "{text:?}");
        }
    }
}
