//! What stands in a page's address: read as the page needs it, or refused with what is allowed. Never the framework's own words.

use std::fmt::Display;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use serde::forward_to_deserialize_any;

use crate::base::id::ExecutionId;
use crate::web::WebState;
use crate::web::notice::DoneQuery;
use crate::web::phrase::{Fill as _, Phrase};
use crate::web::problem::Problem;
use crate::web::texts::EN;

/// What may stand behind the `?` of every page: what came of the action that led there.
const EVERYWHERE: [&str; 2] = ["done", "n"];

/// What stands in the place of a route's parameters: text.
pub(crate) struct InPath<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<WebState> for InPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            // it is no UTF-8
            Err(_) => Err(bad(EN.path_unreadable)),
        }
    }
}

/// The execution that a path names.
pub(crate) struct OfExecution(pub(crate) ExecutionId);

impl FromRequestParts<WebState> for OfExecution {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> Result<Self, Problem> {
        let InPath(text) = InPath::<String>::from_request_parts(parts, state).await?;
        match text.parse::<i64>() {
            Ok(id) if id > 0 => Ok(Self(ExecutionId(id))),
            _ => Err(Problem::new(StatusCode::NOT_FOUND, EN.no_execution_number.with("text", short(&text)))),
        }
    }
}

/// What stands behind the `?`: what the page takes (the fields of `T`), and what came of the action that led to it. Anything
/// else is refused, so that a misspelt filter is not taken for none.
pub(crate) struct Behind<T>(pub(crate) T, pub(crate) DoneQuery);

/// For pages that take nothing else.
#[derive(Debug, Default, serde::Deserialize)]
pub(crate) struct Nothing {}

impl<T: DeserializeOwned> FromRequestParts<WebState> for Behind<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &WebState) -> Result<Self, Problem> {
        read(&parts.uri)
    }
}

fn read<T: DeserializeOwned>(uri: &Uri) -> Result<Behind<T>, Problem> {
    let known = names::<T>();
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|_| bad(EN.query_unreadable))?;
    for (at, (name, _)) in pairs.iter().enumerate() {
        if !known.contains(&name.as_str()) && !EVERYWHERE.contains(&name.as_str()) {
            let text = if known.is_empty() { EN.query_takes_nothing } else { EN.query_unknown };
            return Err(bad(text.with("name", short(name)).with("allowed", known.join(", "))));
        }
        if pairs[..at].iter().any(|(before, _)| before == name) {
            return Err(bad(EN.query_twice.with("name", name)));
        }
    }
    let Query(asked) = Query::try_from_uri(uri).map_err(|error| bad(EN.query_unfit.with("why", error.body_text())))?;
    let Query(done) = Query::try_from_uri(uri).map_err(|_| bad(EN.query_unreadable))?;
    Ok(Behind(asked, done))
}

/// A word of a filter; none if it is empty.
///
/// # Errors
/// What is wrong with it, and what is allowed.
pub(crate) fn word<T: FromStr<Err: Display>>(name: &'static str, text: &str) -> Result<Option<T>, Problem> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|why| bad(EN.filter_unfit.with("name", name).with("why", why)))
}

/// The number that a page begins before; none if it is empty.
///
/// # Errors
/// If it is none.
pub(crate) fn before(text: &str) -> Result<Option<i64>, Problem> {
    match text.parse() {
        _ if text.is_empty() => Ok(None),
        Ok(number) if number > 0 => Ok(Some(number)),
        _ => Err(bad(EN.before_unfit.with("text", short(text)))),
    }
}

fn bad(text: impl Into<Phrase>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, text)
}

/// Somebody's text, short enough to be repeated.
fn short(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// The names of a struct's fields, so that what a page takes is declared once.
fn names<'de, T: de::Deserialize<'de>>() -> &'static [&'static str] {
    struct Probe<'n>(&'n mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Probe<'_> {
        type Error = de::value::Error;

        fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
            Err(de::Error::custom("only structs have names"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _name: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Self::Error> {
            *self.0 = fields;
            self.deserialize_any(visitor)
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut found: &'static [&'static str] = &[];
    // it always fails; the names were seen before
    let _ = T::deserialize(Probe(&mut found));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::execution::Outcome;

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(default)]
    struct Filter {
        outcome: String,
        page: Option<u8>,
    }

    fn asked(text: &str) -> Result<Behind<Filter>, String> {
        read(&text.parse().unwrap()).map_err(|problem| problem.text.plain())
    }

    #[test]
    fn what_a_page_takes_are_the_fields_of_its_filter() {
        assert_eq!(names::<Filter>(), ["outcome", "page"]);
        assert!(names::<Nothing>().is_empty());
        let Behind(filter, done) = asked("/x?outcome=error&page=2&done=run&n=7").unwrap_or_else(|why| panic!("{why}"));
        assert_eq!((filter.outcome.as_str(), filter.page), ("error", Some(2)));
        assert!(done.words().is_some());
    }

    #[test]
    fn everything_else_is_refused_with_what_is_allowed() {
        for (text, words) in [
            ("/x?outcom=error", "allowed: outcome, page"),
            ("/x?outcome=error&outcome=normal", "twice"),
            ("/x?page=many", "page"),
            ("/x?outcome=%ff", "can't be read"),
        ] {
            match asked(text) {
                Err(why) => assert!(why.contains(words), "{text}: {why}"),
                // what is no UTF-8 may come as a character that says so
                Ok(Behind(filter, _)) => assert!(filter.outcome.contains('\u{fffd}'), "{text}: {filter:?}"),
            }
        }
        let long = format!("/x?{}=1", "y".repeat(5000));
        assert!(asked(&long).is_err_and(|why| why.len() < 300));
    }

    #[test]
    fn words_and_numbers_of_filters_are_checked() {
        assert!(word::<Outcome>("outcome", "").is_ok_and(|none| none.is_none()));
        let why = word::<Outcome>("outcome", "nonsense").unwrap_err().text.plain();
        assert!(why.contains("outcome") && why.contains("abandoned"), "{why}");
        assert!(before("7").is_ok_and(|number| number == Some(7)) && before("").is_ok());
        assert!(before("0").is_err() && before("x").is_err() && before("99999999999999999999").is_err());
    }
}
