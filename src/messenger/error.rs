//! What can go wrong between two nodes.

use std::io;
use std::net::IpAddr;

/// What can go wrong between two nodes; shown to administrators with its causes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens there, or the pipe is not there yet.
    #[error("nobody listens at {endpoint}")]
    Refused {
        /// Where.
        endpoint: String,
        /// Why.
        source: io::Error,
    },
    /// The host's name stands for no address.
    #[error("the name in {endpoint} was not found")]
    NameNotFound {
        /// Where.
        endpoint: String,
        /// Why.
        source: io::Error,
    },
    /// Nobody said yes or no in time.
    #[error("connecting to {endpoint} timed out")]
    TimedOut {
        /// Where.
        endpoint: String,
        /// Why.
        source: io::Error,
    },
    /// The network knows no way there.
    #[error("there is no way to {endpoint}")]
    Unreachable {
        /// Where.
        endpoint: String,
        /// Why.
        source: io::Error,
    },
    /// The two ends hold different keys. Fingerprints are whole here and shortened in the text.
    #[error("key mismatch: {here} has {}…, {there} has {}…", short(.ours), short(.theirs))]
    KeyMismatch {
        /// This node.
        here: String,
        /// Fingerprint of its key.
        ours: String,
        /// The other node.
        there: String,
        /// Fingerprint of its key.
        theirs: String,
    },
    /// Another node answers where the primary was said to be.
    #[error(
        "{there} answers at {endpoint}, which is not the primary {primary}: correct {primary}'s address on the Nodes page"
    )]
    NotThePrimary {
        /// Who answers.
        there: String,
        /// Where.
        endpoint: String,
        /// Who should.
        primary: String,
    },
    /// The two ends speak no common version.
    #[error("{there} speaks protocol versions {theirs}, this node {ours}")]
    VersionMismatch {
        /// The other node.
        there: String,
        /// Its versions.
        theirs: String,
        /// Ours.
        ours: String,
    },
    /// The end that listens has too many connections that have not proved themselves yet.
    #[error("too many connections wait to prove themselves; a later attempt may find room")]
    Busy,
    /// It gave way to another one when there were too many of those.
    #[error("too many connections wait to prove themselves; the oldest gave way to a new one")]
    Displaced,
    /// One address has too many of those.
    #[error("too many connections from {0} wait to prove themselves")]
    Crowded(IpAddr),
    /// The end that listens lets this one's address in to nothing.
    #[error("the other end does not allow the address this node comes from (its Service.MessengerAllowedNetworks)")]
    NotAllowed,
    /// An address outside the allowed networks.
    #[error("{0} is in none of the networks of Service.MessengerAllowedNetworks")]
    Stranger(IpAddr),
    /// The other end refused for a reason that only its own log tells.
    #[error("the other end refused, with code {0}; its log says why")]
    Unwelcome(u8),
    /// Nothing came for too long.
    #[error("no answer for {0:?}")]
    Silent(std::time::Duration),
    /// The other end closed the link.
    #[error("the other end closed the link")]
    Closed,
    /// What came is not what the protocol allows.
    #[error("what came is no valid {0}")]
    Invalid(&'static str),
    /// The message is longer than the protocol allows.
    #[error("a message of {0} bytes is longer than the 4194304 allowed")]
    TooLong(usize),
    /// The system said no.
    #[error(transparent)]
    Io(io::Error),
}

/// As much of a fingerprint as people compare.
fn short(fingerprint: &str) -> &str {
    fingerprint.get(..8).unwrap_or(fingerprint)
}

impl From<io::Error> for Error {
    /// A link that ends by the other end's death is a closed link; a length or size out of bounds is invalid.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected
            | io::ErrorKind::UnexpectedEof => Self::Closed,
            io::ErrorKind::InvalidData => Self::Invalid("frame"),
            _ => Self::Io(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_mismatch_names_both_nodes_and_keys() {
        let error = Error::KeyMismatch {
            here: "web-2".into(),
            ours: "7f3a00112233aabb".into(),
            there: "service-1".into(),
            theirs: "91c0ffee44556677".into(),
        };
        assert_eq!(error.to_string(), "key mismatch: web-2 has 7f3a0011…, service-1 has 91c0ffee…");
    }

    #[test]
    fn the_limit_in_the_text_is_the_limit() {
        let text = Error::TooLong(5 << 20).to_string();
        assert!(text.contains(&crate::messenger::envelope::MAX_BODY.to_string()), "{text}");
    }
}
