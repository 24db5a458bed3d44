//! Every role killed with -9 in turn, under load, again and again.

use std::time::Instant;

use crate::reliability::{amount, jobs, unharmed, works};
use crate::support::books::Books;
use crate::support::cluster::{Cluster, Times};
use crate::support::node::Node;
use crate::support::stage::Stage;
use crate::support::wait::{PATIENCE, eventually};

#[tokio::test]
#[ignore = "scripts/soak runs it"]
async fn kills() {
    let stage = Stage::alone().await;
    let jobs = jobs(&stage);
    let cluster = Cluster::new(stage, Times::SHORT, jobs).await;
    let mut services = [cluster.service(1).ready().await, cluster.service(2).ready().await];
    let mut webs = [cluster.web(1).ready().await, cluster.web(2).ready().await];
    let robots = [cluster.robot(&webs[0].url()).await, cluster.robot(&webs[1].url()).await];
    for robot in &robots {
        works(robot).await;
    }
    let mut books = Books::open("kill -9 of every role in turn", &cluster.stage, &robots).await;
    for round in 0..usize::try_from(amount("SOAK_ROUNDS", 6)).unwrap() {
        let primary = which_is_primary(&cluster, &services).await;
        let struck = Instant::now();
        match round % 3 {
            0 => {
                // the other one takes over; then it comes back and stands by
                services[primary].kill9();
                cluster.until_primary(&services[1 - primary], PATIENCE).await;
                works(&robots[round % 2]).await;
                books.recovered(struck.elapsed());
                services[primary].spawn_again();
                services[primary].until_ready(PATIENCE).await;
            }
            1 => {
                let web = (round / 3) % 2;
                webs[web].kill9();
                works(&robots[1 - web]).await;
                webs[web].spawn_again();
                webs[web].until_ready(PATIENCE).await;
                works(&robots[web]).await;
                books.recovered(struck.elapsed());
            }
            _ => {
                services[1 - primary].restart();
                services[1 - primary].until_ready(PATIENCE).await;
                works(&robots[0]).await;
                books.recovered(struck.elapsed());
            }
        }
        books.until_new_lines().await;
        books.weigh(&[&services[0], &services[1], &webs[0], &webs[1]]);
        unharmed(&[&services[0], &services[1], &webs[0], &webs[1]]);
    }
    let closed = books.close(&robots[0]).await;
    assert_eq!(closed.commands.unanswered, 0, "one web node is always there");
    assert!(closed.seen.restarts() > 0, "a new life of the service is told");
    cluster.one_at_a_time("writer").await;
}

async fn which_is_primary(cluster: &Cluster, services: &[Node; 2]) -> usize {
    let ids = [cluster.id(&services[0]).await, cluster.id(&services[1]).await];
    eventually("a primary", async || {
        let primary = cluster.primary().await?;
        ids.iter().position(|id| *id == primary)
    })
    .await
}
