//! Keeps this node's clock with the database's.

use std::sync::Arc;
use std::time::Duration;

use crate::base::cluster_clock::{ClusterClock, Uptime};
use crate::base::shutdown::Shutdown;
use crate::store::Store;
use crate::store::error::Error;

/// How often the database is asked for the time.
const EVERY: Duration = Duration::from_secs(20);

/// Agrees with the database now, and again and again.
///
/// # Errors
/// If the database does not say what time it is.
pub async fn follow_database(store: &Store, clock: &Arc<ClusterClock>, shutdown: &Shutdown) -> Result<(), Error> {
    agree(store, clock).await?;
    let (store, clock, stopping) = (store.clone(), Arc::clone(clock), shutdown.clone());
    shutdown.spawn("clock", async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = stopping.stopping() => return,
            }
            // a database that is away is told elsewhere; until it is back the clock goes on by itself
            let _ = agree(&store, &clock).await;
        }
    });
    Ok(())
}

async fn agree(store: &Store, clock: &ClusterClock) -> Result<(), Error> {
    let asked = Uptime::now();
    let answer = store.database_time().await?;
    clock.agree(asked, answer, Uptime::now());
    Ok(())
}
