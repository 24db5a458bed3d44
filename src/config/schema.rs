//! Every setting once: name, kind, default, help, whether it is secret, when a change takes effect.
//!
//! The settings page, the command line, `/api/settings` and `docs/configuration.md` are all made from this table.

use crate::config::value::Kind;

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// `Group.Name`.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Its value unless somebody says otherwise; in canonical form. Empty for a key: it is generated.
    pub default: &'static str,
    /// What it does, for the person who is about to change it.
    pub help: &'static str,
    /// Whether its value is sealed at rest and never shown.
    pub secret: bool,
    /// When a change takes effect.
    pub effect: Effect,
}

/// When a changed setting takes effect. Nothing needs a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// At once, on every node.
    Live,
    /// When the work it governs runs the next time.
    NextRun,
}

impl Effect {
    /// As shown on the settings page.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::NextRun => "next run",
        }
    }
}

/// What the names of variables begin with that fix a setting.
pub const VARIABLE_PREFIX: &str = "SWITCHBOARD_SETTING_";

impl Setting {
    /// The part of the name before the dot.
    #[must_use]
    pub fn group(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(group, _)| group)
    }

    /// The environment variable that fixes it: `SWITCHBOARD_SETTING_SERVICE_POLLINTERVAL`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.name.replace('.', "_").to_ascii_uppercase())
    }

    /// The setting of this name, in any case.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.name.eq_ignore_ascii_case(name))
    }
}

/// Names of settings, for the rooms that ask for them.
pub mod name {
    /// Where the messenger listens and is dialled.
    pub const MESSENGER_ENDPOINT: &str = "Service.MessengerEndpoint";
    /// The messenger's pre-shared key.
    pub const MESSENGER_KEY: &str = "Service.MessengerKey";
    /// From where web nodes may dial.
    pub const MESSENGER_ALLOWED_NETWORKS: &str = "Service.MessengerAllowedNetworks";
    /// The key before it, while both are valid: no setting, but kept beside them (see [`super::HIDDEN`]).
    pub const FORMER_MESSENGER_KEY: &str = "Service.MessengerKey.Former";
    /// How often the service looks into the database unasked.
    pub const POLL_INTERVAL: &str = "Service.PollInterval";
    /// How often a node writes that it lives.
    pub const HEARTBEAT_INTERVAL: &str = "Service.HeartbeatInterval";
    /// How long a node may be silent before it counts as gone, and how long a term as primary is.
    pub const STALE_TIME: &str = "Service.StaleTime";
    /// How long a soft stop waits for runs.
    pub const STOP_PATIENCE: &str = "Service.StopPatience";
    /// The least level that enters the log.
    pub const MINIMUM_LOG_LEVEL: &str = "Diagnostics.MinimumLogLevel";
    /// How many warnings and errors of our own are kept.
    pub const DIAGNOSTICS_KEPT: &str = "Diagnostics.Kept";
    /// Lines a service node holds in memory.
    pub const LOG_RING_LINES: &str = "Log.RingLines";
    /// Bytes a service node's lines take in memory.
    pub const LOG_RING_BYTES: &str = "Log.RingSize";
    /// How long kept lines stay.
    pub const LOG_AGE: &str = "Retention.LogAge";
    /// How much kept lines may take.
    pub const LOG_SIZE: &str = "Retention.LogSize";
    /// How long ended executions stay.
    pub const EXECUTION_AGE: &str = "Retention.ExecutionAge";
    /// How many executions of each dispatcher stay at least.
    pub const EXECUTION_COUNT: &str = "Retention.ExecutionCount";
    /// How long audit entries stay.
    pub const AUDIT_AGE: &str = "Retention.AuditAge";
    /// A session unused for so long ends.
    pub const SESSION_IDLE: &str = "Web.SessionIdle";
    /// A session as old as this ends.
    pub const SESSION_AGE: &str = "Web.SessionAge";
    /// Who may read `/metrics` without a token.
    pub const METRICS_NETWORKS: &str = "Web.MetricsNetworks";
    /// Whose word on who asks is believed.
    pub const TRUSTED_PROXIES: &str = "Web.TrustedProxies";
    /// How long a stop is announced.
    pub const DRAIN_TIME: &str = "Web.DrainTime";
}

/// Rows kept beside the settings that nobody sets: they have no page, no command line and no `/api/settings`.
pub const HIDDEN: &[&str] = &[name::FORMER_MESSENGER_KEY];

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const MIB: u64 = 1 << 20;

const fn live(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Setting {
    Setting { name, kind, default, help, secret: false, effect: Effect::Live }
}

const fn next_run(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Setting {
    Setting { name, kind, default, help, secret: false, effect: Effect::NextRun }
}

const fn seconds(min_seconds: u64, max_seconds: u64) -> Kind {
    Kind::Duration { min_seconds, max_seconds }
}

/// All of them, in the order of the page.
pub const SETTINGS: &[Setting] = &[
    live(
        name::MESSENGER_ENDPOINT,
        Kind::Endpoint,
        "",
        "Where service nodes listen for web nodes. Empty is a pipe in the data directory; nothing else is needed on one machine. tcp://HOST:PORT listens at the addresses of that host, tcp://*:PORT at all of the machine.",
    ),
    Setting {
        name: name::MESSENGER_KEY,
        kind: Kind::Key,
        default: "",
        help: "The key with which nodes seal what they say to each other. Generated on first use; whoever holds it may be any node.",
        secret: true,
        effect: Effect::Live,
    },
    live(
        name::MESSENGER_ALLOWED_NETWORKS,
        Kind::Networks,
        "",
        "From these networks web nodes may dial a service node over TCP; anyone else is turned away before a byte is read. Name 127.0.0.1 too if a web node on the same machine dials. Empty: from everywhere, and only the key protects; set it where others can reach the port.",
    ),
    live(
        name::POLL_INTERVAL,
        seconds(1, 60),
        "15s",
        "How often the service node looks into the database unasked: the longest an action waits while the messenger is away.",
    ),
    live(
        name::HEARTBEAT_INTERVAL,
        seconds(1, 5 * MINUTE),
        "5s",
        "How often every node writes into the database that it lives, and the primary that it stays primary. Less than half of \
         Service.StaleTime; a shorter one tells sooner and writes more.",
    ),
    live(
        name::STALE_TIME,
        seconds(3, 10 * MINUTE),
        "15s",
        "A node silent for so long counts as gone, and another service node takes its place as primary. Below 15s a slow \
         database or a busy machine can be taken for a dead one.",
    ),
    live(
        name::STOP_PATIENCE,
        seconds(0, HOUR),
        "20s",
        "How long a stopping service node waits for its runs before it cancels them.",
    ),
    live(
        name::MINIMUM_LOG_LEVEL,
        Kind::Choice(&["trace", "debug", "info", "warn", "error"]),
        "info",
        "Switchboard's own lines below this level are not written at all. What runs put out is always kept.",
    ),
    next_run(
        name::DIAGNOSTICS_KEPT,
        Kind::Integer { min: 10, max: 100_000 },
        "1000",
        "How many of this product's own warnings and errors the Diagnostics page keeps.",
    ),
    live(
        name::LOG_RING_LINES,
        Kind::Integer { min: 100, max: 1_000_000 },
        "20000",
        "How many of the newest lines a service node holds in memory for viewers.",
    ),
    live(
        name::LOG_RING_BYTES,
        Kind::Size { min_bytes: 64 << 10, max_bytes: 1 << 30 },
        "8 MiB",
        "How much memory those lines may take.",
    ),
    next_run(
        name::LOG_AGE,
        seconds(HOUR, 3650 * DAY),
        "7d",
        "Lines of level info and above are kept in the database for so long.",
    ),
    next_run(
        name::LOG_SIZE,
        Kind::Size { min_bytes: MIB, max_bytes: 1 << 40 },
        "256 MiB",
        "How much room kept lines may take; the oldest make way.",
    ),
    next_run(name::EXECUTION_AGE, seconds(HOUR, 3650 * DAY), "30d", "Ended executions are kept for so long."),
    next_run(
        name::EXECUTION_COUNT,
        Kind::Integer { min: 1, max: 100_000 },
        "100",
        "The newest executions of each dispatcher are kept however old they are: so many.",
    ),
    next_run(name::AUDIT_AGE, seconds(DAY, 3650 * DAY), "365d", "Audit entries are kept for so long."),
    live(name::SESSION_IDLE, seconds(MINUTE, 30 * DAY), "12h", "A browser not used for so long is signed out."),
    live(name::SESSION_AGE, seconds(MINUTE, 365 * DAY), "7d", "A browser signed in for so long is signed out."),
    live(
        name::METRICS_NETWORKS,
        Kind::Networks,
        "",
        "From these networks /metrics can be read without a token. Empty: a token of a user with metrics_viewer is needed.",
    ),
    live(
        name::TRUSTED_PROXIES,
        Kind::Networks,
        "",
        "Proxies in these networks are believed what they say of a request: who asks, by which scheme, for which host (X-Forwarded-For, -Proto, -Host; Forwarded only if none of them is there). Empty: nobody is.",
    ),
    live(
        name::DRAIN_TIME,
        seconds(0, 10 * MINUTE),
        "0s",
        "Asked to stop, a web node works on for so long while /readyz says draining. Behind a load balancer: a bit longer than it takes to notice, as 10s.",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_setting_is_well_formed() {
        let mut names = BTreeSet::new();
        for setting in SETTINGS {
            assert!(names.insert(setting.name.to_ascii_lowercase()), "{} is declared twice", setting.name);
            assert!(setting.name.split('.').count() == 2, "{} is not Group.Name", setting.name);
            assert!(setting.help.ends_with('.'), "{}: help is a sentence", setting.name);
            if setting.kind != Kind::Key {
                let default = setting.kind.check(setting.default);
                assert_eq!(default.as_deref(), Ok(setting.default), "{}: default in canonical form", setting.name);
            }
        }
    }

    #[test]
    fn names_are_found_in_any_case() {
        assert_eq!(Setting::find("service.pollinterval").unwrap().name, name::POLL_INTERVAL);
        assert!(Setting::find("Service.PolInterval").is_none());
        assert_eq!(Setting::find(name::POLL_INTERVAL).unwrap().variable(), "SWITCHBOARD_SETTING_SERVICE_POLLINTERVAL");
    }
}
