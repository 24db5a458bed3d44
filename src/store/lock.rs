//! The lock of the one service process on a data directory.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::base::id::NodeId;
use crate::store::data_directory::{open_private, prepare, refused};
use crate::store::error::OpenError;

/// Held by the service process of a data directory as long as it lives; the system lets go of it when the process ends,
/// however it ends.
#[derive(Debug)]
pub struct ServiceLock {
    _file: File,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{holder} already runs on the data directory {data}; stop it, or name another one with --data")]
    Held {
        /// Which one: `service-91c07f3a (process 123)`.
        holder: String,
        /// On which directory.
        data: String,
    },
    /// The directory can't be used; the text says why and what to do.
    #[error(transparent)]
    Unusable(#[from] OpenError),
}

impl ServiceLock {
    /// Takes the lock, or says at once who has it. Makes the data directory if it is missing.
    ///
    /// # Errors
    /// [`LockError::Held`] names the holder.
    pub fn take(data: &Path, node: &NodeId) -> Result<Self, LockError> {
        prepare(data)?;
        let path = data.join("service.lock");
        let mut file = open_private(&path).map_err(|error| refused("write", &path, &error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // nothing, or not text: it was only just taken
                if file.read_to_string(&mut holder).is_err() || holder.trim().is_empty() {
                    "another service process".clone_into(&mut holder);
                }
                return Err(LockError::Held { holder: holder.trim().to_owned(), data: data.display().to_string() });
            }
            Err(error) => return Err(refused("lock", &path, &error.into()).into()),
        }
        let holder = format!("{node} (process {})\n", std::process::id());
        let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(holder.as_bytes()));
        written.map_err(|error| refused("write", &path, &error))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_the_first_is() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        let first = ServiceLock::take(&data, &NodeId::new("service-1")).unwrap();
        let text = ServiceLock::take(&data, &NodeId::new("service-2")).unwrap_err().to_string();
        let holder = format!("service-1 (process {})", std::process::id());
        assert!(text.contains(&holder) && text.contains("--data"), "{text}");
        drop(first);
        let third = ServiceLock::take(&data, &NodeId::new("a-much-shorter-life-3")).unwrap();
        let text = ServiceLock::take(&data, &NodeId::new("service-4")).unwrap_err().to_string();
        assert!(text.contains("a-much-shorter-life-3 (process"), "{text}");
        drop(third);
    }

    #[test]
    fn a_file_in_place_of_the_directory_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        std::fs::write(&data, "").unwrap();
        let error = ServiceLock::take(&data, &NodeId::new("service-1")).unwrap_err();
        assert!(matches!(error, LockError::Unusable(_)), "{error}");
    }
}
