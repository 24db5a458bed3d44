//! Reads the keys of one table of the file, each of its type, and notes what is wrong with them.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::problem::{Problems, nearest, shown};
use crate::config::value::{parse_duration, show_duration};

/// One table of the file.
pub(crate) struct Table<'t, 'i> {
    entries: &'t DeTable<'i>,
    at: usize,
    whose: String,
    known: &'static [&'static str],
}

impl<'t, 'i> Table<'t, 'i> {
    /// The table that starts at the byte `at`; `whose` stands before each problem, as ``job `backup`: ``.
    pub(crate) fn new(entries: &'t DeTable<'i>, at: usize, whose: String, known: &'static [&'static str]) -> Self {
        Self { entries, at, whose, known }
    }

    /// Notes every key that means nothing here.
    pub(crate) fn refuse_unknown(&self, problems: &mut Problems<'_>) {
        for (key, _) in self.entries {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let hint = nearest(name, self.known.iter().copied())
                .map_or_else(String::new, |near| format!("; perhaps `{near}` is meant"));
            let what = format!("{}unknown key `{}`{hint}", self.whose, shown(name));
            problems.add(key.span().start, what, self.known.join(", "));
        }
    }

    /// What stands before each problem of this table.
    pub(crate) fn whose(&self) -> &str {
        &self.whose
    }

    /// What the key holds, if it is given.
    pub(crate) fn get(&self, key: &str) -> Option<&'t Spanned<DeValue<'i>>> {
        self.entries.get(key)
    }

    /// Notes that something is wrong with the key's value: `what` follows its name.
    pub(crate) fn wrong(&self, key: &str, what: &str, allowed: &str, problems: &mut Problems<'_>) {
        let at = self.get(key).map_or(self.at, |value| value.span().start);
        problems.add(at, format!("{}`{key}` {what}", self.whose), allowed);
    }

    /// Notes that the key's value was refused: `what` is a sentence of its own.
    pub(crate) fn refused(&self, key: &str, what: &str, allowed: &str, problems: &mut Problems<'_>) {
        let at = self.get(key).map_or(self.at, |value| value.span().start);
        problems.add(at, format!("{}`{key}`: {what}", self.whose), allowed);
    }

    /// Notes that the key is not given but must be.
    pub(crate) fn missing(&self, key: &str, allowed: &str, problems: &mut Problems<'_>) {
        problems.add_missing(self.at, format!("{}`{key}` is missing", self.whose), allowed);
    }

    fn of_type<T>(
        &self,
        key: &str,
        allowed: &str,
        problems: &mut Problems<'_>,
        read: impl FnOnce(&'t DeValue<'i>) -> Option<T>,
    ) -> Option<T> {
        let value = self.get(key)?.get_ref();
        let read = read(value);
        if read.is_none() {
            self.wrong(key, &format!("is {}", kind(value)), allowed, problems);
        }
        read
    }

    /// A text.
    pub(crate) fn text(&self, key: &str, allowed: &str, problems: &mut Problems<'_>) -> Option<&'t str> {
        self.of_type(key, allowed, problems, DeValue::as_str)
    }

    /// A text of one line, without control characters, of at most `most` characters.
    pub(crate) fn line(&self, key: &str, most: usize, problems: &mut Problems<'_>) -> Option<&'t str> {
        let allowed = format!("one line of text, at most {most} characters");
        let text = self.text(key, &allowed, problems)?;
        let length = text.chars().count();
        if length > most {
            self.wrong(key, &format!("is {length} characters long"), &allowed, problems);
        } else if text.chars().any(char::is_control) {
            self.wrong(key, &format!("holds control characters (`{}`)", shown(text)), &allowed, problems);
        } else {
            return Some(text);
        }
        None
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self, key: &str, default: bool, problems: &mut Problems<'_>) -> bool {
        self.of_type(key, "true or false", problems, DeValue::as_bool).unwrap_or(default)
    }

    /// A whole number within `range`.
    pub(crate) fn integer(
        &self,
        key: &str,
        range: RangeInclusive<u32>,
        default: u32,
        problems: &mut Problems<'_>,
    ) -> u32 {
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        let Some(text) = self.of_type(key, &allowed, problems, integer_text) else { return default };
        text.parse().ok().filter(|number| range.contains(number)).unwrap_or_else(|| {
            self.wrong(key, &format!("is {}", shown(&text)), &allowed, problems);
            default
        })
    }

    /// A length of time within `range`: a text as `90s`, or a number of seconds.
    pub(crate) fn duration(
        &self,
        key: &str,
        range: RangeInclusive<Duration>,
        default: Duration,
        problems: &mut Problems<'_>,
    ) -> Duration {
        let (least, most) = (show_duration(*range.start()), show_duration(*range.end()));
        let allowed = format!("a time from {least} to {most}, as 90s, 15m, 12h or 7d");
        let text = self.of_type(key, &allowed, problems, |value| {
            value.as_str().map(str::to_owned).or_else(|| integer_text(value))
        });
        let Some(text) = text else { return default };
        parse_duration(&text).ok().filter(|duration| range.contains(duration)).unwrap_or_else(|| {
            self.wrong(key, &format!("is `{}`", shown(&text)), &allowed, problems);
            default
        })
    }

    /// A list of texts; what is no text is noted and left out.
    pub(crate) fn texts(&self, key: &str, allowed: &str, problems: &mut Problems<'_>) -> Option<Vec<&'t str>> {
        let list = self.of_type(key, allowed, problems, DeValue::as_array)?;
        let mut texts = Vec::new();
        for item in list {
            match item.get_ref().as_str() {
                Some(text) => texts.push(text),
                None => problems.add(
                    item.span().start,
                    format!("{}`{key}` holds {}", self.whose, kind(item.get_ref())),
                    allowed,
                ),
            }
        }
        Some(texts)
    }

    /// A list of whole numbers within `range`, none twice; what is none is noted and left out.
    pub(crate) fn integers(
        &self,
        key: &str,
        range: RangeInclusive<i32>,
        problems: &mut Problems<'_>,
    ) -> Option<Vec<i32>> {
        let allowed = format!("a list of whole numbers from {} to {}", range.start(), range.end());
        let list = self.of_type(key, &allowed, problems, DeValue::as_array)?;
        let mut numbers = Vec::new();
        for item in list {
            let text = integer_text(item.get_ref());
            let what =
                match text.as_deref().map(|text| (text, text.parse().ok().filter(|number| range.contains(number)))) {
                    Some((_, Some(number))) if !numbers.contains(&number) => {
                        numbers.push(number);
                        continue;
                    }
                    Some((_, Some(number))) => format!("holds {number} twice"),
                    Some((text, None)) => format!("holds {}", shown(text)),
                    None => format!("holds {}", kind(item.get_ref())),
                };
            problems.add(item.span().start, format!("{}`{key}` {what}", self.whose), &*allowed);
        }
        Some(numbers)
    }
}

/// A number of the file in decimal digits.
pub(crate) fn integer_text(value: &DeValue<'_>) -> Option<String> {
    let integer = value.as_integer()?;
    // more digits than fit are kept as they stand, to be shown
    Some(
        i64::from_str_radix(integer.as_str(), integer.radix())
            .map_or_else(|_| integer.as_str().to_owned(), |number| number.to_string()),
    )
}

/// What a value is, in words.
pub(crate) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
