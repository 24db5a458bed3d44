//! Saving settings through the door: what is refused and why, who was faster, what is written down; and the messenger's key.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what several tests share")]

use std::time::Duration;

use futures_util::future::join_all;
use secrecy::ExposeSecret as _;
use switchboard::base::clock::SharedClock;
use switchboard::base::id::NodeId;
use switchboard::config::schema::name::{
    FORMER_MESSENGER_KEY, MESSENGER_ENDPOINT, MESSENGER_KEY, POLL_INTERVAL, SESSION_AGE, SESSION_IDLE, STOP_PATIENCE,
};
use switchboard::config::settings::{Fixed, Settings, Source};
use switchboard::control::keys::{self, KeyState};
use switchboard::control::{Change, Refusal};
use switchboard::messenger::secure::keys::Key;
use switchboard::model::node::{Node, Role};

use crate::front::{Front, open, root, viewer};

/// A node that is silent for so long does not live any more.
const PATIENCE: Duration = Duration::from_secs(15);

fn change(name: &str, value: &str) -> Change {
    Change { name: name.to_owned(), value: Some(value.to_owned()), seen: None }
}

fn seen(name: &str, value: &str, seen: i64) -> Change {
    Change { seen: Some(seen), ..change(name, value) }
}

async fn save(front: &Front, changes: Vec<Change>) -> Result<Vec<(String, i64)>, Refusal> {
    front.control.save_settings(&root(), changes).await
}

async fn stored(front: &Front, name: &str) -> Option<String> {
    front.store.setting(name).await.unwrap().map(|setting| setting.value)
}

fn conflict<T: std::fmt::Debug>(result: Result<T, Refusal>) -> String {
    match result {
        Err(Refusal::Conflict(text)) => text,
        other => panic!("no conflict: {other:?}"),
    }
}

#[tokio::test]
async fn values_are_saved_in_their_one_form_and_written_down() {
    let front = Front::new().await;
    let versions = save(&front, vec![change("service.pollinterval", "30"), change(STOP_PATIENCE, "90")]).await.unwrap();
    assert_eq!(versions, [(POLL_INTERVAL.to_owned(), 1), (STOP_PATIENCE.to_owned(), 1)]);
    assert_eq!(stored(&front, POLL_INTERVAL).await.as_deref(), Some("30s"));
    assert_eq!(stored(&front, STOP_PATIENCE).await.as_deref(), Some("1m 30s"));
    let entries = front.audit().await;
    let entry = entries.iter().find(|entry| entry.subject == POLL_INTERVAL).unwrap();
    assert_eq!(
        (entry.who.as_str(), entry.action.as_str(), entry.address.as_str()),
        ("cli:0", "setting:change", "local")
    );
}

#[tokio::test]
async fn everything_wrong_is_told_at_once_and_nothing_is_saved() {
    let mut fixed = Fixed::default();
    fixed.set(STOP_PATIENCE, "5s", Source::Environment).unwrap();
    fixed.set("Retention.LogAge", "9d", Source::File).unwrap();
    let front = Front::with(fixed).await;
    let refused = save(
        &front,
        vec![
            change(POLL_INTERVAL, "20s"),
            change("Service.HeartbeatInterval", "soon"),
            change("PollIntervall", "1s"),
            change(STOP_PATIENCE, "6s"),
            change("Retention.LogAge", "8d"),
            change(MESSENGER_KEY, "c2hvcnQ="),
            change(POLL_INTERVAL, "30s"),
        ],
    )
    .await;
    let Err(Refusal::Invalid(wrong)) = refused else { panic!("{refused:?}") };
    for (name, words) in [
        ("Service.HeartbeatInterval", "15m"),
        ("PollIntervall", "there is no setting"),
        (STOP_PATIENCE, "SWITCHBOARD_SETTING_SERVICE_STOPPATIENCE"),
        ("Retention.LogAge", "configuration file"),
        (MESSENGER_KEY, "exactly 32"),
        (POLL_INTERVAL, "twice"),
    ] {
        let why = &wrong.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("{name} in {wrong:?}")).1;
        assert!(why.contains(words), "{name}: {why}");
    }
    assert_eq!(wrong.len(), 6);
    assert_eq!(front.store.settings().await.unwrap(), []);
    assert!(front.audit().await.is_empty());
}

#[tokio::test]
async fn who_may_only_look_changes_nothing() {
    let front = Front::new().await;
    let refused = front.control.save_settings(&viewer(), vec![change(POLL_INTERVAL, "20s")]).await;
    assert!(matches!(refused, Err(Refusal::Forbidden)));
    assert!(matches!(front.control.generate_key(&viewer(), None, false).await, Err(Refusal::Forbidden)));
    assert_eq!(front.store.settings().await.unwrap(), []);
}

#[tokio::test]
async fn of_two_who_save_the_same_setting_the_second_learns_who_was_first() {
    let front = Front::new().await;
    assert_eq!(save(&front, vec![seen(POLL_INTERVAL, "20s", 0)]).await.unwrap()[0].1, 1);
    let text = conflict(save(&front, vec![change(STOP_PATIENCE, "1s"), seen(POLL_INTERVAL, "30s", 0)]).await);
    for words in ["cli:0", "20s", "version 1", "you saw version 0", &front.now().to_string()] {
        assert!(text.contains(words), "{words} in {text}");
    }
    assert_eq!(stored(&front, POLL_INTERVAL).await.as_deref(), Some("20s"));
    assert_eq!(stored(&front, STOP_PATIENCE).await, None, "all or none");
    assert_eq!(save(&front, vec![seen(POLL_INTERVAL, "30s", 1)]).await.unwrap()[0].1, 2);
}

#[tokio::test]
async fn of_many_who_save_at_once_one_is_first_and_the_others_learn_both_values() {
    let front = Front::new().await;
    let attempts = (1..=8).map(|n| save(&front, vec![seen(POLL_INTERVAL, &format!("{n}s"), 0)]));
    let (saved, refused): (Vec<_>, Vec<_>) =
        join_all(attempts).await.into_iter().enumerate().partition(|(_, r)| r.is_ok());
    assert_eq!((saved.len(), refused.len()), (1, 7));
    let theirs = format!("to `{}s`", saved[0].0 + 1);
    for (at, result) in refused {
        let text = conflict(result);
        assert!(text.contains(&theirs) && text.contains(&format!("yours, `{}s`, was not saved", at + 1)), "{text}");
    }
    assert_eq!(front.audited("setting:change").await.len(), 1);
}

#[tokio::test]
async fn empty_goes_back_to_the_default_and_the_same_value_is_no_change() {
    let front = Front::new().await;
    save(&front, vec![change(POLL_INTERVAL, "20s")]).await.unwrap();
    assert_eq!(save(&front, vec![change(POLL_INTERVAL, "20 s")]).await.unwrap()[0].1, 1, "the same");
    assert_eq!(save(&front, vec![change(POLL_INTERVAL, " ")]).await.unwrap()[0].1, 2, "cleared");
    assert_eq!(stored(&front, POLL_INTERVAL).await, None);
    assert_eq!(save(&front, vec![seen(POLL_INTERVAL, "", 2)]).await.unwrap()[0].1, 2, "cleared already");
    assert_eq!(save(&front, vec![seen(POLL_INTERVAL, "25s", 2)]).await.unwrap()[0].1, 3);
    assert_eq!(
        front.audited("setting:change").await,
        ["`15s` (default) → `20s`", "`20s` → `15s` (default)", "`15s` (default) → `25s`"]
    );
}

#[tokio::test]
async fn what_does_not_go_together_is_refused() {
    let front = Front::new().await;
    let Err(Refusal::Invalid(wrong)) = save(&front, vec![change(SESSION_AGE, "1h")]).await else { panic!() };
    assert!(wrong[0].0 == SESSION_AGE && wrong[0].1.contains(SESSION_IDLE), "{wrong:?}");
    save(&front, vec![change(SESSION_AGE, "1h"), change(SESSION_IDLE, "30m")]).await.unwrap();
    let Err(Refusal::Invalid(wrong)) = save(&front, vec![change(MESSENGER_ENDPOINT, "pipe:/none/at/all.sock")]).await
    else {
        panic!()
    };
    assert!(wrong[0].1.contains("/none/at"), "{wrong:?}");
    let path = format!("pipe:{}/other.sock", front.data.path().display());
    save(&front, vec![change(MESSENGER_ENDPOINT, &path)]).await.unwrap();
}

#[tokio::test]
async fn what_is_fixed_or_saved_elsewhere_counts_for_what_goes_together() {
    let mut fixed = Fixed::default();
    fixed.set(SESSION_AGE, "2h", Source::Environment).unwrap();
    let front = Front::with(fixed).await;
    let Err(Refusal::Invalid(wrong)) = save(&front, vec![change(SESSION_IDLE, "3h")]).await else { panic!() };
    for words in ["Web.SessionIdle (3h)", "at most", "Web.SessionAge (2h)"] {
        assert!(wrong[0].1.contains(words), "{words}: {wrong:?}");
    }
    // a pair that clashes already, by what is fixed, keeps nobody from changing something else
    save(&front, vec![change(POLL_INTERVAL, "20s")]).await.unwrap();
    save(&front, vec![change(SESSION_IDLE, "1h")]).await.unwrap();
}

#[tokio::test]
async fn two_who_save_at_once_do_not_make_a_pair_that_clashes() {
    let front = Front::new().await;
    save(&front, vec![change(SESSION_IDLE, "2h"), change(SESSION_AGE, "20h")]).await.unwrap();
    let done = join_all(
        [(SESSION_IDLE, "10h"), (SESSION_AGE, "5h")].map(|(name, value)| save(&front, vec![change(name, value)])),
    )
    .await;
    assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 1, "{done:?}");
    let stored = front.store.settings().await.unwrap();
    let pairs = stored.iter().map(|setting| (setting.name.as_str(), setting.value.as_str()));
    assert_eq!(Settings::resolve(&Fixed::default(), pairs).0.clashes(), []);
}

#[tokio::test]
async fn the_first_key_is_made_once_however_many_nodes_start() {
    let front = Front::new().await;
    let clock: SharedClock = front.clock.clone();
    assert!(keys::current(&front.store).await.unwrap().is_none());
    let other = open(front.data.path(), &front.clock, &front.shutdown).await;
    let stores: Vec<_> = (0..10).map(|n| if n % 2 == 0 { front.store.clone() } else { other.clone() }).collect();
    let all = join_all(stores.iter().map(|store| keys::settle(store, &clock))).await;
    let fingerprints: Vec<_> = all.into_iter().map(|state| state.unwrap().current.fingerprint()).collect();
    assert!(fingerprints.iter().all(|one| *one == fingerprints[0]), "{fingerprints:?}");
    assert_eq!(front.store.setting(MESSENGER_KEY).await.unwrap().unwrap().version, 1);
}

#[tokio::test]
async fn a_new_key_keeps_the_former_for_a_minute_at_most() {
    let front = Front::new().await;
    let clock: SharedClock = front.clock.clone();
    let first = keys::settle(&front.store, &clock).await.unwrap();
    let version = front.control.generate_key(&root(), Some(1), false).await.unwrap();
    assert_eq!(version, 2);
    let state = keys::current(&front.store).await.unwrap().unwrap();
    assert_ne!(state.current.fingerprint(), first.current.fingerprint());
    assert_eq!(state.former.unwrap().fingerprint(), first.current.fingerprint());
    assert_eq!(state.overlap_until, Some(front.now().plus(Duration::from_mins(1))));

    front.clock.advance(Duration::from_secs(59));
    assert!(keys::end_overlap(&front.store, &clock, PATIENCE).await.unwrap().unwrap().former.is_some());
    front.clock.advance(Duration::from_secs(1));
    assert!(keys::end_overlap(&front.store, &clock, PATIENCE).await.unwrap().unwrap().former.is_none());
    assert!(keys::current(&front.store).await.unwrap().unwrap().former.is_none());
    assert_eq!(stored(&front, FORMER_MESSENGER_KEY).await, None);

    let text = conflict(front.control.generate_key(&root(), Some(1), false).await);
    assert!(text.contains("cli:0") && text.contains("version 2"), "{text}");
}

#[tokio::test]
async fn the_overlap_ends_at_once_when_every_live_node_applied() {
    let front = Front::new().await;
    let clock: SharedClock = front.clock.clone();
    keys::settle(&front.store, &clock).await.unwrap();
    front.control.generate_key(&root(), None, false).await.unwrap();
    let current = keys::current(&front.store).await.unwrap().unwrap().current.fingerprint();
    let beat = async |key: &str| {
        let node = Node {
            id: NodeId::new("all-1"),
            role: Role::All,
            host: "box".to_owned(),
            version: "0.1.0".to_owned(),
            pid: 1,
            started_at: front.now(),
            heartbeat_at: front.now(),
            stopped_at: None,
            key_fingerprint: None,
            address: None,
            address_override: None,
            id_file: None,
        };
        let mut transaction = front.store.begin().await.unwrap();
        transaction.register_node(&node).await.unwrap();
        transaction.beat_node(&node.id, None, Some(key), front.now()).await.unwrap();
        transaction.commit().await.unwrap();
    };
    beat("0123456789abcdef").await;
    assert!(keys::end_overlap(&front.store, &clock, PATIENCE).await.unwrap().unwrap().former.is_some());
    beat(&current).await;
    assert!(keys::end_overlap(&front.store, &clock, PATIENCE).await.unwrap().unwrap().former.is_none());
}

#[tokio::test]
async fn a_leaked_key_is_worthless_at_once() {
    let front = Front::new().await;
    let clock: SharedClock = front.clock.clone();
    keys::settle(&front.store, &clock).await.unwrap();
    front.control.generate_key(&root(), None, false).await.unwrap();
    front.control.generate_key(&root(), None, true).await.unwrap();
    let KeyState { former, overlap_until, .. } = keys::current(&front.store).await.unwrap().unwrap();
    assert!(former.is_none() && overlap_until.is_none());
}

#[tokio::test]
async fn a_key_that_somebody_types_is_treated_as_a_generated_one() {
    let front = Front::new().await;
    let clock: SharedClock = front.clock.clone();
    let first = keys::settle(&front.store, &clock).await.unwrap().current.fingerprint();
    let typed = Key::generate();
    let text = typed.to_base64();
    save(&front, vec![seen(MESSENGER_KEY, text.expose_secret(), 1)]).await.unwrap();
    let state = keys::current(&front.store).await.unwrap().unwrap();
    assert_eq!(state.current.fingerprint(), typed.fingerprint());
    assert_eq!(state.former.unwrap().fingerprint(), first);
    let Err(Refusal::Invalid(wrong)) = save(&front, vec![change(MESSENGER_KEY, "")]).await else { panic!() };
    assert!(wrong[0].1.contains("generate"), "{wrong:?}");
}

#[tokio::test]
async fn a_key_stands_neither_in_the_audit_nor_in_the_history_nor_in_the_settings() {
    let front = Front::new().await;
    let clock: SharedClock = front.clock.clone();
    keys::settle(&front.store, &clock).await.unwrap();
    front.control.generate_key(&root(), None, false).await.unwrap();
    let state = keys::current(&front.store).await.unwrap().unwrap();
    let history = front.store.setting_history(None, 100).await.unwrap();
    let rows = front.store.settings().await.unwrap();
    let written = format!("{:?} {history:?} {rows:?} {state:?}", front.audit().await);
    for key in [state.current, state.former.unwrap()] {
        assert!(!written.contains(key.to_base64().expose_secret()), "{written}");
    }
    let pairs = rows.iter().map(|row| (row.name.as_str(), row.value.as_str()));
    let (_, unread) = Settings::resolve(&Fixed::default(), pairs);
    assert_eq!(unread, Vec::<String>::new(), "the hidden row is no setting, and no fault");
}

#[tokio::test]
async fn a_key_fixed_outside_is_not_replaced() {
    let mut fixed = Fixed::default();
    fixed.set(MESSENGER_KEY, Key::generate().to_base64().expose_secret(), Source::Environment).unwrap();
    let front = Front::with(fixed).await;
    let Err(Refusal::Invalid(wrong)) = front.control.generate_key(&root(), None, true).await else { panic!() };
    assert!(wrong[0].1.contains("SWITCHBOARD_SETTING_SERVICE_MESSENGERKEY"), "{wrong:?}");
    assert!(front.settings.borrow().get(MESSENGER_KEY).source.locks());
}
