//! Tries an endpoint and keys by really dialling and shaking hands, and tells how far it came and what to do.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use crate::base::chain::chain;
use crate::base::clock::SystemClock;
use crate::base::id::NodeId;
use crate::messenger::attempt::cannot_connect;
use crate::messenger::endpoint::Endpoint;
use crate::messenger::error::Error;
use crate::messenger::secure::SecureChannel;
use crate::messenger::secure::handshake::{Purpose, initiate};
use crate::messenger::secure::hello::Versions;
use crate::messenger::secure::keys::{Key, KeyRing};
use crate::messenger::transport::{self, Link, tcp};

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Examination {
    /// What was tried.
    pub endpoint: String,
    /// The fingerprint of the key it was tried with: the last one, if several were.
    pub fingerprint: String,
    /// How far it came, in order; the last one is where it ended.
    pub steps: Vec<Step>,
    /// How it is.
    pub finding: Finding,
    /// What was found, in words.
    pub said: String,
    /// What to do, in words; nothing, if all is well.
    pub advice: &'static str,
}

/// One step and how long it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Which.
    pub stage: Stage,
    /// Microseconds it took.
    pub micros: u64,
    /// Whether it was done.
    pub done: bool,
}

/// The steps there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// A name became addresses (TCP only).
    Resolve,
    /// Somebody took the connection.
    Connect,
    /// Both proved that they hold the key.
    Handshake,
    /// A sealed ping was answered.
    Ping,
}

/// How it is, by what can be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// All is well.
    Well,
    /// All is well, with the former key: the current one is not there yet.
    FormerKey,
    /// Nobody listens.
    Refused,
    /// There is no such pipe.
    PipeMissing,
    /// The pipe may not be opened by this user.
    PermissionDenied,
    /// No answer to the attempt to connect.
    TimedOut,
    /// The name has no address.
    NameNotFound,
    /// No way there.
    Unreachable,
    /// The keys differ.
    WrongKey,
    /// No common version of the protocol.
    WrongVersion,
    /// Our address is not in the allowed networks of the other end.
    NotAllowed,
    /// Too many unproven connections there.
    Busy,
    /// It was closed without a word.
    Closed,
    /// What answers is no Switchboard, or says nothing.
    NoSwitchboard,
    /// Anything else.
    Failed,
}

impl Stage {
    /// As shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Handshake => "handshake",
            Self::Ping => "ping",
        }
    }
}

impl Finding {
    /// Whether nodes would have a link.
    #[must_use]
    pub const fn is_well(self) -> bool {
        matches!(self, Self::Well | Self::FormerKey)
    }

    /// What to do.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Well => "",
            Self::FormerKey => "Nothing, if the key was changed a moment ago: the other node takes it up by itself.",
            Self::Refused => {
                "Start the service node there, or correct the port; on the Nodes page stands where it listens."
            }
            Self::PipeMissing => {
                "Start the service node of this data directory; web and service process must see the same directory."
            }
            Self::PermissionDenied => "Run this, or the web node, as the user that the service node runs as.",
            Self::TimedOut => {
                "Correct the address, or let the port through the firewalls between the machines: something drops the packets."
            }
            Self::NameNotFound => "Correct the host name, or use an address.",
            Self::Unreachable => "Correct the address, or the routes of this machine: the network knows no way there.",
            Self::WrongKey => {
                "Set Service.MessengerKey of this node to the other one's: both fingerprints must be the same."
            }
            Self::WrongVersion => "Bring both nodes to the same version of Switchboard.",
            Self::NotAllowed => "Add this machine's address to Service.MessengerAllowedNetworks, or empty it.",
            Self::Busy => "Try again; if it stays, look in the service node's log from where it is flooded.",
            Self::Closed => {
                "Look in the service node's log; a proxy or firewall between the machines may close connections too."
            }
            Self::NoSwitchboard => "Correct the port: something else than a service node's messenger answers there.",
            Self::Failed => "Look in the service node's log: it says why.",
        }
    }

    fn of(error: &Error) -> Self {
        match error {
            Error::Refused { source, .. } if source.kind() == io::ErrorKind::NotFound => Self::PipeMissing,
            Error::Refused { .. } => Self::Refused,
            Error::NameNotFound { .. } => Self::NameNotFound,
            Error::TimedOut { .. } => Self::TimedOut,
            Error::Unreachable { .. } => Self::Unreachable,
            Error::KeyMismatch { .. } => Self::WrongKey,
            Error::VersionMismatch { .. } => Self::WrongVersion,
            Error::NotAllowed => Self::NotAllowed,
            Error::Busy => Self::Busy,
            Error::Closed => Self::Closed,
            Error::Invalid(_) | Error::Silent(_) => Self::NoSwitchboard,
            Error::Io(source) if source.kind() == io::ErrorKind::PermissionDenied => Self::PermissionDenied,
            _ => Self::Failed,
        }
    }
}

/// Dials and shakes hands with the current key of `keys`, then the former, within `limit` in all; closes politely. The other end
/// takes no notice of it: it is no web node, and no line in its log unless it refuses.
pub async fn examine(endpoint: &Endpoint, keys: &KeyRing, limit: Duration) -> Examination {
    let deadline = Instant::now() + limit;
    let mut first_mismatch = None;
    let mut is_former = false;
    for key in keys.to_dial_with() {
        let mut steps = Steps { list: Vec::new(), deadline, limit };
        let tried = attempt(endpoint, &key, &mut steps).await;
        let (finding, said) = match &tried {
            Ok(peer) if is_former => (Finding::FormerKey, format!("{peer} answers, and holds the former key")),
            Ok(peer) => (Finding::Well, format!("{peer} answers, and holds the same key")),
            Err(error) => (Finding::of(error), chain(error)),
        };
        let fingerprint = key.fingerprint();
        let endpoint = endpoint.to_string();
        let found = Examination { endpoint, fingerprint, steps: steps.list, finding, said, advice: finding.advice() };
        if finding != Finding::WrongKey {
            return found;
        }
        first_mismatch.get_or_insert(found);
        is_former = true;
    }
    first_mismatch.unwrap_or_else(|| Examination {
        endpoint: endpoint.to_string(),
        fingerprint: keys.fingerprint(),
        steps: Vec::new(),
        finding: Finding::Failed,
        said: "there is no key to try".to_owned(),
        advice: Finding::Failed.advice(),
    })
}

async fn attempt(endpoint: &Endpoint, key: &Key, steps: &mut Steps) -> Result<NodeId, Error> {
    let link = dial(endpoint, steps).await?;
    let node = NodeId::random("doctor");
    let agreed = steps.step(Stage::Handshake, initiate(link, &node, key, Versions::OURS, Purpose::Probe)).await?;
    let (silence, uncounted) = (steps.limit, Arc::default());
    let proof = SecureChannel::prove(agreed, silence, &uncounted, Arc::new(SystemClock));
    let channel = steps.step(Stage::Ping, proof).await?;
    // dropped, its sender says the last word
    Ok(channel.peer().node.clone())
}

async fn dial(endpoint: &Endpoint, steps: &mut Steps) -> Result<Link, Error> {
    let worded = |result: io::Result<Link>| result.map_err(|error| cannot_connect(endpoint, error));
    let Endpoint::Tcp { host, port } = endpoint else {
        return steps.step(Stage::Connect, async { worded(transport::to(endpoint).connect().await) }).await;
    };
    let transport = tcp::Tcp::new(host.clone(), *port);
    let resolve = async { transport.resolve().await.map_err(|error| cannot_connect(endpoint, error)) };
    let addresses = steps.step(Stage::Resolve, resolve).await?;
    steps.step(Stage::Connect, async { worded(tcp::connect(&addresses).await) }).await
}

/// What was done so far, and until when there is time.
struct Steps {
    list: Vec<Step>,
    deadline: Instant,
    limit: Duration,
}

impl Steps {
    async fn step<T>(&mut self, stage: Stage, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let began = Instant::now();
        let outcome = timeout_at(self.deadline, work).await.unwrap_or(Err(Error::Silent(self.limit)));
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.list.push(Step { stage, micros, done: outcome.is_ok() });
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_of_another_user_is_told_from_one_that_is_missing_or_left_over() {
        for (kind, finding, advice) in [
            (io::ErrorKind::PermissionDenied, Finding::PermissionDenied, "as the user that the service node runs as"),
            (io::ErrorKind::NotFound, Finding::PipeMissing, "Start the service node of this data directory"),
            (io::ErrorKind::ConnectionRefused, Finding::Refused, "Start the service node there"),
        ] {
            let error = cannot_connect(&Endpoint::Pipe("/run/switchboard.sock".into()), kind.into());
            let found = Finding::of(&error);
            assert_eq!(found, finding, "{kind}");
            assert!(found.advice().contains(advice) && chain(&error).contains("/run/switchboard.sock"), "{error}");
        }
    }
}
