//! One's own password.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use secrecy::ExposeSecret as _;

use crate::auth::sign_in::Denied;
use crate::web::WebState;
use crate::web::asked::{Behind, Nothing};
use crate::web::form::Posted;
use crate::web::notice::{Code, Done, DoneQuery};
use crate::web::page::{Frame, Place, show, show_as};
use crate::web::phrase::{Fill as _, Phrase};
use crate::web::problem::{Problem, status_of};
use crate::web::session::SignedIn;
use crate::web::texts::{EN, Texts};

#[derive(Template)]
#[template(path = "pages/password.html")]
struct PasswordPage {
    t: &'static Texts,
    frame: Frame,
    name: String,
    fault: Option<Phrase>,
}

/// GET `/password`
pub(crate) async fn password(
    State(web): State<WebState>,
    who: SignedIn,
    Behind(Nothing {}, done): Behind<Nothing>,
) -> Response {
    show(&page(&web, &who, &done, None).await)
}

async fn page(web: &WebState, who: &SignedIn, done: &DoneQuery, fault: Option<Phrase>) -> PasswordPage {
    let frame = Frame::new(web, who, Place::Elsewhere, EN.password_title).await.noting(done);
    PasswordPage { t: EN, frame, name: who.session.user.name.to_string(), fault }
}

/// POST `/password`: the other sessions of this user end, on every node.
pub(crate) async fn change(State(web): State<WebState>, form: Posted) -> Result<Response, Problem> {
    let (old, new) = (form.fields.secret("old"), form.fields.secret("new"));
    let refused = if new.expose_secret() == form.fields.get("again") {
        match web.sign_in.change_password(&form.who.session, old, new, &form.address).await {
            Ok(()) => None,
            Err(Denied::Store(error)) => return Err(error.into()),
            Err(Denied::Wrong) => Some((StatusCode::UNPROCESSABLE_ENTITY, EN.password_wrong.into())),
            Err(denied) => Some((status_of(&denied), "{text}".with("text", denied))),
        }
    } else {
        Some((StatusCode::UNPROCESSABLE_ENTITY, EN.password_differ.into()))
    };
    Ok(match refused {
        None => Done::from(Code::PasswordChanged).redirect("/password"),
        Some((status, fault)) => show_as(status, &page(&web, &form.who, &DoneQuery::default(), Some(fault)).await),
    })
}
