//! The messenger's endpoint and key: read at the start, applied live when they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};

use crate::app::{nodes, settings};
use crate::base::backoff::Backoff;
use crate::base::chain::chain;
use crate::base::clock::SharedClock;
use crate::base::id::NodeId;
use crate::base::shutdown::Shutdown;
use crate::config::schema::name;
use crate::config::settings::{Fixed, Settings};
use crate::control;
use crate::messenger::Identity;
use crate::messenger::client::Client;
use crate::messenger::endpoint::Endpoint;
use crate::messenger::error::Error;
use crate::messenger::secure::keys::{Key, KeyRing};
use crate::messenger::secure::{SecureChannel, SharedKeys};
use crate::messenger::server::Server;
use crate::store::Store;

/// Where service nodes listen, by the settings in force.
#[must_use]
pub fn endpoint(settings: &Settings, data: &Path) -> Endpoint {
    Endpoint::from_setting(settings.text(name::MESSENGER_ENDPOINT), data)
}

/// Listens at `wanted`; if that can't be had, at the local pipe, and says so. A setting must not keep a node from starting: it
/// could not be changed on its pages then. It is tried again by [`Applier`].
///
/// # Errors
/// If the local pipe can't be had either.
pub async fn listen(
    identity: Identity,
    wanted: Endpoint,
    data: &Path,
    keys: &SharedKeys,
    shutdown: &Shutdown,
) -> Result<(Server, mpsc::Receiver<SecureChannel>), Error> {
    let local = Endpoint::from_setting("", data);
    let first = Server::listen(identity.clone(), wanted.clone(), Arc::clone(keys), shutdown).await;
    match first {
        Err(error) if wanted != local => {
            tracing::warn!(
                "the messenger can't listen at {wanted}, as the settings say; it listens at {local} for now: {}",
                chain(&error)
            );
            Server::listen(identity, local, Arc::clone(keys), shutdown).await
        }
        listening => listening,
    }
}

/// The messenger's keys, made on first use: exactly once, however many nodes start together.
///
/// # Errors
/// If the database fails or holds something that is no key.
pub async fn keys(store: &Store, fixed: &Fixed, clock: &SharedClock) -> anyhow::Result<SharedKeys> {
    let settings = settings::read(store, fixed).await?;
    let current = if settings.get(name::MESSENGER_KEY).source.locks() {
        Key::from_base64(settings.text(name::MESSENGER_KEY)).context("the fixed messenger key is no key")?
    } else {
        control::keys::settle(store, clock).await?.current
    };
    Ok(Arc::new(KeyRing::new(current)))
}

/// After a new key or path could not be applied, it is tried again, at the latest after this.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// While a former key is valid, how often is looked whether it still has to be.
const OVERLAP_CHECK: Duration = Duration::from_secs(1);

/// What a changed endpoint or key is applied to.
pub struct Applier {
    /// The listening end, on a service node.
    pub server: Option<Server>,
    /// The dialling end, on a web node.
    pub client: Option<Client>,
    /// The keys of both.
    pub keys: SharedKeys,
    /// For the local pipe.
    pub data: PathBuf,
    /// This node, which says in the database which key it uses.
    pub node: NodeId,
}

impl Applier {
    /// Applies every change from now on: the new listener or link first, the old one closed after. What can't be applied is
    /// tried again, while the old one goes on working.
    pub fn start(
        self,
        store: &Store,
        mut settings: watch::Receiver<Arc<Settings>>,
        clock: &SharedClock,
        shutdown: &Shutdown,
    ) {
        let (store, clock, stopping) = (store.clone(), Arc::clone(clock), shutdown.clone());
        let wanted = endpoint(&settings.borrow_and_update(), &self.data);
        let mut at = self.server.as_ref().map_or_else(|| wanted.clone(), Server::endpoint);
        let astray = at != wanted;
        shutdown.spawn("messenger settings", async move {
            let mut backoff = Backoff::new(RETRY.0, RETRY.1);
            let mut next = astray.then_some(RETRY.0);
            loop {
                let due = async {
                    match next {
                        Some(delay) => tokio::time::sleep(delay).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = due => {}
                    changed = settings.changed() => {
                        if changed.is_err() { return }
                        backoff.reset();
                    }
                    () = stopping.stopping() => return,
                }
                let now = Arc::clone(&settings.borrow_and_update());
                let wanted = endpoint(&now, &self.data);
                next = match self.apply(&store, &now, &at, &wanted, &clock).await {
                    Ok(again) => {
                        at = wanted;
                        backoff.reset();
                        again
                    }
                    Err(error) => {
                        if backoff.ceiling() == RETRY.0 {
                            tracing::warn!(
                                "the messenger stays as it was, the change is tried again: {}",
                                chain(&*error)
                            );
                        }
                        Some(backoff.next_delay())
                    }
                };
            }
        });
    }

    /// Applies what is wanted now; when to look again, if the former key is valid until then.
    async fn apply(
        &self,
        store: &Store,
        settings: &Settings,
        at: &Endpoint,
        wanted: &Endpoint,
        clock: &SharedClock,
    ) -> anyhow::Result<Option<Duration>> {
        let (rotated, again) = self.apply_key(store, settings, clock).await?;
        let moved = at != wanted;
        if moved && let Some(server) = &self.server {
            server.relisten(wanted.clone()).await?;
            tracing::info!("the messenger listens at {wanted}");
        }
        if (moved || rotated)
            && let Some(client) = &self.client
        {
            client.redial(wanted.clone()).await?;
        }
        Ok(again)
    }

    /// Takes up a changed key. Whether it changed, and when to look again, if the former one is valid until then.
    async fn apply_key(
        &self,
        store: &Store,
        settings: &Settings,
        clock: &SharedClock,
    ) -> anyhow::Result<(bool, Option<Duration>)> {
        let fixed = settings.get(name::MESSENGER_KEY);
        if fixed.source.locks() {
            // it can't change while the process runs
            return Ok((false, None));
        }
        let Some(state) = control::keys::end_overlap(store, clock).await? else { return Ok((false, None)) };
        let rotated = state.current.fingerprint() != self.keys.fingerprint();
        if rotated {
            tracing::info!("the messenger's key is {}… now", state.current.fingerprint());
            self.keys.rotate(state.current);
            // the overlap ends once every node has said so
            nodes::beat(store, &self.node, &self.keys, clock).await?;
        }
        if state.former.is_none() {
            self.keys.forget_former();
            if let Some(server) = &self.server {
                server.end_links_of_forgotten_keys();
            }
            return Ok((rotated, None));
        }
        Ok((rotated, Some(OVERLAP_CHECK)))
    }
}
