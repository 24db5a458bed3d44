//! The first start, the second, and every start that must not be.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use crate::support::browser::{Browser, PASSWORD, form_with_password};
use crate::support::node::{Start, bare_command};
use crate::support::robot::Robot;
use crate::support::stage::{Done, Stage, run};
use crate::support::wait::PATIENCE;
use crate::support::writer::Jobs;

/// How soon a started program must be of use.
const READY: Duration = Duration::from_secs(2);

fn mode(path: &Path) -> u32 {
    let found = std::fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    found.permissions().mode() & 0o777
}

/// Starts a node that must not come up; gives what it said.
async fn refused(stage: &Stage, start: &Start) -> Done {
    let done = run(&mut start.command(), "").await;
    assert!(!done.stdout.contains("listens on"), "it came up: {}", done.stdout);
    assert!(!done.stderr.contains("panicked"), "it panicked: {}", done.stderr);
    assert!(stage.path("").exists());
    done
}

#[tokio::test]
async fn a_fresh_directory_is_ready_within_two_seconds() {
    let stage = Stage::alone().await;
    let mut node = stage.node().spawn();
    let took = node.until_ready(PATIENCE).await;
    assert!(took <= READY, "ready after {took:?}");
    assert_eq!(mode(&stage.data()), 0o700);
    for file in ["switchboard.db", "encryption.key"] {
        assert_eq!(mode(&stage.data().join(file)), 0o600, "{file}");
    }
    assert_eq!(mode(&stage.pipe()), 0o600);
    assert!(node.setup_link().await.starts_with("/setup?link="));
    let mut browser = Browser::new(&node.url());
    assert_eq!(browser.get("/healthz").await.status, 200);
    let answer = browser.get("/status").await;
    assert!(answer.location().is_some_and(|to| to.starts_with("/sign-in")), "{answer:?}");
}

#[tokio::test]
async fn a_second_start_finds_everything() {
    let stage = Stage::new().await;
    let config = Jobs::default().shell("hello", "echo hello").save(&stage);
    let start = stage.node().config(config);
    let mut node = start.ready().await;
    node.administrator().await;
    let robot = stage.robot(&node.url()).await;
    robot.until_live(PATIENCE).await;
    let ran = robot.run("hello").await;
    assert_eq!(robot.until_ended(ran).await["outcome"], "normal");
    robot.act("hello", "pause").await;
    robot.set("Service.PollInterval", "7s").await;
    node.term();
    assert_eq!(node.end(PATIENCE).await.code(), Some(0));

    node.spawn_again();
    let took = node.until_ready(PATIENCE).await;
    assert!(took <= PATIENCE);
    assert!(!node.stdout.text().contains("First administrator"), "{}", node.stdout.text());
    let mut browser = Browser::new(&node.url());
    let answer = browser.sign_in("root", PASSWORD).await;
    assert!((300..400).contains(&answer.status), "{answer:?}");
    assert!(browser.page("/status").await.contains("id=\"d-hello\""));
    robot.until_state("hello", "paused").await;
    assert_eq!(robot.execution(ran).await["outcome"], "normal");
    assert_eq!(stage.run(&["settings", "get", "Service.PollInterval"]).await.good().trim(), "7s");
}

#[tokio::test]
async fn the_setup_link_works_once() {
    let stage = Stage::new().await;
    let mut node = stage.node().ready().await;
    let link = node.setup_link().await;
    let mut first = Browser::new(&node.url());
    let mut second = Browser::new(&node.url());
    // both see the form; only one of them gets through
    let form = form_with_password(&second.page(&link).await, &link);
    first.set_up(&link).await;
    let late = second.submit(&form.with("name", "intruder").password(PASSWORD)).await;
    assert!(late.status >= 400, "{late:?}");
    assert!(late.text.contains("not valid any more"), "{}", late.text);
    let again = second.get(&link).await;
    assert!(again.status >= 400 || again.location().is_some_and(|to| to.starts_with("/sign-in")), "{again:?}");
    let refused = Browser::new(&node.url()).sign_in("intruder", PASSWORD).await;
    assert!(refused.status >= 400, "{refused:?}");

    let mut wrong = Browser::new(&node.url());
    let answer = wrong.get("/setup?link=0000").await;
    assert!(!answer.text.contains("type=\"password\""), "a wrong link shows no form");
    node.restart();
    node.until_ready(PATIENCE).await;
    assert!(!node.stdout.text().contains("First administrator"));
}

#[tokio::test]
async fn a_taken_port_is_told() {
    let stage = Stage::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let done = refused(&stage, &stage.node().listen(&address)).await;
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stderr.contains(&address), "{}", done.stderr);
}

/// A configuration with a problem of every kind, and a word by which each must be named.
const BAD: &str = r#"
colour = "green"

[settings]
"Service.PollInterval" = "never"
"Service.NoSuch" = "1"

[[job]]
name = "has spaces"
command = ["true"]
schedule = "manual"

[[job]]
name = "bad-cron"
command = ["true"]
schedule = "61 * * * *"

[[job]]
name = "no-program"
command = ["/nowhere/no-such-program"]
schedule = "manual"

[[job]]
name = "nothing-to-do"
schedule = "every 5m"

[[job]]
name = "misspelt"
command = ["true"]
schedule = "manual"
timeuot = "1m"
"#;

const BAD_WORDS: &[&str] = &[
    "colour",
    "Service.PollInterval",
    "Service.NoSuch",
    "has spaces",
    "bad-cron",
    "/nowhere/no-such-program",
    "nothing-to-do",
    "timeuot",
];

#[tokio::test]
async fn a_bad_configuration_lists_every_problem_with_its_line() {
    let stage = Stage::new().await;
    let file = stage.write("bad.toml", BAD);
    let check = ["--config", file.to_str().unwrap(), "check-config"];
    for done in [refused(&stage, &stage.node().config(file.clone())).await, stage.run(&check).await] {
        assert_eq!(done.code, Some(64), "{}", done.stderr);
        for word in BAD_WORDS {
            assert!(done.stderr.contains(word), "nothing is said of {word}:\n{}", done.stderr);
        }
        let with_line = done.stderr.lines().filter(|line| line.contains("bad.toml:")).count();
        assert!(with_line >= BAD_WORDS.len(), "not every problem says where it is:\n{}", done.stderr);
    }
    assert!(!stage.data().exists(), "a refused start makes no data directory");
}

#[tokio::test]
async fn check_config_says_yes_and_does_nothing_else() {
    let stage = Stage::new().await;
    let file = Jobs::default().shell("hello", "echo hello").save(&stage);
    let said = stage.run(&["--config", file.to_str().unwrap(), "check-config"]).await.good();
    assert!(said.contains('1'), "it says how many jobs there are: {said}");
    assert!(!stage.data().exists(), "it makes no data directory");
    let in_place = stage.run(&["check-config", file.to_str().unwrap()]).await.good();
    assert_eq!(in_place, said, "a file named without --config is the same");
    let missing = stage.run(&["check-config", "/nowhere/switchboard.toml"]).await;
    assert_eq!(missing.code, Some(64), "{}", missing.stderr);
    let missing = stage.run(&["--config", "/nowhere/switchboard.toml", "check-config"]).await;
    assert_eq!(missing.code, Some(64));
    assert!(missing.stderr.contains("/nowhere/switchboard.toml"), "{}", missing.stderr);
}

#[tokio::test]
async fn a_misspelt_variable_of_a_setting_keeps_the_node_from_starting() {
    let stage = Stage::new().await;
    let start = stage
        .node()
        .variable("SWITCHBOARD_SETTING_SERVICE_POLINTERVAL", "5s")
        .variable("SWITCHBOARD_SETTING_SERVICE_STOPPATIENCE", "long");
    let done = refused(&stage, &start).await;
    assert_eq!(done.code, Some(64), "{}", done.stderr);
    let hint = "SWITCHBOARD_SETTING_SERVICE_POLINTERVAL: there is no such setting; \
                perhaps SWITCHBOARD_SETTING_SERVICE_POLLINTERVAL is meant";
    assert!(done.stderr.contains(hint), "{}", done.stderr);
    assert!(done.stderr.contains("STOPPATIENCE: "), "with the others: {}", done.stderr);
}

#[tokio::test]
async fn a_job_name_that_can_not_be_one_is_refused() {
    let stage = Stage::new().await;
    let long = "x".repeat(1000);
    for name in ["", "has space", "quo\\\"te", "sla/sh", "../up", "Upper", "-first", "ä", "<script>", long.as_str()] {
        let file = stage
            .write("names.toml", &format!("[[job]]\nname = \"{name}\"\ncommand = [\"true\"]\nschedule = \"manual\"\n"));
        let done = stage.run(&["--config", file.to_str().unwrap(), "check-config"]).await;
        assert_eq!(done.code, Some(64), "{name:?} is taken: {}", done.stderr);
        assert!(done.stderr.len() < 4_000, "the answer to a long name is long");
    }
}

#[tokio::test]
async fn a_job_named_like_a_built_in_dispatcher_keeps_the_node_from_starting() {
    let stage = Stage::new().await;
    let file = Jobs::default().shell("hello", "true").shell("clean-up", "true").save(&stage);
    let check = ["--config", file.to_str().unwrap(), "check-config"];
    for done in [refused(&stage, &stage.node().config(file.clone())).await, stage.run(&check).await] {
        assert_eq!(done.code, Some(64), "{}", done.stderr);
        let place = format!("{}:", file.display());
        let problem =
            done.stderr.lines().find(|line| line.contains(&place)).unwrap_or_else(|| panic!("{}", done.stderr));
        assert!(problem.contains("`clean-up`") && problem.contains("allowed: any name but heartbeat"), "{problem}");
    }
}

#[tokio::test]
async fn without_its_encryption_key_a_database_is_not_opened() {
    let stage = Stage::new().await;
    let mut node = stage.node().ready().await;
    node.term();
    assert_eq!(node.end(PATIENCE).await.code(), Some(0));
    let key = stage.data().join("encryption.key");
    let good = std::fs::read(&key).unwrap();

    let foreign = {
        let elsewhere = tempfile::tempdir().unwrap();
        let mut other = Start::new(&elsewhere.path().join("data")).ready().await;
        other.kill9();
        std::fs::read(elsewhere.path().join("data/encryption.key")).unwrap()
    };
    let short = good[..good.len() / 2].to_vec();
    for (what, bytes) in [("missing", None), ("short", Some(short)), ("foreign", Some(foreign))] {
        match &bytes {
            Some(bytes) => std::fs::write(&key, bytes).unwrap(),
            None => std::fs::remove_file(&key).unwrap(),
        }
        let done = refused(&stage, &stage.node()).await;
        assert_eq!(done.code, Some(1), "{what}: {}", done.stderr);
        assert!(done.stderr.contains("encryption"), "{what}: {}", done.stderr);
        assert!(done.stderr.contains(key.to_str().unwrap()), "{what}: which file: {}", done.stderr);
        assert!(done.stderr.contains("into SWITCHBOARD_ENCRYPTION_KEY"), "{what}: what to do: {}", done.stderr);
        assert!(done.stderr.contains("all-"), "{what}: the node it disagrees with: {}", done.stderr);
        assert_eq!(std::fs::read(&key).ok(), bytes, "{what}: the key file is left as it is");
    }
    std::fs::write(&key, good).unwrap();
    let node = stage.node().ready().await;
    let page = node.administrator().await.page("/diagnostics").await;
    assert!(page.contains("refused at its start on "), "the node that had another key is named: {page}");
}

#[tokio::test]
async fn an_unusable_data_directory_is_told() {
    let stage = Stage::new().await;
    let in_the_way = stage.write("data", "a file");
    let done = refused(&stage, &stage.node()).await;
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stderr.contains(in_the_way.to_str().unwrap()), "{}", done.stderr);
    std::fs::remove_file(&in_the_way).unwrap();
    std::fs::create_dir(&in_the_way).unwrap();
    // root writes where it likes, so the read-only directory is one that nobody can write to
    let done = refused(&stage, &Start::new(Path::new("/proc/switchboard"))).await;
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stderr.contains("/proc/switchboard"), "{}", done.stderr);
}

#[tokio::test]
async fn a_command_line_that_means_nothing_exits_with_64() {
    for arguments in [
        &["--no-such-option"][..],
        &["no-such-command"],
        &["run", "--role", "both"],
        &["user", "add", "a b", "--role", "admin_viewer"],
    ] {
        let done = run(bare_command().args(arguments), "").await;
        assert_eq!(done.code, Some(64), "{arguments:?}: {}", done.stderr);
        assert!(!done.stderr.is_empty());
    }
    let version = run(bare_command().arg("--version"), "").await.good();
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
}

#[tokio::test]
async fn a_stale_pipe_file_is_no_obstacle() {
    let stage = Stage::new().await;
    let mut node = stage.node().ready().await;
    node.kill9();
    assert!(stage.pipe().exists(), "kill -9 leaves the pipe file behind");
    node.spawn_again();
    node.until_ready(PATIENCE).await;
    Robot::new(&node.url(), &stage.token("robot", "service_admin").await).until_live(PATIENCE).await;
}

#[tokio::test]
async fn a_running_node_stays_ready_when_a_newer_program_brings_the_schema_up_to_date() {
    use sqlx::{ConnectOptions as _, Connection as _};
    let stage = Stage::new().await;
    let node = stage.node().ready().await;
    let mut browser = node.administrator().await;
    assert!(!browser.page("/diagnostics").await.contains("0.99.0"));
    let file = sqlx::sqlite::SqliteConnectOptions::new().filename(stage.data().join("switchboard.db"));
    let mut raw = file.connect().await.unwrap();
    let newer = "insert into schema_migrations values (99, '0099_later', 0, '0.99.0')";
    sqlx::query(newer).execute(&mut raw).await.unwrap();
    raw.close().await.unwrap();
    assert_eq!(browser.get("/readyz").await.status, 200);
    let page = browser.page("/diagnostics").await;
    assert!(page.contains("Upgrade this web node"), "{page}");
    assert!(page.contains("schema 99, which Switchboard 0.99.0 made"), "{page}");
    // it works on, and is not started again
    let pressed = browser.press("/status", "/dispatchers/heartbeat/run").await;
    assert!((300..400).contains(&pressed.status), "{pressed:?}");
    let done = refused(&stage, &stage.node().role("web")).await;
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("schema version 99, made by switchboard 0.99.0"), "{}", done.stderr);
}
