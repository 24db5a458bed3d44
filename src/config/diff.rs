//! What changed between two settings in force, what that needs, and whom it concerns. Pure: nothing is done here.

use crate::config::schema::{SETTINGS, Setting, name};
use crate::config::settings::Settings;
use crate::config::value::{Kind, parse_duration, parse_size};

/// What a change leads to, beyond being read anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: whoever uses the value reads the new one.
    Nothing,
    /// Service nodes listen at another place, web nodes dial it; the old link is closed after.
    Relink,
    /// A new key: every node takes it up, links are made anew with it.
    Rekey,
    /// Links from elsewhere than the networks that are named end at once.
    Admit,
    /// A short break is taken for the end of a node, and there is less time to end what it runs before another does.
    Haste,
    /// Every node writes into the database more often.
    Load,
    /// Browsers may be signed out.
    SignOut,
    /// Lines in memory may be dropped at once.
    Forget,
    /// What is kept in the database may be deleted when it is cleaned up the next time.
    Delete,
}

/// Which nodes a setting concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concerned {
    /// Those that run the work.
    Service,
    /// Those that serve pages.
    Web,
    /// All.
    Every,
}

/// A setting that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name.
    pub name: &'static str,
    /// The value before.
    pub from: String,
    /// The value after.
    pub to: String,
    /// What that needs.
    pub need: Need,
}

/// What changed, in the order of the settings page.
#[must_use]
pub fn diff(from: &Settings, to: &Settings) -> Vec<Difference> {
    let changed = SETTINGS.iter().filter(|setting| from.text(setting.name) != to.text(setting.name));
    changed
        .map(|setting| {
            let (from, to) = (from.text(setting.name), to.text(setting.name));
            Difference { name: setting.name, from: from.to_owned(), to: to.to_owned(), need: need(setting, from, to) }
        })
        .collect()
}

/// What it needs to change a setting from this value to that one.
#[must_use]
pub fn need(setting: &Setting, from: &str, to: &str) -> Need {
    if from == to {
        return Need::Nothing;
    }
    let (before, after, usual) = (amount(setting, from), amount(setting, to), amount(setting, setting.default));
    let is_less = after < before;
    match setting.name {
        name::MESSENGER_ENDPOINT => Need::Relink,
        name::MESSENGER_KEY => Need::Rekey,
        name::MESSENGER_ALLOWED_NETWORKS if !to.is_empty() => Need::Admit,
        name::STALE_TIME if is_less && after < usual => Need::Haste,
        name::HEARTBEAT_INTERVAL if after > before && after > usual => Need::Haste,
        name::HEARTBEAT_INTERVAL if is_less && after < usual => Need::Load,
        name::SESSION_IDLE | name::SESSION_AGE if is_less => Need::SignOut,
        name::LOG_RING_LINES | name::LOG_RING_BYTES if is_less => Need::Forget,
        name::DIAGNOSTICS_KEPT
        | name::LOG_AGE
        | name::LOG_SIZE
        | name::EXECUTION_AGE
        | name::EXECUTION_COUNT
        | name::AUDIT_AGE
            if is_less =>
        {
            Need::Delete
        }
        _ => Need::Nothing,
    }
}

/// Whom it concerns.
#[must_use]
pub fn concerned(setting: &Setting) -> Concerned {
    match setting.name {
        name::POLL_INTERVAL
        | name::STOP_PATIENCE
        | name::DIAGNOSTICS_KEPT
        | name::LOG_RING_LINES
        | name::LOG_RING_BYTES
        | name::LOG_AGE
        | name::LOG_SIZE
        | name::EXECUTION_AGE
        | name::EXECUTION_COUNT
        | name::AUDIT_AGE => Concerned::Service,
        name::SESSION_IDLE | name::SESSION_AGE | name::METRICS_NETWORKS => Concerned::Web,
        _ => Concerned::Every,
    }
}

fn amount(setting: &Setting, value: &str) -> Option<u128> {
    match setting.kind {
        Kind::Duration { .. } => parse_duration(value).ok().map(|duration| duration.as_nanos()),
        Kind::Size { .. } => parse_size(value).ok().map(u128::from),
        _ => value.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Fixed;

    #[test]
    fn what_a_change_needs_depends_on_the_setting_and_the_direction() {
        for (name, from, to, expected) in [
            (name::MESSENGER_ENDPOINT, "", "pipe:/run/sb.sock", Need::Relink),
            (name::MESSENGER_ENDPOINT, "pipe:/run/sb.sock", "", Need::Relink),
            (name::MESSENGER_ENDPOINT, "", "", Need::Nothing),
            (name::MESSENGER_KEY, "one", "two", Need::Rekey),
            (name::MESSENGER_ALLOWED_NETWORKS, "", "10.0.0.0/8", Need::Admit),
            (name::MESSENGER_ALLOWED_NETWORKS, "10.0.0.0/8", "", Need::Nothing),
            (name::STALE_TIME, "15s", "14s", Need::Haste),
            (name::STALE_TIME, "30s", "15s", Need::Nothing),
            (name::STALE_TIME, "5s", "10s", Need::Nothing),
            (name::HEARTBEAT_INTERVAL, "5s", "6s", Need::Haste),
            (name::HEARTBEAT_INTERVAL, "1s", "5s", Need::Nothing),
            (name::HEARTBEAT_INTERVAL, "5s", "1s", Need::Load),
            (name::HEARTBEAT_INTERVAL, "30s", "5s", Need::Nothing),
            (name::SESSION_IDLE, "12h", "11h", Need::SignOut),
            (name::SESSION_IDLE, "12h", "1d", Need::Nothing),
            (name::SESSION_AGE, "7d", "6d", Need::SignOut),
            (name::LOG_RING_LINES, "20000", "19999", Need::Forget),
            (name::LOG_RING_LINES, "9999", "10000", Need::Nothing),
            (name::LOG_RING_BYTES, "8 MiB", "512 KiB", Need::Forget),
            (name::LOG_AGE, "7d", "1d", Need::Delete),
            (name::LOG_AGE, "7d", "8d", Need::Nothing),
            (name::LOG_SIZE, "1 GiB", "2 MiB", Need::Delete),
            (name::EXECUTION_COUNT, "100", "99", Need::Delete),
            (name::AUDIT_AGE, "365d", "1d", Need::Delete),
            (name::POLL_INTERVAL, "15s", "1s", Need::Nothing),
            (name::METRICS_NETWORKS, "10.0.0.0/8", "", Need::Nothing),
        ] {
            assert_eq!(need(Setting::find(name).unwrap(), from, to), expected, "{name}: {from} to {to}");
        }
    }

    #[test]
    fn the_difference_of_two_settings_is_what_changed() {
        let fixed = Fixed::default();
        let before = Settings::resolve(&fixed, [(name::POLL_INTERVAL, "10s"), (name::LOG_AGE, "7d")]).0;
        let after = Settings::resolve(&fixed, [(name::POLL_INTERVAL, "10s"), (name::LOG_AGE, "2d")]).0;
        assert_eq!(diff(&before, &before), []);
        let changed = Difference { name: name::LOG_AGE, from: "7d".into(), to: "2d".into(), need: Need::Delete };
        assert_eq!(diff(&before, &after), [changed]);
        assert_eq!(diff(&Settings::default(), &before).len(), 1, "a value saved as the default is no change");
    }

    #[test]
    fn a_setting_concerns_those_who_use_it() {
        for (name, expected) in [
            (name::POLL_INTERVAL, Concerned::Service),
            (name::SESSION_IDLE, Concerned::Web),
            (name::MESSENGER_KEY, Concerned::Every),
            (name::HEARTBEAT_INTERVAL, Concerned::Every),
        ] {
            assert_eq!(concerned(Setting::find(name).unwrap()), expected, "{name}");
        }
    }
}
