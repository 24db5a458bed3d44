//! The only source of time: the system's clock, and a hand-moved one for tests.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A moment in UTC, in microseconds since 1970.
///
/// Written as RFC 3339 with milliseconds where people read it (JSON), as a number where nodes do (MessagePack).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment `micros` microseconds after 1970 (before, if negative).
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Milliseconds since 1970, rounded down: what browsers count in.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// How long ago `earlier` was; zero if it is later (a clock may be set back).
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The moment `by` later; the last representable one if that overflows.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// The moment `by` earlier; the first representable one if that overflows.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// The same moment as jiff counts it; the nearest one jiff can represent.
    #[must_use]
    pub fn to_jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_microsecond(self.0).unwrap_or(if self.0 < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        })
    }
}

impl From<jiff::Timestamp> for Timestamp {
    fn from(at: jiff::Timestamp) -> Self {
        Self(at.as_microsecond())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.to_jiff())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { to.collect_str(self) } else { to.serialize_i64(self.0) }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // inside an internally tagged enum serde says "for people" whatever the format is, so what comes decides
        if from.is_human_readable() { from.deserialize_any(Either) } else { from.deserialize_i64(Either) }
    }
}

/// Reads a moment written for people or for nodes.
struct Either;

impl de::Visitor<'_> for Either {
    type Value = Timestamp;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a moment as RFC 3339, or in microseconds since 1970")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
        text.parse::<jiff::Timestamp>().map(Timestamp::from).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, micros: i64) -> Result<Timestamp, E> {
        Ok(Timestamp(micros))
    }

    fn visit_u64<E: de::Error>(self, micros: u64) -> Result<Timestamp, E> {
        i64::try_from(micros).map(Timestamp).map_err(E::custom)
    }
}

/// Tells the time. A parameter everywhere, so that tests move it by hand.
pub trait Clock: Send + Sync + 'static {
    /// The time on the wall. It may jump, also backwards: never measure a duration with it; [`tokio::time::Instant`] does that.
    fn now(&self) -> Timestamp;
}

/// The clock that is passed around.
pub type SharedClock = Arc<dyn Clock>;

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system for the time")]
    fn now(&self) -> Timestamp {
        Timestamp::from(jiff::Timestamp::now())
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `at`.
    #[must_use]
    pub fn new(at: Timestamp) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(at.as_micros())))
    }

    /// Sets the clock to `at`, forwards or back.
    pub fn set(&self, at: Timestamp) {
        self.0.store(at.as_micros(), Ordering::SeqCst);
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.set(self.now().plus(by));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_text_and_nodes_read_numbers() {
        let at = Timestamp::from_micros(1_795_223_419_123_456);
        let text = serde_json::to_string(&at).unwrap();
        assert_eq!(text, "\"2026-11-21T01:10:19.123Z\"");
        let back: Timestamp = serde_json::from_str(&text).unwrap();
        assert_eq!(back.as_millis(), at.as_millis());
        let packed = rmp_serde::to_vec(&at).unwrap();
        assert_eq!(rmp_serde::from_slice::<Timestamp>(&packed).unwrap(), at);
    }

    #[test]
    fn a_moment_inside_a_tagged_enum_survives_both_formats() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "state")]
        enum Tagged {
            Paused { since: Timestamp },
        }
        let paused = Tagged::Paused { since: Timestamp::from_micros(1_795_223_419_123_000) };
        let packed = rmp_serde::to_vec_named(&paused).unwrap();
        assert_eq!(rmp_serde::from_slice::<Tagged>(&packed).unwrap(), paused);
        let text = serde_json::to_string(&paused).unwrap();
        assert_eq!(serde_json::from_str::<Tagged>(&text).unwrap(), paused);
    }

    #[test]
    fn a_clock_set_back_gives_no_negative_age() {
        let later = Timestamp::from_micros(5);
        assert_eq!(Timestamp::from_micros(1).since(later), Duration::ZERO);
    }
}
