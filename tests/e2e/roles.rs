//! Web and service as two processes over one data directory: in any order, killed at any time.

use std::time::Duration;

use switchboard::base::clock::{Clock as _, SystemClock, Timestamp};

use crate::support::node::Start;
use crate::support::robot::Robot;
use crate::support::stage::{Stage, run};
use crate::support::wait::{PATIENCE, eventually, so, within};
use crate::support::writer::Jobs;

/// How soon the other recovers, counted from the start of the process that was away.
const RECOVERY: Duration = Duration::from_secs(2);

/// How soon a page must know that the service is gone.
const KNOWN_GONE: Duration = Duration::from_secs(5);

struct Pair {
    web: Start,
    service: Start,
}

fn pair(stage: &Stage) -> Pair {
    let config = Jobs::default().shell("hello", "echo hello").save(stage);
    Pair { web: stage.node().role("web"), service: stage.node().role("service").config(config) }
}

#[tokio::test]
async fn service_first_then_web() {
    let stage = Stage::alone().await;
    let Pair { web, service } = pair(&stage);
    let service = service.ready().await;
    let web = web.ready().await;
    let robot = stage.robot(&web.url()).await;
    let took = robot.until_live_with(service.pid(), PATIENCE).await;
    assert!(took <= RECOVERY, "live after {took:?}");
    let ran = robot.run("hello").await;
    assert_eq!(robot.until_ended(ran).await["outcome"], "normal");
    web.administrator().await;
}

#[tokio::test]
async fn web_first_then_service() {
    let stage = Stage::alone().await;
    let Pair { web, service } = pair(&stage);
    let web = web.ready().await;
    let robot = stage.robot(&web.url()).await;
    let status = robot.status().await.expect("a web node alone answers");
    assert_ne!(status["messenger"]["state"], "live");
    eventually("the cause", async || {
        let status = robot.status().await?;
        so(status["messenger"]["error"].as_str().is_some_and(|error| !error.is_empty()))
    })
    .await;
    let mut browser = web.administrator().await;
    browser.page("/status").await;
    let mut service = service.spawn();
    let took = robot.until_live_with(service.pid(), PATIENCE).await;
    assert!(took <= RECOVERY, "live {took:?} after the service was started");
    assert!(service.runs());
}

#[tokio::test]
async fn either_may_be_killed_at_any_time_and_the_other_recovers() {
    let stage = Stage::alone().await;
    let Pair { web, service } = pair(&stage);
    let mut service = service.ready().await;
    let mut web = web.ready().await;
    let robot = stage.robot(&web.url()).await;
    robot.until_live_with(service.pid(), PATIENCE).await;
    for round in 0..3 {
        service.restart();
        let took = robot.until_live_with(service.pid(), PATIENCE).await;
        assert!(took <= RECOVERY, "round {round}: the link was live {took:?} after the service was started again");
        web.restart();
        let took = robot.until_live_with(service.pid(), PATIENCE).await;
        assert!(took <= RECOVERY, "round {round}: the link was live {took:?} after the web node was started again");
    }
    let ran = robot.run("hello").await;
    assert_eq!(robot.until_ended(ran).await["outcome"], "normal");
}

#[tokio::test]
async fn a_run_that_a_kill_ended_is_over_before_the_kill_and_not_at_the_next_start() {
    let stage = Stage::new().await;
    let config = Jobs::default().shell("long", "sleep 600").save(&stage);
    for role in ["all", "service"] {
        let mut node = stage.node().role(role).config(config.clone()).ready().await;
        let web = if role == "all" { None } else { Some(stage.node().role("web").ready().await) };
        let robot = Robot::new(&web.as_ref().unwrap_or(&node).url(), &stage.token(role, "service_admin").await);
        let run = robot.run("long").await;
        robot.until_begun(run, PATIENCE).await;
        node.kill9();
        let killed = SystemClock.now();
        node.spawn_again();
        node.until_ready(PATIENCE).await;
        let run = robot.until_ended(run).await;
        assert_eq!(run["outcome"], "abandoned");
        let finished: Timestamp = serde_json::from_value(run["finished_at"].clone()).unwrap();
        assert!(finished <= killed, "{role}: killed at {killed}: {run}");
    }
}

#[tokio::test]
async fn an_outage_is_logged_once_not_per_attempt() {
    let stage = Stage::new().await;
    let Pair { web, service } = pair(&stage);
    let mut service = service.ready().await;
    let web = web.ready().await;
    let robot = stage.robot(&web.url()).await;
    let mut browser = web.administrator().await;
    robot.until_live_with(service.pid(), PATIENCE).await;
    let before = web.stderr.lines().len();
    service.kill9();
    let ((), took) = within(PATIENCE, "a link that is not live", async || so(robot.link().await? != "live")).await;
    assert!(took <= KNOWN_GONE, "known after {took:?}");
    // the page is there, at once, and says why
    let page = browser.page("/status").await;
    assert!(page.contains("id=\"link\""), "the pill is on the page");
    assert!(page.contains("id=\"d-hello\""), "the page shows what the store knows");
    // many attempts, each told by the status: none of them by the log
    eventually("six attempts", async || {
        let status = robot.status().await?;
        so(status["messenger"]["attempts"].as_u64()? >= 6)
    })
    .await;
    let during = web.stderr.lines().split_off(before);
    assert!(during.len() <= 2, "{} lines for one outage:\n{}", during.len(), during.join("\n"));
    service.spawn_again();
    robot.until_live_with(service.pid(), PATIENCE).await;
    let after = web.stderr.lines().split_off(before);
    assert!(after.len() <= 4, "{} lines for one outage and its end:\n{}", after.len(), after.join("\n"));
}

#[tokio::test]
async fn one_data_directory_has_one_service() {
    let stage = Stage::new().await;
    let service = stage.node().role("service").ready().await;
    for second in [stage.node().role("service"), stage.node()] {
        let done = run(&mut second.command(), "").await;
        assert_eq!(done.code, Some(1), "{}", done.stderr);
        let holder = service.pid().to_string();
        assert!(
            done.stderr.contains("service") && done.stderr.contains(&holder),
            "it names the holder: {}",
            done.stderr
        );
    }
    // any number of web processes, though
    let first = stage.node().role("web").ready().await;
    let second = stage.node().role("web").ready().await;
    let token = stage.token("robot", "service_admin").await;
    for web in [&first, &second] {
        Robot::new(&web.url(), &token).until_live_with(service.pid(), PATIENCE).await;
    }
}

#[tokio::test]
async fn two_processes_that_start_together_make_one_key() {
    let stage = Stage::new().await;
    let (mut web, service) = (stage.node().role("web").spawn(), stage.node().role("service").spawn());
    web.until_ready(PATIENCE).await;
    stage.robot(&web.url()).await.until_live_with(service.pid(), PATIENCE).await;
}
