//! Real balancers in front of web nodes, and who asks through them: a visitor, and `logs --follow`.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use switchboard::base::shutdown::Shutdown;

use crate::support::browser::client;
use crate::support::node::{Node, bare_command};
use crate::support::output::Output;
use crate::support::stage::Stage;
use crate::support::wait::{PATIENCE, eventually, so, within};

/// A program in front of the web nodes. Dropped: asked to end, and waited for.
pub(crate) struct Balancer {
    child: Child,
    pub(crate) url: String,
    log: Output,
}

/// In which header the balancer says which web node answered: `web1`.
const ANSWERED_BY: &str = "x-answered-by";

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

/// The program, also where root's programs are not on the path.
fn program(name: &str) -> Command {
    let at = ["/usr/sbin", "/usr/bin", "/usr/local/sbin"].map(|folder| Path::new(folder).join(name));
    let found = at.into_iter().find(|file| file.exists());
    Command::new(found.unwrap_or_else(|| panic!("{name} is not installed; scripts/test installs it")))
}

pub(crate) fn free_address() -> String {
    // these programs take no port 0
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

impl Balancer {
    /// `examples/haproxy.cfg`, with as many servers as there are nodes.
    pub(crate) fn haproxy(stage: &Stage, bind: &str, nodes: &[&Node]) -> Command {
        let mut text = std::fs::read_to_string(example("haproxy.cfg")).unwrap();
        for number in 3..=nodes.len() {
            writeln!(text, "    server web{number} \"${{SWITCHBOARD_WEB{number}}}\"").unwrap();
        }
        writeln!(text, "    http-response set-header {ANSWERED_BY} %s").unwrap();
        let mut command = program("haproxy");
        command.arg("-db").arg("-f").arg(stage.write("haproxy.cfg", &text)).env("SWITCHBOARD_BIND", bind);
        for (number, node) in (1..).zip(nodes) {
            command.env(format!("SWITCHBOARD_WEB{number}"), node.address().to_string());
        }
        command
    }

    /// `examples/nginx.conf`, for two nodes.
    pub(crate) fn nginx(stage: &Stage, bind: &str, nodes: &[&Node]) -> Command {
        let text = std::fs::read_to_string(example("nginx.conf")).unwrap();
        let folder = stage.path("nginx");
        std::fs::create_dir(&folder).unwrap();
        let text = text
            .replace("@BIND@", bind)
            .replace("@WEB1@", &nodes[0].address().to_string())
            .replace("@WEB2@", &nodes[1].address().to_string())
            .replace("@RUN@", folder.to_str().unwrap());
        let file = stage.write("nginx.conf", &text);
        let mut command = program("nginx");
        command.arg("-c").arg(file).args(["-e", "stderr", "-g", "daemon off;"]);
        command
    }

    /// Starts it and waits until it answers.
    pub(crate) async fn start(mut command: Command, bind: String) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (log, _) = Output::read(child.stderr.take().unwrap());
        let balancer = Self { child, url: format!("http://{bind}"), log };
        let asking = client();
        eventually("a balancer that answers", async || {
            let answer = asking.get(format!("{}/sign-in", balancer.url)).send().await.ok()?;
            so(answer.status().is_success())
        })
        .await;
        balancer
    }

    /// Waits until it asks the web node of this number, counted from one: `haproxy` only.
    pub(crate) async fn until_asks(&self, number: usize) {
        let (asking, name) = (client(), format!("web{number}"));
        eventually(&format!("{name} among those that are asked"), async || {
            let answer = asking.get(format!("{}/sign-in", self.url)).send().await.ok()?;
            so(answer.headers().get(ANSWERED_BY)? == name.as_str())
        })
        .await;
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // both end their own workers
        let _ = kill_process(Pid::from_raw(self.child.id().cast_signed()).unwrap(), Signal::TERM);
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the balancer's log:\n{}\n---", self.log.text());
        }
    }
}

/// Asks for a page again and again; counts those that were not answered well.
pub(crate) struct Visitor {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    failures: Arc<std::sync::Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Visitor {
    pub(crate) fn start(url: String) -> Self {
        let (stop, asked, failures) = (Arc::default(), Arc::default(), Arc::default());
        let mine: (Arc<AtomicBool>, Arc<AtomicU64>, Arc<std::sync::Mutex<Vec<String>>>) =
            (Arc::clone(&stop), Arc::clone(&asked), Arc::clone(&failures));
        let task = Shutdown::new().spawn("visitor", async move {
            let asking = client();
            while !mine.0.load(Ordering::Relaxed) {
                let said = match asking.get(format!("{url}/sign-in")).send().await {
                    Ok(answer) if answer.status().is_success() => answer.text().await.err().map(|e| e.to_string()),
                    Ok(answer) => Some(answer.status().to_string()),
                    Err(error) => Some(format!("{error:?}")),
                };
                mine.1.fetch_add(1, Ordering::Relaxed);
                mine.2.lock().unwrap().extend(said);
            }
        });
        Self { stop, asked, failures, task }
    }

    /// What went wrong, and how often it asked.
    pub(crate) async fn end(self) -> (Vec<String>, u64) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        (self.failures.lock().unwrap().clone(), self.asked.load(Ordering::Relaxed))
    }
}

/// `logs --follow` through the balancer.
pub(crate) struct Follower {
    child: Child,
    stdout: Output,
    pub(crate) stderr: Output,
}

impl Follower {
    /// Of this source.
    pub(crate) fn start(url: &str, token: &str, source: &str) -> Self {
        let mut command = bare_command();
        command.args(["--url", url, "logs", "--follow", "--json", "--source", source]).env("SWITCHBOARD_TOKEN", token);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, _) = Output::read(child.stdout.take().unwrap());
        let (stderr, _) = Output::read(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// What the job wrote, as it came.
    pub(crate) fn texts(&self) -> Vec<String> {
        let lines = self.stdout.lines();
        let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter_map(|line| Some(line["message"].as_str()?.to_owned())).collect()
    }

    /// The numbers of the job's lines, as they came.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.texts().iter().filter_map(|text| number(text)).collect()
    }

    /// Waits for this line or a later one.
    pub(crate) async fn until(&self, number: u64) {
        let what = format!("line {number}");
        let what = format!("{what}; until now {:?}, {}", self.numbers().last(), self.stderr.text());
        within(PATIENCE * 2, &what, async || so(self.numbers().last().is_some_and(|last| *last >= number))).await;
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number in `line NUMBER of …`.
pub(crate) fn number(text: &str) -> Option<u64> {
    text.strip_prefix("line ")?.split(' ').next()?.parse().ok()
}
