//! Nodes, dispatchers and the way to the service node.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use crate::api::Api;
use crate::api::error::ApiError;
use crate::api::request::{Answer, Call};
use crate::api::types::state::{
    Dispatcher, DispatchersAnswer, LastFailure, LastRun, MessengerStatus, NodeItem, NodeLinkItem, NodesAnswer,
    PausedItem, PrimaryItem, RunningItem, SettingOnNode, StatusAnswer,
};
use crate::base::clock::Timestamp;
use crate::live::applied::{self, Applied, Standing};
use crate::live::cluster::Cluster;
use crate::live::hub::Watcher;
use crate::live::stored;
use crate::messenger::client::LinkStatus;
use crate::model::node::{Node, NodeLink};
use crate::protocol::state::{Activity, DispatcherState, Pause};

/// How long an answer waits for the service node's state of now, where nobody watched before.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// `GET /api/status`.
pub(crate) async fn status(api: Arc<Api>, _call: Call) -> Result<Answer, ApiError> {
    let (live, dispatchers, _watcher) = dispatchers(&api).await?;
    let messenger = messenger(&api.messenger.status().borrow());
    let nodes = nodes_now(&api).await?.nodes;
    Ok(Answer::json(&StatusAnswer { now: api.clock.now(), live, messenger, nodes, dispatchers }))
}

/// `GET /api/nodes`.
pub(crate) async fn nodes(api: Arc<Api>, _call: Call) -> Result<Answer, ApiError> {
    // what a node says itself is heard only while somebody watches
    let _watcher = api.hub.watch();
    api.hub.current(PATIENCE).await;
    Ok(Answer::json(&nodes_now(&api).await?))
}

/// `GET /api/dispatchers`.
pub(crate) async fn list(api: Arc<Api>, _call: Call) -> Result<Answer, ApiError> {
    let (live, dispatchers, _watcher) = dispatchers(&api).await?;
    Ok(Answer::json(&DispatchersAnswer { live, dispatchers }))
}

/// `GET /api/dispatchers/{name}`.
pub(crate) async fn show(api: Arc<Api>, call: Call) -> Result<Answer, ApiError> {
    let (_, dispatchers, _watcher) = dispatchers(&api).await?;
    match dispatchers.into_iter().find(|dispatcher| dispatcher.name == call.parameter(0)) {
        Some(dispatcher) => Ok(Answer::json(&dispatcher)),
        None => Err(ApiError::not_found("there is no dispatcher of this name; GET /api/dispatchers lists all")),
    }
}

/// Every dispatcher as the service node says it is now; as rows tell while it can't be reached. The call counts as a
/// watcher, so that the next one finds everything there.
async fn dispatchers(api: &Api) -> Result<(bool, Vec<Dispatcher>, Watcher), ApiError> {
    let watcher = api.hub.watch();
    let live = api.hub.current(PATIENCE).await;
    let state = api.hub.picture().state.filter(|_| live);
    let items = if let Some(state) = &state {
        state.dispatchers.values().map(|dispatcher| item(dispatcher, None)).collect()
    } else {
        let now = api.clock.now();
        stored::dispatchers(&api.store).await?.iter().map(|dispatcher| item(dispatcher, Some(now))).collect()
    };
    Ok((state.is_some(), items, watcher))
}

/// Every node, and which of them is primary.
pub(crate) async fn nodes_now(api: &Api) -> Result<NodesAnswer, ApiError> {
    let now = api.clock.now();
    let settings = Arc::clone(&api.settings.borrow());
    let cluster = Cluster::read(&api.store, &settings, now).await?;
    let applied = applied::of_living_nodes(&api.store, &api.fixed, now).await?;
    let stopping = api.hub.node().filter(|_| api.hub.is_stopping());
    let nodes = cluster.nodes.iter().map(|node| NodeItem {
        stopping: stopping.as_ref().is_some_and(|heard| heard.id == node.id),
        ..node_item(node, &cluster, &applied)
    });
    let leadership = &cluster.leadership;
    let primary = leadership.primary().map(|primary| PrimaryItem {
        node: primary.clone(),
        since: leadership.since,
        term: leadership.fencing,
        handing_over: leadership.asked.is_some(),
    });
    Ok(NodesAnswer { primary, encryption_key_id: api.store.encryption_key_id(), nodes: nodes.collect() })
}

fn link_item(link: &NodeLink) -> NodeLinkItem {
    let NodeLink { state, peer, endpoint, since, error, latency } = link.clone();
    NodeLinkItem { state, peer, endpoint, since, error, latency_ms: latency.map(|latency| latency.as_secs_f64() * 1e3) }
}

fn node_item(node: &Node, cluster: &Cluster, applied: &[Applied]) -> NodeItem {
    let elsewhere = applied.iter().filter(|one| one.node == node.id && one.standing != Standing::Applied);
    let primary = cluster.is_primary(node);
    let (alive, key_in_sync) = (cluster.lives(node), !cluster.has_other_key(node));
    let link = cluster.link(node).map(link_item);
    let Node { id, role, host, version, pid, started_at, heartbeat_at, stopped_at, .. } = node.clone();
    let Node { key_fingerprint, address, address_override, .. } = node.clone();
    let settings = elsewhere.map(on_node).collect();
    NodeItem {
        settings,
        id,
        role,
        host,
        version,
        pid,
        started_at,
        heartbeat_at,
        stopped_at,
        alive,
        stopping: false,
        key_fingerprint,
        key_in_sync,
        version_in_sync: !cluster.has_other_version(node),
        primary,
        address,
        address_override,
        link,
    }
}

/// A setting on a node, as answers tell it.
pub(crate) fn on_node(applied: &Applied) -> SettingOnNode {
    SettingOnNode {
        setting: applied.setting.name.to_owned(),
        node: applied.node.clone(),
        state: applied.standing.as_str().to_owned(),
        since: applied.since,
        wanted: applied.wanted.clone(),
        in_force: applied.in_force.clone(),
        fixed: applied.fixed,
        error: applied.error.clone(),
        revert_to: applied.way_back.clone(),
    }
}

/// The link, as answers tell it.
fn messenger(link: &LinkStatus) -> MessengerStatus {
    MessengerStatus {
        state: link.state.as_str().to_owned(),
        since: link.since,
        endpoint: link.endpoint.clone(),
        peer: link.peer.as_ref().map(|peer| peer.node.clone()),
        protocol: link.peer.as_ref().map(|peer| peer.version),
        error: link.error.clone(),
        attempts: link.attempts,
        next_attempt_at: link.next_attempt_at,
        latency_ms: link.latency.map(|latency| latency.as_secs_f64() * 1e3),
    }
}

/// A dispatcher, as answers tell it; `away` is the time now if the service node can't be reached.
fn item(dispatcher: &DispatcherState, away: Option<Timestamp>) -> Dispatcher {
    Dispatcher {
        name: dispatcher.name.clone(),
        title: dispatcher.title.clone(),
        description: dispatcher.description.clone(),
        origin: dispatcher.origin,
        schedule: dispatcher.schedule.clone(),
        state: dispatcher.activity.as_str().to_owned(),
        reason: reason(dispatcher, away),
        paused: dispatcher.pause().map(|Pause { by, since }| PausedItem { by, since }),
        next_at: dispatcher.next_at,
        running: dispatcher
            .running
            .iter()
            .map(|run| RunningItem {
                execution: run.execution,
                cause: run.cause,
                by: run.by.clone(),
                started_at: run.started_at,
                progress: run.progress.clone(),
                cancelled_by: run.cancelled_by.clone(),
            })
            .collect(),
        limit: dispatcher.limit,
        queued: dispatcher.queued,
        last: dispatcher.last().map(|bar| LastRun {
            execution: bar.execution,
            started_at: bar.started_at,
            finished_at: bar.finished_at,
            duration_ms: bar.duration().map(millis),
            outcome: bar.outcome,
        }),
        median_ms: dispatcher.median_duration().map(millis),
        last_error: dispatcher.last_error.as_ref().map(|error| LastFailure {
            execution: error.execution,
            at: error.at,
            message: error.message.clone(),
        }),
        failures: dispatcher.failures,
        skipped: dispatcher.skipped,
    }
}

/// A length of time in whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Why a dispatcher is in its state, and who holds it back, in words.
fn reason(dispatcher: &DispatcherState, away: Option<Timestamp>) -> String {
    let mut words = state_reason(dispatcher, away);
    if let Some(Pause { by, since }) =
        dispatcher.pause().filter(|_| !matches!(dispatcher.activity, Activity::Paused { .. }))
    {
        write!(words, "; paused by {by} since {since}").expect("a string takes everything");
    }
    words
}

/// Why nothing begins any more.
const STOPPING: &str = "the service is stopping and begins no run";

fn state_reason(dispatcher: &DispatcherState, away: Option<Timestamp>) -> String {
    // what the service node alone can do is not promised while it is away
    let at = |what: &str, at: Timestamp| match away {
        None if dispatcher.stopping => format!("{what} due at {at}; {STOPPING}"),
        None => format!("{what} at {at}"),
        Some(now) if at < now => format!("{what} was due at {at}; the service is away"),
        Some(_) => format!("{what} due at {at}; the service is away"),
    };
    let next = match dispatcher.next_at {
        Some(next) => at("next run", next),
        None if dispatcher.stopping => STOPPING.to_owned(),
        None => "runs when told".to_owned(),
    };
    match &dispatcher.activity {
        Activity::Idle => next,
        Activity::Queued => match dispatcher.queued {
            0 | 1 => "a run waits to begin".to_owned(),
            queued => format!("{queued} runs wait to begin"),
        },
        Activity::Running => {
            let mut words = format!("{} of {} running", dispatcher.running.len(), dispatcher.limit);
            if let Some(progress) = dispatcher.running.first().and_then(|run| run.progress.as_ref()) {
                write!(words, ", {} %", progress.percent()).expect("a string takes everything");
                if let Some(text) = &progress.text {
                    write!(words, ": {text}").expect("a string takes everything");
                }
            }
            words
        }
        Activity::Paused { by, since } => format!("paused by {by} since {since}"),
        Activity::Failing { next_attempt } => {
            let error = dispatcher.last_error.as_ref().map_or("the last run failed", |error| error.message.as_str());
            let next = next_attempt.or(dispatcher.next_at);
            match next {
                Some(next) => format!("{error}; {}", at("next attempt", next)),
                None => error.to_owned(),
            }
        }
        Activity::Overdue { expected_by } => format!("should have run by {expected_by}"),
        Activity::Standby { primary } if primary.as_str().is_empty() => "standby: no node is primary yet".to_owned(),
        Activity::Standby { primary } => format!("standby: primary is {primary}"),
        Activity::Disabled { by } => format!("disabled by {by}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::{ExecutionId, NodeId};
    use crate::model::execution::{Cause, Outcome, Progress};
    use crate::protocol::state::{Bar, LastError, Origin, Run};

    const NOW: Timestamp = Timestamp::from_micros(1_795_223_419_123_000);

    fn dispatcher(activity: Activity) -> DispatcherState {
        let progress = Progress { done: 3, total: 10, text: Some("indexing".into()) };
        let run = Run {
            execution: ExecutionId(7),
            cause: Cause::Api,
            by: Some("ann".into()),
            started_at: NOW,
            progress: Some(progress),
            cancelled_by: None,
        };
        let bar = Bar {
            execution: ExecutionId(6),
            started_at: NOW,
            finished_at: NOW.plus(PATIENCE),
            outcome: Outcome::Normal,
        };
        DispatcherState {
            name: "disk-space".into(),
            title: "Disk space".into(),
            description: String::new(),
            origin: Origin::Job,
            schedule: "every 5 m".into(),
            activity,
            paused: None,
            next_at: Some(NOW),
            running: vec![run],
            limit: 2,
            queued: 3,
            recent: vec![bar],
            last_error: Some(LastError { execution: ExecutionId(5), at: NOW, message: "exit code 1".into() }),
            failures: 1,
            skipped: 0,
            stopping: false,
        }
    }

    #[test]
    fn every_state_says_why() {
        let by = || "ann".to_owned();
        for (activity, words) in [
            (Activity::Idle, "next run at 2026-11-21T01:10:19.123Z"),
            (Activity::Queued, "3 runs wait to begin"),
            (Activity::Running, "1 of 2 running, 30 %: indexing"),
            (Activity::Paused { by: by(), since: NOW }, "paused by ann since 2026-11-21T01:10:19.123Z"),
            (Activity::Failing { next_attempt: None }, "exit code 1; next attempt at 2026-11-21T01:10:19.123Z"),
            (Activity::Overdue { expected_by: NOW }, "should have run by 2026-11-21T01:10:19.123Z"),
            (Activity::Standby { primary: NodeId::new("service-2") }, "standby: primary is service-2"),
            (Activity::Standby { primary: NodeId::new("") }, "standby: no node is primary yet"),
            (Activity::Disabled { by: "enabled = false".into() }, "disabled by enabled = false"),
        ] {
            let state = activity.as_str();
            let item = item(&dispatcher(activity), None);
            assert_eq!((item.state.as_str(), item.reason.as_str()), (state, words));
        }
    }

    #[test]
    fn a_pause_is_told_beside_a_run_that_goes_on() {
        let paused = Some(Pause { by: "ann".into(), since: NOW });
        let running = item(&DispatcherState { paused, ..dispatcher(Activity::Running) }, None);
        assert_eq!((&*running.state, &*running.paused.unwrap().by), ("running", "ann"));
        assert_eq!(running.reason, "1 of 2 running, 30 %: indexing; paused by ann since 2026-11-21T01:10:19.123Z");
    }

    #[test]
    fn while_the_service_is_away_no_next_run_is_promised() {
        let reason = |activity, after| {
            let now = NOW.plus(Duration::from_secs(after));
            item(&dispatcher(activity), Some(now)).reason
        };
        let words = "next run was due at 2026-11-21T01:10:19.123Z; the service is away";
        assert_eq!(reason(Activity::Idle, 60), words);
        assert_eq!(reason(Activity::Idle, 0), words.replace("was due", "due"));
        let failing = Activity::Failing { next_attempt: Some(NOW) };
        assert_eq!(reason(failing, 60), format!("exit code 1; {}", words.replace("run", "attempt")));
    }

    #[test]
    fn while_the_service_is_stopping_no_next_run_is_promised() {
        let reason =
            |activity, next_at| item(&DispatcherState { stopping: true, next_at, ..dispatcher(activity) }, None).reason;
        let words = "next run due at 2026-11-21T01:10:19.123Z; the service is stopping and begins no run";
        assert_eq!(reason(Activity::Idle, Some(NOW)), words);
        assert_eq!(reason(Activity::Idle, None), STOPPING);
        let failing = Activity::Failing { next_attempt: Some(NOW) };
        assert_eq!(reason(failing, None), format!("exit code 1; {}", words.replace("next run", "next attempt")));
    }

    #[test]
    fn an_item_is_read_as_it_is_written() {
        let item = item(&dispatcher(Activity::Running), None);
        let text = serde_json::to_string(&item).unwrap();
        let back: Dispatcher = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
        assert_eq!(back.last.unwrap().duration_ms, Some(1_000));
        assert_eq!(back.running[0].progress.as_ref().unwrap().percent(), 30);
    }

    #[test]
    fn nobody_knows_how_long_an_abandoned_run_took() {
        let mut state = dispatcher(Activity::Idle);
        state.recent[0].outcome = Outcome::Abandoned;
        let item = item(&state, None);
        assert_eq!((item.last.unwrap().duration_ms, item.median_ms), (None, None));
    }
}
