//! The command line, beside a node and far from it.

use reqwest::Method;
use serde_json::Value;

use crate::support::node::{Node, bare_command};
use crate::support::robot::Robot;
use crate::support::stage::{Stage, run};
use crate::support::wait::{PATIENCE, eventually, so};
use crate::support::writer::Jobs;

async fn node_with_a_job(stage: &Stage) -> (Node, Robot) {
    let config = Jobs::default().shell("hello", "echo hello from the job").save(stage);
    let node = stage.node().config(config).ready().await;
    let robot = stage.robot(&node.url()).await;
    robot.until_live(PATIENCE).await;
    (node, robot)
}

#[tokio::test]
async fn users_are_made_and_their_token_is_printed_alone() {
    let stage = Stage::new().await;
    // before there is any node: the command makes the data directory
    let token = stage.token("first", "service_admin").await;
    assert!(token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{token}");
    let again = stage.run(&["user", "add", "first", "--role", "service_admin", "--token"]).await;
    assert_eq!(again.code, Some(1), "{}", again.stderr);
    assert!(again.stderr.contains("first") && again.stdout.is_empty(), "{}", again.stderr);
    let node = stage.node().ready().await;
    assert_eq!(Robot::new(&node.url(), &token).ask(Method::GET, "/api/status", None).await.0, 200);
    let listed: Value = serde_json::from_str(&stage.run(&["user", "list", "--json"]).await.good()).expect("JSON");
    assert!(listed.to_string().contains("first") && !listed.to_string().contains(&token), "{listed}");
    stage.run(&["user", "delete", "first"]).await.good();
    eventually("the end of the token", async || {
        so(Robot::new(&node.url(), &token).ask(Method::GET, "/api/status", None).await.0 == 401)
    })
    .await;
}

#[tokio::test]
async fn settings_are_set_and_cleared() {
    let stage = Stage::new().await;
    let node = stage.node().ready().await;
    let robot = stage.robot(&node.url()).await;
    stage.run(&["settings", "set", "Service.PollInterval", "5s"]).await.good();
    assert_eq!(stage.run(&["settings", "get", "Service.PollInterval"]).await.good().trim(), "5s");
    eventually("the node's own view", async || {
        let settings = robot.get("/api/settings").await;
        let found =
            settings["settings"].as_array()?.iter().find(|setting| setting["name"] == "Service.PollInterval")?.clone();
        so(found["value"] == "5s" && found["source"] == "database")
    })
    .await;
    stage.run(&["settings", "clear", "Service.PollInterval"]).await.good();
    assert_eq!(stage.run(&["settings", "get", "Service.PollInterval"]).await.good().trim(), "15s");
    let unknown = stage.run(&["settings", "set", "Service.PolInterval", "5s"]).await;
    assert_ne!(unknown.code, Some(0));
    assert!(unknown.stderr.contains("Service.PolInterval"), "{}", unknown.stderr);
    let listed = stage.run(&["settings", "list", "--json"]).await.good();
    assert!(serde_json::from_str::<Value>(&listed).expect("JSON").to_string().contains("Service.PollInterval"));
    let audit = robot.get("/api/audit").await.to_string();
    assert!(audit.contains("cli:"), "what the command line does is audited: {audit}");
}

#[tokio::test]
async fn work_is_told_and_watched_beside_the_node() {
    let stage = Stage::new().await;
    let (_node, robot) = node_with_a_job(&stage).await;
    let status: Value = serde_json::from_str(&stage.run(&["status", "--json"]).await.good()).expect("JSON");
    assert!(
        status["dispatchers"].as_array().expect("dispatchers").iter().any(|found| found["name"] == "hello"),
        "{status}"
    );
    assert!(stage.run(&["status"]).await.good().contains("hello"));

    stage.run(&["trigger", "hello"]).await.good();
    robot.line_with("hello", "hello from the job").await;
    eventually("an ended run", async || so(robot.executions("hello").await.first()?["outcome"] == "normal")).await;
    eventually("the line on the terminal", async || {
        so(stage.run(&["logs"]).await.good().contains("hello from the job"))
    })
    .await;
    let lines = stage.run(&["logs", "--json", "--source", "hello"]).await.good();
    let first: Value = serde_json::from_str(lines.lines().next().expect("a line")).expect("one object a line");
    assert!(first.to_string().contains("hello"), "{first}");
    stage.run(&["pause", "hello"]).await.good();
    robot.until_state("hello", "paused").await;
    stage.run(&["resume", "hello"]).await.good();
    robot.until_state("hello", "idle").await;
    stage.run(&["cancel", "hello"]).await;
    let unknown = stage.run(&["trigger", "nobody"]).await;
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.stderr.contains("nobody"), "{}", unknown.stderr);
}

#[tokio::test]
async fn work_is_told_from_elsewhere_with_a_token() {
    let stage = Stage::new().await;
    let (node, robot) = node_with_a_job(&stage).await;
    let token = stage.token("remote", "service_admin").await;
    let remote = async |arguments: &[&str]| {
        let mut command = bare_command();
        command.current_dir("/").args(["--url", &node.url()]).args(arguments).env("SWITCHBOARD_TOKEN", &token);
        run(&mut command, "").await
    };
    assert!(remote(&["status"]).await.good().contains("hello"));
    remote(&["trigger", "hello"]).await.good();
    eventually("a run", async || so(!robot.executions("hello").await.is_empty())).await;
    let mut command = bare_command();
    let refused = run(command.args(["--url", &node.url(), "status"]).env("SWITCHBOARD_TOKEN", "wrong"), "").await;
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    let mut command = bare_command();
    let nobody =
        run(command.args(["--url", "http://127.0.0.1:9", "status"]).env("SWITCHBOARD_TOKEN", &token), "").await;
    assert_eq!(nobody.code, Some(1));
    assert!(nobody.stderr.contains("127.0.0.1:9"), "{}", nobody.stderr);
}

#[tokio::test]
async fn status_watch_and_logs_follow_go_on_until_they_are_ended() {
    let stage = Stage::new().await;
    let (_node, robot) = node_with_a_job(&stage).await;
    let ran = robot.run("hello").await;
    robot.until_ended(ran).await;
    let data = stage.data();
    for arguments in [["logs", "--follow"], ["status", "--watch"]] {
        let mut command = bare_command();
        command.arg("--data").arg(&data).args(arguments).stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
        let mut child = command.spawn().unwrap();
        let (output, reader) = crate::support::output::Output::read(child.stdout.take().unwrap());
        output.line_with("hello", PATIENCE).await;
        let before = output.lines().len();
        let ran = robot.run("hello").await;
        robot.until_ended(ran).await;
        eventually("more of it", async || so(output.lines().len() > before)).await;
        assert!(child.try_wait().unwrap().is_none(), "{arguments:?} goes on");
        child.kill().unwrap();
        child.wait().unwrap();
        reader.join().unwrap();
    }
}

#[tokio::test]
async fn a_backup_is_a_database_that_starts() {
    let stage = Stage::new().await;
    let (mut node, robot) = node_with_a_job(&stage).await;
    node.administrator().await;
    let ran = robot.run("hello").await;
    robot.until_ended(ran).await;
    let copy = stage.path("copy.db");
    // while the node works
    stage.run(&["backup", copy.to_str().unwrap()]).await.good();
    let again = stage.run(&["backup", copy.to_str().unwrap()]).await;
    assert_eq!(again.code, Some(1), "an existing file is not overwritten");
    assert!(again.stderr.contains("copy.db"), "{}", again.stderr);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&copy).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    node.term();
    assert_eq!(node.end(PATIENCE).await.code(), Some(0));

    // the way of docs/operating.md: database and key into an empty directory
    let restored = stage.path("restored");
    std::fs::create_dir(&restored).unwrap();
    std::fs::copy(&copy, restored.join("switchboard.db")).unwrap();
    std::fs::copy(stage.data().join("encryption.key"), restored.join("encryption.key")).unwrap();
    let config = stage.path("switchboard.toml");
    let second = crate::support::node::Start::new(&restored).config(config).ready().await;
    let robot = robot.at(&second.url());
    robot.until_live(PATIENCE).await;
    assert_eq!(robot.execution(ran).await["outcome"], "normal");
    assert!(!second.stdout.text().contains("First administrator"), "its administrator is there");
}

#[tokio::test]
async fn documents_are_printed() {
    let stage = Stage::new().await;
    let openapi: Value = serde_json::from_str(&stage.run(&["openapi"]).await.good()).expect("JSON");
    assert!(openapi["paths"].as_object().expect("paths").contains_key("/api/status"), "{openapi}");
    assert!(stage.run(&["config-doc"]).await.good().contains("Service.PollInterval"));
    assert!(stage.run(&["completions", "bash"]).await.good().contains("switchboard"));
    assert!(!stage.data().exists(), "none of it makes a data directory");
}

#[tokio::test]
async fn a_directory_without_a_database_is_refused_and_stays_as_it_is() {
    let stage = Stage::new().await;
    for arguments in [
        &["user", "list"] as &[&str],
        &["user", "delete", "ann"],
        &["settings", "list"],
        &["settings", "get", "Service.PollInterval"],
        &["settings", "set", "Service.PollInterval", "20s"],
        &["settings", "generate-key"],
        &["migrate"],
        &["backup"],
        &["trigger", "hello"],
        &["status"],
        &["logs"],
    ] {
        let done = stage.run(arguments).await;
        assert_eq!(done.code, Some(1), "{arguments:?}: {}", done.stderr);
        let data = stage.data();
        let words = format!("there is no database in {}; ", data.display());
        assert!(done.stderr.contains(&words), "{arguments:?}: {}", done.stderr);
        assert!(!data.exists(), "{arguments:?} made a data directory");
    }
    // a script may make the first administrator before the first start, and is told that it began from nothing
    let add = |name| ["user", "add", name, "--role", "service_admin", "--token"];
    let first = stage.run(&add("ann")).await;
    assert!(first.stderr.contains("made a new database in "), "{}", first.stderr);
    assert_eq!(first.good().lines().count(), 1, "the token stands alone");
    let second = stage.run(&add("bob")).await;
    assert!(!second.stderr.contains("made a new"), "{}", second.stderr);
    stage.run(&["migrate"]).await.good();
}

#[tokio::test]
async fn what_works_on_files_refuses_an_address() {
    let stage = Stage::new().await;
    stage.token("robot", "service_admin").await;
    let copy = stage.path("copy.db");
    for arguments in [&["backup", copy.to_str().unwrap()] as &[&str], &["backup"], &["migrate"]] {
        let done = stage.run(&[&["--url", "http://127.0.0.1:9"], arguments].concat()).await;
        assert_eq!(done.code, Some(64), "{arguments:?}: {}", done.stderr);
        assert!(done.stderr.contains("knows no --url"), "{arguments:?}: {}", done.stderr);
        assert_eq!(done.stdout, "", "{arguments:?}");
    }
    assert!(!copy.exists() && !stage.data().join("backups").exists());
}

#[tokio::test]
async fn a_node_is_not_started_by_a_command_line_that_names_another() {
    let stage = Stage::new().await;
    for arguments in [&["--url", "http://127.0.0.1:9", "run"] as &[&str], &["--url", "http://127.0.0.1:9"]] {
        let done = stage.run(arguments).await;
        assert_eq!(done.code, Some(64), "{arguments:?}: {}", done.stderr);
        assert!(done.stderr.contains("`run` works on this machine and knows no --url"), "{}", done.stderr);
    }
    assert!(!stage.data().exists());
    // what is in the environment is for the commands that jobs give
    let mut node = stage.node().variable("SWITCHBOARD_URL", "http://127.0.0.1:9").ready().await;
    assert!(node.runs());
}

#[tokio::test]
async fn an_address_that_is_none_and_a_token_that_is_empty_are_named() {
    let ask = async |url: &str, token: &str| {
        run(bare_command().args(["--url", url, "status"]).env("SWITCHBOARD_TOKEN", token), "").await
    };
    let done = ask("notaurl", "token").await;
    assert_eq!(done.code, Some(64), "{}", done.stderr);
    assert!(done.stderr.contains("`notaurl`") && done.stderr.contains("allowed: http://"), "{}", done.stderr);
    let done = ask("http://127.0.0.1:9", "").await;
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stderr.contains("SWITCHBOARD_TOKEN, which is not set"), "{}", done.stderr);
}

#[tokio::test]
async fn a_setting_saved_past_a_node_that_has_it_fixed_says_where_it_stays() {
    let stage = Stage::new().await;
    let node = stage.node().setting("Service.PollInterval", "20s").ready().await;
    let robot = stage.robot(&node.url()).await;
    let path = "/api/settings/Service.PollInterval";
    let id = eventually("the node's word on the setting", async || {
        let setting = robot.get(path).await;
        let told = setting["nodes"].as_array()?.iter().find(|told| told["fixed"] == true)?.clone();
        told["node"].as_str().map(str::to_owned)
    })
    .await;
    let words =
        format!("saved; but {id} has it fixed (20s) by its flag, configuration file or environment, where it stays");
    let done = stage.run(&["settings", "set", "Service.PollInterval", "30s"]).await;
    assert!(done.stderr.contains(&words), "{}", done.stderr);
    assert_eq!(done.good(), "Service.PollInterval is saved");
    let free = stage.run(&["settings", "set", "Retention.LogAge", "3d"]).await;
    assert_eq!((free.code, free.stderr.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn where_the_endpoint_names_no_host_commands_find_the_primary() {
    let stage = Stage::new().await;
    let node = stage.node().ready().await;
    let robot = stage.robot(&node.url()).await;
    robot.until_live(PATIENCE).await;
    let port = std::net::TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let everywhere = format!("tcp://*:{port}");
    robot.set("Service.MessengerEndpoint", &everywhere).await;
    eventually("a command with a live link", async || {
        so(stage.run(&["status"]).await.good().starts_with("messenger: live\n"))
    })
    .await;
    for arguments in [&["doctor"] as &[&str], &["doctor", "--endpoint", &everywhere]] {
        let said = stage.run(arguments).await.good();
        let told = format!("tried was tcp://127.0.0.1:{port}, where the primary ");
        assert!(said.contains("the same key") && said.contains(&told), "{said}");
    }
}

#[tokio::test]
async fn the_doctor_tries_an_endpoint_and_a_key_before_they_are_saved() {
    let stage = Stage::new().await;
    let node = stage.node().ready().await;
    let robot = stage.robot(&node.url()).await;
    robot.until_live(PATIENCE).await;
    // the pipe in force
    let said = stage.run(&["doctor"]).await.good();
    assert!(said.contains("handshake  ok") && said.contains("the same key"), "{said}");
    // nobody listens there yet
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let tcp = format!("tcp://127.0.0.1:{port}");
    let early = stage.run(&["doctor", "--json", "--endpoint", &tcp]).await;
    let found: Value = serde_json::from_str(&early.stdout).expect("JSON");
    assert_eq!((early.code, found["finding"].as_str()), (Some(1), Some("refused")), "{found}");
    // saved, the node moves there by itself
    robot.set("Service.MessengerEndpoint", &tcp).await;
    eventually("a node that listens at the port", async || {
        so(stage.run(&["doctor", "--endpoint", &tcp]).await.code == Some(0))
    })
    .await;
    robot.until_live(PATIENCE).await;
    // another key, typed, without a data directory
    let key = format!("{}=\n", "A".repeat(43));
    let wrong = run(bare_command().args(["doctor", "--key-stdin", "--json", "--endpoint", &tcp]), &key).await;
    let found: Value = serde_json::from_str(&wrong.stdout).expect("JSON");
    assert_eq!((wrong.code, found["finding"].as_str()), (Some(1), Some("wrong_key")), "{found}");
    // nobody from this machine may dial
    robot.set("Service.MessengerAllowedNetworks", "10.0.0.0/8").await;
    eventually("a refusal", async || {
        let asked = stage.run(&["doctor", "--json"]).await;
        so(asked.code == Some(1) && asked.stdout.contains("not_allowed"))
    })
    .await;
    let mistyped = stage.run(&["doctor", "--endpoint", "tcp://host"]).await;
    assert!(mistyped.code == Some(1) && mistyped.stderr.contains("needs a port"), "{}", mistyped.stderr);
}
