//! A setting as a field of a form: its value, default, source, and what may be typed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::schema::name::STALE_TIME;
use crate::config::schema::{Effect, Setting};
use crate::config::settings::{Claim, Fixed, Settings, Source};
use crate::config::value::Kind;
use crate::live::applied::{Applied, Standing, of_living_nodes};
use crate::model::node::Node;
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
    nodes: Vec<Node>,
    fixed: Arc<Fixed>,
}

impl Book {
    /// Reads it.
    pub(crate) async fn read(web: &WebState) -> Result<Self, Problem> {
        let stored: BTreeMap<_, _> =
            web.store.settings().await?.into_iter().map(|setting| (setting.name.clone(), setting)).collect();
        let pairs = stored.values().map(|setting| (setting.name.as_str(), setting.value.as_str()));
        let (settings, _) = Settings::resolve(&web.fixed, pairs);
        let applied = of_living_nodes(&web.store, &web.fixed, web.clock.now()).await?;
        let mut nodes = web.store.nodes().await?;
        let patience = settings.duration(STALE_TIME);
        nodes.retain(|node| node.lives(web.clock.now(), patience));
        Ok(Self { stored, settings, applied, nodes, fixed: Arc::clone(&web.fixed) })
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

    /// Every node that lives.
    pub(crate) fn living(&self) -> &[Node] {
        &self.nodes
    }

    /// The nodes that have it fixed themselves: what is saved changes nothing there.
    pub(crate) fn fixed_on(&self, setting: &Setting) -> Vec<&str> {
        let of_it = self.applied.iter().filter(|applied| applied.setting.name == setting.name && applied.fixed);
        of_it.map(|applied| applied.node.as_str()).collect()
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
        let stored = self.stored(setting).map(|stored| stored.value.as_str());
        let claims = self.fixed.claims(setting, stored);
        let locked = claims.first().and_then(|claim| match claim.source {
            Source::Environment => Some(EN.locked_environment.with("variable", &claim.place)),
            Source::Flag => Some(EN.locked_flag.into()),
            Source::File if claim.place.is_empty() => Some(EN.locked_file.into()),
            Source::File => Some(EN.locked_in.with("text", EN.locked_file).with("place", &claim.place)),
            Source::Default | Source::Database => None,
        });
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
            sources: sources(setting, claims),
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
    pub(crate) sources: Vec<Origin>,
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

/// A source that has a value, as a page shows it.
pub(crate) struct Origin {
    pub(crate) source: &'static str,
    pub(crate) word: &'static str,
    pub(crate) value: String,
    pub(crate) place: String,
    /// What overrules it; none: it is in force.
    pub(crate) overruled: Option<Phrase>,
}

/// Every source that has a value, the strongest first.
fn sources(setting: &Setting, claims: Vec<Claim>) -> Vec<Origin> {
    let winner = claims.first().map(|claim| claim.source);
    let origin = |claim: Claim| Origin {
        source: claim.source.as_str(),
        word: word(claim.source),
        value: match claim.value.as_str() {
            "" if setting.secret => EN.default_generated.to_owned(),
            _ if setting.secret => EN.value_secret.to_owned(),
            "" => EN.value_empty.to_owned(),
            value => value.to_owned(),
        },
        place: claim.place,
        overruled: winner
            .filter(|winner| *winner != claim.source)
            .map(|winner| EN.source_overruled.with("source", word(winner))),
    };
    claims.into_iter().map(origin).collect()
}

const fn word(source: Source) -> &'static str {
    match source {
        Source::Default => EN.source_default,
        Source::Database => EN.source_database,
        Source::File => EN.source_file,
        Source::Environment => EN.source_environment,
        Source::Flag => EN.source_flag,
    }
}

impl Field {
    /// Whether more is to be told of its sources than its badge says.
    pub(crate) fn has_rivals(&self) -> bool {
        self.sources.len() > 2
    }
}

/// Whether a search finds this setting: by its name, help, variable or value in force, in any case. Not by a secret's value.
pub(crate) fn is_found(setting: &Setting, value: &str, search: &str) -> bool {
    let search = search.trim().to_lowercase();
    let value = if setting.secret { "" } else { value };
    [setting.name, setting.help, &setting.variable(), value].iter().any(|text| text.to_lowercase().contains(&search))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::config::schema::name;

    fn book(name: &str, value: &str, fixed: &Fixed) -> Book {
        let stored = StoredSetting {
            name: name.to_owned(),
            value: value.to_owned(),
            version: 3,
            changed_by: "ann".to_owned(),
            changed_at: Timestamp::from_micros(1),
        };
        let settings = Settings::resolve(fixed, [(name, value)]).0;
        Book {
            stored: [(name.to_owned(), stored)].into(),
            settings,
            applied: Vec::new(),
            nodes: Vec::new(),
            fixed: Arc::new(fixed.clone()),
        }
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
        let told: Vec<_> = field.sources.iter().map(|of| (of.source, of.value.as_str(), of.place.as_str())).collect();
        let variable = "SWITCHBOARD_SETTING_SERVICE_POLLINTERVAL";
        assert_eq!(told, [("environment", "20s", variable), ("database", "10s", ""), ("default", "15s", "")]);
        assert!(field.sources[0].overruled.is_none());
        assert!(field.sources[1].overruled.as_ref().unwrap().plain().contains("environment"));
    }

    #[test]
    fn settings_are_found_by_name_help_variable_and_value() {
        let setting = Setting::find(name::POLL_INTERVAL).unwrap();
        for search in ["pollint", "UNASKED", "switchboard_setting_service_poll", "45S", ""] {
            assert!(is_found(setting, "45s", search), "{search}");
        }
        assert!(!is_found(setting, "45s", "rabbit"));
        let key = Setting::find(name::MESSENGER_KEY).unwrap();
        assert!(!is_found(key, "QUJDREVG", "QUJD"), "nobody finds a secret out by searching");
    }
}
