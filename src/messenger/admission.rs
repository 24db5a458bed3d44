//! Who is let in to prove itself: from which networks, and how many at the same time.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ipnet::IpNet;

use crate::messenger::error::Error;

/// Connections that may be unproven at the same time; the next one is refused at once and counted.
pub const MAX_PENDING: usize = 64;

/// And of one address (IPv6: of one /64, which is one customer's): a single stranger can't take every place.
pub const MAX_PENDING_EACH: usize = 8;

/// The door of one listening end.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    /// Empty: every network.
    networks: RwLock<Vec<IpNet>>,
    pending: Mutex<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    all: usize,
    /// Never holds a zero, so never more than there are places.
    each: HashMap<IpAddr, usize>,
}

/// A place among the unproven; free again when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Arc<Admission>,
    origin: Option<IpAddr>,
}

impl Admission {
    /// From now on only these networks; none: every one.
    pub(crate) fn allow(&self, networks: Vec<IpNet>) {
        *self.networks.write().unwrap_or_else(PoisonError::into_inner) = networks;
    }

    /// Whether a peer at this address may be here. One without an address is on this machine, by a pipe that only its user can
    /// open.
    pub(crate) fn allows(&self, address: Option<IpAddr>) -> bool {
        let networks = self.networks.read().unwrap_or_else(PoisonError::into_inner);
        let Some(address) = address.map(|address| address.to_canonical()) else { return true };
        networks.is_empty() || networks.iter().any(|network| network.contains(&address))
    }

    /// A place for a connection that has not proved itself.
    ///
    /// # Errors
    /// `Stranger` from a network that is not allowed; `Busy` or `Crowded` without a free place.
    pub(crate) fn admit(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Place, Error> {
        if let Some(address) = address
            && !self.allows(Some(address))
        {
            return Err(Error::Stranger(address.to_canonical()));
        }
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.all >= MAX_PENDING {
            return Err(Error::Busy);
        }
        let origin = address.map(origin);
        if let Some(origin) = origin {
            let each = pending.each.entry(origin).or_default();
            if *each >= MAX_PENDING_EACH {
                return Err(Error::Crowded(origin));
            }
            *each += 1;
        }
        pending.all += 1;
        Ok(Place { admission: Arc::clone(self), origin })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut pending = self.admission.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.all -= 1;
        if let Some(origin) = self.origin
            && let Some(each) = pending.each.get_mut(&origin)
        {
            *each -= 1;
            if *each == 0 {
                pending.each.remove(&origin);
            }
        }
    }
}

/// What counts as one address.
fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_allowed_networks_come_in_however_the_address_is_written() {
        let admission = Arc::new(Admission::default());
        assert!(admission.admit(Some(address("203.0.113.9"))).is_ok(), "none named: every one");
        admission.allow(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        for allowed in [Some(address("10.1.2.3")), Some(address("::ffff:10.1.2.3")), Some(address("fd00::1")), None] {
            assert!(admission.admit(allowed).is_ok(), "{allowed:?}");
        }
        for refused in ["11.0.0.1", "::ffff:11.0.0.1", "127.0.0.1", "::1", "2001:db8::1", "::10.1.2.3"] {
            assert!(matches!(admission.admit(Some(address(refused))), Err(Error::Stranger(_))), "{refused}");
        }
        admission.allow(Vec::new());
        assert!(admission.allows(Some(address("11.0.0.1"))));
    }

    #[test]
    fn one_address_has_few_places_and_all_together_a_bound() {
        let admission = Arc::new(Admission::default());
        let few = |text: &str| {
            (0..MAX_PENDING_EACH).map(|_| admission.admit(Some(address(text))).unwrap()).collect::<Vec<_>>()
        };
        let first = few("2001:db8::1");
        // another address of the same customer
        assert!(matches!(admission.admit(Some(address("2001:db8::ffff:1"))), Err(Error::Crowded(_))));
        let other = admission.admit(Some(address("2001:db8:0:1::1"))).unwrap();
        drop(first);
        drop(other);
        let all: Vec<_> = (0..MAX_PENDING / MAX_PENDING_EACH).map(|n| few(&format!("10.0.0.{n}"))).collect();
        assert!(matches!(admission.admit(Some(address("10.9.9.9"))), Err(Error::Busy)));
        assert!(matches!(admission.admit(None), Err(Error::Busy)));
        drop(all);
        let pending = admission.pending.lock().unwrap();
        assert!(pending.all == 0 && pending.each.is_empty());
    }
}
