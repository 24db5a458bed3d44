//! What only a database on a server can do: be away, be stopped, let somebody wait, be shared by machines.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use secrecy::SecretBox;
use switchboard::base::id::NodeId;
use switchboard::config::database::DatabaseUrl;
use switchboard::store::error::Error;
use switchboard::store::{OpenOptions, Store};

use super::work::{asked, request};
use super::{Data, VERSION, at, change, node, number};
use crate::postgres::TestDatabase;
use crate::postgres_server::TestServer;

/// Asks again and again, for a while.
async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, Error>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match ask().await {
            Ok(found) => return found,
            Err(error) => {
                assert!(matches!(error, Error::Busy(_)), "{what}: {error:?}");
                assert!(Instant::now() < deadline, "{what}: {error:?}");
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn register(store: &Store, id: &str) -> Result<(), Error> {
    let mut tx = store.begin().await?;
    tx.register_node(&node(id)).await?;
    tx.commit().await
}

/// As many data directories, as nodes on as many machines have them, over one database.
fn machines<const N: usize>(database: &TestDatabase, key: Option<[u8; 32]>) -> [(Data, OpenOptions); N] {
    std::array::from_fn(|_| {
        let data = Data::sqlite();
        let mut options = data.options();
        options.database = Some(DatabaseUrl::parse(database.url()).unwrap());
        options.encryption_key = key.map(|key| Arc::new(SecretBox::new(Box::new(key))));
        (data, options)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "scripts/test starts PostgreSQL"]
async fn nodes_that_start_at_once_on_an_empty_database_migrate_once() {
    let database = TestDatabase::new().await;
    let machines = machines::<8>(&database, Some([7; 32]));
    let opened = join_all(machines.iter().map(|(data, options)| Store::open(options.clone(), &data.shutdown))).await;
    let stores: Vec<Store> = opened.into_iter().map(Result::unwrap).collect();
    let mut raw = super::Raw::Postgres(database.connect().await);
    assert_eq!(number(&mut raw, "select count(*) from schema_migrations").await, VERSION);
    assert_eq!(number(&mut raw, "select count(*) from encryption_check").await, 1);
    // they run what is asked for once
    for round in 0..5 {
        let id = request(&stores[0], &asked("a", Some(round))).await.id;
        let claims = join_all(stores.iter().enumerate().map(async |(number, store)| {
            let mut tx = store.begin().await.unwrap();
            let claimed = tx.claim_execution(id, &NodeId::new(format!("service-{number}")), 99, at(2)).await.unwrap();
            tx.commit().await.unwrap();
            claimed
        }));
        assert_eq!(claims.await.into_iter().flatten().count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "scripts/test starts PostgreSQL"]
async fn nodes_without_a_common_key_are_refused_but_one() {
    let database = TestDatabase::new().await;
    let machines = machines::<4>(&database, None);
    let opened = join_all(machines.iter().map(|(data, options)| Store::open(options.clone(), &data.shutdown))).await;
    let (stores, refused): (Vec<_>, Vec<_>) = opened.into_iter().partition(Result::is_ok);
    assert_eq!(stores.len(), 1);
    let place = DatabaseUrl::parse(database.url()).unwrap().place().to_owned();
    for refused in refused {
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("encryption.key is missing") && text.contains(&place), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "scripts/test starts PostgreSQL"]
async fn a_database_that_can_not_be_had_is_refused_in_words_without_the_password() {
    let database = TestDatabase::new().await;
    let data = Data::sqlite();
    let refusal = async |url: &str| {
        let options = OpenOptions { database: Some(DatabaseUrl::parse(url).unwrap()), ..data.options() };
        let error = Store::open(options, &data.shutdown).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(!text.contains("hunter2"), "{text}");
        text
    };
    let good = database.url();
    let (user, host) = good.rsplit_once('@').unwrap();
    let (user, _) = user.rsplit_once(':').unwrap();
    let text = refusal(&format!("{user}:hunter2@{host}")).await;
    assert!(text.contains("does not let this user in") && text.contains(host), "{text}");
    let (server, _) = good.rsplit_once('/').unwrap();
    let text = refusal(&format!("{server}/nothing_here")).await;
    assert!(text.contains("createdb"), "{text}");
    let text = refusal(&format!("{good}?sslmode=require")).await;
    assert!(text.contains("TLS"), "{text}");
    let text = refusal("postgres://ann:hunter2@127.0.0.1:1/board").await;
    assert!(text.contains("127.0.0.1:1/board can't be reached"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "scripts/test starts PostgreSQL"]
async fn a_server_that_goes_and_comes_back_is_busy_meanwhile() {
    let server = TestServer::start();
    let data = Data::with(server.database().await);
    let (one, two) = (data.open().await, data.open().await);
    register(&one, "service-1").await.unwrap();
    // in the middle of a transaction
    let mut cut = one.begin().await.unwrap();
    cut.register_node(&node("service-cut")).await.unwrap();
    server.stop("fast");
    assert!(matches!(cut.commit().await, Err(Error::Busy(_) | Error::Broken(_))));
    for error in [one.nodes().await.err(), register(&one, "service-2").await.err(), two.ping().await.err()] {
        assert!(matches!(&error, Some(Error::Busy(_))), "{error:?}");
    }
    server.up();
    eventually("writing again", async || register(&one, "service-3").await).await;
    let nodes = eventually("reading again", async || two.nodes().await).await;
    let ids: BTreeSet<_> = nodes.iter().map(|node| node.id.as_str()).collect();
    assert_eq!(ids, BTreeSet::from(["service-1", "service-3"]));
    // changes are noticed again
    let mut changes = two.changes();
    changes.borrow_and_update();
    register(&one, "service-4").await.unwrap();
    let seen = tokio::time::timeout(Duration::from_secs(10), changes.wait_for(|seen| *seen >= *one.changes().borrow()));
    seen.await.expect("it is noticed").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "scripts/test starts PostgreSQL"]
async fn a_listener_that_was_cut_off_misses_nothing() {
    let data = Data::postgres().await;
    let (one, two) = (data.open().await, data.open().await);
    let mut raw = data.raw().await;
    let listeners = "select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and query ilike 'listen%'";
    let mut changes = two.changes();
    for round in 0..5 {
        assert!(change(&mut raw, listeners).await > 0 || round > 0, "somebody listens");
        register(&one, &format!("service-{round}")).await.unwrap();
        let now = *one.changes().borrow();
        let seen = tokio::time::timeout(Duration::from_secs(10), changes.wait_for(|seen| *seen >= now));
        seen.await.expect("it is noticed").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "scripts/test starts PostgreSQL"]
async fn a_node_frozen_in_the_middle_of_a_change_holds_others_up_for_seconds_only() {
    let data = Data::postgres().await;
    let (frozen, other) = (data.open().await, data.open().await);
    let began = Instant::now();
    let mut held = frozen.begin().await.unwrap();
    held.register_node(&node("service-frozen")).await.unwrap();
    // what must not wait does not
    let mut tx = other.begin_unlocked().await.unwrap();
    tx.register_node(&node("service-2")).await.unwrap();
    tx.commit().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    eventually("the lock is free", async || register(&other, "service-1").await).await;
    let waited = began.elapsed();
    assert!((Duration::from_secs(4)..Duration::from_secs(9)).contains(&waited), "{waited:?}");
    // it comes to itself again: nothing of it is kept, and it is told
    let error = held.commit().await.unwrap_err();
    assert!(matches!(error, Error::Busy(_) | Error::Broken(_)), "{error:?}");
    let nodes = other.nodes().await.unwrap();
    assert!(nodes.iter().all(|node| node.id.as_str() != "service-frozen"), "{nodes:?}");
    eventually("it writes again", async || register(&frozen, "service-3").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "scripts/test starts PostgreSQL"]
async fn a_transaction_with_a_failed_statement_is_not_taken_for_kept() {
    let data = Data::postgres().await;
    let store = data.open().await;
    let mut raw = data.raw().await;
    change(&mut raw, "alter table audit_entries rename to mislaid").await;
    let mut tx = store.begin().await.unwrap();
    tx.register_node(&node("service-1")).await.unwrap();
    assert!(matches!(tx.purge_audit(Duration::ZERO, at(0)).await, Err(Error::Broken(_))));
    assert!(tx.commit().await.is_err());
    assert_eq!(store.nodes().await.unwrap(), []);
    register(&store, "service-1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "scripts/test starts PostgreSQL"]
async fn it_is_described_without_user_and_password() {
    let data = Data::postgres().await;
    let store = data.open().await;
    let url = data.options().database.unwrap();
    let text = store.description();
    assert!(text.starts_with("PostgreSQL ") && text.ends_with(url.place()), "{text}");
    assert!(!format!("{store:?}").contains("switchboard_test:"));
    assert!(store.database_bytes().await.unwrap() > 1_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "scripts/test starts PostgreSQL"]
async fn a_server_that_lost_commits_is_noticed() {
    let database = TestDatabase::new().await;
    let [(data, options)] = machines::<1>(&database, None);
    let store = Store::open(options, &data.shutdown).await.unwrap();
    register(&store, "service-1").await.unwrap();
    let mut changes = store.changes();
    let before = *changes.borrow_and_update();
    // as after a failover to a standby that had not got everything
    let mut raw = super::Raw::Postgres(database.connect().await);
    assert_eq!(
        number(&mut raw, "update revision set number = number - 1 returning number").await,
        i64::try_from(before).unwrap() - 1
    );
    let seen = tokio::time::timeout(Duration::from_secs(10), changes.wait_for(|seen| *seen < before));
    seen.await.expect("it is noticed").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "scripts/test starts PostgreSQL"]
async fn who_opens_while_another_migrates_for_long_gets_in() {
    let database = TestDatabase::new().await;
    let [(data, options)] = machines::<1>(&database, None);
    let mut other = database.connect().await;
    let locked = sqlx::raw_sql("begin; select pg_advisory_xact_lock(5429130770513)").execute(&mut other).await;
    locked.unwrap();
    // longer than anything else may take
    let migrated = async { sqlx::raw_sql("select pg_sleep(21); commit").execute(&mut other).await.unwrap() };
    let (opened, _) = tokio::join!(Store::open(options, &data.shutdown), migrated);
    opened.unwrap();
}
