//! The log as plain text: to be kept as a file, or followed with curl.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::base::id::{Cursor, Epoch};
use crate::live::filter::LineFilter;
use crate::live::hub::{Lines, Watcher};
use crate::live::log::{Reach, Restart};
use crate::model::log_entry::{Level, LogEntry, LogGap};
use crate::web::WebState;
use crate::web::poll::{place, wanted};
use crate::web::viewer::admission::{ASKED_EVERY, Admitted, Checks, Refused, Standing};
use crate::web::viewer::kept::{self, Piece, Upto};
use crate::web::viewer::seats::Seat;
use crate::web::viewer::wish::Wanted;

/// A file has at most so many lines; a follower begins with so many of [`FIRST`].
const MOST: usize = 20_000;

/// A follower begins with so many of the newest lines.
const FIRST: usize = 200;

/// So many lines are written at once.
const CHUNK: usize = 500;

/// What is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Asked {
    /// Whether to go on with lines as they come: `1`.
    follow: Option<u8>,
    level: Option<String>,
    /// Names, separated by commas.
    source: Option<String>,
    q: Option<String>,
    inverse: Option<u8>,
    execution: Option<String>,
    /// Only lines after this place (`EPOCH:SEQ`).
    since: Option<String>,
}

impl Asked {
    fn lines(&self) -> Result<(Wanted, Option<Cursor>), Refused> {
        let (level, source, q) = (self.level.as_deref(), self.source.as_deref(), self.q.as_deref());
        Ok((wanted(level, source, q, self.inverse, self.execution.as_deref())?, place(self.since.as_deref())?))
    }
}

/// `GET /logs.txt`: the newest 20,000 lines that match, or with `follow=1` the newest 200 and then every line as it comes,
/// for ever. By session or `x-api-key`; 400 for a filter that is none.
pub(crate) async fn logs(
    State(state): State<WebState>,
    Query(asked): Query<Asked>,
    admitted: Result<Admitted, Response>,
) -> Result<Response, Response> {
    let admitted = admitted?;
    let seat = admitted.sit_down(&state).map_err(IntoResponse::into_response)?;
    let (wanted, since) = asked.lines().map_err(IntoResponse::into_response)?;
    let follow = asked.follow == Some(1);

    let watching = state.hub.watch();
    let mut reader = Reader {
        filter: wanted.filter,
        at: since,
        ready: VecDeque::new(),
        follow,
        filled: false,
        lines: state.hub.lines_seen(),
        ask_at: Instant::now() + ASKED_EVERY,
        checks: Checks::new(&state),
        admitted,
        state,
        _held: (seat, watching),
    };
    reader.begin(if follow { FIRST } else { MOST }).await;
    let body = Body::from_stream(stream::unfold(reader, |mut reader| async move {
        let chunk = reader.next().await?;
        Some((Ok::<_, Infallible>(chunk), reader))
    }));
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store, no-transform"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, body).into_response())
}

struct Reader {
    filter: LineFilter,
    at: Option<Cursor>,
    ready: VecDeque<Bytes>,
    follow: bool,
    /// Whether kept rows were read up to what the ring holds.
    filled: bool,
    lines: watch::Receiver<u64>,
    ask_at: Instant,
    checks: Checks,
    admitted: Admitted,
    state: WebState,
    _held: (Seat, Watcher),
}

impl Reader {
    /// Makes the newest lines ready, kept ones before those of the ring; none if a place is known to go on from.
    async fn begin(&mut self, most: usize) {
        if self.at.is_some() {
            return;
        }
        let hub = self.state.hub.clone();
        let newest = hub.lines(None, &self.filter, most);
        let held = newest.epoch.map(|epoch| {
            let seq = match hub.reach(Cursor { epoch, seq: 0 }) {
                Reach::Older(first) => first,
                Reach::Held | Reach::Unknown => 1,
            };
            Cursor { epoch, seq }
        });
        if newest.lines.len() < most
            && let Ok(older) = kept::newest(&self.state.store, held, &self.filter, most - newest.lines.len()).await
        {
            self.write(&older);
        }
        self.write_lines(&newest);
    }

    /// The next chunk; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Some(chunk);
            }
            self.lines.borrow_and_update();
            let more = self.read().await;
            if !self.ready.is_empty() || more {
                continue;
            }
            if !self.follow || !self.wait().await {
                return None;
            }
        }
    }

    /// Makes what follows the place ready; whether there is more at once.
    async fn read(&mut self) -> bool {
        let hub = self.state.hub.clone();
        let Some(at) = self.at else {
            if hub.life().is_some() {
                self.write_lines(&hub.lines(None, &self.filter, FIRST));
            }
            return false;
        };
        let reach = hub.reach(at);
        if reach == Reach::Unknown || hub.is_over(at) {
            let Some(left) = kept::leave(Some(&self.state.store), &hub, at, &self.filter).await else {
                return false;
            };
            self.write(&left.pieces);
            self.ready.extend(left.restart.as_ref().map(restart_line));
            self.at = Some(left.at);
            return true;
        }
        if let Reach::Older(first) = reach
            && !self.filled
            && let Ok(found) = kept::after(&self.state.store, at, Upto::Line(first - 1), &self.filter).await
        {
            // a reader that falls behind later is told of gaps: it can't be helped by more reading
            self.filled = !found.more;
            self.write(&found.pieces);
            self.at = Some(found.at);
            return true;
        }
        let lines = hub.lines(Some(at), &self.filter, CHUNK);
        self.write_lines(&lines);
        lines.more
    }

    /// Waits for lines. False if this is the end.
    async fn wait(&mut self) -> bool {
        loop {
            tokio::select! {
                () = self.state.shutdown.stopping() => return false,
                changed = self.lines.changed() => return changed.is_ok(),
                () = sleep_until(self.ask_at) => {
                    self.ask_at = Instant::now() + ASKED_EVERY;
                    if self.checks.ask(&self.admitted, &self.state).await != Standing::Good {
                        return false;
                    }
                }
            }
        }
    }

    fn write_lines(&mut self, lines: &Lines) {
        let Some(epoch) = lines.epoch else {
            return;
        };
        if let Some(restart) = &lines.restart {
            self.ready.push_back(restart_line(restart));
        }
        if let Some(gap) = &lines.gap {
            self.ready.push_back(gap_line(epoch, gap));
        }
        for chunk in lines.lines.chunks(CHUNK) {
            let text: String = chunk.iter().map(|(_, entry, _)| line(entry)).collect();
            self.ready.push_back(text.into());
        }
        self.at = Some(Cursor { epoch, seq: lines.next });
    }

    fn write(&mut self, pieces: &[Piece]) {
        for chunk in pieces.chunks(CHUNK) {
            let mut text = String::new();
            for piece in chunk {
                match piece {
                    Piece::Line(kept) => text.push_str(&line(&kept.entry)),
                    Piece::Gap(epoch, gap) => text.push_str(&String::from_utf8_lossy(&gap_line(*epoch, gap))),
                    Piece::Restart(_) => text.push_str("--- the service was restarted ---\n"),
                }
            }
            self.ready.push_back(text.into());
        }
    }
}

fn restart_line(restart: &Restart) -> Bytes {
    let to = &restart.to;
    format!("--- the service was restarted {} ({}) ---\n", to.started_at, visible(&to.version)).into()
}

fn gap_line(epoch: Epoch, gap: &LogGap) -> Bytes {
    let count = gap.to - gap.from + 1;
    let known = Level::ALL.iter().zip(gap.by_level).filter(|(_, count)| *count > 0);
    let known: Vec<String> = known.map(|(level, count)| format!("{count} {level}")).collect();
    let known = if known.is_empty() { String::new() } else { format!(": {}", known.join(", ")) };
    format!("--- {count} lines can't be had any more ({epoch}:{}-{}{known}) ---\n", gap.from, gap.to).into()
}

fn line(entry: &LogEntry) -> String {
    let run = entry.execution.map(|run| format!(" #{run}")).unwrap_or_default();
    let stream = match entry.stream {
        Some(crate::model::log_entry::Stream::Stderr) => " stderr",
        _ => "",
    };
    format!("{} {:5} {}{run}{stream} | {}\n", entry.time, entry.level, visible(&entry.source), visible(&entry.text))
}

/// The text with everything a terminal might obey, or that turns the order of letters round, made visible.
fn visible(text: &str) -> std::borrow::Cow<'_, str> {
    let harmless = |c: char| {
        c == '\t'
            || !(c.is_control()
                || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}')
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'))
    };
    if text.chars().all(harmless) {
        return text.into();
    }
    let shown = |c: char| match c {
        c if harmless(c) => c.to_string(),
        '\u{0}'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}').to_string(),
        '\u{7f}' => '\u{2421}'.to_string(),
        c => format!("⟦U+{:04X}⟧", u32::from(c)),
    };
    text.chars().map(shown).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_nothing_in_a_line() {
        assert_eq!(visible("plain\tü 漢"), "plain\tü 漢");
        assert_eq!(visible("\u{1b}[31mred\u{7}\u{7f}"), "␛[31mred␇␡");
        assert_eq!(visible("a\u{202e}b\u{2066}c\u{9b}d"), "a⟦U+202E⟧b⟦U+2066⟧c⟦U+009B⟧d");
        assert_eq!(visible("one\rtwo\nthree"), "one␍two␊three");
    }

    #[test]
    fn lines_and_gaps_read_well() {
        let entry = LogEntry {
            time: crate::base::clock::Timestamp::from_micros(1_795_223_419_123_456),
            level: Level::Warn,
            source: "disk-space".into(),
            execution: Some(crate::base::id::ExecutionId(7)),
            stream: Some(crate::model::log_entry::Stream::Stderr),
            text: "94 % full".into(),
        };
        assert_eq!(line(&entry), "2026-11-21T01:10:19.123Z warn  disk-space #7 stderr | 94 % full\n");
        let gap = LogGap { from: 3, to: 12, by_level: [0, 0, 8, 0, 2] };
        let text = gap_line(Epoch::from_u64(1), &gap);
        assert_eq!(text, "--- 10 lines can't be had any more (0000000000000001:3-12: 8 info, 2 error) ---\n");
    }
}
