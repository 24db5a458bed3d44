//! Words and shapes for states, outcomes and causes: never colour alone.

use crate::messenger::client::LinkState;
use crate::model::execution::{Cause, Execution, Outcome, Phase};
use crate::protocol::state::Activity;
use crate::web::html::{Html, visible};
use crate::web::moment::{ago, length, since, stamp};
use crate::web::phrase::{Fill as _, Phrase};
use crate::web::texts::EN;

/// What a dispatcher is doing or waiting for, in one word.
pub(crate) fn activity(activity: &Activity) -> &'static str {
    match activity {
        Activity::Idle => EN.state_idle,
        Activity::Queued => EN.state_queued,
        Activity::Running => EN.state_running,
        Activity::Paused { .. } => EN.state_paused,
        Activity::Failing { .. } => EN.state_failing,
        Activity::Overdue { .. } => EN.state_overdue,
        Activity::Standby { .. } => EN.state_standby,
        Activity::Disabled { .. } => EN.state_disabled,
    }
}

/// How a run ended, in one word.
pub(crate) fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Normal => EN.outcome_normal,
        Outcome::Warning => EN.outcome_warning,
        Outcome::Error => EN.outcome_error,
        Outcome::Cancelled => EN.outcome_cancelled,
        Outcome::Abandoned => EN.outcome_abandoned,
    }
}

/// How far a run has come, in one word.
pub(crate) fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Queued => EN.state_queued,
        Phase::Running => EN.state_running,
        Phase::Completed => EN.phase_completed,
    }
}

/// Why a run was started, and by whom.
pub(crate) fn cause(cause: Cause, by: Option<&str>) -> Phrase {
    let text = match (cause, by) {
        (Cause::Schedule, _) => EN.cause_schedule,
        (Cause::StartUp, _) => EN.cause_start_up,
        (Cause::CatchUp, _) => EN.cause_catch_up,
        (Cause::Retry, _) => EN.cause_retry,
        (Cause::Manual, None) => EN.cause_manual,
        (Cause::Api, None) => EN.cause_api,
        (Cause::Manual, Some(_)) => EN.cause_manual_by,
        (Cause::Api, Some(_)) => EN.cause_api_by,
    };
    text.with("who", by.unwrap_or_default())
}

/// How the link to the service is, in one word.
pub(crate) fn link(state: LinkState) -> &'static str {
    match state {
        LinkState::Live => EN.link_live,
        LinkState::Connecting => EN.link_connecting,
        LinkState::Down => EN.link_down,
    }
}

/// A run in a list.
pub(crate) struct RunRow {
    pub(crate) id: i64,
    pub(crate) dispatcher: String,
    /// The name of its sign and colour: an outcome, `queued` or `running`.
    pub(crate) mark: &'static str,
    pub(crate) word: &'static str,
    pub(crate) cause: Phrase,
    /// When it began; while it waits, when it was asked for.
    pub(crate) when: Html,
    pub(crate) duration: Html,
    pub(crate) message: Option<Html>,
    pub(crate) ends: bool,
}

impl RunRow {
    /// Of this run.
    pub(crate) fn of(run: &Execution) -> Self {
        let (mark, word) = mark(run);
        Self {
            id: run.id.0,
            dispatcher: run.dispatcher.clone(),
            mark,
            word,
            cause: cause(run.cause, run.requested_by.as_deref()),
            when: ago(run.started_at.unwrap_or(run.queued_at)),
            duration: duration(run),
            message: run.message.as_deref().map(visible),
            ends: run.outcome.is_some(),
        }
    }
}

/// The sign and word of a run: its outcome, or how far it has come.
pub(crate) fn mark(run: &Execution) -> (&'static str, &'static str) {
    match (run.outcome, run.phase()) {
        (Some(ended), _) => (ended.as_str(), outcome(ended)),
        (None, so_far) => (so_far.as_str(), phase(so_far)),
    }
}

/// How long a run took or has taken.
pub(crate) fn duration(run: &Execution) -> Html {
    match (run.duration(), run.started_at) {
        (Some(duration), _) => Html::rendered(length(duration).replace('<', "&lt;")),
        (None, Some(started)) if run.outcome.is_none() => since(started),
        (None, Some(_)) => visible(EN.unknown),
        _ => Html::rendered("–".to_owned()),
    }
}

/// When a run ended; of an abandoned one nobody knows more than when it still went on.
pub(crate) fn ended(run: &Execution) -> Phrase {
    match (run.finished_at, run.outcome) {
        (Some(at), Some(Outcome::Abandoned)) => EN.ended_not_before.markup("when", stamp(at)),
        (at, _) => "{when}".markup("when", stamp_or_dash(at)),
    }
}

/// A moment that may not have come.
pub(crate) fn stamp_or_dash(at: Option<crate::base::clock::Timestamp>) -> Html {
    at.map_or_else(|| Html::rendered("–".to_owned()), stamp)
}
