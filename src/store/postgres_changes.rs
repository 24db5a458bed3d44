//! Hears from PostgreSQL that other processes changed the database.

use std::sync::{Arc, Weak};
use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio::sync::watch;

use crate::base::chain::chain;
use crate::base::shutdown::Shutdown;
use crate::store::postgres::PostgresDatabase;
use crate::store::revision::{correct, read, tell};
use crate::store::sql::On;

/// How often the database is asked all the same: a connection may be dead and nobody knows.
const POLL: Duration = Duration::from_secs(2);
/// How long to wait after a failure, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Starts to listen. It ends when a stop is asked for, or when the store is dropped. Whatever changes from now on is noticed.
pub(crate) async fn start(
    database: &Arc<PostgresDatabase>,
    shutdown: &Shutdown,
) -> Result<watch::Sender<u64>, sqlx::Error> {
    // first listen, then look: a commit between the two is told
    let listener = database.listen().await?;
    let (changes, _) = watch::channel(read(On::PostgresPool(database.readers())).await?);
    let stopping = shutdown.clone();
    let notice = notice(Arc::downgrade(database), changes.clone(), listener);
    shutdown.spawn("store: changes", async move {
        tokio::select! {
            () = notice => {}
            () = stopping.stopping() => {}
        }
    });
    Ok(changes)
}

async fn notice(database: Weak<PostgresDatabase>, changes: watch::Sender<u64>, first: PgListener) {
    let mut listener = Some(first);
    let mut wait = BACKOFF.0;
    let mut complained = false;
    while let Some(database) = database.upgrade() {
        match hear(&database, &mut listener, &changes).await {
            Ok(()) => {
                wait = BACKOFF.0;
                complained = false;
            }
            Err(sqlx::Error::PoolClosed) => return,
            Err(error) => {
                if !complained {
                    tracing::warn!(error = %chain(&error), "can't hear from the database whether it changed; trying again until it answers");
                    complained = true;
                }
                listener = None;
                // not held while waiting: the store may go
                drop(database);
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(BACKOFF.1);
            }
        }
    }
}

/// Waits for one word, for a while; looks for itself if none came, or if it begins to listen anew.
async fn hear(
    database: &PostgresDatabase,
    listener: &mut Option<PgListener>,
    changes: &watch::Sender<u64>,
) -> Result<(), sqlx::Error> {
    if let Some(listening) = listener {
        match tokio::time::timeout(POLL, listening.try_recv()).await {
            Ok(Ok(Some(word))) => {
                if let Ok(number) = word.payload().parse() {
                    tell(changes, number);
                }
                return Ok(());
            }
            Ok(Ok(None)) => *listener = None,
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                let number = read(On::PostgresPool(database.readers())).await?;
                if correct(changes, number) {
                    // it should have been told: this connection hears nothing any more
                    *listener = None;
                }
                return Ok(());
            }
        }
    }
    *listener = Some(database.listen().await?);
    // told in any case: another server may have come to the same number by other commits
    changes.send_replace(read(On::PostgresPool(database.readers())).await?);
    Ok(())
}
