//! What a setting can hold: how each kind is written, read and refused.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;

use crate::config::endpoint::Written;

/// The kind of a setting's value, with its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One line of text.
    Text {
        /// At most this many bytes.
        max: usize,
    },
    /// A whole number.
    Integer {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// `true` or `false`.
    Boolean,
    /// A length of time, as `90s`, `15m`, `12h` or `7d`.
    Duration {
        /// The shortest, in seconds.
        min_seconds: u64,
        /// The longest, in seconds.
        max_seconds: u64,
    },
    /// A number of bytes, as `64 MiB`.
    Size {
        /// The least, in bytes.
        min_bytes: u64,
        /// The greatest, in bytes.
        max_bytes: u64,
    },
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// Thirty-two bytes in base64.
    Key,
    /// Where the messenger listens and is dialled, as [`Written`].
    Endpoint,
    /// Networks in CIDR form, separated by commas.
    Networks,
}

/// A value that can't be had, in words for the person who typed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadValue(pub String);

impl Kind {
    /// Reads `text` and gives its one canonical form, which every kind reads again.
    ///
    /// # Errors
    /// What is wrong with it, what is allowed, and an example. A secret's text is never repeated.
    pub fn check(self, text: &str) -> Result<String, BadValue> {
        let text = text.trim();
        match self {
            Self::Text { max } if text.len() > max => {
                Err(BadValue(format!("is {} bytes long; at most {max} are allowed", text.len())))
            }
            Self::Text { .. } if text.chars().any(char::is_control) => {
                Err(BadValue("holds control characters; one line of plain text is allowed".to_owned()))
            }
            Self::Text { .. } => Ok(text.to_owned()),
            Self::Integer { min, max } => match text.parse::<i64>() {
                Ok(number) if (min..=max).contains(&number) => Ok(number.to_string()),
                _ => Err(BadValue(format!("`{text}` is no whole number from {min} to {max}"))),
            },
            Self::Boolean => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => Ok("true".to_owned()),
                "false" | "no" | "off" | "0" => Ok("false".to_owned()),
                _ => Err(BadValue(format!("`{text}` is neither true nor false"))),
            },
            Self::Duration { min_seconds, max_seconds } => {
                let duration = parse_duration(text)?;
                let (min, max) = (Duration::from_secs(min_seconds), Duration::from_secs(max_seconds));
                if (min..=max).contains(&duration) {
                    Ok(show_duration(duration))
                } else {
                    Err(BadValue(format!("`{text}` is not from {} to {}", show_duration(min), show_duration(max))))
                }
            }
            Self::Size { min_bytes, max_bytes } => {
                let bytes = parse_size(text)?;
                if (min_bytes..=max_bytes).contains(&bytes) {
                    Ok(show_size(bytes))
                } else {
                    Err(BadValue(format!("`{text}` is not from {} to {}", show_size(min_bytes), show_size(max_bytes))))
                }
            }
            Self::Choice(words) => match words.iter().find(|word| word.eq_ignore_ascii_case(text)) {
                Some(word) => Ok((*word).to_owned()),
                None => Err(BadValue(format!("`{text}` is none of {}", words.join(", ")))),
            },
            Self::Key => match STANDARD.decode(text) {
                Ok(bytes) if bytes.len() == 32 => Ok(STANDARD.encode(bytes)),
                Ok(bytes) => {
                    Err(BadValue(format!("is {} bytes in base64; exactly 32 are needed (44 characters)", bytes.len())))
                }
                Err(_) => Err(BadValue(
                    "is not base64; 32 bytes in base64 are needed (44 characters, ending in `=`)".to_owned(),
                )),
            },
            Self::Endpoint => check_endpoint(text),
            Self::Networks => check_networks(text),
        }
    }

    /// What is allowed, in words.
    #[must_use]
    pub fn allowed(self) -> String {
        match self {
            Self::Text { max } => format!("text, at most {max} bytes"),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Boolean => "true or false".to_owned(),
            Self::Duration { min_seconds, max_seconds } => format!(
                "a time from {} to {}, as 90s, 15m, 12h or 7d",
                show_duration(Duration::from_secs(min_seconds)),
                show_duration(Duration::from_secs(max_seconds))
            ),
            Self::Size { min_bytes, max_bytes } => {
                format!("a size from {} to {}, as 64 MiB", show_size(min_bytes), show_size(max_bytes))
            }
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Key => "32 bytes in base64 (44 characters)".to_owned(),
            Self::Endpoint => {
                "empty for the local pipe, pipe:/absolute/path, tcp://HOST:PORT or tcp://*:PORT".to_owned()
            }
            Self::Networks => "networks as 10.0.0.0/8, separated by commas".to_owned(),
        }
    }
}

fn check_endpoint(text: &str) -> Result<String, BadValue> {
    Written::parse(text).map(|written| written.to_string()).map_err(|error| BadValue(error.to_string()))
}

fn check_networks(text: &str) -> Result<String, BadValue> {
    let mut networks = Vec::new();
    if text.trim().is_empty() {
        return Ok(String::new());
    }
    for part in text.split(',').map(str::trim) {
        if part.is_empty() {
            let why = "a comma has a network on either side, as in 10.0.0.0/8, fd00::/8; one is missing";
            return Err(BadValue(why.to_owned()));
        }
        match parse_network(part) {
            Some(network) => networks.push(network.to_string()),
            None => return Err(BadValue(format!("`{part}` is no network; write it as 10.0.0.0/8 or fd00::/8"))),
        }
    }
    Ok(networks.join(", "))
}

/// Reads one network, or one address as the network of it alone: `10.0.0.5/8` is all of 10.0.0.0/8, and written so. IPv4 written
/// as IPv6 (`::ffff:10.0.0.0/104`) is IPv4.
fn parse_network(text: &str) -> Option<IpNet> {
    let network: IpNet = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()?;
    match (network.addr().to_canonical(), network.prefix_len().checked_sub(96)) {
        (IpAddr::V4(address), Some(length)) if network.addr().is_ipv6() => {
            IpNet::new(address.into(), length).ok().map(|network| network.trunc())
        }
        _ => Some(network.trunc()),
    }
}

/// Reads networks in their canonical form; what is none was refused when it was saved, and is passed over.
#[must_use]
pub fn parse_networks(text: &str) -> Vec<IpNet> {
    text.split(',').filter_map(|part| parse_network(part.trim())).collect()
}

/// Reads a length of time: `90s`, `15m`, `1h 30m`, `7d`; a bare number is seconds.
///
/// # Errors
/// What is wrong with it, with an example.
pub fn parse_duration(text: &str) -> Result<Duration, BadValue> {
    let text = text.trim();
    let bad = || BadValue(format!("`{text}` is no length of time; write it as 90s, 15m, 12h or 7d"));
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut total = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let number: u64 = rest[..digits].parse().map_err(|_| bad())?;
        let after = rest[digits..].trim_start();
        let end = after.find(|c: char| c.is_ascii_digit() || c.is_whitespace()).unwrap_or(after.len());
        let millis = match &after[..end] {
            "ms" => 1,
            "s" | "sec" | "second" | "seconds" => 1_000,
            "m" | "min" | "minute" | "minutes" => 60_000,
            "h" | "hour" | "hours" => 3_600_000,
            "d" | "day" | "days" => 86_400_000,
            "w" | "week" | "weeks" => 604_800_000,
            _ => return Err(bad()),
        };
        total = number.checked_mul(millis).and_then(|millis| total.checked_add(millis)).ok_or_else(bad)?;
        rest = after[end..].trim_start();
    }
    if text.is_empty() { Err(bad()) } else { Ok(Duration::from_millis(total)) }
}

/// Writes a length of time in the largest units that keep it exact: `1h 30m`.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let mut millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut parts = Vec::new();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if millis >= size {
            parts.push(format!("{}{unit}", millis / size));
            millis %= size;
        }
    }
    parts.join(" ")
}

const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads a number of bytes: `64 MiB`, `512KiB`, `1048576`.
///
/// # Errors
/// What is wrong with it, with an example.
pub fn parse_size(text: &str) -> Result<u64, BadValue> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = text[digits..].trim();
    let factor = if unit.is_empty() {
        Some(1)
    } else {
        UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, size)| *size)
    };
    let number = text[..digits].parse::<u64>().ok();
    number
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor))
        .ok_or_else(|| BadValue(format!("`{text}` is no size; write it as 64 MiB, 512 KiB or 1 GiB")))
}

/// Writes a number of bytes in the largest unit that keeps it exact: `64 MiB`.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    for (unit, size) in UNITS {
        if bytes >= size && bytes.is_multiple_of(size) {
            return format!("{} {unit}", bytes / size);
        }
    }
    "0 B".to_owned()
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text { .. } => "text",
            Self::Integer { .. } => "integer",
            Self::Boolean => "boolean",
            Self::Duration { .. } => "duration",
            Self::Size { .. } => "size",
            Self::Choice(_) => "choice",
            Self::Key => "key",
            Self::Endpoint => "endpoint",
            Self::Networks => "networks",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_written_in_one_form() {
        let duration = Kind::Duration { min_seconds: 1, max_seconds: 86_400 };
        for (kind, text, canonical) in [
            (duration, "90", "1m 30s"),
            (duration, "1h30m", "1h 30m"),
            (duration, " 15 min ", "15m"),
            (Kind::Size { min_bytes: 1, max_bytes: 1 << 40 }, "65536 kib", "64 MiB"),
            (Kind::Boolean, "Yes", "true"),
            (Kind::Choice(&["info", "warn"]), "WARN", "warn"),
            (Kind::Integer { min: 0, max: 9 }, "07", "7"),
            (Kind::Endpoint, "", ""),
            (Kind::Endpoint, "pipe:/run/switchboard.sock", "pipe:/run/switchboard.sock"),
            (Kind::Endpoint, "TCP://Host:33237/", "tcp://host:33237"),
            (Kind::Networks, "10.0.0.0/8,::1", "10.0.0.0/8, ::1/128"),
            (Kind::Networks, "10.0.0.5/8, 10.0.0.5, fd00::1/8", "10.0.0.0/8, 10.0.0.5/32, fd00::/8"),
            (Kind::Networks, " ", ""),
            (Kind::Networks, "::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ] {
            assert_eq!(kind.check(text).as_deref(), Ok(canonical), "{text}");
            assert_eq!(kind.check(canonical).as_deref(), Ok(canonical), "what is written is read again");
        }
    }

    #[test]
    fn what_is_refused_says_what_is_allowed() {
        let duration = Kind::Duration { min_seconds: 1, max_seconds: 60 };
        for (kind, text, word) in [
            (duration, "soon", "15m"),
            (duration, "", "15m"),
            (duration, "2m", "from 1s to 1m"),
            (duration, "99999999999999999999d", "15m"),
            (Kind::Size { min_bytes: 1, max_bytes: 10 }, "11 B", "from 1 B to 10 B"),
            (Kind::Size { min_bytes: 1, max_bytes: 10 }, "MiB", "64 MiB"),
            (Kind::Integer { min: 1, max: 9 }, "10", "from 1 to 9"),
            (Kind::Key, "c2hvcnQ=", "is 5 bytes"),
            (Kind::Key, "not base64!", "44 characters"),
            (Kind::Endpoint, "http://x", "pipe:/absolute/path"),
            (Kind::Endpoint, "pipe:relative", "absolute"),
            (Kind::Endpoint, "pipe:/run/", "/run/switchboard.sock"),
            (Kind::Endpoint, &format!("pipe:/{}", "x".repeat(107)), "108 bytes"),
            (Kind::Endpoint, "tcp://h", "needs a port"),
            (Kind::Networks, "10.0.0.0/33", "10.0.0.0/8"),
            (Kind::Networks, "10.0.0.0/8,,::1", "one is missing"),
            (Kind::Networks, "10.0.0.0/8,", "one is missing"),
        ] {
            let error = kind.check(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_refused_key_is_not_repeated() {
        let error = Kind::Key.check("hunter2-hunter2").unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
