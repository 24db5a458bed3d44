//! Settings, the key and the endpoint change on a cluster that works: in force everywhere at once, and not a line is lost.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use crate::cluster::{SLACK, figure, jobs, link_at};
use crate::support::balancer::number;
use crate::support::browser::{Browser, PASSWORD};
use crate::support::cluster::{Cluster, Times, free_port};
use crate::support::node::Node;
use crate::support::robot::Robot;
use crate::support::socket::{Follower, Socket};
use crate::support::stage::Stage;
use crate::support::wait::{PATIENCE, eventually, so, within};
use crate::support::writer::Jobs;

/// A saved setting is in force on every node after this.
const IN_FORCE: Duration = Duration::from_secs(1);

/// How a setting stands on every node; none unless all say that they have it.
async fn in_force(robot: &Robot, setting: &str, value: &str, nodes: usize) -> Option<()> {
    let answer = robot.get(&format!("/api/settings/{setting}")).await;
    let applied = |node: &Value| node["state"] == "applied" && node["in_force"] == value;
    let all = answer["nodes"].as_array()?;
    so(answer["value"] == value && all.len() == nodes && all.iter().all(applied))
}

#[tokio::test]
#[ignore = "scripts/test starts PostgreSQL"]
async fn a_setting_saved_at_one_web_node_is_in_force_everywhere_within_a_second() {
    let stage = Stage::new().await;
    let jobs = jobs(&stage);
    let cluster = Cluster::new(stage, Times::SHORT, jobs).await;
    let (first, second) = (cluster.service(1).ready().await, cluster.service(2).ready().await);
    let webs = [cluster.web(1).ready().await, cluster.web(2).ready().await];
    let robots = [cluster.robot(&webs[0].url()).await, cluster.robot(&webs[1].url()).await];
    for (robot, service) in [(&robots[0], &first), (&robots[1], &first)] {
        cluster.until_follows(robot, service, PATIENCE).await;
    }
    let mut took = Vec::new();
    for (setting, values) in [
        ("Service.PollInterval", ["7s", "8s", "9s"]),
        ("Service.StaleTime", ["4s", "5s", "6s"]),
        ("Service.HeartbeatInterval", ["2s", "1s", "2s"]),
        ("Service.MessengerAllowedNetworks", ["127.0.0.0/8", "127.0.0.0/16", ""]),
        ("Log.RingSize", ["4 MiB", "16 MiB", "8 MiB"]),
        ("Diagnostics.MinimumLogLevel", ["debug", "warn", "info"]),
    ] {
        for value in values {
            let saved = Instant::now();
            robots[0].set(setting, value).await;
            let what = format!("{setting} = {value} on all nodes");
            // as each of them says itself, by way of the database
            within(PATIENCE, &what, async || in_force(&robots[1], setting, value, 4).await).await;
            took.push(saved.elapsed());
        }
    }
    took.sort_unstable();
    figure("setting saved: in force on four nodes, median", took[took.len() / 2]);
    figure("setting saved: in force on four nodes, longest", *took.last().unwrap());
    assert!(took[took.len() / 2] < IN_FORCE && *took.last().unwrap() < IN_FORCE + SLACK, "{took:?}");
    drop(second);
}

/// What the service node made of the endpoint.
async fn of_service(robot: &Robot, state: &str) -> Value {
    eventually(&format!("a service node whose endpoint is {state}"), async || {
        let setting = robot.get("/api/settings/Service.MessengerEndpoint").await;
        let nodes = setting["nodes"].as_array()?;
        let service = nodes.iter().find(|node| node["node"].as_str().is_some_and(|id| id.starts_with("service")))?;
        (service["state"] == state).then(|| service.clone())
    })
    .await
}

#[tokio::test]
#[ignore = "scripts/test starts PostgreSQL"]
async fn a_port_that_is_taken_leaves_the_link_as_it_was_until_it_is_free() {
    let stage = Stage::new().await;
    let jobs = jobs(&stage);
    let cluster = Cluster::new(stage, Times::SHORT, jobs).await;
    let service = cluster.only_service().ready().await;
    let web = cluster.web(1).ready().await;
    let robot = cluster.robot(&web.url()).await;
    cluster.until_follows(&robot, &service, PATIENCE).await;
    let taken = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();

    cluster.set("Service.MessengerEndpoint", &format!("tcp://*:{port}")).await;
    let said = of_service(&robot, "failed").await;
    let before = format!("tcp://*:{}", cluster.port);
    assert_eq!(
        (said["in_force"].as_str(), said["wanted"].as_str().unwrap().ends_with(&port.to_string())),
        (Some(&*before), true)
    );
    assert!(said["error"].as_str().unwrap().contains("in use"), "{said}");
    let run = robot.run("quick").await;
    robot.line_with("quick", &format!("run {run} started")).await;
    let messenger = robot.status().await.unwrap()["messenger"].clone();
    assert_eq!(messenger["state"], "live", "{messenger}");
    assert!(messenger["endpoint"].as_str().unwrap().ends_with(&cluster.port.to_string()), "{messenger}");

    // free again: it is tried again by itself
    drop(taken);
    of_service(&robot, "applied").await;
    link_at(&robot, "live", &format!(":{port}")).await;
}

const LINES: u64 = 12_000;
const RATE: u64 = 1_000;

/// Reads the log over a socket until this line of the writer.
async fn read_to(socket: &mut Socket, follower: &mut Follower, line: u64) {
    while follower.lines.last().and_then(|(text, _)| number(text)).is_none_or(|last| last < line) {
        let frame = socket.next().await.expect("the socket stays");
        follower.take(&frame, "writer");
    }
}

/// Waits until each of the nodes says that it uses another key than this one, the same everywhere.
async fn other_key(robot: &Robot, key: &str, nodes: &[&Node]) -> String {
    eventually("another key everywhere", async || {
        let answer = robot.get("/api/nodes").await;
        let living = answer["nodes"].as_array()?.iter().filter(|node| node["stopped_at"].is_null());
        let keys: Vec<_> = living.filter_map(|node| Some(node["key_fingerprint"].as_str()?.to_owned())).collect();
        let new = keys.first().filter(|new| *new != key)?;
        (keys.len() == nodes.len() && keys.iter().all(|key| key == new)).then(|| new.clone())
    })
    .await
}

#[tokio::test]
#[ignore = "scripts/test starts PostgreSQL"]
async fn neither_a_new_key_nor_another_port_loses_or_repeats_a_line() {
    let stage = Stage::new().await;
    let jobs = Jobs::default().writer(&stage, LINES, RATE);
    let cluster = Cluster::new(stage, Times::SHORT, jobs).await;
    let service = cluster.only_service().ready().await;
    let web = cluster.web(1).ready().await;
    cluster.administrator().await;
    let robot = cluster.robot(&web.url()).await;
    cluster.until_follows(&robot, &service, PATIENCE).await;
    let mut browser = Browser::new(&web.url());
    browser.sign_in("root", PASSWORD).await;
    let mut socket = Socket::open(&web.url(), &browser).await;
    socket.watch_log(None).await;
    let mut follower = Follower::default();
    let key = other_key(&robot, "", &[&service, &web]).await;
    let run = robot.run("writer").await;

    read_to(&mut socket, &mut follower, 1_500).await;
    let rotated = Instant::now();
    cluster.command(&["settings", "generate-key"], "").await.good();
    tokio::join!(
        async {
            other_key(&robot, &key, &[&service, &web]).await;
            figure("key rotated with overlap under 1,000 lines/s: in use everywhere", rotated.elapsed());
        },
        read_to(&mut socket, &mut follower, 5_000)
    );
    let port = free_port();
    let moved = Instant::now();
    cluster.set("Service.MessengerEndpoint", &format!("tcp://*:{port}")).await;
    let there = format!("tcp://127.0.0.1:{port}");
    tokio::join!(
        async {
            link_at(&robot, "live", &there).await;
            figure("endpoint moved under 1,000 lines/s: the link leads there", moved.elapsed());
        },
        read_to(&mut socket, &mut follower, LINES)
    );
    assert_eq!(cluster.until_ended(run, PATIENCE).await.outcome.as_deref(), Some("normal"));
    let numbers: Vec<u64> = follower.lines.iter().filter_map(|(text, _)| number(text)).collect();
    assert_eq!(numbers, (1..=LINES).collect::<Vec<_>>(), "each line once, in order");
    assert!(follower.gaps.is_empty(), "{:?}", follower.gaps);
    let longest = follower.lines.iter().map(|(_, took)| *took).max().unwrap();
    println!("figure: key and endpoint changed: the longest a line took to the client: {} ms", longest / 1000);
    eventually("the former port closed", async || so(TcpStream::connect(("127.0.0.1", cluster.port)).await.is_err()))
        .await;
}
