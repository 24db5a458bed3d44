//! The loop of one socket: listen to the page, tell it what is new, say goodbye in words.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::base::id::Cursor;
use crate::web::WebState;
use crate::web::viewer::admission::{ASKED_EVERY, Admitted, Checks, Standing};
use crate::web::viewer::tab::{Sources, Tab};
use crate::web::viewer::wire::{self, Bye, PING_MS, Said, Subscription, Topic};
use crate::web::viewer::wish;

/// A page that takes nothing for so long is given up.
const STALLED: Duration = Duration::from_secs(20);

/// A page says hello within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// A page of which nothing was heard for so long is gone: scripts ping every 15 s.
const UNHEARD: Duration = Duration::from_mins(1);

/// A page says so many things within [`PACE`], acknowledgements aside: each subscription costs a search and a read.
const MOST_SAID: u32 = 200;

/// See [`MOST_SAID`].
const PACE: Duration = Duration::from_secs(10);

/// After the goodbye the page has so long to close.
const LINGER: Duration = Duration::from_secs(1);

/// Why a socket ends.
enum End {
    /// With a goodbye.
    Bye(Bye),
    /// The page is gone, or does not read.
    Gone,
}

/// One socket.
pub(crate) struct Socket {
    wire: WebSocket,
    admitted: Admitted,
    state: WebState,
    checks: Checks,
    tab: Tab,
    versions: watch::Receiver<u64>,
    lines: watch::Receiver<u64>,
    greeted: bool,
    heard_at: Instant,
    said_at: Instant,
    /// What the page said since when.
    said: (Instant, u32),
}

impl Socket {
    pub(crate) fn new(socket: WebSocket, admitted: Admitted, state: WebState) -> Self {
        Self {
            wire: socket,
            admitted,
            checks: Checks::new(&state),
            tab: Tab::default(),
            versions: state.hub.versions(),
            lines: state.hub.lines_seen(),
            greeted: false,
            heard_at: Instant::now(),
            said_at: Instant::now(),
            said: (Instant::now(), 0),
            state,
        }
    }

    pub(crate) async fn run(mut self) {
        match self.talk().await {
            End::Gone => {}
            End::Bye(bye) => self.leave(bye).await,
        }
    }

    async fn talk(&mut self) -> End {
        let state = self.state.clone();
        let mut ask_at = Instant::now() + ASKED_EVERY;
        let mut more = false;
        loop {
            let ping_at = self.said_at + Duration::from_millis(PING_MS);
            let (follows_status, takes_lines) = (self.tab.follows_status(), self.tab.takes_lines());
            let deadline = self.heard_at + if self.greeted { UNHEARD } else { PATIENCE };
            let said = tokio::select! {
                biased;
                () = state.shutdown.stopping() => return End::Bye(draining()),
                heard = self.wire.recv() => {
                    match self.hear(heard) {
                        Ok(said) => said,
                        Err(end) => return end,
                    }
                }
                () = sleep_until(deadline) => return End::Bye(unheard()),
                () = sleep_until(ask_at) => {
                    ask_at = Instant::now() + ASKED_EVERY;
                    match self.checks.ask(&self.admitted, &state).await {
                        Standing::Good => None,
                        Standing::Ended => return End::Bye(signed_out()),
                        Standing::Unknown => return End::Bye(unknown_standing()),
                    }
                }
                () = std::future::ready(()), if more => None,
                _ = self.versions.changed(), if follows_status => None,
                _ = self.lines.changed(), if takes_lines => None,
                () = sleep_until(ping_at) => Some(wire::ping(state.clock.now())),
            };
            let mut out: Vec<Utf8Bytes> = Vec::from_iter(said);
            let sources = Sources { hub: &state.hub, painted: &state.viewers.painted, store: Some(&state.store) };
            self.versions.borrow_and_update();
            self.lines.borrow_and_update();
            more = self.tab.collect(sources, &mut out).await;
            if self.send(out).await.is_err() {
                return End::Gone;
            }
        }
    }

    /// Several messages with one flush; a long one at a time, so that little is held back for a slow page.
    async fn send(&mut self, messages: Vec<Utf8Bytes>) -> Result<(), ()> {
        if messages.is_empty() {
            return Ok(());
        }
        let mut bytes = 0;
        for message in messages {
            bytes += message.len();
            feed(&mut self.wire, Message::Text(message)).await?;
            if bytes > FLUSH_EVERY {
                flush(&mut self.wire).await?;
                bytes = 0;
            }
        }
        flush(&mut self.wire).await?;
        self.said_at = Instant::now();
        Ok(())
    }

    /// What the page said; perhaps an answer.
    fn hear(&mut self, heard: Option<Result<Message, axum::Error>>) -> Result<Option<Utf8Bytes>, End> {
        self.heard_at = Instant::now();
        let text = match heard {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return Ok(None),
            Some(Ok(Message::Binary(_))) => {
                let text = "this socket takes text, not binary frames";
                return Err(End::Bye(Bye::new("bad-message", close_code::UNSUPPORTED, text)));
            }
            Some(Err(error)) if is_too_long(&error) => {
                let text = "a message has at most 64 KiB";
                return Err(End::Bye(Bye::new("too-long", close_code::SIZE, text)));
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(End::Gone),
        };
        let said = serde_json::from_str::<Said>(&text).map_err(|error| {
            let text = format!("this message is not understood: {error}");
            End::Bye(Bye::new("bad-message", close_code::POLICY, text))
        })?;
        if !matches!(said, Said::Ack { .. }) && self.says_too_much() {
            let text = format!("more than {MOST_SAID} messages within {} s are too many", PACE.as_secs());
            return Err(End::Bye(Bye::new("too-many", close_code::POLICY, text)));
        }
        match said {
            Said::Hello { v: wire::VERSION } => {
                self.greeted = true;
                Ok(Some(wire::hello(self.state.clock.now())))
            }
            Said::Hello { v } => {
                let text = format!("this page speaks version {v}, this node {}; load the page again", wire::VERSION);
                Err(End::Bye(Bye::new("version", close_code::POLICY, text)))
            }
            Said::Ping {} => Ok(Some(wire::ping(self.state.clock.now()))),
            _ if !self.greeted => {
                Err(End::Bye(Bye::new("bad-message", close_code::POLICY, "the first message is a hello")))
            }
            Said::Sub(wanted) => Ok(match wanted.topic {
                Topic::Status => {
                    self.tab.follow_status(0);
                    None
                }
                Topic::Log => self.follow_log(&wanted),
            }),
            Said::Unsub { topic: Topic::Status } => {
                self.tab.forget_status();
                Ok(None)
            }
            Said::Unsub { topic: Topic::Log } => {
                self.tab.forget_log();
                Ok(None)
            }
            Said::Ack { seq, epoch } => {
                self.tab.acknowledge(epoch, seq);
                Ok(None)
            }
        }
    }

    fn says_too_much(&mut self) -> bool {
        if self.said.0.elapsed() >= PACE {
            self.said = (Instant::now(), 0);
        }
        self.said.1 += 1;
        self.said.1 > MOST_SAID
    }

    fn follow_log(&mut self, asked: &Subscription) -> Option<Utf8Bytes> {
        let since = asked.since.as_deref();
        let since = match since.filter(|since| !since.is_empty()).map(str::parse::<Cursor>).transpose() {
            Ok(since) => since,
            Err(error) => return Some(wire::bad("since", &error.to_string())),
        };
        match wish::check(&asked.wish) {
            Ok(wanted) => {
                self.tab.follow_log(wanted, since);
                asked.id.map(wire::following)
            }
            Err(wrong) => Some(wire::bad(wrong.field, &wrong.text)),
        }
    }

    async fn leave(mut self, bye: Bye) {
        let close = CloseFrame { code: bye.close, reason: bye.code.into() };
        let goodbye = async {
            let messages = [Message::Text(bye.message()), Message::Close(Some(close))];
            for message in messages {
                feed(&mut self.wire, message).await?;
            }
            flush(&mut self.wire).await
        };
        if !matches!(timeout(LINGER, goodbye).await, Ok(Ok(()))) {
            return;
        }
        if bye.close == close_code::SIZE {
            // what is left of a message too long can't be read; closing at once would take the goodbye back
            sleep(LINGER).await;
            return;
        }
        let closed = async { while let Some(Ok(_)) = self.wire.recv().await {} };
        let _ = timeout(LINGER, closed).await;
    }
}

/// A flush is due after so many bytes.
const FLUSH_EVERY: usize = 48 << 10;

async fn feed(socket: &mut WebSocket, message: Message) -> Result<(), ()> {
    use futures_util::SinkExt;
    timeout(STALLED, socket.feed(message)).await.map_err(drop)?.map_err(drop)
}

async fn flush(socket: &mut WebSocket) -> Result<(), ()> {
    use futures_util::SinkExt;
    timeout(STALLED, socket.flush()).await.map_err(drop)?.map_err(drop)
}

/// axum hides which error of the WebSocket it is; the words are all there is.
fn is_too_long(error: &axum::Error) -> bool {
    error.to_string().contains("too long") || error.to_string().contains("too big")
}

fn draining() -> Bye {
    Bye::new("draining", close_code::AWAY, "this node is being stopped; the page connects again")
}

fn signed_out() -> Bye {
    Bye::new("signed-out", close_code::POLICY, "the session has ended; sign in again")
}

fn unheard() -> Bye {
    Bye::new("unheard", close_code::POLICY, "nothing was heard of this page for too long")
}

fn unknown_standing() -> Bye {
    Bye::new("unchecked", close_code::AGAIN, "the database does not answer; the page connects again")
}
