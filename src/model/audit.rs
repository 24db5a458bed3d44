//! Who did what, when and from where.

use crate::base::clock::Timestamp;

/// One action of a person or a script, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Rises with time.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// Who: a user's name, or `cli:UID` for the command line on the node's machine.
    pub who: String,
    /// From where: an address, or `local`.
    pub address: String,
    /// What, as `noun:verb` (`dispatcher:run`, `setting:change`, `session:begin`).
    pub action: String,
    /// To what: a dispatcher's, setting's or user's name; may be empty.
    pub subject: String,
    /// What came of it, in words; never a secret.
    pub result: String,
}

/// An action about to be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAuditEntry {
    /// Who.
    pub who: String,
    /// From where.
    pub address: String,
    /// What.
    pub action: &'static str,
    /// To what.
    pub subject: String,
    /// What came of it.
    pub result: String,
}
