//! A cluster of real processes on one empty PostgreSQL database: each node with a data directory of its own, as on machines of
//! their own.
//!
//! The endpoint is `tcp://*:PORT`, so web nodes follow the primary. On one machine two processes can't listen everywhere at one
//! port: each service node listens at a loopback address of its own, at that port, and says that it is reached there.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sqlx::PgConnection;
use tokio::sync::{Mutex, OnceCell};

use crate::postgres::TestDatabase;
use crate::support::browser::PASSWORD;
use crate::support::node::{Node, Start, bare_command};
use crate::support::robot::Robot;
use crate::support::stage::{Done, Stage, run};
use crate::support::wait::{eventually, so, within};
use crate::support::writer::Jobs;

/// How often nodes say that they live, and how long a silent primary stays primary.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) beat: Duration,
    pub(crate) stale: Duration,
}

impl Times {
    /// As short as settings allow, so that tests are quick.
    pub(crate) const SHORT: Self = Self { beat: Duration::from_secs(1), stale: Duration::from_secs(3) };
    /// As they are if nobody sets them.
    pub(crate) const DEFAULT: Self = Self { beat: Duration::from_secs(5), stale: Duration::from_secs(15) };
}

/// A cluster; its nodes belong to the test.
pub(crate) struct Cluster {
    pub(crate) stage: Stage,
    pub(crate) database: TestDatabase,
    /// Of the endpoint, `tcp://*:PORT`.
    pub(crate) port: u16,
    jobs: PathBuf,
    encryption_key: String,
    token: OnceCell<String>,
    raw: Mutex<PgConnection>,
}

/// A row of the table of executions.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Execution {
    pub(crate) id: i64,
    pub(crate) node: Option<String>,
    pub(crate) started_at: Option<i64>,
    pub(crate) finished_at: Option<i64>,
    pub(crate) outcome: Option<String>,
    pub(crate) message: Option<String>,
}

impl Execution {
    /// What is said about it.
    pub(crate) fn said(&self) -> &str {
        self.message.as_deref().unwrap_or_default()
    }

    /// Both ran at the same moment.
    fn overlaps(&self, other: &Self) -> bool {
        let (Some(began), Some(other_began)) = (self.started_at, other.started_at) else { return false };
        let end = |run: &Self| run.finished_at.unwrap_or(i64::MAX);
        began < end(other) && other_began < end(self)
    }
}

/// A port of this machine that nobody listens at, at any address.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

impl Cluster {
    /// Its database with its settings, and the jobs of its service nodes; no node runs yet.
    pub(crate) async fn new(stage: Stage, times: Times, jobs: Jobs) -> Self {
        let database = TestDatabase::new().await;
        let raw = Mutex::new(database.connect().await);
        let jobs = jobs.save(&stage);
        let key: [u8; 32] = std::array::from_fn(|at| u8::try_from(at * 7 + 3).unwrap());
        let encryption_key = STANDARD.encode(key);
        let port = free_port();
        let cluster = Self { stage, database, port, jobs, encryption_key, token: OnceCell::new(), raw };
        cluster.command(&["migrate"], "").await.good();
        cluster.set("Service.MessengerEndpoint", &format!("tcp://*:{port}")).await;
        if times.stale != Times::DEFAULT.stale {
            cluster.set("Service.HeartbeatInterval", &format!("{}s", times.beat.as_secs())).await;
            cluster.set("Service.StaleTime", &format!("{}s", times.stale.as_secs())).await;
        }
        cluster
    }

    /// A node with this data directory, not started yet.
    pub(crate) fn node(&self, name: &str, role: &'static str) -> Start {
        Start::new(&self.stage.path(name))
            .role(role)
            .variable("SWITCHBOARD_DATABASE", self.database.url())
            .variable("SWITCHBOARD_ENCRYPTION_KEY", &self.encryption_key)
    }

    /// The service node of this number, 1 to 200, not started yet.
    pub(crate) fn service(&self, number: u8) -> Start {
        let address = Self::address(number);
        self.node(&format!("service-{number}"), "service")
            .config(self.jobs.clone())
            .setting("Service.MessengerEndpoint", format!("tcp://{address}:{}", self.port))
            .variable("SWITCHBOARD_ADVERTISE", address)
    }

    /// Where the service node of this number listens.
    pub(crate) fn address(number: u8) -> String {
        format!("127.0.0.{}", number + 1)
    }

    /// A service node that listens everywhere, as the endpoint says: the only one there can be on this machine.
    pub(crate) fn only_service(&self) -> Start {
        self.node("service", "service").config(self.jobs.clone()).variable("SWITCHBOARD_ADVERTISE", "127.0.0.1")
    }

    /// The web node of this number, not started yet.
    pub(crate) fn web(&self, number: u8) -> Start {
        self.node(&format!("web-{number}"), "web")
    }

    /// Runs a command of the program on its database.
    pub(crate) async fn command(&self, arguments: &[&str], input: &str) -> Done {
        let mut command = bare_command();
        command
            .env("SWITCHBOARD_DATABASE", self.database.url())
            .env("SWITCHBOARD_ENCRYPTION_KEY", &self.encryption_key)
            .arg("--data")
            .arg(self.stage.path("commands"))
            .args(arguments);
        run(&mut command, input).await
    }

    /// Sets a setting for all nodes.
    pub(crate) async fn set(&self, name: &str, value: &str) {
        self.command(&["settings", "set", name, value], "").await.good();
    }

    /// A token that may do everything.
    pub(crate) async fn token(&self) -> &str {
        let made = self.token.get_or_init(async || {
            let made = self.command(&["user", "add", "robot", "--role", "service_admin", "--token"], "").await;
            made.good().trim_end().to_owned()
        });
        made.await
    }

    /// Makes the administrator `root`, who signs in with [`PASSWORD`].
    pub(crate) async fn administrator(&self) {
        let made = ["user", "add", "root", "--role", "service_admin", "--password-stdin"];
        self.command(&made, &format!("{PASSWORD}\n")).await.good();
    }

    /// A script that may do everything, asking here.
    pub(crate) async fn robot(&self, base: &str) -> Robot {
        Robot::new(base, self.token().await)
    }

    /// The id of a running node; waits until the database knows it.
    pub(crate) async fn id(&self, node: &Node) -> String {
        let look = async || {
            let query = sqlx::query_scalar("select id from nodes where pid = $1 and stopped_at is null");
            let query = query.bind(i64::from(node.pid()));
            query.fetch_optional(&mut *self.raw.lock().await).await.unwrap()
        };
        eventually("a node that is registered", look).await
    }

    /// Who is primary by the database.
    pub(crate) async fn primary(&self) -> Option<String> {
        let now = "(extract(epoch from clock_timestamp()) * 1000000)::bigint";
        let query = format!("select holder from leadership where expires_at > {now}");
        let query = sqlx::query_scalar(sqlx::AssertSqlSafe(query));
        query.fetch_optional(&mut *self.raw.lock().await).await.unwrap().flatten()
    }

    /// When the present term is over, unless it is prolonged; microseconds since 1970.
    pub(crate) async fn expires_at(&self) -> i64 {
        let query = sqlx::query_scalar("select expires_at from leadership");
        query.fetch_one(&mut *self.raw.lock().await).await.unwrap()
    }

    /// The number of the present term, or of the last one.
    pub(crate) async fn term(&self) -> i64 {
        let query = sqlx::query_scalar("select fencing from leadership");
        query.fetch_one(&mut *self.raw.lock().await).await.unwrap()
    }

    /// Takes a node out of the table of nodes, as the page does with one that is gone.
    pub(crate) async fn remove(&self, node: &str) {
        let query = sqlx::query("delete from nodes where id = $1").bind(node);
        query.execute(&mut *self.raw.lock().await).await.unwrap();
    }

    /// Whether this node gave a sign of life after that one started.
    pub(crate) async fn beat_after_start_of(&self, node: &str, other: &str) -> bool {
        let query = "select a.heartbeat_at > b.started_at from nodes a, nodes b where a.id = $1 and b.id = $2";
        let query = sqlx::query_scalar(query).bind(node).bind(other);
        query.fetch_one(&mut *self.raw.lock().await).await.unwrap()
    }

    /// Waits until this node is primary; gives how long that took.
    pub(crate) async fn until_primary(&self, node: &Node, limit: Duration) -> Duration {
        let id = self.id(node).await;
        let what = format!("{id} as primary");
        within(limit, &what, async || so(self.primary().await.as_ref() == Some(&id))).await.1
    }

    /// Waits until the live view of a web node is that of this service node; gives how long that took.
    pub(crate) async fn until_follows(&self, web: &Robot, service: &Node, limit: Duration) -> Duration {
        let id = self.id(service).await;
        let what = format!("a web node that shows {id}");
        let look = async || {
            let status = web.status().await?;
            let messenger = &status["messenger"];
            so(status["live"] == true && messenger["state"] == "live" && messenger["peer"] == id.as_str())
        };
        within(limit, &what, look).await.1
    }

    /// Waits until a run has ended; as the database has it.
    pub(crate) async fn until_ended(&self, id: u64, limit: Duration) -> Execution {
        let id = i64::try_from(id).unwrap();
        let look = async || {
            let ended = "select * from executions where id = $1 and outcome is not null";
            sqlx::query_as(ended).bind(id).fetch_optional(&mut *self.raw.lock().await).await.unwrap()
        };
        within(limit, &format!("the end of execution {id}"), look).await.0
    }

    /// The executions of a dispatcher, in order.
    pub(crate) async fn executions(&self, dispatcher: &str) -> Vec<Execution> {
        let query = sqlx::query_as("select * from executions where dispatcher = $1 order by id");
        query.bind(dispatcher).fetch_all(&mut *self.raw.lock().await).await.unwrap()
    }

    /// Asks the primary to hand over to this node, if it is another: it is told by nothing but its next beat.
    pub(crate) async fn ask_hand_over(&self, to: &Node) -> Instant {
        let to = self.id(to).await;
        let query = sqlx::query("update leadership set asked_by = 'test', asked_to = $1 where holder <> $1").bind(to);
        query.execute(&mut *self.raw.lock().await).await.unwrap();
        Instant::now()
    }

    /// Fails if two runs of a dispatcher of which only one may go on at a time did, except where the first was given up with a
    /// word that it may go on.
    pub(crate) async fn one_at_a_time(&self, dispatcher: &str) {
        let runs = self.executions(dispatcher).await;
        for (at, run) in runs.iter().enumerate() {
            for other in &runs[at + 1..] {
                let excused = |run: &Execution| run.said().contains("may still go on");
                let bad = run.overlaps(other) && !excused(run) && !excused(other);
                assert!(!bad, "{dispatcher}: two at once:\n{run:?}\n{other:?}");
            }
        }
        let ids: BTreeSet<_> = runs.iter().map(|run| run.id).collect();
        assert_eq!(ids.len(), runs.len(), "{dispatcher}: an id twice");
    }
}
