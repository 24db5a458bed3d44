//! What one tab follows, how far it has come, and what it is to be told next.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use tokio::time::Instant;

use crate::base::id::{Cursor, Epoch};
use crate::live::hub::Hub;
use crate::live::reader::{Reader, Source, Step};
use crate::store::Store;

use crate::web::viewer::followed::Followed;
use crate::web::viewer::painted::{self, Painted};
use crate::web::viewer::wire::WINDOW;
use crate::web::viewer::wish::Wanted;

/// A tab without a place gets so many of the newest lines.
pub(crate) const NEWEST: usize = 200;

/// So many bytes may be under way without the page having acknowledged them.
const WINDOW_BYTES: usize = 192 << 10;

/// Where a tab's messages come from.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'a> {
    pub(crate) hub: &'a Hub,
    pub(crate) painted: &'a Painted,
    /// The kept lines; a tab does without if there are none.
    pub(crate) store: Option<&'a Store>,
}

/// One tab.
#[derive(Debug, Default)]
pub(crate) struct Tab {
    status: Option<Status>,
    log: Option<Box<Log>>,
}

/// The status as a tab follows it.
#[derive(Debug)]
struct Status {
    /// The version it has.
    version: u64,
    /// The one dispatcher it is about; all if none.
    only: Option<Followed>,
}

#[derive(Debug)]
struct Log {
    /// The same text for the same filter.
    key: Arc<str>,
    reader: Reader,
    unacked: VecDeque<Sent>,
    lines: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Sent {
    at: Cursor,
    lines: usize,
    bytes: usize,
}

impl Tab {
    /// Follows the status from a version on; 0 is from the whole. Of one dispatcher alone, with its history, if there is one.
    pub(crate) fn follow_status(&mut self, version: u64, only: Option<Followed>) {
        self.status = Some(Status { version, only });
    }

    /// Follows lines from a place on, or from the newest [`NEWEST`]; what was followed before is forgotten.
    pub(crate) fn follow_log(&mut self, wanted: Wanted, at: Option<Cursor>) {
        let reader = Reader::new(wanted.filter, at);
        self.log = Some(Box::new(Log { key: wanted.key, reader, unacked: VecDeque::new(), lines: 0, bytes: 0 }));
    }

    pub(crate) fn forget_status(&mut self) {
        self.status = None;
    }

    pub(crate) fn forget_log(&mut self) {
        self.log = None;
    }

    pub(crate) fn follows_status(&self) -> bool {
        self.status.is_some()
    }

    /// When a change of the database may be news to the tab: it follows a history. None if it does not.
    pub(crate) fn history_due_at(&self) -> Option<Instant> {
        let followed = self.status.as_ref()?.only.as_ref()?;
        Some(followed.due_at().unwrap_or_else(Instant::now))
    }

    /// Whether lines are followed and may be sent now: not while too many are under way.
    pub(crate) fn takes_lines(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.lines < WINDOW && log.bytes < WINDOW_BYTES)
    }

    /// The page has everything up to this line.
    pub(crate) fn acknowledge(&mut self, epoch: Option<Epoch>, seq: u64) {
        let Some(log) = &mut self.log else {
            return;
        };
        let told = |sent: &Sent| epoch.is_none_or(|epoch| epoch == sent.at.epoch) && sent.at.seq <= seq;
        // everything before the last message that is told of was told too, whatever its life
        let Some(upto) = log.unacked.iter().rposition(told) else {
            return;
        };
        for sent in log.unacked.drain(..=upto) {
            log.lines -= sent.lines;
            log.bytes -= sent.bytes;
        }
    }

    /// What is to be told now, at most about one batch; whether there is more to tell at once.
    pub(crate) async fn collect(&mut self, from: Sources<'_>, out: &mut Vec<Utf8Bytes>) -> bool {
        if let Some(status) = &mut self.status {
            let only = status.only.as_ref().map(Followed::name);
            let (now, messages) = from.painted.patch(from.hub, status.version, only);
            out.extend_from_slice(&messages);
            status.version = now;
            if let (Some(followed), Some(store)) = (&mut status.only, from.store) {
                out.extend(followed.news(from.painted, store).await);
            }
        }
        if !self.takes_lines() {
            return false;
        }
        match &mut self.log {
            Some(log) => log.collect(from, out).await && self.takes_lines(),
            None => false,
        }
    }
}

impl Log {
    async fn collect(&mut self, from: Sources<'_>, out: &mut Vec<Utf8Bytes>) -> bool {
        match self.reader.step(Source { hub: from.hub, store: from.store }, NEWEST).await {
            Ok(Step::Newest(older, lines)) => {
                let batch = painted::batch(&lines, None);
                let (mut messages, end) = painted::kept(&older);
                messages.extend(batch.messages);
                self.take(&messages, older.len() + batch.lines, batch.lines_end.or(end), out);
                batch.more
            }
            Ok(Step::Kept(kept)) => {
                let (messages, end) = painted::kept(&kept.pieces);
                self.take(&messages, kept.pieces.len(), end, out);
                true
            }
            Ok(Step::Held(at)) => {
                let batch = from.painted.batch(from.hub, at, self.reader.filter(), &self.key);
                if let Some(at) = batch.at {
                    self.reader.reached(at);
                }
                self.take(&batch.messages, batch.lines, batch.lines_end, out);
                // who shares a batch that was made before may be behind: more has come since
                batch.more || !batch.messages.is_empty()
            }
            // kept lines that can't be read now: a later call reads them, or goes on without
            Ok(Step::Nothing) | Err(_) => false,
        }
    }

    /// `end` is where the last lines in it end. What tells of gaps alone is not waited for: nobody need acknowledge a gap.
    fn take(&mut self, messages: &[Utf8Bytes], lines: usize, end: Option<Cursor>, out: &mut Vec<Utf8Bytes>) {
        out.extend_from_slice(messages);
        if let Some(at) = end {
            let bytes = messages.iter().map(|message| message.len()).sum();
            self.lines += lines;
            self.bytes += bytes;
            self.unacked.push_back(Sent { at, lines, bytes });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{ManualClock, Timestamp};
    use crate::live::filter::LineFilter;
    use crate::live::log::tests::entry;
    use crate::live::mirror::tests::facts;
    use crate::model::log_entry::Level;
    use crate::protocol::state::NodeState;
    use crate::protocol::{LogBatch, Report};

    #[tokio::test]
    async fn who_gets_a_batch_made_for_others_gets_what_came_after_it_too() {
        let hub = Hub::new(ManualClock::new(Timestamp::from_micros(0)));
        let epoch = Epoch::from_u64(1);
        hub.take(Report::Whole(Box::new(NodeState::new(epoch, facts()))));
        let write = |seq, text| {
            hub.take(Report::Log(LogBatch { epoch, gap: None, first: seq, entries: vec![entry(Level::Info, text)] }));
            hub.publish();
        };
        let painted = Painted::default();
        let follow = async || {
            let mut tab = Tab::default();
            let at = Some(Cursor { epoch, seq: 0 });
            tab.follow_log(Wanted { filter: LineFilter::default(), key: "".into() }, at);
            let mut out = Vec::new();
            while tab.collect(Sources { hub: &hub, painted: &painted, store: None }, &mut out).await {}
            out.iter().map(Utf8Bytes::as_str).collect::<String>()
        };
        write(1, "early");
        assert!(follow().await.contains("early"));
        write(2, "late");
        let told = follow().await;
        assert!(told.contains("early") && told.contains("late"), "{told}");
    }

    #[test]
    fn who_acknowledges_lines_only_is_not_waited_for_at_a_gap() {
        let mut tab = Tab::default();
        tab.follow_log(Wanted { filter: LineFilter::default(), key: "".into() }, None);
        let log = tab.log.as_mut().expect("it follows");
        let at = |seq| Cursor { epoch: Epoch::from_u64(1), seq };
        let window_full = Utf8Bytes::from("x".repeat(WINDOW_BYTES));
        let mut out = Vec::new();
        // lines up to 9, then a gap to 20: the acknowledgement is of 9
        log.take(&[window_full, "gap".into()], 9, Some(at(9)), &mut out);
        log.take(&["gap".into()], 0, None, &mut out);
        assert!(!tab.takes_lines());
        tab.acknowledge(Some(Epoch::from_u64(1)), 9);
        assert!(tab.takes_lines());
        assert_eq!(out.len(), 3);
    }
}
