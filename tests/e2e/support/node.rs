//! One process of ours: started as users start it, killed, asked to stop, started again.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::browser::{Browser, client};
use crate::support::output::Output;
use crate::support::wait::{PATIENCE, eventually, so, within};

/// The program of this build.
const PROGRAM: &str = env!("CARGO_BIN_EXE_switchboard");

/// The program, without anything of ours from the environment.
pub(crate) fn bare_command() -> Command {
    bare(Path::new(PROGRAM))
}

fn bare(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("SWITCHBOARD_")) {
            command.env_remove(name);
        }
    }
    command
}

/// How a node is started.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    program: PathBuf,
    data: PathBuf,
    config: Option<PathBuf>,
    listen: String,
    role: Option<&'static str>,
    variables: Vec<(String, String)>,
    /// Shell, run in a mount namespace of its own before the program takes its place.
    mounts: Option<String>,
    /// A process in whose network it runs.
    network: Option<u32>,
}

impl Start {
    pub(crate) fn new(data: &Path) -> Self {
        Self {
            program: PROGRAM.into(),
            data: data.to_owned(),
            config: None,
            listen: "127.0.0.1:0".to_owned(),
            role: None,
            variables: Vec::new(),
            mounts: None,
            network: None,
        }
    }

    /// With this configuration file.
    pub(crate) fn config(mut self, file: PathBuf) -> Self {
        self.config = Some(file);
        self
    }

    /// As `run --role ROLE`; otherwise without a command.
    pub(crate) fn role(mut self, role: &'static str) -> Self {
        self.role = Some(role);
        self
    }

    /// At this address; otherwise at a free port.
    pub(crate) fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = address.into();
        self
    }

    /// With this variable in its environment.
    pub(crate) fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// With this setting fixed by the environment.
    pub(crate) fn setting(self, name: &str, value: impl Into<String>) -> Self {
        let variable = switchboard::config::schema::Setting::find(name).expect("a setting").variable();
        self.variable(&variable, value)
    }

    /// With these mounts, which nobody else sees: a line of shell. See [`needs_mounts`].
    pub(crate) fn mounts(mut self, line: impl Into<String>) -> Self {
        self.mounts = Some(line.into());
        self
    }

    /// In the network of this process.
    pub(crate) fn network_of(mut self, pid: u32) -> Self {
        self.network = Some(pid);
        self
    }

    /// The command that starts it.
    pub(crate) fn command(&self) -> Command {
        let mut command = bare(&self.program);
        if let Some(line) = &self.mounts {
            let mut outer = unshare();
            outer.args(["sh", "-c", &format!("{line} && exec \"$@\""), "sh"]);
            command = around(outer, &command);
        }
        if let Some(pid) = self.network {
            let mut outer = Command::new("nsenter");
            outer.args(["--target", &pid.to_string(), "--net", "--"]);
            command = around(outer, &command);
        }
        command.arg("--data").arg(&self.data).arg("--listen").arg(&self.listen);
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        if let Some(role) = self.role {
            command.args(["run", "--role", role]);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it and waits for nothing.
    pub(crate) fn spawn(&self) -> Node {
        let began = Instant::now();
        let mut child = self
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (stdout, _) = Output::read(child.stdout.take().unwrap());
        let (stderr, _) = Output::read(child.stderr.take().unwrap());
        Node { start: self.clone(), child, stdout, stderr, began, address: None }
    }

    /// Starts it and waits until it is ready: a service node has said so, one with pages answers `/readyz`.
    pub(crate) async fn ready(&self) -> Node {
        let mut node = self.spawn();
        node.until_ready(PATIENCE).await;
        node
    }
}

/// A process of ours. Dropped: killed.
pub(crate) struct Node {
    start: Start,
    child: Child,
    /// What it writes on standard output.
    pub(crate) stdout: Output,
    /// What it writes on standard error: its log.
    pub(crate) stderr: Output,
    began: Instant,
    address: Option<SocketAddr>,
}

impl Node {
    /// Waits until it is ready; gives how long that took since the process was started.
    pub(crate) async fn until_ready(&mut self, limit: Duration) -> Duration {
        let what = "a ready node";
        let look = async || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{what}: it ended with {status}:\n{}\n{}", self.stdout.text(), self.stderr.text());
            }
            let first = self.stdout.lines().into_iter().find(|line| line.starts_with("Switchboard "))?;
            if self.start.role == Some("service") {
                return Some(None);
            }
            let (_, address) =
                first.split_once("listens on http://").unwrap_or_else(|| panic!("no address in {first:?}"));
            let address: SocketAddr = address.trim().parse().unwrap_or_else(|_| panic!("no address in {first:?}"));
            let answer = client().get(format!("http://{address}/readyz")).send().await.ok()?;
            answer.status().is_success().then_some(Some(address))
        };
        let (address, _) = within(limit, what, look).await;
        self.address = address;
        self.began.elapsed()
    }

    /// Where its pages are: `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address.expect("a node with pages that is ready")
    }

    /// Where its pages are: `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The path and query of the set-up link it printed.
    pub(crate) async fn setup_link(&self) -> String {
        let printed = self.stdout.line_with("First administrator: ", PATIENCE).await;
        let link = printed.split_whitespace().find(|word| word.starts_with("http://")).expect("an address in the line");
        link.strip_prefix(&self.url()).unwrap_or_else(|| panic!("{link} is not ours")).to_owned()
    }

    /// A browser that came through the set-up link as the first administrator.
    pub(crate) async fn administrator(&self) -> Browser {
        let mut browser = Browser::new(&self.url());
        browser.set_up(&self.setup_link().await).await;
        browser
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Asks it to stop.
    pub(crate) fn term(&self) {
        self.signal(Signal::TERM);
    }

    /// Kills it, with no chance to do anything, and waits until it is gone.
    pub(crate) fn kill9(&mut self) {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "it had ended before: {status}:\n{}", self.stderr.text());
    }

    /// Waits for its end.
    pub(crate) async fn end(&mut self, limit: Duration) -> ExitStatus {
        within(limit, "the end of the process", async || self.child.try_wait().unwrap()).await.0
    }

    /// Whether it runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Starts it again as it was started, at the same address; it must have ended.
    pub(crate) fn spawn_again(&mut self) {
        assert!(!self.runs(), "it still runs");
        let start = match self.address {
            Some(address) => self.start.clone().listen(address.to_string()),
            None => self.start.clone(),
        };
        let mut again = start.spawn();
        again.address = self.address;
        *self = again;
    }

    /// From its next start on it is this program.
    pub(crate) fn becomes(&mut self, program: &Path) {
        program.clone_into(&mut self.start.program);
    }

    /// Kills it and starts it again, without waiting until it is ready.
    pub(crate) fn restart(&mut self) {
        self.kill9();
        self.spawn_again();
    }

    /// A path as this process sees it, from outside its namespace.
    pub(crate) fn inside(&self, path: &Path) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.pid())).join(path.strip_prefix("/").unwrap())
    }

    /// Memory it holds, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process that runs");
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // both fail only if it has ended already
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let last = |output: &Output| output.lines().into_iter().rev().take(40).rev().collect::<Vec<_>>().join("\n");
            eprintln!("--- a node's output:\n{}\n--- its log:\n{}\n---", last(&self.stdout), last(&self.stderr));
        }
    }
}

/// `outer` with the program and variables of `inner`, which has no arguments yet.
fn around(mut outer: Command, inner: &Command) -> Command {
    outer.arg(inner.get_program()).args(inner.get_args());
    for (name, _) in inner.get_envs() {
        outer.env_remove(name);
    }
    outer
}

/// What runs a command in a mount namespace of its own; without root's rights, as root of a user namespace.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--mount", "--propagation", "private", "--"]);
    command
}

/// Fails the test where no mounts of one's own can be had: it would show nothing then.
pub(crate) fn needs_mounts() {
    let tried = unshare().args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]).stderr(Stdio::null()).status();
    let can = tried.is_ok_and(|status| status.success());
    assert!(can, "this test needs a mount namespace of its own (unshare --mount, as root or in a user namespace)");
}

/// Whether a process is there and not just waiting to be forgotten.
pub(crate) fn lives(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // pid (name) state …: a name may hold anything, so look behind its last bracket
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

/// Waits until a process is gone.
pub(crate) async fn gone(pid: u32) {
    eventually(&format!("the end of process {pid}"), async || so(!lives(pid))).await;
}
