//! This node in the table of nodes: who it is, that it lives, that it stopped.

use std::sync::Arc;

use tokio::sync::watch;

use crate::base::chain::chain;
use crate::base::clock::{SharedClock, Timestamp};
use crate::base::id::NodeId;
use crate::base::shutdown::Shutdown;
use crate::config::schema::name;
use crate::config::settings::Settings;
use crate::messenger::secure::SharedKeys;
use crate::model::node::{Node, Role};
use crate::protocol::state::NodeFacts;
use crate::store::Store;
use crate::store::error::Error;

/// What is known of this node at its start.
#[must_use]
pub fn facts(id: NodeId, started_at: Timestamp) -> NodeFacts {
    NodeFacts {
        id,
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at,
        stopping: false,
        absences: Vec::new(),
    }
}

/// Writes down that this node starts, if it is no service node: [`service::start`](crate::service::start) writes its own row.
///
/// # Errors
/// If the database fails.
pub async fn register(
    store: &Store,
    facts: &NodeFacts,
    role: Role,
    keys: &SharedKeys,
    clock: &SharedClock,
) -> Result<(), Error> {
    let mut transaction = store.begin().await?;
    transaction
        .register_node(&Node {
            id: facts.id.clone(),
            role,
            host: facts.host.clone(),
            version: facts.version.clone(),
            pid: facts.pid,
            started_at: facts.started_at,
            heartbeat_at: clock.now(),
            stopped_at: None,
            key_fingerprint: Some(keys.fingerprint()),
            address: None,
            address_override: None,
        })
        .await?;
    transaction.commit().await
}

/// Writes every `Service.HeartbeatInterval` that this node lives. A web node beats as well, whether anybody asks it or not.
pub fn keep_beating(
    store: &Store,
    id: &NodeId,
    keys: &SharedKeys,
    settings: &watch::Receiver<Arc<Settings>>,
    clock: &SharedClock,
    shutdown: &Shutdown,
) {
    let (store, id, keys, clock) = (store.clone(), id.clone(), Arc::clone(keys), Arc::clone(clock));
    let (mut settings, stopping) = (settings.clone(), shutdown.clone());
    shutdown.spawn("heartbeat", async move {
        loop {
            let interval = settings.borrow_and_update().duration(name::HEARTBEAT_INTERVAL);
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                changed = settings.changed() => {
                    if changed.is_err() { return }
                    continue;
                }
                () = stopping.stopping() => return,
            }
            // the next beat is the next attempt; a database that is away is seen on the pages and by /readyz
            if let Err(error) = beat(&store, &id, &keys, &clock).await {
                tracing::debug!("this node's heartbeat was not written: {}", chain(&error));
            }
        }
    });
}

/// Writes that this node lives, and which messenger key it uses.
///
/// # Errors
/// If the database fails.
pub async fn beat(store: &Store, id: &NodeId, keys: &SharedKeys, clock: &SharedClock) -> Result<(), Error> {
    let mut transaction = store.begin_unlocked().await?;
    transaction.beat_node(id, Some(&keys.fingerprint()), clock.now()).await?;
    transaction.commit().await
}

/// Writes down that this node stopped; if that fails its heartbeat tells.
pub async fn say_stopped(store: &Store, id: &NodeId, clock: &SharedClock) {
    let written = async {
        let mut transaction = store.begin().await?;
        transaction.stop_node(id, clock.now()).await?;
        transaction.commit().await
    };
    if let Err(error) = written.await {
        tracing::warn!("that this node stopped could not be written: {}", chain(&error));
    }
}

/// What a command line that visits a node calls itself: it is no node and stands in no table.
#[must_use]
pub fn visitor() -> NodeId {
    NodeId::random("cli")
}
