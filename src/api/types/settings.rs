//! Settings, as `/api` tells and takes them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::types::state::SettingOnNode;
use crate::base::clock::Timestamp;

/// Every setting.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SettingsAnswer {
    /// In the order of the settings page.
    pub settings: Vec<SettingItem>,
}

/// A setting.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SettingItem {
    /// `Group.Name`.
    pub name: String,
    /// What it does.
    pub help: String,
    /// What kind of value it has.
    pub kind: String,
    /// What is allowed, in words.
    pub allowed: String,
    /// Its value unless somebody says otherwise.
    pub default: String,
    /// Whether its value is sealed and never shown.
    pub secret: bool,
    /// Its value in force; none for a secret.
    pub value: Option<String>,
    /// Whether it has a value that is not the default.
    pub is_set: bool,
    /// Where the value comes from: `default`, `database`, `file`, `environment` or `flag`.
    pub source: String,
    /// Every source that has a value, the strongest first: that one wins.
    pub sources: Vec<SourceItem>,
    /// Why it can't be changed here, if it can't.
    pub locked: Option<String>,
    /// When a change takes effect: `live` or `next run`.
    pub effect: String,
    /// Rises with every change in the database; give it with a change so that nobody's is overwritten unseen.
    pub version: i64,
    /// Who changed it last.
    pub changed_by: Option<String>,
    /// When.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub changed_at: Option<Timestamp>,
    /// How it stands on every node that lives: applied, pending or failed, and why.
    pub nodes: Vec<SettingOnNode>,
}

/// What one source says of a setting.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SourceItem {
    /// `default`, `database`, `file`, `environment` or `flag`.
    pub source: String,
    /// The value there; none for a secret.
    pub value: Option<String>,
    /// Where exactly: file and line, variable or flag of the node that was asked; none for database and default.
    pub place: Option<String>,
    /// Whether this one is in force; the others are overruled.
    pub wins: bool,
}

/// The changes of a setting.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HistoryAnswer {
    /// Newest first.
    pub changes: Vec<HistoryItem>,
}

/// One change of a setting.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HistoryItem {
    /// The version it made.
    pub version: i64,
    /// Who made it.
    pub changed_by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub changed_at: Timestamp,
    /// What it did: `set`, `replaced` (a secret that was set before) or `cleared` (back to the default).
    pub what: String,
    /// The value before; none for the default and for a secret.
    pub from: Option<String>,
    /// The value after; none for the default and for a secret.
    pub to: Option<String>,
}

/// Settings as a file.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ExportAnswer {
    /// TOML that `settings:import` takes; secrets are placeholders.
    pub toml: String,
}

/// A file of settings that is to be taken in.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportBody {
    /// As an export wrote it. Settings that it does not name stay as they are.
    pub toml: String,
    /// Only to say what would change.
    #[serde(default)]
    pub dry_run: bool,
}

/// What an import changed, or would change.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ImportAnswer {
    /// Whether it was saved: not on a dry run.
    pub saved: bool,
    /// The differences.
    pub changes: Vec<ImportItem>,
    /// How many settings of the file stood as it says already.
    pub same: u64,
    /// Secrets that stay as they are.
    pub kept: Vec<String>,
}

/// A difference.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ImportItem {
    /// Of which setting.
    pub name: String,
    /// Whether its value is never told.
    pub secret: bool,
    /// What the database held; none for the default and for a secret.
    pub from: Option<String>,
    /// What the file says; none for the default and for a secret.
    pub to: Option<String>,
    /// When it takes effect: `live` or `next run`.
    pub effect: String,
}

/// A setting's new value.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettingBody {
    /// As text; empty: back to the default.
    pub value: String,
    /// The version you saw; left out: not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
}

/// Generating a key; may be left out.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GenerateBody {
    /// The version you saw; left out: not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// Whether the former key is worthless at once (it leaked), rather than after a short overlap.
    #[serde(default)]
    pub at_once: bool,
}
