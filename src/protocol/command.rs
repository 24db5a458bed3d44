//! Web to service: something is stored, wake up; and who watches.

use serde::{Deserialize, Serialize};

use crate::base::id::Cursor;

/// What a web node asks of a service node. Nothing depends on its arriving: what matters is in the database already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Look into the database now, not at the next poll.
    Wake {
        /// For this dispatcher; for all if none is named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dispatcher: Option<String>,
    },
    /// Somebody watches here: send changes and log lines from now on, beginning with the whole state.
    Watch {
        /// Log lines after this place; from the oldest held if it is of another life of the node, or none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<Cursor>,
    },
    /// Nobody watches here any more: only beats.
    Unwatch,
    /// "I live", and nothing else to say.
    Beat,
}
