//! The pre-shared key, its fingerprint, and the former key while it is being rotated.

use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretBox, SecretString};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::base::id::random_bytes;

/// A fingerprint as it stands in the hello.
pub(crate) type Fingerprint = [u8; 8];

/// The key of the messenger: 32 bytes.
pub struct Key(SecretBox<[u8; 32]>);

impl Key {
    /// From base64, as the setting holds it. None if it is not 32 bytes in base64.
    pub fn from_base64(text: &str) -> Option<Self> {
        let decoded = Zeroizing::new(STANDARD.decode(text.trim()).ok()?);
        let bytes = Zeroizing::new(<[u8; 32]>::try_from(decoded.as_slice()).ok()?);
        Some(Self::from_bytes(&bytes))
    }

    /// A new one.
    pub fn generate() -> Self {
        Self::from_bytes(&Zeroizing::new(random_bytes()))
    }

    /// As base64, to be stored sealed.
    pub fn to_base64(&self) -> SecretString {
        SecretString::from(STANDARD.encode(self.bytes()))
    }

    /// The first 8 bytes of HMAC-SHA-256(key, "switchboard fingerprint"), in hexadecimal.
    pub fn fingerprint(&self) -> String {
        in_hexadecimal(self.raw_fingerprint())
    }

    pub(crate) fn raw_fingerprint(&self) -> Fingerprint {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.bytes()).expect("HMAC takes keys of any length");
        mac.update(b"switchboard fingerprint");
        let whole = mac.finalize().into_bytes();
        std::array::from_fn(|at| whole[at])
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        self.0.expose_secret()
    }

    fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(SecretBox::init_with_mut(|key: &mut [u8; 32]| key.copy_from_slice(bytes)))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.fingerprint())
    }
}

/// A fingerprint as people read it.
pub(crate) fn in_hexadecimal(fingerprint: Fingerprint) -> String {
    format!("{:016x}", u64::from_be_bytes(fingerprint))
}

/// The current key and, during a rotation, the former one. Responders accept both; initiators dial with the current, then the former.
#[derive(Debug)]
pub struct KeyRing {
    keys: RwLock<Keys>,
}

#[derive(Debug)]
struct Keys {
    current: Arc<Key>,
    former: Option<Arc<Key>>,
}

impl KeyRing {
    /// Only this key.
    pub fn new(current: Key) -> Self {
        Self { keys: RwLock::new(Keys { current: Arc::new(current), former: None }) }
    }

    /// The current key's fingerprint.
    pub fn fingerprint(&self) -> String {
        self.current().fingerprint()
    }

    /// From now on `current`; the one that was current until now is still accepted until `forget_former`. The same key again
    /// changes nothing.
    pub fn rotate(&self, current: Key) {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.current.raw_fingerprint() != current.raw_fingerprint() {
            keys.former = Some(std::mem::replace(&mut keys.current, Arc::new(current)));
        }
    }

    /// Accepts only the current key from now on.
    pub fn forget_former(&self) {
        self.keys.write().unwrap_or_else(PoisonError::into_inner).former = None;
    }

    pub(crate) fn current(&self) -> Arc<Key> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner).current)
    }

    /// The keys to dial with, in that order.
    pub(crate) fn to_dial_with(&self) -> Vec<Arc<Key>> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        std::iter::once(&keys.current).chain(&keys.former).map(Arc::clone).collect()
    }

    /// The key of this fingerprint, if it is accepted.
    pub(crate) fn accepted(&self, fingerprint: Fingerprint) -> Option<Arc<Key>> {
        self.to_dial_with().into_iter().find(|key| key.raw_fingerprint() == fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_thirty_two_bytes_of_base64_are_a_key() {
        let key = Key::generate();
        let text = key.to_base64();
        let again = Key::from_base64(text.expose_secret()).unwrap();
        assert_eq!(again.fingerprint(), key.fingerprint());
        for bad in ["", "secret", &STANDARD.encode([1; 31]), &STANDARD.encode([1; 33]), &"A".repeat(43)] {
            assert!(Key::from_base64(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_fingerprint_is_what_the_document_says() {
        // printf 'switchboard fingerprint' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0000… | cut -c1-16
        let key = Key::from_bytes(&[0; 32]);
        assert_eq!(key.fingerprint(), "1d1a8d56fd31acb9");
        assert_eq!(format!("{key:?}"), "Key(1d1a8d56fd31acb9)");
    }

    #[test]
    fn a_rotation_keeps_the_former_key_until_it_is_forgotten() {
        let (old, new) = (Key::generate(), Key::generate());
        let (old_print, new_print) = (old.raw_fingerprint(), new.raw_fingerprint());
        let ring = KeyRing::new(old);
        let same = new.to_base64();
        ring.rotate(new);
        ring.rotate(Key::from_base64(same.expose_secret()).unwrap());
        let order: Vec<_> = ring.to_dial_with().iter().map(|key| key.raw_fingerprint()).collect();
        assert_eq!(order, [new_print, old_print]);
        assert!(ring.accepted(old_print).is_some());
        ring.forget_former();
        assert!(ring.accepted(old_print).is_none() && ring.accepted(new_print).is_some());
    }
}
