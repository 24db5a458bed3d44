//! A clock that follows the database's: all nodes of a cluster tell the same time, however their own clocks go.
//!
//! Until it first agreed with a database it is the system's clock. From then on it goes by the monotonic clock, so a system clock
//! that is set changes nothing and a machine that slept knows how long, and is put right whenever it differs from what the database says by more than can be known.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::base::clock::{Clock, SystemClock, Timestamp};

/// No agreement yet.
const ALONE: i64 = i64::MIN;

/// A difference that is not worth a step, in microseconds.
const TOLERATED: i64 = 1_000;

/// A moment in the time since this machine was started, in microseconds. It goes on while the machine is suspended, as
/// `Instant` does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uptime(i64);

impl Uptime {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        let since_start = clock_gettime(ClockId::Boottime);
        Self(since_start.tv_sec.saturating_mul(1_000_000).saturating_add(since_start.tv_nsec / 1_000))
    }

    /// So much later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }
}

/// The clock of a node.
#[derive(Debug)]
pub struct ClusterClock {
    /// The database's time when this machine was started, in microseconds since 1970; [`ALONE`] while none is known.
    origin: AtomicI64,
}

impl ClusterClock {
    /// The system's clock, until it agrees with a database.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { origin: AtomicI64::new(ALONE) })
    }

    /// The database said `answer` at some moment between `asked` and `answered`. A step is made only if the present reading can't
    /// be right.
    pub fn agree(&self, asked: Uptime, answer: Timestamp, answered: Uptime) {
        let half = answered.0.saturating_sub(asked.0) / 2;
        let origin = answer.as_micros().saturating_sub(asked.0.saturating_add(half));
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
            origin => Timestamp::from_micros(origin.saturating_add(Uptime::now().0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_another_clock_and_does_not_step_for_nothing() {
        let clock = ClusterClock::new();
        let system = SystemClock.now();
        assert!(clock.now().since(system) < Duration::from_secs(5), "alone it is the system's");
        let asked = Uptime::now();
        let theirs = system.minus(Duration::from_mins(10));
        clock.agree(asked, theirs, Uptime(asked.0 + 2_000));
        let read = clock.now();
        assert!(read.since(theirs) < Duration::from_secs(5), "{read} instead of {theirs}");
        let origin = clock.origin.load(Ordering::Relaxed);
        let later = Uptime(asked.0 + 1_000_000);
        clock.agree(later, theirs.plus(Duration::from_millis(1001)), Uptime(later.0 + 4_000));
        assert_eq!(clock.origin.load(Ordering::Relaxed), origin, "two milliseconds are within what can be known");
        clock.agree(later, theirs.plus(Duration::from_millis(1500)), Uptime(later.0 + 4_000));
        assert_ne!(clock.origin.load(Ordering::Relaxed), origin);
    }

    #[test]
    fn it_goes_on_while_the_machine_sleeps() {
        // the kernel's own count, which includes the time asleep
        let told = std::fs::read_to_string("/proc/uptime").unwrap();
        let seconds: f64 = told.split(' ').next().unwrap().parse().unwrap();
        let since_start = Duration::from_micros(u64::try_from(Uptime::now().0).unwrap());
        assert!(since_start.abs_diff(Duration::from_secs_f64(seconds)) < Duration::from_secs(5), "{since_start:?}");
    }
}
