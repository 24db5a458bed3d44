//! A web node as tests see it: the real router over a real store, and a made-up service node at the other end of a link.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};
use switchboard::auth::password::Passwords;
use switchboard::auth::sign_in::SignIn;
use switchboard::base::clock::{Clock as _, SharedClock, SystemClock, Timestamp};
use switchboard::base::id::{Epoch, ExecutionId, NodeId};
use switchboard::base::shutdown::Shutdown;
use switchboard::config::base_path::BasePath;
use switchboard::config::settings::{Fixed, Settings};
use switchboard::control::Control;
use switchboard::control::doctor::Practice;
use switchboard::live::{feed, hub::Hub, stored};
use switchboard::messenger::Identity;
use switchboard::messenger::client::{Client, LinkState};
use switchboard::messenger::endpoint::Endpoint;
use switchboard::messenger::secure::keys::{Key, KeyRing};
use switchboard::messenger::server::Server;
use switchboard::model::execution::{Cause, Outcome, Progress};
use switchboard::model::log_entry::{Level, LogEntry, Stream};
use switchboard::model::node::{Node, Role};
use switchboard::protocol::command::Command;
use switchboard::protocol::state::{Activity, Bar, DispatcherState, LastError, NodeFacts, NodeState, Origin, Run};
use switchboard::protocol::{Kind, LogBatch, Report};
use switchboard::store::dispatchers::StoredDispatcher;
use switchboard::store::executions::NewExecution;
use switchboard::store::{OpenOptions, Store};
use switchboard::web::{Web, router};
use tokio::sync::watch;
use tower::ServiceExt as _;

/// The host that requests of our own pages name.
pub(crate) const HOST: &str = "switchboard.test:8080";
/// A script, as somebody could put it into whatever is shown.
pub(crate) const SCRIPT: &str = "<script>alert('x')</script>\u{202e}";
/// The password of everybody in these tests.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// The web node. What it holds goes away with it.
pub(crate) struct Site {
    pub(crate) router: axum::Router,
    pub(crate) web: Arc<Web>,
    pub(crate) store: Store,
    shutdown: Shutdown,
    data: tempfile::TempDir,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.shutdown.stop_now();
    }
}

/// What was answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn location(&self) -> &str {
        self.headers.get(header::LOCATION).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn cookie(&self) -> Option<String> {
        let cookies = self.headers.get_all(header::SET_COOKIE).iter();
        let cookie = cookies.filter_map(|value| value.to_str().ok()).find(|v| v.starts_with("switchboard_session="))?;
        Some(cookie.split(';').next().unwrap().to_owned())
    }
}

impl Site {
    /// With a service node that answers.
    pub(crate) async fn new() -> Self {
        Self::start(true, Fixed::default()).await
    }

    /// With or without a service node, and with settings fixed outside the database.
    pub(crate) async fn start(with_service: bool, fixed: Fixed) -> Self {
        Self::under(BasePath::default(), with_service, fixed).await
    }

    /// The same, under a base path.
    pub(crate) async fn under(base: BasePath, with_service: bool, fixed: Fixed) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let clock: SharedClock = Arc::new(SystemClock);
        let (shutdown, data) = (Shutdown::new(), tempfile::tempdir().unwrap());
        let options = OpenOptions {
            data: data.path().join("data"),
            database: None,
            encryption_key: None,
            clock: Arc::clone(&clock),
        };
        let store = Store::open(options, &shutdown).await.unwrap();
        let name = format!("pages-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let endpoint = Endpoint::Memory(name);
        let keys = Arc::new(KeyRing::new(Key::generate()));
        if with_service {
            serve(endpoint.clone(), Arc::clone(&keys), &shutdown).await;
        }
        let identity = Identity { node: NodeId::new("web-1") };
        let (messenger, incoming) =
            Client::start(identity, endpoint, Arc::clone(&keys), feed::UNWATCHED, Arc::clone(&clock), &shutdown);
        let hub = Hub::new(Arc::clone(&clock));
        feed::start(&hub, messenger.clone(), incoming, &shutdown);
        stored::start(&hub, store.clone(), &shutdown);
        let fixed = Arc::new(fixed);
        let settings = watch::channel(Arc::new(Settings::resolve(&fixed, []).0)).1;
        let control = Control::new(store.clone(), Some(messenger.clone()), Arc::clone(&fixed), Arc::clone(&clock))
            .trying(Practice::new(NodeId::new("web-1"), keys, data.path().join("data")));
        let web = Arc::new(Web {
            base: base.clone(),
            certificate: watch::channel(None).1,
            hub,
            store: store.clone(),
            database: "SQLite, data/switchboard.db".to_owned(),
            control,
            sign_in: SignIn::new(store.clone(), Passwords::new(), Arc::clone(&clock)),
            settings,
            fixed,
            messenger,
            clock,
            shutdown: shutdown.clone(),
            viewers: switchboard::web::viewer::Viewers::new(base),
        });
        let site = Self { router: router(Arc::clone(&web)), web, store, shutdown, data };
        site.fill().await;
        if with_service {
            let mut status = site.web.messenger.status();
            let live = status.wait_for(|link| link.state == LinkState::Live);
            tokio::time::timeout(Duration::from_secs(10), live).await.unwrap().unwrap();
        }
        site
    }

    /// Changes the database, as another program would.
    pub(crate) async fn change(&self, statement: &'static str) {
        let file = SqliteConnectOptions::new().filename(self.data.path().join("data/switchboard.db"));
        let mut connection = SqliteConnection::connect_with(&file).await.unwrap();
        sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// Asks, as a browser on our own pages would.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let body = to_bytes(response.into_body(), 32 << 20).await.unwrap();
        Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() }
    }

    pub(crate) async fn get(&self, path: &str, cookie: Option<&str>) -> Answer {
        let mut request = Request::get(path).header(header::HOST, HOST).header(header::ACCEPT, "text/html");
        if let Some(cookie) = cookie {
            request = request.header(header::COOKIE, cookie);
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, cookie: Option<&str>, fields: &[(&str, &str)]) -> Answer {
        self.post_as(path, cookie, fields, &[("origin", &format!("http://{HOST}"))]).await
    }

    pub(crate) async fn post_as(
        &self,
        path: &str,
        cookie: Option<&str>,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::post(path)
            .header(header::HOST, HOST)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(cookie) = cookie {
            request = request.header(header::COOKIE, cookie);
        }
        self.send(request.body(Body::from(encode(fields))).unwrap()).await
    }

    /// Makes the first administrator by the set-up link, and gives its cookie.
    pub(crate) async fn admin(&self) -> String {
        use secrecy::ExposeSecret as _;
        let link = self.web.sign_in.new_setup_link().await.unwrap().unwrap();
        let fields = [("link", link.expose_secret()), ("name", "ann"), ("password", PASSWORD), ("again", PASSWORD)];
        let answer = self.post("/setup", None, &fields).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        answer.cookie().unwrap()
    }

    /// Makes a user through the page, and signs it in.
    pub(crate) async fn user(&self, admin: &str, name: &str, role: &str) -> String {
        let fields = [("name", name), ("role", role), ("password", PASSWORD)];
        let made = self.post("/users", Some(admin), &fields).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
        let entered = self.post("/sign-in", None, &[("name", name), ("password", PASSWORD)]).await;
        assert_eq!(entered.status, StatusCode::SEE_OTHER, "{}", entered.body);
        entered.cookie().unwrap()
    }

    /// Rows as a service node would have left them.
    async fn fill(&self) {
        let now = self.web.clock.now();
        let node = NodeId::new("service-1");
        let declared = |name: &str, title: &str| StoredDispatcher {
            name: name.to_owned(),
            title: title.to_owned(),
            description: SCRIPT.to_owned(),
            origin: "job".to_owned(),
            schedule: "every 5m".to_owned(),
            present: true,
            disabled_by: None,
            limit: 1,
            next_at: Some(now.plus(Duration::from_mins(5))),
            paused: None,
        };
        let mut transaction = self.store.begin().await.unwrap();
        transaction
            .register_node(&Node {
                id: node.clone(),
                role: Role::Service,
                host: "box".to_owned(),
                version: "0.0.9".to_owned(),
                pid: 4711,
                started_at: now,
                heartbeat_at: now,
                stopped_at: None,
                key_fingerprint: Some("7f3a91c07f3a91c0".to_owned()),
                address: None,
                address_override: None,
                id_file: None,
            })
            .await
            .unwrap();
        transaction
            .declare_dispatchers(&[declared("disk-space", "Disk space"), declared("evil", SCRIPT)])
            .await
            .unwrap();
        for (seconds, outcome) in [(300, Outcome::Normal), (200, Outcome::Error), (100, Outcome::Cancelled)] {
            let at = now.minus(Duration::from_secs(seconds));
            let new = NewExecution {
                dispatcher: "disk-space".to_owned(),
                cause: Cause::Schedule,
                requested_by: None,
                queued_at: at,
                after: None,
                idempotency_key: None,
                retry_of: None,
            };
            let run = transaction.begin_execution(&new, &node, 1).await.unwrap().unwrap();
            let said = Some(SCRIPT);
            transaction.finish_execution(run.id, outcome, said, at.plus(Duration::from_secs(2))).await.unwrap();
        }
        let lines: Vec<_> = lines(now).into_iter().zip(1..).map(|(line, seq)| (seq, line)).collect();
        transaction.keep_rows(&node, Epoch::from_u64(1), &lines, &[]).await.unwrap();
        transaction.commit().await.unwrap();
    }
}

/// As a browser encodes a form.
pub(crate) fn encode(fields: &[(&str, &str)]) -> String {
    let escape = |text: &str| {
        let mut escaped = String::with_capacity(text.len());
        for b in text.bytes() {
            if b.is_ascii_alphanumeric() {
                escaped.push(b.into());
            } else {
                let _ = write!(escaped, "%{b:02X}");
            }
        }
        escaped
    };
    fields.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect::<Vec<_>>().join("&")
}

/// A service node that has this state, and says so to whoever watches.
async fn serve(endpoint: Endpoint, keys: Arc<KeyRing>, shutdown: &Shutdown) {
    let identity = Identity { node: NodeId::new("service-1") };
    let (server, mut channels) = Server::listen(identity, endpoint, keys, shutdown).await.unwrap();
    let tasks = shutdown.clone();
    shutdown.spawn("made-up service", async move {
        let _server = server;
        while let Some(channel) = channels.recv().await {
            tasks.spawn("made-up link", async move {
                let (mut sender, mut receiver) = channel.split();
                let whole = || (Kind::Report as u8, Report::Whole(Box::new(state(SystemClock.now()))).encode());
                if sender.send(&[whole()]).await.is_err() {
                    return;
                }
                while let Ok(Some(envelopes)) = receiver.recv().await {
                    for envelope in envelopes {
                        if let Ok(Command::Watch { .. }) = Command::decode(&envelope.body) {
                            let entries = lines(SystemClock.now());
                            let log = Report::Log(LogBatch { epoch: Epoch::from_u64(1), gap: None, first: 1, entries });
                            let answer = [whole(), (Kind::Report as u8, log.encode())];
                            if sender.send(&answer).await.is_err() {
                                return;
                            }
                        }
                    }
                }
            });
        }
    });
}

fn lines(now: Timestamp) -> Vec<LogEntry> {
    let line = |seconds, level, source: &str, execution: Option<i64>, stream, text: &str| LogEntry {
        time: now.minus(Duration::from_secs(seconds)),
        level,
        source: source.into(),
        execution: execution.map(ExecutionId),
        stream,
        text: text.into(),
    };
    vec![
        line(400, Level::Info, "service", None, None, "service node service-1 is ready; 9 dispatchers"),
        line(300, Level::Info, "disk-space", Some(1), None, "run 1 begins (schedule)"),
        line(
            299,
            Level::Info,
            "disk-space",
            Some(1),
            Some(Stream::Stdout),
            "Filesystem      Size  Used Avail Use% Mounted on",
        ),
        line(299, Level::Info, "disk-space", Some(1), Some(Stream::Stdout), "/dev/vda1        40G   31G  9.1G  78% /"),
        line(298, Level::Warn, "disk-space", Some(1), Some(Stream::Stderr), "df: /mnt/backup: Permission denied"),
        line(298, Level::Info, "disk-space", Some(1), None, "run 1 ended: normal, 2.0 s"),
        line(
            200,
            Level::Error,
            "backup",
            Some(2),
            Some(Stream::Stderr),
            &format!("\u{1b}[31mno space left\u{1b}[0m {SCRIPT}"),
        ),
        line(100, Level::Debug, "evil", Some(3), None, "looked into the queue"),
        line(3, Level::Info, "reindex", Some(7), Some(Stream::Stdout), "indexing 3 of 10: customers"),
    ]
}

/// A state with one dispatcher of every kind.
pub(crate) fn state(now: Timestamp) -> NodeState {
    let facts = NodeFacts {
        id: NodeId::new("service-1"),
        host: "box".to_owned(),
        version: "0.1.0".to_owned(),
        pid: 4711,
        started_at: now.minus(Duration::from_hours(2)),
        stopping: false,
        absences: Vec::new(),
    };
    let mut state = NodeState::new(Epoch::from_u64(1), facts);
    let ago = |seconds| now.minus(Duration::from_secs(seconds));
    let soon = |seconds| now.plus(Duration::from_secs(seconds));
    let bars = |count: i64, bad: i64| -> Vec<Bar> {
        (0..count)
            .map(|n| {
                let started_at = ago(u64::try_from((count - n) * 300).unwrap());
                let wave = u64::try_from((n * 37) % 11 + 3).unwrap() * 130;
                let outcome = match n {
                    n if bad > 0 && n % bad == bad - 1 => Outcome::Error,
                    n if n % 17 == 16 => Outcome::Warning,
                    n if n % 29 == 28 => Outcome::Cancelled,
                    _ => Outcome::Normal,
                };
                let finished_at = started_at.plus(Duration::from_millis(wave));
                Bar { execution: ExecutionId(n + 1), started_at, finished_at, outcome }
            })
            .collect()
    };
    let mut add =
        |name: &str, title: &str, schedule: &str, activity: Activity, change: &dyn Fn(&mut DispatcherState)| {
            let mut dispatcher = DispatcherState {
                name: name.to_owned(),
                title: title.to_owned(),
                description: "Keeps an eye on things and says so.".to_owned(),
                origin: Origin::Job,
                schedule: schedule.to_owned(),
                activity,
                paused: None,
                next_at: None,
                running: vec![],
                limit: 1,
                queued: 0,
                recent: vec![],
                last_error: None,
                failures: 0,
                skipped: 0,
                stopping: false,
            };
            change(&mut dispatcher);
            state.dispatchers.insert(name.to_owned(), dispatcher);
        };
    add("heartbeat", "Service heartbeat", "every 30 s", Activity::Idle, &|d| {
        d.origin = Origin::BuiltIn;
        d.next_at = Some(soon(18));
        d.recent = bars(40, 0);
    });
    add("clean-up", "Clean-up", "every 1 h", Activity::Idle, &|d| {
        d.origin = Origin::BuiltIn;
        d.next_at = Some(soon(2400));
        d.recent = bars(12, 0);
    });
    add("disk-space", "Disk space", "every 5 m", Activity::Idle, &|d| {
        d.next_at = Some(soon(61));
        d.recent = bars(38, 0);
    });
    add(
        "backup",
        "Nightly backup",
        "15 3 * * * Europe/Berlin",
        Activity::Failing { next_attempt: Some(soon(95)) },
        &|d| {
            d.next_at = Some(soon(95));
            d.recent = bars(26, 5);
            d.failures = 3;
            let message = "exit code 1: pg_dump: error: connection to server at \"db.example\" (10.1.2.3), port 5432 failed: \
                       Connection refused. Is the server running on that host and accepting TCP/IP connections?";
            d.last_error = Some(LastError { execution: ExecutionId(26), at: ago(400), message: message.to_owned() });
        },
    );
    add("reindex", "Reindex search", "when told", Activity::Running, &|d| {
        d.recent = bars(9, 0);
        d.limit = 2;
        d.queued = 2;
        d.running = vec![Run {
            execution: ExecutionId(70),
            cause: Cause::Manual,
            by: Some("ann".to_owned()),
            started_at: ago(72),
            progress: Some(Progress { done: 3, total: 10, text: Some("customers".to_owned()) }),
            cancelled_by: None,
        }];
    });
    add(
        "report",
        "Monthly report",
        "0 6 1 * * UTC",
        Activity::Paused { by: "ann".to_owned(), since: ago(5400) },
        &|d| {
            d.recent = bars(5, 0);
        },
    );
    add("self-check", "Own readiness", "every 1 m", Activity::Overdue { expected_by: ago(130) }, &|d| {
        d.next_at = Some(ago(130));
        d.recent = bars(40, 13);
        d.skipped = 4;
    });
    add("import", "Import orders", "every 10 s", Activity::Queued, &|d| {
        d.queued = 1;
        d.recent = bars(40, 0);
    });
    let by = "line 41 of switchboard.toml (enabled = false)".to_owned();
    add("old-sync", "Old sync", "every 1 h", Activity::Disabled { by }, &|_| {});
    add("evil", SCRIPT, "when told", Activity::Idle, &|d| SCRIPT.clone_into(&mut d.description));
    state
}
