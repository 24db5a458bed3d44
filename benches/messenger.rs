//! What the messenger costs over the pipe and over TCP on this machine, beside a bare socket of the same kind in the same run,
//! turn by turn.
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

/// Both ends of the messenger's way; the client keeps the link up.
struct Ours {
    sender: Sender,
    incoming: mpsc::Receiver<Incoming>,
    client: Client,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let rounds = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(7_usize);
    let directory = tempfile::tempdir().unwrap();
    let shutdown = Shutdown::new();
    let mut pipe =
        Turns::of(Endpoint::Pipe(directory.path().join("bench.sock")), UnixStream::pair().unwrap(), &shutdown).await;
    let (socket, free) = tcp_pair().await;
    let mut tcp = Turns::of(free, socket, &shutdown).await;
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        pipe = pipe.turn(&shutdown).await;
        tcp = tcp.turn(&shutdown).await;
    }
    print("Pipe", "bare Unix socket", &pipe.plain, &pipe.sealed, rounds);
    println!();
    print("TCP on one machine", "bare TCP socket", &tcp.plain, &tcp.sealed, rounds);
    shutdown.stop();
}

/// One kind of socket, bare and with the messenger over it, and what was measured so far.
struct Turns<S> {
    bare: (S, S),
    ours: Ours,
    plain: Vec<Round>,
    sealed: Vec<Round>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Turns<S> {
    async fn of(endpoint: Endpoint, bare: (S, S), shutdown: &Shutdown) -> Self {
        Self { bare, ours: open(endpoint, shutdown).await, plain: Vec::new(), sealed: Vec::new() }
    }

    async fn turn(self, shutdown: &Shutdown) -> Self {
        let Self { bare, ours, mut plain, mut sealed } = self;
        let (bare, result) = bare_round(bare, shutdown).await;
        plain.push(result);
        let (ours, result) = our_round(ours, shutdown).await;
        sealed.push(result);
        Self { bare, ours, plain, sealed }
    }
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

async fn open(endpoint: Endpoint, shutdown: &Shutdown) -> Ours {
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
    Ours { sender, incoming, client }
}

async fn answer(mut receiver: Receiver) {
    while let Ok(Some(_)) = receiver.recv().await {}
}

async fn bare_round<S>(pair: (S, S), shutdown: &Shutdown) -> ((S, S), Round)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut writer, mut reader) = pair;
    let born = Instant::now();

    let receiving = shutdown.spawn("reader", async move {
        let mut latencies = Vec::new();
        let mut message = [0; SIZE];
        for _ in 0..PACED {
            reader.read_exact(&mut message).await.unwrap();
            latencies.push(age(born, &message));
        }
        (reader, latencies)
    });
    let sending = shutdown.spawn("writer", async move {
        let mut ticks = ticks();
        for _ in 0..PACED {
            ticks.tick().await;
            writer.write_all(&message(born)).await.unwrap();
        }
        writer
    });
    let (mut writer, (mut reader, latencies)) = (sending.await.unwrap(), receiving.await.unwrap());
    let (p50, p99) = percentiles(latencies);

    let mut rates = [0.0; 2];
    let mut cpu = Duration::ZERO;
    for (rate, (count, per_write)) in rates.iter_mut().zip([(SINGLE, 1), (BATCHED, BATCH)]) {
        let (began, used) = (Instant::now(), cpu_time());
        let receiving = shutdown.spawn("reader", async move {
            let mut room = vec![0; 64 << 10];
            let mut left = usize::try_from(count).unwrap() * SIZE;
            while left > 0 {
                left -= reader.read(&mut room).await.unwrap();
            }
            reader
        });
        let sending = shutdown.spawn("writer", async move {
            let batch = vec![7; SIZE * usize::try_from(per_write).unwrap()];
            for _ in 0..count / per_write {
                writer.write_all(&batch).await.unwrap();
            }
            writer
        });
        (writer, reader) = (sending.await.unwrap(), receiving.await.unwrap());
        *rate = per_second(count, began);
        cpu = cpu_time().saturating_sub(used).div_f64(count as f64);
    }
    ((writer, reader), Round { p50, p99, single: rates[0], batched: rates[1], cpu })
}

async fn our_round(ours: Ours, shutdown: &Shutdown) -> (Ours, Round) {
    let Ours { mut sender, mut incoming, client } = ours;
    let born = Instant::now();

    let receiving = shutdown.spawn("reader", async move {
        let mut latencies = Vec::new();
        while (latencies.len() as u64) < PACED {
            for envelope in take(&mut incoming).await {
                latencies.push(age(born, &envelope));
            }
        }
        (incoming, latencies)
    });
    let sending = shutdown.spawn("writer", async move {
        let mut ticks = ticks();
        for _ in 0..PACED {
            ticks.tick().await;
            sender.send(&[(1, Bytes::copy_from_slice(&message(born)))]).await.unwrap();
        }
        sender
    });
    let (mut sender, (mut incoming, latencies)) = (sending.await.unwrap(), receiving.await.unwrap());
    let (p50, p99) = percentiles(latencies);

    let mut rates = [0.0; 2];
    let mut cpu = Duration::ZERO;
    for (rate, (count, per_write)) in rates.iter_mut().zip([(SINGLE, 1), (BATCHED, BATCH)]) {
        let (began, used) = (Instant::now(), cpu_time());
        let receiving = shutdown.spawn("reader", async move {
            let mut left = count;
            while left > 0 {
                left -= take(&mut incoming).await.len() as u64;
            }
            incoming
        });
        let sending = shutdown.spawn("writer", async move {
            let body = Bytes::from(vec![7; SIZE]);
            let batch = vec![(1, body); usize::try_from(per_write).unwrap()];
            for _ in 0..count / per_write {
                sender.send(&batch).await.unwrap();
            }
            sender
        });
        (sender, incoming) = (sending.await.unwrap(), receiving.await.unwrap());
        *rate = per_second(count, began);
        cpu = cpu_time().saturating_sub(used).div_f64(count as f64);
    }
    (Ours { sender, incoming, client }, Round { p50, p99, single: rates[0], batched: rates[1], cpu })
}

async fn take(incoming: &mut mpsc::Receiver<Incoming>) -> Vec<Bytes> {
    match incoming.recv().await {
        Some(Incoming::Envelopes(envelopes)) => envelopes.into_iter().map(|envelope| envelope.body).collect(),
        other => panic!("not envelopes but {other:?}"),
    }
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

fn print(kind: &str, bare: &str, plain: &[Round], sealed: &[Round], rounds: usize) {
    println!("{kind}, {SIZE}-byte messages, medians of {rounds} rounds, turn by turn:\n");
    println!("| | {bare} | messenger | ratio | goal |");
    println!("|---|---|---|---|---|");
    let micros = |duration: Duration| duration.as_secs_f64() * 1e6;
    let millions = 1e-6;
    let row = |name: &str, goal: &str, unit: &str, figure: &dyn Fn(&Round) -> f64| {
        let (plain, sealed) = (median(plain, figure), median(sealed, figure));
        println!("| {name} | {plain:.2} {unit} | {sealed:.2} {unit} | {:.2} × | {goal} |", sealed / plain);
    };
    row("one way, paced, p50", "≤ 1.6 ×", "µs", &|round| micros(round.p50));
    row("one way, paced, p99", "≤ 2 ×", "µs", &|round| micros(round.p99));
    row("saturated, 1 per send", "", "M/s", &|round| round.single * millions);
    row("saturated, 64 per send", "≥ 1.0 M/s", "M/s", &|round| round.batched * millions);
    row("processor time per message, 64 per send", "", "µs", &|round| micros(round.cpu));
}
