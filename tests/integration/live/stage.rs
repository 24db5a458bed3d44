//! A web node and a service node in one process, joined by the in-memory transport, over one data directory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use switchboard::auth::password::Passwords;
use switchboard::auth::sign_in::SignIn;
use switchboard::base::clock::{Clock as _, SharedClock, SystemClock};
use switchboard::base::id::{Epoch, NodeId, random_u64};
use switchboard::base::shutdown::Shutdown;
use switchboard::config::base_path::BasePath;
use switchboard::config::settings::{Fixed, Settings};
use switchboard::control::{Actor, Control};
use switchboard::live::hub::Hub;
use switchboard::live::{feed, stored};
use switchboard::messenger::Identity;
use switchboard::messenger::client::Client;
use switchboard::messenger::endpoint::Endpoint;
use switchboard::messenger::secure::SharedKeys;
use switchboard::messenger::secure::keys::{Key, KeyRing};
use switchboard::messenger::server::Server;
use switchboard::model::log_entry::{Level, LogEntry};
use switchboard::model::node::Role;
use switchboard::model::user::ServiceRole;
use switchboard::protocol::state::NodeFacts;
use switchboard::service::log::LogRing;
use switchboard::store::{OpenOptions, Store};
use switchboard::web::{self, Web, WebState};
use tokio::sync::watch;

/// The service node's ring in these tests holds so many lines.
const RING: usize = 50_000;

pub(crate) struct Stage {
    /// Holds the database as long as the stage stands.
    pub(crate) root: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    /// The session of an administrator, as a browser sends it.
    pub(crate) cookie: String,
    pub(crate) web: WebState,
    pub(crate) shutdown: Shutdown,
    pub(crate) service: Option<Service>,
    keys: SharedKeys,
    endpoint: Endpoint,
    settings: watch::Sender<Arc<Settings>>,
    clock: SharedClock,
}

/// One life of the service node.
pub(crate) struct Service {
    pub(crate) log: LogRing,
    shutdown: Shutdown,
}

impl Stage {
    /// Both nodes are up, and an administrator is signed in.
    pub(crate) async fn begin() -> Self {
        let mut stage = Self::without_service().await;
        stage.start_service().await;
        stage
    }

    pub(crate) async fn without_service() -> Self {
        let clock: SharedClock = Arc::new(SystemClock);
        let root = tempfile::tempdir().unwrap();
        let shutdown = Shutdown::new();
        let options = OpenOptions {
            data: root.path().join("data"),
            database: None,
            encryption_key: None,
            clock: Arc::clone(&clock),
        };
        let store = Store::open(options, &shutdown).await.unwrap();
        let keys: SharedKeys = Arc::new(KeyRing::new(Key::generate()));
        let endpoint = Endpoint::Memory(format!("live-{:016x}", random_u64()));
        let identity = Identity { node: NodeId::random("web") };
        let (client, incoming) = Client::start(
            identity,
            endpoint.clone(),
            Arc::clone(&keys),
            feed::UNWATCHED,
            Arc::clone(&clock),
            &shutdown,
        );
        let hub = Hub::new(Arc::clone(&clock));
        feed::start(&hub, client.clone(), incoming, &shutdown);
        stored::start(&hub, store.clone(), &shutdown);

        let sign_in = SignIn::new(store.clone(), Passwords::new(), Arc::clone(&clock));
        let link = sign_in.new_setup_link().await.unwrap().unwrap();
        let password = SecretString::from("correct horse battery staple");
        let admitted = sign_in.set_up(link.expose_secret(), "ann", password, "127.0.0.1").await.unwrap();

        let (settings, in_force) = watch::channel(Arc::new(Settings::default()));
        let fixed = Arc::new(Fixed::default());
        let control = Control::new(store.clone(), Some(client.clone()), Arc::clone(&fixed), Arc::clone(&clock));
        let web: WebState = Arc::new(Web {
            base: BasePath::default(),
            certificate: watch::channel(None).1,
            hub,
            store,
            database: "SQLite".into(),
            control,
            sign_in,
            settings: in_force,
            fixed,
            messenger: client,
            clock: Arc::clone(&clock),
            shutdown: shutdown.clone(),
            viewers: web::viewer::Viewers::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // as the program's own listener does
        let listener = listener.tap_io(|socket| socket.set_nodelay(true).unwrap());
        let router = web::router(Arc::clone(&web)).into_make_service_with_connect_info::<SocketAddr>();
        shutdown.spawn("http", async move { axum::serve(listener, router).await.unwrap() });
        let cookie = format!("switchboard_session={}", admitted.cookie.expose_secret());
        Self { root, address, cookie, web, shutdown, service: None, keys, endpoint, settings, clock }
    }

    /// A new life of the service node.
    pub(crate) async fn start_service(&mut self) {
        let shutdown = Shutdown::new();
        let log = LogRing::new(Epoch::random(), RING, 64 << 20);
        let node = NodeId::new("service-1");
        let facts = NodeFacts {
            id: node.clone(),
            host: "here".into(),
            version: "0.1.0".into(),
            pid: 1,
            started_at: self.clock.now(),
            stopping: false,
            absences: Vec::new(),
        };
        let (_server, links) =
            Server::listen(Identity { node }, self.endpoint.clone(), Arc::clone(&self.keys), &shutdown).await.unwrap();
        let options = switchboard::service::Options {
            store: self.web.store.clone(),
            facts,
            role: Role::Service,
            address: None,
            id_file: None,
            alone: true,
            settings: self.settings.subscribe(),
            log: log.clone(),
            dispatchers: Vec::new(),
            links,
            keys: Arc::clone(&self.keys),
            clock: Arc::clone(&self.clock),
        };
        switchboard::service::start(options, &shutdown).await.unwrap();
        // the settings speak of a smaller ring than some of these tests need
        log.resize(RING, 64 << 20);
        self.service = Some(Service { log, shutdown });
        self.web.messenger.reconnect();
    }

    pub(crate) async fn stop_service(&mut self) {
        if let Some(service) = self.service.take() {
            service.shutdown.stop_now();
            service.shutdown.finished(Duration::from_secs(20)).await.unwrap();
        }
    }

    pub(crate) fn log(&self) -> &LogRing {
        &self.service.as_ref().expect("the service node is up").log
    }

    /// A new token of a new user.
    pub(crate) async fn token_of(&self, name: &str, role: ServiceRole) -> String {
        let all = Actor { who: "cli:0".into(), address: "local".into(), roles: vec![ServiceRole::ServiceAdmin] };
        let user = switchboard::store::users::NewUser {
            name: name.parse().unwrap(),
            email: String::new(),
            service_roles: vec![role],
            password_hash: None,
            token: None,
        };
        let mut transaction = self.web.store.begin().await.unwrap();
        let user = transaction.create_user(&user, self.clock.now()).await.unwrap();
        transaction.commit().await.unwrap();
        let token = self.web.control.new_token(&all, user.name.as_str()).await.unwrap();
        token.expose_secret().to_owned()
    }

    pub(crate) async fn end(mut self) {
        self.stop_service().await;
        self.shutdown.stop_now();
        // the database goes with the stage
        drop(self.root);
    }
}

pub(crate) fn entry(level: Level, source: &str, text: &str) -> LogEntry {
    LogEntry { time: SystemClock.now(), level, source: source.into(), execution: None, stream: None, text: text.into() }
}
