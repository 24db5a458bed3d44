//! What a route is: name, method, template, right, handler; and how a path finds it.

use std::borrow::Cow;
use std::sync::Arc;

use axum::http::Method;
use futures_util::future::BoxFuture;
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

use crate::api::Api;
use crate::api::error::ApiError;
use crate::api::request::{Answer, Call};
use crate::auth::access::Right;

/// One row of the table.
pub(crate) struct Route {
    /// `noun:verb`, unique.
    pub(crate) name: &'static str,
    /// HTTP's method.
    pub(crate) method: Method,
    /// The path; parameters in braces, a verb behind `:` in the last segment.
    pub(crate) template: &'static str,
    /// What the caller must be allowed; none: open to everybody.
    pub(crate) right: Option<Right>,
    /// What it does, in a sentence.
    pub(crate) summary: &'static str,
    /// What may stand behind the `?`.
    pub(crate) query: &'static [Parameter],
    /// What the body holds, and whether it is needed; none: it takes none.
    pub(crate) body: Option<(Described, bool)>,
    /// What it answers.
    pub(crate) answer: Described,
    /// What is done.
    pub(crate) handler: Handler,
}

/// Something that may stand behind the `?`.
pub(crate) struct Parameter {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it does, and what is allowed.
    pub(crate) help: &'static str,
    /// Whether it may stand there more than once.
    pub(crate) repeats: bool,
}

/// One that stands there once at most.
pub(crate) const fn parameter(name: &'static str, help: &'static str) -> Parameter {
    Parameter { name, help, repeats: false }
}

/// Of every list.
pub(crate) const LIMIT: Parameter = parameter("limit", "How many at most: 1 to 1000.");

/// Of every log.
pub(crate) const SINCE: Parameter = parameter("since", "Only lines after this place: the `next` of an earlier answer.");

/// What answers a call.
pub(crate) type Handler = fn(Arc<Api>, Call) -> BoxFuture<'static, Result<Answer, ApiError>>;

/// A type that the OpenAPI document describes.
#[derive(Clone, Copy)]
pub(crate) struct Described {
    /// Its name.
    pub(crate) name: fn() -> Cow<'static, str>,
    /// Itself.
    pub(crate) schema: fn() -> RefOr<Schema>,
    /// Adds the types it is made of.
    pub(crate) parts: fn(&mut Vec<(String, RefOr<Schema>)>),
}

impl Described {
    /// The description of a type.
    pub(crate) const fn of<T: ToSchema>() -> Self {
        Self { name: T::name, schema: T::schema, parts: T::schemas }
    }
}

/// A path, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Path {
    segments: Vec<String>,
    verb: Option<String>,
}

impl Path {
    /// Splits a path at `/`, and its last segment at the last `:`. None if it is no text once its `%` are resolved.
    pub(crate) fn split(path: &str) -> Option<Self> {
        let mut segments = path.strip_prefix('/')?.split('/').map(decode).collect::<Option<Vec<_>>>()?;
        let last = segments.pop()?;
        let (last, verb) = match last.rsplit_once(':') {
            Some((noun, verb)) => (noun.to_owned(), Some(verb.to_owned())),
            None => (last, None),
        };
        segments.push(last);
        Some(Self { segments, verb })
    }
}

impl Route {
    /// The values of the template's parameters, if the path is of this shape.
    pub(crate) fn matches(&self, path: &Path) -> Option<Vec<String>> {
        let template = self.template.strip_prefix('/').unwrap_or(self.template);
        let (template, verb) = match template.rsplit_once(':') {
            Some((template, verb)) => (template, Some(verb)),
            None => (template, None),
        };
        if verb != path.verb.as_deref() || template.split('/').count() != path.segments.len() {
            return None;
        }
        let mut values = Vec::new();
        for (pattern, segment) in template.split('/').zip(&path.segments) {
            if pattern.starts_with('{') {
                if segment.is_empty() {
                    return None;
                }
                values.push(segment.clone());
            } else if pattern != segment {
                return None;
            }
        }
        Some(values)
    }

    /// The names of the template's parameters.
    pub(crate) fn parameters(&self) -> Vec<&'static str> {
        self.template.split(['/', ':']).filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect()
    }
}

/// Resolves `%41`; none if what comes out is no UTF-8.
fn decode(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::Done;

    fn route(template: &'static str) -> Route {
        Route {
            name: "a:b",
            method: Method::GET,
            template,
            right: None,
            summary: "",
            query: &[],
            body: None,
            answer: Described::of::<Done>(),
            handler: |_, _| Box::pin(async { Ok(Answer::json(&Done {})) }),
        }
    }

    fn found(template: &'static str, path: &str) -> Option<Vec<String>> {
        route(template).matches(&Path::split(path)?)
    }

    #[test]
    fn the_last_segment_is_split_at_the_colon() {
        let run = "/api/dispatchers/{name}:run";
        assert_eq!(found(run, "/api/dispatchers/disk-space:run"), Some(vec!["disk-space".to_owned()]));
        assert_eq!(found(run, "/api/dispatchers/disk-space%3Arun"), Some(vec!["disk-space".to_owned()]));
        assert_eq!(found(run, "/api/dispatchers/a%20b:run"), Some(vec!["a b".to_owned()]));
        for path in [
            "/api/dispatchers/disk-space",
            "/api/dispatchers/disk-space:pause",
            "/api/dispatchers/disk-space:run/",
            "/api/dispatchers/:run",
            "/api/dispatchers/a/b:run",
            "/api/dispatchers/%ff:run",
            "/api/dispatchers/%4:run",
            "/api/dispatchers/%+4:run",
            "api/dispatchers/a:run",
            "",
        ] {
            assert_eq!(found(run, path), None, "{path}");
        }
    }

    #[test]
    fn a_path_without_a_verb_is_not_one_with() {
        assert_eq!(found("/api/settings/{name}", "/api/settings/A.B"), Some(vec!["A.B".to_owned()]));
        assert_eq!(found("/api/settings/{name}", "/api/settings/A.B:generate"), None);
        assert_eq!(found("/api/status", "/api/status"), Some(vec![]));
        assert_eq!(found("/api/status", "/api//status"), None);
        assert_eq!(found("/api/status", "/api/STATUS"), None);
    }

    #[test]
    fn parameters_are_named() {
        assert_eq!(route("/api/dispatchers/{name}:run").parameters(), ["name"]);
        assert_eq!(route("/api/status").parameters(), Vec::<&str>::new());
    }
}
