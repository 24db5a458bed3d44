//! A setting as it is stored: its value, version and author.

use crate::base::clock::Timestamp;

/// A setting somebody changed; the others stand at their default.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredSetting {
    /// Its name, `Group.Name`.
    pub name: String,
    /// Its value in plain; secrets are sealed only in the database.
    pub value: String,
    /// Rises with every change of this setting; 0 is "never stored".
    pub version: i64,
    /// Who changed it last.
    pub changed_by: String,
    /// When.
    pub changed_at: Timestamp,
}

impl std::fmt::Debug for StoredSetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // the value may be a secret
        f.debug_struct("StoredSetting")
            .field("name", &self.name)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// One change of a setting, for its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingChange {
    /// Of which setting.
    pub name: String,
    /// The value it got; none for a secret, or if it went back to the default.
    pub value: Option<String>,
    /// The version that this change made.
    pub version: i64,
    /// Whether it went back to the default.
    pub cleared: bool,
    /// Who changed it.
    pub changed_by: String,
    /// When.
    pub changed_at: Timestamp,
}

/// What a node made of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSetting {
    /// Of which setting.
    pub setting: String,
    /// The value this node wants; of a secret only its fingerprint.
    pub wanted: String,
    /// The value in force; the same unless `error` says why not.
    pub in_force: String,
    /// Whether the node's own file or environment says so, and not the database.
    pub fixed: bool,
    /// Since when `wanted` is in force; if it is not, since when it can't be had.
    pub since: Timestamp,
    /// Why it can't be had.
    pub error: Option<String>,
}
