//! What pages say, one file per language. English is the reference: another language fills the same [`Texts`].
//!
//! `{name}` is a place for a value; `one|many` are the two forms of a counted text (see `phrase`).

mod en;

pub(crate) use en::Texts;

/// English.
pub(crate) static EN: &Texts = &en::ENGLISH;

impl Texts {
    /// What the page of a problem with this status is called.
    pub(crate) const fn error_title(&self, status: u16) -> &'static str {
        match status {
            401 => self.title_401,
            403 => self.title_403,
            404 | 405 => self.title_404,
            409 => self.title_409,
            410 => self.title_410,
            413 => self.title_413,
            422 => self.title_422,
            429 => self.title_429,
            503 => self.title_503,
            500..=599 => self.title_500,
            _ => self.title_400,
        }
    }
}
