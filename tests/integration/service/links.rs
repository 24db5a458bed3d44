//! Links: what a web node gets of a working service node.

use std::time::Duration;

use switchboard::base::clock::Timestamp;
use switchboard::base::id::Cursor;
use switchboard::config::job::Schedule;
use switchboard::model::execution::Outcome;
use switchboard::model::log_entry::{Level, LogEntry};
use switchboard::protocol::Kind;
use switchboard::protocol::command::Command;
use switchboard::protocol::state::{Activity, Pause};
use switchboard::service::dispatcher::Verdict;
use tempfile::tempdir;

use crate::service::mirror::{Mirror, dial, live};
use crate::service::{Act, Setup, TestNode, definition, played};

fn write(node: &TestNode, lines: usize) {
    for _ in 0..lines {
        node.log.push(LogEntry {
            time: Timestamp::from_micros(1),
            level: Level::Info,
            source: "test".into(),
            execution: None,
            stream: None,
            text: "a line as lines are: neither long nor short, with a number or two: 42, 7".into(),
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_watching_gets_the_whole_state_once_and_then_only_beats() {
    let data = tempdir().unwrap();
    let (dispatcher, steps) = played(definition("job", Schedule::Manual), |_| Act::Say(vec!["hello"]));
    let node = Setup::new().start(data.path(), vec![dispatcher]).await;
    let mirror = Mirror::idle(&node).await;
    let first = mirror.until(|seen| seen.wholes == 1).await;
    assert_eq!(first.dispatcher("job").activity, Activity::Idle);
    node.ask("job").await;
    steps.begun(1).await;
    node.ended_runs("job", 1).await;
    // what was said meanwhile is not sent; the answer to the watch is the next thing that comes
    mirror.watch(Some(Cursor { epoch: node.log.epoch(), seq: node.log.last() })).await;
    let seen = mirror.until(|seen| seen.dispatcher("job").recent.len() == 1).await;
    assert_eq!((seen.events_before, seen.lines.len()), (vec![0, 0], 0));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_sees_a_run_from_its_beginning_to_its_end() {
    let data = tempdir().unwrap();
    let (dispatcher, steps) = played(definition("job", Schedule::Manual), |number| match number {
        1 => Act::UntilLet,
        _ => Act::End(Verdict::error("exit code 3")),
    });
    let node = Setup::new().start(data.path(), vec![dispatcher]).await;
    let mirror = Mirror::watching(&node).await;
    let id = node.ask("job").await;
    mirror.tell(&Command::Wake { dispatcher: Some("job".into()) });
    let seen = mirror.until(|seen| seen.dispatcher("job").activity == Activity::Running).await;
    let run = &seen.dispatcher("job").running[0];
    assert_eq!((run.execution, run.by.as_deref()), (id, Some("ann")));
    steps.lets.add_permits(1);
    let seen = mirror.until(|seen| seen.dispatcher("job").activity == Activity::Idle).await;
    assert_eq!(seen.dispatcher("job").last().unwrap().outcome, Outcome::Normal);
    node.ask("job").await;
    let seen = mirror.until(|seen| matches!(seen.dispatcher("job").activity, Activity::Failing { .. })).await;
    assert_eq!(seen.dispatcher("job").last_error.as_ref().unwrap().message, "exit code 3");
    let seen = mirror.until(|seen| seen.lines.iter().any(|(_, text)| text.starts_with("failed after"))).await;
    assert!(seen.lines.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1), "in order, none missing, none twice");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_passed_over_and_pauses_are_shown() {
    let data = tempdir().unwrap();
    let every = Schedule::Every(Duration::from_millis(20));
    let (dispatcher, steps) = played(definition("job", every), |_| Act::UntilLet);
    let node = Setup::new().start(data.path(), vec![dispatcher]).await;
    let mirror = Mirror::watching(&node).await;
    mirror.until(|seen| seen.dispatcher("job").skipped >= 3).await;
    let mut transaction = node.store.begin().await.unwrap();
    transaction.pause_dispatcher("job", "ann", Timestamp::from_micros(7)).await.unwrap();
    transaction.commit().await.unwrap();
    steps.lets.add_permits(1);
    let paused = Activity::Paused { by: "ann".into(), since: Timestamp::from_micros(7) };
    let seen = mirror.until(|seen| seen.dispatcher("job").activity == paused).await;
    assert_eq!(seen.dispatcher("job").next_at, None);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_is_told_while_a_run_goes_on() {
    let data = tempdir().unwrap();
    let (dispatcher, steps) = played(definition("job", Schedule::Manual), |_| Act::UntilLet);
    let node = Setup::new().start(data.path(), vec![dispatcher]).await;
    let mirror = Mirror::watching(&node).await;
    node.ask("job").await;
    steps.begun(1).await;
    let since = Timestamp::from_micros(7);
    let mut transaction = node.store.begin().await.unwrap();
    transaction.pause_dispatcher("job", "ann", since).await.unwrap();
    transaction.commit().await.unwrap();
    let pause = Pause { by: "ann".into(), since };
    let seen = mirror.until(|seen| seen.dispatcher("job").paused.as_ref() == Some(&pause)).await;
    assert_eq!(seen.dispatcher("job").activity, Activity::Running, "the run is not ended by it");
    let mut transaction = node.store.begin().await.unwrap();
    transaction.resume_dispatcher("job").await.unwrap();
    transaction.commit().await.unwrap();
    let seen = mirror.until(|seen| seen.dispatcher("job").paused.is_none()).await;
    assert_eq!(seen.dispatcher("job").activity, Activity::Running);
    steps.lets.add_permits(1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_is_told_at_most_ten_times_a_second_and_the_latest_wins() {
    let data = tempdir().unwrap();
    let (dispatcher, steps) = played(definition("job", Schedule::Manual), |_| Act::Progress(20_000));
    let node = Setup::new().start(data.path(), vec![dispatcher]).await;
    let mirror = Mirror::watching(&node).await;
    let began = std::time::Instant::now();
    node.ask("job").await;
    let at_the_end = |seen: &crate::service::mirror::Seen| {
        let running = &seen.dispatcher("job").running;
        running.first().and_then(|run| run.progress.as_ref()).is_some_and(|progress| progress.percent() == 100)
    };
    let seen = mirror.until(at_the_end).await;
    let most = began.elapsed().as_millis() / 100 + 2;
    let told = seen.progressed["job"];
    assert!(u128::from(told) <= most, "{told} in {:?}", began.elapsed());
    steps.lets.add_permits(1);
    mirror.until(|seen| seen.dispatcher("job").recent.len() == 1).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_not_read_stops_nobody() {
    let data = tempdir().unwrap();
    let node = Setup::new().start(data.path(), Vec::new()).await;
    let (stalled, _never_read) = dial(&node);
    live(&stalled).await;
    stalled.send(Kind::Command as u8, Command::Watch { since: None }.encode()).unwrap();
    let mirror = Mirror::watching(&node).await;
    let start = node.log.last();
    for _ in 0..50 {
        write(&node, 1_000);
        let last = node.log.last();
        mirror.until(|seen| seen.lines.last().is_some_and(|(seq, _)| *seq >= last)).await;
    }
    let seen = mirror.now();
    assert_eq!(seen.gaps, []);
    assert!(seen.lines.len() as u64 >= 50_000 && start < 1_000);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_comes_back_goes_on_where_it_was_and_one_too_late_is_told() {
    let data = tempdir().unwrap();
    let node = Setup::new().with("Log.RingLines", "1000").start(data.path(), Vec::new()).await;
    node.ended_runs("heartbeat", 1).await;
    write(&node, 100);
    let epoch = node.log.epoch();
    let mirror = Mirror::idle(&node).await;
    mirror.until(|seen| seen.wholes == 1).await;
    let place = node.log.last() - 10;
    mirror.watch(Some(Cursor { epoch, seq: place })).await;
    let seen = mirror.until(|seen| seen.lines.len() >= 10).await;
    assert_eq!((seen.lines[0].0, seen.gaps.len()), (place + 1, 0));
    let mirror = Mirror::idle(&node).await;
    mirror.until(|seen| seen.wholes == 1).await;
    write(&node, 5_000);
    let written = node.log.last();
    mirror.watch(Some(Cursor { epoch, seq: place + 10 })).await;
    let last = node.log.last();
    let seen = mirror.until(|seen| seen.lines.last().is_some_and(|(seq, _)| *seq >= last)).await;
    let gap = seen.gaps[0];
    assert_eq!(seen.gaps.len(), 1);
    // the node may have said something of its own meanwhile
    let held = written - 1_000..=last - 1_000;
    assert!(gap.from == place + 11 && held.contains(&gap.to), "{gap:?} before {written} to {last}");
    assert_eq!(gap.by_level.iter().sum::<u64>(), gap.to - gap.from + 1);
    node.stop().await;
}
