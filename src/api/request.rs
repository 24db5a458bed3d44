//! What a handler is given of a request, and how it reads it.

use std::str::FromStr;

use axum::body::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::error::ApiError;
use crate::control::Actor;

/// A request that may be made: its route, token and body were checked.
pub(crate) struct Call {
    /// What stood in the path, in the order of the template.
    pub(crate) parameters: Vec<String>,
    /// What stood behind the `?`; only names of the route's table.
    pub(crate) query: Vec<(String, String)>,
    /// The `Idempotency-Key`, if there was one.
    pub(crate) idempotency_key: Option<String>,
    /// The body; at most 64 KiB.
    pub(crate) body: Bytes,
    /// Who asks, and from where; none only on open routes.
    pub(crate) actor: Option<Actor>,
}

/// An answer that went well: JSON, always with status 200.
#[derive(Debug)]
pub(crate) struct Answer(pub(crate) Vec<u8>);

impl Answer {
    /// This value as JSON.
    pub(crate) fn json(value: &impl Serialize) -> Self {
        Self(serde_json::to_vec(value).expect("answers are made of texts, numbers and lists"))
    }
}

impl Call {
    /// The part of the path in this place.
    pub(crate) fn parameter(&self, place: usize) -> &str {
        self.parameters.get(place).map_or("", String::as_str)
    }

    /// The value behind the `?`, as text; none if it is missing or empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, value)| known == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// Every value of this name.
    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        self.query.iter().filter(|(known, value)| known == name && !value.is_empty()).map(|(_, v)| v.clone()).collect()
    }

    /// The value behind the `?`, read as something else.
    ///
    /// # Errors
    /// 400 with the words of `T` if it is none.
    pub(crate) fn read<T: FromStr<Err: std::fmt::Display>>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let read = |text: &str| text.parse().map_err(|error| ApiError::invalid(format!("{name}: {error}")));
        self.text(name).map(read).transpose()
    }

    /// The number behind the `?`, from `min` to `max`.
    ///
    /// # Errors
    /// 400 if it is none of these.
    pub(crate) fn number(&self, name: &str, min: i64, max: i64) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match text.parse::<i64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(Some(number)),
            _ => Err(ApiError::invalid(format!("{name}: a whole number from {min} to {max} is allowed"))),
        }
    }

    /// `limit`: how many at most, 1 to `most`.
    ///
    /// # Errors
    /// 400 if it is no such number.
    pub(crate) fn limit(&self, default: u32, most: u32) -> Result<u32, ApiError> {
        let number = self.number("limit", 1, i64::from(most))?;
        Ok(number.map_or(default, |number| u32::try_from(number).unwrap_or(most)))
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// 400 that says where and what is wrong.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        if self.body.iter().all(u8::is_ascii_whitespace) {
            return Err(ApiError::invalid("a JSON object is needed as the body"));
        }
        let read = serde_json::from_slice(&self.body);
        // a list is read as an object's fields in their order, which nobody means
        if read.is_ok() && !self.body.trim_ascii_start().starts_with(b"{") {
            return Err(ApiError::invalid("the body does not fit: it has to be a JSON object, in braces"));
        }
        read.map_err(|error| match error.classify() {
            serde_json::error::Category::Data => ApiError::invalid(format!("the body does not fit: {error}")),
            _ => ApiError::invalid(format!("the body is no valid JSON: {error}")),
        })
    }

    /// The body as JSON; the default if there is none.
    ///
    /// # Errors
    /// 400 that says where and what is wrong.
    pub(crate) fn json_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, ApiError> {
        if self.body.iter().all(u8::is_ascii_whitespace) { Ok(T::default()) } else { self.json() }
    }

    /// A body where none is taken: empty or `{}`.
    ///
    /// # Errors
    /// 400 if there is more.
    pub(crate) fn no_body(&self) -> Result<(), ApiError> {
        #[derive(Default, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}
        self.json_or_default::<Nothing>().map(|_| ())
    }

    /// Who acts.
    ///
    /// # Panics
    /// On an open route: those have nobody, and change nothing.
    pub(crate) fn actor(&self) -> &Actor {
        self.actor.as_ref().expect("only open routes have no caller")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::settings::SettingBody;
    use crate::base::id::Cursor;

    fn call(query: &[(&str, &str)], body: &'static str) -> Call {
        Call {
            parameters: vec![],
            query: query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            idempotency_key: None,
            body: Bytes::from_static(body.as_bytes()),
            actor: None,
        }
    }

    #[test]
    fn numbers_have_limits_and_empty_is_missing() {
        assert_eq!(call(&[("limit", "7")], "").limit(100, 1_000).unwrap(), 7);
        assert_eq!(call(&[("limit", "")], "").limit(100, 1_000).unwrap(), 100);
        for bad in ["0", "1001", "-1", "x", "1e3", "99999999999999999999"] {
            let error = call(&[("limit", bad)], "").limit(100, 1_000).unwrap_err();
            assert!(error.message().contains("from 1 to 1000"), "{}", error.message());
        }
        assert!(call(&[("since", "x")], "").read::<Cursor>("since").unwrap_err().message().contains("cursor"));
    }

    #[test]
    fn a_bad_body_says_what_is_wrong() {
        for (body, words) in [
            ("", "is needed"),
            ("{", "no valid JSON"),
            ("{\"value\": 1}", "expected a string"),
            ("{\"value\": \"1\", \"versoin\": 2}", "versoin"),
            ("{}", "value"),
            ("[]", "does not fit"),
            ("null", "does not fit"),
            ("\u{1F600}", "no valid JSON"),
        ] {
            let Err(error) = call(&[], body).json::<SettingBody>() else { panic!("{body} was taken") };
            assert_eq!(error.code(), 400);
            assert!(error.message().contains(words), "{body}: {}", error.message());
        }
    }

    #[test]
    fn where_no_body_is_taken_an_empty_object_is_none() {
        for body in ["", "  ", "{}"] {
            assert!(call(&[], body).no_body().is_ok());
        }
        for body in ["{\"x\":1}", "[]", "null"] {
            assert!(call(&[], body).no_body().is_err(), "{body}");
        }
        assert!(call(&[], "[\"20s\", 3]").json::<SettingBody>().is_err());
    }
}
