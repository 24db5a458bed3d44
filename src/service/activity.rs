//! Which one word says what a dispatcher is doing or waiting for.

use crate::base::clock::Timestamp;
use crate::protocol::state::Activity;

/// What is known of a dispatcher at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// By which setting or line it is switched off.
    pub disabled_by: Option<String>,
    /// Who paused it, and when.
    pub paused: Option<(String, Timestamp)>,
    /// How many runs go on.
    pub running: usize,
    /// How many runs wait.
    pub queued: u32,
    /// Since when something is due that can't begin.
    pub overdue: Option<Timestamp>,
    /// Whether the last run that was not cancelled failed.
    pub failing: bool,
    /// When it runs by itself.
    pub next_at: Option<Timestamp>,
}

impl Facts {
    /// The word, with its reason. What keeps work from being done comes before what is being done, and that before what is
    /// to come; but a run that goes on is shown also while its dispatcher is paused.
    pub(crate) fn activity(&self) -> Activity {
        if let Some(by) = &self.disabled_by {
            Activity::Disabled { by: by.clone() }
        } else if let Some(expected_by) = self.overdue {
            Activity::Overdue { expected_by }
        } else if self.running > 0 {
            Activity::Running
        } else if self.queued > 0 {
            Activity::Queued
        } else if let Some((by, since)) = &self.paused {
            Activity::Paused { by: by.clone(), since: *since }
        } else if self.failing {
            Activity::Failing { next_attempt: self.next_at }
        } else {
            Activity::Idle
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_that_matters_most_is_chosen() {
        let at = Timestamp::from_micros(5);
        let mut facts = Facts::default();
        let mut word = |change: fn(&mut Facts, Timestamp)| {
            change(&mut facts, at);
            facts.activity()
        };
        assert_eq!(word(|_, _| {}), Activity::Idle);
        assert_eq!(word(|facts, _| facts.failing = true), Activity::Failing { next_attempt: None });
        assert_eq!(word(|facts, at| facts.next_at = Some(at)), Activity::Failing { next_attempt: Some(at) });
        assert_eq!(
            word(|facts, at| facts.paused = Some(("ann".into(), at))),
            Activity::Paused { by: "ann".into(), since: at }
        );
        assert_eq!(word(|facts, _| facts.queued = 2), Activity::Queued);
        assert_eq!(word(|facts, _| facts.running = 1), Activity::Running);
        assert_eq!(word(|facts, at| facts.overdue = Some(at)), Activity::Overdue { expected_by: at });
        assert_eq!(
            word(|facts, _| facts.disabled_by = Some("enabled = false".into())),
            Activity::Disabled { by: "enabled = false".into() }
        );
    }
}
