//! The path under which a web node's addresses stand: none, or one as `/switchboard`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest one, in characters.
const LONGEST: usize = 100;

/// Addresses that probes ask for at the root, too.
pub const PROBES: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Empty, or a path with a slash at its beginning and none at its end.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct BasePath(Arc<str>);

/// Why a text is no base path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` {what}; write it as /switchboard or /tools/switchboard, or / for none")]
pub struct BadBasePath {
    text: String,
    what: &'static str,
}

impl BasePath {
    /// As it stands before a path that begins with a slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What cookies are for.
    #[must_use]
    pub fn cookie_path(&self) -> &str {
        if self.0.is_empty() { "/" } else { &self.0 }
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// What follows it in a path (or path and query): empty, or with a slash at its beginning. None if the path is not within.
    #[must_use]
    pub fn within<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(self.as_str()).filter(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
    }
}

impl fmt::Display for BasePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for BasePath {
    type Err = BadBasePath;

    fn from_str(text: &str) -> Result<Self, BadBasePath> {
        if matches!(text, "" | "/") {
            return Ok(Self::default());
        }
        let bad = |what| {
            let text = text.chars().take(LONGEST).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
            Err(BadBasePath { text, what })
        };
        let Some(path) = text.strip_prefix('/') else { return bad("does not begin with a slash") };
        if text.len() > LONGEST {
            return bad("is too long: it may have 100 characters");
        }
        if text.ends_with('/') {
            return bad("ends with a slash");
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-_.~".contains(&b)) {
            return bad("holds other characters than letters, digits, `-`, `_`, `.`, `~` and slashes");
        }
        if path.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return bad("has a part that is empty, `.` or `..`");
        }
        if PROBES.contains(&text) {
            return bad("is an address that probes ask for");
        }
        Ok(Self(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_path_has_one_form() {
        for none in ["", "/"] {
            let base: BasePath = none.parse().unwrap();
            assert!(base.is_none());
            assert_eq!((base.as_str(), base.cookie_path()), ("", "/"));
            assert_eq!(base.within("/status"), Some("/status"));
        }
        let base: BasePath = "/tools/switch-board_1.0~".parse().unwrap();
        assert_eq!(base.to_string(), "/tools/switch-board_1.0~");
        for (text, words) in [
            ("switchboard", "begin with a slash"),
            ("https://x/y", "begin with a slash"),
            ("/switchboard/", "ends with a slash"),
            ("//switchboard", "empty"),
            ("/a/../b", "`..`"),
            ("/a b", "other characters"),
            ("/a?b", "other characters"),
            ("/%61", "other characters"),
            ("/\u{1b}", "\u{fffd}"),
            ("/healthz", "probes"),
            (&format!("/{}", "x".repeat(100)), "too long"),
        ] {
            let error = text.parse::<BasePath>().unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("write it as /switchboard"), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_within_is_told_from_what_only_begins_alike() {
        let base: BasePath = "/sb".parse().unwrap();
        for (path, rest) in
            [("/sb", Some("")), ("/sb/", Some("/")), ("/sb/status?x", Some("/status?x")), ("/sb?x", Some("?x"))]
        {
            assert_eq!(base.within(path), rest);
        }
        for outside in ["/", "/status", "/sbx", "/SB/", "/s"] {
            assert_eq!(base.within(outside), None, "{outside}");
        }
    }
}
