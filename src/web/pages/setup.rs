//! Set-up: the one-time link that makes the first administrator.

use askama::Template;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum_extra::extract::CookieJar;
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use crate::auth::sign_in::Denied;
use crate::web::WebState;
use crate::web::asked::Behind;
use crate::web::form::Visiting;
use crate::web::page::{Frame, Place, show_as};
use crate::web::pages::sign_in::visitor;
use crate::web::phrase::{Fill as _, Phrase};
use crate::web::problem::{Problem, status_of};
use crate::web::session::beginning;
use crate::web::texts::{EN, Texts};

/// The link's secret, as it stands in the page's address.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LinkQuery {
    link: String,
}

#[derive(Template)]
#[template(path = "pages/setup.html")]
struct SetupPage {
    t: &'static Texts,
    frame: Frame,
    link: String,
    name: String,
    fault: Option<Phrase>,
}

/// GET `/setup?link=…`
pub(crate) async fn setup(
    State(web): State<WebState>,
    headers: HeaderMap,
    uri: Uri,
    Behind(query, _): Behind<LinkQuery>,
) -> Result<Response, Problem> {
    if !web.sign_in.is_setup_link(&query.link).await? {
        return Err(Denied::Link.into());
    }
    Ok(page(&web, &headers, &uri, StatusCode::OK, query.link, String::new(), None))
}

fn page(
    web: &WebState,
    headers: &HeaderMap,
    uri: &Uri,
    status: StatusCode,
    link: String,
    name: String,
    fault: Option<Phrase>,
) -> Response {
    let (token, jar) = visitor(web, headers, uri);
    let mut frame = Frame::bare(web, Place::Elsewhere, EN.setup_title);
    frame.token = token;
    (jar, show_as(status, &SetupPage { t: EN, frame, link, name, fault })).into_response()
}

/// POST `/setup`
pub(crate) async fn create(
    State(web): State<WebState>,
    headers: HeaderMap,
    form: Visiting,
) -> Result<Response, Problem> {
    let (link, name) = (form.fields.get("link"), form.fields.get("name").trim());
    let password = form.fields.secret("password");
    let (status, fault) = if password.expose_secret() == form.fields.get("again") {
        match web.sign_in.set_up(link, name, password, &form.address).await {
            Ok(admitted) => {
                let jar = CookieJar::new().add(beginning(&admitted.cookie, &form.uri, &web.base));
                return Ok((jar, Redirect::to("/status")).into_response());
            }
            Err(denied @ (Denied::Store(_) | Denied::Link)) => return Err(denied.into()),
            Err(denied) => (status_of(&denied), "{text}".with("text", denied)),
        }
    } else {
        (StatusCode::UNPROCESSABLE_ENTITY, EN.password_differ.into())
    };
    let name = name.chars().take(64).collect();
    Ok(page(&web, &headers, &form.uri, status, link.to_owned(), name, Some(fault)))
}
