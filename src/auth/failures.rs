//! Which refused sign-ins are written down one by one, and which only as a number: guessing must not fill the audit.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::base::clock::Timestamp;

/// How many failures of one period are written down one by one.
const SINGLE: u32 = 5;
/// How long a period is.
const PERIOD: Duration = Duration::from_mins(1);
/// How many addresses of collapsed failures are named.
const NAMED: usize = 5;
/// The longest piece of a name somebody typed that is written down, in characters.
const NAME: usize = 64;

/// Failures of the present period.
#[derive(Default)]
pub(crate) struct Failures {
    began: Timestamp,
    single: u32,
    more: u64,
    addresses: BTreeSet<String>,
    further_addresses: bool,
}

impl Failures {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Counts a failure. Whether it is to be written down by itself.
    pub(crate) fn count(&mut self, address: &str, now: Timestamp) -> bool {
        if self.more == 0 && self.is_over(now) {
            *self = Self { began: now, ..Self::default() };
        }
        if self.single < SINGLE {
            self.single += 1;
            return true;
        }
        self.more += 1;
        if self.addresses.len() < NAMED {
            self.addresses.insert(address.chars().take(NAME).collect());
        } else if !self.addresses.contains(address) {
            self.further_addresses = true;
        }
        false
    }

    /// What is to be written down of the period before, in one line, if it is over and there is something: taken only once.
    pub(crate) fn take(&mut self, now: Timestamp) -> Option<String> {
        if self.more == 0 || !self.is_over(now) {
            return None;
        }
        let addresses: Vec<_> = self.addresses.iter().map(String::as_str).collect();
        let further = if self.further_addresses { " and others" } else { "" };
        let line = format!("{} more refused within a minute, from {}{further}", self.more, addresses.join(", "));
        *self = Self { began: now, ..Self::default() };
        Some(line)
    }

    fn is_over(&self, now: Timestamp) -> bool {
        // a clock set back ends the period, rather than stretch it
        now < self.began || now.since(self.began) >= PERIOD
    }
}

/// A name as somebody typed it, fit to be written down: short, and without anything that could be taken for something else.
#[must_use]
pub(crate) fn printable_name(typed: &str) -> String {
    let mut name: String =
        typed.chars().take(NAME).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
    if typed.chars().nth(NAME).is_some() {
        name.push('…');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

    #[test]
    fn a_thousand_failures_in_a_minute_are_six_lines() {
        let mut failures = Failures::new();
        let single = (0..1_000).filter(|n| failures.count(&format!("10.0.0.{}", n % 9), START)).count();
        assert_eq!(single, 5);
        assert_eq!(failures.take(START.plus(Duration::from_secs(59))), None);
        let line = failures.take(START.plus(Duration::from_mins(1))).unwrap();
        assert!(line.starts_with("995 more refused"), "{line}");
        assert!(line.ends_with("and others") && line.matches("10.0.0.").count() == NAMED, "{line}");
        assert_eq!(failures.take(START.plus(Duration::from_secs(200))), None, "only once");
    }

    #[test]
    fn a_few_failures_are_all_written_down() {
        let mut failures = Failures::new();
        for minute in 0..10 {
            for _ in 0..SINGLE {
                assert!(failures.count("10.0.0.1", START.plus(PERIOD * minute)));
            }
        }
        assert_eq!(failures.take(START.plus(PERIOD * 100)), None);
    }

    #[test]
    fn nothing_is_lost_when_nobody_takes_it() {
        let mut failures = Failures::new();
        for minute in 0..10 {
            for _ in 0..10 {
                failures.count("10.0.0.1", START.plus(PERIOD * minute));
            }
        }
        let line = failures.take(START.plus(PERIOD * 20)).unwrap();
        assert!(line.starts_with("95 more"), "{line}");
    }

    #[test]
    fn a_clock_set_back_does_not_stretch_the_period() {
        let mut failures = Failures::new();
        for _ in 0..6 {
            failures.count("10.0.0.1", START);
        }
        assert!(failures.take(START.minus(Duration::from_hours(1))).is_some());
    }

    #[test]
    fn names_are_shortened_and_harmless() {
        assert_eq!(printable_name("ann"), "ann");
        assert_eq!(printable_name("a\nb\u{202e}c\0"), "a?b?c?");
        assert_eq!(printable_name(&"x".repeat(1 << 20)), format!("{}…", "x".repeat(64)));
    }
}
