//! A user, what it may do, and its session.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::base::clock::Timestamp;

/// What a user may do everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceRole {
    /// Everything.
    ServiceAdmin,
    /// See every page, change nothing.
    AdminViewer,
    /// Read `/metrics`.
    MetricsViewer,
}

impl ServiceRole {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ServiceAdmin, Self::AdminViewer, Self::MetricsViewer];

    /// As written in JSON, in the database and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ServiceAdmin => "service_admin",
            Self::AdminViewer => "admin_viewer",
            Self::MetricsViewer => "metrics_viewer",
        }
    }
}

impl fmt::Display for ServiceRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ServiceRole {
    type Err = BadServiceRole;

    fn from_str(text: &str) -> Result<Self, BadServiceRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| BadServiceRole(text.to_owned()))
    }
}

/// A text that names no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no role; roles are service_admin, admin_viewer and metrics_viewer")]
pub struct BadServiceRole(String);

/// A user's name: letters, digits, `_` and `-` ([`UserName::MAX`] at most), as AMS allows it in addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct UserName(String);

impl UserName {
    /// The longest name, in characters.
    pub const MAX: usize = 64;

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for UserName {
    type Err = BadUserName;

    fn from_str(text: &str) -> Result<Self, BadUserName> {
        let fits = (1..=Self::MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if fits { Ok(Self(text.to_owned())) } else { Err(BadUserName) }
    }
}

/// A text that can't be a user's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name is 1 to 64 letters (a–z, A–Z), digits, `_` and `-`")]
pub struct BadUserName;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Never changes.
    pub uuid: String,
    /// What it signs in with.
    pub name: UserName,
    /// Where to reach its owner; may be empty.
    pub email: String,
    /// What it may do everywhere.
    pub service_roles: Vec<ServiceRole>,
    /// Whether it has a password, without which it can't sign in.
    pub has_password: bool,
    /// Whether it has a token for `x-api-key`.
    pub has_token: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last signed in.
    pub last_sign_in_at: Option<Timestamp>,
}

impl User {
    /// Whether it has this role.
    #[must_use]
    pub fn has(&self, role: ServiceRole) -> bool {
        self.service_roles.contains(&role)
    }
}

/// Somebody signed in with a browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// SHA-256 of the cookie's 256 bits; the bits themselves are only in the browser.
    pub id_hash: [u8; 32],
    /// Who.
    pub user: User,
    /// When it signed in.
    pub created_at: Timestamp,
    /// When it was last used.
    pub last_seen_at: Timestamp,
    /// From where it signed in.
    pub address: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_letters_digits_underscore_and_hyphen() {
        for good in ["a", "Ann-2_x", &"x".repeat(64)] {
            assert!(good.parse::<UserName>().is_ok(), "{good}");
        }
        for bad in ["", "a b", "ä", "a/b", "<script>", "a\n", &"x".repeat(65)] {
            assert_eq!(bad.parse::<UserName>(), Err(BadUserName), "{bad:?}");
        }
    }
}
