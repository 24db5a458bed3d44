//! The log of a cluster: lines of whoever is primary, whoever it was before, and however often that changes.

use crate::cluster::Pair;
use crate::support::balancer::Follower;
use crate::support::cluster::Times;
use crate::support::node::Node;
use crate::support::stage::Stage;
use crate::support::wait::{PATIENCE, so, within};

/// Runs `quick` on the node that is primary and waits until the follower has heard of it; gives the run.
async fn heard(pair: &Pair, follower: &Follower, node: &Node) -> u64 {
    pair.cluster.until_follows(&pair.robot, node, PATIENCE).await;
    let run = pair.robot.run("quick").await;
    let ended = pair.cluster.until_ended(run, PATIENCE).await;
    assert_eq!(ended.node, Some(pair.cluster.id(node).await));
    let started = format!("run {run} started");
    let what = || format!("`{started}`; {}\n{}", follower.texts().join("\n"), follower.stderr.text());
    let (what, look) = (what(), async || so(follower.texts().iter().any(|text| text.starts_with(&started))));
    within(PATIENCE, &what, look).await;
    run
}

#[tokio::test]
#[ignore = "scripts/test starts PostgreSQL"]
async fn a_reader_goes_on_with_whoever_is_primary_however_often_that_changes() {
    let pair = Pair::start(Stage::new().await, Times::SHORT).await;
    let follower = Follower::start(&pair.web.url(), pair.cluster.token().await, "quick");
    let mut runs = vec![heard(&pair, &follower, &pair.first).await];
    for node in [&pair.second, &pair.first, &pair.second] {
        // who gave it away takes it back only after the stale time
        within(PATIENCE, "a primary that may be followed", async || {
            pair.cluster.ask_hand_over(node).await;
            so(pair.cluster.primary().await == Some(pair.cluster.id(node).await))
        })
        .await;
        runs.push(heard(&pair, &follower, node).await);
    }
    // each line came once, in order
    let started =
        |text: &String| text.strip_prefix("run ")?.strip_suffix(" started told by robot")?.parse::<u64>().ok();
    let told: Vec<u64> = follower.texts().iter().filter_map(started).collect();
    assert_eq!(told, runs, "{}", follower.stderr.text());
    // whoever asks later finds all of them, at this web node and at one that starts only now
    let late = pair.cluster.web(2).ready().await;
    let late = pair.cluster.robot(&late.url()).await;
    pair.cluster.until_follows(&late, &pair.second, PATIENCE).await;
    for robot in [&pair.robot, &late] {
        for run in &runs {
            robot.line_with("quick", &format!("run {run} started")).await;
        }
    }
}
