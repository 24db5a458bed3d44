//! What a service node brings to every term: its parts, and the dispatchers it has.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc};

use crate::config::schema::name;
use crate::model::node::Node;
use crate::service::declare::{self, Entry};
use crate::service::dispatcher::Dispatcher;
use crate::service::dispatchers::clean_up::CleanUp;
use crate::service::dispatchers::execution_dispatch::{Ask, ExecutionDispatch};
use crate::service::dispatchers::failover::Failover;
use crate::service::dispatchers::heartbeat::Heartbeat;
use crate::service::parts::Parts;

/// A service node and its dispatchers.
pub(crate) struct Crew {
    /// What the node wrote of itself at its start.
    pub registered: Node,
    /// What every part uses.
    pub parts: Parts,
    /// Jobs and the embedding program's dispatchers.
    pub dispatchers: Vec<Arc<dyn Dispatcher>>,
    /// Told when a web node says that something is stored.
    pub wake: Arc<Notify>,
}

impl Crew {
    /// What the node writes of itself now.
    pub(crate) fn node(&self, key_fingerprint: &str) -> Node {
        let (heartbeat_at, key_fingerprint) = (self.parts.clock.now(), Some(key_fingerprint.to_owned()));
        Node { heartbeat_at, key_fingerprint, ..self.registered.clone() }
    }

    /// Every dispatcher, the built-in ones first, and where execution dispatch asks for a look. Those that can't be had were
    /// complained of at the start.
    pub(crate) fn enlist(&self) -> (Vec<Entry>, mpsc::Receiver<Ask>) {
        let (entries, _, asked) = self.enlist_all();
        (entries, asked)
    }

    /// Says which dispatchers can't be had, and why.
    pub(crate) fn complain(&self) {
        for complaint in self.enlist_all().1 {
            tracing::error!("{complaint}");
        }
    }

    fn enlist_all(&self) -> (Vec<Entry>, Vec<String>, mpsc::Receiver<Ask>) {
        let Parts { store, settings, .. } = &self.parts;
        let (asks, asked) = mpsc::channel(8);
        let interval = settings.borrow().duration(name::POLL_INTERVAL);
        let mut all: Vec<Arc<dyn Dispatcher>> = vec![
            Arc::new(Heartbeat { store: store.clone() }),
            Arc::new(Failover { parts: self.parts.clone() }),
            Arc::new(ExecutionDispatch { registry: asks, interval }),
            Arc::new(CleanUp { store: store.clone(), settings: settings.clone() }),
        ];
        all.extend(self.dispatchers.iter().cloned());
        let (entries, complaints) = declare::enlist(all);
        (entries, complaints, asked)
    }
}
