//! What went wrong with a request, in words for whoever asked. The page around it is put on by `page::dress`.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::auth::sign_in::Denied;
use crate::base::chain::chain;
use crate::control::Refusal;
use crate::store::error::Error as StoreError;
use crate::store::outage;
use crate::web::phrase::{Fill as _, Phrase};
use crate::web::texts::EN;

/// A refusal or failure: its status, and a sentence that says what to do.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) text: Phrase,
    /// What its page is called, where the status alone does not say it.
    pub(crate) title: Option<&'static str>,
}

/// What a browser that opens a file or a poll as a page is to be shown instead of its plain text.
#[derive(Clone, Debug)]
pub(crate) struct ForPages(pub(crate) Problem);

impl Problem {
    /// With this status and sentence.
    pub(crate) fn new(status: StatusCode, text: impl Into<Phrase>) -> Self {
        Self { status, text: text.into(), title: None }
    }

    /// There is no such page or thing.
    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, EN.problem_not_found)
    }

    /// This user may look, but not do that.
    pub(crate) fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, EN.problem_may_not_act)
    }

    /// A page may not be had by this user at all.
    pub(crate) fn no_access() -> Self {
        Self::new(StatusCode::FORBIDDEN, EN.problem_may_not_look)
    }

    /// The request did not come from our own pages.
    pub(crate) fn foreign() -> Self {
        Self::new(StatusCode::FORBIDDEN, EN.problem_foreign)
    }

    /// The sentence for a status that came without one.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Self::not_found(),
            StatusCode::FORBIDDEN => Self::forbidden(),
            StatusCode::PAYLOAD_TOO_LARGE => Self::new(status, EN.problem_too_large),
            StatusCode::TOO_MANY_REQUESTS => Self::new(status, EN.problem_too_many),
            StatusCode::SERVICE_UNAVAILABLE => Self::new(status, EN.problem_busy),
            status if status.is_server_error() => Self::new(status, EN.problem_broken),
            status => Self::new(status, EN.problem_bad_request),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict(ref text) => Self::new(StatusCode::CONFLICT, "{text}".with("text", text)),
            StoreError::Busy(_) => {
                outage::refused("a page", &error);
                let title = if error.is_away() { EN.title_database_away } else { EN.title_database_busy };
                let text = EN.problem_store_busy.with("why", &error);
                Self { title: Some(title), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, text) }
            }
            StoreError::Sealed(_) | StoreError::Broken(_) => {
                tracing::error!("a page could not be answered: {}", chain(&error));
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, EN.problem_broken)
            }
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::Store(error) => return error.into(),
            Refusal::Forbidden => return Self::forbidden(),
            Refusal::NotFound(_) => StatusCode::NOT_FOUND,
            Refusal::Conflict(_) => StatusCode::CONFLICT,
            Refusal::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::Busy(_) => StatusCode::TOO_MANY_REQUESTS,
        };
        Self::new(status, "{text}".with("text", refusal))
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Store(error) => error.into(),
            denied => Self::new(status_of(&denied), "{text}".with("text", denied)),
        }
    }
}

/// The status that goes with a sign-in that was refused.
pub(crate) fn status_of(denied: &Denied) -> StatusCode {
    use crate::auth::password::Error as PasswordError;
    match denied {
        Denied::Wrong => StatusCode::UNAUTHORIZED,
        Denied::Throttled(_) | Denied::Password(PasswordError::Busy) => StatusCode::TOO_MANY_REQUESTS,
        Denied::Forbidden => StatusCode::FORBIDDEN,
        Denied::Password(PasswordError::Unfit) | Denied::Name(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Denied::Link => StatusCode::GONE,
        Denied::Store(StoreError::Busy(_)) => StatusCode::SERVICE_UNAVAILABLE,
        Denied::Password(PasswordError::Broken(_)) | Denied::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Whether the answer is for a script (`Accept: application/json`), not for a person.
pub(crate) fn wants_json(headers: &HeaderMap) -> bool {
    accepts(headers, "application/json") && !wants_page(headers)
}

/// Whether a browser asks for a page to show.
pub(crate) fn wants_page(headers: &HeaderMap) -> bool {
    accepts(headers, "text/html")
}

fn accepts(headers: &HeaderMap, kind: &str) -> bool {
    headers.get_all(header::ACCEPT).iter().any(|value| value.to_str().is_ok_and(|text| text.contains(kind)))
}
