//! Runs: told, due, failing, panicking, cancelled, timed out, repeated, paused.

use std::time::Duration;

use switchboard::config::job::Schedule;
use switchboard::model::execution::{Cause, Outcome};
use switchboard::service::dispatcher::Verdict;
use tempfile::tempdir;

use crate::service::mirror::Mirror;
use crate::service::{Act, Setup, ask, definition, eventually, open, played};
use switchboard::base::shutdown::Shutdown;

fn normal() -> Act {
    Act::End(Verdict::normal(None))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stored_run_starts_without_any_wake_up() {
    let data = tempdir().unwrap();
    let (dispatcher, steps) = played(definition("job", Schedule::Manual), |_| normal());
    let setup = Setup::new();
    let node = setup.start(data.path(), vec![dispatcher]).await;
    // another process writes it
    let elsewhere = Shutdown::new();
    let other = open(data.path(), &setup.clock, &elsewhere).await;
    let id = ask(&other, "job").await;
    steps.begun(1).await;
    let runs = node.ended_runs("job", 1).await;
    assert_eq!(runs.len(), 1);
    assert_eq!((runs[0].id, runs[0].cause, runs[0].outcome), (id, Cause::Manual, Some(Outcome::Normal)));
    assert_eq!(runs[0].requested_by.as_deref(), Some("ann"));
    assert_eq!(runs[0].node.as_ref(), Some(&node.id));
    node.stop().await;
    elsewhere.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interval_runs_again_and_again() {
    let data = tempdir().unwrap();
    let (dispatcher, steps) = played(definition("often", Schedule::Every(Duration::from_millis(20))), |_| normal());
    let node = Setup::new().start(data.path(), vec![dispatcher]).await;
    steps.begun(5).await;
    let runs = node.ended_runs("often", 4).await;
    assert!(runs.iter().all(|run| (run.cause, run.outcome) == (Cause::Schedule, Some(Outcome::Normal))));
    node.stop().await;
    assert!(node.runs("often").await.iter().all(|run| run.outcome.is_some()), "nothing is left open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_an_error_and_the_loop_goes_on() {
    let data = tempdir().unwrap();
    let (dispatcher, _) = played(definition("job", Schedule::Manual), |number| match number {
        1 => Act::Panic("no such table"),
        _ => normal(),
    });
    let node = Setup::new().start(data.path(), vec![dispatcher]).await;
    node.ask("job").await;
    let runs = node.ended_runs("job", 1).await;
    assert_eq!(runs[0].outcome, Some(Outcome::Error));
    assert_eq!(runs[0].message.as_deref(), Some("the dispatcher panicked: no such table"));
    node.ask("job").await;
    assert_eq!(node.ended_runs("job", 2).await[1].outcome, Some(Outcome::Normal));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_runs_are_repeated_as_runs_of_their_own() {
    let data = tempdir().unwrap();
    let mut definition = definition("job", Schedule::Manual);
    definition.retries = 2;
    let (dispatcher, _) = played(definition, |_| Act::End(Verdict::error("exit code 3")));
    let node = Setup::new().start(data.path(), vec![dispatcher]).await;
    let first = node.ask("job").await;
    let runs = node.ended_runs("job", 3).await;
    assert_eq!(runs.iter().map(|run| run.cause).collect::<Vec<_>>(), [Cause::Manual, Cause::Retry, Cause::Retry]);
    assert_eq!(runs[1].retry_of, Some(first));
    assert_eq!(runs[2].retry_of, Some(runs[1].id));
    assert!(runs.iter().all(|run| run.message.as_deref() == Some("exit code 3")));
    node.stop().await;
    assert_eq!(node.runs("job").await.len(), 3, "twice repeated, and no more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_takes_too_long_is_ended() {
    let data = tempdir().unwrap();
    let mut definition = definition("job", Schedule::Manual);
    definition.timeout = Some(Duration::from_millis(50));
    let (dispatcher, _) = played(definition, |_| Act::UntilCancelled);
    let node = Setup::new().start(data.path(), vec![dispatcher]).await;
    node.ask("job").await;
    let runs = node.ended_runs("job", 1).await;
    assert_eq!(runs[0].outcome, Some(Outcome::Error));
    assert_eq!(runs[0].message.as_deref(), Some("it took longer than 50ms and was ended"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_cancelled_by_whoever_asks() {
    let data = tempdir().unwrap();
    let (dispatcher, steps) = played(definition("job", Schedule::Manual), |_| Act::UntilCancelled);
    let node = Setup::new().start(data.path(), vec![dispatcher]).await;
    let id = node.ask("job").await;
    steps.begun(1).await;
    let mut transaction = node.store.begin().await.unwrap();
    let now = node.runs("job").await[0].queued_at;
    transaction.cancel_execution(id, "bob", now).await.unwrap();
    transaction.commit().await.unwrap();
    let runs = node.ended_runs("job", 1).await;
    assert_eq!((runs[0].outcome, runs[0].message.as_deref()), (Some(Outcome::Cancelled), Some("cancelled by bob")));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_wait_for_each_other_and_none_is_lost() {
    let data = tempdir().unwrap();
    let (dispatcher, steps) = played(definition("job", Schedule::Manual), |_| Act::UntilLet);
    let node = Setup::new().start(data.path(), vec![dispatcher]).await;
    for _ in 0..5 {
        node.ask("job").await;
    }
    steps.begun(1).await;
    let open = node.runs("job").await;
    assert_eq!(open.iter().filter(|run| run.started_at.is_some()).count(), 1);
    steps.lets.add_permits(5);
    let runs = node.ended_runs("job", 5).await;
    assert!(runs.iter().all(|run| run.outcome == Some(Outcome::Normal)));
    assert!(runs.windows(2).all(|pair| pair[1].started_at >= pair[0].finished_at), "one after the other");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_holds_the_schedule_and_not_what_is_told() {
    let data = tempdir().unwrap();
    let (dispatcher, steps) = played(definition("job", Schedule::Every(Duration::from_millis(30))), |_| normal());
    let node = Setup::new().start(data.path(), vec![dispatcher]).await;
    steps.begun(1).await;
    let mut transaction = node.store.begin().await.unwrap();
    let now = node.runs("job").await[0].queued_at;
    assert!(transaction.pause_dispatcher("job", "ann", now).await.unwrap());
    transaction.commit().await.unwrap();
    let stored = async || node.store.dispatchers().await.unwrap().into_iter().find(|row| row.name == "job").unwrap();
    eventually(&node.store, "the pause to be heard", async || stored().await.next_at.is_none().then_some(())).await;
    let before = node.runs("job").await.len();
    let id = node.ask("job").await;
    let told = eventually(&node.store, "the run that was told", async || {
        node.runs("job").await.into_iter().find(|run| run.id == id && run.outcome.is_some())
    })
    .await;
    assert_eq!(told.outcome, Some(Outcome::Normal));
    assert_eq!(node.runs("job").await.len(), before + 1, "only what was told");
    let mut transaction = node.store.begin().await.unwrap();
    assert!(transaction.resume_dispatcher("job").await.unwrap());
    transaction.commit().await.unwrap();
    let runs = node.ended_runs("job", before + 2).await;
    assert_eq!(runs.last().unwrap().cause, Cause::Schedule);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_can_run_is_refused_with_the_reason() {
    let data = tempdir().unwrap();
    let mut off = definition("off", Schedule::Manual);
    off.disabled_by = Some("enabled = false".into());
    let (dispatcher, _) = played(off, |_| normal());
    let node = Setup::new().start(data.path(), vec![dispatcher]).await;
    node.ask("off").await;
    node.ask("unknown").await;
    let runs = node.ended_runs("off", 1).await;
    assert_eq!(runs[0].outcome, Some(Outcome::Cancelled));
    assert_eq!(runs[0].message.as_deref(), Some("the dispatcher is switched off by enabled = false"));
    let runs = node.ended_runs("unknown", 1).await;
    assert_eq!(runs[0].message.as_deref(), Some("this node has no dispatcher of this name"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_run_outlives_a_locked_database() {
    let data = tempdir().unwrap();
    let (dispatcher, steps) = played(definition("job", Schedule::Manual), |_| Act::UntilLet);
    let setup = Setup::new().with("Service.HeartbeatInterval", "5m");
    let node = setup.start(data.path(), vec![dispatcher]).await;
    node.ask("job").await;
    steps.begun(1).await;
    let elsewhere = Shutdown::new();
    let other = open(data.path(), &setup.clock, &elsewhere).await;
    let lock = other.begin().await.unwrap();
    let mirror = Mirror::watching(&node).await;
    steps.lets.add_permits(1);
    // told when the first attempt to write it has failed: the store waits 5 s for the lock
    mirror.until(|seen| seen.dispatcher("job").recent.len() == 1).await;
    assert_eq!(node.runs("job").await[0].outcome, None);
    drop(lock);
    let runs = node.ended_runs("job", 1).await;
    assert_eq!(runs[0].outcome, Some(Outcome::Normal));
    node.stop().await;
    elsewhere.stop();
}
