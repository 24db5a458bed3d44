//! The configuration file, `switchboard.toml`: read and checked as a whole, every problem listed at once.

mod job;
mod schedule;
pub mod setting;
mod table;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::config::address::{self, Address};
use crate::config::base_path::BasePath;
use crate::config::database::{ALLOWED, DatabaseUrl};
use crate::config::file::setting::{FileSetting, Secrets};
use crate::config::file::table::{Table, kind};
use crate::config::job::Job;
use crate::config::problem::{Problem, Problems, position, shown};
use crate::config::settings::{Fixed, Source};

/// The greatest file that is read, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

const KEYS: &[&str] =
    &["data", "database", "listen", "advertise", "base_path", "tls_cert", "tls_key", "settings", "job"];
const LISTEN: &str = "an address and a port, as 127.0.0.1:8080 or [::]:8080";

/// What the operator's file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileConfig {
    /// The data directory; a relative one is seen from where the program was started.
    pub data: Option<PathBuf>,
    /// The PostgreSQL database.
    pub database: Option<DatabaseUrl>,
    /// Where the web node listens.
    pub listen: Option<SocketAddr>,
    /// Where web nodes reach this service node.
    pub advertise: Option<String>,
    /// The path under which its addresses stand.
    pub base_path: Option<BasePath>,
    /// The certificate of its listener; a relative path is seen from where the program was started.
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key.
    pub tls_key: Option<PathBuf>,
    /// Settings fixed here, in the order of the file, none twice.
    pub settings: Vec<FileSetting>,
    /// The jobs, in the order of the file; names are unique.
    pub jobs: Vec<Job>,
}

impl FileConfig {
    /// Fixes what `[settings]` says; the environment wins over it.
    pub fn fix(&self, fixed: &mut Fixed) {
        for setting in &self.settings {
            fixed
                .set(setting.name, &setting.value, Source::File)
                .expect("settings of the file are checked as it is read");
        }
    }
}

/// Reads and checks the file.
///
/// # Errors
/// Everything that is wrong with it, in its order; or that it can't be read.
pub fn load(path: &Path) -> Result<FileConfig, Vec<Problem>> {
    let file = path.display().to_string();
    let whole = |what: String| {
        vec![Problem {
            file: file.clone(),
            line: 0,
            column: 0,
            what,
            allowed: "a text file in TOML, at most 1 MiB".into(),
        }]
    };
    let (bytes, private) = read(path).map_err(whole)?;
    match str::from_utf8(&bytes) {
        Ok(text) => parse(&file, text, private),
        Err(error) => {
            let (line, column) = position(&bytes, error.valid_up_to());
            let what = format!("the byte {:#04x} is not UTF-8", bytes[error.valid_up_to()]);
            Err(vec![Problem { file, line, column, what, allowed: "text in UTF-8".into() }])
        }
    }
}

/// The file's bytes, and whether only its owner can read them.
fn read(path: &Path) -> Result<(Vec<u8>, bool), String> {
    let unread = |error: std::io::Error| format!("can't be read: {error}");
    let file = std::fs::File::open(path).map_err(unread)?;
    let facts = file.metadata().map_err(unread)?;
    if facts.is_dir() {
        return Err("is a directory".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unread)?;
    if bytes.len() > MAX_BYTES {
        return Err("is longer than 1 MiB".to_owned());
    }
    let by_others = facts.permissions().mode() & 0o077;
    Ok((bytes, by_others == 0))
}

/// Reads and checks what stands in a file; `private` if only its owner can read it, so that it may hold secrets.
fn parse(file: &str, text: &str, private: bool) -> Result<FileConfig, Vec<Problem>> {
    let mut problems = Problems::new(file.to_owned(), text);
    let (root, unread) = DeTable::parse_recoverable(text);
    for error in unread {
        problems.add_unread(error.span().map_or(0, |span| span.start), format!("can't be read: {}", error.message()));
    }
    let table = Table::new(root.get_ref(), 0, String::new(), KEYS);
    table.refuse_unknown(&mut problems);
    let config = FileConfig {
        database: read_database(&table, private, &mut problems),
        listen: read_listen(&table, &mut problems),
        advertise: read_advertise(&table, &mut problems),
        data: read_path(&table, "data", "the path of a directory, as /var/lib/switchboard", &mut problems),
        base_path: read_base_path(&table, &mut problems),
        tls_cert: read_path(&table, "tls_cert", "the path of a certificate in PEM", &mut problems),
        tls_key: read_path(&table, "tls_key", "the path of a private key in PEM", &mut problems),
        settings: setting::read_table(&table, Secrets::of_file(private), &mut problems),
        jobs: read_jobs(&table, &mut problems),
    };
    if problems.is_empty() { Ok(config) } else { Err(problems.into_sorted()) }
}

fn read_path(table: &Table<'_, '_>, key: &str, allowed: &'static str, problems: &mut Problems<'_>) -> Option<PathBuf> {
    let text = table.text(key, allowed, problems)?;
    if text.is_empty() || text.contains('\0') {
        table.wrong(key, &format!("is `{}`", shown(text)), allowed, problems);
    }
    Some(PathBuf::from(text))
}

fn read_database(table: &Table<'_, '_>, private: bool, problems: &mut Problems<'_>) -> Option<DatabaseUrl> {
    let text = table.text("database", ALLOWED, problems)?;
    match DatabaseUrl::parse(text) {
        Ok(url) if url.has_password() && !private => {
            let allowed =
                "no password in a file that others can read: `chmod 600` it, or keep the password in PGPASSFILE";
            table.wrong("database", "has a password in it", allowed, problems);
            None
        }
        Ok(url) => Some(url),
        Err(problem) => {
            table.wrong("database", &problem, ALLOWED, problems);
            None
        }
    }
}

fn read_base_path(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Option<BasePath> {
    let text = table.text("base_path", "a path, as /switchboard", problems)?;
    let path = text.parse::<BasePath>();
    if let Err(error) = &path {
        table.refused("base_path", &error.to_string(), "", problems);
    }
    path.ok()
}

fn read_listen(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Option<SocketAddr> {
    let text = table.text("listen", LISTEN, problems)?;
    let address = text.parse().ok();
    if address.is_none() {
        table.wrong("listen", &format!("is `{}`", shown(text)), LISTEN, problems);
    }
    address
}

fn read_advertise(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Option<String> {
    let text = table.text("advertise", address::ALLOWED, problems)?;
    Address::parse(text)
        .map_err(|bad| table.wrong("advertise", &format!("is wrong: {bad}"), address::ALLOWED, problems))
        .ok()
        .map(|address| address.to_string())
}

fn read_jobs(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Vec<Job> {
    let Some(value) = table.get("job") else { return Vec::new() };
    let Some(list) = value.get_ref().as_array() else {
        table.wrong(
            "job",
            &format!("is {}", kind(value.get_ref())),
            "tables headed [[job]], with two brackets",
            problems,
        );
        return Vec::new();
    };
    let mut named = BTreeMap::new();
    list.iter().enumerate().filter_map(|(at, value)| job::read(value, at + 1, &mut named, problems)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::job::{Schedule, Work};

    fn problems(text: &str) -> Vec<String> {
        parse("s.toml", text, false).unwrap_err().iter().map(ToString::to_string).collect()
    }

    /// The one problem of a job made of these lines, without its place and name.
    fn job_problem(lines: &str) -> String {
        let found = problems(&format!("[[job]]\nname = \"a\"\nschedule = \"manual\"\n{lines}\n"));
        assert_eq!(found.len(), 1, "{lines}: {found:#?}");
        found[0].split_once("job `a`: ").expect("names the job").1.to_owned()
    }

    #[test]
    fn a_full_file_is_read() {
        let text = r#"
            data = "/var/lib/switchboard"
            listen = "[::]:8080"
            advertise = "Service-1:5000"
            base_path = "/switchboard"
            tls_cert = "/etc/tls.crt"
            tls_key = "/etc/tls.key"
            [settings]
            "service.pollinterval" = "5s"
            Diagnostics.Kept = 50
            [[job]]
            name = "disk-space"
            title = "Disk <space>"
            description = "Shows it."
            command = ["df", "-h"]
            directory = "/"
            environment = { LANG = "C", "GREETING" = "grüß dich" }
            success = [0, 0x2]
            warning = [1]
            schedule = "30 3 * * mon-fri"
            time_zone = "europe/berlin"
            timeout = 90
            retries = 3
            retry_delay = "10s"
            concurrency = 2
            enabled = false
            run_at_start = true
            catch_up = "skip"
            overlap = "allowed"
            [[job]]
            name = "site"
            http = "https://Example.org"
            expect = [200, 301]
            schedule = "every 5m"
        "#;
        let config = parse("s.toml", text, false).unwrap();
        assert_eq!(config.data, Some(PathBuf::from("/var/lib/switchboard")));
        assert_eq!(config.listen, Some("[::]:8080".parse().unwrap()));
        assert_eq!(config.advertise.as_deref(), Some("service-1:5000"));
        let settings: Vec<_> = config.settings.iter().map(|s| (s.name, &*s.value, s.line, s.column)).collect();
        assert_eq!(settings, [("Service.PollInterval", "5s", 9, 13), ("Diagnostics.Kept", "50", 10, 25)]);
        assert_eq!(config.base_path.clone().unwrap().as_str(), "/switchboard");
        let tls = (config.tls_cert.as_deref(), config.tls_key.as_deref());
        assert_eq!(tls, (Some(Path::new("/etc/tls.crt")), Some(Path::new("/etc/tls.key"))));
        let mut fixed = Fixed::default();
        config.fix(&mut fixed);
        assert_ne!(fixed, Fixed::default());
        let [disk, site] = &config.jobs[..] else { panic!("two jobs") };
        let environment = [("LANG", "C"), ("GREETING", "grüß dich")];
        assert_eq!(
            disk,
            &Job {
                name: "disk-space".into(),
                title: "Disk <space>".into(),
                description: "Shows it.".into(),
                work: Work::Command {
                    argv: vec!["df".into(), "-h".into()],
                    directory: Some("/".into()),
                    environment: environment.map(|(name, value)| (name.into(), value.into())).into(),
                    success: vec![0, 2],
                    warning: vec![1],
                },
                schedule: Schedule::Cron { line: "30 3 * * mon-fri".into(), time_zone: "Europe/Berlin".into() },
                timeout: Duration::from_secs(90),
                retries: 3,
                retry_delay: Duration::from_secs(10),
                concurrency: 2,
                enabled: false,
                run_at_start: true,
                catch_up: false,
                overlap: true,
            }
        );
        assert_eq!(site.work, Work::Http { url: "https://example.org/".into(), expect: vec![200, 301] });
        assert_eq!((&*site.title, site.timeout), ("site", Duration::from_secs(30)));
        assert!(site.enabled && site.catch_up && !site.run_at_start && !site.overlap);
    }

    #[test]
    fn an_empty_file_says_nothing() {
        assert_eq!(parse("s.toml", "", false), Ok(FileConfig::default()));
        assert_eq!(parse("s.toml", "\u{feff}# only this\n", false), Ok(FileConfig::default()));
    }

    #[test]
    fn all_problems_are_listed_at_once_in_order() {
        let text = r#"
lisen = "127.0.0.1:8080"
colour = "green"
[settings]
"Service.PolInterval" = "15s"
"Service.PollInterval" = "2h"
[[job]]
name = "one"
command = ["no-such-program-of-ours"]
schedule = "61 * * * *"
shedule = "every 5m"
[[job]]
name = "one"
command = ["true"]
schedule = "manual"
timeout = "soon"
"#;
        let found = problems(text);
        let expected = [
            "s.toml:2:1: unknown key `lisen`; perhaps `listen` is meant; allowed: data, database, listen, advertise, base_path, tls_cert, tls_key, settings, job",
            "s.toml:3:1: unknown key `colour`; allowed: ",
            "s.toml:5:1: there is no setting `Service.PolInterval`",
            "s.toml:6:26: Service.PollInterval: `2h` is not from 1s to 1m; allowed: a time from 1s to 1m",
            "s.toml:9:11: job `one`: `command` can't be started: the program `no-such-program-of-ours` is not on the path",
            "s.toml:10:12: job `one`: `schedule`: the minute field `61` (field 1 of 5) can't be read; allowed: 0-59",
            "s.toml:11:1: job `one`: unknown key `shedule`; perhaps `schedule` is meant; allowed: name, title",
            "s.toml:13:8: job `one`: `name` is given twice, first in line 8; allowed: a name of its own",
            "s.toml:16:11: job `one`: `timeout` is `soon`; allowed: a time from 1s to 30d",
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}\n{expected}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_job_is_said() {
        let command = "command = [\"true\"]";
        for (lines, words) in [
            ("", "`command` is missing; allowed: a list of the program and its arguments"),
            ("command = []", "`command` names no program"),
            ("command = [\"\"]", "`command` names no program"),
            ("command = [\"true\", 1]", "`command` holds a whole number"),
            ("command = \"df -h\"", "`command` is a text; allowed: a list"),
            ("command = [\"/etc/passwd\"]", "/etc/passwd is not executable"),
            ("command = [\"./x\"]", "there is no program ./x"),
            ("command = [\"true\"]\nhttp = \"http://x\"", "`http` stands beside `command`"),
            ("http = \"ftp://x\"", "is neither http nor https"),
            ("http = \"x\"", "is no address"),
            ("http = \"http://me:secret@x\"", "`http`: it holds a name or password"),
            ("http = \"http://x\"\nsuccess = [0]", "`success` has no meaning beside `http`"),
            (
                "http = \"http://x\"\nexpect = [20]",
                "`expect` holds 20; allowed: a list of whole numbers from 100 to 599",
            ),
            (&format!("{command}\nexpect = [200]"), "`expect` has no meaning beside `command`"),
            (&format!("{command}\ndirectory = \"/no/such\""), "`directory`: `/no/such` can't be had"),
            (&format!("{command}\ndirectory = \"/etc/passwd\""), "is no directory"),
            (&format!("{command}\nenvironment = [1]"), "`environment` is a list"),
            (&format!("{command}\nenvironment = {{ A = 1 }}"), "variable `A` is a whole number"),
            (&format!("{command}\nenvironment = {{ \"A=B\" = \"\" }}"), "can be given the variable `A=B`"),
            (&format!("{command}\nenvironment = {{ SWITCHBOARD_EXECUTION = \"\" }}"), "is set for every run"),
            (&format!("{command}\nsuccess = []"), "`success` is empty"),
            (&format!("{command}\nsuccess = [0, 256]"), "`success` holds 256"),
            (&format!("{command}\nsuccess = [0, 0]"), "`success` holds 0 twice"),
            (&format!("{command}\nwarning = [0]"), "`warning` holds 0, and so does `success`"),
            (&format!("{command}\nretries = -1"), "`retries` is -1"),
            (&format!("{command}\nretries = 99999999999999999999"), "`retries` is 99999999999999999999"),
            (&format!("{command}\nretries = 1.5"), "`retries` is a number with a fraction"),
            (&format!("{command}\nconcurrency = 0"), "`concurrency` is 0"),
            (&format!("{command}\ntimeout = \"0s\""), "`timeout` is `0s`"),
            (&format!("{command}\nretry_delay = \"2h\""), "`retry_delay` is `2h`; allowed: a time from 1s to 1h"),
            (&format!("{command}\nenabled = \"yes\""), "`enabled` is a text; allowed: true or false"),
            (&format!("{command}\ncatch_up = \"twice\""), "`catch_up` is `twice`"),
            (&format!("{command}\noverlap = \"always\""), "`overlap` is `always`"),
            (&format!("{command}\ntime_zone = \"Europe/Berlin\""), "`time_zone` has no meaning with a manual job"),
            (&format!("{command}\ntime_zone = \"Europe/Berlim\""), "perhaps Europe/Berlin is meant"),
            (&format!("{command}\ntitle = \"a\\u0007b\""), "`title` holds control characters (`a\\u{7}b`)"),
            (&format!("{command}\ntitle = \"{}\"", "x".repeat(101)), "`title` is 101 characters long"),
        ] {
            let found = job_problem(lines);
            assert!(found.contains(words), "{lines}\n{found}");
        }
    }

    #[test]
    fn a_strange_name_is_shown_short_and_visible() {
        let long = "x".repeat(1000);
        for (name, shown) in [
            ("disk space", "disk space"),
            ("a\\\"b", "a\"b"),
            ("../etc", "../etc"),
            ("<script>", "<script>"),
            ("a\\u202Eb", "a\\u{202e}b"),
            (&long, &*format!("{}… (1000 characters)", "x".repeat(60))),
        ] {
            let text = format!("[[job]]\nname = \"{name}\"\ncommand = [\"true\"]\nschedule = \"manual\"\n");
            let found = problems(&text);
            let expected = format!("s.toml:2:8: job `{shown}`: `name` is `{shown}`; allowed: 1 to 64 of a-z");
            assert!(found.len() == 1 && found[0].starts_with(&expected), "{found:?}");
        }
    }

    #[test]
    fn a_job_switched_off_may_wait_for_its_program() {
        let text = "[[job]]\nname=\"a\"\nschedule=\"manual\"\nenabled=false\ncommand=[\"no-such-program-of-ours\"]\n";
        assert!(!parse("s.toml", text, false).unwrap().jobs[0].enabled);
    }

    #[test]
    fn a_line_that_cannot_be_read_hides_no_other_problem_and_makes_none_up() {
        let found = problems("[[job]]\nname = a b\ncommand = [\"true\"]\nretries = -1\nlisten\n");
        assert!(found.len() >= 3, "{found:#?}");
        assert!(found[0].starts_with("s.toml:2:") && found[0].contains("can't be read"), "{found:#?}");
        assert!(found.iter().any(|found| found.contains("`retries` is -1")), "{found:#?}");
        assert!(found.iter().any(|found| found.starts_with("s.toml:5:")), "{found:#?}");
        assert!(!found.iter().any(|found| found.contains("missing")), "{found:#?}");
    }

    #[test]
    fn a_job_does_not_take_the_name_of_a_built_in_dispatcher() {
        for name in crate::config::job::RESERVED {
            let text = format!("[[job]]\ncommand = [\"true\"]\nschedule = \"manual\"\nname = \"{name}\"\n");
            let found = problems(&text);
            let expected = format!(
                "s.toml:4:8: job `{name}`: `name` is the name of a dispatcher of Switchboard itself; allowed: any name but "
            );
            assert!(found.len() == 1 && found[0].starts_with(&expected), "{found:#?}");
        }
    }

    #[test]
    fn keys_given_twice_and_wrong_shapes_are_refused() {
        for (text, words) in [
            ("data = \"a\"\ndata = \"b\"\n", "s.toml:2:1: can't be read: duplicate key"),
            ("[job]\nname = \"a\"\n", "tables headed [[job]], with two brackets"),
            ("job = [1]\n", "job 1 is a whole number"),
            ("settings = 1\n", "`settings` is a whole number"),
            ("advertise = \"*\"\n", "nobody can dial it; allowed: a host name or address"),
            ("listen = \"8080\"\n", "`listen` is `8080`; allowed: an address and a port"),
            ("data = \"\"\n", "`data` is ``"),
            (
                "database = \"mysql://db/a\"\n",
                "s.toml:1:12: `database` is not the URL of a PostgreSQL database; allowed: postgres:",
            ),
            (
                "[settings]\n\"Service.PollInterval\" = 5\n\"service.pollinterval\" = 6\n",
                "given twice, first in line 2",
            ),
            ("[settings]\n\"Service.PollInterval\" = 1979-05-27\n", "Service.PollInterval is a date or time"),
        ] {
            let found = problems(text);
            assert!(found.len() == 1 && found[0].contains(words), "{text}: {found:#?}");
        }
    }

    #[test]
    fn a_database_with_its_password_is_taken_only_from_a_private_file_and_never_shown() {
        let text = "database = \"postgres://ann:hunter2@db/board\"\n";
        let found = problems(text);
        assert!(found[0].contains("chmod 600") && !found[0].contains("hunter2"), "{found:?}");
        let config = parse("s.toml", text, true).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
        assert!(config.database.unwrap().has_password());
        let config = parse("s.toml", "database = \"postgres://ann@db/board\"\n", false).unwrap();
        assert_eq!(config.database.unwrap().place(), "db:5432/board");
    }

    #[test]
    fn a_secret_is_taken_only_from_a_private_file_and_never_shown() {
        let key = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U=";
        let text = format!("[settings]\n\"Service.MessengerKey\" = \"{key}\"\n");
        let found = problems(&text);
        assert!(found[0].contains("chmod 600") && !found[0].contains(key), "{found:?}");
        let config = parse("s.toml", &text, true).unwrap();
        assert_eq!(config.settings[0].value, key);
        assert!(!format!("{config:?}").contains(key));
        let short = parse("s.toml", "[settings]\n\"Service.MessengerKey\" = \"hunter2\"\n", true).unwrap_err();
        assert!(!short[0].to_string().contains("hunter2"), "{short:?}");
    }

    #[test]
    fn a_file_full_of_problems_is_answered_at_once() {
        let text = (0..50_000).map(|at| format!("k{at} = 1")).collect::<Vec<_>>().join("\n");
        let found = problems(&text);
        assert_eq!(found.len(), 101);
        assert_eq!(found[100], "s.toml: has 49900 more problems");
    }

    #[test]
    fn what_is_no_file_of_ours_is_said_to_be_none() {
        let place = tempfile::tempdir().unwrap();
        let said = |path: &Path| load(path).unwrap_err()[0].to_string();
        assert!(said(place.path()).contains("is a directory"));
        assert!(said(&place.path().join("absent")).contains("can't be read"));
        let file = place.path().join("s.toml");
        std::fs::write(&file, b"a = 1\nb = \"\xff\"\n").unwrap();
        assert!(said(&file).contains("s.toml:2:6: the byte 0xff is not UTF-8"), "{}", said(&file));
        std::fs::write(&file, vec![b'#'; MAX_BYTES + 1]).unwrap();
        assert!(said(&file).contains("is longer than 1 MiB"));
        std::fs::write(&file, vec![b'#'; MAX_BYTES]).unwrap();
        assert_eq!(load(&file), Ok(FileConfig::default()));
    }
}
