//! Several service nodes on one database: one is primary, and another follows it when it stops, dies, or is asked to hand over.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use switchboard::base::clock::{Clock as _, ManualClock, Timestamp};
use switchboard::base::id::NodeId;
use switchboard::config::job::Schedule;
use switchboard::model::execution::{Cause, Execution, Outcome};
use switchboard::model::log_entry::{Level, LogEntry};
use switchboard::protocol::state::Activity;
use switchboard::service::dispatcher::Dispatcher;
use switchboard::store::Store;
use switchboard::store::executions::NewExecution;
use tempfile::tempdir;

use crate::service::mirror::{Mirror, Seen};
use crate::service::{Act, LIMIT, Setup, Steps, TestNode, ask, definition, eventually, played};

/// A node that may have others beside it, with short times.
fn one_of_several() -> Setup {
    let setup = Setup { alone: false, ..Setup::new() };
    setup.with("Service.HeartbeatInterval", "1s").with("Service.StaleTime", "3s")
}

/// A job that ends when it is let, and what is heard of it.
fn held(name: &str, overlap: bool) -> (Vec<Arc<dyn Dispatcher>>, Arc<Steps>) {
    let mut definition = definition(name, Schedule::Manual);
    definition.overlap = overlap;
    let (job, steps) = played(definition, |_| Act::UntilLet);
    (vec![job], steps)
}

async fn primary_becomes(store: &Store, node: &NodeId) {
    eventually(store, "another primary", async || {
        (store.leadership().await.unwrap().primary() == Some(node)).then_some(())
    })
    .await;
}

/// Waits until this node is primary, asked to take over from another.
async fn hand_over(store: &Store, node: &NodeId) {
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let begun = Instant::now();
    while store.leadership().await.unwrap().primary() != Some(node) {
        assert!(begun.elapsed() < LIMIT, "{node} does not take over");
        // who gave it away takes it back only after the stale time
        let mut transaction = store.begin().await.unwrap();
        transaction.ask_hand_over("ann", Some(node)).await.unwrap();
        transaction.commit().await.unwrap();
        ticks.tick().await;
    }
}

/// Waits until the term that goes on is not prolonged any more and ends.
async fn term_expires(store: &Store) {
    loop {
        let left = store.leadership().await.unwrap().left;
        if left.is_zero() {
            return;
        }
        // the end of a term is no change of the database: it is waited for as a standby does
        tokio::time::sleep(left).await;
    }
}

/// Waits until a node has looked at the others after one of them registered.
async fn knows_of(store: &Store, node: &NodeId, other: &NodeId) {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let begun = Instant::now();
    loop {
        let nodes = store.nodes().await.unwrap();
        let of = |id: &NodeId| nodes.iter().find(|node| node.id == *id).unwrap();
        if of(node).heartbeat_at > of(other).started_at {
            return;
        }
        assert!(begun.elapsed() < LIMIT, "{node} does not beat");
        // a beat is no change of the database that others are told of
        ticks.tick().await;
    }
}

async fn run_of(store: &Store, dispatcher: &str, wanted: impl Fn(&Execution) -> bool) -> Execution {
    eventually(store, "a run", async || super::runs(store, dispatcher).await.into_iter().find(|run| wanted(run))).await
}

/// A node in a runtime of its own, which can be killed: nothing of it is tidied up.
struct Mortal {
    runtime: Option<tokio::runtime::Runtime>,
    node: TestNode,
}

impl Mortal {
    async fn start(setup: Setup, data: &Path, dispatchers: Vec<Arc<dyn Dispatcher>>) -> Self {
        let data = data.to_owned();
        let started = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            let node = runtime.block_on(setup.start(&data, dispatchers));
            (runtime, node)
        });
        let (runtime, node) = started.await.unwrap();
        Self { runtime: Some(runtime), node }
    }

    fn kill(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_node_stands_by_and_takes_over_at_once_when_the_first_stops() {
    let data = tempdir().unwrap();
    let (jobs, steps) = held("job", false);
    let first = one_of_several().start(data.path(), jobs.clone()).await;
    let second = one_of_several().start(data.path(), jobs).await;
    let mirror = Mirror::watching(&second).await;
    mirror.until(|seen| seen.dispatcher("job").activity == Activity::Standby { primary: first.id.clone() }).await;
    let run = first.ask("job").await;
    steps.begun(1).await;
    steps.lets.add_permits(1);
    let ended = run_of(&first.store, "job", |job| job.id == run && job.outcome.is_some()).await;
    assert_eq!(ended.node.as_ref(), Some(&first.id));
    let stopped = Instant::now();
    first.stop().await;
    primary_becomes(&second.store, &second.id).await;
    second.ask("job").await;
    steps.begun(2).await;
    assert!(stopped.elapsed() < Duration::from_secs(2), "after {:?}", stopped.elapsed());
    mirror.until(|seen| seen.dispatcher("job").activity == Activity::Running).await;
    steps.lets.add_permits(1);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_primary_is_followed_within_stale_time_and_a_beat_and_its_run_is_abandoned() {
    let data = tempdir().unwrap();
    let (jobs, steps) = held("job", false);
    let mut first = Mortal::start(one_of_several(), data.path(), jobs.clone()).await;
    let second = one_of_several().start(data.path(), jobs).await;
    let cut_off = first.node.ask("job").await;
    steps.begun(1).await;
    let killed = Instant::now();
    first.kill();
    primary_becomes(&second.store, &second.id).await;
    assert!(killed.elapsed() < Duration::from_secs(4) + Duration::from_millis(800), "after {:?}", killed.elapsed());
    let lost = run_of(&second.store, "job", |job| job.id == cut_off && job.outcome.is_some()).await;
    assert_eq!(lost.outcome, Some(Outcome::Abandoned));
    assert!(lost.message.unwrap().contains("may still go on"), "it is said that it may overlap");
    second.ask("job").await;
    steps.begun(2).await;
    // the old primary comes back and steals nothing
    let (jobs, _) = held("job", false);
    let again = Setup { id: first.node.id.clone(), ..one_of_several() }.start(data.path(), jobs).await;
    assert_eq!(again.store.leadership().await.unwrap().primary(), Some(&second.id));
    steps.lets.add_permits(2);
    again.stop().await;
    assert_eq!(second.store.leadership().await.unwrap().primary(), Some(&second.id));
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_another_process_is_now_ends_its_runs_and_itself_and_takes_nothing_back() {
    let data = tempdir().unwrap();
    let (job, steps) = played(definition("job", Schedule::Manual), |_| Act::UntilCancelled);
    let jobs: Vec<Arc<dyn Dispatcher>> = vec![job];
    let first = Setup { id_file: Some("original"), ..one_of_several() }.start(data.path(), jobs.clone()).await;
    let run = first.ask("job").await;
    steps.begun(1).await;
    let copy = Setup { id: first.id.clone(), id_file: Some("copy"), ..one_of_several() };
    let second = copy.start(data.path(), jobs).await;
    let term = second.store.leadership().await.unwrap().fencing;
    first.ended().await;
    assert!(first.shutdown.gave_up() && !second.shutdown.gave_up());
    let leadership = second.store.leadership().await.unwrap();
    assert_eq!((leadership.primary(), leadership.fencing), (Some(&second.id), term));
    let row = &second.store.nodes().await.unwrap()[0];
    assert_eq!((row.id_file.as_deref(), row.stopped_at), (Some("copy"), None));
    let cut_off = run_of(&second.store, "job", |job| job.id == run && job.outcome.is_some()).await;
    assert_eq!(cut_off.outcome, Some(Outcome::Abandoned));
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_asked_hands_over_and_finishes_what_it_runs() {
    let data = tempdir().unwrap();
    let (jobs, steps) = held("job", false);
    let first = one_of_several().start(data.path(), jobs.clone()).await;
    let second = one_of_several().start(data.path(), jobs.clone()).await;
    let third = one_of_several().start(data.path(), jobs).await;
    let run = first.ask("job").await;
    steps.begun(1).await;
    let asked = Instant::now();
    let mut transaction = first.store.begin().await.unwrap();
    assert!(!transaction.ask_hand_over("ann", Some(&first.id)).await.unwrap(), "it is primary already");
    assert!(transaction.ask_hand_over("ann", Some(&third.id)).await.unwrap());
    transaction.commit().await.unwrap();
    primary_becomes(&second.store, &third.id).await;
    assert!(asked.elapsed() < Duration::from_secs(2), "after {:?}", asked.elapsed());
    let mirror = Mirror::watching(&third).await;
    mirror
        .until(|seen| seen.dispatcher("job").running.len() == 1 && seen.dispatcher("job").activity == Activity::Running)
        .await;
    let waiting = ask(&third.store, "job").await;
    // one run at a time, also over two nodes
    assert_eq!(third.store.execution(waiting).await.unwrap().unwrap().started_at, None);
    steps.lets.add_permits(1);
    let ended = run_of(&first.store, "job", |job| job.id == run && job.outcome.is_some()).await;
    assert_eq!((ended.outcome, ended.node.as_ref()), (Some(Outcome::Normal), Some(&first.id)));
    steps.begun(2).await;
    let second_run = third.store.execution(waiting).await.unwrap().unwrap();
    assert_eq!(second_run.node.as_ref(), Some(&third.id));
    steps.lets.add_permits(1);
    for node in [first, second, third] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_primary_no_more_shows_no_run_of_another_node() {
    let data = tempdir().unwrap();
    let (jobs, steps) = held("job", false);
    let first = one_of_several().start(data.path(), jobs.clone()).await;
    let second = one_of_several().start(data.path(), jobs.clone()).await;
    let third = one_of_several().start(data.path(), jobs).await;
    let run = first.ask("job").await;
    steps.begun(1).await;
    let mirror = Mirror::watching(&second).await;
    hand_over(&second.store, &second.id).await;
    primary_becomes(&second.store, &second.id).await;
    mirror.until(|seen| seen.dispatcher("job").running.iter().any(|shown| shown.execution == run)).await;
    // it goes on beside two changes of primary; how it ends the second node is never told
    hand_over(&third.store, &third.id).await;
    primary_becomes(&third.store, &third.id).await;
    let standby = Activity::Standby { primary: third.id.clone() };
    let seen = mirror.until(|seen| seen.dispatcher("job").activity == standby).await;
    assert_eq!(seen.dispatcher("job").running, []);
    steps.lets.add_permits(1);
    run_of(&third.store, "job", |job| job.id == run && job.outcome == Some(Outcome::Normal)).await;
    for node in [first, second, third] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_primary_again_tells_which_lines_it_wrote_meanwhile() {
    let data = tempdir().unwrap();
    let (jobs, _) = held("job", false);
    let first = one_of_several().start(data.path(), jobs.clone()).await;
    let second = one_of_several().start(data.path(), jobs).await;
    let write = |text: &str| {
        first.log.push(LogEntry {
            time: Timestamp::from_micros(1),
            level: Level::Info,
            source: "test".into(),
            execution: None,
            stream: None,
            text: text.into(),
        });
        first.log.last()
    };
    let mirror = Mirror::watching(&first).await;
    let as_primary = write("as the primary");
    hand_over(&first.store, &second.id).await;
    mirror.until(|seen| matches!(seen.dispatcher("job").activity, Activity::Standby { .. })).await;
    let as_standby = write("as a standby");
    hand_over(&first.store, &first.id).await;
    let absences = |seen: &Seen| seen.state.as_ref().map_or_else(Vec::new, |state| state.node.absences.clone());
    let seen = mirror.until(|seen| absences(seen).len() == 2).await;
    let told = absences(&seen);
    assert_eq!(told[0].after, 0, "{told:?}");
    assert!(told[0].upto < as_primary && told[1].after >= as_primary, "{told:?}");
    assert!(told[1].after < as_standby && told[1].upto >= as_standby, "{told:?}");
    // whoever dials only now is told the same
    let late = Mirror::watching(&first).await.until(|seen| seen.state.is_some()).await;
    assert_eq!(absences(&late), told);
    for node in [first, second] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_lost_the_database_begins_nothing_and_ends_what_must_not_overlap() {
    let data = tempdir().unwrap();
    let (strict_job, strict) = played(definition("strict", Schedule::Manual), |_| Act::UntilCancelled);
    let mut jobs: Vec<Arc<dyn Dispatcher>> = vec![strict_job];
    let (lax_jobs, lax) = held("lax", true);
    jobs.extend(lax_jobs);
    let first = one_of_several().start(data.path(), jobs.clone()).await;
    let second = one_of_several().start(data.path(), jobs).await;
    let (strict_run, lax_run) = (first.ask("strict").await, first.ask("lax").await);
    strict.begun(1).await;
    lax.begun(1).await;
    let mirror = Mirror::watching(&first).await;
    knows_of(&first.store, &first.id, &second.id).await;
    // nobody can write: neither can prove anything
    let lock = second.store.begin().await.unwrap();
    mirror
        .until(|seen| seen.dispatcher("strict").running.is_empty() && seen.dispatcher("lax").running.len() == 1)
        .await;
    drop(lock);
    let ended = run_of(&first.store, "strict", |job| job.id == strict_run && job.outcome.is_some()).await;
    assert!(matches!(ended.outcome, Some(Outcome::Cancelled | Outcome::Abandoned)), "{ended:?}");
    lax.lets.add_permits(1);
    // abandoned, if the second was quicker to prove that it lives than the first; then it says that it ended after all
    run_of(&first.store, "lax", |job| {
        let late = job.message.as_ref().is_some_and(|text| text.contains("it went on and ended normally"));
        job.id == lax_run && (job.outcome == Some(Outcome::Normal) || (job.outcome == Some(Outcome::Abandoned) && late))
    })
    .await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_one_service_node_exists_nothing_is_ended_by_a_database_that_is_away() {
    let data = tempdir().unwrap();
    let (jobs, steps) = held("job", false);
    let node = one_of_several().start(data.path(), jobs).await;
    let run = node.ask("job").await;
    steps.begun(1).await;
    let other = super::open(data.path(), &Setup::new().clock, &switchboard::base::shutdown::Shutdown::new()).await;
    let lock = other.begin().await.unwrap();
    term_expires(&node.store).await;
    drop(lock);
    steps.lets.add_permits(1);
    let ended = run_of(&node.store, "job", |job| job.id == run && job.outcome.is_some()).await;
    assert_eq!(ended.outcome, Some(Outcome::Normal));
    node.ask("job").await;
    steps.begun(2).await;
    steps.lets.add_permits(1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_was_given_up_says_that_it_ended_after_all() {
    let data = tempdir().unwrap();
    let (jobs, steps) = held("job", true);
    let node = one_of_several().start(data.path(), jobs).await;
    let run = node.ask("job").await;
    steps.begun(1).await;
    let mut transaction = node.store.begin().await.unwrap();
    let far = node.store.nodes().await.unwrap()[0].heartbeat_at.plus(Duration::from_mins(1));
    let given_up = transaction
        .abandon_runs_of_silent(&NodeId::new("service-other"), far, |node| format!("{node} was silent"))
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    assert!(given_up.iter().any(|given_up| given_up.id == run));
    steps.lets.add_permits(1);
    let noted =
        run_of(&node.store, "job", |job| job.message.as_ref().is_some_and(|text| text.contains("went on"))).await;
    assert_eq!(noted.outcome, Some(Outcome::Abandoned), "an execution is recorded once");
    assert!(noted.message.unwrap().starts_with(&format!("{} was silent; it went on and ended normally", node.id)));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_the_database_says_began_here_and_did_not_is_ended_and_said() {
    let data = tempdir().unwrap();
    let clock = ManualClock::new(Timestamp::from_micros(1_800_000_000_000_000));
    let (jobs, steps) = held("job", false);
    let node = Setup { clock: clock.clone(), ..Setup::new() }.start(data.path(), jobs).await;
    // as a claim leaves it whose answer was lost
    let new = NewExecution {
        dispatcher: "job".into(),
        cause: Cause::Schedule,
        requested_by: None,
        queued_at: clock.now(),
        after: None,
        idempotency_key: None,
        retry_of: None,
    };
    let mut transaction = node.store.begin().await.unwrap();
    let lost = transaction.begin_execution(&new, &node.id, 1).await.unwrap().unwrap();
    transaction.commit().await.unwrap();
    clock.advance(Duration::from_mins(2));
    node.ask("job").await;
    let ended = run_of(&node.store, "job", |job| job.id == lost.id && job.outcome.is_some()).await;
    assert_eq!(ended.outcome, Some(Outcome::Cancelled));
    assert!(ended.message.unwrap().starts_with("not begun"));
    // its dispatcher goes on
    steps.begun(1).await;
    steps.lets.add_permits(1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_removed_and_lives_is_known_again() {
    let data = tempdir().unwrap();
    let node = one_of_several().start(data.path(), Vec::new()).await;
    let mut transaction = node.store.begin().await.unwrap();
    assert!(transaction.remove_node(&node.id).await.unwrap());
    transaction.commit().await.unwrap();
    let known = eventually(&node.store, "the node", async || {
        node.store.nodes().await.unwrap().into_iter().find(|known| known.id == node.id)
    })
    .await;
    assert!(known.key_fingerprint.is_some() && known.stopped_at.is_none());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_outlives_its_term_is_ended_when_its_node_loses_the_database() {
    let data = tempdir().unwrap();
    let (job, steps) = played(definition("job", Schedule::Manual), |_| Act::UntilCancelled);
    let jobs: Vec<Arc<dyn Dispatcher>> = vec![job];
    let first = one_of_several().start(data.path(), jobs.clone()).await;
    let second = one_of_several().start(data.path(), jobs).await;
    knows_of(&first.store, &first.id, &second.id).await;
    let run = first.ask("job").await;
    steps.begun(1).await;
    let mut transaction = second.store.begin().await.unwrap();
    assert!(transaction.ask_hand_over("ann", None).await.unwrap());
    transaction.commit().await.unwrap();
    primary_becomes(&second.store, &second.id).await;
    let mirror = Mirror::watching(&first).await;
    assert_eq!(mirror.now().dispatcher("job").running.len(), 1, "it goes on");
    let lock = second.store.begin().await.unwrap();
    mirror.until(|seen| seen.dispatcher("job").running.is_empty()).await;
    drop(lock);
    let ended = run_of(&first.store, "job", |job| job.id == run && job.outcome.is_some()).await;
    assert!(matches!(ended.outcome, Some(Outcome::Cancelled | Outcome::Abandoned)), "{ended:?}");
    first.stop().await;
    second.stop().await;
}
