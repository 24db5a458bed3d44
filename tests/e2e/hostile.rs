//! Strangers on the pipe and on the socket, and jobs that write whatever they like: a clear end, nothing stuck, nothing obeyed.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::browser::client;
use crate::support::node::Node;
use crate::support::robot::Robot;
use crate::support::socket::{Follower, Socket};
use crate::support::stage::Stage;
use crate::support::wait::PATIENCE;
use crate::support::writer::Jobs;

/// While unproven connections hold every place, an honest web node waits until they are given up (5 s), and until its next try.
const GETS_IN: Duration = Duration::from_secs(15);

async fn node(stage: &Stage, jobs: Jobs) -> (Node, Robot) {
    let node = stage.node().config(jobs.save(stage)).ready().await;
    let robot = stage.robot(&node.url()).await;
    robot.until_live(PATIENCE).await;
    (node, robot)
}

async fn unharmed(node: &mut Node, robot: &Robot) {
    assert!(node.runs());
    robot.until_live(PATIENCE).await;
    assert!(!node.stderr.text().contains("panicked"), "{}", node.stderr.text());
}

#[tokio::test]
async fn no_socket_without_a_session_or_from_a_foreign_page() {
    let stage = Stage::new().await;
    let (mut node, robot) = node(&stage, Jobs::default()).await;
    let browser = node.administrator().await;
    let base = node.url();
    let refusal = async |cookie: Option<&str>, origin: Option<&str>| match Socket::try_open(&base, cookie, origin).await
    {
        Ok(_) => 101,
        Err(status) => status,
    };
    let cookie = Some(browser.cookie());
    assert_eq!(refusal(None, Some(&base)).await, 401);
    assert_eq!(refusal(Some("switchboard_session=0123456789abcdef"), Some(&base)).await, 401);
    assert_eq!(refusal(cookie, None).await, 403, "a cookie without an origin");
    for foreign in ["http://evil.example", "null", "https://127.0.0.1", "", "not an origin"] {
        assert_eq!(refusal(cookie, Some(foreign)).await, 403, "{foreign:?}");
    }
    assert_eq!(refusal(cookie, Some(&base)).await, 101);
    unharmed(&mut node, &robot).await;
}

#[tokio::test]
async fn whatever_a_page_says_wrong_is_answered_in_words() {
    let stage = Stage::new().await;
    let (mut node, robot) = node(&stage, Jobs::default()).await;
    let browser = node.administrator().await;
    let sub = |fields: Value| {
        let mut sub = json!({ "t": "sub", "topic": "log" });
        sub.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        Message::text(sub.to_string())
    };
    for (what, message, kind, code, words) in [
        ("10 MB of text", Message::text("x".repeat(10 << 20)), "bye", "too-long", "64 KiB"),
        ("a binary frame", Message::binary(vec![0_u8; 64]), "bye", "bad-message", "text"),
        ("no JSON", Message::text("{"), "bye", "bad-message", "not understood"),
        ("an unknown word", Message::text(r#"{"t":"dance"}"#), "bye", "bad-message", "dance"),
        ("a list", Message::text("[1,2,3]"), "bye", "bad-message", "not understood"),
        ("a level that is none", sub(json!({ "level": "loud" })), "bad", "level", "trace, debug"),
        ("a place that is none", sub(json!({ "since": "x:y" })), "bad", "since", "sixteen hexadecimal"),
        (
            "a place without a number",
            sub(json!({ "since": "0000000000000001:-1" })),
            "bad",
            "since",
            "sixteen hexadecimal",
        ),
        ("a search that is none", sub(json!({ "q": "(((" })), "bad", "q", "no regular expression"),
        ("a search too long", sub(json!({ "q": "x".repeat(60_000) })), "bad", "q", "200"),
        ("a search too large", sub(json!({ "q": r"(\w{1000}){100}" })), "bad", "q", "too complex"),
    ] {
        let mut socket = Socket::open(&node.url(), &browser).await;
        // the other end may hang up before all of it went out
        socket.send_raw(message).await;
        let told = socket.frame(kind).await.unwrap_or_else(|| panic!("{what}: it ended without a word"));
        assert_eq!(told[if kind == "bye" { "code" } else { "field" }], code, "{what}: {told}");
        assert!(told.to_string().contains(words), "{what}: {told}");
    }
    // a place far ahead of the log, and one of a life nobody knows: lines come, or are waited for; nothing falls
    for since in [format!("{:016x}:{}", 7, u64::MAX), "ffffffffffffffff:1".to_owned()] {
        let mut socket = Socket::open(&node.url(), &browser).await;
        socket.watch_log(Some(&since)).await;
        socket.watch_status().await;
        socket.frame("snapshot").await.unwrap_or_else(|| panic!("{since}: the socket goes on"));
    }
    let epoch = robot.get("/api/logs?limit=1").await["next"].as_str().unwrap().split(':').next().unwrap().to_owned();
    let (status, answer) =
        robot.ask(reqwest::Method::GET, &format!("/api/logs?since={epoch}:{}", u64::MAX), None).await;
    assert!(status == 200 || status == 400, "{status}: {answer}");
    unharmed(&mut node, &robot).await;
}

#[tokio::test]
async fn ten_thousand_subscriptions_end_the_socket_and_disturb_nobody() {
    let stage = Stage::new().await;
    let (mut node, robot) = node(&stage, Jobs::default()).await;
    let browser = node.administrator().await;
    let mut socket = Socket::open(&node.url(), &browser).await;
    let sub = json!({ "t": "sub", "topic": "log", "level": "trace", "q": r"(\w+\s){1,30}x" }).to_string();
    for _ in 0..10_000 {
        if !socket.send_raw(Message::text(sub.clone())).await {
            break;
        }
    }
    let bye = socket.frame("bye").await.expect("a goodbye");
    assert_eq!(bye["code"], "too-many", "{bye}");
    assert!(bye["text"].as_str().unwrap().contains("200"), "{bye}");
    unharmed(&mut node, &robot).await;
    assert!(node.memory() < 500 << 20, "{} bytes", node.memory());
}

#[tokio::test]
async fn an_honest_web_node_gets_in_beside_two_hundred_silent_strangers() {
    let stage = Stage::alone().await;
    let service = stage.node().role("service").ready().await;
    let connect = || UnixStream::connect(stage.pipe()).unwrap();
    let mut strangers: Vec<_> = (0..200).map(|_| connect()).collect();
    let mut liar = connect();
    // a length of 4 GB, and then nothing
    let _ = liar.write_all(&[0xff; 4]);
    let web = stage.node().role("web").ready().await;
    let robot = stage.robot(&web.url()).await;
    let took = robot.until_live_with(service.pid(), PATIENCE).await;
    assert!(took <= GETS_IN, "after {took:?}");
    // every stranger is hung up on
    strangers.push(liar);
    for stranger in &mut strangers {
        stranger.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut said = Vec::new();
        let ended = stranger.read_to_end(&mut said);
        assert!(!matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock), "one is kept");
        assert!(said.len() < 4096, "{} bytes for a stranger", said.len());
    }
    assert!(service.memory() < 500 << 20);
    assert!(!service.stderr.text().contains("panicked"), "{}", service.stderr.text());
}

/// What a terminal or a page could obey.
fn obeyed(text: &str) -> Option<char> {
    text.chars().find(|c| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{feff}')
    })
}

#[tokio::test]
async fn what_a_job_writes_is_text_on_every_way_to_the_reader() {
    let stage = Stage::new().await;
    let script = r"printf 'begin \033[31mred\033[0m \033]0;title\007 \033[2J \001\010\x7f \u202eevil\u202c \u2066iso\u2069 \u200f\ufeff \u009b31m <script>alert(1)</script> \xff\xfe\xc3( end\n'; echo last";
    let (mut node, robot) = node(&stage, Jobs::default().shell("odd", script)).await;
    let mut browser = node.administrator().await;
    let ran = robot.run("odd").await;
    robot.until_ended(ran).await;
    robot.line_with("odd", "last").await;
    let token = stage.token("reader", "admin_viewer").await;

    let page = browser.page("/status").await;
    assert!(page.contains("begin ") && page.contains("&lt;script&gt;alert(1)"), "the line is on the page");
    assert_eq!(obeyed(&page), None);
    assert!(!page.contains("<script>alert"), "markup of a job is text");
    let run = browser.page(&format!("/executions/{ran}")).await;
    assert_eq!((obeyed(&run), run.contains("<script>alert")), (None, false));

    let request = client().get(format!("{}/logs.txt?source=odd", node.url())).header("x-api-key", &token);
    let text = request.send().await.unwrap().text().await.unwrap();
    assert!(text.contains("begin ␛[31mred") && text.contains("\u{fffd}"), "{text}");
    assert_eq!(obeyed(&text), None, "{text:?}");
    let once = stage.run(&["logs", "--source", "odd"]).await.good();
    assert!(once.contains("begin ␛[31mred"), "{once}");
    assert_eq!(obeyed(&once), None, "{once:?}");
    let json = stage.run(&["logs", "--source", "odd", "--json"]).await.good();
    assert!(!json.contains('\u{1b}'), "JSON escapes it: {json:?}");
    unharmed(&mut node, &robot).await;
}

#[tokio::test]
async fn a_hundred_megabytes_without_a_line_break_cost_bounded_memory_and_lose_nothing_in_silence() {
    let stage = Stage::alone().await;
    let flood = "head -c 100000000 /dev/zero | tr '\\0' x; echo; echo the end of it";
    let (mut node, robot) = node(&stage, Jobs::default().shell("flood", flood)).await;
    let browser = node.administrator().await;
    let mut socket = Socket::open(&node.url(), &browser).await;
    let mut follower = Follower::default();
    socket.watch_log(None).await;
    while follower.cursor.is_none() {
        follower.take(&socket.next().await.expect("a first frame"), "flood");
    }
    let before = node.memory();
    robot.run("flood").await;
    let (mut most, mut bytes, mut lines) = (before, 0, 0_u64);
    loop {
        let frame = socket.next().await.expect("the socket goes on");
        assert_ne!(frame["t"], "bye", "{frame}");
        // every number is a line or in a gap
        follower.take(&frame, "flood");
        most = most.max(node.memory());
        let rows = frame["rows"].as_array().into_iter().flatten();
        for text in rows.filter(|row| row[3] == "flood").filter_map(|row| row[6].as_str()) {
            assert!(text.len() <= 16 << 10);
            bytes += text.bytes().filter(|byte| *byte == b'x').count();
            lines += u64::from(text.starts_with('x'));
        }
        if frame.to_string().contains("the end of it") {
            break;
        }
    }
    let lost: u64 =
        follower.gaps.iter().map(|gap| gap["to"].as_u64().unwrap() - gap["from"].as_u64().unwrap() + 1).sum();
    println!(
        "{} MiB before, {} MiB at most; {bytes} bytes in {lines} lines, {lost} lines told as lost",
        before >> 20,
        most >> 20
    );
    assert!(most < before + (200 << 20), "from {} to {} MiB", before >> 20, most >> 20);
    // a piece is 16 KiB at most: what did not come is told
    assert!(bytes as u64 + lost * (16 << 10) >= 100_000_000, "{bytes} bytes, {lost} lost lines");
    unharmed(&mut node, &robot).await;
}
