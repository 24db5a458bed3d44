//! One reader's way through the log: what the hub holds, what was kept before and between, and a counted gap for the rest.
//!
//! Socket, long poll, `/api/logs`, `/logs.txt` and the command line all read through this, so that none of them loses a line in
//! silence or tells one twice.

use std::time::Duration;

use tokio::time::Instant;

use crate::base::id::{Cursor, Epoch, NodeId};
use crate::base::ring::Counts;
use crate::live::filter::LineFilter;
use crate::live::held::Stretch;
use crate::live::hub::{Hub, Lines};
use crate::live::kept::{self, Piece, Upto};
use crate::live::life::{LifeFacts, Restart};
use crate::live::log::{Back, Reach};
use crate::model::log_entry::{LogEntry, LogLine};
use crate::store::Store;
use crate::store::error::Error;

/// A reader that falls behind again and again gets kept rows only so often; in between gaps stay gaps.
const FILL_EVERY: Duration = Duration::from_secs(10);

/// Where nothing was kept the database is asked again only after so long.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// A reader that begins in a former life takes so many steps towards the present at once.
const BEGIN_STEPS: usize = 64;

/// Where a reader reads.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// What this web node knows.
    pub hub: &'a Hub,
    /// The kept lines; a reader does without if there are none.
    pub store: Option<&'a Store>,
}

/// Where a reader stands, and what it wants.
#[derive(Debug)]
pub struct Reader {
    filter: LineFilter,
    at: Option<Cursor>,
    /// While `at` is the beginning of a stretch of which nothing was read.
    entered: Option<Entered>,
    filled_at: Option<Instant>,
    asked_at: Option<Instant>,
}

/// A stretch that a reader came to.
#[derive(Clone, Copy, Debug)]
struct Entered {
    stretch: u64,
    /// The end of the one before: who goes on from a place alone goes on from there, and is led here again.
    from: Option<Cursor>,
}

/// What a reader is to be told next.
#[derive(Debug)]
pub enum Step {
    /// The newest lines, to begin with: kept ones, then those held.
    Newest(Vec<Piece>, Lines),
    /// What was kept; there may be more.
    Kept(Kept),
    /// What follows this place is held: read it from the hub, and say how far by [`Reader::reached`].
    Held(Cursor),
    /// Nothing that is known now.
    Nothing,
}

/// A part of the log that was kept.
#[derive(Debug)]
pub struct Kept {
    /// In order.
    pub pieces: Vec<Piece>,
    /// The place after it.
    pub at: Cursor,
}

impl Reader {
    /// Reads after a place; without one from the newest lines on.
    #[must_use]
    pub const fn new(filter: LineFilter, at: Option<Cursor>) -> Self {
        Self { filter, at, entered: None, filled_at: None, asked_at: None }
    }

    /// What it wants.
    pub const fn filter(&self) -> &LineFilter {
        &self.filter
    }

    /// From where another reader goes on; none before it knows of anything.
    pub fn at(&self) -> Option<Cursor> {
        self.entered.and_then(|entered| entered.from).or(self.at)
    }

    /// It was read up to here.
    pub fn reached(&mut self, at: Cursor) {
        if self.at.replace(at) != Some(at) {
            self.entered = None;
        }
    }

    /// What is to be told next; `newest` lines at most to begin with.
    ///
    /// # Errors
    /// If the kept lines can't be read now. Where the hub can go on without them, the next call does, and tells a gap.
    pub async fn step(&mut self, from: Source<'_>, newest: usize) -> Result<Step, Error> {
        let Some(at) = self.at else {
            return self.begin(from, newest).await;
        };
        self.go_on(from, at).await
    }

    /// What follows the place it stands at.
    async fn go_on(&mut self, from: Source<'_>, at: Cursor) -> Result<Step, Error> {
        match from.hub.reach(at, self.entered.map(|entered| entered.stretch)) {
            Reach::Older(first) if self.may_fill() => self.fill(from, at, first).await,
            Reach::Held | Reach::Older(_) => Ok(Step::Held(at)),
            Reach::Over | Reach::Unknown => self.leave(from, at).await,
        }
    }

    /// The newest lines; older ones from kept rows if the hub has few.
    async fn begin(&mut self, from: Source<'_>, most: usize) -> Result<Step, Error> {
        let back = from.hub.log().back(most, |entry| self.filter.matches(entry));
        if let Some(back) = back {
            let begun = self.begin_in_former(from, most, back).await;
            if begun.is_err() {
                (self.at, self.entered) = (None, None);
                self.put_off();
            }
            return begun;
        }
        let current = from.hub.log().held().last().map(|(stretch, _)| stretch);
        let mut lines = from.hub.lines(None, &self.filter, most);
        // what is missing before the lines may have been kept
        let first = lines.epoch.map(|epoch| Cursor { epoch, seq: lines.gap.map_or(lines.first, |gap| gap.to + 1) });
        let mut older = Vec::new();
        if let Some(store) = from.store.filter(|_| lines.lines.len() < most && self.may_fill() && self.may_ask()) {
            let missing = most - lines.lines.len();
            older =
                kept::newest(store, first.as_slice(), &self.filter, missing).await.inspect_err(|_| self.put_off())?;
            if let (Some(first), Some(gap)) = (first, lines.gap) {
                lines.gap = kept::left_of(gap, first.epoch, &older, &self.filter);
            }
        }
        let end = lines.epoch.map(|epoch| Cursor { epoch, seq: lines.next });
        self.at = end.or_else(|| older.last().map(Piece::end));
        if let Some(stretch) = current.filter(|stretch| end.is_some_and(|end| !stretch.has_read(end.seq))) {
            self.enter(from.hub, stretch);
        }
        if self.at.is_none() {
            self.asked_at = Some(Instant::now());
            return Ok(Step::Nothing);
        }
        if let Some(end) = end
            && older.last().is_some_and(|last| last.epoch() != end.epoch)
        {
            let restart = from.hub.life().map(Restart::to).unwrap_or_default();
            let before = last_node(&older);
            older.push(Piece::Restart(end.epoch, Restart { before, ..restart }));
        }
        Ok(Step::Newest(older, lines))
    }

    /// The same where a stretch before the present one holds a part of them: read from there on as every reader does. A primary that
    /// fell may have kept nothing of what it told last.
    async fn begin_in_former(&mut self, from: Source<'_>, most: usize, back: Back) -> Result<Step, Error> {
        // without kept rows, if they could not be had a moment ago
        let from = Source { store: from.store.filter(|_| self.may_fill()), ..from };
        let epoch = back.stretch.epoch;
        let mut pieces = Vec::new();
        if let Some(store) = from.store.filter(|_| back.missing > 0) {
            let held = from.hub.log().held_from();
            pieces = kept::newest(store, &held, &self.filter, back.missing).await?;
        }
        if pieces.last().is_some_and(|last| last.epoch() != epoch) {
            let life = from.hub.log().life_of(back.stretch);
            let restart = life.map(Restart::to).unwrap_or_default();
            pieces.push(Piece::Restart(epoch, Restart { before: last_node(&pieces), ..restart }));
        }
        let mut at = Cursor { epoch, seq: back.after };
        self.at = Some(at);
        if !back.stretch.has_read(back.after) {
            self.enter(from.hub, back.stretch);
        }
        for _ in 0..BEGIN_STEPS {
            match self.go_on(from, at).await? {
                Step::Held(_) => {
                    let lines = from.hub.lines(Some(at), &self.filter, most);
                    self.reached(Cursor { epoch: at.epoch, seq: lines.next });
                    if !lines.more {
                        return Ok(Step::Newest(pieces, lines));
                    }
                    pieces.extend(pieces_of(lines));
                }
                Step::Kept(kept) => pieces.extend(kept.pieces),
                Step::Newest(..) | Step::Nothing => break,
            }
            at = self.at.unwrap_or(at);
        }
        // more comes than is read, or what was held made room: the next step goes on
        Ok(Step::Kept(Kept { pieces, at }))
    }

    /// Kept rows for what made room here before it was read.
    async fn fill(&mut self, from: Source<'_>, at: Cursor, first: u64) -> Result<Step, Error> {
        let Some(store) = from.store else {
            return Ok(Step::Held(at));
        };
        let levels = |epoch: Epoch, from_seq: u64, to: u64| from.hub.log().lost_levels(epoch, from_seq, to);
        let found = kept::after(store, at, Upto::Line(first - 1), &self.filter, &levels).await;
        let found = found.inspect_err(|_| self.put_off())?;
        if !found.more {
            self.put_off();
        }
        self.reached(found.at);
        Ok(Step::Kept(Kept { pieces: found.pieces, at: found.at }))
    }

    /// Leads on from where a stretch is over, or not held: the rest of it as it was kept, lives in between, then the next
    /// stretch that is held.
    async fn leave(&mut self, from: Source<'_>, at: Cursor) -> Result<Step, Error> {
        let own = from.hub.log().stretch_of(at, self.entered.map(|entered| entered.stretch));
        let later = match own {
            Some(own) => {
                let held = from.hub.log().held_after(own.number);
                held.into_iter().map(|(stretch, life)| Next { after: stretch.after, stretch, life }).collect()
            }
            None if !self.may_ask() => return Ok(Step::Nothing),
            None => later(from, at).await?,
        };
        if later.is_empty() && !self.may_ask() {
            return Ok(Step::Nothing);
        }
        let epochs: Vec<Epoch> = later.iter().map(|next| next.life.epoch).collect();
        // where its own life goes on in a later stretch, this one ends there
        let end = later.iter().find(|next| next.life.epoch == at.epoch).map_or(u64::MAX, |next| next.after);
        let mut kept = Kept { pieces: Vec::new(), at };
        let mut more = false;
        if let Some(store) = from.store {
            let levels = |epoch: Epoch, from_seq: u64, to: u64| from.hub.log().lost_levels(epoch, from_seq, to);
            let found = kept::after(store, at, Upto::Lives(&epochs, end), &self.filter, &levels).await?;
            more = found.more;
            kept = Kept { pieces: found.pieces, at: found.at };
        }
        // in the order in which they were primary; kept rows of a standby are older than that
        if let Some(next) = later.into_iter().next().filter(|_| !more) {
            let own = own.filter(|_| kept.at.epoch == at.epoch).and_then(|own| from.hub.log().life_of(own));
            let (before, version) = match (own, from.store) {
                (Some(own), _) => (Some(own.node), Some(own.version)),
                (None, Some(store)) => (store.kept_node(kept.at.epoch).await?, None),
                (None, None) => (last_node(&kept.pieces), None),
            };
            let left = kept.at;
            kept.at = Cursor { epoch: next.life.epoch, seq: next.after };
            let restart = Restart { before, from: version, ..Restart::to(next.life) };
            kept.pieces.push(Piece::Restart(kept.at.epoch, restart));
            self.filled_at = None;
            self.at = Some(kept.at);
            self.entered = Some(Entered { stretch: next.stretch.number, from: Some(left) });
            return Ok(Step::Kept(kept));
        }
        if kept.at == at {
            self.asked_at = Some(Instant::now());
            return Ok(Step::Nothing);
        }
        self.reached(kept.at);
        Ok(Step::Kept(kept))
    }

    /// It stands at the beginning of this stretch.
    fn enter(&mut self, hub: &Hub, stretch: Stretch) {
        let from = hub.log().end_before(stretch.number);
        self.entered = Some(Entered { stretch: stretch.number, from });
    }

    /// No kept rows for a while.
    fn put_off(&mut self) {
        self.filled_at = Some(Instant::now());
    }

    fn may_fill(&self) -> bool {
        self.filled_at.is_none_or(|at| at.elapsed() >= FILL_EVERY)
    }

    fn may_ask(&self) -> bool {
        self.asked_at.is_none_or(|at| at.elapsed() >= ASK_EVERY)
    }
}

/// Lines that are held, as steps of a log.
fn pieces_of(lines: Lines) -> Vec<Piece> {
    let (Some(node), Some(epoch)) = (lines.node, lines.epoch) else { return Vec::new() };
    let gap = lines.gap.map(|gap| Piece::Gap(epoch, gap));
    let hidden =
        (lines.hidden != Counts::default()).then_some(Piece::Hidden(Cursor { epoch, seq: lines.next }, lines.hidden));
    let entries = lines
        .lines
        .into_iter()
        .map(|(seq, entry, _)| Piece::Line(LogLine { node: node.clone(), epoch, seq, entry: LogEntry::clone(&entry) }));
    gap.into_iter().chain(entries).chain(hidden).collect()
}

/// Whose lines the last ones of these are.
fn last_node(pieces: &[Piece]) -> Option<NodeId> {
    pieces.iter().rev().find_map(|piece| match piece {
        Piece::Line(line) => Some(line.node.clone()),
        Piece::Restart(_, restart) => restart.node.clone(),
        Piece::Gap(..) | Piece::Hidden(..) => None,
    })
}

/// A stretch to go over to.
struct Next {
    stretch: Stretch,
    life: LifeFacts,
    /// After which line of its life.
    after: u64,
}

/// Which stretches that are held came after a place in none of them: those of lives that began later, or are not known to have
/// begun before. If all began before, the present one, if its node is the primary: it is so again. What was kept of them before
/// that place the reader has had.
async fn later(from: Source<'_>, at: Cursor) -> Result<Vec<Next>, Error> {
    let mut held = from.hub.log().held_after(0);
    let Some(store) = from.store else {
        return Ok(held.into_iter().map(|(stretch, life)| Next { after: stretch.after, stretch, life }).collect());
    };
    let order = store.kept_lives().await?;
    let place = |epoch: Epoch| order.iter().position(|kept| *kept == epoch);
    let own = place(at.epoch);
    let is_later = |epoch: Epoch| own.is_none_or(|own| place(epoch).is_none_or(|place| place > own));
    let first = held.iter().position(|(_, life)| is_later(life.epoch));
    let present = held.len().checked_sub(1).filter(|last| held[*last].1.epoch != at.epoch);
    let first = match (first, present) {
        (Some(first), _) => first,
        (None, Some(last)) if store.leadership().await?.primary() == Some(&held[last].1.node) => last,
        (None, _) => held.len(),
    };
    let mut later = Vec::new();
    for (stretch, life) in held.drain(first..) {
        // the first stretch that is held of a life may begin where this web node began to listen
        let after = if stretch.after == 0 { store.kept_before(at, life.epoch).await? } else { stretch.after };
        later.push(Next { stretch, life, after });
    }
    Ok(later)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::clock::{ManualClock, SystemClock, Timestamp};
    use crate::base::shutdown::Shutdown;
    use crate::live::log::tests::entry;
    use crate::live::mirror::tests::facts;
    use crate::model::log_entry::Level;
    use crate::protocol::state::NodeState;
    use crate::protocol::{LogBatch, Report};
    use crate::store::OpenOptions;

    const A: Epoch = Epoch::from_u64(0xa);
    const B: Epoch = Epoch::from_u64(0xb);

    fn hub() -> Hub {
        Hub::new(ManualClock::new(Timestamp::from_micros(5_000_000)))
    }

    /// The node `name` is heard as the primary, and tells lines of its life.
    fn hear(hub: &Hub, name: &str, epoch: Epoch, seqs: std::ops::RangeInclusive<u64>) {
        let mut node = facts();
        node.id = NodeId::new(name);
        hub.take(Report::Whole(Box::new(NodeState::new(epoch, node))));
        let first = *seqs.start();
        let entries: Vec<LogEntry> = seqs.map(|seq| line(name, seq)).collect();
        hub.take(Report::Log(LogBatch { epoch, gap: None, first, entries }));
        hub.publish();
    }

    fn line(name: &str, seq: u64) -> LogEntry {
        entry(Level::Info, &format!("{name}{seq}"))
    }

    fn at(epoch: Epoch, seq: u64) -> Cursor {
        Cursor { epoch, seq }
    }

    /// Everything that a reader is told, in words, until there is nothing more.
    async fn told(reader: &mut Reader, hub: &Hub, store: Option<&Store>) -> String {
        let mut words = Vec::new();
        for _ in 0..50 {
            match reader.step(Source { hub, store }, 10).await.unwrap() {
                Step::Nothing => break,
                Step::Newest(pieces, lines) => {
                    words.extend(pieces.iter().map(word));
                    words.extend(lines.lines.iter().map(|(_, entry, _)| entry.text.to_string()));
                }
                Step::Kept(kept) => words.extend(kept.pieces.iter().map(word)),
                Step::Held(at) => {
                    let lines = hub.lines(Some(at), reader.filter(), 10);
                    words.extend(lines.gap.map(|gap| format!("{}-{}", gap.from, gap.to)));
                    words.extend(lines.lines.iter().map(|(_, entry, _)| entry.text.to_string()));
                    reader.reached(Cursor { epoch: lines.epoch.unwrap(), seq: lines.next });
                    if !lines.more {
                        break;
                    }
                }
            }
        }
        words.join(" ")
    }

    fn word(piece: &Piece) -> String {
        let name = |node: &Option<NodeId>| node.as_ref().map_or("?".to_owned(), ToString::to_string);
        match piece {
            Piece::Line(line) => line.entry.text.to_string(),
            Piece::Gap(_, gap) => format!("{}-{}", gap.from, gap.to),
            Piece::Hidden(..) => "hidden".into(),
            Piece::Restart(_, restart) => format!("[{}>{}]", name(&restart.before), name(&restart.node)),
        }
    }

    #[tokio::test]
    async fn a_reader_that_was_behind_gets_the_lines_of_who_was_primary_in_between() {
        let hub = hub();
        hear(&hub, "a", A, 1..=3);
        let mut behind = Reader::new(LineFilter::default(), Some(at(A, 1)));
        let mut quick = Reader::new(LineFilter::default(), Some(at(A, 0)));
        assert_eq!(told(&mut quick, &hub, None).await, "a1 a2 a3");
        hear(&hub, "b", B, 1..=2);
        assert_eq!(told(&mut quick, &hub, None).await, "[a>b] b1 b2");
        // it tells again what it told before
        hear(&hub, "a", A, 1..=3);
        assert_eq!(told(&mut quick, &hub, None).await, "[b>a]");
        assert_eq!(quick.at(), Some(at(B, 2)), "whoever goes on from here is led over again, and gets no line twice");
        hear(&hub, "a", A, 4..=5);
        assert_eq!(told(&mut quick, &hub, None).await, "a4 a5");
        assert_eq!(told(&mut behind, &hub, None).await, "a2 a3 [a>b] b1 b2 [b>a] a4 a5");
        let mut resumed = Reader::new(LineFilter::default(), Some(at(B, 2)));
        assert_eq!(told(&mut resumed, &hub, None).await, "[b>a] a4 a5");
    }

    #[tokio::test]
    async fn the_newest_lines_begin_with_those_of_a_primary_that_fell_before_it_kept_them() {
        let hub = hub();
        hear(&hub, "a", A, 1..=3);
        hear(&hub, "b", B, 1..=2);
        let newest = async |most| {
            let mut reader = Reader::new(LineFilter::default(), None);
            let step = reader.step(Source { hub: &hub, store: None }, most).await.unwrap();
            let Step::Newest(older, lines) = step else { panic!("{step:?}") };
            let held = lines.lines.iter().map(|(_, entry, _)| entry.text.to_string());
            let told: Vec<_> = older.iter().map(word).chain(held).collect();
            assert_eq!(reader.at(), Some(at(B, 2)));
            told.join(" ")
        };
        assert_eq!(newest(10).await, "a1 a2 a3 [a>b] b1 b2");
        assert_eq!(newest(3).await, "a3 [a>b] b1 b2");
        assert_eq!(newest(2).await, "b1 b2");
        hear(&hub, "a", A, 4..=4);
        let mut reader = Reader::new(LineFilter::default(), None);
        assert_eq!(told(&mut reader, &hub, None).await, "a1 a2 a3 [a>b] b1 b2 [b>a] a4");
    }

    #[tokio::test]
    async fn a_reader_that_comes_from_a_primary_never_heard_here_goes_on_with_the_present_one() {
        let root = tempfile::tempdir().unwrap();
        let shutdown = Shutdown::new();
        let options = OpenOptions {
            data: root.path().to_owned(),
            database: None,
            encryption_key: None,
            clock: Arc::new(SystemClock),
        };
        let store = Store::open(options, &shutdown).await.unwrap();
        let keep = async |name: &str, epoch: Epoch, seqs: std::ops::RangeInclusive<u64>| {
            let lines: Vec<(u64, LogEntry)> = seqs.map(|seq| (seq, line(name, seq))).collect();
            let mut transaction = store.begin().await.unwrap();
            transaction.keep_rows(&NodeId::new(name), epoch, &lines, &[]).await.unwrap();
            transaction.commit().await.unwrap();
        };
        keep("a", A, 1..=3).await;
        keep("b", B, 1..=2).await;
        let mut transaction = store.begin().await.unwrap();
        transaction.take_lead(&NodeId::new("a"), Duration::from_mins(1), false).await.unwrap().unwrap();
        transaction.commit().await.unwrap();
        // this web node has heard of nobody but a, and what it wrote last is not kept yet
        let hub = hub();
        hear(&hub, "a", A, 1..=5);
        let resumed = async |seq| {
            let mut reader = Reader::new(LineFilter::default(), Some(at(B, seq)));
            told(&mut reader, &hub, Some(&store)).await
        };
        assert_eq!(resumed(2).await, "[b>a] a4 a5");
        assert_eq!(resumed(1).await, "b2 [b>a] a4 a5");
        // nor does it matter if it is
        keep("a", A, 4..=5).await;
        assert_eq!(resumed(1).await, "b2 [b>a] a4 a5");
        shutdown.stop_now();
    }
}
