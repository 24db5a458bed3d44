//! Checks which lines a page or an address asks for, and makes a filter of it.

use regex::RegexBuilder;

use crate::base::id::ExecutionId;
use crate::live::filter::LineFilter;
use crate::web::viewer::wire::Wish;

/// The longest search, in characters.
const LONGEST_SEARCH: usize = 200;

/// The most memory a compiled search may take, in bytes.
const SEARCH_SIZE: usize = 256 << 10;

/// The most sources to choose.
const MOST_SOURCES: usize = 50;

/// A filter, and a text that is the same for the same filter.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) filter: LineFilter,
    pub(crate) key: std::sync::Arc<str>,
}

/// What is wrong with a wish: in which field, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) field: &'static str,
    pub(crate) text: String,
}

/// Makes the filter.
///
/// # Errors
/// What is wrong, and what is allowed.
pub(crate) fn check(wish: &Wish) -> Result<Wanted, Wrong> {
    let wrong = |field, text: String| Wrong { field, text };
    let level = match wish.level.as_deref() {
        None | Some("") => None,
        Some(text) => Some(text.parse().map_err(|error| wrong("level", format!("{error}")))?),
    };
    let sources: Vec<String> = wish.sources.iter().filter(|source| !source.is_empty()).cloned().collect();
    if sources.len() > MOST_SOURCES || sources.iter().any(|source| source.len() > 256) {
        return Err(wrong("source", format!("at most {MOST_SOURCES} sources of 256 bytes can be chosen")));
    }
    let search = match wish.q.as_deref() {
        None | Some("") => None,
        Some(text) if text.chars().count() > LONGEST_SEARCH => {
            return Err(wrong("q", format!("a search has at most {LONGEST_SEARCH} characters")));
        }
        Some(text) => {
            let search = RegexBuilder::new(text)
                // capitals in the search mean that case matters
                .case_insensitive(!text.chars().any(char::is_uppercase))
                .size_limit(SEARCH_SIZE)
                .dfa_size_limit(SEARCH_SIZE)
                .nest_limit(50)
                .build();
            Some(search.map_err(|error| wrong("q", why(&error)))?)
        }
    };
    let key = serde_json::to_string(wish).expect("texts and numbers are JSON").into();
    let execution = wish.execution.map(ExecutionId);
    Ok(Wanted { filter: LineFilter { level, sources, search, inverse: wish.inverse, execution }, key })
}

fn why(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => "this search is too complex; make it shorter".to_owned(),
        // the last line of the library's picture says what is wrong
        error => {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("this is no regular expression: {last} (write \\ before . * + ? ( ) [ ] {{ }} | ^ $ to mean them)")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::model::log_entry::{Level, LogEntry};

    fn entry(level: Level, source: &str, text: &str) -> LogEntry {
        LogEntry {
            time: Timestamp::from_micros(0),
            level,
            source: source.into(),
            execution: Some(ExecutionId(3)),
            stream: None,
            text: text.into(),
        }
    }

    fn search(q: &str) -> Wish {
        Wish { q: Some(q.into()), ..Wish::default() }
    }

    #[test]
    fn every_part_of_a_wish_counts() {
        let line = entry(Level::Warn, "disk-space", "94 % full");
        let hit = |wish: Wish| check(&wish).unwrap().filter.matches(&line);
        assert!(hit(Wish::default()));
        assert!(hit(Wish { level: Some("warn".into()), ..Wish::default() }));
        assert!(!hit(Wish { level: Some("error".into()), ..Wish::default() }));
        assert!(hit(Wish { sources: vec!["x".into(), "disk-space".into()], ..Wish::default() }));
        assert!(!hit(Wish { sources: vec!["x".into()], ..Wish::default() }));
        assert!(hit(Wish { execution: Some(3), ..Wish::default() }));
        assert!(!hit(Wish { execution: Some(4), ..Wish::default() }));
        assert!(hit(search(r"\d+ % f.l+$")) && hit(search("full")));
        assert!(!hit(search("FULL")), "capitals mean that case matters");
        assert!(!hit(Wish { inverse: true, ..search("full") }));
    }

    #[test]
    fn what_can_not_be_searched_is_refused_with_words() {
        let refused = |q: &str| check(&search(q)).unwrap_err();
        assert!(refused("a(b").text.contains("unclosed"), "{}", refused("a(b").text);
        assert!(refused(&"x".repeat(201)).text.contains("200"));
        assert!(refused(r"(\w{1000}){100}").text.contains("complex"));
        assert!(check(&search(&"(".repeat(150))).is_err());
        let wish = Wish { level: Some("loud".into()), ..Wish::default() };
        assert_eq!(check(&wish).unwrap_err().field, "level");
        let wish = Wish { sources: vec!["s".into(); 51], ..Wish::default() };
        assert_eq!(check(&wish).unwrap_err().field, "source");
    }
}
