//! A consistent copy of the database, made while nodes work on it.

use std::fmt;
use std::path::Path;

use crate::store::data_directory;
use crate::store::error::Error;
use crate::store::sqlite;

/// Writes a copy of the database in the data directory to `file` (`VACUUM INTO`), 0600; refuses to overwrite. Needs no
/// encryption key and holds none: what is sealed stays sealed.
///
/// # Errors
/// [`Error::Conflict`] says why there is nothing to copy, or why `file` can't be made.
pub async fn backup(data: &Path, file: &Path) -> Result<(), Error> {
    let source = data_directory::database(data);
    if !source.is_file() {
        let text = format!("there is no database in {}; --data names the data directory of a node", data.display());
        return Err(Error::Conflict(text));
    }
    let cant = |error: &dyn fmt::Display| Error::Conflict(format!("can't write {}: {error}", file.display()));
    let Some(target) = file.to_str() else { return Err(cant(&"its name is not UTF-8")) };
    match data_directory::create_private(file) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Error::Conflict(format!("{target} exists already; name another file, or remove it first")));
        }
        made => made.map_err(|error| cant(&error))?,
    }
    let copied = sqlite::copy_into(&source, target).await;
    let kept = copied.and_then(|()| {
        std::fs::File::open(file).and_then(|file| file.sync_all()).map_err(|error| Error::Broken(error.into()))
    });
    if kept.is_err() {
        // half a copy must not be taken for one
        let _ = std::fs::remove_file(file);
    }
    kept
}
