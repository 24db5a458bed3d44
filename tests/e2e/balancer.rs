//! Real balancers in front of two web nodes, without affinity, with the configurations of `examples/`.

use std::process::Command;

use crate::support::balancer::{Balancer, Follower, Visitor, free_address};
use crate::support::browser::{Browser, PASSWORD, client};
use crate::support::node::{Node, bare_command};
use crate::support::robot::Robot;
use crate::support::socket::Socket;
use crate::support::stage::{Stage, run};
use crate::support::wait::{PATIENCE, eventually, so};
use crate::support::writer::Jobs;

/// Lines the job writes, numbered, and how many a second: long enough for both nodes to go away in turn.
const LINES: u64 = 2400;
const RATE: u64 = 150;

/// How long a node that is asked to stop works on.
const DRAIN: &str = "3s";

async fn balanced(command: impl Fn(&Stage, &str, &[&Node]) -> Command) {
    let stage = Stage::alone().await;
    let jobs = Jobs::default().writer(&stage, LINES, RATE).save(&stage);
    let service = stage.node().config(jobs).role("service").ready().await;
    let web = || stage.node().role("web").setting("Web.TrustedProxies", "127.0.0.0/8").setting("Web.DrainTime", DRAIN);
    let (mut first, mut second) = (web().ready().await, web().ready().await);
    let data = stage.data();
    let made = ["--data", data.to_str().unwrap(), "user", "add", "root", "--role", "service_admin", "--password-stdin"];
    run(bare_command().args(made), &format!("{PASSWORD}\n")).await.good();
    let token = stage.token("robot", "service_admin").await;
    for node in [&first, &second] {
        Robot::new(&node.url(), &token).until_live(PATIENCE).await;
    }
    let bind = free_address();
    let balancer = Balancer::start(command(&stage, &bind, &[&first, &second]), bind).await;
    let url = balancer.url.clone();

    // a form of one node is answered by the other, and so is every page
    let mut browser = Browser::new(&url);
    let answer = browser.sign_in("root", PASSWORD).await;
    assert!((300..400).contains(&answer.status), "{} {}", answer.status, answer.text);
    for page in ["/status", "/executions", "/settings", "/nodes", "/users", "/diagnostics", "/status", "/audit"] {
        browser.page(page).await;
    }
    // who asks is whom the balancer saw, not the balancer
    let elsewhere = reqwest::Client::builder().local_address(std::net::IpAddr::from([127, 0, 0, 2])).no_proxy().build();
    let wrong = elsewhere.unwrap().post(format!("{url}/sign-in")).header("sec-fetch-site", "same-origin");
    let wrong =
        wrong.header("x-forwarded-for", "192.0.2.1").header("content-type", "application/x-www-form-urlencoded");
    let wrong = wrong.body("name=nobody&password=not-the-password").send().await.unwrap();
    assert_eq!(wrong.status().as_u16(), 401);
    let audit = Robot::new(&url, &token).get("/api/audit?action=session:refused").await;
    assert!(audit.to_string().contains("\"127.0.0.2\"") && !audit.to_string().contains("192.0.2.1"), "{audit}");

    let follower = Follower::start(&url, &token, "writer");
    let mut socket = Socket::open(&url, &browser).await;
    socket.watch_status().await;
    let pressed = browser.press("/status", "/dispatchers/writer/run").await;
    assert!((300..400).contains(&pressed.status), "{}", pressed.text);
    let running = async { while !socket.next().await.expect("it goes on").to_string().contains("data-execution") {} };
    tokio::time::timeout(PATIENCE, running).await.expect("the run is seen live");
    follower.until(100).await;

    // one is killed: whoever followed it goes on at the other
    first.kill9();
    follower.until(500).await;
    first.spawn_again();
    first.until_ready(PATIENCE).await;
    follower.until(900).await;

    // the other is asked to stop: it says so, works on, and nobody's request fails
    let visitor = Visitor::start(url.clone());
    second.term();
    let asking = client();
    let ready = format!("{}/readyz", second.url());
    eventually("a node that drains", async || {
        let answer = asking.get(&ready).send().await.ok()?;
        so(answer.status().as_u16() == 503 && answer.text().await.ok()? == "draining\n")
    })
    .await;
    let direct = asking.get(format!("{}/sign-in", second.url())).send().await.unwrap();
    assert_eq!((direct.status().as_u16(), direct.headers()["connection"].as_bytes()), (200, &b"close"[..]));
    assert_eq!(second.end(PATIENCE).await.code(), Some(0));
    follower.until(LINES).await;
    let (failures, asked) = visitor.end().await;
    assert!(failures.is_empty() && asked > 100, "{} of {asked} requests failed: {failures:?}", failures.len());

    let numbers = follower.numbers();
    let missing: Vec<u64> = (1..=LINES).filter(|number| !numbers.contains(number)).collect();
    assert!(missing.is_empty(), "lost: {missing:?}\n{}", follower.stderr.text());
    assert_eq!(numbers.len() as u64, LINES, "each once\n{}", follower.stderr.text());
    browser.page("/executions").await;
    drop(service);
}

#[tokio::test]
async fn behind_haproxy_any_node_serves_any_request_and_may_go_away() {
    balanced(Balancer::haproxy).await;
}

#[tokio::test]
async fn behind_nginx_any_node_serves_any_request_and_may_go_away() {
    balanced(Balancer::nginx).await;
}
