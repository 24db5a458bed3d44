//! PostgreSQL for tests: empty databases on the server that `scripts/test` starts, and servers of a test's own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what several tests share")]

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

/// Where the server is, as a superuser's URL.
const URL: &str = "SWITCHBOARD_TEST_POSTGRES";
/// Where its programs are.
const BIN: &str = "SWITCHBOARD_TEST_POSTGRES_BIN";

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: scripts/test starts PostgreSQL for the tests that are ignored without it")
    })
}

/// An empty database that goes away with the test.
pub(crate) struct TestDatabase {
    server: PgConnectOptions,
    url: String,
    name: String,
}

impl TestDatabase {
    /// On the server of all tests.
    pub(crate) async fn new() -> Self {
        Self::on(&variable(URL)).await
    }

    async fn on(server_url: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("switchboard_test_{}_{count}", std::process::id());
        let server: PgConnectOptions = server_url.parse().unwrap();
        let mut connection = server.connect().await.unwrap();
        let make = format!("create database {name} template template0");
        sqlx::raw_sql(AssertSqlSafe(make)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let (before, _) = server_url.rsplit_once('/').unwrap();
        Self { server, url: format!("{before}/{name}"), name }
    }

    /// With its password.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A connection beside the store, as another program would have one.
    pub(crate) async fn connect(&self) -> PgConnection {
        self.server.clone().database(&self.name).connect().await.unwrap()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // the test's own runtime can't be waited for here
        let drop = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                // one on a server that is gone is gone, too
                let Ok(mut connection) = server.connect().await else { return };
                let drop = format!("drop database {name} with (force)");
                let _ = sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut connection).await;
            });
        });
        let _ = drop.join();
    }
}

/// A server of the test's own, which can be stopped and started again.
pub(crate) struct TestServer {
    folder: PathBuf,
    port: u16,
}

impl TestServer {
    /// Makes and starts it.
    pub(crate) fn start() -> Self {
        let made = as_postgres("mktemp").args(["-d", "/tmp/switchboard-postgres.XXXXXX"]).output().unwrap();
        let folder = PathBuf::from(String::from_utf8(made.stdout).unwrap().trim());
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self { folder, port };
        let data = server.folder.join("data");
        let mut initdb = as_postgres(&program("initdb"));
        run(initdb.args(["--username=test", "--encoding=UTF8", "--locale=C", "--auth=trust", "-D"]).arg(data));
        server.up();
        server
    }

    /// A database on it.
    pub(crate) async fn database(&self) -> TestDatabase {
        TestDatabase::on(&format!("postgres://test@127.0.0.1:{}/postgres", self.port)).await
    }

    /// Starts it.
    pub(crate) fn up(&self) {
        let options = format!("-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories=", self.port);
        run(self.control().args(["start", "-w", "-o", &options, "-l"]).arg(self.folder.join("log")));
    }

    /// Stops it at once; connections are ended.
    pub(crate) fn down(&self) {
        run(self.control().args(["stop", "-w", "-m", "fast"]));
    }

    fn control(&self) -> Command {
        let mut control = as_postgres(&program("pg_ctl"));
        control.arg("-D").arg(self.folder.join("data"));
        control
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let _ = self.control().args(["stop", "-m", "immediate"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn program(name: &str) -> String {
    format!("{}/{name}", variable(BIN))
}

/// PostgreSQL refuses to run as root.
fn as_postgres(program: &str) -> Command {
    let mut command;
    if rustix::process::getuid().is_root() {
        command = Command::new("runuser");
        command.args(["-u", "postgres", "--", program]);
    } else {
        command = Command::new(program);
    }
    command.current_dir("/").stdin(Stdio::null());
    command
}

/// What it says is of use only if it fails; a server that it starts must not hold our pipes.
fn run(command: &mut Command) {
    let status = command.stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}
