//! `logs --follow` and `status --watch`: beside the node and far from it, over restarts, until they are ended.

use std::process::{Child, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::node::{Node, bare_command};
use crate::support::output::Output;
use crate::support::robot::Robot;
use crate::support::stage::Stage;
use crate::support::wait::{PATIENCE, eventually, so, within};
use crate::support::writer::Jobs;

/// A command that goes on.
struct Follower {
    child: Child,
    stdout: Output,
    stderr: Output,
}

impl Follower {
    /// Starts it over the data directory, or with a token at an address.
    fn start(stage: &Stage, far: Option<(&Node, &str)>, arguments: &[&str]) -> Self {
        let mut command = bare_command();
        match far {
            Some((node, token)) => {
                command.current_dir("/").args(["--url", &node.url()]).env("SWITCHBOARD_TOKEN", token);
            }
            None => {
                command.arg("--data").arg(stage.data());
            }
        }
        let outputs = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = outputs.spawn().expect("the program starts");
        let (stdout, _) = Output::read(child.stdout.take().unwrap());
        let (stderr, _) = Output::read(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    fn interrupt(&self) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
    }

    async fn end(&mut self) -> ExitStatus {
        within(PATIENCE, "the end of it", async || self.child.try_wait().unwrap()).await.0
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn node(stage: &Stage) -> (Node, Robot) {
    let config = Jobs::default().shell("hello", "echo hello from the job; sleep 1").save(stage);
    let node = stage.node().config(config).ready().await;
    let robot = stage.robot(&node.url()).await;
    robot.until_live(PATIENCE).await;
    (node, robot)
}

#[tokio::test]
async fn an_interrupt_ends_all_of_them_well() {
    let stage = Stage::new().await;
    let (node, robot) = node(&stage).await;
    let token = stage.token("far", "admin_viewer").await;
    for far in [None, Some((&node, token.as_str()))] {
        let mut lines = Follower::start(&stage, far, &["logs", "--follow", "--json", "--source", "hello"]);
        let mut status = Follower::start(&stage, far, &["status", "--watch"]);
        status.stdout.line_with("hello", PATIENCE).await;
        let ran = robot.run("hello").await;
        robot.until_ended(ran).await;
        let line = lines.stdout.line_with("hello from the job", PATIENCE).await;
        let line: Value = serde_json::from_str(&line).expect("a JSON object a line");
        assert_eq!(
            (&line["source"], &line["level"], &line["stream"]),
            (&"hello".into(), &"info".into(), &"stdout".into())
        );
        let node = line["node"].as_str().expect("of which node");
        assert!(!node.is_empty() && line["seq"].is_u64() && line["epoch"].is_string() && line["time"].is_string());
        eventually("the run in the status", async || so(status.stdout.text().contains("running"))).await;
        let shown = status.stdout.lines();
        assert!(!shown.iter().any(|line| line.contains('\u{1b}')), "no terminal, no redrawing: {shown:?}");
        // only what changed is told again
        let others = shown.iter().filter(|line| line.starts_with("heartbeat ")).count();
        assert!(others < shown.iter().filter(|line| line.starts_with("hello ")).count() + 5, "{shown:?}");
        for follower in [&mut lines, &mut status] {
            follower.interrupt();
            assert_eq!(follower.end().await.code(), Some(0), "{}", follower.stderr.text());
        }
    }
}

#[tokio::test]
async fn a_reader_that_is_gone_ends_it() {
    let stage = Stage::new().await;
    let (node, robot) = node(&stage).await;
    let token = stage.token("far", "admin_viewer").await;
    for far in [None, Some((&node, token.as_str()))] {
        let mut command = bare_command();
        match far {
            Some((node, token)) => command.args(["--url", &node.url()]).env("SWITCHBOARD_TOKEN", token),
            None => command.arg("--data").arg(stage.data()),
        };
        let mut child = command.args(["logs", "--follow"]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let gone = within(PATIENCE, "the end of it", async || {
            robot.run("hello").await;
            child.try_wait().unwrap()
        });
        assert_eq!(gone.await.0.code(), Some(0));
    }
}

#[tokio::test]
async fn lines_go_on_over_restarts_of_both_nodes_without_loss_or_repeat() {
    let stage = Stage::new().await;
    let config = Jobs::default().writer(&stage, 400, 100).save(&stage);
    let mut service = stage.node().role("service").config(config).ready().await;
    let mut web = stage.node().role("web").ready().await;
    let address = web.address().to_string();
    let robot = stage.robot(&web.url()).await;
    robot.until_live(PATIENCE).await;
    let token = stage.token("far", "admin_viewer").await;
    let mut far = Follower::start(&stage, Some((&web, &token)), &["logs", "--follow", "--source", "writer"]);
    let mut beside = Follower::start(&stage, None, &["logs", "--follow", "--source", "writer"]);
    let written = async |follower: &Follower, run: u64| {
        let lines = follower.stdout.lines();
        let told: Vec<u64> =
            lines.iter().filter_map(|line| line.split(" line ").nth(1)?.split(' ').next()?.parse().ok()).collect();
        let whole: Vec<u64> = (0..run).flat_map(|_| 1..=400).collect();
        assert!(told.len() <= whole.len(), "{} lines: something came twice", told.len());
        assert_eq!(told, whole[..told.len()], "in order, nothing lost");
        so(told.len() == whole.len())
    };
    let first = robot.run("writer").await;
    far.stdout.line_with("line 50 of", PATIENCE).await;
    // the web node goes away in the middle; what was written meanwhile comes when it is back at the same address
    web.kill9();
    beside.stdout.line_with("line 200 of", PATIENCE).await;
    let mut web = stage.node().role("web").listen(&address).ready().await;
    robot.until_ended(first).await;
    for follower in [&far, &beside] {
        eventually("the first run", async || written(follower, 1).await).await;
    }
    assert!(far.stderr.text().contains("connecting again") && far.stderr.text().contains("connected again"));
    // and the service node, at rest: its new life is told
    service.term();
    service.end(PATIENCE).await;
    let config = stage.path("switchboard.toml");
    let again = stage.node().role("service").config(config).ready().await;
    robot.until_live_with(again.pid(), PATIENCE).await;
    let second = robot.run("writer").await;
    robot.until_ended(second).await;
    for follower in [&mut far, &mut beside] {
        eventually("the second run", async || written(follower, 2).await).await;
        assert!(follower.stderr.text().contains("the service was restarted"), "{}", follower.stderr.text());
        assert!(!follower.stderr.text().contains("can't be had"), "{}", follower.stderr.text());
        follower.interrupt();
        assert_eq!(follower.end().await.code(), Some(0));
    }
    assert!(web.runs());
}

#[tokio::test]
async fn a_token_that_is_taken_away_ends_it_with_words() {
    let stage = Stage::new().await;
    let (node, _robot) = node(&stage).await;
    let token = stage.token("far", "admin_viewer").await;
    let mut lines = Follower::start(&stage, Some((&node, &token)), &["logs", "--follow"]);
    let mut status = Follower::start(&stage, Some((&node, &token)), &["status", "--watch"]);
    lines.stdout.line_with(" ", PATIENCE).await;
    status.stdout.line_with("hello", PATIENCE).await;
    stage.run(&["user", "delete", "far"]).await.good();
    for follower in [&mut lines, &mut status] {
        assert_eq!(follower.end().await.code(), Some(1));
        eventually("the reason", async || so(follower.stderr.text().contains("not valid any more"))).await;
    }
    let mut late = Follower::start(&stage, Some((&node, &token)), &["logs", "--follow"]);
    assert_eq!(late.end().await.code(), Some(1));
    eventually("the reason", async || so(late.stderr.text().contains("SWITCHBOARD_TOKEN is not valid"))).await;
}

#[tokio::test]
async fn as_many_of_the_newest_lines_as_wanted_come_first() {
    let stage = Stage::new().await;
    let script = "for n in {1..30}; do echo line $n of $SWITCHBOARD_EXECUTION; done";
    let config = Jobs::default().command("count", &["bash", "-c", script]).save(&stage);
    let node = stage.node().config(config).ready().await;
    let robot = stage.robot(&node.url()).await;
    robot.until_live(PATIENCE).await;
    let token = stage.token("far", "admin_viewer").await;
    // gives all lines there are once a run has ended, of which the last line is
    let ran = async || {
        let run = robot.run("count").await;
        robot.until_ended(run).await;
        eventually("the run's last line", async || {
            let all = stage.run(&["logs", "--source", "count", "-n", "1000"]).await.good();
            let lines: Vec<String> = all.lines().map(str::to_owned).collect();
            let last = lines.iter().rposition(|line| line.ends_with(&format!("line 30 of {run}")))?;
            lines[last..].iter().any(|line| line.contains("ended after")).then_some(lines)
        })
        .await
    };
    for far in [None, Some((&node, token.as_str()))] {
        let logs = |more: &[&str]| Follower::start(&stage, far, &[&["logs", "--source", "count"], more].concat());
        let before = ran().await;
        let mut seven = logs(&["-n", "7"]);
        assert_eq!(seven.end().await.code(), Some(0), "{}", seven.stderr.text());
        let newest = |count: usize| &before[before.len() - count..];
        eventually("the newest seven", async || so(seven.stdout.lines() == newest(7))).await;
        let (three, later) = (logs(&["--follow", "-n", "3"]), logs(&["--follow", "--lines", "0"]));
        eventually("the newest three", async || so(three.stdout.lines() == newest(3))).await;
        let after = ran().await;
        let all = &after[before.len() - 3..];
        eventually("what came after them", async || so(three.stdout.lines() == all)).await;
        eventually("what comes", async || {
            ran().await;
            so(!later.stdout.lines().is_empty())
        })
        .await;
        let told = later.stdout.lines();
        assert!(told.iter().all(|line| !before.contains(line)), "nothing from before: {told:?}");
    }
    let many = stage.run(&["logs", "-n", "1001"]).await;
    assert_eq!(many.code, Some(64), "{}", many.stderr);
    assert!(many.stderr.contains("1001 is not in 0..=1000"), "{}", many.stderr);
}
