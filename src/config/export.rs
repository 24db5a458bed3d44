//! Settings written as a file that can be imported: what the database holds, secrets as placeholders.

use std::fmt::Write as _;

use crate::config::schema::SETTINGS;
use crate::config::settings::{Fixed, Source};

/// Stands for the value of a secret, and leaves it as it is when it is imported.
pub const PLACEHOLDER: &str = "(secret)";

/// What the database holds, as TOML; with `all` also what stands at its default. `stored` gives the value of a setting by its
/// name. What this node has fixed outside the database is no part of it, and is mentioned.
#[must_use]
pub fn export<'v>(fixed: &Fixed, stored: impl Fn(&str) -> Option<&'v str>, all: bool) -> String {
    let mut text = String::from(
        "# Settings of Switchboard, as the database holds them. `switchboard settings import FILE` takes them in.\n\
         # A secret is not told; \"(secret)\" leaves it as it is.\n\n[settings]\n",
    );
    for setting in SETTINGS {
        let stored = stored(setting.name);
        if let Some(claim) = fixed.claim(setting.name) {
            let by = match claim.source {
                Source::Flag => "a flag",
                Source::Environment => "the environment",
                Source::File | Source::Database | Source::Default => "the configuration file",
            };
            let _ = writeln!(text, "# {} is fixed by {by} of the node that was asked", setting.name);
        }
        let value = match stored {
            Some(_) if setting.secret => PLACEHOLDER,
            Some(value) => value,
            None if all && !setting.secret => setting.default,
            None => continue,
        };
        let _ = writeln!(text, "{} = {}", setting.name, toml::Value::from(value));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::setting::read_import;
    use crate::config::schema::name::{MESSENGER_ENDPOINT, MESSENGER_KEY, POLL_INTERVAL};

    const KEY: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=";

    fn stored(name: &str) -> Option<&'static str> {
        match name {
            MESSENGER_ENDPOINT => Some("pipe:/with \"quotes\"\\and=signs"),
            MESSENGER_KEY => Some(KEY),
            POLL_INTERVAL => Some("5s"),
            _ => None,
        }
    }

    #[test]
    fn what_is_exported_can_be_imported_and_tells_no_secret() {
        for all in [false, true] {
            let text = export(&Fixed::default(), stored, all);
            assert!(!text.contains(&KEY[..8]) && text.contains("Service.MessengerKey = \"(secret)\""), "{text}");
            let (settings, problems) = read_import(&text);
            assert_eq!(problems, []);
            assert_eq!(settings.len(), if all { SETTINGS.len() } else { 3 });
            for setting in settings.iter().filter(|setting| !setting.is_placeholder()) {
                let expected = stored(setting.name)
                    .unwrap_or_else(|| SETTINGS.iter().find(|known| known.name == setting.name).unwrap().default);
                assert_eq!(setting.value, expected);
            }
        }
    }

    #[test]
    fn what_a_node_fixes_itself_is_mentioned_and_not_exported() {
        let mut fixed = Fixed::default();
        fixed.set("Log.RingLines", "500", Source::Environment).unwrap();
        let text = export(&fixed, stored, false);
        assert!(text.contains("# Log.RingLines is fixed by the environment") && !text.contains("500"), "{text}");
    }
}
