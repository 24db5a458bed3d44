//! `doctor`: tries the messenger's endpoint and key, before they are saved or as they are in force.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use crate::app::cli::Global;
use crate::app::commands::users::first_line;
use crate::app::commands::{maintenance, say};
use crate::app::configuration::Configuration;
use crate::app::{messenger, nodes, settings};
use crate::base::clock::{SharedClock, SystemClock};
use crate::base::shutdown::Shutdown;
use crate::base::visible::visible;
use crate::control;
use crate::messenger::doctor::{Examination, Step};
use crate::messenger::secure::keys::{Key, KeyRing};

/// Tries `endpoint`, or the one in force, with the key from standard input, or the one in force. The exit code: 0 if a node would
/// have a link, else 1.
///
/// # Errors
/// If the endpoint or key is none, or the data directory can't be read.
pub async fn run(global: &Global, endpoint: Option<String>, key_stdin: bool, json: bool) -> anyhow::Result<u8> {
    maintenance::must_be_here(global, "doctor")?;
    let configuration = Configuration::load(global)?;
    let data = configuration.data.clone();
    let typed = if key_stdin { Some(typed_key()?) } else { None };
    let asked = endpoint.map(|text| control::doctor::endpoint(&text, &data)).transpose().context("--endpoint")?;
    let found = match (asked, typed) {
        (Some(endpoint), Some(key)) if !endpoint.is_wildcard() => {
            control::doctor::examine_there(&endpoint, &KeyRing::new(key)).await
        }
        (asked, typed) => {
            let (shutdown, clock) = (Shutdown::new(), Arc::new(SystemClock) as SharedClock);
            let store = maintenance::open(&configuration, &shutdown).await?;
            let keys = match typed {
                Some(key) => Arc::new(KeyRing::new(key)),
                None => messenger::keys(&store, &configuration.fixed, &clock).await?,
            };
            let in_force = settings::read(&store, &configuration.fixed).await?;
            let endpoint = asked.unwrap_or_else(|| messenger::endpoint(&in_force, &data));
            let found = control::doctor::examine(&endpoint, &store, &nodes::visitor(), &keys).await?;
            store.close().await;
            shutdown.stop_now();
            // whatever does not end in time ends with the process
            let _ = shutdown.finished(Duration::from_secs(2)).await;
            found
        }
    };
    if json {
        say(serde_json::to_string(&found)?);
    } else {
        print(&found);
    }
    Ok(u8::from(!found.finding.is_well()))
}

fn typed_key() -> anyhow::Result<Key> {
    Key::from_base64(&first_line()?)
        .context("standard input holds no key; 32 bytes in base64 are needed (44 characters, ending in `=`)")
}

fn print(found: &Examination) {
    say(format_args!("endpoint   {}", visible(&found.endpoint)));
    say(format_args!("key        {}", found.fingerprint));
    for Step { stage, micros, done } in &found.steps {
        let took = format!("{:.1?}", Duration::from_micros(*micros));
        say(format_args!("{:<10} {} {took}", stage.as_str(), if *done { "ok    " } else { "failed" }));
    }
    say(visible(&found.said));
    if !found.advice.is_empty() {
        say(found.advice);
    }
}
