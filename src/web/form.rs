//! Forms as they come in: ours, within bounds, from somebody who may send them.

use std::time::Duration;

use axum::Form;
use axum::extract::{FromRequest, FromRequestParts as _, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum_extra::extract::cookie::CookieJar;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::timeout;
use zeroize::Zeroize as _;

use crate::control::Actor;
use crate::web::problem::Problem;
use crate::web::session::{SignedIn, address, over_https};
use crate::web::texts::EN;
use crate::web::{WebState, csrf, origin};

/// The longest body of a form, in bytes; a longer one is answered 413 before it is read to its end.
pub(crate) const MAX_BODY: usize = 64 * 1024;

/// A form comes within this time, or is answered 408: half of one must not hold a stop up.
const BODY_PATIENCE: Duration = Duration::from_secs(10);

/// What was typed: names and values, in order. Wiped when dropped, for passwords and keys are among them.
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    /// The value of a field; empty if it is not there.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The number in a field, if there is one.
    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        self.get(name).parse().ok()
    }

    /// Every value of a field that may be there more than once.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Names and values, in order.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The secret in a field.
    pub(crate) fn secret(&self, name: &str) -> SecretString {
        SecretString::from(self.get(name))
    }
}

impl Drop for Fields {
    fn drop(&mut self) {
        for (_, value) in &mut self.0 {
            value.zeroize();
        }
    }
}

/// A form sent by somebody signed in who may at least look: for what concerns only that user.
pub(crate) struct Posted {
    pub(crate) who: SignedIn,
    pub(crate) fields: Fields,
    pub(crate) address: String,
    pub(crate) headers: HeaderMap,
    pub(crate) uri: Uri,
}

/// A form sent by somebody who may act.
pub(crate) struct Acting(pub(crate) Posted);

/// A form sent by somebody not signed in yet.
pub(crate) struct Visiting {
    pub(crate) fields: Fields,
    pub(crate) address: String,
    pub(crate) uri: Uri,
}

impl Posted {
    /// Who acts, for the door and the audit.
    pub(crate) fn actor(&self) -> Actor {
        self.who.actor(&*self.address)
    }
}

impl FromRequest<WebState> for Posted {
    type Rejection = Response;

    async fn from_request(request: Request, state: &WebState) -> Result<Self, Response> {
        receive(request, state, false).await
    }
}

impl FromRequest<WebState> for Acting {
    type Rejection = Response;

    async fn from_request(request: Request, state: &WebState) -> Result<Self, Response> {
        receive(request, state, true).await.map(Self)
    }
}

async fn receive(request: Request, state: &WebState, acting: bool) -> Result<Posted, Response> {
    let (mut parts, body) = request.into_parts();
    let ours = proven(&parts)?;
    let who = SignedIn::from_request_parts(&mut parts, state).await?;
    if acting && !who.may_act {
        return Err(Problem::forbidden().into_response());
    }
    let (address, headers, uri) = (address(&parts), parts.headers.clone(), parts.uri.clone());
    let fields = read(Request::from_parts(parts, body), state).await?;
    if !ours && !csrf::belongs(fields.get(csrf::FIELD), who.cookie.expose_secret()) {
        return Err(Problem::foreign().into_response());
    }
    Ok(Posted { who, fields, address, headers, uri })
}

impl FromRequest<WebState> for Visiting {
    type Rejection = Response;

    async fn from_request(request: Request, state: &WebState) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        let ours = proven(&parts)?;
        let visitor = CookieJar::from_headers(&parts.headers)
            .get(csrf::VISITOR)
            .map(|cookie| cookie.value().to_owned())
            .unwrap_or_default();
        let (address, uri) = (address(&parts), parts.uri.clone());
        let fields = read(Request::from_parts(parts, body), state).await?;
        if !ours && !csrf::belongs(fields.get(csrf::FIELD), &visitor) {
            return Err(Problem::foreign().into_response());
        }
        Ok(Self { fields, address, uri })
    }
}

/// Whether the headers prove that the form is ours; if they say nothing, its token has to. Foreign ones end here.
#[expect(clippy::result_large_err, reason = "what extractors answer with")]
fn proven(parts: &Parts) -> Result<bool, Response> {
    match origin::is_ours(&parts.headers, over_https(&parts.uri)) {
        Some(true) => Ok(true),
        Some(false) => Err(Problem::foreign().into_response()),
        None => Ok(false),
    }
}

async fn read(request: Request, state: &WebState) -> Result<Fields, Response> {
    let form = timeout(BODY_PATIENCE, Form::<Vec<(String, String)>>::from_request(request, state));
    let form = form.await.map_err(|_| Problem::new(StatusCode::REQUEST_TIMEOUT, EN.problem_slow).into_response())?;
    match form {
        Ok(Form(fields)) => Ok(Fields(fields)),
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Err(Problem::of_status(StatusCode::PAYLOAD_TOO_LARGE).into_response())
        }
        Err(rejection) if rejection.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, EN.problem_no_form).into_response())
        }
        Err(_) => Err(Problem::of_status(StatusCode::BAD_REQUEST).into_response()),
    }
}
