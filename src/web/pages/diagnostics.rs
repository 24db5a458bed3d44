//! Diagnostics: the health of every part with the fix beside it, and this product's own warnings and errors.

use std::collections::BTreeSet;
use std::time::Instant;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;

use crate::base::clock::Timestamp;
use crate::config::schema::{Setting, name};
use crate::messenger::client::{LinkState, LinkStatus};
use crate::model::log_entry::Level;
use crate::model::node::Node;
use crate::store::diagnostics::Diagnostic;
use crate::web::WebState;
use crate::web::applied::{Trouble, troubles};
use crate::web::asked::{Behind, word};
use crate::web::certificate::{Certificate, SOON};
use crate::web::form::Acting;
use crate::web::html::{Html, visible};
use crate::web::moment::{ago, length, utc};
use crate::web::notice::{Code, Done};
use crate::web::page::{Frame, Place, show};
use crate::web::pages::nodes::{keys_in_use, liveness};
use crate::web::phrase::{Fill as _, Phrase};
use crate::web::problem::Problem;
use crate::web::session::SignedIn;
use crate::web::setting_field::{Book, Field};
use crate::web::texts::{EN, Texts};

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
}

/// A part of the product and how it is.
struct Part {
    name: &'static str,
    mark: &'static str,
    word: &'static str,
    state: Phrase,
    fix: Option<Phrase>,
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
    let entries = web.store.diagnostics(level, MOST).await?;
    let setting = Setting::find(name::MINIMUM_LOG_LEVEL).ok_or_else(Problem::not_found)?;
    // what can't be asked for now is told by the part that fails
    let troubles = troubles(&web).await.unwrap_or_default();
    let page = DiagnosticsPage {
        t: EN,
        frame: Frame::new(&web, &who, Place::Diagnostics, EN.menu_diagnostics).noting(&done),
        parts: parts(&web, &troubles).await?,
        troubles,
        levels: Level::ALL.into_iter().rev().map(|known| (known.as_str(), known == level)).collect(),
        entries: entries.iter().map(entry).collect(),
        written: Book::read(&web).await?.field(setting, None, None),
    };
    Ok(show(&page))
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

async fn parts(web: &WebState, troubles: &[Trouble]) -> Result<Vec<Part>, Problem> {
    let asked = Instant::now();
    let answer = web.store.ping().await;
    let database = match &answer {
        Ok(()) => {
            let state = EN
                .database_well
                .with("where", &web.database)
                .with("took", length(asked.elapsed()))
                .with("size", mebibytes(web.store.database_bytes().await?))
                .with("schema", web.store.schema_version().await?);
            good(EN.part_database, state)
        }
        Err(error) => bad(EN.part_database, "{text}".with("text", error), EN.database_fix.into()),
    };
    let link = web.messenger.status().borrow().clone();
    let nodes = web.store.nodes().await?;
    let patience = web.settings.borrow().duration(name::STALE_TIME);
    let now = web.clock.now();
    let keys = keys_in_use(&nodes, now, patience);
    let keys = if keys.len() > 1 {
        bad(EN.part_keys, EN.keys_differ.with("keys", keys.join(", ")), EN.keys_fix.into())
    } else {
        good(EN.part_keys, EN.keys_agree.into())
    };
    let services: Vec<&Node> = nodes.iter().filter(|node| node.role.has_service()).collect();
    let alive = services.iter().find(|node| liveness(node, now, patience).0 == "normal");
    let last = services.iter().max_by_key(|node| node.heartbeat_at);
    let service = match (alive, last) {
        (Some(node), _) => {
            good(EN.part_service, EN.service_well.with("node", &node.id).markup("when", ago(node.heartbeat_at)))
        }
        (None, Some(node)) => {
            let state = EN.service_gone.with("node", &node.id).markup("when", ago(node.heartbeat_at));
            bad(EN.part_service, state, EN.service_fix.into())
        }
        (None, None) => bad(EN.part_service, EN.service_never.into(), EN.service_fix.into()),
    };
    let certificate = web.certificate.borrow().as_ref().map(|certificate| self::certificate(certificate, now));
    let parts = [database, service, messenger(&link), keys, settings(troubles), work(web)];
    Ok(parts.into_iter().chain(certificate).collect())
}

fn certificate(of: &Certificate, now: Timestamp) -> Part {
    let end = |text: &'static str, end: Timestamp| text.with("end", utc(end));
    match (&of.fault, of.ends_at) {
        (Some(fault), _) => {
            bad(EN.part_certificate, EN.certificate_kept.with("fault", fault), EN.certificate_fix.into())
        }
        (None, None) => good(EN.part_certificate, EN.certificate_unread.into()),
        (None, Some(at)) if at <= now => {
            bad(EN.part_certificate, end(EN.certificate_ended, at), EN.certificate_fix.into())
        }
        (None, Some(at)) if at.minus(SOON) <= now => {
            let part = bad(EN.part_certificate, end(EN.certificate_soon, at), EN.certificate_fix.into());
            Part { mark: "warning", word: EN.part_look, ..part }
        }
        (None, Some(at)) => good(EN.part_certificate, end(EN.certificate_well, at)),
    }
}

fn settings(troubles: &[Trouble]) -> Part {
    if troubles.is_empty() {
        return good(EN.part_settings, EN.settings_in_force.into());
    }
    let names: BTreeSet<_> = troubles.iter().map(|trouble| trouble.name).collect();
    let names: Vec<_> = names.into_iter().collect();
    bad(EN.part_settings, EN.settings_not_in_force.with("names", names.join(", ")), EN.settings_fix.into())
}

fn messenger(link: &LinkStatus) -> Part {
    match link.state {
        LinkState::Live => {
            let node = link.peer.as_ref().map(|peer| peer.node.to_string()).unwrap_or_default();
            good(EN.part_messenger, EN.messenger_well.with("node", node).with("where", &link.endpoint))
        }
        LinkState::Connecting | LinkState::Down => {
            let cause = link.error.as_deref().unwrap_or(EN.link_no_cause);
            let fix = if cause.contains("key mismatch") { EN.messenger_key_fix } else { EN.messenger_fix };
            bad(EN.part_messenger, "{cause}".with("cause", cause), fix.with("where", &link.endpoint))
        }
    }
}

fn work(web: &WebState) -> Part {
    let picture = web.hub.picture();
    let Some(state) = picture.state else {
        return Part { mark: "standby", word: EN.part_unknown, ..good(EN.part_work, EN.work_unknown.into()) };
    };
    let troubled: Vec<&str> = state
        .dispatchers
        .values()
        .filter(|d| matches!(d.activity.as_str(), "failing" | "overdue"))
        .map(|d| d.name.as_str())
        .collect();
    if troubled.is_empty() {
        good(EN.part_work, EN.work_well.count(state.dispatchers.len() as u64))
    } else {
        let state = EN.work_troubled.with("names", troubled.join(", "));
        Part { mark: "warning", word: EN.part_look, ..bad(EN.part_work, state, EN.work_fix.into()) }
    }
}

fn good(name: &'static str, state: Phrase) -> Part {
    Part { name, mark: "normal", word: EN.part_well, state, fix: None }
}

fn bad(name: &'static str, state: Phrase, fix: Phrase) -> Part {
    Part { name, mark: "error", word: EN.part_ill, state, fix: Some(fix) }
}

/// A size with one decimal: `1.3 MiB`.
fn mebibytes(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}
