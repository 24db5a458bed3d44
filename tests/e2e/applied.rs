//! A setting that a node can't have: what works goes on, every page and answer says so, and there is a way back.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use switchboard::base::clock::{Clock as _, SystemClock};
use switchboard::base::shutdown::Shutdown;
use switchboard::config::schema::name::{MESSENGER_ENDPOINT, MESSENGER_KEY, POLL_INTERVAL};
use switchboard::store::{OpenOptions, Store};

use crate::support::browser::{Browser, button};
use crate::support::node::Node;
use crate::support::robot::Robot;
use crate::support::stage::Stage;
use crate::support::wait::{PATIENCE, eventually, so};
use crate::support::writer::Jobs;

/// Saves an endpoint as if it had looked well when it was saved: the door would refuse it now.
async fn save_unseen(data: &Path, value: &str) {
    let shutdown = Shutdown::new();
    let options =
        OpenOptions { data: data.to_owned(), database: None, encryption_key: None, clock: Arc::new(SystemClock) };
    let store = Store::open(options, &shutdown).await.unwrap();
    let mut transaction = store.begin().await.unwrap();
    let now = SystemClock.now();
    transaction.save_setting(MESSENGER_ENDPOINT, Some(value), false, None, "test", now).await.unwrap();
    transaction.commit().await.unwrap();
    store.close().await;
    shutdown.stop();
}

/// What a node that is not as wanted says of its endpoint.
async fn not_in_force(robot: &Robot, path: &str, role: &str) -> Option<Value> {
    let answer = robot.get(path).await;
    let node = answer["nodes"].as_array()?.iter().find(|node| node["role"] == role)?.clone();
    node["settings"].as_array()?.iter().find(|one| one["setting"] == MESSENGER_ENDPOINT).cloned()
}

async fn until_failed(robot: &Robot, role: &str) -> Value {
    eventually("a node that says that it failed", async || {
        not_in_force(robot, "/api/nodes", role).await.filter(|one| one["state"] == "failed")
    })
    .await
}

async fn until_applied(robot: &Robot) {
    eventually("an endpoint that is in force everywhere", async || {
        let setting = robot.get(&format!("/api/settings/{MESSENGER_ENDPOINT}")).await;
        let nodes = setting["nodes"].as_array()?;
        so(!nodes.is_empty() && nodes.iter().all(|node| node["state"] == "applied"))
    })
    .await;
}

async fn all_pages_tell(browser: &mut Browser, what: &str) {
    for page in ["/status", "/settings", &format!("/settings/{MESSENGER_ENDPOINT}"), "/diagnostics"] {
        let text = browser.page(page).await;
        assert!(text.contains(what), "{page} does not say {what}");
        assert!(text.contains("Go back to"), "{page} has no way back");
    }
}

async fn works(robot: &Robot) {
    robot.until_live(PATIENCE).await;
    let run = robot.run("hello").await;
    assert_eq!(robot.until_ended(run).await["outcome"], "normal");
}

#[tokio::test]
async fn an_endpoint_that_can_not_be_had_is_told_everywhere_and_taken_back() {
    let stage = Stage::new().await;
    let config = Jobs::default().shell("hello", "echo hello").save(&stage);
    let node = stage.node().config(config).ready().await;
    let robot = stage.robot(&node.url()).await;
    let mut browser = node.administrator().await;
    robot.until_live(PATIENCE).await;
    until_applied(&robot).await;

    let taken = stage.path("taken");
    std::fs::create_dir(&taken).unwrap();
    let bad = format!("pipe:{}", taken.display());
    save_unseen(&stage.data(), &bad).await;
    let said = until_failed(&robot, "all").await;
    assert_eq!((said["wanted"].as_str(), said["in_force"].as_str()), (Some(bad.as_str()), Some("")));
    assert_eq!((said["revert_to"].as_str(), said["fixed"].as_bool()), (Some(""), Some(false)));
    let error = said["error"].as_str().unwrap();
    assert_eq!(error.matches("taken").count(), 2, "where, and what stands there, each once: {error}");
    let since = said["since"].as_str().unwrap().to_owned();
    assert_eq!(not_in_force(&robot, "/api/status", "all").await.unwrap()["since"], since.as_str());
    works(&robot).await;
    all_pages_tell(&mut browser, "is no socket stands at").await;

    // a start does not mend it, and is not hindered
    let mut node = node;
    node.restart();
    node.until_ready(PATIENCE).await;
    until_failed(&robot, "all").await;
    works(&robot).await;
    all_pages_tell(&mut browser, "is no socket stands at").await;

    let html = browser.page("/diagnostics").await;
    let form = button(&html, "/settings").expect("a form that goes back").with("step", "save");
    let answer = browser.submit(&form).await;
    assert!((300..400).contains(&answer.status), "{answer:?}");
    until_applied(&robot).await;
    assert!(not_in_force(&robot, "/api/nodes", "all").await.is_none());
    assert!(!browser.page("/status").await.contains("Go back to"));
    let audit = robot.get(&format!("/api/audit?subject={MESSENGER_ENDPOINT}")).await;
    assert_eq!(audit["entries"][0]["who"], "root", "{audit}");
    works(&robot).await;
}

#[tokio::test]
async fn what_stood_in_the_way_gone_the_endpoint_is_had_without_help() {
    let stage = Stage::new().await;
    let config = Jobs::default().shell("hello", "echo hello").save(&stage);
    let node = stage.node().config(config).ready().await;
    let robot = stage.robot(&node.url()).await;
    let taken = stage.path("taken");
    std::fs::create_dir(&taken).unwrap();
    save_unseen(&stage.data(), &format!("pipe:{}", taken.display())).await;
    until_failed(&robot, "all").await;
    std::fs::remove_dir(&taken).unwrap();
    until_applied(&robot).await;
    assert!(taken.exists(), "a pipe stands there now");
    works(&robot).await;
}

#[tokio::test]
async fn both_roles_say_it_and_the_web_node_stays_with_its_service_node() {
    let stage = Stage::new().await;
    let config = Jobs::default().shell("hello", "echo hello").save(&stage);
    let mut service = stage.node().role("service").config(config).ready().await;
    let mut web = stage.node().role("web").ready().await;
    let robot = stage.robot(&web.url()).await;
    robot.until_live_with(service.pid(), PATIENCE).await;
    let taken = stage.path("taken");
    std::fs::create_dir(&taken).unwrap();
    let bad = format!("pipe:{}", taken.display());
    save_unseen(&stage.data(), &bad).await;
    until_failed(&robot, "service").await;
    until_failed(&robot, "web").await;
    works(&robot).await;
    // whichever starts anew finds the other
    let again = async |node: &mut Node| {
        node.restart();
        node.until_ready(PATIENCE).await;
    };
    again(&mut service).await;
    robot.until_live_with(service.pid(), PATIENCE).await;
    again(&mut web).await;
    robot.until_live_with(service.pid(), PATIENCE).await;
    works(&robot).await;
    let said = until_failed(&robot, "web").await;
    assert!(said["error"].as_str().unwrap().contains("can't listen there"), "{said}");
    robot.set(MESSENGER_ENDPOINT, "").await;
    until_applied(&robot).await;
    works(&robot).await;
}

#[tokio::test]
async fn every_node_says_when_it_took_a_setting_up() {
    let stage = Stage::new().await;
    let service = stage.node().role("service").setting(POLL_INTERVAL, "9s").ready().await;
    let web = stage.node().role("web").ready().await;
    let robot = stage.robot(&web.url()).await;
    robot.until_live_with(service.pid(), PATIENCE).await;
    robot.set(POLL_INTERVAL, "7s").await;
    let of = async |role: &str, name: &str| {
        let nodes = robot.get("/api/nodes").await;
        let id = nodes["nodes"].as_array()?.iter().find(|node| node["role"] == role)?["id"].clone();
        let setting = robot.get(&format!("/api/settings/{name}")).await;
        setting["nodes"].as_array()?.iter().find(|node| node["node"] == id).cloned()
    };
    eventually("the new interval on the web node", async || {
        let said = of("web", POLL_INTERVAL).await?;
        so(said["state"] == "applied" && said["in_force"] == "7s" && said["fixed"] == false)
    })
    .await;
    let fixed = of("service", POLL_INTERVAL).await.unwrap();
    assert_eq!((fixed["state"].as_str(), fixed["in_force"].as_str()), (Some("applied"), Some("9s")), "{fixed}");
    assert_eq!(fixed["fixed"], true);
    stage.run(&["settings", "generate-key"]).await.good();
    eventually("the new key on both", async || {
        let key = robot.get(&format!("/api/settings/{MESSENGER_KEY}")).await;
        let nodes = key["nodes"].as_array()?;
        so(nodes.len() == 2
            && nodes.iter().all(|node| node["state"] == "applied" && node["in_force"] == nodes[0]["wanted"]))
    })
    .await;
    let mut browser = web.administrator().await;
    let page = browser.page("/settings").await;
    assert!(page.contains("applied"), "the settings page says that it is in force");
}
