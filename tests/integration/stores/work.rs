//! Dispatchers and executions.

use std::time::Duration;

use switchboard::base::id::{ExecutionId, NodeId};
use switchboard::model::execution::{Cause, Execution, Outcome, Phase};
use switchboard::store::Store;
use switchboard::store::dispatchers::StoredDispatcher;
use switchboard::store::error::Error;
use switchboard::store::executions::{Cancelled, ExecutionFilter, MOST_QUEUED, NewExecution};

use super::{Data, at};

pub(crate) fn asked(dispatcher: &str, after: Option<i64>) -> NewExecution {
    NewExecution {
        dispatcher: dispatcher.to_owned(),
        cause: Cause::Manual,
        requested_by: Some("ann".to_owned()),
        queued_at: at(1),
        after,
        idempotency_key: None,
        retry_of: None,
    }
}

on_both_databases! {
    dispatchers_are_declared_paused_and_no_longer_present
    a_run_is_asked_for_claimed_and_finished_once
    a_double_click_and_a_repeated_key_ask_once
    the_queue_of_a_dispatcher_is_bounded
    limits_and_pauses_hold_runs_back
    cancelling_ends_what_waits_and_asks_what_runs
    runs_of_a_former_life_are_abandoned
    executions_are_listed_counted_and_purged
    a_dropped_transaction_changes_nothing_and_stops_nobody
}

fn due(dispatcher: &str) -> NewExecution {
    NewExecution { cause: Cause::Schedule, requested_by: None, ..asked(dispatcher, None) }
}

pub(crate) async fn request(store: &Store, new: &NewExecution) -> Execution {
    let mut tx = store.begin().await.unwrap();
    let requested = tx.request_execution(new).await.unwrap();
    tx.commit().await.unwrap();
    requested.execution
}

fn dispatcher(name: &str) -> StoredDispatcher {
    StoredDispatcher {
        name: name.to_owned(),
        title: name.to_uppercase(),
        description: "does something".to_owned(),
        origin: "job".to_owned(),
        schedule: "every 5 m".to_owned(),
        present: true,
        disabled_by: None,
        limit: 1,
        next_at: None,
        paused: None,
    }
}

fn here() -> NodeId {
    NodeId::new("service-1")
}

fn ids(executions: &[Execution]) -> Vec<i64> {
    executions.iter().map(|execution| execution.id.0).collect()
}

async fn dispatchers_are_declared_paused_and_no_longer_present(data: Data) {
    let store = data.open().await;
    let mut tx = store.begin().await.unwrap();
    tx.declare_dispatchers(&[dispatcher("b"), dispatcher("a")]).await.unwrap();
    assert!(tx.pause_dispatcher("a", "ann", at(1)).await.unwrap());
    assert!(tx.pause_dispatcher("a", "bob", at(2)).await.unwrap());
    assert!(!tx.pause_dispatcher("c", "ann", at(1)).await.unwrap());
    tx.schedule_dispatcher("a", Some(at(9))).await.unwrap();
    tx.schedule_dispatcher("b", Some(at(9))).await.unwrap();
    tx.commit().await.unwrap();
    let a = StoredDispatcher { paused: Some(("ann".to_owned(), at(1))), next_at: Some(at(9)), ..dispatcher("a") };
    let b = StoredDispatcher { next_at: Some(at(9)), ..dispatcher("b") };
    assert_eq!(store.dispatchers().await.unwrap(), [a.clone(), b.clone()]);

    // declared again: the pause stays, and the time it was due stays while it means something
    let mut tx = store.begin().await.unwrap();
    let retitled = StoredDispatcher { title: "New".to_owned(), limit: 3, ..dispatcher("a") };
    let switched_off = StoredDispatcher { disabled_by: Some("switchboard.toml:3".to_owned()), ..dispatcher("b") };
    tx.declare_dispatchers(&[retitled, switched_off.clone()]).await.unwrap();
    tx.commit().await.unwrap();
    let a = StoredDispatcher { title: "New".to_owned(), limit: 3, ..a };
    assert_eq!(store.dispatchers().await.unwrap(), [a.clone(), switched_off]);

    let mut tx = store.begin().await.unwrap();
    tx.declare_dispatchers(&[StoredDispatcher { schedule: "when told".to_owned(), ..dispatcher("b") }]).await.unwrap();
    assert!(!tx.resume_dispatcher("a").await.unwrap(), "not present");
    tx.commit().await.unwrap();
    let present = store.dispatchers().await.unwrap();
    assert_eq!(present.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(present[0].next_at, None);
    assert_eq!(store.dispatcher("a").await.unwrap(), Some(StoredDispatcher { present: false, ..a }));
    assert_eq!(store.dispatcher("c").await.unwrap(), None);

    let mut tx = store.begin().await.unwrap();
    tx.declare_dispatchers(&[dispatcher("a")]).await.unwrap();
    assert!(tx.resume_dispatcher("a").await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(store.dispatcher("a").await.unwrap().unwrap().paused, None);
}

async fn a_run_is_asked_for_claimed_and_finished_once(data: Data) {
    let store = data.open().await;
    let execution = request(&store, &asked("a", Some(0))).await;
    assert_eq!(execution.phase(), Phase::Queued);
    assert_eq!(ids(&store.queued_executions().await.unwrap()), [execution.id.0]);

    let mut tx = store.begin().await.unwrap();
    let claimed = tx.claim_execution(execution.id, &here(), 1, at(2)).await.unwrap().unwrap();
    assert!(tx.claim_execution(execution.id, &here(), 9, at(2)).await.unwrap().is_none(), "it waits no more");
    assert!(tx.claim_execution(ExecutionId(99), &here(), 9, at(2)).await.unwrap().is_none());
    tx.commit().await.unwrap();
    assert_eq!((claimed.phase(), claimed.started_at, claimed.node), (Phase::Running, Some(at(2)), Some(here())));

    let mut tx = store.begin().await.unwrap();
    assert!(tx.finish_execution(execution.id, Outcome::Warning, Some("disk 91 % full"), at(5)).await.unwrap());
    assert!(!tx.finish_execution(execution.id, Outcome::Error, None, at(6)).await.unwrap());
    assert!(!tx.finish_execution(ExecutionId(99), Outcome::Error, None, at(6)).await.unwrap());
    tx.commit().await.unwrap();
    let ended = store.execution(execution.id).await.unwrap().unwrap();
    assert_eq!((ended.outcome, ended.message.as_deref()), (Some(Outcome::Warning), Some("disk 91 % full")));
    assert_eq!(ended.duration(), Some(Duration::from_secs(3)));
    assert_eq!(store.execution_counts().await.unwrap(), [(Outcome::Warning, 1)]);
    assert!(store.open_executions().await.unwrap().is_empty());
}

async fn a_double_click_and_a_repeated_key_ask_once(data: Data) {
    let store = data.open().await;
    let mut tx = store.begin().await.unwrap();
    let first = tx.request_execution(&asked("a", Some(0))).await.unwrap();
    let again = tx.request_execution(&asked("a", Some(0))).await.unwrap();
    let elsewhere = tx.request_execution(&asked("b", Some(0))).await.unwrap();
    let later = tx.request_execution(&asked("a", Some(first.execution.id.0))).await.unwrap();
    assert!(first.new && !again.new && elsewhere.new && later.new);
    assert_eq!(first.execution.id, again.execution.id);
    let unchecked = tx.request_execution(&asked("a", None)).await.unwrap();
    assert!(unchecked.new && tx.request_execution(&asked("a", None)).await.unwrap().new);

    let keyed = NewExecution { idempotency_key: Some("k".to_owned()), ..asked("a", None) };
    let one = tx.request_execution(&keyed).await.unwrap();
    let two = tx.request_execution(&keyed).await.unwrap();
    assert!(one.new && !two.new);
    assert_eq!(one.execution.id, two.execution.id);
    let both = NewExecution { idempotency_key: Some("k".to_owned()), ..asked("a", Some(0)) };
    assert_eq!(tx.request_execution(&both).await.unwrap().execution.id, one.execution.id, "the key is the surer sign");
    tx.commit().await.unwrap();
}

async fn the_queue_of_a_dispatcher_is_bounded(data: Data) {
    let store = data.open().await;
    let mut tx = store.begin().await.unwrap();
    for _ in 0..MOST_QUEUED {
        tx.request_execution(&asked("a", None)).await.unwrap();
    }
    let refused = tx.request_execution(&asked("a", None)).await.unwrap_err();
    assert!(matches!(&refused, Error::Conflict(text) if text.contains("100 runs of a wait")), "{refused}");
    tx.request_execution(&asked("b", None)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(store.queued_executions().await.unwrap().len(), 101, "a refusal takes nothing back");
}

async fn limits_and_pauses_hold_runs_back(data: Data) {
    let store = data.open().await;
    data.clock.set(at(7));
    let mut tx = store.begin().await.unwrap();
    tx.declare_dispatchers(&[dispatcher("a")]).await.unwrap();
    let running = tx.begin_execution(&due("a"), &here(), 2).await.unwrap().unwrap();
    assert_eq!((running.queued_at, running.started_at, running.node), (at(1), Some(at(7)), Some(here())));
    let waiting = tx.request_execution(&asked("a", None)).await.unwrap().execution;
    assert!(tx.begin_execution(&due("b"), &here(), 1).await.unwrap().is_some(), "another dispatcher has its own limit");
    assert!(tx.begin_execution(&due("a"), &here(), 1).await.unwrap().is_none());
    assert!(tx.claim_execution(waiting.id, &here(), 1, at(8)).await.unwrap().is_none());
    assert!(tx.begin_execution(&due("a"), &here(), 2).await.unwrap().is_some());
    assert!(tx.begin_execution(&due("a"), &here(), 2).await.unwrap().is_none());
    tx.finish_execution(running.id, Outcome::Normal, None, at(9)).await.unwrap();

    tx.pause_dispatcher("a", "ann", at(9)).await.unwrap();
    assert!(tx.begin_execution(&due("a"), &here(), 9).await.unwrap().is_none(), "paused");
    for cause in [Cause::StartUp, Cause::CatchUp, Cause::Retry] {
        let new = NewExecution { cause, ..due("a") };
        assert!(tx.begin_execution(&new, &here(), 9).await.unwrap().is_none(), "{cause}");
        let queued = tx.request_execution(&new).await.unwrap().execution;
        assert!(tx.claim_execution(queued.id, &here(), 9, at(9)).await.unwrap().is_none(), "{cause}");
    }
    assert!(tx.claim_execution(waiting.id, &here(), 2, at(9)).await.unwrap().is_some(), "somebody asked for it");
    tx.resume_dispatcher("a").await.unwrap();
    assert!(tx.begin_execution(&due("a"), &here(), 9).await.unwrap().is_some());
    let once = NewExecution { after: Some(0), ..due("a") };
    assert!(tx.begin_execution(&once, &here(), 99).await.unwrap().is_some());
    assert!(tx.begin_execution(&once, &here(), 99).await.unwrap().is_none(), "asked for before");
    tx.commit().await.unwrap();
}

async fn cancelling_ends_what_waits_and_asks_what_runs(data: Data) {
    let store = data.open().await;
    let mut tx = store.begin().await.unwrap();
    let waiting = tx.request_execution(&asked("a", None)).await.unwrap().execution.id;
    let running = tx.begin_execution(&due("a"), &here(), 9).await.unwrap().unwrap().id;
    let ended = tx.begin_execution(&due("a"), &here(), 9).await.unwrap().unwrap().id;
    tx.finish_execution(ended, Outcome::Normal, None, at(3)).await.unwrap();

    let Some(Cancelled::Ended(execution)) = tx.cancel_execution(waiting, "ann", at(4)).await.unwrap() else {
        panic!("it waited");
    };
    assert_eq!((execution.outcome, execution.cancelled_by.as_deref()), (Some(Outcome::Cancelled), Some("ann")));
    assert!(tx.claim_execution(waiting, &here(), 9, at(5)).await.unwrap().is_none());
    for by in ["ann", "bob"] {
        let Some(Cancelled::Asked(execution)) = tx.cancel_execution(running, by, at(4)).await.unwrap() else {
            panic!("it runs");
        };
        assert_eq!((execution.phase(), execution.cancelled_by.as_deref()), (Phase::Running, Some("ann")));
    }
    assert!(matches!(tx.cancel_execution(ended, "ann", at(4)).await.unwrap(), Some(Cancelled::TooLate(_))));
    assert!(tx.cancel_execution(ExecutionId(99), "ann", at(4)).await.unwrap().is_none());
    tx.commit().await.unwrap();

    assert_eq!(ids(&store.cancel_requests(&here()).await.unwrap()), [running.0]);
    assert!(store.cancel_requests(&NodeId::new("service-2")).await.unwrap().is_empty());
    let mut tx = store.begin().await.unwrap();
    tx.finish_execution(running, Outcome::Cancelled, None, at(5)).await.unwrap();
    tx.commit().await.unwrap();
    assert!(store.cancel_requests(&here()).await.unwrap().is_empty());
}

async fn runs_of_a_former_life_are_abandoned(data: Data) {
    let store = data.open().await;
    let mut tx = store.begin().await.unwrap();
    let mine = tx.begin_execution(&due("a"), &here(), 9).await.unwrap().unwrap().id;
    let theirs = tx.begin_execution(&due("a"), &NodeId::new("service-2"), 9).await.unwrap().unwrap().id;
    let waiting = tx.request_execution(&asked("a", None)).await.unwrap().execution.id;
    let began = tx.last_sign_of_life(&here()).await.unwrap();
    assert_eq!(began, None, "nothing is known of a node that never registered");
    let abandoned = tx.abandon_executions(&here(), Some(at(50)), "it fell").await.unwrap();
    assert_eq!(ids(&abandoned), [mine.0]);
    assert_eq!((abandoned[0].outcome, abandoned[0].finished_at), (Some(Outcome::Abandoned), Some(at(50))));
    assert_eq!((abandoned[0].message.as_deref(), abandoned[0].duration()), (Some("it fell"), None));
    assert!(tx.abandon_executions(&here(), None, "").await.unwrap().is_empty());
    // one of which nothing was heard after it began
    let unheard = tx.begin_execution(&due("b"), &here(), 9).await.unwrap().unwrap();
    let abandoned = tx.abandon_executions(&here(), None, "it fell").await.unwrap();
    assert_eq!((abandoned[0].id, abandoned[0].finished_at), (unheard.id, unheard.started_at));
    tx.commit().await.unwrap();
    assert_eq!(ids(&store.open_executions().await.unwrap()), [theirs.0, waiting.0]);
}

async fn executions_are_listed_counted_and_purged(data: Data) {
    let store = data.open().await;
    let mut tx = store.begin().await.unwrap();
    tx.declare_dispatchers(&[dispatcher("a"), dispatcher("b"), dispatcher("c")]).await.unwrap();
    for number in 0..10 {
        let name = if number % 2 == 0 { "a" } else { "b" };
        let id = tx.begin_execution(&due(name), &here(), 99).await.unwrap().unwrap().id;
        let outcome = if number % 4 == 0 { Outcome::Error } else { Outcome::Normal };
        tx.finish_execution(id, outcome, None, at(number)).await.unwrap();
    }
    let running = tx.begin_execution(&due("a"), &here(), 99).await.unwrap().unwrap().id;
    tx.commit().await.unwrap();
    assert_eq!(running, ExecutionId(11));

    let list = async |filter: ExecutionFilter| ids(&store.executions(&filter).await.unwrap());
    let filter = ExecutionFilter { limit: 3, ..Default::default() };
    assert_eq!(list(filter.clone()).await, [11, 10, 9]);
    assert_eq!(list(ExecutionFilter { before: Some(ExecutionId(9)), ..filter.clone() }).await, [8, 7, 6]);
    assert_eq!(list(ExecutionFilter { dispatcher: Some("b".into()), ..filter.clone() }).await, [10, 8, 6]);
    assert_eq!(list(ExecutionFilter { outcome: Some(Outcome::Error), ..filter.clone() }).await, [9, 5, 1]);
    assert_eq!(list(ExecutionFilter { phase: Some(Phase::Running), ..filter.clone() }).await, [11]);
    assert_eq!(list(ExecutionFilter { phase: Some(Phase::Queued), ..filter.clone() }).await, [0_i64; 0]);
    assert_eq!(list(ExecutionFilter { phase: Some(Phase::Completed), ..filter }).await, [10, 9, 8]);

    assert_eq!(store.latest_execution("a").await.unwrap().unwrap().id, running);
    assert_eq!(store.latest_execution("c").await.unwrap(), None);
    let latest = [("a".to_owned(), running), ("b".to_owned(), ExecutionId(10))];
    assert_eq!(store.latest_executions().await.unwrap(), latest);
    assert_eq!(ids(&store.recent_runs(2).await.unwrap()), [7, 9, 8, 10]);
    assert_eq!(store.recent_runs(99).await.unwrap().len(), 10);
    assert!(store.recent_runs(0).await.unwrap().is_empty());
    assert_eq!(store.execution_counts().await.unwrap(), [(Outcome::Error, 3), (Outcome::Normal, 7)]);

    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.purge_executions(Duration::from_secs(100), 0, at(10)).await.unwrap(), 0, "none is that old");
    assert_eq!(tx.purge_executions(Duration::from_secs(2), 5, at(10)).await.unwrap(), 1, "the newest five stay");
    assert_eq!(tx.purge_executions(Duration::from_secs(2), 1, at(10)).await.unwrap(), 7);
    tx.commit().await.unwrap();
    assert_eq!(list(ExecutionFilter { limit: 99, ..Default::default() }).await, [11, 10, 9]);
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.purge_executions(Duration::ZERO, 0, at(99)).await.unwrap(), 2);
    let next = tx.begin_execution(&due("a"), &here(), 99).await.unwrap().unwrap().id;
    tx.commit().await.unwrap();
    assert_eq!(next, ExecutionId(12), "numbers are never used twice");
}

async fn a_dropped_transaction_changes_nothing_and_stops_nobody(data: Data) {
    let store = data.open().await;
    let mut tx = store.begin().await.unwrap();
    tx.request_execution(&asked("a", None)).await.unwrap();
    drop(tx);
    let execution = request(&store, &asked("b", None)).await;
    assert_eq!(ids(&store.queued_executions().await.unwrap()), [execution.id.0]);
}
