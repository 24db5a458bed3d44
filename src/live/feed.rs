//! Listens to the service node: one messenger client, whose reports go into the hub.
//!
//! While somebody watches it asks for changes and lines (`Watch`, from the last line known, so that nothing is lost or repeated);
//! ten seconds after the last watcher went it asks for silence (`Unwatch`). Nothing is logged here per message: it is counted.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::base::shutdown::Shutdown;
use crate::live::hub::{Hub, Taken};
use crate::messenger::Pace;
use crate::messenger::client::{Client, Incoming, LinkStatus};
use crate::messenger::envelope::Envelope;
use crate::protocol::command::Command;
use crate::protocol::{Kind, Report};

/// While somebody watches: a beat a second; a link silent for 4 s is gone (pages say so within 5 s).
pub const WATCHED: Pace = Pace { beat: Duration::from_secs(1), silence: Duration::from_secs(4) };

/// While nobody watches.
pub const UNWATCHED: Pace = Pace { beat: Duration::from_secs(15), silence: Duration::from_secs(40) };

/// The service node goes on sending for so long after the last watcher went.
pub const LINGER: Duration = Duration::from_secs(10);

/// Viewers are told at most this often; the first change after a quiet time is told at once.
const TOLD_EVERY: Duration = Duration::from_millis(40);

/// If the whole state did not come after so long it is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// Starts to feed the hub from a messenger client, in a task of its own.
pub fn start(hub: &Hub, client: Client, incoming: mpsc::Receiver<Incoming>, shutdown: &Shutdown) {
    let feed = Feed {
        hub: hub.clone(),
        status: client.status(),
        client,
        incoming,
        watchers: hub.watchers(),
        watching: false,
        quiet_at: None,
        asked_at: None,
        tell_at: None,
        told_at: None,
    };
    let stopping = shutdown.clone();
    shutdown.spawn_essential("live feed", feed.run(stopping));
}

struct Feed {
    hub: Hub,
    client: Client,
    status: watch::Receiver<LinkStatus>,
    incoming: mpsc::Receiver<Incoming>,
    watchers: watch::Receiver<usize>,
    /// Whether changes and lines are wanted.
    watching: bool,
    /// When to ask for silence.
    quiet_at: Option<Instant>,
    /// When the whole state was asked for, while it has not come.
    asked_at: Option<Instant>,
    /// When viewers are to be told.
    tell_at: Option<Instant>,
    told_at: Option<Instant>,
}

impl Feed {
    async fn run(mut self, stopping: Shutdown) {
        self.client.set_pace(UNWATCHED);
        let link = self.status.borrow_and_update().clone();
        self.hub.set_link(link);
        self.heed_watchers();
        loop {
            tokio::select! {
                biased;
                () = stopping.stopping() => return,
                () = until(self.tell_at) => self.tell(),
                changed = self.status.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let link = self.status.borrow_and_update().clone();
                    self.hub.set_link(link);
                }
                incoming = self.incoming.recv() => match incoming {
                    Some(incoming) => self.take(incoming),
                    None => return,
                },
                changed = self.watchers.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.heed_watchers();
                }
                () = until(self.quiet_at) => self.unwatch(),
                () = until(self.asked_at.map(|at| at + ASK_AGAIN)) => self.ask(),
            }
        }
    }

    fn take(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Up(_) => {
                let link = self.status.borrow_and_update().clone();
                self.hub.set_link(link);
                self.asked_at = None;
                if self.watching {
                    self.ask();
                }
            }
            Incoming::Down => {
                self.asked_at = None;
                let link = self.status.borrow_and_update().clone();
                self.hub.set_link(link);
            }
            Incoming::Envelopes(envelopes) => {
                for envelope in &envelopes {
                    self.take_report(envelope);
                }
                let due = self.told_at.map_or_else(Instant::now, |at| at + TOLD_EVERY);
                if due <= Instant::now() {
                    self.tell();
                } else {
                    self.tell_at = Some(due);
                }
            }
        }
    }

    fn take_report(&mut self, envelope: &Envelope) {
        let report = if envelope.kind == Kind::Report as u8 { Report::decode(&envelope.body).ok() } else { None };
        let Some(report) = report else {
            self.hub.count_unreadable();
            return;
        };
        let whole = matches!(report, Report::Whole(_));
        match self.hub.take(report) {
            Taken::Taken if whole => self.asked_at = None,
            Taken::Taken => {}
            // asked for already, or nobody wants to know: the next watcher gets the whole state anyway
            Taken::Missing if self.asked_at.is_some() || !self.watching => {}
            Taken::Missing => self.ask(),
        }
    }

    fn heed_watchers(&mut self) {
        let somebody = *self.watchers.borrow_and_update() > 0;
        if !somebody {
            if self.watching && self.quiet_at.is_none() {
                self.quiet_at = Some(Instant::now() + LINGER);
            }
            return;
        }
        self.quiet_at = None;
        if !self.watching {
            self.watching = true;
            self.hub.set_watching(true);
            self.ask();
            self.client.set_pace(WATCHED);
        }
    }

    /// Asks for the whole state, changes from then on, and lines after the last one known. If it can't be sent now, or
    /// nothing comes of it, it is asked again; a new link asks anyway.
    fn ask(&mut self) {
        let command = Command::Watch { since: self.hub.cursor() };
        let _ = self.client.send(Kind::Command as u8, command.encode());
        self.asked_at = Some(Instant::now());
    }

    fn unwatch(&mut self) {
        self.quiet_at = None;
        self.watching = false;
        self.hub.set_watching(false);
        self.asked_at = None;
        self.client.set_pace(UNWATCHED);
        // if it does not arrive the service node goes on sending until the link ends; nothing breaks
        let _ = self.client.send(Kind::Command as u8, Command::Unwatch.encode());
    }

    fn tell(&mut self) {
        self.tell_at = None;
        self.told_at = Some(Instant::now());
        self.hub.publish();
    }
}

/// Comes back at this moment; never, without one.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
