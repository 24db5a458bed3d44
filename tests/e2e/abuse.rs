//! Bad input from outside: each gets a clear refusal, and the node goes on.

use std::io::Write as _;
use std::os::unix::net::UnixStream;

use tokio_tungstenite::tungstenite::Message;

use crate::support::browser::{Browser, PASSWORD, client, form_with_field, form_with_password};
use crate::support::node::Node;
use crate::support::robot::Robot;
use crate::support::socket::Socket;
use crate::support::stage::Stage;
use crate::support::wait::{PATIENCE, eventually, so};

async fn node(stage: &Stage) -> (Node, Robot) {
    let node = stage.node().ready().await;
    let robot = stage.robot(&node.url()).await;
    robot.until_live(PATIENCE).await;
    (node, robot)
}

/// The node works, and nothing in it fell.
async fn unharmed(node: &mut Node, robot: &Robot) {
    assert!(node.runs());
    robot.until_live(PATIENCE).await;
    assert!(!node.stderr.text().contains("panicked"), "{}", node.stderr.text());
}

#[tokio::test]
async fn a_password_of_a_megabyte_is_refused_before_it_is_hashed() {
    let stage = Stage::new().await;
    let (mut node, robot) = node(&stage).await;
    node.administrator().await;
    let long = "x".repeat(1 << 20);
    let answer = Browser::new(&node.url()).sign_in("root", &long).await;
    assert!((400..500).contains(&answer.status), "{}", answer.status);
    unharmed(&mut node, &robot).await;
    let answer = Browser::new(&node.url()).sign_in("root", PASSWORD).await;
    assert!((300..400).contains(&answer.status), "the right one still works: {answer:?}");
}

#[tokio::test]
async fn a_thousand_wrong_sign_ins_are_throttled() {
    let stage = Stage::new().await;
    let (mut node, robot) = node(&stage).await;
    node.administrator().await;
    let mut browser = Browser::new(&node.url());
    let page = browser.page("/sign-in").await;
    let form = form_with_password(&page, "/sign-in").with("name", "root").password("a wrong password");
    let mut throttled = 0;
    for _ in 0..1_000 {
        let answer = browser.submit(&form).await;
        assert!((400..500).contains(&answer.status), "{answer:?}");
        throttled += u32::from(answer.status == 429);
    }
    assert!(throttled > 900, "only {throttled} of 1,000 were throttled");
    unharmed(&mut node, &robot).await;
    let said = node.stderr.lines().len();
    assert!(said < 100, "{said} lines in the log");
}

#[tokio::test]
async fn whatever_is_sent_on_the_socket_the_node_goes_on() {
    let stage = Stage::new().await;
    let (mut node, robot) = node(&stage).await;
    let browser = node.administrator().await;
    for (what, message) in [
        ("10 MB of text", Message::text("x".repeat(10 << 20))),
        ("a binary frame", Message::binary(vec![0_u8; 64])),
        ("no JSON", Message::text("{")),
        ("an unknown word", Message::text(r#"{"t":"dance"}"#)),
        ("no object", Message::text("[1,2,3]")),
        ("an unknown topic", Message::text(r#"{"t":"sub","topic":"secrets"}"#)),
        ("a cursor that is none", Message::text(r#"{"t":"sub","topic":"log","since":"x:y","level":"loud"}"#)),
        ("a pattern that is none", Message::text(r#"{"t":"sub","topic":"log","since":null,"q":"(((","level":"info"}"#)),
    ] {
        let mut socket = Socket::open(&node.url(), &browser).await;
        socket.send_raw(message).await;
        socket.send_raw(Message::text(r#"{"t":"sub","topic":"status"}"#)).await;
        // it is closed, or it goes on and answers; it does not hang
        let after = tokio::time::timeout(PATIENCE, socket.frame("snapshot")).await;
        assert!(after.is_ok(), "{what}: the socket hangs");
    }
    unharmed(&mut node, &robot).await;
    let mut socket = Socket::open(&node.url(), &browser).await;
    socket.watch_status().await;
    socket.frame("snapshot").await.expect("a good socket still works");
}

#[tokio::test]
async fn strangers_on_the_pipe_get_nothing_and_harm_nothing() {
    let stage = Stage::new().await;
    let (mut node, robot) = node(&stage).await;
    let silent: Vec<_> = (0..50).map(|_| UnixStream::connect(stage.pipe()).unwrap()).collect();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], &[0xff, 0xff, 0xff, 0xff, 1, 2, 3], &[0; 64]] {
        let mut stranger = UnixStream::connect(stage.pipe()).unwrap();
        // the other end may have hung up already
        let _ = stranger.write_all(garbage);
        stranger.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stranger, &mut answer);
        assert!(answer.len() < 4096, "{} bytes for a stranger", answer.len());
    }
    unharmed(&mut node, &robot).await;
    assert!(node.memory() < 500 << 20, "a length is not believed before it is there");
    drop(silent);
    let lines = node.stderr.lines().len();
    assert!(lines < 60, "{lines} lines in the log for some strangers");
}

#[tokio::test]
async fn bodies_and_paths_that_make_no_sense_are_refused() {
    let stage = Stage::new().await;
    let (mut node, robot) = node(&stage).await;
    let client = client();
    let token = stage.token("second", "service_admin").await;
    let put = async |body: String| {
        let request = client.put(format!("{}/api/settings/Service.PollInterval", node.url()));
        let sent =
            request.header("x-api-key", &token).header("content-type", "application/json").body(body).send().await;
        // a body that is too large may be refused before it was sent to its end
        sent.map_or(413, |answer| answer.status().as_u16())
    };
    for body in ["", "{", "null", "[]", "{\"value\": 7}", "{\"value\": \"5s\", \"colour\": 1}"] {
        let status = put(body.to_owned()).await;
        assert!(status == 200 || (400..500).contains(&status), "{body:?}: {status}");
    }
    assert_eq!(put(format!("{{\"value\": \"{}\"}}", "x".repeat(20 << 20))).await / 100, 4);
    for path in [
        "/../../etc/passwd",
        "/static/../Cargo.toml",
        "/%00",
        "/executions/x",
        "/api/logs?since=x&limit=-1",
        "/dispatchers/%2e%2e",
    ] {
        let answer = client.get(format!("{}{path}", node.url())).header("x-api-key", &token).send().await.unwrap();
        let status = answer.status().as_u16();
        assert!((300..500).contains(&status), "{path}: {status}");
    }
    unharmed(&mut node, &robot).await;
}

#[tokio::test]
async fn a_locked_database_delays_and_breaks_nothing() {
    let stage = Stage::new().await;
    let (mut node, robot) = node(&stage).await;
    let file = stage.data().join("switchboard.db");
    let url = format!("sqlite://{}", file.display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    let mut writer = pool.acquire().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *writer).await.unwrap();
    // reads go on; a write says that it could not be done, or waits until it can
    assert!(robot.status().await.is_some(), "reading does not need the lock");
    let path = "/api/settings/Service.PollInterval";
    let body = serde_json::json!({ "value": "9s" });
    let (status, answer) = robot.ask(reqwest::Method::PUT, path, Some(&body)).await;
    assert_eq!(status, 503, "{answer}");
    sqlx::query("ROLLBACK").execute(&mut *writer).await.unwrap();
    drop(writer);
    pool.close().await;
    eventually("a write that is taken", async || so(robot.ask(reqwest::Method::PUT, path, Some(&body)).await.0 == 200))
        .await;
    unharmed(&mut node, &robot).await;
}

#[tokio::test]
async fn two_who_save_the_same_setting_do_not_overwrite_each_other_unseen() {
    let stage = Stage::new().await;
    let (node, _) = node(&stage).await;
    let (mut first, mut second) = (node.administrator().await, Browser::new(&node.url()));
    second.sign_in("root", PASSWORD).await;
    let page = "/settings/Service.PollInterval";
    let mut forms = Vec::new();
    for browser in [&mut first, &mut second] {
        let html = browser.page(page).await;
        forms.push(form_with_field(&html, page, "Service.PollInterval"));
    }
    let answer = first.submit(&forms[0].clone().with("Service.PollInterval", "3s").with("step", "save")).await;
    assert!(answer.status < 400, "{answer:?}");
    let late = second.submit(&forms[1].clone().with("Service.PollInterval", "4s").with("step", "save")).await;
    assert_eq!(late.status, 409, "{late:?}");
    assert_eq!(stage.run(&["settings", "get", "Service.PollInterval"]).await.good().trim(), "3s");
}
