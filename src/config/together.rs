//! Settings that have to go together: a small table of rules, and what breaks one.
//!
//! The page, `/api`, the command line and the configuration file are all checked by it.

use crate::config::schema::Setting;
use crate::config::schema::name::{HEARTBEAT_INTERVAL, SESSION_AGE, SESSION_IDLE, STALE_TIME};
use crate::config::value::{Kind, parse_duration, parse_size};

/// How one setting has to stand to another. Both are lengths of time, sizes or whole numbers.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    name: &'static str,
    bound: Bound,
    other: &'static str,
}

#[derive(Clone, Copy, Debug)]
enum Bound {
    AtMost,
    MoreThan { times: u32 },
}

impl Rule {
    /// `name` may not exceed `other`.
    #[must_use]
    pub const fn at_most(name: &'static str, other: &'static str) -> Self {
        Self { name, bound: Bound::AtMost, other }
    }

    /// `name` has to be more than so many times `other`.
    #[must_use]
    pub const fn more_than(name: &'static str, times: u32, other: &'static str) -> Self {
        Self { name, bound: Bound::MoreThan { times }, other }
    }
}

/// All of them.
pub const RULES: &[Rule] =
    &[Rule::at_most(SESSION_IDLE, SESSION_AGE), Rule::more_than(STALE_TIME, 2, HEARTBEAT_INTERVAL)];

/// Two settings that do not go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash {
    /// Which.
    pub names: [&'static str; 2],
    /// Why not, with both names and values, and what to do.
    pub why: String,
}

/// Which of these rules are broken where the settings have these values (in canonical form).
pub fn clashes<'v>(rules: &[Rule], value: impl Fn(&'static str) -> &'v str) -> Vec<Clash> {
    let broken = |rule: &Rule| {
        let (value, other) = (value(rule.name), value(rule.other));
        let (amount, limit) = (amount(rule.name, value)?, amount(rule.other, other)?);
        let (holds, wanted) = match rule.bound {
            Bound::AtMost => (amount <= limit, "at most".to_owned()),
            Bound::MoreThan { times: 1 } => (amount > limit, "more than".to_owned()),
            Bound::MoreThan { times: 2 } => (amount > limit.saturating_mul(2), "more than twice".to_owned()),
            Bound::MoreThan { times } => {
                (amount > limit.saturating_mul(u128::from(times)), format!("more than {times} times"))
            }
        };
        (!holds).then(|| Clash {
            names: [rule.name, rule.other],
            why: format!(
                "{} ({value}) has to be {wanted} {} ({other}): change both, or choose another value",
                rule.name, rule.other
            ),
        })
    };
    rules.iter().filter_map(broken).collect()
}

/// What a value comes to, to be compared; none if the setting is of a kind that has no amount.
fn amount(name: &str, value: &str) -> Option<u128> {
    match Setting::find(name)?.kind {
        Kind::Duration { .. } => parse_duration(value).ok().map(|duration| duration.as_nanos()),
        Kind::Size { .. } => parse_size(value).ok().map(u128::from),
        Kind::Integer { .. } => value.parse().ok(),
        Kind::Text { .. } | Kind::Boolean | Kind::Choice(_) | Kind::Key | Kind::Endpoint | Kind::Networks => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::name::{
        DIAGNOSTICS_KEPT, EXECUTION_COUNT, HEARTBEAT_INTERVAL, LOG_RING_BYTES, LOG_SIZE, POLL_INTERVAL,
    };
    use crate::config::settings::Settings;

    /// What the one rule says of these two values.
    fn said(rule: Rule, value: &str, other: &str) -> Option<String> {
        clashes(&[rule], |name| if name == rule.name { value } else { other }).pop().map(|clash| clash.why)
    }

    #[test]
    fn any_two_settings_with_amounts_can_be_held_together() {
        let twice = Rule::more_than(POLL_INTERVAL, 2, HEARTBEAT_INTERVAL);
        for (rule, value, other, holds) in [
            (Rule::at_most(SESSION_IDLE, SESSION_AGE), "12h", "7d", true),
            (Rule::at_most(SESSION_IDLE, SESSION_AGE), "7d", "7d", true),
            (Rule::at_most(SESSION_IDLE, SESSION_AGE), "8d", "7d", false),
            (twice, "11s", "5s", true),
            (twice, "10s", "5s", false),
            (twice, "1m", "30s", false),
            (twice, "1m 1s", "30s", true),
            (Rule::more_than(POLL_INTERVAL, 1, HEARTBEAT_INTERVAL), "5s", "5s", false),
            (Rule::more_than(POLL_INTERVAL, 3, HEARTBEAT_INTERVAL), "16s", "5s", true),
            (Rule::at_most(LOG_RING_BYTES, LOG_SIZE), "8 MiB", "256 MiB", true),
            (Rule::at_most(LOG_RING_BYTES, LOG_SIZE), "1 GiB", "256 MiB", false),
            (Rule::at_most(EXECUTION_COUNT, DIAGNOSTICS_KEPT), "100", "99", false),
        ] {
            assert_eq!(said(rule, value, other).is_none(), holds, "{rule:?}: {value}, {other}");
        }
    }

    #[test]
    fn what_is_broken_is_told_with_both_names_and_values() {
        let why = said(Rule::more_than(POLL_INTERVAL, 2, HEARTBEAT_INTERVAL), "10s", "5s").unwrap();
        assert_eq!(
            why,
            "Service.PollInterval (10s) has to be more than twice Service.HeartbeatInterval (5s): \
             change both, or choose another value"
        );
    }

    #[test]
    fn every_rule_holds_two_amounts_and_is_kept_by_the_defaults() {
        let settings = Settings::default();
        for rule in RULES {
            for name in [rule.name, rule.other] {
                assert!(amount(name, settings.text(name)).is_some(), "{name} has no amount");
            }
        }
        assert_eq!(settings.clashes(), []);
    }
}
