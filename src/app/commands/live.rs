//! What a node says live, for the command line: over the WebSocket at `--url`, or put together here over the data directory.
//!
//! Both speak the messages of `docs/live-protocol.md`, so that whoever shows them need not know which way they came.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::app::commands::complain;
use crate::app::commands::door::{Door, Local};
use crate::app::commands::socket::{Ended, Socket, Way, place};
use crate::base::backoff::Backoff;
use crate::base::id::Cursor;
use crate::base::visible::visible;
use crate::live::hub::{Hub, Watcher};
use crate::store::Store;
use crate::web::viewer::painted::Painted;
use crate::web::viewer::tab::{Sources, Tab};
use crate::web::viewer::wire::Wish;
use crate::web::viewer::wish;

/// Attempts to connect again begin so close to each other and get so far apart.
const FIRST_DELAY: Duration = Duration::from_millis(250);
const MOST_DELAY: Duration = Duration::from_secs(10);

/// A hub that has just begun to listen gets so long to hear of the present.
const CATCH_UP: Duration = Duration::from_secs(1);

/// Beside the node: kept lines that could not be read are looked for again so often.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What is followed.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    /// Whether anything changed in the status.
    Status,
    /// Lines that pass, after a place if there is one.
    Lines(Wish, Option<Cursor>),
}

/// The messages of a node as they come.
pub enum Live<'a> {
    /// Over the data directory.
    Beside(Box<Beside>),
    /// Over a WebSocket that is made again whenever it breaks.
    Far(Box<Far<'a>>),
}

impl<'a> Live<'a> {
    /// Begins to follow.
    ///
    /// # Errors
    /// If what is wanted can't be had, or the node can't be reached or refuses.
    pub(crate) async fn open(door: &'a Door, wanted: Wanted) -> anyhow::Result<Self> {
        match door {
            Door::Local(local) => Ok(Self::Beside(Box::new(Beside::open(local, wanted).await?))),
            Door::Remote { url, token, client } => {
                let way = Way { url, token, client };
                Ok(Self::Far(Box::new(Far::open(way, wanted).await?)))
            }
        }
    }

    /// The next message.
    ///
    /// # Errors
    /// If there will be none: the token is not valid any more, or what was asked for can't be had.
    pub async fn next(&mut self) -> anyhow::Result<Value> {
        match self {
            Self::Beside(beside) => beside.next().await,
            Self::Far(far) => far.next().await,
        }
    }

    /// Passes over what comes within this time.
    ///
    /// # Errors
    /// As [`Live::next`].
    pub async fn pass_over(&mut self, time: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + time;
        while let Ok(message) = timeout_at(until, self.next()).await {
            message?;
        }
        Ok(())
    }
}

/// A tab without a browser, in this process.
pub struct Beside {
    hub: Hub,
    store: Store,
    painted: Painted,
    tab: Tab,
    versions: watch::Receiver<u64>,
    lines: watch::Receiver<u64>,
    ready: VecDeque<Value>,
    _watching: Watcher,
}

impl Beside {
    async fn open(local: &Local, wanted: Wanted) -> anyhow::Result<Self> {
        let hub = local.hub.clone();
        let watching = hub.watch();
        hub.current(CATCH_UP).await;
        let mut tab = Tab::default();
        match wanted {
            Wanted::Status => tab.follow_status(0, None),
            Wanted::Lines(wish, at) => {
                let wanted = wish::check(&wish).map_err(|wrong| anyhow::anyhow!("{}: {}", wrong.field, wrong.text))?;
                tab.follow_log(wanted, at);
            }
        }
        Ok(Self {
            versions: hub.versions(),
            lines: hub.lines_seen(),
            store: local.store.clone(),
            painted: Painted::default(),
            tab,
            ready: VecDeque::new(),
            _watching: watching,
            hub,
        })
    }

    async fn next(&mut self) -> anyhow::Result<Value> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Ok(message);
            }
            self.versions.borrow_and_update();
            self.lines.borrow_and_update();
            let mut out = Vec::new();
            let from = Sources { hub: &self.hub, painted: &self.painted, store: Some(&self.store) };
            let more = self.tab.collect(from, &mut out).await;
            for text in out {
                let message: Value = serde_json::from_str(&text)?;
                if let Some(at) = place(&message) {
                    self.tab.acknowledge(Some(at.epoch), at.seq);
                }
                self.ready.push_back(message);
            }
            if more || !self.ready.is_empty() {
                continue;
            }
            let follows_status = self.tab.follows_status();
            tokio::select! {
                changed = self.versions.changed(), if follows_status => changed?,
                changed = self.lines.changed(), if !follows_status => changed?,
                () = sleep(LOOK_AGAIN) => {}
            }
        }
    }
}

/// A node far away.
pub struct Far<'a> {
    way: Way<'a>,
    wanted: Wanted,
    /// The place after the last line that was told; before that, where it is to begin.
    at: Option<Cursor>,
    socket: Option<Socket>,
    backoff: Backoff,
    try_at: Instant,
    complained: bool,
}

impl<'a> Far<'a> {
    async fn open(way: Way<'a>, wanted: Wanted) -> anyhow::Result<Self> {
        let backoff = Backoff::new(FIRST_DELAY, MOST_DELAY);
        let at = if let Wanted::Lines(_, at) = &wanted { *at } else { None };
        let mut far = Self { way, wanted, at, socket: None, backoff, try_at: Instant::now(), complained: false };
        match far.connect().await {
            Ok(socket) => far.socket = Some(socket),
            Err(ended) => anyhow::bail!("{}", ended.text()),
        }
        Ok(far)
    }

    async fn next(&mut self) -> anyhow::Result<Value> {
        loop {
            let ended = match self.heard().await {
                Ok(message) if message["t"] == "bad" => {
                    let text = |name: &str| visible(message[name].as_str().unwrap_or_default()).into_owned();
                    anyhow::bail!("{}: {}", text("field"), text("text"));
                }
                Ok(message) => {
                    if let Some(at) = place(&message) {
                        self.at = Some(at);
                    }
                    return Ok(message);
                }
                Err(ended) => ended,
            };
            self.socket = None;
            if let Ended::ForGood(text) = ended {
                anyhow::bail!("{text}");
            }
            if !std::mem::replace(&mut self.complained, true) {
                complain(&format!("{}; connecting again", ended.text()));
            }
            self.try_at = Instant::now() + self.backoff.next_delay();
        }
    }

    /// The next message of the socket, which is made first if there is none.
    async fn heard(&mut self) -> Result<Value, Ended> {
        if self.socket.is_none() {
            tokio::time::sleep_until(self.try_at).await;
            let socket = self.connect().await?;
            self.backoff.reset();
            if std::mem::take(&mut self.complained) {
                complain("connected again");
            }
            self.socket = Some(socket);
        }
        match &mut self.socket {
            Some(socket) => socket.next().await,
            None => Err(Ended::Broken("there is no connection".to_owned())),
        }
    }

    async fn connect(&self) -> Result<Socket, Ended> {
        let subscription = match &self.wanted {
            Wanted::Status => json!({ "t": "sub", "topic": "status" }),
            Wanted::Lines(wish, _) => {
                let mut subscription = json!(wish);
                subscription["t"] = "sub".into();
                subscription["topic"] = "log".into();
                subscription["since"] = json!(self.at.map(|at| at.to_string()));
                subscription
            }
        };
        let open = Socket::open(self.way, &subscription);
        timeout(MOST_DELAY, open).await.unwrap_or_else(|_| {
            Err(Ended::Broken(format!("{} did not answer within {} s", self.way.url, MOST_DELAY.as_secs())))
        })
    }
}
