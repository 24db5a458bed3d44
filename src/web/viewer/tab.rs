//! What one tab follows, how far it has come, and what it is to be told next.

use std::collections::VecDeque;
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use tokio::time::Instant;

use crate::base::id::{Cursor, Epoch};
use crate::live::hub::Hub;
use crate::live::log::{Reach, Restart};
use crate::store::Store;

use crate::web::viewer::followed::Followed;
use crate::web::viewer::kept::{self, Upto};
use crate::web::viewer::painted::Painted;
use crate::web::viewer::wire::{self, WINDOW};
use crate::web::viewer::wish::Wanted;

/// A tab without a place gets so many of the newest lines.
pub(crate) const NEWEST: usize = 200;

/// So many bytes may be under way without the page having acknowledged them.
const WINDOW_BYTES: usize = 192 << 10;

/// A tab that falls behind again and again gets kept rows only so often; in between gaps stay gaps.
const FILL_EVERY: Duration = Duration::from_secs(10);

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
    wanted: Wanted,
    at: Option<Cursor>,
    /// Whether the first lines were sent.
    begun: bool,
    filled_at: Option<Instant>,
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
        let log = Log { wanted, at, begun: false, filled_at: None, unacked: VecDeque::new(), lines: 0, bytes: 0 };
        self.log = Some(Box::new(log));
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
        if !self.begun {
            self.begun = true;
            if self.at.is_none() {
                return self.begin(from, out).await;
            }
        }
        let Some(at) = self.at else {
            // nothing was known when it began
            return match from.hub.life() {
                Some(_) => self.begin(from, out).await,
                None => false,
            };
        };
        if from.hub.is_over(at) {
            return self.leave_life(from, at, out).await;
        }
        match from.hub.reach(at) {
            Reach::Unknown => self.leave_life(from, at, out).await,
            Reach::Older(first) if self.may_fill() => match self.fill(from, at, Upto::Line(first - 1), out).await {
                Some(_) => true,
                None => self.read(from, out),
            },
            Reach::Older(_) | Reach::Held => self.read(from, out),
        }
    }

    /// The newest lines; older ones from kept rows if the hub has few.
    async fn begin(&mut self, from: Sources<'_>, out: &mut Vec<Utf8Bytes>) -> bool {
        let batch = from.painted.batch(from.hub, None, &self.wanted.filter, &self.wanted.key, NEWEST);
        if let Some(store) = from.store.filter(|_| batch.lines < NEWEST) {
            let held = batch.at.map(|at| {
                let first = match from.hub.reach(Cursor { seq: 0, ..at }) {
                    Reach::Older(first) => first,
                    Reach::Held | Reach::Unknown => 1,
                };
                Cursor { seq: first, ..at }
            });
            // lines that can't be read are not shown; what comes from now on is
            let older = kept::newest(store, held, &self.wanted.filter, NEWEST - batch.lines).await.unwrap_or_default();
            if let Some(last) = older.last().map(kept::Piece::end) {
                for message in kept::messages(&older) {
                    self.send(out, message, 0, last);
                }
                if batch.at.is_none() {
                    self.at = Some(last);
                } else if batch.at.is_some_and(|at| at.epoch != last.epoch)
                    && let Some(life) = from.hub.life()
                {
                    out.push(wire::restart(&Restart { from: None, to: life }));
                }
            }
        }
        let Some(at) = batch.at else {
            return false;
        };
        self.take(&batch.messages, batch.lines, batch.bytes, at, out);
        batch.more
    }

    fn read(&mut self, from: Sources<'_>, out: &mut Vec<Utf8Bytes>) -> bool {
        let batch = from.painted.batch(from.hub, self.at, &self.wanted.filter, &self.wanted.key, NEWEST);
        if let Some(at) = batch.at {
            self.take(&batch.messages, batch.lines, batch.bytes, at, out);
        }
        batch.more
    }

    /// The rest of a life as it was kept, then over to the next one.
    async fn leave_life(&mut self, from: Sources<'_>, at: Cursor, out: &mut Vec<Utf8Bytes>) -> bool {
        let Some(left) = kept::leave(from.store, from.hub, at, &self.wanted.filter).await else {
            return false;
        };
        let mut messages = kept::messages(&left.pieces);
        messages.extend(left.restart.as_ref().map(wire::restart));
        let bytes = messages.iter().map(|message| message.len()).sum();
        self.take(&messages, left.pieces.len(), bytes, left.at, out);
        self.filled_at = None;
        true
    }

    fn may_fill(&self) -> bool {
        self.filled_at.is_none_or(|at| at.elapsed() >= FILL_EVERY)
    }

    /// Tells kept rows after `at`. None if they can't be read; whether there are more of them.
    async fn fill(&mut self, from: Sources<'_>, at: Cursor, upto: Upto<'_>, out: &mut Vec<Utf8Bytes>) -> Option<bool> {
        let found = kept::after(from.store?, at, upto, &self.wanted.filter).await;
        let Ok(found) = found else {
            self.filled_at = Some(Instant::now());
            return None;
        };
        let messages = kept::messages(&found.pieces);
        let bytes = messages.iter().map(|message| message.len()).sum();
        self.take(&messages, found.pieces.len(), bytes, found.at, out);
        if !found.more {
            self.filled_at = Some(Instant::now());
        }
        Some(found.more)
    }

    fn take(&mut self, messages: &[Utf8Bytes], lines: usize, bytes: usize, at: Cursor, out: &mut Vec<Utf8Bytes>) {
        self.at = Some(at);
        if let Some((last, before)) = messages.split_last() {
            out.extend_from_slice(before);
            let rest = bytes - last.len();
            self.send(out, last.clone(), lines, at);
            self.bytes += rest;
            if let Some(sent) = self.unacked.back_mut() {
                sent.bytes += rest;
            }
        }
    }

    fn send(&mut self, out: &mut Vec<Utf8Bytes>, message: Utf8Bytes, lines: usize, at: Cursor) {
        self.lines += lines;
        self.bytes += message.len();
        self.unacked.push_back(Sent { at, lines, bytes: message.len() });
        out.push(message);
    }
}
