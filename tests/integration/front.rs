//! A store in a directory of its own, the doors in front of it and the router of `/api`, for the tests of these.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what several tests share")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use switchboard::api::Api;
use switchboard::auth::password::Passwords;
use switchboard::auth::sign_in::SignIn;
use switchboard::base::clock::{ManualClock, SharedClock, Timestamp};
use switchboard::base::id::{ExecutionId, NodeId, random_u64};
use switchboard::base::shutdown::Shutdown;
use switchboard::config::settings::{Fixed, Settings};
use switchboard::control::users::WantedUser;
use switchboard::control::{Actor, Control};
use switchboard::live::hub::Hub;
use switchboard::messenger::client::{Client, Incoming};
use switchboard::messenger::endpoint::Endpoint;
use switchboard::messenger::secure::SharedKeys;
use switchboard::messenger::secure::keys::{Key, KeyRing};
use switchboard::messenger::{Identity, Pace};
use switchboard::model::audit::AuditEntry;
use switchboard::model::execution::Execution;
use switchboard::model::user::ServiceRole;
use switchboard::store::audit::AuditFilter;
use switchboard::store::dispatchers::StoredDispatcher;
use switchboard::store::{OpenOptions, Store};
use tokio::sync::{mpsc, watch};
use tower::ServiceExt as _;

/// Where requests come from, unless a test says otherwise.
pub(crate) const HOME: &str = "127.0.0.1";

/// The beginning of these tests' time.
pub(crate) const START: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

/// Everything in front of one store.
pub(crate) struct Front {
    pub(crate) store: Store,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) sign_in: SignIn,
    pub(crate) control: Control,
    pub(crate) hub: Hub,
    pub(crate) messenger: Client,
    pub(crate) incoming: Option<mpsc::Receiver<Incoming>>,
    pub(crate) endpoint: Endpoint,
    pub(crate) keys: SharedKeys,
    pub(crate) shutdown: Shutdown,
    pub(crate) settings: watch::Sender<Arc<Settings>>,
    pub(crate) data: tempfile::TempDir,
    router: axum::Router,
}

/// What an answer was.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) code: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answered {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

pub(crate) fn secret(text: &str) -> SecretString {
    SecretString::from(text.to_owned())
}

pub(crate) async fn open(data: &std::path::Path, clock: &Arc<ManualClock>, shutdown: &Shutdown) -> Store {
    let clock: SharedClock = clock.clone();
    let options = OpenOptions { data: data.to_owned(), database: None, encryption_key: None, clock };
    Store::open(options, shutdown).await.expect("a fresh store opens")
}

impl Front {
    pub(crate) async fn new() -> Self {
        Self::with(Fixed::default()).await
    }

    /// With settings fixed outside the database.
    pub(crate) async fn with(fixed: Fixed) -> Self {
        let (data, clock, shutdown) = (tempfile::tempdir().unwrap(), ManualClock::new(START), Shutdown::new());
        let store = open(data.path(), &clock, &shutdown).await;
        let shared: SharedClock = clock.clone();
        let sign_in = SignIn::new(store.clone(), Passwords::new(), Arc::clone(&shared));
        let fixed = Arc::new(fixed);
        let (settings, in_force) = watch::channel(Arc::new(Settings::resolve(&fixed, []).0));
        let endpoint = Endpoint::Memory(format!("front-{:x}", random_u64()));
        let keys: SharedKeys = Arc::new(KeyRing::new(Key::generate()));
        let (messenger, incoming) = Client::start(
            Identity { node: NodeId::new("web-1") },
            endpoint.clone(),
            Arc::clone(&keys),
            Pace { beat: Duration::from_secs(1), silence: Duration::from_secs(4) },
            Arc::clone(&shared),
            &shutdown,
        );
        let door = Some(messenger.clone());
        let control = Control::new(store.clone(), door, Arc::clone(&fixed), Arc::clone(&shared));
        let hub = Hub::new(Arc::clone(&shared));
        let router = switchboard::api::router(Arc::new(Api {
            base: switchboard::config::base_path::BasePath::default(),
            hub: hub.clone(),
            store: store.clone(),
            control: control.clone(),
            sign_in: sign_in.clone(),
            settings: in_force,
            fixed,
            messenger: messenger.clone(),
            clock: shared,
            shutdown: shutdown.clone(),
        }));
        let incoming = Some(incoming);
        Self {
            store,
            clock,
            sign_in,
            control,
            hub,
            messenger,
            incoming,
            endpoint,
            keys,
            shutdown,
            settings,
            data,
            router,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        use switchboard::base::clock::Clock as _;
        self.clock.now()
    }

    /// Makes a user with a token, and gives that.
    pub(crate) async fn token(&self, name: &str, role: ServiceRole) -> String {
        let wanted =
            WantedUser { name: name.to_owned(), email: String::new(), roles: vec![role], password: None, token: true };
        let created = self.control.create_user(&root(), self.sign_in.passwords(), wanted).await.unwrap();
        created.token.unwrap().expose_secret().to_owned()
    }

    /// Makes a user with a password.
    pub(crate) async fn person(&self, name: &str, role: ServiceRole, password: &str) {
        let wanted = WantedUser {
            name: name.to_owned(),
            email: String::new(),
            roles: vec![role],
            password: Some(secret(password)),
            token: false,
        };
        self.control.create_user(&root(), self.sign_in.passwords(), wanted).await.unwrap();
    }

    /// Declares dispatchers of these names; one named `disabled` is.
    pub(crate) async fn declare(&self, names: &[&str]) {
        let declared: Vec<_> = names
            .iter()
            .map(|name| StoredDispatcher {
                name: (*name).to_owned(),
                title: (*name).to_owned(),
                description: String::new(),
                origin: "job".to_owned(),
                schedule: "every 5 m".to_owned(),
                present: true,
                disabled_by: (*name == "disabled").then(|| "enabled = false".to_owned()),
                limit: 1,
                next_at: None,
                paused: None,
            })
            .collect();
        let mut transaction = self.store.begin().await.unwrap();
        transaction.declare_dispatchers(&declared).await.unwrap();
        transaction.commit().await.unwrap();
    }

    /// A service node takes a waiting run.
    pub(crate) async fn claim(&self, id: ExecutionId) -> Execution {
        let mut transaction = self.store.begin().await.unwrap();
        let node = NodeId::new("service-1");
        let execution = transaction.claim_execution(id, &node, 9, self.now()).await.unwrap().unwrap();
        transaction.commit().await.unwrap();
        execution
    }

    /// Every audit entry, oldest first.
    pub(crate) async fn audit(&self) -> Vec<AuditEntry> {
        let filter = AuditFilter { limit: 1_000, ..AuditFilter::default() };
        let mut entries = self.store.audit(&filter).await.unwrap();
        entries.reverse();
        entries
    }

    /// The results of every audit entry of this action, oldest first.
    pub(crate) async fn audited(&self, action: &str) -> Vec<String> {
        self.audit().await.into_iter().filter(|entry| entry.action == action).map(|entry| entry.result).collect()
    }

    /// Asks, from an address, with headers.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answered {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(body.into()).unwrap();
        let address: SocketAddr = format!("{HOME}:4711").parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(address));
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 16 << 20).await.unwrap();
        Answered { code: parts.status, headers: parts.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    /// Asks with a token.
    pub(crate) async fn call(&self, method: &str, path: &str, token: &str, body: &str) -> Answered {
        self.ask(method, path, &[("x-api-key", token)], body.to_owned()).await
    }
}

/// Somebody on the node's machine: may do everything.
pub(crate) fn root() -> Actor {
    Actor { who: "cli:0".to_owned(), address: "local".to_owned(), roles: vec![ServiceRole::ServiceAdmin] }
}

/// Somebody who may only look.
pub(crate) fn viewer() -> Actor {
    Actor { who: "vic".to_owned(), address: HOME.to_owned(), roles: vec![ServiceRole::AdminViewer] }
}
