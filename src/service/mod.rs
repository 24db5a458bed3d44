//! Floor 3: the service node runs dispatchers and feeds the web node.
//!
//! A loop around each dispatcher ([`runner`]) decides what is due, claims it in the database and writes what came of it; the
//! [`registry`] takes stored commands and hands them to the loops; every change goes into the [`feed`], every line into the
//! [`log`], and each [`link`] pulls from both by number. The [`keeper`] keeps lines in the database.

mod activity;
mod claims;
mod declare;
pub mod dispatcher;
pub mod dispatchers;
mod execution;
mod feed;
pub mod jobs;
mod keeper;
pub mod layer;
mod lines;
mod link;
pub mod log;
mod parts;
mod plan;
mod registry;
mod runner;
mod runs;
mod schedule;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::base::clock::{SharedClock, Timestamp};
use crate::base::shutdown::Shutdown;
use crate::config::schema::name;
use crate::config::settings::Settings;
use crate::messenger::secure::{SecureChannel, SharedKeys};
use crate::model::execution::Execution;
use crate::model::log_entry::Level;
use crate::model::node::{Node, Role};
use crate::protocol::event::Change;
use crate::protocol::state::{BARS, NodeFacts, NodeState};
use crate::service::declare::Entry;
use crate::service::dispatcher::Dispatcher;
use crate::service::dispatchers::clean_up::CleanUp;
use crate::service::dispatchers::execution_dispatch::{Ask, ExecutionDispatch};
use crate::service::dispatchers::heartbeat::Heartbeat;
use crate::service::feed::Feed;
use crate::service::keeper::Keeper;
use crate::service::link::Ends;
use crate::service::log::LogRing;
use crate::service::parts::Parts;
use crate::service::plan::{Before, Now, Plan};
use crate::service::registry::{Post, Registry};
use crate::service::runner::{Charge, Orders, Runner};
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

/// Starts the service node: registers it, abandons runs of a former life, declares the dispatchers, runs each at start that
/// wants it, polls for stored commands, feeds every link. Ends when the shutdown is asked for: soft, runs may finish within
/// `Service.StopPatience`, then they are cancelled; hard, they are cancelled at once.
///
/// The database must live until every task of `shutdown` has ended: ends of runs and last lines are written while stopping.
///
/// # Errors
/// If the database fails: nothing was started then.
pub async fn start(options: Options, shutdown: &Shutdown) -> Result<(), Error> {
    let Options { store, facts, role, settings, log, dispatchers, links, keys, clock } = options;
    // a copy: to look twice within one statement is to wait for ever if they change in between
    let in_force = Arc::clone(&settings.borrow());
    heed_log_settings(&in_force, &log);
    let now = Now { wall: clock.now(), monotonic: Instant::now() };

    let (asks, asked) = mpsc::channel(8);
    let mut all: Vec<Arc<dyn Dispatcher>> = vec![
        Arc::new(Heartbeat {
            store: store.clone(),
            node: facts.id.clone(),
            keys: Arc::clone(&keys),
            interval: in_force.duration(name::HEARTBEAT_INTERVAL),
        }),
        Arc::new(ExecutionDispatch { registry: asks, interval: in_force.duration(name::POLL_INTERVAL) }),
        Arc::new(CleanUp { store: store.clone(), settings: settings.clone() }),
    ];
    all.extend(dispatchers);
    let (entries, complaints) = declare::enlist(all);
    for complaint in complaints {
        tracing::error!("{complaint}");
    }

    let planned = plan(&store, entries, now).await?;
    let node = Node {
        id: facts.id.clone(),
        role,
        host: facts.host.clone(),
        version: facts.version.clone(),
        pid: facts.pid,
        started_at: facts.started_at,
        heartbeat_at: now.wall,
        stopped_at: None,
        key_fingerprint: Some(keys.fingerprint()),
    };
    let abandoned = register(&store, &node, &planned, now).await?;

    let feed = Feed::new(NodeState::new(log.epoch(), facts));
    let parts = Parts::new(store, feed, log, clock, node.id, settings, shutdown.clone());
    let parts = Arc::new(parts);
    for run in abandoned {
        let why = run.message.as_deref().unwrap_or_default();
        let text = format!("run {} was abandoned: {why}", run.id);
        parts.say(&run.dispatcher, Some(run.id), Level::Warn, &text);
    }
    let mut history = BTreeMap::<_, Vec<_>>::new();
    for run in parts.store.recent_runs(u32::try_from(BARS).unwrap_or(u32::MAX)).await? {
        history.entry(run.dispatcher.clone()).or_default().push(run);
    }
    let mut posts = BTreeMap::new();
    let mut runners = Vec::new();
    for planned in planned {
        let name = planned.entry.definition.name.clone();
        let (post, runner) = prepare(&parts, planned, history.get(&name).map_or(&[], Vec::as_slice), now);
        posts.insert(name, post);
        runners.extend(runner);
    }
    tracing::info!("the service node started with {} dispatchers", posts.len());
    let runners = runners.into_iter().map(|runner| shutdown.spawn_essential("dispatcher", runner.run())).collect();
    run(&parts, Work { posts, runners, asked, links });
    Ok(())
}

fn heed_log_settings(settings: &Settings, log: &LogRing) {
    if let Ok(level) = settings.text(name::MINIMUM_LOG_LEVEL).parse() {
        log.set_minimum(level);
    }
    let lines = usize::try_from(settings.integer(name::LOG_RING_LINES)).unwrap_or(1);
    let bytes = usize::try_from(settings.size(name::LOG_RING_BYTES)).unwrap_or(usize::MAX);
    log.resize(lines, bytes);
}

/// A dispatcher and when it runs.
struct Planned {
    entry: Entry,
    plan: Plan,
    paused: Option<(String, Timestamp)>,
}

async fn plan(store: &Store, entries: Vec<Entry>, now: Now) -> Result<Vec<Planned>, Error> {
    let known: BTreeMap<_, _> = store.dispatchers().await?.into_iter().map(|row| (row.name.clone(), row)).collect();
    let mut planned = Vec::new();
    for entry in entries {
        let known = known.get(&entry.definition.name);
        let before = Before {
            next_at: known.and_then(|row| row.next_at),
            paused: known.is_some_and(|row| row.paused.is_some()),
        };
        let Entry { definition, timetable, .. } = &entry;
        let plan = Plan::new(timetable.clone(), before, definition.run_at_start, definition.catch_up, now);
        planned.push(Planned { paused: known.and_then(|row| row.paused.clone()), plan, entry });
    }
    Ok(planned)
}

/// Writes in one transaction what this node is and has; gives the runs of its former life, which are abandoned.
async fn register(store: &Store, node: &Node, planned: &[Planned], now: Now) -> Result<Vec<Execution>, Error> {
    let rows: Vec<_> = planned
        .iter()
        .map(|planned| {
            let definition = &planned.entry.definition;
            let next_at = if definition.disabled_by.is_some() { None } else { planned.plan.next_at(now) };
            declare::row(definition, next_at)
        })
        .collect();
    let mut transaction = store.begin().await?;
    // before it registers: that is a sign of life of its own
    let seen = transaction.last_sign_of_life(&node.id).await?;
    transaction.register_node(node).await?;
    let abandoned = transaction.abandon_executions(&node.id, seen, words::ABANDONED).await?;
    transaction.declare_dispatchers(&rows).await?;
    transaction.commit().await?;
    Ok(abandoned)
}

/// Declares a dispatcher to those who watch, and makes its loop, unless it is switched off.
fn prepare(parts: &Arc<Parts>, planned: Planned, history: &[Execution], now: Now) -> (Post, Option<Runner>) {
    let Planned { entry: Entry { dispatcher, definition, interval_setting, .. }, plan, paused } = planned;
    let disabled_by = definition.disabled_by.clone();
    let next_at = if disabled_by.is_some() { None } else { plan.next_at(now) };
    let state = declare::state(&definition, next_at, paused.as_ref(), history);
    let failing = state.failures > 0;
    parts.feed.change(Change::Declared(Box::new(state)));
    let (orders, ordered) = watch::channel(Orders { paused: paused.clone(), ..Orders::default() });
    let post = Post { orders, disabled_by: disabled_by.clone() };
    let runner = disabled_by.is_none().then(|| {
        let charge = Charge { dispatcher, definition, interval_setting, plan, paused, failing, orders: ordered };
        Runner::new(Arc::clone(parts), charge)
    });
    (post, runner)
}

/// What is to be set going.
struct Work {
    posts: BTreeMap<String, Post>,
    runners: Vec<JoinHandle<()>>,
    asked: mpsc::Receiver<Ask>,
    links: mpsc::Receiver<SecureChannel>,
}

/// Sets everything going, and the task that takes it down in the right order.
fn run(parts: &Arc<Parts>, work: Work) {
    let Work { posts, runners, asked, links } = work;
    let shutdown = &parts.shutdown;
    let wake = Arc::new(Notify::new());
    let (runs_over, lines_kept, end) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let registry = Registry::new(Arc::clone(parts), posts, Arc::clone(&wake), asked);
    let registry = shutdown.spawn_essential("registry", registry.run(runs_over.clone()));
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
        wake,
        clock: Arc::clone(&parts.clock),
        end: end.clone(),
    };
    shutdown.spawn_essential("links", accept(links, ends, shutdown.clone()));
    shutdown.spawn_essential("log settings", follow_log_settings(Arc::clone(parts)));
    let parts = Arc::clone(parts);
    shutdown.spawn("service node", async move {
        parts.shutdown.stopping().await;
        tracing::info!("the service node stops: no run begins any more");
        let facts = parts.feed.look(|state| state.node.clone());
        parts.feed.change(Change::Node(NodeFacts { stopping: true, ..facts }));
        for runner in runners {
            // one that fell has been told as such
            let _ = runner.await;
        }
        runs_over.cancel();
        let _ = registry.await;
        tracing::info!("the service node stopped");
        lines_kept.cancel();
        let _ = keeper.await;
        end.cancel();
        // if it can't be written, the age of its last heartbeat tells the same
        let _ = timeout(FAREWELL, write_stopped(&parts)).await;
    });
}

async fn write_stopped(parts: &Parts) -> Result<(), Error> {
    let mut transaction = parts.store.begin().await?;
    transaction.stop_node(&parts.node, parts.clock.now()).await?;
    transaction.commit().await
}

async fn follow_log_settings(parts: Arc<Parts>) {
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
