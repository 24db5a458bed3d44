//! Asked to stop: softly first, hard the second time.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::browser::client;
use crate::support::node::{Node, gone, lives};
use crate::support::robot::Robot;
use crate::support::socket::Socket;
use crate::support::stage::Stage;
use crate::support::wait::{PATIENCE, eventually, so};
use crate::support::writer::Jobs;

/// A node with the job `long`, which writes its process id into a file and then works for a time.
async fn at_work(stage: &Stage, seconds: &str, patience: &str) -> (Node, Robot, u64, u32) {
    let written = stage.path("pid");
    let line = format!("echo $$ > {0}.new; mv {0}.new {0}; sleep {seconds}; echo finished", written.display());
    let config = Jobs::default().shell("long", &line).save(stage);
    let node = stage.node().config(config).setting("Service.StopPatience", patience).ready().await;
    let robot = stage.robot(&node.url()).await;
    robot.until_live(PATIENCE).await;
    let run = robot.run("long").await;
    let text = eventually("the job's note", async || std::fs::read_to_string(&written).ok()).await;
    (node, robot, run, text.trim().parse().unwrap())
}

#[tokio::test]
async fn an_idle_node_ends_at_once_with_zero() {
    let stage = Stage::new().await;
    for signal in [Signal::TERM, Signal::INT] {
        let mut node = stage.node().ready().await;
        node.signal(signal);
        assert_eq!(node.end(Duration::from_secs(5)).await.code(), Some(0));
        assert!(!node.stderr.text().contains("panicked"), "{}", node.stderr.text());
    }
}

#[tokio::test]
async fn a_run_may_finish() {
    let stage = Stage::new().await;
    let (mut node, robot, run, _) = at_work(&stage, "1", "20s").await;
    node.term();
    assert_eq!(node.end(PATIENCE).await.code(), Some(0));
    node.spawn_again();
    node.until_ready(PATIENCE).await;
    assert_eq!(robot.execution(run).await["outcome"], "normal");
}

#[tokio::test]
async fn a_run_that_goes_on_is_cancelled_when_patience_ends() {
    let stage = Stage::new().await;
    let (mut node, robot, run, job) = at_work(&stage, "600", "1s").await;
    node.term();
    assert_eq!(node.end(PATIENCE).await.code(), Some(0));
    gone(job).await;
    node.spawn_again();
    node.until_ready(PATIENCE).await;
    assert_eq!(robot.execution(run).await["outcome"], "cancelled");
}

#[tokio::test]
async fn a_second_signal_is_hard() {
    let stage = Stage::new().await;
    let (mut node, robot, _, job) = at_work(&stage, "600", "1h").await;
    node.term();
    node.stderr.line_with("stop", PATIENCE).await;
    assert!(node.runs() && lives(job), "the first signal waits for the run");
    node.term();
    let status = node.end(PATIENCE).await;
    assert!(status.code().is_some(), "it ends by itself, not by the signal: {status}");
    gone(job).await;
    robot.until_silent().await;
}

#[tokio::test]
async fn viewers_are_told_and_a_probe_sees_it() {
    let stage = Stage::new().await;
    let (node, _, _, _) = at_work(&stage, "600", "1h").await;
    let browser = node.administrator().await;
    let mut socket = Socket::open(&node.url(), &browser).await;
    socket.watch_status().await;
    socket.frame("snapshot").await.expect("the state of everything");
    node.term();
    let bye = socket.frame("bye").await.expect("a goodbye before the end");
    assert_eq!(bye["code"], "draining", "{bye}");
    eventually("a probe that says no, or nobody", async || {
        let answer = client().get(format!("{}/readyz", node.url())).send().await;
        so(answer.map_or(true, |answer| answer.status() == 503))
    })
    .await;
}
