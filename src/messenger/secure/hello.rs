//! The hello: what each end says in the clear before the handshake.
//!
//! magic (4) · lowest version (1) · highest version (1) · fingerprint of the key (8) · length of the node id (1) · node id.
//! The layout is the same in every version; bytes after it are for later versions and passed over, but they are part of the
//! prologue too. The first of them, if it is there, tells what the link is for: 1 is a probe, which wants no link at all.

use crate::base::id::NodeId;
use crate::messenger::secure::keys::Fingerprint;

const MAGIC: &[u8; 4] = b"SWBD";

/// The longest node id, in bytes.
const MAX_NODE: usize = 64;

/// Says that the sender only tries whether it could have a link.
const PROBE: u8 = 1;

/// The longest hello, in bytes; leaves room for later versions.
pub(crate) const MAX_HELLO: usize = 512;

/// The versions of the protocol that a node speaks, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) lowest: u8,
    pub(crate) highest: u8,
}

impl Versions {
    /// What this build speaks.
    pub(crate) const OURS: Self = Self { lowest: 1, highest: 1 };

    /// The highest version both speak.
    pub(crate) fn common(self, other: Self) -> Option<u8> {
        let highest = self.highest.min(other.highest);
        (highest >= self.lowest.max(other.lowest)).then_some(highest)
    }
}

impl std::fmt::Display for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.lowest == self.highest {
            write!(f, "{}", self.lowest)
        } else {
            write!(f, "{} to {}", self.lowest, self.highest)
        }
    }
}

/// What a node says of itself before it is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) versions: Versions,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) node: NodeId,
    /// Whether no link is wanted, but only to know whether there could be one.
    pub(crate) probe: bool,
}

impl Hello {
    /// As it stands on the wire. None if the node's id can't stand in a hello.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let node = self.node.as_str();
        if !is_node_id(node.as_bytes()) {
            return None;
        }
        let mut hello = Vec::with_capacity(15 + node.len());
        hello.extend_from_slice(MAGIC);
        hello.extend_from_slice(&[self.versions.lowest, self.versions.highest]);
        hello.extend_from_slice(&self.fingerprint);
        hello.push(u8::try_from(node.len()).ok()?);
        hello.extend_from_slice(node.as_bytes());
        hello.extend(self.probe.then_some(PROBE));
        Some(hello)
    }

    /// None if it is no hello of ours.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_HELLO {
            return None;
        }
        let [lowest, highest, rest @ ..] = bytes.strip_prefix(MAGIC)? else { return None };
        let versions = Versions { lowest: *lowest, highest: *highest };
        let (fingerprint, rest) = rest.split_first_chunk()?;
        let (len, rest) = rest.split_first()?;
        let (node, rest) = rest.split_at_checked(usize::from(*len)).filter(|(node, _)| is_node_id(node))?;
        let probe = rest.first() == Some(&PROBE);
        let node = NodeId::new(std::str::from_utf8(node).ok()?);
        (versions.lowest <= versions.highest).then_some(Self { versions, fingerprint: *fingerprint, node, probe })
    }
}

/// Ids are shown and logged before they are believed, so nothing but plain characters may stand in one.
fn is_node_id(id: &[u8]) -> bool {
    (1..=MAX_NODE).contains(&id.len()) && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hello(node: &str) -> Hello {
        let (versions, fingerprint) = (Versions { lowest: 1, highest: 3 }, *b"\x01234567\xff");
        Hello { versions, fingerprint, node: NodeId::new(node), probe: false }
    }

    #[test]
    fn the_bytes_are_pinned() {
        let bytes = hello("web-2").encode().unwrap();
        assert_eq!(bytes, b"SWBD\x01\x03\x01234567\xff\x05web-2");
        assert_eq!(Hello::decode(&bytes), Some(hello("web-2")));
        let later = [&bytes[..], b"and more"].concat();
        assert_eq!(Hello::decode(&later), Some(hello("web-2")));
        let probe = Hello { probe: true, ..hello("web-2") };
        assert_eq!(probe.encode().unwrap(), [&bytes[..], b"\x01"].concat());
        assert_eq!(Hello::decode(&probe.encode().unwrap()), Some(probe));
        for cut in 0..bytes.len() {
            assert_eq!(Hello::decode(&bytes[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn an_id_that_could_fool_a_reader_is_no_id() {
        for id in ["", "two words", "line\nbreak", "\u{1b}[31m", "\u{202e}", &"x".repeat(65)] {
            assert_eq!(hello(id).encode(), None, "{id:?}");
        }
        assert!(hello(&"x".repeat(64)).encode().is_some());
    }

    #[test]
    fn the_highest_common_version_is_spoken() {
        let versions = |lowest, highest| Versions { lowest, highest };
        assert_eq!(versions(1, 3).common(versions(2, 9)), Some(3));
        assert_eq!(versions(1, 1).common(versions(1, 2)), Some(1));
        assert_eq!(versions(1, 1).common(versions(2, 3)), None);
        assert_eq!(versions(2, 3).to_string(), "2 to 3");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_a_hello_or_none(tail in prop::collection::vec(any::<u8>(), 0..100)) {
            let bytes = [MAGIC.as_slice(), &tail].concat();
            if let Some(hello) = Hello::decode(&bytes) {
                prop_assert!(bytes.starts_with(&hello.encode().unwrap()));
            }
        }
    }
}
