//! First starts, second starts, and everything that is refused.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretBox;
use switchboard::base::id::NodeId;
use switchboard::model::log_entry::Level;
use switchboard::store::Store;
use switchboard::store::backup::backup;
use switchboard::store::error::Error;
use switchboard::store::logs::{KeptFilter, KeptRow};
use switchboard::store::refused::leave_word;

use super::{Data, VERSION, at, change, close, node, number, raw};

on_both_databases! {
    processes_that_open_at_once_migrate_once_and_agree_on_one_key
    a_key_that_is_missing_shortened_or_another_is_refused_and_names_the_nodes
    a_node_with_another_key_leaves_a_word_and_one_without_any_none
    a_key_from_the_environment_is_not_written_down_and_is_needed_again
    rows_of_the_first_schema_are_there_after_migrating
    rows_of_the_former_schema_are_there_after_migrating
    a_newer_schema_is_refused_with_both_versions_and_left_alone
    a_store_lets_go_of_its_tasks_when_the_node_stops
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

async fn with_a_node_and_a_secret(data: &Data) {
    let store = data.open().await;
    let mut tx = store.begin().await.unwrap();
    tx.register_node(&node("service-91c07f3a")).await.unwrap();
    tx.save_setting("A.Key", Some("swordfish"), true, None, "ann", at(1)).await.unwrap();
    tx.commit().await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn a_first_start_makes_private_files_and_a_second_finds_everything() {
    let data = Data::sqlite();
    with_a_node_and_a_secret(&data).await;
    assert_eq!(mode(&data.path()), 0o700);
    let store = data.open().await;
    let mut tx = store.begin().await.unwrap();
    tx.stop_node(&node("service-91c07f3a").id, None, at(2)).await.unwrap();
    tx.commit().await.unwrap();
    for name in ["switchboard.db", "switchboard.db-wal", "switchboard.db-shm", "encryption.key"] {
        assert_eq!(mode(&data.file(name)), 0o600, "{name}");
    }
    let key = std::fs::read_to_string(data.file("encryption.key")).unwrap();
    assert_eq!(STANDARD.decode(key.trim()).unwrap().len(), 32);
    assert_eq!(store.setting("A.Key").await.unwrap().unwrap().value, "swordfish");
    assert_eq!(store.nodes().await.unwrap()[0].stopped_at, Some(at(2)));
    assert_eq!(store.schema_version().await.unwrap(), VERSION);
    store.ping().await.unwrap();
    assert!(store.database_bytes().await.unwrap() > 4096);
}

#[tokio::test]
async fn the_database_is_set_up_to_keep_what_is_committed() {
    let data = Data::sqlite();
    let _store = data.open().await;
    let mut raw = raw(&data.file("switchboard.db")).await;
    let journal: String = sqlx::query_scalar("pragma journal_mode").fetch_one(&mut raw).await.unwrap();
    assert_eq!(journal, "wal");
}

async fn processes_that_open_at_once_migrate_once_and_agree_on_one_key(data: Data) {
    let opened = futures_util::future::join_all((0..8).map(|_| data.try_open())).await;
    let stores: Vec<Store> = opened.into_iter().map(Result::unwrap).collect();
    let mut tx = stores[0].begin().await.unwrap();
    tx.save_setting("A.Key", Some("one key"), true, None, "ann", at(1)).await.unwrap();
    tx.commit().await.unwrap();
    for store in &stores {
        assert_eq!(store.setting("A.Key").await.unwrap().unwrap().value, "one key");
    }
    let mut raw = data.raw().await;
    assert_eq!(number(&mut raw, "select count(*) from schema_migrations").await, VERSION);
    assert_eq!(number(&mut raw, "select count(*) from encryption_check").await, 1);
    let drafts = std::fs::read_dir(data.path())
        .unwrap()
        .filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().contains(".new"))
        .count();
    assert_eq!(drafts, 0);
}

async fn a_key_that_is_missing_shortened_or_another_is_refused_and_names_the_nodes(data: Data) {
    with_a_node_and_a_secret(&data).await;
    let file = data.file("encryption.key");
    let right = std::fs::read_to_string(&file).unwrap();
    let names_the_way_out = |text: &str| {
        for word in ["service-91c07f3a on box", "encryption.key", "SWITCHBOARD_ENCRYPTION_KEY", "start with an empty"] {
            assert!(text.contains(word), "{word} is not in: {text}");
        }
    };

    std::fs::remove_file(&file).unwrap();
    let text = data.refusal().await;
    assert!(text.contains("is missing") && text.contains("use key id "), "{text}");
    assert!(text.contains("copy it from one of them: service-91c07f3a"), "{text}");
    names_the_way_out(&text);
    assert!(!file.exists(), "no new key is made beside a database that has one");

    std::fs::write(&file, &right[..right.len() - 6]).unwrap();
    let text = data.refusal().await;
    assert!(text.contains("32 bytes in base64"), "{text}");
    names_the_way_out(&text);

    std::fs::write(&file, STANDARD.encode([7; 20])).unwrap();
    let text = data.refusal().await;
    assert!(text.contains("20 bytes long"), "{text}");
    names_the_way_out(&text);

    let other = STANDARD.encode([7; 32]);
    std::fs::write(&file, &other).unwrap();
    let text = data.refusal().await;
    assert!(text.contains("is not the one the database"), "{text}");
    assert!(!text.contains(&other) && !text.contains(right.trim()), "keys are not shown: {text}");
    names_the_way_out(&text);

    std::fs::write(&file, right).unwrap();
    let store = data.open().await;
    assert_eq!(store.setting("A.Key").await.unwrap().unwrap().value, "swordfish");
    // what pages show is what the refusal said, and opening wrote nothing
    assert_eq!(store.diagnostics(Level::Trace, 9).await.unwrap(), []);
    assert!(text.contains(&format!("sealed with (id {})", store.encryption_key_id())), "{text}");
}

async fn a_node_with_another_key_leaves_a_word_and_one_without_any_none(data: Data) {
    let store = data.open().await;
    let (file, node) = (data.file("encryption.key"), NodeId::new("web-7"));
    let right = std::fs::read(&file).unwrap();
    let told = async |key: Option<[u8; 32]>| {
        match key {
            Some(key) => std::fs::write(&file, STANDARD.encode(key)).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let refusal = data.try_open().await.unwrap_err();
        leave_word(&data.options(), &node, "box-7", &refusal).await;
        store.diagnostics(Level::Warn, 9).await.unwrap()
    };
    assert_eq!(told(None).await, []);
    for count in 1..=2 {
        let found = told(Some([7; 32])).await;
        assert_eq!((found.len(), &found[0].node, found[0].count), (1, &node, count), "{found:?}");
        let message = &found[0].message;
        assert!(message.starts_with("refused at its start on box-7: its encryption key (id "), "{message}");
        assert!(message.ends_with(&format!("sealed with (id {})", store.encryption_key_id())), "{message}");
    }
    assert_eq!(told(Some([8; 32])).await.len(), 2);
    std::fs::write(&file, right).unwrap();
    data.open().await;
}

#[tokio::test]
async fn a_spoilt_key_beside_an_empty_database_is_not_replaced() {
    let data = Data::sqlite();
    std::fs::create_dir(data.path()).unwrap();
    std::fs::write(data.file("encryption.key"), "c2hvcnQ=").unwrap();
    let text = data.refusal().await;
    assert!(text.contains("is 5 bytes long"), "{text}");
    assert_eq!(std::fs::read_to_string(data.file("encryption.key")).unwrap(), "c2hvcnQ=");
}

async fn a_key_from_the_environment_is_not_written_down_and_is_needed_again(data: Data) {
    let mut options = data.options();
    options.encryption_key = Some(Arc::new(SecretBox::new(Box::new([9; 32]))));
    let store = Store::open(options.clone(), &data.shutdown).await.unwrap();
    store.close().await;
    assert!(!data.file("encryption.key").exists());
    assert!(data.refusal().await.contains("is missing"));
    Store::open(options.clone(), &data.shutdown).await.unwrap().close().await;
    options.encryption_key = Some(Arc::new(SecretBox::new(Box::new([8; 32]))));
    let text = Store::open(options, &data.shutdown).await.unwrap_err().to_string();
    assert!(text.contains("in SWITCHBOARD_ENCRYPTION_KEY (id "), "{text}");
}

async fn rows_of_the_first_schema_are_there_after_migrating(data: Data) {
    with_former_schema(&data, 1).await;
    let store = migrated(&data).await;
    assert_eq!(store.nodes().await.unwrap()[0].address, None);
    assert_eq!(store.leadership().await.unwrap().holder, None);
}

async fn rows_of_the_former_schema_are_there_after_migrating(data: Data) {
    with_former_schema(&data, VERSION - 1).await;
    let mut raw = data.raw().await;
    change(
        &mut raw,
        "update nodes set address = '10.0.0.7', address_override = 'gateway';
         insert into node_settings values ('service-1', 'A.Plain', 'kept', 'kept', false, 5, null);
         insert into node_links (node, state, endpoint, since) values ('service-1', 'live', 'tcp://a:1', 5);
         update leadership set holder = 'service-1', fencing = 7",
    )
    .await;
    close(raw).await;
    let store = migrated(&data).await;
    let node = &store.nodes().await.unwrap()[0];
    assert_eq!((node.address_override.as_deref(), &node.id_file), (Some("gateway"), &None));
    let lead = store.leadership().await.unwrap();
    assert_eq!((lead.holder, lead.fencing), (Some(node.id.clone()), 7));
    assert_eq!((store.node_settings().await.unwrap().len(), store.node_links().await.unwrap().len()), (1, 1));
    // the process that wrote that row goes on beating, as its program does
    let mut raw = data.raw().await;
    let beat = "update nodes set heartbeat_at = 9 where id = 'service-1' and stopped_at is null";
    assert_eq!(change(&mut raw, beat).await, 1);
    close(raw).await;
    assert_eq!(store.nodes().await.unwrap()[0].heartbeat_at.as_micros(), 9);
}

/// A database as the program of this schema version left it.
async fn with_former_schema(data: &Data, version: i64) {
    std::fs::create_dir(data.path()).unwrap();
    let folder = if data.database.is_some() { "postgres" } else { "sqlite" };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(folder);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert_eq!(i64::try_from(files.len()), Ok(VERSION));
    let mut raw = data.raw().await;
    change(
        &mut raw,
        "create table schema_migrations (
            version bigint not null primary key, name text not null, applied_at bigint not null, applied_by text not null)",
    )
    .await;
    for (version, file) in (1..=version).zip(files) {
        let applied = format!("insert into schema_migrations values ({version}, 'former', 0, '0.1.0')");
        change(&mut raw, std::fs::read_to_string(file).unwrap() + &applied).await;
    }
    change(
        &mut raw,
        "insert into nodes (id, role, host, version, pid, started_at, heartbeat_at)
            values ('service-1', 'service', 'box', '0.1.0', 7, 1, 2);
         insert into settings values ('A.Plain', 'kept', null, 3, 'ann', 5);
         insert into setting_changes values ('A.Plain', 3, 'kept', false, 'ann', 5);
         insert into executions (dispatcher, cause, queued_at, started_at) values ('a', 'schedule', 1, 2);
         insert into log_lives (node, epoch) values ('service-1', '000000000000ffff');
         insert into log_rows (life, seq, at, level, source, bytes, text) values (1, 1, 1, 2, 'a', 70, 'a line');
         update log_total set row_count = 1, bytes = 70",
    )
    .await;
    close(raw).await;
}

/// That database, opened by this program: everything is there.
async fn migrated(data: &Data) -> Store {
    let store = data.open().await;
    assert_eq!(store.schema_version().await.unwrap(), VERSION);
    store.ping().await.unwrap();
    assert_eq!(store.nodes().await.unwrap()[0].host, "box");
    assert_eq!(store.setting("A.Plain").await.unwrap().unwrap().version, 3);
    assert_eq!(store.setting_history(None, 9).await.unwrap().len(), 1);
    assert_eq!(store.open_executions().await.unwrap().len(), 1);
    let lines = store.kept_rows(None, &KeptFilter { limit: 9, ..KeptFilter::default() }).await.unwrap();
    assert!(matches!(&lines[..], [KeptRow::Line(line)] if &*line.entry.text == "a line"), "{lines:?}");
    store.close().await;
    data.open().await
}

async fn a_newer_schema_is_refused_with_both_versions_and_left_alone(data: Data) {
    let store = data.open().await;
    let mut tx = store.begin().await.unwrap();
    tx.register_node(&node("service-1")).await.unwrap();
    tx.commit().await.unwrap();
    let mut raw = data.raw().await;
    change(&mut raw, "insert into schema_migrations values (7, '0007_later', 0, '0.9.0')").await;
    store.ping().await.unwrap();
    assert_eq!(store.newer_program().await.unwrap().as_deref(), Some("0.9.0"), "who has it open works on, and knows");
    store.close().await;
    let text = data.refusal().await;
    let place = data.options().database.map_or_else(|| "switchboard.db".to_owned(), |url| url.place().to_owned());
    for word in ["schema version 7", "switchboard 0.9.0", "up to 5", "backup", &place, "service-1 on box"] {
        assert!(text.contains(word), "{word} is not in: {text}");
    }
    change(&mut raw, "delete from schema_migrations where version = 7").await;
    let store = data.open().await;
    store.ping().await.unwrap();
    assert_eq!(store.newer_program().await.unwrap(), None);
    change(&mut raw, "delete from schema_migrations where version > 2").await;
    assert!(matches!(store.ping().await, Err(Error::Conflict(text)) if text.contains("schema version 2")));
    close(raw).await;
}

#[tokio::test]
async fn directories_and_files_that_can_not_be_used_are_refused_in_words() {
    let data = Data::sqlite();
    std::fs::write(data.path(), "a file").unwrap();
    assert!(data.refusal().await.contains("is not a directory"));
    std::fs::remove_file(data.path()).unwrap();

    // nobody can make a file here, not even an administrator
    let mut options = data.options();
    options.data = "/proc/self".into();
    let text = Store::open(options, &data.shutdown).await.unwrap_err().to_string();
    assert!(text.contains("can't write /proc/self/open.lock") && text.contains("--data"), "{text}");

    std::fs::create_dir(data.path()).unwrap();
    std::fs::write(data.file("switchboard.db"), "this is no database, however long it may be".repeat(100)).unwrap();
    let text = data.refusal().await;
    assert!(text.contains("is no SQLite database") && text.contains("--data"), "{text}");
    std::fs::remove_file(data.file("switchboard.db")).unwrap();

    std::fs::create_dir(data.file("switchboard.db")).unwrap();
    assert!(data.refusal().await.contains("switchboard.db"));
}

#[tokio::test]
async fn a_backup_is_private_whole_and_overwrites_nothing() {
    let data = Data::sqlite();
    with_a_node_and_a_secret(&data).await;
    // a node works on it
    let _store = data.open().await;
    let copy = Data::sqlite();
    std::fs::create_dir(copy.path()).unwrap();
    let file = copy.file("switchboard.db");
    let nothing = backup(&data.file("missing"), &file).await.unwrap_err();
    assert!(matches!(&nothing, Error::Conflict(text) if text.contains("there is no database")), "{nothing}");
    // the key may stand somewhere else: it is not asked for
    let key = data.file("encryption.key");
    std::fs::rename(&key, data.file("elsewhere")).unwrap();
    backup(&data.path(), &file).await.unwrap();
    std::fs::rename(data.file("elsewhere"), &key).unwrap();
    assert_eq!(mode(&file), 0o600);
    let again = backup(&data.path(), &file).await.unwrap_err();
    assert!(matches!(&again, Error::Conflict(text) if text.contains("exists already")), "{again}");
    let nowhere = backup(&data.path(), &copy.file("missing/copy.db")).await.unwrap_err();
    assert!(matches!(&nowhere, Error::Conflict(text) if text.contains("can't write")), "{nowhere}");

    assert!(copy.refusal().await.contains("is missing"), "the key is not in a backup");
    std::fs::copy(data.file("encryption.key"), copy.file("encryption.key")).unwrap();
    let restored = copy.open().await;
    assert_eq!(restored.setting("A.Key").await.unwrap().unwrap().value, "swordfish");
}

async fn a_store_lets_go_of_its_tasks_when_the_node_stops(data: Data) {
    let store = data.open().await;
    data.shutdown.stop();
    assert_eq!(data.shutdown.finished(std::time::Duration::from_secs(10)).await, Ok(()));
    // what must be written at the end still can be
    let mut tx = store.begin().await.unwrap();
    tx.register_node(&node("service-1")).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(store.nodes().await.unwrap().len(), 1);
}
