//! Brings the schema up to date, and refuses a newer one.

use sqlx::SqliteConnection;

use crate::base::clock::Timestamp;
use crate::store::error::{Error, OpenError};

struct Migration {
    version: i64,
    name: &'static str,
    sql: &'static str,
}

macro_rules! migration {
    ($version:literal, $name:literal) => {
        Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite/", $name, ".sql")),
        }
    };
}

/// All, in order; versions count from 1.
const MIGRATIONS: &[Migration] =
    &[migration!(1, "0001_first"), migration!(2, "0002_node_settings"), migration!(3, "0003_leadership")];

/// The schema version this program works with.
pub(crate) const VERSION: i64 = MIGRATIONS[MIGRATIONS.len() - 1].version;

/// The version of the schema in the database; 0 if it has none.
pub(crate) async fn version(connection: &mut SqliteConnection) -> Result<i64, Error> {
    sqlx::query(
        "create table if not exists schema_migrations (
            version integer not null primary key, name text not null, applied_at integer not null, applied_by text not null)",
    )
    .execute(&mut *connection)
    .await?;
    let version: Option<i64> =
        sqlx::query_scalar("select max(version) from schema_migrations").fetch_one(connection).await?;
    Ok(version.unwrap_or(0))
}

/// Refuses a schema that a newer program made.
pub(crate) async fn refuse_newer(connection: &mut SqliteConnection, version: i64) -> Result<(), OpenError> {
    if version <= VERSION {
        return Ok(());
    }
    let by: String = sqlx::query_scalar("select applied_by from schema_migrations where version = $1")
        .bind(version)
        .fetch_one(connection)
        .await
        .map_err(Error::from)?;
    Err(OpenError::Refused(format!(
        "this database has schema version {version}, made by switchboard {by}; this is switchboard {}, which knows versions \
         up to {VERSION}. Run switchboard {by} or newer, or restore a backup from before it was upgraded",
        env!("CARGO_PKG_VERSION")
    )))
}

/// Applies what is missing after `version`. The caller holds a writing transaction: all of it, or nothing.
pub(crate) async fn apply(connection: &mut SqliteConnection, version: i64, now: Timestamp) -> Result<(), Error> {
    for migration in MIGRATIONS.iter().filter(|migration| migration.version > version) {
        sqlx::raw_sql(migration.sql).execute(&mut *connection).await?;
        sqlx::query("insert into schema_migrations (version, name, applied_at, applied_by) values ($1, $2, $3, $4)")
            .bind(migration.version)
            .bind(migration.name)
            .bind(now.as_micros())
            .bind(env!("CARGO_PKG_VERSION"))
            .execute(&mut *connection)
            .await?;
        tracing::info!(
            version = migration.version,
            name = migration.name,
            "the database schema was brought up to date"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_the_folder_in_order() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite");
        let mut files: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        let listed: Vec<_> = MIGRATIONS.iter().map(|migration| format!("{}.sql", migration.name)).collect();
        assert_eq!(listed, files);
        for (at, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(usize::try_from(migration.version), Ok(at + 1));
            assert!(migration.name.starts_with(&format!("{:04}_", migration.version)), "{}", migration.name);
        }
    }
}
