//! What goes to one web node and what comes from it: reports one way, commands the other.
//!
//! A link pulls from the state's events and from the log by number, so nothing is queued for it: a stalled one costs the batch
//! it is sending. Nothing is logged here: these lines would make lines.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::base::clock::SharedClock;
use crate::base::id::Cursor;
use crate::messenger::envelope::MAX_BODY;
use crate::messenger::secure::{Receiver, SecureChannel, Sender};
use crate::protocol::command::Command;
use crate::protocol::state::NodeState;
use crate::protocol::{Kind, LogBatch, Report};
use crate::service::feed::{Feed, Since};
use crate::service::log::LogRing;

/// A beat is due when nothing else was sent for so long while somebody watches there.
const WATCHED: Duration = Duration::from_secs(1);

/// And for so long while nobody does.
const UNWATCHED: Duration = Duration::from_secs(15);

/// After a batch the next one is gathered for so long; the first after a quiet time goes at once.
const GATHER: Duration = Duration::from_millis(25);

/// Lines in one batch.
const LINES: usize = 200;

/// Bytes of lines in one batch, unless one line is longer.
const LINE_BYTES: usize = 256 << 10;

/// Batches of lines sent together: what a stalled link holds in memory.
const BATCHES: usize = 4;

/// Events in one report.
const EVENTS: usize = 256;

/// How long the last reports of a stopping node may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a link needs of its node.
#[derive(Clone)]
pub(crate) struct Ends {
    /// The state and its events.
    pub feed: Feed,
    /// The log.
    pub log: LogRing,
    /// Told when a web node says that something is stored; holds one wake-up at most.
    pub wake: Arc<Notify>,
    /// Tells the time.
    pub clock: SharedClock,
    /// Cancelled when the node has nothing more to report.
    pub end: CancellationToken,
}

/// What the other end wants; the latest wins.
#[derive(Clone, Debug, Default, PartialEq)]
struct Wish {
    /// Whether somebody watches there.
    watching: bool,
    /// After which line.
    since: Option<Cursor>,
    /// Rises with every wish: to be asked again is to start over.
    number: u64,
}

/// Serves one link until it or the node ends.
pub(crate) async fn serve(channel: SecureChannel, ends: Ends) {
    let (sender, receiver) = channel.split();
    let (wishes, wish) = watch::channel(Wish::default());
    tokio::select! {
        () = listen(receiver, wishes, &ends.wake) => {}
        () = tell(sender, wish, &ends) => {}
    }
}

/// Takes commands until the link ends. The channel itself ends it when the other end is silent for too long.
async fn listen(mut receiver: Receiver, wishes: watch::Sender<Wish>, wake: &Notify) {
    while let Ok(Some(envelopes)) = receiver.recv().await {
        for envelope in envelopes {
            if envelope.kind == Kind::Command as u8
                && let Ok(command) = Command::decode(&envelope.body)
            {
                heed(&command, &wishes, wake);
            }
        }
    }
}

fn heed(command: &Command, wishes: &watch::Sender<Wish>, wake: &Notify) {
    match command {
        // one look finds what is stored for any dispatcher
        Command::Wake { dispatcher: _ } => wake.notify_one(),
        Command::Watch { since } => {
            let since = *since;
            wishes.send_modify(|wish| *wish = Wish { watching: true, since, number: wish.number + 1 });
        }
        Command::Unwatch => {
            wishes.send_modify(|wish| *wish = Wish { watching: false, since: None, number: wish.number + 1 });
        }
        Command::Beat => {}
    }
}

/// Sends reports until the link or the node ends.
async fn tell(mut sender: Sender, mut wish: watch::Receiver<Wish>, ends: &Ends) {
    let mut outlet = Outlet::new(ends.feed.clone(), ends.log.clone());
    let mut numbers = ends.feed.numbers();
    let mut sent_at = Instant::now();
    loop {
        outlet.heed(&wish.borrow_and_update());
        numbers.borrow_and_update();
        let ending = ends.end.is_cancelled();
        let (mut batch, more) = outlet.fill();
        if !more && let Some(mark) = outlet.caught_up(&ends.clock) {
            batch.push(report(&mark));
        }
        if batch.is_empty() && ending {
            return;
        }
        if !batch.is_empty() {
            let sent = sender.send(&batch);
            let sent = if ending { timeout(FAREWELL, sent).await.ok() } else { Some(sent.await) };
            if !matches!(sent, Some(Ok(()))) {
                return;
            }
            sent_at = Instant::now();
            if !more && !ending {
                tokio::select! {
                    () = sleep(GATHER) => {}
                    () = ends.end.cancelled() => {}
                }
            }
            continue;
        }
        let beat_at = sent_at + outlet.beat_every();
        tokio::select! {
            changed = wish.changed() => if changed.is_err() { return },
            changed = numbers.changed(), if outlet.watched.is_some() => if changed.is_err() { return },
            () = ends.log.newer_than(outlet.line()), if outlet.watched.is_some() => {}
            () = ends.end.cancelled() => {}
            () = sleep_until(beat_at) => {
                if sender.send(&[report(&outlet.beat(&ends.clock))]).await.is_err() {
                    return;
                }
                sent_at = Instant::now();
            }
        }
    }
}

fn report(report: &Report) -> (u8, Bytes) {
    (Kind::Report as u8, report.encode())
}

/// What one link has been told, and what it is to be told next.
struct Outlet {
    feed: Feed,
    log: LogRing,
    /// How far it is, while somebody watches there.
    watched: Option<Place>,
    /// Whether the whole state is to be sent next.
    whole: bool,
    /// Whether somebody began to watch and is to be told, by a beat, when it has caught up in state and lines.
    behind: bool,
    heeded: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    event: u64,
    line: u64,
}

impl Outlet {
    fn new(feed: Feed, log: LogRing) -> Self {
        Self { feed, log, watched: None, whole: true, behind: false, heeded: 0 }
    }

    fn heed(&mut self, wish: &Wish) {
        if wish.number == self.heeded {
            return;
        }
        self.heeded = wish.number;
        self.watched = wish.watching.then(|| {
            let known = wish.since.filter(|since| since.epoch == self.log.epoch());
            // a number that was never given can't be gone on from
            let line = known.map(|since| since.seq).filter(|seq| *seq <= self.log.last()).unwrap_or(0);
            Place { event: 0, line }
        });
        self.whole = self.whole || wish.watching;
        self.behind = wish.watching;
    }

    fn beat_every(&self) -> Duration {
        if self.watched.is_some() { WATCHED } else { UNWATCHED }
    }

    fn line(&self) -> u64 {
        self.watched.map_or(0, |place| place.line)
    }

    /// A beat that says what the other end knows now that it has been told everything there was, once after it began to watch.
    fn caught_up(&mut self, clock: &SharedClock) -> Option<Report> {
        let place = self.watched.filter(|_| std::mem::take(&mut self.behind))?;
        Some(Report::Beat { epoch: self.log.epoch(), number: place.event, at: clock.now() })
    }

    fn beat(&self, clock: &SharedClock) -> Report {
        let (epoch, number) = self.feed.look(|state| (state.epoch, state.number));
        Report::Beat { epoch, number, at: clock.now() }
    }

    /// What is to be sent now, and whether there is more at once.
    fn fill(&mut self) -> (Vec<(u8, Bytes)>, bool) {
        let mut batch = Vec::new();
        let mut more = false;
        if self.whole {
            batch.push(self.whole());
        }
        let Some(mut place) = self.watched else { return (batch, false) };
        if batch.is_empty() {
            match self.feed.since(place.event, EVENTS) {
                Since::Missed => batch.push(self.whole()),
                Since::Events(events) => {
                    if let Some(last) = events.last() {
                        place.event = last.number;
                        more = events.len() == EVENTS;
                        let epoch = self.log.epoch();
                        batch.push(report(&Report::Events { epoch, events }));
                    }
                    self.watched = Some(place);
                }
            }
        }
        for _ in 0..BATCHES {
            let read = self.log.read(self.line(), LINES, LINE_BYTES);
            if read.gap.is_none() && read.entries.is_empty() {
                return (batch, more);
            }
            batch.push(report(&Report::Log(LogBatch {
                epoch: self.log.epoch(),
                gap: read.gap,
                first: read.first,
                entries: read.entries.iter().map(|entry| (**entry).clone()).collect(),
            })));
            if let Some(place) = &mut self.watched {
                place.line = read.seen;
            }
            if !read.more {
                return (batch, more);
            }
        }
        (batch, true)
    }

    /// The whole state, which is where events go on from.
    fn whole(&mut self) -> (u8, Bytes) {
        self.whole = false;
        let mut state = self.feed.state();
        if let Some(place) = &mut self.watched {
            place.event = state.number;
        }
        let mut bars = usize::MAX;
        loop {
            let whole = report(&Report::Whole(Box::new(state.clone())));
            if whole.1.len() <= MAX_BODY || bars == 0 {
                return whole;
            }
            // more than a thousand dispatchers: the charts of their rows begin shorter
            bars = bars.min(40) / 2;
            shorten(&mut state, bars);
        }
    }
}

fn shorten(state: &mut NodeState, bars: usize) {
    for dispatcher in state.dispatchers.values_mut() {
        let surplus = dispatcher.recent.len().saturating_sub(bars);
        dispatcher.recent.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::base::id::{Epoch, NodeId};
    use crate::model::log_entry::{Level, LogEntry};
    use crate::protocol::event::Change;
    use crate::protocol::state::NodeFacts;

    fn facts(pid: u32) -> NodeFacts {
        let started_at = Timestamp::from_micros(0);
        NodeFacts {
            id: NodeId::new("service-1"),
            host: "here".into(),
            version: "1".into(),
            pid,
            started_at,
            stopping: false,
            absences: Vec::new(),
        }
    }

    fn outlet(lines: usize) -> Outlet {
        let epoch = Epoch::from_u64(7);
        Outlet::new(Feed::new(NodeState::new(epoch, facts(0))), LogRing::new(epoch, lines, 64 << 20))
    }

    fn write(outlet: &Outlet, count: usize) {
        for _ in 0..count {
            outlet.log.push(LogEntry {
                time: Timestamp::from_micros(1),
                level: Level::Info,
                source: "s".into(),
                execution: None,
                stream: None,
                text: "x".into(),
            });
        }
    }

    fn wish(number: u64, since: Option<Cursor>) -> Wish {
        Wish { watching: true, since, number }
    }

    fn filled(outlet: &mut Outlet) -> Vec<Report> {
        outlet.fill().0.iter().map(|(_, body)| Report::decode(body).unwrap()).collect()
    }

    fn at(seq: u64) -> Cursor {
        Cursor { epoch: Epoch::from_u64(7), seq }
    }

    #[test]
    fn the_whole_state_comes_first_and_then_nothing_unless_somebody_watches() {
        let mut outlet = outlet(100);
        write(&outlet, 3);
        assert!(matches!(&filled(&mut outlet)[..], [Report::Whole(_)]));
        outlet.feed.change(Change::Node(facts(1)));
        write(&outlet, 3);
        assert_eq!(filled(&mut outlet), []);
        assert_eq!(outlet.beat_every(), UNWATCHED);
    }

    #[test]
    fn a_watcher_gets_the_whole_state_and_then_changes_and_lines() {
        let mut outlet = outlet(100);
        filled(&mut outlet);
        write(&outlet, 3);
        outlet.heed(&wish(1, Some(at(1))));
        let reports = filled(&mut outlet);
        assert!(
            matches!(&reports[..], [Report::Whole(_), Report::Log(lines)] if lines.first == 2 && lines.entries.len() == 2)
        );
        outlet.heed(&wish(1, Some(at(1))));
        assert_eq!(filled(&mut outlet), [], "the same wish again is not a new one");
        outlet.feed.change(Change::Node(facts(1)));
        outlet.feed.change(Change::Node(facts(2)));
        let reports = filled(&mut outlet);
        assert!(matches!(&reports[..], [Report::Events { events, .. }] if events.len() == 2));
        outlet.heed(&Wish { watching: false, since: None, number: 2 });
        outlet.feed.change(Change::Node(facts(3)));
        assert_eq!(filled(&mut outlet), []);
    }

    #[test]
    fn a_place_of_another_life_or_never_reached_starts_at_the_oldest_line() {
        for since in [None, Some(Cursor { epoch: Epoch::from_u64(8), seq: 2 }), Some(at(99))] {
            let mut outlet = outlet(100);
            write(&outlet, 3);
            outlet.heed(&wish(1, since));
            let reports = filled(&mut outlet);
            assert!(
                matches!(&reports[1], Report::Log(lines) if lines.first == 1 && lines.entries.len() == 3),
                "{since:?}"
            );
        }
    }

    #[test]
    fn who_falls_behind_gets_the_whole_state_and_a_gap() {
        let mut outlet = outlet(10);
        outlet.heed(&wish(1, None));
        filled(&mut outlet);
        write(&outlet, 25);
        for pid in 0..3000 {
            outlet.feed.change(Change::Node(facts(pid)));
        }
        let reports = filled(&mut outlet);
        assert!(matches!(&reports[0], Report::Whole(state) if state.number == 3000));
        assert!(
            matches!(&reports[1], Report::Log(lines) if lines.gap.is_some_and(|gap| (gap.from, gap.to) == (1, 15)) && lines.first == 16)
        );
    }

    #[test]
    fn many_lines_go_in_bounded_batches_without_loss() {
        let mut outlet = outlet(10_000);
        write(&outlet, 1900);
        outlet.heed(&wish(1, None));
        let mut next = 1;
        let mut rounds = 0;
        loop {
            let (batch, more) = outlet.fill();
            assert!(batch.len() <= BATCHES + 1);
            for (_, body) in &batch {
                if let Report::Log(lines) = Report::decode(body).unwrap() {
                    assert_eq!(lines.first, next);
                    assert!(lines.entries.len() <= LINES);
                    next += lines.entries.len() as u64;
                }
            }
            rounds += 1;
            if !more {
                break;
            }
        }
        assert_eq!((next, rounds), (1901, 3));
    }

    #[test]
    fn commands_become_wishes_and_wake_ups() {
        let (wishes, wish) = watch::channel(Wish::default());
        let wake = Notify::new();
        heed(&Command::Watch { since: Some(at(3)) }, &wishes, &wake);
        assert_eq!(*wish.borrow(), Wish { watching: true, since: Some(at(3)), number: 1 });
        heed(&Command::Beat, &wishes, &wake);
        heed(&Command::Unwatch, &wishes, &wake);
        assert_eq!(*wish.borrow(), Wish { watching: false, since: None, number: 2 });
        heed(&Command::Wake { dispatcher: None }, &wishes, &wake);
        let mut woken = std::pin::pin!(wake.notified());
        assert!(woken.as_mut().enable(), "a wake-up is kept for a registry that is busy");
    }
}
