//! How far this node may rely on being primary: until a moment, counted from before the last renewal was sent.
//!
//! The moment is on the monotonic clock and never later than what the database holds, so a node that is cut off, or was frozen,
//! knows by itself that its term may be another's by now.

use tokio::sync::watch;
use tokio::time::Instant;

/// One term as primary, as its dispatchers see it. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Lead {
    fencing: i64,
    standing: watch::Receiver<Standing>,
}

/// The end of it that prolongs the term.
#[derive(Debug)]
pub(crate) struct Grip {
    standing: watch::Sender<Standing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    good_until: Instant,
    /// How often runs that must not overlap with another node's were to end.
    evictions: u32,
}

impl Lead {
    /// A term with this number, good until then.
    pub(crate) fn begin(fencing: i64, good_until: Instant) -> (Grip, Self) {
        let (sender, standing) = watch::channel(Standing { good_until, evictions: 0 });
        (Grip { standing: sender }, Self { fencing, standing })
    }

    /// The number of the term.
    pub(crate) fn fencing(&self) -> i64 {
        self.fencing
    }

    /// Whether this node is primary for certain.
    pub(crate) fn holds(&self) -> bool {
        Instant::now() < self.standing.borrow().good_until
    }

    /// How often runs that must not overlap were to end so far.
    pub(crate) fn evictions(&self) -> u32 {
        self.standing.borrow().evictions
    }

    /// Comes back when the term was prolonged, or runs are to end; never once nobody prolongs it any more.
    pub(crate) async fn changed(&mut self) {
        if self.standing.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Grip {
    /// The term is good until then.
    pub(crate) fn prolong(&self, good_until: Instant) {
        self.standing.send_modify(|standing| standing.good_until = standing.good_until.max(good_until));
    }

    /// Until when the term is good.
    pub(crate) fn good_until(&self) -> Instant {
        self.standing.borrow().good_until
    }

    /// Another node may be primary by now: runs that must not overlap with its runs are to end.
    pub(crate) fn evict(&self) {
        self.standing.send_modify(|standing| standing.evictions += 1);
    }

    /// It is over, now.
    pub(crate) fn give_up(&self) {
        self.standing.send_modify(|standing| standing.good_until = Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_holds_until_it_is_not_prolonged() {
        let term = Duration::from_secs(15);
        let (grip, mut lead) = Lead::begin(7, Instant::now() + term);
        assert!(lead.holds());
        tokio::time::advance(Duration::from_secs(10)).await;
        grip.prolong(Instant::now() + term);
        lead.changed().await;
        tokio::time::advance(Duration::from_secs(14)).await;
        assert!(lead.holds());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!lead.holds());
        grip.prolong(Instant::now() + term);
        assert!(lead.holds(), "nobody took it meanwhile");
        grip.give_up();
        assert!(!lead.holds());
        grip.evict();
        assert_eq!((lead.evictions(), lead.fencing()), (1, 7));
    }
}
