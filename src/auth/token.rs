//! Random tokens, kept as hashes.

use std::fmt::Write as _;

use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroize as _;

use crate::base::id::random_bytes;

/// How long a token is, in hexadecimal digits.
pub const LENGTH: usize = 64;

/// A new token: 64 hexadecimal digits, as AMS makes them.
pub fn generate() -> SecretString {
    let mut bytes = random_bytes::<32>();
    let mut text = String::with_capacity(LENGTH);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
    bytes.zeroize();
    SecretString::from(text)
}

/// What is kept of a token, to find it by. A plain SHA-256: tokens are random, so there is nothing to guess; and who looks
/// for a hash learns nothing from how long the search took.
pub fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Whether the text could be a token, a cookie or a set-up link's secret at all; nothing else is looked for.
pub fn is_token(text: &str) -> bool {
    text.len() == LENGTH && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn tokens_are_sixty_four_digits_and_never_the_same() {
        let (one, other) = (generate(), generate());
        assert!(is_token(one.expose_secret()) && is_token(other.expose_secret()));
        assert_ne!(one.expose_secret(), other.expose_secret());
    }

    #[test]
    fn a_token_is_not_printed() {
        let token = generate();
        assert!(!format!("{token:?}").contains(token.expose_secret()));
    }

    #[test]
    fn the_hash_is_sha_256() {
        assert_eq!(hash("abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
    }

    #[test]
    fn what_is_no_token_is_not_looked_for() {
        for text in ["", "abc", &"A".repeat(64), &"g".repeat(64), &"a".repeat(63), &"a".repeat(65), &"ä".repeat(32)] {
            assert!(!is_token(text), "{text:?}");
        }
    }
}
