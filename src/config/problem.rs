//! What is wrong in the configuration file: where, what, and what is allowed instead.

use std::fmt;

/// One thing wrong in the configuration file. All of them are listed at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1; 0 if the problem is the file itself.
    pub line: usize,
    /// The character in the line, from 1; 0 if the problem is the file itself.
    pub column: usize,
    /// What is wrong, in words.
    pub what: String,
    /// What is allowed there; empty if `what` says it all.
    pub allowed: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.what)?;
        if !self.allowed.is_empty() {
            write!(f, "; allowed: {}", self.allowed)?;
        }
        Ok(())
    }
}

/// The problems of one file while it is read.
#[derive(Debug)]
pub(crate) struct Problems<'t> {
    file: String,
    text: &'t str,
    found: Vec<Problem>,
    /// The lines that could not be read at all.
    unread: Vec<usize>,
    /// How many more there are than are kept.
    more: usize,
}

/// So many problems are listed; of further ones only their number.
const LISTED: usize = 100;

impl<'t> Problems<'t> {
    /// None yet in this file, which holds `text`.
    pub(crate) fn new(file: String, text: &'t str) -> Self {
        Self { file, text, found: Vec::new(), unread: Vec::new(), more: 0 }
    }

    /// Notes that the text can't be read at the byte `at`.
    pub(crate) fn add_unread(&mut self, at: usize, what: impl Into<String>) {
        self.add(at, what, "");
        if self.found.len() < LISTED {
            self.unread.push(self.position(at).0);
        }
    }

    /// Notes that something is not there; not if lines could not be read, for it may stand there.
    pub(crate) fn add_missing(&mut self, at: usize, what: impl Into<String>, allowed: impl Into<String>) {
        if self.unread.is_empty() {
            self.add(at, what, allowed);
        }
    }

    /// Notes what is wrong at the byte `at` of the text; not if its line could not be read, for then it says nothing new.
    pub(crate) fn add(&mut self, at: usize, what: impl Into<String>, allowed: impl Into<String>) {
        if self.found.len() == LISTED {
            self.more += 1;
            return;
        }
        let (line, column) = self.position(at);
        if self.unread.contains(&line) {
            return;
        }
        self.found.push(Problem { file: self.file.clone(), line, column, what: what.into(), allowed: allowed.into() });
    }

    /// Where the byte `at` of the text is: line and column, from 1.
    pub(crate) fn position(&self, at: usize) -> (usize, usize) {
        position(self.text.as_bytes(), at)
    }

    /// Whether nothing is wrong so far.
    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// All of them, in the order of the file, none twice.
    pub(crate) fn into_sorted(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|problem| (problem.line, problem.column));
        self.found.dedup();
        if self.more > 0 {
            let what = format!("has {} more problems", self.more);
            self.found.push(Problem { file: self.file, line: 0, column: 0, what, allowed: String::new() });
        }
        self.found
    }
}

/// Line and column, both from 1, of the byte `at`; columns count characters.
pub(crate) fn position(text: &[u8], at: usize) -> (usize, usize) {
    let before = &text[..at.min(text.len())];
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let line = before.split(|byte| *byte == b'\n').count();
    (line, String::from_utf8_lossy(&before[line_start..]).chars().count() + 1)
}

/// The longest piece of somebody's text that a problem repeats, in characters.
const SHOWN: usize = 60;

/// Somebody's text, fit to be shown in one line of a terminal: shortened, and what can't be seen (control characters, those
/// that turn the direction of writing) made visible.
pub(crate) fn shown(text: &str) -> String {
    let mut out = String::new();
    for (at, c) in text.chars().enumerate() {
        if at == SHOWN {
            return format!("{out}… ({} characters)", text.chars().count());
        }
        if c.is_control() || is_invisible(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// As [`shown`], word by word: for a sentence of ours that repeats somebody's text.
pub(crate) fn shown_words(text: &str) -> String {
    text.split(' ').map(shown).collect::<Vec<_>>().join(" ")
}

/// Whether a character is not seen but changes what is (bidirectional marks, zero-width ones, line separators).
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{061c}' | '\u{feff}')
}

/// The word among `known` that was probably meant, if one is near.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // a longer text is no misspelling, and the table below would grow with it
    if word.is_empty() || word.len() > 100 {
        return None;
    }
    let word = word.to_lowercase();
    let tolerance = (word.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= tolerance)
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many characters have to be changed, put in or taken out.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_with_its_place() {
        let mut problems = Problems::new("switchboard.toml".into(), "a = 1\nää = 2\n");
        problems.add(11, "is wrong", "something else");
        let found = problems.into_sorted();
        assert_eq!(found[0].to_string(), "switchboard.toml:2:4: is wrong; allowed: something else");
        let whole = Problem { line: 0, column: 0, allowed: String::new(), ..found[0].clone() };
        assert_eq!(whole.to_string(), "switchboard.toml: is wrong");
    }

    #[test]
    fn what_somebody_wrote_is_shown_short_and_visible() {
        assert_eq!(shown("disk\u{7}\u{202e}space"), "disk\\u{7}\\u{202e}space");
        let long = shown(&"x".repeat(1000));
        assert!(long.ends_with("… (1000 characters)") && long.chars().count() < 90, "{long}");
        assert_eq!(shown("a\nb\u{1b}[31m"), "a\\u{a}b\\u{1b}[31m");
    }

    #[test]
    fn a_misspelt_word_is_recognised_and_a_strange_one_is_not() {
        let known = ["name", "schedule", "timeout", "time_zone"];
        assert_eq!(nearest("shedule", known), Some("schedule"));
        assert_eq!(nearest("Timezone", known), Some("time_zone"));
        assert_eq!(nearest("nmae", known), None, "two letters of four is too far");
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest(&"schedule".repeat(1000), known), None);
    }
}
