//! A node's own id: made at its first start, and kept per role in the data directory.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::base::id::{NodeId, random_u64};
use crate::model::node::Role;
use crate::store::data_directory::{prepare, refused, write_once};
use crate::store::error::OpenError;

/// How many web processes may share a data directory.
const MOST_WEB_NODES: u32 = 64;

/// The id of this node. Keep it as long as the process lives: a web node's id is free again when it is dropped.
#[derive(Debug)]
pub struct OwnNodeId {
    id: NodeId,
    path: PathBuf,
    mark: String,
    /// A web node's is locked. Open: as long as it is, no other file of this machine has its number.
    file: File,
}

impl OwnNodeId {
    /// The id.
    pub const fn id(&self) -> &NodeId {
        &self.id
    }

    /// The file that holds it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A word for that file that no other living process has, and that a former process of this data directory had, unless the
    /// machine was started anew since. So it tells a copied data directory from one whose process fell.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// The id kept in `node-ROLE.id`, made if there is none. Any number of web processes may share a directory: each takes the
    /// first id that no living one uses (`node-web.id`, `node-web-2.id`, …).
    ///
    /// # Errors
    /// What is wrong with the directory or a file, and what to do.
    pub fn take(data: &Path, role: Role) -> Result<Self, OpenError> {
        prepare(data)?;
        if role.has_service() {
            // a second process of this role is refused by the service lock, which is told this id
            return Self::of(data.join(format!("node-{role}.id")), role);
        }
        for number in 1..=MOST_WEB_NODES {
            let name = if number == 1 { format!("node-{role}.id") } else { format!("node-{role}-{number}.id") };
            let own = Self::of(data.join(name), role)?;
            match flock(&own.file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(own),
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(refused("lock", &own.path, &error.into())),
            }
        }
        Err(OpenError::Refused(format!(
            "{MOST_WEB_NODES} web processes already run on the data directory {}; stop some, or name another one with --data",
            data.display()
        )))
    }

    fn of(path: PathBuf, role: Role) -> Result<Self, OpenError> {
        let id = read_or_make(&path, role)?;
        let opened = File::open(&path).and_then(|file| Ok((mark(&file)?, file)));
        let (mark, file) = opened.map_err(|error| refused("read", &path, &error))?;
        Ok(Self { id, path, mark, file })
    }
}

fn mark(file: &File) -> io::Result<String> {
    let about = file.metadata()?;
    // where the system does not tell its present start from others, every start of this process counts as one
    let start = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let start = start.unwrap_or_else(|_| format!("{:016x}", random_u64()));
    Ok(format!("{}/{}:{}", start.trim(), about.dev(), about.ino()))
}

fn read_or_make(path: &Path, role: Role) -> Result<NodeId, OpenError> {
    if !path.exists() {
        let new = NodeId::random(role.as_str());
        // if another process is faster, its id is read below
        write_once(path, format!("{new}\n").as_bytes()).map_err(|error| refused("write", path, &error))?;
    }
    let text = std::fs::read_to_string(path).map_err(|error| refused("read", path, &error))?;
    let id = text.trim();
    let digits = id.strip_prefix(role.as_str()).and_then(|rest| rest.strip_prefix('-')).unwrap_or_default();
    if digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(NodeId::new(id))
    } else {
        Err(OpenError::Refused(format!(
            "{} holds no id of a node ({role}- and eight hexadecimal digits); delete the file, and a new id is made",
            path.display()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_made_once_per_role_and_kept() {
        let data = tempfile::tempdir().unwrap();
        let ids: Vec<_> = [Role::Service, Role::All, Role::Web]
            .map(|role| OwnNodeId::take(data.path(), role).unwrap().id().clone())
            .to_vec();
        assert!(ids[0].as_str().starts_with("service-"), "{ids:?}");
        for (role, id) in [Role::Service, Role::All, Role::Web].into_iter().zip(&ids) {
            assert_eq!(OwnNodeId::take(data.path(), role).unwrap().id(), id);
        }
    }

    #[test]
    fn two_web_processes_at_once_have_two_ids() {
        let data = tempfile::tempdir().unwrap();
        let first = OwnNodeId::take(data.path(), Role::Web).unwrap();
        let second = OwnNodeId::take(data.path(), Role::Web).unwrap();
        assert_ne!(first.id(), second.id());
        let freed = first.id().clone();
        drop(first);
        assert_eq!(OwnNodeId::take(data.path(), Role::Web).unwrap().id(), &freed);
    }

    #[test]
    fn a_copied_directory_has_the_id_and_another_mark_and_a_restart_has_both() {
        for role in [Role::Service, Role::Web] {
            let data = tempfile::tempdir().unwrap();
            let copy = tempfile::tempdir().unwrap();
            let own = OwnNodeId::take(data.path(), role).unwrap();
            std::fs::copy(own.path(), copy.path().join(own.path().file_name().unwrap())).unwrap();
            let copied = OwnNodeId::take(copy.path(), role).unwrap();
            assert_eq!(copied.id(), own.id());
            assert_ne!(copied.mark(), own.mark());
            let mark = own.mark().to_owned();
            drop(own);
            assert_eq!(OwnNodeId::take(data.path(), role).unwrap().mark(), mark);
        }
    }

    #[test]
    fn a_spoilt_file_is_refused_in_words() {
        let data = tempfile::tempdir().unwrap();
        for text in ["", "service-", "web-12345678", "service-1234567g", "service-12345678 x"] {
            std::fs::write(data.path().join("node-service.id"), text).unwrap();
            let error = OwnNodeId::take(data.path(), Role::Service).unwrap_err().to_string();
            assert!(error.contains("node-service.id") && error.contains("delete the file"), "{error}");
        }
    }
}
