//! Signing in and out.

use askama::Template;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum_extra::extract::CookieJar;
use axum_extra::extract::cookie::{Cookie, SameSite};
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use crate::auth::sign_in::Denied;
use crate::base::id::random_bytes;
use crate::web::asked::Behind;
use crate::web::form::{Posted, Visiting};
use crate::web::page::{Frame, Place, show_as};
use crate::web::phrase::{Fill as _, Phrase};
use crate::web::problem::{Problem, status_of};
use crate::web::session::{self, beginning, ending, local_path, over_https};
use crate::web::texts::{EN, Texts};
use crate::web::{WebState, csrf};

/// Where to go afterwards, as it stands in the page's address.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NextQuery {
    next: String,
}

#[derive(Template)]
#[template(path = "pages/sign_in.html")]
struct SignInPage {
    t: &'static Texts,
    frame: Frame,
    next: String,
    name: String,
    fault: Option<Phrase>,
    first: bool,
}

/// GET `/sign-in`
pub(crate) async fn sign_in(
    State(web): State<WebState>,
    headers: HeaderMap,
    uri: Uri,
    Behind(query, done): Behind<NextQuery>,
) -> Result<Response, Problem> {
    let next = local_path(&query.next).to_owned();
    if let Some((session, _)) = session::find(&web, &uri, &headers).await?
        && crate::auth::access::may(&session.user, crate::auth::access::Right::Look)
    {
        return Ok(Redirect::to(&next).into_response());
    }
    let first = !web.store.has_administrator().await?;
    let (token, jar) = visitor(&web, &headers, &uri);
    let mut frame = Frame::bare(&web, Place::Elsewhere, EN.sign_in_title).noting(&done);
    frame.token = token;
    let page = SignInPage { t: EN, frame, next, name: String::new(), fault: None, first };
    Ok((jar, show_as(StatusCode::OK, &page)).into_response())
}

/// The form token of somebody not signed in, and the cookie it belongs to.
pub(crate) fn visitor(web: &WebState, headers: &HeaderMap, uri: &Uri) -> (String, CookieJar) {
    let jar = CookieJar::from_headers(headers);
    let known = jar.get(csrf::VISITOR).map(|cookie| cookie.value().to_owned()).filter(|value| value.len() == 32);
    let fresh = known.is_none();
    let value = known
        .unwrap_or_else(|| random_bytes::<16>().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}")));
    let token = csrf::token(&value);
    if !fresh {
        return (token, CookieJar::new());
    }
    let cookie = Cookie::build((csrf::VISITOR, value))
        .http_only(true)
        .same_site(SameSite::Strict)
        .path(web.base.cookie_path().to_owned())
        .secure(over_https(uri))
        .build();
    (token, CookieJar::new().add(cookie))
}

/// POST `/sign-in`
pub(crate) async fn enter(
    State(web): State<WebState>,
    headers: HeaderMap,
    form: Visiting,
) -> Result<Response, Problem> {
    let next = local_path(form.fields.get("next")).to_owned();
    let name = form.fields.get("name").trim();
    let denied = match web.sign_in.enter(name, form.fields.secret("password"), &form.address).await {
        Ok(admitted) => {
            let jar = CookieJar::new().add(beginning(&admitted.cookie, &form.uri, &web.base));
            return Ok((jar, Redirect::to(&next)).into_response());
        }
        Err(Denied::Store(error)) => return Err(error.into()),
        Err(denied) => denied,
    };
    let (token, jar) = visitor(&web, &headers, &form.uri);
    let mut frame = Frame::bare(&web, Place::Elsewhere, EN.sign_in_title);
    frame.token = token;
    let status = status_of(&denied);
    let fault = Some("{text}".with("text", &denied));
    let name: String = name.chars().take(64).collect();
    let page = SignInPage { t: EN, frame, next, name, fault, first: false };
    let mut response = (jar, show_as(status, &page)).into_response();
    if let Denied::Throttled(seconds) = denied {
        response.headers_mut().insert(axum::http::header::RETRY_AFTER, seconds.into());
    }
    Ok(response)
}

/// POST `/sign-out`
pub(crate) async fn leave(State(web): State<WebState>, form: Posted) -> Result<Response, Problem> {
    web.sign_in.leave(form.who.cookie.expose_secret(), &form.address).await?;
    let jar = CookieJar::new().add(ending(&form.uri, &web.base));
    Ok((jar, Redirect::to("/sign-in?done=signed-out")).into_response())
}
