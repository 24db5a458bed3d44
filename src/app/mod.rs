//! The roof: builds the rooms this node's role needs and runs them.

pub mod allowed;
pub mod applied;
pub mod certificate;
pub mod cli;
pub mod commands;
pub mod configuration;
pub mod front;
pub mod http;
pub mod lifecycle;
pub mod links;
pub mod messenger;
pub mod nodes;
pub mod proxies;
mod quiet;
pub mod reach;
pub mod settings;
pub mod telemetry;
pub mod time;
pub mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::api::{self, Api};
use crate::app::configuration::{Configuration, Problems};
use crate::app::front::Front;
use crate::app::nodes::Presence;
use crate::app::telemetry::Telemetry;
use crate::app::tls::Tls;
use crate::auth::password::Passwords;
use crate::auth::sign_in::SignIn;
use crate::base::clock::SharedClock;
use crate::base::cluster_clock::ClusterClock;
use crate::base::shutdown::Shutdown;
use crate::config::base_path::BasePath;
use crate::config::schema::name;
use crate::config::settings::{Fixed, Settings};
use crate::control::doctor::Practice;
use crate::control::{Control, primary};
use crate::live::hub::Hub;
use crate::live::{feed, stored};
use crate::messenger::client::Client;
use crate::messenger::secure::{SecureChannel, SharedKeys};
use crate::messenger::server::Server;
use crate::messenger::target::Target;
use crate::messenger::{Identity, Pace};
use crate::model::node::Role;
use crate::protocol::state::NodeFacts;
use crate::service;
use crate::service::dispatcher::Dispatcher;
use crate::service::jobs;
use crate::service::jobs::host::Host;
use crate::store::lock::ServiceLock;
use crate::store::node_id::OwnNodeId;
use crate::store::{OpenOptions, Store};
use crate::web::viewer::Viewers;
use crate::web::{self, Web};

/// A link nobody watches says so seldom that it lives; watchers change this.
const CALM: Pace = Pace { beat: Duration::from_secs(15), silence: Duration::from_secs(40) };

/// Tasks get so long to end after the runs did, in a soft stop.
const WIND_DOWN: Duration = Duration::from_secs(10);

/// What a node is made of.
pub struct Options {
    /// What the operator said.
    pub configuration: Configuration,
    /// What the node does.
    pub role: Role,
    /// Dispatchers of the program that embeds this one.
    pub dispatchers: Vec<Arc<dyn Dispatcher>>,
    /// Where traces go; its ring is the node's log.
    pub telemetry: Telemetry,
    /// Tells the time: the database's, where several machines share one.
    pub clock: Arc<ClusterClock>,
}

/// A node that is built: its addresses are taken, its database is open; nothing runs before [`App::run`].
pub struct App {
    store: Store,
    facts: NodeFacts,
    role: Role,
    fixed: Arc<Fixed>,
    settings: watch::Receiver<Arc<Settings>>,
    keys: SharedKeys,
    data: std::path::PathBuf,
    telemetry: Telemetry,
    clock: SharedClock,
    shutdown: Shutdown,
    web: Option<WebPart>,
    service: Option<ServicePart>,
    setup_link: Option<secrecy::SecretString>,
    /// Held as long as the node lives: its id is nobody else's.
    own_id: OwnNodeId,
}

/// What only a web node has.
struct WebPart {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
    base: BasePath,
    sign_in: SignIn,
}

/// What only a service node has.
struct ServicePart {
    dispatchers: Vec<Arc<dyn Dispatcher>>,
    /// Where web nodes reach it.
    address: String,
    server: Server,
    links: mpsc::Receiver<SecureChannel>,
    /// Held as long as the node lives: no second service node works on the same data directory.
    lock: ServiceLock,
}

impl App {
    /// Opens the database, takes the addresses, and starts nothing.
    ///
    /// # Errors
    /// Whatever keeps the node from starting, in words that say what to do.
    pub async fn build(options: Options, shutdown: &Shutdown) -> anyhow::Result<Self> {
        let Options { configuration, role, dispatchers, telemetry, clock } = options;
        let Configuration { data, database, listen, advertise, base_path, tls, jobs, fixed, encryption_key } =
            configuration;
        let (cluster_clock, clock) = (Arc::clone(&clock), clock as SharedClock);
        let own_id = OwnNodeId::take(&data, role)?;
        let lock = if role.has_service() { Some(ServiceLock::take(&data, own_id.id())?) } else { None };
        let address = match advertise {
            Some(address) => address,
            None => reach::own_address(database.as_ref()).await,
        };
        let open = OpenOptions { data: data.clone(), database, encryption_key, clock: Arc::clone(&clock) };
        let store = nodes::open_store(open, own_id.id(), shutdown).await?;
        if let Some(news) = store.news() {
            tracing::info!("{news}");
        }
        if store.is_shared() {
            time::follow_database(&store, &cluster_clock, shutdown).await?;
        }
        // only now that the clock is the database's
        let facts = nodes::facts(own_id.id().clone(), clock.now());
        let fixed = Arc::new(fixed);
        let keys = messenger::keys(&store, &fixed, &clock).await?;
        let settings = settings::follow(&store, Arc::clone(&fixed), shutdown).await?;
        if store.is_shared() {
            nodes::be_the_only_one(&own_id, &store, &settings, &clock, shutdown).await?;
        }
        let web = if role.has_web() {
            let listener = http::bind(listen).await?;
            let address = listener.local_addr().context("the address listened on can't be told")?;
            let tls = match tls {
                Some(files) => {
                    let loaded = tls::Loaded::read(&files, clock.now()).map_err(Problems)?;
                    Some(Tls::start(files, loaded, &clock, shutdown).context("SIGHUP can't be listened for")?)
                }
                None => None,
            };
            let sign_in = SignIn::new(store.clone(), Passwords::new(), Arc::clone(&clock));
            Some(WebPart { listener, address, tls, base: base_path, sign_in })
        } else {
            None
        };
        let service = if let Some(lock) = lock {
            let host = Host::this_program().with("SWITCHBOARD_DATA", std::path::absolute(&data)?.to_string_lossy());
            let mut declared = jobs::dispatchers(&jobs, &host);
            declared.extend(dispatchers);
            let endpoint = messenger::endpoint(&settings.borrow(), &data);
            let identity = Identity { node: facts.id.clone() };
            let (server, links) = messenger::listen(identity, endpoint, &data, &keys, shutdown).await?;
            allowed::allow(&server, &settings.borrow());
            Some(ServicePart { dispatchers: declared, address, server, links, lock })
        } else {
            None
        };
        let setup_link = match &web {
            Some(part) => part.sign_in.new_setup_link().await?,
            None => None,
        };
        Ok(Self {
            store,
            facts,
            role,
            fixed,
            settings,
            keys,
            data,
            telemetry,
            clock,
            shutdown: shutdown.clone(),
            web,
            service,
            setup_link,
            own_id,
        })
    }

    /// Where the pages are, if this node has any.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.web.as_ref().map(|part| part.address)
    }

    /// The same as a browser wants it, with scheme and base path, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> Option<String> {
        let part = self.web.as_ref()?;
        let scheme = if part.tls.is_some() { "https" } else { "http" };
        Some(format!("{scheme}://{}{}", part.address, part.base))
    }

    /// The secret of the link that makes the first administrator, while there is none. Whoever has it may use it: show it once.
    #[must_use]
    pub fn setup_link(&self) -> Option<&secrecy::SecretString> {
        self.setup_link.as_ref()
    }

    /// Starts everything and waits for the stop. The exit code: 0, or 1 if a part of the node fell.
    ///
    /// # Errors
    /// If something can't be started.
    pub async fn run(mut self) -> anyhow::Result<u8> {
        let address = self.service.as_ref().map(|part| part.address.clone());
        let row = nodes::row(&self.facts, self.role, address.clone(), &self.own_id);
        let presence = Presence::new(&self.store, row, &self.keys, &self.clock, &self.shutdown);
        if self.service.is_none() {
            // a service node registers itself: it has to read the last sign of life of its former life first
            presence.register().await?;
        }
        self.telemetry.keep(self.store.clone(), self.facts.id.clone(), &self.shutdown);
        apply_log_settings(&self.telemetry, self.settings.clone(), &self.shutdown);
        let mut server = None;
        let mut lock = None;
        if let Some(part) = self.service.take() {
            server = Some(part.server);
            lock = Some(part.lock);
            let options = service::Options {
                store: self.store.clone(),
                facts: self.facts.clone(),
                role: self.role,
                address,
                id_file: Some(self.own_id.mark().to_owned()),
                alone: !self.store.is_shared(),
                settings: self.settings.clone(),
                log: self.telemetry.ring().clone(),
                dispatchers: part.dispatchers,
                links: part.links,
                keys: Arc::clone(&self.keys),
                clock: Arc::clone(&self.clock),
            };
            service::start(options, &self.shutdown).await?;
        }
        if !self.role.has_service() {
            // only now that it is registered; a service node beats by itself, and as long as its runs go on
            presence.keep_beating(self.settings.clone());
        }
        let mut client = None;
        let mut dialled = None;
        let mut door = None;
        if let Some(part) = self.web.take() {
            door = Some(part.sign_in.clone());
            follow_drain_time(self.settings.clone(), &self.shutdown);
            // a link leads where this node itself listens, whatever it should be
            let endpoint = match &server {
                Some(server) => server.endpoint(),
                None => messenger::endpoint(&self.settings.borrow(), &self.data),
            };
            let target = primary::to_dial(&self.store, &endpoint, &self.facts.id).await?;
            let started = self.start_web(target.clone(), part);
            links::keep_telling(&self.store, &self.facts.id, &started, &self.shutdown);
            client = Some(started);
            dialled = Some(target);
        }
        let (told, messenger_settings) = watch::channel(Vec::new());
        let applier = messenger::Applier {
            server,
            client,
            dialled,
            keys: Arc::clone(&self.keys),
            data: self.data.clone(),
            node: self.facts.id.clone(),
            presence: Some(presence.clone()),
            told,
        };
        applied::keep_telling(
            &self.store,
            &self.facts.id,
            self.settings.clone(),
            messenger_settings,
            &self.clock,
            &self.shutdown,
        );
        applier.start(&self.store, self.settings.clone(), &self.clock, &self.shutdown);
        let settings = self.settings.clone();
        let code =
            lifecycle::wait(&self.shutdown, || settings.borrow().duration(name::STOP_PATIENCE) + WIND_DOWN).await;
        if let Some(sign_in) = door {
            sign_in.write_failures().await;
        }
        presence.say_stopped().await;
        self.store.close().await;
        drop((lock, self.own_id));
        Ok(code)
    }

    fn start_web(&self, target: Target, part: WebPart) -> Client {
        let WebPart { listener, tls, base, sign_in, .. } = part;
        let hub = Hub::new(Arc::clone(&self.clock));
        let identity = Identity { node: self.facts.id.clone() };
        let keys = Arc::clone(&self.keys);
        let (client, incoming) = Client::start(identity, target, keys, CALM, Arc::clone(&self.clock), &self.shutdown);
        feed::start(&hub, client.clone(), incoming, &self.shutdown);
        stored::start(&hub, self.store.clone(), &self.shutdown);
        let control =
            Control::new(self.store.clone(), Some(client.clone()), Arc::clone(&self.fixed), Arc::clone(&self.clock))
                .knowing({
                    let hub = hub.clone();
                    move || hub.is_stopping()
                })
                .trying(Practice::new(self.facts.id.clone(), Arc::clone(&self.keys), self.data.clone()));
        let api = api::router(Arc::new(Api {
            base: base.clone(),
            hub: hub.clone(),
            store: self.store.clone(),
            control: control.clone(),
            sign_in: sign_in.clone(),
            settings: self.settings.clone(),
            fixed: Arc::clone(&self.fixed),
            messenger: client.clone(),
            clock: Arc::clone(&self.clock),
            shutdown: self.shutdown.clone(),
        }));
        let web = Arc::new(Web {
            base: base.clone(),
            certificate: tls.as_ref().map_or_else(|| watch::channel(None).1, Tls::state),
            hub,
            database: self.store.description().to_owned(),
            store: self.store.clone(),
            control,
            sign_in,
            settings: self.settings.clone(),
            fixed: Arc::clone(&self.fixed),
            messenger: client.clone(),
            clock: Arc::clone(&self.clock),
            shutdown: self.shutdown.clone(),
            viewers: Viewers::new(base.clone()),
        });
        let within = api.merge(web::router(Arc::clone(&web)));
        let front = Front::new(within, web::outside(web), base, self.settings.clone(), self.shutdown.clone());
        http::serve(listener, front, tls, &self.shutdown);
        client
    }
}

/// How long a stop is announced follows its setting.
fn follow_drain_time(mut settings: watch::Receiver<Arc<Settings>>, shutdown: &Shutdown) {
    let node = shutdown.clone();
    shutdown.set_drain_time(settings.borrow_and_update().duration(name::DRAIN_TIME));
    shutdown.spawn("drain time", async move {
        loop {
            tokio::select! {
                changed = settings.changed() => if changed.is_err() { return },
                () = node.stopping() => return,
            }
            node.set_drain_time(settings.borrow_and_update().duration(name::DRAIN_TIME));
        }
    });
}

/// Level and size of the log follow their settings.
fn apply_log_settings(telemetry: &Telemetry, mut settings: watch::Receiver<Arc<Settings>>, shutdown: &Shutdown) {
    let (telemetry, stopping) = (telemetry.clone(), shutdown.clone());
    shutdown.spawn("log settings", async move {
        loop {
            {
                let now = settings.borrow_and_update();
                if let Ok(level) = now.text(name::MINIMUM_LOG_LEVEL).parse() {
                    telemetry.set_minimum(level);
                }
                let lines = usize::try_from(now.integer(name::LOG_RING_LINES)).unwrap_or(usize::MAX);
                let bytes = usize::try_from(now.size(name::LOG_RING_BYTES)).unwrap_or(usize::MAX);
                telemetry.ring().resize(lines, bytes);
            }
            tokio::select! {
                changed = settings.changed() => if changed.is_err() { return },
                () = stopping.stopping() => return,
            }
        }
    });
}
