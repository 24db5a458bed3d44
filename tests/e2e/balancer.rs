//! Real balancers in front of two web nodes, without affinity, with the configurations of `examples/`.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use regex::Regex;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use switchboard::base::shutdown::Shutdown;

use crate::support::browser::{Browser, PASSWORD, client};
use crate::support::node::{Node, bare_command};
use crate::support::output::Output;
use crate::support::robot::Robot;
use crate::support::socket::Socket;
use crate::support::stage::{Stage, run};
use crate::support::wait::{PATIENCE, eventually, so, within};
use crate::support::writer::Jobs;

/// Lines the job writes, numbered, and how many a second: long enough for both nodes to go away in turn.
const LINES: u64 = 2400;
const RATE: u64 = 150;

/// How long a node that is asked to stop works on.
const DRAIN: &str = "3s";

/// A program in front of the web nodes. Dropped: asked to end, and waited for.
struct Balancer {
    child: Child,
    url: String,
    log: Output,
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

/// The program, also where root's programs are not on the path.
fn program(name: &str) -> Command {
    let at = ["/usr/sbin", "/usr/bin", "/usr/local/sbin"].map(|folder| Path::new(folder).join(name));
    let found = at.into_iter().find(|file| file.exists());
    Command::new(found.unwrap_or_else(|| panic!("{name} is not installed; scripts/test installs it")))
}

fn free_address() -> String {
    // these programs take no port 0
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

impl Balancer {
    fn haproxy(_: &Stage, bind: &str, nodes: [&Node; 2]) -> Command {
        let mut command = program("haproxy");
        command.arg("-db").arg("-f").arg(example("haproxy.cfg")).env("SWITCHBOARD_BIND", bind);
        for (name, node) in ["SWITCHBOARD_WEB1", "SWITCHBOARD_WEB2"].into_iter().zip(nodes) {
            command.env(name, node.address().to_string());
        }
        command
    }

    fn nginx(stage: &Stage, bind: &str, nodes: [&Node; 2]) -> Command {
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

    async fn start(mut command: Command, bind: String) -> Self {
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
struct Visitor {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    failures: Arc<std::sync::Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Visitor {
    fn start(url: String) -> Self {
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
    async fn end(self) -> (Vec<String>, u64) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        (self.failures.lock().unwrap().clone(), self.asked.load(Ordering::Relaxed))
    }
}

/// `logs --follow` through the balancer.
struct Follower {
    child: Child,
    stdout: Output,
    stderr: Output,
}

impl Follower {
    fn start(url: &str, token: &str) -> Self {
        let mut command = bare_command();
        command
            .args(["--url", url, "logs", "--follow", "--json", "--source", "writer"])
            .env("SWITCHBOARD_TOKEN", token);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, _) = Output::read(child.stdout.take().unwrap());
        let (stderr, _) = Output::read(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// The numbers of the job's lines, as they came.
    fn numbers(&self) -> Vec<u64> {
        let pattern = Regex::new(r"line (\d+) of").unwrap();
        let lines = self.stdout.lines();
        let texts = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        texts.filter_map(|line| pattern.captures(line["message"].as_str()?)?[1].parse().ok()).collect()
    }

    async fn until(&self, number: u64) {
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

async fn balanced(command: impl Fn(&Stage, &str, [&Node; 2]) -> Command) {
    let stage = Stage::alone().await;
    let jobs = Jobs::default().writer(&stage, LINES, RATE).save(&stage);
    let service = stage.node().config(jobs).role("service").ready().await;
    let web = || stage.node().role("web").setting("Web.TrustedProxies", "127.0.0.0/8").setting("Web.DrainTime", DRAIN);
    let (mut first, mut second) = (web().ready().await, web().ready().await);
    let data = stage.data();
    let made = ["--data", data.to_str().unwrap(), "user", "add", "root", "--role", "service_admin", "--password-stdin"];
    run(bare_command().args(made), &format!("{PASSWORD}\n")).await.good();
    let token = stage.token("robot", "service_admin").await;
    for node in [&first, &second] {
        Robot::new(&node.url(), &token).until_live(PATIENCE).await;
    }
    let bind = free_address();
    let balancer = Balancer::start(command(&stage, &bind, [&first, &second]), bind).await;
    let url = balancer.url.clone();

    // a form of one node is answered by the other, and so is every page
    let mut browser = Browser::new(&url);
    let answer = browser.sign_in("root", PASSWORD).await;
    assert!((300..400).contains(&answer.status), "{} {}", answer.status, answer.text);
    for page in ["/status", "/executions", "/settings", "/nodes", "/users", "/diagnostics", "/status", "/audit"] {
        browser.page(page).await;
    }
    // who asks is whom the balancer saw, not the balancer
    let elsewhere = reqwest::Client::builder().local_address(std::net::IpAddr::from([127, 0, 0, 2])).no_proxy().build();
    let wrong = elsewhere.unwrap().post(format!("{url}/sign-in")).header("sec-fetch-site", "same-origin");
    let wrong =
        wrong.header("x-forwarded-for", "192.0.2.1").header("content-type", "application/x-www-form-urlencoded");
    let wrong = wrong.body("name=nobody&password=not-the-password").send().await.unwrap();
    assert_eq!(wrong.status().as_u16(), 401);
    let audit = Robot::new(&url, &token).get("/api/audit?action=session:refused").await;
    assert!(audit.to_string().contains("\"127.0.0.2\"") && !audit.to_string().contains("192.0.2.1"), "{audit}");

    let follower = Follower::start(&url, &token);
    let mut socket = Socket::open(&url, &browser).await;
    socket.watch_status().await;
    let pressed = browser.press("/status", "/dispatchers/writer/run").await;
    assert!((300..400).contains(&pressed.status), "{}", pressed.text);
    let running = async { while !socket.next().await.expect("it goes on").to_string().contains("data-execution") {} };
    tokio::time::timeout(PATIENCE, running).await.expect("the run is seen live");
    follower.until(100).await;

    // one is killed: whoever followed it goes on at the other
    first.kill9();
    follower.until(500).await;
    first.spawn_again();
    first.until_ready(PATIENCE).await;
    follower.until(900).await;

    // the other is asked to stop: it says so, works on, and nobody's request fails
    let visitor = Visitor::start(url.clone());
    second.term();
    let asking = client();
    let ready = format!("{}/readyz", second.url());
    eventually("a node that drains", async || {
        let answer = asking.get(&ready).send().await.ok()?;
        so(answer.status().as_u16() == 503 && answer.text().await.ok()? == "draining\n")
    })
    .await;
    let direct = asking.get(format!("{}/sign-in", second.url())).send().await.unwrap();
    assert_eq!((direct.status().as_u16(), direct.headers()["connection"].as_bytes()), (200, &b"close"[..]));
    assert_eq!(second.end(PATIENCE).await.code(), Some(0));
    follower.until(LINES).await;
    let (failures, asked) = visitor.end().await;
    assert!(failures.is_empty() && asked > 100, "{} of {asked} requests failed: {failures:?}", failures.len());

    let numbers = follower.numbers();
    let missing: Vec<u64> = (1..=LINES).filter(|number| !numbers.contains(number)).collect();
    assert!(missing.is_empty(), "lost: {missing:?}\n{}", follower.stderr.text());
    assert_eq!(numbers.len() as u64, LINES, "each once\n{}", follower.stderr.text());
    browser.page("/executions").await;
    drop(service);
}

#[tokio::test]
async fn behind_haproxy_any_node_serves_any_request_and_may_go_away() {
    balanced(Balancer::haproxy).await;
}

#[tokio::test]
async fn behind_nginx_any_node_serves_any_request_and_may_go_away() {
    balanced(Balancer::nginx).await;
}
