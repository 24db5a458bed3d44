//! Writes again and again that this node and its database live.

use std::time::Duration;

use async_trait::async_trait;

use crate::base::chain::chain;
use crate::base::id::NodeId;
use crate::config::job::HEARTBEAT;
use crate::messenger::secure::SharedKeys;
use crate::service::dispatcher::{Definition, Dispatcher, Run, Verdict};
use crate::service::dispatchers::built_in;
use crate::store::Store;
use crate::store::error::Error;

/// Every `Service.HeartbeatInterval`: one row.
pub(crate) struct Heartbeat {
    /// Where it is written.
    pub store: Store,
    /// Which node lives.
    pub node: NodeId,
    /// Whose current fingerprint is written too.
    pub keys: SharedKeys,
    /// How often, at the start.
    pub interval: Duration,
}

impl Heartbeat {
    async fn beat(&self, run: &Run) -> Result<(), Error> {
        let fingerprint = self.keys.fingerprint();
        let mut transaction = self.store.begin().await?;
        transaction.beat_node(&self.node, Some(&fingerprint), run.clock.now()).await?;
        transaction.commit().await
    }
}

#[async_trait]
impl Dispatcher for Heartbeat {
    fn definition(&self) -> Definition {
        built_in(
            HEARTBEAT,
            "Heartbeat",
            "Writes into the database that this node lives, which shows that the database takes writes as well.",
            self.interval,
            Duration::from_secs(30),
        )
    }

    async fn run_once(&self, run: &Run) -> Verdict {
        match self.beat(run).await {
            Ok(()) => Verdict::normal(None),
            Err(error) => Verdict::error(chain(&error)),
        }
    }
}
