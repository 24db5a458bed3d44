//! The command line: what can be said on it, and what it means.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::RangedI64ValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum, value_parser};
use secrecy::SecretString;

use crate::api::types::logs::MOST;
use crate::config::base_path::BasePath;
use crate::model::node::Role;
use crate::model::user::{ServiceRole, UserName};

/// Runs background work on service nodes, shows administrators every dispatcher's state and log line live.
#[derive(Debug, Parser)]
#[command(name = "switchboard", version, max_term_width = 100, subcommand_required = false)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// Fix a setting on this node: it wins over every other source. May stand several times. Not for secrets.
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// What to do; without a command: `run --role all`.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Configuration file (TOML): jobs and fixed settings. `docs/jobs.md` and `docs/configuration.md` describe it.
    #[arg(long, global = true, env = "SWITCHBOARD_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Data directory: database, keys and pipe. Who can read it is administrator. [default: ./data]
    #[arg(long, global = true, env = "SWITCHBOARD_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// `PostgreSQL` database instead of `SQLite` in the data directory, as `postgres://USER@HOST:PORT/NAME?sslmode=verify-full`;
    /// with its password only in `SWITCHBOARD_DATABASE` or the configuration file. Several nodes may share it.
    #[arg(long, global = true, value_name = "URL")]
    pub database: Option<SecretString>,
    /// Address of the pages; port 0 takes a free one. [default: 127.0.0.1:8080]
    #[arg(long, global = true, env = "SWITCHBOARD_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Where web nodes reach this service node, if the endpoint is `tcp://*:PORT`: a host name or address, with a port if it is
    /// another. [default: the address from which this machine reaches the database]
    #[arg(long, global = true, env = "SWITCHBOARD_ADVERTISE", value_name = "HOST")]
    pub advertise: Option<String>,
    /// Path under which the pages stand, as /switchboard. [default: none]
    #[arg(long, global = true, env = "SWITCHBOARD_BASE_PATH", value_name = "PATH")]
    pub base_path: Option<BasePath>,
    /// Certificate of the pages (PEM, the chain included): then they are served over https. Read anew at SIGHUP.
    #[arg(long, global = true, env = "SWITCHBOARD_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM).
    #[arg(long, global = true, env = "SWITCHBOARD_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Ask the node at this address instead of the data directory; the token is read from `SWITCHBOARD_TOKEN`.
    #[arg(long, global = true, env = "SWITCHBOARD_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Certificates (PEM) of authorities that `--url` may lead to, besides those of the system.
    #[arg(long, global = true, env = "SWITCHBOARD_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Settings fixed by flags, wherever on the line they stood.
    #[arg(skip)]
    pub set: Vec<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node (also without any command).
    Run {
        /// What the node does.
        #[arg(long, env = "SWITCHBOARD_ROLE", default_value = "all", value_parser = parse_role)]
        role: Role,
        /// Fix a setting on this node: it wins over every other source. May stand several times. Not for secrets.
        #[arg(long, value_name = "NAME=VALUE")]
        set: Vec<String>,
    },
    /// Make, list and delete users.
    #[command(subcommand)]
    User(UserCommand),
    /// Show and change settings.
    #[command(subcommand)]
    Settings(SettingsCommand),
    /// Show what every dispatcher is doing.
    Status {
        /// Go on showing it, whenever it changes.
        #[arg(long)]
        watch: bool,
        /// As JSON; with --watch one object per line.
        #[arg(long)]
        json: bool,
    },
    /// Show the newest lines of the log.
    Logs {
        /// Go on showing lines as they come, after the newest ones.
        #[arg(long, short)]
        follow: bool,
        /// How many of the newest lines, at most 1000; with --follow 0 shows only what comes.
        #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 200, value_parser = lines_at_once())]
        lines: u32,
        /// As JSON, one object per line.
        #[arg(long)]
        json: bool,
        /// Lines of this level and above.
        #[arg(long, value_name = "LEVEL", default_value = "info")]
        level: crate::model::log_entry::Level,
        /// Lines of this source only.
        #[arg(long, value_name = "NAME")]
        source: Option<String>,
    },
    /// Run a dispatcher now.
    Trigger(Named),
    /// Pause a dispatcher: no scheduled run begins.
    Pause(Named),
    /// Let a paused dispatcher go on.
    Resume(Named),
    /// End every run of a dispatcher.
    Cancel(Named),
    /// List every node: how it is, which one is primary, how its link is.
    Nodes {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make another service node the primary; runs that go on end where they are.
    HandOver {
        /// Which node. [default: whichever comes first]
        node: Option<String>,
        /// Print the answer as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check the configuration, list every problem, and do nothing else.
    CheckConfig {
        /// The file; the same as `--config FILE`.
        file: Option<PathBuf>,
        /// As `run` would be told.
        #[arg(long, value_name = "NAME=VALUE")]
        set: Vec<String>,
    },
    /// Bring the database up to date, and do nothing else.
    Migrate,
    /// Write a consistent copy of the database, while nodes run.
    Backup {
        /// Where to; `%Y-%m-%d` and the like stand for the time (UTC). An existing file is never overwritten.
        /// [default: backups/switchboard-%Y-%m-%dT%H-%M-%SZ.db in the data directory]
        file: Option<PathBuf>,
        /// Delete all but the newest so many copies made with the same pattern.
        #[arg(long, value_name = "NUMBER")]
        keep: Option<usize>,
    },
    /// Try the messenger's endpoint and key by dialling and shaking hands; say what is wrong and what to do.
    Doctor {
        /// Try this endpoint, as it would stand in `Service.MessengerEndpoint`. [default: the one in force]
        #[arg(long, value_name = "ENDPOINT")]
        endpoint: Option<String>,
        /// Read the key to try from standard input (one line, base64). [default: the one in force]
        #[arg(long)]
        key_stdin: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the description of the HTTP interface (OpenAPI).
    Openapi,
    /// Print the reference of all settings (Markdown).
    ConfigDoc,
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// A dispatcher, by name.
#[derive(Clone, Debug, Args)]
pub struct Named {
    /// The dispatcher's name.
    pub name: String,
    /// Print the answer as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What to do with users.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Make a user.
    Add {
        /// Its name: letters, digits, `_` and `-`.
        name: UserName,
        /// What it may do.
        #[arg(long, required = true)]
        role: Vec<RoleArgument>,
        /// Its e-mail address.
        #[arg(long, default_value = "")]
        email: String,
        /// Read its password from standard input (one line), so that it can sign in.
        #[arg(long)]
        password_stdin: bool,
        /// Give it a token for `x-api-key`, printed alone on standard output.
        #[arg(long)]
        token: bool,
    },
    /// List users.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Delete a user.
    Delete {
        /// Its name.
        name: UserName,
    },
}

/// A role, as the command line spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum RoleArgument {
    /// May do everything.
    ServiceAdmin,
    /// May see every page, change nothing.
    AdminViewer,
    /// May read `/metrics`.
    MetricsViewer,
}

impl From<RoleArgument> for ServiceRole {
    fn from(role: RoleArgument) -> Self {
        match role {
            RoleArgument::ServiceAdmin => Self::ServiceAdmin,
            RoleArgument::AdminViewer => Self::AdminViewer,
            RoleArgument::MetricsViewer => Self::MetricsViewer,
        }
    }
}

/// What to do with settings.
#[derive(Debug, Subcommand)]
pub enum SettingsCommand {
    /// List all: value, source, default.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print one value, alone. Secrets are never printed.
    Get {
        /// The setting's name.
        name: String,
        /// Everything about it, as JSON: every source and which wins, and how it stands on each node.
        #[arg(long)]
        json: bool,
    },
    /// Show who changed a setting, when, from what to what.
    History {
        /// The setting's name.
        name: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print what the database holds as TOML; secrets as placeholders.
    Export {
        /// Also what stands at its default.
        #[arg(long)]
        all: bool,
    },
    /// Take settings in from a file (`-`: standard input), all or none; what it does not name stays as it is.
    Import {
        /// As `export` printed it.
        file: PathBuf,
        /// Only show what would change.
        #[arg(long)]
        dry_run: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Change a setting; `-` as the value reads it from standard input (for secrets).
    Set {
        /// The setting's name.
        name: String,
        /// Its new value; empty is the default.
        value: String,
    },
    /// Go back to the default.
    Clear {
        /// The setting's name.
        name: String,
    },
    /// Generate a new messenger key.
    GenerateKey {
        /// The old key is worthless at once (it leaked); links are cut and made anew.
        #[arg(long)]
        at_once: bool,
    },
}

/// Options that stand with every command and mean something only where a node is started or checked.
const OF_A_NODE: [&str; 5] = ["listen", "advertise", "base_path", "tls_cert", "tls_key"];

/// Those that mean something only where a node is asked.
const OF_ASKING: [&str; 2] = ["url", "ca_file"];

impl Cli {
    /// Reads a command line.
    ///
    /// # Errors
    /// If it does not say what to do; if it says an option that means nothing to the command (a variable of the environment is for
    /// whatever is started there); or if help or the version is wanted.
    pub fn read(line: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, clap::Error> {
        let mut program = Self::command();
        let matches = program.try_get_matches_from_mut(line)?;
        let cli = Self::from_arg_matches(&matches).map_err(|error| error.format(&mut program))?;
        match cli.meaningless(&matches) {
            Some(text) => Err(program.error(ErrorKind::ArgumentConflict, text)),
            None => Ok(cli),
        }
    }

    /// What is wrong with an option on the line that the command does not know.
    fn meaningless(&self, matches: &ArgMatches) -> Option<String> {
        use Command::{Backup, CheckConfig, Completions, ConfigDoc, Doctor, Migrate, Openapi, Run};

        let (is_node, asks) = match &self.command {
            None | Some(Run { .. } | CheckConfig { .. }) => (true, false),
            Some(Migrate | Backup { .. } | Doctor { .. } | Openapi | ConfigDoc | Completions { .. }) => (false, false),
            Some(_) => (false, true),
        };
        let command = matches.subcommand_name().unwrap_or("run");
        let said = |names: &[&str]| {
            let name = names.iter().find(|name| matches.value_source(name) == Some(ValueSource::CommandLine))?;
            Some(format!("--{}", name.replace('_', "-")))
        };
        if let Some(option) = said(&OF_ASKING).filter(|_| !asks) {
            return Some(format!(
                "`{command}` works on this machine and knows no {option}: that is for commands that ask a node, as `status` \
                 and `logs`"
            ));
        }
        let option = said(&OF_A_NODE).filter(|_| !is_node)?;
        Some(format!("`{command}` knows no {option}: that is for `run` and `check-config`"))
    }

    /// What to do, and every option for it: the flags that fix settings may stand before and after the command.
    #[must_use]
    pub fn take_apart(self) -> (Global, Command) {
        let Self { mut global, set, command } = self;
        let mut command = command.unwrap_or(Command::Run { role: Role::All, set: Vec::new() });
        global.set = set;
        if let Command::Run { set, .. } | Command::CheckConfig { set, .. } = &mut command {
            global.set.append(set);
        }
        (global, command)
    }
}

fn lines_at_once() -> RangedI64ValueParser<u32> {
    value_parser!(u32).range(..=i64::from(MOST))
}

fn parse_role(text: &str) -> Result<Role, crate::model::node::BadRole> {
    text.parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_flag_is_lost_wherever_it_stands() {
        for (line, expected) in [
            (vec!["switchboard", "--set", "a=1"], vec!["a=1"]),
            (vec!["switchboard", "--set", "a=1", "run", "--set", "b=2", "--set=c=3"], vec!["a=1", "b=2", "c=3"]),
            (vec!["switchboard", "check-config", "--set", "b=2", "file"], vec!["b=2"]),
            (vec!["switchboard", "--set", "a=1", "settings", "list"], vec!["a=1"]),
        ] {
            let (global, _) = Cli::try_parse_from(&line).unwrap().take_apart();
            assert_eq!(global.set, expected, "{line:?}");
        }
    }

    #[test]
    fn an_option_that_means_nothing_to_a_command_is_refused_wherever_it_stands() {
        for (line, expected) in [
            ("--url http://h run", Some("`run` works on this machine and knows no --url:")),
            ("run --url http://h", Some("`run` works on this machine and knows no --url:")),
            ("--url http://h", Some("`run` works on this machine and knows no --url:")),
            ("check-config --ca-file f", Some("`check-config` works on this machine and knows no --ca-file:")),
            ("backup --url http://h", Some("`backup` works on this machine and knows no --url:")),
            ("doctor --url http://h", Some("`doctor` works on this machine and knows no --url:")),
            ("status --listen 127.0.0.1:1", Some("`status` knows no --listen: that is for `run`")),
            ("--base-path /x user list", Some("`user` knows no --base-path:")),
            ("logs --url http://h --ca-file f", None),
            ("--listen 127.0.0.1:1 --base-path /x", None),
            ("check-config --listen 127.0.0.1:1 --data d", None),
            ("--data d openapi", None),
        ] {
            let read = Cli::read(std::iter::once("switchboard").chain(line.split(' ')));
            let said = read.err().map(|error| (error.kind(), error.to_string()));
            match (said, expected) {
                (None, None) => {}
                (Some((ErrorKind::ArgumentConflict, said)), Some(expected)) if said.contains(expected) => {}
                (said, expected) => panic!("{line}: {said:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn how_many_lines_are_shown_has_a_bound() {
        let lines = |line: &str| match Cli::read(line.split(' ')).map(|cli| cli.command) {
            Ok(Some(Command::Logs { lines, .. })) => Ok(lines),
            Ok(_) => panic!("{line} is about lines"),
            Err(error) => Err(error.to_string()),
        };
        assert_eq!(lines("switchboard logs"), Ok(200));
        assert_eq!(lines("switchboard logs -n 7 -f"), Ok(7));
        assert_eq!(lines("switchboard logs --lines 0 --follow"), Ok(0));
        assert!(lines("switchboard logs -n 1001").unwrap_err().contains("1001 is not in 0..=1000"));
    }

    #[test]
    fn options_may_stand_before_and_after_the_command() {
        let before = Cli::try_parse_from(["switchboard", "--data", "x", "status"]).unwrap();
        let after = Cli::try_parse_from(["switchboard", "status", "--data", "x"]).unwrap();
        assert_eq!(before.global.data, after.global.data);
    }
}
