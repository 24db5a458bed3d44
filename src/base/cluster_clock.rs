//! A clock that follows the database's: all nodes of a cluster tell the same time, however their own clocks go.
//!
//! Until it first agreed with a database it is the system's clock. From then on it goes by the monotonic clock, so a system clock
//! that is set changes nothing, and is put right whenever it differs from what the database says by more than can be known.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use crate::base::clock::{Clock, SystemClock, Timestamp};

/// No agreement yet.
const ALONE: i64 = i64::MIN;

/// A difference that is not worth a step, in microseconds.
const TOLERATED: i64 = 1_000;

/// The clock of a node.
#[derive(Debug)]
pub struct ClusterClock {
    made: Instant,
    /// The database's time when this was made, in microseconds since 1970; [`ALONE`] while none is known.
    origin: AtomicI64,
}

impl ClusterClock {
    /// The system's clock, until it agrees with a database.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { made: Instant::now(), origin: AtomicI64::new(ALONE) })
    }

    /// The database said `answer` at some moment between `asked` and `answered`. A step is made only if the present reading can't
    /// be right.
    pub fn agree(&self, asked: Instant, answer: Timestamp, answered: Instant) {
        let half = micros(answered.saturating_duration_since(asked)) / 2;
        let origin = answer.as_micros().saturating_sub(micros(asked.saturating_duration_since(self.made)) + half);
        let known = self.origin.load(Ordering::Relaxed);
        if known == ALONE || known.abs_diff(origin) > half.unsigned_abs() + TOLERATED.unsigned_abs() {
            self.origin.store(origin, Ordering::Relaxed);
        }
    }
}

impl Clock for ClusterClock {
    fn now(&self) -> Timestamp {
        match self.origin.load(Ordering::Relaxed) {
            ALONE => SystemClock.now(),
            origin => Timestamp::from_micros(origin.saturating_add(micros(self.made.elapsed()))),
        }
    }
}

fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_follows_another_clock_and_does_not_step_for_nothing() {
        let clock = ClusterClock::new();
        let system = SystemClock.now();
        assert!(clock.now().since(system) < Duration::from_secs(5), "alone it is the system's");
        let asked = Instant::now();
        let theirs = system.minus(Duration::from_mins(10));
        clock.agree(asked, theirs, asked + Duration::from_millis(2));
        let read = clock.now();
        assert!(read.since(theirs) < Duration::from_secs(5), "{read} instead of {theirs}");
        let origin = clock.origin.load(Ordering::Relaxed);
        let later = asked + Duration::from_secs(1);
        clock.agree(later, theirs.plus(Duration::from_millis(1001)), later + Duration::from_millis(4));
        assert_eq!(clock.origin.load(Ordering::Relaxed), origin, "two milliseconds are within what can be known");
        clock.agree(later, theirs.plus(Duration::from_millis(1500)), later + Duration::from_millis(4));
        assert_ne!(clock.origin.load(Ordering::Relaxed), origin);
    }
}
