//! Audit: who did what, when and from where.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;

use crate::model::audit::AuditEntry;
use crate::store::audit::AuditFilter;
use crate::web::WebState;
use crate::web::asked::{Behind, before};
use crate::web::html::{Html, visible};
use crate::web::moment::stamp;
use crate::web::page::{Frame, Place, show};
use crate::web::problem::Problem;
use crate::web::session::SignedIn;
use crate::web::texts::{EN, Texts};

/// Entries on one page.
const MOST: u32 = 100;

/// The filter as it stands in the page's address.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AuditQuery {
    who: String,
    action: String,
    subject: String,
    before: String,
}

#[derive(Template)]
#[template(path = "pages/audit.html")]
struct AuditPage {
    t: &'static Texts,
    frame: Frame,
    query: AuditQuery,
    entries: Vec<Row>,
    older: Option<i64>,
    filtered: bool,
}

struct Row {
    when: Html,
    who: Html,
    address: String,
    action: String,
    subject: Html,
    result: Html,
}

/// GET `/audit`
pub(crate) async fn audit(
    State(web): State<WebState>,
    who: SignedIn,
    Behind(query, _): Behind<AuditQuery>,
) -> Result<Response, Problem> {
    let given = |text: &str| (!text.trim().is_empty()).then(|| text.trim().to_owned());
    let filter = AuditFilter {
        who: given(&query.who),
        action: given(&query.action),
        subject: given(&query.subject),
        before: before(&query.before)?,
        limit: MOST + 1,
    };
    let mut entries = web.store.audit(&filter).await?;
    let more = entries.len() > MOST as usize;
    entries.truncate(MOST as usize);
    let page = AuditPage {
        t: EN,
        frame: Frame::new(&web, &who, Place::Audit, EN.menu_audit).await,
        older: more.then(|| entries.last().map(|entry| entry.id)).flatten(),
        entries: entries.iter().map(row).collect(),
        filtered: filter.who.is_some() || filter.action.is_some() || filter.subject.is_some(),
        query,
    };
    Ok(show(&page))
}

fn row(entry: &AuditEntry) -> Row {
    Row {
        when: stamp(entry.at),
        who: visible(&entry.who),
        address: entry.address.clone(),
        action: entry.action.clone(),
        subject: visible(&entry.subject),
        result: visible(&entry.result),
    }
}
