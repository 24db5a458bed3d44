//! Where each setting is in force as it is wanted, where not yet, and where it can't be: what living nodes say of it against what
//! the database holds.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::base::id::NodeId;
use crate::config::schema::name::{MESSENGER_KEY, STALE_TIME};
use crate::config::schema::{SETTINGS, Setting};
use crate::config::settings::{Fixed, Settings};
use crate::messenger::secure::keys::Key;
use crate::model::node::Node;
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
}

impl Applied {
    /// The value to save so that it is as before: the one that still works there.
    #[must_use]
    pub fn way_back(&self) -> Option<&str> {
        let can_go_back = self.standing == Standing::Failed && !self.fixed && !self.setting.secret;
        self.in_force.as_deref().filter(|value| can_go_back && *value != self.wanted)
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
    let mut all = Vec::with_capacity(SETTINGS.len() * nodes.len());
    for setting in SETTINGS {
        let row = stored.iter().find(|row| row.name == setting.name);
        let Some(wanted) = wanted(setting, &settings, row) else { continue };
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
    }
    Ok(all)
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::name::MESSENGER_ENDPOINT;
    use crate::model::node::Role;

    const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

    fn node() -> Node {
        Node {
            id: NodeId::new("service-1"),
            role: Role::Service,
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
            let applied = compare(&node(), setting, "pipe:/a", said.as_ref());
            assert_eq!((applied.standing, applied.way_back()), (standing, way_back), "{said:?}");
            assert_eq!(applied.error.is_some(), standing == Standing::Failed, "{said:?}");
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
