//! A program with a dispatcher of its own, whose `tracing` events stand on the Service Status page.
//!
//! `cargo run --example embedded` and open the link it prints.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::ExposeSecret as _;
use switchboard::app::configuration::Configuration;
use switchboard::app::telemetry::Telemetry;
use switchboard::app::{App, Options, lifecycle};
use switchboard::base::clock::SharedClock;
use switchboard::base::cluster_clock::ClusterClock;
use switchboard::base::id::Epoch;
use switchboard::base::shutdown::Shutdown;
use switchboard::config::job::Schedule;
use switchboard::model::log_entry::Level;
use switchboard::model::node::Role;
use switchboard::service::dispatcher::{Definition, Dispatcher, Run, Verdict};
use switchboard::service::log::LogRing;

/// Counts sheep, ten a run.
struct Sheep;

#[async_trait]
impl Dispatcher for Sheep {
    fn definition(&self) -> Definition {
        Definition {
            description: "Counts ten sheep and says how many it saw.".to_owned(),
            run_at_start: true,
            timeout: Some(Duration::from_mins(1)),
            ..Definition::new("sheep", "Count sheep", Schedule::Every(Duration::from_secs(30)))
        }
    }

    async fn run_once(&self, run: &Run) -> Verdict {
        for sheep in 1..=10 {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(300)) => {}
                () = run.cancelled() => return Verdict::warning(format!("asleep after {sheep} sheep")),
            }
            run.progress(sheep, 10, Some("counting".to_owned()));
            run.log(Level::Info, &format!("sheep {sheep} jumped"));
        }
        // an ordinary trace event of the program stands in the same log
        tracing::info!(flock = 10, "the flock is over the fence");
        Verdict::normal("10 sheep".to_owned())
    }
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "a program on a terminal says where its page is")]
async fn main() -> anyhow::Result<()> {
    let clock = ClusterClock::new();
    let telemetry = Telemetry::new(LogRing::new(Epoch::random(), 20_000, 8 << 20));
    telemetry.install(Arc::clone(&clock) as SharedClock)?;
    let shutdown = Shutdown::new();
    lifecycle::listen(&shutdown)?;
    let options = Options {
        configuration: Configuration::new("embedded-data"),
        role: Role::All,
        dispatchers: vec![Arc::new(Sheep)],
        telemetry,
        clock,
    };
    let app = App::build(options, &shutdown).await?;
    if let Some(address) = app.address() {
        println!("Service Status: http://{address}/status");
        if let Some(secret) = app.setup_link() {
            println!("First administrator: http://{address}/setup?link={}", secret.expose_secret());
        }
    }
    let code = app.run().await?;
    std::process::exit(code.into());
}
