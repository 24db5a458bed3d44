//! The log of a cluster: lines of whoever is primary, whoever it was before, and however often that changes.

use crate::cluster::Pair;
use crate::support::balancer::Follower;
use crate::support::cluster::Times;
use crate::support::node::Node;
use crate::support::robot::Robot;
use crate::support::stage::Stage;
use crate::support::wait::{PATIENCE, eventually, so, within};

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

/// Waits until this node is primary, asked to take over from the other.
async fn hand_over(pair: &Pair, node: &Node) {
    // who gave it away takes it back only after the stale time
    within(PATIENCE, "a primary that may be followed", async || {
        pair.cluster.ask_hand_over(node).await;
        so(pair.cluster.primary().await == Some(pair.cluster.id(node).await))
    })
    .await;
}

/// The runs of which these lines say that they started.
fn started(texts: &[String]) -> Vec<u64> {
    let run = |text: &String| text.strip_prefix("run ")?.strip_suffix(" started told by robot")?.parse().ok();
    texts.iter().filter_map(run).collect()
}

/// The runs that a robot reads of after a place, and the place after them.
async fn read(robot: &Robot, since: Option<&str>) -> (Vec<u64>, Option<String>) {
    let (lines, next) = robot.lines("quick", since).await;
    let texts: Vec<String> = lines.iter().filter_map(|line| Some(line["message"].as_str()?.to_owned())).collect();
    (started(&texts), next)
}

/// Runs `quick` on the node that is primary; gives the run, and the place after its lines as this web node has them.
async fn run_on(pair: &Pair, node: &Node) -> (u64, String) {
    pair.cluster.until_follows(&pair.robot, node, PATIENCE).await;
    let run = pair.robot.run("quick").await;
    let ended = pair.cluster.until_ended(run, PATIENCE).await;
    assert_eq!(ended.node, Some(pair.cluster.id(node).await));
    let look = async || {
        let (runs, next) = read(&pair.robot, None).await;
        next.filter(|_| runs.last() == Some(&run))
    };
    (run, eventually(&format!("the lines of run {run}"), look).await)
}

#[tokio::test]
#[ignore = "scripts/test starts PostgreSQL"]
async fn a_reader_goes_on_with_whoever_is_primary_however_often_that_changes() {
    let pair = Pair::start(Stage::new().await, Times::SHORT).await;
    let follower = Follower::start(&pair.web.url(), pair.cluster.token().await, "quick");
    let mut runs = vec![heard(&pair, &follower, &pair.first).await];
    for node in [&pair.second, &pair.first, &pair.second] {
        hand_over(&pair, node).await;
        runs.push(heard(&pair, &follower, node).await);
    }
    // each line came once, in order
    assert_eq!(started(&follower.texts()), runs, "{}", follower.stderr.text());
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

#[tokio::test]
#[ignore = "scripts/test starts PostgreSQL"]
async fn a_web_node_that_starts_only_when_a_node_is_primary_again_tells_who_was_in_between() {
    let pair = Pair::start(Stage::new().await, Times::SHORT).await;
    let (first, in_first_part) = run_on(&pair, &pair.first).await;
    let (second, at_its_end) = run_on(&pair, &pair.first).await;
    hand_over(&pair, &pair.second).await;
    let (third, with_the_other) = run_on(&pair, &pair.second).await;
    let (fourth, _) = run_on(&pair, &pair.second).await;
    hand_over(&pair, &pair.first).await;
    let (fifth, _) = run_on(&pair, &pair.first).await;

    let late = pair.cluster.web(2).ready().await;
    let late = pair.cluster.robot(&late.url()).await;
    pair.cluster.until_follows(&late, &pair.first, PATIENCE).await;
    let stories = [
        (None, vec![first, second, third, fourth, fifth]),
        (Some(&in_first_part), vec![second, third, fourth, fifth]),
        (Some(&at_its_end), vec![third, fourth, fifth]),
        (Some(&with_the_other), vec![fourth, fifth]),
    ];
    // the web node that heard all of it says the same
    for robot in [&late, &pair.robot] {
        for (since, runs) in &stories {
            let since = since.map(String::as_str);
            let what = format!("the lines of run {fifth} after {since:?}");
            let look = async || Some(read(robot, since).await.0).filter(|read| read.contains(&fifth));
            assert_eq!(eventually(&what, look).await, *runs, "after {since:?}");
        }
    }
}
