//! When a dispatcher is due next: intervals and cron lines, in a time zone with daylight saving.

use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

use crate::base::clock::Timestamp;
use crate::config::job::Schedule;
use crate::config::value::show_duration;

/// A wall clock set back by less than this does not make a cron line fire a time again: it waits until the clock is past the
/// time it fired last. Set back by more, it was wrong before, and the line starts over from the new time.
const CORRECTION: Duration = Duration::from_hours(3);

/// How many times of the line are looked at for one that is still to come. All of an hour's minutes lie behind when the clocks
/// have just been set back by an hour; nothing makes it many more.
const TRIES: usize = 24 * 60;

/// A schedule, understood.
#[derive(Clone, Debug)]
pub(crate) enum Timetable {
    /// So long after the run before began.
    Every(Duration),
    /// At the times of a cron line.
    Cron(Box<CronTable>),
    /// Only when told.
    Manual,
}

/// A cron line in its time zone.
#[derive(Clone, Debug)]
pub(crate) struct CronTable {
    cron: Cron,
    zone: TimeZone,
    /// Whether the line means the hours as they pass (`*` for the hour) rather than hours it names.
    any_hour: bool,
}

/// A schedule nobody can follow; says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadSchedule(String);

impl Timetable {
    /// Understands a schedule.
    pub(crate) fn new(schedule: &Schedule) -> Result<Self, BadSchedule> {
        match schedule {
            Schedule::Every(interval) if interval.is_zero() => {
                Err(BadSchedule("an interval must be longer than nothing; write it as 90s or 5m".to_owned()))
            }
            Schedule::Every(interval) => Ok(Self::Every(*interval)),
            Schedule::Cron { line, time_zone } => {
                let cron = CronParser::builder()
                    .seconds(Seconds::Disallowed)
                    .year(Year::Disallowed)
                    .build()
                    .parse(line)
                    .map_err(|error| {
                        BadSchedule(format!(
                            "`{line}` is no cron line ({error}); it is minute, hour, day, month, weekday"
                        ))
                    })?;
                let zone = TimeZone::get(time_zone)
                    .map_err(|_| BadSchedule(format!("`{time_zone}` is no time zone; write it as Europe/Berlin")))?;
                let any_hour = line.split_whitespace().nth(1).is_some_and(|hour| hour.starts_with('*'));
                Ok(Self::Cron(Box::new(CronTable { cron, zone, any_hour })))
            }
            Schedule::Manual => Ok(Self::Manual),
        }
    }
}

impl CronTable {
    /// The first time of the line after `now` that was not fired yet, `fired` being the last that was. None if there never is one.
    pub(crate) fn next(&self, now: Timestamp, fired: Option<Timestamp>) -> Option<Timestamp> {
        match fired {
            Some(fired) if fired > now && fired.since(now) < CORRECTION => self.after(fired),
            _ => self.after(now),
        }
    }

    /// The first time of the line after `moment`.
    ///
    /// A line that names its hours runs once for each time it names: one that daylight saving skips at the next valid moment,
    /// one that comes twice the first time. A line for any hour runs as the hours pass.
    fn after(&self, moment: Timestamp) -> Option<Timestamp> {
        let moment_there = moment.to_jiff().to_zoned(self.zone.clone());
        if self.any_hour {
            let next = self.cron.find_next_occurrence(&moment_there, false).ok()?;
            return Some(next.timestamp().into());
        }
        let mut written = moment_there.datetime();
        for _ in 0..TRIES {
            written = self.cron.find_next_occurrence(&written, false).ok()?;
            match self.moment_of(written) {
                Some(at) if at > moment => return Some(at),
                Some(_) => {}
                None => return None,
            }
        }
        None
    }

    /// The moment at which the clocks of the zone show this, or would have.
    fn moment_of(&self, written: DateTime) -> Option<Timestamp> {
        let ambiguous = self.zone.to_ambiguous_zoned(written);
        let zoned = match ambiguous.offset() {
            AmbiguousOffset::Gap { .. } => {
                let before = ambiguous.earlier().ok()?.timestamp();
                return self.zone.following(before).next().map(|change| change.timestamp().into());
            }
            AmbiguousOffset::Fold { .. } | AmbiguousOffset::Unambiguous { .. } => ambiguous.earlier().ok()?,
        };
        Some(zoned.timestamp().into())
    }
}

/// A schedule as people read it: `every 5m`, `15 3 * * * Europe/Berlin`, `when told`.
pub(crate) fn in_words(schedule: &Schedule) -> String {
    match schedule {
        Schedule::Every(interval) => format!("every {}", show_duration(*interval)),
        Schedule::Cron { line, time_zone } => format!("{line} {time_zone}"),
        Schedule::Manual => "when told".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cron(line: &str, zone: &str) -> CronTable {
        let schedule = Schedule::Cron { line: line.to_owned(), time_zone: zone.to_owned() };
        match Timetable::new(&schedule) {
            Ok(Timetable::Cron(table)) => *table,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse::<jiff::Timestamp>().unwrap().into()
    }

    /// The next times after `from`, one after the other, in UTC to the minute.
    fn times(line: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let table = cron(line, zone);
        let mut moment = at(from);
        (0..count)
            .map(|_| {
                moment = table.next(moment, Some(moment)).unwrap();
                moment.to_string()[..16].to_owned()
            })
            .collect()
    }

    #[test]
    fn times_around_daylight_saving() {
        const BERLIN: &str = "Europe/Berlin";
        const NEW_YORK: &str = "America/New_York";
        let cases: &[(&str, &str, &str, &[&str])] = &[
            // an ordinary day, summer and winter
            ("15 3 * * *", BERLIN, "2026-07-01T00:00:00Z", &["2026-07-01T01:15", "2026-07-02T01:15"]),
            ("15 3 * * *", BERLIN, "2026-01-10T12:00:00Z", &["2026-01-11T02:15", "2026-01-12T02:15"]),
            // Berlin, 29 March 2026: 02:00 to 03:00 (01:00 UTC) is skipped; what falls into it runs at 03:00, once
            ("30 2 * * *", BERLIN, "2026-03-28T12:00:00Z", &["2026-03-29T01:00", "2026-03-30T00:30"]),
            ("*/15 2 * * *", BERLIN, "2026-03-28T12:00:00Z", &["2026-03-29T01:00", "2026-03-30T00:00"]),
            ("0 3 * * *", BERLIN, "2026-03-28T12:00:00Z", &["2026-03-29T01:00", "2026-03-30T01:00"]),
            (
                "30 2,3 * * *",
                BERLIN,
                "2026-03-29T00:00:00Z",
                &["2026-03-29T01:00", "2026-03-29T01:30", "2026-03-30T00:30"],
            ),
            ("30 * * * *", BERLIN, "2026-03-29T00:00:00Z", &["2026-03-29T00:30", "2026-03-29T01:30"]),
            // Berlin, 25 October 2026: 02:00 to 03:00 comes twice (00:00 to 02:00 UTC); named hours run the first time only
            ("30 2 * * *", BERLIN, "2026-10-24T12:00:00Z", &["2026-10-25T00:30", "2026-10-26T01:30"]),
            ("30 2 * * *", BERLIN, "2026-10-25T00:45:00Z", &["2026-10-26T01:30"]),
            ("30 2 * * *", BERLIN, "2026-10-25T01:15:00Z", &["2026-10-26T01:30"]),
            (
                "0,30 1-3 * * *",
                BERLIN,
                "2026-10-25T00:00:00Z",
                &["2026-10-25T00:30", "2026-10-25T02:00", "2026-10-25T02:30"],
            ),
            // hours as they pass: no hour without a run
            (
                "0 * * * *",
                BERLIN,
                "2026-10-24T23:30:00Z",
                &["2026-10-25T00:00", "2026-10-25T01:00", "2026-10-25T02:00"],
            ),
            (
                "*/30 * * * *",
                BERLIN,
                "2026-10-25T00:10:00Z",
                &["2026-10-25T00:30", "2026-10-25T01:00", "2026-10-25T01:30"],
            ),
            // New York, 8 March 2026: 02:00 to 03:00 (07:00 UTC) is skipped
            ("30 2 * * *", NEW_YORK, "2026-03-07T12:00:00Z", &["2026-03-08T07:00", "2026-03-09T06:30"]),
            ("0 */2 * * *", NEW_YORK, "2026-03-08T04:00:00Z", &["2026-03-08T05:00", "2026-03-08T08:00"]),
            // New York, 1 November 2026: 01:00 to 02:00 comes twice (05:00 to 07:00 UTC)
            ("30 1 * * *", NEW_YORK, "2026-10-31T12:00:00Z", &["2026-11-01T05:30", "2026-11-02T06:30"]),
            ("30 1 * * *", NEW_YORK, "2026-11-01T06:00:00Z", &["2026-11-02T06:30"]),
            // weekdays and last days
            ("0 9 * * MON-FRI", BERLIN, "2026-11-20T12:00:00Z", &["2026-11-23T08:00", "2026-11-24T08:00"]),
            ("0 0 L * *", "UTC", "2026-02-01T00:00:00Z", &["2026-02-28T00:00", "2026-03-31T00:00"]),
        ];
        for (line, zone, from, expected) in cases {
            assert_eq!(&times(line, zone, from, expected.len()), expected, "{line} in {zone} after {from}");
        }
    }

    #[test]
    fn a_clock_set_back_does_not_fire_a_time_again() {
        let table = cron("0 * * * *", "UTC");
        let fired = at("2026-06-01T12:00:00Z");
        assert_eq!(table.next(at("2026-06-01T11:00:10Z"), Some(fired)), Some(at("2026-06-01T13:00:00Z")));
        // the clock was a year ahead: what it fired then binds nobody
        let wrong = at("2027-06-01T12:00:00Z");
        assert_eq!(table.next(at("2026-06-01T11:00:10Z"), Some(wrong)), Some(at("2026-06-01T12:00:00Z")));
    }

    #[test]
    fn times_missed_are_one_time() {
        let table = cron("*/5 * * * *", "UTC");
        let next = table.next(at("2026-06-01T18:02:00Z"), Some(at("2026-06-01T12:00:00Z")));
        assert_eq!(next, Some(at("2026-06-01T18:05:00Z")));
    }

    #[test]
    fn a_line_that_never_comes_is_never_due() {
        assert_eq!(cron("0 0 30 2 *", "UTC").next(at("2026-06-01T18:02:00Z"), None), None);
    }

    #[test]
    fn what_nobody_can_follow_is_refused_with_the_reason() {
        let refused = |line: &str, zone: &str| {
            let schedule = Schedule::Cron { line: line.to_owned(), time_zone: zone.to_owned() };
            Timetable::new(&schedule).unwrap_err().to_string()
        };
        assert!(refused("61 * * * *", "UTC").contains("minute, hour"));
        assert!(refused("* * * * * *", "UTC").contains("no cron line"));
        assert!(refused("0 3 * * *", "Europe/Berln").contains("Europe/Berln"));
        assert!(Timetable::new(&Schedule::Every(Duration::ZERO)).is_err());
    }

    #[test]
    fn schedules_are_told_in_words() {
        let cron = Schedule::Cron { line: "15 3 * * *".into(), time_zone: "Europe/Berlin".into() };
        assert_eq!(in_words(&cron), "15 3 * * * Europe/Berlin");
        assert_eq!(in_words(&Schedule::Every(Duration::from_mins(5))), "every 5m");
        assert_eq!(in_words(&Schedule::Manual), "when told");
    }
}
