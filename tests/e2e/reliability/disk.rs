//! The disk of a node with SQLite is full for a while.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use sqlx::{Connection as _, SqliteConnection};

use crate::faults::{SmallDisk, prepared};
use crate::reliability::{endure, jobs, lasting, unharmed, works};
use crate::support::books::Books;
use crate::support::node::needs_mounts;
use crate::support::robot::Robot;
use crate::support::stage::Stage;
use crate::support::wait::{eventually, so};

/// In MiB: what is written under load has room, with SQLite's own log of changes (up to 4 MiB) beside it.
const SIZE: u32 = 24;

#[tokio::test]
#[ignore = "scripts/soak runs it"]
async fn disk() {
    needs_mounts();
    let stage = Stage::alone().await;
    let token = prepared(&stage).await;
    let disk = SmallDisk::of_size(SIZE, &stage, jobs(&stage).save(&stage), "");
    let node = disk.start.ready().await;
    let robot = Robot::new(&node.url(), &token);
    works(&robot).await;
    let mut books = Books::open("full disk, SQLite", &stage, std::slice::from_ref(&robot)).await;
    endure(&mut books, &[&node], Duration::from_secs(1)).await;
    let ballast = disk.fill(&node);
    eventually("a refusal", async || so(robot.try_run("probe", "full").await?.0 == 503)).await;
    endure(&mut books, &[&node], lasting(8)).await;
    assert_eq!(robot.link().await.as_deref(), Some("live"), "it can be looked at meanwhile");
    std::fs::remove_file(ballast).unwrap();
    let back = Instant::now();
    works(&robot).await;
    books.recovered(back.elapsed());
    books.until_new_lines().await;
    let closed = books.close(&robot).await;
    let told = closed.commands.refusals.iter().all(|(status, words)| {
        *status == 503 && words.contains("the disk is full") && words.contains("nothing was changed")
    });
    assert!(closed.commands.refused > 0 && told, "{:?}", closed.commands.refusals);
    assert_eq!((closed.commands.abandoned, closed.lines.lost_with_a_node), (0, 0));
    // a copy of its files, taken in a moment, as a crash would leave them
    node.signal(Signal::STOP);
    for file in ["switchboard.db", "switchboard.db-wal"] {
        std::fs::copy(node.inside(&disk.folder).join(file), stage.path(file)).unwrap();
    }
    node.signal(Signal::CONT);
    let copy = format!("sqlite://{}", stage.path("switchboard.db").display());
    let mut beside = SqliteConnection::connect(&copy).await.unwrap();
    let whole: String = sqlx::query_scalar("pragma integrity_check").fetch_one(&mut beside).await.unwrap();
    assert_eq!(whole, "ok");
    unharmed(&[&node]);
}
