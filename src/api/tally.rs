//! Counts runs by outcome since this process started, from the rows: a counter that never falls, however rows are purged.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::Mutex;

use crate::base::clock::Timestamp;
use crate::base::id::ExecutionId;
use crate::model::execution::Execution;
use crate::store::Store;
use crate::store::error::Error;
use crate::store::executions::ExecutionFilter;

/// How many rows are read at once.
const PAGE: u32 = 500;
/// How many pages are read at most each time: of more than 10,000 runs between two scrapes the oldest are not counted.
const PAGES: usize = 20;
/// How many runs that have not ended are remembered; beyond that the oldest are given up.
const MOST_OPEN: usize = 1_000;

/// Runs that ended, by dispatcher and outcome.
pub(crate) type Runs = BTreeMap<(String, &'static str), u64>;

/// The counter.
pub(crate) struct Tally {
    counted: Mutex<Counted>,
}

struct Counted {
    /// Runs asked for before are not counted.
    began: Timestamp,
    newest: Option<ExecutionId>,
    open: BTreeSet<ExecutionId>,
    runs: Runs,
}

impl Tally {
    /// Counts runs asked for from now on.
    pub(crate) fn new(began: Timestamp) -> Self {
        let counted = Counted { began, newest: None, open: BTreeSet::new(), runs: Runs::new() };
        Self { counted: Mutex::new(counted) }
    }

    /// Counts what ended since the last call, and gives all that ended so far.
    ///
    /// # Errors
    /// If the database fails; the next call counts it all.
    pub(crate) async fn count(&self, store: &Store) -> Result<Runs, Error> {
        let mut counted = self.counted.lock().await;
        let (mut new, mut before) = (Vec::new(), None);
        for _ in 0..PAGES {
            let filter = ExecutionFilter { before, limit: PAGE, ..ExecutionFilter::default() };
            let page = store.executions(&filter).await?;
            let size = page.len();
            before = page.last().map(|execution| execution.id);
            let known = new.len();
            new.extend(page.into_iter().take_while(|execution| counted.is_new(execution)));
            let all_new = new.len() == known + size;
            if !all_new || size < usize::try_from(PAGE).unwrap_or(usize::MAX) {
                break;
            }
        }
        let mut ended = Vec::new();
        for id in counted.open.clone() {
            ended.push((id, store.execution(id).await?));
        }
        counted.take(new, ended);
        Ok(counted.runs.clone())
    }
}

impl Counted {
    fn is_new(&self, execution: &Execution) -> bool {
        match self.newest {
            Some(newest) => execution.id > newest,
            None => execution.queued_at >= self.began,
        }
    }

    fn take(&mut self, new: Vec<Execution>, open: Vec<(ExecutionId, Option<Execution>)>) {
        for (id, execution) in open {
            // one that was purged meanwhile will not be heard of again
            if execution.as_ref().is_none_or(|execution| execution.outcome.is_some()) {
                self.open.remove(&id);
            }
            self.note(execution);
        }
        self.newest = self.newest.max(new.iter().map(|execution| execution.id).max());
        for execution in new {
            if execution.outcome.is_none() {
                self.open.insert(execution.id);
            }
            self.note(Some(execution));
        }
        while self.open.len() > MOST_OPEN {
            self.open.pop_first();
        }
    }

    fn note(&mut self, execution: Option<Execution>) {
        if let Some(Execution { dispatcher, outcome: Some(outcome), .. }) = execution {
            *self.runs.entry((dispatcher, outcome.as_str())).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::execution::{Cause, Outcome};

    fn execution(id: i64, outcome: Option<Outcome>) -> Execution {
        Execution {
            id: ExecutionId(id),
            dispatcher: "disk-space".into(),
            node: None,
            cause: Cause::Schedule,
            requested_by: None,
            queued_at: Timestamp::from_micros(id),
            started_at: None,
            finished_at: None,
            outcome,
            message: None,
            retry_of: None,
            cancelled_by: None,
        }
    }

    fn counted() -> Counted {
        Counted { began: Timestamp::from_micros(5), newest: None, open: BTreeSet::new(), runs: Runs::new() }
    }

    #[test]
    fn each_run_is_counted_once_when_it_has_ended() {
        let mut counted = counted();
        assert!(!counted.is_new(&execution(4, None)) && counted.is_new(&execution(5, None)));
        counted.take(vec![execution(6, None), execution(5, Some(Outcome::Normal))], vec![]);
        assert!(!counted.is_new(&execution(6, None)) && counted.is_new(&execution(7, None)));
        let failed = execution(6, Some(Outcome::Error));
        counted.take(vec![], vec![(failed.id, Some(failed.clone()))]);
        assert!(counted.open.is_empty());
        let key = |outcome| ("disk-space".to_owned(), outcome);
        assert_eq!(counted.runs, Runs::from([(key("normal"), 1), (key("error"), 1)]));
    }

    #[test]
    fn open_runs_are_bounded_and_a_purged_one_is_forgotten() {
        let mut counted = counted();
        counted.take((1..=1_500).map(|id| execution(id, None)).collect(), vec![]);
        assert_eq!(counted.open.len(), MOST_OPEN);
        counted.take(vec![], vec![(ExecutionId(1_500), None)]);
        assert_eq!(counted.open.len(), MOST_OPEN - 1);
        assert!(counted.runs.is_empty());
    }
}
