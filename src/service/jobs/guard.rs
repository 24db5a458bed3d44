//! The guard of one run: the process between the node and a job's command, which ends with it everything it started.
//!
//! It is our own program, started as `switchboard __guard NAME`. It adopts every process whose parent has ended (sub-reaper),
//! so that nothing the command starts can leave its tree; when the command has ended, or the node has closed its side of the
//! connection (or has died), it ends whatever is left: politely first, after [`GRACE`] for good. It ends itself when nothing is
//! left. Signals meant for the node's whole group (Ctrl-C, a service manager's SIGTERM) do not end it: the node does.

use std::collections::HashSet;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::service::jobs::order::{MAX_ORDER, Order, Told, VARIABLE, WORD};
use crate::service::jobs::processes::{self, Process};

/// How long processes that were asked to end (SIGTERM) have before they are killed (SIGKILL). Shorter than the 5 s after which a
/// cancelled run is given up.
pub const GRACE: Duration = Duration::from_secs(4);

/// How long what the command left behind may go on before it is asked to end: enough for the rest of a pipeline.
const LINGER: Duration = Duration::from_millis(500);

/// How long a node may take to say what to start.
const ORDER_LIMIT: Duration = Duration::from_secs(10);

/// When killed processes that live on are mentioned.
const STUCK_AFTER: Duration = Duration::from_secs(2);

/// Acts as a guard, and never comes back, if this process was started as one; otherwise does nothing.
///
/// A program that embeds a service node with jobs calls this first in its `main`: the guard is the same program, started once
/// more. It may be called inside or outside an async runtime.
pub fn main_if_asked() {
    if std::env::args_os().nth(1).is_some_and(|word| word == WORD) {
        // a thread of its own: a runtime can't be started within one
        let guard = std::thread::spawn(guard);
        std::process::exit(guard.join().unwrap_or(70));
    }
}

/// The whole life of a guard; gives its exit code.
fn guard() -> i32 {
    let connection = std::io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from);
    let Ok(connection) = connection.and_then(|connection| connection.local_addr().map(|_| connection)) else {
        // standard error is a person's terminal here, not a job's output
        eprintln!("switchboard: `{WORD}` is started by a service node for each run of a job, not by hand");
        return 64;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(attend(connection))) {
        Ok(()) => 0,
        // nobody to tell: the node sees the connection closed without a result
        Err(_) => 70,
    }
}

/// Starts what the node orders and stays until nothing of it is left.
async fn attend(connection: UnixStream) -> io::Result<()> {
    connection.set_nonblocking(true)?;
    let (from_node, to_node) = tokio::net::UnixStream::from_std(connection)?.into_split();
    let mut child_ended = signal(SignalKind::child())?;
    // held, so that these signals do nothing
    let _deaf =
        [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()].map(signal);
    // away from the node's terminal, and by this number the node finds what is left if this process is killed; fails only for a
    // process that is a leader already
    let _ = rustix::process::setsid();
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;

    let mut from_node = BufReader::new(from_node);
    let mut line = String::new();
    let mut bounded = (&mut from_node).take(MAX_ORDER);
    tokio::time::timeout(ORDER_LIMIT, bounded.read_line(&mut line)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let order: Order = serde_json::from_str(&line)?;
    drop(line);

    let main = match start(&order) {
        Ok(main) => main,
        Err(error) => {
            tell(&to_node, &Told::NotStarted(error.to_string()));
            return Ok(());
        }
    };
    tell(&to_node, &Told::Started);
    let mut run = Tree { main, to_node, main_lives: true, stage: Stage::Running, asked: HashSet::new() };
    let mut node_listens = true;
    loop {
        if !run.reap()? {
            return Ok(());
        }
        let pause = run.advance();
        tokio::select! {
            _ = child_ended.recv() => {}
            () = closed(&mut from_node), if node_listens => {
                node_listens = false;
                run.end();
            }
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Starts the command in a process group of its own. It is reaped in [`Tree::reap`], as is everything else.
fn start(order: &Order) -> io::Result<Pid> {
    let mut command = Command::new(&order.program);
    if let Some((name, arguments)) = order.argv.split_first() {
        command.arg0(name).args(arguments);
    }
    if let Some(directory) = &order.directory {
        command.current_dir(directory);
    }
    command.env_remove(VARIABLE).envs(&order.environment).stdin(Stdio::null()).process_group(0);
    let child = command.spawn()?;
    Ok(Pid::from_child(&child))
}

/// Comes back when the node has closed its side, or has died.
async fn closed(from_node: &mut BufReader<OwnedReadHalf>) {
    let mut unasked = [0; 64];
    while let Ok(1..) = from_node.read(&mut unasked).await {}
}

/// Tells the node, if it still listens. A few short lines always fit in the connection.
fn tell(to_node: &OwnedWriteHalf, told: &Told) {
    if let Ok(mut line) = serde_json::to_vec(told) {
        line.push(b'\n');
        let _ = to_node.try_write(&line);
    }
}

/// How far the ending of a run is.
enum Stage {
    /// The command runs.
    Running,
    /// The command has ended; what it left behind may end by itself until then.
    Lingering(Instant),
    /// Everything was asked to end, and may until then.
    Asked(Instant),
    /// Everything is killed, since then; the number of those who live on was not told yet.
    Killing(Instant, bool),
}

/// The command and all that descends from it.
struct Tree {
    main: Pid,
    to_node: OwnedWriteHalf,
    main_lives: bool,
    stage: Stage,
    /// Who was asked to end.
    asked: HashSet<Pid>,
}

impl Tree {
    /// Takes note of every child that has ended. False if there are no more, and so no descendants.
    fn reap(&mut self) -> io::Result<bool> {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.main => {
                    self.main_lives = false;
                    let told = status.terminating_signal().map(Told::Killed);
                    tell(&self.to_node, &told.unwrap_or(Told::Exited(status.exit_status().unwrap_or(-1))));
                }
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Ok(None) => return Ok(true),
                Err(rustix::io::Errno::CHILD) => {
                    // where nobody is adopted, there may be others in the group
                    if cfg!(not(target_os = "linux")) {
                        let _ = rustix::process::kill_process_group(self.main, Signal::KILL);
                    }
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The run is to end.
    fn end(&mut self) {
        if matches!(self.stage, Stage::Running | Stage::Lingering(_)) {
            self.stage = Stage::Asked(Instant::now() + GRACE);
        }
    }

    /// Does what is due, and says when to look again unless something happens before.
    fn advance(&mut self) -> Duration {
        let now = Instant::now();
        match self.stage {
            Stage::Running if self.main_lives => return Duration::from_hours(1),
            Stage::Running => self.stage = Stage::Lingering(now + LINGER),
            Stage::Lingering(until) if now >= until => {
                let left = self.living().len();
                if left > 0 {
                    tell(&self.to_node, &Told::Left(left));
                }
                self.end();
            }
            Stage::Asked(until) if now >= until => self.stage = Stage::Killing(now, true),
            _ => {}
        }
        match self.stage {
            Stage::Running => Duration::ZERO,
            Stage::Lingering(until) => until.saturating_duration_since(now),
            Stage::Asked(until) => {
                self.ask();
                until.saturating_duration_since(now).min(Duration::from_millis(50))
            }
            Stage::Killing(since, untold) => {
                let left = self.kill();
                if left > 0 && untold && now - since >= STUCK_AFTER {
                    tell(&self.to_node, &Told::Stuck(left));
                    self.stage = Stage::Killing(since, false);
                }
                // what can't be killed after a while is not worth a busy machine
                Duration::from_millis(if now - since < STUCK_AFTER { 5 } else { 500 })
            }
        }
    }

    fn living(&self) -> Vec<Process> {
        let mut living = processes::descendants_of(rustix::process::getpid());
        if living.is_empty() && self.main_lives {
            // where processes are not listed, the command is known all the same
            living.push(Process { pid: self.main, group: self.main.as_raw_nonzero().get() });
        }
        living
    }

    /// Asks everyone once to end, and wakes those that were stopped, or they could not.
    fn ask(&mut self) {
        for process in self.living() {
            if self.asked.insert(process.pid) {
                let _ = rustix::process::kill_process(process.pid, Signal::TERM);
                let _ = rustix::process::kill_process(process.pid, Signal::CONT);
            }
        }
    }

    /// Kills everyone, and whoever they started meanwhile. Says how many there were at the end.
    fn kill(&mut self) -> usize {
        let mut killed = HashSet::new();
        // bounded, so that the node is still heard
        for _ in 0..50 {
            let living = self.living();
            if living.iter().any(|process| process.group == self.main.as_raw_nonzero().get()) {
                // the whole group in one step, which nobody escapes by forking
                let _ = rustix::process::kill_process_group(self.main, Signal::KILL);
            }
            let mut fresh = false;
            for process in &living {
                fresh |= killed.insert(process.pid);
                let _ = rustix::process::kill_process(process.pid, Signal::KILL);
            }
            if !fresh {
                return living.len();
            }
        }
        killed.len()
    }
}
