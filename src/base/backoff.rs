//! Jittered exponential delay between attempts.

use std::time::Duration;

use crate::base::id::random_u64;

/// How long to wait before the next attempt: doubles from `first` to `most`, each time shortened by up to half at random,
/// so that many that failed together do not come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    attempts: u32,
}

impl Backoff {
    /// Starts at `first` and never waits longer than `most`.
    #[must_use]
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, attempts: 0 }
    }

    /// The delay before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.ceiling();
        self.attempts = self.attempts.saturating_add(1);
        let half = delay / 2;
        let share = u32::try_from(random_u64() >> 32).unwrap_or(u32::MAX);
        half + half.mul_f64(f64::from(share) / f64::from(u32::MAX))
    }

    /// The longest the next delay can be.
    #[must_use]
    pub fn ceiling(&self) -> Duration {
        self.first.saturating_mul(1_u32.checked_shl(self.attempts.min(31)).unwrap_or(u32::MAX)).min(self.most)
    }

    /// An attempt worked: the next failure starts from the beginning.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_limit_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        for expected in [100, 200, 400, 800, 1600, 2000, 2000] {
            let delay = backoff.next_delay();
            assert!(delay <= Duration::from_millis(expected), "{delay:?} over {expected} ms");
            assert!(delay >= Duration::from_millis(expected / 2), "{delay:?} under half of {expected} ms");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(100));
    }

    #[test]
    fn a_million_failures_do_not_overflow() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(15));
        backoff.attempts = u32::MAX;
        assert!(backoff.next_delay() <= Duration::from_secs(15));
    }
}
