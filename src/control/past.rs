//! What became of a setting, change by change: from what, to what.

use crate::base::clock::Timestamp;
use crate::config::schema::Setting;
use crate::model::setting::SettingChange;
use crate::store::Store;
use crate::store::error::Error;

/// What a setting stood at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stand {
    /// At its default.
    Default,
    /// At this value.
    Value(String),
    /// At a value that is never told.
    Secret,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The version it made.
    pub version: i64,
    /// Who made it.
    pub changed_by: String,
    /// When.
    pub changed_at: Timestamp,
    /// What was before.
    pub from: Stand,
    /// What came.
    pub to: Stand,
}

/// The changes of a setting, newest first, at most `limit`.
///
/// # Errors
/// If the database can't be read.
pub async fn of(store: &Store, setting: &Setting, limit: u32) -> Result<Vec<Step>, Error> {
    // the one before the last that is told says what that one changed
    let changes = store.setting_history(Some(setting.name), limit.saturating_add(1)).await?;
    Ok(steps(setting, changes, limit as usize))
}

fn steps(setting: &Setting, changes: Vec<SettingChange>, limit: usize) -> Vec<Step> {
    let stand = |change: &SettingChange| match &change.value {
        _ if change.cleared => Stand::Default,
        Some(value) if !setting.secret => Stand::Value(value.clone()),
        _ => Stand::Secret,
    };
    let stands: Vec<Stand> = changes.iter().map(stand).collect();
    let before = |at: usize| stands.get(at + 1).cloned().unwrap_or(Stand::Default);
    let step = |(at, change): (usize, SettingChange)| Step {
        version: change.version,
        changed_by: change.changed_by,
        changed_at: change.changed_at,
        from: before(at),
        to: stands[at].clone(),
    };
    changes.into_iter().enumerate().take(limit).map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::name::{MESSENGER_KEY, POLL_INTERVAL};

    fn change(name: &str, version: i64, value: Option<&str>, cleared: bool) -> SettingChange {
        SettingChange {
            name: name.to_owned(),
            value: value.map(str::to_owned),
            version,
            cleared,
            changed_by: "ann".to_owned(),
            changed_at: Timestamp::from_micros(version),
        }
    }

    #[test]
    fn each_change_says_from_what_to_what() {
        let setting = Setting::find(POLL_INTERVAL).unwrap();
        let history = || {
            vec![
                change(POLL_INTERVAL, 3, Some("9s"), false),
                change(POLL_INTERVAL, 2, None, true),
                change(POLL_INTERVAL, 1, Some("5s"), false),
            ]
        };
        let value = |text: &str| Stand::Value(text.to_owned());
        let told: Vec<_> = steps(setting, history(), 9).into_iter().map(|step| (step.from, step.to)).collect();
        assert_eq!(told, [(Stand::Default, value("9s")), (value("5s"), Stand::Default), (Stand::Default, value("5s"))]);
        let cut = steps(setting, history(), 2);
        assert_eq!((cut.len(), &cut[1].from), (2, &value("5s")), "the last that is told still knows what was before");
    }

    #[test]
    fn a_secret_is_set_and_replaced_and_never_told() {
        let setting = Setting::find(MESSENGER_KEY).unwrap();
        let history = vec![change(MESSENGER_KEY, 2, None, false), change(MESSENGER_KEY, 1, None, false)];
        let told = steps(setting, history, 9);
        assert_eq!((&told[0].from, &told[0].to), (&Stand::Secret, &Stand::Secret));
        assert_eq!((&told[1].from, &told[1].to), (&Stand::Default, &Stand::Secret));
    }
}
