//! Brings the schema up to date, and refuses a newer one.

use crate::base::clock::Timestamp;
use crate::store::database::Begun;
use crate::store::error::{Error, OpenError};
use crate::store::sql;

struct Migration {
    version: i64,
    name: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

macro_rules! migration {
    ($version:literal, $name:literal) => {
        Migration {
            version: $version,
            name: $name,
            sqlite: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite/", $name, ".sql")),
            postgres: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/postgres/", $name, ".sql")),
        }
    };
}

/// All, in order; versions count from 1.
const MIGRATIONS: &[Migration] = &[
    migration!(1, "0001_first"),
    migration!(2, "0002_node_settings"),
    migration!(3, "0003_leadership"),
    migration!(4, "0004_node_links"),
    migration!(5, "0005_node_id_files"),
];

/// The schema version this program works with.
pub(crate) const VERSION: i64 = MIGRATIONS[MIGRATIONS.len() - 1].version;

/// The version of the schema in the database; 0 if it has none.
pub(crate) async fn version(begun: &mut Begun) -> Result<i64, Error> {
    sql::query(
        "create table if not exists schema_migrations (
            version bigint not null primary key, name text not null, applied_at bigint not null, applied_by text not null)",
    )
    .execute(begun.on())
    .await?;
    let version: Option<i64> =
        sql::query_scalar("select max(version) from schema_migrations").fetch_one(begun.on()).await?;
    Ok(version.unwrap_or(0))
}

/// Refuses a schema that a newer program made.
pub(crate) async fn refuse_newer(begun: &mut Begun, place: &str, version: i64) -> Result<(), OpenError> {
    if version <= VERSION {
        return Ok(());
    }
    let by: String = sql::query_scalar("select applied_by from schema_migrations where version = $1")
        .bind(version)
        .fetch_one(begun.on())
        .await
        .map_err(Error::from)?;
    let nodes = registered(begun).await;
    let nodes = if nodes.is_empty() { String::new() } else { format!(" Nodes registered in it: {nodes}.") };
    Err(OpenError::Refused(format!(
        "the database {place} has schema version {version}, made by switchboard {by}; this is switchboard {}, which knows \
         versions up to {VERSION}.{nodes} Run switchboard {by} or newer, or restore a backup from before it was upgraded",
        env!("CARGO_PKG_VERSION")
    )))
}

/// The nodes that work with this database, the last seen first: for refusals. Empty if there are none.
pub(crate) async fn registered(begun: &mut Begun) -> String {
    // a schema of tomorrow may not have this table: the refusal matters more
    let nodes: Vec<(String, String, String, i64)> =
        sql::query_as("select id, host, version, heartbeat_at from nodes order by heartbeat_at desc, id limit 5")
            .fetch_all(begun.on())
            .await
            .unwrap_or_default();
    let names: Vec<String> = nodes
        .into_iter()
        .map(|(id, host, version, at)| {
            format!("{id} on {host} (version {version}, last seen {})", Timestamp::from_micros(at))
        })
        .collect();
    names.join(", ")
}

/// Applies what is missing after `version`. The caller holds a writing transaction: all of it, or nothing.
pub(crate) async fn apply(begun: &mut Begun, version: i64, now: Timestamp) -> Result<(), Error> {
    for migration in MIGRATIONS.iter().filter(|migration| migration.version > version) {
        let text = if begun.is_postgres() { migration.postgres } else { migration.sqlite };
        sql::Script(text).run(begun.on()).await?;
        sql::query("insert into schema_migrations (version, name, applied_at, applied_by) values ($1, $2, $3, $4)")
            .bind(migration.version)
            .bind(migration.name)
            .bind(now.as_micros())
            .bind(env!("CARGO_PKG_VERSION"))
            .execute(begun.on())
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
    fn the_list_is_either_folder_in_order() {
        let listed: Vec<_> = MIGRATIONS.iter().map(|migration| format!("{}.sql", migration.name)).collect();
        for database in ["sqlite", "postgres"] {
            let folder = format!("{}/migrations/{database}", env!("CARGO_MANIFEST_DIR"));
            let mut files: Vec<_> = std::fs::read_dir(folder)
                .unwrap()
                .map(|file| file.unwrap().file_name().into_string().unwrap())
                .collect();
            files.sort();
            assert_eq!(listed, files, "{database}");
        }
        for (at, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(usize::try_from(migration.version), Ok(at + 1));
            assert!(migration.name.starts_with(&format!("{:04}_", migration.version)), "{}", migration.name);
        }
    }
}
