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
    /// While it is live: since when. Otherwise: since when it is away, which no attempt changes; if it was never live, since the
    /// client started.
    pub since: Timestamp,
    /// Where it leads.
    pub endpoint: String,
    /// Who is there, while it is live.
    pub peer: Option<Peer>,
    /// Why it is not live, in words; kept while connecting again.
    pub error: Option<String>,
    /// Failed attempts since it was last live.
    pub attempts: u64,
    /// When the next attempt is made; none while one is being made.
    pub next_attempt_at: Option<Timestamp>,
    /// How long the other end took to answer, last time it was measured.
    pub latency: Option<Duration>,
}

/// How the link is, in one word. It goes from live to connecting to down, and from either back to live; further attempts change
/// nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// Messages go both ways.
    Live,
    /// It is away, and no attempt has failed yet since it was live or since the start.
    Connecting,
    /// It is away, and at least one attempt has failed; attempts go on until one works.
    Down,
}

impl LinkState {
    /// As answers, rows and pages call it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Connecting => "connecting",
            Self::Down => "down",
        }
    }
}
