//! A test's own place: a folder with a data directory in it, and its turn on the machine.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::support::node::{Start, bare_command};
use crate::support::output::Output;
use crate::support::robot::Robot;
use crate::support::wait::{PATIENCE, within};

/// Tests that measure time run alone; the others beside each other.
static TURNS: RwLock<()> = RwLock::const_new(());

enum Turn {
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

/// A test's own place.
pub(crate) struct Stage {
    folder: TempDir,
    _turn: Turn,
}

/// A command that has ended.
pub(crate) struct Done {
    /// Its exit code; none if a signal ended it.
    pub(crate) code: Option<i32>,
    /// What it wrote on standard output.
    pub(crate) stdout: String,
    /// What it wrote on standard error.
    pub(crate) stderr: String,
}

impl Done {
    /// Its standard output, if it went well.
    pub(crate) fn good(self) -> String {
        assert_eq!(self.code, Some(0), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self.stdout
    }
}

impl Stage {
    /// A place for a test that measures nothing.
    pub(crate) async fn new() -> Self {
        Self::with(Turn::Shared { _guard: TURNS.read().await })
    }

    /// A place for a test that measures time: no other test runs meanwhile.
    pub(crate) async fn alone() -> Self {
        Self::with(Turn::Alone { _guard: TURNS.write().await })
    }

    fn with(turn: Turn) -> Self {
        // reqwest is built without a choice of cipher library; the first test of the process makes it
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { folder: TempDir::with_prefix("sb-").unwrap(), _turn: turn }
    }

    /// A path in this test's folder.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The data directory; the program makes it.
    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Where the local pipe of the data directory is.
    pub(crate) fn pipe(&self) -> PathBuf {
        use switchboard::messenger::endpoint::Endpoint;
        match Endpoint::from_setting("", &self.data()) {
            Endpoint::Pipe(path) => path,
            other => panic!("an empty setting is a pipe, not {other}"),
        }
    }

    /// Writes a file into this test's folder.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A node over the data directory, not started yet.
    pub(crate) fn node(&self) -> Start {
        Start::new(&self.data())
    }

    /// Runs a command of the program to its end, at most [`PATIENCE`].
    pub(crate) async fn run(&self, arguments: &[&str]) -> Done {
        let data = self.data();
        let mut all = vec!["--data", data.to_str().unwrap()];
        all.extend(arguments);
        run(bare_command().args(all), "").await
    }

    /// Makes a user with a token, by the command line, as a script would.
    pub(crate) async fn token(&self, name: &str, role: &str) -> String {
        let printed = self.run(&["user", "add", name, "--role", role, "--token"]).await.good();
        let token = printed.trim_end().to_owned();
        assert!(token.len() >= 32 && !token.contains(char::is_whitespace), "not a token alone: {printed:?}");
        token
    }

    /// A script that may do everything on the node at this address.
    pub(crate) async fn robot(&self, base: &str) -> Robot {
        Robot::new(base, &self.token("robot", "service_admin").await)
    }
}

/// Runs a command to its end, with this text on its standard input.
pub(crate) async fn run(command: &mut Command, input: &str) -> Done {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().unwrap();
    // a program that does not read its input closes it
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let (stdout, out) = Output::read(child.stdout.take().unwrap());
    let (stderr, err) = Output::read(child.stderr.take().unwrap());
    let what = format!("the end of {command:?}");
    let ended = tokio::time::timeout(PATIENCE, within(PATIENCE, &what, async || child.try_wait().unwrap())).await;
    let Ok((status, _)) = ended else {
        let _ = child.kill();
        panic!("{what}: not within {PATIENCE:?}; {}{}", stdout.text(), stderr.text());
    };
    out.join().unwrap();
    err.join().unwrap();
    Done { code: status.code(), stdout: stdout.text(), stderr: stderr.text() }
}
