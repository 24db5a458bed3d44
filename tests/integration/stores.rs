//! The store over real files; two stores over one directory stand for two processes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what several tests share")]

mod log;
mod opening;
mod people;
mod races;
mod work;

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use switchboard::base::clock::{ManualClock, SharedClock, Timestamp};
use switchboard::base::id::NodeId;
use switchboard::base::shutdown::Shutdown;
use switchboard::model::node::{Node, Role};
use switchboard::store::error::OpenError;
use switchboard::store::{OpenOptions, Store};

const SECOND: i64 = 1_000_000;

/// So many seconds after the beginning of these tests' time.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros((1_800_000_000 + seconds) * SECOND)
}

/// A data directory that goes away with the test, and the clock of its stores.
struct Data {
    root: tempfile::TempDir,
    clock: Arc<ManualClock>,
    shutdown: Shutdown,
}

impl Data {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap(), clock: ManualClock::new(at(0)), shutdown: Shutdown::new() }
    }

    fn path(&self) -> PathBuf {
        self.root.path().join("data")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn options(&self) -> OpenOptions {
        let clock: SharedClock = self.clock.clone();
        OpenOptions { data: self.path(), encryption_key: None, clock }
    }

    async fn open(&self) -> Store {
        self.try_open().await.unwrap()
    }

    async fn try_open(&self) -> Result<Store, OpenError> {
        Store::open(self.options(), &self.shutdown).await
    }

    /// What opening is refused with.
    async fn refusal(&self) -> String {
        match self.try_open().await {
            Ok(_) => panic!("the store was opened"),
            Err(error) => error.to_string(),
        }
    }

    /// A connection beside the store, as another program would have one.
    async fn raw(&self) -> SqliteConnection {
        raw(&self.file("switchboard.db")).await
    }
}

async fn raw(file: &Path) -> SqliteConnection {
    let url = format!("sqlite://{}", file.display());
    SqliteConnectOptions::from_str(&url).unwrap().foreign_keys(false).connect().await.unwrap()
}

async fn change(connection: &mut SqliteConnection, sql: &'static str) -> u64 {
    sqlx::query(sql).execute(connection).await.unwrap().rows_affected()
}

async fn number(connection: &mut SqliteConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

async fn close(connection: SqliteConnection) {
    connection.close().await.unwrap();
}

fn node(id: &str) -> Node {
    Node {
        id: NodeId::new(id),
        role: Role::Service,
        host: "box".to_owned(),
        version: "0.1.0".to_owned(),
        pid: 7,
        started_at: at(0),
        heartbeat_at: at(0),
        stopped_at: None,
        key_fingerprint: None,
        address: None,
        address_override: None,
    }
}
