//! What must hold for long. `scripts/soak` runs these, in a short and a long form; alone they are ignored.

use std::time::{Duration, Instant};

use crate::live::{LINE, complete, follow_over, writing};
use crate::support::books::amount;
use crate::support::stage::Stage;
use crate::support::wait::{PATIENCE, percentile};
use crate::support::writer::Jobs;

#[tokio::test]
#[ignore = "scripts/soak runs it"]
async fn reconnects() {
    let stage = Stage::alone().await;
    let reconnects = amount("SOAK_RECONNECTS", 200);
    // a hundred lines between two cuts: ten cuts a second
    let lines = (reconnects + 1) * 100;
    let (node, robot, browser) = writing(&stage, lines).await;
    let follower = follow_over(&node.url(), &browser, &robot, lines, reconnects).await;
    complete(&follower, lines);
    println!("{lines} lines over {reconnects} forced reconnects: none lost, none twice");
}

#[tokio::test]
#[ignore = "scripts/soak runs it"]
async fn kills() {
    let stage = Stage::alone().await;
    let kills = amount("SOAK_KILLS", 100);
    let config = Jobs::default().command_with("often", &["echo", "tick"], "schedule = \"every 1s\"").save(&stage);
    let mut service = stage.node().role("service").config(config).ready().await;
    let mut web = stage.node().role("web").ready().await;
    let robot = stage.robot(&web.url()).await;
    robot.until_live_with(service.pid(), PATIENCE).await;
    let mut took = Vec::new();
    for round in 0..kills {
        let victim = if round % 2 == 0 { &mut service } else { &mut web };
        victim.restart();
        let recovered = robot.until_live_with(service.pid(), PATIENCE).await;
        took.push(i64::try_from(recovered.as_millis()).unwrap());
    }
    let most = percentile(&mut took, 100);
    println!("{kills} kills: half recovered within {} ms, all within {most} ms", percentile(&mut took, 50));
    assert!(most <= 2_000, "one recovery took {most} ms");
    // no run is left over from a killed service
    let unended = robot.executions("often").await.into_iter().filter(|run| run["outcome"].is_null()).count();
    assert!(unended <= 1, "{unended} runs never ended");
}

#[tokio::test]
#[ignore = "scripts/soak runs it"]
async fn rate() {
    let stage = Stage::alone().await;
    let seconds = amount("SOAK_SECONDS", 600);
    let lines = seconds * 1_000;
    let (node, robot, browser) = writing(&stage, lines).await;
    let url = node.url();
    let following = follow_over(&url, &browser, &robot, lines, 0);
    let mut following = std::pin::pin!(following);
    let (mut samples, began) = (Vec::new(), Instant::now());
    let complete_log = loop {
        let pause = Duration::from_secs((seconds / 20).max(1));
        tokio::select! {
            done = &mut following => break done,
            () = tokio::time::sleep(pause) => samples.push((began.elapsed(), node.memory())),
        }
    };
    complete(&complete_log, lines);
    let mut took: Vec<i64> = complete_log.lines.iter().map(|(_, took)| *took).collect();
    let most = percentile(&mut took, 95);
    for (at, bytes) in &samples {
        println!("after {:4} s: {:6.1} MiB", at.as_secs(), f64::from(u32::try_from(bytes >> 10).unwrap()) / 1024.0);
    }
    println!("{lines} lines at 1,000/s: half within {} µs, 95 % within {most} µs", percentile(&mut took, 50));
    assert!(Duration::from_micros(most.unsigned_abs()) <= LINE, "95 % of the lines within {most} µs");
    // caches and rings fill in the first third; after that the node holds what it holds
    let third = samples.len() / 3;
    let (early, last) = (samples[third].1, samples[samples.len() - 1].1);
    assert!(last < early + (64 << 20), "memory grew from {early} to {last} bytes");
}
