//! Floor 1: what nodes say to each other: reports one way, commands the other.
//!
//! Bodies are MessagePack with field names: neighbouring versions understand each other during a rolling upgrade, an unknown
//! field is passed over, an unknown kind of message is counted and dropped.

mod apply;
pub mod command;
pub mod event;
pub mod state;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::base::clock::Timestamp;
use crate::base::id::Epoch;
use crate::model::log_entry::{LogEntry, LogGap};
use crate::protocol::command::Command;
use crate::protocol::event::Event;
use crate::protocol::state::NodeState;

/// Service to web.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Report {
    /// Everything: first on a new link, and whenever events were missed.
    Whole(Box<NodeState>),
    /// What changed since, in order and without gaps.
    Events {
        /// In which life of the service node.
        epoch: Epoch,
        /// Numbered; the first follows the last number said before.
        events: Vec<Event>,
    },
    /// Lines of the log.
    Log(LogBatch),
    /// "I live": all there is to say while nobody watches.
    Beat {
        /// In which life of the service node.
        epoch: Epoch,
        /// The number of the last event.
        number: u64,
        /// The sender's time.
        at: Timestamp,
    },
}

/// Lines of a log, and what was lost before them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogBatch {
    /// In which life of the service node.
    pub epoch: Epoch,
    /// What the ring no longer held when this reader came to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<LogGap>,
    /// The number of the first entry; the others follow.
    pub first: u64,
    /// The lines.
    pub entries: Vec<LogEntry>,
}

/// Which of the two an envelope's body is; stands in its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A [`Report`].
    Report = 1,
    /// A [`Command`].
    Command = 2,
}

/// A body that does not say what it should.
#[derive(Debug, thiserror::Error)]
#[error("a message of this kind can't be read")]
pub struct Unreadable(#[from] rmp_serde::decode::Error);

impl Report {
    /// As bytes for an envelope of kind [`Kind::Report`].
    #[must_use]
    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    /// From the body of such an envelope.
    ///
    /// # Errors
    /// If it is no report this version knows; the link is sound and goes on.
    pub fn decode(body: &[u8]) -> Result<Self, Unreadable> {
        Ok(rmp_serde::from_slice(body)?)
    }
}

impl Command {
    /// As bytes for an envelope of kind [`Kind::Command`].
    #[must_use]
    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    /// From the body of such an envelope.
    ///
    /// # Errors
    /// If it is no command this version knows; the link is sound and goes on.
    pub fn decode(body: &[u8]) -> Result<Self, Unreadable> {
        Ok(rmp_serde::from_slice(body)?)
    }
}

fn encode(message: &impl Serialize) -> Bytes {
    rmp_serde::to_vec_named(message).expect("our own messages hold nothing MessagePack can't write").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::log_entry::Level;

    #[test]
    fn a_beat_fits_into_a_hundred_bytes() {
        let beat = Report::Beat { epoch: Epoch::random(), number: u64::MAX, at: Timestamp::from_micros(i64::MAX) };
        assert!(beat.encode().len() <= 64, "{} bytes leave too little for header and seal", beat.encode().len());
    }

    #[test]
    fn a_field_of_a_later_version_is_passed_over() {
        #[derive(Serialize)]
        enum Later {
            Beat { epoch: Epoch, number: u64, at: Timestamp, mood: &'static str },
        }
        let at = Timestamp::from_micros(1);
        let later = Later::Beat { epoch: Epoch::from_u64(1), number: 2, at, mood: "good" };
        let body = rmp_serde::to_vec_named(&later).unwrap();
        assert_eq!(Report::decode(&body).unwrap(), Report::Beat { epoch: Epoch::from_u64(1), number: 2, at });
    }

    #[test]
    fn every_state_of_a_dispatcher_is_the_same_on_the_other_side() {
        use crate::base::id::NodeId;
        use crate::protocol::event::Change;
        use crate::protocol::state::{Activity, Pause};

        let at = Timestamp::from_micros(1_795_223_419_123_456);
        let activities = [
            Activity::Idle,
            Activity::Queued,
            Activity::Running,
            Activity::Paused { by: "ann".into(), since: at },
            Activity::Failing { next_attempt: Some(at) },
            Activity::Failing { next_attempt: None },
            Activity::Overdue { expected_by: Timestamp::from_micros(-1) },
            Activity::Standby { primary: NodeId::new("service-1") },
            Activity::Disabled { by: "enabled = false".into() },
        ];
        let paused = Some(Pause { by: "ann".into(), since: at });
        let change =
            |activity| Change::Activity { dispatcher: "a".into(), activity, paused: paused.clone(), next_at: Some(at) };
        let events =
            (1..).zip(activities).map(|(number, activity)| Event { number, change: change(activity) }).collect();
        let report = Report::Events { epoch: Epoch::from_u64(1), events };
        assert_eq!(Report::decode(&report.encode()).unwrap(), report);
    }

    #[test]
    fn a_pause_is_a_field_that_an_older_version_leaves_out() {
        use crate::protocol::event::Change;
        use crate::protocol::state::Activity;

        #[derive(Serialize)]
        enum Older {
            Activity { dispatcher: &'static str, activity: Activity, next_at: Option<Timestamp> },
        }
        let activity = Activity::Paused { by: "ann".into(), since: Timestamp::from_micros(1) };
        let older = Older::Activity { dispatcher: "a", activity: activity.clone(), next_at: None };
        let change: Change = rmp_serde::from_slice(&rmp_serde::to_vec_named(&older).unwrap()).unwrap();
        let expected = Change::Activity { dispatcher: "a".into(), activity, paused: None, next_at: None };
        assert_eq!(change, expected);
    }

    #[test]
    fn garbage_is_an_error_and_no_panic() {
        for body in [&b""[..], b"\xc1", b"\xdf\xff\xff\xff\xff", b"hello", &[0xff; 64]] {
            assert!(Report::decode(body).is_err());
            assert!(Command::decode(body).is_err());
        }
    }

    #[test]
    fn a_line_is_the_same_on_the_other_side() {
        let entry = LogEntry {
            time: Timestamp::from_micros(1_795_223_419_123_456),
            level: Level::Warn,
            source: "disk-space".into(),
            execution: Some(crate::base::id::ExecutionId(7)),
            stream: None,
            text: "94 % <full>".into(),
        };
        let report =
            Report::Log(LogBatch { epoch: Epoch::from_u64(u64::MAX), gap: None, first: 9, entries: vec![entry] });
        assert_eq!(Report::decode(&report.encode()).unwrap(), report);
    }
}
