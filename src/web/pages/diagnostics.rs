//! Diagnostics: the health of every part with the fix beside it, and this product's own warnings and errors.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;

use crate::config::schema::{Setting, name};
use crate::control::Refusal;
use crate::model::log_entry::Level;
use crate::store::diagnostics::Diagnostic;
use crate::web::WebState;
use crate::web::applied::{Trouble, troubles};
use crate::web::asked::{Behind, word};
use crate::web::examined::Doctor;
use crate::web::form::Acting;
use crate::web::health::{Part, parts};
use crate::web::html::{Html, visible};
use crate::web::moment::ago;
use crate::web::notice::{Code, Done};
use crate::web::page::{Frame, Place, show_as};
use crate::web::phrase::{Fill as _, Phrase};
use crate::web::problem::Problem;
use crate::web::session::SignedIn;
use crate::web::setting_field::{Book, Field};
use crate::web::texts::{EN, Texts};
use axum::http::StatusCode;

/// Entries shown; the rest is counted by the setting that keeps them.
const MOST: u32 = 500;

/// The filter as it stands in the page's address.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DiagnosticsQuery {
    level: String,
}

#[derive(Template)]
#[template(path = "pages/diagnostics.html")]
struct DiagnosticsPage {
    t: &'static Texts,
    frame: Frame,
    troubles: Vec<Trouble>,
    parts: Vec<Part>,
    levels: Vec<(&'static str, bool)>,
    entries: Vec<Entry>,
    written: Field,
    doctor: Doctor,
}

struct Entry {
    when: Html,
    node: String,
    level: &'static str,
    source: Html,
    message: Html,
    times: Option<Phrase>,
}

/// GET `/diagnostics`
pub(crate) async fn diagnostics(
    State(web): State<WebState>,
    who: SignedIn,
    Behind(query, done): Behind<DiagnosticsQuery>,
) -> Result<Response, Problem> {
    let level = word("level", &query.level)?.unwrap_or(Level::Warn);
    let frame = Frame::new(&web, &who, Place::Diagnostics, EN.menu_diagnostics).await.noting(&done);
    page(&web, frame, level, StatusCode::OK, Doctor::default()).await
}

/// POST `/diagnostics/doctor`: tries an endpoint and a key; the form of a setting may send what is typed there.
pub(crate) async fn examine(State(web): State<WebState>, Acting(form): Acting) -> Result<Response, Problem> {
    let typed = |own: &'static str, setting: &'static str| {
        if form.fields.get(own).is_empty() { setting } else { own }
    };
    let endpoint = form.fields.get(typed("endpoint", name::MESSENGER_ENDPOINT));
    let key = form.fields.secret(typed("key", name::MESSENGER_KEY));
    let mut doctor = Doctor { endpoint: endpoint.to_owned(), ..Doctor::default() };
    let status = match web.control.try_link(&form.actor(), endpoint, &key).await {
        Ok(found) => {
            doctor.found = Some(found.into());
            StatusCode::OK
        }
        Err(Refusal::Invalid(faults)) => {
            for (field, why) in faults {
                let place = if field == "key" { &mut doctor.key_fault } else { &mut doctor.endpoint_fault };
                *place = Some("{why}".with("why", why));
            }
            StatusCode::UNPROCESSABLE_ENTITY
        }
        Err(refusal @ (Refusal::Busy(_) | Refusal::Conflict(_))) => {
            let problem = Problem::from(refusal);
            doctor.refused = Some(problem.text);
            problem.status
        }
        Err(refusal) => return Err(refusal.into()),
    };
    let frame = Frame::new(&web, &form.who, Place::Diagnostics, EN.menu_diagnostics).await;
    page(&web, frame, Level::Warn, status, doctor).await
}

async fn page(
    web: &WebState,
    frame: Frame,
    level: Level,
    status: StatusCode,
    doctor: Doctor,
) -> Result<Response, Problem> {
    let entries = web.store.diagnostics(level, MOST).await?;
    let setting = Setting::find(name::MINIMUM_LOG_LEVEL).ok_or_else(Problem::not_found)?;
    // what can't be asked for now is told by the part that fails
    let troubles = troubles(web).await.unwrap_or_default();
    let page = DiagnosticsPage {
        t: EN,
        frame,
        parts: parts(web, &troubles).await?,
        troubles,
        levels: Level::ALL.into_iter().rev().map(|known| (known.as_str(), known == level)).collect(),
        entries: entries.iter().map(entry).collect(),
        written: Book::read(web).await?.field(setting, None, None),
        doctor,
    };
    Ok(show_as(status, &page))
}

/// POST `/diagnostics/purge`: deletes all entries.
pub(crate) async fn purge(State(web): State<WebState>, Acting(form): Acting) -> Result<Response, Problem> {
    let gone = web.control.purge_diagnostics(&form.actor()).await?;
    Ok(Done::count(Code::Purged, usize::try_from(gone).unwrap_or(usize::MAX)).answer(
        &form.headers,
        &web.base,
        "/diagnostics",
    ))
}

fn entry(found: &Diagnostic) -> Entry {
    Entry {
        when: ago(found.at),
        node: found.node.to_string(),
        level: found.level.as_str(),
        source: visible(&found.source),
        message: visible(&found.message),
        times: (found.count > 1).then(|| EN.times.with("n", found.count)),
    }
}
