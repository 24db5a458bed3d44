//! `run`: a node, from start to stop.

use std::sync::Arc;

use secrecy::ExposeSecret as _;

use crate::app::cli::Global;
use crate::app::commands::say;
use crate::app::configuration::Configuration;
use crate::app::telemetry::Telemetry;
use crate::app::{App, Options, lifecycle};
use crate::base::clock::SharedClock;
use crate::base::cluster_clock::ClusterClock;
use crate::base::id::Epoch;
use crate::base::shutdown::Shutdown;
use crate::model::node::Role;
use crate::service::log::LogRing;

/// The log's size until the settings are read.
const FIRST_RING: (usize, usize) = (20_000, 8 << 20);

/// Runs a node until it is told to stop. The exit code.
///
/// # Errors
/// Whatever keeps it from starting.
pub async fn run(global: &Global, role: Role) -> anyhow::Result<u8> {
    let configuration =
        if role.has_web() { Configuration::load_with_tls(global)? } else { Configuration::load(global)? };
    let clock = ClusterClock::new();
    let telemetry = Telemetry::new(LogRing::new(Epoch::random(), FIRST_RING.0, FIRST_RING.1));
    telemetry.install(Arc::clone(&clock) as SharedClock)?;
    let shutdown = Shutdown::new();
    lifecycle::listen(&shutdown)?;
    let options = Options { configuration, role, dispatchers: Vec::new(), telemetry, clock };
    let app = App::build(options, &shutdown).await?;
    match app.url() {
        Some(url) => {
            say(format_args!("Switchboard {} listens on {url}", env!("CARGO_PKG_VERSION")));
            if let Some(secret) = app.setup_link() {
                let link = format!("{url}/setup?link={}", secret.expose_secret());
                say(format_args!("First administrator: {link}  (valid for one hour, works once)"));
            }
        }
        None => say(format_args!("Switchboard {} works as a service node", env!("CARGO_PKG_VERSION"))),
    }
    app.run().await
}
