//! One execution: its facts, its progress, its retries and its kept output.

use std::collections::VecDeque;

use askama::Template;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;

use crate::base::id::{Cursor, Epoch, ExecutionId, NodeId};
use crate::live::filter::LineFilter;
use crate::model::execution::{Execution, Phase};
use crate::model::log_entry::{LogLine, Stream};
use crate::store::Store;
use crate::store::executions::ExecutionFilter;
use crate::store::logs::{KeptFilter, KeptRow};
use crate::web::WebState;
use crate::web::asked::{Behind, Nothing, OfExecution};
use crate::web::fragment::{dispatcher_row, link_pill, stale};
use crate::web::html::{Html, visible};
use crate::web::lines::{GapRow, LogRow, of_kept};
use crate::web::page::{Frame, Place, show};
use crate::web::pages::dispatcher::find;
use crate::web::phrase::{Fill as _, Phrase};
use crate::web::problem::Problem;
use crate::web::session::SignedIn;
use crate::web::texts::{EN, Texts};
use crate::web::words::{self, RunRow, stamp_or_dash};

/// Lines of output in the page; all of them are in the download.
const LINES: u32 = 1000;
/// Lines read at a time for the download.
const BATCH: u32 = 2000;
/// How far a chain of retries is followed.
const CHAIN: usize = 20;

#[derive(Template)]
#[template(path = "pages/execution.html")]
struct ExecutionPage {
    t: &'static Texts,
    frame: Frame,
    run: Execution,
    mark: &'static str,
    word: &'static str,
    phase: &'static str,
    cause: Phrase,
    queued: Html,
    began: Html,
    ended: Phrase,
    duration: Html,
    message: Option<Html>,
    chain: Vec<RunRow>,
    rows: Vec<LogRow>,
    cut: Option<Phrase>,
    going_on: bool,
    live: Option<Live>,
}

/// What scripts keep true while the run goes on.
struct Live {
    link: Html,
    stale: Option<Phrase>,
    row: Html,
}

/// GET `/executions/{id}`
pub(crate) async fn execution(
    State(web): State<WebState>,
    who: SignedIn,
    OfExecution(id): OfExecution,
    Behind(Nothing {}, done): Behind<Nothing>,
) -> Result<Response, Problem> {
    let _watcher = web.hub.watch();
    let run = found(&web.store, id).await?;
    let (mark, word) = words::mark(&run);
    let (rows, cut) = output(&web, &run).await?;
    let going_on = run.phase() != Phase::Completed;
    let live = if going_on { live(&web, &run).await? } else { None };
    let mut frame =
        Frame::new(&web, &who, Place::Executions, EN.execution_title.with("n", id).plain()).await.noting(&done);
    if live.is_some() {
        frame.live = true;
    }
    let page = ExecutionPage {
        t: EN,
        frame,
        mark,
        word,
        phase: words::phase(run.phase()),
        cause: words::cause(run.cause, run.requested_by.as_deref()),
        queued: stamp_or_dash(Some(run.queued_at)),
        began: stamp_or_dash(run.started_at),
        ended: words::ended(&run),
        duration: words::duration(&run),
        message: run.message.as_deref().map(visible),
        chain: chain(&web.store, &run).await?,
        cut: cut.then(|| EN.output_cut.with("n", LINES)),
        going_on,
        live,
        rows,
        run,
    };
    Ok(show(&page))
}

async fn found(store: &Store, id: ExecutionId) -> Result<Execution, Problem> {
    let missing = || Problem::new(axum::http::StatusCode::NOT_FOUND, EN.no_such_execution.with("n", id));
    store.execution(id).await?.ok_or_else(missing)
}

/// The run's newest lines: what the database kept, and what it has not kept yet. Whether there are more.
async fn output(web: &WebState, run: &Execution) -> Result<(Vec<LogRow>, bool), Problem> {
    let filter = KeptFilter { execution: Some(run.id), limit: LINES + 1, ..KeptFilter::default() };
    let mut kept = web.store.kept_rows(run.node.as_ref(), &filter).await?;
    let end = kept.iter().rev().find_map(|row| match row {
        KeptRow::Line(line) => Some((line.epoch, line.seq)),
        KeptRow::Gap(..) => None,
    });
    let fresh = LineFilter { execution: Some(run.id), ..LineFilter::default() };
    let fresh = web.hub.lines(None, &fresh, LINES as usize);
    if let (Some(epoch), Some(node)) = (fresh.epoch, &fresh.node) {
        for (seq, entry, _) in &fresh.lines {
            if end.is_none_or(|(known, last)| known != epoch || *seq > last) {
                let entry = (**entry).clone();
                kept.push(KeptRow::Line(LogLine { node: node.clone(), epoch, seq: *seq, entry }));
            }
        }
    }
    let cut = kept.len() > LINES as usize;
    if cut {
        kept.drain(..kept.len() - LINES as usize);
    }
    Ok((of_kept(&kept, &LineFilter::default()), cut))
}

/// The row of the run's dispatcher; none if nobody declares that any more.
async fn live(web: &WebState, run: &Execution) -> Result<Option<Live>, Problem> {
    let Some((dispatcher, heard)) = find(web, &run.dispatcher).await? else { return Ok(None) };
    let link = web.hub.link();
    Ok(Some(Live {
        link: Html::rendered(link_pill(&link, &web.base)),
        stale: (!heard).then(stale),
        row: Html::rendered(dispatcher_row(&dispatcher, heard, &web.base)),
    }))
}

/// The runs this one repeats and those that repeat it, oldest first; empty if it stands alone.
async fn chain(store: &Store, run: &Execution) -> Result<Vec<RunRow>, Problem> {
    let mut chain = VecDeque::from([run.clone()]);
    while let Some(before) = chain.front().and_then(|first| first.retry_of)
        && chain.len() < CHAIN
        && let Some(before) = store.execution(before).await?
    {
        chain.push_front(before);
    }
    let filter = ExecutionFilter { dispatcher: Some(run.dispatcher.clone()), limit: 200, ..ExecutionFilter::default() };
    let later = store.executions(&filter).await?;
    while let Some(next) =
        later.iter().find(|next| next.retry_of.is_some() && next.retry_of == chain.back().map(|l| l.id))
        && chain.len() < CHAIN
    {
        chain.push_back(next.clone());
    }
    Ok(if chain.len() > 1 { chain.iter().map(RunRow::of).collect() } else { Vec::new() })
}

/// GET `/executions/{id}/log.txt`: everything kept of the run's output, as plain text in UTC, read as fast as it is taken.
pub(crate) async fn log(
    State(web): State<WebState>,
    _who: SignedIn,
    OfExecution(id): OfExecution,
    _: Behind<Nothing>,
) -> Result<Response, Problem> {
    let run = found(&web.store, id).await?;
    let newest = KeptFilter { execution: Some(run.id), limit: 1, ..KeptFilter::default() };
    let start = web.store.kept_rows(run.node.as_ref(), &newest).await?.into_iter().next().map(|row| match row {
        KeptRow::Line(line) => (line.node, line.epoch),
        KeptRow::Gap(node, epoch, _) => (node, epoch),
    });
    let reader =
        Reader { store: web.store.clone(), execution: run.id, at: start.map(|(node, epoch)| (node, epoch, 0)) };
    let body = Body::from_stream(stream::unfold(reader, Reader::batch));
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"execution-{id}.log.txt\"")),
    ];
    Ok((headers, body).into_response())
}

/// Reads a run's lines from its first, a batch at a time.
struct Reader {
    store: Store,
    execution: ExecutionId,
    /// After this line the next batch begins; none once all is read.
    at: Option<(NodeId, Epoch, u64)>,
}

impl Reader {
    async fn batch(mut self) -> Option<(Result<Bytes, crate::store::error::Error>, Self)> {
        let (node, epoch, seq) = self.at.take()?;
        let filter = KeptFilter {
            execution: Some(self.execution),
            after: Some(Cursor { epoch, seq }),
            limit: BATCH,
            ..KeptFilter::default()
        };
        let rows = match self.store.kept_rows(Some(&node), &filter).await {
            Ok(rows) if rows.is_empty() => return None,
            Ok(rows) => rows,
            Err(error) => return Some((Err(error), self)),
        };
        let mut text = String::with_capacity(rows.len() * 120);
        let mut last = seq;
        for row in &rows {
            last = last.max(match row {
                KeptRow::Line(line) => line.seq,
                KeptRow::Gap(_, _, gap) => gap.to,
            });
            push_plain(&mut text, row);
        }
        self.at = (last > seq && rows.len() >= BATCH as usize).then_some((node, epoch, last));
        Some((Ok(text.into()), self))
    }
}

fn push_plain(text: &mut String, row: &KeptRow) {
    match row {
        KeptRow::Line(line) => {
            let entry = &line.entry;
            let stream = if entry.stream == Some(Stream::Stderr) { " stderr" } else { "" };
            text.push_str(&entry.time.to_string());
            text.push(' ');
            text.push_str(entry.level.as_str());
            text.push_str(stream);
            text.push(' ');
            // as it was written, but for what would act in a terminal
            text.push_str(&crate::base::visible::visible(&entry.text));
        }
        KeptRow::Gap(_, epoch, gap) => {
            text.push_str(&GapRow::of(*epoch, gap).text().plain());
        }
    }
    text.push('\n');
}
