//! Counts connections that have asked for nothing yet, so that one stranger does not take every place.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// So many of one address (IPv6: of one /64) may be without a request; a browser has a few for a moment.
const MOST: usize = 64;

/// And of one IPv6 /48, the most that is given to one customer.
const MOST_OF_SITE: usize = 128;

/// The connections without a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct QuietOnes {
    /// Never holds a zero, so never more than there are connections, twice.
    counts: Arc<Mutex<HashMap<IpNet, usize>>>,
}

/// One of them; dropped at its first request, or with it.
#[derive(Debug)]
pub(crate) struct Quiet {
    all: QuietOnes,
    origins: Vec<IpNet>,
}

impl QuietOnes {
    /// One of whom nobody keeps count.
    pub(crate) fn uncounted(&self) -> Quiet {
        Quiet { all: self.clone(), origins: Vec::new() }
    }

    /// One more of this address; none if it has too many.
    pub(crate) fn admit(&self, address: IpAddr) -> Option<Quiet> {
        let origins = origins(address.to_canonical());
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = |(origin, most): &(IpNet, usize)| counts.get(origin).is_none_or(|count| count < most);
        if !origins.iter().all(has_room) {
            return None;
        }
        let origins: Vec<IpNet> = origins.into_iter().map(|(origin, _)| origin).collect();
        for origin in &origins {
            *counts.entry(*origin).or_default() += 1;
        }
        drop(counts);
        Some(Quiet { all: self.clone(), origins })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let mut counts = self.all.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for origin in &self.origins {
            if let Some(count) = counts.get_mut(origin) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(origin);
                }
            }
        }
    }
}

/// What an address is counted with, and how many may be of it.
fn origins(address: IpAddr) -> Vec<(IpNet, usize)> {
    match address {
        IpAddr::V4(address) => vec![(Ipv4Net::from(address).into(), MOST)],
        IpAddr::V6(address) => [(64, MOST), (48, MOST_OF_SITE)]
            .into_iter()
            .filter_map(|(length, most)| Some((Ipv6Net::new(address, length).ok()?.trunc().into(), most)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_and_one_site_have_so_many_and_leave_nothing_behind() {
        let all = QuietOnes::default();
        let many = |address: &str| (0..MOST).map(|_| all.admit(address.parse().unwrap()).unwrap()).collect::<Vec<_>>();
        let is_full = |address: &str| all.admit(address.parse().unwrap()).is_none();
        let held = [many("192.0.2.1"), many("2001:db8::1"), many("2001:db8:0:1::1")];
        for full in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::2", "2001:db8:0:1::2", "2001:db8:0:2::1"] {
            assert!(is_full(full), "{full}");
        }
        for free in ["192.0.2.2", "2001:db8:1::1"] {
            assert!(!is_full(free), "{free}");
        }
        drop(held);
        assert!(all.counts.lock().unwrap().is_empty());
    }
}
