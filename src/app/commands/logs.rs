//! `logs`: the newest lines, or lines as they come.

use std::fmt::Write as _;

use axum::http::Method;
use serde_json::{Value, json};

use crate::api::types::logs::{LogItem, LogsAnswer};
use crate::app::cli::Global;
use crate::app::commands::door::{Door, segment};
use crate::app::commands::live::{Live, Wanted};
use crate::app::commands::{complain, tell};
use crate::base::clock::Timestamp;
use crate::base::id::{Cursor, Epoch, ExecutionId, NodeId};
use crate::base::visible::visible;
use crate::live::filter::{LineFilter, Missed};
use crate::model::log_entry::{Level, LogGap, Stream};
use crate::web::viewer::wire::Wish;

/// Which lines, and how they are shown.
#[derive(Clone, Debug)]
pub struct Shown {
    /// So many of the newest.
    pub lines: u32,
    /// Of this level and above.
    pub level: Level,
    /// Of this source only.
    pub source: Option<String>,
    /// As JSON, an object a line.
    pub json: bool,
}

/// Shows lines: the newest ones, or these and then without an end what comes.
///
/// # Errors
/// What the node refused, in its words; or that it can't be reached.
pub async fn run(global: &Global, follow: bool, shown: &Shown) -> anyhow::Result<u8> {
    let door = Door::open(global).await?;
    let shown = async {
        match newest(&door, shown).await? {
            Some(at) if follow => go_on(&door, shown, at).await,
            _ => Ok(()),
        }
    };
    let ended = tokio::select! {
        ended = shown => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    door.close().await;
    ended.map(|()| 0)
}

/// Where lines go on; none before anything is known of them.
type Place = Option<Cursor>;

/// Shows the newest lines. None if nobody reads them any more.
async fn newest(door: &Door, shown: &Shown) -> anyhow::Result<Option<Place>> {
    // one at least, to learn what comes after it
    let mut path = format!("/api/logs?limit={}&level={}", shown.lines.max(1), shown.level);
    if let Some(source) = &shown.source {
        let _ = write!(path, "&source={}", segment(source));
    }
    let answer: LogsAnswer = serde_json::from_value(door.call(Method::GET, &path, None).await?)?;
    if shown.lines == 0 {
        return Ok(Some(answer.next));
    }
    if let Some(gap) = &answer.gap {
        lost(gap.from, gap.to, &Missed { by_level: gap.by_level, unknown: gap.unknown });
    }
    let mut before: Option<&LogItem> = None;
    for line in &answer.lines {
        if let Some(before) = before.replace(line).filter(|before| before.epoch != line.epoch) {
            complain(&restarted(&json!({ "node": line.node, "before": before.node })));
        }
        // whoever read this is gone (`| head`): nobody is left to tell
        if !show(line, shown.json) {
            return Ok(None);
        }
    }
    Ok(Some(answer.next))
}

/// Shows lines after a place as they come, until nobody reads them any more.
async fn go_on(door: &Door, shown: &Shown, at: Place) -> anyhow::Result<()> {
    let wish = Wish {
        level: Some(shown.level.to_string()),
        sources: shown.source.iter().cloned().collect(),
        ..Wish::default()
    };
    let filter = LineFilter { level: Some(shown.level), ..LineFilter::default() };
    let mut live = Live::open(door, Wanted::Lines(wish, at)).await?;
    loop {
        let message = live.next().await?;
        match message["t"].as_str() {
            Some("log") => {
                for row in message["rows"].as_array().into_iter().flatten() {
                    if item(&message, row).is_some_and(|line| !show(&line, shown.json)) {
                        return Ok(());
                    }
                }
            }
            Some("gap") => {
                let gap: LogGap = serde_json::from_value(message)?;
                let missed = filter.missed(&gap);
                if missed.count() > 0 {
                    lost(gap.from, gap.to, &missed);
                }
            }
            Some("restart") => complain(&restarted(&message)),
            _ => {}
        }
    }
}

/// A row of a message as `/api/logs` has it.
fn item(message: &Value, row: &Value) -> Option<LogItem> {
    let level = Level::from_index(u8::try_from(row[2].as_u64()?).ok()?)?;
    Some(LogItem {
        node: NodeId::new(message["node"].as_str().unwrap_or_default()),
        epoch: message["epoch"].as_str()?.parse::<Epoch>().ok()?,
        seq: row[0].as_u64()?,
        time: Timestamp::from_micros(row[1].as_i64()?.saturating_mul(1000)),
        level,
        source: row[3].as_str()?.to_owned(),
        execution: row[4].as_i64().map(ExecutionId),
        stream: match row[5].as_str() {
            Some("stdout") => Some(Stream::Stdout),
            Some("stderr") => Some(Stream::Stderr),
            _ => None,
        },
        message: row[6].as_str()?.to_owned(),
    })
}

/// Whether it could be shown.
fn show(line: &LogItem, json: bool) -> bool {
    match serde_json::to_string(line) {
        Ok(text) if json => tell(text),
        _ => tell(plain(line)),
    }
}

fn lost(from: u64, to: u64, missed: &Missed) {
    let known = Level::ALL.iter().zip(missed.by_level).filter(|(_, count)| *count > 0);
    let mut counts: Vec<String> = known.map(|(level, count)| format!("{count} {level}")).collect();
    if missed.unknown > 0 {
        counts.push(format!("{} of a level that nobody knows", missed.unknown));
    }
    let lines = if missed.count() == 1 { "line" } else { "lines" };
    complain(&format!("{} {lines} can't be had any more ({from} to {to}): {}", missed.count(), counts.join(", ")));
}

/// That another life of the service began, with what is known of it.
fn restarted(message: &Value) -> String {
    let name = |key: &str| message[key].as_str().map(visible);
    if let (Some(node), Some(before)) = (name("node"), name("before"))
        && node != before
    {
        return match message["primary"].as_bool() {
            Some(true) => format!("{node} is the primary now (was {before})"),
            _ => format!("lines of {node} from here on (before: {before})"),
        };
    }
    let mut text = "the service was restarted".to_owned();
    if let Some(at) = message["at"].as_i64() {
        let _ = write!(text, " {}", Timestamp::from_micros(at.saturating_mul(1000)));
    }
    if let Some(version) = message["to"].as_str() {
        let _ = write!(text, " ({})", visible(version));
    }
    text
}

/// For people: what a program wrote does not command the terminal that shows it.
fn plain(line: &LogItem) -> String {
    format!("{} {:<5} {} {}", line.time, line.level, visible(&line.source), visible(&line.message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_restart_everything_is_told_that_is_known() {
        let text = |to: Option<&str>, at: Option<i64>| restarted(&json!({ "t": "restart", "to": to, "at": at }));
        assert_eq!(text(None, None), "the service was restarted");
        let turn =
            |primary: bool| restarted(&json!({ "node": "service-b", "before": "service-a", "primary": primary }));
        assert_eq!(turn(true), "service-b is the primary now (was service-a)");
        assert_eq!(turn(false), "lines of service-b from here on (before: service-a)");
        assert_eq!(restarted(&json!({ "node": "a", "before": "a", "primary": true })), "the service was restarted");
        assert_eq!(text(Some("0.1.1\u{7}"), None), "the service was restarted (0.1.1␇)");
        assert_eq!(text(None, Some(1_795_223_419_123)), "the service was restarted 2026-11-21T01:10:19.123Z");
        assert_eq!(text(Some("0.1.1"), Some(0)), "the service was restarted 1970-01-01T00:00:00.000Z (0.1.1)");
    }

    #[test]
    fn a_line_can_not_command_the_terminal_but_is_in_json_as_it_was_written() {
        let message = json!({ "t": "log", "node": "n", "epoch": "0000000000000001", "next": 3 });
        let row = json!([3, 1_795_223_419_123_i64, 3, "s\u{7}", 7, "stderr", "\u{1b}[2Jgone\u{202e}"]);
        let line = item(&message, &row).unwrap();
        assert_eq!(plain(&line), "2026-11-21T01:10:19.123Z warn  s␇ ␛[2Jgone⟦U+202E⟧");
        let text = serde_json::to_string(&line).unwrap();
        assert!(!text.contains('\u{1b}') && text.contains(r"\u001b[2Jgone"), "{text}");
        assert_eq!(serde_json::from_str::<LogItem>(&text).unwrap().message, "\u{1b}[2Jgone\u{202e}");
        assert!(item(&message, &json!([1, 2])).is_none());
    }
}
