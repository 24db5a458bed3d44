//! A service node's log: numbered lines in a bounded ring; the logging call never waits for a reader.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::base::id::Epoch;
use crate::base::ring::Ring;
use crate::model::log_entry::{Level, LogEntry, LogGap, MAX_TEXT};
use crate::service::lines::each_line;

/// A service node's log: the newest lines, numbered, in memory. Clones share it.
///
/// Bounded in lines and bytes; the oldest lines make way, and a reader that comes too late is told which it missed.
#[derive(Clone)]
pub struct LogRing {
    shared: Arc<Shared>,
}

struct Shared {
    epoch: Epoch,
    minimum: AtomicU8,
    /// Lines are shared, so that a reader takes them out in a few nanoseconds each while writers wait.
    lines: Mutex<Ring<Arc<LogEntry>>>,
    /// Whether a reader waits for the next line: a line that comes while none does wakes nobody.
    awaited: AtomicBool,
    came: Notify,
}

/// Lines read from the ring.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// What the ring no longer held, before the lines.
    pub gap: Option<LogGap>,
    /// The number of the first line; the others follow.
    pub first: u64,
    /// The lines.
    pub entries: Vec<Arc<LogEntry>>,
    /// The number up to which the ring was read: go on from there.
    pub seen: u64,
    /// Whether there is more to read at once.
    pub more: bool,
}

impl LogRing {
    /// An empty log of a new life, for at most so many lines and bytes. Every level is taken until
    /// [`LogRing::set_minimum`] says otherwise.
    #[must_use]
    pub fn new(epoch: Epoch, lines: usize, bytes: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                epoch,
                minimum: AtomicU8::new(Level::Trace.index()),
                lines: Mutex::new(Ring::new(lines, bytes)),
                awaited: AtomicBool::new(false),
                came: Notify::new(),
            }),
        }
    }

    /// Of which life of the node.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.shared.epoch
    }

    /// The number of the newest line ever added; 0 if there was none.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.lock().last()
    }

    /// Whether the program's own lines of this level are added.
    #[must_use]
    pub fn takes(&self, level: Level) -> bool {
        level.index() >= self.shared.minimum.load(Ordering::Relaxed)
    }

    /// Adds a line of the program's own, unless it is below the minimum. As [`LogRing::push_output`] otherwise.
    pub fn push(&self, entry: LogEntry) {
        if self.takes(entry.level) {
            self.push_output(entry);
        }
    }

    /// Adds a line that a run put out, whatever the minimum: it is the work's result. Several, if its text has line breaks or
    /// is longer than [`MAX_TEXT`]. Never waits for a reader, never fails.
    pub fn push_output(&self, entry: LogEntry) {
        if entry.text.len() <= MAX_TEXT && !entry.text.bytes().any(|byte| byte == b'\n') {
            self.add(entry);
        } else {
            each_line(&entry.text, |text| self.add(LogEntry { text, source: entry.source.clone(), ..entry }));
        }
    }

    /// Adds a line that is one.
    fn add(&self, entry: LogEntry) {
        let (weight, class) = (entry.weight(), entry.level.index());
        let entry = Arc::new(entry);
        self.lock().push(entry, weight, class);
        // a reader that said it waits did so before it looked under the same lock: either it saw the line or this sees it
        if self.shared.awaited.load(Ordering::Relaxed) && self.shared.awaited.swap(false, Ordering::AcqRel) {
            self.shared.came.notify_waiters();
        }
    }

    /// The program's own lines below this level are not added (`Diagnostics.MinimumLogLevel`); what runs put out always is.
    pub fn set_minimum(&self, level: Level) {
        self.shared.minimum.store(level.index(), Ordering::Relaxed);
    }

    /// Changes how many lines and bytes are held (`Log.RingLines`, `Log.RingSize`); what no longer fits is dropped now.
    pub fn resize(&self, lines: usize, bytes: usize) {
        self.lock().resize(lines, bytes);
    }

    /// The lines after number `seen`: at most `most` and, but for the first, at most `most_bytes`.
    pub(crate) fn read(&self, seen: u64, most: usize, most_bytes: usize) -> Lines {
        let lines = self.lock();
        let missed = lines.missed(seen);
        let gap = missed.map(|missed| LogGap { from: missed.from, to: missed.to, by_level: missed.counts });
        let start = gap.map_or(seen, |gap| gap.to);
        let mut read = Lines { gap, first: start + 1, entries: Vec::new(), seen: start, more: false };
        let mut bytes = 0;
        for (number, entry) in lines.after(start) {
            bytes += entry.weight();
            if read.entries.len() == most || (bytes > most_bytes && !read.entries.is_empty()) {
                read.more = true;
                break;
            }
            read.entries.push(Arc::clone(entry));
            read.seen = number;
        }
        read
    }

    /// Comes back when there is a line after number `seen`.
    pub(crate) async fn newer_than(&self, seen: u64) {
        while self.last() <= seen {
            let mut came = std::pin::pin!(self.shared.came.notified());
            came.as_mut().enable();
            self.shared.awaited.store(true, Ordering::Relaxed);
            if self.last() > seen {
                return;
            }
            came.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ring<Arc<LogEntry>>> {
        self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for LogRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogRing").field("epoch", &self.epoch()).field("last", &self.last()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::clock::Timestamp;

    fn entry(level: Level, text: &str) -> LogEntry {
        LogEntry {
            time: Timestamp::from_micros(1),
            level,
            source: "test".into(),
            execution: None,
            stream: None,
            text: text.into(),
        }
    }

    fn ring(lines: usize) -> LogRing {
        LogRing::new(Epoch::from_u64(1), lines, 1 << 20)
    }

    fn texts(lines: &Lines) -> Vec<&str> {
        lines.entries.iter().map(|entry| &*entry.text).collect()
    }

    #[test]
    fn a_reader_gets_what_follows_and_is_told_what_it_missed() {
        let ring = ring(3);
        for (level, text) in
            [(Level::Info, "a"), (Level::Error, "b"), (Level::Info, "c"), (Level::Info, "d"), (Level::Info, "e")]
        {
            ring.push(entry(level, text));
        }
        let read = ring.read(0, 2, 1 << 20);
        assert_eq!(read.gap, Some(LogGap { from: 1, to: 2, by_level: [0, 0, 1, 0, 1] }));
        assert_eq!((read.first, texts(&read), read.seen, read.more), (3, vec!["c", "d"], 4, true));
        let read = ring.read(read.seen, 2, 1 << 20);
        assert_eq!((read.gap, read.first, texts(&read), read.seen, read.more), (None, 5, vec!["e"], 5, false));
        assert!(ring.read(5, 2, 1 << 20).entries.is_empty());
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_but_never_empty() {
        let ring = ring(100);
        for _ in 0..3 {
            ring.push(entry(Level::Info, &"x".repeat(1000)));
        }
        assert_eq!(ring.read(0, 100, 1).entries.len(), 1);
        assert_eq!(ring.read(0, 100, 2500).entries.len(), 2);
    }

    #[test]
    fn own_lines_below_the_minimum_are_not_added_and_it_changes_live() {
        let ring = ring(10);
        ring.set_minimum(Level::Warn);
        ring.push(entry(Level::Info, "no"));
        ring.push(entry(Level::Error, "yes"));
        ring.push_output(entry(Level::Info, "a run's"));
        ring.set_minimum(Level::Trace);
        ring.push(entry(Level::Trace, "now yes"));
        assert_eq!(texts(&ring.read(0, 10, 1 << 20)), ["yes", "a run's", "now yes"]);
    }

    #[test]
    fn a_text_of_several_lines_becomes_several_entries() {
        let ring = ring(10);
        ring.push(entry(Level::Info, "first\nsecond\n"));
        ring.push(entry(Level::Info, &"y".repeat(MAX_TEXT + 1)));
        assert_eq!(ring.last(), 4);
        assert_eq!(texts(&ring.read(0, 2, 1 << 20)), ["first", "second"]);
    }

    #[test]
    fn resizing_drops_what_no_longer_fits() {
        let ring = ring(10);
        for _ in 0..10 {
            ring.push(entry(Level::Info, "line"));
        }
        ring.resize(2, 1 << 20);
        assert_eq!(ring.read(0, 10, 1 << 20).gap.unwrap().to, 8);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_reader_is_woken_once_for_many_lines() {
        let ring = ring(10_000);
        let reader = ring.clone();
        let wait = async move {
            let mut seen = 0;
            let mut rounds = 0;
            while seen < 1000 {
                reader.newer_than(seen).await;
                seen = reader.read(seen, 10_000, 1 << 24).seen;
                rounds += 1;
            }
            rounds
        };
        let write = async {
            tokio::task::yield_now().await;
            for _ in 0..1000 {
                ring.push(entry(Level::Info, "line"));
            }
        };
        let (rounds, ()) =
            tokio::time::timeout(Duration::from_secs(1), async { tokio::join!(wait, write) }).await.unwrap();
        assert_eq!(rounds, 1);
        assert!(!ring.shared.awaited.load(Ordering::Relaxed), "nobody waits, so the next line wakes nobody");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_line_is_overslept() {
        let ring = ring(100_000);
        let writer = ring.clone();
        let write = std::thread::spawn(move || {
            for _ in 0..20_000 {
                writer.push(entry(Level::Info, "line"));
            }
        });
        let read = async {
            let mut seen = 0;
            while seen < 20_000 {
                ring.newer_than(seen).await;
                seen = ring.read(seen, 50, 1 << 20).seen;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), read).await.unwrap();
        write.join().unwrap();
    }
}
