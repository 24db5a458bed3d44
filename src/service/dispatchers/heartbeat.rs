//! Proves again and again that the database takes what the primary writes.

use std::time::Duration;

use async_trait::async_trait;

use crate::base::chain::chain;
use crate::config::job::HEARTBEAT;
use crate::service::dispatcher::{Definition, Dispatcher, Run, Verdict};
use crate::service::dispatchers::built_in;
use crate::store::Store;

/// How often. Nodes write more often that they live, but that leaves no execution.
const INTERVAL: Duration = Duration::from_mins(1);

/// Every minute: one question to the database. That the run itself is written shows that it takes writes.
pub(crate) struct Heartbeat {
    /// The database.
    pub store: Store,
}

#[async_trait]
impl Dispatcher for Heartbeat {
    fn definition(&self) -> Definition {
        built_in(
            HEARTBEAT,
            "Heartbeat",
            "Shows that the service and its database work: its run is written there, from its beginning to its end.",
            INTERVAL,
            Duration::from_secs(30),
        )
    }

    async fn run_once(&self, _run: &Run) -> Verdict {
        match self.store.ping().await {
            Ok(()) => Verdict::normal(None),
            Err(error) => Verdict::error(chain(&error)),
        }
    }
}
