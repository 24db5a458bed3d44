//! The nodes of this database as pages and answers tell of them: who is primary, who lives, whose key or version is another.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::base::id::NodeId;
use crate::config::schema::name::STALE_TIME;
use crate::config::settings::Settings;
use crate::model::node::{Node, NodeLink};
use crate::store::Store;
use crate::store::error::Error;
use crate::store::leadership::Leadership;

/// Everything that rows tell of nodes, at one moment.
#[derive(Debug)]
pub struct Cluster {
    /// All, by id.
    pub nodes: Vec<Node>,
    /// Who is primary.
    pub leadership: Leadership,
    links: BTreeMap<NodeId, NodeLink>,
    now: Timestamp,
    patience: Duration,
}

impl Cluster {
    /// Reads it.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn read(store: &Store, settings: &Settings, now: Timestamp) -> Result<Self, Error> {
        Ok(Self {
            nodes: store.nodes().await?,
            leadership: store.leadership().await?,
            links: store.node_links().await?.into_iter().collect(),
            now,
            patience: settings.duration(STALE_TIME),
        })
    }

    /// Whether it is the primary.
    #[must_use]
    pub fn is_primary(&self, node: &Node) -> bool {
        self.leadership.primary() == Some(&node.id)
    }

    /// Whether it lives.
    #[must_use]
    pub fn lives(&self, node: &Node) -> bool {
        node.lives(self.now, self.patience)
    }

    /// Service nodes that live and are not primary: who can take over.
    pub fn standbys(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.role.has_service() && self.lives(node) && !self.is_primary(node))
    }

    /// How a living web node's way to the service node is, as it said last.
    #[must_use]
    pub fn link(&self, node: &Node) -> Option<&NodeLink> {
        self.links.get(&node.id).filter(|_| node.role.has_web() && self.lives(node))
    }

    /// The fingerprint of the messenger key that others are held against: the primary's, for that decides who has a link; while
    /// nobody is primary, the one that most living nodes use.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.held_against(|node| node.key_fingerprint.as_deref())
    }

    /// Whether it lives and uses another messenger key: it has no link then.
    #[must_use]
    pub fn has_other_key(&self, node: &Node) -> bool {
        self.lives(node) && node.key_fingerprint.is_some() && node.key_fingerprint.as_deref() != self.key()
    }

    /// The version that others are held against: the primary's, whichever web node looks; while nobody is primary, the one that
    /// most living nodes run.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.held_against(|node| Some(&node.version))
    }

    /// Whether it lives and runs another version: an upgrade is under way, or stopped halfway.
    #[must_use]
    pub fn has_other_version(&self, node: &Node) -> bool {
        self.lives(node) && Some(node.version.as_str()) != self.version()
    }

    /// What the primary says of itself; while nobody is primary, what most living nodes say.
    fn held_against<'a>(&'a self, said: impl Fn(&'a Node) -> Option<&'a str>) -> Option<&'a str> {
        let primary = self.nodes.iter().find(|node| self.is_primary(node)).and_then(&said);
        primary.or_else(|| {
            let mut used = BTreeMap::<&str, usize>::new();
            for word in self.nodes.iter().filter(|node| self.lives(node)).filter_map(&said) {
                *used.entry(word).or_default() += 1;
            }
            used.into_iter().max_by_key(|(_, count)| *count).map(|(word, _)| word)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::node::Role;

    const NOW: Timestamp = Timestamp::from_micros(1_795_223_419_000_000);

    fn node(id: &str, role: Role, key: &str) -> Node {
        Node {
            id: NodeId::new(id),
            role,
            host: "box".into(),
            version: "1.0.0".into(),
            pid: 1,
            started_at: NOW,
            heartbeat_at: NOW,
            stopped_at: None,
            key_fingerprint: Some(key.into()),
            address: None,
            address_override: None,
            id_file: None,
        }
    }

    fn cluster(primary: Option<&str>, nodes: Vec<Node>) -> Cluster {
        let leadership = Leadership {
            holder: primary.map(NodeId::new),
            fencing: 1,
            since: NOW,
            left: Duration::from_secs(5),
            over_for: Duration::ZERO,
            asked: None,
        };
        Cluster { nodes, leadership, links: BTreeMap::new(), now: NOW, patience: Duration::from_secs(15) }
    }

    #[test]
    fn a_node_with_another_key_than_the_primary_is_named_however_many_there_are() {
        let nodes = || {
            let stale = Node { heartbeat_at: NOW.minus(Duration::from_secs(15)), ..node("web-3", Role::Web, "b") };
            vec![
                node("service-1", Role::Service, "a"),
                node("web-1", Role::Web, "b"),
                node("web-2", Role::Web, "b"),
                stale,
            ]
        };
        let named = |cluster: &Cluster| {
            let named = cluster.nodes.iter().filter(|node| cluster.has_other_key(node));
            named.map(|node| node.id.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(named(&cluster(Some("service-1"), nodes())), ["web-1", "web-2"]);
        assert_eq!(named(&cluster(None, nodes())), ["service-1"], "without a primary most are right");
    }

    #[test]
    fn a_living_node_of_another_version_than_the_primary_is_named_whoever_looks() {
        let of = |id: &str, role: Role, version: &str| Node { version: version.into(), ..node(id, role, "a") };
        let nodes = || {
            let gone = Node { stopped_at: Some(NOW), ..of("web-3", Role::Web, "0.9.0") };
            let late = Node { heartbeat_at: NOW.minus(Duration::from_secs(15)), ..of("web-4", Role::Web, "0.9.0") };
            let [web, other] = ["web-1", "web-2"].map(|id| of(id, Role::Web, "1.1.0"));
            vec![of("service-1", Role::Service, "1.0.0"), web, other, gone, late]
        };
        let named = |cluster: &Cluster| {
            let named = cluster.nodes.iter().filter(|node| cluster.has_other_version(node));
            named.map(|node| node.id.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(named(&cluster(Some("service-1"), nodes())), ["web-1", "web-2"]);
        assert_eq!(named(&cluster(None, nodes())), ["service-1"], "without a primary most are right");
    }

    #[test]
    fn living_service_nodes_stand_by() {
        let gone = Node { stopped_at: Some(NOW), ..node("service-3", Role::Service, "a") };
        let nodes = vec![node("service-1", Role::Service, "a"), node("service-2", Role::All, "a"), gone];
        let cluster = cluster(Some("service-1"), [nodes, vec![node("web-1", Role::Web, "a")]].concat());
        assert_eq!(cluster.standbys().map(|node| node.id.as_str()).collect::<Vec<_>>(), ["service-2"]);
    }
}
