//! Notices that other processes changed the SQLite file, and keeps its write-ahead log short beside the commits.

use std::sync::{Arc, Weak};
use std::time::Duration;

use sqlx::SqliteConnection;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::base::chain::chain;
use crate::base::shutdown::Shutdown;
use crate::store::revision::tell;
use crate::store::sqlite::SqliteDatabase;

/// How often the database is asked whether somebody changed it.
const PACE: Duration = Duration::from_millis(200);
/// How often, at most, the length of the write-ahead log is looked at; only after changes.
const CHECKPOINT_PACE: Duration = Duration::from_secs(1);
/// From how many pages (of 4 KiB) on it is copied into the database.
const CHECKPOINT_PAGES: i64 = 1000;
/// After so long without a commit it is copied however short it is, and cut: living nodes commit more often, so most likely the disk
/// is full, and on a small one the log itself may be what fills it.
const QUIET: Duration = Duration::from_secs(10);

/// What a process knows of the database's changes.
#[derive(Clone, Copy)]
struct Seen {
    /// SQLite's own count of commits of all other connections; comparable only on one connection, hence the one for it. Cheap.
    version: i64,
    /// The number of the last commit that counts.
    revision: u64,
}

/// Starts both tasks. They end when a stop is asked for, or when the store is dropped. Whatever changes from now on is noticed.
pub(crate) async fn start(
    database: &Arc<SqliteDatabase>,
    shutdown: &Shutdown,
) -> Result<watch::Sender<u64>, sqlx::Error> {
    let mut connection = None;
    let first = look(database, &mut connection, None).await?;
    let (changes, _) = watch::channel(first.revision);
    let (moved, hears) = watch::channel(first.version);
    let stopping = shutdown.clone();
    let notice = notice(Arc::downgrade(database), changes.clone(), moved, connection, first);
    shutdown.spawn("store: changes", async move {
        tokio::select! {
            () = notice => {}
            () = stopping.stopping() => {}
        }
    });
    let stopping = shutdown.clone();
    let checkpoint = checkpoint(Arc::downgrade(database), hears, QUIET);
    shutdown.spawn("store: checkpoint", async move {
        tokio::select! {
            () = checkpoint => {}
            () = stopping.stopping() => {}
        }
    });
    Ok(changes)
}

async fn notice(
    database: Weak<SqliteDatabase>,
    changes: watch::Sender<u64>,
    moved: watch::Sender<i64>,
    mut connection: Option<SqliteConnection>,
    first: Seen,
) {
    let mut last = Some(first);
    let mut ticks = tokio::time::interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(database) = database.upgrade() else { return };
        match look(&database, &mut connection, last).await {
            Ok(seen) => {
                tell(&changes, seen.revision);
                if last.is_none_or(|last| last.version != seen.version) {
                    moved.send_replace(seen.version);
                }
                last = Some(seen);
            }
            Err(error) => {
                if last.take().is_some() {
                    tracing::warn!(error = %chain(&error), "can't ask the database whether it changed; trying again until it answers");
                }
                connection = None;
            }
        }
    }
}

async fn look(
    database: &SqliteDatabase,
    connection: &mut Option<SqliteConnection>,
    last: Option<Seen>,
) -> Result<Seen, sqlx::Error> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(database.connect().await?),
    };
    // the version first: a commit between the two is looked at again
    let version = sqlx::query_scalar("pragma data_version").fetch_one(&mut *connection).await?;
    if let Some(last) = last.filter(|last| last.version == version) {
        return Ok(last);
    }
    let revision: i64 = sqlx::query_scalar("select number from revision").fetch_one(connection).await?;
    Ok(Seen { version, revision: revision.cast_unsigned() })
}

/// Copies the write-ahead log into the database when it has grown, without any lock that a commit would wait for; and when no commit
/// comes.
async fn checkpoint(database: Weak<SqliteDatabase>, mut moves: watch::Receiver<i64>, quiet: Duration) {
    loop {
        let enough = match tokio::time::timeout(quiet, moves.changed()).await {
            Ok(Ok(())) => {
                tokio::time::sleep(CHECKPOINT_PACE).await;
                moves.mark_unchanged();
                Enough::Long
            }
            Ok(Err(_)) => return,
            Err(_) => Enough::Any,
        };
        let Some(database) = database.upgrade() else { return };
        if let Err(error) = checkpoint_if(enough, &database).await {
            // a commit does it when the log has grown further, and says so if it can't
            tracing::debug!(error = %chain(&error), "could not copy the write-ahead log");
        }
    }
}

/// How long a log is worth copying.
#[derive(Clone, Copy)]
enum Enough {
    Long,
    Any,
}

async fn checkpoint_if(enough: Enough, database: &SqliteDatabase) -> Result<(), sqlx::Error> {
    let mut connection = database.readers().acquire().await?;
    let (_, pages, copied): (i64, i64, i64) =
        sqlx::query_as("pragma wal_checkpoint(noop)").fetch_one(&mut *connection).await?;
    let how = match enough {
        Enough::Long if pages - copied >= CHECKPOINT_PAGES => "pragma wal_checkpoint(passive)",
        Enough::Any if pages > 0 => "pragma wal_checkpoint(truncate)",
        _ => return Ok(()),
    };
    sqlx::query(how).execute(&mut *connection).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_log_that_nobody_adds_to_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("switchboard.db");
        std::fs::File::create(&file).unwrap();
        let database = Arc::new(SqliteDatabase::open(&file).await.unwrap());
        let mut begun = database.begin().await.unwrap();
        sqlx::query("create table t (n integer)").execute(begun.connection()).await.unwrap();
        begun.commit().await.unwrap();
        let log = || file.with_extension("db-wal").metadata().unwrap().len();
        assert!(log() > 0);
        let (_moved, moves) = watch::channel(0);
        let cut = async {
            while log() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = checkpoint(Arc::downgrade(&database), moves, Duration::from_millis(10)) => panic!("it goes on"),
            cut = tokio::time::timeout(Duration::from_secs(10), cut) => cut.expect("it is cut"),
        }
        database.close().await;
    }
}
