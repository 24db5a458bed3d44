//! Floor 2: rows in SQLite or PostgreSQL, one file per noun.
//!
//! `impl Store` reads, `impl Transaction` writes. Every query text serves both databases (`sql.rs`): `$1` placeholders,
//! `returning`, `on conflict`, casts where PostgreSQL wants to know a type. What only one of them knows stands in `sqlite.rs`,
//! `sqlite_changes.rs` and `migrations/sqlite`, and in those of PostgreSQL; `database.rs` is either.

pub mod audit;
pub mod backup;
pub mod data_directory;
mod database;
pub mod diagnostics;
pub mod dispatchers;
mod encryption_key;
pub mod error;
pub mod executions;
pub mod leadership;
pub mod lock;
mod log_bounds;
pub mod log_keeping;
pub mod logs;
mod migrate;
pub mod node_id;
pub mod node_links;
pub mod node_settings;
pub mod nodes;
pub(crate) mod outage;
mod postgres;
mod postgres_changes;
pub mod refused;
mod revision;
mod runs;
mod seal;
pub mod sessions;
pub mod settings;
mod sql;
mod sqlite;
mod sqlite_changes;
pub mod users;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretBox;
use tokio::sync::watch;

use crate::base::clock::{SharedClock, Timestamp};
use crate::base::shutdown::Shutdown;
use crate::config::database::DatabaseUrl;
use crate::store::data_directory::Opening;
use crate::store::database::{Begun, Database};
use crate::store::error::{Error, OpenError};
use crate::store::seal::Sealer;
use crate::store::sql::On;

/// How long [`Store::ping`] waits for an answer.
const PING_PATIENCE: Duration = Duration::from_secs(2);

/// The database. Reads go through a small pool; writes through [`Store::begin`], one at a time in a process. Clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    database: Database,
    description: String,
    /// Whether this opening made the schema.
    is_new: bool,
    sealer: Sealer,
    clock: SharedClock,
    changes: watch::Sender<u64>,
}

/// A writing transaction, the only one at its time unless it is [unlocked](Store::begin_unlocked); rolled back when dropped without [`Transaction::commit`].
///
/// After [`Error::Busy`] or [`Error::Broken`] drop it: nothing of it will be kept. After [`Error::Conflict`] it can go on.
pub struct Transaction {
    begun: Begun,
    inner: Arc<Inner>,
    /// Whether others are told of the commit.
    notable: bool,
}

/// What is needed to open a store.
#[derive(Clone)]
pub struct OpenOptions {
    /// The data directory: made (0700) if it is missing; holds `encryption.key` (0600) and, without another database,
    /// `switchboard.db` (0600).
    pub data: PathBuf,
    /// The PostgreSQL database, instead of SQLite in the data directory. Several nodes may share it, each with a data
    /// directory of its own and the same encryption key.
    pub database: Option<DatabaseUrl>,
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
        // a large future, awaited once in a process
        Box::pin(Self::open_or_explain(options, true, shutdown)).await
    }

    /// The same, but makes neither a schema nor a key: an empty database is refused and stays empty.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_existing(options: OpenOptions, shutdown: &Shutdown) -> Result<Self, OpenError> {
        Box::pin(Self::open_or_explain(options, false, shutdown)).await
    }

    async fn open_or_explain(options: OpenOptions, make: bool, shutdown: &Shutdown) -> Result<Self, OpenError> {
        let OpenOptions { data, database, encryption_key, clock } = options;
        data_directory::prepare(&data)?;
        let opening = Opening::take(&data).await?;
        let database = Database::open(&data, database.as_ref()).await?;
        let place = database.place();
        let mut begun = database.begin_opening().await?;
        let version = migrate::version(&mut begun).await?;
        if version == 0 && !make {
            // what looking has made is rolled back
            return Err(OpenError::Refused(format!(
                "the database {place} is empty: there are no tables of Switchboard in it. Correct --data or --database, or \
                 start with `run`, `migrate` or `user add`, which make them"
            )));
        }
        migrate::refuse_newer(&mut begun, &place, version).await?;
        let sealer = encryption_key::prove(&mut begun, &place, &data, encryption_key.as_ref(), version > 0).await?;
        migrate::apply(&mut begun, version, clock.now()).await?;
        encryption_key::write_check(&mut begun, &sealer, clock.now()).await?;
        begun.commit().await?;
        drop(opening);

        let changes = match &database {
            Database::Sqlite(database) => sqlite_changes::start(database, shutdown).await,
            Database::Postgres(database) => postgres_changes::start(database, shutdown).await,
        };
        let changes = changes.map_err(Error::from)?;
        let description = database.describe().await?;
        Ok(Self { inner: Arc::new(Inner { database, description, is_new: version == 0, sealer, clock, changes }) })
    }

    /// Begins to write; waits (at most 5 s, then [`Error::Busy`]) for the one before, first come, first served.
    pub async fn begin(&self) -> Result<Transaction, Error> {
        let begun = self.inner.database.begin().await?;
        Ok(Transaction { begun, inner: Arc::clone(&self.inner), notable: false })
    }

    /// Begins to write what must not wait behind others, as signs of life: single statements, each right by itself whatever
    /// others write at the same time. On SQLite the same as [`Store::begin`].
    pub async fn begin_unlocked(&self) -> Result<Transaction, Error> {
        let begun = self.inner.database.begin_unlocked().await?;
        Ok(Transaction { begun, inner: Arc::clone(&self.inner), notable: false })
    }

    /// Whether nodes with other data directories may use the database as well.
    pub fn is_shared(&self) -> bool {
        matches!(self.inner.database, Database::Postgres(_))
    }

    /// What is to be said, if opening made the schema of the database.
    pub fn news(&self) -> Option<String> {
        let place = self.inner.database.place();
        self.inner.is_new.then(|| {
            let key = if self.is_shared() { "; every node that uses it needs the same encryption key" } else { "" };
            format!("made a new database in {place}: it was empty{key}")
        })
    }

    /// Which database it is, of which version, and where; for people, without any secret.
    pub fn description(&self) -> &str {
        &self.inner.description
    }

    /// The id of the encryption key that this database is sealed with. It tells keys apart and gives nothing of them away; every
    /// process that has opened the database has proved that its own key is that one.
    pub fn encryption_key_id(&self) -> String {
        encryption_key::show(self.inner.sealer.key_id())
    }

    /// Rises whenever any process changed the database (own commits at once, others' within 250 ms). What merely accumulates
    /// does not count: kept lines, heartbeats, diagnostics, audit entries, the use of sessions. After a soft stop was asked for
    /// it rises by own commits only.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Whether the database answers, within 2 s, and holds the schema of this version or one that a newer program made of it
    /// meanwhile, with which this one works on: for `/readyz`.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the schema is an older one.
    pub async fn ping(&self) -> Result<(), Error> {
        let version =
            tokio::time::timeout(PING_PATIENCE, self.schema_version()).await.map_err(|_| Error::timed_out())??;
        if version >= migrate::VERSION {
            Ok(())
        } else {
            Err(Error::Conflict(format!(
                "the database now has schema version {version}, this program works with {}; was an old backup put in its place? \
                 Stop every node before that, and start them after it",
                migrate::VERSION
            )))
        }
    }

    /// The version of the program that brought the schema further than this one knows it, if one did: migrations only add, so this
    /// process works on, but would not be started again.
    pub async fn newer_program(&self) -> Result<Option<String>, Error> {
        let newest = "select applied_by from schema_migrations where version > $1 order by version desc limit 1";
        Ok(sql::query_scalar(newest).bind(migrate::VERSION).fetch_optional(self.read()).await?)
    }

    /// The time by the database's own clock: the same for all nodes, however theirs go.
    pub async fn database_time(&self) -> Result<Timestamp, Error> {
        Ok(Timestamp::from_micros(sql::query_scalar("select {now}").fetch_one(self.read()).await?))
    }

    /// The version of the schema in the database.
    pub async fn schema_version(&self) -> Result<i64, Error> {
        Ok(sql::query_scalar("select coalesce(max(version), 0) from schema_migrations").fetch_one(self.read()).await?)
    }

    /// What the database takes on the disk, in bytes.
    pub async fn database_bytes(&self) -> Result<u64, Error> {
        self.inner.database.bytes().await
    }

    /// Closes every connection, after which every call fails. For a tidy end: nothing is lost without it.
    pub async fn close(&self) {
        self.inner.database.close().await;
    }

    fn read(&self) -> On<'_> {
        self.inner.database.readers()
    }
}

impl Transaction {
    /// Makes it so, for everybody.
    pub async fn commit(mut self) -> Result<(), Error> {
        let mut revision = None;
        if self.notable {
            revision = Some(revision::count(&mut self.begun).await?);
        }
        self.begun.commit().await?;
        outage::over();
        if let Some(revision) = revision {
            revision::tell(&self.inner.changes, revision);
        }
        Ok(())
    }

    /// Where statements go.
    fn write(&mut self) -> On<'_> {
        self.notable = true;
        self.begun.on()
    }

    /// Where statements go of which nobody needs to be told.
    fn write_quietly(&mut self) -> On<'_> {
        self.begun.on()
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
    use std::path::Path;

    use super::*;
    use crate::base::clock::SystemClock;
    use crate::base::id::{Epoch, NodeId};
    use crate::model::log_entry::{Level, LogEntry};

    async fn open(data: &Path) -> Store {
        let options =
            OpenOptions { data: data.to_owned(), database: None, encryption_key: None, clock: Arc::new(SystemClock) };
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
        sql::query(most).execute(tx.write()).await.unwrap();
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
        sql::query("rollback").execute(tx.write()).await.unwrap();
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
        assert!(sql::query("delete from users").execute(store.read()).await.is_err());
    }

    #[tokio::test]
    async fn a_writer_syncs_every_commit() {
        let data = tempfile::tempdir().unwrap();
        let store = open(data.path()).await;
        let mut tx = store.begin().await.unwrap();
        let mut pragma =
            async |text: &'static str| -> i64 { sql::query_scalar(text).fetch_one(tx.write()).await.unwrap() };
        assert_eq!(pragma("pragma synchronous").await, 2);
        assert_eq!(pragma("pragma foreign_keys").await, 1);
        assert_eq!(pragma("pragma temp_store").await, 2);
    }
}
