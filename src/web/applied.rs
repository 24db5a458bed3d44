//! On which node a setting is in force, where not yet, and where it can't be had: with the way back.

use crate::config::schema::Setting;
use crate::config::value::Kind;
use crate::live::applied::{Applied, Standing, of_living_nodes};
use crate::store::error::Error;
use crate::web::WebState;
use crate::web::html::Html;
use crate::web::moment::{ago, stamp};
use crate::web::phrase::{Fill as _, Phrase};
use crate::web::texts::EN;

/// A setting that is not in force as wanted on a node, in a sentence, with the form that takes it back.
pub(crate) struct Trouble {
    /// Which setting: its page has its history.
    pub(crate) name: &'static str,
    pub(crate) text: Phrase,
    /// What else can be done, if nothing can be taken back.
    pub(crate) advice: Option<&'static str>,
    pub(crate) revert: Option<Revert>,
}

/// What a form needs to put the value back that still works.
pub(crate) struct Revert {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    /// The same, in words.
    pub(crate) shown: String,
    /// The version that is taken back, so that nobody's later change is.
    pub(crate) version: i64,
}

/// A node's line on a setting's page.
pub(crate) struct OnNode {
    pub(crate) node: String,
    pub(crate) mark: &'static str,
    pub(crate) word: &'static str,
    pub(crate) when: Html,
    pub(crate) in_force: String,
    pub(crate) why: Option<Phrase>,
    pub(crate) advice: Option<&'static str>,
    pub(crate) revert: Option<Revert>,
}

/// Everything people should be told of now.
///
/// # Errors
/// If the database can't be read.
pub(crate) async fn troubles(web: &WebState) -> Result<Vec<Trouble>, Error> {
    let now = web.clock.now();
    let mut troubles = Vec::new();
    for applied in of_living_nodes(&web.store, &web.fixed, now).await?.iter().filter(|applied| applied.is_trouble(now))
    {
        let version = match applied.way_back {
            Some(_) => web.store.setting(applied.setting.name).await?.map_or(0, |stored| stored.version),
            None => 0,
        };
        troubles.push(trouble(applied, version));
    }
    Ok(troubles)
}

fn trouble(applied: &Applied, version: i64) -> Trouble {
    let text = match applied.standing {
        Standing::Failed => EN.not_in_force,
        Standing::Pending | Standing::Applied => EN.not_yet_in_force,
    };
    let text = text
        .with("setting", applied.setting.name)
        .with("node", &applied.node)
        .markup("since", stamp(applied.since))
        .with("wanted", shown(applied.setting, &applied.wanted))
        .with("value", in_force(applied))
        .with("cause", applied.error.as_deref().unwrap_or_default());
    Trouble { name: applied.setting.name, text, advice: advice(applied), revert: revert(applied, version) }
}

/// A node's line; `version` is that of the value that is stored now.
pub(crate) fn on_node(applied: &Applied, version: i64) -> OnNode {
    let (mark, word) = match applied.standing {
        Standing::Applied => ("normal", EN.setting_applied),
        Standing::Pending => ("queued", EN.setting_pending),
        Standing::Failed => ("error", EN.setting_failed),
    };
    let why = match (&applied.error, applied.fixed) {
        (Some(error), fixed) => {
            let text = if fixed { EN.cant_be_had_fixed } else { EN.cant_be_had };
            Some(text.with("wanted", shown(applied.setting, &applied.wanted)).with("cause", error))
        }
        (None, true) => Some(EN.fixed_on_node.into()),
        (None, false) if applied.standing == Standing::Pending => Some(EN.not_taken_up.into()),
        (None, false) => None,
    };
    OnNode {
        node: applied.node.to_string(),
        mark,
        word,
        when: ago(applied.since),
        in_force: in_force(applied),
        why,
        advice: advice(applied),
        revert: revert(applied, version),
    }
}

fn revert(applied: &Applied, version: i64) -> Option<Revert> {
    let value = applied.way_back.clone()?;
    Some(Revert { name: applied.setting.name, shown: shown(applied.setting, &value), value, version })
}

fn advice(applied: &Applied) -> Option<&'static str> {
    applied.is_own_trouble().then_some(EN.no_way_back)
}

fn in_force(applied: &Applied) -> String {
    applied.in_force.as_deref().map_or_else(|| EN.not_known.to_owned(), |value| shown(applied.setting, value))
}

/// A value in words.
fn shown(setting: &Setting, value: &str) -> String {
    match setting.kind {
        Kind::Endpoint if value.is_empty() => EN.local_pipe.to_owned(),
        Kind::Key => EN.key_of.with("fingerprint", value).plain(),
        _ if value.is_empty() => EN.value_empty.to_owned(),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::base::id::NodeId;
    use crate::config::schema::name;

    fn failed(fixed: bool) -> Applied {
        Applied {
            node: NodeId::new("service-1"),
            setting: Setting::find(name::MESSENGER_ENDPOINT).unwrap(),
            standing: Standing::Failed,
            wanted: "pipe:/x/<b>.sock".to_owned(),
            in_force: Some(String::new()),
            fixed,
            since: Timestamp::from_micros(1),
            error: Some("no such folder".to_owned()),
            way_back: (!fixed).then(String::new),
        }
    }

    #[test]
    fn a_failure_says_what_is_wanted_what_is_in_force_and_why() {
        let trouble = trouble(&failed(false), 7);
        let text = trouble.text.plain();
        for words in ["service-1", name::MESSENGER_ENDPOINT, "pipe:/x/<b>.sock", EN.local_pipe, "no such folder"] {
            assert!(text.contains(words), "{words} in {text}");
        }
        assert!(!trouble.text.to_string().contains("<b>"));
        let revert = trouble.revert.unwrap();
        assert_eq!((revert.value.as_str(), revert.version, trouble.advice), ("", 7, None));
    }

    #[test]
    fn where_nothing_works_for_all_it_says_how_to_help_the_one_node() {
        let alone = Applied { way_back: None, ..failed(false) };
        let (trouble, line) = (trouble(&alone, 0), on_node(&alone, 0));
        assert!(trouble.revert.is_none() && line.revert.is_none());
        assert_eq!((trouble.advice, line.advice), (Some(EN.no_way_back), Some(EN.no_way_back)));
    }

    #[test]
    fn what_a_node_fixes_itself_is_not_reverted_here() {
        let line = on_node(&failed(true), 7);
        assert!(line.revert.is_none() && line.advice.is_none());
        assert!(line.why.unwrap().plain().contains("environment"));
    }
}
