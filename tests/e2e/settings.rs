//! Settings: checked, shown with their source, and in force without a restart.

use reqwest::Method;
use serde_json::{Value, json};

use crate::live::{complete, writing};
use crate::support::browser::Browser;
use crate::support::robot::Robot;
use crate::support::socket::{Follower, Socket};
use crate::support::stage::Stage;
use crate::support::wait::{PATIENCE, eventually, so};

/// Follows the writer's lines on one socket while `change` is made in the middle of them.
async fn through_a_change(stage: &Stage, change: impl AsyncFn(&Robot)) {
    let lines = 3_000;
    let (node, robot, browser) = writing(stage, lines).await;
    let mut follower = Follower::default();
    let mut socket = Socket::open(&node.url(), &browser).await;
    socket.watch_log(None).await;
    while follower.cursor.is_none() {
        follower.take(&socket.next().await.expect("a first frame of the log"), "writer");
    }
    robot.run("writer").await;
    let mut changed = false;
    while (follower.lines.len() as u64) < lines {
        follower.take(&socket.next().await.expect("the socket stays open"), "writer");
        if !changed && follower.lines.len() > 500 {
            changed = true;
            change(&robot).await;
        }
    }
    complete(&follower, lines);
    robot.until_live(PATIENCE).await;
}

/// The fingerprint of the key in use, as the status or the nodes tell it.
async fn fingerprint(robot: &Robot) -> Option<Value> {
    let nodes = robot.get("/api/nodes").await;
    let service = nodes["nodes"].as_array()?.iter().find(|node| node["role"] != "web")?.clone();
    service.get("key_fingerprint").or_else(|| service.get("key")).filter(|found| found.is_string()).cloned()
}

#[tokio::test]
async fn a_new_messenger_key_loses_no_line() {
    let stage = Stage::new().await;
    through_a_change(&stage, async |robot| {
        let before = fingerprint(robot).await.expect("a fingerprint");
        stage.run(&["settings", "generate-key"]).await.good();
        eventually("another fingerprint", async || so(fingerprint(robot).await? != before)).await;
    })
    .await;
}

#[tokio::test]
async fn another_pipe_path_loses_no_line() {
    let stage = Stage::new().await;
    let (old, new) = (stage.pipe(), stage.path("other.sock"));
    through_a_change(&stage, async |robot| {
        robot.set("Service.MessengerEndpoint", &format!("pipe:{}", new.display())).await;
        eventually("a pipe at the new path", async || so(new.exists())).await;
    })
    .await;
    eventually("the end of the old pipe", async || so(!old.exists())).await;
}

#[tokio::test]
async fn a_pipe_path_that_can_not_be_had_is_refused_and_the_old_one_stays_at_work() {
    let stage = Stage::new().await;
    let (_node, robot, _) = writing(&stage, 10).await;
    let taken = stage.path("taken");
    std::fs::create_dir(&taken).unwrap();
    let file = stage.write("file", "precious");
    for (path, words) in
        [(stage.path("no/such/folder.sock"), "make it first"), (taken, "is a folder"), (file, "no pipe")]
    {
        let value = json!({ "value": format!("pipe:{}", path.display()) });
        let (status, answer) = robot.ask(Method::PUT, "/api/settings/Service.MessengerEndpoint", Some(&value)).await;
        assert_eq!(status, 400, "{words} is seen before saving: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(words), "{answer}");
    }
    let run = robot.run("writer").await;
    assert_eq!(robot.until_ended(run).await["outcome"], "normal");
    assert_eq!(robot.link().await.as_deref(), Some("live"));
}

#[tokio::test]
async fn a_bad_value_is_refused_with_what_is_allowed() {
    let stage = Stage::new().await;
    let node = stage.node().setting("Service.HeartbeatInterval", "10s").ready().await;
    let robot = stage.robot(&node.url()).await;
    for (name, value, part) in [
        ("Service.PollInterval", "never", "never"),
        ("Service.PollInterval", "2h", "60s"),
        ("Service.MessengerEndpoint", "http://example.com", "pipe:"),
        ("Service.MessengerKey", "not base64!", "32 bytes"),
        ("Service.MessengerKey", "c2hvcnQ=", "32"),
        ("Log.RingLines", "many", "100"),
    ] {
        let (status, answer) =
            robot.ask(Method::PUT, &format!("/api/settings/{name}"), Some(&json!({ "value": value }))).await;
        assert_eq!(status, 400, "{name} = {value}: {answer}");
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(part) || part == "60s" && message.contains("1m"), "{name} = {value}: {message}");
        let done = stage.run(&["settings", "set", name, value]).await;
        assert_ne!(done.code, Some(0), "the command line refuses it too");
    }
    let locked =
        robot.ask(Method::PUT, "/api/settings/Service.HeartbeatInterval", Some(&json!({ "value": "20s" }))).await;
    assert!(matches!(locked.0, 400 | 409), "a value fixed by the environment can't be changed: {locked:?}");
    let settings = robot.get("/api/settings").await;
    let all = settings["settings"].as_array().expect("settings");
    let of = |name: &str| {
        all.iter().find(|setting| setting["name"] == name).unwrap_or_else(|| panic!("no {name} in {settings}"))
    };
    assert_eq!(of("Service.HeartbeatInterval")["source"], "environment");
    assert_eq!(of("Service.PollInterval")["source"], "default");
    assert_eq!(of("Service.PollInterval")["value"], "15s");
}

#[tokio::test]
async fn a_secret_is_never_told() {
    let stage = Stage::new().await;
    let node = stage.node().ready().await;
    let robot = stage.robot(&node.url()).await;
    let key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    robot.set("Service.MessengerKey", key).await;
    let mut browser: Browser = node.administrator().await;
    for page in ["/settings", "/settings/Service.MessengerKey", "/audit", "/diagnostics", "/nodes"] {
        assert!(!browser.page(page).await.contains(key), "{page} tells the key");
    }
    for path in ["/api/settings", "/api/audit", "/api/nodes"] {
        assert!(!robot.get(path).await.to_string().contains(key), "{path} tells the key");
    }
    let listed = stage.run(&["settings", "list"]).await.good();
    assert!(!listed.contains(key), "the command line tells the key");
    assert!(!stage.run(&["settings", "get", "Service.MessengerKey"]).await.stdout.contains(key));
    assert!(!node.stderr.text().contains(key) && !node.stdout.text().contains(key), "the log tells the key");
    let database = std::fs::read(stage.data().join("switchboard.db")).unwrap();
    let wal = std::fs::read(stage.data().join("switchboard.db-wal")).unwrap_or_default();
    for file in [database, wal] {
        assert!(!file.windows(key.len()).any(|part| part == key.as_bytes()), "the database tells the key");
    }
}

#[tokio::test]
async fn a_flag_wins_and_everything_wrong_with_flags_and_file_is_told_before_the_start() {
    let stage = Stage::new().await;
    stage.node().ready().await;
    let file = stage.write("sb.toml", "[settings]\n\"Web.SessionIdle\" = \"2h\"\n\"Service.PollInterval\" = \"20s\"\n");
    let file = file.to_str().unwrap();
    let asked =
        ["--config", file, "--set", "Service.PollInterval=30s", "settings", "get", "Service.PollInterval", "--json"];
    let setting: Value = serde_json::from_str(&stage.run(&asked).await.good()).unwrap();
    assert_eq!((&setting["source"], &setting["value"]), (&json!("flag"), &json!("30s")));
    let sources = setting["sources"].as_array().unwrap();
    let told: Vec<_> = sources.iter().map(|source| source["source"].as_str().unwrap()).collect();
    assert_eq!(told, ["flag", "file", "default"]);
    assert!(sources[1]["place"].as_str().unwrap().ends_with("sb.toml, line 3"), "{setting}");

    let bad = ["check-config", file, "--set", "Web.SessionAge=1h", "--set", "Service.StopPatience=never", "--set", "x"];
    let bad = stage.run(&bad).await;
    assert_eq!(bad.code, Some(64), "{}", bad.stderr);
    for words in
        ["Web.SessionIdle (2h) has to be at most Web.SessionAge (1h)", "line 2", "Service.StopPatience", "NAME=VALUE"]
    {
        assert!(bad.stderr.contains(words), "{words}: {}", bad.stderr);
    }
    let refused =
        stage.run(&["run", "--set", "Service.MessengerKey=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="]).await;
    assert!(refused.code == Some(64) && refused.stderr.contains("is secret"), "{}", refused.stderr);
}

#[tokio::test]
async fn settings_are_set_told_exported_and_imported_on_the_command_line() {
    let stage = Stage::new().await;
    let _node = stage.node().ready().await;
    stage.run(&["settings", "set", "Service.PollInterval", "9s"]).await.good();
    stage.run(&["settings", "set", "Service.PollInterval", "8s"]).await.good();
    for (value, words) in [("never", "from 1s to 1m"), ("2h", "from 1s to 1m")] {
        let refused = stage.run(&["settings", "set", "Service.PollInterval", value]).await;
        assert_eq!(refused.code, Some(64), "a bad value is bad usage: {}", refused.stderr);
        assert!(refused.stderr.contains(words) || refused.stderr.contains("length of time"), "{}", refused.stderr);
    }
    let history = stage.run(&["settings", "history", "Service.PollInterval"]).await.good();
    let lines: Vec<&str> = history.lines().collect();
    assert!(lines.len() == 2 && lines[0].ends_with("`9s` → `8s`") && lines[1].ends_with("default → `9s`"), "{history}");
    assert!(lines[0].contains("cli:"), "{history}");

    let exported = stage.run(&["settings", "export"]).await.good();
    assert!(
        exported.contains("Service.PollInterval = \"8s\"") && exported.contains("Service.MessengerKey = \"(secret)\"")
    );
    assert!(stage.run(&["settings", "export", "--all"]).await.good().contains("Service.StopPatience = \"20s\""));
    let file = stage.write("in.toml", &(exported.replace("8s", "7s") + "\nService.StopPatience = \"9s\"\n"));
    let file = file.to_str().unwrap();
    let dry = stage.run(&["settings", "import", file, "--dry-run"]).await.good();
    assert!(dry.contains("Service.PollInterval: `8s` → `7s`") && dry.contains("nothing was saved"), "{dry}");
    assert!(dry.contains("Service.MessengerKey: stays as it is"), "{dry}");
    assert_eq!(stage.run(&["settings", "get", "Service.PollInterval"]).await.good().trim(), "8s");
    stage.run(&["settings", "import", file]).await.good();
    assert_eq!(stage.run(&["settings", "get", "Service.StopPatience"]).await.good().trim(), "9s");

    let bad = stage.write(
        "bad.toml",
        "No.Such = 1\nService.PollInterval = \"6s\"\nLog.RingLines = \"many\"\nWeb.SessionIdle = \"30d\"\n",
    );
    let refused = stage.run(&["settings", "import", bad.to_str().unwrap()]).await;
    assert_eq!(refused.code, Some(64), "{}", refused.stderr);
    for words in ["line 1: ", "line 3: ", "Web.SessionIdle: ", "Web.SessionAge (7d)"] {
        assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
    }
    assert_eq!(stage.run(&["settings", "get", "Service.PollInterval"]).await.good().trim(), "7s", "all or none");
}
