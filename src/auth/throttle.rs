//! The throttle on guessing: who failed too often waits, longer each time.
//!
//! Counted before a password is looked at, so that a thousand attempts at once are no more than a thousand in a row. A lock
//! holds for a name *from an address*: nobody can lock an administrator out who comes from elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::base::clock::Timestamp;

/// How many attempts at one name from one address go before it is locked.
const FREE: u32 = 5;
/// The first lock; each further one is twice as long.
const FIRST_LOCK: Duration = Duration::from_secs(1);
/// The longest lock.
const LONGEST_LOCK: Duration = Duration::from_mins(15);
/// After so long without an attempt the pair starts over.
const FORGIVEN: Duration = Duration::from_hours(1);
/// How many attempts one address has in a window, whatever the names.
const PER_ADDRESS: u32 = 20;
/// How long that window is.
const WINDOW: Duration = Duration::from_mins(1);
/// How many pairs, and how many addresses, are remembered; the longest untouched is forgotten first.
const REMEMBERED: usize = 10_000;

/// Who tried how often.
pub(crate) struct Throttle {
    pairs: Remembered<(String, String), Pair>,
    addresses: Remembered<String, Window>,
}

/// Attempts at one name from one address.
#[derive(Default)]
struct Pair {
    attempts: u32,
    last: Timestamp,
    lock: Duration,
}

/// Attempts from one address.
#[derive(Default)]
struct Window {
    attempts: u32,
    began: Timestamp,
}

impl Throttle {
    /// Nobody tried yet.
    pub(crate) fn new() -> Self {
        Self { pairs: Remembered::new(REMEMBERED), addresses: Remembered::new(REMEMBERED) }
    }

    /// Counts an attempt and lets it go on, or says how long to wait. One that has to wait is not counted: waiting out the
    /// lock is always enough.
    ///
    /// # Errors
    /// How long to wait.
    pub(crate) fn admit(&mut self, name: &str, address: &str, now: Timestamp) -> Result<(), Duration> {
        let network = network(address);
        let window = self.addresses.entry(network.clone());
        // a clock set back must not stretch a wait: it starts again, at most as long
        window.began = window.began.min(now);
        if now.since(window.began) >= WINDOW {
            *window = Window { attempts: 0, began: now };
        }
        if window.attempts >= PER_ADDRESS {
            return Err(WINDOW.saturating_sub(now.since(window.began)));
        }
        let pair = self.pairs.entry((name.to_owned(), network));
        pair.last = pair.last.min(now);
        let passed = now.since(pair.last);
        if passed < pair.lock {
            return Err(pair.lock.saturating_sub(passed));
        }
        if passed >= FORGIVEN {
            pair.attempts = 0;
        }
        window.attempts += 1;
        pair.attempts = pair.attempts.saturating_add(1);
        pair.last = now;
        pair.lock = lock_after(pair.attempts);
        Ok(())
    }

    /// The attempt was right: it is as if it had not been.
    pub(crate) fn succeeded(&mut self, name: &str, address: &str) {
        let network = network(address);
        self.addresses.change(&network, |window| window.attempts = window.attempts.saturating_sub(1));
        self.pairs.forget(&(name.to_owned(), network));
    }

    /// The attempt was not judged (too busy, database away): it does not count.
    pub(crate) fn not_judged(&mut self, name: &str, address: &str) {
        let network = network(address);
        self.addresses.change(&network, |window| window.attempts = window.attempts.saturating_sub(1));
        self.pairs.change(&(name.to_owned(), network), |pair| {
            pair.attempts = pair.attempts.saturating_sub(1);
            pair.lock = lock_after(pair.attempts);
        });
    }
}

impl Default for Throttle {
    fn default() -> Self {
        Self::new()
    }
}

fn lock_after(attempts: u32) -> Duration {
    match attempts.checked_sub(FREE) {
        None => Duration::ZERO,
        Some(beyond) => FIRST_LOCK.saturating_mul(1_u32.checked_shl(beyond).unwrap_or(u32::MAX)).min(LONGEST_LOCK),
    }
}

/// What counts as one address: an IPv4 address, or the /64 that a single IPv6 subscriber has to choose from.
fn network(address: &str) -> String {
    match address.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V6(v6)) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).to_string(),
        Ok(v4) => v4.to_string(),
        Err(_) => address.chars().take(64).collect(),
    }
}

/// A map that holds so many entries and forgets the one untouched for longest.
struct Remembered<K, V> {
    most: usize,
    touches: u64,
    entries: HashMap<K, (u64, V)>,
    order: BTreeMap<u64, K>,
}

impl<K: Clone + Eq + Hash, V: Default> Remembered<K, V> {
    fn new(most: usize) -> Self {
        Self { most, touches: 0, entries: HashMap::new(), order: BTreeMap::new() }
    }

    /// The entry of this key, a new one if there is none; it is the last to be forgotten now.
    fn entry(&mut self, key: K) -> &mut V {
        self.touches += 1;
        if let Some((touched, _)) = self.entries.get(&key) {
            self.order.remove(touched);
        } else if self.entries.len() >= self.most
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.entries.remove(&oldest);
        }
        self.order.insert(self.touches, key.clone());
        let entry = self.entries.entry(key).or_default();
        entry.0 = self.touches;
        &mut entry.1
    }

    fn change(&mut self, key: &K, change: impl FnOnce(&mut V)) {
        if let Some((_, value)) = self.entries.get_mut(key) {
            change(value);
        }
    }

    fn forget(&mut self, key: &K) {
        if let Some((touched, _)) = self.entries.remove(key) {
            self.order.remove(&touched);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

    fn after(seconds: u64) -> Timestamp {
        START.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn after_five_attempts_each_further_one_waits_twice_as_long() {
        let mut throttle = Throttle::new();
        for _ in 0..FREE {
            assert_eq!(throttle.admit("ann", "10.0.0.1", START), Ok(()));
        }
        let mut now = START;
        for lock in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
            let lock = Duration::from_secs(lock);
            assert_eq!(throttle.admit("ann", "10.0.0.1", now), Err(lock));
            now = now.plus(lock);
            assert_eq!(throttle.admit("ann", "10.0.0.1", now), Ok(()), "after {lock:?}");
        }
    }

    #[test]
    fn trying_while_locked_does_not_lengthen_the_lock() {
        let mut throttle = Throttle::new();
        for _ in 0..FREE {
            throttle.admit("ann", "10.0.0.1", START).unwrap();
        }
        for _ in 0..1_000 {
            assert!(throttle.admit("ann", "10.0.0.1", START).is_err());
        }
        assert_eq!(throttle.admit("ann", "10.0.0.1", after(1)), Ok(()));
    }

    #[test]
    fn another_address_and_another_name_are_not_locked() {
        let mut throttle = Throttle::new();
        for _ in 0..FREE {
            throttle.admit("ann", "10.0.0.1", START).unwrap();
        }
        assert!(throttle.admit("ann", "10.0.0.1", START).is_err());
        assert_eq!(throttle.admit("ann", "10.0.0.2", START), Ok(()));
        assert_eq!(throttle.admit("bob", "10.0.0.1", START), Ok(()));
    }

    #[test]
    fn an_address_has_twenty_attempts_a_minute_over_all_names() {
        let mut throttle = Throttle::new();
        for n in 0..PER_ADDRESS {
            assert_eq!(throttle.admit(&format!("user{n}"), "10.0.0.1", after(u64::from(n))), Ok(()));
        }
        assert_eq!(throttle.admit("ann", "10.0.0.1", after(30)), Err(Duration::from_secs(30)));
        assert_eq!(throttle.admit("ann", "10.0.0.1", after(60)), Ok(()));
    }

    #[test]
    fn success_clears_and_an_unjudged_attempt_does_not_count() {
        let mut throttle = Throttle::new();
        for _ in 0..100 {
            throttle.admit("ann", "10.0.0.1", START).unwrap();
            throttle.succeeded("ann", "10.0.0.1");
        }
        for _ in 0..100 {
            throttle.admit("ann", "10.0.0.1", START).unwrap();
            throttle.not_judged("ann", "10.0.0.1");
        }
        for _ in 0..FREE {
            assert_eq!(throttle.admit("ann", "10.0.0.1", START), Ok(()));
        }
        assert!(throttle.admit("ann", "10.0.0.1", START).is_err());
    }

    #[test]
    fn a_pair_left_alone_for_an_hour_starts_over() {
        let mut throttle = Throttle::new();
        for _ in 0..FREE {
            throttle.admit("ann", "10.0.0.1", START).unwrap();
        }
        for _ in 0..FREE {
            assert_eq!(throttle.admit("ann", "10.0.0.1", after(3600)), Ok(()));
        }
    }

    #[test]
    fn a_clock_set_back_an_hour_locks_nobody_for_an_hour() {
        let mut throttle = Throttle::new();
        for n in 0..PER_ADDRESS {
            let name = if n < FREE { "ann" } else { "other" };
            while throttle.admit(name, "10.0.0.1", after(3600)) == Err(Duration::ZERO) {}
        }
        let wait = throttle.admit("ann", "10.0.0.1", START).unwrap_err();
        assert!(wait <= WINDOW, "{wait:?}");
        assert_eq!(throttle.admit("ann", "10.0.0.1", after(60)), Ok(()));
    }

    #[test]
    fn one_ipv6_subscriber_is_one_address() {
        assert_eq!(network("2001:db8:1:2:aaaa::1"), network("2001:db8:1:2:bbbb::2"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_eq!(network("::ffff:10.0.0.1"), "10.0.0.1");
        assert_eq!(network(&"x".repeat(1_000)).len(), 64);
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_goes_first() {
        let mut throttle = Throttle::new();
        for n in 0..REMEMBERED + 500 {
            throttle.admit("ann", &format!("client-{n}"), START).unwrap();
        }
        for map in [throttle.pairs.entries.len(), throttle.pairs.order.len(), throttle.addresses.entries.len()] {
            assert_eq!(map, REMEMBERED);
        }
        assert!(!throttle.addresses.entries.contains_key("client-499"));
        assert!(throttle.addresses.entries.contains_key("client-500"));
    }
}
