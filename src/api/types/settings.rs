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
    /// Where the value comes from: `default`, `database`, `file` or `environment`.
    pub source: String,
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
