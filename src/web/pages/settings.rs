//! Advanced Settings: every setting; what was changed is reviewed before it is saved.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;

use crate::config::schema::{Effect, SETTINGS, Setting};
use crate::config::settings::unknown_setting;
use crate::control::import::Plan;
use crate::control::{Change, Refusal};
use crate::web::WebState;
use crate::web::applied::{Trouble, troubles};
use crate::web::asked::Behind;
use crate::web::form::{Acting, Fields, Posted};
use crate::web::heard::settled;
use crate::web::html::Html;
use crate::web::moment::ago;
use crate::web::notice::{Code, Done};
use crate::web::outlook;
use crate::web::page::{Frame, Place, show, show_as};
use crate::web::pages::setting::refused;
use crate::web::phrase::{Fill as _, Phrase};
use crate::web::problem::Problem;
use crate::web::session::SignedIn;
use crate::web::setting_field::{Book, Field, is_found};
use crate::web::texts::{EN, Texts};

/// What stands before the name of a setting in the field that carries the version somebody saw.
const SEEN: &str = "seen:";

/// What stands before the name of a setting in the field that says whose value is to hold.
const TAKE: &str = "take:";

/// So many changes of a setting are looked through for the one somebody saw.
const HISTORY: u32 = 100;

/// The search as it stands in the page's address.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SettingsQuery {
    q: String,
    only: String,
}

#[derive(Template)]
#[template(path = "pages/settings.html")]
struct SettingsPage {
    t: &'static Texts,
    frame: Frame,
    q: String,
    only_changed: bool,
    troubles: Vec<Trouble>,
    groups: Vec<(&'static str, Vec<Field>)>,
    faults: usize,
    count: Phrase,
}

#[derive(Template)]
#[template(path = "steps/settings_review.html")]
struct ReviewPage {
    t: &'static Texts,
    frame: Frame,
    changes: Vec<Difference>,
}

#[derive(Template)]
#[template(path = "steps/settings_conflict.html")]
struct ConflictPage {
    t: &'static Texts,
    frame: Frame,
    changes: Vec<Difference>,
    secret: bool,
}

/// A change about to be made.
struct Difference {
    setting: &'static Setting,
    from: String,
    to: String,
    /// What goes into the form: empty for "back to the default".
    value: String,
    seen: i64,
    /// What the database holds now.
    version: i64,
    live: bool,
    /// Whom it concerns.
    nodes: String,
    /// What happens there that people should know before.
    warnings: Vec<Phrase>,
    /// Who changed it since the page was made, and when.
    rival: Option<(String, Html)>,
}

/// GET `/settings`
pub(crate) async fn settings(
    State(web): State<WebState>,
    who: SignedIn,
    Behind(query, done): Behind<SettingsQuery>,
) -> Result<Response, Problem> {
    let book = Book::read(&web).await?;
    let frame = Frame::new(&web, &who, Place::Settings, EN.menu_settings).await.noting(&done);
    let only_changed = query.only == "changed";
    let fields = SETTINGS
        .iter()
        .filter(|setting| is_found(setting, book.value(setting), &query.q))
        .map(|setting| book.field(setting, None, None))
        .filter(|field| !only_changed || field.changed)
        .collect();
    let mut page = list(frame, query.q, only_changed, fields);
    page.troubles = troubles(&web).await?;
    Ok(show(&page))
}

fn list(frame: Frame, q: String, only_changed: bool, fields: Vec<Field>) -> SettingsPage {
    let faults = fields.iter().filter(|field| field.fault.is_some()).count();
    let count = EN.settings_count.count(fields.len() as u64);
    let mut groups: Vec<(&'static str, Vec<Field>)> = Vec::new();
    for field in fields {
        match groups.last_mut() {
            Some((group, fields)) if *group == field.group => fields.push(field),
            _ => groups.push((field.group, vec![field])),
        }
    }
    SettingsPage { t: EN, frame, q, only_changed, troubles: Vec::new(), groups, faults, count }
}

/// POST `/settings`: `step` is `review` (shows the changes), `edit` (back to the form with what was typed) or `save`.
pub(crate) async fn submit(State(web): State<WebState>, Acting(form): Acting) -> Result<Response, Problem> {
    let book = Book::read(&web).await?;
    let asked = typed(&form.fields)?;
    let step = form.fields.get("step");
    if step == "edit" {
        return Ok(edited(&web, &form, &book, &[], StatusCode::OK).await);
    }
    let mut faults = Vec::new();
    let mut changes = Vec::new();
    for (setting, value) in asked {
        let saved = book.saved(setting);
        let checked = if value.is_empty() { Ok(String::new()) } else { setting.kind.check(value) };
        match checked {
            Err(fault) => faults.push((setting.name.to_owned(), fault.0)),
            Ok(_) if setting.secret && value.is_empty() => {
                faults.push((setting.name.to_owned(), EN.secret_empty.to_owned()));
            }
            Ok(value) if value == saved => {}
            Ok(value) => {
                let change = difference(&web, &book, setting, &value, &form.fields).await?;
                // a field somebody left alone does not undo what somebody else changed meanwhile
                if change.seen == change.version || value != seen_value(&web, &change).await? {
                    changes.push(change);
                }
            }
        }
    }
    if !faults.is_empty() {
        return faulty(&web, &form, &book, &faults).await;
    }
    if changes.is_empty() {
        return Ok(Done::from(Code::Unchanged).answer(&form.headers, &web.base, "/settings"));
    }
    if changes.iter().any(|change| change.rival.is_some()) {
        return Ok(conflict(&web, &form, changes).await);
    }
    if step == "save" {
        return save(&web, &form, changes).await;
    }
    // what the door would refuse is told before the review, beside its field
    match web.control.check_settings(wanted(&form, &changes)).await {
        Ok(()) => Ok(review(&web, &form, changes).await),
        Err(Refusal::Invalid(faults)) => faulty(&web, &form, &book, &faults).await,
        Err(refusal) => Err(refusal.into()),
    }
}

/// What is to be saved.
fn wanted(form: &Posted, changes: &[Difference]) -> Vec<Change> {
    let change = |change: &Difference| {
        let name = change.setting.name;
        // a secret goes straight from the form to the door
        let value = if change.setting.secret { form.fields.get(name).trim().to_owned() } else { change.value.clone() };
        Change { name: name.to_owned(), value: (!value.is_empty()).then_some(value), seen: Some(change.seen) }
    };
    changes.iter().map(change).collect()
}

/// The settings named in a form, with what was typed.
fn typed(fields: &Fields) -> Result<Vec<(&'static Setting, &str)>, Problem> {
    let mut asked = Vec::new();
    for (name, value) in fields.pairs() {
        if ["token", "step", "at_once", "q"].contains(&name) || name.starts_with(SEEN) || name.starts_with(TAKE) {
            continue;
        }
        // of two values that were there to choose from, the other one
        if fields.get(&format!("{TAKE}{name}")) == "theirs" {
            continue;
        }
        let Some(setting) = Setting::find(name) else {
            return Err(Problem::new(StatusCode::BAD_REQUEST, "{text}".with("text", unknown_setting(name))));
        };
        asked.push((setting, value.trim()));
    }
    Ok(asked)
}

/// The value the form showed, by the version it carries; empty for the default.
async fn seen_value(web: &WebState, change: &Difference) -> Result<String, Problem> {
    let history = web.store.setting_history(Some(change.setting.name), HISTORY).await?;
    let seen = history.into_iter().find(|past| past.version == change.seen);
    Ok(seen.and_then(|past| past.value).unwrap_or_default())
}

async fn difference(
    web: &WebState,
    book: &Book,
    setting: &'static Setting,
    value: &str,
    fields: &Fields,
) -> Result<Difference, Problem> {
    let version = book.version(setting);
    let seen = fields.number(&format!("{SEEN}{}", setting.name)).unwrap_or(version);
    let shown = |value: &str| match value {
        _ if setting.secret => EN.value_secret.to_owned(),
        "" if setting.default.is_empty() => EN.value_default_empty.to_owned(),
        "" => EN.value_default.with("value", setting.default).plain(),
        value => value.to_owned(),
    };
    let or_default = |value: &'_ str| if value.is_empty() { setting.default.to_owned() } else { value.to_owned() };
    let rival = match book.stored(setting) {
        _ if seen == version => None,
        Some(stored) => Some((stored.changed_by.clone(), ago(stored.changed_at))),
        // it went back to its default meanwhile
        None => {
            let last = web.store.setting_history(Some(setting.name), 1).await?.into_iter().next();
            last.map(|last| (last.changed_by, ago(last.changed_at)))
        }
    };
    Ok(Difference {
        from: shown(book.saved(setting)),
        to: shown(value),
        value: if setting.secret { String::new() } else { value.to_owned() },
        seen,
        version,
        live: setting.effect == Effect::Live,
        nodes: outlook::nodes(book, setting),
        warnings: outlook::warnings(book, setting, &or_default(book.saved(setting)), &or_default(value)),
        rival,
        setting,
    })
}

/// The review of what an import would change.
pub(crate) async fn review_import(web: &WebState, form: &Posted, plan: &Plan) -> Result<Response, Problem> {
    let book = Book::read(web).await?;
    let mut changes = Vec::with_capacity(plan.changes.len());
    for planned in &plan.changes {
        let value = planned.to.as_deref().unwrap_or_default();
        changes.push(difference(web, &book, planned.setting, value, &form.fields).await?);
    }
    if changes.is_empty() {
        return Ok(Done::from(Code::Unchanged).answer(&form.headers, &web.base, "/settings"));
    }
    Ok(review(web, form, changes).await)
}

async fn review(web: &WebState, form: &Posted, changes: Vec<Difference>) -> Response {
    let frame = Frame::new(web, &form.who, Place::Settings, EN.review_title).await;
    show(&ReviewPage { t: EN, frame, changes })
}

/// Somebody else changed a setting meanwhile: says who, and to what.
async fn conflict(web: &WebState, form: &Posted, mut changes: Vec<Difference>) -> Response {
    let frame = Frame::new(web, &form.who, Place::Settings, EN.conflict_title).await;
    let secret = changes.iter().any(|change| change.setting.secret);
    for change in &mut changes {
        // what stands on that page now is what has been seen then
        change.seen = change.version;
    }
    show_as(StatusCode::CONFLICT, &ConflictPage { t: EN, frame, changes, secret })
}

async fn save(web: &WebState, form: &Posted, changes: Vec<Difference>) -> Result<Response, Problem> {
    match web.control.save_settings(&form.actor(), wanted(form, &changes)).await {
        Ok(saved) => {
            let target = crate::web::notice::back(&form.headers, &web.base)
                .filter(|page| !page.starts_with("/settings"))
                .unwrap_or_else(|| "/settings".to_owned());
            let done = Done::count(Code::Saved, saved.len());
            Ok(if crate::web::problem::wants_json(&form.headers) {
                done.answer(&form.headers, &web.base, &target)
            } else {
                settled(web, &saved).await;
                done.redirect(&target)
            })
        }
        Err(Refusal::Invalid(faults)) => {
            let book = Book::read(web).await?;
            faulty(web, form, &book, &faults).await
        }
        Err(Refusal::Conflict(_) | Refusal::Store(crate::store::error::Error::Conflict(_))) => {
            let book = Book::read(web).await?;
            let mut again = Vec::with_capacity(changes.len());
            for change in changes {
                again.push(difference(web, &book, change.setting, &change.value, &form.fields).await?);
            }
            Ok(conflict(web, form, again).await)
        }
        Err(refusal) => Err(refusal.into()),
    }
}

/// What is wrong with what was typed: a secret's own page says it there, for its field stands nowhere else.
async fn faulty(web: &WebState, form: &Posted, book: &Book, faults: &[(String, String)]) -> Result<Response, Problem> {
    if let [(name, why)] = faults
        && let Some(setting) = Setting::find(name).filter(|setting| setting.secret)
        && typed(&form.fields)?.len() == 1
        && !crate::web::problem::wants_json(&form.headers)
    {
        return refused(web, form, setting, why).await;
    }
    Ok(edited(web, form, book, faults, StatusCode::UNPROCESSABLE_ENTITY).await)
}

/// The form again, with what was typed and what is wrong beside each field. Only the fields that were sent.
async fn edited(
    web: &WebState,
    form: &Posted,
    book: &Book,
    faults: &[(String, String)],
    status: StatusCode,
) -> Response {
    if crate::web::problem::wants_json(&form.headers) && !faults.is_empty() {
        return Problem::from(Refusal::Invalid(faults.to_vec())).into_response();
    }
    let frame = Frame::new(web, &form.who, Place::Settings, EN.menu_settings).await;
    let fields = SETTINGS
        .iter()
        .filter_map(|setting| {
            let (_, typed) = form.fields.pairs().find(|(name, _)| name.eq_ignore_ascii_case(setting.name))?;
            let fault = faults.iter().find(|(name, _)| name.eq_ignore_ascii_case(setting.name));
            let fault = fault.map(|(_, why)| "{why}".with("why", why));
            let mut field = book.field(setting, Some(typed), fault);
            // the version that was seen, so that a change by somebody else is not passed over
            field.version = form.fields.number(&format!("{SEEN}{}", setting.name)).unwrap_or(field.version);
            Some(field)
        })
        .collect();
    show_as(status, &list(frame, String::new(), false, fields))
}
