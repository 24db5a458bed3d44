//! Floor 3: the one door for actions: run, pause, cancel, change a setting. Checks, row, audit, wake-up.

mod diagnostics;
pub mod doctor;
pub mod import;
pub mod keys;
pub mod nodes;
pub mod past;
pub mod primary;
mod runs;
mod settings;
pub mod users;

use crate::auth::access::{Right, allow};
use crate::base::clock::SharedClock;
use crate::config::settings::Fixed;
use crate::messenger::client::Client;
use crate::model::audit::NewAuditEntry;
use crate::model::execution::Execution;
use crate::model::user::{ServiceRole, User};
use crate::protocol::Kind;
use crate::protocol::command::Command;
use crate::store::error::Error;
use crate::store::{Store, Transaction};

/// Who acts, and from where.
#[derive(Clone, Debug)]
pub struct Actor {
    /// A user's name, or `cli:UID`.
    pub who: String,
    /// An address, or `local`.
    pub address: String,
    /// What that user may do; the command line on the node's machine is administrator.
    pub roles: Vec<ServiceRole>,
}

impl Actor {
    /// A user, from an address.
    pub fn user(user: &User, address: impl Into<String>) -> Self {
        Self { who: user.name.to_string(), address: address.into(), roles: user.service_roles.clone() }
    }

    /// Whether it may change anything.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`] if it may not.
    fn must_act(&self) -> Result<(), Refusal> {
        if allow(&self.roles, Right::Act) { Ok(()) } else { Err(Refusal::Forbidden) }
    }
}

/// Why an action was not taken; nothing was changed. The text is shown to whoever asked.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// 403.
    #[error("this user may look, but not act")]
    Forbidden,
    /// 404.
    #[error("{0}")]
    NotFound(String),
    /// 409.
    #[error("{0}")]
    Conflict(String),
    /// 400: what is wrong with which field.
    #[error("{}", .0.iter().map(|(name, why)| format!("{name}: {why}")).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<(String, String)>),
    /// 429: too many passwords are being hashed.
    #[error("{0}")]
    Busy(String),
    /// 503.
    #[error(transparent)]
    Store(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Conflict(text) => Self::Conflict(text),
            other => Self::Store(other),
        }
    }
}

impl Refusal {
    fn invalid(field: &str, why: impl Into<String>) -> Self {
        Self::Invalid(vec![(field.to_owned(), why.into())])
    }
}

/// A run that was asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The run.
    pub execution: Execution,
    /// Whether it is new, or the same click again.
    pub new: bool,
    /// Whether the service was told at once; if not it looks by itself within the poll interval, or when it is started again.
    pub told: bool,
    /// Whether the service is stopping: the run begins when it is started again.
    pub stopping: bool,
}

/// One change of a setting.
#[derive(Clone)]
pub struct Change {
    /// Of which setting.
    pub name: String,
    /// Its new value; none or empty: back to the default.
    pub value: Option<String>,
    /// The version the person saw; none: not checked.
    pub seen: Option<i64>,
}

/// The door.
#[derive(Clone)]
pub struct Control {
    store: Store,
    messenger: Option<Client>,
    fixed: std::sync::Arc<Fixed>,
    clock: SharedClock,
    stopping: std::sync::Arc<dyn Fn() -> bool + Send + Sync>,
    practice: Option<std::sync::Arc<doctor::Practice>>,
}

impl Control {
    /// `messenger` is none where there is none to wake (a command line without a pipe).
    pub fn new(store: Store, messenger: Option<Client>, fixed: std::sync::Arc<Fixed>, clock: SharedClock) -> Self {
        Self { store, messenger, fixed, clock, stopping: std::sync::Arc::new(|| false), practice: None }
    }

    /// With a way to know whether the service is stopping, so that nobody is promised a run that does not begin now.
    #[must_use]
    pub fn knowing(self, stopping: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { stopping: std::sync::Arc::new(stopping), ..self }
    }

    /// With what it takes to try an endpoint and a key.
    #[must_use]
    pub fn trying(self, practice: doctor::Practice) -> Self {
        Self { practice: Some(std::sync::Arc::new(practice)), ..self }
    }

    /// Tells the service to look into the database now. Whether it could be told; if not it looks within the poll interval.
    fn wake(&self, dispatcher: Option<&str>) -> bool {
        let command = Command::Wake { dispatcher: dispatcher.map(str::to_owned) };
        self.messenger.as_ref().is_some_and(|client| client.send(Kind::Command as u8, command.encode()).is_ok())
    }

    async fn audit(
        &self,
        transaction: &mut Transaction,
        actor: &Actor,
        action: &'static str,
        subject: &str,
        result: String,
    ) -> Result<(), Error> {
        let entry = NewAuditEntry {
            who: actor.who.clone(),
            address: actor.address.clone(),
            action,
            subject: subject.to_owned(),
            result,
        };
        transaction.append_audit(&entry, self.clock.now()).await
    }
}

/// A name somebody gave, fit to stand in an answer: at most 64 characters, none of them a control character.
fn quoted(name: &str) -> String {
    let mut text: String = name.chars().take(64).map(|c| if c.is_control() { '?' } else { c }).collect();
    if name.chars().nth(64).is_some() {
        text.push('…');
    }
    format!("`{text}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_of_the_store_is_a_conflict_of_the_door() {
        assert!(matches!(Refusal::from(Error::Conflict("taken".into())), Refusal::Conflict(text) if text == "taken"));
        assert!(matches!(Refusal::from(Error::Sealed("key".into())), Refusal::Store(_)));
    }

    #[test]
    fn only_administrators_act() {
        for (roles, acts) in [
            (vec![], false),
            (vec![ServiceRole::AdminViewer, ServiceRole::MetricsViewer], false),
            (vec![ServiceRole::ServiceAdmin], true),
        ] {
            let actor = Actor { who: "ann".into(), address: "local".into(), roles };
            assert_eq!(actor.must_act().is_ok(), acts, "{actor:?}");
        }
    }

    #[test]
    fn what_is_quoted_is_short_and_in_one_line() {
        assert_eq!(quoted("a\nb"), "`a?b`");
        assert_eq!(quoted(&"x".repeat(1_000)).chars().count(), 67);
    }
}
