//! Which source wins: default, database, file, environment, flag; and the settings as the rooms ask for them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::config::problem::{nearest, shown};
use crate::config::schema::{HIDDEN, SETTINGS, Setting, VARIABLE_PREFIX};
use crate::config::together::{Clash, RULES, clashes};
use crate::config::value::{BadValue, parse_duration, parse_size};

/// Where a value comes from. A later one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// From the table of settings.
    Default,
    /// Somebody saved it.
    Database,
    /// `[settings]` of the configuration file.
    File,
    /// A variable of the environment.
    Environment,
    /// `--set NAME=VALUE` on the command line.
    Flag,
}

impl Source {
    /// As shown on the settings page.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Database => "database",
            Self::File => "file",
            Self::Environment => "environment",
            Self::Flag => "flag",
        }
    }

    /// Whether a value from here can't be changed in the database.
    #[must_use]
    pub const fn locks(self) -> bool {
        matches!(self, Self::File | Self::Environment | Self::Flag)
    }
}

/// What one source says of a setting.
#[derive(Clone, PartialEq, Eq)]
pub struct Claim {
    /// Who says so.
    pub source: Source,
    /// The value, in canonical form.
    pub value: String,
    /// Where exactly: `switchboard.toml, line 5`, the name of the variable, the flag; empty for database and default.
    pub place: String,
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // the value may be a secret
        f.debug_struct("Claim").field("source", &self.source).field("place", &self.place).finish_non_exhaustive()
    }
}

/// Values fixed outside the database, checked at the start; they do not change while the process runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fixed {
    /// Of each setting what every source says, the strongest first.
    claims: BTreeMap<&'static str, Vec<Claim>>,
}

impl Fixed {
    /// Fixes a setting; the flag wins over the environment, that over the file.
    ///
    /// # Errors
    /// If there is no such setting or the value is not one of its kind.
    pub fn set(&mut self, name: &str, text: &str, source: Source) -> Result<(), BadValue> {
        let place = match (source, Setting::find(name)) {
            (Source::Environment, Some(setting)) => setting.variable(),
            (Source::Flag, Some(setting)) => format!("--set {}=…", setting.name),
            _ => String::new(),
        };
        self.set_at(name, text, source, place)
    }

    /// The same, with the place where the value stands.
    ///
    /// # Errors
    /// As [`Fixed::set`].
    pub fn set_at(&mut self, name: &str, text: &str, source: Source, place: String) -> Result<(), BadValue> {
        let setting = Setting::find(name).ok_or_else(|| BadValue(unknown_setting(name)))?;
        let value = setting.kind.check(text)?;
        let claims = self.claims.entry(setting.name).or_default();
        claims.retain(|claim| claim.source != source);
        claims.push(Claim { source, value, place });
        claims.sort_by_key(|claim| std::cmp::Reverse(claim.source));
        Ok(())
    }

    /// What fixes this setting, if something does.
    #[must_use]
    pub fn claim(&self, name: &str) -> Option<&Claim> {
        self.claims.get(name)?.first()
    }

    /// What every source says of a setting, the strongest first: that one is in force. `stored` is what the database holds; a
    /// value there that this version can't read says nothing.
    #[must_use]
    pub fn claims(&self, setting: &Setting, stored: Option<&str>) -> Vec<Claim> {
        let unplaced = |source, value| Claim { source, value, place: String::new() };
        let mut claims = self.claims.get(setting.name).cloned().unwrap_or_default();
        let stored = stored.and_then(|text| setting.kind.check(text).ok());
        claims.extend(stored.map(|value| unplaced(Source::Database, value)));
        claims.push(unplaced(Source::Default, setting.default.to_owned()));
        claims
    }

    /// What of this does not go together: settings that are both fixed here, so that nobody could mend it elsewhere.
    #[must_use]
    pub fn clashes(&self) -> Vec<Clash> {
        let (settings, _) = Settings::resolve(self, []);
        let mut clashes = settings.clashes();
        clashes.retain(|clash| clash.names.iter().all(|name| self.claims.contains_key(name)));
        clashes
    }
}

/// Says that there is no such setting, and which one may have been meant.
#[must_use]
pub fn unknown_setting(name: &str) -> String {
    let last = name.rsplit('.').next().unwrap_or(name).to_ascii_lowercase();
    let near = SETTINGS.iter().find(|setting| {
        let known = setting.name.to_ascii_lowercase();
        !last.is_empty() && (known.ends_with(&last) || last.starts_with(known.rsplit('.').next().unwrap_or("")))
    });
    match near {
        Some(near) => format!("there is no setting `{name}`; perhaps {} is meant", near.name),
        None => format!("there is no setting `{name}`; `switchboard settings list` shows all"),
    }
}

/// What is wrong with the name of a variable of the environment: it looks as if it fixed a setting, and there is none.
#[must_use]
pub fn unknown_variable(name: &str) -> Option<String> {
    let looks_so = name.to_ascii_uppercase().starts_with(VARIABLE_PREFIX);
    let known: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
    if !looks_so || known.iter().any(|known| known == name) {
        return None;
    }
    let hint = match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("perhaps {near} is meant"),
        None => "`switchboard config-doc` lists all".to_owned(),
    };
    Some(format!("{}: there is no such setting; {hint}", shown(name)))
}

/// One setting with its value and where that comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The value that is in force, in canonical form.
    pub value: String,
    /// Where it comes from.
    pub source: Source,
}

/// All settings in force. A value; a changed one is a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    values: BTreeMap<&'static str, Resolved>,
}

impl Settings {
    /// Puts the sources together. What the database holds and this version can't read (a name it does not know, a value it
    /// refuses) is passed over, so that a node never fails by it; the names are given back to be logged.
    #[must_use]
    pub fn resolve<'a>(fixed: &Fixed, stored: impl IntoIterator<Item = (&'a str, &'a str)>) -> (Self, Vec<String>) {
        let mut values: BTreeMap<_, _> = SETTINGS
            .iter()
            .map(|setting| (setting.name, Resolved { value: setting.default.to_owned(), source: Source::Default }))
            .collect();
        let mut unread = Vec::new();
        for (name, text) in stored.into_iter().filter(|(name, _)| !HIDDEN.contains(name)) {
            match Setting::find(name).map(|setting| (setting, setting.kind.check(text))) {
                Some((setting, Ok(value))) => {
                    values.insert(setting.name, Resolved { value, source: Source::Database });
                }
                _ => unread.push(name.to_owned()),
            }
        }
        for (name, claims) in &fixed.claims {
            if let Some(claim) = claims.first() {
                values.insert(name, Resolved { value: claim.value.clone(), source: claim.source });
            }
        }
        (Self { values }, unread)
    }

    /// What of these does not go together.
    #[must_use]
    pub fn clashes(&self) -> Vec<Clash> {
        clashes(RULES, |name| self.text(name))
    }

    /// The setting of this name (one of [`crate::config::schema::name`]).
    ///
    /// # Panics
    /// If there is none: that is a mistake in the program, not of a user.
    #[must_use]
    pub fn get(&self, name: &str) -> &Resolved {
        self.values.get(name).expect("rooms ask only for settings that are declared")
    }

    /// Its text.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        &self.get(name).value
    }

    /// As a length of time.
    #[must_use]
    pub fn duration(&self, name: &str) -> Duration {
        parse_duration(self.text(name)).expect("values are checked before they are kept")
    }

    /// As a number of bytes.
    #[must_use]
    pub fn size(&self, name: &str) -> u64 {
        parse_size(self.text(name)).expect("values are checked before they are kept")
    }

    /// As networks.
    #[must_use]
    pub fn networks(&self, name: &str) -> Vec<ipnet::IpNet> {
        self.text(name).split(',').filter_map(|text| text.trim().parse().ok()).collect()
    }

    /// As a whole number.
    #[must_use]
    pub fn integer(&self, name: &str) -> i64 {
        self.text(name).parse().expect("values are checked before they are kept")
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::resolve(&Fixed::default(), []).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::name;

    #[test]
    fn flag_wins_over_environment_over_file_over_database_over_default() {
        let setting = Setting::find(name::POLL_INTERVAL).unwrap();
        let mut fixed = Fixed::default();
        let mut expected = vec![(Source::Default, "15s")];
        let winner = |fixed: &Fixed, stored: &[(&str, &str)]| {
            let (settings, _) = Settings::resolve(fixed, stored.iter().copied());
            settings.get(name::POLL_INTERVAL).clone()
        };
        assert_eq!(winner(&fixed, &[]).source, Source::Default);
        let stored = [(name::POLL_INTERVAL, "10s")];
        expected.insert(0, (Source::Database, "10s"));
        for (source, value) in [(Source::File, "20s"), (Source::Environment, "30s"), (Source::Flag, "40s")] {
            fixed.set(name::POLL_INTERVAL, value, source).unwrap();
            expected.insert(0, (source, value));
            let claims = fixed.claims(setting, Some("10s"));
            let found: Vec<_> = claims.iter().map(|claim| (claim.source, claim.value.as_str())).collect();
            assert_eq!(found, expected);
            assert_eq!(winner(&fixed, &stored), Resolved { value: value.to_owned(), source });
            assert!(source.locks());
        }
        assert_eq!(fixed.claim(name::POLL_INTERVAL).unwrap().place, "--set Service.PollInterval=…");
        assert_eq!(fixed.claim(name::STOP_PATIENCE), None);
    }

    #[test]
    fn two_settings_fixed_against_each_other_clash_and_one_alone_does_not() {
        let mut fixed = Fixed::default();
        fixed.set(name::SESSION_AGE, "1h", Source::File).unwrap();
        assert!(fixed.clashes().is_empty(), "what the database holds may be shorter");
        fixed.set(name::SESSION_IDLE, "2h", Source::Environment).unwrap();
        assert_eq!(fixed.clashes().len(), 1);
    }

    #[test]
    fn the_order_in_which_sources_are_read_changes_nothing() {
        let stored = [(name::POLL_INTERVAL, "10s"), (name::STOP_PATIENCE, "5s")];
        let mut fixed = Fixed::default();
        fixed.set("Service.PollInterval", "20s", Source::Environment).unwrap();
        fixed.set("Service.PollInterval", "30s", Source::File).unwrap();
        let (settings, unread) = Settings::resolve(&fixed, stored);
        assert_eq!(unread, Vec::<String>::new());
        assert_eq!(settings.get(name::POLL_INTERVAL), &Resolved { value: "20s".into(), source: Source::Environment });
        assert_eq!(settings.get(name::STOP_PATIENCE).source, Source::Database);
        assert_eq!(settings.get(name::LOG_AGE).source, Source::Default);
        assert_eq!(settings.duration(name::LOG_AGE), Duration::from_hours(7 * 24));
    }

    #[test]
    fn what_the_database_holds_and_nobody_can_read_is_passed_over_and_named() {
        let stored = [("Old.Setting", "1"), (name::POLL_INTERVAL, "never"), (name::FORMER_MESSENGER_KEY, "hidden")];
        let (settings, unread) = Settings::resolve(&Fixed::default(), stored);
        assert_eq!(unread, ["Old.Setting", name::POLL_INTERVAL]);
        assert_eq!(settings.get(name::POLL_INTERVAL).source, Source::Default);
    }

    #[test]
    fn a_misspelt_variable_is_named_with_a_hint() {
        for good in ["SWITCHBOARD_SETTING_SERVICE_POLLINTERVAL", "SWITCHBOARD_DATA", "PATH"] {
            assert_eq!(unknown_variable(good), None);
        }
        for bad in ["SWITCHBOARD_SETTING_SERVICE_POLINTERVAL", "switchboard_setting_service_pollinterval"] {
            let said = unknown_variable(bad).unwrap();
            assert!(
                said.starts_with(bad) && said.ends_with("perhaps SWITCHBOARD_SETTING_SERVICE_POLLINTERVAL is meant")
            );
        }
        assert!(unknown_variable("SWITCHBOARD_SETTING_NO_SUCH_THING").unwrap().ends_with("lists all"));
    }

    #[test]
    fn a_misspelt_name_gets_a_hint() {
        let error = Fixed::default().set("PollInterval", "1s", Source::File).unwrap_err().to_string();
        assert!(error.contains("Service.PollInterval"), "{error}");
    }
}
