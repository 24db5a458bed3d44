//! One term as primary: the dispatchers' loops and the registry that hands them what is stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::base::clock::Timestamp;
use crate::base::id::NodeId;
use crate::model::execution::Execution;
use crate::model::log_entry::Level;
use crate::protocol::event::Change;
use crate::protocol::state::{Activity, BARS, DispatcherState, NodeState, Run};
use crate::service::crew::Crew;
use crate::service::declare::{self, Entry};
use crate::service::dispatchers::failover;
use crate::service::lead::Lead;
use crate::service::parts::{Parts, TermParts};
use crate::service::plan::{Before, Now, Plan};
use crate::service::registry::{Post, Registry};
use crate::service::runner::{Charge, Orders, Runner};
use crate::store::Store;
use crate::store::error::Error;

/// A term that goes on, or is ending.
pub(crate) struct Term {
    parts: Arc<TermParts>,
    runners: Vec<JoinHandle<()>>,
    registry: JoinHandle<()>,
    runs_over: CancellationToken,
}

/// A dispatcher and when it runs.
struct Planned {
    entry: Entry,
    plan: Plan,
    paused: Option<(String, Timestamp)>,
}

impl Term {
    /// Gives up runs of nodes that are gone, declares the dispatchers, and sets their loops going.
    ///
    /// # Errors
    /// If the database fails: nothing was started then.
    pub(crate) async fn begin(crew: &Crew, lead: Lead) -> Result<Self, Error> {
        let parts = Arc::new(TermParts { parts: crew.parts.clone(), over: crew.parts.shutdown.child(), lead });
        let now = parts.now();
        let (entries, asked) = crew.enlist();
        let planned = plan(&parts.store, entries, now).await?;
        declare_rows(&parts, &planned, now).await?;
        for run in failover::give_up_silent(&parts).await? {
            let why = run.message.as_deref().unwrap_or_default();
            parts.say(&run.dispatcher, Some(run.id), Level::Warn, &format!("run {} was abandoned: {why}", run.id));
        }
        let history = history(&parts.store).await?;
        let mut posts = BTreeMap::new();
        let mut runners = Vec::new();
        for planned in planned {
            let name = planned.entry.definition.name.clone();
            let (post, runner) = prepare(&parts, planned, history.get(&name).map_or(&[], Vec::as_slice), now);
            posts.insert(name, post);
            runners.extend(runner);
        }
        tracing::info!("this node is the primary: it starts with {} dispatchers", posts.len());
        let runners =
            runners.into_iter().map(|runner| parts.over.spawn_essential("dispatcher", runner.run())).collect();
        let runs_over = CancellationToken::new();
        let registry = Registry::new(Arc::clone(&parts), posts, Arc::clone(&crew.wake), asked);
        let registry = parts.over.spawn_essential("registry", registry.run(runs_over.clone()));
        Ok(Self { parts, runners, registry, runs_over })
    }

    /// Begins nothing more; runs go on to their end.
    pub(crate) fn end(&self) {
        self.parts.over.stop();
    }

    /// After the end: waits until every run is over. Cancellations are obeyed until then.
    pub(crate) async fn over(self) {
        for runner in self.runners {
            // one that fell has been told as such
            let _ = runner.await;
        }
        self.runs_over.cancel();
        let _ = self.registry.await;
    }
}

/// Shows every dispatcher as the work of another node.
pub(crate) async fn stand_by(crew: &Crew, primary: &NodeId) -> Result<(), Error> {
    let (entries, _) = crew.enlist();
    let history = history(&crew.parts.store).await?;
    for Entry { definition, .. } in entries {
        let runs = history.get(&definition.name).map_or(&[][..], Vec::as_slice);
        let mut state = declare::state(&definition, None, None, runs);
        if definition.disabled_by.is_none() {
            state.activity = Activity::Standby { primary: primary.clone() };
        }
        let known = crew.parts.feed.look(|known| known.dispatchers.get(&definition.name).cloned());
        state.running = known.as_ref().map_or_else(Vec::new, |known| going_on(&crew.parts, known));
        if known.as_ref() != Some(&state) {
            crew.parts.feed.change(Change::Declared(Box::new(state)));
        }
    }
    Ok(())
}

/// Those of its runs that go on here, from a former term. What other nodes run is shown anew by whoever is primary: nobody told this one
/// how it ended.
fn going_on(parts: &Parts, known: &DispatcherState) -> Vec<Run> {
    known.running.iter().filter(|run| parts.held.has(run.execution)).cloned().collect()
}

async fn history(store: &Store) -> Result<BTreeMap<String, Vec<Execution>>, Error> {
    let mut history = BTreeMap::<_, Vec<_>>::new();
    for run in store.recent_runs(u32::try_from(BARS).unwrap_or(u32::MAX)).await? {
        history.entry(run.dispatcher.clone()).or_default().push(run);
    }
    Ok(history)
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

async fn declare_rows(parts: &Parts, planned: &[Planned], now: Now) -> Result<(), Error> {
    let rows: Vec<_> = planned
        .iter()
        .map(|planned| {
            let definition = &planned.entry.definition;
            let next_at = if definition.disabled_by.is_some() { None } else { planned.plan.next_at(now) };
            declare::row(definition, next_at)
        })
        .collect();
    let mut transaction = parts.store.begin().await?;
    transaction.declare_dispatchers(&rows).await?;
    transaction.commit().await
}

/// Declares a dispatcher to those who watch, and makes its loop, unless it is switched off.
fn prepare(parts: &Arc<TermParts>, planned: Planned, history: &[Execution], now: Now) -> (Post, Option<Runner>) {
    let Planned { entry: Entry { dispatcher, definition, interval_setting, .. }, plan, paused } = planned;
    let disabled_by = definition.disabled_by.clone();
    let next_at = if disabled_by.is_some() { None } else { plan.next_at(now) };
    let state = declare::state(&definition, next_at, paused.as_ref(), history);
    let failing = state.failures > 0;
    let known = |known: &NodeState| known.dispatchers.get(&state.name).map(|known| going_on(parts, known));
    let state = DispatcherState { running: parts.feed.look(known).unwrap_or_default(), ..state };
    parts.feed.change(Change::Declared(Box::new(state)));
    let (orders, ordered) = watch::channel(Orders { paused: paused.clone(), ..Orders::default() });
    let post = Post { orders, disabled_by: disabled_by.clone() };
    let runner = disabled_by.is_none().then(|| {
        let charge = Charge { dispatcher, definition, interval_setting, plan, paused, failing, orders: ordered };
        Runner::new(Arc::clone(parts), charge)
    });
    (post, runner)
}
