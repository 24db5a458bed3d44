//! What a client tells of its link: how it is, and what comes from it.

use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::messenger::Peer;
use crate::messenger::envelope::Envelope;

/// What comes from the other end.
#[derive(Debug)]
pub enum Incoming {
    /// A new link is up; what was known is to be forgotten, the whole state follows. After a move to another endpoint or a
    /// renewed link it comes without a `Down` before it.
    Up(Peer),
    /// Messages, in order; never an empty list.
    Envelopes(Vec<Envelope>),
    /// The link is gone.
    Down,
}

/// How the link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// In one word.
    pub state: LinkState,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// Where it leads.
    pub endpoint: String,
    /// Who is there, while it is live.
    pub peer: Option<Peer>,
    /// Why it is not live, in words; kept while connecting again.
    pub error: Option<String>,
    /// Failed attempts since it was last live.
    pub attempts: u64,
    /// When the next attempt is made, while down.
    pub next_attempt_at: Option<Timestamp>,
    /// How long the other end took to answer, last time it was measured.
    pub latency: Option<Duration>,
}

/// How the link is, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// Messages go both ways.
    Live,
    /// An attempt is being made.
    Connecting,
    /// No attempt worked; another will be made.
    Down,
}
