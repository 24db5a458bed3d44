//! `check-config`, `migrate`, `backup`.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};

use crate::app::cli::Global;
use crate::app::commands::{complain, say};
use crate::app::configuration::{Configuration, Problems};
use crate::base::clock::{Clock as _, SystemClock};
use crate::base::shutdown::Shutdown;
use crate::config::database::DatabaseUrl;
use crate::store::{self, OpenOptions, Store, data_directory};

/// Refuses a data directory in which there is nothing to work with, so that a slip of the pen makes none.
///
/// # Errors
/// If there is no database in it.
fn must_exist(configuration: &Configuration) -> anyhow::Result<()> {
    // one on a server is looked at when it is open
    if configuration.database.is_some() || data_directory::has_database(&configuration.data) {
        return Ok(());
    }
    bail!(
        "there is no database in {}; is `--data` the node's data directory, and was the node started once?",
        configuration.data.display()
    )
}

/// Refuses `--url`: what works on the files of the data directory can't be done from elsewhere.
///
/// # Errors
/// If it was given.
pub(super) fn must_be_here(global: &Global, command: &str) -> anyhow::Result<()> {
    if global.url.is_none() {
        return Ok(());
    }
    let what = format!(
        "`{command}` works on the data directory (--data) of this machine and knows no --url (SWITCHBOARD_URL); \
         run it without, where the node is"
    );
    Err(Problems(vec![what]).into())
}

/// Checks the configuration (of this file, if one is named) and does nothing else.
///
/// # Errors
/// Every problem there is.
pub fn check_config(global: &Global, file: Option<PathBuf>) -> anyhow::Result<u8> {
    let config = file.or_else(|| global.config.clone());
    let configuration = Configuration::load_with_tls(&Global { config, ..global.clone() })?;
    let jobs = configuration.jobs.len();
    say(format_args!("the configuration is good: {jobs} job{}", if jobs == 1 { "" } else { "s" }));
    Ok(0)
}

/// Opens the store, if there is one.
///
/// # Errors
/// If it can't be opened, or nothing was ever made in the database.
pub async fn open(configuration: &Configuration, shutdown: &Shutdown) -> anyhow::Result<Store> {
    must_exist(configuration)?;
    Ok(Store::open_existing(options(configuration), shutdown).await?)
}

/// Opens the store; makes the schema and the key if the database is empty, and says so.
///
/// # Errors
/// If it can't be opened.
pub async fn open_or_make(configuration: &Configuration, shutdown: &Shutdown) -> anyhow::Result<Store> {
    let store = Store::open(options(configuration), shutdown).await?;
    if let Some(news) = store.news() {
        complain(&news);
    }
    Ok(store)
}

fn options(configuration: &Configuration) -> OpenOptions {
    OpenOptions {
        data: configuration.data.clone(),
        database: configuration.database.clone(),
        encryption_key: configuration.encryption_key.clone(),
        clock: Arc::new(SystemClock),
    }
}

/// Brings the database up to date and does nothing else. An empty one on a server is made: somebody named it.
///
/// # Errors
/// If that fails, or there is no database.
pub async fn migrate(global: &Global) -> anyhow::Result<u8> {
    must_be_here(global, "migrate")?;
    let configuration = Configuration::load(global)?;
    must_exist(&configuration)?;
    let shutdown = Shutdown::new();
    let store = open_or_make(&configuration, &shutdown).await?;
    match &configuration.database {
        Some(url) => say(format_args!("the database {} is up to date", url.place())),
        None => say(format_args!("the database in {} is up to date", configuration.data.display())),
    }
    store.close().await;
    Ok(0)
}

/// Writes a copy of the database; with `keep`, deletes the oldest copies made with the same pattern.
///
/// # Errors
/// If the file exists, or the copy can't be written; then no older copy is deleted.
pub async fn backup(global: &Global, pattern: Option<PathBuf>, keep: Option<usize>) -> anyhow::Result<u8> {
    must_be_here(global, "backup")?;
    let configuration = Configuration::load(global)?;
    if let Some(url) = &configuration.database {
        bail!("{}", pg_dump(url));
    }
    let pattern = match pattern {
        Some(pattern) => pattern,
        None => default_pattern(&configuration.data)?,
    };
    let pattern_text = pattern.to_str().context("the file's name is not UTF-8")?;
    let file = PathBuf::from(
        jiff::fmt::strtime::format(pattern_text, SystemClock.now().to_jiff())
            .with_context(|| format!("`{pattern_text}` is no pattern"))?,
    );
    store::backup::backup(&configuration.data, &file).await?;
    let bytes = std::fs::metadata(&file).map_or(0, |found| found.len());
    say(format_args!("copied {} KiB to {}", bytes.div_ceil(1024), file.display()));
    if let Some(keep) = keep {
        for old in older(pattern_text, keep)? {
            std::fs::remove_file(&old).with_context(|| format!("the old copy {} can't be deleted", old.display()))?;
            say(format_args!("deleted the old copy {}", old.display()));
        }
    }
    Ok(0)
}

/// What copies a PostgreSQL database, in the words of a refusal.
fn pg_dump(url: &DatabaseUrl) -> String {
    let place = url.place();
    let words = url.without_password();
    format!(
        "`backup` copies SQLite databases; the one in use is PostgreSQL ({place}), which its own tool copies while nodes run: \
         pg_dump --format=custom --file=switchboard.dump '{words}' (the password from PGPASSWORD or PGPASSFILE); \
         docs/operating.md says how to restore it. Keep the encryption key of the data directory with the copy"
    )
}

/// A file of its own for every copy, in a folder only the node's user can read.
fn default_pattern(data: &Path) -> anyhow::Result<PathBuf> {
    let folder = data.join("backups");
    // a data directory that is not there is not made for the copy of nothing
    if data.is_dir() {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.with_context(|| format!("the folder {} can't be made", folder.display()))?;
    }
    Ok(folder.join("switchboard-%Y-%m-%dT%H-%M-%SZ.db"))
}

/// The copies beyond the newest `keep` among the files that `pattern` could have made.
fn older(pattern: &str, keep: usize) -> anyhow::Result<Vec<PathBuf>> {
    let path = Path::new(pattern);
    let name = path.file_name().and_then(|name| name.to_str()).context("the pattern names no file")?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut copies = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let found = entry.file_name();
        // only what the pattern itself could have written: nothing else is ever deleted
        if found.to_str().is_some_and(|found| jiff::fmt::strtime::parse(name, found).is_ok()) {
            copies.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    copies.sort();
    copies.truncate(copies.len().saturating_sub(keep.max(1)));
    Ok(copies.into_iter().map(|(_, path)| path).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_copies_of_the_same_pattern_make_way_and_the_newest_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (age, name) in ["s-2026-01-01.db", "s-2026-01-02.db", "other.db", "s-2026-01-03.db"].iter().enumerate() {
            std::fs::write(path(name), "x").unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000 + age as u64);
            std::fs::File::options().write(true).open(path(name)).unwrap().set_modified(time).unwrap();
        }
        let pattern = path("s-%Y-%m-%d.db");
        assert_eq!(older(pattern.to_str().unwrap(), 2).unwrap(), [path("s-2026-01-01.db")]);
        assert_eq!(older(pattern.to_str().unwrap(), 9).unwrap(), Vec::<PathBuf>::new());
    }
}
