//! Settings as a file writes them: `[settings]` of the configuration file, and a file that is imported.

use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::export::PLACEHOLDER;
use crate::config::file::table::{Table, integer_text, kind};
use crate::config::problem::{Problem, Problems, shown, shown_words};
use crate::config::schema::Setting;
use crate::config::settings::{Fixed, Source};

/// A setting in a file; its name is known and its value checked.
#[derive(Clone, PartialEq, Eq)]
pub struct FileSetting {
    /// Its name, as declared.
    pub name: &'static str,
    /// Its value, as written.
    pub value: String,
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
}

impl fmt::Debug for FileSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = Setting::find(self.name).is_none_or(|setting| setting.secret);
        let value = if secret { "…" } else { &self.value };
        write!(f, "{}:{} {} = {value:?}", self.line, self.column, self.name)
    }
}

impl FileSetting {
    /// Whether it stands for a secret that is to stay as it is.
    #[must_use]
    pub fn is_placeholder(&self) -> bool {
        self.value == PLACEHOLDER && Setting::find(self.name).is_some_and(|setting| setting.secret)
    }
}

/// What a file may say of secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secrets {
    /// Nothing: others can read it.
    Refused,
    /// Their values.
    Allowed,
    /// Their values, or a placeholder that leaves them as they are.
    Placeholders,
}

impl Secrets {
    /// Of the configuration file; `private` if only its owner can read it.
    pub(super) const fn of_file(private: bool) -> Self {
        if private { Self::Allowed } else { Self::Refused }
    }
}

/// Reads a file that is to be imported, `[settings]` or the lines alone: what can be read, and everything that is wrong.
#[must_use]
pub fn read_import(text: &str) -> (Vec<FileSetting>, Vec<Problem>) {
    let mut problems = Problems::new("the import".to_owned(), text);
    let (root, unread) = DeTable::parse_recoverable(text);
    for error in unread {
        problems.add_unread(error.span().map_or(0, |span| span.start), format!("can't be read: {}", error.message()));
    }
    let root = root.get_ref();
    let settings = if root.get("settings").is_some() {
        let table = Table::new(root, 0, String::new(), &["settings"]);
        table.refuse_unknown(&mut problems);
        read_table(&table, Secrets::Placeholders, &mut problems)
    } else {
        read_entries(root, Secrets::Placeholders, &mut problems)
    };
    (settings, problems.into_sorted())
}

/// Reads `[settings]` of a table.
pub(super) fn read_table(table: &Table<'_, '_>, secrets: Secrets, problems: &mut Problems<'_>) -> Vec<FileSetting> {
    let Some(value) = table.get("settings") else { return Vec::new() };
    let allowed = "lines as \"Service.PollInterval\" = \"15s\"";
    let Some(entries) = value.get_ref().as_table() else {
        table.wrong("settings", &format!("is {}", kind(value.get_ref())), allowed, problems);
        return Vec::new();
    };
    read_entries(entries, secrets, problems)
}

/// Reads names and values of settings.
fn read_entries(entries: &DeTable<'_>, secrets: Secrets, problems: &mut Problems<'_>) -> Vec<FileSetting> {
    // without quotes, TOML takes the name's dot for a table in a table
    let mut flat = Vec::new();
    for (key, value) in entries {
        match value.get_ref().as_table() {
            Some(inner) => {
                flat.extend(
                    inner
                        .iter()
                        .map(|(last, value)| (format!("{}.{}", key.get_ref(), last.get_ref()), last.span(), value)),
                );
            }
            None => flat.push((key.get_ref().clone().into_owned(), key.span(), value)),
        }
    }
    flat.sort_by_key(|(_, span, _)| span.start);
    let mut settings: Vec<FileSetting> = Vec::new();
    for (name, span, value) in flat {
        if let Some(setting) = read_setting(&name, span.start, value, secrets, problems) {
            if let Some(first) = settings.iter().find(|known| known.name == setting.name) {
                let what = format!("{} is given twice, first in line {}", setting.name, first.line);
                problems.add(span.start, what, "each setting once, in any case");
            } else {
                settings.push(setting);
            }
        }
    }
    settings
}

fn read_setting(
    name: &str,
    at: usize,
    value: &Spanned<DeValue<'_>>,
    secrets: Secrets,
    problems: &mut Problems<'_>,
) -> Option<FileSetting> {
    let Some(setting) = Setting::find(name) else {
        let what = crate::config::settings::unknown_setting(&shown(name));
        problems.add(at, what, "the names of settings, as \"Service.PollInterval\"");
        return None;
    };
    if setting.secret && secrets == Secrets::Refused {
        let what = format!("{} is secret, and others can read this file; `chmod 600` it", setting.name);
        problems.add(at, what, "secrets only in a file that no one but its owner can read");
        return None;
    }
    let text = match value.get_ref() {
        DeValue::String(text) => text.clone().into_owned(),
        DeValue::Boolean(yes) => yes.to_string(),
        other => {
            let Some(text) = integer_text(other) else {
                let what = format!("{} is {}", setting.name, kind(other));
                problems.add(value.span().start, what, setting.kind.allowed());
                return None;
            };
            text
        }
    };
    let (line, column) = problems.position(at);
    if setting.secret && secrets == Secrets::Placeholders && text == PLACEHOLDER {
        return Some(FileSetting { name: setting.name, value: text, line, column });
    }
    if let Err(error) = Fixed::default().set(setting.name, &text, Source::File) {
        problems.add(
            value.span().start,
            format!("{}: {}", setting.name, shown_words(&error.to_string())),
            setting.kind.allowed(),
        );
        return None;
    }
    Some(FileSetting { name: setting.name, value: text, line, column })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_is_read_with_and_without_a_head() {
        let lines = "Service.PollInterval = \"5s\"\n\"Service.MessengerKey\" = \"(secret)\"\nDiagnostics.Kept = 50\n";
        for text in [lines.to_owned(), format!("[settings]\n{lines}")] {
            let (settings, problems) = read_import(&text);
            assert_eq!(problems, []);
            let found: Vec<_> = settings.iter().map(|s| (s.name, s.value.as_str(), s.is_placeholder())).collect();
            assert_eq!(
                found,
                [
                    ("Service.PollInterval", "5s", false),
                    ("Service.MessengerKey", "(secret)", true),
                    ("Diagnostics.Kept", "50", false)
                ]
            );
        }
    }

    #[test]
    fn everything_wrong_with_an_import_is_told_at_once_by_line() {
        let text = "Service.PolInterval = \"5s\"\nService.PollInterval = \"never\"\nService.StopPatience = \"9s\"\n\
                    Service.MessengerKey = \"hunter2\"\nLog.RingLines = [1]\nservice.stoppatience = \"8s\"\n";
        let (settings, problems) = read_import(text);
        assert_eq!(settings.len(), 1, "what can be read is read: {settings:?}");
        assert_eq!(problems.iter().map(|problem| problem.line).collect::<Vec<_>>(), [1, 2, 4, 5, 6]);
        assert!(!problems.iter().any(|problem| problem.to_string().contains("hunter2")));
    }

    #[test]
    fn only_a_secret_has_a_placeholder() {
        let (settings, problems) = read_import("Service.PollInterval = \"(secret)\"");
        assert!(settings.is_empty() && problems.len() == 1);
    }
}
