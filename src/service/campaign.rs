//! Beats, stands for primary, stays it, and gives it back: the loop that decides whether this node's dispatchers run.
//!
//! Every `Service.HeartbeatInterval` it writes that this node lives, and, as primary, that it stays so for `Service.StaleTime` from
//! then on. A standby takes over when that term is over. What a standby waits for is read from the database, which alone
//! knows the time; how long this node may rely on its own term is counted here, from before the renewal was sent, and ends a
//! little before the term does: what must not overlap with another node's runs has to be over by then.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::base::id::NodeId;
use crate::config::schema::name;
use crate::messenger::secure::SharedKeys;
use crate::protocol::state::Absence;
use crate::service::crew::Crew;
use crate::service::execution::GRACE;
use crate::service::lead::{Grip, Lead, Moment};
use crate::service::term::{self, Term};
use crate::store::error::Error;
use crate::store::leadership::Leadership;
use crate::store::nodes::{Beat, Double};

/// Changes of the database are looked at so far apart at least: each run makes some.
const APART: Duration = Duration::from_millis(250);

/// A standby looks this much after the term it waits for should be over.
const AFTER_EXPIRY: Duration = Duration::from_millis(50);

/// After the database failed it is asked again this soon, so that a term is not lost by one lost beat.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// A service node that gave no sign of life for so long is not expected back.
const GONE_FOR_GOOD: Duration = Duration::from_hours(24);

/// How long a stopping node tries to give its term back.
const FAREWELL: Duration = Duration::from_secs(2);

/// The loop.
pub(crate) struct Campaign {
    crew: Arc<Crew>,
    keys: SharedKeys,
    /// Whether no other service node can live on this database.
    alone: bool,
    standing: Standing,
    /// Terms whose runs go on.
    ending: Vec<Ending>,
    /// When the last beat that was written was sent.
    beaten_at: Moment,
    /// Whether there are other service nodes that may take over, as of the last look.
    others: bool,
    /// As whose standby this node is shown.
    shown: Option<NodeId>,
    /// The last line of the log in the last term; 0 before the first.
    led_until: u64,
}

enum Standing {
    /// Another node is primary, or nobody is.
    Standby {
        /// When the present term is over, unless it is prolonged.
        free_at: Option<Instant>,
    },
    /// This node is.
    Primary { lead: Lead, grip: Grip, term: Option<Term>, evicted: bool, handing_over: bool },
}

/// A term that is over, but for its runs.
struct Ending {
    task: JoinHandle<()>,
    grip: Grip,
    evicted: bool,
}

/// What a beat brought to light.
struct Look {
    leadership: Leadership,
    renewed: bool,
    others: bool,
    /// The process that is this node now, if it is another.
    double: Option<Double>,
}

impl Campaign {
    pub(crate) fn new(crew: Arc<Crew>, keys: SharedKeys, alone: bool) -> Self {
        let standing = Standing::Standby { free_at: None };
        let beaten_at = Moment::now();
        Self { crew, keys, alone, standing, ending: Vec::new(), beaten_at, others: false, shown: None, led_until: 0 }
    }

    /// The first beat: becomes primary if nobody is.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn begin(&mut self) -> Result<(), Error> {
        self.step().await
    }

    /// Goes on until the node stops and all its runs are over.
    pub(crate) async fn run(mut self) {
        let shutdown = self.crew.parts.shutdown.clone();
        let mut changes = self.crew.parts.store.changes();
        let mut settings = self.crew.parts.settings.clone();
        let mut failed = false;
        loop {
            let beat = settings.borrow_and_update().duration(name::HEARTBEAT_INTERVAL);
            let looked_at = Instant::now();
            let next = looked_at + if failed { AFTER_FAILURE.min(beat / 2) } else { beat };
            tokio::select! {
                () = shutdown.stopping() => break,
                () = sleep_until(self.wake_at(next)) => {}
                Ok(()) = changes.changed() => sleep_until(looked_at + APART).await,
                Ok(()) = settings.changed() => {}
            }
            changes.borrow_and_update();
            self.heed_deadline();
            let stepped = self.step().await;
            failed = self.crew.parts.judge("who is primary", stepped).is_err();
            self.heed_deadline();
        }
        self.stop().await;
    }

    /// The next beat, or what comes before it: the end of the own term, or of the one that is waited for, or the moment from which
    /// this node may be taken for dead while runs of a former term go on.
    fn wake_at(&self, beat: Instant) -> Instant {
        let beat = self.doubt_ahead(Moment::now()).map_or(beat, |at| beat.min(at));
        match &self.standing {
            Standing::Standby { free_at } => free_at.map_or(beat, |at| beat.min(at + AFTER_EXPIRY)),
            Standing::Primary { grip, evicted: false, .. } => beat.min(grip.good_until()),
            Standing::Primary { .. } => beat,
        }
    }

    /// From when on this node may be taken for dead, and its runs be given up, unless it beats before.
    fn doubted_at(&self) -> Moment {
        self.beaten_at.plus(self.good_for(self.crew.parts.settings.borrow().duration(name::STALE_TIME)))
    }

    /// The same, if it is to come and runs of a former term hang on it.
    fn doubt_ahead(&self, now: Moment) -> Option<Instant> {
        let hangs = self.ending.iter().any(|ending| !ending.evicted);
        Some(self.doubted_at()).filter(|at| hangs && at.is_after(now)).map(|at| at.instant)
    }

    /// Once the own term could not be prolonged in time, another node may be primary: runs that must not overlap are ended. Where
    /// there is no other service node, none can be, and they go on. The same holds for runs of a term that is over, once this node
    /// may be taken for dead.
    fn heed_deadline(&mut self) {
        if self.others && !self.doubted_at().is_after(Moment::now()) {
            self.evict_former_terms();
        }
        if let Standing::Primary { lead, grip, evicted, .. } = &mut self.standing
            && !*evicted
            && !lead.holds()
        {
            *evicted = true;
            let what = if self.others { "runs that must not overlap are ended" } else { "what runs goes on" };
            tracing::warn!(
                "the database could not be told in time that this node is the primary: nothing begins; {what}"
            );
            if self.others {
                grip.evict();
            }
        }
    }

    fn evict_former_terms(&mut self) {
        for ending in self.ending.iter_mut().filter(|ending| !ending.evicted) {
            ending.evicted = true;
            ending.grip.evict();
        }
    }

    /// Another process is this node now, and has given up what runs here: nothing is taken back from it.
    fn give_way(&mut self, double: &Double) {
        let shutdown = &self.crew.parts.shutdown;
        if !shutdown.is_stopping() {
            tracing::error!("{double}; this process ends");
            shutdown.give_up();
        }
        self.evict_former_terms();
        self.step_down(true);
    }

    /// One beat, and what follows from it.
    async fn step(&mut self) -> Result<(), Error> {
        self.ending.retain(|ending| !ending.task.is_finished());
        let stale = self.crew.parts.settings.borrow().duration(name::STALE_TIME);
        let good_for = self.good_for(stale);
        let sent = Moment::now();
        // a database that says nothing must not keep this node from heeding the end of its term
        let own_term = match &self.standing {
            Standing::Primary { grip, evicted: false, .. } => Some(grip.good_until()),
            _ => None,
        };
        let deadline = own_term.into_iter().chain(self.doubt_ahead(sent)).min();
        let patience = deadline.map_or(stale / 2, |at| (stale / 2).min(at.saturating_duration_since(sent.instant)));
        let look = timeout(patience, self.look(stale)).await.map_err(|_| Error::timed_out())??;
        if let Some(double) = &look.double {
            self.give_way(double);
            return Ok(());
        }
        (self.others, self.beaten_at) = (look.others, sent);
        match &mut self.standing {
            Standing::Primary { grip, evicted, .. } if look.renewed => {
                grip.prolong(sent.plus(good_for));
                if std::mem::take(evicted) {
                    tracing::info!("this node is the primary still, and goes on");
                }
                self.take_up().await?;
                self.hand_over_if_asked(&look.leadership).await
            }
            // it was given back as asked; only the answer was lost
            Standing::Primary { handing_over: true, .. } => {
                self.step_down(false);
                self.stand_by(&look.leadership).await
            }
            Standing::Primary { .. } => {
                let by = look.leadership.primary().map_or_else(|| "another node".to_owned(), NodeId::to_string);
                tracing::warn!("{by} is the primary now: this node begins nothing more");
                self.step_down(true);
                self.stand_by(&look.leadership).await
            }
            // of its own: the answer to an attempt to take it was lost
            Standing::Standby { .. }
                if look.leadership.primary().is_none_or(|primary| *primary == self.crew.parts.node) || self.alone =>
            {
                self.take(sent, stale, &look.leadership).await
            }
            Standing::Standby { .. } => self.stand_by(&look.leadership).await,
        }
    }

    /// How long a term is relied on here. Runs that must not overlap have the rest of it to react to being told to end, unless
    /// terms are too short for that: one late beat is no reason to end them.
    fn good_for(&self, stale: Duration) -> Duration {
        if self.alone {
            return stale;
        }
        let beat = self.crew.parts.settings.borrow().duration(name::HEARTBEAT_INTERVAL);
        stale.saturating_sub(GRACE.min(stale.saturating_sub(beat) / 2))
    }

    /// Writes that this node lives and, as primary, that it stays so; reads who is primary.
    async fn look(&self, stale: Duration) -> Result<Look, Error> {
        let parts = &self.crew.parts;
        let fingerprint = self.keys.fingerprint();
        let mut transaction = parts.store.begin_unlocked().await?;
        let id_file = self.crew.registered.id_file.as_deref();
        let double = match transaction.beat_node(&parts.node, id_file, Some(&fingerprint), parts.clock.now()).await? {
            Beat::Written => None,
            // somebody took it for dead and removed it
            Beat::Unknown => {
                transaction.register_node(&self.crew.node(&fingerprint)).await?;
                None
            }
            Beat::Replaced(double) => Some(double),
        };
        let renewed = match &self.standing {
            Standing::Primary { lead, .. } if double.is_none() => {
                transaction.renew_lead(&parts.node, lead.fencing(), stale).await?
            }
            _ => false,
        };
        transaction.commit().await?;
        let now = parts.clock.now();
        let nodes = parts.store.nodes().await?;
        // one that is down now may come up while this node is cut off
        let others = nodes.iter().any(|node| {
            node.id != parts.node && node.role.has_service() && now.since(node.heartbeat_at) < stale.max(GONE_FOR_GOOD)
        });
        Ok(Look { leadership: parts.store.leadership().await?, renewed, others: others && !self.alone, double })
    }

    async fn take(&mut self, sent: Moment, stale: Duration, seen: &Leadership) -> Result<(), Error> {
        let parts = &self.crew.parts;
        let take = async {
            let mut transaction = parts.store.begin_unlocked().await?;
            let taken = transaction.take_lead(&parts.node, stale, self.alone).await?;
            transaction.commit().await?;
            Ok(taken)
        };
        let taken: Result<_, Error> = timeout(stale / 2, take).await.map_err(|_| Error::timed_out())?;
        let Some(fencing) = taken? else { return self.stand_by(seen).await };
        let (grip, lead) = Lead::begin(fencing, sent.plus(self.good_for(stale)));
        self.standing = Standing::Primary { lead, grip, term: None, evicted: false, handing_over: false };
        self.shown = None;
        // before the term writes a line: what the others wrote meanwhile comes before its lines
        let absence = Absence { after: self.led_until, upto: parts.log.last() };
        parts.feed.change_node(|node| node.note_absence(absence));
        self.take_up().await
    }

    /// Starts the dispatchers, if that has not been done.
    async fn take_up(&mut self) -> Result<(), Error> {
        if let Standing::Primary { lead, term, .. } = &mut self.standing
            && term.is_none()
        {
            *term = Some(Term::begin(&self.crew, lead.clone()).await?);
        }
        Ok(())
    }

    async fn hand_over_if_asked(&mut self, leadership: &Leadership) -> Result<(), Error> {
        let Some((by, to)) = &leadership.asked else { return Ok(()) };
        let Standing::Primary { lead, grip, term: Some(term), handing_over, .. } = &mut self.standing else {
            return Ok(());
        };
        let (fencing, patience) = (lead.fencing(), grip.good_until().saturating_duration_since(Instant::now()));
        *handing_over = true;
        // before it is given back; if that fails it is tried again at the next beat, and nothing begins meanwhile
        term.end();
        let to = to.as_ref().map_or_else(|| "another node".to_owned(), NodeId::to_string);
        tracing::info!("{by} wants {to} to be the primary: this node begins nothing more, what runs goes on");
        timeout(patience, self.give_back(fencing, true)).await.map_err(|_| Error::timed_out())??;
        self.step_down(false);
        Ok(())
    }

    async fn give_back(&self, fencing: i64, handing_over: bool) -> Result<(), Error> {
        let parts = &self.crew.parts;
        let mut transaction = parts.store.begin_unlocked().await?;
        transaction.release_lead(&parts.node, fencing, handing_over).await?;
        transaction.commit().await
    }

    /// Is primary no more. Runs go on to their end; those that must not overlap only if nobody else can be primary yet.
    fn step_down(&mut self, evict: bool) {
        let standing = std::mem::replace(&mut self.standing, Standing::Standby { free_at: None });
        let Standing::Primary { grip, term, .. } = standing else { return };
        self.led_until = self.crew.parts.log.last();
        if evict {
            // first, so that what begins at this moment finds that it may not
            grip.give_up();
            grip.evict();
        }
        // what was taken on at this very moment was still this node's to take: it is run
        if let Some(term) = term {
            term.end();
            let task = self.crew.parts.shutdown.spawn("end of a term", term.over());
            self.ending.push(Ending { task, grip, evicted: evict });
        }
    }

    /// Notes whose standby this node is, and until when at least.
    async fn stand_by(&mut self, seen: &Leadership) -> Result<(), Error> {
        let Standing::Standby { free_at } = &mut self.standing else { return Ok(()) };
        *free_at = seen.primary().map(|_| Instant::now() + seen.left);
        let primary = seen.holder.clone().unwrap_or_else(|| NodeId::new(""));
        if self.shown.as_ref() != Some(&primary) && self.ending.is_empty() {
            term::stand_by(&self.crew, &primary).await?;
            if let Some(primary) = seen.primary() {
                tracing::info!("{primary} is the primary; this node stands by");
            }
            self.shown = Some(primary);
        }
        Ok(())
    }

    /// The node stops: the term is given back at once, so that another takes over, and the node says that it lives until
    /// its runs are over.
    async fn stop(mut self) {
        let fencing = match &self.standing {
            Standing::Primary { lead, .. } => Some(lead.fencing()),
            Standing::Standby { .. } => None,
        };
        self.step_down(false);
        if let Some(fencing) = fencing {
            // if it can't be written, the term ends by itself
            let _ = timeout(FAREWELL, self.give_back(fencing, false)).await;
        }
        while let Some(first) = self.ending.first_mut() {
            let settings = Arc::clone(&self.crew.parts.settings.borrow());
            tokio::select! {
                // one that fell has been told as such
                _ = &mut first.task => drop(self.ending.remove(0)),
                () = tokio::time::sleep(settings.duration(name::HEARTBEAT_INTERVAL)) => {
                    let sent = Moment::now();
                    // one that is not written is followed by another
                    if let Ok(Ok(look)) = timeout(FAREWELL, self.look(settings.duration(name::STALE_TIME))).await {
                        (self.others, self.beaten_at) = (look.others, sent);
                    }
                    self.heed_deadline();
                }
            }
        }
    }
}
