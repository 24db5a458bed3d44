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
use crate::api::types::logs::{GapItem, LogItem, LogsAnswer};
use crate::base::id::{Cursor, Epoch, ExecutionId, NodeId};
use crate::live::filter::LineFilter;
use crate::live::hub::Lines;
use crate::live::log::Reach;
use crate::model::log_entry::{Level, LogEntry, LogGap};
use crate::store::logs::{KeptFilter, KeptRow};

/// How many lines an answer holds, unless it is asked for another number.
const DEFAULT_LIMIT: u32 = 200;
/// How many it holds at most.
const MOST: u32 = 1_000;

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
    let life = api.hub.life().filter(|life| wanted.node.as_ref().is_none_or(|node| *node == life.node));
    match (since, life) {
        (None, Some(life)) => newest(api, wanted, &life.node, life.epoch).await,
        (None, None) => kept(api, wanted, None).await,
        (Some(since), None) => kept(api, wanted, Some(since)).await,
        (Some(since), Some(life)) => match api.hub.reach(since) {
            Reach::Held => Ok(mirrored(api.hub.lines(Some(since), &wanted.filter(), wanted.most()), since)),
            Reach::Older(first) => older(api, wanted, &life.node, since, first).await,
            Reach::Unknown => {
                let mut answer = kept(api, wanted, Some(since)).await?;
                let held = Cursor { epoch: life.epoch, seq: 0 };
                if !answer.more && answer.next.is_none_or(|next| next.epoch != life.epoch) {
                    // all of the earlier life was read: what follows is the present one, from its beginning
                    (answer.next, answer.more) = (Some(held), true);
                }
                Ok(answer)
            }
        },
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

    fn wants(&self, level: usize) -> bool {
        self.level.is_none_or(|least| level >= usize::from(least.index()))
    }
}

/// The newest lines: mirrored ones, and as many kept ones before them as are missing.
async fn newest(api: &Api, wanted: &Wanted, node: &NodeId, epoch: Epoch) -> Result<LogsAnswer, ApiError> {
    let lines = api.hub.lines(None, &wanted.filter(), wanted.most());
    let epoch = lines.epoch.unwrap_or(epoch);
    let missing = wanted.most().saturating_sub(lines.lines.len());
    let first = lines.lines.first().map_or(lines.next + 1, |(seq, ..)| *seq);
    let mut answer = mirrored(lines, Cursor { epoch, seq: 0 });
    if missing > 0 {
        let filter = KeptFilter {
            before: Some(Cursor { epoch, seq: first }),
            limit: u32::try_from(missing).unwrap_or(wanted.limit),
            ..wanted.kept()
        };
        let mut before = Vec::new();
        for row in api.store.kept_rows(Some(node), &filter).await? {
            if let KeptRow::Line(line) = row {
                before.push(item(&line.node, line.epoch, line.seq, &line.entry));
            }
        }
        before.append(&mut answer.lines);
        answer.lines = before;
    }
    answer.more = false;
    Ok(answer)
}

/// What the mirror holds after a place.
fn mirrored(lines: Lines, since: Cursor) -> LogsAnswer {
    let (Some(node), Some(epoch)) = (lines.node, lines.epoch) else {
        return LogsAnswer { lines: vec![], gap: None, next: Some(since), more: false };
    };
    LogsAnswer {
        gap: lines.gap.map(|gap| gap_item(epoch, &gap)),
        next: Some(Cursor { epoch, seq: lines.next }),
        more: lines.more,
        lines: lines.lines.iter().map(|(seq, entry, _)| item(&node, epoch, *seq, entry)).collect(),
    }
}

/// Lines after a place of which the mirror only holds those from `first` on: kept ones, then mirrored ones. What neither has
/// is a gap.
async fn older(api: &Api, wanted: &Wanted, node: &NodeId, since: Cursor, first: u64) -> Result<LogsAnswer, ApiError> {
    // of all sources: how many lines of a level are missing can be told only by counting all of them
    let filter = KeptFilter {
        sources: vec![],
        execution: None,
        after: Some(since),
        before: Some(Cursor { epoch: since.epoch, seq: first }),
        ..wanted.kept()
    };
    let rows = api.store.kept_rows(Some(node), &filter).await?;
    let full = rows.len() >= wanted.most();
    let (mut lines, mut found, mut last) = (Vec::new(), [0_u64; 5], since.seq);
    for row in rows {
        let KeptRow::Line(line) = row else { continue };
        // of a life of which nothing is kept yet the database gives older lines instead
        if line.epoch != since.epoch || line.seq <= since.seq || line.seq >= first {
            continue;
        }
        last = last.max(line.seq);
        found[usize::from(line.entry.level.index())] += 1;
        let matches = (wanted.sources.is_empty() || wanted.sources.iter().any(|s| **s == *line.entry.source))
            && (wanted.execution.is_none() || line.entry.execution == wanted.execution);
        if matches {
            lines.push(item(&line.node, line.epoch, line.seq, &line.entry));
        }
    }
    if full && last > since.seq {
        let next = Some(Cursor { epoch: since.epoch, seq: last });
        return Ok(LogsAnswer { lines, gap: None, next, more: true });
    }
    let room = wanted.most().saturating_sub(lines.len()).max(1);
    let rest = api.hub.lines(Some(since), &wanted.filter(), room);
    let mut answer = mirrored(rest, since);
    answer.gap = answer.gap.and_then(|gap| still_missing(&gap, found, |level| wanted.wants(level)));
    lines.append(&mut answer.lines);
    answer.lines = lines;
    Ok(answer)
}

/// What of a gap was not found among the kept lines either; none if nothing that is wanted is missing.
fn still_missing(gap: &GapItem, found: [u64; 5], wants: impl Fn(usize) -> bool) -> Option<GapItem> {
    let counted = gap.by_level.iter().sum::<u64>() == gap.to - gap.from + 1;
    let mut by_level = gap.by_level;
    for (level, count) in by_level.iter_mut().enumerate() {
        *count = if wants(level) { count.saturating_sub(found[level]) } else { 0 };
    }
    let missing = by_level.iter().sum::<u64>() > 0;
    // lost so long ago that nobody knows of which level
    let unknown = !counted && gap.to - gap.from + 1 > found.iter().sum::<u64>();
    (missing || unknown).then(|| GapItem { by_level, ..gap.clone() })
}

/// Only what is kept.
async fn kept(api: &Api, wanted: &Wanted, since: Option<Cursor>) -> Result<LogsAnswer, ApiError> {
    let rows = api.store.kept_rows(wanted.node.as_ref(), &KeptFilter { after: since, ..wanted.kept() }).await?;
    let more = since.is_some() && rows.len() >= wanted.most();
    let mut answer = LogsAnswer { lines: Vec::new(), gap: None, next: since, more };
    for row in rows {
        match row {
            KeptRow::Line(line) => {
                answer.next = Some(Cursor { epoch: line.epoch, seq: line.seq });
                answer.lines.push(item(&line.node, line.epoch, line.seq, &line.entry));
            }
            KeptRow::Gap(_, epoch, gap) => {
                answer.next = Some(Cursor { epoch, seq: gap.to });
                answer.gap = Some(join(answer.gap, gap_item(epoch, &gap)));
            }
        }
    }
    Ok(answer)
}

/// One gap over both; of another life, the later one stands alone.
fn join(before: Option<GapItem>, gap: GapItem) -> GapItem {
    match before {
        Some(mut before) if before.epoch == gap.epoch => {
            before.to = before.to.max(gap.to);
            for (sum, more) in before.by_level.iter_mut().zip(gap.by_level) {
                *sum += more;
            }
            before
        }
        _ => gap,
    }
}

fn gap_item(epoch: Epoch, gap: &LogGap) -> GapItem {
    GapItem { epoch, from: gap.from, to: gap.to, by_level: gap.by_level }
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

    fn gap(from: u64, to: u64, by_level: [u64; 5]) -> GapItem {
        GapItem { epoch: EPOCH, from, to, by_level }
    }

    #[test]
    fn what_kept_lines_fill_is_no_gap() {
        let lost = gap(1, 10, [0, 4, 5, 1, 0]);
        let found = [0, 0, 5, 1, 0];
        let info = |level| level >= 2;
        assert_eq!(still_missing(&lost, found, info), None);
        assert_eq!(still_missing(&lost, found, |_| true), Some(gap(1, 10, [0, 4, 0, 0, 0])));
        assert_eq!(still_missing(&lost, [0, 0, 3, 1, 0], info), Some(gap(1, 10, [0, 0, 2, 0, 0])));
    }

    #[test]
    fn a_gap_too_old_to_be_counted_stays_one() {
        let lost = gap(1, 10, [0, 0, 2, 0, 0]);
        assert!(still_missing(&lost, [0, 0, 2, 0, 0], |level| level >= 2).is_some());
        assert!(still_missing(&lost, [0, 0, 10, 0, 0], |level| level >= 2).is_none());
    }

    #[test]
    fn gaps_of_one_life_are_joined() {
        let joined = join(Some(gap(3, 5, [0, 0, 3, 0, 0])), gap(9, 9, [0, 0, 0, 0, 1]));
        assert_eq!(joined, gap(3, 9, [0, 0, 3, 0, 1]));
        let other = GapItem { epoch: Epoch::from_u64(8), ..gap(1, 1, [0, 0, 1, 0, 0]) };
        assert_eq!(join(Some(joined), other.clone()), other);
    }
}
