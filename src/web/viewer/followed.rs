//! The one dispatcher a page is about: its history, read again whenever the database changed.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::store::Store;
use crate::web::viewer::painted::{Painted, Told};

/// A tab reads a history at most so often, however often the database changes.
const APART: Duration = Duration::from_millis(250);

/// The longest name of a dispatcher, in bytes.
const LONGEST_NAME: usize = 64;

/// A dispatcher that a page follows.
#[derive(Debug)]
pub(crate) struct Followed {
    name: Arc<str>,
    /// The mark of the history that was told.
    told: Option<String>,
    /// The revision of the database of which it was.
    revision: Option<u64>,
    read_at: Option<Instant>,
}

/// Comes back when the database changed, not before `due_at`; never, without that.
pub(crate) async fn changed_after(changes: &mut watch::Receiver<u64>, due_at: Option<Instant>) {
    if let Some(due_at) = due_at {
        sleep_until(due_at).await;
        if changes.changed().await.is_ok() {
            return;
        }
    }
    std::future::pending::<()>().await;
}

impl Followed {
    /// Of this name; `told` is the mark of the history the page has.
    ///
    /// # Errors
    /// If it can't be a name, in words.
    pub(crate) fn new(name: &str, told: Option<String>) -> Result<Self, String> {
        if name.is_empty() || name.len() > LONGEST_NAME {
            return Err(format!("the name of a dispatcher has 1 to {LONGEST_NAME} bytes, this one {}", name.len()));
        }
        Ok(Self { name: name.into(), told, revision: None, read_at: None })
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// When its history may be read again.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        self.read_at.map(|at| at + APART)
    }

    /// The history, if the page has another. One that can't be read now is read at the next look.
    pub(crate) async fn news(&mut self, painted: &Painted, store: &Store) -> Option<Utf8Bytes> {
        let revision = *store.changes().borrow();
        if self.revision == Some(revision) || self.due_at().is_some_and(|at| Instant::now() < at) {
            return None;
        }
        self.read_at = Some(Instant::now());
        let Told { mark, message } = painted.history(store, &self.name, revision).await.ok()?;
        self.revision = Some(revision);
        (self.told.replace(mark.clone()) != Some(mark)).then_some(message)
    }
}
