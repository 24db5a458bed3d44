//! Users, sessions, settings, audit, diagnostics, nodes.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use switchboard::base::clock::{Clock as _, SystemClock};
use switchboard::base::id::NodeId;
use switchboard::model::audit::NewAuditEntry;
use switchboard::model::log_entry::Level;
use switchboard::model::node::Node;
use switchboard::model::user::{ServiceRole, User};
use switchboard::store::Store;
use switchboard::store::audit::AuditFilter;
use switchboard::store::diagnostics::Diagnostic;
use switchboard::store::error::Error;
use switchboard::store::nodes::Beat;
use switchboard::store::users::NewUser;

use super::{Data, at, change, node};

on_both_databases! {
    the_database_has_a_clock_of_its_own
    users_are_found_by_name_uuid_and_token
    a_sealed_token_moved_to_another_user_does_not_open
    sessions_end_by_idleness_age_password_roles_and_deletion
    the_set_up_link_works_once_and_only_without_an_administrator
    settings_have_versions_and_a_history_without_secrets
    a_tampered_secret_is_named_and_can_be_replaced
    audit_entries_are_filtered_paged_and_purged
    diagnostics_count_repeats_and_are_bounded
    nodes_register_beat_stop_and_are_forgotten
    a_node_belongs_to_the_process_that_registered_last
}

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

fn new_user(name: &str, roles: &[ServiceRole]) -> NewUser {
    NewUser {
        name: name.parse().unwrap(),
        email: String::new(),
        service_roles: roles.to_vec(),
        password_hash: None,
        token: None,
    }
}

async fn create(store: &Store, new: &NewUser) -> User {
    let mut tx = store.begin().await.unwrap();
    let user = tx.create_user(new, at(1)).await.unwrap();
    tx.commit().await.unwrap();
    user
}

async fn the_database_has_a_clock_of_its_own(data: Data) {
    let store = data.open().await;
    let before = SystemClock.now();
    let now = store.database_time().await.unwrap();
    let later = store.database_time().await.unwrap();
    // both are of this machine; SQLite's counts milliseconds
    assert!(now.plus(Duration::from_millis(2)) >= before && later >= now, "{before} {now} {later}");
    assert!(later <= SystemClock.now().plus(Duration::from_millis(2)), "{later}");
}

async fn users_are_found_by_name_uuid_and_token(data: Data) {
    let store = data.open().await;
    let token = "0123456789abcdef";
    let mut new = new_user("ann", &[ServiceRole::AdminViewer, ServiceRole::MetricsViewer]);
    "ann@example.org".clone_into(&mut new.email);
    new.token = Some(SecretString::from(token));
    let ann = create(&store, &new).await;
    assert!(ann.has_token && !ann.has_password);
    assert_eq!(store.users().await.unwrap(), std::slice::from_ref(&ann));
    assert_eq!(store.user(&ann.uuid).await.unwrap().as_ref(), Some(&ann));
    assert_eq!(store.user_by_name("ann").await.unwrap(), Some((ann.clone(), None)));
    assert_eq!(store.user_by_name("Ann").await.unwrap(), None);
    let hash: [u8; 32] = Sha256::digest(token).into();
    assert_eq!(store.user_by_token(&hash).await.unwrap().as_ref(), Some(&ann));
    assert_eq!(store.user_token(&ann.uuid).await.unwrap().unwrap().expose_secret(), token);

    let mut tx = store.begin().await.unwrap();
    let conflict = tx.create_user(&new_user("ann", &[]), at(2)).await.unwrap_err();
    assert!(matches!(&conflict, Error::Conflict(text) if text.contains("ann")), "{conflict}");
    tx.set_token(&ann.uuid, None, at(2)).await.unwrap();
    tx.set_password(&ann.uuid, "$argon2id$x", None, at(2)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(store.user_by_token(&hash).await.unwrap(), None);
    assert!(store.user_token(&ann.uuid).await.unwrap().is_none());
    let (ann, password) = store.user_by_name("ann").await.unwrap().unwrap();
    assert!(ann.has_password && !ann.has_token);
    assert_eq!(password.as_deref(), Some("$argon2id$x"));

    let mut tx = store.begin().await.unwrap();
    assert!(tx.delete_user(&ann.uuid).await.unwrap());
    assert!(!tx.delete_user(&ann.uuid).await.unwrap());
    for gone in [
        tx.set_password(&ann.uuid, "x", None, at(3)).await,
        tx.set_service_roles(&ann.uuid, &[], at(3)).await,
        tx.set_token(&ann.uuid, None, at(3)).await,
        tx.begin_session(&[1; 32], &ann.uuid, "::1", at(3)).await,
    ] {
        assert!(matches!(gone, Err(Error::Conflict(_))), "{gone:?}");
    }
    tx.commit().await.unwrap();
    assert_eq!(store.users().await.unwrap(), []);
}

async fn a_sealed_token_moved_to_another_user_does_not_open(data: Data) {
    let store = data.open().await;
    let mut uuids = Vec::new();
    for name in ["ann", "bob"] {
        let mut new = new_user(name, &[]);
        new.token = Some(SecretString::from(format!("token of {name}")));
        uuids.push(create(&store, &new).await.uuid);
    }
    let mut raw = data.raw().await;
    change(&mut raw, "update users set token_sealed = (select token_sealed from users where name = 'ann')").await;
    assert!(store.user_token(&uuids[0]).await.is_ok());
    assert!(matches!(store.user_token(&uuids[1]).await, Err(Error::Sealed(text)) if text.contains(&uuids[1])));
}

async fn sessions_end_by_idleness_age_password_roles_and_deletion(data: Data) {
    let store = data.open().await;
    let ann = create(&store, &new_user("ann", &[ServiceRole::ServiceAdmin])).await;
    let begin = async |hash: [u8; 32], seconds| {
        let mut tx = store.begin().await.unwrap();
        tx.begin_session(&hash, &ann.uuid, "192.0.2.1", at(seconds)).await.unwrap();
        tx.commit().await.unwrap();
    };
    let alive = async |hash: [u8; 32], seconds| store.session(&hash, HOUR, DAY, at(seconds)).await.unwrap();

    begin([1; 32], 0).await;
    let session = alive([1; 32], 3599).await.unwrap();
    assert_eq!((session.id_hash, session.address.as_str()), ([1; 32], "192.0.2.1"));
    assert_eq!((session.created_at, session.last_seen_at), (at(0), at(0)));
    assert_eq!((session.user.uuid, session.user.last_sign_in_at), (ann.uuid.clone(), Some(at(0))));
    assert_eq!(alive([1; 32], 3600).await, None, "idle for an hour");
    assert_eq!(alive([2; 32], 0).await, None);

    let mut tx = store.begin().await.unwrap();
    for hour in 1..25 {
        tx.touch_session(&[1; 32], at(hour * 3600 - 60)).await.unwrap();
    }
    tx.touch_session(&[1; 32], at(5)).await.unwrap();
    tx.commit().await.unwrap();
    assert!(alive([1; 32], 86_399).await.is_some(), "touching with an older time takes nothing away");
    assert_eq!(alive([1; 32], 86_400).await, None, "a day old");

    begin([2; 32], 86_000).await;
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.purge_sessions(HOUR, DAY, at(86_400)).await.unwrap(), 1);
    tx.commit().await.unwrap();

    begin([3; 32], 86_000).await;
    let mut tx = store.begin().await.unwrap();
    tx.set_password(&ann.uuid, "$x", Some(&[3; 32]), at(86_001)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(alive([2; 32], 86_002).await, None);
    assert!(alive([3; 32], 86_002).await.is_some(), "the one that changed the password stays");

    let mut tx = store.begin().await.unwrap();
    tx.set_service_roles(&ann.uuid, &[ServiceRole::AdminViewer], at(86_003)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(alive([3; 32], 86_004).await, None);
    assert_eq!(store.user(&ann.uuid).await.unwrap().unwrap().service_roles, [ServiceRole::AdminViewer]);

    begin([4; 32], 86_005).await;
    begin([5; 32], 86_005).await;
    let mut tx = store.begin().await.unwrap();
    tx.end_session(&[4; 32]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(alive([4; 32], 86_006).await, None);
    assert!(alive([5; 32], 86_006).await.is_some());
    let mut tx = store.begin().await.unwrap();
    tx.delete_user(&ann.uuid).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(alive([5; 32], 86_006).await, None);
}

async fn the_set_up_link_works_once_and_only_without_an_administrator(data: Data) {
    let store = data.open().await;
    let mut tx = store.begin().await.unwrap();
    assert!(!tx.take_setup_link(&[1; 32], at(0)).await.unwrap(), "there is none");
    tx.set_setup_link(&[1; 32], at(60)).await.unwrap();
    tx.set_setup_link(&[2; 32], at(60)).await.unwrap();
    assert!(!tx.take_setup_link(&[1; 32], at(0)).await.unwrap(), "replaced");
    assert!(!tx.take_setup_link(&[2; 32], at(60)).await.unwrap(), "expired");
    assert!(tx.take_setup_link(&[2; 32], at(59)).await.unwrap());
    assert!(!tx.take_setup_link(&[2; 32], at(59)).await.unwrap(), "used");
    tx.set_setup_link(&[3; 32], at(60)).await.unwrap();
    tx.commit().await.unwrap();

    let mut viewer = new_user("viewer", &[ServiceRole::AdminViewer]);
    viewer.password_hash = Some("$x".to_owned());
    create(&store, &viewer).await;
    let ann = create(&store, &new_user("ann", &[ServiceRole::MetricsViewer, ServiceRole::ServiceAdmin])).await;
    assert!(!store.has_administrator().await.unwrap(), "one can't do enough, the other can't sign in");
    let mut tx = store.begin().await.unwrap();
    tx.set_password(&ann.uuid, "$x", None, at(1)).await.unwrap();
    assert!(!tx.take_setup_link(&[3; 32], at(2)).await.unwrap());
    tx.commit().await.unwrap();
    assert!(store.has_administrator().await.unwrap());
}

async fn settings_have_versions_and_a_history_without_secrets(data: Data) {
    let store = data.open().await;
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.save_setting("A.Plain", Some("1"), false, Some(0), "ann", at(1)).await.unwrap(), 1);
    assert_eq!(tx.save_setting("A.Plain", Some("2"), false, Some(1), "bob", at(2)).await.unwrap(), 2);
    let late = tx.save_setting("A.Plain", Some("3"), false, Some(1), "cid", at(3)).await.unwrap_err();
    assert!(matches!(&late, Error::Conflict(text) if text.contains("A.Plain")), "{late}");
    let late = tx.save_setting("A.Plain", Some("3"), false, Some(0), "cid", at(3)).await;
    assert!(matches!(late, Err(Error::Conflict(_))));
    assert_eq!(tx.save_setting("A.Key", Some("swordfish"), true, None, "ann", at(4)).await.unwrap(), 1);
    assert_eq!(tx.save_setting("A.Never", None, false, Some(0), "ann", at(4)).await.unwrap(), 0);
    let never = tx.save_setting("A.Never", Some("1"), false, Some(3), "ann", at(4)).await;
    assert!(matches!(never, Err(Error::Conflict(_))), "nobody can have seen that version");
    tx.commit().await.unwrap();

    let settings = store.settings().await.unwrap();
    let read: Vec<_> = settings.iter().map(|s| (s.name.as_str(), s.value.as_str(), s.version)).collect();
    assert_eq!(read, [("A.Key", "swordfish", 1), ("A.Plain", "2", 2)]);
    assert_eq!((settings[1].changed_by.as_str(), settings[1].changed_at), ("bob", at(2)));

    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.save_setting("A.Plain", None, false, Some(2), "ann", at(5)).await.unwrap(), 3);
    tx.commit().await.unwrap();
    assert!(store.setting("A.Plain").await.unwrap().is_none());
    let mut tx = store.begin().await.unwrap();
    // a page shows a cleared setting as one that was never saved
    assert_eq!(tx.save_setting("A.Plain", Some("4"), false, Some(0), "ann", at(6)).await.unwrap(), 4);
    tx.commit().await.unwrap();
    let history = store.setting_history(Some("A.Plain"), 10).await.unwrap();
    let read: Vec<_> = history.iter().map(|c| (c.version, c.value.as_deref(), c.cleared)).collect();
    assert_eq!(read, [(4, Some("4"), false), (3, None, true), (2, Some("2"), false), (1, Some("1"), false)]);
    let all = store.setting_history(None, 3).await.unwrap();
    let read: Vec<_> = all.iter().map(|c| (c.name.as_str(), c.version, c.value.as_deref())).collect();
    assert_eq!(read, [("A.Plain", 4, Some("4")), ("A.Plain", 3, None), ("A.Key", 1, None)]);

    store.close().await;
    for name in ["switchboard.db", "switchboard.db-wal"] {
        let bytes = std::fs::read(data.file(name)).unwrap_or_default();
        assert!(!bytes.windows(9).any(|part| part == b"swordfish"), "a secret stands in plain in {name}");
    }
}

async fn a_tampered_secret_is_named_and_can_be_replaced(data: Data) {
    let store = data.open().await;
    let mut tx = store.begin().await.unwrap();
    tx.save_setting("A.Key", Some("swordfish"), true, None, "ann", at(1)).await.unwrap();
    tx.save_setting("B.Key", Some("tuna"), true, None, "ann", at(1)).await.unwrap();
    tx.commit().await.unwrap();
    let mut raw = data.raw().await;
    change(
        &mut raw,
        "update settings set sealed = (select sealed from settings where name = 'B.Key') where name = 'A.Key'",
    )
    .await;
    for error in [store.setting("A.Key").await.err(), store.settings().await.err()] {
        assert!(matches!(&error, Some(Error::Sealed(what)) if what.contains("A.Key")), "{error:?}");
    }
    assert_eq!(store.setting("B.Key").await.unwrap().unwrap().value, "tuna");
    let mut tx = store.begin().await.unwrap();
    let settled = tx.settle_setting("A.Key", "new", true, "node", at(2)).await;
    assert!(matches!(settled, Err(Error::Sealed(_))), "a value that can't be read is not replaced unasked");
    tx.save_setting("A.Key", Some("cod"), true, None, "ann", at(2)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(store.setting("A.Key").await.unwrap().unwrap().value, "cod");
}

async fn audit_entries_are_filtered_paged_and_purged(data: Data) {
    let store = data.open().await;
    let mut tx = store.begin().await.unwrap();
    for number in 0..6 {
        let entry = NewAuditEntry {
            who: if number % 2 == 0 { "ann" } else { "bob" }.to_owned(),
            address: "192.0.2.1".to_owned(),
            action: if number < 3 { "dispatcher:run" } else { "setting:change" },
            subject: format!("subject-{number}"),
            result: "done".to_owned(),
        };
        tx.append_audit(&entry, at(number)).await.unwrap();
    }
    tx.commit().await.unwrap();
    let list = async |filter: AuditFilter| -> Vec<i64> {
        let entries = store.audit(&AuditFilter { limit: 3, ..filter }).await.unwrap();
        entries.iter().map(|entry| (entry.at.as_micros() - at(0).as_micros()) / super::SECOND).collect()
    };
    assert_eq!(list(AuditFilter::default()).await, [5, 4, 3]);
    let third = store.audit(&AuditFilter { limit: 3, ..Default::default() }).await.unwrap()[2].id;
    assert_eq!(list(AuditFilter { before: Some(third), ..Default::default() }).await, [2, 1, 0]);
    assert_eq!(list(AuditFilter { who: Some("ann".into()), ..Default::default() }).await, [4, 2, 0]);
    let both = AuditFilter { who: Some("bob".into()), action: Some("setting:change".into()), ..AuditFilter::default() };
    assert_eq!(list(both).await, [5, 3]);
    assert_eq!(list(AuditFilter { subject: Some("subject-1".into()), ..Default::default() }).await, [1]);
    assert_eq!(list(AuditFilter { who: Some("' or 1=1 --".into()), ..Default::default() }).await, [0_i64; 0]);
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.purge_audit(Duration::from_secs(7), at(10)).await.unwrap(), 3);
    tx.commit().await.unwrap();
    assert_eq!(list(AuditFilter::default()).await, [5, 4, 3]);
}

async fn diagnostics_count_repeats_and_are_bounded(data: Data) {
    let store = data.open().await;
    let say = |node: &str, level, message: &str, seconds| Diagnostic {
        id: 0,
        at: at(seconds),
        node: NodeId::new(node),
        level,
        source: "messenger".to_owned(),
        message: message.to_owned(),
        count: 1,
    };
    let mut tx = store.begin().await.unwrap();
    tx.keep_diagnostics(&[
        say("a", Level::Warn, "slow", 1),
        say("b", Level::Error, "gone", 2),
        say("a", Level::Warn, "slow", 3),
        say("a", Level::Error, "slow", 4),
        say("a", Level::Warn, "slow", 5),
    ])
    .await
    .unwrap();
    tx.commit().await.unwrap();
    let read = async |level| -> Vec<(String, Level, u64)> {
        let all = store.diagnostics(level, 10).await.unwrap();
        all.into_iter().map(|d| (d.node.to_string(), d.level, d.count)).collect()
    };
    let (a, b) = ("a".to_owned(), "b".to_owned());
    assert_eq!(
        read(Level::Warn).await,
        [
            (a.clone(), Level::Warn, 1),
            (a.clone(), Level::Error, 1),
            (a.clone(), Level::Warn, 2),
            (b.clone(), Level::Error, 1)
        ]
    );
    assert_eq!(store.diagnostics(Level::Warn, 10).await.unwrap()[2].at, at(3));
    assert_eq!(read(Level::Error).await.len(), 2);
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.purge_diagnostics(10).await.unwrap(), 0);
    assert_eq!(tx.purge_diagnostics(1).await.unwrap(), 3);
    tx.commit().await.unwrap();
    assert_eq!(read(Level::Trace).await, [(a.clone(), Level::Warn, 1)]);
    // a node that was cut off keeps late what it said before
    let mut tx = store.begin().await.unwrap();
    tx.keep_diagnostics(&[say("b", Level::Error, "cut off", 2)]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(read(Level::Warn).await, [(a.clone(), Level::Warn, 1), (b, Level::Error, 1)]);
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.purge_diagnostics(1).await.unwrap(), 1);
    tx.commit().await.unwrap();
    assert_eq!(read(Level::Trace).await, [(a, Level::Warn, 1)], "the newest by time stays");
}

async fn nodes_register_beat_stop_and_are_forgotten(data: Data) {
    let store = data.open().await;
    let mut expected = node("service-1");
    let mut tx = store.begin().await.unwrap();
    tx.register_node(&expected).await.unwrap();
    tx.stop_node(&expected.id, None, at(1)).await.unwrap();
    expected.pid = 8;
    tx.register_node(&expected).await.unwrap();
    assert_eq!(tx.beat_node(&expected.id, None, Some("0011"), at(5)).await.unwrap(), Beat::Written);
    assert_eq!(tx.beat_node(&NodeId::new("service-2"), None, None, at(5)).await.unwrap(), Beat::Unknown);
    tx.commit().await.unwrap();
    expected.heartbeat_at = at(5);
    expected.key_fingerprint = Some("0011".to_owned());
    assert_eq!(store.nodes().await.unwrap(), std::slice::from_ref(&expected));
    let mut tx = store.begin().await.unwrap();
    tx.stop_node(&expected.id, None, at(6)).await.unwrap();
    tx.beat_node(&expected.id, None, None, at(7)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(store.nodes().await.unwrap()[0].stopped_at, Some(at(6)), "a beat that comes late does not revive it");
    let mut tx = store.begin().await.unwrap();
    assert!(tx.remove_node(&expected.id).await.unwrap());
    assert!(!tx.remove_node(&expected.id).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(store.nodes().await.unwrap(), []);
}

async fn a_node_belongs_to_the_process_that_registered_last(data: Data) {
    let store = data.open().await;
    let [first, second] = ["a/1:2", "a/1:3"].map(|file| Node { id_file: Some(file.to_owned()), ..node("service-1") });
    let first_file = first.id_file.as_deref();
    let mut tx = store.begin().await.unwrap();
    tx.register_node(&first).await.unwrap();
    assert_eq!(tx.beat_node(&first.id, first_file, Some("0011"), at(5)).await.unwrap(), Beat::Written);
    tx.register_node(&Node { host: "copy".to_owned(), pid: 4711, ..second.clone() }).await.unwrap();
    let Beat::Replaced(by) = tx.beat_node(&first.id, first_file, Some("0022"), at(6)).await.unwrap() else {
        panic!("it took the node back")
    };
    let said = by.to_string();
    assert!(said.starts_with("process 4711 on copy is service-1 now") && said.contains("remove the file"), "{said}");
    tx.stop_node(&first.id, first_file, at(7)).await.unwrap();
    assert_eq!(tx.beat_node(&first.id, second.id_file.as_deref(), None, at(8)).await.unwrap(), Beat::Written);
    tx.commit().await.unwrap();
    let expected = Node { host: "copy".to_owned(), pid: 4711, heartbeat_at: at(8), ..second };
    assert_eq!(store.nodes().await.unwrap(), [expected]);
}
