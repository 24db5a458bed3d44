//! A PostgreSQL database: its connections, what they are told at their start, and how a writer takes its turn.

use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Postgres};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::base::chain::chain;
use crate::config::database::DatabaseUrl;
use crate::store::error::{Error, OpenError, state};

/// How long a call waits for a free connection, or for one to be made.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// How long a writer waits for the one before, in this process or another.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);
/// After so long a call is given up, and its connection: no answer came, not even that the statement took too long.
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);
/// The same for who waits to open the database: a little longer than `lock_timeout` in [`BEGIN_OPENING`].
const OPENING_PATIENCE: Duration = Duration::from_secs(70);
/// The same for what brings a large schema up to date: an index over millions of rows takes its time.
const SCHEMA_PATIENCE: Duration = Duration::from_hours(1);
/// How long it may take until the server hears that somebody listens.
const LISTEN_PATIENCE: Duration = Duration::from_secs(5);
/// On which changes are told.
pub(crate) const CHANNEL: &str = "switchboard_changes";
const READERS: u32 = 4;
/// One writes; the others are for what must not wait for it, as heartbeats.
const WRITERS: u32 = 3;
/// A connection unused for so long is closed; it costs the server a process.
const IDLE: Duration = Duration::from_mins(5);

/// What every connection is told at its start. A node that is frozen or cut off in the middle of a transaction must not keep
/// others from writing for long: the server ends such a connection by itself.
const SESSION: &[(&str, &str)] = &[
    ("statement_timeout", "15s"),
    ("lock_timeout", "5s"),
    ("idle_in_transaction_session_timeout", "5s"),
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "2"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "10s"),
];

/// Begins to write: whoever comes later waits here, in whatever process of whatever node. The number is ours alone.
const BEGIN: &str = "begin; select pg_advisory_xact_lock(5429130770513)";
/// The same for who may bring a large schema up to date, or wait until another has.
const BEGIN_OPENING: &str = "begin; set local lock_timeout = '60s'; set local statement_timeout = 0;
    select pg_advisory_xact_lock(5429130770513)";
const BEGIN_UNLOCKED: &str = "begin";
const BEGIN_READING: &str = "begin isolation level repeatable read, read only";

/// The open database. Its pools are shared by all clones of the store.
#[derive(Debug)]
pub(crate) struct PostgresDatabase {
    writers: Pool,
    readers: Pool,
    listening: Pool,
    place: Arc<str>,
    /// Writers of this process take turns here, so that only one of them waits at the server.
    turn: Arc<Semaphore>,
}

/// Connections of one purpose.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    pool: PgPool,
    /// Host and name, for errors.
    place: Arc<str>,
}

/// A connection taken out of its pool. It goes back when dropped, unless its state is not known; then it is closed, and with it
/// whatever was begun on it ends.
#[derive(Debug)]
pub(crate) struct Held {
    connection: PoolConnection<Postgres>,
    /// A transaction is open on it.
    begun: bool,
    /// A statement on it failed or was given up.
    spoilt: bool,
    /// How long a call on it may take.
    patience: Duration,
}

/// What comes of a call on a held connection.
pub(crate) struct Fate<'h> {
    spoilt: &'h mut bool,
    patience: Duration,
}

/// A transaction and the turn it holds; rolled back (with its connection) when dropped.
#[derive(Debug)]
pub(crate) struct Begun {
    // dropped first: the next one's turn comes when this one's end is on its way
    held: Held,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.begun || self.spoilt {
            self.connection.close_on_drop();
        }
    }
}

impl Held {
    /// The connection, and what watches over calls on it.
    pub(crate) fn parts(&mut self) -> (&mut PgConnection, Fate<'_>) {
        (&mut self.connection, Fate { spoilt: &mut self.spoilt, patience: self.patience })
    }

    async fn begin(mut self, how: &'static str, turn: Option<OwnedSemaphorePermit>) -> Result<Begun, sqlx::Error> {
        self.begun = true;
        self.say(how).await?;
        Ok(Begun { held: self, _turn: turn })
    }

    async fn say(&mut self, text: &'static str) -> Result<(), sqlx::Error> {
        let (connection, fate) = self.parts();
        fate.limit(sqlx::raw_sql(text).execute(connection)).await.map(drop)
    }
}

impl Fate<'_> {
    /// Waits for the answer, not for ever. If none comes, or it is no good, the connection is not used again.
    pub(crate) async fn limit<T>(self, call: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
        let before = std::mem::replace(self.spoilt, true);
        let answer = tokio::time::timeout(self.patience, call)
            .await
            .unwrap_or_else(|_| Err(timed_out(format!("no answer came within {} s", self.patience.as_secs()))));
        // a row that this program can't read is no fault of the connection
        *self.spoilt =
            before || matches!(&answer, Err(sqlx::Error::Database(_) | sqlx::Error::Io(_) | sqlx::Error::Protocol(_)));
        answer
    }
}

impl Pool {
    fn new(size: u32, options: &PgConnectOptions, place: &Arc<str>) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(size)
            .idle_timeout(IDLE)
            .acquire_timeout(CONNECT_PATIENCE)
            .test_before_acquire(true)
            .connect_lazy_with(options.clone());
        Self { pool, place: Arc::clone(place) }
    }

    /// A connection that answers.
    pub(crate) async fn acquire(&self) -> Result<Held, sqlx::Error> {
        match self.pool.acquire().await {
            Ok(connection) => Ok(Held { connection, begun: false, spoilt: false, patience: ANSWER_PATIENCE }),
            // not because all are in use, but because none could be made
            Err(sqlx::Error::PoolTimedOut) if self.pool.size() < self.pool.options().get_max_connections() => {
                let seconds = CONNECT_PATIENCE.as_secs();
                Err(timed_out(format!("no connection to {} could be made within {seconds} s", self.place)))
            }
            Err(error) => Err(error),
        }
    }

    async fn begin(&self, how: &'static str, turn: Option<OwnedSemaphorePermit>) -> Result<Begun, Error> {
        Ok(self.acquire().await?.begin(how, turn).await?)
    }
}

impl Begun {
    /// Where statements go.
    pub(crate) const fn held(&mut self) -> &mut Held {
        &mut self.held
    }

    /// Makes it so.
    pub(crate) async fn commit(mut self) -> Result<(), Error> {
        if self.held.spoilt {
            // PostgreSQL would answer that all is well, and keep nothing
            return Err(Error::Broken(sqlx::Error::Protocol(
                "a statement of this transaction failed before".to_owned(),
            )));
        }
        match self.held.say("commit").await {
            Ok(()) => {
                self.held.begun = false;
                Ok(())
            }
            // nobody can tell whether it was kept
            Err(error @ (sqlx::Error::Io(_) | sqlx::Error::Protocol(_))) => Err(Error::Broken(error)),
            Err(error) => Err(error.into()),
        }
    }
}

impl PostgresDatabase {
    /// Prepares to connect; nothing is sent before the first call.
    ///
    /// # Errors
    /// [`OpenError::Refused`] if a file that the URL names can't be used.
    pub(crate) fn new(url: &DatabaseUrl) -> Result<Self, OpenError> {
        let place: Arc<str> = url.place().into();
        let options: PgConnectOptions = url.expose().parse().map_err(|error| explain(Error::Broken(error), &place))?;
        let options = options
            .port(url.port())
            .application_name("switchboard")
            .options(SESSION.iter().copied())
            .log_slow_statements(tracing::log::LevelFilter::Debug, Duration::from_secs(1))
            .log_statements(tracing::log::LevelFilter::Trace);
        Ok(Self {
            writers: Pool::new(WRITERS, &options, &place),
            readers: Pool::new(READERS, &options, &place),
            listening: Pool::new(1, &options, &place),
            turn: Arc::new(Semaphore::new(1)),
            place,
        })
    }

    /// Host and name, never more.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Begins to write. Waits its turn, and for other processes, at most [`WRITE_PATIENCE`] each.
    pub(crate) async fn begin(&self) -> Result<Begun, Error> {
        let turn = tokio::time::timeout(WRITE_PATIENCE, Arc::clone(&self.turn).acquire_owned())
            .await
            .map_err(|_| Error::timed_out())?
            .map_err(|_| Error::Broken(sqlx::Error::PoolClosed))?;
        self.writers.begin(BEGIN, Some(turn)).await
    }

    /// Begins to write without waiting for other writers.
    pub(crate) async fn begin_unlocked(&self) -> Result<Begun, Error> {
        self.writers.begin(BEGIN_UNLOCKED, None).await
    }

    /// Begins to bring the schema up to date, or waits until another process has.
    pub(crate) async fn begin_opening(&self) -> Result<Begun, Error> {
        let mut held = self.writers.acquire().await?;
        held.patience = OPENING_PATIENCE;
        let mut begun = held.begin(BEGIN_OPENING, None).await?;
        begun.held.patience = SCHEMA_PATIENCE;
        Ok(begun)
    }

    /// Begins to read from one snapshot.
    pub(crate) async fn begin_reading(&self) -> Result<Begun, Error> {
        self.readers.begin(BEGIN_READING, None).await
    }

    /// Where reads go.
    pub(crate) const fn readers(&self) -> &Pool {
        &self.readers
    }

    /// A connection that hears what other processes tell.
    pub(crate) async fn listen(&self) -> Result<PgListener, sqlx::Error> {
        let listening = async {
            let mut listener = PgListener::connect_with(&self.listening.pool).await?;
            listener.eager_reconnect(false);
            listener.listen(CHANNEL).await?;
            Ok(listener)
        };
        let late = || timed_out(format!("{} did not let this node listen within {LISTEN_PATIENCE:?}", self.place));
        tokio::time::timeout(LISTEN_PATIENCE, listening).await.unwrap_or_else(|_| Err(late()))
    }

    /// Closes every connection.
    pub(crate) async fn close(&self) {
        self.turn.close();
        tokio::join!(self.readers.pool.close(), self.writers.pool.close(), self.listening.pool.close());
    }
}

fn timed_out(what: String) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, what))
}

/// Says what to do about a database that can't be opened.
pub(crate) fn explain(error: Error, place: &str) -> OpenError {
    let (Error::Broken(cause) | Error::Busy(cause)) = &error else { return error.into() };
    let state = state(cause);
    let what = match (cause, state) {
        (_, Some("28P01" | "28000")) => {
            "does not let this user in; look at user and password (SWITCHBOARD_DATABASE, `database` in the configuration file, \
             PGPASSWORD or PGPASSFILE) and at the server's pg_hba.conf"
        }
        (_, Some("3D000")) => "does not exist; make it with `createdb`, or name another one with --database",
        (_, Some("42501" | "25006")) => {
            "can't be written to by this user; make it the owner of the database, and see that the server is no standby"
        }
        (_, Some("53300")) => "has no connection left; raise max_connections of the server, or stop what uses them",
        (_, Some("57P01" | "57P03")) => "is starting or stopping; try again in a moment",
        (sqlx::Error::Tls(_), _) => {
            "can't be reached over TLS; see whether the server has TLS on, and whether `sslmode` and `sslrootcert` in the URL \
             fit it"
        }
        (sqlx::Error::Configuration(_), _) => "can't be connected to as the URL says; see the files it names",
        (sqlx::Error::Io(_), _) => {
            "can't be reached; see whether the server runs, listens on that address and lets this machine connect, or name \
             another one with --database"
        }
        _ => "can't be opened",
    };
    OpenError::Refused(format!("the database {place} {what} ({})", chain(cause)))
}
