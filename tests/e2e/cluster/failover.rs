//! The primary is killed, stopped, or asked to hand over.

use std::time::{Duration, Instant};

use crate::cluster::{Pair, SLACK, ended, figure, process_of};
use crate::support::cluster::Times;
use crate::support::stage::Stage;
use crate::support::wait::PATIENCE;

/// A primary that was told to stop or to hand over has a successor that works after this.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Kills the primary in the middle of a run; the other takes over, the web node follows, the dead one comes back and stands by.
async fn killed(times: Times) {
    let mut pair = Pair::start(Stage::new().await, times).await;
    let cut_off = pair.robot.run("strict").await;
    let process = process_of(&pair.cluster.stage, "strict", cut_off).await;
    let promised = times.stale + times.beat;

    let killed = Instant::now();
    pair.first.kill9();
    let asked = pair.robot.run("quick").await;
    pair.robot.until_begun(asked, promised + SLACK).await;
    let works = killed.elapsed();
    let follows = pair.cluster.until_follows(&pair.robot, &pair.second, PATIENCE).await;
    let follows = if follows < SLACK { killed.elapsed() } else { follows };
    let what = format!("primary killed (stale time {} s)", times.stale.as_secs());
    figure(&format!("{what}: the next one's first run began"), works);
    figure(&format!("{what}: a web node shows the next one"), follows);
    assert!(works < promised + SLACK, "after {works:?}");

    let lost = pair.cluster.until_ended(cut_off, PATIENCE).await;
    figure(&format!("{what}: its run was given up"), killed.elapsed());
    assert_eq!(lost.outcome.as_deref(), Some("abandoned"), "{lost:?}");
    ended(process).await;

    // it comes back and steals nothing
    let second = pair.cluster.id(&pair.second).await;
    pair.first.spawn_again();
    pair.first.until_ready(PATIENCE).await;
    pair.first.stderr.line_with("this node stands by", PATIENCE).await;
    let asked = pair.robot.run("quick").await;
    let quick = pair.cluster.until_ended(asked, PATIENCE).await;
    assert_eq!((quick.outcome.as_deref(), quick.node.as_ref()), (Some("normal"), Some(&second)));
    assert_eq!(pair.cluster.primary().await, Some(second));
    assert!(pair.web.runs(), "the same web node all the time");
    pair.nothing_twice().await;
}

#[tokio::test]
#[ignore = "scripts/test starts PostgreSQL"]
async fn a_killed_primary_is_followed_within_stale_time_and_a_beat() {
    killed(Times::SHORT).await;
}

#[tokio::test]
#[ignore = "scripts/test starts PostgreSQL"]
async fn a_killed_primary_is_followed_within_20_s_if_nobody_set_any_time() {
    killed(Times::DEFAULT).await;
}

/// Stops the primary, starts it again, and presses *hand over*.
async fn left(times: Times) {
    let mut pair = Pair::start(Stage::new().await, times).await;
    let what = |what: &str| format!("{what} (stale time {} s)", times.stale.as_secs());
    let stopped = Instant::now();
    pair.first.term();
    let asked = pair.robot.run("quick").await;
    pair.robot.until_begun(asked, AT_ONCE).await;
    let works = stopped.elapsed();
    figure(&what("primary stopped: the next one's first run began"), works);
    pair.cluster.until_follows(&pair.robot, &pair.second, PATIENCE).await;
    figure(&what("primary stopped: a web node shows the next one"), stopped.elapsed());
    assert!(works < AT_ONCE, "after {works:?}");
    assert_eq!(pair.first.end(PATIENCE).await.code(), Some(0));

    pair.first.spawn_again();
    pair.first.until_ready(PATIENCE).await;
    pair.first.stderr.line_with("this node stands by", PATIENCE).await;
    // what runs goes on to its end where it began
    let kept = pair.robot.run("strict").await;
    process_of(&pair.cluster.stage, "strict", kept).await;
    let asked = Instant::now();
    pair.robot.hand_over(&pair.cluster.id(&pair.first).await).await;
    pair.cluster.until_primary(&pair.first, AT_ONCE).await;
    let run = pair.robot.run("quick").await;
    pair.robot.until_begun(run, AT_ONCE).await;
    let works = asked.elapsed();
    figure(&what("hand over pressed: the next one's first run began"), works);
    assert!(works < AT_ONCE, "after {works:?}");
    super::let_go(&pair.cluster.stage, "strict");
    let kept = pair.cluster.until_ended(kept, PATIENCE).await;
    let second = pair.cluster.id(&pair.second).await;
    assert_eq!((kept.outcome.as_deref(), kept.node), (Some("normal"), Some(second)));
    pair.cluster.until_follows(&pair.robot, &pair.first, PATIENCE).await;
    pair.nothing_twice().await;
}

#[tokio::test]
#[ignore = "scripts/test starts PostgreSQL"]
async fn a_primary_that_stops_or_hands_over_is_followed_at_once() {
    left(Times::SHORT).await;
}

#[tokio::test]
#[ignore = "scripts/test starts PostgreSQL"]
async fn a_primary_that_stops_or_hands_over_is_followed_at_once_if_nobody_set_any_time() {
    left(Times::DEFAULT).await;
}
