//! Three web nodes behind real HAProxy without affinity, and a rolling restart of the whole cluster under load.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Method;
use switchboard::base::shutdown::Shutdown;

use crate::cluster::each_ran_once;
use crate::support::balancer::{Balancer, Follower, Visitor, free_address, number};
use crate::support::browser::{Browser, PASSWORD};
use crate::support::cluster::{Cluster, Times};
use crate::support::node::{Node, Start};
use crate::support::robot::{Robot, execution_id};
use crate::support::socket::{Follower as Reader, Socket};
use crate::support::stage::Stage;
use crate::support::wait::{PATIENCE, eventually, so, within};
use crate::support::writer::Jobs;

/// How long a web node that is asked to stop works on: longer than the balancer takes to notice.
const DRAIN: &str = "2s";

const LINES: u64 = 1_500;
const RATE: u64 = 150;

fn web(cluster: &Cluster, number: u8) -> Start {
    cluster.web(number).setting("Web.TrustedProxies", "127.0.0.0/8").setting("Web.DrainTime", DRAIN)
}

/// Three web nodes and the balancer before them.
async fn site(cluster: &Cluster, service: &Node) -> (Vec<Node>, Balancer) {
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
            match socket.next().await {
                Some(frame) => reader.take(&frame, "writer"),
                None => {
                    resumed += 1;
                    socket = reopened(&url, &browser).await;
                    socket.watch_log(reader.cursor.as_deref()).await;
                }
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

/// Asks for runs of `count` again and again.
struct Asker {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<(Vec<u64>, Vec<String>)>,
}

impl Asker {
    fn start(robot: Robot) -> Self {
        let stop: Arc<AtomicBool> = Arc::default();
        let stopped = Arc::clone(&stop);
        let task = Shutdown::new().spawn("asker", async move {
            let (mut answered, mut failed) = (Vec::new(), Vec::new());
            let mut pace = tokio::time::interval(Duration::from_millis(100));
            while !stopped.load(Ordering::Relaxed) {
                pace.tick().await;
                match robot.try_ask(Method::POST, "/api/dispatchers/count:run", None).await {
                    Some((200..=299, answer)) => answered.push(execution_id(&answer)),
                    Some((status, answer)) => failed.push(format!("{status} {answer}")),
                    None => failed.push("no answer".to_owned()),
                }
            }
            (answered, failed)
        });
        Self { stop, task }
    }

    /// The executions that were answered, and what was no good answer.
    async fn end(self) -> (Vec<u64>, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// Lines that each run of `count` writes.
const PER_RUN: usize = 5;

#[tokio::test]
#[ignore = "scripts/test starts PostgreSQL"]
async fn a_rolling_restart_of_every_node_fails_no_request_and_loses_no_run_and_no_line() {
    let stage = Stage::new().await;
    let mark = stage.path("count.ran").display().to_string();
    let line = format!(
        "for n in 1 2 3 4 5; do echo line $n of $SWITCHBOARD_EXECUTION; done; \
         echo $SWITCHBOARD_EXECUTION $$ $EPOCHREALTIME >> {mark}"
    );
    let jobs = Jobs::default().command_with("count", &["bash", "-c", &line], "concurrency = 4");
    let cluster = Cluster::new(stage, Times::SHORT, jobs).await;
    cluster.administrator().await;
    let first = cluster.service(1).ready().await;
    cluster.until_primary(&first, PATIENCE).await;
    let second = cluster.service(2).ready().await;
    let (mut webs, balancer) = site(&cluster, &first).await;
    let mut services = [first, second];
    let url = balancer.url.clone();
    let mut browser = Browser::new(&url);
    browser.sign_in("root", PASSWORD).await;

    let follower = Follower::start(&url, cluster.token().await, "count");
    let (visitor, asker) = (Visitor::start(url.clone()), Asker::start(cluster.robot(&url).await));
    eventually("the first lines", async || so(follower.numbers().len() > 20)).await;
    for node in webs.iter_mut().chain(&mut services) {
        node.term();
        assert_eq!(node.end(PATIENCE).await.code(), Some(0));
        node.spawn_again();
        node.until_ready(PATIENCE).await;
        // what is next goes only once this one works: it is asked, or is there to take over
        works_again(&cluster, node).await;
        browser.page("/status").await;
    }
    let (answered, failed) = asker.end().await;
    let (failures, asked) = visitor.end().await;
    assert!(failed.is_empty(), "{} of {} requests for a run failed: {failed:?}", failed.len(), answered.len());
    assert!(failures.is_empty() && asked > 100, "{} of {asked} requests failed: {failures:?}", failures.len());

    // every answered request became exactly one run
    let unique: BTreeSet<_> = answered.iter().copied().collect();
    assert_eq!(unique.len(), answered.len(), "two answers for one execution");
    for id in &answered {
        let run = cluster.until_ended(*id, PATIENCE).await;
        assert_eq!(run.outcome.as_deref(), Some("normal"), "{run:?}");
    }
    let runs = cluster.executions("count").await;
    assert_eq!(runs.len(), answered.len(), "no run that nobody asked for");
    each_ran_once(&cluster.stage, "count");
    assert_eq!(super::ran(&cluster.stage, "count").len(), answered.len());
    let nodes: BTreeSet<_> = runs.iter().map(|run| run.node.clone()).collect();
    assert_eq!(nodes.len(), 2, "both service nodes worked: {nodes:?}");

    // every line came once, or its loss was told
    let came = async || {
        let mut lines = BTreeMap::<String, usize>::new();
        for text in follower.texts().into_iter().filter(|text| text.starts_with("line ")) {
            *lines.entry(text).or_default() += 1;
        }
        lines
    };
    let what = format!("all lines; {}", follower.stderr.text());
    within(PATIENCE, &what, async || so(came().await.len() == answered.len() * PER_RUN)).await;
    let twice: Vec<_> = came().await.into_iter().filter(|(_, times)| *times > 1).collect();
    assert!(twice.is_empty(), "{twice:?}\n{}", follower.stderr.text());
    println!(
        "figure: rolling restart of 3 web and 2 service nodes: {asked} pages and {} runs asked for, 0 failed, {} lines, 0 \
         lost, 0 repeated",
        answered.len(),
        answered.len() * PER_RUN
    );
}

/// Waits until a node that was started again does its part.
async fn works_again(cluster: &Cluster, node: &Node) {
    let id = cluster.id(node).await;
    if id.starts_with("web") {
        let robot = cluster.robot(&node.url()).await;
        eventually("its live view", async || so(robot.link().await? == "live")).await;
    } else {
        let ready = async || so(node.stderr.text().contains("this node stands by"));
        eventually("a node that stands by", ready).await;
    }
}
