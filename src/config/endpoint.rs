//! How an endpoint is written: nothing for the local pipe, `pipe:/path`, `tcp://host:port`, `tcp://*:port`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The port that examples name.
pub const USUAL_PORT: u16 = 33237;

/// The longest path a Unix socket can have, in bytes: its field holds 108 and a final zero.
pub const MAX_PATH: usize = 107;

/// The longest host name, and the longest part of one between dots.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// An endpoint as it stands in a setting. Shown, it has its one canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// The pipe of the data directory.
    LocalPipe,
    /// A pipe at this absolute path.
    Pipe(String),
    /// A port of a host.
    Tcp {
        /// Which.
        host: Host,
        /// From 1 to 65535.
        port: u16,
    },
}

/// Who is meant by the host of a TCP endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// `*`: every address of the machine that listens; who dials has to know which machine.
    Any,
    /// An address.
    Address(IpAddr),
    /// A name, in lower case.
    Name(String),
}

/// The text is no endpoint, in words for the person who typed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoEndpoint(String);

fn no<T>(why: impl Into<String>) -> Result<T, NoEndpoint> {
    Err(NoEndpoint(why.into()))
}

impl Written {
    /// Reads what was typed. Spaces around it, the case of scheme and host, and one slash at the end do not matter. The addresses
    /// that mean "all of this machine" (`0.0.0.0`, `[::]`) are read as `*`.
    ///
    /// # Errors
    /// What is wrong with it and what is allowed.
    pub fn parse(text: &str) -> Result<Self, NoEndpoint> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::LocalPipe);
        }
        let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
        if scheme.eq_ignore_ascii_case("pipe") {
            return pipe(text, rest);
        }
        match rest.strip_prefix("//") {
            Some(place) if scheme.eq_ignore_ascii_case("tcp") => tcp(text, place),
            _ if scheme.eq_ignore_ascii_case("tcp") => no(format!("`{text}` lacks the slashes: {}", example("host"))),
            _ => no(format!(
                "`{text}` is no endpoint of this version: leave it empty for the local pipe, or write \
                 pipe:/absolute/path, tcp://HOST:PORT or tcp://*:PORT"
            )),
        }
    }
}

fn example(host: &str) -> String {
    format!("write tcp://{host}:{USUAL_PORT}")
}

fn pipe(text: &str, path: &str) -> Result<Written, NoEndpoint> {
    if !path.starts_with('/') || path.chars().any(char::is_control) {
        return no(format!("`{text}` names no absolute path: write pipe:/absolute/path"));
    }
    if path.ends_with('/') {
        return no(format!("`{path}` names a folder; a pipe is a file in it, as {path}switchboard.sock"));
    }
    if path.len() > MAX_PATH {
        return no(format!("the path is {} bytes long; a pipe's path may have {MAX_PATH}", path.len()));
    }
    Ok(Written::Pipe(path.to_owned()))
}

fn tcp(text: &str, place: &str) -> Result<Written, NoEndpoint> {
    let place = place.strip_suffix('/').unwrap_or(place);
    if place.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return no(format!("`{text}` holds spaces or control characters: {}", example("host")));
    }
    if place.contains('@') {
        // what stands before it may be a password: nothing is repeated
        return no(format!(
            "a user or password has no place in an endpoint, Service.MessengerKey proves nodes: {}",
            example("host")
        ));
    }
    if place.contains(['/', '?', '#']) {
        return no(format!("`{text}` has a path or a query; only host and port are allowed: {}", example("host")));
    }
    let (host, port) = if let Some(inside) = place.strip_prefix('[') {
        let Some((address, port)) = inside.split_once(']') else {
            return no(format!("`{text}` opens a bracket and closes none: {}", example("[::1]")));
        };
        let Ok(address) = address.parse::<Ipv6Addr>() else {
            let zone =
                if address.contains('%') { " (an address with a zone, as fe80::1%eth0, is not supported)" } else { "" };
            return no(format!("`{address}` is no IPv6 address{zone}: {}", example("[::1]")));
        };
        match port.strip_prefix(':') {
            Some(port) => (ip(address.into()), port),
            None if port.is_empty() => return no(needs_port(text, &format!("[{address}]"))),
            None => return no(format!("after `[{address}]` comes a colon and the port: {}", example("[::1]"))),
        }
    } else if place.matches(':').count() > 1 {
        return no(format!("`{text}`: an IPv6 address stands in brackets: {}", example("[::1]")));
    } else {
        match place.split_once(':') {
            Some(("", _)) => return no(format!("`{text}` names no host: {}, or * for all addresses", example("host"))),
            Some((name, port)) => (host(name)?, port),
            None => return no(needs_port(text, if place.is_empty() { "host" } else { place })),
        }
    };
    match port.parse() {
        Ok(number @ 1..) if port.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Written::Tcp { host, port: number }),
        _ if port.is_empty() => no(needs_port(text, &host.to_string())),
        _ => no(format!("`{port}` is no port: a number from 1 to 65535, e.g. {USUAL_PORT}")),
    }
}

fn needs_port(text: &str, host: &str) -> String {
    format!("`{text}` needs a port, e.g. {USUAL_PORT}: {}", example(host))
}

fn ip(address: IpAddr) -> Host {
    let address = address.to_canonical();
    if address.is_unspecified() { Host::Any } else { Host::Address(address) }
}

fn host(name: &str) -> Result<Host, NoEndpoint> {
    if name == "*" {
        return Ok(Host::Any);
    }
    if let Ok(address) = name.parse::<Ipv4Addr>() {
        return Ok(ip(address.into()));
    }
    if !name.is_ascii() {
        return no(format!("`{name}` is not ASCII: write the host name in its form for the network (xn--…)"));
    }
    if name.len() > MAX_NAME {
        return no(format!("the host name is {} bytes long; at most {MAX_NAME} are allowed", name.len()));
    }
    let mut labels = name.strip_suffix('.').unwrap_or(name).split('.');
    let good = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !labels.clone().all(good) {
        return no(format!(
            "`{name}` is no host name: parts of 1 to {MAX_LABEL} letters, digits, - and _ with dots between them, an address, or *"
        ));
    }
    // resolvers read such names as numbers, each in its own way
    let last = labels.next_back().unwrap_or_default().to_ascii_lowercase();
    let hexadecimal = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if hexadecimal || last.bytes().all(|byte| byte.is_ascii_digit()) {
        return no(format!("`{name}` is no IPv4 address: four numbers from 0 to 255, as 10.0.0.5"));
    }
    Ok(Host::Name(name.to_ascii_lowercase()))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LocalPipe => Ok(()),
            Self::Pipe(path) => write!(f, "pipe:{path}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_has_one_form() {
        for (text, canonical) in [
            ("", ""),
            ("  \t", ""),
            ("pipe:/run/x.sock", "pipe:/run/x.sock"),
            ("PIPE:/run/X.sock", "pipe:/run/X.sock"),
            ("tcp://host:33237", "tcp://host:33237"),
            ("  TCP://Node-1.Example.ORG:033237/ ", "tcp://node-1.example.org:33237"),
            ("tcp://node_1.:1", "tcp://node_1.:1"),
            ("tcp://10.0.0.5:65535", "tcp://10.0.0.5:65535"),
            ("tcp://[::1]:33237", "tcp://[::1]:33237"),
            ("tcp://[2001:DB8:0::1]:33237", "tcp://[2001:db8::1]:33237"),
            ("tcp://[::ffff:10.0.0.5]:7", "tcp://10.0.0.5:7"),
            ("tcp://*:33237", "tcp://*:33237"),
            ("tcp://0.0.0.0:33237", "tcp://*:33237"),
            ("tcp://[::]:33237", "tcp://*:33237"),
            ("tcp://xn--bcher-kva.example:33237", "tcp://xn--bcher-kva.example:33237"),
        ] {
            let written = Written::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert_eq!(written.to_string(), canonical, "{text:?}");
            assert_eq!(Written::parse(canonical), Ok(written), "what is written is read again");
        }
    }

    #[test]
    fn what_is_refused_says_why_and_what_is_allowed() {
        let (long, long_label) = (format!("tcp://{}:1", "a.".repeat(127) + "b"), format!("tcp://{}:1", "x".repeat(64)));
        for (text, words) in [
            ("tcp://h", "needs a port, e.g. 33237: write tcp://h:33237"),
            ("tcp://h:", "needs a port, e.g. 33237"),
            ("tcp://", "needs a port"),
            ("tcp://[::1]", "needs a port, e.g. 33237: write tcp://[::1]:33237"),
            ("tcp://*", "write tcp://*:33237"),
            ("tcp://h:0", "from 1 to 65535"),
            ("tcp://h:70000", "from 1 to 65535"),
            ("tcp://h:+80", "from 1 to 65535"),
            ("tcp://h:-1", "from 1 to 65535"),
            ("tcp://h:http", "from 1 to 65535"),
            ("tcp://:33237", "names no host"),
            ("tcp:h:33237", "lacks the slashes"),
            ("tcp:/h:33237", "lacks the slashes"),
            ("http://h:33237", "tcp://HOST:PORT"),
            ("https://h", "tcp://HOST:PORT"),
            ("amqp://h:5672", "of this version"),
            ("memory:x", "of this version"),
            ("h:33237", "tcp://HOST:PORT"),
            ("nonsense", "tcp://HOST:PORT"),
            ("tcp://::1:33237", "in brackets"),
            ("tcp://fe80::1", "in brackets"),
            ("tcp://[::1:33237", "closes none"),
            ("tcp://[::1]33237", "comes a colon"),
            ("tcp://[fe80::1%eth0]:1", "zone"),
            ("tcp://[10.0.0.1]:1", "no IPv6 address"),
            ("tcp://h:1/path", "a path or a query"),
            ("tcp://h:1//", "a path or a query"),
            ("tcp://h:1?x=1", "a path or a query"),
            ("tcp://h:1#x", "a path or a query"),
            ("tcp://ann@h:1", "a user or password"),
            ("tcp://h h:1", "spaces"),
            ("tcp://h :1", "spaces"),
            ("tcp://h:1\u{7}", "control characters"),
            ("tcp://h:1, tcp://g:1", "spaces"),
            ("tcp://h..x:1", "no host name"),
            ("tcp://-h:1", "no host name"),
            ("tcp://h!:1", "no host name"),
            ("tcp://*.example.org:1", "no host name"),
            ("tcp://bücher.example:1", "xn--"),
            ("tcp://256.1.1.1:1", "no IPv4 address"),
            ("tcp://10.1:1", "no IPv4 address"),
            ("tcp://0x7f000001:1", "no IPv4 address"),
            (long.as_str(), "at most 253"),
            (long_label.as_str(), "1 to 63"),
            ("pipe:relative", "absolute"),
            ("pipe:/run/", "/run/switchboard.sock"),
        ] {
            let error = Written::parse(text).expect_err(text).to_string();
            assert!(error.contains(words), "{text:?}: {error}");
        }
        let password = Written::parse("tcp://ann:hunter2@h:1").unwrap_err().to_string();
        assert!(!password.contains("hunter2"), "{password}");
    }
}
