//! `status`: what every dispatcher is doing.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use axum::http::Method;
use serde_json::Value;

use crate::app::cli::Global;
use crate::app::commands::door::Door;
use crate::app::commands::live::{Live, Wanted};
use crate::app::commands::{complain, tell};
use crate::base::chain::chain;
use crate::base::visible::visible;

/// What changes within this time is shown at once.
const TOGETHER: Duration = Duration::from_millis(200);

/// Where the cursor goes home, and what stood below it is gone.
const REDRAW: &str = "\u{1b}[H\u{1b}[J";

/// Shows it once, or whenever it changes.
///
/// # Errors
/// What the node refused, in its words; or that it can't be reached.
pub async fn run(global: &Global, watch: bool, json: bool) -> anyhow::Result<u8> {
    let door = Door::open(global).await?;
    let shown = tokio::select! {
        shown = async { if watch { go_on(&door, json).await } else { once(&door, json).await } } => shown,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    door.close().await;
    shown.map(|()| 0)
}

async fn once(door: &Door, json: bool) -> anyhow::Result<()> {
    let status = look(door).await?;
    tell(if json { status.to_string() } else { table(&rows(&status)) });
    Ok(())
}

async fn go_on(door: &Door, json: bool) -> anyhow::Result<()> {
    // it says when something changed; what it is now stands in `/api/status`
    let mut live = Live::open(door, Wanted::Status).await?;
    let redraws = !json && std::io::stdout().is_terminal();
    let (mut before, mut shown) = (Value::Null, Vec::new());
    loop {
        match look(door).await {
            Ok(status) if status != before => {
                let rows = rows(&status);
                let text = match (json, redraws) {
                    (true, _) => status.to_string(),
                    (false, true) => format!("{REDRAW}{}", table(&rows)),
                    (false, false) => changes(&shown, &rows).join("\n"),
                };
                // whoever read this is gone: nobody is left to tell
                if !text.is_empty() && !tell(text) {
                    return Ok(());
                }
                (before, shown) = (status, rows);
            }
            Ok(_) => {}
            // the socket goes on, or says why not
            Err(error) => complain(&chain(&*error)),
        }
        live.next().await?;
        live.pass_over(TOGETHER).await?;
    }
}

async fn look(door: &Door) -> anyhow::Result<Value> {
    let mut status = door.call(Method::GET, "/api/status", None).await?;
    if let Some(fields) = status.as_object_mut() {
        // what changes by itself is no news
        fields.remove("now");
    }
    Ok(status)
}

/// A name, and the line that tells of it: the link first, then every dispatcher.
fn rows(status: &Value) -> Vec<(String, String)> {
    let messenger = &status["messenger"];
    let mut link = format!("messenger: {}", messenger["state"].as_str().unwrap_or("unknown"));
    if let Some(error) = messenger["error"].as_str() {
        link.push_str(": ");
        link.push_str(&visible(error));
    }
    if status["nodes"].as_array().into_iter().flatten().any(|node| node["stopping"] == true) {
        link.push_str("; the service node is stopping: no run begins any more");
    }
    let mut rows = vec![(String::new(), link)];
    for dispatcher in status["dispatchers"].as_array().into_iter().flatten() {
        let text = |key: &str| visible(dispatcher[key].as_str().unwrap_or_default());
        rows.push((text("name").into_owned(), format!("{:<24} {:<9} {}", text("name"), text("state"), text("reason"))));
    }
    rows
}

fn table(rows: &[(String, String)]) -> String {
    rows.iter().map(|(_, line)| line.as_str()).collect::<Vec<_>>().join("\n")
}

/// The lines that are new or another than before, and who is gone.
fn changes(before: &[(String, String)], now: &[(String, String)]) -> Vec<String> {
    let known: BTreeMap<&str, &str> = before.iter().map(|(name, line)| (name.as_str(), line.as_str())).collect();
    let mut lines: Vec<String> = now
        .iter()
        .filter(|(name, line)| known.get(name.as_str()) != Some(&line.as_str()))
        .map(|(_, line)| line.clone())
        .collect();
    let gone = before.iter().filter(|(name, _)| !now.iter().any(|(still, _)| still == name));
    lines.extend(gone.map(|(name, _)| format!("{name:<24} gone")));
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_changed_is_told_line_by_line() {
        let status = |state: &str, names: &[&str]| {
            let dispatchers: Vec<_> =
                names.iter().map(|name| json!({ "name": name, "state": state, "reason": "r\u{1b}" })).collect();
            rows(&json!({ "messenger": { "state": "live" }, "dispatchers": dispatchers }))
        };
        let first = status("idle", &["a", "b"]);
        assert_eq!(changes(&[], &first).len(), 3);
        assert_eq!(changes(&first, &first), [""; 0]);
        let then = status("idle", &["a"]);
        assert_eq!(changes(&first, &then), [format!("{:<24} gone", "b")]);
        let last = changes(&then, &status("running", &["a"]));
        assert_eq!(last, [format!("{:<24} running   r␛", "a")]);
    }
}
