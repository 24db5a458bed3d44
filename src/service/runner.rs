//! The loop around one dispatcher: due or told, it claims a run, watches it, writes what came of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::base::backoff::Backoff;
use crate::base::clock::Timestamp;
use crate::base::id::ExecutionId;
use crate::config::job::Schedule;
use crate::config::schema::name;
use crate::model::execution::{Cause, Execution, Outcome};
use crate::model::log_entry::Level;
use crate::protocol::event::Change;
use crate::protocol::state::{Activity, Pause};
use crate::service::activity::Facts;
use crate::service::claims::{self, Claim, NextAt};
use crate::service::dispatcher::{Definition, Dispatcher};
use crate::service::execution::{Ended, GRACE, NODE_STOPPED};
use crate::service::lead::Lead;
use crate::service::parts::TermParts;
use crate::service::plan::{Due, Plan};
use crate::service::runs::{Runs, Step};
use crate::service::schedule::in_words;
use crate::service::words;

/// What the database wants of a dispatcher; the latest wins.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Orders {
    /// Who paused it, and when.
    pub paused: Option<(String, Timestamp)>,
    /// Runs that wait, oldest first.
    pub queued: Vec<Execution>,
    /// Runs that are to end, and who asked.
    pub cancels: Vec<(ExecutionId, String)>,
    /// How many runs a former primary goes on with.
    pub elsewhere: usize,
}

/// What a runner begins with.
pub(crate) struct Charge {
    /// The dispatcher.
    pub dispatcher: Arc<dyn Dispatcher>,
    /// What it is.
    pub definition: Definition,
    /// The setting that holds its interval, if one does.
    pub interval_setting: Option<&'static str>,
    /// When it runs by itself.
    pub plan: Plan,
    /// Who paused it, and when.
    pub paused: Option<(String, Timestamp)>,
    /// Whether its last run failed.
    pub failing: bool,
    /// What the database wants of it.
    pub orders: watch::Receiver<Orders>,
}

/// The loop around one dispatcher.
pub(crate) struct Runner {
    parts: Arc<TermParts>,
    lead: Lead,
    definition: Definition,
    interval_setting: Option<&'static str>,
    plan: Plan,
    /// What of the plan is written into the database.
    next_at: NextAt,
    paused: Option<(String, Timestamp)>,
    failing: bool,
    orders: watch::Receiver<Orders>,
    runs: Runs,
    waiting: VecDeque<Execution>,
    /// When a waiting run may be claimed again, after the database failed.
    claim_at: Option<Instant>,
    claim_backoff: Backoff,
    skipped: u64,
    /// Whether it was told that times are passed over, since the last run began.
    said_skipped: bool,
    told: Told,
    told_queued: u32,
}

/// What is told of what it is about.
#[derive(Clone, PartialEq)]
struct Told {
    activity: Activity,
    /// For itself as well: a run that goes on does not hide a pause.
    paused: Option<Pause>,
    next_at: Option<Timestamp>,
}

impl Runner {
    pub(crate) fn new(parts: Arc<TermParts>, charge: Charge) -> Self {
        let Charge { dispatcher, definition, interval_setting, plan, paused, failing, orders } = charge;
        let next_at = NextAt::default();
        Self {
            runs: Runs::new(Arc::clone(&parts), dispatcher, definition.name.clone(), next_at.clone()),
            next_at,
            lead: parts.lead.clone(),
            parts,
            definition,
            interval_setting,
            plan,
            paused,
            failing,
            orders,
            waiting: VecDeque::new(),
            claim_at: None,
            claim_backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(15)),
            skipped: 0,
            said_skipped: false,
            told: Told { activity: Activity::Idle, paused: None, next_at: None },
            told_queued: 0,
        }
    }

    /// Works until the term or the node ends, and then until its runs are over.
    pub(crate) async fn run(mut self) {
        let parts = Arc::clone(&self.parts);
        let mut settings = parts.settings.clone();
        while !parts.over.is_stopping() {
            self.plan.follow_clock(parts.now());
            self.begin_told().await;
            self.begin_due().await;
            self.publish();
            let wake_at = self.wake_at();
            tokio::select! {
                biased;
                () = parts.over.stopping() => break,
                Some(step) = self.runs.next() => self.step(step),
                Ok(()) = self.orders.changed() => self.obey().await,
                Ok(()) = settings.changed() => self.follow_setting(),
                () = self.lead.changed() => self.heed_lead(),
                () = until(wake_at) => {}
            }
        }
        self.stop().await;
    }

    fn limit(&self) -> u32 {
        self.definition.limit.max(1)
    }

    fn is_free(&self) -> bool {
        self.runs.count() < usize::try_from(self.limit()).unwrap_or(usize::MAX)
    }

    fn wake_at(&self) -> Option<Instant> {
        let free = self.is_free();
        let told = self.claim_at.filter(|_| free && !self.waiting.is_empty());
        let due = self.plan.wake_at(free, self.parts.now());
        [told, due].into_iter().flatten().min()
    }

    /// Begins runs that somebody asked for. They begin also while the dispatcher is paused: a pause holds what it does by itself.
    async fn begin_told(&mut self) {
        while self.is_free() && self.lead.holds() && self.claim_at.is_none_or(|at| at <= Instant::now()) {
            let Some(asked) = self.waiting.pop_front() else { return };
            let (now, at) = (self.parts.now(), Instant::now());
            let mut after = self.plan.clone();
            after.began(now);
            self.next_at.set(after.next_at(now));
            let (name, limit) = (&self.definition.name, self.limit());
            let claimed = claims::claim(&self.parts, name, asked.id, limit, &self.next_at).await;
            match self.parts.judge("a run that waits", claimed) {
                Ok(Claim::Mine(execution)) => {
                    self.plan = after;
                    self.claim_at = None;
                    self.claim_backoff.reset();
                    self.begun(&execution, 1, at);
                }
                // it waits no more; or it does, and the next look into the database brings it again
                Ok(Claim::Refused) => {}
                Ok(Claim::NotPrimary) | Err(_) => {
                    self.waiting.push_front(asked);
                    self.claim_at = Some(Instant::now() + self.claim_backoff.next_delay());
                }
            }
        }
    }

    /// Begins what is due by itself, or passes it over.
    async fn begin_due(&mut self) {
        let now = self.parts.now();
        let Some(due) = self.plan.due(now) else { return };
        if !self.is_free() {
            if self.runs.has_unwritten() {
                self.plan.held_up(&due, now);
            } else if due.cause == Cause::Schedule {
                self.pass_over(&due);
            }
            return;
        }
        if !self.lead.holds() {
            self.plan.held_up(&due, now);
            return;
        }
        let at = Instant::now();
        let mut after = self.plan.clone();
        after.began(now);
        self.next_at.set(after.next_at(now));
        let begun = claims::begin(&self.parts, &self.definition.name, &due, self.limit(), &self.next_at).await;
        match self.parts.judge("a run that is due", begun) {
            Ok(Claim::Mine(execution)) => {
                self.plan = after;
                self.begun(&execution, due.attempt, at);
            }
            // paused in the database, which is about to be heard of; or a run goes on at a former primary
            Ok(Claim::Refused) if self.runs.count() == 0 => self.plan.passed_over(self.parts.now()),
            Ok(Claim::Refused) => self.pass_over(&due),
            Ok(Claim::NotPrimary) | Err(_) => self.plan.held_up(&due, self.parts.now()),
        }
    }

    /// `at` is when it was about to be claimed: from then on its duration counts, as in the database.
    fn begun(&mut self, execution: &Execution, attempt: u32, at: Instant) {
        self.said_skipped = false;
        self.runs.begin(&self.definition, execution, attempt, at);
    }

    /// The term was prolonged: what could not begin meanwhile can.
    fn heed_lead(&mut self) {
        if self.lead.holds() {
            self.plan.released();
            self.claim_at = None;
        }
    }

    fn pass_over(&mut self, due: &Due) {
        self.plan.passed_over(self.parts.now());
        self.skipped += 1;
        let dispatcher = self.definition.name.clone();
        self.parts.feed.change(Change::Skipped { dispatcher, skipped: self.skipped });
        if !self.said_skipped {
            self.said_skipped = true;
            let text = format!("the run due at {} is passed over: the one before has not ended", due.expected);
            self.parts.say(&self.definition.name, None, Level::Warn, &text);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Ended(ended) => self.ended(&ended),
            Step::Wrote(id, result) => {
                if self.runs.wrote(id, result) {
                    self.plan.released();
                }
            }
        }
    }

    fn ended(&mut self, ended: &Ended) {
        let Some(judged) = self.runs.judge(ended) else { return };
        let now = self.parts.now();
        match judged.outcome {
            Outcome::Normal | Outcome::Warning => self.failing = false,
            Outcome::Error | Outcome::Abandoned => self.failing = true,
            Outcome::Cancelled => {}
        }
        let retries = self.definition.retries;
        let stopping = self.parts.over.is_stopping();
        let repeat =
            judged.outcome == Outcome::Error && judged.attempt <= retries && self.paused.is_none() && !stopping;
        if repeat {
            self.plan.retry(ended.execution, judged.attempt, self.definition.retry_delay, now);
        }
        if !self.definition.quiet || judged.outcome != Outcome::Normal || judged.message.is_some() {
            let again = repeat.then_some((judged.attempt, retries));
            let (level, text) = words::ended(judged.outcome, judged.message.as_deref(), ended.took, again);
            self.parts.say(&self.definition.name, Some(ended.execution), level, &text);
        }
        self.next_at.set(self.plan.next_at(now));
        self.runs.write(ended.execution, Duration::ZERO);
    }

    /// Takes over what the database wants.
    async fn obey(&mut self) {
        let orders = self.orders.borrow_and_update().clone();
        for (id, by) in &orders.cancels {
            self.runs.cancel(*id, by);
        }
        self.waiting = orders.queued.into_iter().filter(|asked| !self.runs.holds(asked.id)).collect();
        if self.paused == orders.paused {
            return;
        }
        let now = self.parts.now();
        let text = if let Some((by, _)) = &orders.paused {
            self.plan.pause();
            format!("paused by {by}")
        } else {
            self.plan.resume(now);
            "goes on".to_owned()
        };
        self.paused = orders.paused;
        self.parts.say(&self.definition.name, None, Level::Info, &text);
        // for pages that ask only the database; if it fails, the end of the next run writes it
        self.next_at.set(self.plan.next_at(now));
        let _ = claims::schedule(&self.parts, &self.definition.name, &self.next_at).await;
    }

    /// The interval of a built-in dispatcher follows its setting.
    fn follow_setting(&mut self) {
        let Some(setting) = self.interval_setting else { return };
        let interval = self.parts.settings.borrow().duration(setting);
        let schedule = Schedule::Every(interval);
        if self.definition.schedule == schedule {
            return;
        }
        self.plan.set_interval(interval, self.parts.now());
        let known = self.parts.feed.look(|state| state.dispatchers.get(&self.definition.name).cloned());
        if let Some(mut known) = known {
            known.schedule = in_words(&schedule);
            self.parts.feed.change(Change::Declared(Box::new(known)));
        }
        self.definition.schedule = schedule;
    }

    /// Tells what changed of what it is about.
    fn publish(&mut self) {
        let next_at = self.plan.next_at(self.parts.now());
        self.next_at.set(next_at);
        let queued = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        let facts = Facts {
            disabled_by: None,
            paused: self.paused.clone(),
            running: self.runs.running() + self.orders.borrow().elsewhere,
            queued,
            overdue: self.plan.overdue(),
            failing: self.failing,
            next_at,
        };
        let dispatcher = || self.definition.name.clone();
        if queued != self.told_queued {
            self.told_queued = queued;
            self.parts.feed.change(Change::Queued { dispatcher: dispatcher(), queued });
        }
        let now = Told { activity: facts.activity(), paused: self.paused.clone().map(Pause::from), next_at };
        if now != self.told {
            self.told = now.clone();
            let Told { activity, paused, next_at } = now;
            self.parts.feed.change(Change::Activity { dispatcher: dispatcher(), activity, paused, next_at });
        }
    }

    /// Begins nothing more. Where only the term is over, runs go on to their end. When the node stops they may finish within
    /// `Service.StopPatience`; then, or at once after a hard stop, they are cancelled. Their ends are written as long as the
    /// database takes them.
    async fn stop(&mut self) {
        let parts = Arc::clone(&self.parts);
        let (mut patience_ends, mut give_up_at) = (None, None);
        self.waiting.clear();
        while self.runs.count() > 0 {
            self.publish();
            tokio::select! {
                Some(step) = self.runs.next() => self.step(step),
                Ok(()) = self.orders.changed() => {
                    let orders = self.orders.borrow_and_update().clone();
                    for (id, by) in &orders.cancels {
                        self.runs.cancel(*id, by);
                    }
                }
                () = self.lead.changed() => self.heed_lead(),
                () = parts.shutdown.stopping(), if patience_ends.is_none() => {
                    patience_ends = Some(Instant::now() + parts.settings.borrow().duration(name::STOP_PATIENCE));
                }
                () = parts.shutdown.stopping_now(), if patience_ends.is_none_or(|at| at > Instant::now()) => {
                    patience_ends = Some(Instant::now());
                }
                () = until(patience_ends), if give_up_at.is_none() => {
                    self.runs.cancel_all(NODE_STOPPED);
                    // the time to react, and the time to write it down
                    give_up_at = Some(Instant::now() + GRACE * 2);
                }
                () = until(give_up_at) => return,
            }
        }
        self.publish();
    }
}

/// Comes back at this moment; never, without one.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
