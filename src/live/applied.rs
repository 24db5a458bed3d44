//! Where each setting is in force as it is wanted, where not yet, and where it can't be: what living nodes say of it against what
//! the database holds.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::base::id::NodeId;
use crate::config::endpoint::Written;
use crate::config::schema::name::{MESSENGER_KEY, STALE_TIME};
use crate::config::schema::{SETTINGS, Setting};
use crate::config::settings::{Fixed, Settings};
use crate::config::value::Kind;
use crate::messenger::client::LinkState;
use crate::messenger::secure::keys::Key;
use crate::model::node::{Node, NodeLink};
use crate::model::setting::{NodeSetting, StoredSetting};
use crate::store::Store;
use crate::store::error::Error;

/// A change that no node has taken up for so long is worth a word.
const LATE: Duration = Duration::from_secs(10);

/// How a setting stands on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// What is wanted is in force.
    Applied,
    /// The node has not taken it up yet.
    Pending,
    /// The node can't have it; it tries again by itself.
    Failed,
}

impl Standing {
    /// As `/api` and pages call it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Pending => "pending",
            Self::Failed => "failed",
        }
    }
}

/// A setting on a node.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Which node.
    pub node: NodeId,
    /// Which setting.
    pub setting: &'static Setting,
    /// How it stands there.
    pub standing: Standing,
    /// The value that is wanted there; of a secret its fingerprint.
    pub wanted: String,
    /// The value in force; none if the node has said nothing yet.
    pub in_force: Option<String>,
    /// Whether the node's own file or environment wants it, and not the database.
    pub fixed: bool,
    /// Since when it stands so.
    pub since: Timestamp,
    /// Why it can't be had.
    pub error: Option<String>,
    /// If it failed: the value to save so that it is as before, where one is that works for every living node.
    pub way_back: Option<String>,
}

impl Applied {
    /// Whether only this node can be helped: what is saved is for all, and no value is known that works for all.
    #[must_use]
    pub fn is_own_trouble(&self) -> bool {
        self.standing == Standing::Failed && !self.fixed && self.way_back.is_none()
    }

    /// Whether people should be told: it failed, or waits for longer than it takes.
    #[must_use]
    pub fn is_trouble(&self, now: Timestamp) -> bool {
        match self.standing {
            Standing::Applied => false,
            // a node that says nothing at all is of a version that does not
            Standing::Pending => self.in_force.is_some() && now.since(self.since) >= LATE,
            Standing::Failed => true,
        }
    }
}

/// Every setting on every living node, in the order of the settings page. `fixed`: what this node fixes; it decides here for how
/// long a silent node is taken to live.
///
/// # Errors
/// If the database can't be read.
pub async fn of_living_nodes(store: &Store, fixed: &Fixed, now: Timestamp) -> Result<Vec<Applied>, Error> {
    let stored = store.settings().await?;
    let pairs = stored.iter().map(|row| (row.name.as_str(), row.value.as_str()));
    let (settings, _) = Settings::resolve(&Fixed::default(), pairs.clone());
    let patience = Settings::resolve(fixed, pairs).0.duration(STALE_TIME);
    let mut nodes = store.nodes().await?;
    nodes.retain(|node| node.lives(now, patience));
    let told: BTreeMap<_, _> =
        store.node_settings().await?.into_iter().map(|(node, told)| ((node, told.setting.clone()), told)).collect();
    let links = store.node_links().await?;
    let mut all = Vec::with_capacity(SETTINGS.len() * nodes.len());
    for setting in SETTINGS {
        let row = stored.iter().find(|row| row.name == setting.name);
        let Some(wanted) = wanted(setting, &settings, row) else { continue };
        let first = all.len();
        for node in &nodes {
            let told = told.get(&(node.id.clone(), setting.name.to_owned()));
            let mut applied = compare(node, setting, &wanted, told);
            if applied.standing == Standing::Pending {
                let changed_at = match row {
                    Some(row) => Some(row.changed_at),
                    // cleared: it has no row any more, but a history
                    None => store.setting_history(Some(setting.name), 1).await?.first().map(|last| last.changed_at),
                };
                applied.since = changed_at.map_or(node.started_at, |at| at.max(node.started_at));
            }
            all.push(applied);
        }
        offer_way_back(&mut all[first..], &nodes, &links);
    }
    Ok(all)
}

/// Offers the value that is in force on every one of these nodes, all that live, as the way back where another can't be had. What
/// only one of them fell back to would take the others from where they are.
fn offer_way_back(everywhere: &mut [Applied], nodes: &[Node], links: &[(NodeId, NodeLink)]) {
    let Some(Applied { setting, in_force: Some(value), .. }) = everywhere.first() else { return };
    let (setting, value) = (*setting, value.clone());
    let is_common = everywhere.iter().all(|applied| applied.in_force.as_ref() == Some(&value));
    let is_pipe = setting.kind == Kind::Endpoint && !matches!(Written::parse(&value), Ok(Written::Tcp { .. }));
    if setting.secret || !is_common || (is_pipe && !share_a_pipe(nodes, links)) {
        return;
    }
    for applied in everywhere {
        if applied.standing == Standing::Failed && !applied.fixed && applied.wanted != value {
            applied.way_back = Some(value.clone());
        }
    }
}

/// Whether a pipe can be everybody's: on one machine, where one service node listens and every web node has its link there. Service
/// nodes with a data directory each have a pipe each.
fn share_a_pipe(nodes: &[Node], links: &[(NodeId, NodeLink)]) -> bool {
    let is_linked =
        |node: &Node| links.iter().any(|(id, link)| *id == node.id && link.state == LinkState::Live.as_str());
    nodes.windows(2).all(|two| two[0].host == two[1].host)
        && nodes.iter().filter(|node| node.role.has_service()).count() <= 1
        && nodes.iter().all(|node| node.role.has_service() || is_linked(node))
}

/// What the database wants of every node; none of a secret that was never set.
fn wanted(setting: &Setting, settings: &Settings, row: Option<&StoredSetting>) -> Option<String> {
    if setting.name == MESSENGER_KEY {
        return Key::from_base64(&row?.value).map(|key| key.fingerprint());
    }
    (!setting.secret).then(|| settings.text(setting.name).to_owned())
}

fn compare(node: &Node, setting: &'static Setting, wanted: &str, told: Option<&NodeSetting>) -> Applied {
    let fixed = told.is_some_and(|told| told.fixed);
    let standing = match told {
        Some(told) if !told.fixed && told.wanted != wanted => Standing::Pending,
        Some(told) if told.error.is_some() => Standing::Failed,
        Some(_) => Standing::Applied,
        None => Standing::Pending,
    };
    Applied {
        node: node.id.clone(),
        setting,
        standing,
        wanted: told.filter(|told| told.fixed).map_or(wanted, |told| &told.wanted).to_owned(),
        in_force: told.map(|told| told.in_force.clone()),
        fixed,
        since: told.map_or(node.started_at, |told| told.since),
        error: told.filter(|_| standing == Standing::Failed).and_then(|told| told.error.clone()),
        way_back: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::name::MESSENGER_ENDPOINT;
    use crate::model::node::Role;

    const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

    fn node() -> Node {
        node_of("service-1", Role::Service)
    }

    fn node_of(id: &str, role: Role) -> Node {
        Node {
            id: NodeId::new(id),
            role,
            host: "box".into(),
            version: "0.1.0".into(),
            pid: 1,
            started_at: NOW,
            heartbeat_at: NOW,
            stopped_at: None,
            key_fingerprint: None,
            address: None,
            address_override: None,
            id_file: None,
        }
    }

    fn told(wanted: &str, in_force: &str, error: Option<&str>) -> NodeSetting {
        NodeSetting {
            setting: MESSENGER_ENDPOINT.to_owned(),
            wanted: wanted.to_owned(),
            in_force: in_force.to_owned(),
            fixed: false,
            since: NOW,
            error: error.map(str::to_owned),
        }
    }

    #[test]
    fn what_a_node_says_is_held_against_what_is_wanted() {
        let setting = Setting::find(MESSENGER_ENDPOINT).unwrap();
        let fixed = NodeSetting { fixed: true, ..told("pipe:/c", "pipe:/b", Some("taken")) };
        for (said, standing, way_back) in [
            (None, Standing::Pending, None),
            (Some(told("pipe:/a", "pipe:/a", None)), Standing::Applied, None),
            (Some(told("pipe:/b", "pipe:/b", None)), Standing::Pending, None),
            (Some(told("pipe:/a", "pipe:/b", Some("taken"))), Standing::Failed, Some("pipe:/b")),
            (Some(told("pipe:/a", "", Some("taken"))), Standing::Failed, Some("")),
            // what failed before the last change says nothing of it
            (Some(told("pipe:/c", "pipe:/b", Some("taken"))), Standing::Pending, None),
            (Some(fixed), Standing::Failed, None),
        ] {
            let mut applied = compare(&node(), setting, "pipe:/a", said.as_ref());
            offer_way_back(std::slice::from_mut(&mut applied), &[node()], &[]);
            assert_eq!((applied.standing, applied.way_back.as_deref()), (standing, way_back), "{said:?}");
            assert_eq!(applied.error.is_some(), standing == Standing::Failed, "{said:?}");
        }
    }

    fn link(node: &str, state: &str) -> (NodeId, NodeLink) {
        let (state, endpoint) = (state.to_owned(), "pipe:/data/switchboard.sock".to_owned());
        (NodeId::new(node), NodeLink { state, peer: None, endpoint, since: NOW, error: None, latency: None })
    }

    /// The way back on each node, with the values in force there; all but `wanted` are there because that can't be had.
    fn ways_back(wanted: &str, on: &[(&Node, &str)], links: &[(NodeId, NodeLink)]) -> Vec<Option<String>> {
        let setting = Setting::find(MESSENGER_ENDPOINT).unwrap();
        let nodes: Vec<_> = on.iter().map(|(node, _)| (*node).clone()).collect();
        let compared = on.iter().map(|(node, value)| {
            let error = (*value != wanted).then_some("taken");
            compare(node, setting, wanted, Some(&told(wanted, value, error)))
        });
        let mut everywhere: Vec<_> = compared.collect();
        offer_way_back(&mut everywhere, &nodes, links);
        everywhere.into_iter().map(|applied| applied.way_back).collect()
    }

    #[test]
    fn what_only_one_node_fell_back_to_is_no_way_back_for_all() {
        let (primary, standby) = (node(), node_of("service-2", Role::Service));
        let web = node_of("web-1", Role::Web);
        let (wanted, former) = ("tcp://*:33237", "tcp://*:33238");
        let live = [link("web-1", "live")];
        assert_eq!(ways_back(wanted, &[(&primary, wanted), (&standby, ""), (&web, wanted)], &live), [None, None, None]);
        assert_eq!(ways_back(wanted, &[(&primary, wanted), (&standby, former)], &[]), [None, None]);
        assert_eq!(ways_back(wanted, &[(&primary, former), (&standby, "")], &[]), [None, None]);
        let back = Some(former.to_owned());
        let all = [(&primary, former), (&standby, former), (&web, former)];
        assert_eq!(ways_back(wanted, &all, &live), [back.clone(), back.clone(), back]);
    }

    #[test]
    fn a_pipe_is_a_way_back_only_where_all_can_meet_there() {
        let (service, web) = (node(), node_of("web-1", Role::Web));
        let far = Node { host: "other".into(), ..web.clone() };
        let other = node_of("service-2", Role::All);
        let (wanted, live, down) = ("tcp://*:33237", [link("web-1", "live")], [link("web-1", "down")]);
        for pipe in ["", "pipe:/run/x.sock"] {
            let back = Some(pipe.to_owned());
            assert_eq!(ways_back(wanted, &[(&service, pipe), (&web, pipe)], &live), [back.clone(), back]);
            assert_eq!(ways_back(wanted, &[(&service, pipe), (&web, pipe)], &down), [None, None]);
            assert_eq!(ways_back(wanted, &[(&service, pipe), (&far, pipe)], &live), [None, None]);
            assert_eq!(ways_back(wanted, &[(&service, pipe), (&other, pipe)], &live), [None, None]);
        }
    }

    #[test]
    fn waiting_is_trouble_only_after_a_while() {
        let setting = Setting::find(MESSENGER_ENDPOINT).unwrap();
        let waits = compare(&node(), setting, "pipe:/a", Some(&told("", "", None)));
        assert!(!waits.is_trouble(NOW.plus(LATE / 2)) && waits.is_trouble(NOW.plus(LATE)));
        assert!(!compare(&node(), setting, "pipe:/a", None).is_trouble(NOW.plus(LATE)));
        let failed = compare(&node(), setting, "x", Some(&told("x", "y", Some("taken"))));
        assert!(failed.is_trouble(NOW));
    }
}
