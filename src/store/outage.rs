//! Says in the log that requests were refused because of the database: once for an outage, then how many there were.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::base::chain::chain;
use crate::store::error::Error;

/// While an outage lasts its number is told so often.
const AGAIN: Duration = Duration::from_mins(1);

/// An outage is over with the first change that is taken so long after the last refusal: on a disk that is all but full small
/// changes are taken and large ones are not.
const CALM: Duration = Duration::from_secs(2);

/// Of the whole process: an error knows no store.
static OUTAGE: Outage = Outage::new();

/// A request was refused because of `error`: `what` says what kind it was.
pub(crate) fn refused(what: &'static str, error: &Error) {
    match OUTAGE.count() {
        Told::First => tracing::warn!("{what} could not be answered: {}", chain(error)),
        Told::Still(refused) => {
            tracing::warn!("{what} could not be answered: {} ({refused} refused so far)", chain(error));
        }
        Told::Quiet => tracing::debug!("{what} could not be answered: {}", chain(error)),
    }
}

/// The database took a change.
pub(crate) fn over() {
    if let Some(refused) = OUTAGE.end() {
        tracing::info!("the database takes changes again; {refused} requests were refused meanwhile");
    }
}

/// What is said of a refusal.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    First,
    Still(u64),
    Quiet,
}

#[derive(Debug)]
struct Outage(Mutex<Option<Going>>);

#[derive(Debug)]
struct Going {
    refused: u64,
    told: Instant,
    last: Instant,
}

impl Outage {
    const fn new() -> Self {
        Self(Mutex::new(None))
    }

    fn count(&self) -> Told {
        let mut going = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let Some(going) = going.as_mut() else {
            *going = Some(Going { refused: 1, told: now, last: now });
            return Told::First;
        };
        going.refused += 1;
        going.last = now;
        if now.duration_since(going.told) < AGAIN {
            return Told::Quiet;
        }
        going.told = now;
        Told::Still(going.refused)
    }

    fn end(&self) -> Option<u64> {
        let mut going = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        going.take_if(|going| going.last.elapsed() >= CALM).map(|going| going.refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_told_once_with_its_number_while_it_lasts_and_at_its_end() {
        let outage = Outage::new();
        assert_eq!(outage.end(), None);
        assert_eq!(outage.count(), Told::First);
        assert!((0..1000).all(|_| outage.count() == Told::Quiet));
        tokio::time::advance(AGAIN).await;
        assert_eq!(outage.count(), Told::Still(1002));
        assert_eq!(outage.count(), Told::Quiet);
        assert_eq!(outage.end(), None, "a change between two refusals is not the end");
        tokio::time::advance(CALM).await;
        assert_eq!(outage.end(), Some(1003));
        assert_eq!(outage.count(), Told::First, "the next outage is news");
    }
}
