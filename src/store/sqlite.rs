//! The SQLite file: one writing connection, a few reading ones, and what they are told at their start.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, Sqlite, SqliteConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::base::chain::chain;
use crate::store::error::{Error, OpenError, code, is_locked};

/// How long a writer waits for the one before, in this process or another.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);
/// How long SQLite itself waits for a lock; writers try again until their patience ends, so that a wait can be given up.
const LOCK_WAIT: Duration = Duration::from_millis(250);
/// How long a read waits for a free connection.
const READ_PATIENCE: Duration = Duration::from_secs(5);
const READERS: u32 = 4;
/// A reading connection unused for so long is closed; it costs a thread and its caches.
const READER_IDLE: Duration = Duration::from_mins(1);
/// Pages after which a commit itself copies the write-ahead log into the database, if nobody did before.
const CHECKPOINT_AT_COMMIT: &str = "8000";
/// To how many bytes the write-ahead log is cut when it starts over.
const LOG_FILE_LIMIT: &str = "16777216";

/// The open file. Its pools are shared by all clones of the store.
#[derive(Debug)]
pub(crate) struct SqliteDatabase {
    file: PathBuf,
    writer: SqlitePool,
    readers: SqlitePool,
    /// Writers take turns here, first come, first served; SQLite's own lock knows no order.
    turn: Arc<Semaphore>,
}

/// A transaction, and the turn it holds if it writes; rolled back when dropped.
#[derive(Debug)]
pub(crate) struct Begun {
    // dropped first: the next one's turn comes when this one's rollback is on its way
    transaction: sqlx::Transaction<'static, Sqlite>,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Begun {
    /// Where statements go.
    pub(crate) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.transaction
    }

    /// Makes it so.
    pub(crate) async fn commit(self) -> Result<(), Error> {
        Ok(self.transaction.commit().await?)
    }
}

impl SqliteDatabase {
    /// Opens the file, which exists and may be empty.
    pub(crate) async fn open(file: &Path) -> Result<Self, Error> {
        // A failed statement may have rolled back the whole transaction (a full disk does); then the rollback after it fails
        // and sqlx counts one transaction too many for ever. Such a connection is closed, and a new one opened.
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .acquire_timeout(WRITE_PATIENCE)
            .before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }))
            .connect_with(
                options(file)
                    .journal_mode(SqliteJournalMode::Wal)
                    .pragma("wal_autocheckpoint", CHECKPOINT_AT_COMMIT)
                    .pragma("cache_size", "-2000"),
            )
            .await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .idle_timeout(READER_IDLE)
            .acquire_timeout(READ_PATIENCE)
            .before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }))
            .connect_lazy_with(reading(file));
        Ok(Self { file: file.to_owned(), writer, readers, turn: Arc::new(Semaphore::new(1)) })
    }

    /// Begins to write. Waits its turn, and for other processes, at most [`WRITE_PATIENCE`] in all.
    pub(crate) async fn begin(&self) -> Result<Begun, Error> {
        let deadline = Instant::now() + WRITE_PATIENCE;
        let turn = tokio::time::timeout(WRITE_PATIENCE, Arc::clone(&self.turn).acquire_owned())
            .await
            .map_err(|_| Error::timed_out())?
            .map_err(|_| Error::Broken(sqlx::Error::PoolClosed))?;
        loop {
            match self.writer.begin_with("begin immediate").await {
                Ok(transaction) => return Ok(Begun { transaction, _turn: Some(turn) }),
                Err(error) if is_locked(&error) && Instant::now() < deadline => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Begins to read from one snapshot.
    pub(crate) async fn begin_reading(&self) -> Result<Begun, Error> {
        Ok(Begun { transaction: self.readers.begin().await?, _turn: None })
    }

    /// The file.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Where reads go.
    pub(crate) const fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// A reading connection of its own.
    pub(crate) async fn connect(&self) -> Result<SqliteConnection, sqlx::Error> {
        reading(&self.file).connect().await
    }

    /// What the database and its write-ahead log take on the disk, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let log = self.file.with_extension("db-wal");
        [&self.file, &log].into_iter().filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
    }

    /// Closes every connection; the last one of all processes copies the write-ahead log into the database.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.turn.close();
        self.writer.close().await;
    }
}

/// Says what to do about a file that SQLite can't work with.
pub(crate) fn explain(error: Error, file: &Path) -> OpenError {
    let (Error::Broken(cause) | Error::Busy(cause)) = &error else { return error.into() };
    let what = match code(cause) {
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

/// Writes a consistent copy of `file` into `target`, an empty file.
pub(crate) async fn copy_into(file: &Path, target: &str) -> Result<(), Error> {
    let mut connection = options(file).connect().await?;
    sqlx::query("vacuum into $1").bind(target).execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

fn options(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(false)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(LOCK_WAIT)
        .foreign_keys(true)
        .statement_cache_capacity(64)
        .pragma("temp_store", "memory")
        .pragma("cache_size", "-500")
        .pragma("journal_size_limit", LOG_FILE_LIMIT)
        .log_slow_statements(tracing::log::LevelFilter::Debug, Duration::from_secs(1))
        .log_statements(tracing::log::LevelFilter::Trace)
}

fn reading(file: &Path) -> SqliteConnectOptions {
    options(file).pragma("query_only", "on")
}
