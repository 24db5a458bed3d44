//! `logs`: the newest lines, or lines as they come.

use std::fmt::Write as _;

use axum::http::Method;
use serde_json::Value;

use crate::app::cli::Global;
use crate::app::commands::door::{Door, segment};
use crate::app::commands::say;
use crate::model::log_entry::Level;

/// How many lines are shown at first, and asked for at a time.
const LINES: u32 = 200;

/// How long the node waits for a new line before it answers that there is none, in seconds.
const WAIT: u32 = 20;

/// Shows lines.
///
/// # Errors
/// What the node refused, in its words; or that it can't be reached.
pub async fn run(
    global: &Global,
    follow: bool,
    json: bool,
    level: Level,
    source: Option<String>,
) -> anyhow::Result<u8> {
    let door = Door::open(global).await?;
    let shown = tokio::select! {
        shown = show(&door, follow, json, level, source.as_deref()) => shown,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    door.close().await;
    shown.map(|()| 0)
}

async fn show(door: &Door, follow: bool, json: bool, level: Level, source: Option<&str>) -> anyhow::Result<()> {
    let mut filter = format!("/api/logs?limit={LINES}&level={level}");
    if let Some(source) = source {
        let _ = write!(filter, "&source={}", segment(source));
    }
    let mut since: Option<String> = None;
    loop {
        let path = match &since {
            Some(since) => format!("{filter}&wait={WAIT}&since={}", segment(since)),
            None => filter.clone(),
        };
        let answer = door.call(Method::GET, &path, None).await?;
        if answer["gap"].is_object() {
            say(if json { answer["gap"].to_string() } else { gap(&answer["gap"]) });
        }
        for line in answer["lines"].as_array().into_iter().flatten() {
            say(if json { line.to_string() } else { plain(line) });
        }
        since = answer["next"].as_str().map(ToOwned::to_owned).or(since);
        if !follow {
            return Ok(());
        }
    }
}

fn gap(gap: &Value) -> String {
    format!("--- lines {} to {} are lost: they came faster than they could be read ---", gap["from"], gap["to"])
}

fn plain(line: &Value) -> String {
    let text = |key: &str| line[key].as_str().unwrap_or_default();
    // what a program wrote must not command the terminal that shows it
    let message: String = text("message")
        .chars()
        .map(|c| {
            if c.is_control() && c != '\t' {
                char::from_u32(0x2400 + (c as u32 & 0x3f)).unwrap_or('\u{fffd}')
            } else {
                c
            }
        })
        .collect();
    format!("{} {:<5} {} {message}", text("time"), text("level"), text("source"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_can_not_command_the_terminal() {
        let line = json!({ "time": "t", "level": "info", "source": "s", "message": "\u{1b}[2Jgone" });
        assert!(!plain(&line).contains('\u{1b}'), "{}", plain(&line));
    }
}
