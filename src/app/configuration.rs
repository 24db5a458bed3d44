//! What the operator said before the start: flag, environment, file, default; every problem at once.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use zeroize::Zeroize as _;

use crate::app::cli::Global;
use crate::app::tls;
use crate::base::clock::{Clock as _, SystemClock};
use crate::base::visible::visible;
use crate::config;
use crate::config::address::{self, Address};
use crate::config::base_path::BasePath;
use crate::config::database::DatabaseUrl;
use crate::config::file::{self, FileConfig};
use crate::config::job::Job;
use crate::config::schema::{SETTINGS, Setting};
use crate::config::settings::{Fixed, Source, unknown_setting, unknown_variable};
use crate::config::together::Clash;

/// Where the pages are unless somebody says otherwise.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

/// The variable that may hold the database's URL with its password.
const DATABASE_VARIABLE: &str = "SWITCHBOARD_DATABASE";

/// What a node starts from.
pub struct Configuration {
    /// The data directory.
    pub data: PathBuf,
    /// The PostgreSQL database; none is SQLite in the data directory.
    pub database: Option<DatabaseUrl>,
    /// Where the pages are.
    pub listen: SocketAddr,
    /// Where web nodes reach this service node; none: found out.
    pub advertise: Option<String>,
    /// The path under which they stand.
    pub base_path: BasePath,
    /// Certificate and key of the pages, if they are served over https.
    pub tls: Option<tls::Files>,
    /// The operator's jobs.
    pub jobs: Vec<Job>,
    /// Settings fixed outside the database.
    pub fixed: Fixed,
    /// The encryption key, if the environment holds it.
    pub encryption_key: Option<Arc<SecretBox<[u8; 32]>>>,
}

/// Everything that is wrong with a configuration, one line each.
#[derive(Debug)]
pub struct Problems(pub Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.join("\n"))
    }
}

impl std::error::Error for Problems {}

impl Configuration {
    /// The defaults, over this data directory: for a program that embeds a node.
    #[must_use]
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            database: None,
            listen: DEFAULT_LISTEN,
            advertise: None,
            base_path: BasePath::default(),
            tls: None,
            jobs: Vec::new(),
            fixed: Fixed::default(),
            encryption_key: None,
        }
    }

    /// The same, for a node with pages (and for who wants to know whether one would start): reads certificate and key as well.
    ///
    /// # Errors
    /// Every problem there is, as with [`Configuration::load`].
    pub fn load_with_tls(global: &Global) -> Result<Self, Problems> {
        let loaded = Self::load(global);
        let files = match &loaded {
            Ok(configuration) => configuration.tls.clone(),
            // of a file that can't be read the flags are left
            Err(_) => tls::Files::of(global.tls_cert.clone(), global.tls_key.clone(), &mut Vec::new()),
        };
        let unfit = files.map_or(Ok(()), |files| tls::Loaded::read(&files, SystemClock.now()).map(drop));
        match (loaded, unfit) {
            (loaded, Ok(())) => loaded,
            (Ok(_), Err(unfit)) => Err(Problems(unfit)),
            (Err(Problems(mut problems)), Err(mut unfit)) => {
                problems.append(&mut unfit);
                Err(Problems(problems))
            }
        }
    }

    /// Puts flags, environment and file together.
    ///
    /// # Errors
    /// Every problem there is, each saying where it is and what is allowed.
    pub fn load(global: &Global) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let from_file = match global.config.as_deref().map(file::load).transpose() {
            Ok(found) => found.unwrap_or_default(),
            Err(found) => {
                problems.extend(found.iter().map(ToString::to_string));
                FileConfig::default()
            }
        };
        let mut fixed = Fixed::default();
        let file = global.config.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
        for setting in &from_file.settings {
            let place = format!("{file}, line {}", setting.line);
            if let Err(bad) = fixed.set_at(setting.name, &setting.value, Source::File, place) {
                problems.push(format!("line {}: {}: {bad}", setting.line, setting.name));
            }
        }
        for setting in SETTINGS {
            let variable = setting.variable();
            if let Ok(text) = std::env::var(&variable)
                && let Err(bad) = fixed.set(setting.name, &text, Source::Environment)
            {
                problems.push(format!("{variable}: {bad}; allowed: {}", setting.kind.allowed()));
            }
        }
        let mut unknown: Vec<String> =
            std::env::vars_os().filter_map(|(variable, _)| unknown_variable(&variable.to_string_lossy())).collect();
        unknown.sort_unstable();
        problems.append(&mut unknown);
        let advertise = global.advertise.as_deref().and_then(|text| match Address::parse(text) {
            Ok(address) => Some(address.to_string()),
            Err(bad) => {
                problems.push(format!("--advertise: {bad}; allowed: {}", address::ALLOWED));
                None
            }
        });
        let database = database(global, &mut problems);
        let tls = tls::Files::of(
            global.tls_cert.clone().or(from_file.tls_cert),
            global.tls_key.clone().or(from_file.tls_key),
            &mut problems,
        );
        flags(&global.set, &mut fixed, &mut problems);
        problems.extend(fixed.clashes().into_iter().map(|clash| clash_of(&fixed, &clash)));
        let encryption_key = encryption_key(std::env::var("SWITCHBOARD_ENCRYPTION_KEY").ok(), &mut problems);
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        Ok(Self {
            data: global.data.clone().or(from_file.data).unwrap_or_else(|| Path::new("data").to_owned()),
            database: database.or(from_file.database),
            listen: global.listen.or(from_file.listen).unwrap_or(DEFAULT_LISTEN),
            advertise: advertise.or(from_file.advertise),
            base_path: global.base_path.clone().or(from_file.base_path).unwrap_or_default(),
            tls,
            jobs: from_file.jobs,
            fixed,
            encryption_key,
        })
    }
}

/// The database from the command line, or else the environment.
fn database(global: &Global, problems: &mut Vec<String>) -> Option<DatabaseUrl> {
    let (from, text) = match &global.database {
        Some(text) => ("--database", text.clone()),
        None => (DATABASE_VARIABLE, SecretString::from(std::env::var(DATABASE_VARIABLE).ok()?)),
    };
    match DatabaseUrl::parse(text.expose_secret()) {
        Ok(url) if url.has_password() && global.database.is_some() => {
            problems.push(format!(
                "--database: has a password in it, which everybody on this machine can see; put the URL into \
                 {DATABASE_VARIABLE} or, as `database`, into the configuration file, or the password alone into PGPASSWORD or \
                 the file that PGPASSFILE names"
            ));
            None
        }
        Ok(url) => Some(url),
        Err(problem) => {
            problems.push(format!("{from}: {problem}; allowed: {}", config::database::ALLOWED));
            None
        }
    }
}

/// Takes in `--set NAME=VALUE`.
fn flags(set: &[String], fixed: &mut Fixed, problems: &mut Vec<String>) {
    let mut names = BTreeSet::new();
    for flag in set {
        let Some((name, value)) = flag.split_once('=') else {
            problems
                .push(format!("--set {}: has no `=`; allowed: NAME=VALUE, as Service.PollInterval=5s", visible(flag)));
            continue;
        };
        let (name, value) = (name.trim(), value.trim());
        let Some(setting) = Setting::find(name) else {
            problems.push(format!("--set: {}", unknown_setting(&visible(name))));
            continue;
        };
        if setting.secret {
            problems.push(format!(
                "--set {}: is secret, and a command line can be read by everybody on this machine; use the variable {}",
                setting.name,
                setting.variable()
            ));
        } else if !names.insert(setting.name) {
            problems.push(format!("--set {}: is given twice; allowed: each setting once", setting.name));
        } else if let Err(bad) = fixed.set(setting.name, value, Source::Flag) {
            problems.push(format!("--set {}: {bad}; allowed: {}", setting.name, setting.kind.allowed()));
        }
    }
}

/// What does not go together, with where each of the two stands.
fn clash_of(fixed: &Fixed, clash: &Clash) -> String {
    let places = clash.names.iter().filter_map(|name| Some(fixed.claim(name)?.place.as_str()));
    format!("{}: {}", places.collect::<Vec<_>>().join(" and "), clash.why)
}

fn encryption_key(text: Option<String>, problems: &mut Vec<String>) -> Option<Arc<SecretBox<[u8; 32]>>> {
    let mut text = text?;
    let decoded = STANDARD.decode(text.trim());
    text.zeroize();
    if let Some(key) = decoded.ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()) {
        return Some(Arc::new(SecretBox::new(Box::new(key))));
    }
    problems.push(
        "SWITCHBOARD_ENCRYPTION_KEY: is not 32 bytes in base64 (44 characters); `openssl rand -base64 32` makes some"
            .to_owned(),
    );
    None
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::app::cli::Cli;
    use crate::config::schema::name;

    fn with_database(url: &str) -> (Option<DatabaseUrl>, Vec<String>) {
        let cli = Cli::try_parse_from(["switchboard", "--database", url]).unwrap();
        assert!(!format!("{cli:?}").contains("hunter2"), "{cli:?}");
        let mut problems = Vec::new();
        (database(&cli.global, &mut problems), problems)
    }

    #[test]
    fn a_password_on_the_command_line_is_a_problem_that_says_where_to_put_it() {
        let (url, problems) = with_database("postgres://ann:hunter2@db/board");
        assert!(url.is_none());
        assert!(problems[0].contains("SWITCHBOARD_DATABASE") && !problems[0].contains("hunter2"), "{problems:?}");
        let (url, problems) = with_database("postgres://ann@db/board");
        assert_eq!((url.unwrap().place(), problems), ("db:5432/board", Vec::new()));
        let (url, problems) = with_database("hunter2");
        assert!(url.is_none());
        assert!(problems[0].starts_with("--database: is no URL") && !problems[0].contains("hunter2"), "{problems:?}");
    }

    fn flagged(set: &[&str]) -> (Fixed, Vec<String>) {
        let (mut fixed, mut problems) = (Fixed::default(), Vec::new());
        let set: Vec<String> = set.iter().map(|&flag| flag.to_owned()).collect();
        flags(&set, &mut fixed, &mut problems);
        (fixed, problems)
    }

    #[test]
    fn a_flag_fixes_a_setting() {
        let (fixed, problems) = flagged(&["service.pollinterval=5", "Service.MessengerEndpoint=pipe:/a=b.sock"]);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(fixed.claim(name::POLL_INTERVAL).unwrap().value, "5s");
        assert_eq!(fixed.claim(name::MESSENGER_ENDPOINT).unwrap().value, "pipe:/a=b.sock");
    }

    #[test]
    fn every_bad_flag_is_told_and_no_secret_repeated() {
        let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let (fixed, problems) = flagged(&[
            "Service.PollInterval",
            "PollInterval=5s",
            "Service.PollInterval=never",
            "Service.StopPatience=5s",
            "Service.StopPatience=6s",
            &format!("Service.MessengerKey={key}"),
        ]);
        for words in
            ["NAME=VALUE", "Service.PollInterval is meant", "from 1s to 1m", "given twice", "SERVICE_MESSENGERKEY"]
        {
            assert!(problems.iter().any(|problem| problem.contains(words)), "{words}: {problems:#?}");
        }
        assert!(problems.len() == 5 && !problems.concat().contains(key));
        assert_eq!(fixed.claim(name::STOP_PATIENCE).unwrap().value, "5s");
    }

    #[test]
    fn settings_fixed_against_each_other_are_told_with_their_places() {
        let (mut fixed, _) = flagged(&["Web.SessionAge=1h"]);
        fixed.set_at(name::SESSION_IDLE, "2h", Source::File, "sb.toml, line 7".to_owned()).unwrap();
        let said = clash_of(&fixed, &fixed.clashes()[0]);
        for words in ["sb.toml, line 7 and --set Web.SessionAge", "Web.SessionIdle (2h)", "Web.SessionAge (1h)"] {
            assert!(said.contains(words), "{words}: {said}");
        }
    }

    #[test]
    fn a_key_that_is_none_is_a_problem_that_does_not_repeat_it() {
        let mut problems = Vec::new();
        assert!(encryption_key(Some("hunter2".into()), &mut problems).is_none());
        assert_eq!(problems.len(), 1);
        assert!(!problems[0].contains("hunter2"));
        assert!(encryption_key(Some(STANDARD.encode([7; 32])), &mut problems).is_some());
    }
}
