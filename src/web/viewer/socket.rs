//! The loop of one socket: listen to the page, tell it what is new, say goodbye in words.

use std::time::Duration;

use axum::extract::ws::{Utf8Bytes, close_code};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::base::id::Cursor;
use crate::web::WebState;
use crate::web::viewer::admission::{ASKED_EVERY, Admitted, Checks, Standing};
use crate::web::viewer::channel::Channel;
use crate::web::viewer::followed::{Followed, changed_after};
use crate::web::viewer::tab::{Sources, Tab};
use crate::web::viewer::wire::{self, Bye, PING_MS, Said, Subscription, Topic};
use crate::web::viewer::wish;

/// A page says hello within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// A page of which nothing was heard for so long is gone: scripts ping every 15 s.
const UNHEARD: Duration = Duration::from_mins(1);

/// A page says at most so many things within [`PACE`], acknowledgements aside: each subscription costs a search and a read.
const MOST_SAID: u32 = 200;

/// And so many with acknowledgements, pings and pongs, which cost little.
const MOST_HEARD: u32 = 5000;

/// See [`MOST_SAID`] and [`MOST_HEARD`].
const PACE: Duration = Duration::from_secs(10);

/// After the goodbye the page has so long to close.
const LINGER: Duration = Duration::from_secs(1);

/// Why a socket ends.
enum End {
    /// With a goodbye.
    Bye(Bye),
    /// The page closed it; our side of that is still to be said.
    Closed,
    /// The page is gone, or does not read: nothing can be said any more.
    Gone,
}

/// How much was heard of a page lately.
struct Pace {
    since: Instant,
    said: u32,
    heard: u32,
}

/// One socket.
pub(crate) struct Socket {
    channel: Channel,
    admitted: Admitted,
    state: WebState,
    checks: Checks,
    tab: Tab,
    versions: watch::Receiver<u64>,
    lines: watch::Receiver<u64>,
    /// The revisions of the database.
    changes: watch::Receiver<u64>,
    greeted: bool,
    heard_at: Instant,
    said_at: Instant,
    pace: Pace,
}

impl Socket {
    pub(crate) fn new(channel: Channel, admitted: Admitted, state: WebState) -> Self {
        Self {
            channel,
            admitted,
            checks: Checks::new(&state),
            tab: Tab::default(),
            versions: state.hub.versions(),
            lines: state.hub.lines_seen(),
            changes: state.store.changes(),
            greeted: false,
            heard_at: Instant::now(),
            said_at: Instant::now(),
            pace: Pace { since: Instant::now(), said: 0, heard: 0 },
            state,
        }
    }

    pub(crate) async fn run(mut self) {
        match self.talk().await {
            End::Gone => {}
            End::Closed => self.channel.finish().await,
            // in boxes is what seldom comes: a socket that waits is to be small
            End::Bye(bye) => Box::pin(self.leave(bye)).await,
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
                // before what is heard: a page that never stops talking is asked about all the same
                () = sleep_until(ask_at) => {
                    ask_at = Instant::now() + ASKED_EVERY;
                    match Box::pin(self.checks.ask(&self.admitted, &state)).await {
                        Standing::Good => None,
                        Standing::Ended => return End::Bye(signed_out()),
                        Standing::Unknown => return End::Bye(unknown_standing()),
                    }
                }
                heard = self.channel.hear() => {
                    match self.hear(heard) {
                        Ok(said) => said,
                        Err(end) => return end,
                    }
                }
                () = sleep_until(deadline) => return End::Bye(unheard()),
                () = std::future::ready(()), if more => None,
                _ = self.versions.changed(), if follows_status => None,
                _ = self.lines.changed(), if takes_lines => None,
                () = changed_after(&mut self.changes, self.tab.history_due_at()) => None,
                () = sleep_until(ping_at) => Some(wire::ping(state.clock.now())),
            };
            let mut out: Vec<Utf8Bytes> = Vec::from_iter(said);
            let sources = Sources { hub: &state.hub, painted: &state.viewers.painted, store: Some(&state.store) };
            self.versions.borrow_and_update();
            self.lines.borrow_and_update();
            more = Box::pin(self.tab.collect(sources, &mut out)).await;
            if !out.is_empty() {
                self.said_at = Instant::now();
                if !self.tell(&out, &mut ask_at).await {
                    return End::Gone;
                }
            }
        }
    }

    /// Tells messages, for as long as the node works and the page may look: one that takes them slowly gets round neither.
    /// If not, a frame may be half written, and nothing can follow it.
    async fn tell(&mut self, messages: &[Utf8Bytes], ask_at: &mut Instant) -> bool {
        let Self { channel, checks, admitted, state, .. } = self;
        let mut told = std::pin::pin!(channel.tell(messages));
        loop {
            tokio::select! {
                biased;
                told = &mut told => return told.is_ok(),
                () = state.shutdown.stopping() => return false,
                () = sleep_until(*ask_at) => {
                    *ask_at = Instant::now() + ASKED_EVERY;
                    if Box::pin(checks.ask(admitted, state)).await != Standing::Good {
                        return false;
                    }
                }
            }
        }
    }

    /// What the page said; perhaps an answer.
    fn hear(&mut self, heard: Option<Result<Message, Error>>) -> Result<Option<Utf8Bytes>, End> {
        self.heard_at = Instant::now();
        self.pace.count(self.heard_at);
        if self.pace.heard > MOST_HEARD {
            return Err(End::Bye(too_many(MOST_HEARD)));
        }
        let text = match heard {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return Ok(None),
            Some(Ok(Message::Binary(_))) => {
                let text = "this socket takes text, not binary frames";
                return Err(End::Bye(Bye::new("bad-message", close_code::UNSUPPORTED, text)));
            }
            Some(Err(Error::Capacity(_))) => {
                let text = "a message has at most 64 KiB";
                return Err(End::Bye(Bye::new("too-long", close_code::SIZE, text)));
            }
            Some(Ok(Message::Close(_))) => return Err(End::Closed),
            Some(Ok(Message::Frame(_)) | Err(_)) | None => return Err(End::Gone),
        };
        let said = serde_json::from_str::<Said>(&text).map_err(|error| {
            let text = format!("this message is not understood: {error}");
            End::Bye(Bye::new("bad-message", close_code::POLICY, text))
        })?;
        self.pace.said += u32::from(!matches!(said, Said::Ack { .. }));
        if self.pace.said > MOST_SAID {
            return Err(End::Bye(too_many(MOST_SAID)));
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
                Topic::Status => self.follow_status(&wanted),
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

    fn follow_status(&mut self, asked: &Subscription) -> Option<Utf8Bytes> {
        match asked.dispatcher.as_deref().map(|name| Followed::new(name, None)).transpose() {
            Ok(only) => {
                self.tab.follow_status(0, only);
                None
            }
            Err(text) => Some(wire::bad(asked.id, "dispatcher", &text)),
        }
    }

    fn follow_log(&mut self, asked: &Subscription) -> Option<Utf8Bytes> {
        let since = asked.since.as_deref();
        let since = match since.filter(|since| !since.is_empty()).map(str::parse::<Cursor>).transpose() {
            Ok(since) => since,
            Err(error) => return Some(wire::bad(asked.id, "since", &error.to_string())),
        };
        match wish::check(&asked.wish) {
            Ok(wanted) => {
                self.tab.follow_log(wanted, since);
                asked.id.map(wire::following)
            }
            Err(wrong) => Some(wire::bad(asked.id, wrong.field, &wrong.text)),
        }
    }

    async fn leave(&mut self, bye: Bye) {
        let goodbye = async {
            self.channel.tell(&[bye.message()]).await?;
            self.channel.close(bye.close, bye.code).await
        };
        if !matches!(timeout(LINGER, goodbye).await, Ok(Ok(()))) {
            return;
        }
        if bye.close == close_code::SIZE {
            // what is left of a message too long can't be read; closing at once would take the goodbye back
            sleep(LINGER).await;
            return;
        }
        let closed = async { while let Some(Ok(_)) = self.channel.hear().await {} };
        let _ = timeout(LINGER, closed).await;
    }
}

impl Pace {
    /// Counts what was heard now; begins again when the time is over.
    fn count(&mut self, now: Instant) {
        if now.duration_since(self.since) >= PACE {
            *self = Self { since: now, said: 0, heard: 0 };
        }
        self.heard += 1;
    }
}

fn too_many(most: u32) -> Bye {
    let text = format!("more than {most} messages within {} s are too many", PACE.as_secs());
    Bye::new("too-many", close_code::POLICY, text)
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
