//! The start and the end of a node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use switchboard::base::clock::{Clock as _, ManualClock, Timestamp};
use switchboard::base::shutdown::Shutdown;
use switchboard::config::job::Schedule;
use switchboard::config::job::{CLEAN_UP, EXECUTION_DISPATCH, FAILOVER, HEARTBEAT};
use switchboard::config::settings::{Fixed, Settings, Source};
use switchboard::model::execution::{Cause, Outcome};
use switchboard::service::dispatcher::Verdict;
use switchboard::store::executions::NewExecution;
use tempfile::tempdir;

use crate::service::mirror::Mirror;
use crate::service::{Act, LIMIT, Setup, definition, eventually, open, played};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_built_in_dispatcher_runs_at_the_start_and_the_node_says_that_it_lives() {
    let data = tempdir().unwrap();
    let node = Setup::new().start(data.path(), Vec::new()).await;
    for name in [HEARTBEAT, FAILOVER, EXECUTION_DISPATCH, CLEAN_UP] {
        let runs = node.ended_runs(name, 1).await;
        assert_eq!((runs[0].cause, runs[0].outcome), (Cause::StartUp, Some(Outcome::Normal)), "{name}");
    }
    let known = &node.store.nodes().await.unwrap()[0];
    assert_eq!((&known.id, known.stopped_at), (&node.id, None));
    assert!(known.key_fingerprint.is_some());
    let dispatchers = node.store.dispatchers().await.unwrap();
    assert_eq!(
        dispatchers.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(),
        [CLEAN_UP, EXECUTION_DISPATCH, FAILOVER, HEARTBEAT]
    );
    assert!(dispatchers.iter().all(|row| row.next_at.is_some() && row.title != row.name));
    node.stop().await;
    assert!(node.store.nodes().await.unwrap()[0].stopped_at.is_some());
}

#[test]
fn settings_that_change_while_a_node_starts_keep_nothing_from_starting() {
    let (tell, started) = std::sync::mpsc::sync_channel(1);
    // what hangs here would hang the test's own runtime
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let (data, setup) = (tempdir().unwrap(), Setup::new());
            for _ in 0..20 {
                let (settings, started) = (setup.settings(), Arc::new(AtomicBool::new(false)));
                let changing = [(); 4].map(|()| {
                    let (settings, started) = (settings.clone(), Arc::clone(&started));
                    std::thread::spawn(move || {
                        while !started.load(Ordering::Relaxed) {
                            settings.send_modify(|_| {});
                        }
                    })
                });
                let node = setup.start_with(settings, data.path(), Vec::new()).await;
                started.store(true, Ordering::Relaxed);
                for thread in changing {
                    thread.join().unwrap();
                }
                node.stop().await;
            }
        });
        tell.send(()).unwrap();
    });
    started.recv_timeout(LIMIT).expect("every start comes to its end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interval_follows_its_setting_at_once() {
    let data = tempdir().unwrap();
    let node = Setup::new().with("Service.PollInterval", "1m").start(data.path(), Vec::new()).await;
    node.ended_runs(EXECUTION_DISPATCH, 1).await;
    let mut fixed = Fixed::default();
    fixed.set("Service.PollInterval", "1s", Source::Environment).unwrap();
    node.settings.send_replace(Arc::new(Settings::resolve(&fixed, []).0));
    let runs = node.ended_runs(EXECUTION_DISPATCH, 2).await;
    assert_eq!(runs[1].cause, Cause::Schedule);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_missed_while_the_node_was_down_is_made_up_for_once() {
    let data = tempdir().unwrap();
    let clock = ManualClock::new(Timestamp::from_micros(1_800_000_000_000_000));
    let setup = Setup { clock: clock.clone(), ..Setup::new() };
    let hourly = |catch_up| {
        let schedule = Schedule::Cron { line: "0 * * * *".into(), time_zone: "UTC".into() };
        let mut definition = definition(if catch_up { "careful" } else { "easy" }, schedule);
        definition.catch_up = catch_up;
        played(definition, |_| Act::End(Verdict::normal(None))).0
    };
    let node = setup.start(data.path(), vec![hourly(true), hourly(false)]).await;
    node.ended_runs(HEARTBEAT, 1).await;
    node.stop().await;
    clock.advance(Duration::from_hours(5));
    let node = setup.start(data.path(), vec![hourly(true), hourly(false)]).await;
    let runs = node.ended_runs("careful", 1).await;
    assert_eq!((runs.len(), runs[0].cause), (1, Cause::CatchUp));
    let next = |name: &'static str| {
        let node = &node;
        async move {
            let rows = node.store.dispatchers().await.unwrap();
            rows.into_iter().find(|row| row.name == name).unwrap().next_at.unwrap()
        }
    };
    assert!(next("careful").await > clock.now());
    assert!(next("easy").await > clock.now());
    node.stop().await;
    assert_eq!(node.runs("careful").await.len(), 1);
    assert_eq!(node.runs("easy").await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_of_a_former_life_are_abandoned() {
    let data = tempdir().unwrap();
    let clock = ManualClock::new(Timestamp::from_micros(1_800_000_000_000_000));
    let setup = Setup { clock: clock.clone(), ..Setup::new() };
    let (dispatcher, _) = played(definition("job", Schedule::Manual), |_| Act::End(Verdict::normal(None)));
    // a life that ended well, so that the node is known
    let node = setup.start(data.path(), vec![Arc::clone(&dispatcher) as Arc<_>]).await;
    node.ended_runs(HEARTBEAT, 1).await;
    node.stop().await;
    clock.advance(Duration::from_hours(1));
    let before = Shutdown::new();
    let store = open(data.path(), &setup.clock, &before).await;
    let began = clock.now();
    let new = NewExecution {
        dispatcher: "job".into(),
        cause: Cause::Schedule,
        requested_by: None,
        queued_at: setup.clock.now(),
        after: None,
        idempotency_key: None,
        retry_of: None,
    };
    let mut transaction = store.begin().await.unwrap();
    transaction.begin_execution(&new, &setup.id, 1).await.unwrap().unwrap();
    clock.advance(Duration::from_secs(20));
    let beat = clock.now();
    transaction.beat_node(&setup.id, None, None, beat).await.unwrap();
    transaction.commit().await.unwrap();
    before.stop();
    clock.advance(Duration::from_hours(9));
    let node = setup.start(data.path(), vec![dispatcher]).await;
    let run = &node.runs("job").await[0];
    assert_eq!((run.outcome, run.started_at), (Some(Outcome::Abandoned), Some(began)));
    assert_eq!((run.finished_at, run.duration()), (Some(beat), None), "the hours without a node are no part of it");
    let why = "the service node ended while this ran; found at its next start";
    assert_eq!(run.message.as_deref(), Some(why));
    let mirror = Mirror::watching(&node).await;
    let seen = mirror.until(|seen| seen.dispatcher("job").last_error.is_some()).await;
    let job = seen.dispatcher("job");
    assert_eq!(job.last_error.as_ref().unwrap().message, why);
    assert_eq!((job.last().unwrap().duration(), job.median_duration()), (None, None));
    node.ask("job").await;
    assert_eq!(node.ended_runs("job", 2).await[1].outcome, Some(Outcome::Normal), "its place is free");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_soft_stop_lets_runs_finish() {
    let data = tempdir().unwrap();
    let (dispatcher, steps) = played(definition("job", Schedule::Manual), |_| Act::UntilLet);
    let node = Setup::new().start(data.path(), vec![dispatcher]).await;
    node.ask("job").await;
    node.ask("job").await;
    steps.begun(1).await;
    node.shutdown.stop();
    steps.lets.add_permits(2);
    node.ended().await;
    let runs = node.runs("job").await;
    assert_eq!(runs[0].outcome, Some(Outcome::Normal));
    assert_eq!(runs[1].started_at, None, "what waits goes on waiting, for the next start");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_soft_stop_cancels_what_does_not_end_in_time() {
    let data = tempdir().unwrap();
    let (dispatcher, steps) = played(definition("job", Schedule::Manual), |_| Act::UntilCancelled);
    let node = Setup::new().with("Service.StopPatience", "0s").start(data.path(), vec![dispatcher]).await;
    node.ask("job").await;
    steps.begun(1).await;
    node.stop().await;
    let runs = node.runs("job").await;
    assert_eq!(runs[0].outcome, Some(Outcome::Cancelled));
    assert_eq!(runs[0].message.as_deref(), Some("cancelled because the node stopped"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hard_stop_waits_for_nobody_and_drops_who_does_not_react() {
    let data = tempdir().unwrap();
    let (dispatcher, steps) = played(definition("job", Schedule::Manual), |_| Act::Deaf);
    let node = Setup::new().with("Service.StopPatience", "1h").start(data.path(), vec![dispatcher]).await;
    node.ask("job").await;
    steps.begun(1).await;
    node.shutdown.stop_now();
    node.ended().await;
    let runs = node.runs("job").await;
    assert_eq!(runs[0].outcome, Some(Outcome::Cancelled));
    assert!(runs[0].message.as_deref().unwrap().ends_with("it did not react within 5s"), "{:?}", runs[0].message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_database_does_not_keep_a_node_from_stopping() {
    let data = tempdir().unwrap();
    let (dispatcher, steps) = played(definition("job", Schedule::Manual), |_| Act::UntilLet);
    let setup = Setup::new().with("Service.StopPatience", "0s");
    let node = setup.start(data.path(), vec![dispatcher]).await;
    let id = node.ask("job").await;
    steps.begun(1).await;
    let elsewhere = Shutdown::new();
    let other = open(data.path(), &setup.clock, &elsewhere).await;
    let lock = other.begin().await.unwrap();
    steps.lets.add_permits(1);
    node.shutdown.stop();
    // 10 s for runs and their ends, 3 s for the last lines, 2 s for the node's own end
    assert_eq!(node.shutdown.finished(Duration::from_secs(30)).await, Ok(()));
    drop(lock);
    let node = setup.start(data.path(), Vec::new()).await;
    let run = node.store.execution(id).await.unwrap().unwrap();
    assert_eq!(run.outcome, Some(Outcome::Abandoned), "the next start says what can still be said");
    node.stop().await;
    elsewhere.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clean_up_deletes_what_is_too_old_and_says_so() {
    let data = tempdir().unwrap();
    let clock = ManualClock::new(Timestamp::from_micros(1_800_000_000_000_000));
    let setup = Setup { clock: clock.clone(), ..Setup::new() }
        .with("Retention.ExecutionAge", "1h")
        .with("Retention.ExecutionCount", "1");
    let (dispatcher, _) = played(definition("job", Schedule::Manual), |_| Act::End(Verdict::normal(None)));
    let node = setup.start(data.path(), vec![dispatcher]).await;
    for _ in 0..3 {
        node.ask("job").await;
    }
    node.ended_runs("job", 3).await;
    node.ended_runs(CLEAN_UP, 1).await;
    clock.advance(Duration::from_hours(2));
    node.ask(CLEAN_UP).await;
    let said = eventually(&node.store, "the clean-up", async || {
        node.runs(CLEAN_UP).await.into_iter().filter(|run| run.cause == Cause::Manual).find_map(|run| run.message)
    })
    .await;
    assert!(said.starts_with("deleted ") && said.contains("execution"), "{said}");
    assert_eq!(node.runs("job").await.len(), 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_do_not_pile_up() {
    let data = tempdir().unwrap();
    let setup = Setup::new().with("Service.HeartbeatInterval", "5m").with("Retention.ExecutionCount", "2");
    let node = setup.start(data.path(), Vec::new()).await;
    node.ended_runs(HEARTBEAT, 1).await;
    node.ended_runs(CLEAN_UP, 1).await;
    for count in 2..=5 {
        let mut transaction = node.store.begin().await.unwrap();
        let new = NewExecution {
            dispatcher: HEARTBEAT.into(),
            cause: Cause::Schedule,
            requested_by: None,
            queued_at: setup.clock.now(),
            after: None,
            idempotency_key: None,
            retry_of: None,
        };
        transaction.request_execution(&new).await.unwrap();
        transaction.commit().await.unwrap();
        node.ended_runs(HEARTBEAT, count).await;
    }
    node.ask(CLEAN_UP).await;
    let runs = node.ended_runs(CLEAN_UP, 2).await;
    assert_eq!(runs[1].message, None, "nothing that is worth telling went");
    assert_eq!(node.runs(HEARTBEAT).await.len(), 2);
    node.stop().await;
}
