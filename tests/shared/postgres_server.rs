//! A PostgreSQL server of a test's own.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::postgres::{TestDatabase, variable};

/// Where its programs are.
const BIN: &str = "SWITCHBOARD_TEST_POSTGRES_BIN";

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

    /// Stops it at once and ends its connections: `fast`, or `immediate`, as a crash would.
    pub(crate) fn stop(&self, how: &str) {
        run(self.control().args(["stop", "-w", "-m", how]));
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
