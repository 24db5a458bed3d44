//! A node as the database knows it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::clock::Timestamp;
use crate::base::id::NodeId;

/// What a process of ours does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Pages and JSON.
    Web,
    /// Background work.
    Service,
    /// Both, joined as two processes would be.
    All,
}

impl Role {
    /// As written on the command line and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Service => "service",
            Self::All => "all",
        }
    }

    /// Whether this role does background work.
    #[must_use]
    pub const fn has_service(self) -> bool {
        matches!(self, Self::Service | Self::All)
    }

    /// Whether this role answers HTTP.
    #[must_use]
    pub const fn has_web(self) -> bool {
        matches!(self, Self::Web | Self::All)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = BadRole;

    fn from_str(text: &str) -> Result<Self, BadRole> {
        match text {
            "web" => Ok(Self::Web),
            "service" => Ok(Self::Service),
            "all" => Ok(Self::All),
            _ => Err(BadRole(text.to_owned())),
        }
    }
}

/// A text that names no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no role; roles are all, web and service")]
pub struct BadRole(String);

/// A node as the database knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Which one.
    pub id: NodeId,
    /// What it does.
    pub role: Role,
    /// Of the machine it runs on.
    pub host: String,
    /// Of the program it runs.
    pub version: String,
    /// Of its process.
    pub pid: u32,
    /// When its process started.
    pub started_at: Timestamp,
    /// When it last said that it lives.
    pub heartbeat_at: Timestamp,
    /// When it said that it stops, if it did.
    pub stopped_at: Option<Timestamp>,
    /// The fingerprint of the messenger key it uses.
    pub key_fingerprint: Option<String>,
    /// Where it says it is reached by web nodes: a host, or `host:port`. Only service nodes say so.
    pub address: Option<String>,
    /// Where an administrator says it is reached; this counts.
    pub address_override: Option<String>,
    /// From which file its process has its id, in a word that no other living process has; none if its program knows no such word.
    pub id_file: Option<String>,
}

/// How a web node's way to the service node is, as it said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLink {
    /// `live`, `connecting` or `down`.
    pub state: String,
    /// Who is at the other end, while it is live.
    pub peer: Option<NodeId>,
    /// Where it leads.
    pub endpoint: String,
    /// While it is live: since when. Otherwise: since when it is away.
    pub since: Timestamp,
    /// Why it is not live.
    pub error: Option<String>,
    /// How long the other end took to answer.
    pub latency: Option<Duration>,
}

impl Node {
    /// Whether it lives: it did not stop, and wrote so within `patience`.
    #[must_use]
    pub fn lives(&self, now: Timestamp, patience: Duration) -> bool {
        self.stopped_at.is_none() && now.since(self.heartbeat_at) < patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_or_stopped_node_does_not_live() {
        let now = Timestamp::from_micros(1_795_223_419_000_000);
        let node = Node {
            id: NodeId::new("service-1"),
            role: Role::Service,
            host: "box".into(),
            version: "0.1.0".into(),
            pid: 1,
            started_at: now,
            heartbeat_at: now,
            stopped_at: None,
            key_fingerprint: None,
            address: None,
            address_override: None,
            id_file: None,
        };
        let lives = |node: &Node, after: u64| node.lives(now.plus(Duration::from_secs(after)), Duration::from_secs(15));
        assert!(lives(&node, 0) && lives(&node, 14) && !lives(&node, 15));
        assert!(!lives(&Node { stopped_at: Some(now), ..node }, 0));
    }
}
