//! PostgreSQL for tests: empty databases on the server that `scripts/test` starts.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

/// Where the server is, as a superuser's URL.
const URL: &str = "SWITCHBOARD_TEST_POSTGRES";

pub(crate) fn variable(name: &str) -> String {
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

    /// On the server of this URL.
    pub(crate) async fn on(server_url: &str) -> Self {
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
