//! What nodes cost as processes of their own: the shipped program, started as users start it, watched from outside.
//!
//! `scripts/bench-nodes` starts PostgreSQL and runs everything; `cargo bench --bench nodes -- idle` (`cost`, `viewers`, `tls`) runs a part,
//! on SQLite where no server is named. Prints Markdown. Whatever is measured shares the machine with what measures.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints its figures, or panics")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "../tests/shared/postgres.rs"]
mod postgres;
#[path = "../tests/e2e/support/mod.rs"]
#[expect(dead_code, reason = "tests need more of it")]
mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream as Blocking};
use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use switchboard::base::shutdown::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use self::postgres::TestDatabase;
use self::support::node::{Node, Start, bare_command};
use self::support::robot::Robot;
use self::support::stage::{Stage, run};
use self::support::wait::{PATIENCE, percentile, wall_micros};
use self::support::writer::Jobs;

/// Lines a second of the job.
const RATE: u64 = 500;

/// How long a measurement of the cost of nodes lasts, after the job has run for [`WARM`].
const WINDOW: Duration = Duration::from_secs(15);
const WARM: Duration = Duration::from_secs(3);

/// Viewers of the large measurement, over so many web nodes, for so long.
const VIEWERS: usize = 1000;
const WEB_NODES: usize = 3;
const WATCHED_SECONDS: u64 = 20;

/// A user has 50 tabs at most, so several users are needed.
const PER_USER: usize = 40;

/// Of each viewer's lines every so-manieth tells its delay; all are counted.
const SAMPLED: u64 = 10;

/// A page acknowledges what it has so often, or after so many lines.
const ACKNOWLEDGED_EVERY: Duration = Duration::from_millis(250);
const ACKNOWLEDGED_LINES: u64 = 500;

/// Idle viewers of a node with and without TLS.
const SEALED_VIEWERS: usize = 400;

/// How long an idle node is looked at.
const IDLE: Duration = Duration::from_mins(1);

/// Starts of which the median is told.
const STARTS: usize = 9;

type Wire<S = TcpStream> = WebSocketStream<S>;

#[tokio::main(flavor = "multi_thread")]
async fn main() {
    raise_open_files();
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wants = |part: &str| chosen.is_empty() || chosen.iter().any(|word| word == part);
    println!("Load average before: {}.\n", load());
    if wants("idle") {
        idle().await;
    }
    if wants("cost") {
        cost().await;
    }
    if wants("viewers") {
        viewers().await;
    }
    if wants("tls") {
        tls().await;
    }
    println!("Load average after: {}.", load());
}

/// A thousand viewers are a thousand sockets on either side.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap().split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// What a process had of the processors so far. Its children are not in it.
fn cpu(node: &Node) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", node.pid())).unwrap();
    // pid (name) state …: user and system time are the 14th and 15th, in hundredths of a second
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    let ticks: u64 = rest.split(' ').skip(11).take(2).map(|word| word.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

fn percent(used: Duration, of: Duration) -> f64 {
    used.as_secs_f64() / of.as_secs_f64() * 100.0
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A service node and web nodes of one database and one data directory, linked by TCP.
struct Cluster {
    stage: Stage,
    database: Option<TestDatabase>,
    port: u16,
    service: Node,
    web: Vec<Node>,
    robot: Robot,
    /// The viewers are spawned through it.
    tasks: Shutdown,
}

impl Cluster {
    /// Its job `writer` writes so many lines, when told.
    async fn start(web_nodes: usize, lines: u64) -> Self {
        let stage = Stage::alone().await;
        let on_postgres = std::env::var_os("SWITCHBOARD_TEST_POSTGRES").is_some();
        let database = if on_postgres { Some(TestDatabase::new().await) } else { None };
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = Jobs::default().writer(&stage, lines, RATE).save(&stage);
        let node = |role| {
            let start = stage.node().role(role).setting("Service.MessengerEndpoint", format!("tcp://127.0.0.1:{port}"));
            on(start, database.as_ref())
        };
        let service = node("service").config(config).ready().await;
        let mut web = Vec::new();
        for _ in 0..web_nodes {
            web.push(node("web").ready().await);
        }
        let token = token(&stage, database.as_ref(), "robot", "service_admin").await;
        let robot = Robot::new(&web[0].url(), &token);
        for node in &web {
            robot.at(&node.url()).until_live(PATIENCE).await;
        }
        Self { stage, database, port, service, web, robot, tasks: Shutdown::new() }
    }

    async fn viewer_tokens(&self, count: usize) -> Vec<String> {
        let mut tokens = Vec::new();
        for n in 0..count {
            tokens.push(token(&self.stage, self.database.as_ref(), &format!("viewer-{n}"), "admin_viewer").await);
        }
        tokens
    }

    fn kind(&self) -> &'static str {
        if self.database.is_some() { "PostgreSQL" } else { "SQLite" }
    }

    fn web_cpu(&self) -> Duration {
        self.web.iter().map(cpu).sum()
    }

    fn web_memory(&self) -> u64 {
        self.web.iter().map(Node::memory).sum()
    }

    /// Bytes the service node sent over all links; none where nobody can say.
    fn sent(&self) -> Option<u64> {
        let output = Command::new("ss").args(["-tinH", &format!("sport = :{}", self.port)]).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let sent = text.split_whitespace().filter_map(|word| word.strip_prefix("bytes_sent:")?.parse::<u64>().ok());
        Some(sent.sum())
    }
}

fn on(start: Start, database: Option<&TestDatabase>) -> Start {
    match database {
        Some(database) => start.variable("SWITCHBOARD_DATABASE", database.url()),
        None => start,
    }
}

/// A new user's token, by the command line.
async fn token(stage: &Stage, database: Option<&TestDatabase>, name: &str, role: &str) -> String {
    let mut command = bare_command();
    if let Some(database) = database {
        command.env("SWITCHBOARD_DATABASE", database.url());
    }
    command.arg("--data").arg(stage.data()).args(["user", "add", name, "--role", role, "--token"]);
    run(&mut command, "").await.good().trim_end().to_owned()
}

/// A tab that follows the status.
async fn open(address: SocketAddr, token: &str) -> Wire {
    let socket = TcpStream::connect(address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    open_on(socket, address, token).await
}

/// The same over TLS.
async fn open_sealed(address: SocketAddr, token: &str, by: &TlsConnector) -> Wire<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let name = ServerName::from(address.ip());
    open_on(by.connect(name, socket).await.unwrap(), address, token).await
}

async fn open_on<S: AsyncRead + AsyncWrite + Unpin>(socket: S, address: SocketAddr, token: &str) -> Wire<S> {
    let mut request = format!("ws://{address}/status/live").into_client_request().unwrap();
    request.headers_mut().insert("x-api-key", token.parse().unwrap());
    let small = WebSocketConfig::default().read_buffer_size(16 << 10);
    let (mut wire, _) = client_async_with_config(request, socket, Some(small)).await.unwrap();
    say(&mut wire, &json!({ "t": "hello", "v": 1 })).await;
    say(&mut wire, &json!({ "t": "sub", "topic": "status" })).await;
    until(&mut wire, r#""t":"snapshot""#).await;
    wire
}

/// Follows the job's lines, too.
async fn follow(wire: &mut Wire) {
    say(wire, &json!({ "t": "sub", "topic": "log", "sources": ["writer"] })).await;
    until(wire, r#""t":"log""#).await;
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(wire: &mut Wire<S>, message: &Value) {
    wire.send(Message::text(message.to_string())).await.unwrap();
}

async fn until<S: AsyncRead + AsyncWrite + Unpin>(wire: &mut Wire<S>, part: &str) {
    let found = async {
        loop {
            let message = wire.next().await.expect("an open socket").unwrap();
            if message.to_text().is_ok_and(|text| text.contains(part)) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("no message with {part}"));
}

/// What a viewer saw of the job's lines.
#[derive(Default)]
struct Seen {
    lines: u64,
    /// Lines that did not come, or not in their place.
    missed: u64,
    /// In microseconds, from the job's `printf` to here.
    delays: Vec<i64>,
}

/// Reads until the job's last line; acknowledges as often as pages do. Looks at the text alone: a thousand readers of JSON would leave
/// the nodes nothing of the machine.
async fn watch(mut wire: Wire, last: u64) -> Seen {
    let mut seen = Seen::default();
    let mut expected = 1;
    let mut acknowledged = (Instant::now(), 0);
    while expected <= last {
        let message = tokio::time::timeout(PATIENCE, wire.next()).await.expect("a ping at least");
        let Message::Text(text) = message.expect("an open socket").unwrap() else { continue };
        let now = wall_micros();
        for (at, _) in text.match_indices("\"line ") {
            // "line N of TOTAL at MICROSECONDS"
            let mut words = text[at..].split(['"', ' ']).skip(2);
            let Some(number) = words.next().and_then(|word| word.parse::<u64>().ok()) else { continue };
            let written = words.nth(3).and_then(|word| word.parse::<i64>().ok());
            seen.lines += 1;
            seen.missed += number.abs_diff(expected);
            expected = number + 1;
            if number % SAMPLED == 0 {
                seen.delays.extend(written.map(|written| now - written));
            }
        }
        if let Some((_, rest)) = text.split_once(r#""next":"#) {
            let next = rest.split(',').next().unwrap();
            if acknowledged.0.elapsed() < ACKNOWLEDGED_EVERY && seen.lines - acknowledged.1 < ACKNOWLEDGED_LINES {
                continue;
            }
            acknowledged = (Instant::now(), seen.lines);
            wire.send(Message::text(format!(r#"{{"t":"ack","seq":{next}}}"#))).await.unwrap();
        }
    }
    seen
}

async fn all_seen(viewers: Vec<JoinHandle<Seen>>) -> Seen {
    let mut all = Seen::default();
    for viewer in viewers {
        let seen = viewer.await.unwrap();
        all.lines += seen.lines;
        all.missed += seen.missed;
        all.delays.extend(seen.delays);
    }
    all
}

/// One node that does nothing: `all` on an empty data directory.
async fn idle() {
    let mut started = Vec::new();
    for _ in 0..STARTS {
        started.push(start_to_ready().await);
    }
    started.sort_unstable();
    let program = std::fs::metadata(env!("CARGO_BIN_EXE_switchboard")).unwrap().len();
    let stage = Stage::alone().await;
    let node = stage.node().ready().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (before, began) = (cpu(&node), Instant::now());
    tokio::time::sleep(IDLE).await;
    let used = percent(cpu(&node).saturating_sub(before), began.elapsed());
    println!("One node, role `all`, SQLite, empty data directory, no jobs, nobody watching:\n");
    println!("| | here | goal |\n|---|---|---|");
    println!(
        "| start of the process to ready, median of {STARTS} | {:.3} s | ≤ 0.5 s |",
        started[STARTS / 2].as_secs_f64()
    );
    println!("| resident after a minute | {:.1} MB | ≤ 30 MB |", node.memory() as f64 / 1e6);
    println!("| of one core, over {} s | {used:.2} % | ≤ 0.5 % |", IDLE.as_secs());
    println!("| the program | {:.1} MB | ≤ 25 MB |\n", program as f64 / 1e6);
}

async fn start_to_ready() -> Duration {
    let stage = Stage::alone().await;
    let began = Instant::now();
    let node = stage.node().spawn();
    let mut address = None;
    loop {
        let lines = node.stdout.lines();
        let url = || lines.iter().find_map(|line| line.split_once("listens on http://")?.1.trim().parse().ok());
        address = address.or_else(url);
        if address.is_some_and(|address| is_ready(address).unwrap_or(false)) {
            return began.elapsed();
        }
        assert!(began.elapsed() < PATIENCE, "it is not ready:\n{}", node.stderr.text());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn is_ready(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = Blocking::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}

/// What a web node more costs.
async fn cost() {
    let mut rows = Vec::new();
    let mut kind = "";
    for web_nodes in [1, 2, 4, 8] {
        let lines = RATE * (WINDOW + WARM * 2).as_secs();
        let cluster = Cluster::start(web_nodes, lines).await;
        kind = cluster.kind();
        let token = cluster.viewer_tokens(1).await.remove(0);
        let mut viewers = Vec::new();
        for node in &cluster.web {
            let mut wire = open(node.address(), &token).await;
            follow(&mut wire).await;
            viewers.push(cluster.tasks.spawn("viewer", watch(wire, lines)));
        }
        cluster.robot.run("writer").await;
        tokio::time::sleep(WARM).await;
        let before = (cpu(&cluster.service), cluster.web_cpu(), cluster.sent(), Instant::now());
        tokio::time::sleep(WINDOW).await;
        let window = before.3.elapsed();
        let service = percent(cpu(&cluster.service).saturating_sub(before.0), window);
        let web = percent(cluster.web_cpu().saturating_sub(before.1), window) / web_nodes as f64;
        let sent = cluster.sent().zip(before.2).map(|(now, before)| now.saturating_sub(before));
        let link = sent.map_or_else(
            || "? (no `ss`)".to_owned(),
            |sent| format!("{:.1} kB/s", sent as f64 / window.as_secs_f64() / web_nodes as f64 / 1e3),
        );
        let memory = (mib(cluster.service.memory()), mib(cluster.web_memory()) / web_nodes as f64);
        let mut seen = all_seen(viewers).await;
        let late = percentile(&mut seen.delays, 95) as f64 / 1e3;
        rows.push(format!(
            "| {web_nodes} | {service:.1} % | {:.1} MiB | {web:.1} % | {:.1} MiB | {link} | {late:.0} ms | {} |",
            memory.0, memory.1, seen.missed
        ));
    }
    println!(
        "One service node whose job writes {RATE} lines/s, web nodes linked by TCP, one viewer on each, {kind}; {} s each:\n",
        WINDOW.as_secs()
    );
    println!(
        "| web nodes | service: of one core | resident | each web node: of one core | resident | each link | line at a viewer, p95 | missed |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    println!("{}\n", rows.join("\n"));
}

/// Many viewers at once.
async fn viewers() {
    let lines = RATE * WATCHED_SECONDS;
    let cluster = Cluster::start(WEB_NODES, lines).await;
    let tokens = cluster.viewer_tokens(VIEWERS.div_ceil(WEB_NODES).div_ceil(PER_USER)).await;
    let mut wires = Vec::new();
    // some first, so that what every node needs once is there
    let (mut idle_memory, first) = (0, VIEWERS / 10);
    for n in 0..VIEWERS {
        if n == first {
            tokio::time::sleep(Duration::from_secs(3)).await;
            idle_memory = cluster.web_memory();
        }
        let node = &cluster.web[n % WEB_NODES];
        wires.push(open(node.address(), &tokens[n / WEB_NODES / PER_USER]).await);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let idle = cluster.web_memory().saturating_sub(idle_memory) as f64 / (VIEWERS - first) as f64 / 1024.0;
    let mut watching = Vec::new();
    for mut wire in wires {
        follow(&mut wire).await;
        watching.push(cluster.tasks.spawn("viewer", watch(wire, lines)));
    }
    let (before, began) = ((cpu(&cluster.service), cluster.web_cpu()), Instant::now());
    cluster.robot.run("writer").await;
    let mut seen = all_seen(watching).await;
    let taken = began.elapsed();
    let web = cluster.web_cpu().saturating_sub(before.1);
    let per_line = web.as_secs_f64() * 1e6 / seen.lines as f64;
    println!(
        "{VIEWERS} viewers (WebSocket, {} users) over {WEB_NODES} web nodes, {RATE} lines/s for {WATCHED_SECONDS} s, {}; the viewers are on the same machine:\n",
        tokens.len(),
        cluster.kind()
    );
    println!("| | here | goal |\n|---|---|---|");
    println!("| lines received | {} of {} | all |", seen.lines, VIEWERS as u64 * lines);
    println!("| missed or out of place | {} | 0 |", seen.missed);
    println!("| delay from the job to the viewer, p50 | {:.0} ms | |", percentile(&mut seen.delays, 50) as f64 / 1e3);
    println!("| p95 | {:.0} ms | ≤ 150 ms (at 100 viewers) |", percentile(&mut seen.delays, 95) as f64 / 1e3);
    println!("| p99 | {:.0} ms | |", percentile(&mut seen.delays, 99) as f64 / 1e3);
    println!(
        "| processor time of the web nodes per delivered line | {per_line:.2} µs | ≤ 0.15 µs (at 1,000 lines/s) |"
    );
    println!("| all web nodes: of one core | {:.0} % | |", percent(web, taken));
    println!(
        "| service node: of one core | {:.1} % | |",
        percent(cpu(&cluster.service).saturating_sub(before.0), taken)
    );
    println!("| one idle viewer more, the web node's side | {idle:.1} KiB | ≤ 8 KiB |");
    println!("| each web node, resident at the end | {:.1} MiB | |\n", mib(cluster.web_memory()) / WEB_NODES as f64);
}

/// What an idle viewer more costs a node that ends TLS itself, beside one that does not.
async fn tls() {
    let plain = one_viewer_more(false).await;
    let sealed = one_viewer_more(true).await;
    println!("One node, role `all`, SQLite, {SEALED_VIEWERS} idle viewers (WebSocket), the node's side:\n");
    println!("| one idle viewer more | here | goal |\n|---|---|---|");
    println!("| without TLS | {plain:.1} KiB | ≤ 8 KiB |");
    println!("| with TLS | {sealed:.1} KiB | ≤ 14 KiB |\n");
}

/// In KiB.
async fn one_viewer_more(sealed: bool) -> f64 {
    let keys = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/keys");
    let path = |name: &str| keys.join(name).to_str().unwrap().to_owned();
    let stage = Stage::alone().await;
    let mut start = stage.node();
    if sealed {
        let (certificate, key) = (path("first.crt"), path("first.key"));
        start = start.variable("SWITCHBOARD_TLS_CERT", certificate).variable("SWITCHBOARD_TLS_KEY", key);
    }
    let node = start.spawn();
    let line = node.stdout.line_with(" listens on ", PATIENCE).await;
    let address: SocketAddr = line.rsplit("://").next().unwrap().trim().parse().unwrap();
    let mut tokens = Vec::new();
    for n in 0..SEALED_VIEWERS.div_ceil(PER_USER) {
        tokens.push(token(&stage, None, &format!("viewer-{n}"), "admin_viewer").await);
    }
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(path("first-authority.crt")).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = TlsConnector::from(std::sync::Arc::new(config));
    let (mut plain_wires, mut sealed_wires) = (Vec::new(), Vec::new());
    let (mut before, first) = (0, SEALED_VIEWERS / 4);
    for n in 0..SEALED_VIEWERS {
        if n == first {
            tokio::time::sleep(Duration::from_secs(3)).await;
            before = node.memory();
        }
        let token = &tokens[n / PER_USER];
        if sealed {
            sealed_wires.push(open_sealed(address, token, &connector).await);
        } else {
            plain_wires.push(open(address, token).await);
        }
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    node.memory().saturating_sub(before) as f64 / (SEALED_VIEWERS - first) as f64 / 1024.0
}
