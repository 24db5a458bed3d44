//! The log: what runs say is kept with their number.

use switchboard::config::job::Schedule;
use switchboard::model::log_entry::Level;
use switchboard::service::dispatcher::Verdict;
use switchboard::store::logs::{KeptFilter, KeptRow};
use tempfile::tempdir;

use crate::service::{Act, Setup, TestNode, definition, played};

async fn kept(node: &TestNode, filter: KeptFilter) -> Vec<(Level, String, String)> {
    let rows = node.store.kept_rows(Some(&node.id), &filter).await.unwrap();
    rows.into_iter()
        .map(|row| match row {
            KeptRow::Line(line) => (line.entry.level, line.entry.source.to_string(), line.entry.text.to_string()),
            KeptRow::Gap(_, _, gap) => (Level::Error, "gap".into(), format!("{gap:?}")),
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_run_says_is_kept_with_its_number() {
    let data = tempdir().unwrap();
    let (dispatcher, _) = played(definition("job", Schedule::Manual), |_| Act::Say(vec!["one", "two\nthree"]));
    let node = Setup::new().start(data.path(), vec![dispatcher]).await;
    let id = node.ask("job").await;
    node.ended_runs("job", 1).await;
    node.stop().await;
    let filter = KeptFilter { execution: Some(id), limit: 100, ..KeptFilter::default() };
    let lines = kept(&node, filter).await;
    assert!(lines.iter().all(|(level, source, _)| (*level, source.as_str()) == (Level::Info, "job")), "{lines:?}");
    let texts: Vec<_> = lines.iter().map(|(_, _, text)| text.as_str()).collect();
    assert_eq!(texts.len(), 5, "{texts:?}");
    assert_eq!(texts[0], format!("run {id} started told by ann"));
    assert_eq!(texts[1..4], ["one", "two", "three"]);
    assert!(texts[4].starts_with("ended after "), "{texts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_nothing_to_do_says_nothing() {
    let data = tempdir().unwrap();
    let node = Setup::new().with("Service.HeartbeatInterval", "1s").start(data.path(), Vec::new()).await;
    node.ended_runs("heartbeat", 1).await;
    node.ended_runs("execution-dispatch", 2).await;
    let lines = kept(&node, KeptFilter { limit: 100, ..KeptFilter::default() }).await;
    assert!(lines.iter().all(|(_, source, _)| source != "heartbeat" && source != "execution-dispatch"), "{lines:?}");
    assert_eq!(node.log.last(), lines.len() as u64, "every line of this log is kept");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_minimum_level_is_of_own_lines_and_never_of_what_a_run_puts_out() {
    let data = tempdir().unwrap();
    let (dispatcher, _) = played(definition("job", Schedule::Manual), |_| Act::Say(vec!["result"]));
    let node = Setup::new().with("Diagnostics.MinimumLogLevel", "error").start(data.path(), vec![dispatcher]).await;
    let id = node.ask("job").await;
    node.ended_runs("job", 1).await;
    node.stop().await;
    let lines = kept(&node, KeptFilter { execution: Some(id), limit: 100, ..KeptFilter::default() }).await;
    assert_eq!(lines, [(Level::Info, "job".to_owned(), "result".to_owned())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_minimum_level_follows_its_setting() {
    let data = tempdir().unwrap();
    let (dispatcher, _) = played(definition("job", Schedule::Manual), |_| Act::End(Verdict::error("no")));
    let node = Setup::new().with("Diagnostics.MinimumLogLevel", "error").start(data.path(), vec![dispatcher]).await;
    let id = node.ask("job").await;
    node.ended_runs("job", 1).await;
    node.stop().await;
    let lines = kept(&node, KeptFilter { execution: Some(id), limit: 100, ..KeptFilter::default() }).await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0].0, Level::Error);
}
