//! This node in the table of nodes: who it is, that it lives, that it stopped; and that no other process is the same node.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::base::chain::chain;
use crate::base::clock::{SharedClock, Timestamp};
use crate::base::id::NodeId;
use crate::base::shutdown::Shutdown;
use crate::config::schema::name;
use crate::config::settings::Settings;
use crate::messenger::secure::SharedKeys;
use crate::model::node::{Node, Role};
use crate::protocol::state::NodeFacts;
use crate::store::error::{Error, OpenError};
use crate::store::node_id::OwnNodeId;
use crate::store::nodes::Beat;
use crate::store::{OpenOptions, Store, refused};

/// How often a process that starts looks whether another one, which is the same node, gives a sign of life.
const LOOK: Duration = Duration::from_millis(250);

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

/// Opens the store. Of a refusal a word is left in the database, if it takes one, so that pages name the node that is missing.
///
/// # Errors
/// If it can't be opened.
pub async fn open_store(options: OpenOptions, own: &NodeId, shutdown: &Shutdown) -> Result<Store, OpenError> {
    let store = Store::open(options.clone(), shutdown).await;
    if let Err(refusal) = &store {
        let host = facts(own.clone(), options.clock.now()).host;
        refused::leave_word(&options, own, &host, refusal).await;
    }
    store
}

/// This node's row at its start. `address`: where web nodes reach it, if it is a service node.
#[must_use]
pub fn row(facts: &NodeFacts, role: Role, address: Option<String>, own: &OwnNodeId) -> Node {
    Node {
        id: facts.id.clone(),
        role,
        host: facts.host.clone(),
        version: facts.version.clone(),
        pid: facts.pid,
        started_at: facts.started_at,
        heartbeat_at: facts.started_at,
        stopped_at: None,
        key_fingerprint: None,
        address,
        address_override: None,
        id_file: Some(own.mark().to_owned()),
    }
}

/// Makes sure that no other living process is this node, as one with a copy of this data directory would be. A process that fell
/// has left the mark of this very directory and is not waited for. Of any other one that did not say that it stopped, only time
/// tells: it beats, or its last beat gets too old.
///
/// # Errors
/// If there is one, who it is and what to do; if the database fails; if a stop was asked for meanwhile.
pub async fn be_the_only_one(
    own: &OwnNodeId,
    store: &Store,
    settings: &watch::Receiver<Arc<Settings>>,
    clock: &SharedClock,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut seen: Option<Node> = None;
    loop {
        let patience = settings.borrow().duration(name::STALE_TIME);
        let nodes = store.nodes().await?;
        let is_double = |node: &Node| {
            node.id == *own.id() && node.id_file.as_deref() != Some(own.mark()) && node.lives(clock.now(), patience)
        };
        let Some(other) = nodes.into_iter().find(is_double) else { return Ok(()) };
        let Node { id, host, pid, .. } = &other;
        match &seen {
            Some(before) if before.heartbeat_at != other.heartbeat_at => bail!(
                "another process is {id} as well: process {pid} on {host}. Most likely the data directory was copied. Remove {} and \
                 start again: a new id is made; or stop the other process",
                own.path().display()
            ),
            // however its clock went
            Some(_) if began.elapsed() >= patience => return Ok(()),
            Some(_) => {}
            None => {
                let silent = clock.now().since(other.heartbeat_at);
                let which = match other.id_file {
                    Some(_) => "from another data directory or before this machine was started",
                    None => "by an earlier version of the program",
                };
                tracing::info!(
                    "process {pid} on {host} was {id}, {which}, and did not say that it stopped: waiting for at most {} s to see \
                     whether it lives",
                    patience.saturating_sub(silent).as_secs() + 1
                );
                seen = Some(other);
            }
        }
        tokio::select! {
            () = sleep(LOOK) => {}
            () = shutdown.stopping() => bail!("a stop was asked for before this node had started"),
        }
    }
}

/// This node's row. Clones share it.
#[derive(Clone)]
pub struct Presence {
    store: Store,
    node: Node,
    keys: SharedKeys,
    clock: SharedClock,
    shutdown: Shutdown,
}

impl Presence {
    /// Of this node; nothing is written yet.
    #[must_use]
    pub fn new(store: &Store, node: Node, keys: &SharedKeys, clock: &SharedClock, shutdown: &Shutdown) -> Self {
        let (keys, clock) = (Arc::clone(keys), Arc::clone(clock));
        Self { store: store.clone(), node, keys, clock, shutdown: shutdown.clone() }
    }

    fn now(&self) -> Node {
        let (heartbeat_at, key_fingerprint) = (self.clock.now(), Some(self.keys.fingerprint()));
        Node { heartbeat_at, key_fingerprint, ..self.node.clone() }
    }

    /// Writes down that this node starts, if it is no service node: [`service::start`](crate::service::start) writes its own row.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn register(&self) -> Result<(), Error> {
        let mut transaction = self.store.begin().await?;
        transaction.register_node(&self.now()).await?;
        transaction.commit().await
    }

    /// Writes every `Service.HeartbeatInterval` that this node lives. A web node beats as well, whether anybody asks it or not.
    pub fn keep_beating(&self, mut settings: watch::Receiver<Arc<Settings>>) {
        let presence = self.clone();
        self.shutdown.spawn("heartbeat", async move {
            let mut beaten_at = Instant::now();
            loop {
                let interval = settings.borrow_and_update().duration(name::HEARTBEAT_INTERVAL);
                tokio::select! {
                    () = sleep_until(beaten_at + interval) => {}
                    // the interval may be another; changes that come often must not put the beat off
                    changed = settings.changed() => {
                        if changed.is_err() { return }
                        continue;
                    }
                    () = presence.shutdown.stopping() => return,
                }
                beaten_at = Instant::now();
                // the next beat is the next attempt; a database that is away is seen on the pages and by /readyz
                if let Err(error) = presence.beat().await {
                    tracing::debug!("this node's heartbeat was not written: {}", chain(&error));
                }
            }
        });
    }

    /// Writes that this node lives, and which messenger key it uses. If another process is this node now, this one ends.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn beat(&self) -> Result<(), Error> {
        let now = self.now();
        let mut transaction = self.store.begin_unlocked().await?;
        let (id_file, key) = (now.id_file.as_deref(), now.key_fingerprint.as_deref());
        match transaction.beat_node(&now.id, id_file, key, now.heartbeat_at).await? {
            // somebody took it for dead and removed it
            Beat::Unknown => transaction.register_node(&now).await?,
            Beat::Replaced(double) if !self.shutdown.is_stopping() => {
                tracing::error!("{double}; this process ends");
                self.shutdown.give_up();
            }
            Beat::Written | Beat::Replaced(_) => {}
        }
        transaction.commit().await
    }

    /// Writes down that this node stopped; if that fails its heartbeat tells.
    pub async fn say_stopped(&self) {
        let written = async {
            let mut transaction = self.store.begin().await?;
            transaction.stop_node(&self.node.id, self.node.id_file.as_deref(), self.clock.now()).await?;
            transaction.commit().await
        };
        if let Err::<(), Error>(error) = written.await {
            tracing::warn!("that this node stopped could not be written: {}", chain(&error));
        }
    }
}

/// What a command line that visits a node calls itself: it is no node and stands in no table.
#[must_use]
pub fn visitor() -> NodeId {
    NodeId::random("cli")
}
