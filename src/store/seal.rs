//! Secrets sealed at rest with AES-256-GCM under the node's encryption key.
//!
//! A sealed value: version (1 byte) · key id (8) · random nonce (12) · ciphertext and tag. What is authenticated besides is
//! the version, the key id and the place of the value, so that one can't be moved to another row or column.

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::base::id::random_bytes;

const VERSION: u8 = 1;
const KEY_ID_BYTES: usize = 8;
const NONCE_BYTES: usize = 12;
const HEADER_BYTES: usize = 1 + KEY_ID_BYTES + NONCE_BYTES;

/// An encryption key; wiped when dropped.
pub(crate) type Key = Zeroizing<[u8; 32]>;

/// Tells keys apart without giving anything of them away.
pub(crate) type KeyId = [u8; KEY_ID_BYTES];

/// Where a sealed value stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// In which table.
    pub(crate) table: &'static str,
    /// In which column.
    pub(crate) column: &'static str,
    /// In which row: an id that never changes.
    pub(crate) id: &'a str,
}

/// Seals and opens with one key.
pub(crate) struct Sealer {
    cipher: Aes256Gcm,
    key_id: KeyId,
}

impl Sealer {
    /// A sealer with this key.
    pub(crate) fn new(key: &Key) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"switchboard encryption key id");
        hash.update(**key);
        let mut key_id = KeyId::default();
        key_id.copy_from_slice(&hash.finalize()[..KEY_ID_BYTES]);
        Self { cipher: Aes256Gcm::new((&**key).into()), key_id }
    }

    /// The id of the key.
    pub(crate) const fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Seals `plain` for this place.
    pub(crate) fn seal(&self, place: Place<'_>, plain: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_BYTES] = random_bytes();
        let payload = Payload { msg: plain, aad: &self.additional(place) };
        let ciphertext = self
            .cipher
            .encrypt(&Nonce::from(nonce), payload)
            .expect("only more than 64 GiB can't be sealed, and every value is bounded far below");
        let mut sealed = Vec::with_capacity(HEADER_BYTES + ciphertext.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&self.key_id);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&ciphertext);
        sealed
    }

    /// Opens what was sealed for this place; none if it was sealed with another key or for another place, or was changed.
    pub(crate) fn open(&self, place: Place<'_>, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (header, ciphertext) = sealed.split_at_checked(HEADER_BYTES)?;
        let (version_and_key, nonce) = header.split_at(1 + KEY_ID_BYTES);
        if version_and_key[0] != VERSION || version_and_key[1..] != self.key_id {
            return None;
        }
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().ok()?;
        let payload = Payload { msg: ciphertext, aad: &self.additional(place) };
        self.cipher.decrypt(&Nonce::from(nonce), payload).ok().map(Zeroizing::new)
    }

    /// Opens a text.
    pub(crate) fn open_text(&self, place: Place<'_>, sealed: &[u8]) -> Option<Zeroizing<String>> {
        let plain = self.open(place, sealed)?;
        std::str::from_utf8(&plain).ok().map(|text| Zeroizing::new(text.to_owned()))
    }

    fn additional(&self, place: Place<'_>) -> Vec<u8> {
        let mut additional = vec![VERSION];
        additional.extend_from_slice(&self.key_id);
        for part in [place.table, place.column, place.id] {
            // the length goes first, so that no two places give the same bytes
            additional.extend_from_slice(&(part.len() as u64).to_be_bytes());
            additional.extend_from_slice(part.as_bytes());
        }
        additional
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'static> = Place { table: "settings", column: "sealed", id: "Service.MessengerKey" };

    fn sealer(byte: u8) -> Sealer {
        Sealer::new(&Zeroizing::new([byte; 32]))
    }

    #[test]
    fn what_is_sealed_opens_at_its_place_only() {
        let sealer = sealer(7);
        let bytes = sealer.seal(PLACE, b"secret");
        assert_eq!(sealer.open(PLACE, &bytes).unwrap().as_slice(), b"secret");
        assert!(!bytes.windows(6).any(|part| part == b"secret"));
        for other in [
            Place { table: "users", ..PLACE },
            Place { column: "value", ..PLACE },
            Place { id: "Service.MessengerKe", ..PLACE },
        ] {
            assert!(sealer.open(other, &bytes).is_none(), "{other:?}");
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let sealer = sealer(7);
        let bytes = sealer.seal(PLACE, b"secret");
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(sealer.open(PLACE, &changed).is_none(), "byte {at}");
            assert!(sealer.open(PLACE, &bytes[..at]).is_none(), "cut at {at}");
        }
    }

    #[test]
    fn another_key_does_not_open_and_has_another_id() {
        let sealed = sealer(7).seal(PLACE, b"secret");
        assert!(sealer(8).open(PLACE, &sealed).is_none());
        assert_ne!(sealer(7).key_id(), sealer(8).key_id());
    }

    #[test]
    fn the_same_is_never_sealed_alike() {
        let sealer = sealer(7);
        assert_ne!(sealer.seal(PLACE, b""), sealer.seal(PLACE, b""));
    }
}
