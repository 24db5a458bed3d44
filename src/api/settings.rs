//! Settings: value, default, source; and changing them, by the rules of the page.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::Api;
use crate::api::error::ApiError;
use crate::api::request::{Answer, Call};
use crate::api::status::on_node;
use crate::api::types::settings::{GenerateBody, SettingBody, SettingItem, SettingsAnswer};
use crate::config::schema::name::MESSENGER_KEY;
use crate::config::schema::{SETTINGS, Setting};
use crate::config::settings::{Settings, Source, unknown_setting};
use crate::control::Change;
use crate::live::applied::{self, Applied};
use crate::model::setting::{SettingChange, StoredSetting};

/// `GET /api/settings`.
pub(crate) async fn list(api: Arc<Api>, _call: Call) -> Result<Answer, ApiError> {
    let known = Known::read(&api).await?;
    let mut settings = Vec::with_capacity(SETTINGS.len());
    for setting in SETTINGS {
        settings.push(known.item(&api, setting).await?);
    }
    Ok(Answer::json(&SettingsAnswer { settings }))
}

/// `GET /api/settings/{name}`.
pub(crate) async fn show(api: Arc<Api>, call: Call) -> Result<Answer, ApiError> {
    let setting = find(&call)?;
    Ok(Answer::json(&Known::read(&api).await?.item(&api, setting).await?))
}

/// `PUT /api/settings/{name}`.
pub(crate) async fn save(api: Arc<Api>, call: Call) -> Result<Answer, ApiError> {
    let setting = find(&call)?;
    let body: SettingBody = call.json()?;
    change(&api, &call, setting, Some(body.value), body.version).await
}

/// `DELETE /api/settings/{name}`.
pub(crate) async fn clear(api: Arc<Api>, call: Call) -> Result<Answer, ApiError> {
    let setting = find(&call)?;
    call.no_body()?;
    let seen = call.number("version", 0, i64::MAX)?;
    change(&api, &call, setting, None, seen).await
}

/// `POST /api/settings/Service.MessengerKey:generate`.
pub(crate) async fn generate(api: Arc<Api>, call: Call) -> Result<Answer, ApiError> {
    let body: GenerateBody = call.json_or_default()?;
    api.control.generate_key(call.actor(), body.version, body.at_once).await?;
    let setting = Setting::find(MESSENGER_KEY).expect("the key is one of the settings");
    Ok(Answer::json(&Known::read(&api).await?.item(&api, setting).await?))
}

async fn change(
    api: &Api,
    call: &Call,
    setting: &'static Setting,
    value: Option<String>,
    seen: Option<i64>,
) -> Result<Answer, ApiError> {
    let change = Change { name: setting.name.to_owned(), value, seen };
    api.control.save_settings(call.actor(), vec![change]).await?;
    Ok(Answer::json(&Known::read(api).await?.item(api, setting).await?))
}

fn find(call: &Call) -> Result<&'static Setting, ApiError> {
    let name: String = call.parameter(0).chars().take(64).collect();
    Setting::find(&name).ok_or_else(|| ApiError::not_found(unknown_setting(&name)))
}

/// What the database holds of settings, and what is in force by it: read anew, so that an answer shows the change that was
/// just made also while this node has yet to notice it.
struct Known {
    stored: BTreeMap<String, StoredSetting>,
    settings: Settings,
    applied: Vec<Applied>,
}

impl Known {
    async fn read(api: &Api) -> Result<Self, ApiError> {
        let stored = api.store.settings().await?;
        let pairs = stored.iter().map(|setting| (setting.name.as_str(), setting.value.as_str()));
        let (settings, _) = Settings::resolve(&api.fixed, pairs);
        let applied = applied::of_living_nodes(&api.store, api.clock.now()).await?;
        let stored = stored.into_iter().map(|setting| (setting.name.clone(), setting)).collect();
        Ok(Self { stored, settings, applied })
    }

    async fn item(&self, api: &Api, setting: &'static Setting) -> Result<SettingItem, ApiError> {
        let stored = self.stored.get(setting.name);
        // one that was cleared has no row, but a version and an author
        let last = match stored {
            Some(_) => None,
            None => api.store.setting_history(Some(setting.name), 1).await?.into_iter().next(),
        };
        let mut item = item(setting, &self.settings, stored, last, api.control.lock_reason(setting.name));
        item.nodes = self.applied.iter().filter(|one| one.setting.name == setting.name).map(on_node).collect();
        Ok(item)
    }
}

fn item(
    setting: &Setting,
    settings: &Settings,
    stored: Option<&StoredSetting>,
    last: Option<SettingChange>,
    locked: Option<String>,
) -> SettingItem {
    let resolved = settings.get(setting.name);
    let (version, changed) = match (stored, last) {
        (Some(stored), _) => (stored.version, Some((stored.changed_by.clone(), stored.changed_at))),
        (None, Some(last)) => (last.version, Some((last.changed_by, last.changed_at))),
        (None, None) => (0, None),
    };
    let (changed_by, changed_at) = changed.unzip();
    SettingItem {
        name: setting.name.to_owned(),
        help: setting.help.to_owned(),
        kind: setting.kind.to_string(),
        allowed: setting.kind.allowed(),
        default: setting.default.to_owned(),
        secret: setting.secret,
        value: (!setting.secret).then(|| resolved.value.clone()),
        is_set: resolved.source != Source::Default,
        source: resolved.source.as_str().to_owned(),
        locked,
        effect: setting.effect.as_str().to_owned(),
        version,
        changed_by,
        changed_at,
        nodes: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::config::settings::Fixed;

    #[test]
    fn a_secret_is_said_to_be_set_and_never_shown() {
        let value = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let setting = Setting::find(MESSENGER_KEY).unwrap();
        let (settings, _) = Settings::resolve(&Fixed::default(), [(setting.name, value)]);
        let stored = StoredSetting {
            name: setting.name.to_owned(),
            value: value.to_owned(),
            version: 2,
            changed_by: "ann".to_owned(),
            changed_at: Timestamp::from_micros(0),
        };
        let item = item(setting, &settings, Some(&stored), None, None);
        assert!(item.is_set && item.value.is_none() && item.secret);
        assert!(!serde_json::to_string(&item).unwrap().contains(&value[..8]));
    }

    #[test]
    fn one_never_saved_stands_at_version_zero() {
        let item = item(&SETTINGS[2], &Settings::default(), None, None, None);
        assert_eq!((item.version, item.source.as_str(), item.value.as_deref()), (0, "default", Some("15s")));
        assert!(!item.is_set && item.changed_by.is_none());
    }
}
