//! Not found, conflict, busy, broken.

use sqlx::error::DatabaseError as _;
use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;

/// What a caller can do about a failed call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else was faster: look again and decide.
    #[error("{0}")]
    Conflict(String),
    /// The database is locked, full or can't be reached; nothing was changed; try again. A transaction that met this is of no
    /// more use: drop it.
    #[error("the database can't take this now: {}", reason(.0).unwrap_or("it failed"))]
    Busy(#[source] sqlx::Error),
    /// A sealed value does not open with this node's encryption key.
    #[error("{0} can't be opened with this node's encryption key")]
    Sealed(String),
    /// The database failed.
    #[error("the database failed")]
    Broken(#[source] sqlx::Error),
}

/// Why a store can't be opened; each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The text says all.
    #[error("{0}")]
    Refused(String),
    /// The encryption key is not the one the database is sealed with. The text says all; keys are told by their ids.
    #[error("{text}")]
    OtherKey {
        /// What differs, who has the right one, what to do.
        text: String,
        /// Of the key that was found.
        own: String,
        /// Of the key the database is sealed with.
        wanted: String,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] Error),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if reason(&error).is_some() { Self::Busy(error) } else { Self::Broken(error) }
    }
}

impl Error {
    /// A row holds what this program can't read.
    pub(crate) fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Broken(sqlx::Error::Decode(Box::new(error)))
    }

    /// Whether there is no way to the database, as far as this call could tell.
    #[must_use]
    pub fn is_away(&self) -> bool {
        let Self::Busy(error) = self else { return false };
        let stopping = |state: &str| state.starts_with("57P0") || state.starts_with("08");
        matches!(error, sqlx::Error::Io(_)) || state(error).is_some_and(stopping)
    }

    /// It took too long to be of use, or nobody got out of the way in time.
    pub(crate) const fn timed_out() -> Self {
        Self::Busy(sqlx::Error::PoolTimedOut)
    }
}

/// SQLite's primary result code, if the error is one of SQLite's.
pub(crate) fn code(error: &sqlx::Error) -> Option<i32> {
    let error = error.as_database_error()?.try_downcast_ref::<SqliteError>()?;
    // the code is an extended one; its lowest byte is the primary one
    Some(error.code()?.parse::<i32>().ok()? & 0xff)
}

/// PostgreSQL's code (SQLSTATE), if the error is one of PostgreSQL's.
pub(crate) fn state(error: &sqlx::Error) -> Option<&str> {
    Some(error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?.code())
}

/// Whether another connection holds the lock that was needed.
pub(crate) fn is_locked(error: &sqlx::Error) -> bool {
    matches!(code(error), Some(5 | 6))
}

/// Why it is worth trying again, in words; none if it is not.
fn reason(error: &sqlx::Error) -> Option<&'static str> {
    match error {
        sqlx::Error::PoolTimedOut => return Some("it is busy with other work; try again in a moment"),
        // SQLite's own are errors of the database
        sqlx::Error::Io(_) => {
            return Some(
                "it can't be reached; see whether its server runs and the network leads there, then try again",
            );
        }
        _ => {}
    }
    if let Some(state) = state(error) {
        return reason_of_state(state);
    }
    // names of the codes: BUSY and LOCKED, NOMEM, READONLY, IOERR, FULL, CANTOPEN
    Some(match code(error)? {
        5 | 6 => "another process is writing and did not finish in time; try again in a moment",
        7 => "there is not enough memory; try again when there is more",
        8 => "its file can't be written to; make the data directory writable, then try again",
        10 => "reading or writing its file failed; look at the disk, then try again",
        13 => "the disk is full; free some space, then try again",
        14 => "its file can't be opened; look at the data directory, then try again",
        _ => return None,
    })
}

fn reason_of_state(state: &str) -> Option<&'static str> {
    Some(match state {
        // lock_not_available, deadlock_detected, serialization_failure
        "55P03" | "40P01" | "40001" => "another process is writing and did not finish in time; try again in a moment",
        // admin_shutdown, crash_shutdown, cannot_connect_now
        "57P01" | "57P02" | "57P03" => "its server is stopping or starting; try again in a moment",
        // idle_in_transaction_session_timeout
        "25P03" => "this process stopped in the middle of a change, and the server gave it up; try again",
        // query_canceled: by statement_timeout
        "57014" => "it took too long; see what its server is busy with, then try again",
        "53300" => {
            "its server has no connection left; raise max_connections there, or stop what uses them, then try again"
        }
        "53100" => "the disk of its server is full; free some space there, then try again",
        "53200" => "its server has not enough memory; try again when there is more",
        "25006" => "its server takes no changes now (a standby?); name the one that does, or wait until this one is it",
        // connection_exception and its kin
        state if state.starts_with("08") => {
            "it can't be reached; see whether its server runs and the network leads there, then try again"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_says_what_helps_and_keeps_the_cause() {
        let error = Error::from(sqlx::Error::PoolTimedOut);
        assert!(matches!(error, Error::Busy(_)));
        assert!(error.to_string().contains("try again"), "{error}");
        assert!(std::error::Error::source(&error).is_some());
    }

    #[test]
    fn a_database_that_is_busy_is_not_away() {
        assert!(Error::from(sqlx::Error::Io(std::io::ErrorKind::ConnectionRefused.into())).is_away());
        assert!(!Error::from(sqlx::Error::PoolTimedOut).is_away());
        assert!(!Error::Conflict(String::new()).is_away());
    }

    #[test]
    fn what_retrying_does_not_mend_is_broken() {
        assert!(matches!(Error::from(sqlx::Error::RowNotFound), Error::Broken(_)));
    }
}
