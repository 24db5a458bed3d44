//! Service Status: is it alive, what is it doing, why is nothing happening, make it run now.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use crate::live::reader::{Reader, Source, Step};
use crate::messenger::client::LinkState;
use crate::model::log_entry::Level;
use crate::protocol::state::DispatcherState;
use crate::web::WebState;
use crate::web::applied::{Trouble, troubles};
use crate::web::asked::Behind;
use crate::web::fragment::{dispatcher_row, link_pill, node_strip, stale};
use crate::web::html::Html;
use crate::web::lines::{LogQuery, LogRow, of_newest};
use crate::web::page::{Frame, Place, show};
use crate::web::phrase::{Fill as _, Phrase};
use crate::web::problem::Problem;
use crate::web::session::SignedIn;
use crate::web::texts::{EN, Texts};

/// So many of the newest lines stand in the page itself.
const LINES: usize = 200;

/// The first page after a while waits so long for the service node's word before it shows what the database knows.
const PATIENCE: Duration = Duration::from_millis(300);

/// And for its newest lines, so long; there may be none.
const LINES_PATIENCE: Duration = Duration::from_millis(100);

#[derive(Template)]
#[template(path = "pages/status.html")]
struct StatusPage {
    t: &'static Texts,
    frame: Frame,
    link: Html,
    stale: Option<Phrase>,
    troubles: Vec<Trouble>,
    node: Html,
    database: String,
    dispatchers: Vec<Html>,
    summary: Phrase,
    log: LogQuery,
    levels: Vec<(&'static str, bool)>,
    sources: Vec<(String, bool)>,
    search_fault: Option<Phrase>,
    rows: Vec<LogRow>,
    since: String,
    hidden: Option<Phrase>,
    narrow: bool,
}

/// GET `/status`
pub(crate) async fn status(
    State(web): State<WebState>,
    who: SignedIn,
    Behind(log, done): Behind<LogQuery>,
) -> Result<Response, Problem> {
    // held until the page is made: the service node sends while somebody watches
    let _watcher = web.hub.watch();
    let mut lines_seen = web.hub.lines_seen();
    let is_first = !web.hub.picture().current;
    if web.hub.current(PATIENCE).await && is_first {
        // its newest lines follow its state
        let _ = tokio::time::timeout(LINES_PATIENCE, lines_seen.changed()).await;
    }
    let picture = web.hub.picture();
    let live = picture.link.state == LinkState::Live && picture.state.is_some();
    let dispatchers = if live {
        picture.rows.clone()
    } else {
        match crate::live::stored::dispatchers(&web.store).await {
            Ok(stored) => stored.into_iter().map(Arc::new).collect(),
            // what was heard last is better than nothing
            Err(_) if !picture.rows.is_empty() => picture.rows.clone(),
            Err(error) => return Err(error.into()),
        }
    };
    let (filter, search_fault) = log.filter();
    let mut reader = Reader::new(filter, None);
    let from = Source { hub: &web.hub, store: Some(&web.store) };
    let newest = match reader.step(from, LINES).await {
        // without the kept lines those that are held are better than nothing
        Err(_) if web.hub.life().is_some() => reader.step(from, LINES).await?,
        read => read?,
    };
    let (rows, hidden) = match &newest {
        Step::Newest(older, held) => (of_newest(older, held, reader.filter()), held.hidden.iter().sum()),
        _ => (Vec::new(), 0),
    };
    let mut frame = Frame::new(&web, &who, Place::Status, EN.menu_status).await.noting(&done);
    frame.live = true;
    let page = StatusPage {
        t: EN,
        link: Html::rendered(link_pill(&picture.link, &web.base)),
        stale: (!live).then(stale),
        // a database that can't say is told of where it is looked after; the page goes on with what was heard
        troubles: troubles(&web).await.unwrap_or_default(),
        node: Html::rendered(node_strip(picture.state.as_ref().map(|state| &state.node), &picture.link)),
        database: web.database.clone(),
        summary: summary(&dispatchers),
        sources: sources(&log, &dispatchers, &rows),
        levels: Level::ALL.into_iter().map(|level| (level.as_str(), level == log.level())).collect(),
        dispatchers: dispatchers
            .iter()
            .map(|dispatcher| Html::rendered(dispatcher_row(dispatcher, live, &web.base)))
            .collect(),
        since: reader.at().map(|at| at.to_string()).unwrap_or_default(),
        hidden: (hidden > 0).then(|| EN.lines_hidden.count(hidden)),
        narrow: log.is_narrow() || !log.level.is_empty(),
        search_fault,
        log,
        rows,
        frame,
    };
    Ok(show(&page))
}

/// How many are in a state that wants attention.
fn summary(dispatchers: &[Arc<DispatcherState>]) -> Phrase {
    let bad = dispatchers.iter().filter(|d| matches!(d.activity.as_str(), "failing" | "overdue")).count() as u64;
    let busy = dispatchers.iter().filter(|d| !d.running.is_empty()).count();
    let text = if bad == 0 { EN.summary_well } else { EN.summary_bad };
    text.count(dispatchers.len() as u64).with("busy", busy).with("bad", bad)
}

/// What can be chosen as a source: every dispatcher, and whoever wrote a line that is shown.
fn sources(log: &LogQuery, dispatchers: &[Arc<DispatcherState>], rows: &[LogRow]) -> Vec<(String, bool)> {
    let mut names: std::collections::BTreeSet<String> = dispatchers.iter().map(|d| d.name.clone()).collect();
    for row in rows {
        if let LogRow::Line(line) = row {
            names.insert(line.source_name.clone());
        }
    }
    if !log.source.is_empty() {
        names.insert(log.source.clone());
    }
    names.into_iter().map(|name| (name.clone(), name == log.source)).collect()
}
