//! Every route of the table answers by rights and in one shape; and what scripts do with them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what several tests share")]

use std::time::Duration;

use axum::http::StatusCode;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use switchboard::base::id::{Cursor, Epoch, ExecutionId, NodeId};
use switchboard::config::schema::name::{METRICS_NETWORKS, POLL_INTERVAL};
use switchboard::config::settings::{Fixed, Settings, Source};
use switchboard::live::feed;
use switchboard::live::filter::LineFilter;
use switchboard::messenger::Identity;
use switchboard::messenger::server::Server;
use switchboard::model::execution::{Cause, Outcome};
use switchboard::model::log_entry::{Level, LogEntry, LogGap};
use switchboard::model::user::ServiceRole;
use switchboard::protocol::state::{NodeFacts, NodeState};
use switchboard::protocol::{Kind, LogBatch, Report};

use tokio::sync::mpsc;

use crate::front::{Answered, Front, START, root, secret};

/// The error in an answer, which must have the one shape.
fn refused(answered: &Answered) -> (u16, String) {
    let body = answered.json();
    let error = &body["error"];
    assert_eq!(error["code"], answered.code.as_u16(), "{body}");
    assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
    assert!(error["status"].as_str().is_some_and(|text| text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')));
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    (answered.code.as_u16(), error["message"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn every_route_answers_by_rights() {
    let front = Front::new().await;
    front.declare(&["disk-space"]).await;
    let admin = front.token("admin", ServiceRole::ServiceAdmin).await;
    let viewer = front.token("viewer", ServiceRole::AdminViewer).await;
    let metrics = front.token("metrics", ServiceRole::MetricsViewer).await;
    let unknown = "0".repeat(64);
    let document = front.ask("GET", "/api/openapi.json", &[], "").await;
    assert_eq!(document.code, StatusCode::OK, "open to everybody");
    let mut routes = 0;
    for (template, operations) in document.json()["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            if !template.starts_with("/api/") || template == "/api/openapi.json" {
                continue;
            }
            routes += 1;
            front.token("bob", ServiceRole::AdminViewer).await;
            crate::nodes::three_services(&front.store).await;
            let run = front.control.run(&root(), "disk-space", Cause::Api, None, None).await.unwrap();
            let noun = template.split('/').nth(2).unwrap();
            let name = if noun.starts_with("dispatchers") {
                "disk-space"
            } else if noun.starts_with("settings") {
                POLL_INTERVAL
            } else {
                "bob"
            };
            let operation_id = operation["operationId"].as_str().unwrap();
            let id = match operation_id {
                "nodes:remove" => "service-3".to_owned(),
                _ if noun == "nodes" => "service-2".to_owned(),
                _ => run.execution.id.to_string(),
            };
            let path = template.replace("{id}", &id).replace("{name}", name);
            let body = match operation_id {
                "nodes:setAddress" => json!({"address": "gateway"}),
                "settings:save" => json!({"value": "20s"}),
                "settings:import" => json!({"toml": "Log.RingLines = 500", "dry_run": true}),
                "users:create" => json!({"name": "new", "roles": ["admin_viewer"], "token": true}),
                "users:update" => json!({"roles": ["metrics_viewer"]}),
                _ => json!({}),
            };
            let body = body.to_string();
            let method = method.to_uppercase();
            let what = format!("{method} {path}");

            assert_eq!(refused(&front.ask(&method, &path, &[], body.clone()).await).0, 401, "{what} without a token");
            assert_eq!(refused(&front.call(&method, &path, &unknown, &body).await).0, 401, "{what}, unknown token");
            assert_eq!(refused(&front.call(&method, &path, &metrics, &body).await).0, 403, "{what}, metrics_viewer");
            let looked = front.call(&method, &path, &viewer, &body).await;
            if method == "GET" {
                assert_eq!(looked.code, StatusCode::OK, "{what}, viewer: {}", looked.text);
            } else {
                assert_eq!(refused(&looked).0, 403, "{what}, viewer");
            }
            let done = front.call(&method, &path, &admin, &body).await;
            assert_eq!(done.code, StatusCode::OK, "{what}, admin: {}", done.text);
            assert_eq!(done.headers["content-type"], "application/json; charset=utf-8");
            assert_eq!(done.headers["cache-control"], "no-store");
            fits(&document.json(), operation, &done.json(), &what);
            let _ = front.control.delete_user(&root(), "bob").await;
        }
    }
    assert!(routes >= 24, "{routes} routes were tried");
}

#[tokio::test]
async fn the_guide_lists_every_route() {
    let guide = include_str!("../../docs/http.md");
    let document = switchboard::api::openapi();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            let row = format!("`{} {path}`", method.to_uppercase());
            assert!(guide.contains(&row) || guide.contains(&format!("| `{path}` |")) || path == "/metrics", "{row}");
        }
    }
    // but for the three probes; and one row of the table of parts names them all
    let listed = guide.lines().filter(|line| line.starts_with("| `") && line.contains("/api/")).count();
    assert_eq!(listed, document["paths"].as_object().unwrap().values().map(count).sum::<usize>() - 3 + 1);
}

/// How many methods a path has.
fn count(operations: &Value) -> usize {
    operations.as_object().unwrap().len()
}

/// Whether every field that an answer has is described.
fn fits(document: &Value, operation: &Value, answer: &Value, what: &str) {
    let reference = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].as_str().unwrap();
    let schema = document.pointer(reference.strip_prefix('#').unwrap()).unwrap();
    let described = schema["properties"].as_object().cloned().unwrap_or_default();
    for field in answer.as_object().unwrap_or_else(|| panic!("{what}: {answer}")).keys() {
        assert!(described.contains_key(field), "{what}: {field} is not described in {reference}");
    }
    for field in schema["required"].as_array().into_iter().flatten() {
        assert!(answer.get(field.as_str().unwrap()).is_some(), "{what}: {field} is missing in {answer}");
    }
}

#[tokio::test]
async fn a_token_counts_only_in_its_header_and_a_cookie_never() {
    let front = Front::new().await;
    let token = front.token("admin", ServiceRole::ServiceAdmin).await;
    front.person("ann", ServiceRole::ServiceAdmin, "correct horse").await;
    let cookie = front.sign_in.enter("ann", secret("correct horse"), "127.0.0.1").await.unwrap().cookie;
    for name in ["session", "__Host-session", "switchboard"] {
        let cookie = format!("{name}={}", cookie.expose_secret());
        assert_eq!(refused(&front.ask("GET", "/api/status", &[("cookie", &cookie)], "").await).0, 401);
    }
    let bearer = format!("Bearer {token}");
    assert_eq!(refused(&front.ask("GET", "/api/status", &[("authorization", &bearer)], "").await).0, 401);
    assert_eq!(refused(&front.ask("GET", &format!("/api/status?key={token}"), &[], "").await).0, 401);
    assert_eq!(front.call("GET", "/api/status", &token, "").await.code, StatusCode::OK);
    front.control.delete_user(&root(), "admin").await.unwrap();
    assert_eq!(refused(&front.call("GET", "/api/status", &token, "").await).0, 401, "its user is gone");
}

#[tokio::test]
async fn bad_requests_are_refused_with_words() {
    let front = Front::new().await;
    front.declare(&["disk-space"]).await;
    let token = front.token("admin", ServiceRole::ServiceAdmin).await;
    let large = format!("{{\"value\":\"{}\"}}", "x".repeat(64 << 10));
    for (method, path, body, code, words) in [
        ("GET", "/api", "", 404, "openapi.json"),
        ("GET", "/api/", "", 404, "openapi.json"),
        ("GET", "/api/nothing/at/all", "", 404, "openapi.json"),
        ("GET", "/api/status/", "", 404, "openapi.json"),
        ("POST", "/api/status", "", 404, "can be is GET"),
        ("POST", "/api/dispatchers/disk-space:explode", "", 404, "openapi.json"),
        ("GET", "/api/dispatchers/nothing", "", 404, "no dispatcher"),
        ("POST", "/api/dispatchers/nothing:run", "", 404, "no dispatcher"),
        ("POST", "/api/dispatchers/disk-space:run", "{", 400, "no valid JSON"),
        ("POST", "/api/dispatchers/disk-space:run", "[]x", 400, "no valid JSON"),
        ("POST", "/api/dispatchers/disk-space:run", "{\"after\":\"1\"}", 400, "expected i64"),
        ("POST", "/api/dispatchers/disk-space:run", "{\"afetr\":1}", 400, "afetr"),
        ("POST", "/api/dispatchers/disk-space:pause", "{\"by\":\"me\"}", 400, "by"),
        ("GET", "/api/executions?outcome=fine", "", 400, "normal, warning"),
        ("GET", "/api/executions?limit=0", "", 400, "from 1 to 1000"),
        ("GET", "/api/executions?page=2", "", 400, "allowed: dispatcher"),
        ("GET", "/api/executions/abc", "", 400, "number"),
        ("GET", "/api/executions/99999999999999999999", "", 400, "number"),
        ("GET", "/api/executions/42", "", 404, "no execution 42"),
        ("POST", "/api/executions/42:cancel", "", 404, "no execution 42"),
        ("GET", "/api/logs?since=yesterday", "", 400, "cursor"),
        ("GET", "/api/logs?level=loud", "", 400, "trace, debug"),
        ("GET", "/api/settings/PollInterval", "", 404, "perhaps Service.PollInterval"),
        ("PUT", "/api/settings/Service.PollInterval", "", 400, "is needed"),
        ("PUT", "/api/settings/Service.PollInterval", "{\"value\":20}", 400, "expected a string"),
        ("PUT", "/api/settings/Service.PollInterval", "{\"value\":\"soon\"}", 400, "15m"),
        ("PUT", "/api/settings/Service.PollInterval", &large, 413, "65536"),
        ("POST", "/api/settings/Service.PollInterval:generate", "", 404, "openapi.json"),
        ("POST", "/api/users", "{\"name\":\"x\",\"roles\":[\"king\"]}", 400, "service_admin"),
        ("POST", "/api/users", "{\"name\":\"x y\",\"roles\":[\"admin_viewer\"],\"token\":true}", 400, "name: "),
        ("DELETE", "/api/users/nobody", "", 404, "no user"),
    ] {
        let (found, message) = refused(&front.call(method, path, &token, body).await);
        assert_eq!(found, code, "{method} {path} {message}");
        assert!(message.contains(words), "{method} {path}: {message}");
    }
    let key = [("x-api-key", token.as_str()), ("idempotency-key", "a b")];
    assert_eq!(refused(&front.ask("POST", "/api/dispatchers/disk-space:run", &key, "").await).0, 400);
    assert!(
        front.store.queued_executions().await.unwrap().is_empty() && front.store.settings().await.unwrap().is_empty()
    );
}

#[tokio::test]
async fn a_script_runs_watches_and_cancels() {
    let front = Front::new().await;
    front.declare(&["disk-space", "disabled"]).await;
    let token = front.token("bot", ServiceRole::ServiceAdmin).await;
    let post = async |path: &str, body: &str| front.call("POST", path, &token, body).await;
    let headers = [("x-api-key", token.as_str()), ("idempotency-key", "deploy-7")];
    let run = async || front.ask("POST", "/api/dispatchers/disk-space:run", &headers, "").await.json();

    let (first, again) = (run().await, run().await);
    assert_eq!((&first["new"], &again["new"], &first["told"]), (&json!(true), &json!(false), &json!(false)));
    assert_eq!(first["execution"], again["execution"]);
    assert_eq!(first["execution"]["phase"], "queued");
    assert_eq!((&first["execution"]["cause"], &first["execution"]["requested_by"]), (&json!("api"), &json!("bot")));
    let id = first["execution"]["id"].as_i64().unwrap();
    let after = format!("{{\"after\":{id}}}");
    let second = post("/api/dispatchers/disk-space:run", &after).await.json();
    assert_eq!(second["execution"], post("/api/dispatchers/disk-space:run", &after).await.json()["execution"]);

    let status = front.call("GET", "/api/status", &token, "").await.json();
    assert_eq!((&status["live"], &status["messenger"]["state"] == "live"), (&json!(false), false));
    let row = &status["dispatchers"][1];
    assert_eq!((&row["name"], &row["state"], &row["queued"]), (&json!("disk-space"), &json!("queued"), &json!(2)));
    assert_eq!(status["dispatchers"][0]["reason"], "disabled by enabled = false");

    assert_eq!(post("/api/dispatchers/disk-space:pause", "").await.json()["done"], "paused");
    let shown = front.call("GET", "/api/dispatchers/disk-space", &token, "").await.json();
    assert!(shown["reason"].as_str().unwrap().contains("bot"), "{shown}");
    assert_eq!(post("/api/dispatchers/disk-space:resume", "").await.json()["done"], "resumed");
    assert_eq!(refused(&post("/api/dispatchers/disabled:run", "").await).0, 409);

    assert_eq!(post(&format!("/api/executions/{id}:cancel"), "").await.json()["outcome"], "cancelled");
    assert_eq!(refused(&post(&format!("/api/executions/{id}:cancel"), "").await).0, 409);
    let cancelled = post("/api/dispatchers/disk-space:cancel", "").await.json();
    assert_eq!(cancelled["executions"].as_array().unwrap().len(), 1);
    assert_eq!(front.call("GET", &format!("/api/executions/{id}"), &token, "").await.json()["outcome"], "cancelled");

    let audit = front.call("GET", "/api/audit?who=bot&action=dispatcher:run", &token, "").await.json();
    assert_eq!(audit["entries"].as_array().unwrap().len(), 2);
    assert_eq!(audit["entries"][0]["address"], "127.0.0.1");
}

#[tokio::test]
async fn executions_are_listed_by_pages_and_filters() {
    let front = Front::new().await;
    front.declare(&["disk-space", "backup"]).await;
    let token = front.token("vic", ServiceRole::AdminViewer).await;
    for n in 0..5 {
        let name = if n % 2 == 0 { "disk-space" } else { "backup" };
        front.control.run(&root(), name, Cause::Api, None, None).await.unwrap();
    }
    front.control.cancel(&root(), ExecutionId(1)).await.unwrap();
    let list = async |query: &str| front.call("GET", &format!("/api/executions{query}"), &token, "").await.json();
    let ids = |page: &Value| -> Vec<i64> {
        page["executions"].as_array().unwrap().iter().map(|one| one["id"].as_i64().unwrap()).collect()
    };
    let first = list("?limit=2").await;
    assert_eq!((ids(&first), &first["next"]), (vec![5, 4], &json!(4)));
    let rest = list("?limit=4&before=4").await;
    assert_eq!((ids(&rest), &rest["next"]), (vec![3, 2, 1], &Value::Null));
    assert_eq!(ids(&list("?dispatcher=backup").await), [4, 2]);
    assert_eq!(ids(&list("?phase=queued&dispatcher=disk-space").await), [5, 3]);
    assert_eq!(ids(&list("?outcome=cancelled").await), [1]);
}

#[tokio::test]
async fn settings_follow_the_rules_of_the_page() {
    let mut fixed = Fixed::default();
    fixed.set("Retention.LogAge", "9d", Source::File).unwrap();
    let front = Front::with(fixed).await;
    let token = front.token("bot", ServiceRole::ServiceAdmin).await;
    let path = format!("/api/settings/{POLL_INTERVAL}");
    let put = async |path: &str, body: &str| front.call("PUT", path, &token, body).await;

    let saved = put(&path, r#"{"value":"20","version":0}"#).await.json();
    assert_eq!((&saved["value"], &saved["version"], &saved["source"]), (&json!("20s"), &json!(1), &json!("database")));
    assert_eq!(
        (&saved["changed_by"], &saved["default"], &saved["is_set"]),
        (&json!("bot"), &json!("15s"), &json!(true))
    );
    let (code, message) = refused(&put(&path, r#"{"value":"30","version":0}"#).await);
    assert!(code == 409 && message.contains("bot") && message.contains("version 1"), "{message}");
    let cleared = front.call("DELETE", &format!("{path}?version=1"), &token, "").await.json();
    assert_eq!(
        (&cleared["value"], &cleared["version"], &cleared["source"]),
        (&json!("15s"), &json!(2), &json!("default"))
    );

    let (code, message) = refused(&put("/api/settings/Retention.LogAge", r#"{"value":"8d"}"#).await);
    assert!(code == 400 && message.contains("configuration file"), "{message}");
    let locked = front.call("GET", "/api/settings/retention.logage", &token, "").await.json();
    assert!(locked["locked"].as_str().unwrap().contains("configuration file") && locked["value"] == "9d", "{locked}");

    let generate = "/api/settings/Service.MessengerKey:generate";
    let key = front.call("POST", generate, &token, "").await.json();
    assert_eq!((&key["value"], &key["is_set"], &key["secret"]), (&Value::Null, &json!(true), &json!(true)));
    assert_eq!(refused(&front.call("POST", generate, &token, r#"{"version":9}"#).await).0, 409);
    let stored = front.store.setting("Service.MessengerKey").await.unwrap().unwrap().value;
    let everything = front.call("GET", "/api/settings", &token, "").await;
    assert!(!everything.text.contains(&stored));
    let names: Vec<_> =
        everything.json()["settings"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    assert!(names.contains(&json!("Service.MessengerKey")) && !names.contains(&json!("Service.MessengerKey.Former")));
    let short = put("/api/settings/Service.MessengerKey", r#"{"value":"aHVudGVyMg=="}"#).await;
    assert!(refused(&short).1.contains("exactly 32") && !short.text.contains("aHVudGVyMg"), "{}", short.text);
}

#[tokio::test]
async fn a_user_made_by_a_script_can_use_its_token_until_it_is_gone() {
    let front = Front::new().await;
    front.person("ann", ServiceRole::ServiceAdmin, "correct horse").await;
    let token = front.token("bot", ServiceRole::ServiceAdmin).await;
    let body = r#"{"name":"vic","email":"vic@example.org","roles":["admin_viewer"],"token":true}"#;
    let created = front.call("POST", "/api/users", &token, body).await.json();
    let theirs = created["token"].as_str().unwrap().to_owned();
    assert_eq!(front.call("GET", "/api/users", &theirs, "").await.json()["users"].as_array().unwrap().len(), 3);
    assert_eq!(refused(&front.call("POST", "/api/users", &token, body).await).0, 409);
    let fresh = front.call("POST", "/api/users/vic:refreshToken", &token, "").await.json();
    assert_eq!(refused(&front.call("GET", "/api/users", &theirs, "").await).0, 401);
    let theirs = fresh["token"].as_str().unwrap().to_owned();
    assert_eq!(front.call("GET", "/api/users", &theirs, "").await.code, StatusCode::OK);
    assert_eq!(refused(&front.call("DELETE", "/api/users/ann", &token, "").await).0, 409, "the last administrator");
    assert_eq!(front.call("DELETE", "/api/users/vic", &token, "").await.json(), json!({}));
    assert_eq!(refused(&front.call("GET", "/api/users", &theirs, "").await).0, 401);
    let listed = front.call("GET", "/api/users", &token, "").await.text;
    let audit = front.call("GET", "/api/audit", &token, "").await.text;
    assert!(!listed.contains(&token) && !audit.contains(&token) && !audit.contains(&theirs));
}

#[tokio::test]
async fn kept_lines_are_read_by_cursor() {
    let front = Front::new().await;
    let token = front.token("vic", ServiceRole::AdminViewer).await;
    let (node, epoch) = (NodeId::new("service-1"), Epoch::from_u64(7));
    let line = |seq: u64| {
        let level = if seq.is_multiple_of(2) { Level::Warn } else { Level::Info };
        let source: Box<str> = if seq > 6 { "backup".into() } else { "disk-space".into() };
        let text = format!("<line {seq}>").into_boxed_str();
        (seq, LogEntry { time: front.now(), level, source, execution: Some(ExecutionId(3)), stream: None, text })
    };
    let lines: Vec<_> = (1..=6).chain(9..=10).map(line).collect();
    let gap = LogGap { from: 7, to: 8, by_level: [0, 0, 2, 0, 0] };
    let mut transaction = front.store.begin().await.unwrap();
    transaction.keep_rows(&node, epoch, &lines, &[(front.now(), gap)]).await.unwrap();
    transaction.commit().await.unwrap();

    let logs = async |query: &str| front.call("GET", &format!("/api/logs{query}"), &token, "").await.json();
    let seqs = |page: &Value| -> Vec<u64> {
        page["lines"].as_array().unwrap().iter().map(|one| one["seq"].as_u64().unwrap()).collect()
    };
    let newest = logs("?limit=3").await;
    assert_eq!(seqs(&newest), [9, 10]);
    assert_eq!(
        newest["gap"],
        json!({"epoch": epoch.to_string(), "from": 7, "to": 8, "by_level": [0, 0, 2, 0, 0], "unknown": 0})
    );
    let mut since = Cursor { epoch, seq: 0 }.to_string();
    let mut all = Vec::new();
    loop {
        let page = logs(&format!("?since={since}&limit=3")).await;
        all.extend(seqs(&page));
        since = page["next"].as_str().unwrap().to_owned();
        if page["more"] == false {
            break;
        }
    }
    assert_eq!(all, [1, 2, 3, 4, 5, 6, 9, 10], "no loss, no repeat");
    let first = &logs(&format!("?since={epoch}:0&limit=1")).await["lines"][0];
    assert_eq!(
        (&first["message"], &first["node"], &first["level"]),
        (&json!("<line 1>"), &json!("service-1"), &json!("info"))
    );
    assert_eq!(seqs(&logs(&format!("?since={epoch}:0&level=warn")).await), [2, 4, 6, 10]);
    assert_eq!(seqs(&logs(&format!("?since={epoch}:0&source=backup&source=other")).await), [9, 10]);
    assert_eq!(seqs(&logs("?node=service-2").await), [0; 0]);
}

/// A line of the service node that these tests make up.
fn said(seq: u64) -> LogEntry {
    LogEntry {
        time: START,
        level: if seq == 2 { Level::Debug } else { Level::Info },
        source: if seq.is_multiple_of(2) { "even".into() } else { "odd".into() },
        execution: None,
        stream: None,
        text: format!("line {seq}").into_boxed_str(),
    }
}

/// A service node of which this web node mirrors five lines: it said ten, of which the last nine are kept. Whatever is sent
/// on the channel it says, too.
async fn mirrored(front: &mut Front, kept: std::ops::RangeInclusive<u64>) -> (Epoch, mpsc::Sender<Report>) {
    let epoch = Epoch::from_u64(7);
    keep(front, epoch, kept.filter(|seq| *seq != 2)).await;
    front.hub.resize_log(5, 1 << 20);
    let identity = Identity { node: NodeId::new("service-1") };
    let (_server, mut channels) =
        Server::listen(identity, front.endpoint.clone(), front.keys.clone(), &front.shutdown).await.unwrap();
    feed::start(&front.hub, front.messenger.clone(), front.incoming.take().unwrap(), &front.shutdown);
    front.messenger.reconnect();
    let (mut sender, mut receiver) = channels.recv().await.unwrap().split();
    let kind = Kind::Report as u8;
    front.shutdown.spawn("other end", async move { while let Ok(Some(_)) = receiver.recv().await {} });
    // says again and again that this is the present, as long as the test goes on: whoever asks hears it
    let stopping = front.shutdown.clone();
    let (tell, mut told) = mpsc::channel::<Report>(8);
    front.shutdown.spawn("sender", async move {
        let mut present = epoch;
        while !stopping.is_stopping() {
            let report = tokio::time::timeout(Duration::from_millis(20), told.recv()).await;
            let beat = Report::Beat { epoch: present, number: 0, at: START };
            let report = report.ok().flatten().unwrap_or(beat);
            if let Report::Whole(state) = &report {
                present = state.epoch;
            }
            if sender.send(&[(kind, report.encode())]).await.is_err() {
                return;
            }
        }
    });
    begin(&tell, epoch, 10).await;
    until_read(front, Cursor { epoch, seq: 10 }).await;
    (epoch, tell)
}

/// These lines are in the database.
async fn keep(front: &Front, epoch: Epoch, seqs: impl Iterator<Item = u64>) {
    let rows: Vec<_> = seqs.map(|seq| (seq, said(seq))).collect();
    let mut transaction = front.store.begin().await.unwrap();
    transaction.keep_rows(&NodeId::new("service-1"), epoch, &rows, &[]).await.unwrap();
    transaction.commit().await.unwrap();
}

/// A life of the service node begins, and it says so many lines.
async fn begin(tell: &mpsc::Sender<Report>, epoch: Epoch, lines: u64) {
    let node = NodeId::new("service-1");
    let facts = NodeFacts {
        id: node,
        host: "box".into(),
        version: "0.1.0".into(),
        pid: 1,
        started_at: START,
        stopping: false,
        absences: Vec::new(),
    };
    tell.send(Report::Whole(Box::new(NodeState::new(epoch, facts)))).await.unwrap();
    let batch = LogBatch { epoch, gap: None, first: 1, entries: (1..=lines).map(said).collect() };
    tell.send(Report::Log(batch)).await.unwrap();
}

async fn until_read(front: &Front, at: Cursor) {
    let (mut seen, hub) = (front.hub.lines_seen(), front.hub.clone());
    let is_there = || hub.lines(None, &LineFilter::default(), 1);
    let all = seen.wait_for(|_| Some(at.epoch) == is_there().epoch && is_there().next == at.seq);
    tokio::time::timeout(Duration::from_secs(10), all).await.expect("the lines arrive").unwrap();
}

#[tokio::test]
async fn what_a_former_life_wrote_while_nobody_watched_is_read_before_the_present_one() {
    let mut front = Front::new().await;
    let token = front.token("vic", ServiceRole::AdminViewer).await;
    let (former, tell) = mirrored(&mut front, 1..=10).await;
    // unheard, but kept; then a whole life unheard, and the present one
    keep(&front, former, 11..=13).await;
    keep(&front, Epoch::from_u64(8), [1, 3].into_iter()).await;
    let present = Epoch::from_u64(9);
    keep(&front, present, 1..=1).await;
    begin(&tell, present, 3).await;
    until_read(&front, Cursor { epoch: present, seq: 3 }).await;
    for limit in [1, 2, 1000] {
        let (mut since, mut read, mut gaps) = (format!("{former}:9"), Vec::new(), Vec::new());
        loop {
            let page = front.call("GET", &format!("/api/logs?since={since}&limit={limit}"), &token, "").await.json();
            for line in page["lines"].as_array().unwrap() {
                read.push(format!("{}:{}", line["epoch"].as_str().unwrap().trim_start_matches('0'), line["seq"]));
            }
            if page["gap"] != Value::Null {
                gaps.push(format!("{}-{}", page["gap"]["from"], page["gap"]["to"]));
            }
            since = page["next"].as_str().unwrap().to_owned();
            if page["more"] == false {
                break;
            }
        }
        assert_eq!(read, ["7:10", "7:11", "7:12", "7:13", "8:1", "8:3", "9:1", "9:2", "9:3"], "{limit} a page");
        assert_eq!((gaps, since), (vec!["2-2".to_owned()], format!("{present}:3")), "{limit} a page");
    }
    front.shutdown.stop();
}

#[tokio::test]
async fn a_place_later_than_anything_mirrored_is_not_led_back() {
    let mut front = Front::new().await;
    let token = front.token("vic", ServiceRole::AdminViewer).await;
    mirrored(&mut front, 1..=10).await;
    // another web node heard of this life already
    let later = Epoch::from_u64(9);
    keep(&front, later, 1..=2).await;
    let page = front.call("GET", &format!("/api/logs?since={later}:2"), &token, "").await.json();
    assert_eq!((&page["lines"], &page["next"]), (&json!([]), &json!(format!("{later}:2"))), "nothing comes twice");
    front.shutdown.stop();
}

#[tokio::test]
async fn mirrored_lines_are_read_by_cursor_and_kept_ones_fill_what_is_missing() {
    let mut front = Front::new().await;
    let token = front.token("vic", ServiceRole::AdminViewer).await;
    let (epoch, _tell) = mirrored(&mut front, 1..=10).await;
    let logs = async |query: &str| front.call("GET", &format!("/api/logs{query}"), &token, "").await.json();
    let seqs = |page: &Value| -> Vec<u64> {
        page["lines"].as_array().unwrap().iter().map(|one| one["seq"].as_u64().unwrap()).collect()
    };
    let newest = logs("?limit=3").await;
    assert_eq!((seqs(&newest), &newest["next"]), (vec![8, 9, 10], &json!(format!("{epoch}:10"))));
    assert_eq!(seqs(&logs("").await), [1, 3, 4, 5, 6, 7, 8, 9, 10], "mirrored, and kept before them");
    assert_eq!(seqs(&logs(&format!("?since={epoch}:7")).await), [8, 9, 10]);
    assert_eq!(seqs(&logs(&format!("?since={epoch}:10")).await), [0; 0]);
    let info = logs(&format!("?since={epoch}:0&level=info")).await;
    assert_eq!((seqs(&info), &info["gap"]), (vec![1, 3, 4, 5, 6, 7, 8, 9, 10], &Value::Null));
    let odd = logs(&format!("?since={epoch}:0&level=info&source=odd")).await;
    assert_eq!((seqs(&odd), &odd["gap"]), (vec![1, 3, 5, 7, 9], &Value::Null));
    let all = logs(&format!("?since={epoch}:0")).await;
    assert_eq!(all["gap"]["by_level"], json!([0, 1, 0, 0, 0]), "the debug line is not kept: {all}");

    let (mut since, mut paged) = (format!("{epoch}:0"), Vec::new());
    loop {
        let page = logs(&format!("?since={since}&limit=2&level=info")).await;
        paged.extend(seqs(&page));
        assert_eq!(page["gap"], Value::Null, "{page}");
        since = page["next"].as_str().unwrap().to_owned();
        if page["more"] == false {
            break;
        }
    }
    assert_eq!(paged, [1, 3, 4, 5, 6, 7, 8, 9, 10], "no loss, no repeat");

    let earlier = Cursor { epoch: Epoch::from_u64(1), seq: 5 };
    let page = logs(&format!("?since={earlier}&node=service-1")).await;
    assert_eq!(seqs(&page), [1, 3, 4, 5, 6, 7, 8, 9, 10], "of a life nobody knows: what is kept");
    assert_eq!(seqs(&logs("?node=service-2").await), [0; 0]);
    let status = front.call("GET", "/api/status", &token, "").await.json();
    assert_eq!((&status["live"], &status["messenger"]["state"]), (&json!(true), &json!("live")));
    front.shutdown.stop();
}

#[tokio::test]
async fn what_is_neither_mirrored_nor_kept_is_a_gap() {
    let mut front = Front::new().await;
    let token = front.token("vic", ServiceRole::AdminViewer).await;
    let (epoch, _tell) = mirrored(&mut front, 4..=10).await;
    let page = front.call("GET", &format!("/api/logs?since={epoch}:0&level=info"), &token, "").await.json();
    assert_eq!(page["lines"].as_array().unwrap().len(), 7, "{page}");
    assert_eq!(page["gap"]["by_level"], json!([0, 0, 2, 0, 0]), "{page}");
    front.shutdown.stop();
}

#[tokio::test]
async fn probes_say_no_more_than_they_must() {
    let front = Front::new().await;
    for (path, text) in [("/healthz", "ok\n"), ("/readyz", "ok\n")] {
        let answered = front.ask("GET", path, &[], "").await;
        assert_eq!((answered.code, answered.text.as_str()), (StatusCode::OK, text), "with the messenger away");
    }
    front.shutdown.stop();
    let answered = front.ask("GET", "/readyz", &[], "").await;
    assert_eq!((answered.code, answered.text.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "draining\n"));
    assert_eq!(front.ask("GET", "/healthz", &[], "").await.code, StatusCode::OK);
}

#[tokio::test]
async fn figures_need_a_token_or_a_listed_network_and_count_each_run_once() {
    let front = Front::new().await;
    front.declare(&["disk-space"]).await;
    let (vic, mia) =
        (front.token("vic", ServiceRole::AdminViewer).await, front.token("mia", ServiceRole::MetricsViewer).await);
    assert_eq!(front.ask("GET", "/metrics", &[], "").await.code, StatusCode::UNAUTHORIZED);
    assert_eq!(front.call("GET", "/metrics", &"0".repeat(64), "").await.code, StatusCode::UNAUTHORIZED);
    assert_eq!(front.call("GET", "/metrics", &vic, "").await.code, StatusCode::OK);
    let (settings, _) = Settings::resolve(&Fixed::default(), [(METRICS_NETWORKS, "127.0.0.0/8")]);
    front.settings.send(std::sync::Arc::new(settings)).unwrap();
    assert_eq!(front.ask("GET", "/metrics", &[], "").await.code, StatusCode::OK);

    let figure = async |line: &str| {
        let page = front.call("GET", "/metrics", &mia, "").await.text;
        page.lines().any(|found| found == line)
    };
    let first = front.control.run(&root(), "disk-space", Cause::Api, None, None).await.unwrap().execution.id;
    let second = front.control.run(&root(), "disk-space", Cause::Api, None, None).await.unwrap().execution.id;
    front.control.cancel(&root(), first).await.unwrap();
    front.claim(second).await;
    let runs = |outcome: &str, n: u64| {
        format!("switchboard_dispatcher_runs_total{{dispatcher=\"disk-space\",outcome=\"{outcome}\"}} {n}")
    };
    assert!(
        figure(&runs("cancelled", 1)).await
            && figure("switchboard_dispatcher_running{dispatcher=\"disk-space\"} 1").await
    );
    front.clock.advance(Duration::from_secs(3));
    let mut transaction = front.store.begin().await.unwrap();
    transaction.finish_execution(second, Outcome::Normal, None, front.now()).await.unwrap();
    transaction.commit().await.unwrap();
    for _ in 0..3 {
        assert!(figure(&runs("normal", 1)).await && figure(&runs("cancelled", 1)).await);
    }
    assert!(figure("switchboard_dispatcher_last_duration_seconds{dispatcher=\"disk-space\"} 3").await);
    assert!(figure("switchboard_messenger_up 0").await);
}

#[tokio::test]
async fn a_setting_says_every_source_and_its_history() {
    let mut fixed = Fixed::default();
    fixed.set_at("Service.StopPatience", "5s", Source::File, "/etc/sb.toml, line 3".to_owned()).unwrap();
    fixed.set("Service.StopPatience", "6s", Source::Flag).unwrap();
    let front = Front::with(fixed).await;
    let token = front.token("bot", ServiceRole::ServiceAdmin).await;
    let get = async |path: &str| front.call("GET", path, &token, "").await.json();

    let sources = get("/api/settings/Service.StopPatience").await["sources"].clone();
    assert_eq!(
        sources,
        json!([
            {"source": "flag", "value": "6s", "place": "--set Service.StopPatience=…", "wins": true},
            {"source": "file", "value": "5s", "place": "/etc/sb.toml, line 3", "wins": false},
            {"source": "default", "value": "20s", "place": null, "wins": false},
        ])
    );
    let path = format!("/api/settings/{POLL_INTERVAL}");
    for value in ["20s", "30s"] {
        front.call("PUT", &path, &token, &json!({ "value": value }).to_string()).await;
    }
    front.call("DELETE", &path, &token, "").await;
    let history = get(&format!("{path}/history")).await["changes"].clone();
    let told: Vec<_> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|change| (change["what"].as_str().unwrap(), change["from"].as_str(), change["to"].as_str()))
        .collect();
    assert_eq!(told, [("cleared", Some("30s"), None), ("set", Some("20s"), Some("30s")), ("set", None, Some("20s"))]);
    assert_eq!(history[0]["changed_by"], "bot");
    assert_eq!(get(&format!("{path}/history?limit=1")).await["changes"].as_array().unwrap().len(), 1);

    let key = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=";
    for value in [key, "MUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="] {
        let body = json!({ "value": value }).to_string();
        assert_eq!(front.call("PUT", "/api/settings/Service.MessengerKey", &token, &body).await.code, StatusCode::OK);
    }
    let history = get("/api/settings/Service.MessengerKey/history").await;
    let told: Vec<_> = history["changes"].as_array().unwrap().iter().map(|change| change["what"].clone()).collect();
    assert_eq!(told, ["replaced", "set"]);
    assert!(!history.to_string().contains(&key[1..9]), "a secret's history tells no value");
}

#[tokio::test]
async fn settings_are_exported_and_imported_all_or_none() {
    let front = Front::new().await;
    let token = front.token("bot", ServiceRole::ServiceAdmin).await;
    let import = async |toml: &str, dry_run: bool| {
        let body = json!({ "toml": toml, "dry_run": dry_run }).to_string();
        front.call("POST", "/api/settings:import", &token, &body).await
    };
    let key = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=";
    let first = format!("Service.PollInterval = \"9\"\nService.MessengerKey = \"{key}\"\nWeb.SessionIdle = \"12h\"\n");
    let dry = import(&first, true).await.json();
    assert_eq!((&dry["saved"], dry["changes"].as_array().unwrap().len(), &dry["same"]), (&json!(false), 2, &json!(1)));
    assert!(!dry.to_string().contains(key) && front.store.settings().await.unwrap().is_empty());
    assert_eq!(import(&first, false).await.json()["saved"], true);

    let exported = front.call("GET", "/api/settings:export", &token, "").await.json()["toml"].clone();
    let exported = exported.as_str().unwrap();
    assert!(exported.contains("Service.PollInterval = \"9s\"") && exported.contains("\"(secret)\""), "{exported}");
    let again = import(exported, false).await.json();
    assert_eq!((again["changes"].as_array().unwrap().len(), &again["kept"]), (0, &json!(["Service.MessengerKey"])));
    assert_eq!(front.store.setting("Service.MessengerKey").await.unwrap().unwrap().value, key);

    // everything wrong is told at once, and nothing of it is taken
    let bad = "Service.PollIntervall = \"1s\"\nService.StopPatience = \"7s\"\nLog.RingLines = \"many\"\nWeb.SessionIdle = \"8d\"\n";
    let answered = import(bad, false).await;
    let errors = answered.json()["error"]["errors"].clone();
    let fields: Vec<_> = errors.as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
    assert_eq!((answered.code, fields), (StatusCode::BAD_REQUEST, vec!["line 1", "line 3", "Web.SessionIdle"]));
    assert!(errors[2]["message"].as_str().unwrap().contains("Web.SessionAge (7d)"), "{errors}");
    assert!(front.store.setting("Service.StopPatience").await.unwrap().is_none());
    assert_eq!(import("Service.PollInterval = \"15s\"", false).await.json()["changes"][0]["to"], Value::Null);
    assert!(front.store.setting(POLL_INTERVAL).await.unwrap().is_none(), "the default is no value of its own");
}
