//! A job that runs a program: its lines are the log, its exit code is the verdict, and nothing it started outlives the run.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, ChildStderr, ChildStdout};
use tokio_util::sync::CancellationToken;

use crate::config::program;
use crate::model::log_entry::{Level, Stream};
use crate::service::dispatcher::{Definition, Dispatcher, Run, Verdict};
use crate::service::jobs::host::Host;
use crate::service::jobs::lines::{Lines, Piece};
use crate::service::jobs::order::{Order, Told, VARIABLE, WORD};
use crate::service::jobs::processes;

/// How long a guard may take to say that it has started the command.
const START_LIMIT: Duration = Duration::from_secs(10);

/// How long output may still come when nothing is left that could write it (a pipe was handed on to a stranger).
const DRAIN: Duration = Duration::from_secs(2);

/// The longest text of a progress line, and the longest line repeated in a verdict, in characters.
const SHORT: usize = 200;

/// A job that runs a program.
#[derive(Debug)]
pub(crate) struct Command {
    /// What it is.
    pub(crate) definition: Definition,
    /// The program and its arguments; never empty.
    pub(crate) argv: Vec<String>,
    /// Where it runs.
    pub(crate) directory: Option<PathBuf>,
    /// Variables set besides those of the node.
    pub(crate) environment: BTreeMap<String, String>,
    /// Exit codes that mean success.
    pub(crate) success: Vec<i32>,
    /// Exit codes that mean "look at it".
    pub(crate) warning: Vec<i32>,
    /// What every job is started with.
    pub(crate) host: Host,
}

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    /// It never ran.
    NotStarted(String),
    /// With an exit code.
    Exited(i32),
    /// By a signal.
    Killed(i32),
    /// Its guard said nothing at all.
    Silent,
    /// Its guard was ended; nobody knows.
    Lost,
}

#[async_trait]
impl Dispatcher for Command {
    fn definition(&self) -> Definition {
        self.definition.clone()
    }

    async fn run_once(&self, run: &Run) -> Verdict {
        if std::env::var_os(VARIABLE).is_some() {
            // else every job would start the whole program again, and that its jobs
            return Verdict::error(
                "this program was started as the guard of a job and did not act as one: call service::jobs::guard::main_if_asked() first in its main",
            );
        }
        let order = match self.order(run) {
            Ok(order) => order,
            Err(reason) => return Verdict::error(format!("could not be started: {reason}")),
        };
        let (mut guard, connection) = match self.start_guard(run) {
            Ok(started) => started,
            Err(error) => {
                return Verdict::error(format!(
                    "could not be started: the guard {} does not start: {error}",
                    self.host.program.display()
                ));
            }
        };
        let (Some(stdout), Some(stderr)) = (guard.stdout.take(), guard.stderr.take()) else {
            return Verdict::error("could not be started: the guard has no output");
        };
        let session = guard.id().and_then(|pid| i32::try_from(pid).ok());
        let last_words = LastWords::default();
        let all_ended = CancellationToken::new();
        let (ending, ()) = tokio::join!(
            async {
                let ending = converse(connection, &order, run).await;
                // a guard that has said all has nothing left to do
                let status = tokio::time::timeout(START_LIMIT, guard.wait()).await;
                if status.is_err() {
                    let _ = guard.start_kill();
                }
                let ending = match (ending, status) {
                    (Ending::Silent, Ok(Ok(status))) if status.signal().is_some() => Ending::Lost,
                    (ending, _) => ending,
                };
                if ending == Ending::Lost {
                    kill_session(session).await;
                }
                all_ended.cancel();
                ending
            },
            async {
                let reading = async {
                    tokio::join!(read_stdout(stdout, run, &last_words), read_stderr(stderr, run, &last_words))
                };
                tokio::select! {
                    _ = reading => {}
                    () = async { all_ended.cancelled().await; tokio::time::sleep(DRAIN).await } => {}
                }
            }
        );
        self.judge(&ending, &last_words)
    }
}

impl Command {
    /// What the guard is to start.
    fn order(&self, run: &Run) -> Result<Vec<u8>, String> {
        let mut environment = self.host.environment.clone();
        environment.extend(self.environment.clone());
        environment.insert("SWITCHBOARD_EXECUTION".to_owned(), run.execution.to_string());
        environment.insert("SWITCHBOARD_DISPATCHER".to_owned(), run.dispatcher.clone());
        let name = self.argv.first().map_or("", String::as_str);
        let program = if name == program::OWN {
            self.host.program.clone()
        } else {
            let path = environment.get("PATH").map(OsString::from).or_else(|| std::env::var_os("PATH"));
            let found = program::find(name, self.directory.as_deref(), path).map_err(|missing| missing.to_string())?;
            // the guard starts it from the job's directory
            std::path::absolute(found).map_err(|error| error.to_string())?
        };
        let order = Order { program, argv: self.argv.clone(), directory: self.directory.clone(), environment };
        let mut line = serde_json::to_vec(&order).map_err(|error| error.to_string())?;
        line.push(b'\n');
        Ok(line)
    }

    /// Starts a guard; its standard input is the connection to it, its two outputs are those of the command.
    fn start_guard(&self, run: &Run) -> io::Result<(Child, UnixStream)> {
        let (ours, its) = std::os::unix::net::UnixStream::pair()?;
        let mut command = std::process::Command::new(&self.host.program);
        command.arg0(program::OWN).arg(WORD).arg(&run.dispatcher);
        for (name, _) in std::env::vars_os() {
            // what is the node's own business, its secrets among it
            if name.to_string_lossy().starts_with("SWITCHBOARD_") {
                command.env_remove(name);
            }
        }
        command.env(VARIABLE, "1").stdin(OwnedFd::from(its)).stdout(Stdio::piped()).stderr(Stdio::piped());
        let guard = tokio::process::Command::from(command).spawn()?;
        ours.set_nonblocking(true)?;
        Ok((guard, UnixStream::from_std(ours)?))
    }

    fn judge(&self, ending: &Ending, last_words: &LastWords) -> Verdict {
        match ending {
            Ending::Exited(code) if self.success.contains(code) => {
                Verdict::normal((*code != 0).then(|| format!("exit code {code}")))
            }
            Ending::Exited(code) if self.warning.contains(code) => {
                Verdict::warning(last_words.after(format!("exit code {code}")))
            }
            Ending::Exited(code) => Verdict::error(last_words.after(format!("exit code {code}"))),
            Ending::Killed(signal) => Verdict::error(last_words.after(match signal_name(*signal) {
                Some(name) => format!("killed by signal {signal} ({name})"),
                None => format!("killed by signal {signal}"),
            })),
            Ending::NotStarted(reason) => Verdict::error(format!("could not be started: {reason}")),
            Ending::Silent => Verdict::error(format!(
                "could not be started: {} does not act as a guard; a program that embeds a service node calls service::jobs::guard::main_if_asked() first in its main",
                self.host.program.display()
            )),
            Ending::Lost => Verdict::error(
                "its guard process was ended from outside, so nobody knows how it ended; what was still in its session was killed",
            ),
        }
    }
}

/// Talks to the guard until that has nothing more to say, and so until nothing of the run is left.
async fn converse(connection: UnixStream, order: &[u8], run: &Run) -> Ending {
    let (from_guard, mut to_guard) = connection.into_split();
    let mut from_guard = BufReader::new(from_guard);
    let first = async {
        to_guard.write_all(order).await?;
        next(&mut from_guard).await
    };
    match tokio::time::timeout(START_LIMIT, first).await {
        Ok(Ok(Some(Told::Started))) => {}
        Ok(Ok(Some(Told::NotStarted(reason)))) => return Ending::NotStarted(reason),
        _ => return Ending::Silent,
    }
    let mut to_guard: Option<OwnedWriteHalf> = Some(to_guard);
    let mut ending = None;
    loop {
        let told = tokio::select! {
            told = next(&mut from_guard) => told,
            () = run.cancelled(), if to_guard.is_some() => {
                // closing our side is the word to end everything
                if let Some(mut to_guard) = to_guard.take() {
                    let _ = to_guard.shutdown().await;
                }
                continue;
            }
        };
        match told {
            Ok(Some(Told::Exited(code))) => ending = Some(Ending::Exited(code)),
            Ok(Some(Told::Killed(signal))) => ending = Some(Ending::Killed(signal)),
            Ok(Some(Told::Left(count))) => {
                let processes = if count == 1 { "1 process" } else { &format!("{count} processes") };
                run.log(Level::Warn, &format!("the command has ended and left {processes} behind, ended now"));
            }
            Ok(Some(Told::Stuck(count))) => {
                run.log(Level::Warn, &format!("{count} killed process(es) do not end; the run waits for them"));
            }
            Ok(Some(Told::Started | Told::NotStarted(_))) => {}
            Ok(None) | Err(_) => break,
        }
    }
    ending.unwrap_or(Ending::Lost)
}

/// Kills what a guard that was killed itself has left: everything in its session, which has its number.
async fn kill_session(session: Option<i32>) {
    let Some(session) = session else { return };
    // killed processes are gone within a moment; what isn't can't be killed
    for _ in 0..100 {
        let living = processes::of_session(session);
        if living.is_empty() {
            return;
        }
        for process in living {
            let _ = rustix::process::kill_process(process.pid, Signal::KILL);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What the guard says next; none when it has closed its side. Nothing is lost if it is dropped before it comes back.
async fn next(from_guard: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<Told>> {
    let buffered = from_guard.fill_buf().await?;
    if buffered.is_empty() {
        return Ok(None);
    }
    // the guard writes each line, far shorter than the buffer, in one piece
    let end = buffered.iter().position(|byte| *byte == b'\n').ok_or(io::ErrorKind::InvalidData)?;
    let told = serde_json::from_slice(&buffered[..end]);
    from_guard.consume(end + 1);
    Ok(Some(told?))
}

async fn read_stdout(stdout: ChildStdout, run: &Run, last_words: &LastWords) {
    read(stdout, |piece| {
        if let Some((done, total, text)) = progress(piece) {
            run.progress(done, total, text);
        } else {
            last_words.note(Stream::Stdout, piece.text);
            run.output(Level::Info, Stream::Stdout, piece.text);
        }
    })
    .await;
}

async fn read_stderr(stderr: ChildStderr, run: &Run, last_words: &LastWords) {
    read(stderr, |piece| {
        last_words.note(Stream::Stderr, piece.text);
        run.output(Level::Info, Stream::Stderr, piece.text);
    })
    .await;
}

async fn read(mut from: impl AsyncRead + Unpin, mut each: impl FnMut(Piece<'_>)) {
    let mut lines = Lines::default();
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        lines.feed(&bytes[..count], &mut each);
    }
    lines.end(&mut each);
}

/// Reads `::progress 3/10 indexing`. Anything else, also what only begins so, is an ordinary line.
fn progress(piece: Piece<'_>) -> Option<(u64, u64, Option<String>)> {
    let rest = piece.text.strip_prefix("::progress ").filter(|_| piece.whole)?.trim();
    let (steps, text) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let (done, total) = steps.split_once('/')?;
    let (done, total) = (done.parse().ok()?, total.parse().ok()?);
    let text: String = text.trim().chars().take(SHORT).collect();
    (total > 0).then_some((done, total, (!text.is_empty()).then_some(text)))
}

/// The last line of each output that says something: the reason of a failure most often stands there.
#[derive(Debug, Default)]
struct LastWords {
    /// Standard error's and standard output's.
    lines: Mutex<[String; 2]>,
}

impl LastWords {
    fn note(&self, stream: Stream, text: &str) {
        let text = text.trim();
        if !text.is_empty() {
            let mut lines = self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let line = &mut lines[usize::from(stream == Stream::Stdout)];
            line.clear();
            line.extend(text.chars().take(SHORT));
        }
    }

    /// `what`, followed by the last line of standard error, or else of standard output.
    fn after(&self, what: String) -> String {
        let lines = self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match lines.iter().find(|line| !line.is_empty()) {
            Some(line) => format!("{what}: {line}"),
            None => what,
        }
    }
}

fn signal_name(number: i32) -> Option<&'static str> {
    [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::ILL, "SIGILL"),
        (Signal::TRAP, "SIGTRAP"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::USR1, "SIGUSR1"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::USR2, "SIGUSR2"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::TERM, "SIGTERM"),
        (Signal::XCPU, "SIGXCPU"),
        (Signal::XFSZ, "SIGXFSZ"),
        (Signal::SYS, "SIGSYS"),
    ]
    .into_iter()
    .find(|(signal, _)| signal.as_raw() == number)
    .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_a_line_of_its_own_form() {
        let read = |text| progress(Piece { text, whole: true });
        assert_eq!(read("::progress 3/10 indexing the rest"), Some((3, 10, Some("indexing the rest".to_owned()))));
        assert_eq!(read("::progress 3/10"), Some((3, 10, None)));
        assert_eq!(read("::progress  0/1  "), Some((0, 1, None)));
        for line in [
            "progress 3/10",
            " ::progress 3/10",
            "::progress",
            "::progress 3",
            "::progress 3/0",
            "::progress -1/3",
            "::progress 1/x",
            "::progress 99999999999999999999/1",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
        assert_eq!(progress(Piece { text: "::progress 1/2", whole: false }), None, "a piece of a longer line");
        let long = format!("::progress 1/2 {}", "ä".repeat(1000));
        assert_eq!(read(&long).unwrap().2.unwrap().chars().count(), SHORT);
    }

    #[test]
    fn the_reason_of_a_failure_is_the_last_that_was_said() {
        let words = LastWords::default();
        assert_eq!(words.after("exit code 1".into()), "exit code 1");
        words.note(Stream::Stdout, "copying");
        assert_eq!(words.after("exit code 1".into()), "exit code 1: copying");
        words.note(Stream::Stderr, "no such file\r");
        words.note(Stream::Stderr, "  ");
        assert_eq!(words.after("exit code 1".into()), "exit code 1: no such file");
    }

    #[test]
    fn signals_have_names() {
        assert_eq!((signal_name(9), signal_name(15), signal_name(64)), (Some("SIGKILL"), Some("SIGTERM"), None));
    }
}
