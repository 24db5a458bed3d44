//! What the messenger doctor found, as the page of diagnostics shows it.

use std::time::Duration;

use crate::messenger::doctor::{Examination, Finding, Stage, Step};
use crate::web::html::{Html, visible};
use crate::web::moment::length;
use crate::web::phrase::{Fill as _, Phrase};
use crate::web::texts::EN;

/// The form, and what came of it. The key that was typed is never in it.
#[derive(Default)]
pub(crate) struct Doctor {
    pub(crate) endpoint: String,
    pub(crate) endpoint_fault: Option<Phrase>,
    pub(crate) key_fault: Option<Phrase>,
    /// Why nothing was tried.
    pub(crate) refused: Option<Phrase>,
    pub(crate) found: Option<Found>,
}

/// What was found.
pub(crate) struct Found {
    pub(crate) mark: &'static str,
    pub(crate) word: &'static str,
    pub(crate) endpoint: Html,
    pub(crate) fingerprint: String,
    pub(crate) said: Html,
    pub(crate) advice: &'static str,
    pub(crate) steps: Vec<StepRow>,
}

/// A step and how it went.
pub(crate) struct StepRow {
    pub(crate) mark: &'static str,
    pub(crate) name: &'static str,
    pub(crate) outcome: Phrase,
}

impl From<Examination> for Found {
    fn from(found: Examination) -> Self {
        let (mark, word) = match found.finding {
            Finding::Well => ("normal", EN.doctor_well),
            Finding::FormerKey => ("warning", EN.doctor_well),
            _ => ("error", EN.doctor_ill),
        };
        Self {
            mark,
            word,
            endpoint: visible(&found.endpoint),
            said: visible(&found.said),
            fingerprint: found.fingerprint,
            advice: found.advice,
            steps: found.steps.iter().map(step).collect(),
        }
    }
}

fn step(step: &Step) -> StepRow {
    let (mark, text) = if step.done { ("normal", EN.step_done) } else { ("error", EN.step_failed) };
    StepRow {
        mark,
        name: match step.stage {
            Stage::Resolve => EN.step_resolve,
            Stage::Connect => EN.step_connect,
            Stage::Handshake => EN.step_handshake,
            Stage::Ping => EN.step_ping,
        },
        outcome: text.with("took", length(Duration::from_micros(step.micros))),
    }
}
