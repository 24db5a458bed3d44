//! What administrators do about nodes: hand over, correct an address, remove; through the door, `/api` and the page.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use secrecy::ExposeSecret as _;
use serde_json::json;
use switchboard::app::applied;
use switchboard::app::nodes::Presence;
use switchboard::base::clock::{Clock as _, SharedClock, Timestamp};
use switchboard::base::id::NodeId;
use switchboard::config::schema::name::{HEARTBEAT_INTERVAL, MESSENGER_ENDPOINT, POLL_INTERVAL, STALE_TIME};
use switchboard::config::settings::{Fixed, Settings};
use switchboard::control::{Actor, Refusal};
use switchboard::messenger::secure::keys::Key;
use switchboard::model::node::{Node, NodeLink, Role};
use switchboard::model::setting::NodeSetting;
use switchboard::model::user::ServiceRole;
use switchboard::store::Store;
use switchboard::store::audit::AuditFilter;
use tokio::sync::watch;

use crate::front::{Front, HOME, START, viewer};
use crate::pages::site::{HOST, Site};
use crate::support::same_keys;

const TERM: Duration = Duration::from_secs(15);

fn ann() -> Actor {
    Actor { who: "ann".to_owned(), address: HOME.to_owned(), roles: vec![ServiceRole::ServiceAdmin] }
}

pub(crate) fn node(id: &str, role: Role, heartbeat_at: Timestamp) -> Node {
    Node {
        id: NodeId::new(id),
        role,
        host: "box".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: 7,
        started_at: heartbeat_at,
        heartbeat_at,
        stopped_at: None,
        key_fingerprint: Some("7f3a91c07f3a91c0".to_owned()),
        address: role.has_service().then(|| "10.0.0.7".to_owned()),
        address_override: None,
        id_file: None,
    }
}

pub(crate) async fn register(store: &Store, nodes: &[Node]) {
    let mut transaction = store.begin().await.unwrap();
    for node in nodes {
        transaction.register_node(node).await.unwrap();
    }
    transaction.commit().await.unwrap();
}

pub(crate) async fn make_primary(store: &Store, id: &str) {
    let mut transaction = store.begin().await.unwrap();
    transaction.take_lead(&NodeId::new(id), TERM, true).await.unwrap().unwrap();
    transaction.commit().await.unwrap();
}

/// The first is primary, the second stands by, the third is stopped.
pub(crate) async fn three_services(store: &Store) {
    let [first, second, third] = ["service-1", "service-2", "service-3"].map(|id| node(id, Role::Service, START));
    register(store, &[first, second, Node { stopped_at: Some(START), ..third }]).await;
    make_primary(store, "service-1").await;
}

fn words<T: std::fmt::Debug>(refused: Result<T, Refusal>) -> String {
    match refused {
        Err(Refusal::Conflict(words) | Refusal::NotFound(words)) => words,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_hand_over_is_asked_for_only_where_somebody_can_take_over() {
    let front = Front::new().await;
    let hand_over = async |to: Option<&str>| front.control.hand_over(&ann(), to).await;
    assert!(words(hand_over(None).await).contains("nobody is primary"));
    let gone = Node { stopped_at: Some(START), ..node("service-3", Role::Service, START) };
    register(&front.store, &[node("service-1", Role::Service, START), node("web-1", Role::Web, START), gone]).await;
    make_primary(&front.store, "service-1").await;
    assert!(words(hand_over(None).await).contains("no other service node lives"));
    assert!(words(hand_over(Some("service-1")).await).contains("primary already"));
    assert!(words(hand_over(Some("service-3")).await).contains("does not live"));
    assert!(words(hand_over(Some("web-1")).await).contains("only a service node"));
    assert!(words(hand_over(Some("service-9")).await).contains("service-1, service-3, web-1"));
    assert!(front.audited("primary:handOver").await.is_empty());

    register(&front.store, &[node("service-2", Role::Service, START)]).await;
    assert!(matches!(front.control.hand_over(&viewer(), None).await, Err(Refusal::Forbidden)));
    let mut changes = front.store.changes();
    changes.borrow_and_update();
    hand_over(Some("service-2")).await.unwrap();
    assert!(changes.has_changed().unwrap(), "the primary hears of it");
    let asked = front.store.leadership().await.unwrap().asked;
    assert_eq!(asked, Some(("ann".to_owned(), Some(NodeId::new("service-2")))));
    assert_eq!(front.audited("primary:handOver").await, ["service-1 is asked to hand over to service-2"]);
}

#[tokio::test]
async fn an_address_is_checked_kept_and_audited() {
    let front = Front::new().await;
    register(&front.store, &[node("service-1", Role::Service, START), node("web-1", Role::Web, START)]).await;
    let set = async |id: &str, address: &str| front.control.set_address(&ann(), id, Some(address)).await;
    for (id, wrong) in [("service-1", "*"), ("service-1", "tcp://x:1"), ("web-1", "10.0.0.9")] {
        match set(id, wrong).await {
            Err(Refusal::Invalid(faults)) => assert_eq!(faults[0].0, "address", "{wrong}"),
            other => panic!("{wrong}: {other:?}"),
        }
    }
    assert_eq!(set("service-1", " Gateway:5000 ").await.unwrap().as_deref(), Some("gateway:5000"));
    set("service-1", "gateway:5000").await.unwrap();
    set("service-1", "").await.unwrap();
    assert_eq!(front.store.nodes().await.unwrap()[0].address_override, None);
    let audited = ["from what it says itself to gateway:5000", "from gateway:5000 to what it says itself"];
    assert_eq!(front.audited("node:address").await, audited, "what changes nothing is no change");
}

#[tokio::test]
async fn a_node_that_lives_or_is_primary_is_not_removed_and_what_it_said_goes_with_it() {
    let front = Front::new().await;
    register(&front.store, &[node("service-1", Role::All, START)]).await;
    let link = NodeLink {
        state: "down".to_owned(),
        peer: None,
        endpoint: "tcp://10.0.0.7:33237".to_owned(),
        since: START,
        error: Some("refused".to_owned()),
        latency: Some(Duration::from_micros(1_234)),
    };
    let mut transaction = front.store.begin().await.unwrap();
    transaction.tell_node_link(&NodeId::new("service-1"), &link).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(front.store.node_links().await.unwrap(), [(NodeId::new("service-1"), link)]);
    let remove = async || front.control.remove_node(&ann(), "service-1").await;
    assert!(words(remove().await).contains("stop it first"));
    front.clock.advance(Duration::from_secs(15));
    make_primary(&front.store, "service-1").await;
    assert!(words(remove().await).contains("is the primary"));
    front.clock.advance(TERM);
    let mut transaction = front.store.begin().await.unwrap();
    transaction.release_lead(&NodeId::new("service-1"), 1, false).await.unwrap();
    transaction.commit().await.unwrap();
    remove().await.unwrap();
    assert!(words(remove().await).contains("no node"));
    assert_eq!((front.store.nodes().await.unwrap(), front.store.node_links().await.unwrap()), (vec![], vec![]));
    assert!(front.audited("node:remove").await[0].starts_with("all on box, last seen "));
}

#[tokio::test]
async fn scripts_see_and_do_the_same() {
    let front = Front::new().await;
    let nodes = ["service-1", "service-2"].map(|id| node(id, Role::Service, START));
    register(&front.store, &nodes).await;
    let [fingerprint, version] = ["91c0", "0.0.9"].map(str::to_owned);
    let other = Node { key_fingerprint: Some(fingerprint), version, ..node("web-1", Role::Web, START) };
    register(&front.store, &[other]).await;
    make_primary(&front.store, "service-1").await;
    let token = front.token("admin", ServiceRole::ServiceAdmin).await;
    let headers = [("x-api-key", token.as_str()), ("content-type", "application/json")];
    let listed = front.ask("GET", "/api/nodes", &headers, "").await.json();
    assert_eq!(listed["encryption_key_id"], front.store.encryption_key_id());
    assert_eq!((&listed["primary"]["node"], &listed["primary"]["term"]), (&json!("service-1"), &json!(1)));
    let of = |id: &str| listed["nodes"].as_array().unwrap().iter().find(|node| node["id"] == id).unwrap().clone();
    assert_eq!((&of("service-1")["primary"], &of("service-1")["key_in_sync"]), (&json!(true), &json!(true)));
    assert_eq!((&of("web-1")["primary"], &of("web-1")["key_in_sync"]), (&json!(false), &json!(false)));
    assert_eq!((&of("service-2")["version_in_sync"], &of("web-1")["version_in_sync"]), (&json!(true), &json!(false)));

    let address = "/api/nodes/service-2/address";
    let put = front.ask("PUT", address, &headers, r#"{"address":"gateway:81"}"#).await;
    assert_eq!((put.code, &put.json()["address_override"]), (StatusCode::OK, &json!("gateway:81")));
    let bad = front.ask("PUT", address, &headers, r#"{"address":"*"}"#).await;
    assert!(bad.code == StatusCode::BAD_REQUEST && bad.text.contains("[fd00::5]:33237"), "{bad:?}");
    let cleared = front.ask("DELETE", address, &headers, "").await.json();
    assert_eq!((&cleared["address_override"], &cleared["address"]), (&json!(null), &json!("10.0.0.7")));

    let living = front.ask("POST", "/api/nodes/service-2:remove", &headers, "").await;
    assert_eq!(living.code, StatusCode::CONFLICT, "{living:?}");
    let asked = front.ask("POST", "/api/primary:handOver", &headers, r#"{"to":"service-2"}"#).await;
    assert_eq!(asked.json(), json!({ "from": "service-1", "to": "service-2" }));
    let again = front.ask("GET", "/api/nodes", &headers, "").await.json();
    assert_eq!(again["primary"]["handing_over"], true);
}

#[tokio::test]
async fn the_page_names_what_is_wrong_and_says_beside_the_field_what_is_allowed() {
    let site = Site::new().await;
    let admin = site.admin().await;
    let now = site.web.clock.now();
    let page = async || site.get("/nodes", Some(&admin)).await.body;
    assert!(page().await.contains("nobody: no dispatcher runs"));
    let other = Node { key_fingerprint: Some("91c091c091c091c0".to_owned()), ..node("web-2", Role::Web, now) };
    let gone = Node { stopped_at: Some(now), ..node("service-9", Role::Service, now) };
    register(&site.store, &[node("service-2", Role::Service, now), other, gone]).await;
    make_primary(&site.store, "service-1").await;
    let shown = page().await;
    assert!(shown.contains("web-2 uses another messenger key (91c091c091c091c0)"), "{shown}");
    assert!(shown.contains("term 1") && shown.contains("<dd>service-2</dd>"), "{shown}");
    for (action, wanted) in [
        ("/nodes/service-1/hand-over", true),
        ("/nodes/service-2/take-over", true),
        ("/nodes/service-9/remove", true),
        ("/nodes/service-1/remove", false),
        ("/nodes/service-9/take-over", false),
        ("/nodes/web-2/address", false),
    ] {
        assert_eq!(shown.contains(&format!("action=\"{action}\"")), wanted, "{action}");
    }
    let bad = site.post("/nodes/service-2/address", Some(&admin), &[("address", "<b>:x")]).await;
    assert_eq!(bad.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(bad.body.contains("value=\"&#60;b&#62;:x\"") || bad.body.contains("value=\"&lt;b&gt;:x\""), "{}", bad.body);
    assert!(bad.body.contains("is no address; allowed: a host name"), "{}", bad.body);
    let saved = site.post("/nodes/service-2/address", Some(&admin), &[("address", "gateway")]).await;
    assert_eq!(saved.location(), "/nodes?done=address");
    assert!(page().await.contains("<code>gateway</code>"));
    let asked = site.post("/nodes/service-2/take-over", Some(&admin), &[]).await;
    assert_eq!(asked.location(), "/nodes?done=handing-over");
    assert!(page().await.contains("ann wants service-2"));
    let removed = site.post("/nodes/service-9/remove", Some(&admin), &[]).await;
    assert_eq!(removed.location(), "/nodes?done=node-removed");
    assert!(!page().await.contains("service-9"));
    let alive = site.post("/nodes/service-2/remove", Some(&admin), &[]).await;
    assert!(alive.status == StatusCode::CONFLICT && alive.body.contains("stop it first"), "{}", alive.body);
}

#[tokio::test]
async fn whoever_runs_another_version_than_the_primary_is_named_and_who_is_gone_is_not() {
    let site = Site::new().await;
    let admin = site.admin().await;
    let now = site.web.clock.now();
    let newer = |id: &str, role: Role| Node { version: "9.0.0".to_owned(), ..node(id, role, now) };
    let gone = Node { stopped_at: Some(now), ..node("web-3", Role::Web, now) };
    register(&site.store, &[newer("service-2", Role::Service), newer("web-2", Role::Web), gone]).await;
    make_primary(&site.store, "service-2").await;
    let page = async |path: &str| site.get(path, Some(&admin)).await.body;
    let shown = page("/nodes").await;
    assert!(shown.contains(&format!("id {} on every living node", site.store.encryption_key_id())), "{shown}");
    assert_eq!(shown.matches("another version").count(), 1, "{shown}");
    let shown = page("/diagnostics").await;
    let named = "another version than 9.0.0, which is in force here: service-1 (0.0.9)";
    assert!(shown.contains(named) && shown.contains("Bring all nodes to one version"), "{shown}");
    register(&site.store, &[newer("service-1", Role::Service)]).await;
    let shown = page("/diagnostics").await;
    assert!(shown.contains("all living nodes run 9.0.0"), "{shown}");
}

#[tokio::test]
async fn every_page_warns_while_nobody_is_primary_and_no_more_once_somebody_is() {
    let site = Site::new().await;
    let admin = site.admin().await;
    let warned =
        async |path: &str| site.get(path, Some(&admin)).await.body.contains("No service node has been primary");
    for path in ["/status", "/nodes", "/about", "/executions", "/alerts", "/alerts?live=1"] {
        assert!(warned(path).await, "{path}");
    }
    make_primary(&site.store, "service-1").await;
    for path in ["/status", "/nodes", "/alerts"] {
        assert!(!warned(path).await, "{path}");
    }
}

#[tokio::test]
async fn the_doctor_tries_what_is_typed_and_never_shows_the_key() {
    let site = Site::start(false, Fixed::default()).await;
    let admin = site.admin().await;
    let key = Key::generate().to_base64();
    let key = key.expose_secret();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("tcp://127.0.0.1:{port}");
    let tried = site.post("/diagnostics/doctor", Some(&admin), &[("endpoint", &endpoint), ("key", key)]).await;
    assert_eq!(tried.status, StatusCode::OK, "{}", tried.body);
    for words in ["A node would have no link.", "Connect", "failed after", "Start the service node there", &endpoint] {
        assert!(tried.body.contains(words), "{words}: {}", tried.body);
    }
    assert!(!tried.body.contains(key));
    let entries = site.store.audit(&AuditFilter { limit: 99, ..AuditFilter::default() }).await.unwrap();
    let entry = entries.iter().find(|entry| entry.action == "messenger:try").unwrap();
    assert_eq!((entry.who.as_str(), entry.subject.as_str()), ("ann", endpoint.as_str()));
    assert!(!entries.iter().any(|entry| entry.result.contains(key)));

    let bad = site.post("/diagnostics/doctor", Some(&admin), &[("endpoint", "nowhere"), ("key", "")]).await;
    assert_eq!(bad.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(bad.body.contains("doctor-endpoint-fault") && bad.body.contains("value=\"nowhere\""), "{}", bad.body);
    let bad = site.post("/diagnostics/doctor", Some(&admin), &[("endpoint", &endpoint), ("key", "short key")]).await;
    assert!(bad.body.contains("doctor-key-fault") && !bad.body.contains("short key"), "{}", bad.body);
    // without either it tries what is in force: the pipe of this directory, where nobody listens
    let own = site.post("/diagnostics/doctor", Some(&admin), &[]).await;
    assert!(own.body.contains("Start the service node of this data directory"), "{}", own.body);
    // what names no host leads to the primary, as a web node's link does
    let everywhere = format!("tcp://*:{port}");
    let fields = [("endpoint", everywhere.as_str()), ("key", "")];
    let here = site.post("/diagnostics/doctor", Some(&admin), &fields).await;
    assert!(here.body.contains("no service node is primary") && here.body.contains(&endpoint), "{}", here.body);
    three_services(&site.store).await;
    let mut tx = site.store.begin().await.unwrap();
    tx.override_address(&NodeId::new("service-1"), Some("127.0.0.9")).await.unwrap();
    tx.commit().await.unwrap();
    let there = site.post("/diagnostics/doctor", Some(&admin), &fields).await;
    let words = format!("tried was tcp://127.0.0.9:{port}, where the primary service-1 is to be reached");
    assert!(there.body.contains(&words), "{}", there.body);
}

#[tokio::test]
async fn the_doctor_is_refused_to_who_may_not_act_and_to_foreign_pages_and_dials_nothing() {
    let site = Site::start(false, Fixed::default()).await;
    let admin = site.admin().await;
    let viewer = site.user(&admin, "eve", "admin_viewer").await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    let fields = [("endpoint", endpoint.as_str()), ("key", "")];
    let own = ("origin", &*format!("http://{HOST}"));
    let json = ("accept", "application/json");
    for (who, headers, status) in [
        (Some(&viewer), vec![own], StatusCode::FORBIDDEN),
        (Some(&viewer), vec![own, json], StatusCode::FORBIDDEN),
        (None, vec![own, json], StatusCode::UNAUTHORIZED),
        (Some(&admin), vec![("origin", "https://evil.example")], StatusCode::FORBIDDEN),
        (Some(&admin), vec![("origin", "https://evil.example"), json], StatusCode::FORBIDDEN),
        (Some(&admin), vec![], StatusCode::FORBIDDEN),
        (Some(&admin), vec![json], StatusCode::FORBIDDEN),
    ] {
        let answer = site.post_as("/diagnostics/doctor", who.map(String::as_str), &fields, &headers).await;
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.body);
        assert_eq!(answer.body.starts_with("{\"ok\":false"), headers.contains(&json), "{headers:?}: {}", answer.body);
    }
    let dialled = listener.accept().map_err(|error| error.kind());
    assert_eq!(dialled.err(), Some(std::io::ErrorKind::WouldBlock), "nobody dialled");
    let entries = site.store.audit(&AuditFilter { limit: 99, ..AuditFilter::default() }).await.unwrap();
    assert!(!entries.iter().any(|entry| entry.action == "messenger:try"));
    // nothing but who asks, and from where, was wrong with it
    let token = site.get("/diagnostics", Some(&admin)).await.body;
    let token = token.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let with_token = [fields[0], fields[1], ("token", token.as_str())];
    let tried = site.post_as("/diagnostics/doctor", Some(&admin), &with_token, &[]).await;
    assert_eq!(tried.status, StatusCode::OK);
    listener.accept().expect("it was dialled");
}

#[tokio::test]
async fn diagnostics_name_other_web_nodes_without_a_live_link() {
    let site = Site::new().await;
    let admin = site.admin().await;
    let now = site.web.clock.now();
    let page = async || site.get("/diagnostics", Some(&admin)).await.body;
    assert!(page().await.contains("no web node has said how its link is"));
    let gone = Node { stopped_at: Some(now), ..node("web-3", Role::Web, now) };
    register(&site.store, &[node("web-1", Role::Web, now), node("web-2", Role::Web, now), gone]).await;
    let say = async |id: &str, state: &str, error: Option<&str>| {
        let link = NodeLink {
            state: state.to_owned(),
            peer: None,
            endpoint: "tcp://10.0.0.7:33237".to_owned(),
            since: now,
            error: error.map(str::to_owned),
            latency: None,
        };
        let mut transaction = site.store.begin().await.unwrap();
        transaction.tell_node_link(&NodeId::new(id), &link).await.unwrap();
        transaction.commit().await.unwrap();
    };
    say("web-1", "live", None).await;
    say("web-2", "down", Some("nobody listens at <10.0.0.7>")).await;
    say("web-3", "down", Some("gone for good")).await;
    let shown = page().await;
    assert!(shown.contains("no live link: web-2 (nobody listens at "), "{shown}");
    assert!(shown.contains("with switchboard doctor"), "{shown}");
    assert!(!shown.contains("<10.0.0.7>") && !shown.contains("gone for good"), "{shown}");
    say("web-2", "down", Some("key mismatch: web-2 has 7f3a, service-1 has 91c0")).await;
    let shown = page().await;
    assert!(shown.contains("Both ends have to use one key") && !shown.contains("with switchboard doctor"), "{shown}");
    say("web-2", "live", None).await;
    assert!(page().await.contains("web-1, web-2 have live links"));
}

#[tokio::test]
async fn diagnostics_say_that_an_older_database_was_put_in_the_place_of_this_one() {
    let site = Site::new().await;
    let admin = site.admin().await;
    site.change("delete from schema_migrations where version > 2").await;
    let answer = site.get("/diagnostics", Some(&admin)).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.body.contains("the database now has schema version 2"), "{}", answer.body);
    assert!(answer.body.contains("Put a database back that this version knows"), "{}", answer.body);
}

#[tokio::test]
async fn diagnostics_tell_of_the_primary_and_of_who_stands_by() {
    let site = Site::new().await;
    let admin = site.admin().await;
    let page = async || site.get("/diagnostics", Some(&admin)).await.body;
    assert!(page().await.contains("nobody: no dispatcher runs"));
    make_primary(&site.store, "service-1").await;
    assert!(page().await.contains("one service node has ever been registered"));
    let now = site.web.clock.now();
    register(&site.store, &[Node { stopped_at: Some(now), ..node("service-2", Role::Service, now) }]).await;
    assert!(page().await.contains("nothing takes over if the primary is gone"));
    register(&site.store, &[node("service-2", Role::Service, now)]).await;
    let shown = page().await;
    assert!(!shown.contains("nothing takes over") && shown.contains("this machine and the database agree"), "{shown}");
}

#[tokio::test]
async fn what_one_standby_can_not_have_is_no_click_that_takes_it_from_all() {
    let site = Site::new().await;
    let admin = site.admin().await;
    let now = site.web.clock.now();
    let (wanted, former) = ("tcp://*:33237", "tcp://*:33238");
    let mut transaction = site.store.begin().await.unwrap();
    transaction.save_setting(MESSENGER_ENDPOINT, Some(wanted), false, None, "ann", now).await.unwrap();
    transaction.commit().await.unwrap();
    let ids = [("service-1", Role::Service), ("service-2", Role::Service), ("web-1", Role::Web)];
    register(&site.store, &ids.map(|(id, role)| node(id, role, now))).await;
    let say = async |values: [&str; 3]| {
        let mut transaction = site.store.begin().await.unwrap();
        for ((id, _), value) in ids.iter().zip(values) {
            let told = NodeSetting {
                setting: MESSENGER_ENDPOINT.to_owned(),
                wanted: wanted.to_owned(),
                in_force: value.to_owned(),
                fixed: false,
                since: now,
                error: (value != wanted).then(|| "the port is taken".to_owned()),
            };
            transaction.tell_node_setting(&NodeId::new(*id), &told).await.unwrap();
        }
        transaction.commit().await.unwrap();
    };
    let own_page = format!("/settings/{MESSENGER_ENDPOINT}");
    let pages = ["/status", "/diagnostics", "/settings", own_page.as_str()];
    // the standby fell back to its pipe, or stays where it was: the others are where they are to be
    for fallback in ["", former] {
        say([wanted, fallback, wanted]).await;
        for path in pages {
            let page = site.get(path, Some(&admin)).await.body;
            assert!(page.contains("the port is taken") && page.contains("a value of its own"), "{path}: {page}");
            assert!(!page.contains("Go back to"), "{path}: {page}");
        }
    }
    say([former; 3]).await;
    for path in pages {
        let page = site.get(path, Some(&admin)).await.body;
        assert!(
            page.contains(&format!("Go back to {former}")) && !page.contains("a value of its own"),
            "{path}: {page}"
        );
    }
}

/// Waits until the database says so.
async fn in_time<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), looking).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

#[tokio::test]
async fn a_node_that_was_removed_and_is_back_says_again_what_is_in_force_there() {
    let front = Front::new().await;
    let own = node("web-1", Role::Web, front.clock.now());
    register(&front.store, std::slice::from_ref(&own)).await;
    let clock: SharedClock = front.clock.clone();
    let (_messenger, told) = watch::channel(Vec::new());
    let settings = front.settings.subscribe();
    applied::keep_telling(&front.store, &own.id, settings, told, &clock, &front.shutdown);
    let said = async || Some(front.store.node_settings().await.unwrap()).filter(|said| !said.is_empty());
    let first = in_time("what is in force", said).await;
    let mut transaction = front.store.begin().await.unwrap();
    assert!(transaction.remove_node(&own.id).await.unwrap());
    transaction.commit().await.unwrap();
    assert_eq!(said().await, None);
    register(&front.store, std::slice::from_ref(&own)).await;
    assert_eq!(in_time("the same again", said).await, first);
}

#[tokio::test]
async fn settings_that_change_all_the_time_do_not_put_a_heartbeat_off() {
    let front = Front::new().await;
    let own = node("web-1", Role::Web, front.clock.now());
    let clock: SharedClock = front.clock.clone();
    let [keys] = same_keys();
    let presence = Presence::new(&front.store, own.clone(), &keys, &clock, &front.shutdown);
    presence.register().await.unwrap();
    let quick = |poll: &str| {
        let values = [(HEARTBEAT_INTERVAL, "1s"), (STALE_TIME, "3s"), (POLL_INTERVAL, poll)];
        Arc::new(Settings::resolve(&Fixed::default(), values).0)
    };
    front.settings.send_replace(quick("7s"));
    presence.keep_beating(front.settings.subscribe());
    front.clock.advance(Duration::from_secs(1));
    let mut odd = false;
    in_time("a heartbeat", async || {
        odd = !odd;
        front.settings.send_replace(quick(if odd { "8s" } else { "9s" }));
        let nodes = front.store.nodes().await.unwrap();
        nodes.iter().any(|node| node.heartbeat_at > own.heartbeat_at).then_some(())
    })
    .await;
}
