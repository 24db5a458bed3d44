//! The word that a node leaves in the database it was refused by, so that pages of the others name it.

use std::time::Duration;

use tokio::time::timeout;

use crate::base::chain::chain;
use crate::base::clock::Timestamp;
use crate::base::id::NodeId;
use crate::model::log_entry::Level;
use crate::store::OpenOptions;
use crate::store::database::Database;
use crate::store::diagnostics::{Diagnostic, keep};
use crate::store::error::{Error, OpenError};
use crate::store::migrate;
use crate::store::sql;

/// The node is about to end; it waits no longer than this.
const PATIENCE: Duration = Duration::from_secs(5);

/// Keeps among the diagnostics that this node was refused because its encryption key is another. Of what refuses it otherwise it
/// writes nothing: it may not reach the database, or not know its schema. The database is none the worse if it can't be written.
pub async fn leave_word(options: &OpenOptions, node: &NodeId, host: &str, refusal: &OpenError) {
    let OpenError::OtherKey { own, wanted, .. } = refusal else { return };
    // without times and names, so that the same again is counted and not kept twice
    let message = format!(
        "refused at its start on {host}: its encryption key (id {own}) is not the one the database is sealed with (id {wanted})"
    );
    match timeout(PATIENCE, Box::pin(write(options, node, message))).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("the refusal was not written into the database: {}", chain(&error)),
        Err(_) => tracing::debug!("the refusal was not written into the database: it did not answer in time"),
    }
}

async fn write(options: &OpenOptions, node: &NodeId, message: String) -> Result<(), OpenError> {
    let database = Database::open(&options.data, options.database.as_ref()).await?;
    let mut begun = database.begin().await?;
    if migrate::version(&mut begun).await? == migrate::VERSION {
        let now = sql::query_scalar("select {now}").fetch_one(begun.on()).await.map_err(Error::from)?;
        let entry = Diagnostic {
            id: 0,
            at: Timestamp::from_micros(now),
            node: node.clone(),
            level: Level::Error,
            source: "start".to_owned(),
            message,
            count: 1,
        };
        keep(&mut begun, &[entry]).await?;
        begun.commit().await?;
    }
    database.close().await;
    Ok(())
}
