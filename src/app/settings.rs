//! The settings in force: noticed in the database by every node, and handed to the rooms.

use std::sync::Arc;

use tokio::sync::watch;

use crate::base::shutdown::Shutdown;
use crate::config::settings::{Fixed, Settings};
use crate::store::Store;
use crate::store::error::Error;

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
        loop {
            tokio::select! {
                told = changes.changed() => if told.is_err() { return },
                () = stopping.stopping() => return,
                () = sender.closed() => return,
            }
            // a database that fails now changes again when it works, and until then nobody can save
            if let Ok(settings) = read(&store, &fixed).await {
                sender.send_if_modified(|current| {
                    let is_new = **current != settings;
                    if is_new {
                        *current = Arc::new(settings);
                    }
                    is_new
                });
            }
        }
    });
    Ok(receiver)
}
