//! Cuts a program's output into lines, however long they are and whatever bytes they hold, in bounded memory.

use crate::model::log_entry::{MAX_TEXT, SPLIT_MARK};

/// What a piece of a longer line may hold beside the mark.
const CUT: usize = MAX_TEXT - SPLIT_MARK.len();

/// One output of a program while it is read. Holds at most one piece of a line and what was fed last.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pending: Vec<u8>,
    /// The line's beginning has been given out already.
    begun: bool,
}

/// A line, or a piece of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece<'l> {
    /// At most [`MAX_TEXT`] bytes, without the line's end, ending with [`SPLIT_MARK`] if the line goes on. Bytes that are not
    /// UTF-8 are shown as U+FFFD; everything else is as the program wrote it.
    pub(crate) text: &'l str,
    /// Whether it is the line in full.
    pub(crate) whole: bool,
}

impl Lines {
    /// Takes the next bytes and gives out every piece that is complete with them.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], each: &mut impl FnMut(Piece<'_>)) {
        while let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
            self.pending.extend_from_slice(&bytes[..at]);
            bytes = &bytes[at + 1..];
            self.give_long(each);
            if self.pending.last() == Some(&b'\r') {
                self.pending.pop();
            }
            self.give_rest(each);
        }
        self.pending.extend_from_slice(bytes);
        self.give_long(each);
    }

    /// The output has ended: gives out a last line without an end.
    pub(crate) fn end(&mut self, each: &mut impl FnMut(Piece<'_>)) {
        if !self.pending.is_empty() {
            self.give_rest(each);
        }
    }

    /// Gives out the pieces of a line that is too long already.
    fn give_long(&mut self, each: &mut impl FnMut(Piece<'_>)) {
        let mut from = 0;
        while self.pending.len() - from > MAX_TEXT {
            let to = from + boundary(&self.pending[from..]);
            give(&self.pending[from..to], false, true, each);
            self.begun = true;
            from = to;
        }
        self.pending.drain(..from);
    }

    /// Gives out the end of a line, and is ready for the next.
    fn give_rest(&mut self, each: &mut impl FnMut(Piece<'_>)) {
        give(&self.pending, !self.begun, false, each);
        self.pending.clear();
        self.begun = false;
    }
}

/// Where bytes, longer than a piece, are cut: not within a character, if they are characters.
fn boundary(bytes: &[u8]) -> usize {
    (CUT - 3..=CUT).rev().find(|at| bytes[*at] & 0xc0 != 0x80).unwrap_or(CUT)
}

/// Gives out bytes as text; bytes that are not UTF-8 grow by that, so it may be more than one piece still.
fn give(bytes: &[u8], whole: bool, goes_on: bool, each: &mut impl FnMut(Piece<'_>)) {
    let text = String::from_utf8_lossy(bytes);
    let mut rest = &*text;
    let most = if goes_on { CUT } else { MAX_TEXT };
    while rest.len() > most {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(CUT));
        each(Piece { text: &format!("{piece}{SPLIT_MARK}"), whole: false });
        rest = after;
    }
    if goes_on {
        each(Piece { text: &format!("{rest}{SPLIT_MARK}"), whole: false });
    } else {
        each(Piece { text: rest, whole: whole && rest.len() == text.len() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&[u8]]) -> Vec<(String, bool)> {
        let mut lines = Lines::default();
        let mut out = Vec::new();
        let mut each = |piece: Piece<'_>| out.push((piece.text.to_owned(), piece.whole));
        for chunk in chunks {
            lines.feed(chunk, &mut each);
            assert!(lines.pending.len() <= MAX_TEXT);
        }
        lines.end(&mut each);
        out
    }

    fn texts(bytes: &[u8]) -> Vec<String> {
        cut(&[bytes]).into_iter().map(|(text, _)| text).collect()
    }

    #[test]
    fn lines_end_where_the_program_ends_them() {
        assert_eq!(texts(b"one\ntwo\r\n\nthree"), ["one", "two", "", "three"]);
        assert_eq!(texts(b""), Vec::<String>::new());
        assert_eq!(texts(b"\n"), [""]);
        assert_eq!(texts(b"10%\r20%\r\n"), ["10%\r20%"], "only a line's end is taken away");
    }

    #[test]
    fn bytes_come_in_any_portions() {
        let bytes = "erste Zeile\nzweite ä→𝄞\r\n\u{202e}<script>\u{1b}[31m\n".as_bytes();
        let all = cut(&[bytes]);
        assert_eq!(all[2].0, "\u{202e}<script>\u{1b}[31m", "nothing is taken out or escaped");
        for size in 1..bytes.len() {
            assert_eq!(cut(&bytes.chunks(size).collect::<Vec<_>>()), all, "portions of {size}");
        }
    }

    #[test]
    fn what_is_no_text_is_made_visible() {
        assert_eq!(texts(b"a\xff\xfeb\0c\n\xc3\n"), ["a\u{fffd}\u{fffd}b\0c", "\u{fffd}"]);
    }

    #[test]
    fn a_long_line_is_split_with_a_mark_and_loses_nothing() {
        for line in ["x".repeat(3 * MAX_TEXT + 5), "aä→𝄞".repeat(MAX_TEXT / 3), "→".repeat(MAX_TEXT)] {
            let pieces = cut(&line.as_bytes().chunks(8192).collect::<Vec<_>>());
            let (last, before) = pieces.split_last().unwrap();
            let mut joined = String::new();
            for (text, whole) in before {
                assert!(text.len() <= MAX_TEXT && text.len() > MAX_TEXT - 8 && !whole);
                joined.push_str(text.strip_suffix(SPLIT_MARK).unwrap());
            }
            assert!(!last.1);
            joined.push_str(&last.0);
            assert!(joined == line, "the pieces are the line");
        }
    }

    #[test]
    fn the_longest_line_is_still_whole_and_the_next_is_two() {
        let full = "x".repeat(MAX_TEXT);
        assert_eq!(cut(&[format!("{full}\nnext\n").as_bytes()]), [(full.clone(), true), ("next".to_owned(), true)]);
        assert_eq!(cut(&[format!("{full}x\nnext\n").as_bytes()]).len(), 3);
    }

    #[test]
    fn bytes_that_grow_stay_within_the_bound() {
        let pieces = cut(&[&vec![0xff; 3 * MAX_TEXT]]);
        assert!(pieces.iter().all(|(text, _)| text.len() <= MAX_TEXT));
        let shown: usize = pieces.iter().map(|(text, _)| text.matches('\u{fffd}').count()).sum();
        assert_eq!(shown, 3 * MAX_TEXT);
    }
}
