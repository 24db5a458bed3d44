//! One reader's way through the log: what the hub holds, what was kept before and between, and a counted gap for the rest.
//!
//! Socket, long poll, `/api/logs`, `/logs.txt` and the command line all read through this, so that none of them loses a line in
//! silence or tells one twice.

use std::time::Duration;

use tokio::time::Instant;

use crate::base::id::{Cursor, Epoch};
use crate::live::filter::LineFilter;
use crate::live::hub::{Hub, Lines};
use crate::live::kept::{self, Piece, Upto};
use crate::live::life::{LifeFacts, Restart};
use crate::live::log::Reach;
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
    filled_at: Option<Instant>,
    asked_at: Option<Instant>,
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
        Self { filter, at, filled_at: None, asked_at: None }
    }

    /// What it wants.
    pub const fn filter(&self) -> &LineFilter {
        &self.filter
    }

    /// Where it stands; none before it knows of anything.
    pub const fn at(&self) -> Option<Cursor> {
        self.at
    }

    /// What was held was read up to here.
    pub const fn reached(&mut self, at: Cursor) {
        self.at = Some(at);
    }

    /// What is to be told next; `newest` lines at most to begin with.
    ///
    /// # Errors
    /// If the kept lines can't be read now. Where the hub can go on without them, the next call does, and tells a gap.
    pub async fn step(&mut self, from: Source<'_>, newest: usize) -> Result<Step, Error> {
        let Some(at) = self.at else {
            return self.begin(from, newest).await;
        };
        match from.hub.reach(at) {
            Reach::Older(first) if self.may_fill() => self.fill(from, at, first).await,
            Reach::Held | Reach::Older(_) => Ok(Step::Held(at)),
            Reach::Over | Reach::Unknown => self.leave(from, at).await,
        }
    }

    /// The newest lines; older ones from kept rows if the hub has few.
    async fn begin(&mut self, from: Source<'_>, most: usize) -> Result<Step, Error> {
        let mut lines = from.hub.lines(None, &self.filter, most);
        // what is missing before the lines may have been kept
        let first = lines.epoch.map(|epoch| Cursor { epoch, seq: lines.gap.map_or(lines.first, |gap| gap.to + 1) });
        let mut older = Vec::new();
        if let Some(store) = from.store.filter(|_| lines.lines.len() < most && self.may_fill() && self.may_ask()) {
            let missing = most - lines.lines.len();
            older = kept::newest(store, first, &self.filter, missing).await.inspect_err(|_| self.put_off())?;
            if let (Some(first), Some(gap)) = (first, lines.gap) {
                lines.gap = kept::left_of(gap, first.epoch, &older, &self.filter);
            }
        }
        let end = lines.epoch.map(|epoch| Cursor { epoch, seq: lines.next });
        self.at = end.or_else(|| older.last().map(Piece::end));
        if self.at.is_none() {
            self.asked_at = Some(Instant::now());
            return Ok(Step::Nothing);
        }
        if let Some(end) = end
            && older.last().is_some_and(|last| last.epoch() != end.epoch)
        {
            let restart = from.hub.lives().pop().map(|to| Restart { from: None, to });
            older.push(Piece::Restart(end.epoch, restart));
        }
        Ok(Step::Newest(older, lines))
    }

    /// Kept rows for what made room here before it was read.
    async fn fill(&mut self, from: Source<'_>, at: Cursor, first: u64) -> Result<Step, Error> {
        let Some(store) = from.store else {
            return Ok(Step::Held(at));
        };
        let levels = |epoch: Epoch, from_seq: u64, to: u64| from.hub.lost_levels(epoch, from_seq, to);
        let found = kept::after(store, at, Upto::Line(first - 1), &self.filter, &levels).await;
        let found = found.inspect_err(|_| self.put_off())?;
        if !found.more {
            self.put_off();
        }
        self.at = Some(found.at);
        Ok(Step::Kept(Kept { pieces: found.pieces, at: found.at }))
    }

    /// Leads on from a place whose life is over, or not held: the rest of it as it was kept, lives in between, then the next
    /// one that is held.
    async fn leave(&mut self, from: Source<'_>, at: Cursor) -> Result<Step, Error> {
        let lives = from.hub.lives();
        let own = lives.iter().position(|life| life.epoch == at.epoch);
        let later = match own {
            Some(own) => lives[own + 1..].to_vec(),
            None => later(from.store, at, &lives).await?,
        };
        if later.is_empty() && !self.may_ask() {
            return Ok(Step::Nothing);
        }
        let epochs: Vec<Epoch> = later.iter().map(|life| life.epoch).collect();
        let mut kept = Kept { pieces: Vec::new(), at };
        let mut more = false;
        if let Some(store) = from.store {
            let levels = |epoch: Epoch, from_seq: u64, to: u64| from.hub.lost_levels(epoch, from_seq, to);
            let found = kept::after(store, at, Upto::Lives(&epochs), &self.filter, &levels).await?;
            more = found.more;
            kept = Kept { pieces: found.pieces, at: found.at };
        }
        // in the order in which they were primary; kept rows of a standby are older than that
        if let Some(to) = later.first().filter(|_| !more) {
            let version = own.filter(|_| kept.at.epoch == at.epoch).map(|own| lives[own].version.clone());
            kept.at = Cursor { epoch: to.epoch, seq: from.hub.entry(to.epoch) };
            kept.pieces.push(Piece::Restart(to.epoch, Some(Restart { from: version, to: to.clone() })));
            self.filled_at = None;
        }
        if kept.at == at {
            self.asked_at = Some(Instant::now());
            return Ok(Step::Nothing);
        }
        self.at = Some(kept.at);
        Ok(Step::Kept(kept))
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

/// Which of these lives came after one of which nothing is held: all but those that are known to be older.
async fn later(store: Option<&Store>, at: Cursor, lives: &[LifeFacts]) -> Result<Vec<LifeFacts>, Error> {
    let Some(store) = store else {
        return Ok(lives.to_vec());
    };
    let order = store.kept_lives().await?;
    let place = |epoch: Epoch| order.iter().position(|kept| *kept == epoch);
    let own = place(at.epoch);
    let is_later = |life: &&LifeFacts| own.is_none_or(|own| place(life.epoch).is_none_or(|place| place > own));
    Ok(lives.iter().filter(is_later).cloned().collect())
}
