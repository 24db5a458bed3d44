//! What the database knows of a service node's work: shown while the service can't be reached.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::sleep;

use crate::base::shutdown::Shutdown;
use crate::live::hub::Hub;
use crate::messenger::client::LinkState;
use crate::model::execution::{Execution, Outcome, Phase};
use crate::protocol::state::{Activity, BARS, Bar, DispatcherState, LastError, Origin, Pause, Run};
use crate::store::Store;
use crate::store::dispatchers::StoredDispatcher;
use crate::store::error::Error;
use crate::store::executions::ExecutionFilter;

/// Rows are read at most this often, however often the database changes.
const READ_EVERY: Duration = Duration::from_millis(300);

/// After a failed read it is tried again after so long.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// So many runs that wait or go on are looked at.
const MOST_OPEN: u32 = 1000;

/// Every dispatcher as far as rows tell: declared, paused, queued and running executions, the last bars.
///
/// # Errors
/// If the database can't be read.
pub async fn dispatchers(store: &Store) -> Result<Vec<DispatcherState>, Error> {
    let mut open: BTreeMap<String, Vec<Execution>> = BTreeMap::new();
    for phase in [Phase::Running, Phase::Queued] {
        let filter = ExecutionFilter { phase: Some(phase), limit: MOST_OPEN, ..ExecutionFilter::default() };
        for execution in store.executions(&filter).await? {
            open.entry(execution.dispatcher.clone()).or_default().push(execution);
        }
    }
    let mut rows = Vec::new();
    for stored in store.dispatchers().await? {
        let filter = ExecutionFilter {
            dispatcher: Some(stored.name.clone()),
            phase: Some(Phase::Completed),
            limit: u32::try_from(BARS).unwrap_or(u32::MAX),
            ..ExecutionFilter::default()
        };
        let ended = store.executions(&filter).await?;
        let open = open.remove(&stored.name).unwrap_or_default();
        rows.push(row(stored, &open, &ended));
    }
    Ok(rows)
}

/// Keeps the hub's rows as the database has them, while the service can't be reached and somebody watches. In a task of its own.
pub fn start(hub: &Hub, store: Store, shutdown: &Shutdown) {
    let (hub, stopping) = (hub.clone(), shutdown.clone());
    shutdown.spawn_essential("stored rows", async move {
        tokio::select! {
            () = stopping.stopping() => {}
            () = show(&hub, &store) => {}
        }
    });
}

async fn show(hub: &Hub, store: &Store) {
    let mut versions = hub.versions();
    let mut watchers = hub.watchers();
    let mut changes = store.changes();
    loop {
        versions.borrow_and_update();
        let link = hub.link();
        if link.state == LinkState::Live {
            if versions.changed().await.is_err() {
                return;
            }
            continue;
        }
        if watchers.wait_for(|count| *count > 0).await.is_err() {
            return;
        }
        changes.borrow_and_update();
        let Ok(rows) = dispatchers(store).await else {
            sleep(TRY_AGAIN).await;
            continue;
        };
        hub.show_stored(&rows);
        sleep(READ_EVERY).await;
        let link_changed = async { while hub.link().state == link.state && versions.changed().await.is_ok() {} };
        tokio::select! {
            row_changed = changes.changed() => if row_changed.is_err() { return },
            () = link_changed => {}
        }
    }
}

fn row(stored: StoredDispatcher, open: &[Execution], ended: &[Execution]) -> DispatcherState {
    let running: Vec<Run> = open.iter().filter_map(run).collect();
    let queued = open.iter().filter(|execution| execution.phase() == Phase::Queued).count();
    let recent: Vec<Bar> = ended.iter().rev().filter_map(bar).collect();
    // a cancelled run says nothing about whether the work can be done
    let told = || ended.iter().filter(|execution| execution.outcome != Some(Outcome::Cancelled));
    let failed = |execution: &&Execution| matches!(execution.outcome, Some(Outcome::Error | Outcome::Abandoned));
    let failures = told().take_while(failed).count();
    let last_error = told().next().filter(failed).and_then(last_error);
    // what is switched off begins nothing anyway
    let paused = stored.paused.filter(|_| stored.disabled_by.is_none()).map(Pause::from);
    let activity = match (stored.disabled_by, &paused) {
        (Some(by), _) => Activity::Disabled { by },
        _ if !running.is_empty() => Activity::Running,
        _ if queued > 0 => Activity::Queued,
        (None, Some(Pause { by, since })) => Activity::Paused { by: by.clone(), since: *since },
        _ if failures > 0 => Activity::Failing { next_attempt: stored.next_at },
        _ => Activity::Idle,
    };
    DispatcherState {
        name: stored.name,
        title: stored.title,
        description: stored.description,
        origin: match stored.origin.as_str() {
            "built_in" => Origin::BuiltIn,
            "program" => Origin::Program,
            _ => Origin::Job,
        },
        schedule: stored.schedule,
        activity,
        paused,
        next_at: stored.next_at,
        running,
        limit: stored.limit,
        queued: u32::try_from(queued).unwrap_or(u32::MAX),
        recent,
        last_error,
        failures: u32::try_from(failures).unwrap_or(u32::MAX),
        skipped: 0,
        stopping: false,
    }
}

fn run(execution: &Execution) -> Option<Run> {
    (execution.phase() == Phase::Running).then_some(())?;
    Some(Run {
        execution: execution.id,
        cause: execution.cause,
        by: execution.requested_by.clone(),
        started_at: execution.started_at?,
        progress: None,
        cancelled_by: execution.cancelled_by.clone(),
    })
}

fn bar(execution: &Execution) -> Option<Bar> {
    let finished_at = execution.finished_at?;
    Some(Bar {
        execution: execution.id,
        // one cancelled before it began has no duration
        started_at: execution.started_at.unwrap_or(finished_at),
        finished_at,
        outcome: execution.outcome?,
    })
}

fn last_error(execution: &Execution) -> Option<LastError> {
    let outcome = execution.outcome?;
    Some(LastError {
        execution: execution.id,
        at: execution.finished_at?,
        message: execution.message.clone().unwrap_or_else(|| outcome.as_str().to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::base::id::ExecutionId;
    use crate::model::execution::Cause;

    fn stored() -> StoredDispatcher {
        StoredDispatcher {
            name: "disk-space".into(),
            title: "Disk space".into(),
            description: String::new(),
            origin: "job".into(),
            schedule: "every 5 m".into(),
            present: true,
            disabled_by: None,
            limit: 1,
            next_at: Some(Timestamp::from_micros(9)),
            paused: None,
        }
    }

    fn execution(id: i64, outcome: Option<Outcome>, started: bool) -> Execution {
        let at = Timestamp::from_micros(id);
        Execution {
            id: ExecutionId(id),
            dispatcher: "disk-space".into(),
            node: None,
            cause: Cause::Manual,
            requested_by: Some("ann".into()),
            queued_at: at,
            started_at: started.then_some(at),
            finished_at: outcome.map(|_| at),
            outcome,
            message: None,
            retry_of: None,
            cancelled_by: None,
        }
    }

    #[test]
    fn failures_count_back_to_the_last_run_that_was_normal() {
        let ended = [
            execution(5, Some(Outcome::Cancelled), true),
            execution(4, Some(Outcome::Error), true),
            execution(3, Some(Outcome::Abandoned), true),
            execution(2, Some(Outcome::Normal), true),
            execution(1, Some(Outcome::Error), true),
        ];
        let row = row(stored(), &[], &ended);
        assert_eq!(row.failures, 2);
        assert_eq!(row.last_error.unwrap().execution, ExecutionId(4));
        assert_eq!(row.activity, Activity::Failing { next_attempt: Some(Timestamp::from_micros(9)) });
        let bars: Vec<_> = row.recent.iter().map(|bar| bar.execution.0).collect();
        assert_eq!(bars, [1, 2, 3, 4, 5], "oldest first");
    }

    #[test]
    fn what_was_asked_for_while_the_service_is_away_shows_as_queued() {
        let row = row(stored(), &[execution(7, None, false)], &[execution(6, Some(Outcome::Normal), true)]);
        assert_eq!((row.activity, row.queued, row.running.len()), (Activity::Queued, 1, 0));
    }

    #[test]
    fn disabled_wins_over_running_over_paused_and_a_pause_is_told_beside_it() {
        let open = [execution(7, None, true)];
        let paused = StoredDispatcher { paused: Some(("ann".into(), Timestamp::from_micros(3))), ..stored() };
        let pause = Pause { by: "ann".into(), since: Timestamp::from_micros(3) };
        let running = row(paused.clone(), &open, &[]);
        assert_eq!((running.activity, running.paused), (Activity::Running, Some(pause.clone())));
        let queued = row(paused.clone(), &[execution(8, None, false)], &[]);
        assert_eq!(
            (queued.activity, queued.paused),
            (Activity::Queued, Some(pause)),
            "what was asked for begins anyway"
        );
        assert!(matches!(row(paused.clone(), &[], &[]).activity, Activity::Paused { by, .. } if by == "ann"));
        let disabled = row(StoredDispatcher { disabled_by: Some("enabled = false".into()), ..paused }, &open, &[]);
        assert!(matches!((disabled.activity, disabled.paused), (Activity::Disabled { .. }, None)));
    }
}
