//! Two stores over one directory, at once; a database that is locked.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use switchboard::base::id::NodeId;
use switchboard::model::execution::Outcome;
use switchboard::store::error::Error;

use super::work::{asked, request};
use super::{Data, at, change, node, number};

on_both_databases! {
    a_generated_value_is_settled_once
    a_run_is_claimed_by_one_and_its_end_written_by_one
    a_limit_holds_however_many_begin_at_once
    a_double_click_on_two_nodes_asks_once
    two_who_save_the_same_setting_do_not_overwrite_each_other
    changes_are_noticed_own_at_once_and_others_soon
    a_database_locked_by_another_is_busy_in_time_and_works_again
    a_transaction_that_is_never_ended_makes_others_busy_not_hang
}

async fn a_generated_value_is_settled_once(data: Data) {
    let (one, two) = (data.open().await, data.open().await);
    for round in 0..10 {
        let name = format!("A.Key{round}");
        let settle = async |store: &switchboard::store::Store, value: &str| {
            let mut tx = store.begin().await.unwrap();
            let value = tx.settle_setting(&name, value, true, "node", at(1)).await.unwrap();
            tx.commit().await.unwrap();
            value
        };
        let (a, b) = tokio::join!(settle(&one, "one"), settle(&two, "two"));
        assert_eq!(a, b);
        let stored = two.setting(&name).await.unwrap().unwrap();
        assert_eq!((stored.value, stored.version), (a, 1));
        assert_eq!(one.setting_history(Some(&name), 9).await.unwrap().len(), 1);
    }
}

async fn a_run_is_claimed_by_one_and_its_end_written_by_one(data: Data) {
    let stores = [data.open().await, data.open().await];
    for round in 0..10 {
        let id = request(&stores[0], &asked("a", Some(round))).await.id;
        let claims = join_all((0..6).map(async |number: usize| {
            let mut tx = stores[number % 2].begin().await.unwrap();
            let claimed = tx.claim_execution(id, &NodeId::new(format!("service-{number}")), 99, at(2)).await.unwrap();
            tx.commit().await.unwrap();
            claimed
        }));
        let claimed: Vec<_> = claims.await.into_iter().flatten().collect();
        assert_eq!(claimed.len(), 1);
        assert_eq!(stores[1].execution(id).await.unwrap().unwrap().node, claimed[0].node);
        let ends = join_all((0..6).map(async |number: usize| {
            let mut tx = stores[number % 2].begin().await.unwrap();
            let finished = tx.finish_execution(id, Outcome::Normal, None, at(3)).await.unwrap();
            tx.commit().await.unwrap();
            finished
        }));
        assert_eq!(ends.await.into_iter().filter(|finished| *finished).count(), 1);
    }
}

async fn a_limit_holds_however_many_begin_at_once(data: Data) {
    let stores = [data.open().await, data.open().await];
    let begun = join_all((0..12).map(async |number: usize| {
        let mut tx = stores[number % 2].begin().await.unwrap();
        let begun = tx.begin_execution(&asked("a", None), &NodeId::new("service-1"), 3).await.unwrap();
        tx.commit().await.unwrap();
        begun
    }));
    assert_eq!(begun.await.into_iter().flatten().count(), 3);
}

async fn a_double_click_on_two_nodes_asks_once(data: Data) {
    let stores = [data.open().await, data.open().await];
    let clicks =
        join_all((0..8).map(async |number: usize| request(&stores[number % 2], &asked("a", Some(0))).await.id));
    let runs: BTreeSet<_> = clicks.await.into_iter().collect();
    assert_eq!(runs.len(), 1);
}

async fn two_who_save_the_same_setting_do_not_overwrite_each_other(data: Data) {
    let stores = [data.open().await, data.open().await];
    let saves = join_all(["one", "two"].into_iter().enumerate().map(async |(number, value)| {
        let mut tx = stores[number].begin().await.unwrap();
        let saved = tx.save_setting("A.Plain", Some(value), false, Some(0), "ann", at(1)).await;
        tx.commit().await.unwrap();
        saved
    }));
    let saves = saves.await;
    assert_eq!(saves.iter().filter(|saved| matches!(saved, Ok(1))).count(), 1);
    assert_eq!(saves.iter().filter(|saved| matches!(saved, Err(Error::Conflict(_)))).count(), 1);
}

async fn changes_are_noticed_own_at_once_and_others_soon(data: Data) {
    let (one, two) = (data.open().await, data.open().await);
    let (mut own, mut other) = (one.changes(), two.changes());
    let before = *own.borrow_and_update();
    other.borrow_and_update();
    let started = Instant::now();
    let mut tx = one.begin().await.unwrap();
    tx.register_node(&node("service-1")).await.unwrap();
    tx.commit().await.unwrap();
    assert!(*own.borrow_and_update() > before, "one's own commit needs no waiting");
    tokio::time::timeout(Duration::from_secs(10), other.changed()).await.expect("it is noticed").unwrap();
    assert_eq!(two.nodes().await.unwrap().len(), 1);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(*own.borrow_and_update(), *other.borrow_and_update(), "both count alike");

    // a heartbeat tells nobody; the one after it with another key does, so the first was passed over
    let before = *other.borrow();
    for (key, seconds) in [(None, 5), (Some("0011"), 6)] {
        let mut tx = one.begin().await.unwrap();
        tx.beat_node(&node("service-1").id, None, key, at(seconds)).await.unwrap();
        tx.commit().await.unwrap();
    }
    tokio::time::timeout(Duration::from_secs(10), other.changed()).await.expect("it is noticed").unwrap();
    assert_eq!(*other.borrow(), before + 1);
    assert_eq!(two.nodes().await.unwrap()[0].key_fingerprint.as_deref(), Some("0011"));
}

async fn a_database_locked_by_another_is_busy_in_time_and_works_again(data: Data) {
    let store = data.open().await;
    let mut other = data.raw().await;
    let lock = match &data.database {
        Some(_) => "begin; select pg_advisory_xact_lock(5429130770513)",
        None => "begin immediate",
    };
    change(&mut other, lock).await;
    let started = Instant::now();
    let error = store.begin().await.unwrap_err();
    assert!(matches!(error, Error::Busy(_)), "{error:?}");
    assert!(error.to_string().contains("another process is writing"), "{error}");
    let waited = started.elapsed();
    assert!((Duration::from_secs(4)..Duration::from_secs(9)).contains(&waited), "{waited:?}");
    assert_eq!(store.nodes().await.unwrap(), [], "reading goes on");
    change(&mut other, "rollback").await;
    let mut tx = store.begin().await.unwrap();
    tx.register_node(&node("service-1")).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(number(&mut other, "select count(*) from nodes").await, 1);
}

async fn a_transaction_that_is_never_ended_makes_others_busy_not_hang(data: Data) {
    let store = data.open().await;
    let held = store.begin().await.unwrap();
    let error = store.begin().await.unwrap_err();
    assert!(matches!(error, Error::Busy(_)), "{error:?}");
    drop(held);
    store.begin().await.unwrap().commit().await.unwrap();
}
