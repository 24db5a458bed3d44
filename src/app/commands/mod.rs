//! What each command does, from the command line to the exit code.

pub mod doctor;
pub mod documents;
pub mod door;
pub mod live;
pub mod logs;
pub mod maintenance;
pub mod node;
pub mod nodes;
pub mod settings;
pub mod socket;
pub mod status;
pub mod users;

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use crate::app::cli::{Cli, Command};
use crate::app::configuration::Problems;
use crate::base::chain::chain;
use crate::service::jobs::guard;

/// Bad configuration or command line: `EX_USAGE`.
const USAGE: u8 = 64;

/// Reads the command line and does what it says. The exit code: 0; 64 for a bad configuration or command line, every problem
/// listed; 1 for anything else.
#[must_use]
pub fn main() -> ExitCode {
    guard::main_if_asked();
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            // help and version come this way too; where they can't be printed nobody reads the reason either
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let threads = std::thread::available_parallelism().map_or(2, |threads| threads.get().clamp(2, 8));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let done = match runtime {
        Ok(runtime) => {
            let done = runtime.block_on(run(cli));
            // a task left behind must not keep the process
            runtime.shutdown_background();
            done
        }
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(&chain(&*error));
            ExitCode::from(if error.is::<Problems>() { USAGE } else { 1 })
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<u8> {
    let (global, command) = cli.take_apart();
    match command {
        Command::Run { role, .. } => node::run(&global, role).await,
        Command::User(command) => users::run(&global, command).await,
        Command::Settings(command) => settings::run(&global, command).await,
        Command::Status { watch, json } => status::run(&global, watch, json).await,
        Command::Logs { follow, lines, json, level, source } => {
            logs::run(&global, follow, &logs::Shown { lines, level, source, json }).await
        }
        Command::Trigger(named) => door::act(&global, door::Verb::Run, &named).await,
        Command::Pause(named) => door::act(&global, door::Verb::Pause, &named).await,
        Command::Resume(named) => door::act(&global, door::Verb::Resume, &named).await,
        Command::Cancel(named) => door::act(&global, door::Verb::Cancel, &named).await,
        Command::Nodes { json } => nodes::list(&global, json).await,
        Command::HandOver { node, json } => nodes::hand_over(&global, node.as_deref(), json).await,
        Command::CheckConfig { file, .. } => maintenance::check_config(&global, file),
        Command::Migrate => maintenance::migrate(&global).await,
        Command::Backup { file, keep } => maintenance::backup(&global, file, keep).await,
        Command::Doctor { endpoint, key_stdin, json } => doctor::run(&global, endpoint, key_stdin, json).await,
        Command::Openapi => documents::openapi(),
        Command::ConfigDoc => documents::settings(),
        Command::Completions { shell } => documents::completions(shell),
    }
}

/// Writes a line on standard output. A reader that went away (`| head`) is no error: there is nobody to tell.
fn say(line: impl Display) {
    tell(line);
}

/// The same, for what goes on: whether anybody reads it.
fn tell(line: impl Display) -> bool {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).is_ok()
}

/// Writes a line on standard error.
fn complain(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "switchboard: {line}");
}
