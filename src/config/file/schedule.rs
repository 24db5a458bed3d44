//! Reads when a job is due: `every 5m`, a five-field cron line, or `manual`.

use std::time::Duration;

use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;

use crate::config::job::Schedule;
use crate::config::problem::{nearest, shown};
use crate::config::value::{parse_duration, show_duration};

/// What a schedule may be, in words.
pub(crate) const ALLOWED: &str = "`every 5m`, a five-field cron line as `30 3 * * mon-fri`, or `manual`";

/// What is wrong, and what is allowed.
pub(crate) type Wrong = (String, String);

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_hours(366 * 24);

/// Reads a schedule; `time_zone` is where a cron line's times are meant.
pub(crate) fn parse(text: &str, time_zone: &str) -> Result<Schedule, Wrong> {
    let text = text.trim();
    let wrong = |what: String| Err((what, ALLOWED.to_owned()));
    if text.eq_ignore_ascii_case("manual") {
        return Ok(Schedule::Manual);
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.first().is_some_and(|first| first.eq_ignore_ascii_case("every")) {
        return match parse_duration(&fields[1..].join(" ")) {
            Ok(every) if (SHORTEST..=LONGEST).contains(&every) => Ok(Schedule::Every(every)),
            Ok(_) => wrong(format!(
                "`{}` is not from every {} to every {}",
                shown(text),
                show_duration(SHORTEST),
                show_duration(LONGEST)
            )),
            Err(_) => wrong(format!("`{}` names no length of time", shown(text))),
        };
    }
    if fields.is_empty() {
        return wrong("there is nothing".to_owned());
    }
    if fields.len() != 5 {
        let hint = match (text.starts_with('@'), fields.len()) {
            (true, _) => "; names as @daily are not read, write the five fields (`0 0 * * *`)",
            (false, 6 | 7) => "; seconds and years are not read",
            _ => "",
        };
        return wrong(format!("`{}` has {} of the five fields of a cron line{hint}", shown(text), fields.len()));
    }
    let line = fields.join(" ");
    check_cron(&fields, &line)?;
    Ok(Schedule::Cron { line, time_zone: time_zone.to_owned() })
}

/// One field of a cron line: its name, what it may hold in words, the words it knows.
struct Field {
    name: &'static str,
    allowed: &'static str,
    words: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", allowed: "0-59, with * , - /", words: &[] },
    Field { name: "hour", allowed: "0-23, with * , - /", words: &[] },
    Field { name: "day of month", allowed: "1-31, with * , - / ? L W", words: &["L", "W"] },
    Field {
        name: "month",
        allowed: "1-12 or jan-dec, with * , - /",
        words: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
    },
    Field {
        name: "day of week",
        allowed: "0-7 or sun-sat (0 and 7 are Sunday), with * , - / ? # L +",
        words: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", "L"],
    },
];

/// Whether a cron line can be read and is ever due; if not, which field is wrong.
fn check_cron(fields: &[&str], line: &str) -> Result<(), Wrong> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    for (at, (field, text)) in FIELDS.iter().zip(fields).enumerate() {
        let mut alone = ["*"; 5];
        alone[at] = text;
        // the parser takes `mon` for 1 in every field
        let strange = text
            .split(|c: char| !c.is_alphabetic())
            .any(|word| !word.is_empty() && !field.words.contains(&word.to_ascii_uppercase().as_str()));
        if strange || parser.parse(&alone.join(" ")).is_err() {
            let what = format!("the {} field `{}` (field {} of 5) can't be read", field.name, shown(text), at + 1);
            return Err((what, field.allowed.to_owned()));
        }
    }
    let cron = parser.parse(line).map_err(|_| (format!("`{}` can't be read", shown(line)), ALLOWED.to_owned()))?;
    // any moment will do: days recur within the calendar's cycle
    let from = jiff::Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    if cron.find_next_occurrence(&from, false).is_err() {
        return Err((
            format!("`{}` is never due: there is no such day", shown(line)),
            "a day that the calendar has".to_owned(),
        ));
    }
    Ok(())
}

/// Reads an IANA time zone and gives the name as the database of zones writes it.
pub(crate) fn parse_time_zone(text: &str) -> Result<String, Wrong> {
    let found = TimeZone::get(text).ok().and_then(|zone| zone.iana_name().map(str::to_owned));
    found.ok_or_else(|| {
        let names: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
        // `berlin` alone is meant as the last part of a name
        let near = names
            .iter()
            .map(String::as_str)
            .find(|name| name.rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(text)))
            .or_else(|| nearest(text, names.iter().map(String::as_str)));
        let hint = near.map_or_else(String::new, |near| format!("; perhaps {near} is meant"));
        (format!("there is no time zone `{}`{hint}", shown(text)), "an IANA name, as Europe/Berlin or UTC".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cron(line: &str) -> Schedule {
        Schedule::Cron { line: line.to_owned(), time_zone: "UTC".to_owned() }
    }

    #[test]
    fn the_three_kinds_are_read() {
        for (text, schedule) in [
            ("every 5m", Schedule::Every(Duration::from_mins(5))),
            ("Every 1h 30 minutes", Schedule::Every(Duration::from_mins(90))),
            ("manual", Schedule::Manual),
            (" 30 3  * * mon-fri ", cron("30 3 * * mon-fri")),
            ("*/5 0,12 1-15 jan-mar 5#2", cron("*/5 0,12 1-15 jan-mar 5#2")),
            ("0 0 L * *", cron("0 0 L * *")),
            ("0 0 29 2 *", cron("0 0 29 2 *")),
        ] {
            assert_eq!(parse(text, "UTC"), Ok(schedule), "{text}");
        }
    }

    #[test]
    fn a_bad_schedule_says_what_is_wrong_with_it() {
        for (text, words) in [
            ("", "there is nothing"),
            ("every", "no length of time"),
            ("every 0s", "not from every 1s to every 366d"),
            ("every 900d", "not from"),
            ("every day", "no length of time"),
            ("5m", "has 1 of the five fields"),
            ("@daily", "write the five fields"),
            ("0 0 3 * * *", "seconds and years are not read"),
            ("61 3 * * *", "the minute field `61` (field 1 of 5)"),
            ("0 25 * * *", "the hour field"),
            ("0 mon * * *", "the hour field"),
            ("0 0 32 * *", "the day of month field"),
            ("0 0 1 mon *", "the month field"),
            ("0 0 * * 8", "the day of week field"),
            ("0 0 * * <b>", "the day of week field `<b>`"),
            ("0 0 30 2 *", "is never due"),
        ] {
            let (what, allowed) = parse(text, "UTC").unwrap_err();
            assert!(what.contains(words), "{text}: {what}");
            assert!(!allowed.is_empty());
        }
    }

    #[test]
    fn time_zones_are_known_by_name() {
        assert_eq!(parse_time_zone("Europe/Berlin").as_deref(), Ok("Europe/Berlin"));
        assert_eq!(parse_time_zone("UTC").as_deref(), Ok("UTC"));
        for (text, near) in [("Europe/Berlim", "Europe/Berlin"), ("berlin", "Europe/Berlin")] {
            let (what, _) = parse_time_zone(text).unwrap_err();
            assert!(what.contains(near), "{what}");
        }
        for text in ["", "CEST-1", "../../etc/passwd", "Mars/Olympus_Mons"] {
            assert!(parse_time_zone(text).is_err(), "{text}");
        }
    }
}
