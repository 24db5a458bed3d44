//! Real work: jobs from a configuration file, run, paused, cancelled, and ended with everything they started.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::support::browser::button;
use crate::support::node::{Node, gone, lives};
use crate::support::robot::{Robot, execution_id};
use crate::support::stage::Stage;
use crate::support::wait::{PATIENCE, eventually, so};
use crate::support::writer::Jobs;

async fn working(stage: &Stage, jobs: Jobs) -> (Node, Robot) {
    let node = stage.node().config(jobs.save(stage)).setting("Service.PollInterval", "1s").ready().await;
    let robot = stage.robot(&node.url()).await;
    robot.until_live(PATIENCE).await;
    (node, robot)
}

/// A process id that a job writes into `file`, once the file is complete.
async fn pid_in(file: &std::path::Path) -> u32 {
    let what = format!("a process id in {}", file.display());
    eventually(&what, async || std::fs::read_to_string(file).ok()?.trim().parse().ok()).await
}

#[tokio::test]
async fn a_job_runs_and_its_lines_arrive() {
    let stage = Stage::new().await;
    let jobs = Jobs::default()
        .shell("talks", "echo to stdout; echo to stderr >&2; echo \"in $PWD with $COLOUR\"")
        .command_with("warns", &["bash", "-c", "exit 3"], "warning = [3]")
        .shell("fails", "echo before the end; exit 7")
        .command_with("slow", &["sleep", "600"], "timeout = \"1s\"");
    let (node, robot) = working(&stage, jobs).await;
    let talks = robot.run("talks").await;
    assert_eq!(robot.until_ended(talks).await["outcome"], "normal");
    robot.line_with("talks", "to stdout").await;
    robot.line_with("talks", "to stderr").await;
    robot.line_with("talks", "in /").await;

    let warns = robot.run("warns").await;
    assert_eq!(robot.until_ended(warns).await["outcome"], "warning");
    let fails = robot.run("fails").await;
    let ended = robot.until_ended(fails).await;
    assert_eq!(ended["outcome"], "error");
    assert!(ended["message"].as_str().is_some_and(|message| message.contains('7')), "it names the code: {ended}");
    let failing = robot.until_state("fails", "failing").await;
    assert!(failing["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{failing}");
    let slow = robot.run("slow").await;
    assert_eq!(robot.until_ended(slow).await["outcome"], "error");

    // the kept output of a run, told apart, as a file
    let mut browser = node.administrator().await;
    eventually("the kept output", async || {
        let text = browser.page(&format!("/executions/{talks}/log.txt")).await;
        so(text.contains("to stdout") && text.contains("to stderr"))
    })
    .await;
    let page = browser.page(&format!("/executions/{fails}")).await;
    assert!(page.contains("before the end"));
}

#[tokio::test]
async fn progress_is_shown_while_a_run_goes_on() {
    let stage = Stage::new().await;
    let go_on = stage.path("go-on");
    let line = format!("echo '::progress 3/10 indexing'; until [ -e {} ]; do sleep 0.05; done", go_on.display());
    let (_node, robot) = working(&stage, Jobs::default().shell("long", &line)).await;
    let run = robot.run("long").await;
    eventually("3 of 10", async || {
        let text = robot.dispatcher("long").await?.to_string();
        so(text.contains("indexing"))
    })
    .await;
    assert_eq!(robot.dispatcher("long").await.expect("the dispatcher")["state"], "running");
    std::fs::write(&go_on, "").unwrap();
    assert_eq!(robot.until_ended(run).await["outcome"], "normal");
}

#[tokio::test]
async fn a_double_click_runs_once() {
    let stage = Stage::new().await;
    let (node, robot) = working(&stage, Jobs::default().shell("hello", "echo hello")).await;
    let mut browser = node.administrator().await;
    let html = browser.page("/status").await;
    let form = button(&html, "/dispatchers/hello/run").expect("a button that runs hello now");
    // the same button of the same page, twice; the second also after the run has ended
    for _ in 0..2 {
        let answer = browser.submit(&form).await;
        assert!((300..400).contains(&answer.status), "{answer:?}");
        eventually(
            "a run that has ended",
            async || so(robot.executions("hello").await.first()?["outcome"].is_string()),
        )
        .await;
    }
    assert_eq!(robot.executions("hello").await.len(), 1);
    // a new page means a new click
    browser.press("/status", "/dispatchers/hello/run").await;
    eventually("a second run", async || so(robot.executions("hello").await.len() == 2)).await;
}

#[tokio::test]
async fn an_idempotency_key_runs_once() {
    let stage = Stage::new().await;
    let (node, robot) = working(&stage, Jobs::default().shell("hello", "echo hello")).await;
    let token = stage.token("second", "service_admin").await;
    let client = crate::support::browser::client();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let request = client.post(format!("{}/api/dispatchers/hello:run", node.url()));
        let answer = request.header("x-api-key", &token).header("idempotency-key", "once").send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        ids.push(execution_id(&answer.json().await.unwrap()));
    }
    assert_eq!(ids[0], ids[1]);
    robot.until_ended(ids[0]).await;
    assert_eq!(robot.executions("hello").await.len(), 1);
}

#[tokio::test]
async fn a_paused_dispatcher_starts_nothing_until_it_is_resumed() {
    let stage = Stage::new().await;
    let jobs = Jobs::default().command_with("often", &["true"], "schedule = \"every 1s\"");
    let (node, robot) = working(&stage, jobs).await;
    eventually("a scheduled run", async || so(!robot.executions("often").await.is_empty())).await;
    let mut browser = node.administrator().await;
    browser.press("/status", "/dispatchers/often/pause").await;
    let paused = robot.until_state("often", "paused").await;
    assert!(paused["reason"].as_str().is_some_and(|reason| reason.contains("root")), "it says by whom: {paused}");
    let until_then = robot.executions("often").await.len();
    // one may have begun with the click; in three times the schedule a second one would have followed
    let look = async || so(robot.executions("often").await.len() > until_then + 1);
    let more = tokio::time::timeout(Duration::from_secs(3), eventually("a run in spite of the pause", look)).await;
    assert!(more.is_err(), "a paused dispatcher went on");
    browser.press("/status", "/dispatchers/often/resume").await;
    eventually("runs again", async || so(robot.executions("often").await.len() > until_then + 1)).await;
}

#[tokio::test]
async fn a_cancelled_run_ends_with_all_it_started() {
    let stage = Stage::new().await;
    let written = stage.path("pid");
    let line = format!("setsid sleep 1000 & echo $! > {0}; sleep 1000", written.display());
    let (node, robot) = working(&stage, Jobs::default().shell("long", &line)).await;
    let run = robot.run("long").await;
    let survivor = pid_in(&written).await;
    assert!(lives(survivor));
    let mut browser = node.administrator().await;
    browser.press("/status", "/dispatchers/long/cancel").await;
    let ended = robot.until_ended(run).await;
    assert_eq!(ended["outcome"], "cancelled");
    gone(survivor).await;
    let audit = browser.page("/audit").await;
    assert!(audit.contains("root") && audit.contains("long"), "who did what is on the audit page");
}

#[tokio::test]
async fn a_job_that_forks_and_survives_ends_with_its_run_and_with_a_killed_node() {
    let stage = Stage::new().await;
    let (first, second) = (stage.path("first"), stage.path("second"));
    let daemon =
        |note: &std::path::Path| format!("setsid bash -c 'echo $$ > {}; exec sleep 1000' & disown", note.display());
    let jobs = Jobs::default()
        .shell("leaves", &format!("{}; until [ -s {} ]; do sleep 0.02; done", daemon(&first), first.display()))
        .shell("stays", &format!("{}; sleep 1000", daemon(&second)));
    let (mut node, robot) = working(&stage, jobs).await;
    let run = robot.run("leaves").await;
    let left = pid_in(&first).await;
    assert_eq!(robot.until_ended(run).await["outcome"], "normal");
    gone(left).await;

    let run = robot.run("stays").await;
    let stayed = pid_in(&second).await;
    assert!(lives(stayed));
    node.kill9();
    gone(stayed).await;
    node.spawn_again();
    node.until_ready(PATIENCE).await;
    assert_eq!(robot.until_ended(run).await["outcome"], "abandoned");
}

#[tokio::test]
async fn with_the_pipe_blocked_run_now_starts_within_the_poll_interval() {
    let stage = Stage::alone().await;
    let config = Jobs::default().shell("hello", "echo hello").save(&stage);
    let service = stage.node().role("service").config(config).setting("Service.PollInterval", "1s").ready().await;
    // this web node looks for the service where it is not
    let nowhere = format!("pipe:{}", stage.path("nowhere.sock").display());
    let web = stage.node().role("web").setting("Service.MessengerEndpoint", nowhere).ready().await;
    let robot = stage.robot(&web.url()).await;
    let mut browser = web.administrator().await;
    eventually("dispatchers from the store", async || so(browser.page("/status").await.contains("id=\"d-hello\"")))
        .await;
    let status = robot.status().await.expect("the status");
    assert_ne!(status["messenger"]["state"], "live");

    let run = robot.run("hello").await;
    let took = robot.until_begun(run, PATIENCE).await;
    assert!(took <= Duration::from_secs(2), "begun after {took:?}");
    assert_eq!(robot.until_ended(run).await["outcome"], "normal");
    // the page says that it waits for the service to look
    let answer = browser.press("/status", "/dispatchers/hello/run").await;
    let page = browser.page(answer.location().expect("a way back")).await;
    assert!(page.to_lowercase().contains("queued"), "the page says it was queued");
    drop(service);
}

#[tokio::test]
async fn an_unknown_dispatcher_is_not_found() {
    let stage = Stage::new().await;
    let (_node, robot) = working(&stage, Jobs::default()).await;
    for name in ["nobody", "has%20space", "..%2F..", "%3Cscript%3E"] {
        let (status, answer) = robot.ask(Method::POST, &format!("/api/dispatchers/{name}:run"), None).await;
        assert_eq!(status, 404, "{name}: {answer}");
    }
    let (status, answer) = robot.ask(Method::GET, "/api/executions/999999", None).await;
    assert_eq!(status, 404, "{answer}");
    assert!(answer["error"]["message"].is_string(), "errors have one shape: {answer}");
    let (status, _) = robot.ask(Method::PUT, "/api/settings/No.Such", Some(&json!({ "value": "1" }))).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn whatever_a_job_prints_is_a_line() {
    let stage = Stage::new().await;
    let wild = "printf 'bytes \\xff\\xfe end\\n'; printf 'colour \\033[31mred\\033[0m\\n'; printf 'bell \\a back \\b\\n'; \
                printf 'bidi \\xe2\\x80\\xae abc\\n'; echo '<script>alert(1)</script>'; printf 'no newline at the end'";
    let flood = "head -c 100000000 /dev/zero | tr '\\0' 'x'";
    let (node, robot) = working(&stage, Jobs::default().shell("wild", wild).shell("flood", flood)).await;
    let run = robot.run("wild").await;
    assert_eq!(robot.until_ended(run).await["outcome"], "normal");
    for part in ["bytes", "colour", "bell", "bidi", "<script>alert(1)</script>", "no newline at the end"] {
        robot.line_with("wild", part).await;
    }
    let mut browser = node.administrator().await;
    let page = browser.page("/status").await;
    assert!(!page.contains("<script>alert(1)"), "a line is text on the page");

    let before = node.memory();
    let run = robot.run("flood").await;
    assert_eq!(robot.until_ended(run).await["outcome"], "normal");
    let (lines, _) = robot.lines("flood", None).await;
    let longest =
        lines.iter().filter_map(|line| line["message"].as_str()).map(str::len).max().expect("lines of the flood");
    assert!(longest <= 16 * 1024, "a line of {longest} bytes");
    let grown = node.memory().saturating_sub(before);
    assert!(grown < 200 << 20, "100 MB of output made the node grow by {grown} bytes");
    let run = robot.run("wild").await;
    robot.until_ended(run).await;
}
