//! A primary that is frozen, or has lost the database: what must not overlap does not, and nothing is recorded twice.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::cluster::{Pair, SLACK, ended, figure, jobs, let_go, process_of, ran, told};
use crate::support::cable::Cable;
use crate::support::cluster::{Cluster, Times};
use crate::support::node::{Node, Start, lives};
use crate::support::robot::Robot;
use crate::support::stage::Stage;
use crate::support::wait::{PATIENCE, eventually, so, wall_micros, within};

const VARIABLE: &str = "SWITCHBOARD_DATABASE";

/// The first node's way to the database is a cable.
async fn wired(times: Times) -> (Cluster, Cable, Start) {
    let stage = Stage::new().await;
    let jobs = jobs(&stage);
    let cluster = Cluster::new(stage, times, jobs).await;
    let server = cluster.database.url().rsplit_once('@').unwrap().1.split('/').next().unwrap().to_owned();
    let cable = Cable::to(&server).await;
    let url = cable.through(cluster.database.url());
    let first = cluster.service(1).variable(VARIABLE, url);
    (cluster, cable, first)
}

/// Starts both held jobs; gives their executions and processes.
async fn begin_held(stage: &Stage, robot: &Robot) -> [(u64, u32); 2] {
    let (strict, lax) = (robot.run("strict").await, robot.run("lax").await);
    [(strict, process_of(stage, "strict", strict).await), (lax, process_of(stage, "lax", lax).await)]
}

/// Waits until a node has taken notice that the other one lives.
async fn knows_of(cluster: &Cluster, node: &Node, other: &Node) {
    let (node, other) = (cluster.id(node).await, cluster.id(other).await);
    let what = format!("a beat of {node} after {other} came");
    within(PATIENCE, &what, async || so(cluster.beat_after_start_of(&node, &other).await)).await;
}

#[tokio::test]
#[ignore = "scripts/test starts PostgreSQL"]
async fn a_frozen_primary_that_wakes_ends_what_must_not_overlap_and_records_nothing_twice() {
    let pair = Pair::start(Stage::new().await, Times::SHORT).await;
    let stage = &pair.cluster.stage;
    let [(strict, strict_process), (lax, lax_process)] = begin_held(stage, &pair.robot).await;
    let frozen = Instant::now();
    pair.first.signal(Signal::STOP);
    let overlapping = pair.robot.run("strict").await;
    pair.robot.until_begun(overlapping, Times::SHORT.stale + Times::SHORT.beat + SLACK).await;
    figure("primary frozen: the next one's first run began", frozen.elapsed());
    let given_up = pair.cluster.until_ended(strict, PATIENCE).await;
    assert_eq!(given_up.outcome.as_deref(), Some("abandoned"));
    assert!(given_up.said().contains("may still go on"), "{given_up:?}");
    assert!(lives(strict_process), "nobody could end it");

    let woken = Instant::now();
    pair.first.signal(Signal::CONT);
    ended(strict_process).await;
    figure("frozen primary woken: what must not overlap ended (it takes 500 ms of its own)", woken.elapsed());
    pair.first.stderr.line_with("is the primary now", PATIENCE).await;
    assert!(lives(lax_process), "what may overlap goes on");
    let_go(stage, "lax");
    let noted = eventually("a word that it went on", async || {
        let run = pair.cluster.until_ended(lax, PATIENCE).await;
        run.said().contains("it went on and ended normally").then_some(run)
    })
    .await;
    assert_eq!(noted.outcome.as_deref(), Some("abandoned"), "recorded once");
    let noted = pair.cluster.until_ended(strict, PATIENCE).await;
    assert_eq!(noted.finished_at, given_up.finished_at, "recorded once");
    let_go(stage, "strict");
    let second = pair.cluster.id(&pair.second).await;
    let run = pair.cluster.until_ended(overlapping, PATIENCE).await;
    assert_eq!((run.outcome.as_deref(), run.node.as_ref()), (Some("normal"), Some(&second)), "{run:?}");
    assert_eq!(pair.cluster.primary().await, Some(second));
    pair.nothing_twice().await;
}

/// The primary loses the database in this way.
async fn cut_off(times: Times, how: fn(&Cable)) {
    let (cluster, cable, first) = wired(times).await;
    let pair = Pair::with(cluster, first.ready().await).await;
    let (cluster, stage) = (&pair.cluster, &pair.cluster.stage);
    let [(strict, strict_process), (lax, lax_process)] = begin_held(stage, &pair.robot).await;
    knows_of(cluster, &pair.first, &pair.second).await;

    how(&cable);
    let expires = cluster.expires_at().await;
    let cut = Instant::now();
    let after = pair.robot.run("strict").await;
    ended(strict_process).await;
    let early = expires - wall_micros();
    let next = process_of(stage, "strict", after).await;
    let promised = times.stale + times.beat;
    let what = format!("primary without database (stale time {} s)", times.stale.as_secs());
    figure(&format!("{what}: the next one's first run began"), cut.elapsed());
    println!("figure: {what}: what must not overlap ended {} ms before the term did", early / 1000);
    assert!(cut.elapsed() < promised + SLACK, "after {:?}", cut.elapsed());
    let began = ran(stage, "strict").into_iter().find(|ran| ran.pid == next).unwrap();
    let over = told(stage, "strict.ended").into_iter().find(|ran| ran.pid == strict_process).unwrap();
    assert!(over.at < began.at, "the one ended at {}, the other began at {}", over.at, began.at);
    // what the old one began, it began before its term was over
    let ids: Vec<_> = cluster.executions("tick").await;
    let first_id = cluster.id(&pair.first).await;
    let late = ids.iter().filter(|run| run.node.as_ref() == Some(&first_id) && run.started_at > Some(expires));
    assert_eq!(late.count(), 0, "{ids:?}");
    assert!(lives(lax_process), "what may overlap goes on");

    cable.mend();
    pair.first.stderr.line_with("is the primary now", PATIENCE).await;
    let_go(stage, "lax");
    let_go(stage, "strict");
    let noted = eventually("a word that it went on", async || {
        let run = cluster.until_ended(lax, PATIENCE).await;
        run.said().contains("it went on and ended normally").then_some(run)
    })
    .await;
    assert_eq!(noted.outcome.as_deref(), Some("abandoned"), "recorded once");
    assert_eq!(cluster.until_ended(strict, PATIENCE).await.outcome.as_deref(), Some("abandoned"));
    let second = cluster.id(&pair.second).await;
    assert_eq!(cluster.until_ended(after, PATIENCE).await.node, Some(second.clone()));
    assert_eq!(cluster.primary().await, Some(second));
    pair.nothing_twice().await;
}

#[tokio::test]
#[ignore = "scripts/test starts PostgreSQL"]
async fn a_primary_that_lost_the_database_ends_what_must_not_overlap_before_another_begins_it() {
    cut_off(Times::SHORT, Cable::cut).await;
}

#[tokio::test]
#[ignore = "scripts/test starts PostgreSQL"]
async fn a_primary_whose_database_falls_silent_ends_what_must_not_overlap_in_time_as_well() {
    cut_off(Times::DEFAULT, Cable::silence).await;
}

#[tokio::test]
#[ignore = "scripts/test starts PostgreSQL"]
async fn the_only_service_node_goes_on_when_its_database_is_back() {
    let (cluster, cable, first) = wired(Times::SHORT).await;
    let first = first.ready().await;
    cluster.until_primary(&first, PATIENCE).await;
    let web = cluster.web(1).ready().await;
    let robot = cluster.robot(&web.url()).await;
    cluster.until_follows(&robot, &first, PATIENCE).await;
    let [(strict, strict_process), _] = begin_held(&cluster.stage, &robot).await;
    cable.cut();
    let expires = cluster.expires_at().await;
    first.stderr.line_with("what runs goes on", PATIENCE).await;
    let asked = robot.run("quick").await;
    eventually("the end of the term", async || so(wall_micros() > expires)).await;
    assert!(lives(strict_process), "nobody else could run it");
    let mended = Instant::now();
    cable.mend();
    robot.until_begun(asked, PATIENCE).await;
    figure("the only service node's database back: the first run began", mended.elapsed());
    let_go(&cluster.stage, "strict");
    let run = cluster.until_ended(strict, Duration::from_secs(5)).await;
    assert_eq!(run.outcome.as_deref(), Some("normal"), "{run:?}");
}
