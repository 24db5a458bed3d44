//! The live page's socket: every line in order, once, soon; every change of state at once.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use serde_json::Value;

use crate::support::browser::Browser;
use crate::support::node::Node;
use crate::support::robot::Robot;
use crate::support::socket::{Follower, Socket};
use crate::support::stage::Stage;
use crate::support::wait::{PATIENCE, eventually, percentile, so};
use crate::support::writer::Jobs;

/// How soon a line must be seen, from the moment it was written, for 95 of 100.
pub(crate) const LINE: Duration = Duration::from_millis(150);

/// How soon a change of state must be seen.
const CHANGE: Duration = Duration::from_millis(300);

/// A node whose job `writer` writes this many lines at 1,000 a second, and somebody who watches.
pub(crate) async fn writing(stage: &Stage, lines: u64) -> (Node, Robot, Browser) {
    let config = Jobs::default().shell("hello", "sleep 0.3").writer(stage, lines, 1_000).save(stage);
    let node = stage.node().config(config).ready().await;
    let robot = stage.robot(&node.url()).await;
    robot.until_live(PATIENCE).await;
    let browser = node.administrator().await;
    (node, robot, browser)
}

/// Follows the log of a running writer over `reconnects` sockets that are cut without a word, until its last line.
pub(crate) async fn follow_over(base: &str, browser: &Browser, robot: &Robot, lines: u64, reconnects: u64) -> Follower {
    let mut follower = Follower::default();
    let mut socket = Socket::open(base, browser).await;
    socket.watch_log(None).await;
    // the first frame says where the log stands: from here on nothing may be missed
    while follower.cursor.is_none() {
        follower.take(&socket.next().await.expect("a first frame of the log"), "writer");
    }
    robot.run("writer").await;
    let every = lines / (reconnects + 1);
    let mut cuts = 0;
    while (follower.lines.len() as u64) < lines {
        let Some(frame) = socket.next().await else {
            panic!("the socket ended by itself after {} lines", follower.lines.len())
        };
        follower.take(&frame, "writer");
        if cuts < reconnects && follower.lines.len() as u64 >= (cuts + 1) * every {
            cuts += 1;
            drop(socket);
            socket = Socket::open(base, browser).await;
            socket.watch_log(follower.cursor.as_deref()).await;
        }
    }
    assert_eq!(cuts, reconnects, "the lines were over before the cuts");
    follower
}

/// Checks that the writer's lines came complete and in order, each once.
pub(crate) fn complete(follower: &Follower, lines: u64) {
    assert_eq!(follower.gaps, Vec::<Value>::new(), "no gap is told, for none was made");
    for (number, (text, _)) in (1..=lines).zip(&follower.lines) {
        assert!(text.starts_with(&format!("line {number} of {lines} at ")), "instead of line {number}: {text}");
    }
    assert_eq!(follower.lines.len() as u64, lines);
}

#[tokio::test]
async fn lines_arrive_in_order_once_and_soon() {
    let stage = Stage::alone().await;
    let lines = 3_000;
    let (node, robot, browser) = writing(&stage, lines).await;
    let follower = follow_over(&node.url(), &browser, &robot, lines, 0).await;
    complete(&follower, lines);
    let mut took: Vec<i64> = follower.lines.iter().map(|(_, took)| *took).collect();
    let (half, most) = (percentile(&mut took, 50), percentile(&mut took, 95));
    println!("1,000 lines/s: half within {half} µs, 95 % within {most} µs");
    assert!(Duration::from_micros(most.unsigned_abs()) <= LINE, "95 % of the lines within {most} µs");
}

#[tokio::test]
async fn nothing_is_lost_or_repeated_over_forced_reconnects() {
    let stage = Stage::new().await;
    let (lines, reconnects) = (4_000, 20);
    let (node, robot, browser) = writing(&stage, lines).await;
    let follower = follow_over(&node.url(), &browser, &robot, lines, reconnects).await;
    complete(&follower, lines);
}

#[tokio::test]
async fn a_change_of_state_is_told_at_once() {
    let stage = Stage::alone().await;
    let (node, robot, browser) = writing(&stage, 1).await;
    let mut socket = Socket::open(&node.url(), &browser).await;
    socket.watch_status().await;
    let snapshot = socket.frame("snapshot").await.expect("first the state of everything");
    let rows = snapshot["rows"].as_array().expect("rows");
    assert!(rows.iter().any(|row| row["id"] == "d-hello"), "{snapshot}");
    for round in 0..5 {
        let asked = Instant::now();
        robot.run("hello").await;
        let row = row_with(&mut socket, "d-hello", "state-running").await;
        let took = asked.elapsed();
        assert!(took <= CHANGE, "round {round}: the run was seen after {took:?}");
        assert!(!row.contains("data-may-act") && !row.contains("root"), "a row knows no user: {row}");
        row_with(&mut socket, "d-hello", "state-idle").await;
    }
}

/// Waits for a patch whose row of this id holds `part`; gives the row.
async fn row_with(socket: &mut Socket, id: &str, part: &str) -> String {
    loop {
        let patch = socket.frame("patch").await.expect("a change");
        let rows = patch["rows"].as_array().cloned().unwrap_or_default();
        let found = rows.iter().filter(|row| row["id"] == id).filter_map(|row| row["html"].as_str());
        if let Some(row) = found.into_iter().find(|html| html.contains(part)) {
            return row.to_owned();
        }
    }
}

#[tokio::test]
async fn a_service_that_comes_back_is_a_new_life_and_its_lines_go_on() {
    let stage = Stage::new().await;
    let config = Jobs::default().shell("hello", "echo hello again").save(&stage);
    let mut service = stage.node().role("service").config(config).ready().await;
    let web = stage.node().role("web").ready().await;
    let robot = stage.robot(&web.url()).await;
    robot.until_live_with(service.pid(), PATIENCE).await;
    let browser = web.administrator().await;
    let mut socket = Socket::open(&web.url(), &browser).await;
    socket.watch_log(None).await;
    let run = robot.run("hello").await;
    robot.until_ended(run).await;
    service.restart();
    robot.until_live_with(service.pid(), PATIENCE).await;
    let restart = socket.frame("restart").await.expect("the viewer is told that the service started again");
    assert!(restart["epoch"].is_string(), "{restart}");
    robot.run("hello").await;
    loop {
        let log = socket.frame("log").await.expect("lines of the new life");
        if log["rows"].as_array().expect("rows").iter().any(|row| row[6] == "hello again") {
            assert_eq!(log["epoch"], restart["epoch"]);
            return;
        }
    }
}

#[tokio::test]
async fn the_log_can_be_followed_as_plain_text() {
    let stage = Stage::new().await;
    let (node, robot, browser) = writing(&stage, 50).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client
        .get(format!("{}/logs.txt?follow=1", node.url()))
        .header("cookie", browser.cookie())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("text/plain"), "{kind}");
    robot.run("writer").await;
    let mut text = String::new();
    let mut body = answer.bytes_stream();
    while !text.contains("line 50 of 50") {
        let part = tokio::time::timeout(PATIENCE, body.next()).await.expect("more text in time").expect("no end");
        text.push_str(&String::from_utf8_lossy(&part.unwrap()));
    }
    let numbers: Vec<u64> =
        text.lines().filter_map(|line| line.split_once("line ")?.1.split(' ').next()?.parse().ok()).collect();
    assert_eq!(numbers, (1..=50).collect::<Vec<_>>());
}

#[tokio::test]
async fn scripts_read_the_log_by_cursor() {
    let stage = Stage::new().await;
    let lines = 2_500;
    let (_node, robot, _) = writing(&stage, lines).await;
    let (_, start) = robot.lines("writer", None).await;
    let run = robot.run("writer").await;
    robot.until_ended(run).await;
    // the row of the run may be there before its last lines are
    let (mut found, mut at) = (Vec::new(), start);
    let last = format!("line {lines} of");
    eventually("the last line", async || {
        let (more, next) = robot.lines("writer", at.as_deref()).await;
        found.extend(more);
        at = next;
        so(found.iter().any(|line| line["message"].as_str().is_some_and(|text| text.starts_with(&last))))
    })
    .await;
    let texts: Vec<_> =
        found.iter().filter_map(|line| line["message"].as_str()).filter(|text| text.starts_with("line ")).collect();
    for (number, text) in (1..=lines).zip(&texts) {
        assert!(text.starts_with(&format!("line {number} of")), "instead of line {number}: {text}");
    }
    assert_eq!(texts.len() as u64, lines);
}
