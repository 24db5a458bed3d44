//! The store over real files and a real PostgreSQL; two stores over one database stand for two processes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what several tests share")]

/// Tells one story on either database.
macro_rules! on_both_databases {
    ($($story:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $story() {
                super::$story(crate::stores::Data::sqlite()).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            #[ignore = "scripts/test starts PostgreSQL"]
            async fn $story() {
                super::$story(crate::stores::Data::postgres().await).await;
            })*
        }
    };
}

mod cluster;
mod log;
mod opening;
mod people;
mod races;
mod server;
mod work;

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;

use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use switchboard::base::clock::{ManualClock, SharedClock, Timestamp};
use switchboard::base::id::NodeId;
use switchboard::base::shutdown::Shutdown;
use switchboard::config::database::DatabaseUrl;
use switchboard::model::node::{Node, Role};
use switchboard::store::error::OpenError;
use switchboard::store::{OpenOptions, Store};

use crate::postgres::TestDatabase;

const SECOND: i64 = 1_000_000;

/// The present schema's version.
const VERSION: i64 = 5;

/// So many seconds after the beginning of these tests' time.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros((1_800_000_000 + seconds) * SECOND)
}

/// A data directory and a database that go away with the test, and the clock of its stores.
struct Data {
    root: tempfile::TempDir,
    /// Otherwise SQLite in the directory.
    database: Option<TestDatabase>,
    clock: Arc<ManualClock>,
    shutdown: Shutdown,
}

impl Data {
    fn sqlite() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
            database: None,
            clock: ManualClock::new(at(0)),
            shutdown: Shutdown::new(),
        }
    }

    async fn postgres() -> Self {
        Self::with(TestDatabase::new().await)
    }

    fn with(database: TestDatabase) -> Self {
        Self { database: Some(database), ..Self::sqlite() }
    }

    fn path(&self) -> PathBuf {
        self.root.path().join("data")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn options(&self) -> OpenOptions {
        let clock: SharedClock = self.clock.clone();
        let database = self.database.as_ref().map(|database| DatabaseUrl::parse(database.url()).unwrap());
        OpenOptions { data: self.path(), database, encryption_key: None, clock }
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
    async fn raw(&self) -> Raw {
        match &self.database {
            Some(database) => Raw::Postgres(database.connect().await),
            None => Raw::Sqlite(raw(&self.file("switchboard.db")).await),
        }
    }
}

/// A connection to either database.
enum Raw {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

async fn raw(file: &Path) -> SqliteConnection {
    let url = format!("sqlite://{}", file.display());
    let options = SqliteConnectOptions::from_str(&url).unwrap().create_if_missing(true);
    options.foreign_keys(false).connect().await.unwrap()
}

async fn change(connection: &mut Raw, sql: impl Into<String>) -> u64 {
    let sql = sqlx::AssertSqlSafe(sql.into());
    match connection {
        Raw::Sqlite(connection) => sqlx::raw_sql(sql).execute(connection).await.unwrap().rows_affected(),
        Raw::Postgres(connection) => sqlx::raw_sql(sql).execute(connection).await.unwrap().rows_affected(),
    }
}

async fn number(connection: &mut Raw, sql: &'static str) -> i64 {
    match connection {
        Raw::Sqlite(connection) => sqlx::query_scalar(sql).fetch_one(connection).await.unwrap(),
        Raw::Postgres(connection) => sqlx::query_scalar(sql).fetch_one(connection).await.unwrap(),
    }
}

async fn close(connection: Raw) {
    match connection {
        Raw::Sqlite(connection) => connection.close().await.unwrap(),
        Raw::Postgres(connection) => connection.close().await.unwrap(),
    }
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
        id_file: None,
    }
}
