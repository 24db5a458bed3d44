//! Asked to stop: softly first, hard the second time.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::browser::client;
use crate::support::node::{Node, bare_command, gone, lives};
use crate::support::robot::{Robot, execution_id};
use crate::support::socket::Socket;
use crate::support::stage::{Stage, run};
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
async fn a_service_that_stops_softly_says_so_as_long_as_its_last_run_goes_on() {
    let stage = Stage::new().await;
    let config = Jobs::default().shell("long", "sleep 600").shell("hello", "echo hello").save(&stage);
    let service = stage.node().role("service").config(config).setting("Service.StopPatience", "1h");
    let mut service = service.ready().await;
    let web = stage.node().role("web").ready().await;
    let mut browser = web.administrator().await;
    let robot = stage.robot(&web.url()).await;
    robot.until_live_with(service.pid(), PATIENCE).await;
    let stopping = async || {
        let status = robot.status().await?;
        let node = status["nodes"].as_array()?.iter().find(|node| node["role"] == "service")?.clone();
        node["stopping"].as_bool()
    };
    let long = robot.run("long").await;
    robot.until_begun(long, PATIENCE).await;
    assert_eq!(stopping().await, Some(false));
    let mut socket = Socket::open(&web.url(), &browser).await;
    socket.watch_status().await;
    socket.frame("snapshot").await.expect("the state of everything");

    service.term();
    eventually("a service that says it is stopping", async || so(stopping().await?)).await;
    let told = eventually("a patch that tells it", async || {
        let frame = socket.next().await.expect("the socket stays open");
        so(frame.to_string().contains("no run begins any more")).map(|()| frame)
    });
    let patch = told.await.to_string();
    assert!(patch.contains("the service is stopping"), "rows foretell nothing: {patch}");
    let heartbeat = robot.dispatcher("heartbeat").await.expect("it is declared");
    let reason = heartbeat["reason"].as_str().expect("a reason");
    assert!(reason.ends_with("the service is stopping and begins no run"), "{reason}");
    let page = browser.page("/status").await;
    assert!(page.contains("no run begins any more") && !page.contains("next <time"), "{page}");
    let asked = robot.act("hello", "run").await;
    assert_eq!((&asked["told"], &asked["stopping"]), (&false.into(), &true.into()), "{asked}");
    let token = stage.token("remote", "service_admin").await;
    let mut trigger = bare_command();
    trigger.args(["--url", &web.url(), "trigger", "hello"]).env("SWITCHBOARD_TOKEN", token);
    let said = run(&mut trigger, "").await.good();
    assert!(said.contains("the run starts when the service is started again"), "{said}");

    service.term();
    service.end(PATIENCE).await;
    service.spawn_again();
    service.until_ready(PATIENCE).await;
    robot.until_live_with(service.pid(), PATIENCE).await;
    assert_eq!(robot.until_ended(execution_id(&asked)).await["outcome"], "normal");
    assert_eq!(stopping().await, Some(false));
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
