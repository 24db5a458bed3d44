//! Waiting for what will come: looks again and again until a deadline, and says what it waited for.

use std::time::{Duration, Instant};

/// Long enough for anything on a busy machine; a test that fails takes this long, one that passes does not.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(15);

/// Looks until `look` gives something, at most `limit`; gives that and how long it took.
///
/// # Panics
/// If it does not come in time.
pub(crate) async fn within<T>(limit: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> (T, Duration) {
    let began = Instant::now();
    loop {
        // one look may hang as little as all of them
        let left = limit.saturating_sub(began.elapsed()).max(PAUSE);
        if let Ok(Some(found)) = tokio::time::timeout(left, look()).await {
            return (found, began.elapsed());
        }
        assert!(began.elapsed() < limit, "{what}: not within {limit:?}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Looks until `look` gives something, at most [`PATIENCE`].
pub(crate) async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look).await.0
}

/// `Some(())` if it is so: for a look that is a question.
pub(crate) fn so(yes: bool) -> Option<()> {
    yes.then_some(())
}

/// The time on the wall in microseconds since 1970: what a job writes into its lines.
pub(crate) fn wall_micros() -> i64 {
    use switchboard::base::clock::{Clock as _, SystemClock};
    SystemClock.now().as_micros()
}

/// The value below which `percent` of these lie.
pub(crate) fn percentile(values: &mut [i64], percent: usize) -> i64 {
    assert!(!values.is_empty(), "nothing was measured");
    values.sort_unstable();
    values[(values.len() * percent / 100).min(values.len() - 1)]
}
