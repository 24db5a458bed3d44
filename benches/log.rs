//! What a logging call costs: our layer against a bare one (format, lock, push), in the same run.
//!
//! `cargo bench --bench log`. Every call is timed by itself and the cost of timing is taken off; both layers take turns, and the
//! medians of all turns are printed with their ratio. The goals: p50 ≤ 500 ns, p99 ≤ 2 µs, at most twice the bare layer.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use switchboard::base::clock::SystemClock;
use switchboard::base::id::Epoch;
use switchboard::service::layer::LogLayer;
use switchboard::service::log::LogRing;
use tracing::field::{Field, Visit};
use tracing::{Dispatch, Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

const LINES: usize = 20_000;
const BYTES: usize = 8 << 20;
const CALLS: usize = 200_000;
const TURNS: usize = 7;

/// The least a log in memory can do: format, lock, push; the oldest line makes way.
struct Bare(Mutex<VecDeque<(Instant, String)>>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = if field.name() == "message" {
            write!(self.0, "{value:?}")
        } else {
            write!(self.0, " {}={value:?}", field.name())
        };
    }
}

impl<S: Subscriber> Layer<S> for Bare {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back((Instant::now(), text.0));
    }
}

/// One turn of each: median and 99th percentile, in nanoseconds.
struct Turn {
    ours: (f64, f64),
    bare: (f64, f64),
}

/// Nanoseconds of one call: the median and the 99th percentile of many.
fn measure(subscriber: &Dispatch) -> (f64, f64) {
    let empty = percentiles(|_| {});
    let (median, slow) = tracing::dispatcher::with_default(subscriber, || {
        percentiles(|number| tracing::info!(target: "shop::orders", number, state = "sent", "an order went out"))
    });
    (median - empty.0, slow - empty.0)
}

fn percentiles(call: impl Fn(usize)) -> (f64, f64) {
    let mut nanos: Vec<u128> = (0..CALLS)
        .map(|number| {
            let began = Instant::now();
            call(number);
            began.elapsed().as_nanos()
        })
        .collect();
    nanos.sort_unstable();
    let at = |share: usize| f64::from(u32::try_from(nanos[CALLS * share / 1000]).unwrap_or(u32::MAX));
    (at(500), at(990))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
fn main() {
    let ring = LogRing::new(Epoch::random(), LINES, BYTES);
    let ours = Dispatch::new(tracing_subscriber::registry().with(LogLayer::new(ring, Arc::new(SystemClock))));
    let bare = Dispatch::new(tracing_subscriber::registry().with(Bare(Mutex::new(VecDeque::with_capacity(LINES)))));
    let mut turns = Vec::new();
    for _ in 0..TURNS {
        turns.push(Turn { ours: measure(&ours), bare: measure(&bare) });
    }
    let of = |pick: fn(&Turn) -> f64| median(turns.iter().map(pick).collect());
    let (ours_p50, ours_p99) = (of(|turn| turn.ours.0), of(|turn| turn.ours.1));
    let (bare_p50, bare_p99) = (of(|turn| turn.bare.0), of(|turn| turn.bare.1));
    println!("logging call, 0 readers, {CALLS} calls a turn, median of {TURNS} turns");
    println!("  ours  p50 {ours_p50:>6.0} ns   p99 {ours_p99:>6.0} ns");
    println!("  bare  p50 {bare_p50:>6.0} ns   p99 {bare_p99:>6.0} ns");
    println!("  ratio p50 {:>6.2}      p99 {:>6.2}", ours_p50 / bare_p50, ours_p99 / bare_p99);
}
