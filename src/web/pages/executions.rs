//! Executions: every run, newest first, by dispatcher, outcome and phase.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;

use crate::base::id::ExecutionId;
use crate::model::execution::{Outcome, Phase};
use crate::store::executions::ExecutionFilter;
use crate::web::WebState;
use crate::web::asked::{Behind, before, word};
use crate::web::page::{Frame, Place, show};
use crate::web::problem::Problem;
use crate::web::session::SignedIn;
use crate::web::texts::{EN, Texts};
use crate::web::words::{self, RunRow};

/// Runs on one page.
const MOST: u32 = 50;

/// The filter as it stands in the page's address.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RunsQuery {
    dispatcher: String,
    outcome: String,
    phase: String,
    before: String,
}

#[derive(Template)]
#[template(path = "pages/executions.html")]
struct ExecutionsPage {
    t: &'static Texts,
    frame: Frame,
    query: RunsQuery,
    dispatchers: Vec<(String, bool)>,
    outcomes: Vec<(&'static str, &'static str, bool)>,
    phases: Vec<(&'static str, &'static str, bool)>,
    runs: Vec<RunRow>,
    older: Option<i64>,
    filtered: bool,
}

/// GET `/executions`
pub(crate) async fn executions(
    State(web): State<WebState>,
    who: SignedIn,
    Behind(query, done): Behind<RunsQuery>,
) -> Result<Response, Problem> {
    let outcome: Option<Outcome> = word("outcome", &query.outcome)?;
    let phase: Option<Phase> = word("phase", &query.phase)?;
    let filter = ExecutionFilter {
        dispatcher: (!query.dispatcher.is_empty()).then(|| query.dispatcher.clone()),
        outcome,
        phase,
        before: before(&query.before)?.map(ExecutionId),
        limit: MOST + 1,
    };
    let mut runs = web.store.executions(&filter).await?;
    let more = runs.len() > MOST as usize;
    runs.truncate(MOST as usize);
    let mut names: Vec<_> = web.store.dispatchers().await?.into_iter().map(|known| known.name).collect();
    if !query.dispatcher.is_empty() && !names.contains(&query.dispatcher) {
        names.push(query.dispatcher.clone());
    }
    let page = ExecutionsPage {
        t: EN,
        frame: Frame::new(&web, &who, Place::Executions, EN.menu_executions).await.noting(&done),
        dispatchers: names.into_iter().map(|name| (name.clone(), name == query.dispatcher)).collect(),
        outcomes: Outcome::ALL
            .iter()
            .map(|known| (known.as_str(), words::outcome(*known), Some(*known) == outcome))
            .collect(),
        phases: Phase::ALL.iter().map(|known| (known.as_str(), words::phase(*known), Some(*known) == phase)).collect(),
        older: more.then(|| runs.last().map(|run| run.id.0)).flatten(),
        runs: runs.iter().map(RunRow::of).collect(),
        filtered: filter.dispatcher.is_some() || outcome.is_some() || phase.is_some(),
        query,
    };
    Ok(show(&page))
}
