//! Lines of the log after a place: from what this web node mirrors, and before that from what is kept.
//!
//! Nothing here writes to the log: who reads it must not make it longer.

use std::sync::Arc;
use std::time::Duration;

use crate::api::Api;
use crate::api::error::ApiError;
use crate::api::executions;
use crate::api::request::{Answer, Call};
use crate::api::status::PATIENCE;
use crate::api::types::logs::{GapItem, LogItem, LogsAnswer, MOST};
use crate::base::id::{Cursor, Epoch, ExecutionId, NodeId};
use crate::live::filter::{LineFilter, Missed};
use crate::live::kept::Piece;
use crate::live::read::Lines;
use crate::live::reader::{Reader, Source, Step};
use crate::model::log_entry::{Level, LogEntry, LogGap};
use crate::store::logs::{KeptFilter, KeptRow};

/// How many lines an answer holds, unless it is asked for another number.
const DEFAULT_LIMIT: u32 = 200;

/// For one answer so many steps are made at most: where hardly a line matches, the next one goes on.
const MOST_STEPS: usize = 16;

/// How long an answer may wait for a line, in seconds.
const MOST_WAIT: i64 = 30;

/// What is asked for.
struct Wanted {
    node: Option<NodeId>,
    level: Option<Level>,
    sources: Vec<String>,
    execution: Option<ExecutionId>,
    limit: u32,
}

/// `GET /api/logs`.
pub(crate) async fn list(api: Arc<Api>, call: Call) -> Result<Answer, ApiError> {
    let since: Option<Cursor> = call.read("since")?;
    let wanted = Wanted {
        node: call.text("node").map(NodeId::new),
        level: call.read("level")?,
        sources: call.texts("source"),
        execution: call.number("execution", 1, i64::MAX)?.map(ExecutionId),
        limit: call.limit(DEFAULT_LIMIT, MOST)?,
    };
    let wait = call.number("wait", 0, MOST_WAIT)?.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0);
    let _watcher = api.hub.watch();
    api.hub.current(PATIENCE).await;
    let mut lines = api.hub.lines_seen();
    let mut answer = page(&api, since, &wanted).await?;
    let told = async {
        // lines that do not match move `next` on, so that they are not looked at again
        while answer.lines.is_empty() && answer.gap.is_none() && !answer.more && lines.changed().await.is_ok() {
            answer = page(&api, answer.next.or(since), &wanted).await?;
        }
        Ok::<_, ApiError>(())
    };
    tokio::select! {
        told = told => told?,
        () = tokio::time::sleep(Duration::from_secs(wait)) => {}
        () = api.shutdown.stopping() => {}
    }
    Ok(Answer::json(&answer))
}

/// The lines after a place, or the newest, as they are now.
async fn page(api: &Api, since: Option<Cursor>, wanted: &Wanted) -> Result<LogsAnswer, ApiError> {
    // what this web node mirrors is one node's log
    let life = api.hub.life();
    if wanted.node.as_ref().is_some_and(|node| life.is_none_or(|life| life.node != *node)) {
        return kept(api, wanted, since).await;
    }
    let mut reader = Reader::new(wanted.filter(), since);
    let mut page = Page::new(since, wanted.most());
    for _ in 0..MOST_STEPS {
        match reader.step(Source { hub: &api.hub, store: Some(&api.store) }, wanted.most()).await? {
            Step::Newest(older, lines) => {
                page.begin(older, &lines, reader.filter());
                page.answer.next = reader.at();
                return Ok(page.answer(false));
            }
            Step::Kept(kept) => {
                if !kept.pieces.into_iter().all(|piece| page.take(piece, reader.filter())) {
                    return Ok(page.answer(true));
                }
                page.answer.next = reader.at();
            }
            Step::Held(at) => {
                let lines = api.hub.lines(Some(at), reader.filter(), page.room());
                if !page.take_lines(&lines, reader.filter()) {
                    return Ok(page.answer(true));
                }
                if let Some(at) = page.answer.next {
                    reader.reached(at);
                }
                page.answer.next = reader.at();
                if !lines.more {
                    return Ok(page.answer(false));
                }
            }
            Step::Nothing => return Ok(page.answer(false)),
        }
        if page.room() == 0 {
            break;
        }
    }
    Ok(page.answer(true))
}

/// An answer in the making.
struct Page {
    answer: LogsAnswer,
    most: usize,
}

impl Page {
    const fn new(since: Option<Cursor>, most: usize) -> Self {
        Self { answer: LogsAnswer { lines: Vec::new(), gap: None, next: since, more: false }, most }
    }

    fn room(&self) -> usize {
        self.most.saturating_sub(self.answer.lines.len())
    }

    /// Takes what comes next. False if it does not fit: it is for the next answer.
    fn take(&mut self, piece: Piece, filter: &LineFilter) -> bool {
        let end = piece.end();
        match piece {
            Piece::Line(_) if self.room() == 0 => return false,
            Piece::Line(line) => self.answer.lines.push(item(&line.node, line.epoch, line.seq, &line.entry)),
            Piece::Gap(epoch, gap) => {
                let Some(gap) = missing(epoch, &gap, filter) else {
                    self.answer.next = Some(end);
                    return true;
                };
                match &mut self.answer.gap {
                    // an answer tells one gap, and that of one life
                    Some(before) if before.epoch != epoch => return false,
                    Some(before) => join(before, &gap),
                    None => self.answer.gap = Some(gap),
                }
            }
            // who stands there is told of it again; the place of a life alone does not say what was read between its lines
            Piece::Restart(..) => return true,
            Piece::Hidden(..) => {}
        }
        self.answer.next = Some(end);
        true
    }

    /// Takes the newest lines, to begin with.
    fn begin(&mut self, older: Vec<Piece>, lines: &Lines, filter: &LineFilter) {
        for piece in older {
            if let Piece::Gap(epoch, gap) = &piece {
                self.make_way(*epoch, gap, filter);
            }
            self.take(piece, filter);
        }
        if let (Some(epoch), Some(gap)) = (lines.epoch, &lines.gap) {
            self.make_way(epoch, gap, filter);
        }
        self.take_lines(lines, filter);
    }

    /// Makes way for a gap: an answer tells only one life's, and what came before that of another one goes.
    fn make_way(&mut self, epoch: Epoch, gap: &LogGap, filter: &LineFilter) {
        let of_another_life = self.answer.gap.as_ref().is_some_and(|before| before.epoch != epoch);
        if of_another_life && missing(epoch, gap, filter).is_some() {
            self.answer.gap = None;
            self.answer.lines.clear();
        }
    }

    /// Takes what is held. False if it does not fit.
    fn take_lines(&mut self, lines: &Lines, filter: &LineFilter) -> bool {
        let (Some(node), Some(epoch)) = (&lines.node, lines.epoch) else {
            return true;
        };
        if let Some(gap) = lines.gap
            && !self.take(Piece::Gap(epoch, gap), filter)
        {
            return false;
        }
        self.answer.lines.extend(lines.lines.iter().map(|(seq, entry, _)| item(node, epoch, *seq, entry)));
        self.answer.next = Some(Cursor { epoch, seq: lines.next });
        true
    }

    fn answer(mut self, more: bool) -> LogsAnswer {
        self.answer.more = more;
        self.answer
    }
}

/// `GET /api/executions/{id}/log`.
pub(crate) async fn of_execution(api: Arc<Api>, call: Call) -> Result<Answer, ApiError> {
    let id = executions::id(&call)?;
    let since: Option<Cursor> = call.read("since")?;
    let limit = call.limit(MOST, MOST)?;
    let Some(execution) = api.store.execution(id).await? else {
        return Err(ApiError::not_found(format!("there is no execution {id}")));
    };
    let wanted = Wanted { node: execution.node, level: None, sources: vec![], execution: Some(id), limit };
    Ok(Answer::json(&kept(&api, &wanted, since).await?))
}

impl Wanted {
    fn filter(&self) -> LineFilter {
        LineFilter {
            level: self.level,
            sources: self.sources.clone(),
            execution: self.execution,
            ..LineFilter::default()
        }
    }

    fn kept(&self) -> KeptFilter {
        KeptFilter {
            execution: self.execution,
            level: self.level,
            sources: self.sources.clone(),
            limit: self.limit,
            ..KeptFilter::default()
        }
    }

    fn most(&self) -> usize {
        usize::try_from(self.limit).unwrap_or(usize::MAX)
    }
}

/// Only what is kept.
async fn kept(api: &Api, wanted: &Wanted, since: Option<Cursor>) -> Result<LogsAnswer, ApiError> {
    let rows = api.store.kept_rows(wanted.node.as_ref(), &KeptFilter { after: since, ..wanted.kept() }).await?;
    let more = since.is_some() && rows.len() >= wanted.most();
    let mut answer = LogsAnswer { lines: Vec::new(), gap: None, next: since, more };
    let filter = wanted.filter();
    for row in rows {
        match row {
            KeptRow::Line(line) => {
                answer.next = Some(Cursor { epoch: line.epoch, seq: line.seq });
                answer.lines.push(item(&line.node, line.epoch, line.seq, &line.entry));
            }
            KeptRow::Gap(_, epoch, gap) => {
                answer.next = Some(Cursor { epoch, seq: gap.to });
                if let Some(gap) = missing(epoch, &gap, &filter) {
                    match &mut answer.gap {
                        Some(before) if before.epoch == epoch => join(before, &gap),
                        // of another life, the later one stands alone
                        before => *before = Some(gap),
                    }
                }
            }
        }
    }
    Ok(answer)
}

/// One gap over both.
fn join(before: &mut GapItem, gap: &GapItem) {
    before.to = before.to.max(gap.to);
    for (sum, more) in before.by_level.iter_mut().zip(gap.by_level) {
        *sum += more;
    }
    before.unknown += gap.unknown;
}

/// A gap as far as it could have been wanted.
fn missing(epoch: Epoch, gap: &LogGap, filter: &LineFilter) -> Option<GapItem> {
    let Missed { by_level, unknown } = filter.missed(gap);
    let missing = GapItem { epoch, from: gap.from, to: gap.to, by_level, unknown };
    (filter.missed(gap).count() > 0).then_some(missing)
}

fn item(node: &NodeId, epoch: Epoch, seq: u64, entry: &LogEntry) -> LogItem {
    LogItem {
        node: node.clone(),
        epoch,
        seq,
        time: entry.time,
        level: entry.level,
        source: entry.source.to_string(),
        execution: entry.execution,
        stream: entry.stream,
        message: entry.text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: Epoch = Epoch::from_u64(7);

    fn gap(from: u64, to: u64, by_level: [u64; 5], unknown: u64) -> GapItem {
        GapItem { epoch: EPOCH, from, to, by_level, unknown }
    }

    #[test]
    fn gaps_of_one_life_are_joined_and_another_life_is_for_the_next_answer() {
        let filter = LineFilter { level: Some(Level::Info), ..LineFilter::default() };
        let mut page = Page::new(None, 10);
        let lost = |epoch, from, to, by_level| Piece::Gap(epoch, LogGap { from, to, by_level });
        assert!(page.take(lost(EPOCH, 1, 2, [1, 1, 0, 0, 0]), &filter), "nothing of it is wanted");
        assert_eq!((&page.answer.gap, page.answer.next), (&None, Some(Cursor { epoch: EPOCH, seq: 2 })));
        assert!(page.take(lost(EPOCH, 3, 5, [0, 0, 3, 0, 0]), &filter));
        assert!(page.take(lost(EPOCH, 9, 10, [0, 0, 0, 0, 1]), &filter));
        let joined = gap(3, 10, [0, 0, 3, 0, 1], 1);
        assert_eq!(page.answer.gap, Some(joined.clone()));
        let other = Epoch::from_u64(8);
        assert!(!page.take(lost(other, 1, 1, [0, 0, 1, 0, 0]), &filter));
        assert_eq!((page.answer.gap.clone(), page.answer.next), (Some(joined), Some(Cursor { epoch: EPOCH, seq: 10 })));
    }

    #[test]
    fn the_newest_lines_push_out_what_stands_before_a_gap_of_another_life() {
        let filter = LineFilter::default();
        let lost = LogGap { from: 1, to: 1, by_level: [0, 0, 1, 0, 0] };
        let (before, other) = (Piece::Gap(EPOCH, lost), Epoch::from_u64(8));
        let mut page = Page::new(None, 10);
        page.begin(vec![before.clone(), Piece::Gap(other, lost)], &Lines::default(), &filter);
        assert_eq!(page.answer.gap.map(|gap| gap.epoch), Some(other));
        let entry = crate::live::log::tests::entry(Level::Info, "held");
        let held = |gap| Lines {
            node: Some(NodeId::new("n")),
            epoch: Some(other),
            gap,
            lines: vec![(2, Arc::new(entry.clone()), bytes::Bytes::new())],
            next: 2,
            ..Lines::default()
        };
        for (gap, of) in [(None, EPOCH), (Some(lost), other)] {
            let mut page = Page::new(None, 10);
            page.begin(vec![before.clone()], &held(gap), &filter);
            assert_eq!(page.answer.gap.map(|gap| gap.epoch), Some(of));
            assert_eq!(page.answer.lines.len(), 1, "{gap:?}");
        }
    }
}
