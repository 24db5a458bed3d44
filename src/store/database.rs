//! The database that is open, whichever it is.

use std::path::Path;
use std::sync::Arc;

use crate::config::database::DatabaseUrl;
use crate::store::data_directory;
use crate::store::error::{Error, OpenError};
use crate::store::postgres::{self, PostgresDatabase};
use crate::store::sql::{self, On};
use crate::store::sqlite::{self, SqliteDatabase};

/// Either database.
#[derive(Debug)]
pub(crate) enum Database {
    Sqlite(Arc<SqliteDatabase>),
    Postgres(Arc<PostgresDatabase>),
}

/// A transaction; rolled back when dropped.
#[derive(Debug)]
pub(crate) enum Begun {
    Sqlite(sqlite::Begun),
    Postgres(postgres::Begun),
}

impl Begun {
    /// Where statements go.
    pub(crate) fn on(&mut self) -> On<'_> {
        match self {
            Self::Sqlite(begun) => On::Sqlite(begun.connection()),
            Self::Postgres(begun) => On::Postgres(begun.held()),
        }
    }

    /// Makes it so; also the tidy end of one that only read.
    pub(crate) async fn commit(self) -> Result<(), Error> {
        match self {
            Self::Sqlite(begun) => Box::pin(begun.commit()).await,
            Self::Postgres(begun) => Box::pin(begun.commit()).await,
        }
    }

    /// Whether it is PostgreSQL's.
    pub(crate) const fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }
}

impl Database {
    /// Opens the one that `url` names, or else the file in the data directory, which is made if it is missing.
    pub(crate) async fn open(data: &Path, url: Option<&DatabaseUrl>) -> Result<Self, OpenError> {
        if let Some(url) = url {
            return Ok(Self::Postgres(Arc::new(PostgresDatabase::new(url)?)));
        }
        let file = data_directory::database(data);
        // made before SQLite opens it: its other files get the same mode
        data_directory::open_private(&file).map_err(|error| data_directory::refused("write", &file, &error))?;
        let opened = SqliteDatabase::open(&file).await.map_err(|error| sqlite::explain(error, &file))?;
        Ok(Self::Sqlite(Arc::new(opened)))
    }

    /// Begins to bring the schema up to date.
    pub(crate) async fn begin_opening(&self) -> Result<Begun, OpenError> {
        match self {
            Self::Sqlite(database) => {
                let begun = database.begin().await.map_err(|error| sqlite::explain(error, database.file()))?;
                Ok(Begun::Sqlite(begun))
            }
            Self::Postgres(database) => {
                let begun =
                    database.begin_opening().await.map_err(|error| postgres::explain(error, database.place()))?;
                Ok(Begun::Postgres(begun))
            }
        }
    }

    /// Begins to write; one at a time, in all processes.
    pub(crate) async fn begin(&self) -> Result<Begun, Error> {
        match self {
            Self::Sqlite(database) => Box::pin(database.begin()).await.map(Begun::Sqlite),
            Self::Postgres(database) => Box::pin(database.begin()).await.map(Begun::Postgres),
        }
    }

    /// Begins to write; on PostgreSQL without waiting for others.
    pub(crate) async fn begin_unlocked(&self) -> Result<Begun, Error> {
        match self {
            Self::Sqlite(database) => Box::pin(database.begin()).await.map(Begun::Sqlite),
            Self::Postgres(database) => Box::pin(database.begin_unlocked()).await.map(Begun::Postgres),
        }
    }

    /// Begins to read from one snapshot.
    pub(crate) async fn begin_reading(&self) -> Result<Begun, Error> {
        match self {
            Self::Sqlite(database) => Box::pin(database.begin_reading()).await.map(Begun::Sqlite),
            Self::Postgres(database) => Box::pin(database.begin_reading()).await.map(Begun::Postgres),
        }
    }

    /// Where reads go.
    pub(crate) fn readers(&self) -> On<'_> {
        match self {
            Self::Sqlite(database) => On::SqlitePool(database.readers()),
            Self::Postgres(database) => On::PostgresPool(database.readers()),
        }
    }

    /// What it takes on the disk, in bytes.
    pub(crate) async fn bytes(&self) -> Result<u64, Error> {
        match self {
            Self::Sqlite(database) => Ok(database.bytes()),
            Self::Postgres(_) => {
                let bytes: i64 =
                    sql::query_scalar("select pg_database_size(current_database())").fetch_one(self.readers()).await?;
                Ok(bytes.cast_unsigned())
            }
        }
    }

    /// Where it is, in words, without any secret.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Sqlite(database) => database.file().display().to_string(),
            Self::Postgres(database) => database.place().to_owned(),
        }
    }

    /// What it is and where, for people.
    pub(crate) async fn describe(&self) -> Result<String, Error> {
        match self {
            Self::Sqlite(_) => Ok(format!("SQLite, {}", self.place())),
            Self::Postgres(_) => {
                let version: String = sql::query_scalar("show server_version").fetch_one(self.readers()).await?;
                Ok(format!("PostgreSQL {version}, {}", self.place()))
            }
        }
    }

    /// Closes every connection.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(database) => database.close().await,
            Self::Postgres(database) => database.close().await,
        }
    }
}
