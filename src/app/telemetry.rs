//! Where traces go: the node's log, standard error, and the Diagnostics page.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::base::clock::SharedClock;
use crate::base::id::NodeId;
use crate::base::shutdown::Shutdown;
use crate::model::log_entry::Level;
use crate::service::layer::LogLayer;
use crate::service::log::LogRing;
use crate::store::Store;
use crate::store::diagnostics::Diagnostic;

/// Warnings and errors that wait to be kept; the oldest make way beyond.
const WAITING: usize = 1_000;

/// Warnings and errors are written at most this often, the same one after the other as one row.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// The longest text kept of one.
const MAX_MESSAGE: usize = 4_096;

/// What libraries say below a warning is for their authors.
const LIBRARIES: &[&str] = &[
    "sqlx",
    "hyper",
    "hyper_util",
    "reqwest",
    "rustls",
    "h2",
    "mio",
    "tokio_util",
    "tower_http",
    "tungstenite",
    "tokio_tungstenite",
    "axum",
];

/// Where traces go. Clones share it.
#[derive(Clone)]
pub struct Telemetry {
    ring: LogRing,
    minimum: Arc<AtomicU8>,
    waiting: Arc<Waiting>,
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

impl Telemetry {
    /// Nothing goes anywhere yet but into `ring`, when this is installed.
    #[must_use]
    pub fn new(ring: LogRing) -> Self {
        Self { ring, minimum: Arc::new(AtomicU8::new(Level::Info.index())), waiting: Arc::default() }
    }

    /// The node's log.
    #[must_use]
    pub fn ring(&self) -> &LogRing {
        &self.ring
    }

    /// The layer for a program that has a subscriber of its own.
    pub fn layer<S>(&self, clock: SharedClock) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    {
        let minimum = Arc::clone(&self.minimum);
        let wanted = dynamic_filter_fn(move |metadata, _| is_wanted(metadata, &minimum));
        let diagnostics = DiagnosticsLayer { waiting: Arc::clone(&self.waiting), clock: Arc::clone(&clock) };
        LogLayer::new(self.ring.clone(), clock).and_then(diagnostics).with_filter(wanted)
    }

    /// Installs a subscriber for the whole process: the layer above, and standard error.
    ///
    /// # Errors
    /// If the process has a subscriber already.
    pub fn install(&self, clock: SharedClock) -> Result<(), TryInitError> {
        let minimum = Arc::clone(&self.minimum);
        let console = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .with_filter(dynamic_filter_fn(move |metadata, _| is_wanted(metadata, &minimum)));
        tracing_subscriber::registry().with(self.layer(clock)).with(console).try_init()
    }

    /// Traces below this level go nowhere; what runs put out is none.
    pub fn set_minimum(&self, level: Level) {
        self.minimum.store(level.index(), Ordering::Relaxed);
        self.ring.set_minimum(level);
        tracing::callsite::rebuild_interest_cache();
    }

    /// Begins to keep our own warnings and errors in the store.
    pub fn keep(&self, store: Store, node: NodeId, shutdown: &Shutdown) {
        let waiting = Arc::clone(&self.waiting);
        let stopping = shutdown.clone();
        shutdown.spawn("diagnostics", async move {
            loop {
                let last = tokio::select! {
                    () = waiting.added.notified() => false,
                    () = stopping.stopping() => true,
                };
                if !last {
                    tokio::select! {
                        () = tokio::time::sleep(WRITE_INTERVAL) => {}
                        () = stopping.stopping() => {}
                    }
                }
                waiting.write(&store, &node).await;
                if last {
                    return;
                }
            }
        });
    }
}

fn is_wanted(metadata: &Metadata<'_>, minimum: &AtomicU8) -> bool {
    let level = level_of(metadata);
    let library = || {
        let root = metadata.target().split("::").next().unwrap_or_default();
        LIBRARIES.contains(&root)
    };
    level.index() >= minimum.load(Ordering::Relaxed) && (level >= Level::Warn || !library())
}

fn level_of(metadata: &Metadata<'_>) -> Level {
    match *metadata.level() {
        tracing::Level::TRACE => Level::Trace,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::INFO => Level::Info,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::ERROR => Level::Error,
    }
}

/// Our own warnings and errors on their way into the store.
#[derive(Default)]
struct Waiting {
    entries: Mutex<VecDeque<Diagnostic>>,
    added: Notify,
}

impl Waiting {
    fn add(&self, entry: Diagnostic) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        match entries.back_mut() {
            Some(last) if last.message == entry.message && last.source == entry.source => {
                last.count += 1;
                last.at = entry.at;
            }
            _ => {
                if entries.len() == WAITING {
                    entries.pop_front();
                }
                entries.push_back(entry);
            }
        }
        drop(entries);
        self.added.notify_one();
    }

    /// Writes what waits. A database that fails is reported nowhere: that would make the next entry. They wait on.
    async fn write(&self, store: &Store, node: &NodeId) {
        let mut entries: Vec<_> = self.entries.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
        if entries.is_empty() {
            return;
        }
        for entry in &mut entries {
            entry.node = node.clone();
        }
        let written = async {
            let mut transaction = store.begin().await?;
            transaction.keep_diagnostics(&entries).await?;
            transaction.commit().await
        };
        if written.await.is_err() {
            let mut waiting = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            for entry in entries.into_iter().rev() {
                if waiting.len() < WAITING {
                    waiting.push_front(entry);
                }
            }
        }
    }
}

/// Takes our own warnings and errors, from every room.
struct DiagnosticsLayer {
    waiting: Arc<Waiting>,
    clock: SharedClock,
}

impl<S: Subscriber> Layer<S> for DiagnosticsLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let level = level_of(event.metadata());
        let target = event.metadata().target();
        if level < Level::Warn || !(target == "switchboard" || target.starts_with("switchboard::")) {
            return;
        }
        let mut line = Line::default();
        event.record(&mut line);
        let mut message = line.message + &line.fields;
        if message.len() > MAX_MESSAGE {
            let end = (0..=MAX_MESSAGE).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
            message.truncate(end);
            message.push('…');
        }
        self.waiting.add(Diagnostic {
            id: 0,
            at: self.clock.now(),
            node: NodeId::new(""),
            level,
            source: target.to_owned(),
            message,
            count: 1,
        });
    }
}

/// An event's message and fields as one line.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // writing into a String can't fail
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}
