//! What a dispatcher does next by itself: the pure part of its loop.
//!
//! Intervals are measured on the monotonic clock, so a wall clock set back or forward neither stalls nor repeats them. Cron lines
//! follow the wall clock, but never fire the same time twice.

use std::time::Duration;

use tokio::time::Instant;

use crate::base::backoff::Backoff;
use crate::base::clock::Timestamp;
use crate::base::id::ExecutionId;
use crate::model::execution::Cause;
use crate::service::schedule::Timetable;

/// The wall clock is looked at so often while a cron time is awaited: it may have been set.
const LOOK: Duration = Duration::from_secs(30);

/// The longest a failed run waits for its repetition.
const LONGEST_RETRY: Duration = Duration::from_hours(1);

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// The wall's.
    pub wall: Timestamp,
    /// The one that only goes forward.
    pub monotonic: Instant,
}

/// A run that is to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// Why.
    pub cause: Cause,
    /// The failed run it repeats.
    pub retry_of: Option<ExecutionId>,
    /// Which attempt it is; the first is 1.
    pub attempt: u32,
    /// When it should begin.
    pub expected: Timestamp,
}

/// What was known of a dispatcher before this start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Before {
    /// When it was due next, as last written.
    pub next_at: Option<Timestamp>,
    /// Whether somebody paused it.
    pub paused: bool,
}

/// When a dispatcher runs by itself.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    timetable: Timetable,
    next: Next,
    /// The cron time fired last.
    fired: Option<Timestamp>,
    /// When the last run began.
    began: Option<Instant>,
    /// A run due at once, because the node started.
    first: Option<Cause>,
    retry: Option<Retry>,
    /// Set while what is due can't begin.
    held: Option<Held>,
    backoff: Backoff,
    paused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Never,
    /// An interval ends; the wall's time of it is for people only.
    At(Instant, Timestamp),
    /// A time of the cron line.
    Time(Timestamp),
}

#[derive(Clone, Copy, Debug)]
struct Retry {
    at: Instant,
    shown: Timestamp,
    of: ExecutionId,
    attempt: u32,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    expected: Timestamp,
    again_at: Instant,
}

impl Now {
    /// The wall's time at a monotonic moment, if nobody sets the clock.
    fn wall_at(self, moment: Instant) -> Timestamp {
        self.wall
            .plus(moment.saturating_duration_since(self.monotonic))
            .minus(self.monotonic.saturating_duration_since(moment))
    }
}

impl Plan {
    /// The plan of a dispatcher at the start of the node. A time missed while the node was down is made up for, once, if
    /// `catch_up`; a run at the start makes up for it too.
    pub(crate) fn new(timetable: Timetable, before: Before, run_at_start: bool, catch_up: bool, now: Now) -> Self {
        let missed = before.next_at.is_some_and(|at| at <= now.wall);
        let mut plan = Self {
            next: Next::Never,
            fired: None,
            began: None,
            first: if run_at_start {
                Some(Cause::StartUp)
            } else {
                (missed && catch_up && !matches!(timetable, Timetable::Manual)).then_some(Cause::CatchUp)
            },
            retry: None,
            held: None,
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(15)),
            paused: before.paused,
            timetable,
        };
        if plan.paused {
            plan.first = None;
        }
        plan.next = match &plan.timetable {
            Timetable::Every(interval) => {
                // an interval that was running goes on, but never longer than a whole one
                let rest = match before.next_at {
                    Some(at) if at > now.wall => at.since(now.wall).min(*interval),
                    _ => *interval,
                };
                plan.interval_ends(now.monotonic + rest, now)
            }
            Timetable::Cron(_) | Timetable::Manual => plan.following(now),
        };
        plan
    }

    fn interval_ends(&self, at: Instant, now: Now) -> Next {
        debug_assert!(matches!(self.timetable, Timetable::Every(_)), "only intervals end");
        Next::At(at, now.wall_at(at))
    }

    /// What comes after a run that began, or was passed over, now.
    fn following(&self, now: Now) -> Next {
        match &self.timetable {
            Timetable::Every(interval) => self.interval_ends(now.monotonic + *interval, now),
            Timetable::Cron(table) => table.next(now.wall, self.fired).map_or(Next::Never, Next::Time),
            Timetable::Manual => Next::Never,
        }
    }

    /// What is to begin now, if anything.
    pub(crate) fn due(&self, now: Now) -> Option<Due> {
        if self.paused || self.held.is_some_and(|held| held.again_at > now.monotonic) {
            return None;
        }
        let plain = |cause, expected| Due { cause, retry_of: None, attempt: 1, expected };
        let due = match (self.first, self.next, self.retry) {
            (Some(cause), _, _) => Some(plain(cause, now.wall)),
            (_, Next::At(at, shown), _) if at <= now.monotonic => Some(plain(Cause::Schedule, shown)),
            (_, Next::Time(at), _) if at <= now.wall => Some(plain(Cause::Schedule, at)),
            (_, _, Some(retry)) if retry.at <= now.monotonic => Some(Due {
                cause: Cause::Retry,
                retry_of: Some(retry.of),
                attempt: retry.attempt,
                expected: retry.shown,
            }),
            _ => None,
        };
        due.map(|due| Due { expected: self.held.map_or(due.expected, |held| held.expected), ..due })
    }

    /// A run began, by itself or told: what was due is done.
    pub(crate) fn began(&mut self, now: Now) {
        self.began = Some(now.monotonic);
        self.first = None;
        self.retry = None;
        self.released();
        self.move_on(now);
    }

    /// What was due is not going to begin: the run before has not ended.
    pub(crate) fn passed_over(&mut self, now: Now) {
        self.held = None;
        self.first = None;
        self.retry = self.retry.filter(|retry| retry.at > now.monotonic);
        self.move_on(now);
    }

    fn move_on(&mut self, now: Now) {
        match self.next {
            Next::Time(at) if at > now.wall => {}
            Next::Time(at) => {
                self.fired = Some(at);
                self.next = self.following(now);
            }
            Next::At(..) | Next::Never => self.next = self.following(now),
        }
    }

    /// What was due can't begin now (the database does not answer): it stays due and is tried again a little later.
    pub(crate) fn held_up(&mut self, due: &Due, now: Now) {
        let again_at = now.monotonic + self.backoff.next_delay();
        self.held = Some(Held { expected: due.expected, again_at });
    }

    /// What held it up is over.
    pub(crate) fn released(&mut self) {
        self.held = None;
        self.backoff.reset();
    }

    /// Since when something is due that can't begin.
    pub(crate) fn overdue(&self) -> Option<Timestamp> {
        self.held.map(|held| held.expected)
    }

    /// A run failed and is to be repeated after `delay`, doubled with each attempt.
    pub(crate) fn retry(&mut self, of: ExecutionId, attempt: u32, delay: Duration, now: Now) {
        if self.paused {
            return;
        }
        let factor = 1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        let at = now.monotonic + delay.saturating_mul(factor).min(LONGEST_RETRY);
        self.retry = Some(Retry { at, shown: now.wall_at(at), of, attempt: attempt.saturating_add(1) });
    }

    /// Somebody paused it: nothing is due until it is resumed.
    pub(crate) fn pause(&mut self) {
        self.paused = true;
        self.first = None;
        self.retry = None;
        self.released();
    }

    /// Somebody lets it go on. Cron times that passed meanwhile stay passed; an interval that ended is due.
    pub(crate) fn resume(&mut self, now: Now) {
        self.paused = false;
        if let Next::Time(at) = self.next
            && at <= now.wall
        {
            self.fired = Some(at);
            self.next = self.following(now);
        }
    }

    /// The interval is another from now on.
    pub(crate) fn set_interval(&mut self, interval: Duration, now: Now) {
        if let Timetable::Every(present) = &mut self.timetable
            && *present != interval
        {
            *present = interval;
            let at = self.began.unwrap_or(now.monotonic) + interval;
            self.next = self.interval_ends(at.max(now.monotonic), now);
        }
    }

    /// When it runs by itself, if it is going to.
    pub(crate) fn next_at(&self, now: Now) -> Option<Timestamp> {
        if self.paused {
            return None;
        }
        let next = match self.next {
            Next::Never => None,
            Next::At(_, at) | Next::Time(at) => Some(at),
        };
        let first = self.first.map(|_| now.wall);
        let retry = self.retry.map(|retry| retry.shown);
        [first, next, retry].into_iter().flatten().min()
    }

    /// Notices that somebody set the wall clock: what is shown follows it, and so does a cron line.
    pub(crate) fn follow_clock(&mut self, now: Now) {
        let differs =
            |shown: Timestamp, real: Timestamp| shown.since(real).max(real.since(shown)) > Duration::from_secs(1);
        if let Next::At(at, shown) = self.next
            && at > now.monotonic
            && differs(shown, now.wall_at(at))
        {
            self.next = self.interval_ends(at, now);
        }
        if let Next::Time(at) = self.next
            && at > now.wall
        {
            self.next = self.following(now);
        }
    }

    /// When to look again. `free` tells whether another run may begin: if not, only times by schedule matter, which are passed over.
    pub(crate) fn wake_at(&self, free: bool, now: Now) -> Option<Instant> {
        if self.paused {
            return None;
        }
        let next = match self.next {
            Next::Never => None,
            Next::At(at, _) => Some(at),
            Next::Time(at) => Some(now.monotonic + at.since(now.wall).min(LOOK)),
        };
        let first = self.first.filter(|_| free).map(|_| now.monotonic);
        let retry = self.retry.filter(|_| free).map(|retry| retry.at);
        let wake = [first, next, retry].into_iter().flatten().min()?;
        Some(self.held.map_or(wake, |held| wake.max(held.again_at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::job::Schedule;

    const MINUTE: Duration = Duration::from_mins(1);

    fn at(text: &str) -> Timestamp {
        text.parse::<jiff::Timestamp>().unwrap().into()
    }

    fn timetable(schedule: &Schedule) -> Timetable {
        Timetable::new(schedule).unwrap()
    }

    fn every(interval: Duration) -> Timetable {
        timetable(&Schedule::Every(interval))
    }

    fn cron(line: &str) -> Timetable {
        timetable(&Schedule::Cron { line: line.into(), time_zone: "UTC".into() })
    }

    fn start() -> Now {
        Now { wall: at("2026-06-01T12:00:00Z"), monotonic: Instant::now() }
    }

    fn later(now: Now, by: Duration) -> Now {
        Now { wall: now.wall.plus(by), monotonic: now.monotonic + by }
    }

    fn cause(plan: &Plan, now: Now) -> Option<Cause> {
        plan.due(now).map(|due| due.cause)
    }

    #[test]
    fn an_interval_counts_from_the_run_before() {
        let now = start();
        let mut plan = Plan::new(every(MINUTE), Before::default(), false, true, now);
        assert_eq!(cause(&plan, now), None);
        assert_eq!(plan.wake_at(true, now), Some(now.monotonic + MINUTE));
        let now = later(now, MINUTE);
        assert_eq!(cause(&plan, now), Some(Cause::Schedule));
        plan.began(now);
        assert_eq!(cause(&plan, now), None);
        // told to run half a minute later: the interval begins anew
        let now = later(now, MINUTE / 2);
        plan.began(now);
        assert_eq!(plan.next_at(now), Some(now.wall.plus(MINUTE)));
    }

    #[test]
    fn a_wall_clock_set_back_does_not_stall_or_repeat_an_interval() {
        let now = start();
        let mut plan = Plan::new(every(MINUTE), Before::default(), false, true, now);
        let back = Now { wall: now.wall.minus(Duration::from_hours(1)), monotonic: now.monotonic + MINUTE / 2 };
        plan.follow_clock(back);
        assert_eq!(plan.next_at(back), Some(back.wall.plus(MINUTE / 2)));
        assert_eq!(cause(&plan, back), None);
        let due = later(back, MINUTE / 2);
        assert_eq!(cause(&plan, due), Some(Cause::Schedule));
        plan.began(due);
        assert_eq!(cause(&plan, later(due, MINUTE / 2)), None);
        assert_eq!(cause(&plan, later(due, MINUTE)), Some(Cause::Schedule));
    }

    #[test]
    fn a_wall_clock_set_back_does_not_fire_a_cron_time_again() {
        let now = start();
        let mut plan = Plan::new(cron("30 * * * *"), Before::default(), false, true, now);
        let fired = later(now, MINUTE * 30);
        assert_eq!(plan.due(fired).map(|due| due.expected), Some(at("2026-06-01T12:30:00Z")));
        plan.began(fired);
        let back = Now { wall: at("2026-06-01T11:30:00Z"), ..fired };
        plan.follow_clock(back);
        assert_eq!(plan.next_at(back), Some(at("2026-06-01T13:30:00Z")));
        assert_eq!(cause(&plan, later(back, MINUTE * 60)), None, "12:30 again");
        assert_eq!(cause(&plan, later(back, MINUTE * 120)), Some(Cause::Schedule));
    }

    #[test]
    fn a_clock_that_was_a_year_ahead_stalls_nothing() {
        let wrong = Now { wall: at("2027-06-01T12:29:00Z"), ..start() };
        let mut plan = Plan::new(cron("30 * * * *"), Before::default(), false, true, wrong);
        let fired = later(wrong, MINUTE);
        plan.began(fired);
        let right = Now { wall: at("2026-06-01T12:00:00Z"), ..fired };
        plan.follow_clock(right);
        assert_eq!(plan.next_at(right), Some(at("2026-06-01T12:30:00Z")));
    }

    #[test]
    fn the_start_runs_catches_up_or_waits() {
        let now = start();
        let missed = Before { next_at: Some(now.wall.minus(MINUTE * 90)), paused: false };
        for (before, run_at_start, catch_up, expected) in [
            (missed, true, true, Some(Cause::StartUp)),
            (missed, false, true, Some(Cause::CatchUp)),
            (missed, false, false, None),
            (Before::default(), false, true, None),
            (Before { paused: true, ..missed }, true, true, None),
        ] {
            for table in [every(MINUTE * 60), cron("0 * * * *")] {
                let mut plan = Plan::new(table, before, run_at_start, catch_up, now);
                assert_eq!(cause(&plan, now), expected, "{before:?} {run_at_start} {catch_up}");
                if expected.is_some() {
                    plan.began(now);
                    assert_eq!(cause(&plan, now), None, "once, not once per time missed");
                    assert_eq!(plan.next_at(now), Some(at("2026-06-01T13:00:00Z")));
                }
            }
        }
        let plan = Plan::new(Timetable::Manual, missed, false, true, now);
        assert_eq!((cause(&plan, now), plan.wake_at(true, now)), (None, None));
    }

    #[test]
    fn an_interval_that_was_running_goes_on_after_a_restart() {
        let now = start();
        let before = Before { next_at: Some(now.wall.plus(MINUTE)), paused: false };
        let plan = Plan::new(every(MINUTE * 60), before, false, true, now);
        assert_eq!(plan.next_at(now), Some(now.wall.plus(MINUTE)));
        // written by a clock that was ahead
        let before = Before { next_at: Some(now.wall.plus(MINUTE * 10_000)), paused: false };
        let plan = Plan::new(every(MINUTE * 60), before, false, true, now);
        assert_eq!(plan.next_at(now), Some(now.wall.plus(MINUTE * 60)));
    }

    #[test]
    fn failures_are_repeated_later_and_later() {
        let mut now = start();
        let mut plan = Plan::new(Timetable::Manual, Before::default(), false, true, now);
        let mut delays = Vec::new();
        for attempt in 1..=9 {
            plan.retry(ExecutionId(i64::from(attempt)), attempt, MINUTE, now);
            let wake = plan.wake_at(true, now).unwrap();
            delays.push((wake - now.monotonic).as_secs() / 60);
            assert_eq!(plan.wake_at(false, now), None, "waits until a run may begin");
            now = later(now, wake - now.monotonic);
            let due = plan.due(now).unwrap();
            assert_eq!(
                (due.cause, due.retry_of, due.attempt),
                (Cause::Retry, Some(ExecutionId(i64::from(attempt))), attempt + 1)
            );
            plan.began(now);
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn a_pause_holds_everything_and_passed_times_stay_passed() {
        let now = start();
        let mut plan = Plan::new(cron("0 * * * *"), Before::default(), true, true, now);
        plan.retry(ExecutionId(1), 1, MINUTE, now);
        plan.pause();
        let much_later = later(now, MINUTE * 150);
        assert_eq!((cause(&plan, much_later), plan.next_at(much_later)), (None, None));
        assert_eq!(plan.wake_at(true, much_later), None);
        plan.resume(much_later);
        assert_eq!(cause(&plan, much_later), None);
        assert_eq!(plan.next_at(much_later), Some(at("2026-06-01T15:00:00Z")));
    }

    #[test]
    fn what_cannot_begin_stays_due_and_is_told() {
        let now = start();
        let mut plan = Plan::new(every(MINUTE), Before::default(), false, true, now);
        let due_at = later(now, MINUTE);
        let due = plan.due(due_at).unwrap();
        plan.held_up(&due, due_at);
        assert_eq!(plan.overdue(), Some(due.expected));
        assert_eq!(cause(&plan, due_at), None, "not at once again");
        let again = plan.wake_at(true, due_at).unwrap();
        assert!(again > due_at.monotonic && again <= due_at.monotonic + Duration::from_secs(1));
        let again = later(due_at, MINUTE);
        assert_eq!(plan.due(again).map(|due| due.expected), Some(due.expected), "still the same time");
        plan.began(again);
        assert_eq!((plan.overdue(), plan.next_at(again)), (None, Some(again.wall.plus(MINUTE))));
    }

    #[test]
    fn times_passed_over_move_on() {
        let now = start();
        let mut plan = Plan::new(cron("* * * * *"), Before::default(), false, true, now);
        let due = later(now, MINUTE);
        assert_eq!(cause(&plan, due), Some(Cause::Schedule));
        plan.passed_over(due);
        assert_eq!(plan.next_at(due), Some(at("2026-06-01T12:02:00Z")));
    }

    #[test]
    fn a_changed_interval_counts_from_the_run_before() {
        let now = start();
        let mut plan = Plan::new(every(MINUTE * 10), Before::default(), false, true, now);
        plan.began(now);
        let now = later(now, MINUTE);
        plan.set_interval(MINUTE * 3, now);
        assert_eq!(plan.next_at(now), Some(now.wall.plus(MINUTE * 2)));
        plan.set_interval(MINUTE / 2, now);
        assert_eq!(cause(&plan, now), Some(Cause::Schedule));
    }
}
