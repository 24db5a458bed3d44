//! Applies events to node states, keeps log rings, and feeds every viewer of this web node.
//!
//! One feed writes, everybody else reads by version or number. A slow reader costs nothing and stops nobody: for state it gets
//! what is so now, for lines it is told what it missed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;

use crate::base::clock::SharedClock;
use crate::base::id::Cursor;
use crate::live::filter::LineFilter;
use crate::live::held::LogPlace;
use crate::live::life::LifeFacts;
use crate::live::log::{Log, Reach};
use crate::live::mirror::{Changed, Mirror, Summary};
use crate::live::read::Lines;
use crate::messenger::client::{LinkState, LinkStatus};
use crate::protocol::Report;
use crate::protocol::event::Change;
use crate::protocol::state::{Applied, DispatcherState, NodeFacts, NodeState};

/// The mirrored log holds so many lines, unless [`Hub::resize_log`] says otherwise.
pub const LOG_LINES: usize = 20_000;

/// The mirrored log holds so many bytes, unless [`Hub::resize_log`] says otherwise: 8 MiB.
pub const LOG_BYTES: usize = 8 << 20;

/// What this web node knows. Clones share it.
#[derive(Clone, Debug)]
pub struct Hub {
    shared: Arc<Shared>,
}

struct Shared {
    mirror: Mutex<Mirror>,
    log: RwLock<Log>,
    versions: watch::Sender<u64>,
    lines: watch::Sender<u64>,
    watchers: watch::Sender<usize>,
    /// Whether the state is what the service node has now, as far as one can know.
    current: watch::Sender<bool>,
    /// Whether the service node was asked to send changes and lines, and was not told to stop since.
    watching: AtomicBool,
    unreadable: AtomicU64,
}

/// While one lives (and 10 s longer), the service node sends changes and lines.
#[derive(Debug)]
pub struct Watcher {
    hub: Hub,
}

/// What is known at one moment.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Rises with every change of anything in it.
    pub version: u64,
    /// How the link to the service node is.
    pub link: LinkStatus,
    /// The node's state as last heard; kept while the link is down. None before the first.
    pub state: Option<Arc<NodeState>>,
    /// The dispatchers to show, by name: as last heard, or as the database has them while the service can't be reached.
    pub rows: Vec<Arc<DispatcherState>>,
    /// How they are, counted.
    pub summary: Summary,
    /// Whether `state` is what the service node has now, as far as one can know.
    pub current: bool,
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is known now.
    Taken,
    /// Something before it is missing: the whole state is needed.
    Missing,
}

impl Hub {
    /// Knows nothing yet.
    #[expect(clippy::needless_pass_by_value, reason = "clocks are handed over everywhere")]
    pub fn new(clock: SharedClock) -> Self {
        let now = clock.now();
        let link = LinkStatus {
            state: LinkState::Connecting,
            since: now,
            endpoint: String::new(),
            peer: None,
            error: None,
            attempts: 0,
            next_attempt_at: None,
            latency: None,
        };
        // versions of an earlier process of this node are below: fewer than a thousand changes a second are told
        let version = u64::try_from(now.as_millis()).unwrap_or(0).max(1);
        let shared = Shared {
            mirror: Mutex::new(Mirror::new(version, link)),
            log: RwLock::new(Log::new(LOG_LINES, LOG_BYTES)),
            versions: watch::Sender::new(version),
            lines: watch::Sender::new(0),
            watchers: watch::Sender::new(0),
            current: watch::Sender::new(false),
            watching: AtomicBool::new(false),
            unreadable: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Changes the bounds of the mirrored log, over all lives of service nodes together.
    pub fn resize_log(&self, lines: usize, bytes: usize) {
        self.log_mut().resize(lines, bytes);
    }

    /// Begins to watch.
    pub fn watch(&self) -> Watcher {
        // until the service node is told that somebody watches, what is here is what it was when nobody did
        if !self.shared.watching.load(Ordering::SeqCst) {
            self.set_current(false);
        }
        self.shared.watchers.send_modify(|count| *count += 1);
        Watcher { hub: self.clone() }
    }

    /// Waits until the state is what the service node has now, at most `patience`, and no longer than the link is live.
    /// Only of use while a [`Watcher`] is held.
    pub async fn current(&self, patience: Duration) -> bool {
        let (mut current, mut versions) = (self.shared.current.subscribe(), self.versions());
        let present = async {
            loop {
                let link = self.link();
                let trying = link.next_attempt_at.is_none();
                match link.state {
                    LinkState::Live => return current.wait_for(|current| *current).await.is_ok(),
                    // the first attempt is being made: what comes of it is soon known
                    LinkState::Connecting if trying && versions.changed().await.is_ok() => {}
                    LinkState::Connecting | LinkState::Down => return false,
                }
            }
        };
        tokio::time::timeout(patience, present).await.unwrap_or(false)
    }

    /// Waits until a dispatcher is as `wanted` says, at most `patience`, and no longer than the link is live. Whether it is.
    /// Only of use while a [`Watcher`] is held.
    pub async fn shows(&self, dispatcher: &str, patience: Duration, wanted: impl Fn(&DispatcherState) -> bool) -> bool {
        let mut versions = self.versions();
        let shown = async {
            loop {
                versions.borrow_and_update();
                if self.link().state != LinkState::Live {
                    return false;
                }
                if self.dispatcher(dispatcher).is_some_and(|row| wanted(&row)) {
                    return true;
                }
                if versions.changed().await.is_err() {
                    return false;
                }
            }
        };
        tokio::time::timeout(patience, shown).await.unwrap_or(false)
    }

    /// One dispatcher as it is shown now; none if it is not known.
    pub fn dispatcher(&self, name: &str) -> Option<Arc<DispatcherState>> {
        self.mirror().row(name)
    }

    /// What is known now. A page calls [`Hub::watch`] first and holds it for the request.
    pub fn picture(&self) -> Picture {
        let mut mirror = self.mirror();
        Picture {
            version: mirror.version(),
            link: mirror.link().clone(),
            state: mirror.state(),
            rows: mirror.rows(),
            summary: mirror.summary(),
            current: *self.shared.current.borrow(),
        }
    }

    /// How the link to the service node is.
    pub fn link(&self) -> LinkStatus {
        self.mirror().link().clone()
    }

    /// The present version of the picture.
    pub fn version(&self) -> u64 {
        self.mirror().version()
    }

    /// Rises with every change of the picture.
    pub fn versions(&self) -> watch::Receiver<u64> {
        self.shared.versions.subscribe()
    }

    /// Which service node is heard, or was heard last.
    pub fn node(&self) -> Option<NodeFacts> {
        self.mirror().node().cloned()
    }

    /// Whether the service node says that it is stopping; false while nobody watches, for then it is not heard.
    pub fn is_stopping(&self) -> bool {
        *self.shared.current.borrow() && self.mirror().node().is_some_and(|node| node.stopping)
    }

    /// What changed since `version`, of one dispatcher alone if there is one; everything for 0 or one too old.
    pub fn changed_since(&self, version: u64, only: Option<&str>) -> Changed {
        let mirror = self.mirror();
        let changed = mirror.since(version);
        match only {
            Some(name) => changed.only(name, mirror.summary_of(name)),
            None => changed,
        }
    }

    /// Rises with every line.
    pub fn lines_seen(&self) -> watch::Receiver<u64> {
        self.shared.lines.subscribe()
    }

    /// Lines after `since` in its stretch (the newest `most` if none), at most `most`; none if nothing of it is held. Who
    /// follows reads through a [`Reader`](crate::live::reader::Reader), which knows how to get to the next life.
    pub fn lines(&self, since: Option<LogPlace>, filter: &LineFilter, most: usize) -> Lines {
        self.log().read(since, most, |entry| filter.matches(entry)).into()
    }

    /// How a place in a log lies to what is held of it; `entered` is the stretch whose beginning it is, if it is no end.
    pub fn reach(&self, at: Cursor, entered: Option<u64>) -> Reach {
        self.log().reach(at, entered)
    }

    /// The life of the service node whose lines come now; none before anything was heard.
    pub fn life(&self) -> Option<LifeFacts> {
        self.log().current().cloned()
    }

    /// How many messages of the service node could not be read since the start.
    pub fn unreadable(&self) -> u64 {
        self.shared.unreadable.load(Ordering::Relaxed)
    }

    pub(crate) fn count_unreadable(&self) {
        self.shared.unreadable.fetch_add(1, Ordering::Relaxed);
    }

    /// How many watch; changes when one comes or goes.
    pub(crate) fn watchers(&self) -> watch::Receiver<usize> {
        self.shared.watchers.subscribe()
    }

    /// Where the log is to be continued.
    pub(crate) fn cursor(&self) -> Option<Cursor> {
        self.log().cursor()
    }

    /// Notes whether the service node sends changes and lines from now on.
    pub(crate) fn set_watching(&self, watching: bool) {
        self.shared.watching.store(watching, Ordering::SeqCst);
        self.set_current(false);
    }

    /// Notes how the link is, and tells viewers at once.
    pub(crate) fn set_link(&self, link: LinkStatus) {
        if link.state != LinkState::Live {
            self.shared.current.send_if_modified(|current| std::mem::replace(current, false));
        }
        if self.mirror().set_link(link) {
            self.publish();
        }
    }

    /// Shows rows from the database while the link is not live; otherwise they are of no use any more.
    pub(crate) fn show_stored(&self, rows: &[DispatcherState]) {
        let mut mirror = self.mirror();
        if mirror.link().state != LinkState::Live {
            mirror.show_stored(rows);
            drop(mirror);
            self.publish();
        }
    }

    /// Takes a report; viewers are told at the next [`Hub::publish`].
    pub(crate) fn take(&self, report: Report) -> Taken {
        match report {
            Report::Whole(state) => {
                let node = &state.node;
                let life = LifeFacts {
                    epoch: state.epoch,
                    node: node.id.clone(),
                    version: node.version.clone(),
                    started_at: node.started_at,
                };
                self.log_mut().begin(&life, &node.absences);
                self.mirror().set_whole(*state);
                // lines may be on their way still: the beat after them says that this is the present
                Taken::Taken
            }
            Report::Events { epoch, events } => {
                for event in &events {
                    if let Change::Node(node) = &event.change {
                        self.log_mut().heed(epoch, &node.absences);
                    }
                }
                match self.mirror().apply(epoch, &events) {
                    Applied::Changed | Applied::Known => Taken::Taken,
                    Applied::Missing => Taken::Missing,
                }
            }
            Report::Log(batch) => {
                if self.log_mut().append(batch) {
                    Taken::Taken
                } else {
                    Taken::Missing
                }
            }
            Report::Beat { epoch, number, .. } => {
                let known = self.mirror().place() == Some((epoch, number));
                if known {
                    // whoever waits for the present reads what was published
                    self.publish();
                }
                self.set_current(known);
                if known { Taken::Taken } else { Taken::Missing }
            }
        }
    }

    /// Lets viewers know of everything that was taken.
    pub(crate) fn publish(&self) {
        let version = self.mirror().version();
        self.shared.versions.send_if_modified(|told| std::mem::replace(told, version) != version);
        if self.log_mut().publish() {
            self.shared.lines.send_modify(|seen| *seen += 1);
        }
    }

    fn set_current(&self, current: bool) {
        self.shared.current.send_if_modified(|was| std::mem::replace(was, current) != current);
    }

    fn mirror(&self) -> MutexGuard<'_, Mirror> {
        self.shared.mirror.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is held of the log; not for long.
    pub(crate) fn log(&self) -> std::sync::RwLockReadGuard<'_, Log> {
        self.shared.log.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn log_mut(&self) -> std::sync::RwLockWriteGuard<'_, Log> {
        self.shared.log.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.hub.shared.watchers.send_modify(|count| *count = count.saturating_sub(1));
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("version", &*self.versions.borrow()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{ManualClock, Timestamp};
    use crate::base::id::Epoch;
    use crate::live::log::tests::entry;
    use crate::live::mirror::tests::{dispatcher, facts, link};
    use crate::model::log_entry::{Level, LogGap};
    use crate::protocol::LogBatch;
    use crate::protocol::event::Event;

    fn hub() -> Hub {
        Hub::new(ManualClock::new(Timestamp::from_micros(5_000_000)))
    }

    fn whole(epoch: u64, names: &[&str]) -> Report {
        let mut state = NodeState::new(Epoch::from_u64(epoch), facts());
        state.dispatchers = names.iter().map(|name| ((*name).to_owned(), dispatcher(name))).collect();
        Report::Whole(Box::new(state))
    }

    fn lines(epoch: u64, first: u64, count: u64) -> Report {
        let entries = (0..count).map(|_| entry(Level::Info, "text")).collect();
        Report::Log(LogBatch { epoch: Epoch::from_u64(epoch), gap: None, first, entries })
    }

    fn live(hub: &Hub) {
        hub.set_link(link(LinkState::Live));
    }

    #[test]
    fn reports_make_the_picture_and_viewers_are_told_once() {
        let hub = hub();
        live(&hub);
        let (mut versions, mut seen) = (hub.versions(), hub.lines_seen());
        versions.borrow_and_update();
        assert_eq!(hub.take(whole(1, &["a"])), Taken::Taken);
        let event = Event { number: 1, change: Change::Queued { dispatcher: "a".into(), queued: 2 } };
        assert_eq!(hub.take(Report::Events { epoch: Epoch::from_u64(1), events: vec![event] }), Taken::Taken);
        assert_eq!(hub.take(lines(1, 1, 3)), Taken::Taken);
        assert!(!versions.has_changed().unwrap() && !seen.has_changed().unwrap(), "not before it is published");
        hub.publish();
        assert!(versions.has_changed().unwrap() && seen.has_changed().unwrap());
        versions.borrow_and_update();
        seen.borrow_and_update();
        hub.publish();
        assert!(!versions.has_changed().unwrap() && !seen.has_changed().unwrap(), "nothing new, nothing told");
        assert!(!hub.picture().current, "more may be on its way");
        let at = Timestamp::from_micros(1);
        assert_eq!(hub.take(Report::Beat { epoch: Epoch::from_u64(1), number: 1, at }), Taken::Taken);
        let picture = hub.picture();
        assert!(picture.current);
        assert_eq!((picture.rows[0].queued, picture.state.unwrap().number, picture.summary.total), (2, 1, 1));
        assert_eq!(hub.lines(None, &LineFilter::default(), 2).lines.len(), 2);
    }

    #[test]
    fn what_does_not_fit_asks_for_the_whole_state() {
        let hub = hub();
        let epoch = Epoch::from_u64(1);
        let at = Timestamp::from_micros(1);
        assert_eq!(hub.take(lines(1, 1, 1)), Taken::Missing);
        assert_eq!(hub.take(Report::Beat { epoch, number: 0, at }), Taken::Missing);
        hub.take(whole(1, &[]));
        assert_eq!(hub.take(Report::Beat { epoch, number: 0, at }), Taken::Taken);
        assert_eq!(hub.take(Report::Beat { epoch, number: 1, at }), Taken::Missing);
        assert!(!hub.picture().current, "the service node is ahead");
        assert_eq!(hub.take(lines(2, 1, 1)), Taken::Missing);
        assert_eq!(hub.take(whole(2, &[])), Taken::Taken);
        assert_eq!(hub.take(lines(2, 1, 1)), Taken::Taken);
    }

    #[test]
    fn stored_rows_show_only_while_the_link_is_not_live() {
        let hub = hub();
        live(&hub);
        hub.take(whole(1, &["a"]));
        hub.show_stored(&[dispatcher("b")]);
        assert_eq!(hub.picture().rows[0].name, "a");
        hub.set_link(link(LinkState::Down));
        assert_eq!(hub.picture().rows[0].name, "a", "until the database was read");
        hub.show_stored(&[dispatcher("b")]);
        let picture = hub.picture();
        assert_eq!((picture.rows[0].name.as_str(), picture.current), ("b", false));
        assert!(picture.state.unwrap().dispatchers.contains_key("a"), "what it last said is kept");
        live(&hub);
        hub.take(whole(1, &["a"]));
        assert_eq!(hub.picture().rows[0].name, "a");
    }

    #[test]
    fn watchers_are_counted() {
        let hub = hub();
        let (one, two) = (hub.watch(), hub.watch());
        assert_eq!(*hub.watchers().borrow(), 2);
        drop((one, two));
        assert_eq!(*hub.watchers().borrow(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_waits_for_the_present_state_but_not_for_ever() {
        let hub = hub();
        assert!(!hub.current(Duration::from_secs(9)).await, "no link, no waiting");
        live(&hub);
        assert!(!hub.current(Duration::from_secs(1)).await);
        let (waiting, taking) = (hub.clone(), hub.clone());
        let (current, ()) = tokio::join!(waiting.current(Duration::from_secs(1)), async move {
            taking.take(whole(1, &[]));
            taking.take(Report::Beat { epoch: Epoch::from_u64(1), number: 0, at: Timestamp::from_micros(1) });
        });
        assert!(current);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_asked_for_is_waited_for_but_not_for_ever() {
        let hub = hub();
        let queued = |row: &DispatcherState| row.queued == 2;
        assert!(!hub.shows("a", Duration::from_secs(9), queued).await, "no link, no waiting");
        live(&hub);
        hub.take(whole(1, &["a", "b"]));
        assert!(!hub.shows("a", Duration::from_secs(1), queued).await);
        let (waiting, taking) = (hub.clone(), hub.clone());
        let event =
            |number, name: &str| Event { number, change: Change::Queued { dispatcher: name.into(), queued: 2 } };
        let (shown, ()) = tokio::join!(waiting.shows("a", Duration::from_secs(1), queued), async move {
            for (number, name) in [(1, "b"), (2, "a")] {
                taking.take(Report::Events { epoch: Epoch::from_u64(1), events: vec![event(number, name)] });
                taking.publish();
                tokio::task::yield_now().await;
            }
        });
        assert!(shown);
        assert!(!hub.shows("none", Duration::from_secs(1), |_| true).await);
    }

    #[test]
    fn a_slow_reader_stops_nobody_and_learns_what_it_missed() {
        let hub = hub();
        hub.resize_log(100, usize::MAX);
        hub.take(whole(1, &[]));
        for turn in 0..50 {
            hub.take(lines(1, turn * 20 + 1, 20));
        }
        hub.publish();
        let late = Cursor { epoch: Epoch::from_u64(1), seq: 7 };
        let read = hub.lines(Some(late.into()), &LineFilter::default(), 1000);
        assert_eq!(read.gap, Some(LogGap { from: 8, to: 900, by_level: [0, 0, 893, 0, 0] }));
        assert_eq!((read.lines.len(), read.next), (100, 1000));
    }
}
