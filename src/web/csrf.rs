//! Proof that a form was ours, for browsers that send neither `Sec-Fetch-Site` nor `Origin`.
//!
//! The token is made from the cookie's secret, so it needs no memory, is the same on every web node, and ends with the session.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// The name of the form field.
pub(crate) const FIELD: &str = "token";

/// The cookie that stands in for a session on the forms before one begins (sign-in, set-up).
pub(crate) const VISITOR: &str = "switchboard_visitor";

/// The token of the forms shown to the holder of this cookie.
pub(crate) fn token(cookie: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(cookie.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(b"switchboard form token");
    mac.finalize().into_bytes().iter().take(16).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// Whether a form's token belongs to this cookie.
pub(crate) fn belongs(given: &str, cookie: &str) -> bool {
    !cookie.is_empty() && given.as_bytes().ct_eq(token(cookie).as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_belongs_to_its_cookie_alone() {
        let ours = token("aaaa");
        assert_eq!(ours.len(), 32);
        assert!(belongs(&ours, "aaaa"));
        assert!(!belongs(&ours, "bbbb"));
        assert!(!belongs("", "aaaa"));
        assert!(!belongs(&token(""), ""), "no cookie, no proof");
    }
}
