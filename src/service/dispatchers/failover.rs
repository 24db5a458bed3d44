//! Gives up runs whose node is gone, so that their dispatchers go on here.

use std::time::Duration;

use async_trait::async_trait;

use crate::base::chain::chain;
use crate::config::job::FAILOVER;
use crate::config::schema::name;
use crate::model::execution::Execution;
use crate::model::log_entry::Level;
use crate::service::dispatcher::{Definition, Dispatcher, Run, Verdict};
use crate::service::dispatchers::built_in;
use crate::service::parts::Parts;
use crate::service::words;
use crate::store::error::Error;

/// How often. A new primary looks at once.
const INTERVAL: Duration = Duration::from_secs(30);

/// Every half minute: one look at the runs of other nodes.
pub(crate) struct Failover {
    /// Of this node.
    pub parts: Parts,
}

/// Gives up the runs of nodes that are silent for longer than `Service.StaleTime`, or are not known any more.
pub(crate) async fn give_up_silent(parts: &Parts) -> Result<Vec<Execution>, Error> {
    let patience = parts.settings.borrow().duration(name::STALE_TIME);
    let since = parts.clock.now().minus(patience);
    let mut transaction = parts.store.begin().await?;
    let abandoned = transaction.abandon_runs_of_silent(&parts.node, since, words::given_up).await?;
    transaction.commit().await?;
    Ok(abandoned)
}

#[async_trait]
impl Dispatcher for Failover {
    fn definition(&self) -> Definition {
        built_in(
            FAILOVER,
            "Failover detection",
            "Gives up runs of service nodes that gave no sign of life for too long, so that their dispatchers go on here.",
            INTERVAL,
            Duration::from_secs(30),
        )
    }

    async fn run_once(&self, run: &Run) -> Verdict {
        match give_up_silent(&self.parts).await {
            Ok(abandoned) if abandoned.is_empty() => Verdict::normal(None),
            Ok(abandoned) => {
                for lost in &abandoned {
                    let why = lost.message.as_deref().unwrap_or_default();
                    run.log(Level::Warn, &format!("run {} of {} was abandoned: {why}", lost.id, lost.dispatcher));
                }
                Verdict::warning(format!("{} of silent nodes given up", words::runs(abandoned.len())))
            }
            Err(error) => Verdict::error(chain(&error)),
        }
    }
}
