//! Floor 2: rows in sqlite (and later postgresql), one file per noun.
//!
//! `impl Store` reads, `impl Transaction` writes. The query texts are meant for both databases: `$1` placeholders,
//! `returning`, `on conflict`; what only SQLite knows stands in `database.rs`, `changes.rs` and `migrations/sqlite`.

pub mod audit;
pub mod backup;
mod changes;
pub mod data_directory;
mod database;
pub mod diagnostics;
pub mod dispatchers;
mod encryption_key;
pub mod error;
pub mod executions;
pub mod leadership;
pub mod lock;
pub mod log_keeping;
pub mod logs;
mod migrate;
pub mod node_id;
pub mod node_settings;
pub mod nodes;
mod runs;
mod seal;
pub mod sessions;
pub mod settings;
pub mod users;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretBox;
use sqlx::{SqliteConnection, SqlitePool};
use tokio::sync::watch;

use crate::base::chain::chain;
use crate::base::clock::{SharedClock, Timestamp};
use crate::base::shutdown::Shutdown;
use crate::store::data_directory::Opening;
use crate::store::database::{Database, Writing};
use crate::store::error::{Error, OpenError};
use crate::store::seal::Sealer;

/// How long [`Store::ping`] waits for an answer.
const PING_PATIENCE: Duration = Duration::from_secs(2);

/// The database. Reads go through a small pool; writes through [`Store::begin`], one at a time in a process. Clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    database: Arc<Database>,
    sealer: Sealer,
    clock: SharedClock,
    changes: watch::Sender<u64>,
}

/// A writing transaction (`BEGIN IMMEDIATE`); rolled back when dropped without [`Transaction::commit`].
///
/// After [`Error::Busy`] or [`Error::Broken`] drop it: nothing of it will be kept. After [`Error::Conflict`] it can go on.
pub struct Transaction {
    writing: Writing,
    inner: Arc<Inner>,
    /// Whether others are told of the commit.
    notable: bool,
}

/// What is needed to open a store.
#[derive(Clone)]
pub struct OpenOptions {
    /// The data directory: made (0700) if it is missing; holds `switchboard.db` (0600) and `encryption.key` (0600).
    pub data: PathBuf,
    /// The encryption key from the environment, if it stands there.
    pub encryption_key: Option<Arc<SecretBox<[u8; 32]>>>,
    /// Tells the time.
    pub clock: SharedClock,
}

impl Store {
    /// Opens the database, makes or migrates the schema, proves the encryption key (makes one only while the database has no
    /// check value), and starts noticing changes by others. Nothing is changed in a database that is refused.
    ///
    /// # Errors
    /// Every cause with words that say what to do: see [`OpenError`].
    pub async fn open(options: OpenOptions, shutdown: &Shutdown) -> Result<Self, OpenError> {
        let OpenOptions { data, encryption_key, clock } = options;
        data_directory::prepare(&data)?;
        let opening = Opening::take(&data).await?;
        let file = data_directory::database(&data);
        // made before SQLite opens it: its other files get the same mode
        data_directory::open_private(&file).map_err(|error| data_directory::refused("write", &file, &error))?;
        let database = Database::open(&file).await.map_err(|error| explain(error, &file))?;
        let mut writing = database.begin().await.map_err(|error| explain(error, &file))?;
        let connection = writing.connection();
        let version = migrate::version(connection).await?;
        migrate::refuse_newer(connection, version).await?;
        let sealer = encryption_key::prove(connection, &data, encryption_key.as_ref(), version > 0).await?;
        migrate::apply(connection, version, clock.now()).await?;
        encryption_key::write_check(connection, &sealer, clock.now()).await?;
        writing.commit().await?;
        drop(opening);

        let database = Arc::new(database);
        let changes = changes::start(&database, shutdown).await.map_err(Error::from)?;
        Ok(Self { inner: Arc::new(Inner { database, sealer, clock, changes }) })
    }

    /// Begins to write; waits (at most 5 s, then [`Error::Busy`]) for the one before, first come, first served.
    pub async fn begin(&self) -> Result<Transaction, Error> {
        let writing = self.inner.database.begin().await?;
        Ok(Transaction { writing, inner: Arc::clone(&self.inner), notable: false })
    }

    /// Rises whenever any process changed the database (own commits at once, others' within 250 ms). What merely accumulates
    /// does not count: kept lines, heartbeats, diagnostics, audit entries, the use of sessions. After a soft stop was asked for
    /// it rises by own commits only.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Whether the database answers, within 2 s, and holds the schema of this version: for `/readyz`.
    ///
    /// # Errors
    /// [`Error::Conflict`] if another version of the program changed the schema meanwhile.
    pub async fn ping(&self) -> Result<(), Error> {
        let version =
            tokio::time::timeout(PING_PATIENCE, self.schema_version()).await.map_err(|_| Error::timed_out())??;
        if version == migrate::VERSION {
            Ok(())
        } else {
            Err(Error::Conflict(format!(
                "the database now has schema version {version}, this program works with {}; start the newer program",
                migrate::VERSION
            )))
        }
    }

    /// The version of the schema in the database.
    pub async fn schema_version(&self) -> Result<i64, Error> {
        Ok(sqlx::query_scalar("select coalesce(max(version), 0) from schema_migrations").fetch_one(self.read()).await?)
    }

    /// What the database takes on the disk, in bytes.
    pub fn database_bytes(&self) -> u64 {
        self.inner.database.bytes()
    }

    /// Closes every connection, after which every call fails. For a tidy end: nothing is lost without it.
    pub async fn close(&self) {
        self.inner.database.close().await;
    }

    fn read(&self) -> &SqlitePool {
        self.inner.database.readers()
    }
}

impl Transaction {
    /// Makes it so, for everybody.
    pub async fn commit(mut self) -> Result<(), Error> {
        let mut revision = None;
        if self.notable {
            revision = Some(changes::count(self.writing.connection()).await?);
        }
        self.writing.commit().await?;
        if let Some(revision) = revision {
            changes::tell(&self.inner.changes, revision);
        }
        Ok(())
    }

    /// Where statements go.
    fn write(&mut self) -> &mut SqliteConnection {
        self.notable = true;
        self.writing.connection()
    }

    /// Where statements go of which nobody needs to be told.
    fn write_quietly(&mut self) -> &mut SqliteConnection {
        self.writing.connection()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").finish_non_exhaustive()
    }
}

/// Says what to do about a file that SQLite can't work with.
fn explain(error: Error, file: &Path) -> OpenError {
    let (Error::Broken(cause) | Error::Busy(cause)) = &error else { return error.into() };
    let what = match error::code(cause) {
        // CORRUPT, NOTADB
        Some(11 | 26) => {
            "is no SQLite database, or a damaged one; restore a backup, or name another directory with --data"
        }
        // IOERR: most often there is no room for the files beside it
        Some(10) => {
            "can't be read or written; see whether the disk is full, and free some space, or broken, or name another directory \
             with --data"
        }
        // PERM, READONLY, CANTOPEN
        Some(3 | 8 | 14) => {
            "can't be opened for writing; make it and its directory writable for this user, or name another one with --data"
        }
        _ => return error.into(),
    };
    OpenError::Refused(format!("{} {what} ({})", file.display(), chain(cause)))
}

/// Hashes and the like stand in the database as bytes of a fixed number.
fn fixed<const N: usize>(bytes: Vec<u8>) -> Result<[u8; N], Error> {
    bytes.try_into().map_err(|bytes: Vec<u8>| {
        Error::Broken(sqlx::Error::Decode(format!("{} bytes stand where {N} were expected", bytes.len()).into()))
    })
}

/// The moment `age` before `now`, as the database has it.
fn cutoff(now: Timestamp, age: Duration) -> i64 {
    now.minus(age).as_micros()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::SystemClock;
    use crate::base::id::{Epoch, NodeId};
    use crate::model::log_entry::{Level, LogEntry};

    async fn open(data: &Path) -> Store {
        let options = OpenOptions { data: data.to_owned(), encryption_key: None, clock: Arc::new(SystemClock) };
        Store::open(options, &Shutdown::new()).await.unwrap()
    }

    async fn fill(store: &Store, epoch: u64, text: &str) -> Result<(), Error> {
        let entry = LogEntry {
            time: Timestamp::from_micros(1),
            level: Level::Info,
            source: "a".into(),
            execution: None,
            stream: None,
            text: text.into(),
        };
        let lines: Vec<_> = (1..=100).map(|seq| (seq, entry.clone())).collect();
        let mut tx = store.begin().await?;
        tx.keep_rows(&NodeId::new("service-1"), Epoch::from_u64(epoch), &lines, &[]).await?;
        tx.commit().await
    }

    async fn pages(store: &Store, most: &'static str) {
        let mut tx = store.begin().await.unwrap();
        sqlx::query(most).execute(tx.write()).await.unwrap();
    }

    #[tokio::test]
    async fn a_full_disk_is_busy_loses_nothing_and_passes() {
        let data = tempfile::tempdir().unwrap();
        let store = open(data.path()).await;
        fill(&store, 1, "kept").await.unwrap();
        let before = store.kept_total().await.unwrap();
        let text = "x".repeat(10_000);
        for epoch in 2..5 {
            pages(&store, "pragma max_page_count = 60").await;
            let error = fill(&store, epoch, &text).await.unwrap_err();
            assert!(matches!(error, Error::Busy(_)), "{error:?}");
            assert!(error.to_string().contains("the disk is full"), "{error}");
            assert_eq!(store.kept_total().await.unwrap(), before);
        }
        pages(&store, "pragma max_page_count = 100000").await;
        fill(&store, 2, &text).await.unwrap();
        assert_eq!(store.kept_total().await.unwrap().0, before.0 + 100);
    }

    #[tokio::test]
    async fn a_transaction_that_sqlite_rolled_back_by_itself_spoils_no_later_one() {
        let data = tempfile::tempdir().unwrap();
        let store = open(data.path()).await;
        let mut tx = store.begin().await.unwrap();
        // what a full disk may do in the middle of a transaction
        sqlx::query("rollback").execute(tx.write()).await.unwrap();
        assert!(tx.commit().await.is_err());
        for epoch in 1..4 {
            fill(&store, epoch, "kept").await.unwrap();
        }
        assert_eq!(store.kept_total().await.unwrap().0, 300);
    }

    #[tokio::test]
    async fn reading_connections_can_not_write() {
        let data = tempfile::tempdir().unwrap();
        let store = open(data.path()).await;
        assert!(sqlx::query("delete from users").execute(store.read()).await.is_err());
    }

    #[tokio::test]
    async fn a_writer_syncs_every_commit() {
        let data = tempfile::tempdir().unwrap();
        let store = open(data.path()).await;
        let mut tx = store.begin().await.unwrap();
        let mut pragma =
            async |sql: &'static str| -> i64 { sqlx::query_scalar(sql).fetch_one(tx.write()).await.unwrap() };
        assert_eq!(pragma("pragma synchronous").await, 2);
        assert_eq!(pragma("pragma foreign_keys").await, 1);
        assert_eq!(pragma("pragma temp_store").await, 2);
    }
}
