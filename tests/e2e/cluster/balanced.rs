//! Three web nodes behind a real balancer without affinity.

use crate::support::balancer::{Balancer, Follower, free_address, number};
use crate::support::browser::{Browser, PASSWORD};
use crate::support::cluster::{Cluster, Times};
use crate::support::node::{Node, Start};
use crate::support::socket::{Follower as Reader, Socket};
use crate::support::stage::Stage;
use crate::support::wait::{PATIENCE, eventually, so};
use crate::support::writer::Jobs;

/// How long a web node that is asked to stop works on: longer than the balancer takes to notice.
const DRAIN: &str = "2s";

const LINES: u64 = 1_500;
const RATE: u64 = 150;

fn web(cluster: &Cluster, number: u8) -> Start {
    cluster.web(number).setting("Web.TrustedProxies", "127.0.0.0/8").setting("Web.DrainTime", DRAIN)
}

/// Three web nodes and the balancer before them.
pub(super) async fn site(cluster: &Cluster, service: &Node) -> (Vec<Node>, Balancer) {
    let mut webs = Vec::new();
    for number in 1..=3 {
        let node = web(cluster, number).ready().await;
        cluster.until_follows(&cluster.robot(&node.url()).await, service, PATIENCE).await;
        webs.push(node);
    }
    let bind = free_address();
    let command = Balancer::haproxy(&cluster.stage, &bind, &webs.iter().collect::<Vec<_>>());
    let balancer = Balancer::start(command, bind).await;
    (webs, balancer)
}

#[tokio::test]
#[ignore = "scripts/test starts PostgreSQL"]
async fn any_of_three_web_nodes_serves_any_request_and_readers_go_on_at_another() {
    let stage = Stage::new().await;
    let jobs = Jobs::default().writer(&stage, LINES, RATE).shell("hello", "echo hello");
    let cluster = Cluster::new(stage, Times::SHORT, jobs).await;
    cluster.administrator().await;
    let service = cluster.service(1).ready().await;
    let (mut webs, balancer) = site(&cluster, &service).await;
    let url = balancer.url.clone();

    // each request goes to the next node: signing in, pages, actions
    let mut browser = Browser::new(&url);
    let answer = browser.sign_in("root", PASSWORD).await;
    assert!((300..400).contains(&answer.status), "{answer:?}");
    for page in ["/status", "/executions", "/settings", "/nodes", "/users", "/diagnostics", "/audit"] {
        browser.page(page).await;
    }
    let robot = cluster.robot(&url).await;
    for number in 1..=3 {
        let pressed = browser.press("/status", "/dispatchers/hello/run").await;
        assert!((300..400).contains(&pressed.status), "{}", pressed.text);
        let ended = async || {
            let runs = robot.executions("hello").await;
            so(runs.len() == number && runs.iter().all(|run| run["outcome"] == "normal"))
        };
        // pressed twice before it began would be one run
        eventually(&format!("run {number}"), ended).await;
    }

    // a browser's socket and a command line follow the same lines; every node goes away once
    let follower = Follower::start(&url, cluster.token().await, "writer");
    let mut reader = Reader::default();
    let mut socket = Socket::open(&url, &browser).await;
    socket.watch_log(None).await;
    let pressed = browser.press("/status", "/dispatchers/writer/run").await;
    assert!((300..400).contains(&pressed.status), "{}", pressed.text);
    let mut resumed = 0;
    for (at, upto) in [(0, 300), (1, 600), (2, 900), (3, LINES)] {
        while reader.lines.last().and_then(|(text, _)| number(text)).is_none_or(|last| last < upto) {
            if let Some(frame) = socket.next().await {
                reader.take(&frame, "writer");
            } else {
                resumed += 1;
                socket = reopened(&url, &browser).await;
                socket.watch_log(reader.cursor.as_deref()).await;
            }
        }
        follower.until(upto.min(LINES)).await;
        if let Some(node) = webs.get_mut(at) {
            node.kill9();
            node.spawn_again();
            node.until_ready(PATIENCE).await;
            let robot = cluster.robot(&node.url()).await;
            cluster.until_follows(&robot, &service, PATIENCE).await;
        }
    }
    assert!(resumed > 0, "the socket was at one of them");
    let whole: Vec<u64> = (1..=LINES).collect();
    let read: Vec<u64> = reader.lines.iter().filter_map(|(text, _)| number(text)).collect();
    assert_eq!(read, whole, "each line once, in order, over {resumed} sockets");
    assert!(reader.gaps.is_empty(), "{:?}", reader.gaps);
    assert_eq!(follower.numbers(), whole, "each line once, in order\n{}", follower.stderr.text());
    println!("figure: three web nodes killed in turn: {LINES} lines, 0 lost, 0 repeated, {resumed} sockets resumed");
}

/// A socket at whichever node still lives.
async fn reopened(url: &str, browser: &Browser) -> Socket {
    eventually("a socket at another node", async || {
        let mut socket = Socket::try_open(url, Some(browser.cookie()), Some(url)).await.ok()?;
        socket.send(&serde_json::json!({ "t": "hello", "v": 1 })).await;
        Some(socket)
    })
    .await
}
