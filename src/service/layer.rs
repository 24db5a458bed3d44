//! Turns trace events into lines of the node's log.

use std::cell::Cell;
use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::base::clock::SharedClock;
use crate::base::id::ExecutionId;
use crate::model::log_entry::{Level, LogEntry};
use crate::service::log::LogRing;

/// Libraries this product stands on. Their events do not enter the log: some are on a line's own way to the database or to a
/// viewer, and would add a line for every line.
const LIBRARIES: [&str; 25] = [
    "axum",
    "axum_core",
    "h2",
    "hickory_proto",
    "hickory_resolver",
    "hyper",
    "hyper_util",
    "jiff",
    "log",
    "mio",
    "polling",
    "reqwest",
    "rustls",
    "rustls_platform_verifier",
    "snow",
    "sqlx",
    "sqlx_core",
    "sqlx_postgres",
    "sqlx_sqlite",
    "tokio",
    "tokio_tungstenite",
    "tokio_util",
    "tower",
    "tower_http",
    "tungstenite",
];

/// The `tracing` layer that writes into a [`LogRing`] what an embedding program (any target but ours) and the service room log.
///
/// A line is the event's message and its other fields as `name=value`. Its source is the field `dispatcher` of the event or of
/// the nearest span that has one, otherwise the event's target; its run is the field `execution`, found in the same way.
/// Never waits, never fails, and never keeps an event from other layers.
#[derive(Clone)]
pub struct LogLayer {
    ring: LogRing,
    clock: SharedClock,
}

impl LogLayer {
    /// A layer that writes into `ring`, with the time of `clock`.
    #[must_use]
    pub fn new(ring: LogRing, clock: SharedClock) -> Self {
        Self { ring, clock }
    }
}

impl fmt::Debug for LogLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogLayer").field("ring", &self.ring).finish_non_exhaustive()
    }
}

/// Whether events of this target are lines of the node's log. What our other rooms say goes to the diagnostics.
fn enters(target: &str) -> bool {
    let mut parts = target.split("::");
    match parts.next().unwrap_or(target) {
        "switchboard" => parts.next() == Some("service"),
        library => !LIBRARIES.contains(&library),
    }
}

fn level_of(level: tracing::Level) -> Level {
    match level {
        tracing::Level::TRACE => Level::Trace,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::INFO => Level::Info,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::ERROR => Level::Error,
    }
}

/// Whose work a span is; kept with the span.
#[derive(Default)]
struct Work {
    dispatcher: Option<Box<str>>,
    execution: Option<ExecutionId>,
}

impl Work {
    /// Takes what is missing here from `outer`.
    fn complete(&mut self, outer: &Self) {
        if self.dispatcher.is_none() {
            self.dispatcher.clone_from(&outer.dispatcher);
        }
        self.execution = self.execution.or(outer.execution);
    }

    fn is_complete(&self) -> bool {
        self.dispatcher.is_some() && self.execution.is_some()
    }
}

impl Visit for Work {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "dispatcher" {
            self.dispatcher = Some(value.into());
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        if field.name() == "execution" {
            self.execution = Some(ExecutionId(value));
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.record_i64(field, i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "dispatcher" => self.dispatcher = Some(format!("{value:?}").into()),
            "execution" => self.execution = format!("{value:?}").parse().ok().map(ExecutionId),
            _ => {}
        }
    }
}

/// What an event says.
#[derive(Default)]
struct Said {
    text: String,
    fields: String,
    work: Work,
}

impl Said {
    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // writing into a String does not fail
        let _ = match field.name() {
            "message" => self.text.write_fmt(value),
            name => write!(self.fields, " {name}={value}"),
        };
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "dispatcher" => self.work.record_str(field, value),
            _ => self.add(field, format_args!("{value}")),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        match field.name() {
            "execution" => self.work.record_i64(field, value),
            _ => self.add(field, format_args!("{value}")),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "execution" => self.work.record_u64(field, value),
            _ => self.add(field, format_args!("{value}")),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "dispatcher" | "execution" => self.work.record_debug(field, value),
            _ => self.add(field, format_args!("{value:?}")),
        }
    }
}

thread_local! {
    /// A buffer used again by the next event of this thread. Taken out while in use: what is being written may itself log.
    static BUFFER: Cell<Option<Said>> = const { Cell::new(None) };
}

/// A buffer that once held a very long line is not kept.
const BUFFER_KEPT: usize = 4096;

impl<S> Layer<S> for LogLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let fields = attributes.metadata().fields();
        if fields.field("dispatcher").is_none() && fields.field("execution").is_none() {
            return;
        }
        if let Some(span) = context.span(id) {
            let mut work = Work::default();
            attributes.record(&mut work);
            span.extensions_mut().insert(work);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(work) = span.extensions_mut().get_mut::<Work>()
        {
            values.record(work);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let level = level_of(*event.metadata().level());
        let target = event.metadata().target();
        if !self.ring.takes(level) || !enters(target) {
            return;
        }
        let mut said = BUFFER.try_with(Cell::take).ok().flatten().unwrap_or_default();
        event.record(&mut said);
        if let Some(scope) = context.event_scope(event) {
            for span in scope {
                if said.work.is_complete() {
                    break;
                }
                if let Some(work) = span.extensions().get::<Work>() {
                    said.work.complete(work);
                }
            }
        }
        let fields = if said.text.is_empty() { said.fields.trim_start() } else { &said.fields };
        said.text.push_str(fields);
        let work = std::mem::take(&mut said.work);
        self.ring.push(LogEntry {
            time: self.clock.now(),
            level,
            source: work.dispatcher.unwrap_or_else(|| target.into()),
            execution: work.execution,
            stream: None,
            text: said.text.as_str().into(),
        });
        said.text.clear();
        said.fields.clear();
        if said.text.capacity().max(said.fields.capacity()) <= BUFFER_KEPT {
            // a thread that is ending keeps no buffer
            let _ = BUFFER.try_with(|buffer| buffer.set(Some(said)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::base::clock::SystemClock;
    use crate::base::id::Epoch;

    fn logged(act: impl FnOnce()) -> Vec<Arc<LogEntry>> {
        let ring = LogRing::new(Epoch::from_u64(1), 100, 1 << 20);
        let layer = LogLayer::new(ring.clone(), Arc::new(SystemClock));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), act);
        ring.read(0, 100, 1 << 20).entries
    }

    #[test]
    fn a_line_is_the_message_and_the_fields() {
        let lines = logged(|| {
            tracing::info!(target: "shop::orders", count = 3, name = "x y", ok = true, "orders read");
            tracing::warn!(target: "shop::orders", error = ?"no");
        });
        let texts: Vec<_> = lines.iter().map(|line| (line.level, &*line.source, &*line.text)).collect();
        assert_eq!(
            texts,
            [
                (Level::Info, "shop::orders", "orders read count=3 name=x y ok=true"),
                (Level::Warn, "shop::orders", "error=\"no\""),
            ]
        );
    }

    #[test]
    fn spans_say_whose_work_it_is() {
        let lines = logged(|| {
            let run = tracing::info_span!("run", dispatcher = "imports", execution = 7_i64);
            run.in_scope(|| {
                tracing::info!(target: "shop", "plain");
                tracing::info_span!("inner", execution = 8_i64, step = 1)
                    .in_scope(|| tracing::info!(target: "shop", "inner"));
                tracing::info!(target: "shop", dispatcher = "other", "own");
            });
            tracing::info!(target: "shop", "outside");
        });
        let whose: Vec<_> =
            lines.iter().map(|line| (&*line.source, line.execution.map(|id| id.0), &*line.text)).collect();
        assert_eq!(
            whose,
            [
                ("imports", Some(7), "plain"),
                ("imports", Some(8), "inner"),
                ("other", Some(7), "own"),
                ("shop", None, "outside"),
            ]
        );
    }

    #[test]
    fn only_the_service_room_and_strangers_enter() {
        for (target, expected) in [
            ("shop", true),
            ("switchboard_shop::x", true),
            ("switchboard::service", true),
            ("switchboard::service::runner", true),
            ("switchboard::services", false),
            ("switchboard", false),
            ("switchboard::web::viewer", false),
            ("switchboard::messenger::client", false),
            ("sqlx::query", false),
            ("hyper_util::client", false),
        ] {
            assert_eq!(enters(target), expected, "{target}");
        }
    }

    #[test]
    fn a_value_that_logs_while_it_is_written_is_no_trouble() {
        struct Talker;
        impl fmt::Debug for Talker {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                tracing::info!(target: "shop", "inside");
                f.write_str("talker")
            }
        }
        let lines = logged(|| tracing::info!(target: "shop", who = ?Talker, "outside"));
        assert_eq!(lines.last().map(|line| line.text.to_string()), Some("outside who=talker".to_owned()));
    }
}
