//! Splits a text into lines of a log: at line breaks, and where a line is too long.

use crate::model::log_entry::{MAX_TEXT, SPLIT_MARK};

/// Gives each line of `text` to `each`: one per line break, and one for every [`MAX_TEXT`] bytes of a line longer than that, all
/// but the last of which end with [`SPLIT_MARK`]. A text without any line is one empty line; a break at the end begins no line.
pub(crate) fn each_line(text: &str, mut each: impl FnMut(Box<str>)) {
    // most texts are one short line: no search for the pieces of it
    if text.len() <= MAX_TEXT && !text.bytes().any(|byte| byte == b'\n') {
        each(text.strip_suffix('\r').unwrap_or(text).into());
        return;
    }
    let text = text.strip_suffix('\n').unwrap_or(text);
    for line in text.split('\n') {
        let mut rest = line.strip_suffix('\r').unwrap_or(line);
        while rest.len() > MAX_TEXT {
            let end = rest.floor_char_boundary(MAX_TEXT - SPLIT_MARK.len());
            let mut piece = String::with_capacity(MAX_TEXT);
            piece.push_str(&rest[..end]);
            piece.push_str(SPLIT_MARK);
            each(piece.into());
            rest = &rest[end..];
        }
        each(rest.into());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        each_line(text, |line| lines.push(line.into()));
        lines
    }

    #[test]
    fn a_break_ends_a_line() {
        assert_eq!(lines("one"), ["one"]);
        assert_eq!(lines("one\ntwo\r\n\nfour\n"), ["one", "two", "", "four"]);
        assert_eq!(lines(""), [""]);
        assert_eq!(lines("\n"), [""]);
        assert_eq!(lines("bare\r"), ["bare"]);
    }

    #[test]
    fn a_long_line_is_split_between_characters_and_says_so() {
        let long = "ä".repeat(MAX_TEXT);
        let lines = lines(&long);
        assert!(lines.len() >= 3);
        for (at, line) in lines.iter().enumerate() {
            assert!(line.len() <= MAX_TEXT);
            assert_eq!(line.ends_with(SPLIT_MARK), at + 1 < lines.len(), "line {at}");
        }
        let joined: String = lines.iter().map(|line| line.strip_suffix(SPLIT_MARK).unwrap_or(line)).collect();
        assert_eq!(joined, long);
    }

    proptest! {
        #[test]
        fn no_line_is_too_long_or_broken(text in "(\\PC|\n|\r){0,200}", times in 1_usize..400) {
            for line in lines(&text.repeat(times)) {
                prop_assert!(line.len() <= MAX_TEXT && !line.contains('\n'));
            }
        }
    }
}
