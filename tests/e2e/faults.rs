//! What the machine does to a node: a disk that is full or can't be written to, a database that another process holds. The node says
//! what happened, answers within its limits, loses nothing, and goes on when it can.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::Value;
use sqlx::{Connection as _, SqliteConnection};

use crate::support::node::{Node, Start, needs_mounts};
use crate::support::robot::Robot;
use crate::support::stage::{Stage, run};
use crate::support::wait::{PATIENCE, eventually, so};
use crate::support::writer::Jobs;

/// An action that waits for the database is answered within this; the store waits 5 s.
const ANSWERED: Duration = Duration::from_secs(8);

/// How large the small disk is, in MiB.
const DISK: u32 = 6;

/// A small disk of a node's own, with a copy of the data directory on it.
pub(crate) struct SmallDisk {
    pub(crate) start: Start,
    pub(crate) folder: PathBuf,
}

impl SmallDisk {
    fn new(stage: &Stage, config: PathBuf, more: &str) -> Self {
        Self::of_size(DISK, stage, config, more)
    }

    /// One of so many MiB.
    pub(crate) fn of_size(size: u32, stage: &Stage, config: PathBuf, more: &str) -> Self {
        let folder = stage.path("disk");
        std::fs::create_dir(&folder).unwrap();
        let (place, data) = (folder.display(), stage.data());
        let data = data.display();
        let line =
            format!("mount -t tmpfs -o size={size}m,mode=0700 tmpfs '{place}' && cp -a '{data}/.' '{place}/'{more}");
        Self { start: Start::new(&folder).config(config).mounts(line), folder }
    }

    /// Fills it to the last byte; gives the file that does.
    pub(crate) fn fill(&self, node: &Node) -> PathBuf {
        let ballast = node.inside(&self.folder).join("ballast");
        let mut file = std::fs::File::create(&ballast).unwrap();
        for size in [64 << 10, 4096, 1] {
            let block = vec![b'x'; size];
            while file.write_all(&block).is_ok() {}
        }
        ballast
    }
}

/// Asks for a run and expects it to be refused in time; gives the words.
async fn refused_in_time(robot: &Robot, dispatcher: &str) -> String {
    let began = Instant::now();
    let (status, answer) = robot.ask(Method::POST, &format!("/api/dispatchers/{dispatcher}:run"), None).await;
    assert!(began.elapsed() < ANSWERED, "answered after {:?}", began.elapsed());
    assert_eq!(status, 503, "{answer}");
    answer["error"]["message"].as_str().unwrap().to_owned()
}

/// A job that goes on until `go` is there and says so many lines at its end.
fn waiting(stage: &Stage, go: &Path) -> PathBuf {
    let line = format!("until [ -e '{}' ]; do sleep 0.05; done; seq 1 200", go.display());
    Jobs::default().shell("waits", &line).shell("hello", "echo hello").save(stage)
}

async fn ended_well_with_all_its_lines(robot: &Robot, run: u64) {
    assert_eq!(robot.until_ended(run).await["outcome"], "normal");
    eventually("every line of the run", async || {
        let log = robot.get(&format!("/api/executions/{run}/log?limit=1000")).await;
        let lines = log["lines"].as_array()?;
        let numbers =
            lines.iter().filter(|line| line["message"].as_str().is_some_and(|text| text.parse::<u32>().is_ok()));
        so(numbers.count() == 200)
    })
    .await;
}

/// A data directory with a token in it, whose nodes have ended.
pub(crate) async fn prepared(stage: &Stage) -> String {
    for role in ["all", "web"] {
        let mut node = stage.node().role(role).ready().await;
        node.term();
        assert_eq!(node.end(PATIENCE).await.code(), Some(0));
    }
    stage.token("robot", "service_admin").await
}

#[tokio::test]
async fn a_full_disk_is_told_nothing_is_lost_and_work_goes_on_when_there_is_space() {
    needs_mounts();
    let stage = Stage::new().await;
    let token = prepared(&stage).await;
    let go = stage.path("go");
    let disk = SmallDisk::new(&stage, waiting(&stage, &go), "");
    let node = disk.start.ready().await;
    let robot = Robot::new(&node.url(), &token);
    robot.until_live(PATIENCE).await;
    let run = robot.run("waits").await;
    robot.until_begun(run, PATIENCE).await;
    let before = robot.executions("hello").await.len();

    let ballast = disk.fill(&node);
    let said = eventually("a refusal", async || {
        let (status, answer) = robot.ask(Method::POST, "/api/dispatchers/hello:run", None).await;
        // what SQLite had reserved before may still be written to
        (status == 503).then(|| answer["error"]["message"].as_str().unwrap_or_default().to_owned())
    })
    .await;
    assert!(said.contains("the disk is full") && said.contains("free some space"), "{said}");
    assert!(said.contains("nothing was changed"), "{said}");
    std::fs::write(&go, "").unwrap();
    node.stderr.line_with("the disk is full", PATIENCE).await;
    // it can be looked at meanwhile
    let status = robot.status().await.expect("a node that answers");
    assert_eq!(status["messenger"]["state"], "live");
    let answered = refused_in_time(&robot, "hello").await;
    assert!(answered.contains("the disk is full"), "{answered}");

    std::fs::remove_file(ballast).unwrap();
    ended_well_with_all_its_lines(&robot, run).await;
    let hello = robot.run("hello").await;
    assert_eq!(robot.until_ended(hello).await["outcome"], "normal");
    let after = robot.executions("hello").await;
    assert!(after.len() > before && after.iter().all(|run| run["outcome"] != "abandoned"), "{after:?}");
    assert!(!node.stderr.text().contains("panicked"), "{}", node.stderr.text());
}

#[tokio::test]
async fn a_start_on_a_full_disk_is_refused_and_spoils_nothing() {
    needs_mounts();
    let stage = Stage::new().await;
    let token = prepared(&stage).await;
    let config = Jobs::default().shell("hello", "echo hello").save(&stage);
    let ballast = stage.path("disk").join("ballast");
    let fill = format!(" && {{ dd if=/dev/zero of='{}' bs=4096 2>/dev/null || true; }}", ballast.display());
    let disk = SmallDisk::new(&stage, config, &fill);
    for role in ["all", "web"] {
        let done = run(&mut disk.start.clone().role(role).command(), "").await;
        assert_eq!(done.code, Some(1), "{role}: {}{}", done.stdout, done.stderr);
        assert!(!done.stderr.contains("panicked"), "{role}: {}", done.stderr);
        let last = done.stderr.lines().last().unwrap_or_default();
        assert!(last.contains("full") || last.contains("No space left"), "{role}: {}", done.stderr);
        assert!(last.contains("free some space"), "{role}, what to do: {}", done.stderr);
        assert!(!done.stdout.contains("listens on"), "{role}: {}", done.stdout);
    }
    // the same directory with space works as if nothing had been
    let node = stage.node().ready().await;
    Robot::new(&node.url(), &token).until_live(PATIENCE).await;
}

#[tokio::test]
async fn a_data_directory_that_can_not_be_written_to_is_told_with_what_to_do() {
    needs_mounts();
    let stage = Stage::new().await;
    prepared(&stage).await;
    let data = stage.data();
    let place = data.display();
    let line = format!("mount --bind '{place}' '{place}' && mount -o remount,ro,bind '{place}'");
    let done = run(&mut stage.node().mounts(&line).command(), "").await;
    assert_eq!(done.code, Some(1), "{}{}", done.stdout, done.stderr);
    assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
    let last = done.stderr.lines().last().unwrap_or_default();
    for words in [data.to_str().unwrap(), "Read-only file system", "writable", "--data"] {
        assert!(last.contains(words), "{words} is not in: {}", done.stderr);
    }
    assert_eq!(last.matches("Read-only").count(), 1, "{last}");
    // and an empty place where nothing can be made
    let empty = stage.path("empty");
    std::fs::create_dir(&empty).unwrap();
    let line = format!("mount -t tmpfs -o ro tmpfs '{}'", empty.display());
    let done = run(&mut Start::new(&empty).mounts(&line).command(), "").await;
    assert_eq!(done.code, Some(1), "{}{}", done.stdout, done.stderr);
    assert!(done.stderr.contains("Read-only file system") && done.stderr.contains("--data"), "{}", done.stderr);
}

/// Holds the database as another process would.
async fn hold(stage: &Stage) -> SqliteConnection {
    let file = stage.data().join("switchboard.db");
    let mut holder = SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    sqlx::query("begin exclusive").execute(&mut holder).await.unwrap();
    holder
}

async fn let_go(holder: &mut SqliteConnection) {
    sqlx::query("rollback").execute(holder).await.unwrap();
}

#[tokio::test]
async fn a_start_while_another_process_holds_the_database_is_refused_in_time() {
    let stage = Stage::new().await;
    let token = prepared(&stage).await;
    let mut holder = hold(&stage).await;
    let began = Instant::now();
    let done = run(&mut stage.node().command(), "").await;
    assert!(began.elapsed() < ANSWERED, "it took {:?}", began.elapsed());
    assert_eq!(done.code, Some(1), "{}{}", done.stdout, done.stderr);
    assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
    assert!(done.stderr.contains("another process is writing") && done.stderr.contains("try again"), "{}", done.stderr);
    let_go(&mut holder).await;
    let node = stage.node().ready().await;
    Robot::new(&node.url(), &token).until_live(PATIENCE).await;
}

#[tokio::test]
async fn a_database_held_by_another_process_is_told_in_time_and_nothing_is_lost() {
    let stage = Stage::new().await;
    let go = stage.path("go");
    let node = stage.node().config(waiting(&stage, &go)).ready().await;
    let robot = stage.robot(&node.url()).await;
    let mut browser = node.administrator().await;
    robot.until_live(PATIENCE).await;
    let run = robot.run("waits").await;
    robot.until_begun(run, PATIENCE).await;

    let mut holder = hold(&stage).await;
    let held = Instant::now();
    std::fs::write(&go, "").unwrap();
    // as long as it takes two actions to be given up: ten seconds
    while held.elapsed() < Duration::from_secs(10) {
        let said = refused_in_time(&robot, "hello").await;
        // or behind a writer of its own that waits for the other process
        let why = said.contains("another process") || said.contains("busy with other work");
        assert!(why && said.contains("nothing was changed"), "{said}");
        let status: Value = robot.status().await.expect("a node that answers");
        assert_eq!(status["messenger"]["state"], "live");
        assert!(browser.page("/status").await.contains("id=\"d-hello\""), "pages are shown meanwhile");
    }
    assert!(robot.executions("hello").await.is_empty(), "what was refused is not there");
    let_go(&mut holder).await;

    ended_well_with_all_its_lines(&robot, run).await;
    let hello = robot.run("hello").await;
    assert_eq!(robot.until_ended(hello).await["outcome"], "normal");
    assert_eq!(robot.executions("hello").await.len(), 1);
    assert!(!node.stderr.text().contains("panicked"), "{}", node.stderr.text());
}
