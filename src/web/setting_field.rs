//! A setting as a field of a form: its value, default, source, and what may be typed.

use std::collections::BTreeMap;

use crate::config::schema::{Effect, Setting};
use crate::config::settings::{Settings, Source};
use crate::config::value::Kind;
use crate::live::applied::{Applied, Standing, of_living_nodes};
use crate::model::setting::StoredSetting;
use crate::web::WebState;
use crate::web::applied::{OnNode, on_node};
use crate::web::html::Html;
use crate::web::moment::ago;
use crate::web::phrase::{Fill as _, Phrase};
use crate::web::problem::Problem;
use crate::web::texts::EN;

/// All settings at one moment, read from the database: newer than what rooms may have taken up yet.
pub(crate) struct Book {
    stored: BTreeMap<String, StoredSetting>,
    settings: Settings,
    applied: Vec<Applied>,
}

impl Book {
    /// Reads it.
    pub(crate) async fn read(web: &WebState) -> Result<Self, Problem> {
        let stored: BTreeMap<_, _> =
            web.store.settings().await?.into_iter().map(|setting| (setting.name.clone(), setting)).collect();
        let pairs = stored.values().map(|setting| (setting.name.as_str(), setting.value.as_str()));
        let (settings, _) = Settings::resolve(&web.fixed, pairs);
        let applied = of_living_nodes(&web.store, web.clock.now()).await?;
        Ok(Self { stored, settings, applied })
    }

    /// What somebody saved.
    pub(crate) fn stored(&self, setting: &Setting) -> Option<&StoredSetting> {
        self.stored.get(setting.name)
    }

    /// The value somebody saved; empty if it stands at its default.
    pub(crate) fn saved(&self, setting: &Setting) -> &str {
        self.stored(setting).map_or("", |stored| &stored.value)
    }

    /// The version somebody sees now; 0 if it was never saved.
    pub(crate) fn version(&self, setting: &Setting) -> i64 {
        self.stored(setting).map_or(0, |stored| stored.version)
    }

    /// Where its value comes from.
    pub(crate) fn source(&self, setting: &Setting) -> Source {
        self.settings.get(setting.name).source
    }

    /// Whether it is in force as wanted on every living node.
    fn is_in_force(&self, setting: &Setting) -> bool {
        let mut of_it = self.applied.iter().filter(|applied| applied.setting.name == setting.name);
        of_it.all(|applied| applied.standing == Standing::Applied)
    }

    /// How it stands on every living node.
    pub(crate) fn on_nodes(&self, setting: &Setting) -> Vec<OnNode> {
        let version = self.version(setting);
        let of_it = self.applied.iter().filter(|applied| applied.setting.name == setting.name);
        of_it.map(|applied| on_node(applied, version)).collect()
    }

    /// The value in force.
    pub(crate) fn value(&self, setting: &Setting) -> &str {
        self.settings.text(setting.name)
    }

    /// The field, with what was typed into it and what is wrong with that.
    pub(crate) fn field(&self, setting: &'static Setting, typed: Option<&str>, fault: Option<Phrase>) -> Field {
        let source = self.source(setting);
        let shown = |value: &str| if value.is_empty() { EN.value_empty.to_owned() } else { value.to_owned() };
        // never the value of a secret: neither what is in force nor what was typed
        let open = |value: &str| if setting.secret { String::new() } else { value.to_owned() };
        let locked = match source {
            Source::Environment => Some(EN.locked_environment.with("variable", setting.variable())),
            Source::File => Some(EN.locked_file.into()),
            Source::Default | Source::Database => None,
        };
        let typed = open(typed.unwrap_or_else(|| self.saved(setting)));
        let choices: Vec<&'static str> = match setting.kind {
            Kind::Choice(words) => words.to_vec(),
            Kind::Boolean => vec!["true", "false"],
            _ => Vec::new(),
        };
        Field {
            name: setting.name,
            short: setting.name.split_once('.').map_or(setting.name, |(_, short)| short),
            group: setting.group(),
            id: setting.name.replace('.', "-").to_ascii_lowercase(),
            help: setting.help,
            allowed: setting.kind.allowed(),
            live: setting.effect == Effect::Live,
            secret: setting.secret,
            choices: choices.into_iter().map(|word| (word, word == typed)).collect(),
            default: shown(setting.default),
            value: shown(&open(self.value(setting))),
            value_word: if self.is_in_force(setting) { EN.in_force } else { EN.wanted },
            is_set: !self.value(setting).is_empty(),
            source: source.as_str(),
            changed: source != Source::Default,
            overruled: (source.locks() && self.stored(setting).is_some()).then(|| {
                EN.overruled.with("value", if setting.secret { EN.value_secret } else { self.saved(setting) })
            }),
            changed_by: self
                .stored(setting)
                .map(|stored| EN.changed_by.with("who", &stored.changed_by).markup("when", ago(stored.changed_at))),
            set_when: self.stored(setting).map(|stored| ago(stored.changed_at)),
            set_by: self.stored(setting).map(|stored| stored.changed_by.clone()),
            version: self.version(setting),
            nodes: if source == Source::Default { Vec::new() } else { self.on_nodes(setting) },
            locked,
            typed,
            fault,
        }
    }
}

/// A setting as a page shows it.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) short: &'static str,
    pub(crate) group: &'static str,
    pub(crate) id: String,
    pub(crate) help: &'static str,
    pub(crate) allowed: String,
    pub(crate) live: bool,
    pub(crate) secret: bool,
    pub(crate) choices: Vec<(&'static str, bool)>,
    pub(crate) default: String,
    pub(crate) value: String,
    /// What is said of the value: that it is in force, or wanted and not yet so on every node.
    pub(crate) value_word: &'static str,
    pub(crate) is_set: bool,
    pub(crate) source: &'static str,
    pub(crate) changed: bool,
    pub(crate) overruled: Option<Phrase>,
    pub(crate) changed_by: Option<Phrase>,
    pub(crate) set_when: Option<Html>,
    pub(crate) set_by: Option<String>,
    pub(crate) version: i64,
    /// How it stands on every living node, if somebody changed it.
    pub(crate) nodes: Vec<OnNode>,
    pub(crate) locked: Option<Phrase>,
    pub(crate) typed: String,
    pub(crate) fault: Option<Phrase>,
}

/// Whether a search finds this setting: by its name, help or variable, in any case.
pub(crate) fn is_found(setting: &Setting, search: &str) -> bool {
    let search = search.trim().to_lowercase();
    [setting.name, setting.help, &setting.variable()].iter().any(|text| text.to_lowercase().contains(&search))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::config::schema::name;
    use crate::config::settings::Fixed;

    fn book(name: &str, value: &str, fixed: &Fixed) -> Book {
        let stored = StoredSetting {
            name: name.to_owned(),
            value: value.to_owned(),
            version: 3,
            changed_by: "ann".to_owned(),
            changed_at: Timestamp::from_micros(1),
        };
        let settings = Settings::resolve(fixed, [(name, value)]).0;
        Book { stored: [(name.to_owned(), stored)].into(), settings, applied: Vec::new() }
    }

    #[test]
    fn a_secret_is_in_no_part_of_its_field() {
        let key = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=";
        let setting = Setting::find(name::MESSENGER_KEY).unwrap();
        let field = book(name::MESSENGER_KEY, key, &Fixed::default()).field(setting, Some(key), None);
        assert!(field.is_set && field.typed.is_empty() && !field.value.contains("QUJD"));
        assert_eq!(field.set_by.as_deref(), Some("ann"));
    }

    #[test]
    fn what_is_fixed_outside_is_locked_and_says_what_it_overrules() {
        let mut fixed = Fixed::default();
        fixed.set(name::POLL_INTERVAL, "20s", Source::Environment).unwrap();
        let setting = Setting::find(name::POLL_INTERVAL).unwrap();
        let field = book(name::POLL_INTERVAL, "10s", &fixed).field(setting, None, None);
        assert_eq!((field.value.as_str(), field.source), ("20s", "environment"));
        assert!(field.locked.unwrap().plain().contains("SWITCHBOARD_SETTING_SERVICE_POLLINTERVAL"));
        assert!(field.overruled.unwrap().plain().contains("10s"));
    }

    #[test]
    fn settings_are_found_by_name_help_and_variable() {
        let setting = Setting::find(name::POLL_INTERVAL).unwrap();
        for search in ["pollint", "UNASKED", "switchboard_setting_service_poll", ""] {
            assert!(is_found(setting, search), "{search}");
        }
        assert!(!is_found(setting, "rabbit"));
    }
}
