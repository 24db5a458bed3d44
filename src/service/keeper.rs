//! Keeps the log's lines in the database: info and above, in batches, so many a second.
//!
//! Reads the ring by number, so a failing database delays and does not lose, until the ring itself loses; that is kept as a
//! counted gap, as are lines beyond the rate. Nothing is logged here: each line would make another.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::base::backoff::Backoff;
use crate::base::clock::{SharedClock, Timestamp};
use crate::base::id::NodeId;
use crate::base::ring::Counts;
use crate::model::log_entry::{Level, LogEntry, LogGap};
use crate::service::log::{Lines, LogRing};
use crate::store::Store;
use crate::store::error::Error;

/// How long lines are gathered before they are written.
const GATHER: Duration = Duration::from_millis(200);

/// Lines and bytes written at once.
const BATCH: usize = 2_000;
const BATCH_BYTES: usize = 1 << 20;

/// Lines kept a second, in the long run.
const RATE: u32 = 500;

/// Lines kept at once after a quiet time.
const BURST: u32 = 2_000;

/// When the allowance is used up, so much of it must be there again before lines are kept again: few long gaps, not many short.
const RESUME: u32 = 100;

/// How long a stopping node tries to write the last lines.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Keeps lines of one node.
pub(crate) struct Keeper {
    /// The log.
    pub log: LogRing,
    /// Where lines are kept.
    pub store: Store,
    /// Whose lines.
    pub node: NodeId,
    /// Tells the time.
    pub clock: SharedClock,
}

impl Keeper {
    /// Keeps lines until `end`, then what is left.
    pub(crate) async fn run(self, end: CancellationToken) {
        let mut seen = 0;
        let mut allowance = Allowance::default();
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let mut last_try = None;
        loop {
            tokio::select! {
                () = self.log.newer_than(seen) => {}
                () = end.cancelled() => {}
            }
            if end.is_cancelled() {
                let last_try = *last_try.get_or_insert_with(|| Instant::now() + LAST_WORDS);
                if self.log.last() <= seen || Instant::now() >= last_try {
                    return;
                }
            }
            let read = self.log.read(seen, BATCH, BATCH_BYTES);
            // tried on a copy: if the database fails, the same lines are allowed again
            let mut tried = allowance.clone();
            let rows = sift(&read, &mut tried, self.clock.now());
            let kept = timeout(LAST_WORDS * 2, self.keep(&rows)).await;
            let pause = if matches!(kept, Ok(Ok(()))) {
                seen = read.seen;
                allowance = tried;
                backoff.reset();
                if read.more { Duration::ZERO } else { GATHER }
            } else {
                backoff.next_delay()
            };
            tokio::select! {
                () = sleep(pause) => {}
                // the last tries follow each other closely, but do not spin
                () = end.cancelled() => sleep(pause.min(Duration::from_millis(50))).await,
            }
        }
    }

    async fn keep(&self, rows: &Rows) -> Result<(), Error> {
        if rows.lines.is_empty() && rows.gaps.is_empty() {
            return Ok(());
        }
        let mut transaction = self.store.begin().await?;
        transaction.keep_rows(&self.node, self.log.epoch(), &rows.lines, &rows.gaps).await?;
        transaction.commit().await
    }
}

/// What is written of a batch.
#[derive(Debug, Default)]
struct Rows {
    lines: Vec<(u64, LogEntry)>,
    gaps: Vec<(Timestamp, LogGap)>,
}

/// Chooses what of the lines read is kept.
fn sift(read: &Lines, allowance: &mut Allowance, now: Timestamp) -> Rows {
    let mut rows = Rows::default();
    if let Some(lost) = read.gap {
        let known: u64 = lost.by_level.iter().sum();
        let info = usize::from(Level::Info.index());
        // what was lost would not have been kept, if all of it is known to be below info
        if lost.by_level[info..].iter().sum::<u64>() > 0 || known < lost.to - lost.from + 1 {
            rows.gaps.push((now, lost));
        }
    }
    let mut open: Option<(Timestamp, LogGap)> = None;
    // lines below info within a gap belong to it, so that it is known of each of its lines which level it had
    let mut details = Counts::default();
    for (seq, entry) in (read.first..).zip(&read.entries) {
        let level = usize::from(entry.level.index());
        if entry.level < Level::Info {
            details[level] += 1;
        } else if allowance.takes(entry.time) {
            rows.gaps.extend(open.take());
            rows.lines.push((seq, (**entry).clone()));
        } else {
            let (_, gap) = open.get_or_insert_with(|| {
                details = Counts::default();
                (entry.time, LogGap { from: seq, to: seq, by_level: Counts::default() })
            });
            gap.to = seq;
            gap.by_level[level] += 1;
            for (sum, count) in gap.by_level.iter_mut().zip(std::mem::take(&mut details)) {
                *sum += count;
            }
        }
    }
    rows.gaps.extend(open);
    rows
}

/// How many more lines may be kept. Counted in the lines' own time, so that lines that waited for a failing database are
/// judged as they came.
#[derive(Clone, Debug)]
struct Allowance {
    /// In thousandths of a line.
    left: u64,
    at: Option<Timestamp>,
    used_up: bool,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { left: u64::from(BURST) * 1000, at: None, used_up: false }
    }
}

impl Allowance {
    fn takes(&mut self, time: Timestamp) -> bool {
        // a clock set back adds nothing and is gone on from
        let passed = self.at.map_or(Duration::ZERO, |at| time.since(at));
        self.at = Some(time);
        let more = u64::try_from(passed.as_micros()).unwrap_or(u64::MAX).saturating_mul(u64::from(RATE)) / 1000;
        self.left = self.left.saturating_add(more).min(u64::from(BURST) * 1000);
        if self.used_up && self.left < u64::from(RESUME) * 1000 {
            return false;
        }
        self.used_up = self.left < 1000;
        if !self.used_up {
            self.left -= 1000;
        }
        !self.used_up
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn lines(first: u64, entries: impl IntoIterator<Item = (u64, Level)>) -> Lines {
        let entries: Vec<_> = entries
            .into_iter()
            .map(|(micros, level)| {
                Arc::new(LogEntry {
                    time: Timestamp::from_micros(i64::try_from(micros).unwrap()),
                    level,
                    source: "s".into(),
                    execution: None,
                    stream: None,
                    text: "x".into(),
                })
            })
            .collect();
        Lines { gap: None, first, seen: first + entries.len() as u64 - 1, entries, more: false }
    }

    fn now() -> Timestamp {
        Timestamp::from_micros(9)
    }

    #[test]
    fn info_and_above_is_kept_with_its_number() {
        let read = lines(5, [(0, Level::Info), (0, Level::Debug), (0, Level::Error), (0, Level::Trace)]);
        let rows = sift(&read, &mut Allowance::default(), now());
        assert_eq!(rows.lines.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [5, 7]);
        assert_eq!(rows.gaps, []);
    }

    #[test]
    fn beyond_the_rate_lines_become_few_counted_gaps() {
        // ten seconds of 10,000 lines a second, one in ten an error
        let level = |at: u64| if at.is_multiple_of(10) { Level::Error } else { Level::Info };
        let read = lines(1, (0..100_000).map(|at| (at * 100, level(at))));
        let rows = sift(&read, &mut Allowance::default(), now());
        let kept = rows.lines.len() as u64;
        assert!((6_800..=7_000).contains(&kept), "{kept} of 2,000 at once and 500 a second");
        let told: u64 = rows.gaps.iter().map(|(_, gap)| gap.by_level.iter().sum::<u64>()).sum();
        assert_eq!(kept + told, 100_000);
        assert!(rows.gaps.len() <= 50, "{} gaps", rows.gaps.len());
        for (_, gap) in &rows.gaps {
            assert_eq!(gap.by_level.iter().sum::<u64>(), gap.to - gap.from + 1);
        }
    }

    #[test]
    fn a_gap_knows_the_level_of_each_of_its_lines() {
        let level = |at: u64| [Level::Debug, Level::Info, Level::Trace][usize::try_from(at % 3).unwrap()];
        let read = lines(1, (0..9_000).map(|at| (at, level(at))));
        let rows = sift(&read, &mut Allowance::default(), now());
        assert_eq!(rows.gaps.len(), 1);
        let gap = rows.gaps[0].1;
        assert_eq!(gap.by_level.iter().sum::<u64>(), gap.to - gap.from + 1);
        assert!(gap.by_level[0] > 0 && gap.by_level[1] > 0, "{gap:?}");
    }

    #[test]
    fn five_hundred_a_second_are_all_kept() {
        let read = lines(1, (0..30_000).map(|at| (at * 2_000, Level::Info)));
        assert_eq!(sift(&read, &mut Allowance::default(), now()).lines.len(), 30_000);
    }

    #[test]
    fn a_clock_set_back_does_not_close_the_gate() {
        let mut allowance = Allowance::default();
        assert!(allowance.takes(Timestamp::from_micros(3_600_000_000)));
        let kept = (0..10_000_u32).filter(|at| allowance.takes(Timestamp::from_micros(i64::from(*at) * 2_000))).count();
        assert!(kept >= 9_999, "{kept}");
    }

    #[test]
    fn what_the_ring_lost_is_a_gap_unless_it_was_all_below_info() {
        let lost = |by_level| LogGap { from: 1, to: 10, by_level };
        let mut read = lines(11, [(0, Level::Info)]);
        for (by_level, expected) in [
            ([4, 3, 2, 1, 0], Some([4, 3, 2, 1, 0])),
            ([5, 5, 0, 0, 0], None),
            ([5, 0, 0, 0, 0], Some([5, 0, 0, 0, 0])),
        ] {
            read.gap = Some(lost(by_level));
            let rows = sift(&read, &mut Allowance::default(), now());
            assert_eq!(rows.gaps.first().map(|(_, gap)| gap.by_level), expected);
        }
    }
}
