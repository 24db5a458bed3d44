//! The log as plain text: to be kept as a file, or followed with curl.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::base::chain::chain;
use crate::base::id::{Cursor, Epoch};
use crate::base::visible::visible;
use crate::live::filter::{LineFilter, Missed};
use crate::live::kept::Piece;
use crate::live::life::Restart;
use crate::live::read::Lines;
use crate::live::reader::{Reader, Source, Step};
use crate::model::log_entry::{Level, LogEntry, LogGap, Stream};
use crate::store::error::Error;
use crate::web::WebState;
use crate::web::lines::turn;
use crate::web::query::Asked;
use crate::web::texts::EN;
use crate::web::viewer::admission::{ASKED_EVERY, Admitted, Checks, Refused, Standing};

/// A file has at most so many lines; a follower begins with so many of [`FIRST`].
const MOST: usize = 20_000;

/// A follower begins with so many of the newest lines.
const FIRST: usize = 200;

/// So many lines are read at once.
const LINES: usize = 200;

/// A chunk is sent when it has so many bytes.
const CHUNK: usize = 64 << 10;

/// A reader that takes nothing for so long is given up.
const STALLED: Duration = Duration::from_secs(20);

/// `GET /logs.txt`: the newest 20,000 lines that match, or with `follow=1` the newest 200 and then every line as it comes,
/// for ever. By session or `x-api-key`; 400 for a value that is none.
pub(crate) async fn logs(
    State(state): State<WebState>,
    admitted: Result<Admitted, Response>,
    asked: Result<Asked, Refused>,
) -> Result<Response, Response> {
    let admitted = admitted?;
    let asked = asked.map_err(IntoResponse::into_response)?;
    let (wanted, since) = asked.lines().map_err(IntoResponse::into_response)?;
    let follow = asked.switch("follow").map_err(IntoResponse::into_response)?;
    let seat = admitted.sit_down(&state).map_err(IntoResponse::into_response)?;

    // one chunk waits while another is written: what a reader costs that does not take them is bounded
    let (chunks, mut taken) = mpsc::channel(1);
    let end = Arc::new(OnceLock::new());
    let watching = state.hub.watch();
    let text = Text::new(wanted.filter, since, if follow { FIRST } else { MOST });
    let (shutdown, pump_end) = (state.shutdown.clone(), Arc::clone(&end));
    shutdown.spawn("log text", async move {
        let pump = Pump { chunks, follow, checks: Checks::new(&state), ask_at: Instant::now() + ASKED_EVERY, admitted };
        if let Err(reason) = pump.run(text, &state).await {
            let _ = pump_end.set(reason);
        }
        drop((seat, watching));
    });
    let mut told = false;
    let body = stream::poll_fn(move |context| {
        let last = |end: &End| Some(Ok::<_, Infallible>(Bytes::from(format!("--- {} ---\n", end.text()))));
        // whoever may not look any more gets nothing that still waits
        if let Some(End::SignedOut) = end.get() {
            taken.close();
            while taken.try_recv().is_ok() {}
        }
        taken.poll_recv(context).map(|chunk| match chunk {
            Some(chunk) => Some(Ok(chunk)),
            None if std::mem::replace(&mut told, true) => None,
            None => end.get().and_then(last),
        })
    });
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store, no-transform"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, Body::from_stream(body)).into_response())
}

/// Why a text ends that did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    SignedOut,
    Unknown,
    Stalled,
    Draining,
    /// What comes next was kept, and can't be read.
    Unread,
    /// Nobody reads any more.
    Gone,
}

impl End {
    const fn text(self) -> &'static str {
        match self {
            Self::SignedOut => EN.text_signed_out,
            Self::Unknown => EN.text_unchecked,
            Self::Stalled => EN.text_stalled,
            Self::Draining | Self::Gone => EN.text_draining,
            Self::Unread => EN.text_unread,
        }
    }
}

/// Moves a text to whoever reads it, and asks meanwhile whether that is still allowed.
struct Pump {
    chunks: mpsc::Sender<Bytes>,
    follow: bool,
    checks: Checks,
    ask_at: Instant,
    admitted: Admitted,
}

impl Pump {
    async fn run(mut self, mut text: Text, state: &WebState) -> Result<(), End> {
        let mut lines = state.hub.lines_seen();
        loop {
            lines.borrow_and_update();
            let more = match text.read(state).await {
                Ok(more) => more,
                // it reads on when the next line comes
                Err(_) if self.follow => false,
                Err(_) if text.failed == 1 => true,
                Err(error) => {
                    tracing::warn!("a text of the log ends before its end: {}", chain(&error));
                    return Err(End::Unread);
                }
            };
            while let Some(chunk) = text.chunk() {
                self.send(chunk, state).await?;
            }
            if more {
                continue;
            }
            if !self.follow {
                // a reader that could not ask does not ask again at once: that is not the end of what was kept
                return if text.failed > 0 { Err(End::Unread) } else { Ok(()) };
            }
            self.wait(&mut lines, state).await?;
        }
    }

    async fn send(&mut self, chunk: Bytes, state: &WebState) -> Result<(), End> {
        let given_up = Instant::now() + STALLED;
        loop {
            if Instant::now() >= self.ask_at {
                self.ask(state).await?;
            }
            tokio::select! {
                place = self.chunks.reserve() => {
                    place.map_err(|_| End::Gone)?.send(chunk);
                    return Ok(());
                }
                () = sleep_until(given_up) => return Err(End::Stalled),
                () = sleep_until(self.ask_at) => {}
                () = state.shutdown.stopping() => return Err(End::Draining),
            }
        }
    }

    async fn wait(&mut self, lines: &mut watch::Receiver<u64>, state: &WebState) -> Result<(), End> {
        tokio::select! {
            changed = lines.changed() => changed.map_err(|_| End::Draining),
            () = self.chunks.closed() => Err(End::Gone),
            // and looks for what was kept in the meantime
            () = sleep_until(self.ask_at) => self.ask(state).await,
            () = state.shutdown.stopping() => Err(End::Draining),
        }
    }

    async fn ask(&mut self, state: &WebState) -> Result<(), End> {
        self.ask_at = Instant::now() + ASKED_EVERY;
        match self.checks.ask(&self.admitted, state).await {
            Standing::Good => Ok(()),
            Standing::Ended => Err(End::SignedOut),
            Standing::Unknown => Err(End::Unknown),
        }
    }
}

/// A part of the text before it is written out.
enum Part {
    Line(Arc<LogEntry>),
    Text(String),
}

/// The log as text.
struct Text {
    reader: Reader,
    most: usize,
    parts: VecDeque<Part>,
    /// Lines that can't be had, while nothing else was written after them.
    gap: Option<(Epoch, u64, u64, Missed)>,
    /// So often in a row the kept lines could not be read.
    failed: u32,
}

impl Text {
    fn new(filter: LineFilter, since: Option<Cursor>, most: usize) -> Self {
        Self { reader: Reader::new(filter, since), most, parts: VecDeque::new(), gap: None, failed: 0 }
    }

    /// Makes what comes next ready; whether there is more at once.
    ///
    /// # Errors
    /// If kept lines can't be read now. A later call reads them, or says that it goes on without.
    async fn read(&mut self, state: &WebState) -> Result<bool, Error> {
        let from = Source { hub: &state.hub, store: Some(&state.store) };
        let step = self.reader.step(from, self.most).await.inspect_err(|_| self.failed += 1)?;
        let failed = self.failed > 0;
        if !matches!(step, Step::Nothing) {
            self.failed = 0;
        }
        if failed && matches!(step, Step::Newest(..) | Step::Held(_)) {
            self.write(Part::Text(format!("--- {} ---\n", EN.text_without_kept)));
        }
        let more = match step {
            Step::Newest(older, lines) => {
                self.kept(older);
                self.held(&lines);
                lines.more
            }
            Step::Kept(kept) => {
                self.kept(kept.pieces);
                true
            }
            Step::Held(at) => {
                let lines = state.hub.lines(Some(at), self.reader.filter(), LINES);
                if let Some(epoch) = lines.epoch {
                    self.reader.reached(Cursor { epoch, seq: lines.next });
                }
                self.held(&lines);
                lines.more
            }
            Step::Nothing => false,
        };
        if !more {
            self.write_gap();
        }
        Ok(more)
    }

    fn held(&mut self, lines: &Lines) {
        let Some(epoch) = lines.epoch else { return };
        if let Some(gap) = &lines.gap {
            self.lose(epoch, gap);
        }
        for (_, entry, _) in &lines.lines {
            self.write(Part::Line(Arc::clone(entry)));
        }
    }

    fn kept(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            match piece {
                Piece::Line(line) => self.write(Part::Line(Arc::new(line.entry))),
                Piece::Gap(epoch, gap) => self.lose(epoch, &gap),
                Piece::Restart(_, restart) => self.write(Part::Text(restart_line(&restart))),
                Piece::Hidden(..) => {}
            }
        }
    }

    fn write(&mut self, part: Part) {
        self.write_gap();
        self.parts.push_back(part);
    }

    /// Gaps with nothing between them are one.
    fn lose(&mut self, epoch: Epoch, gap: &LogGap) {
        let missed = self.reader.filter().missed(gap);
        if missed.count() == 0 {
            return;
        }
        match &mut self.gap {
            Some((known, _, to, sum)) if *known == epoch => {
                *to = gap.to;
                sum.add(&missed);
            }
            _ => {
                self.write_gap();
                self.gap = Some((epoch, gap.from, gap.to, missed));
            }
        }
    }

    fn write_gap(&mut self) {
        if let Some((epoch, from, to, missed)) = self.gap.take() {
            self.parts.push_back(Part::Text(gap_line(epoch, from, to, &missed)));
        }
    }

    /// The next piece of text that is ready.
    fn chunk(&mut self) -> Option<Bytes> {
        let mut text = String::new();
        while text.len() < CHUNK {
            match self.parts.pop_front() {
                Some(Part::Line(entry)) => text.push_str(&line(&entry)),
                Some(Part::Text(part)) => text.push_str(&part),
                None => break,
            }
        }
        (!text.is_empty()).then(|| text.into())
    }
}

fn restart_line(restart: &Restart) -> String {
    let words = turn(restart).unwrap_or_else(|| match &restart.to {
        Some(to) => format!("the service was restarted {} ({})", to.started_at, visible(&to.version)),
        None => "the service was restarted".to_owned(),
    });
    format!("--- {words} ---\n")
}

fn gap_line(epoch: Epoch, from: u64, to: u64, missed: &Missed) -> String {
    let known = Level::ALL.iter().zip(missed.by_level).filter(|(_, count)| *count > 0);
    let mut known: Vec<String> = known.map(|(level, count)| format!("{count} {level}")).collect();
    if missed.unknown > 0 {
        known.push(format!("{} of a level that nobody knows", missed.unknown));
    }
    let lines = if missed.count() == 1 { "line" } else { "lines" };
    format!("--- {} {lines} can't be had any more ({epoch}:{from}-{to}: {}) ---\n", missed.count(), known.join(", "))
}

fn line(entry: &LogEntry) -> String {
    let run = entry.execution.map(|run| format!(" #{run}")).unwrap_or_default();
    let stream = if entry.stream == Some(Stream::Stderr) { " stderr" } else { "" };
    format!("{} {:5} {}{run}{stream} | {}\n", entry.time, entry.level, visible(&entry.source), visible(&entry.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_gaps_read_well() {
        let entry = LogEntry {
            time: crate::base::clock::Timestamp::from_micros(1_795_223_419_123_456),
            level: Level::Warn,
            source: "disk-space".into(),
            execution: Some(crate::base::id::ExecutionId(7)),
            stream: Some(Stream::Stderr),
            text: "94 % full".into(),
        };
        assert_eq!(line(&entry), "2026-11-21T01:10:19.123Z warn  disk-space #7 stderr | 94 % full\n");
        let missed = Missed { by_level: [0, 0, 8, 0, 2], unknown: 0 };
        assert_eq!(
            gap_line(Epoch::from_u64(1), 3, 12, &missed),
            "--- 10 lines can't be had any more (0000000000000001:3-12: 8 info, 2 error) ---\n"
        );
    }

    #[test]
    fn touching_gaps_are_one_and_what_could_not_be_wanted_is_none() {
        let filter = LineFilter { level: Some(Level::Warn), ..LineFilter::default() };
        let mut text = Text::new(filter, None, 1);
        let epoch = Epoch::from_u64(1);
        for (from, to, by_level) in [(1, 2, [0, 0, 1, 1, 0]), (3, 3, [0, 0, 1, 0, 0]), (4, 6, [0, 0, 0, 0, 1])] {
            text.lose(epoch, &LogGap { from, to, by_level });
        }
        text.write_gap();
        let written = text.chunk().unwrap();
        assert_eq!(
            std::str::from_utf8(&written).unwrap(),
            "--- 4 lines can't be had any more (0000000000000001:1-6: 1 warn, 1 error, 2 of a level that nobody knows) ---\n"
        );
    }
}
