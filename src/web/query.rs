//! What the address of a poll or of a plain text asks for, every wrong value refused in words.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;

use crate::base::id::{BadCursor, Cursor};
use crate::web::WebState;
use crate::web::viewer::admission::Refused;
use crate::web::viewer::followed::Followed;
use crate::web::viewer::wire::Wish;
use crate::web::viewer::wish::{self, Wanted};

/// The names and values behind the `?`. A name that means nothing here is passed over: pages hand their own address on.
#[derive(Debug, Default)]
pub(crate) struct Asked(Vec<(String, String)>);

impl FromRequestParts<WebState> for Asked {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> Result<Self, Refused> {
        let Query(pairs) = Query::from_request_parts(parts, state)
            .await
            .map_err(|error| Refused::bad_request(format!("the address can't be read: {}", error.body_text())))?;
        Ok(Self(pairs))
    }
}

impl Asked {
    /// Every value of this name that is not empty.
    fn all<'a>(&'a self, name: &'static str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, value)| known == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// The value of this name, if there is one.
    fn one(&self, name: &'static str) -> Result<Option<&str>, Refused> {
        let mut all = self.all(name);
        let first = all.next();
        if all.next().is_some() {
            return Err(Refused::bad_request(format!("{name}: only one value is allowed here")));
        }
        Ok(first)
    }

    /// Whether this is asked for.
    pub(crate) fn switch(&self, name: &'static str) -> Result<bool, Refused> {
        match self.one(name)? {
            None | Some("0") => Ok(false),
            Some("1") => Ok(true),
            Some(other) => Err(bad(name, other, "write 1 for yes, 0 or nothing for no")),
        }
    }

    /// A whole number.
    pub(crate) fn number<N: std::str::FromStr>(&self, name: &'static str) -> Result<Option<N>, Refused> {
        let number = |text: &str| text.parse().map_err(|_| bad(name, text, "a whole number is expected"));
        self.one(name)?.map(number).transpose()
    }

    /// The one dispatcher the status is wanted of, and the `mark` of the history that is known.
    pub(crate) fn followed(&self) -> Result<Option<Followed>, Refused> {
        let Some(name) = self.one("dispatcher")? else { return Ok(None) };
        let mark = self.one("history")?.map(str::to_owned);
        let bad = |text| Refused::bad_request(format!("dispatcher: {text}"));
        Followed::new(name, mark).map(Some).map_err(bad)
    }

    /// Which lines, and after which place.
    pub(crate) fn lines(&self) -> Result<(Wanted, Option<Cursor>), Refused> {
        let wish = Wish {
            level: self.one("level")?.map(str::to_owned),
            sources: self.all("source").flat_map(|names| names.split(',')).map(str::to_owned).collect(),
            q: self.one("q")?.map(str::to_owned),
            inverse: self.switch("inverse")?,
            execution: self.number("execution")?,
        };
        let wanted =
            wish::check(&wish).map_err(|wrong| Refused::bad_request(format!("{}: {}", wrong.field, wrong.text)))?;
        let place = |error: BadCursor| Refused::bad_request(format!("since: {error}"));
        Ok((wanted, self.one("since")?.map(str::parse).transpose().map_err(place)?))
    }
}

fn bad(name: &str, value: &str, allowed: &str) -> Refused {
    let shown: String = value.chars().take(60).collect();
    Refused::bad_request(format!("{name}: `{shown}` is not allowed; {allowed}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(&str, &str)]) -> Asked {
        Asked(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn values_are_read_or_refused_with_what_is_allowed() {
        let good = asked(&[("level", "warn"), ("source", "a,b"), ("source", "c"), ("execution", ""), ("inverse", "1")]);
        let (wanted, since) = good.lines().unwrap();
        assert_eq!((wanted.filter.sources.len(), wanted.filter.inverse, since), (3, true, None));
        for (name, value, word) in [
            ("level", "loud", "trace, debug"),
            ("execution", "x", "whole number"),
            ("inverse", "yes", "write 1"),
            ("since", "x:y", "since"),
            ("q", "(", "unclosed"),
        ] {
            let text = asked(&[(name, value)]).lines().unwrap_err().text().to_owned();
            assert!(text.starts_with(name) && text.contains(word), "{text}");
        }
        let twice = asked(&[("level", "warn"), ("level", "info")]).lines().unwrap_err().text().to_owned();
        assert!(twice.contains("only one"), "{twice}");
    }
}
