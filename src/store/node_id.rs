//! A node's own id: made at its first start, and kept per role in the data directory.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::base::id::NodeId;
use crate::model::node::Role;
use crate::store::data_directory::{prepare, refused, write_once};
use crate::store::error::OpenError;

/// How many web processes may share a data directory.
const MOST_WEB_NODES: u32 = 64;

/// The id of this node. Keep it as long as the process lives: a web node's id is free again when it is dropped.
#[derive(Debug)]
pub struct OwnNodeId {
    id: NodeId,
    _lock: Option<File>,
}

impl OwnNodeId {
    /// The id.
    pub const fn id(&self) -> &NodeId {
        &self.id
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
            let id = read_or_make(&data.join(format!("node-{role}.id")), role)?;
            return Ok(Self { id, _lock: None });
        }
        for number in 1..=MOST_WEB_NODES {
            let name = if number == 1 { format!("node-{role}.id") } else { format!("node-{role}-{number}.id") };
            let path = data.join(name);
            let id = read_or_make(&path, role)?;
            let file = File::open(&path).map_err(|error| refused("read", &path, &error))?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { id, _lock: Some(file) }),
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(refused("lock", &path, &error.into())),
            }
        }
        Err(OpenError::Refused(format!(
            "{MOST_WEB_NODES} web processes already run on the data directory {}; stop some, or name another one with --data",
            data.display()
        )))
    }
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
    fn a_spoilt_file_is_refused_in_words() {
        let data = tempfile::tempdir().unwrap();
        for text in ["", "service-", "web-12345678", "service-1234567g", "service-12345678 x"] {
            std::fs::write(data.path().join("node-service.id"), text).unwrap();
            let error = OwnNodeId::take(data.path(), Role::Service).unwrap_err().to_string();
            assert!(error.contains("node-service.id") && error.contains("delete the file"), "{error}");
        }
    }
}
