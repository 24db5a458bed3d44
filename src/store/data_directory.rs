//! The data directory and the private files in it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::base::id::random_u64;
use crate::store::error::OpenError;

/// How long opening waits for another process that is opening the same directory.
const OPENING_PATIENCE: Duration = Duration::from_secs(10);

/// The database in a data directory.
pub(crate) fn database(data: &Path) -> PathBuf {
    data.join("switchboard.db")
}

/// Whether there is a database in a data directory.
#[must_use]
pub fn has_database(data: &Path) -> bool {
    database(data).exists()
}

/// Makes the directory (0700, with its parents) if it is missing.
///
/// # Errors
/// What is in the way, and what to do.
pub fn prepare(data: &Path) -> Result<(), OpenError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(data);
    if data.is_dir() {
        return Ok(());
    }
    let why = match made {
        Err(error) if !data.exists() => format!("can't be made: {error}"),
        _ => "is not a directory".to_owned(),
    };
    Err(OpenError::Refused(format!("the data directory {} {why}; name another one with --data", data.display())))
}

/// Opens a file that only its owner may read, making it if it is missing.
pub(crate) fn open_private(file: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(file)
}

/// Makes an empty file that only its owner may read; an error if anything stands there already.
pub(crate) fn create_private(file: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map(drop)
}

/// Writes a file that only its owner may read, whole or not at all. False if there is one already; it stays as it is.
pub(crate) fn write_once(file: &Path, bytes: &[u8]) -> io::Result<bool> {
    let mut name = file.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".new-{:016x}", random_u64()));
    let draft = file.with_file_name(name);
    let written = (|| {
        let mut open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        open.write_all(bytes)?;
        open.sync_all()?;
        // unlike renaming, linking fails where a file stands already
        match std::fs::hard_link(&draft, file) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    })();
    // what was not made need not be removed; what stays has a name that nobody reads
    let _ = std::fs::remove_file(&draft);
    if matches!(written, Ok(true))
        && let Some(directory) = file.parent()
    {
        File::open(directory)?.sync_all()?;
    }
    written
}

/// Says that a file of the data directory can't be had.
pub(crate) fn refused(what: &str, file: &Path, error: &io::Error) -> OpenError {
    let way_out = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space there",
        _ => "make the data directory readable and writable for this user",
    };
    OpenError::Refused(format!("can't {what} {}: {error}; {way_out}, or name another one with --data", file.display()))
}

/// Held while a process opens a store: one at a time makes files, migrates, and makes the key. The system lets go of it when
/// the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Opening {
    _file: File,
}

impl Opening {
    /// Waits for its turn.
    pub(crate) async fn take(data: &Path) -> Result<Self, OpenError> {
        let path = data.join("open.lock");
        let file = open_private(&path).map_err(|error| refused("write", &path, &error))?;
        let deadline = Instant::now() + OPENING_PATIENCE;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(OpenError::Refused(format!(
                        "another process has been opening the data directory {} for {} seconds; wait until it is done, or stop it",
                        data.display(),
                        OPENING_PATIENCE.as_secs()
                    )));
                }
                Err(error) => return Err(refused("lock", &path, &error.into())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_missing_directory_is_made_for_its_owner_only() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("a/b");
        prepare(&data).unwrap();
        assert_eq!(mode(&data), 0o700);
        prepare(&data).unwrap();
    }

    #[test]
    fn what_can_be_no_directory_is_refused_in_words() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        std::fs::write(&file, "").unwrap();
        let text = prepare(&file).unwrap_err().to_string();
        assert!(text.contains("is not a directory") && text.contains("--data"), "{text}");
        let text = prepare(&file.join("below")).unwrap_err().to_string();
        assert!(text.contains("can't be made") && text.contains("--data"), "{text}");
    }

    #[test]
    fn a_file_written_once_stays() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("key");
        assert!(write_once(&file, b"first").unwrap());
        assert!(!write_once(&file, b"second").unwrap());
        assert_eq!(std::fs::read(&file).unwrap(), b"first");
        assert_eq!(mode(&file), 0o600);
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1, "no draft is left");
    }
}
