//! Characters that would act unseen on a terminal or a page, made visible.

use std::borrow::Cow;

/// The sign that stands for a character which would act unseen (control characters but the tab, those that turn the order of
/// letters round, those without width); none for all others.
#[must_use]
pub fn sign(c: char) -> Option<String> {
    match c {
        '\t' => None,
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).map(String::from),
        '\u{7f}' => Some("\u{2421}".to_owned()),
        '\u{80}'..='\u{9f}'
        | '\u{ad}'
        | '\u{61c}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' => Some(format!("⟦U+{:04X}⟧", u32::from(c))),
        _ => None,
    }
}

/// The text, for a terminal: it obeys nothing in it.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| sign(c).is_none()) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match sign(c) {
            Some(sign) => shown.push_str(&sign),
            None => shown.push(c),
        }
    }
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_nothing_in_a_line() {
        assert_eq!(visible("plain\tü 漢"), "plain\tü 漢");
        assert_eq!(visible("\u{1b}[31mred\u{7}\u{7f}"), "␛[31mred␇␡");
        assert_eq!(visible("a\u{202e}b\u{2066}c\u{9b}d"), "a⟦U+202E⟧b⟦U+2066⟧c⟦U+009B⟧d");
        assert_eq!(visible("one\rtwo\nthree"), "one␍two␊three");
    }

    #[test]
    fn no_control_character_is_left() {
        let all: String = (0..=0x1_0000).filter_map(char::from_u32).collect();
        assert!(!visible(&all).chars().any(|c| c.is_control() && c != '\t'));
    }
}
