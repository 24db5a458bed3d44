//! Settings as a file: taken out, and taken in by way of the review.

use askama::Template;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;

use crate::control::Refusal;
use crate::web::WebState;
use crate::web::applied::{Trouble, troubles};
use crate::web::asked::{Behind, Nothing};
use crate::web::form::{Acting, Posted};
use crate::web::page::{Frame, Place, show, show_as};
use crate::web::pages::settings::review_import;
use crate::web::problem::{Problem, wants_json};
use crate::web::session::SignedIn;
use crate::web::texts::{EN, Texts};

/// What is asked of an export.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ExportQuery {
    /// Anything: also what stands at its default.
    all: String,
}

#[derive(Template)]
#[template(path = "pages/settings_import.html")]
struct ImportPage {
    t: &'static Texts,
    frame: Frame,
    text: String,
    faults: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "live/troubles.html")]
struct NotInForce {
    t: &'static Texts,
    frame: Frame,
    troubles: Vec<Trouble>,
}

/// GET `/settings/export`
pub(crate) async fn export(
    State(web): State<WebState>,
    _who: SignedIn,
    Behind(query, _): Behind<ExportQuery>,
) -> Result<Response, Problem> {
    let text = web.control.export(!query.all.is_empty()).await?;
    let heads = [
        (header::CONTENT_TYPE, "application/toml; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"switchboard-settings.toml\""),
    ];
    Ok((heads, text).into_response())
}

/// GET `/settings/import`
pub(crate) async fn form(
    State(web): State<WebState>,
    who: SignedIn,
    Behind(Nothing {}, done): Behind<Nothing>,
) -> Result<Response, Problem> {
    let frame = Frame::new(&web, &who, Place::Settings, EN.settings_import).await.noting(&done);
    Ok(show(&ImportPage { t: EN, frame, text: String::new(), faults: Vec::new() }))
}

/// POST `/settings/import`: shows what would change; saved is by the review.
pub(crate) async fn submit(State(web): State<WebState>, Acting(form): Acting) -> Result<Response, Problem> {
    match web.control.plan_import(form.fields.get("toml")).await {
        // a secret must not stand in a page, and the review is one
        Ok(plan) if plan.changes.iter().any(|planned| planned.setting.secret) => {
            let secret = plan.changes.iter().filter(|planned| planned.setting.secret);
            let faults = secret.map(|planned| (planned.setting.name.to_owned(), EN.import_secret.to_owned())).collect();
            Ok(refused(&web, &form, String::new(), faults).await)
        }
        Ok(plan) => review_import(&web, &form, &plan).await,
        Err(Refusal::Invalid(faults)) => Ok(refused(&web, &form, form.fields.get("toml").to_owned(), faults).await),
        Err(refusal) => Err(refusal.into()),
    }
}

/// The form again, with all that is wrong. `text` is what was typed, unless a secret stands in it.
async fn refused(web: &WebState, form: &Posted, text: String, faults: Vec<(String, String)>) -> Response {
    if wants_json(&form.headers) {
        return Problem::from(Refusal::Invalid(faults)).into_response();
    }
    let frame = Frame::new(web, &form.who, Place::Settings, EN.settings_import).await;
    show_as(StatusCode::UNPROCESSABLE_ENTITY, &ImportPage { t: EN, frame, text, faults })
}

/// GET `/settings/troubles`: what is not in force as wanted, for pages that are open.
pub(crate) async fn troubles_now(
    State(web): State<WebState>,
    who: SignedIn,
    Behind(Nothing {}, _): Behind<Nothing>,
) -> Result<Response, Problem> {
    let frame = Frame::new(&web, &who, Place::Settings, EN.menu_settings).await;
    Ok(show(&NotInForce { t: EN, frame, troubles: troubles(&web).await? }))
}
