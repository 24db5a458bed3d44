//! The real program on PostgreSQL: first start, work, restart; what its commands say.

use std::process::Command;

use crate::postgres::TestDatabase;
use crate::support::browser::{Browser, PASSWORD};
use crate::support::node::{Start, bare_command};
use crate::support::robot::Robot;
use crate::support::stage::{Done, Stage, run};
use crate::support::wait::PATIENCE;
use crate::support::writer::Jobs;

const VARIABLE: &str = "SWITCHBOARD_DATABASE";

/// A stage and its database.
struct Place {
    stage: Stage,
    database: TestDatabase,
}

impl Place {
    async fn new() -> Self {
        Self { stage: Stage::new().await, database: TestDatabase::new().await }
    }

    fn node(&self) -> Start {
        self.stage.node().variable(VARIABLE, self.database.url())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = bare_command();
        command.env(VARIABLE, self.database.url()).arg("--data").arg(self.stage.data()).args(arguments);
        command
    }

    async fn run(&self, arguments: &[&str]) -> Done {
        run(&mut self.command(arguments), "").await
    }

    fn password(&self) -> &str {
        let (user, _) = self.database.url().rsplit_once('@').unwrap();
        user.rsplit_once(':').unwrap().1
    }
}

#[tokio::test]
#[ignore = "scripts/test starts PostgreSQL"]
async fn a_node_starts_works_and_finds_everything_again() {
    let place = Place::new().await;
    let config = Jobs::default().shell("hello", "echo hello").save(&place.stage);
    let mut node = place.node().config(config).ready().await;
    assert!(!place.stage.data().join("switchboard.db").exists());
    let mut browser = node.administrator().await;
    let token = place.run(&["user", "add", "robot", "--role", "service_admin", "--token"]).await.good();
    let robot = Robot::new(&node.url(), token.trim_end());
    robot.until_live(PATIENCE).await;
    let ran = robot.run("hello").await;
    assert_eq!(robot.until_ended(ran).await["outcome"], "normal");
    robot.set("Service.PollInterval", "7s").await;
    let page = browser.page("/diagnostics").await;
    assert!(page.contains("PostgreSQL 1") && !page.contains(place.password()), "{page}");

    let mut raw = place.database.connect().await;
    let ended = sqlx::query_scalar("select count(*) from executions where outcome = 'normal' and dispatcher = 'hello'");
    let ended: i64 = ended.fetch_one(&mut raw).await.unwrap();
    assert_eq!(ended, 1);

    node.kill9();
    let log = node.stderr.text();
    assert!(!log.contains(place.password()), "{log}");
    node.spawn_again();
    node.until_ready(PATIENCE).await;
    let answer = Browser::new(&node.url()).sign_in("root", PASSWORD).await;
    assert!((300..400).contains(&answer.status), "{answer:?}");
    assert_eq!(robot.execution(ran).await["outcome"], "normal");
    assert_eq!(place.run(&["settings", "get", "Service.PollInterval"]).await.good().trim(), "7s");
    let ran = robot.run("hello").await;
    assert_eq!(robot.until_ended(ran).await["outcome"], "normal");
    node.term();
    assert_eq!(node.end(PATIENCE).await.code(), Some(0));
}

#[tokio::test]
#[ignore = "scripts/test starts PostgreSQL"]
async fn commands_work_on_it_and_a_backup_names_its_own_tool() {
    let place = Place::new().await;
    for arguments in
        [&["settings", "get", "Web.DrainTime"] as &[&str], &["nodes"], &["user", "list"], &["status"], &["doctor"]]
    {
        let refused = place.run(arguments).await;
        assert_eq!(refused.code, Some(1), "{arguments:?}: {}", refused.stderr);
        assert!(refused.stderr.contains("is empty") && refused.stderr.contains("`migrate`"), "{}", refused.stderr);
        let mut raw = place.database.connect().await;
        let tables = sqlx::query_scalar("select count(*) from pg_tables where schemaname = 'public'");
        let tables: i64 = tables.fetch_one(&mut raw).await.unwrap();
        assert_eq!(tables, 0, "{arguments:?} made tables");
        assert!(!place.stage.data().join("encryption.key").exists(), "{arguments:?} made a key");
    }
    let made = place.run(&["migrate"]).await;
    assert!(made.stderr.contains("made a new database in "), "{}", made.stderr);
    assert!(made.good().contains("is up to date"));
    let refused = place.run(&["backup", "copy.db"]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("pg_dump --format=custom"), "{}", refused.stderr);
    assert!(!refused.stderr.contains(place.password()), "{}", refused.stderr);
    place.run(&["user", "add", "ann", "--role", "admin_viewer", "--token"]).await.good();
    assert!(place.run(&["user", "list"]).await.good().contains("ann"));

    // on the command line everybody could read it
    let mut open = bare_command();
    open.arg("--data").arg(place.stage.data()).args(["--database", place.database.url(), "migrate"]);
    let refused = run(&mut open, "").await;
    assert_eq!(refused.code, Some(64));
    assert!(refused.stderr.contains(VARIABLE) && !refused.stderr.contains(place.password()), "{}", refused.stderr);
    let mut wrong = bare_command();
    wrong.env(VARIABLE, "mysql://ann:hunter2@db/a").arg("--data").arg(place.stage.data()).arg("check-config");
    let refused = run(&mut wrong, "").await;
    assert_eq!(refused.code, Some(64));
    assert!(refused.stderr.contains(VARIABLE) && !refused.stderr.contains("hunter2"), "{}", refused.stderr);
}

#[tokio::test]
#[ignore = "scripts/test starts PostgreSQL"]
async fn what_pg_dump_copied_is_found_again_by_a_node_with_the_same_key() {
    let place = Place::new().await;
    let config = Jobs::default().shell("hello", "echo hello").save(&place.stage);
    let mut node = place.node().config(config.clone()).ready().await;
    node.administrator().await;
    let token = place.run(&["user", "add", "robot", "--role", "service_admin", "--token"]).await.good();
    let robot = Robot::new(&node.url(), token.trim_end());
    robot.until_live(PATIENCE).await;
    let ran = robot.run("hello").await;
    robot.until_ended(ran).await;

    // while the node runs, as docs/operating.md has it
    let dump = place.stage.data().join("switchboard.dump");
    tool("pg_dump", &["--format=custom", &format!("--file={}", dump.display()), place.database.url()]).await;
    node.term();
    node.end(PATIENCE).await;
    let restored = TestDatabase::new().await;
    let to = format!("--dbname={}", restored.url());
    tool("pg_restore", &["--no-owner", "--exit-on-error", &to, &dump.to_string_lossy()]).await;

    let node = place.stage.node().variable(VARIABLE, restored.url()).config(config).ready().await;
    let robot = Robot::new(&node.url(), token.trim_end());
    robot.until_live(PATIENCE).await;
    assert_eq!(robot.execution(ran).await["outcome"], "normal");
    let again = robot.run("hello").await;
    assert_eq!(robot.until_ended(again).await["outcome"], "normal");
}

/// Runs one of PostgreSQL's own programs.
async fn tool(name: &str, arguments: &[&str]) {
    let folder = crate::postgres::variable("SWITCHBOARD_TEST_POSTGRES_BIN");
    let done = run(Command::new(std::path::Path::new(&folder).join(name)).args(arguments), "").await;
    assert_eq!(done.code, Some(0), "{name}: {}", done.stderr);
}
