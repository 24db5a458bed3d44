//! An error and its causes in one line, each said once.
//!
//! The rule of the house: an error's own text says what failed, never why; why is its `source`. Where an error is handled (logged,
//! printed, shown to administrators) the whole chain is written, by [`chain`]. Errors of libraries often repeat their source in
//! their own text; that is why a cause that was said already is left out.

use std::error::Error;

/// The error with its causes: `what failed: why: why that`.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !said.contains(&text) {
            said.push_str(": ");
            said.push_str(&text);
        }
        next = cause.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Failure(&'static str, Option<Box<Failure>>);

    impl fmt::Display for Failure {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Failure {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    #[test]
    fn every_cause_is_said_once() {
        let of = |texts: &[&'static str]| {
            let failure = texts.iter().rev().fold(None, |cause, text| Some(Box::new(Failure(text, cause)))).unwrap();
            chain(&*failure)
        };
        assert_eq!(of(&["the file can't be read"]), "the file can't be read");
        assert_eq!(of(&["not saved", "the disk failed", "error 5"]), "not saved: the disk failed: error 5");
        assert_eq!(of(&["not saved", "the disk failed: error 5", "error 5"]), "not saved: the disk failed: error 5");
    }
}
