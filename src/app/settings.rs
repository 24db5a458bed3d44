//! The settings in force: noticed in the database by every node, and handed to the rooms.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::base::backoff::Backoff;
use crate::base::shutdown::Shutdown;
use crate::config::settings::{Fixed, Settings};
use crate::store::Store;
use crate::store::error::Error;

/// How long to wait after a failed reading, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Reads the settings in force now. What the database holds and this version can't read is named in the log once per reading.
///
/// # Errors
/// If the database fails.
pub async fn read(store: &Store, fixed: &Fixed) -> Result<Settings, Error> {
    let stored = store.settings().await?;
    let pairs = stored.iter().map(|row| (row.name.as_str(), row.value.as_str()));
    let (settings, unread) = Settings::resolve(fixed, pairs);
    if !unread.is_empty() {
        tracing::warn!(
            "the database holds settings that this version can't read and passes over: {}",
            unread.join(", ")
        );
    }
    // saved on one node beside what is fixed on another: no node may fail by it
    for clash in settings.clashes() {
        tracing::warn!("settings that do not go together are in force: {}", clash.why);
    }
    Ok(settings)
}

/// Follows the database from now on: whoever holds the receiver sees every saved change within a second.
///
/// # Errors
/// If the database fails now; later failures are waited out.
pub async fn follow(
    store: &Store,
    fixed: Arc<Fixed>,
    shutdown: &Shutdown,
) -> Result<watch::Receiver<Arc<Settings>>, Error> {
    let mut changes = store.changes();
    changes.mark_unchanged();
    let (sender, receiver) = watch::channel(Arc::new(read(store, &fixed).await?));
    let (store, stopping) = (store.clone(), shutdown.clone());
    shutdown.spawn("settings", async move {
        let following = follow_on(&store, &fixed, changes, &sender);
        tokio::select! {
            () = following => {}
            () = stopping.stopping() => {}
            () = sender.closed() => {}
        }
    });
    Ok(receiver)
}

/// Reads after each change, and again after each failure: the next change may be a day away.
async fn follow_on(
    store: &Store,
    fixed: &Fixed,
    mut changes: watch::Receiver<u64>,
    sender: &watch::Sender<Arc<Settings>>,
) {
    while changes.changed().await.is_ok() {
        let settings = read_at_last(|| read(store, fixed)).await;
        sender.send_if_modified(|current| {
            let is_new = **current != settings;
            if is_new {
                *current = Arc::new(settings);
            }
            is_new
        });
    }
}

/// Reads until it works.
async fn read_at_last<T, R: Future<Output = Result<T, Error>>>(read: impl Fn() -> R) -> T {
    let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
    loop {
        match read().await {
            Ok(found) => return found,
            Err(_) => tokio::time::sleep(backoff.next_delay()).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failed_reading_is_tried_again_until_it_works() {
        let tries = AtomicU32::new(0);
        let flaky = || {
            let before = tries.fetch_add(1, Ordering::Relaxed);
            std::future::ready(if before < 9 { Err(Error::timed_out()) } else { Ok(before) })
        };
        assert_eq!(read_at_last(flaky).await, 9);
    }
}
