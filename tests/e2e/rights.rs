//! Who may look, who may act, and from where.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::support::browser::{Browser, PASSWORD, button};
use crate::support::node::{Node, bare_command};
use crate::support::robot::Robot;
use crate::support::socket::Socket;
use crate::support::stage::{Stage, run};
use crate::support::wait::{PATIENCE, eventually, so, within};
use crate::support::writer::Jobs;

async fn node_with_a_job(stage: &Stage) -> Node {
    let config = Jobs::default().shell("hello", "echo hello").save(stage);
    let node = stage.node().config(config).ready().await;
    stage.robot(&node.url()).await.until_live(PATIENCE).await;
    node
}

/// A browser signed in as somebody who may look and not act.
async fn onlooker(stage: &Stage, node: &Node) -> Browser {
    let data = stage.data();
    let mut command = bare_command();
    command.args(["user", "add", "eve", "--role", "admin_viewer", "--password-stdin", "--data"]).arg(&data);
    run(&mut command, &format!("{PASSWORD}\n")).await.good();
    let mut browser = Browser::new(&node.url());
    let answer = browser.sign_in("eve", PASSWORD).await;
    assert!((300..400).contains(&answer.status), "{answer:?}");
    browser
}

#[tokio::test]
async fn without_a_session_there_is_nothing_to_see() {
    let stage = Stage::new().await;
    let node = node_with_a_job(&stage).await;
    let mut stranger = Browser::new(&node.url());
    for page in
        ["/", "/status", "/settings", "/executions", "/audit", "/diagnostics", "/users", "/nodes", "/dispatchers/hello"]
    {
        let mut answer = stranger.get(page).await;
        if answer.location() == Some("/status") {
            answer = stranger.get("/status").await;
        }
        let away = answer.location().is_some_and(|to| to.starts_with("/sign-in"));
        assert!(away || matches!(answer.status, 401 | 403), "{page}: {answer:?}");
        assert!(!answer.text.contains("hello"), "{page} says something");
    }
    for file in ["/logs.txt", "/status/poll", "/executions/1/log.txt", "/metrics"] {
        let answer = stranger.get(file).await;
        assert!(matches!(answer.status, 401 | 403), "{file}: {answer:?}");
    }
    for path in ["/api/status", "/api/logs", "/api/settings", "/api/executions", "/api/nodes", "/api/audit"] {
        let wrong = Robot::new(&node.url(), "0000000000000000000000000000000000000000000000000000000000000000");
        let (status, answer) = wrong.ask(Method::GET, path, None).await;
        assert_eq!(status, 401, "{path}: {answer}");
        assert!(answer["error"]["message"].is_string(), "{path}: {answer}");
    }
    let answer = stranger.post("/dispatchers/hello/run", &[]).await;
    let away = answer.location().is_some_and(|to| to.starts_with("/sign-in"));
    assert!(away || matches!(answer.status, 401 | 403), "{answer:?}");
    let robot = Robot::new(&node.url(), &stage.token("second", "service_admin").await);
    assert_eq!(robot.executions("hello").await.len(), 0, "a stranger runs nothing");
}

#[tokio::test]
async fn the_socket_opens_only_for_a_session_on_our_own_page() {
    let stage = Stage::new().await;
    let node = node_with_a_job(&stage).await;
    let browser = node.administrator().await;
    let (base, cookie) = (node.url(), browser.cookie());
    let port = node.address().port();
    for (who, cookie, origin) in [
        ("nobody", None, Some(base.clone())),
        ("a wrong cookie", Some("session=00"), Some(base.clone())),
        ("a foreign page", Some(cookie), Some("https://example.com".to_owned())),
        ("a page of another port", Some(cookie), Some(format!("http://127.0.0.1:{}", port.wrapping_add(1)))),
        ("a name that looks like ours", Some(cookie), Some(format!("http://127.0.0.1:{port}.example.com"))),
        ("a file", Some(cookie), Some("null".to_owned())),
        ("no page", Some(cookie), None),
    ] {
        let opened = Socket::try_open(&base, cookie, origin.as_deref()).await;
        assert!(matches!(opened, Err(401 | 403)), "{who}: {:?}", opened.err());
    }
    Socket::open(&base, &browser).await;
}

#[tokio::test]
async fn a_foreign_page_can_not_act() {
    let stage = Stage::new().await;
    let node = node_with_a_job(&stage).await;
    let mut browser = node.administrator().await;
    let form = button(&browser.page("/status").await, "/dispatchers/hello/run").expect("the button");
    let mut elsewhere = browser.elsewhere("https://example.com");
    let answer = elsewhere.submit(&form).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    let robot = Robot::new(&node.url(), &stage.token("second", "service_admin").await);
    assert_eq!(robot.executions("hello").await.len(), 0);
    assert!((300..400).contains(&browser.submit(&form).await.status), "from our own page it works");
}

#[tokio::test]
async fn an_onlooker_looks_and_does_not_act() {
    let stage = Stage::new().await;
    let node = node_with_a_job(&stage).await;
    let mut owner = node.administrator().await;
    let form = button(&owner.page("/status").await, "/dispatchers/hello/run").expect("the button");
    let mut eve = onlooker(&stage, &node).await;
    let page = eve.page("/status").await;
    assert!(page.contains("id=\"d-hello\"") && !page.contains("data-may-act"), "the page is there, its actions hidden");
    for path in
        ["/dispatchers/hello/run", "/dispatchers/hello/pause", "/dispatchers/hello/cancel", "/messenger/reconnect"]
    {
        let mut fields = form.fields.clone();
        // even with everything right on the form but the right
        if let Some(own) = button(&page, path) {
            fields = own.fields;
        }
        let answer = eve.post(path, &fields).await;
        assert_eq!(answer.status, 403, "{path}: {answer:?}");
    }
    let mut socket = Socket::open(&node.url(), &eve).await;
    socket.watch_status().await;
    socket.frame("snapshot").await.expect("an onlooker sees changes");

    let token = stage.token("watcher", "admin_viewer").await;
    let robot = Robot::new(&node.url(), &token);
    robot.get("/api/status").await;
    for (method, path) in [(Method::POST, "/api/dispatchers/hello:run"), (Method::POST, "/api/dispatchers/hello:pause")]
    {
        assert_eq!(robot.ask(method, path, None).await.0, 403, "{path}");
    }
    let change = json!({ "value": "5s" });
    assert_eq!(robot.ask(Method::PUT, "/api/settings/Service.PollInterval", Some(&change)).await.0, 403);
    assert_eq!(robot.executions("hello").await.len(), 0, "nothing ran");

    let counter = Robot::new(&node.url(), &stage.token("counter", "metrics_viewer").await);
    assert_eq!(counter.ask(Method::GET, "/api/status", None).await.0, 403);
    assert_eq!(counter.ask(Method::GET, "/metrics", None).await.0, 200);
}

#[tokio::test]
async fn signing_out_ends_the_session_and_its_sockets() {
    let stage = Stage::new().await;
    let node = node_with_a_job(&stage).await;
    let mut browser = node.administrator().await;
    let cookie = browser.cookie().to_owned();
    let mut socket = Socket::open(&node.url(), &browser).await;
    socket.watch_status().await;
    socket.frame("snapshot").await.expect("the state of everything");
    browser.press("/status", "/sign-out").await;
    let (bye, took) = within(PATIENCE, "a goodbye", async || {
        let frame = socket.frame("bye").await;
        Some(frame.map(|bye| bye["code"].clone()))
    })
    .await;
    assert!(bye.is_none_or(|code| code == "signed-out"), "it says why");
    assert!(took <= Duration::from_secs(6), "the socket lived on for {took:?}");
    let again = Socket::try_open(&node.url(), Some(&cookie), Some(&node.url())).await;
    assert!(again.is_err(), "the cookie opens nothing any more");
}

#[tokio::test]
async fn changing_the_password_ends_the_other_sessions() {
    let stage = Stage::new().await;
    let node = node_with_a_job(&stage).await;
    let mut here = node.administrator().await;
    let mut there = Browser::new(&node.url());
    there.sign_in("root", PASSWORD).await;
    there.page("/status").await;
    let html = here.page("/password").await;
    let mut form = crate::support::browser::form_with_password(&html, "/password");
    let fields: Vec<String> = form.fields.iter().map(|(name, _)| name.clone()).collect();
    let old =
        fields.iter().find(|name| name.contains("old") || name.contains("current")).expect("the old password is asked");
    form = form.password("a new and longer one").with(old, PASSWORD);
    let answer = here.submit(&form).await;
    assert!(answer.status < 400, "{answer:?}");
    eventually("the end of the other session", async || {
        let answer = there.get("/status").await;
        so(answer.location().is_some_and(|to| to.starts_with("/sign-in")))
    })
    .await;
    let old_one = Browser::new(&node.url()).sign_in("root", PASSWORD).await;
    assert!(old_one.status >= 400, "{old_one:?}");
}
