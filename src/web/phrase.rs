//! Sentences with places for values: `paused by {who} {since}`, so that every language orders them as it likes.

use std::fmt;

use askama::filters::HtmlSafe;

use crate::web::html::{Html, visible};

/// A sentence, its values filled in. Displayed it is safe markup; [`Phrase::plain`] is for JSON and attributes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Phrase {
    pattern: &'static str,
    values: Vec<(&'static str, Html, String)>,
}

/// Texts that take values.
pub(crate) trait Fill {
    /// Puts a text in the place of `{name}`.
    fn with(self, name: &'static str, value: impl fmt::Display) -> Phrase;

    /// Puts markup in the place of `{name}`.
    fn markup(self, name: &'static str, value: Html) -> Phrase;

    /// Chooses between `one|many` by the number, and puts it in the place of `{n}`.
    fn count(self, n: u64) -> Phrase;
}

impl Fill for &'static str {
    fn with(self, name: &'static str, value: impl fmt::Display) -> Phrase {
        Phrase::from(self).with(name, value)
    }

    fn markup(self, name: &'static str, value: Html) -> Phrase {
        Phrase::from(self).markup(name, value)
    }

    fn count(self, n: u64) -> Phrase {
        let (one, many) = self.split_once('|').unwrap_or((self, self));
        Phrase::from(if n == 1 { one } else { many }).with("n", n)
    }
}

impl Fill for Phrase {
    fn with(mut self, name: &'static str, value: impl fmt::Display) -> Phrase {
        let text = value.to_string();
        self.values.push((name, visible(&text), text));
        self
    }

    fn markup(mut self, name: &'static str, value: Html) -> Phrase {
        let text = without_tags(value.as_str());
        self.values.push((name, value, text));
        self
    }

    fn count(self, n: u64) -> Phrase {
        self.with("n", n)
    }
}

impl From<&'static str> for Phrase {
    fn from(pattern: &'static str) -> Self {
        Self { pattern, values: Vec::new() }
    }
}

impl Phrase {
    /// As plain text, not escaped.
    pub(crate) fn plain(&self) -> String {
        let mut text = String::new();
        let _ = self.walk(&mut text, fmt::Write::write_str, |out, (_, _, plain)| fmt::Write::write_str(out, plain));
        text
    }

    fn walk<W>(
        &self,
        out: &mut W,
        literal: impl Fn(&mut W, &str) -> fmt::Result,
        value: impl Fn(&mut W, &(&'static str, Html, String)) -> fmt::Result,
    ) -> fmt::Result {
        let mut rest = self.pattern;
        while let Some((before, after)) = rest.split_once('{') {
            literal(out, before)?;
            let (name, behind) = after.split_once('}').unwrap_or((after, ""));
            if let Some(found) = self.values.iter().find(|(known, ..)| *known == name) {
                value(out, found)?;
            }
            rest = behind;
        }
        literal(out, rest)
    }
}

impl fmt::Display for Phrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.walk(
            f,
            |out, literal| fmt::Display::fmt(&visible(literal), out),
            |out, (_, markup, _)| fmt::Display::fmt(markup, out),
        )
    }
}

impl HtmlSafe for Phrase {}

/// The text of finished markup, as attributes and JSON want it.
fn without_tags(markup: &str) -> String {
    let mut text = String::with_capacity(markup.len());
    let mut inside = false;
    for c in markup.chars() {
        match c {
            '<' => inside = true,
            '>' => inside = false,
            _ if !inside => text.push(c),
            _ => {}
        }
    }
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#39;", "'").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped_in_markup_and_plain_in_text() {
        let phrase = "paused by {who}, {when}".with("who", "<Ann>").markup("when", Html::rendered("<b>now</b>".into()));
        assert_eq!(phrase.to_string(), "paused by &lt;Ann&gt;, <b>now</b>");
        assert_eq!(phrase.plain(), "paused by <Ann>, now");
    }

    #[test]
    fn numbers_choose_their_form() {
        assert_eq!("{n} run|{n} runs".count(1).plain(), "1 run");
        assert_eq!("{n} run|{n} runs".count(0).plain(), "0 runs");
    }

    #[test]
    fn a_value_is_never_taken_for_a_pattern() {
        assert_eq!("{a} {b}".with("a", "{b}").with("b", 2).plain(), "{b} 2");
    }
}
