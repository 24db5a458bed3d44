//! The history of one dispatcher (how long its runs took, and the newest of them), for its page and for whoever follows it.

use askama::Template;

use crate::config::base_path::BasePath;
use crate::model::execution::{Execution, Outcome};
use crate::protocol::state::{BARS, Bar, median_duration};
use crate::store::Store;
use crate::store::error::Error;
use crate::store::executions::ExecutionFilter;
use crate::web::chart;
use crate::web::html::Html;
use crate::web::moment::length;
use crate::web::phrase::{Fill as _, Phrase};
use crate::web::texts::{EN, Texts};
use crate::web::words::RunRow;

/// Runs in the table; the chart has room for more.
const RUNS: usize = 25;

#[derive(Template)]
#[template(path = "live/history.html")]
struct History<'a> {
    t: &'static Texts,
    base: &'a BasePath,
    name: &'a str,
    usual: Option<Phrase>,
    rate: Option<Phrase>,
    chart: Html,
    charted: usize,
    runs: Vec<RunRow>,
}

/// As the database has it: `<div id="history" …>`. Holds no user, right or token, and no relative time: all viewers share it.
///
/// # Errors
/// If the database can't be read.
pub(crate) async fn history(store: &Store, dispatcher: &str, base: &BasePath) -> Result<String, Error> {
    let filter = ExecutionFilter {
        dispatcher: Some(dispatcher.to_owned()),
        limit: u32::try_from(chart::LARGE.slots).unwrap_or(u32::MAX),
        ..ExecutionFilter::default()
    };
    Ok(render(dispatcher, &store.executions(&filter).await?, base))
}

/// Of these runs, newest first.
fn render(name: &str, runs: &[Execution], base: &BasePath) -> String {
    let bars: Vec<Bar> = runs.iter().rev().filter_map(bar).collect();
    let well = bars.iter().filter(|bar| bar.outcome == Outcome::Normal).count();
    let history = History {
        t: EN,
        base,
        name,
        usual: median_duration(&bars[bars.len().saturating_sub(BARS)..])
            .map(|median| EN.usually.with("duration", length(median))),
        rate: (!bars.is_empty()).then(|| EN.rate.with("well", well).with("all", bars.len())),
        chart: chart::bars(&bars, chart::LARGE, base),
        charted: bars.len(),
        runs: runs.iter().take(RUNS).map(RunRow::of).collect(),
    };
    history.render().unwrap_or_else(|error| {
        tracing::error!("a history could not be rendered: {error}");
        "<div id=\"history\"></div>".to_owned()
    })
}

fn bar(run: &Execution) -> Option<Bar> {
    Some(Bar { execution: run.id, started_at: run.started_at?, finished_at: run.finished_at?, outcome: run.outcome? })
}
