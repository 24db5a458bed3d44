//! What the messenger costs over the pipe and over TCP on this machine, beside a bare socket of the same kind and beside
//! `nats-server` with TLS in the same run, turn by turn.
//!
//! `cargo bench --bench messenger`, or with the number of rounds: `cargo bench --bench messenger -- 9`. The way measured is the
//! whole one: batch, seal, write, read, open, unpack, client, its queue, the task that takes from it. Ratios count; the
//! absolute figures are those of the machine and the moment.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark prints its figures, or panics"
)]

mod nats;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use secrecy::ExposeSecret;
use switchboard::base::clock::SystemClock;
use switchboard::base::id::NodeId;
use switchboard::base::shutdown::Shutdown;
use switchboard::config::endpoint::Host;
use switchboard::messenger::client::{Client, Incoming};
use switchboard::messenger::endpoint::Endpoint;
use switchboard::messenger::secure::keys::{Key, KeyRing};
use switchboard::messenger::secure::{Receiver, Sender};
use switchboard::messenger::server::Server;
use switchboard::messenger::{Identity, Pace};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc;

use self::nats::{Publisher, Subscriber};

/// The length of every message, in bytes; the first eight tell when it was sent.
const SIZE: usize = 256;

/// Messages of one paced measurement, one each millisecond.
const PACED: u64 = 1500;

/// Messages of one saturated measurement, one and 64 per write.
const SINGLE: u64 = 300_000;
const BATCHED: u64 = 2_000_000;
const BATCH: u64 = 64;

/// What one round measured.
#[derive(Clone, Copy, Default)]
struct Round {
    p50: Duration,
    p99: Duration,
    single: f64,
    batched: f64,
    /// What a message of a batch cost the processors.
    cpu: Duration,
}

/// One end of a way that messages go.
trait Sends: Send + 'static {
    /// Messages in the form they are handed over in.
    type Batch: Send + Sync;

    fn batch(message: &[u8; SIZE], count: usize) -> Self::Batch;

    fn send(&mut self, batch: &Self::Batch) -> impl Future<Output = ()> + Send;
}

/// The other end.
trait Takes: Send + 'static {
    /// Waits for messages, and shows each of those that have come; how many they were.
    fn take(&mut self, each: impl FnMut(&[u8]) + Send) -> impl Future<Output = u64> + Send;
}

/// A socket without anything.
struct BareSender<S>(S);

struct BareReceiver<S> {
    socket: S,
    room: Vec<u8>,
    /// The beginning of a message of which the rest is still to come.
    held: usize,
}

impl<S: AsyncWrite + Unpin + Send + 'static> Sends for BareSender<S> {
    type Batch = Vec<u8>;

    fn batch(message: &[u8; SIZE], count: usize) -> Vec<u8> {
        message.repeat(count)
    }

    async fn send(&mut self, batch: &Vec<u8>) {
        self.0.write_all(batch).await.unwrap();
    }
}

impl<S: AsyncRead + Unpin + Send + 'static> Takes for BareReceiver<S> {
    async fn take(&mut self, mut each: impl FnMut(&[u8]) + Send) -> u64 {
        let read = self.socket.read(&mut self.room[self.held..]).await.unwrap();
        assert_ne!(read, 0, "the socket was closed");
        let (messages, rest) = self.room[..self.held + read].as_chunks::<SIZE>();
        for message in messages {
            each(message);
        }
        let (count, whole) = (messages.len(), messages.len() * SIZE);
        self.held = rest.len();
        self.room.copy_within(whole..whole + self.held, 0);
        count as u64
    }
}

/// The messenger.
struct OurReceiver {
    incoming: mpsc::Receiver<Incoming>,
    /// Keeps the link up.
    _client: Client,
}

impl Sends for Sender {
    type Batch = Vec<(u8, Bytes)>;

    fn batch(message: &[u8; SIZE], count: usize) -> Self::Batch {
        vec![(1, Bytes::copy_from_slice(message)); count]
    }

    async fn send(&mut self, batch: &Self::Batch) {
        Sender::send(self, batch).await.unwrap();
    }
}

impl Takes for OurReceiver {
    async fn take(&mut self, mut each: impl FnMut(&[u8]) + Send) -> u64 {
        match self.incoming.recv().await {
            Some(Incoming::Envelopes(envelopes)) => {
                for envelope in &envelopes {
                    each(&envelope.body);
                }
                envelopes.len() as u64
            }
            other => panic!("not envelopes but {other:?}"),
        }
    }
}

impl Sends for Publisher {
    type Batch = Vec<u8>;

    fn batch(message: &[u8; SIZE], count: usize) -> Vec<u8> {
        Self::encoded(message, count)
    }

    async fn send(&mut self, batch: &Vec<u8>) {
        self.publish(batch).await;
    }
}

impl Takes for Subscriber {
    async fn take(&mut self, each: impl FnMut(&[u8]) + Send) -> u64 {
        Subscriber::take(self, each).await
    }
}

/// A way that messages go, and what was measured on it so far.
struct Way<S, T> {
    ends: Option<(S, T)>,
    rounds: Vec<Round>,
}

impl<S: Sends, T: Takes> Way<S, T> {
    fn of(sender: S, receiver: T) -> Self {
        Self { ends: Some((sender, receiver)), rounds: Vec::new() }
    }

    async fn turn(&mut self, shutdown: &Shutdown) {
        let (sender, receiver) = self.ends.take().unwrap();
        let (sender, receiver, round) = round(sender, receiver, shutdown).await;
        self.ends = Some((sender, receiver));
        self.rounds.push(round);
    }
}

fn bare<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(pair: (S, S)) -> Way<BareSender<S>, BareReceiver<S>> {
    let (sending, socket) = pair;
    Way::of(BareSender(sending), BareReceiver { socket, room: vec![0; 64 << 10], held: 0 })
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let rounds = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(7_usize);
    let directory = tempfile::tempdir().unwrap();
    let shutdown = Shutdown::new();
    let mut bare_pipe = bare(UnixStream::pair().unwrap());
    let mut pipe = ours(Endpoint::Pipe(directory.path().join("bench.sock")), &shutdown).await;
    let (sockets, free) = tcp_pair().await;
    let mut bare_tcp = bare(sockets);
    let mut tcp = ours(free, &shutdown).await;
    let nats_server = nats::Server::start().await;
    let mut nats = None;
    if let Some(server) = &nats_server {
        let (publisher, subscriber) = server.pair().await;
        nats = Some(Way::of(publisher, subscriber));
    }
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        bare_pipe.turn(&shutdown).await;
        pipe.turn(&shutdown).await;
        bare_tcp.turn(&shutdown).await;
        tcp.turn(&shutdown).await;
        if let Some(nats) = &mut nats {
            nats.turn(&shutdown).await;
        }
    }
    let bare_goals = Goals { p50: "≤ 1.6 ×", p99: "≤ 2 ×", single: "", batched: "≥ 1.0 M/s" };
    print("Pipe", "bare Unix socket", &bare_pipe.rounds, &pipe.rounds, &bare_goals);
    let no_goals = Goals { p50: "", p99: "", single: "", batched: "" };
    print("TCP on one machine", "bare TCP socket", &bare_tcp.rounds, &tcp.rounds, &no_goals);
    if let Some(nats) = nats {
        let batching = "≥ 2 × (aim 3.5 ×)";
        let goals = Goals { p50: "≤ 0.3 ×", p99: "", single: batching, batched: batching };
        print("TCP on one machine", "nats-server with TLS", &nats.rounds, &tcp.rounds, &goals);
    } else {
        println!(
            "nats-server is not installed (Debian: apt-get install nats-server): the comparison with it is LEFT OUT."
        );
    }
    shutdown.stop();
}

/// Two ends of one connection over the loopback, and an endpoint that is free.
async fn tcp_pair() -> ((TcpStream, TcpStream), Endpoint) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (dialled, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let pair = (dialled.unwrap(), accepted.unwrap().0);
    pair.0.set_nodelay(true).unwrap();
    pair.1.set_nodelay(true).unwrap();
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    (pair, Endpoint::Tcp { host: Host::Address(free.ip()), port: free.port() })
}

/// Both ends of the messenger's way over this endpoint.
async fn ours(endpoint: Endpoint, shutdown: &Shutdown) -> Way<Sender, OurReceiver> {
    let key = Key::generate();
    let again = Key::from_base64(key.to_base64().expose_secret()).unwrap();
    let identity = |name| Identity { node: NodeId::new(name) };
    let keys = Arc::new(KeyRing::new(key));
    let (_server, mut links) = Server::listen(identity("service-1"), endpoint.clone(), keys, shutdown).await.unwrap();
    let pace = Pace { beat: Duration::from_secs(1), silence: Duration::from_secs(30) };
    let (keys, clock) = (Arc::new(KeyRing::new(again)), Arc::new(SystemClock));
    let (client, mut incoming) = Client::start(identity("web-2"), endpoint, keys, pace, clock, shutdown);
    let (sender, receiver) = links.recv().await.unwrap().split();
    shutdown.spawn("answers pings", answer(receiver));
    assert!(matches!(incoming.recv().await, Some(Incoming::Up(_))));
    Way::of(sender, OurReceiver { incoming, _client: client })
}

async fn answer(mut receiver: Receiver) {
    while let Ok(Some(_)) = receiver.recv().await {}
}

/// One measurement of everything; each end is a task.
async fn round<S: Sends, T: Takes>(mut sender: S, mut receiver: T, shutdown: &Shutdown) -> (S, T, Round) {
    let born = Instant::now();
    let receiving = shutdown.spawn("reader", async move {
        let mut latencies = Vec::new();
        while (latencies.len() as u64) < PACED {
            receiver.take(|message| latencies.push(age(born, message))).await;
        }
        (receiver, latencies)
    });
    let sending = shutdown.spawn("writer", async move {
        let mut ticks = ticks();
        for _ in 0..PACED {
            ticks.tick().await;
            sender.send(&S::batch(&message(born), 1)).await;
        }
        sender
    });
    let latencies;
    (sender, (receiver, latencies)) = (sending.await.unwrap(), receiving.await.unwrap());
    let (p50, p99) = percentiles(latencies);

    let mut rates = [0.0; 2];
    let mut cpu = Duration::ZERO;
    for (rate, (count, per_send)) in rates.iter_mut().zip([(SINGLE, 1), (BATCHED, BATCH)]) {
        let (began, used) = (Instant::now(), cpu_time());
        let receiving = shutdown.spawn("reader", async move {
            let mut left = count;
            while left > 0 {
                left -= receiver.take(|_| ()).await;
            }
            receiver
        });
        let sending = shutdown.spawn("writer", async move {
            let batch = S::batch(&[7; SIZE], usize::try_from(per_send).unwrap());
            for _ in 0..count / per_send {
                sender.send(&batch).await;
            }
            sender
        });
        (sender, receiver) = (sending.await.unwrap(), receiving.await.unwrap());
        *rate = per_second(count, began);
        cpu = cpu_time().saturating_sub(used).div_f64(count as f64);
    }
    (sender, receiver, Round { p50, p99, single: rates[0], batched: rates[1], cpu })
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

fn message(born: Instant) -> [u8; SIZE] {
    let mut message = [7; SIZE];
    let now = u64::try_from(born.elapsed().as_nanos()).unwrap();
    message[..8].copy_from_slice(&now.to_be_bytes());
    message
}

fn age(born: Instant, message: &[u8]) -> Duration {
    let sent = Duration::from_nanos(u64::from_be_bytes(*message.first_chunk().unwrap()));
    born.elapsed().saturating_sub(sent)
}

fn percentiles(mut latencies: Vec<Duration>) -> (Duration, Duration) {
    // the first ones warm everything up
    let mut latencies = latencies.split_off(100);
    latencies.sort_unstable();
    (latencies[latencies.len() / 2], latencies[latencies.len() * 99 / 100])
}

/// What all threads of this process had of the processors so far. Unlike the rates it does not depend on who else wants them.
fn cpu_time() -> Duration {
    let nanos = |task: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    Duration::from_nanos(std::fs::read_dir("/proc/self/task").unwrap().map(nanos).sum())
}

fn per_second(count: u64, began: Instant) -> f64 {
    count as f64 / began.elapsed().as_secs_f64()
}

fn median(rounds: &[Round], figure: impl Fn(&Round) -> f64) -> f64 {
    let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// What the ratios are to be.
struct Goals {
    p50: &'static str,
    p99: &'static str,
    single: &'static str,
    batched: &'static str,
}

fn print(kind: &str, beside: &str, theirs: &[Round], ours: &[Round], goals: &Goals) {
    println!("{kind}, {SIZE}-byte messages, medians of {} rounds, turn by turn:\n", ours.len());
    println!("| | {beside} | messenger | ratio | goal |");
    println!("|---|---|---|---|---|");
    let micros = |duration: Duration| duration.as_secs_f64() * 1e6;
    let millions = 1e-6;
    let row = |name: &str, goal: &str, unit: &str, figure: &dyn Fn(&Round) -> f64| {
        let (theirs, ours) = (median(theirs, figure), median(ours, figure));
        println!("| {name} | {theirs:.2} {unit} | {ours:.2} {unit} | {:.2} × | {goal} |", ours / theirs);
    };
    row("one way, paced, p50", goals.p50, "µs", &|round| micros(round.p50));
    row("one way, paced, p99", goals.p99, "µs", &|round| micros(round.p99));
    row("saturated, 1 per send", goals.single, "M/s", &|round| round.single * millions);
    row("saturated, 64 per send", goals.batched, "M/s", &|round| round.batched * millions);
    if beside.starts_with("bare") {
        row("processor time per message, 64 per send", "", "µs", &|round| micros(round.cpu));
    }
    println!();
}
