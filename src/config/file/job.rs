//! Reads one `[[job]]` of the file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use crate::config::file::schedule::{self, parse_time_zone};
use crate::config::file::table::{Table, kind};
use crate::config::job::{Job, NAME, RESERVED, Schedule, Work, is_name};
use crate::config::problem::{Problems, shown, shown_words};
use crate::config::program;

const KEYS: &[&str] = &[
    "name",
    "title",
    "description",
    "command",
    "http",
    "directory",
    "environment",
    "success",
    "warning",
    "expect",
    "schedule",
    "time_zone",
    "timeout",
    "retries",
    "retry_delay",
    "concurrency",
    "enabled",
    "run_at_start",
    "catch_up",
    "overlap",
];

/// Those that mean something only beside `command`.
const OF_COMMANDS: [&str; 4] = ["directory", "environment", "success", "warning"];

const COMMAND: &str = "a list of the program and its arguments, as [\"df\", \"-h\"]";
const HTTP: &str = "an address, as \"https://127.0.0.1:8443/health\"";
const DIRECTORY: &str = "the path of a directory that exists";
const ENVIRONMENT: &str = "a table of texts, as { LANG = \"C\" }";

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const LONGEST: Duration = Duration::from_hours(30 * 24);
/// How long a command may take, if the file says nothing.
const COMMAND_TIMEOUT: Duration = HOUR;
/// How long an HTTP check may take, if the file says nothing.
const HTTP_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads the job that stands at `place` (from 1) of the file. `named` holds the names before it and where they stand.
///
/// Nothing is given back if so much is wrong that there is no job; then there are problems.
pub(crate) fn read<'t>(
    value: &'t Spanned<DeValue<'_>>,
    place: usize,
    named: &mut BTreeMap<&'t str, usize>,
    problems: &mut Problems<'_>,
) -> Option<Job> {
    let at = value.span().start;
    let Some(table) = value.get_ref().as_table() else {
        problems.add(at, format!("job {place} is {}", kind(value.get_ref())), "tables headed [[job]]");
        return None;
    };
    let known_name = table.get("name").and_then(|name| name.get_ref().as_str());
    let whose = known_name.map_or_else(|| format!("job {place}: "), |name| format!("job `{}`: ", shown(name)));
    let table = Table::new(table, at, whose, KEYS);
    table.refuse_unknown(problems);
    let name = read_name(&table, named, problems);
    let enabled = table.boolean("enabled", true, problems);
    let work = read_work(&table, enabled, problems);
    let timeout = if matches!(work, Some(Work::Http { .. })) { HTTP_TIMEOUT } else { COMMAND_TIMEOUT };
    let schedule = read_schedule(&table, problems);
    let title = table.line("title", 100, problems).map(str::trim).filter(|title| !title.is_empty());
    let description = table.line("description", 500, problems).unwrap_or_default();
    let timeout = table.duration("timeout", SECOND..=LONGEST, timeout, problems);
    let retries = table.integer("retries", 0..=100, 0, problems);
    let retry_delay = table.duration("retry_delay", SECOND..=HOUR, MINUTE, problems);
    let concurrency = table.integer("concurrency", 1..=100, 1, problems);
    let run_at_start = table.boolean("run_at_start", false, problems);
    let catch_up = read_catch_up(&table, problems);
    let overlap = read_overlap(&table, problems);
    let name = name?.to_owned();
    Some(Job {
        title: title.unwrap_or(&name).to_owned(),
        name,
        description: description.trim().to_owned(),
        work: work?,
        schedule: schedule?,
        timeout,
        retries,
        retry_delay,
        concurrency,
        enabled,
        run_at_start,
        catch_up,
        overlap,
    })
}

fn read_name<'t>(
    table: &Table<'t, '_>,
    named: &mut BTreeMap<&'t str, usize>,
    problems: &mut Problems<'_>,
) -> Option<&'t str> {
    if table.get("name").is_none() {
        table.missing("name", &allowed_name(), problems);
        return None;
    }
    let name = table.text("name", &allowed_name(), problems)?;
    if !is_name(name) {
        table.wrong("name", &format!("is `{}`", shown(name)), &allowed_name(), problems);
        return None;
    }
    if RESERVED.contains(&name) {
        let allowed = format!("any name but {}, as `my-{name}`", RESERVED.join(", "));
        table.wrong("name", "is the name of a dispatcher of Switchboard itself", &allowed, problems);
        return None;
    }
    let at = table.get("name").map_or(0, |value| value.span().start);
    if let Some(first) = named.get(name) {
        let (line, _) = problems.position(*first);
        table.wrong(
            "name",
            &format!("is given twice, first in line {line}"),
            "a name of its own for each job",
            problems,
        );
        return None;
    }
    named.insert(name, at);
    Some(name)
}

fn allowed_name() -> String {
    format!("{NAME}, as `disk-space`; `title` may be any text")
}

fn read_schedule(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Option<Schedule> {
    let zone = table.text("time_zone", "an IANA name, as Europe/Berlin", problems);
    let zone = zone.and_then(|zone| {
        parse_time_zone(zone).map_err(|(what, allowed)| table.refused("time_zone", &what, &allowed, problems)).ok()
    });
    if table.get("schedule").is_none() {
        table.missing("schedule", schedule::ALLOWED, problems);
        return None;
    }
    let text = table.text("schedule", schedule::ALLOWED, problems)?;
    let schedule = schedule::parse(text, zone.as_deref().unwrap_or("UTC"))
        .map_err(|(what, allowed)| table.refused("schedule", &what, &allowed, problems))
        .ok()?;
    if zone.is_some() && !matches!(schedule, Schedule::Cron { .. }) {
        let kind = if schedule == Schedule::Manual { "a manual job" } else { "an interval" };
        table.wrong("time_zone", &format!("has no meaning with {kind}"), "it beside a cron line", problems);
    }
    Some(schedule)
}

fn read_catch_up(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> bool {
    let allowed = "`once` (a time missed while the node was down is made up for, once) or `skip`";
    match table.text("catch_up", allowed, problems) {
        None | Some("once") => true,
        Some("skip") => false,
        Some(other) => {
            table.wrong("catch_up", &format!("is `{}`", shown(other)), allowed, problems);
            true
        }
    }
}

fn read_overlap(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> bool {
    let allowed = "`never` (a run is ended before another service node can start the same) or `allowed` (it goes on)";
    match table.text("overlap", allowed, problems) {
        None | Some("never") => false,
        Some("allowed") => true,
        Some(other) => {
            table.wrong("overlap", &format!("is `{}`", shown(other)), allowed, problems);
            false
        }
    }
}

fn read_work(table: &Table<'_, '_>, enabled: bool, problems: &mut Problems<'_>) -> Option<Work> {
    match (table.get("command").is_some(), table.get("http").is_some()) {
        (true, true) => {
            table.wrong("http", "stands beside `command`", "one of the two", problems);
            None
        }
        (false, false) => {
            table.missing("command", &format!("{COMMAND}; or `http`: {HTTP}"), problems);
            None
        }
        (true, false) => {
            if table.get("expect").is_some() {
                table.wrong("expect", "has no meaning beside `command`", "`success` and `warning`", problems);
            }
            read_command(table, enabled, problems)
        }
        (false, true) => {
            for key in OF_COMMANDS.into_iter().filter(|key| table.get(key).is_some()) {
                table.wrong(key, "has no meaning beside `http`", "`expect`", problems);
            }
            read_http(table, problems)
        }
    }
}

fn read_command(table: &Table<'_, '_>, enabled: bool, problems: &mut Problems<'_>) -> Option<Work> {
    let directory = read_directory(table, problems);
    let environment = read_environment(table, problems);
    let success = table.integers("success", 0..=255, problems).unwrap_or_else(|| vec![0]);
    let warning = table.integers("warning", 0..=255, problems).unwrap_or_default();
    if success.is_empty() {
        table.wrong("success", "is empty, so that no run could succeed", "at least one exit code, as [0]", problems);
    }
    if let Some(both) = success.iter().find(|code| warning.contains(code)) {
        table.wrong("warning", &format!("holds {both}, and so does `success`"), "each exit code in one list", problems);
    }
    let argv = table.texts("command", COMMAND, problems)?;
    let Some(program) = argv.first().filter(|program| !program.is_empty()) else {
        table.wrong("command", "names no program", COMMAND, problems);
        return None;
    };
    if argv.iter().any(|word| word.contains('\0')) {
        table.wrong("command", "holds a zero character, which no program can be given", COMMAND, problems);
        return None;
    }
    // a job that is switched off may wait for its program to be installed
    if enabled && *program != program::OWN {
        let path = environment.get("PATH").map(OsString::from).or_else(|| std::env::var_os("PATH"));
        if let Err(missing) = program::find(program, directory.as_deref(), path) {
            let what = format!("can't be started: {}", shown_words(&missing.to_string()));
            table.wrong("command", &what, "a program on the path, or the path of one", problems);
        }
    }
    let argv = argv.into_iter().map(str::to_owned).collect();
    Some(Work::Command { argv, directory, environment, success, warning })
}

fn read_directory(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Option<PathBuf> {
    let text = table.text("directory", DIRECTORY, problems)?;
    let directory = Path::new(text);
    let what = match std::fs::metadata(directory) {
        Ok(facts) if facts.is_dir() => return Some(directory.to_owned()),
        Ok(_) => format!("`{}` is no directory", shown(text)),
        Err(error) => format!("`{}` can't be had: {error}", shown(text)),
    };
    table.refused("directory", &what, DIRECTORY, problems);
    None
}

fn read_environment(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    let Some(value) = table.get("environment") else { return environment };
    let Some(entries) = value.get_ref().as_table() else {
        table.wrong("environment", &format!("is {}", kind(value.get_ref())), ENVIRONMENT, problems);
        return environment;
    };
    for (name, value) in entries {
        let (at, name): (_, &str) = (name.span().start, name.get_ref());
        let Some(text) = value.get_ref().as_str() else {
            let what = format!("{}variable `{}` is {}", table.whose(), shown(name), kind(value.get_ref()));
            problems.add(value.span().start, what, ENVIRONMENT);
            continue;
        };
        if name.is_empty() || name.contains(['=', '\0']) || text.contains('\0') {
            let what = format!("{}no program can be given the variable `{}`", table.whose(), shown(name));
            problems.add(at, what, "names without `=`, and no zero characters");
        } else if name == "SWITCHBOARD_EXECUTION" || name == "SWITCHBOARD_DISPATCHER" {
            problems.add(at, format!("{}`{name}` is set for every run", table.whose()), "other variables");
        } else {
            environment.insert(name.to_owned(), text.to_owned());
        }
    }
    environment
}

fn read_http(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Option<Work> {
    let codes = table.integers("expect", 100..=599, problems).unwrap_or_default();
    let expect = codes.into_iter().filter_map(|code| u16::try_from(code).ok()).collect();
    let text = table.text("http", HTTP, problems)?;
    let what = match reqwest::Url::parse(text) {
        Err(error) => format!("`{}` is no address: {error}", shown(text)),
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            format!("`{}` is neither http nor https", shown(text))
        }
        // not repeated: it holds a password
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            "it holds a name or password, which logs and pages would show".to_owned()
        }
        Ok(url) => return Some(Work::Http { url: url.into(), expect }),
    };
    table.refused("http", &what, HTTP, problems);
    None
}
