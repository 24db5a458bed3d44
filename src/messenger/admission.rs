//! Who is let in to prove itself: from which networks, and how many at the same time.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tokio::sync::Notify;

use crate::messenger::error::Error;

/// Connections that may be unproven at the same time; for the next one the oldest gives way that said nothing yet.
pub const MAX_PENDING: usize = 64;

/// And of one address (IPv6: of one /64, which is one machine's network): a single stranger can't take every place.
pub const MAX_PENDING_EACH: usize = 8;

/// And of one IPv6 /48, the most that is given to one customer.
const MAX_PENDING_SITE: usize = 16;

/// The door of one listening end.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    /// Empty: every network.
    networks: RwLock<Vec<IpNet>>,
    pending: Mutex<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    /// By number, so the oldest first; never more than there are places.
    places: BTreeMap<u64, Taken>,
    next: u64,
}

/// A place that is taken.
#[derive(Debug)]
struct Taken {
    address: Option<IpAddr>,
    progress: Progress,
    displaced: Arc<Notify>,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    Silent,
    Heard,
    Proven,
}

/// A place among the unproven; free again when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Arc<Admission>,
    number: u64,
    displaced: Arc<Notify>,
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

    /// A place for a connection that has not proved itself. If none is free, the oldest connection gives way that said nothing
    /// yet, or else the oldest that has not proved itself: an honest node speaks at once and needs its place for a moment only.
    ///
    /// # Errors
    /// `Stranger` from a network that is not allowed; `Crowded` if its own network has too many; `Busy` if all have proved
    /// themselves and wait for the node.
    pub(crate) fn admit(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Place, Error> {
        let address = address.map(|address| address.to_canonical());
        if let Some(address) = address
            && !self.allows(Some(address))
        {
            return Err(Error::Stranger(address));
        }
        let mut pending = self.pending();
        for (origin, most) in address.into_iter().flat_map(origins) {
            if pending.from(origin) >= most {
                return Err(Error::Crowded(origin.network()));
            }
        }
        if pending.places.len() >= MAX_PENDING {
            pending.displace_one()?;
        }
        let number = pending.next;
        pending.next += 1;
        let displaced = Arc::<Notify>::default();
        let taken = Taken { address, progress: Progress::Silent, displaced: Arc::clone(&displaced) };
        pending.places.insert(number, taken);
        drop(pending);
        Ok(Place { admission: Arc::clone(self), number, displaced })
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn from(&self, origin: IpNet) -> usize {
        self.places.values().filter(|taken| taken.address.is_some_and(|address| origin.contains(&address))).count()
    }

    fn displace_one(&mut self) -> Result<(), Error> {
        let unproven = self.places.iter().filter(|(_, taken)| taken.progress < Progress::Proven);
        let (&number, _) = unproven.min_by_key(|(_, taken)| taken.progress).ok_or(Error::Busy)?;
        if let Some(taken) = self.places.remove(&number) {
            taken.displaced.notify_one();
        }
        Ok(())
    }
}

impl Place {
    /// The connection said hello.
    pub(crate) fn heard(&self) {
        self.reached(Progress::Heard);
    }

    /// The connection proved itself: it does not give way any more.
    pub(crate) fn proved(&self) {
        self.reached(Progress::Proven);
    }

    /// Returns when the connection has to give way to another.
    pub(crate) async fn displaced(&self) {
        self.displaced.notified().await;
    }

    fn reached(&self, progress: Progress) {
        if let Some(taken) = self.admission.pending().places.get_mut(&self.number) {
            taken.progress = progress;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.pending().places.remove(&self.number);
    }
}

/// What an address is counted with, and how many may be of it.
fn origins(address: IpAddr) -> impl Iterator<Item = (IpNet, usize)> {
    let of_six = |length| match address {
        IpAddr::V6(address) => Ipv6Net::new(address, length).ok().map(|network| IpNet::V6(network.trunc())),
        IpAddr::V4(_) => None,
    };
    let alone = match address {
        IpAddr::V4(address) => Some(IpNet::V4(Ipv4Net::from(address))),
        IpAddr::V6(_) => of_six(64),
    };
    let site = of_six(48).map(|site| (site, MAX_PENDING_SITE));
    alone.map(|alone| (alone, MAX_PENDING_EACH)).into_iter().chain(site)
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

    fn few(admission: &Arc<Admission>, text: &str) -> Vec<Place> {
        (0..MAX_PENDING_EACH).map(|_| admission.admit(Some(address(text))).unwrap()).collect()
    }

    #[test]
    fn one_address_and_one_site_have_few_places() {
        let admission = Arc::new(Admission::default());
        let first = few(&admission, "2001:db8::1");
        // another address of the same network
        assert!(matches!(admission.admit(Some(address("2001:db8::ffff:1"))), Err(Error::Crowded(_))));
        let second = few(&admission, "2001:db8:0:1::1");
        // another network of the same site
        assert!(matches!(admission.admit(Some(address("2001:db8:0:2::1"))), Err(Error::Crowded(_))));
        assert!(admission.admit(Some(address("2001:db8:1::1"))).is_ok());
        let four = few(&admission, "::ffff:10.0.0.1");
        assert!(matches!(admission.admit(Some(address("10.0.0.1"))), Err(Error::Crowded(_))));
        drop((first, second, four));
        assert!(admission.pending().places.is_empty());
    }

    #[tokio::test]
    async fn who_is_silent_gives_way_first_then_who_is_unproven_and_nobody_else() {
        let admission = Arc::new(Admission::default());
        let places: Vec<_> =
            (0..MAX_PENDING / MAX_PENDING_EACH).flat_map(|n| few(&admission, &format!("10.0.0.{n}"))).collect();
        places[0].proved();
        places[1].heard();
        let newcomer = admission.admit(Some(address("10.9.9.9"))).unwrap();
        places[2].displaced().await;
        newcomer.heard();
        places[3..].iter().for_each(Place::heard);
        let next = admission.admit(None).unwrap();
        places[1].displaced().await;
        assert_eq!(admission.pending().places.len(), MAX_PENDING);
        next.proved();
        newcomer.proved();
        places[3..].iter().for_each(Place::proved);
        assert!(matches!(admission.admit(None), Err(Error::Busy)));
        drop((places, newcomer, next));
        assert!(admission.pending().places.is_empty());
    }
}
