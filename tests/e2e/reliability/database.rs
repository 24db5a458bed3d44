//! PostgreSQL stopped for a while, and crashed, below one service node.

use std::time::{Duration, Instant};

use crate::postgres_server::TestServer;
use crate::reliability::{ANSWERED, endure, jobs, lasting, unharmed, works};
use crate::support::books::Books;
use crate::support::browser::{Browser, PASSWORD, client};
use crate::support::node::bare_command;
use crate::support::robot::Robot;
use crate::support::stage::{Stage, run};
use crate::support::wait::{eventually, so};

#[tokio::test]
#[ignore = "scripts/soak runs it"]
async fn database() {
    let stage = Stage::alone().await;
    let server = TestServer::start();
    let database = server.database().await;
    // a term ends while the database is away, also in the short form
    let node = |role| {
        let node = stage.node().variable("SWITCHBOARD_DATABASE", database.url()).role(role);
        node.setting("Service.HeartbeatInterval", "1s").setting("Service.StaleTime", "4s")
    };
    let service = node("service").config(jobs(&stage).save(&stage)).ready().await;
    let web = node("web").ready().await;
    let command = async |arguments: &[&str], input: &str| {
        let mut command = bare_command();
        command.env("SWITCHBOARD_DATABASE", database.url()).arg("--data").arg(stage.data()).args(arguments);
        run(&mut command, input).await.good()
    };
    let token = command(&["user", "add", "robot", "--role", "service_admin", "--token"], "").await;
    command(&["user", "add", "root", "--role", "service_admin", "--password-stdin"], &format!("{PASSWORD}\n")).await;
    let robot = Robot::new(&web.url(), token.trim_end());
    works(&robot).await;
    let mut browser = Browser::new(&web.url());
    browser.sign_in("root", PASSWORD).await;
    browser.page("/status").await;

    let mut books = Books::open("PostgreSQL away, one service node", &stage, std::slice::from_ref(&robot)).await;
    for how in ["fast", "immediate"] {
        server.stop(how);
        let away = Instant::now();
        // what is asked meanwhile is answered, in words
        let asked = client().get(format!("{}/readyz", web.url())).send().await.unwrap();
        assert_eq!(asked.status().as_u16(), 503);
        let page = browser.get("/status").await;
        assert_eq!(page.status, 503, "{page:?}");
        assert!(page.text.contains("can't be reached") || page.text.contains("database"), "{}", page.text);
        assert!(away.elapsed() < ANSWERED * 2, "two answers took {:?}", away.elapsed());
        endure(&mut books, &[&service, &web], lasting(7).saturating_sub(away.elapsed())).await;
        let back = Instant::now();
        server.up();
        eventually("a node that is ready again", async || {
            so(client().get(format!("{}/readyz", web.url())).send().await.ok()?.status().is_success())
        })
        .await;
        works(&robot).await;
        books.recovered(back.elapsed());
        books.until_new_lines().await;
        endure(&mut books, &[&service, &web], Duration::from_secs(1)).await;
    }
    assert_eq!(robot.executions("writer").await.len(), 1, "the run went on all the time");
    let closed = books.close(&robot).await;
    let writer = robot.executions("writer").await;
    assert_eq!(writer[0]["outcome"], "cancelled", "no run is killed by it: {writer:?}");
    assert_eq!((closed.commands.abandoned, closed.lines.lost_with_a_node), (0, 0));
    assert!(closed.commands.refused > 0 && closed.commands.unanswered == 0, "{:?}", closed.commands.refusals);
    browser.page("/status").await;
    unharmed(&[&service, &web]);
    eventually("both nodes", async || so(robot.status().await?["nodes"].as_array()?.len() == 2)).await;
    drop((service, web));
}
