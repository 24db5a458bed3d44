//! The messenger's endpoint and key: read at the start, applied live when they change, one after the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};

use crate::app::nodes::Presence;
use crate::app::{allowed, applied, settings};
use crate::base::backoff::Backoff;
use crate::base::chain::chain;
use crate::base::clock::{SharedClock, Timestamp};
use crate::base::id::NodeId;
use crate::base::shutdown::Shutdown;
use crate::config::schema::name;
use crate::config::settings::{Fixed, Settings};
use crate::control::{self, primary};
use crate::messenger::Identity;
use crate::messenger::client::{Client, LinkState};
use crate::messenger::endpoint::Endpoint;
use crate::messenger::error::Error;
use crate::messenger::secure::keys::{Key, KeyRing};
use crate::messenger::secure::{SecureChannel, SharedKeys};
use crate::messenger::server::Server;
use crate::messenger::target::Target;
use crate::model::setting::NodeSetting;
use crate::store::Store;
use crate::store::error::Error as StoreError;

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

/// Where the primary is, is looked up so far apart at least.
const APART: Duration = Duration::from_millis(200);

/// While a former key is valid, how often is looked whether it still has to be.
const OVERLAP_CHECK: Duration = Duration::from_secs(1);

/// What a changed endpoint or key is applied to.
pub struct Applier {
    /// The listening end, on a service node.
    pub server: Option<Server>,
    /// The dialling end, on a web node.
    pub client: Option<Client>,
    /// Whom that dials at the start.
    pub dialled: Option<Target>,
    /// The keys of both.
    pub keys: SharedKeys,
    /// For the local pipe.
    pub data: PathBuf,
    /// Who dials.
    pub node: NodeId,
    /// Says in the database which key this node uses; none if it is no node but visits one.
    pub presence: Option<Presence>,
    /// Where what came of it is told.
    pub told: watch::Sender<Vec<NodeSetting>>,
}

/// An endpoint, and the value of the setting that means it.
#[derive(Clone, PartialEq, Eq)]
struct Place {
    value: String,
    endpoint: Endpoint,
}

impl Place {
    fn of(value: &str, data: &Path) -> Self {
        Self { value: value.to_owned(), endpoint: Endpoint::from_setting(value, data) }
    }
}

/// How things stand between changes.
struct Standing {
    /// Where the messenger listens; on a web node, where its link leads or is dialled.
    at: Place,
    /// Since when.
    since: Timestamp,
    /// Whom the client dials; none if it did not get where it was to go.
    dialled: Option<Target>,
    /// Since when the key in use is.
    key_since: Timestamp,
    /// What can't be had, and since when.
    missed: Option<(String, Timestamp)>,
}

impl Applier {
    /// Applies every change from now on: the new listener or link first, the old one closed after. What can't be applied is
    /// tried again, while the old one goes on working; both is told.
    pub fn start(
        self,
        store: &Store,
        mut settings: watch::Receiver<Arc<Settings>>,
        clock: &SharedClock,
        shutdown: &Shutdown,
    ) {
        let (store, clock, stopping) = (store.clone(), Arc::clone(clock), shutdown.clone());
        allowed::keep_allowing(self.server.clone(), settings.clone(), self.told.clone(), &clock, shutdown);
        let mut moves = store.changes();
        let mut standing = self.first_standing(&settings.borrow(), clock.now());
        shutdown.spawn("messenger settings", async move {
            let mut backoff = Backoff::new(RETRY.0, RETRY.1);
            loop {
                let now = Arc::clone(&settings.borrow_and_update());
                let applied = self.apply(&store, &now, &mut standing, &clock).await;
                let why = applied.as_ref().err().map(|error| chain(&**error));
                self.tell(&now, &mut standing, why.as_deref(), clock.now());
                let next = if let Ok(again) = applied {
                    backoff.reset();
                    again
                } else {
                    if backoff.ceiling() == RETRY.0 {
                        let why = why.unwrap_or_default();
                        tracing::warn!("the messenger stays as it was, the change is tried again: {why}");
                    }
                    Some(backoff.next_delay())
                };
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
                    () = self.lost_sight(&standing.at.endpoint, &mut moves) => {}
                    () = stopping.stopping() => return,
                }
            }
        });
    }

    /// As things are when everything was just started.
    fn first_standing(&self, settings: &Settings, now: Timestamp) -> Standing {
        let wanted = Place::of(settings.text(name::MESSENGER_ENDPOINT), &self.data);
        let at = match &self.server {
            // it listens at the local pipe if what is wanted could not be had: see `listen`
            Some(server) if server.endpoint() != wanted.endpoint => Place::of("", &self.data),
            _ => wanted,
        };
        let dialled = self.dialled.clone();
        Standing { at, since: now, dialled, key_since: now, missed: None }
    }

    /// On a web node that dials the primary, or has no link: waits until the database changes, for another may be primary, or a
    /// service node have said where it listens.
    async fn lost_sight(&self, place: &Endpoint, changes: &mut watch::Receiver<u64>) {
        let Some(client) = self.client.as_ref().filter(|_| self.server.is_none() || place.is_wildcard()) else {
            return std::future::pending().await;
        };
        while changes.changed().await.is_ok() {
            if place.is_wildcard() || client.status().borrow().state != LinkState::Live {
                // runs change the database often, and one look is enough for many
                return tokio::time::sleep(APART).await;
            }
        }
        std::future::pending::<()>().await;
    }

    /// Applies what is wanted now; when to look again, if the former key is valid until then.
    async fn apply(
        &self,
        store: &Store,
        settings: &Settings,
        standing: &mut Standing,
        clock: &SharedClock,
    ) -> anyhow::Result<Option<Duration>> {
        let wanted = Place::of(settings.text(name::MESSENGER_ENDPOINT), &self.data);
        let again = self.apply_key(store, settings, standing, clock).await?;
        if let Some(server) = &self.server
            && standing.at != wanted
        {
            server.relisten(wanted.endpoint.clone()).await?;
            tracing::info!("the messenger listens at {}", wanted.endpoint);
            (standing.at, standing.since) = (wanted.clone(), clock.now());
        }
        let Some(client) = &self.client else { return Ok(again) };
        let elsewhere = match &self.server {
            Some(_) => None,
            None => self.where_it_listens(store, &wanted.value).await?,
        };
        let (target, why) = match elsewhere {
            Some((place, why)) => (place, Some(why)),
            None => (wanted, None),
        };
        let dialled = self.to_dial(store, &target, standing).await?;
        if standing.dialled.as_ref() != Some(&dialled) {
            standing.dialled = None;
            if let Err(error) = client.redial(dialled.clone()).await {
                // another primary, or where the service node says it listens, is no changed setting: nobody waits where the link led
                if why.is_none() && standing.at != target {
                    self.dial_former(store, client, standing).await?;
                }
                return Err(error.into());
            }
            standing.dialled = Some(dialled);
        }
        if standing.at != target {
            (standing.at, standing.since) = (target, clock.now());
        }
        match why {
            Some(why) => Err(anyhow::anyhow!(why)),
            None => Ok(again),
        }
    }

    /// Where the setting led before is dialled in turn with what it wants now, until that can be had: a link that breaks meanwhile
    /// would not come back otherwise.
    async fn dial_former(&self, store: &Store, client: &Client, standing: &Standing) -> Result<(), StoreError> {
        if client.status().borrow().state == LinkState::Live {
            return Ok(());
        }
        let former = self.to_dial(store, &standing.at, standing).await?;
        if let Err(error) = client.redial(former).await {
            tracing::debug!("the messenger has no link where it led before either: {}", chain(&error));
        }
        Ok(())
    }

    /// Where the link is to lead. Between two primaries it stays where it leads.
    async fn to_dial(&self, store: &Store, target: &Place, standing: &Standing) -> Result<Target, StoreError> {
        if !target.endpoint.is_wildcard() {
            return Ok(target.endpoint.clone().into());
        }
        match (primary::find(store, &target.endpoint, &self.node).await?, &standing.dialled) {
            (Some(primary), _) => Ok(primary),
            (None, Some(dialled)) => Ok(dialled.clone()),
            (None, None) => primary::to_dial(store, &target.endpoint, &self.node).await,
        }
    }

    /// Where the service node listens instead, and why, if it says that it can't listen at what is wanted.
    async fn where_it_listens(&self, store: &Store, wanted: &str) -> Result<Option<(Place, String)>, StoreError> {
        let nodes = store.nodes().await?;
        let primary = store.leadership().await?.primary().cloned();
        let services = nodes.iter().filter(|node| node.role.has_service() && node.stopped_at.is_none());
        // a standby that can't listen there keeps nobody from the primary
        let service = services.max_by_key(|node| (Some(&node.id) == primary.as_ref(), node.heartbeat_at));
        let Some(service) = service else { return Ok(None) };
        let told = store.node_settings().await?.into_iter().find_map(|(node, told)| {
            (node == service.id && told.setting == name::MESSENGER_ENDPOINT && told.wanted == wanted).then_some(told)
        });
        Ok(told.and_then(|told| {
            let why = format!("{} can't listen there: {}", service.id, told.error?);
            Some((Place::of(&told.in_force, &self.data), why))
        }))
    }

    /// Tells what is in force of endpoint and key, and why it is not what is wanted.
    fn tell(&self, settings: &Settings, standing: &mut Standing, why: Option<&str>, now: Timestamp) {
        let wanted = settings.get(name::MESSENGER_ENDPOINT);
        // what failed besides, the database or the link, is told where that is told
        let why = why.filter(|_| standing.at.value != wanted.value || standing.dialled.is_none());
        standing.missed = why.map(|_| match standing.missed.take() {
            Some((value, since)) if value == wanted.value => (value, since),
            _ => (wanted.value.clone(), now),
        });
        let endpoint = NodeSetting {
            setting: name::MESSENGER_ENDPOINT.to_owned(),
            wanted: wanted.value.clone(),
            in_force: standing.at.value.clone(),
            fixed: wanted.source.locks(),
            since: standing.missed.as_ref().map_or(standing.since, |(_, since)| *since),
            error: why.map(str::to_owned),
        };
        let key = NodeSetting {
            setting: name::MESSENGER_KEY.to_owned(),
            wanted: self.keys.fingerprint(),
            in_force: self.keys.fingerprint(),
            fixed: settings.get(name::MESSENGER_KEY).source.locks(),
            since: standing.key_since,
            error: None,
        };
        applied::say(&self.told, [endpoint, key]);
    }

    /// Takes up a changed key. When to look again, if the former one is valid until then.
    async fn apply_key(
        &self,
        store: &Store,
        settings: &Settings,
        standing: &mut Standing,
        clock: &SharedClock,
    ) -> anyhow::Result<Option<Duration>> {
        let fixed = settings.get(name::MESSENGER_KEY);
        if fixed.source.locks() {
            // it can't change while the process runs
            return Ok(None);
        }
        let Some(state) = control::keys::end_overlap(store, clock, settings.duration(name::STALE_TIME)).await? else {
            return Ok(None);
        };
        if state.current.fingerprint() != self.keys.fingerprint() {
            tracing::info!("the messenger's key is {}… now", state.current.fingerprint());
            self.keys.rotate(state.current);
            // what follows from it is owed from now on, also if the next step fails and is tried again
            standing.key_since = clock.now();
            standing.dialled = None;
            // the overlap ends once every node has said so
            if let Some(presence) = &self.presence {
                presence.beat().await?;
            }
        }
        if state.former.is_none() {
            self.keys.forget_former();
            if let Some(server) = &self.server {
                server.end_links_of_forgotten_keys();
            }
            return Ok(None);
        }
        Ok(Some(OVERLAP_CHECK))
    }
}
