//! Lines from the logging call to 100 browsers over real sockets, one of them stalled; what a viewer costs in memory.
//!
//! `cargo bench --bench hub` prints a Markdown table. Ratios count, absolutes depend on the machine: the baseline is the same
//! server with one viewer, measured in the same run.

#![expect(clippy::unwrap_used, reason = "a measurement that can't go on fails where it stands")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "../tests/integration/live/stage.rs"]
mod stage;

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use switchboard::base::clock::{Clock as _, SystemClock};
use switchboard::model::log_entry::Level;
use switchboard::model::user::ServiceRole;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use self::stage::{Stage, entry};

type Wire = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Lines of one measurement, so many a second: the goal's rate, and as fast as it goes.
const PACED: u64 = 1000;
const SATURATED: u64 = 20_000;

/// Viewers of one measurement.
const VIEWERS: usize = 100;

/// A user has 50 tabs at most, so several users are needed.
const PER_USER: usize = 40;

/// What a viewer saw.
#[derive(Default)]
struct Seen {
    lines: u64,
    lost: u64,
    delays: Vec<Duration>,
}

/// A browser that follows the status and, if wanted, the lines of this measurement: by a token, or as the administrator.
async fn open(stage: &Stage, token: Option<&String>, follow: bool) -> Wire {
    let mut request = format!("ws://{}/status/live", stage.address).into_client_request().expect("an address");
    let headers = request.headers_mut();
    if let Some(token) = token {
        headers.insert("x-api-key", token.parse().expect("a token is ASCII"));
    } else {
        headers.insert("cookie", stage.cookie.parse().expect("a cookie is ASCII"));
        headers.insert("origin", format!("http://{}", stage.address).parse().expect("an address is ASCII"));
    }
    // as browsers do: with Nagle's algorithm an acknowledgement can wait for 40 ms
    let (mut wire, _) =
        tokio_tungstenite::connect_async_with_config(request, None, true).await.expect("the node takes it");
    say(&mut wire, json!({ "t": "hello", "v": 1 })).await;
    say(&mut wire, json!({ "t": "sub", "topic": "status" })).await;
    if follow {
        say(&mut wire, json!({ "t": "sub", "topic": "log", "sources": ["bench"] })).await;
    }
    while let Some(Ok(message)) = wire.next().await {
        let wanted = if follow { "\"t\":\"log\"" } else { "\"t\":\"snapshot\"" };
        if message.to_text().is_ok_and(|text| text.contains(wanted)) {
            break;
        }
    }
    wire
}

async fn say(wire: &mut Wire, message: Value) {
    wire.send(Message::text(message.to_string())).await.expect("the socket is open");
}

/// Reads until line `last`; acknowledges each message.
async fn read(mut wire: Wire, last: u64) -> Seen {
    let mut seen = Seen::default();
    while let Some(Ok(message)) = wire.next().await {
        let Message::Text(text) = message else { continue };
        let message: Value = serde_json::from_str(&text).expect("messages are JSON");
        let now = SystemClock.now();
        match message["t"].as_str() {
            Some("log") => {
                for row in message["rows"].as_array().into_iter().flatten() {
                    seen.lines += 1;
                    let written = row[6].as_str().and_then(|text| text.split(' ').next()?.parse().ok());
                    if let Some(micros) = written {
                        let written = switchboard::base::clock::Timestamp::from_micros(micros);
                        seen.delays.push(now.since(written));
                    }
                }
                let next = message["next"].as_u64().unwrap_or(0);
                say(&mut wire, json!({ "t": "ack", "seq": next })).await;
                if next >= last {
                    break;
                }
            }
            Some("gap") => {
                let (from, to) = (message["from"].as_u64(), message["to"].as_u64());
                seen.lost += to.unwrap_or(0) - from.unwrap_or(0) + 1;
            }
            _ => {}
        }
    }
    seen
}

/// What one measurement says: deliveries a second, the 50th and 95th of a hundred delays, lines lost.
struct Figures {
    rate: f64,
    middle: Duration,
    late: Duration,
    lost: u64,
}

async fn measure(
    stage: &Stage,
    tokens: &[String],
    viewers: usize,
    stalled: usize,
    lines: u64,
    pace: Option<u64>,
) -> Figures {
    stage.log().push(entry(Level::Info, "bench", "before"));
    let last = stage.log().last() + lines;
    let mut idle = Vec::new();
    for n in 0..stalled {
        idle.push(open(stage, tokens.get(n / PER_USER), true).await);
    }
    let (done, mut all) = mpsc::channel(viewers.max(1));
    for n in 0..viewers - stalled {
        let wire = open(stage, tokens.get((n + stalled) / PER_USER), true).await;
        let done = done.clone();
        stage.shutdown.spawn("bench viewer", async move {
            let _ = done.send(read(wire, last).await).await;
        });
    }
    drop(done);
    let text = "x".repeat(120);
    let started = Instant::now();
    for n in 0..lines {
        stage.log().push(entry(Level::Info, "bench", &format!("{} {text}", SystemClock.now().as_micros())));
        match pace {
            Some(rate) if n % 10 == 9 => {
                let due = started + Duration::from_secs(n + 1).mul_f64(1.0 / rate as f64);
                tokio::time::sleep_until(due).await;
            }
            None if n % 100 == 99 => tokio::task::yield_now().await,
            _ => {}
        }
    }
    let (mut delays, mut delivered, mut missing) = (Vec::new(), 0, 0);
    while let Some(seen) = all.recv().await {
        delivered += seen.lines;
        missing += seen.lost;
        delays.extend(seen.delays);
    }
    let taken = started.elapsed();
    delays.sort_unstable();
    let at = |share: usize| delays.get(delays.len() * share / 100).copied().unwrap_or_default();
    drop(idle);
    Figures { rate: delivered as f64 / taken.as_secs_f64(), middle: at(50), late: at(95), lost: missing }
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

/// A socket that is only held: what a browser costs on this side of the wire is a small buffer.
async fn hold(stage: &Stage, token: &str) -> TcpStream {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = TcpStream::connect(stage.address).await.expect("the node listens");
    let hello = format!(
        "GET /status/live HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nx-api-key: {token}\r\n\r\n",
        stage.address
    );
    stream.write_all(hello.as_bytes()).await.expect("the node reads");
    let mut answer = [0; 512];
    let read = stream.read(&mut answer).await.expect("the node answers");
    assert!(answer[..read].starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer[..read]));
    for text in [r#"{"t":"hello","v":1}"#, r#"{"t":"sub","topic":"status"}"#] {
        // a masked frame with a mask of zeros
        let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).expect("it is short"), 0, 0, 0, 0];
        frame.extend_from_slice(text.as_bytes());
        stream.write_all(&frame).await.expect("the node reads");
    }
    stream
}

/// Rounds of each measurement, turn by turn; medians are told.
const ROUNDS: usize = 5;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What one idle viewer more costs, in bytes, both ends of its connection: before any load, as memory freed by load would
/// be taken again and hide the cost.
async fn idle_cost(stage: &Stage, tokens: &[String]) -> u64 {
    let mut held = Vec::new();
    for n in 0..100 {
        held.push(hold(stage, &tokens[n / PER_USER]).await);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = resident();
    for n in 100..1000 {
        held.push(hold(stage, &tokens[n / PER_USER]).await);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(stage.web.viewers.count(), 1000, "every socket was taken and is still open");
    let cost = resident().saturating_sub(before) / 900;
    drop(held);
    while stage.web.viewers.count() > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cost
}

#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stage = Stage::begin().await;
        let mut tokens = Vec::new();
        for n in 0..26 {
            tokens.push(stage.token_of(&format!("viewer-{n}"), ServiceRole::AdminViewer).await);
        }
        let idle = idle_cost(&stage, &tokens).await;

        // name, viewers, of them stalled, lines, lines a second
        let cases = [
            ("1,000 lines/s, 100 viewers, 1 stalled", VIEWERS, 1, PACED * 5, Some(PACED)),
            ("as fast as it goes, 1 viewer (baseline)", 1, 0, SATURATED, None),
            ("as fast as it goes, 100 viewers", VIEWERS, 0, SATURATED, None),
            ("as fast as it goes, 100 viewers, 1 stalled", VIEWERS, 1, SATURATED, None),
            ("as fast as it goes, 100 viewers, 50 stalled", VIEWERS, VIEWERS / 2, SATURATED, None),
        ];
        let mut figures: Vec<Vec<Figures>> = cases.iter().map(|_| Vec::new()).collect();
        for _ in 0..ROUNDS {
            for (case, (_, viewers, stalled, lines, pace)) in cases.iter().enumerate() {
                let tokens = if *viewers == 1 { &[][..] } else { &tokens[..] };
                figures[case].push(measure(&stage, tokens, *viewers, *stalled, *lines, *pace).await);
            }
        }
        println!("Medians of {ROUNDS} rounds, turn by turn; viewers and nodes share the machine.\n");
        println!("| measurement | deliveries/s (least to most) | delay p50 | delay p95 | told as lost |");
        println!("|---|---|---|---|---|");
        let mut per_viewer = Vec::new();
        for ((name, viewers, stalled, lines, _), rounds) in cases.iter().zip(&figures) {
            let of = |value: fn(&Figures) -> f64| median(rounds.iter().map(value).collect());
            let rates = rounds.iter().map(|round| round.rate);
            let (least, most) = (rates.clone().fold(f64::MAX, f64::min), rates.fold(0.0, f64::max));
            let reading = (viewers - stalled) as f64;
            let lost = of(|round| round.lost as f64) / (reading * *lines as f64) * 100.0;
            per_viewer.push(of(|round| round.rate) / reading);
            println!(
                "| {name} | {:.0} ({least:.0} to {most:.0}) | {:.1} ms | {:.1} ms | {lost:.1} % |",
                of(|round| round.rate),
                of(|round| round.middle.as_secs_f64() * 1e3),
                of(|round| round.late.as_secs_f64() * 1e3),
            );
        }
        println!();
        println!(
            "100 viewers together get {:.1} × the deliveries of one.",
            per_viewer[2] * VIEWERS as f64 / per_viewer[1]
        );
        println!(
            "Beside one stalled viewer each of the others gets {:.2} × its lines a second.",
            per_viewer[3] / per_viewer[2]
        );
        println!(
            "Beside 50 stalled viewers each of the others gets {:.2} × its lines a second.",
            per_viewer[4] / per_viewer[2]
        );
        println!("One idle viewer more costs {:.1} KiB (both ends of its connection).", idle as f64 / 1024.0);
        stage.end().await;
    });
}
