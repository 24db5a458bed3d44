//! Settings: value, default, source; and changing them, by the rules of the page.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::Api;
use crate::api::error::ApiError;
use crate::api::request::{Answer, Call};
use crate::api::status::on_node;
use crate::api::types::settings::{
    ExportAnswer, GenerateBody, HistoryAnswer, HistoryItem, ImportAnswer, ImportBody, ImportItem, SettingBody,
    SettingItem, SettingsAnswer, SourceItem,
};
use crate::config::schema::name::MESSENGER_KEY;
use crate::config::schema::{SETTINGS, Setting};
use crate::config::settings::{Claim, Settings, Source, unknown_setting};
use crate::control::Change;
use crate::control::import::Planned;
use crate::control::past::{self, Stand, Step};
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

/// `GET /api/settings/{name}/history`.
pub(crate) async fn history(api: Arc<Api>, call: Call) -> Result<Answer, ApiError> {
    let setting = find(&call)?;
    let steps = past::of(&api.store, setting, call.limit(50, 1_000)?).await?;
    Ok(Answer::json(&HistoryAnswer { changes: steps.into_iter().map(history_item).collect() }))
}

/// `GET /api/settings:export`.
pub(crate) async fn export(api: Arc<Api>, call: Call) -> Result<Answer, ApiError> {
    let all = match call.text("all") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(ApiError::invalid("all: true or false is allowed")),
    };
    Ok(Answer::json(&ExportAnswer { toml: api.control.export(all).await? }))
}

/// `POST /api/settings:import`.
pub(crate) async fn import(api: Arc<Api>, call: Call) -> Result<Answer, ApiError> {
    let body: ImportBody = call.json()?;
    let plan = api.control.plan_import(&body.toml).await?;
    if !body.dry_run {
        api.control.import(call.actor(), &plan).await?;
    }
    Ok(Answer::json(&ImportAnswer {
        saved: !body.dry_run,
        changes: plan.changes.iter().map(import_item).collect(),
        same: plan.same as u64,
        kept: plan.kept.iter().map(|name| (*name).to_owned()).collect(),
    }))
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
        let applied = applied::of_living_nodes(&api.store, &api.fixed, api.clock.now()).await?;
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
        item.sources = sources(setting, &api.fixed.claims(setting, stored.map(|stored| stored.value.as_str())));
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
        sources: Vec::new(),
        locked,
        effect: setting.effect.as_str().to_owned(),
        version,
        changed_by,
        changed_at,
        nodes: Vec::new(),
    }
}

fn sources(setting: &Setting, claims: &[Claim]) -> Vec<SourceItem> {
    let item = |(at, claim): (usize, &Claim)| SourceItem {
        source: claim.source.as_str().to_owned(),
        value: (!setting.secret).then(|| claim.value.clone()),
        place: (!claim.place.is_empty()).then(|| claim.place.clone()),
        wins: at == 0,
    };
    claims.iter().enumerate().map(item).collect()
}

fn history_item(step: Step) -> HistoryItem {
    let what = match (&step.from, &step.to) {
        (_, Stand::Default) => "cleared",
        (Stand::Secret, Stand::Secret) => "replaced",
        _ => "set",
    };
    let value = |stand: Stand| if let Stand::Value(value) = stand { Some(value) } else { None };
    HistoryItem {
        version: step.version,
        changed_by: step.changed_by,
        changed_at: step.changed_at,
        what: what.to_owned(),
        from: value(step.from),
        to: value(step.to),
    }
}

fn import_item(planned: &Planned) -> ImportItem {
    let open = |value: &Option<String>| value.clone().filter(|_| !planned.setting.secret);
    ImportItem {
        name: planned.setting.name.to_owned(),
        secret: planned.setting.secret,
        from: open(&planned.from),
        to: open(&planned.to),
        effect: planned.setting.effect.as_str().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::config::schema::name::POLL_INTERVAL;
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
        let item = item(Setting::find(POLL_INTERVAL).unwrap(), &Settings::default(), None, None, None);
        assert_eq!((item.version, item.source.as_str(), item.value.as_deref()), (0, "default", Some("15s")));
        assert!(!item.is_set && item.changed_by.is_none());
    }
}
