//! Says in the log why peers were refused: each reason once in a while, however often they try.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::base::chain::chain;
use crate::messenger::error::Error;

/// A reason is not logged again for so long.
const QUIET: Duration = Duration::from_mins(10);

/// So many reasons are logged in that time; further ones, which only a stranger who invents names can have, are not.
const REASONS: usize = 16;

/// What was said lately.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    lately: VecDeque<(Instant, String)>,
    last: Option<String>,
}

impl Refusals {
    /// Logs `what` and why, unless the same was logged lately.
    pub(crate) fn tell(&self, what: &str, why: &Error) {
        let why = chain(why);
        if self.is_news(&why) {
            tracing::warn!("messenger: {what}: {why}");
        }
    }

    /// The last reason.
    pub(crate) fn last(&self) -> Option<String> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).last.clone()
    }

    fn is_news(&self, why: &str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.last = Some(why.to_owned());
        let now = Instant::now();
        while told.lately.front().is_some_and(|(at, _)| now.duration_since(*at) >= QUIET) {
            told.lately.pop_front();
        }
        let news = told.lately.len() < REASONS && told.lately.iter().all(|(_, said)| said != why);
        if news {
            told.lately.push_back((now, why.to_owned()));
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reason_is_news_once_in_a_while_and_many_reasons_are_bounded() {
        let refusals = Refusals::default();
        assert!(refusals.is_news("a") && refusals.is_news("b"));
        assert!((0..100).all(|_| !refusals.is_news("a")));
        assert_eq!((0..100).filter(|n| refusals.is_news(&format!("made up {n}"))).count(), REASONS - 2);
        assert_eq!(refusals.last().as_deref(), Some("made up 99"));
        tokio::time::advance(QUIET).await;
        assert!(refusals.is_news("a"));
    }
}
