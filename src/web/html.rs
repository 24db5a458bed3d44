//! Text made safe for a page: escaped, and with what would act unseen (control and bidi characters) made visible.

use std::fmt::{self, Write as _};

use askama::filters::HtmlSafe;

use crate::base::visible::sign;

/// Markup that is finished: templates put it in as it is. Made only here, from escaped text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Html(String);

impl Html {
    /// Markup from a template that has been rendered, whose texts are escaped.
    pub(crate) const fn rendered(markup: String) -> Self {
        Self(markup)
    }

    /// As it stands in the page.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Html {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl HtmlSafe for Html {}

/// A text of unknown origin, for a page: escaped; control, bidi and zero-width characters stand as visible signs.
pub(crate) fn visible(text: &str) -> Html {
    let mut markup = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        push_visible(&mut markup, c);
    }
    Html(markup)
}

/// The same, with the colours a terminal would show (`ESC [ … m`); any other escape sequence stands as visible signs.
pub(crate) fn visible_with_colours(text: &str) -> Html {
    let mut markup = String::with_capacity(text.len() + 16);
    let mut style = Style::default();
    let mut open = false;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some((codes, after)) = c.eq(&'\u{1b}').then(|| colour_sequence(rest)).flatten() {
            if open {
                markup.push_str("</span>");
            }
            style.apply(codes);
            open = style.write_opening(&mut markup);
            rest = after;
            continue;
        }
        push_visible(&mut markup, c);
        rest = &rest[c.len_utf8()..];
    }
    if open {
        markup.push_str("</span>");
    }
    Html(markup)
}

fn push_visible(markup: &mut String, c: char) {
    match c {
        '&' => markup.push_str("&amp;"),
        '<' => markup.push_str("&lt;"),
        '>' => markup.push_str("&gt;"),
        '"' => markup.push_str("&quot;"),
        '\'' => markup.push_str("&#39;"),
        _ => match sign(c) {
            Some(sign) => {
                let _ = write!(markup, "<span class=\"ctrl\">{sign}</span>");
            }
            None => markup.push(c),
        },
    }
}

/// Splits `ESC [ codes m` off the front; none if it is something else or longer than any honest one.
fn colour_sequence(text: &str) -> Option<(&str, &str)> {
    let body = text.strip_prefix("\u{1b}[")?;
    let end = body.bytes().take(64).position(|b| !b.is_ascii_digit() && b != b';')?;
    (body.as_bytes()[end] == b'm').then(|| (&body[..end], &body[end + 1..]))
}

#[derive(Default)]
struct Style {
    foreground: Option<u8>,
    background: Option<u8>,
    bold: bool,
    dim: bool,
    italic: bool,
    underline: bool,
}

impl Style {
    fn apply(&mut self, codes: &str) {
        let mut codes = codes.split(';').map(|code| code.parse::<u16>().unwrap_or(0));
        while let Some(code) = codes.next() {
            match code {
                0 => *self = Self::default(),
                1 => self.bold = true,
                2 => self.dim = true,
                3 => self.italic = true,
                4 => self.underline = true,
                22 => (self.bold, self.dim) = (false, false),
                23 => self.italic = false,
                24 => self.underline = false,
                30..=37 => self.foreground = u8::try_from(code - 30).ok(),
                39 => self.foreground = None,
                40..=47 => self.background = u8::try_from(code - 40).ok(),
                49 => self.background = None,
                90..=97 => self.foreground = u8::try_from(code - 82).ok(),
                100..=107 => self.background = u8::try_from(code - 92).ok(),
                // 256 colours: only the sixteen named ones keep their colour, so that every one stays readable
                38 | 48 => {
                    let colour = match codes.next() {
                        Some(5) => codes.next().and_then(|n| u8::try_from(n).ok()).filter(|n| *n < 16),
                        Some(2) => codes.nth(2).and(None),
                        _ => None,
                    };
                    if code == 38 { self.foreground = colour } else { self.background = colour }
                }
                _ => {}
            }
        }
    }

    fn write_opening(&self, markup: &mut String) -> bool {
        let mut classes = String::new();
        for (on, class) in [
            (self.bold, "ansi-bold "),
            (self.dim, "ansi-dim "),
            (self.italic, "ansi-italic "),
            (self.underline, "ansi-underline "),
        ] {
            classes.push_str(if on { class } else { "" });
        }
        for (colour, ground) in [(self.foreground, "fg"), (self.background, "bg")] {
            if let Some(colour) = colour {
                let _ = write!(classes, "ansi-{ground}-{colour} ");
            }
        }
        if classes.is_empty() {
            return false;
        }
        let _ = write!(markup, "<span class=\"{}\">", classes.trim_end());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_unseen_is_seen_and_what_is_markup_is_text() {
        assert_eq!(visible("<b>&\"'").as_str(), "&lt;b&gt;&amp;&quot;&#39;");
        assert_eq!(visible("a\u{0}b\u{7f}").as_str(), "a<span class=\"ctrl\">␀</span>b<span class=\"ctrl\">␡</span>");
        assert_eq!(visible("\u{202e}x").as_str(), "<span class=\"ctrl\">⟦U+202E⟧</span>x");
        for c in ['\u{200b}', '\u{200e}', '\u{200f}', '\u{61c}', '\u{2066}', '\u{2069}', '\u{feff}', '\u{9b}'] {
            assert!(sign(c).is_some(), "{:04x}", u32::from(c));
        }
        assert_eq!(visible("plain\tü 漢 🙂").as_str(), "plain\tü 漢 🙂");
    }

    #[test]
    fn colours_become_classes_and_other_sequences_become_signs() {
        assert_eq!(
            visible_with_colours("\u{1b}[1;31mred\u{1b}[0m plain").as_str(),
            "<span class=\"ansi-bold ansi-fg-1\">red</span> plain"
        );
        assert_eq!(visible_with_colours("\u{1b}[2Jx").as_str(), "<span class=\"ctrl\">␛</span>[2Jx");
        assert_eq!(visible_with_colours("\u{1b}[31m<").as_str(), "<span class=\"ansi-fg-1\">&lt;</span>");
        assert_eq!(visible_with_colours("\u{1b}[38;5;200mx\u{1b}[38;2;1;2;3my").as_str(), "xy");
        assert_eq!(visible_with_colours("\u{1b}[").as_str(), "<span class=\"ctrl\">␛</span>[");
    }
}
