//! What several viewers get alike, made once: rendered rows, whole patches, batches of lines.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;

use crate::base::id::Cursor;
use crate::base::ring::Counts;
use crate::config::base_path::BasePath;
use crate::live::filter::LineFilter;
use crate::live::held::LogPlace;
use crate::live::hub::Hub;
use crate::live::kept::Piece;
use crate::live::log::encode;
use crate::live::mirror::{Changed, Summary};
use crate::live::read::Lines;
use crate::messenger::client::{LinkState, LinkStatus};
use crate::store::Store;
use crate::store::error::Error;
use crate::web::fragment::{dispatcher_row, link_pill, node_strip, stale};
use crate::web::history::history;
use crate::web::phrase::Fill as _;
use crate::web::texts::EN;
use crate::web::viewer::wire;

/// Batches kept for others who follow the same lines; the oldest is dropped.
const BATCHES: usize = 16;

/// Patches kept for others who have seen the same version; the oldest is dropped.
const PATCHES: usize = 8;

/// Histories kept for others who follow the same dispatcher; the oldest is dropped.
const HISTORIES: usize = 16;

/// A batch has at most so many lines.
const BATCH_LINES: usize = 500;

/// Messages are cut when they get longer than this, in bytes: what a stalled socket holds stays small.
const LONGEST: usize = 48 << 10;

/// Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Painted {
    base: BasePath,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    rows: HashMap<String, (u64, Arc<str>)>,
    patches: VecDeque<Patched>,
    batches: VecDeque<Batched>,
    histories: VecDeque<(Arc<str>, u64, Told)>,
}

/// A history, as the message that tells it, and what tells it from another.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) mark: String,
    pub(crate) message: Utf8Bytes,
}

/// From which version to which, of which dispatcher alone (of all if none), and the messages that lead there.
#[derive(Debug)]
struct Patched {
    only: Option<Arc<str>>,
    from: u64,
    to: u64,
    messages: Arc<[Utf8Bytes]>,
}

/// After which place, for which filter, and the messages that follow.
#[derive(Debug)]
struct Batched {
    place: LogPlace,
    key: Arc<str>,
    batch: Arc<Batch>,
}

/// Messages that bring a viewer from one place to the next.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) messages: Vec<Utf8Bytes>,
    /// Where the viewer is then; none if nothing is known yet.
    pub(crate) at: Option<Cursor>,
    pub(crate) lines: usize,
    pub(crate) more: bool,
    /// Where its last lines end: what an acknowledgement names. None if it tells of nothing but gaps.
    pub(crate) lines_end: Option<Cursor>,
}

impl Painted {
    /// Nothing yet; its links stand under this path.
    pub(crate) fn new(base: BasePath) -> Self {
        Self { base, ..Self::default() }
    }

    /// Messages that bring a viewer of the status, or of one dispatcher, from `version` to the present one.
    pub(crate) fn patch(&self, hub: &Hub, version: u64, only: Option<&Arc<str>>) -> (u64, Arc<[Utf8Bytes]>) {
        if hub.version() == version {
            return (version, Arc::from([]));
        }
        let changed = hub.changed_since(version, only.map(AsRef::as_ref));
        let (from, to) = (if changed.whole { 0 } else { version }, changed.version);
        if only.is_some() && changed.is_empty() {
            return (to, Arc::from([]));
        }
        let same = |known: &&Patched| (known.from, known.to, known.only.as_ref()) == (from, to, only);
        if let Some(known) = self.lock().patches.iter().find(same) {
            return (to, Arc::clone(&known.messages));
        }
        let messages: Arc<[Utf8Bytes]> = self.paint(hub, &changed).into();
        let mut shared = self.lock();
        if changed.whole && only.is_none() {
            // whoever is not among them is gone, also if nobody was told of it
            let there: HashSet<&String> = changed.dispatchers.iter().map(|(_, row)| &row.name).collect();
            shared.rows.retain(|name, _| there.contains(name));
        }
        if shared.patches.len() == PATCHES {
            shared.patches.pop_front();
        }
        shared.patches.push_back(Patched { only: only.cloned(), from, to, messages: Arc::clone(&messages) });
        (to, messages)
    }

    /// The history of a dispatcher as it was at this revision of the database, or since.
    ///
    /// # Errors
    /// If the database can't be read.
    pub(crate) async fn history(&self, store: &Store, name: &Arc<str>, revision: u64) -> Result<Told, Error> {
        let known = |(of, at, _): &&(Arc<str>, u64, Told)| of == name && *at == revision;
        if let Some((.., told)) = self.lock().histories.iter().find(known) {
            return Ok(told.clone());
        }
        let html = history(store, name, &self.base).await?;
        let mut hasher = DefaultHasher::new();
        html.hash(&mut hasher);
        let mark = format!("{:016x}", hasher.finish());
        let told = Told { message: wire::history(name, &mark, &html), mark };
        let mut shared = self.lock();
        shared.histories.retain(|(of, ..)| of != name);
        if shared.histories.len() == HISTORIES {
            shared.histories.pop_front();
        }
        shared.histories.push_back((Arc::clone(name), revision, told.clone()));
        Ok(told)
    }

    fn paint(&self, hub: &Hub, changed: &Changed) -> Vec<Utf8Bytes> {
        let mut rows: Vec<Arc<str>> = Vec::with_capacity(changed.dispatchers.len());
        for (version, dispatcher) in &changed.dispatchers {
            let known =
                self.lock().rows.get(&dispatcher.name).filter(|(of, _)| of == version).map(|(_, row)| row.clone());
            rows.push(known.unwrap_or_else(|| {
                let row = wire::row(&dispatcher.name, &dispatcher_row(dispatcher, changed.live, &self.base));
                self.lock().rows.insert(dispatcher.name.clone(), (*version, Arc::clone(&row)));
                row
            }));
        }
        if !changed.withdrawn.is_empty() {
            self.lock().rows.retain(|name, _| !changed.withdrawn.contains(name));
        }
        let id = |name: &String| format!("d-{name}");
        let mut patch = wire::Patch {
            version: changed.version,
            live: changed.live,
            link: changed.link.as_ref().map(|link| (link, link_pill(link, &self.base), stale_or_none(link))),
            // it says also whether the node can be reached
            node: (changed.link.is_some() || changed.node.is_some())
                .then(|| node_strip(hub.node().as_ref(), &hub.link())),
            summary: changed.summary,
            summary_html: summary(changed.summary),
            all: changed.whole.then(|| changed.dispatchers.iter().map(|(_, row)| id(&row.name)).collect()),
            removed: changed.withdrawn.iter().map(id).collect(),
        };
        let mut messages = Vec::new();
        let mut from = 0;
        loop {
            let mut bytes = 0;
            let fits = rows[from..].iter().take_while(|row| {
                bytes += row.len();
                bytes <= LONGEST
            });
            let to = rows.len().min(from + fits.count().max(1));
            messages.push(wire::patch(&patch, &rows[from..to]));
            if to == rows.len() {
                return messages;
            }
            from = to;
            (patch.link, patch.node, patch.all) = (None, None, None);
            patch.removed.clear();
        }
    }

    /// Messages with the lines after a place that are held.
    pub(crate) fn batch(&self, hub: &Hub, place: LogPlace, filter: &LineFilter, key: &Arc<str>) -> Arc<Batch> {
        if let Some(known) = self.lock().batches.iter().find(|known| known.place == place && known.key == *key) {
            return Arc::clone(&known.batch);
        }
        let made = Arc::new(batch(&hub.lines(Some(place), filter, BATCH_LINES), Some(place.at)));
        if !made.messages.is_empty() {
            let mut shared = self.lock();
            if shared.batches.len() == BATCHES {
                shared.batches.pop_front();
            }
            shared.batches.push_back(Batched { place, key: Arc::clone(key), batch: Arc::clone(&made) });
        }
        made
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands above the page while the service node can't be reached; empty while it can.
fn stale_or_none(link: &LinkStatus) -> String {
    if link.state == LinkState::Live { String::new() } else { stale().to_string() }
}

/// How many are in a state that wants attention.
fn summary(of: Summary) -> String {
    let bad = of.failing + of.overdue;
    let text = if bad == 0 { EN.summary_well } else { EN.summary_bad };
    text.count(u64::from(of.total)).with("busy", of.running).with("bad", bad).to_string()
}

/// Messages with these lines, which follow a place (or are the newest).
pub(crate) fn batch(lines: &Lines, from: Option<Cursor>) -> Batch {
    let mut batch =
        Batch { messages: Vec::new(), at: from, lines: lines.lines.len(), more: lines.more, lines_end: None };
    let (node, Some(epoch)) = (lines.node.as_ref(), lines.epoch) else {
        return batch;
    };
    if let Some(gap) = &lines.gap {
        batch.messages.push(wire::gap(epoch, gap));
    }
    let mut rest = lines.lines.as_slice();
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take_while(|(_, _, json)| {
            bytes += json.len();
            bytes <= LONGEST
        });
        let (now, later) = rest.split_at(fits.count().max(1));
        rest = later;
        // the last one also leads past the lines that were hidden
        let (next, hidden) = match (rest, now.last()) {
            ([_, ..], Some((seq, ..))) => (*seq, [0; 5]),
            _ => (lines.next, lines.hidden),
        };
        batch.lines_end = Some(Cursor { epoch, seq: next });
        batch.messages.push(wire::log(node, epoch, next, now.iter().map(|(_, _, json)| json), &hidden));
    }
    let moved = from.is_none_or(|at| (at.epoch, at.seq) != (epoch, lines.next));
    if lines.lines.is_empty() && moved && (from.is_none() || lines.hidden.iter().any(|count| *count > 0)) {
        batch.lines_end = Some(Cursor { epoch, seq: lines.next });
        batch.messages.push(wire::log(node, epoch, lines.next, [].iter(), &lines.hidden));
    }
    batch.at = Some(Cursor { epoch, seq: lines.next });
    batch
}

/// Messages with pieces of the log that were kept, and where the last lines in them end.
pub(crate) fn kept(pieces: &[Piece]) -> (Vec<Utf8Bytes>, Option<Cursor>) {
    let mut messages = Vec::new();
    let lines_end =
        pieces.iter().rev().find(|piece| matches!(piece, Piece::Line(_) | Piece::Hidden(..))).map(Piece::end);
    let mut rows: Vec<Bytes> = Vec::new();
    // of the rows that wait
    let mut node = None;
    let mut bytes = 0;
    for (at, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Line(line) => {
                rows.push(encode(line.seq, &line.entry));
                node = Some(&line.node);
                bytes += rows.last().map_or(0, Bytes::len);
                let goes_on = match pieces.get(at + 1) {
                    Some(Piece::Line(next)) => next.epoch == line.epoch,
                    Some(Piece::Hidden(next, _)) => next.epoch == line.epoch,
                    _ => false,
                };
                if !goes_on || bytes > LONGEST {
                    messages.push(wire::log(node.take(), line.epoch, line.seq, rows.iter(), &Counts::default()));
                    rows.clear();
                    bytes = 0;
                }
            }
            Piece::Hidden(upto, hidden) => {
                messages.push(wire::log(node.take(), upto.epoch, upto.seq, rows.iter(), hidden));
                rows.clear();
                bytes = 0;
            }
            Piece::Gap(epoch, gap) => messages.push(wire::gap(*epoch, gap)),
            Piece::Restart(epoch, restart) => messages.push(wire::restart(*epoch, restart)),
        }
    }
    (messages, lines_end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::ManualClock;
    use crate::base::clock::Timestamp;
    use crate::base::id::{Epoch, NodeId};
    use crate::live::mirror::tests::{dispatcher, facts};
    use crate::model::log_entry::{Level, LogEntry, LogGap, LogLine};
    use crate::protocol::Report;
    use crate::protocol::state::NodeState;

    #[test]
    fn kept_lines_stand_together_in_a_message() {
        let epoch = Epoch::from_u64(7);
        let line = |seq| {
            let (time, source, text) = (Timestamp::from_micros(0), "s".into(), "x".into());
            let entry = LogEntry { time, level: Level::Info, source, execution: None, stream: None, text };
            Piece::Line(LogLine { node: NodeId::new("n"), epoch, seq, entry })
        };
        let gap = Piece::Gap(epoch, LogGap { from: 3, to: 4, by_level: [0; 5] });
        let hidden = Piece::Hidden(Cursor { epoch, seq: 9 }, [0, 0, 3, 0, 0]);
        let messages: Vec<serde_json::Value> = kept(&[line(1), line(2), gap, line(6), hidden])
            .0
            .iter()
            .map(|message| serde_json::from_str(message).unwrap())
            .collect();
        let kinds: Vec<String> = messages
            .iter()
            .map(|value| format!("{}{}", value["t"].as_str().unwrap(), value["rows"].as_array().map_or(0, Vec::len)))
            .collect();
        assert_eq!(kinds, ["log2", "gap0", "log1"]);
        assert_eq!((&messages[0]["node"], &messages[2]["node"]), (&"n".into(), &"n".into()));
        assert_eq!((&messages[2]["next"], &messages[2]["hidden"][2]), (&9.into(), &3.into()));
    }

    #[test]
    fn rows_that_are_gone_are_not_kept() {
        let hub = Hub::new(ManualClock::new(Timestamp::from_micros(0)));
        let painted = Painted::default();
        let painted_rows = |names: &[&str], only: Option<&str>| {
            let mut state = NodeState::new(Epoch::from_u64(1), facts());
            state.dispatchers = names.iter().map(|name| ((*name).to_owned(), dispatcher(name))).collect();
            hub.take(Report::Whole(Box::new(state)));
            painted.patch(&hub, 0, only.map(Arc::from).as_ref());
            let mut rows: Vec<String> = painted.lock().rows.keys().cloned().collect();
            rows.sort();
            rows
        };
        assert_eq!(painted_rows(&["a", "b"], None), ["a", "b"]);
        assert_eq!(
            painted_rows(&["b", "c"], Some("c")),
            ["a", "b", "c"],
            "a page about one says nothing of the others"
        );
        assert_eq!(painted_rows(&["b", "c"], None), ["b", "c"]);
    }
}
