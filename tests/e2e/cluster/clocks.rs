//! Clocks that differ by ten minutes either way change nothing.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::Value;

use crate::cluster::{Pair, SLACK, figure, jobs};
use crate::support::browser::{Browser, PASSWORD};
use crate::support::cluster::{Cluster, Times};
use crate::support::node::Start;
use crate::support::robot::Robot;
use crate::support::stage::Stage;
use crate::support::wait::{PATIENCE, eventually, wall_micros};

/// The library that tells a process another time.
fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap().filter_map(Result::ok);
    let files = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    files.into_iter().find(|file| file.exists()).expect("libfaketime is not installed; scripts/test installs it")
}

/// With a clock that is off by so much; lengths of time stay as long as they are.
fn off(start: Start, by: &str) -> Start {
    let library = library().display().to_string();
    start
        .variable("LD_PRELOAD", library)
        .variable("FAKETIME", by)
        .variable("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .variable("DONT_FAKE_MONOTONIC", "1")
}

/// Whether the clock of the machine is really off for such a process.
fn shows(by: &str) -> i64 {
    let mut date = std::process::Command::new("date");
    let date = date.arg("+%s").env("LD_PRELOAD", library()).env("FAKETIME", by).output().unwrap();
    let seconds: i64 = String::from_utf8(date.stdout).unwrap().trim().parse().unwrap();
    seconds - wall_micros() / 1_000_000
}

/// Nobody who lives is taken for dead; gives when each last said that it lives.
async fn all_alive(robot: &Robot, nodes: usize) -> Vec<String> {
    let answer = robot.get("/api/nodes").await;
    let living: Vec<&Value> =
        answer["nodes"].as_array().unwrap().iter().filter(|node| node["stopped_at"].is_null()).collect();
    assert_eq!(living.len(), nodes, "{answer}");
    assert!(living.iter().all(|node| node["alive"] == true), "taken for dead: {answer}");
    living.iter().map(|node| node["heartbeat_at"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
#[ignore = "scripts/test starts PostgreSQL"]
async fn clocks_ten_minutes_apart_change_nothing() {
    assert!((590..610).contains(&shows("+10m")) && (-610..-590).contains(&shows("-10m")), "libfaketime does nothing");
    let stage = Stage::new().await;
    let jobs = jobs(&stage);
    let cluster = Cluster::new(stage, Times::SHORT, jobs).await;
    cluster.administrator().await;
    let first = off(cluster.service(1), "+10m").ready().await;
    let mut pair = Pair::with(cluster, first).await;
    let late = off(pair.cluster.web(2), "-10m").ready().await;
    let late_robot = pair.cluster.robot(&late.url()).await;
    pair.cluster.until_follows(&late_robot, &pair.first, PATIENCE).await;

    // over more than the stale time: nobody takes anybody for dead, and who is primary stays it
    let primary = pair.cluster.primary().await;
    let mut beats = all_alive(&late_robot, 4).await;
    for _ in 0..5 {
        beats = eventually("further beats of all", async || {
            let now = all_alive(&pair.robot, 4).await;
            all_alive(&late_robot, 4).await;
            now.iter().zip(&beats).all(|(now, before)| now > before).then_some(now)
        })
        .await;
    }
    assert_eq!(pair.cluster.primary().await, primary);

    // a session made at a node ten minutes late is good at the other, and the other way round
    for (here, there) in [(&late, &pair.web), (&pair.web, &late)] {
        let mut browser = Browser::new(&here.url());
        let answer = browser.sign_in("root", PASSWORD).await;
        assert!((300..400).contains(&answer.status), "{answer:?}");
        browser.page("/status").await;
        browser.at(&there.url()).page("/status").await;
    }

    // a run of each node, and a failover in time between them
    let ran = pair.robot.run("quick").await;
    for robot in [&pair.robot, &late_robot] {
        robot.line_with("quick", &format!("run {ran} started")).await;
    }
    let killed = Instant::now();
    pair.first.kill9();
    let asked = late_robot.run("quick").await;
    pair.robot.until_begun(asked, Times::SHORT.stale + Times::SHORT.beat + SLACK).await;
    figure("clocks 10 minutes apart, primary killed: the next one's first run began", killed.elapsed());
    pair.cluster.until_ended(asked, PATIENCE).await;
    pair.cluster.until_follows(&late_robot, &pair.second, PATIENCE).await;

    // lines of both, in the order in which they were written, told with the time of the database
    for robot in [&pair.robot, &late_robot] {
        for run in [ran, asked] {
            robot.line_with("quick", &format!("run {run} started")).await;
        }
        let (lines, _) = robot.lines("quick", None).await;
        let at = |run: u64| {
            let text = format!("run {run} started");
            let found = lines.iter().position(|line| line["message"].as_str().is_some_and(|said| said.contains(&text)));
            found.unwrap_or_else(|| panic!("no line of run {run}"))
        };
        assert!(at(ran) < at(asked), "out of order");
        let times: Vec<_> = lines.iter().map(|line| line["time"].as_str().unwrap()).collect();
        assert!(times.is_sorted(), "{times:?}");
    }
    let now = wall_micros();
    for run in pair.cluster.executions("quick").await {
        let began = run.started_at.unwrap();
        assert!((now - began).abs() < 60_000_000, "{run:?} began at the database's time");
    }
    pair.nothing_twice().await;
}
