//! A link that is half open, and one that is slow: a proxy stands between web and service.

use std::time::{Duration, Instant};

use crate::reliability::{endure, jobs, lasting, unharmed, until_noticed, works};
use crate::support::books::Books;
use crate::support::cluster::free_port;
use crate::support::gate::{Gate, Passage};
use crate::support::node::Node;
use crate::support::robot::Robot;
use crate::support::stage::Stage;

/// How late a byte comes, each way.
const LATE: Duration = Duration::from_millis(200);

struct Place {
    gate: Gate,
    service: Node,
    web: Node,
    robot: Robot,
    stage: Stage,
}

async fn place() -> Place {
    let stage = Stage::alone().await;
    let server = format!("127.0.0.1:{}", free_port());
    let gate = Gate::to(server.clone()).await;
    let node = |role, at: String| stage.node().role(role).setting("Service.MessengerEndpoint", format!("tcp://{at}"));
    let service = node("service", server).config(jobs(&stage).save(&stage)).ready().await;
    let web = node("web", gate.address().to_string()).ready().await;
    let robot = stage.robot(&web.url()).await;
    works(&robot).await;
    Place { gate, service, web, robot, stage }
}

#[tokio::test]
#[ignore = "scripts/soak runs it"]
async fn half_open() {
    let Place { gate, service, web, robot, stage } = place().await;
    let mut books = Books::open("half-open link", &stage, std::slice::from_ref(&robot)).await;
    let struck = Instant::now();
    gate.set(Passage::Nowhere);
    let noticed = until_noticed(&robot).await;
    assert!(noticed <= Duration::from_secs(10), "noticed after {noticed:?}");
    println!("the page shows a lost link after {noticed:?}");
    endure(&mut books, &[&service, &web], lasting(12).saturating_sub(struck.elapsed())).await;
    gate.set(Passage::Late(Duration::ZERO));
    let back = Instant::now();
    works(&robot).await;
    books.until_new_lines().await;
    books.recovered(back.elapsed());
    let closed = books.close(&robot).await;
    assert_eq!((closed.commands.unanswered, closed.commands.refused), (0, 0), "the store needs no messenger");
    unharmed(&[&service, &web]);
}

#[tokio::test]
#[ignore = "scripts/soak runs it"]
async fn delay() {
    let Place { gate, service, web, robot, stage } = place().await;
    let mut books = Books::open("200 ms of delay, each way", &stage, std::slice::from_ref(&robot)).await;
    gate.set(Passage::Late(LATE));
    let end = Instant::now() + lasting(10);
    while Instant::now() < end {
        books.until_new_lines().await;
        assert_eq!(robot.link().await.as_deref(), Some("live"), "the link bears that");
        endure(&mut books, &[&service, &web], Duration::from_millis(500)).await;
    }
    let status = robot.status().await.unwrap();
    let latency = status["messenger"]["latency_ms"].as_f64().unwrap_or_else(|| panic!("no latency in {status}"));
    assert!(latency >= 400.0, "the page tells the delay: {latency} ms");
    gate.set(Passage::Late(Duration::ZERO));
    books.recovered(works(&robot).await);
    books.close(&robot).await;
    unharmed(&[&service, &web]);
}
