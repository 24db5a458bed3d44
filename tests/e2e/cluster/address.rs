//! Where web nodes dial a service node: what it says itself, and what an administrator says instead.

use reqwest::Method;
use serde_json::{Value, json};

use crate::cluster::{jobs, link_at};
use crate::support::cluster::{Cluster, Times};
use crate::support::robot::Robot;
use crate::support::stage::Stage;
use crate::support::wait::{PATIENCE, eventually};

/// Says where the node is reached, or takes that back; the node as the answer tells of it.
async fn correct(robot: &Robot, node: &str, address: Option<&str>) -> Value {
    let path = format!("/api/nodes/{node}/address");
    let (status, answer) = match address {
        Some(address) => robot.ask(Method::PUT, &path, Some(&json!({ "address": address }))).await,
        None => robot.ask(Method::DELETE, &path, None).await,
    };
    assert_eq!(status, 200, "{answer}");
    answer
}

#[tokio::test]
#[ignore = "scripts/test starts PostgreSQL"]
async fn who_says_a_wrong_address_is_reached_where_an_administrator_says() {
    let stage = Stage::new().await;
    let jobs = jobs(&stage);
    let cluster = Cluster::new(stage, Times::SHORT, jobs).await;
    // nobody listens there
    let wrong = Cluster::address(150);
    let service = cluster.service(1).variable("SWITCHBOARD_ADVERTISE", &wrong).ready().await;
    cluster.until_primary(&service, PATIENCE).await;
    let id = cluster.id(&service).await;
    let web = cluster.web(1).ready().await;
    let robot = cluster.robot(&web.url()).await;
    let says = eventually("an attempt that says why it fails", async || {
        let messenger = robot.status().await?["messenger"].clone();
        messenger["error"].is_string().then_some(messenger)
    })
    .await;
    assert!(says["endpoint"].as_str().unwrap().contains(&wrong), "{says}");
    assert!(says["error"].as_str().unwrap().contains("refused"), "{says}");

    let right = Cluster::address(1);
    let told = correct(&robot, &id, Some(&right)).await;
    assert_eq!((told["address"].as_str(), told["address_override"].as_str()), (Some(&*wrong), Some(&*right)), "{told}");
    link_at(&robot, "live", &right).await;
    cluster.until_follows(&robot, &service, PATIENCE).await;
    let run = robot.run("quick").await;
    robot.line_with("quick", &format!("run {run} started")).await;

    // the node's own word again: that leads nowhere, and whoever comes now finds nobody
    let told = correct(&robot, &id, None).await;
    assert!(told["address_override"].is_null(), "{told}");
    let late = cluster.web(2).ready().await;
    let late = cluster.robot(&late.url()).await;
    eventually("an attempt of the other web node", async || {
        let messenger = late.status().await?["messenger"].clone();
        messenger["error"].as_str().filter(|error| error.contains("refused")).map(str::to_owned)
    })
    .await;
    correct(&late, &id, Some(&format!("{right}:{}", cluster.port))).await;
    link_at(&late, "live", &right).await;
}
