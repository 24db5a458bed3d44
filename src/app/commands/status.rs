//! `status`: what every dispatcher is doing.

use std::time::Duration;

use axum::http::Method;
use serde_json::Value;

use crate::app::cli::Global;
use crate::app::commands::door::Door;
use crate::app::commands::say;

/// How often `--watch` looks.
const LOOK: Duration = Duration::from_millis(500);

/// Shows it once, or whenever it changes.
///
/// # Errors
/// What the node refused, in its words; or that it can't be reached.
pub async fn run(global: &Global, watch: bool, json: bool) -> anyhow::Result<u8> {
    let door = Door::open(global).await?;
    let shown = show(&door, watch, json).await;
    door.close().await;
    shown.map(|()| 0)
}

async fn show(door: &Door, watch: bool, json: bool) -> anyhow::Result<()> {
    let mut before = Value::Null;
    loop {
        let mut status = door.call(Method::GET, "/api/status", None).await?;
        if let Some(fields) = status.as_object_mut() {
            // what changes by itself is no news
            fields.remove("now");
        }
        if status != before {
            if json {
                say(&status);
            } else {
                say(table(&status));
            }
            before = status;
        }
        if !watch {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

fn table(status: &Value) -> String {
    let mut lines = Vec::new();
    let messenger = &status["messenger"];
    let mut link = format!("messenger: {}", messenger["state"].as_str().unwrap_or("unknown"));
    if let Some(error) = messenger["error"].as_str() {
        link.push_str(": ");
        link.push_str(error);
    }
    lines.push(link);
    for dispatcher in status["dispatchers"].as_array().into_iter().flatten() {
        let text = |key: &str| dispatcher[key].as_str().unwrap_or_default();
        lines.push(format!("{:<24} {:<9} {}", text("name"), text("state"), text("reason")));
    }
    lines.join("\n")
}
