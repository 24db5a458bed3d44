//! The service node over a real database: its runs, its log, its start and its end.

mod links;
mod log;
mod mirror;
mod primary;
mod runs;
mod starts;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use switchboard::base::clock::{SharedClock, SystemClock};
use switchboard::base::id::{Epoch, ExecutionId, NodeId};
use switchboard::base::shutdown::Shutdown;
use switchboard::config::job::Schedule;
use switchboard::config::settings::{Fixed, Settings, Source};
use switchboard::messenger::Identity;
use switchboard::messenger::endpoint::Endpoint;
use switchboard::messenger::secure::SharedKeys;
use switchboard::messenger::secure::keys::{Key, KeyRing};
use switchboard::messenger::server::Server;
use switchboard::model::execution::{Cause, Execution};
use switchboard::model::node::Role;
use switchboard::protocol::state::{NodeFacts, Origin};
use switchboard::service::dispatcher::{Definition, Dispatcher, Run, Verdict};
use switchboard::service::log::LogRing;
use switchboard::service::{Options, start};
use switchboard::store::executions::{ExecutionFilter, NewExecution};
use switchboard::store::{OpenOptions, Store};
use tokio::sync::watch;
use tokio::time::timeout;

/// Longer than anything here takes, and shorter than anybody's patience.
const LIMIT: Duration = Duration::from_secs(20);

/// A service node, for one test.
struct TestNode {
    store: Store,
    log: LogRing,
    id: NodeId,
    shutdown: Shutdown,
    settings: watch::Sender<Arc<Settings>>,
    endpoint: Endpoint,
    keys: SharedKeys,
    _server: Server,
}

/// How a node is made.
struct Setup {
    clock: SharedClock,
    id: NodeId,
    id_file: Option<&'static str>,
    fixed: Fixed,
    alone: bool,
}

impl Setup {
    fn new() -> Self {
        let (clock, id) = (Arc::new(SystemClock), NodeId::random("service"));
        let setup = Self { clock, id, id_file: None, fixed: Fixed::default(), alone: true };
        setup.with("Service.PollInterval", "1s")
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.fixed.set(name, value, Source::Environment).unwrap();
        self
    }

    async fn start(&self, data: &Path, dispatchers: Vec<Arc<dyn Dispatcher>>) -> TestNode {
        self.start_with(self.settings(), data, dispatchers).await
    }

    fn settings(&self) -> watch::Sender<Arc<Settings>> {
        watch::Sender::new(Arc::new(Settings::resolve(&self.fixed, []).0))
    }

    async fn start_with(
        &self,
        settings: watch::Sender<Arc<Settings>>,
        data: &Path,
        dispatchers: Vec<Arc<dyn Dispatcher>>,
    ) -> TestNode {
        let shutdown = Shutdown::new();
        let store = open(data, &self.clock, &shutdown).await;
        let watched = settings.subscribe();
        let log = LogRing::new(Epoch::random(), 10_000, 8 << 20);
        let keys = Arc::new(KeyRing::new(Key::generate()));
        let endpoint = Endpoint::Memory(NodeId::random("test").to_string());
        let identity = Identity { node: self.id.clone() };
        let (server, links) = Server::listen(identity, endpoint.clone(), Arc::clone(&keys), &shutdown).await.unwrap();
        let facts = NodeFacts {
            id: self.id.clone(),
            host: "here".into(),
            version: "1.0.0".into(),
            pid: 1,
            started_at: self.clock.now(),
            stopping: false,
            absences: Vec::new(),
        };
        let options = Options {
            store: store.clone(),
            facts,
            role: Role::Service,
            address: None,
            id_file: self.id_file.map(str::to_owned),
            alone: self.alone,
            settings: watched,
            log: log.clone(),
            dispatchers,
            links,
            keys: Arc::clone(&keys),
            clock: Arc::clone(&self.clock),
        };
        start(options, &shutdown).await.unwrap();
        TestNode { store, log, id: self.id.clone(), shutdown, settings, endpoint, keys, _server: server }
    }
}

async fn open(data: &Path, clock: &SharedClock, shutdown: &Shutdown) -> Store {
    let options = OpenOptions { data: data.to_owned(), database: None, encryption_key: None, clock: Arc::clone(clock) };
    Store::open(options, shutdown).await.unwrap()
}

impl TestNode {
    /// Stops softly and waits until every task has ended.
    async fn stop(&self) {
        self.shutdown.stop();
        self.ended().await;
    }

    async fn ended(&self) {
        assert_eq!(self.shutdown.fallen(), None);
        assert_eq!(self.shutdown.finished(LIMIT).await, Ok(()));
    }

    /// Every execution of a dispatcher, oldest first.
    async fn runs(&self, dispatcher: &str) -> Vec<Execution> {
        runs(&self.store, dispatcher).await
    }

    /// Waits until so many runs of a dispatcher have ended; gives them, oldest first.
    async fn ended_runs(&self, dispatcher: &str, count: usize) -> Vec<Execution> {
        eventually(&self.store, "runs to end", async || {
            let runs: Vec<_> = self.runs(dispatcher).await.into_iter().filter(|run| run.outcome.is_some()).collect();
            (runs.len() >= count).then_some(runs)
        })
        .await
    }

    /// Asks for a run as a page would.
    async fn ask(&self, dispatcher: &str) -> ExecutionId {
        ask(&self.store, dispatcher).await
    }
}

async fn runs(store: &Store, dispatcher: &str) -> Vec<Execution> {
    let filter = ExecutionFilter { dispatcher: Some(dispatcher.into()), limit: 1000, ..ExecutionFilter::default() };
    let mut runs = store.executions(&filter).await.unwrap();
    runs.reverse();
    runs
}

async fn ask(store: &Store, dispatcher: &str) -> ExecutionId {
    let new = NewExecution {
        dispatcher: dispatcher.into(),
        cause: Cause::Manual,
        requested_by: Some("ann".into()),
        queued_at: SharedClock::from(Arc::new(SystemClock) as Arc<_>).now(),
        after: None,
        idempotency_key: None,
        retry_of: None,
    };
    let mut transaction = store.begin().await.unwrap();
    let requested = transaction.request_execution(&new).await.unwrap();
    transaction.commit().await.unwrap();
    requested.execution.id
}

/// Looks again whenever the database changed, until there is an answer.
async fn eventually<T, F: Future<Output = Option<T>>>(store: &Store, what: &str, look: impl Fn() -> F) -> T {
    let mut changes = store.changes();
    let look = async {
        loop {
            changes.borrow_and_update();
            if let Some(answer) = look().await {
                return answer;
            }
            changes.changed().await.unwrap();
        }
    };
    timeout(LIMIT, look).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// What a test's dispatcher does when it runs.
type Body = Box<dyn Fn(Arc<Steps>, u32) -> Act + Send + Sync>;

/// How one run goes.
enum Act {
    End(Verdict),
    Panic(&'static str),
    /// Ends when it is cancelled.
    UntilCancelled,
    /// Ends when the test lets it.
    UntilLet,
    /// Says these lines and ends.
    Say(Vec<&'static str>),
    /// Says how far it is, so many times, and then ends when the test lets it.
    Progress(u64),
    /// Never reacts to anything.
    Deaf,
}

/// What a test hears of its dispatcher's runs, and tells them.
struct Steps {
    /// How many runs began.
    began: watch::Sender<u32>,
    /// How many runs may end.
    lets: tokio::sync::Semaphore,
}

/// A dispatcher of a test.
struct Played {
    definition: Definition,
    steps: Arc<Steps>,
    count: AtomicU32,
    body: Body,
}

fn definition(name: &str, schedule: Schedule) -> Definition {
    Definition {
        name: name.into(),
        title: name.into(),
        description: "Of a test.".into(),
        origin: Origin::Program,
        schedule,
        disabled_by: None,
        limit: 1,
        timeout: None,
        retries: 0,
        retry_delay: Duration::from_millis(10),
        run_at_start: false,
        catch_up: false,
        overlap: false,
        quiet: false,
    }
}

/// A dispatcher that does in its n-th run what `body` says.
fn played(definition: Definition, body: impl Fn(u32) -> Act + Send + Sync + 'static) -> (Arc<Played>, Arc<Steps>) {
    let (began, _) = watch::channel(0);
    let steps = Arc::new(Steps { began, lets: tokio::sync::Semaphore::new(0) });
    let body: Body = Box::new(move |_, number| body(number));
    let dispatcher = Played { definition, steps: Arc::clone(&steps), count: AtomicU32::new(0), body };
    (Arc::new(dispatcher), steps)
}

impl Steps {
    /// Waits until so many runs have begun.
    async fn begun(&self, count: u32) {
        let mut began = self.began.subscribe();
        let wait = began.wait_for(|began| *began >= count);
        timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("run {count} did not begin")).unwrap();
    }
}

#[async_trait]
impl Dispatcher for Played {
    fn definition(&self) -> Definition {
        self.definition.clone()
    }

    async fn run_once(&self, run: &Run) -> Verdict {
        let number = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        self.steps.began.send_replace(number);
        match (self.body)(Arc::clone(&self.steps), number) {
            Act::End(verdict) => verdict,
            Act::Panic(text) => panic!("{text}"),
            Act::UntilCancelled => {
                run.cancelled().await;
                Verdict::normal(None)
            }
            Act::UntilLet => {
                self.steps.lets.acquire().await.unwrap().forget();
                Verdict::normal(None)
            }
            Act::Say(lines) => {
                for line in lines {
                    run.log(switchboard::model::log_entry::Level::Info, line);
                }
                Verdict::normal(None)
            }
            Act::Progress(steps) => {
                for done in 1..=steps {
                    run.progress(done, steps, None);
                    tokio::task::yield_now().await;
                }
                self.steps.lets.acquire().await.unwrap().forget();
                Verdict::normal(None)
            }
            Act::Deaf => std::future::pending().await,
        }
    }
}
