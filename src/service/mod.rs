//! Floor 3: the service node runs dispatchers and feeds the web node.
//!
//! Of all service nodes on a database one is primary and runs its dispatchers; the [`campaign`] decides which, and a [`term`] is
//! what runs meanwhile. A loop around each dispatcher ([`runner`]) decides what is due, claims it in the database and writes what came of it; the
//! [`registry`] takes stored commands and hands them to the loops; every change goes into the [`feed`], every line into the
//! [`log`], and each [`link`] pulls from both by number. The [`keeper`] keeps lines in the database.

mod activity;
mod campaign;
mod claims;
mod crew;
mod declare;
pub mod dispatcher;
pub mod dispatchers;
mod execution;
mod feed;
pub mod jobs;
mod keeper;
pub mod layer;
mod lead;
mod lines;
mod link;
pub mod log;
mod parts;
mod plan;
mod registry;
mod runner;
mod runs;
mod schedule;
mod term;
mod words;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::base::clock::SharedClock;
use crate::base::shutdown::Shutdown;
use crate::config::schema::name;
use crate::config::settings::Settings;
use crate::messenger::secure::{SecureChannel, SharedKeys};
use crate::model::execution::Execution;
use crate::model::log_entry::Level;
use crate::model::node::{Node, Role};
use crate::protocol::state::{NodeFacts, NodeState};
use crate::service::campaign::Campaign;
use crate::service::crew::Crew;
use crate::service::dispatcher::Dispatcher;
use crate::service::feed::Feed;
use crate::service::keeper::Keeper;
use crate::service::link::Ends;
use crate::service::log::LogRing;
use crate::service::parts::Parts;
use crate::store::Store;
use crate::store::error::Error;

/// So many web nodes are served at once; further links are closed.
const MOST_LINKS: usize = 256;

/// How long a stopping node tries to write that it stopped.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a service node needs.
pub struct Options {
    /// The database.
    pub store: Store,
    /// What this node is.
    pub facts: NodeFacts,
    /// `service` or `all`.
    pub role: Role,
    /// Where web nodes reach it, if they may: a host, or `host:port`.
    pub address: Option<String>,
    /// A word for the file its id is from, which no other living process has.
    pub id_file: Option<String>,
    /// Whether no other service node can live on this database, so that nobody has to be waited for.
    pub alone: bool,
    /// The settings in force; every room hears of changes here.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// The log.
    pub log: LogRing,
    /// Jobs and the embedding program's dispatchers; the built-in ones are added.
    pub dispatchers: Vec<Arc<dyn Dispatcher>>,
    /// Links that proved themselves, from the messenger's server.
    pub links: mpsc::Receiver<SecureChannel>,
    /// The messenger's keys: heartbeats tell the fingerprint of the current one.
    pub keys: SharedKeys,
    /// Tells the time.
    pub clock: SharedClock,
}

/// Starts the service node: registers it, abandons runs of a former life, and becomes primary if nobody is; as primary it
/// declares the dispatchers, runs each at start that wants it, polls for stored commands. Feeds every link, primary or not.
/// Ends when the shutdown is asked for: soft, runs may finish within `Service.StopPatience`, then they are cancelled; hard,
/// they are cancelled at once.
///
/// The database must live until every task of `shutdown` has ended: ends of runs and last lines are written while stopping.
///
/// # Errors
/// If the database fails: nothing was started then.
pub async fn start(options: Options, shutdown: &Shutdown) -> Result<(), Error> {
    let Options { store, facts, role, address, id_file, alone, settings, log, dispatchers, links, keys, clock } =
        options;
    // a copy: to look twice within one statement is to wait for ever if they change in between
    let in_force = Arc::clone(&settings.borrow());
    heed_log_settings(&in_force, &log);
    let node = Node {
        id: facts.id.clone(),
        role,
        host: facts.host.clone(),
        version: facts.version.clone(),
        pid: facts.pid,
        started_at: facts.started_at,
        heartbeat_at: clock.now(),
        stopped_at: None,
        key_fingerprint: Some(keys.fingerprint()),
        address,
        address_override: None,
        id_file,
    };
    let abandoned = register(&store, &node).await?;
    let feed = Feed::new(NodeState::new(log.epoch(), facts));
    let parts = Parts::new(store, feed, log, clock, node.id.clone(), settings, shutdown.clone());
    for run in abandoned {
        let why = run.message.as_deref().unwrap_or_default();
        parts.say(&run.dispatcher, Some(run.id), Level::Warn, &format!("run {} was abandoned: {why}", run.id));
    }
    let crew = Arc::new(Crew { registered: node, parts, dispatchers, wake: Arc::default() });
    crew.complain();
    let mut campaign = Campaign::new(Arc::clone(&crew), keys, alone);
    campaign.begin().await?;
    run(&crew, campaign, links);
    Ok(())
}

/// Writes in one transaction what this node is; gives the runs of its former life, which are abandoned.
async fn register(store: &Store, node: &Node) -> Result<Vec<Execution>, Error> {
    let mut transaction = store.begin().await?;
    // before it registers: that is a sign of life of its own
    let seen = transaction.last_sign_of_life(&node.id).await?;
    transaction.register_node(node).await?;
    let abandoned = transaction.abandon_executions(&node.id, seen, words::ABANDONED).await?;
    transaction.commit().await?;
    Ok(abandoned)
}

fn heed_log_settings(settings: &Settings, log: &LogRing) {
    if let Ok(level) = settings.text(name::MINIMUM_LOG_LEVEL).parse() {
        log.set_minimum(level);
    }
    let lines = usize::try_from(settings.integer(name::LOG_RING_LINES)).unwrap_or(1);
    let bytes = usize::try_from(settings.size(name::LOG_RING_BYTES)).unwrap_or(usize::MAX);
    log.resize(lines, bytes);
}

/// Sets everything going, and the task that takes it down in the right order.
fn run(crew: &Arc<Crew>, campaign: Campaign, links: mpsc::Receiver<SecureChannel>) {
    let parts = &crew.parts;
    let shutdown = &parts.shutdown;
    let (lines_kept, end) = (CancellationToken::new(), CancellationToken::new());
    let campaign = shutdown.spawn_essential("primary or standby", campaign.run());
    let keeper = Keeper {
        log: parts.log.clone(),
        store: parts.store.clone(),
        node: parts.node.clone(),
        clock: Arc::clone(&parts.clock),
    };
    let keeper = shutdown.spawn_essential("log keeper", keeper.run(lines_kept.clone()));
    let ends = Ends {
        feed: parts.feed.clone(),
        log: parts.log.clone(),
        wake: Arc::clone(&crew.wake),
        clock: Arc::clone(&parts.clock),
        end: end.clone(),
    };
    shutdown.spawn_essential("links", accept(links, ends, shutdown.clone()));
    shutdown.spawn_essential("log settings", follow_log_settings(parts.clone()));
    let (crew, parts) = (Arc::clone(crew), parts.clone());
    shutdown.spawn("service node", async move {
        parts.shutdown.stopping().await;
        tracing::info!("the service node stops: no run begins any more");
        parts.feed.change_node(|node| node.stopping = true);
        // one that fell has been told as such
        let _ = campaign.await;
        tracing::info!("the service node stopped");
        lines_kept.cancel();
        let _ = keeper.await;
        end.cancel();
        // if it can't be written, the age of its last heartbeat tells the same
        let _ = timeout(FAREWELL, write_stopped(&crew)).await;
    });
}

async fn write_stopped(crew: &Crew) -> Result<(), Error> {
    let Parts { store, clock, node, .. } = &crew.parts;
    let mut transaction = store.begin().await?;
    transaction.stop_node(node, crew.registered.id_file.as_deref(), clock.now()).await?;
    transaction.commit().await
}

async fn follow_log_settings(parts: Parts) {
    let mut settings = parts.settings.clone();
    loop {
        tokio::select! {
            () = parts.shutdown.stopping() => return,
            changed = settings.changed() => {
                if changed.is_err() {
                    return parts.shutdown.stopping().await;
                }
                heed_log_settings(&settings.borrow_and_update().clone(), &parts.log);
            }
        }
    }
}

/// Gives every link a task of its own, until the node stops.
async fn accept(mut links: mpsc::Receiver<SecureChannel>, ends: Ends, shutdown: Shutdown) {
    let places = Arc::new(Semaphore::new(MOST_LINKS));
    loop {
        tokio::select! {
            () = shutdown.stopping() => return,
            link = links.recv() => {
                let Some(link) = link else { return shutdown.stopping().await };
                // without a place the link is dropped, which closes it; the web node dials again later
                if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                    let ends = ends.clone();
                    shutdown.spawn("link", async move {
                        link::serve(link, ends).await;
                        drop(place);
                    });
                }
            }
        }
    }
}
