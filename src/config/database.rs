//! The URL of a PostgreSQL database: checked before anything is connected to, and never shown with its password.

use std::fmt;

use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};

/// How one is written.
pub const ALLOWED: &str = "postgres://USER@HOST:PORT/NAME, with ?sslmode=verify-full and the like; @ / ? # : % in a user or password are written as %40 and so on";

const SSL_MODES: &[&str] = &["disable", "prefer", "require", "verify-ca", "verify-full"];
const PARAMETERS: &[&str] = &["sslmode", "sslrootcert", "sslcert", "sslkey", "host"];

/// Where a PostgreSQL database is and who asks for it.
#[derive(Clone)]
pub struct DatabaseUrl {
    text: SecretString,
    place: String,
    host: String,
    port: u16,
    has_password: bool,
}

impl DatabaseUrl {
    /// Reads and checks one.
    ///
    /// # Errors
    /// What is wrong with it, without repeating what might be secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("is no URL ({error})"))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err("is not the URL of a PostgreSQL database".to_owned());
        }
        let mut host = url.host_str().unwrap_or_default().to_owned();
        for (name, value) in url.query_pairs() {
            if name == "password" {
                return Err("has its password behind the `?`, where it is easily shown".to_owned());
            }
            if !PARAMETERS.contains(&&*name) {
                // its value may be anything
                return Err(format!("has a parameter it can't have; allowed are {}", PARAMETERS.join(", ")));
            }
            if name == "sslmode" && !SSL_MODES.contains(&&*value) {
                return Err(format!("has an `sslmode` that does not exist; there are {}", SSL_MODES.join(", ")));
            }
            if name == "host" {
                host = value.into_owned();
            }
        }
        if host.is_empty() {
            return Err("names no host".to_owned());
        }
        let name = url.path().trim_start_matches('/');
        if name.is_empty() || name.contains('/') {
            return Err("names no database after the host".to_owned());
        }
        if url.fragment().is_some() {
            return Err("has a `#` in it".to_owned());
        }
        let port = url.port().unwrap_or(5432);
        Ok(Self {
            text: SecretString::from(text),
            place: format!("{host}:{port}/{name}"),
            host,
            port,
            has_password: url.password().is_some(),
        })
    }

    /// Host, port and name: for people.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The host, or the folder of a socket.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port: the usual one unless another is named.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Whether a password stands in it.
    #[must_use]
    pub const fn has_password(&self) -> bool {
        self.has_password
    }

    /// All of it but its password.
    #[must_use]
    pub fn without_password(&self) -> String {
        Url::parse(self.expose()).map_or_else(
            |_| self.place.clone(),
            |mut url| {
                // one without a host can't have a password either
                let _ = url.set_password(None);
                url.into()
            },
        )
    }

    /// All of it, for connecting.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

impl PartialEq for DatabaseUrl {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for DatabaseUrl {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_one_is_shown_without_user_and_password() {
        let text = "postgres://ann:s%40cret@db.example:5433/board?sslmode=verify-full&sslrootcert=/etc/ca.pem";
        let url = DatabaseUrl::parse(text).unwrap();
        assert_eq!(url.place(), "db.example:5433/board");
        assert_eq!(format!("{url:?}"), "db.example:5433/board");
        assert!(url.has_password());
        assert_eq!(url.without_password(), text.replace(":s%40cret", ""));
        assert_eq!(url.expose(), text);
        let socket = DatabaseUrl::parse("postgresql:///board?host=/run/postgresql").unwrap();
        assert_eq!(socket.place(), "/run/postgresql:5432/board");
        assert!(!socket.has_password());
        assert_eq!(DatabaseUrl::parse("postgres://[::1]/a").unwrap().place(), "[::1]:5432/a");
    }

    #[test]
    fn a_bad_one_is_refused_in_words_that_repeat_no_secret() {
        for (text, word) in [
            ("", "no URL"),
            ("board", "no URL"),
            ("hunter2://x/y", "not the URL of a PostgreSQL"),
            ("postgres://ann:hunter2@/board", ""),
            ("postgres:///board", "names no host"),
            ("postgres://ann:hunter2@db", "names no database"),
            ("postgres://ann:hunter2@db/", "names no database"),
            ("postgres://ann:hunter2@db/a/b", "names no database"),
            ("postgres://ann:hunter2@db:99999/a", "port"),
            ("postgres://ann:hun/ter2@db/a", ""),
            ("postgres://db/a?password=hunter2", "behind the `?`"),
            ("postgres://db/a?sslmode=hunter2", "sslmode"),
            ("postgres://db/a?hunter2=1", "parameter"),
            ("postgres://db/a#hunter2", "#"),
        ] {
            let problem = DatabaseUrl::parse(text).unwrap_err();
            assert!(problem.contains(word), "{text}: {problem}");
            assert!(!problem.contains("hunter2"), "{text}: {problem}");
        }
    }
}
