//! How far this node may rely on being primary: until a moment, counted from before the last renewal was sent.
//!
//! The moment is never later than what the database holds, so a node that is cut off, or was frozen, knows by itself that its term
//! may be another's by now. It is on two clocks, for a machine that is suspended stops the one that timers go by.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::base::cluster_clock::Uptime;

/// A moment, on the clock of timers, which stands still while the machine is suspended, and on the one that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// For timers.
    pub instant: Instant,
    uptime: Uptime,
}

impl Moment {
    /// Now.
    pub(crate) fn now() -> Self {
        Self { instant: Instant::now(), uptime: Uptime::now() }
    }

    /// So much later.
    pub(crate) fn plus(self, duration: Duration) -> Self {
        Self { instant: self.instant + duration, uptime: self.uptime.plus(duration) }
    }

    /// Whether it is to come: both clocks have to say so.
    pub(crate) fn is_after(self, now: Self) -> bool {
        self.instant > now.instant && self.uptime > now.uptime
    }

    fn max(self, other: Self) -> Self {
        Self { instant: self.instant.max(other.instant), uptime: self.uptime.max(other.uptime) }
    }
}

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
    good_until: Moment,
    /// How often runs that must not overlap with another node's were to end.
    evictions: u32,
}

impl Lead {
    /// A term with this number, good until then.
    pub(crate) fn begin(fencing: i64, good_until: Moment) -> (Grip, Self) {
        let (sender, standing) = watch::channel(Standing { good_until, evictions: 0 });
        (Grip { standing: sender }, Self { fencing, standing })
    }

    /// The number of the term.
    pub(crate) fn fencing(&self) -> i64 {
        self.fencing
    }

    /// Whether this node is primary for certain.
    pub(crate) fn holds(&self) -> bool {
        self.holds_at(Moment::now())
    }

    fn holds_at(&self, now: Moment) -> bool {
        self.standing.borrow().good_until.is_after(now)
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
    pub(crate) fn prolong(&self, good_until: Moment) {
        self.standing.send_modify(|standing| standing.good_until = standing.good_until.max(good_until));
    }

    /// Until when the term is good, for timers.
    pub(crate) fn good_until(&self) -> Instant {
        self.standing.borrow().good_until.instant
    }

    /// Another node may be primary by now: runs that must not overlap with its runs are to end.
    pub(crate) fn evict(&self) {
        self.standing.send_modify(|standing| standing.evictions += 1);
    }

    /// It is over, now.
    pub(crate) fn give_up(&self) {
        self.standing.send_modify(|standing| standing.good_until = Moment::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_holds_until_it_is_not_prolonged() {
        let term = Duration::from_secs(15);
        let (grip, mut lead) = Lead::begin(7, Moment::now().plus(term));
        assert!(lead.holds());
        tokio::time::advance(Duration::from_secs(10)).await;
        grip.prolong(Moment::now().plus(term));
        lead.changed().await;
        tokio::time::advance(Duration::from_secs(14)).await;
        assert!(lead.holds());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!lead.holds());
        grip.prolong(Moment::now().plus(term));
        assert!(lead.holds(), "nobody took it meanwhile");
        grip.give_up();
        assert!(!lead.holds());
        grip.evict();
        assert_eq!((lead.evictions(), lead.fencing()), (1, 7));
    }

    #[test]
    fn a_term_goes_on_while_the_machine_is_suspended() {
        let began = Moment::now();
        let after = |awake: u64, asleep: u64| Moment {
            instant: began.instant + Duration::from_secs(awake),
            uptime: began.uptime.plus(Duration::from_secs(awake + asleep)),
        };
        let term = Duration::from_secs(15);
        let (grip, lead) = Lead::begin(7, began.plus(term));
        assert!(lead.holds_at(after(14, 0)) && !lead.holds_at(after(15, 0)));
        assert!(lead.holds_at(after(1, 13)) && !lead.holds_at(after(1, 14)), "another may have taken it meanwhile");
        grip.prolong(after(1, 60).plus(term));
        assert!(lead.holds_at(after(15, 60)) && !lead.holds_at(after(16, 60)), "nobody took it");
    }
}
