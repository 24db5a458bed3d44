//! One reader's way through the log: what the hub holds, what was kept before and between, and a counted gap for the rest.
//!
//! Socket, long poll, `/api/logs`, `/logs.txt` and the command line all read through this, so that none of them loses a line in
//! silence or tells one twice.

use std::time::Duration;

use tokio::time::Instant;

use crate::base::id::{Cursor, Epoch, NodeId};
use crate::live::filter::LineFilter;
use crate::live::held::{LogPlace, Stretch};
use crate::live::hub::Hub;
use crate::live::kept::{self, Piece, Span, Upto};
use crate::live::life::{LifeFacts, Restart};
use crate::live::log::Reach;
use crate::live::newest::{Newest, newest};
use crate::live::read::Lines;
use crate::store::Store;
use crate::store::error::Error;

/// A reader that falls behind again and again gets kept rows only so often; in between gaps stay gaps.
const FILL_EVERY: Duration = Duration::from_secs(10);

/// Where nothing was kept the database is asked again only after so long.
const ASK_EVERY: Duration = Duration::from_secs(1);

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
    /// The line after which it begins.
    after: u64,
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
    Held(LogPlace),
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
        let before = self.at.replace(at);
        let beyond =
            |entered: &Entered| at.seq > entered.after || before.is_some_and(|before| before.epoch != at.epoch);
        if self.entered.as_ref().is_some_and(beyond) {
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
            // what it wrote before the stretch only kept rows tell, and they can't be had now
            Reach::Older(_) if self.entered.is_some_and(|entered| at.seq < entered.after) => Ok(Step::Nothing),
            Reach::Held | Reach::Older(_) => Ok(Step::Held(self.place(at))),
            Reach::Over | Reach::Unknown => self.leave(from, at).await,
        }
    }

    /// The newest lines; kept ones where the hub has few, unless they could not be had a moment ago.
    async fn begin(&mut self, from: Source<'_>, most: usize) -> Result<Step, Error> {
        let store = from.store.filter(|_| self.may_fill() && self.may_ask());
        let newest = newest(from.hub, store, &self.filter, most).await.inspect_err(|_| self.put_off())?;
        let Newest { pieces, lines, present } = newest;
        let left = pieces.iter().rfind(|piece| !matches!(piece, Piece::Restart(..))).map(Piece::end);
        self.at = lines.epoch.map(|epoch| Cursor { epoch, seq: lines.next }).or(left);
        let Some(at) = self.at else {
            self.asked_at = Some(Instant::now());
            return Ok(Step::Nothing);
        };
        self.asked_at = None;
        // it stands at the beginning of a stretch of which nothing was read
        if let Some(stretch) = present.filter(|stretch| !stretch.has_read(at.seq)) {
            let from = left.or_else(|| from.hub.log().end_before(stretch.number));
            self.entered = Some(Entered { stretch: stretch.number, after: stretch.after, from });
        }
        Ok(Step::Newest(pieces, lines))
    }

    /// Kept rows for what made room here before it was read.
    async fn fill(&mut self, from: Source<'_>, at: Cursor, first: u64) -> Result<Step, Error> {
        let Some(store) = from.store else {
            return Ok(Step::Held(self.place(at)));
        };
        let levels = |epoch: Epoch, from_seq: u64, to: u64| from.hub.log().lost_levels(epoch, from_seq, to);
        let span = Span { from: at, upto: None };
        let found = kept::after(store, at, span, Upto::Line(first - 1), &self.filter, &levels).await;
        let found = found.inspect_err(|_| self.put_off())?;
        if !found.more {
            self.put_off();
        }
        self.reached(found.at);
        Ok(Step::Kept(Kept { pieces: found.pieces, at: found.at }))
    }

    /// Leads on from where a stretch is over, or not held; where that was in vain, only after a while again.
    async fn leave(&mut self, from: Source<'_>, at: Cursor) -> Result<Step, Error> {
        if !self.may_ask() {
            return Ok(Step::Nothing);
        }
        let step = self.lead_on(from, at).await;
        self.asked_at = matches!(step, Ok(Step::Nothing) | Err(_)).then(Instant::now);
        step
    }

    /// The rest of a stretch as it was kept, lives in between, then the next stretch that is held.
    async fn lead_on(&mut self, from: Source<'_>, at: Cursor) -> Result<Step, Error> {
        let own = from.hub.log().stretch_of(at, self.entered.map(|entered| entered.stretch));
        let later = later(from, at, own).await?;
        // where its own life goes on in a later stretch, this one ends there
        let end = later.iter().find(|next| next.life.epoch == at.epoch).map_or(u64::MAX, |next| next.after);
        if from.store.is_some() && at.seq < end && end < u64::MAX {
            return self.fill(from, at, end + 1).await;
        }
        let mut kept = Kept { pieces: Vec::new(), at };
        let mut more = false;
        if let Some(store) = from.store {
            let ahead: Vec<Cursor> = later.iter().map(Next::place).collect();
            let levels = |epoch: Epoch, from_seq: u64, to: u64| from.hub.log().lost_levels(epoch, from_seq, to);
            let upto = Upto::Lives(&ahead, end);
            let found = kept::after(store, at, span(at, &later), upto, &self.filter, &levels).await?;
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
            let left = std::mem::replace(&mut kept.at, next.place());
            // its own life goes on: nobody else wrote anything meanwhile
            if left.epoch != kept.at.epoch {
                let restart = Restart { before, from: version, ..Restart::to(next.life) };
                kept.pieces.push(Piece::Restart(kept.at.epoch, restart));
            }
            self.filled_at = None;
            self.at = Some(kept.at);
            let Stretch { number, after, .. } = next.stretch;
            self.entered = Some(Entered { stretch: number, after, from: Some(left) });
            return Ok(Step::Kept(kept));
        }
        if kept.at == at {
            return Ok(Step::Nothing);
        }
        self.reached(kept.at);
        Ok(Step::Kept(kept))
    }

    fn place(&self, at: Cursor) -> LogPlace {
        LogPlace { at, entered: self.entered.map(|entered| entered.stretch) }
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

impl Next {
    fn place(&self) -> Cursor {
        Cursor { epoch: self.life.epoch, seq: self.after }
    }
}

/// Where the kept rows are that come before these stretches: where a life goes on and nobody was heard in between, that was another
/// primary, whose first rows may have been kept before its last ones.
fn span(at: Cursor, later: &[Next]) -> Span {
    let own = later.first().filter(|next| next.life.epoch == at.epoch);
    let from = Cursor { seq: own.map_or(at.seq, |next| next.stretch.settled.min(at.seq)), ..at };
    let again = later.windows(2).find(|pair| pair[0].life.epoch == pair[1].life.epoch).map(|pair| &pair[1]);
    let upto = again.map(|next| Cursor { epoch: next.life.epoch, seq: next.stretch.settled });
    Span { from, upto }
}

/// Which stretches that are held come after a place in one of them, or in none: then those of lives that began later, or are not
/// known to have begun before. What was kept of them before that place the reader has had.
async fn later(from: Source<'_>, at: Cursor, own: Option<Stretch>) -> Result<Vec<Next>, Error> {
    let mut held = from.hub.log().held_after(own.map_or(0, |own| own.number));
    let Some(store) = from.store else {
        return Ok(held.into_iter().map(|(stretch, life)| Next { after: stretch.after, stretch, life }).collect());
    };
    if own.is_none() {
        held.drain(..first_later(store, at, &held).await?);
    }
    // where its own life goes on later, rows around the change stand in any order
    let goes_on = held.iter().find(|(_, life)| life.epoch == at.epoch);
    let before = Cursor { seq: goes_on.map_or(at.seq, |(stretch, _)| stretch.settled.min(at.seq)), ..at };
    let mut later: Vec<Next> = Vec::new();
    for (stretch, life) in held {
        let mut after = stretch.after;
        let first = from.hub.log().is_first(stretch);
        if life.epoch != at.epoch && (own.is_none() || first && stretch.settled > 0) {
            let kept = store.kept_before(before, life.epoch).await?;
            let again = later.last().is_some_and(|before| before.life.epoch == life.epoch);
            if own.is_none() && again && kept >= stretch.settled {
                // the place is in the absence after what it wrote there
                later.pop();
            }
            // the first stretch that is held of a life may begin where this web node began to listen
            if first && (kept < stretch.settled || (own.is_none() && after == 0)) {
                after = kept;
            }
        }
        later.push(Next { stretch, life, after });
    }
    Ok(later)
}

/// Which of the stretches that are held is the first after a place in none of them. If all began before, that is one of the present
/// life, if its node is the primary: it is so again.
async fn first_later(store: &Store, at: Cursor, held: &[(Stretch, LifeFacts)]) -> Result<usize, Error> {
    let order = store.kept_lives().await?;
    let place = |epoch: Epoch| order.iter().position(|kept| *kept == epoch);
    let own = place(at.epoch);
    let is_later = |(stretch, life): &(Stretch, LifeFacts)| {
        if life.epoch == at.epoch {
            return stretch.after >= at.seq;
        }
        own.is_none_or(|own| place(life.epoch).is_none_or(|place| place > own))
    };
    if let Some(first) = held.iter().position(is_later) {
        return Ok(first);
    }
    let Some((_, present)) = held.last().filter(|(_, life)| life.epoch != at.epoch) else { return Ok(held.len()) };
    if store.leadership().await?.primary() != Some(&present.node) {
        return Ok(held.len());
    }
    Ok(held.iter().rposition(|(_, life)| life.epoch != present.epoch).map_or(0, |other| other + 1))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::ops::RangeInclusive;
    use std::sync::Arc;

    use super::*;
    use crate::base::clock::{ManualClock, SystemClock, Timestamp};
    use crate::base::shutdown::Shutdown;
    use crate::live::log::tests::entry;
    use crate::live::mirror::tests::facts;
    use crate::model::log_entry::{Level, LogEntry};
    use crate::protocol::event::{Change, Event};
    use crate::protocol::state::{Absence, NodeFacts, NodeState};
    use crate::protocol::{LogBatch, Report};
    use crate::store::OpenOptions;

    const A: Epoch = Epoch::from_u64(0xa);
    const B: Epoch = Epoch::from_u64(0xb);

    fn hub() -> Hub {
        Hub::new(ManualClock::new(Timestamp::from_micros(5_000_000)))
    }

    /// The node `name` is heard as the primary, and tells lines of its life.
    fn hear(hub: &Hub, name: &str, epoch: Epoch, seqs: RangeInclusive<u64>) {
        hear_again(hub, name, epoch, &[], seqs);
    }

    /// The same of one that was absent before.
    fn hear_again(hub: &Hub, name: &str, epoch: Epoch, absences: &[(u64, u64)], seqs: RangeInclusive<u64>) {
        let mut node = facts();
        node.id = NodeId::new(name);
        for &(after, upto) in absences {
            node.note_absence(Absence { after, upto });
        }
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

    /// The first look: what is told at once, in words.
    async fn first_look(hub: &Hub, store: Option<&Store>, filter: LineFilter, most: usize) -> String {
        let step = Reader::new(filter, None).step(Source { hub, store }, most).await.unwrap();
        let Step::Newest(older, lines) = step else { panic!("{step:?}") };
        let gap = lines.gap.map(|gap| format!("{}-{}", gap.from, gap.to));
        let held = lines.lines.iter().map(|(_, entry, _)| entry.text.to_string());
        older.iter().map(word).chain(gap).chain(held).collect::<Vec<_>>().join(" ")
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
        let newest = async |most| first_look(&hub, None, LineFilter::default(), most).await;
        assert_eq!(newest(10).await, "a1 a2 a3 [a>b] b1 b2");
        assert_eq!(newest(3).await, "a3 [a>b] b1 b2");
        assert_eq!(newest(2).await, "b1 b2");
        let mut reader = Reader::new(LineFilter::default(), None);
        reader.step(Source { hub: &hub, store: None }, 10).await.unwrap();
        assert_eq!(reader.at(), Some(at(B, 2)));
        hear(&hub, "a", A, 4..=4);
        let mut reader = Reader::new(LineFilter::default(), None);
        assert_eq!(told(&mut reader, &hub, None).await, "a1 a2 a3 [a>b] b1 b2 [b>a] a4");
    }

    /// A store in which lines are kept, in this order, and `a` is the primary.
    struct Keeping {
        store: Store,
        shutdown: Shutdown,
        _root: tempfile::TempDir,
    }

    impl Keeping {
        async fn start() -> Self {
            let root = tempfile::tempdir().unwrap();
            let shutdown = Shutdown::new();
            let options = OpenOptions {
                data: root.path().to_owned(),
                database: None,
                encryption_key: None,
                clock: Arc::new(SystemClock),
            };
            let store = Store::open(options, &shutdown).await.unwrap();
            let mut transaction = store.begin().await.unwrap();
            transaction.take_lead(&NodeId::new("a"), Duration::from_mins(1), false).await.unwrap().unwrap();
            transaction.commit().await.unwrap();
            Self { store, shutdown, _root: root }
        }

        async fn keep(&self, name: &str, epoch: Epoch, seqs: RangeInclusive<u64>) {
            self.keep_wide(name, epoch, seqs, 0).await;
        }

        /// The same with lines of so many bytes.
        async fn keep_wide(&self, name: &str, epoch: Epoch, seqs: RangeInclusive<u64>, bytes: usize) {
            let wide = |seq| entry(Level::Info, &format!("{:<bytes$}", format!("{name}{seq}")));
            let lines: Vec<(u64, LogEntry)> = seqs.map(|seq| (seq, wide(seq))).collect();
            let mut transaction = self.store.begin().await.unwrap();
            transaction.keep_rows(&NodeId::new(name), epoch, &lines, &[]).await.unwrap();
            transaction.commit().await.unwrap();
        }

        /// What a reader that resumes from a place is told.
        async fn told(&self, hub: &Hub, at: Option<Cursor>) -> String {
            told(&mut Reader::new(LineFilter::default(), at), hub, Some(&self.store)).await
        }
    }

    impl Drop for Keeping {
        fn drop(&mut self) {
            self.shutdown.stop_now();
        }
    }

    /// `name` with each of these numbers.
    fn words(name: &str, seqs: RangeInclusive<u64>) -> String {
        seqs.map(|seq| format!("{name}{seq}")).collect::<Vec<_>>().join(" ")
    }

    /// a was primary to its line 50, then b, and then a again, which wrote 51 as a standby. Around a change of primary rows stand as
    /// they were kept.
    async fn a_b_a() -> Keeping {
        let keeping = Keeping::start().await;
        let kept: [(&str, Epoch, RangeInclusive<u64>); 8] = [
            ("a", A, 1..=49),
            ("b", B, 1..=2),
            ("a", A, 50..=50),
            ("b", B, 3..=3),
            ("a", A, 51..=51),
            ("b", B, 4..=4),
            ("a", A, 52..=52),
            ("b", B, 5..=5),
        ];
        for (name, epoch, seqs) in kept {
            keeping.keep(name, epoch, seqs).await;
        }
        keeping
    }

    #[tokio::test]
    async fn who_listens_only_after_a_node_is_primary_again_tells_its_two_parts_apart() {
        let keeping = a_b_a().await;
        let whole = hub();
        hear_again(&whole, "a", A, &[(0, 2), (50, 51)], 1..=54);
        // one whose service node has only the newest lines
        let late = hub();
        hear_again(&late, "a", A, &[(0, 2), (50, 51)], 53..=54);
        let between = "[a>b] b1 b2 b3 b4 b5 [b>a] a51 a52 a53 a54";
        for hub in [&whole, &late] {
            let told = async |epoch, seq| keeping.told(hub, Some(at(epoch, seq))).await;
            assert_eq!(told(A, 47).await, format!("a48 a49 a50 {between}"));
            assert_eq!(told(A, 50).await, between);
            assert_eq!(told(A, 52).await, "a53 a54");
            assert_eq!(told(B, 3).await, "b4 b5 [b>a] a51 a52 a53 a54");
            assert_eq!(keeping.told(hub, None).await, format!("a50 {between}"), "to begin with");
            let look = first_look(hub, Some(&keeping.store), LineFilter::default(), 100).await;
            assert_eq!(look, format!("{} {between}", words("a", 1..=50)));
        }
        let narrow = LineFilter { search: Some(regex::Regex::new("3$").unwrap()), ..LineFilter::default() };
        let look = first_look(&whole, Some(&keeping.store), narrow, 100).await;
        assert_eq!(look.replace("hidden ", ""), "a3 a13 a23 a33 a43 [a>b] b3 [b>a] a53");
        // nobody else was primary meanwhile
        let alone = hub();
        hear_again(&alone, "a", A, &[(0, 2), (4, 4)], 1..=6);
        assert_eq!(told(&mut Reader::new(LineFilter::default(), Some(at(A, 3))), &alone, None).await, "a4 a5 a6");
    }

    #[tokio::test]
    async fn who_follows_is_told_of_a_primary_that_was_not_heard_once_the_one_it_follows_is_primary_again() {
        let keeping = Keeping::start().await;
        let hub = hub();
        hear_again(&hub, "a", A, &[(0, 0)], 1..=3);
        let mut follows = Reader::new(LineFilter::default(), Some(at(A, 1)));
        assert_eq!(told(&mut follows, &hub, Some(&keeping.store)).await, "a2 a3");
        keeping.keep("a", A, 1..=3).await;
        keeping.keep("b", B, 1..=2).await;
        let mut node = NodeFacts { id: NodeId::new("a"), ..facts() };
        node.note_absence(Absence { after: 3, upto: 4 });
        let events = vec![Event { number: 1, change: Change::Node(node) }];
        hub.take(Report::Events { epoch: A, events });
        let entries = vec![line("a", 4), line("a", 5)];
        hub.take(Report::Log(LogBatch { epoch: A, gap: None, first: 4, entries }));
        hub.publish();
        assert_eq!(told(&mut follows, &hub, Some(&keeping.store)).await, "[a>b] b1 b2 [b>a] a4 a5");
    }

    #[tokio::test]
    async fn every_part_of_a_life_stands_where_it_was_written() {
        let keeping = Keeping::start().await;
        let order = [("b", 1), ("a", 1), ("b", 11), ("a", 11), ("b", 21), ("a", 21)];
        for (name, first) in order {
            keeping.keep(name, if name == "a" { A } else { B }, first..=first + 9).await;
        }
        let hub = hub();
        hear_again(&hub, "a", A, &[(0, 0), (10, 10), (20, 20)], 1..=30);
        let parts = |from: usize| {
            let mut told = String::new();
            for (at, (name, first)) in order.into_iter().enumerate().skip(from) {
                if at > from {
                    write!(told, " [{}>{name}] ", order[at - 1].0).unwrap();
                }
                told += &words(name, first..=first + 9);
            }
            told
        };
        assert_eq!(keeping.told(&hub, Some(at(A, 0))).await, parts(1));
        for turn in 1..4 {
            let rest = parts(2 * usize::try_from(turn).unwrap() - 1);
            assert_eq!(keeping.told(&hub, Some(at(B, turn * 10))).await, format!("[b>a] {rest}"));
        }
        assert_eq!(keeping.told(&hub, Some(at(A, 20))).await, format!("[a>b] {}", parts(4)));
    }

    #[tokio::test]
    async fn a_database_that_fails_is_not_asked_again_at_once() {
        let keeping = Keeping::start().await;
        let hub = hub();
        hear(&hub, "a", A, 1..=3);
        hear(&hub, "b", B, 1..=2);
        keeping.store.close().await;
        let from = Source { hub: &hub, store: Some(&keeping.store) };
        let mut over = Reader::new(LineFilter::default(), Some(at(A, 3)));
        assert_eq!(hub.reach(at(A, 3), None), Reach::Over);
        assert!(over.step(from, 10).await.is_err());
        assert!(matches!(over.step(from, 10).await, Ok(Step::Nothing)));
        assert_eq!(over.at(), Some(at(A, 3)));
    }

    #[tokio::test]
    async fn a_first_look_is_bounded_in_bytes_and_has_no_hole() {
        let keeping = Keeping::start().await;
        let hub = hub();
        hear_again(&hub, "a", A, &[(0, 0), (3, 3)], 1..=4);
        keeping.keep("a", A, 1..=3).await;
        keeping.keep_wide("b", B, 1..=60, 16 << 10).await;
        let look = first_look(&hub, Some(&keeping.store), LineFilter::default(), 100).await;
        let look: Vec<&str> = look.split_whitespace().collect();
        assert_eq!(look.join(" "), format!("{} [b>a] a4", words("b", 29..=60)));
    }

    #[tokio::test]
    async fn lines_that_made_room_are_found_however_much_another_kept_before_them() {
        let keeping = Keeping::start().await;
        let rows = u64::from(kept::ROWS);
        keeping.keep("a", A, 1..=50).await;
        keeping.keep("b", B, 1..=rows + 2).await;
        keeping.keep("a", A, 51..=54).await;
        let hub = hub();
        hear_again(&hub, "a", A, &[(0, 0), (50, 50)], 53..=54);
        let resumed = keeping.told(&hub, Some(at(B, rows))).await;
        assert_eq!(resumed, format!("{} [b>a] a51 a52 a53 a54", words("b", rows + 1..=rows + 2)));
    }

    #[tokio::test]
    async fn a_former_primary_that_is_heard_for_the_first_time_is_not_told_again_from_its_beginning() {
        let keeping = a_b_a().await;
        let hub = hub();
        hear(&hub, "b", B, 1..=5);
        let mut follows = Reader::new(LineFilter::default(), Some(at(B, 2)));
        assert_eq!(told(&mut follows, &hub, Some(&keeping.store)).await, "b3 b4 b5");
        hear_again(&hub, "a", A, &[(0, 2), (50, 51)], 1..=53);
        assert_eq!(told(&mut follows, &hub, Some(&keeping.store)).await, "[b>a] a51 a52 a53");
        let all = "[a>b] b1 b2 b3 b4 b5 [b>a] a51 a52 a53";
        assert_eq!(keeping.told(&hub, Some(at(A, 48))).await, format!("a49 a50 {all}"));
        assert_eq!(keeping.told(&hub, None).await, format!("a49 a50 {all}"), "to begin with");
    }

    #[tokio::test]
    async fn a_reader_that_comes_from_a_primary_never_heard_here_goes_on_with_the_present_one() {
        let keeping = Keeping::start().await;
        keeping.keep("a", A, 1..=3).await;
        keeping.keep("b", B, 1..=2).await;
        // this web node has heard of nobody but a, and what it wrote last is not kept yet
        let hub = hub();
        hear(&hub, "a", A, 1..=5);
        let resumed = async |seq| keeping.told(&hub, Some(at(B, seq))).await;
        assert_eq!(resumed(2).await, "[b>a] a4 a5");
        assert_eq!(resumed(1).await, "b2 [b>a] a4 a5");
        // nor does it matter if it is
        keeping.keep("a", A, 4..=5).await;
        assert_eq!(resumed(1).await, "b2 [b>a] a4 a5");
    }
}
