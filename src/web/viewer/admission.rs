//! Who may follow: somebody signed in, or the owner of a token; asked again while it lasts.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use crate::auth::access::{Right, may};
use crate::config::schema::name;
use crate::web::WebState;
use crate::web::origin::is_ours;
use crate::web::phrase::Fill as _;
use crate::web::problem::{ForPages, Problem};
use crate::web::session::{SignedIn, over_https};
use crate::web::viewer::seats::{Full, Seat};

/// The database is asked again so often whether the session lasts, if anything in it changed.
pub(crate) const ASKED_EVERY: Duration = Duration::from_secs(4);

/// And so often in any case: sessions also end by themselves.
const ASKED_AT_LEAST: Duration = Duration::from_mins(1);

/// So many times in a row the database may fail to answer.
const UNANSWERED: u32 = 5;

/// The header of scripts.
const TOKEN_HEADER: &str = "x-api-key";

/// Somebody who may look. As an extractor: 401 without a session or token, 403 without the right.
pub(crate) struct Admitted {
    proof: Proof,
    /// Who, never changes.
    pub(crate) user: Arc<str>,
}

enum Proof {
    Session([u8; 32]),
    Token(SecretString),
}

/// What became of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It lasts.
    Good,
    /// It ended, or the user may not look any more.
    Ended,
    /// The database does not answer.
    Unknown,
}

/// Asks again from time to time.
pub(crate) struct Checks {
    asked_at: Instant,
    changes: tokio::sync::watch::Receiver<u64>,
    unanswered: u32,
}

impl FromRequestParts<WebState> for Admitted {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> Result<Self, Response> {
        if let Some(token) = parts.headers.get(TOKEN_HEADER) {
            let Ok(token) = token.to_str().map(|token| SecretString::from(token.to_owned())) else {
                return Err(refuse(StatusCode::UNAUTHORIZED, "this x-api-key is not valid"));
            };
            return match state.sign_in.user_of_token(token.expose_secret()).await {
                Ok(Some(user)) if may(&user, Right::Look) => {
                    Ok(Self { proof: Proof::Token(token), user: user.uuid.into() })
                }
                Ok(Some(_)) => Err(refuse(StatusCode::FORBIDDEN, "this user may not look")),
                Ok(None) => Err(refuse(StatusCode::UNAUTHORIZED, "this x-api-key is not valid")),
                Err(_) => Err(refuse(StatusCode::SERVICE_UNAVAILABLE, "the database does not answer; try again")),
            };
        }
        match SignedIn::from_request_parts(parts, state).await {
            Ok(signed_in) => {
                let user = signed_in.session.user.uuid.into();
                Ok(Self { proof: Proof::Session(signed_in.session.id_hash), user })
            }
            // a page is led to sign in; a socket or a file can't be
            Err(response) if response.status().is_redirection() => {
                Err(refuse(StatusCode::UNAUTHORIZED, "sign in first"))
            }
            Err(response) => Err(response),
        }
    }
}

impl Admitted {
    /// A socket with a cookie must come from our own pages, and say so; a foreign page is refused in any case.
    pub(crate) fn check_origin(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), Refused> {
        let says_so = headers.contains_key(header::ORIGIN);
        let ours = is_ours(headers, over_https(uri)) == Some(true);
        let by_cookie = matches!(self.proof, Proof::Session(_));
        if (says_so && !ours) || (by_cookie && !says_so) {
            return Err(Refused::new(StatusCode::FORBIDDEN, "this socket was not opened by a page of ours"));
        }
        Ok(())
    }

    /// Takes a seat, or says why there is none.
    pub(crate) fn sit_down(&self, state: &WebState) -> Result<Seat, Refused> {
        state.viewers.seats.take(&self.user).map_err(|full| {
            let (status, text) = match full {
                Full::User => (StatusCode::TOO_MANY_REQUESTS, "too many open tabs of this user; close some"),
                Full::All => (StatusCode::SERVICE_UNAVAILABLE, "too many people watch this node now; try again"),
            };
            Refused::new(status, text)
        })
    }

    /// Whether it still may, as the database says now.
    async fn standing(&self, state: &WebState) -> Standing {
        let user = match &self.proof {
            Proof::Session(hash) => {
                let settings = Arc::clone(&state.settings.borrow());
                let (idle, age) = (settings.duration(name::SESSION_IDLE), settings.duration(name::SESSION_AGE));
                // not through the door: a tab left open is no use of the session
                let session = state.store.session(hash, idle, age, state.clock.now()).await;
                session.map(|session| session.map(|session| session.user))
            }
            Proof::Token(token) => state.sign_in.user_of_token(token.expose_secret()).await,
        };
        match user {
            Ok(Some(user)) if may(&user, Right::Look) => Standing::Good,
            Ok(_) => Standing::Ended,
            Err(_) => Standing::Unknown,
        }
    }
}

impl Checks {
    pub(crate) fn new(state: &WebState) -> Self {
        let mut changes = state.store.changes();
        changes.borrow_and_update();
        Self { asked_at: Instant::now(), changes, unanswered: 0 }
    }

    /// Whether it still may; to be called every [`ASKED_EVERY`]. The database is asked only if something in it changed.
    pub(crate) async fn ask(&mut self, admitted: &Admitted, state: &WebState) -> Standing {
        let changed = self.changes.has_changed().unwrap_or(true);
        if !changed && self.unanswered == 0 && self.asked_at.elapsed() < ASKED_AT_LEAST {
            return Standing::Good;
        }
        self.changes.borrow_and_update();
        self.asked_at = Instant::now();
        match admitted.standing(state).await {
            Standing::Unknown => {
                self.unanswered += 1;
                if self.unanswered < UNANSWERED { Standing::Good } else { Standing::Unknown }
            }
            known => {
                self.unanswered = 0;
                known
            }
        }
    }
}

/// Why somebody may not follow, or not so; the text is for people.
#[derive(Debug)]
pub(crate) struct Refused {
    status: StatusCode,
    text: Cow<'static, str>,
}

impl Refused {
    pub(crate) fn new(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status, text: text.into() }
    }

    /// What is said.
    #[cfg(test)]
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn bad_request(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let problem = Problem::new(self.status, "{text}".with("text", &self.text));
        let text = format!("{}\n", self.text);
        let mut response = (self.status, [(header::CACHE_CONTROL, "no-store")], text).into_response();
        // a browser that shows this as a page says the same
        response.extensions_mut().insert(ForPages(problem));
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
        }
        response
    }
}

fn refuse(status: StatusCode, text: &'static str) -> Response {
    Refused::new(status, text).into_response()
}
