//! Figures for Prometheus, rendered from what the database and this node know.
//!
//! A scrape does not count as a watcher: it must not keep the service node sending.

use std::fmt::{Display, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use ipnet::IpNet;

use crate::api::Api;
use crate::api::error::ApiError;
use crate::api::serve::caller;
use crate::api::tally::{Runs, Tally};
use crate::auth::access::{Right, may};
use crate::base::clock::Timestamp;
use crate::config::schema::name::METRICS_NETWORKS;
use crate::live::stored;
use crate::messenger::client::{LinkState, LinkStatus};
use crate::model::execution::Outcome;
use crate::model::node::Node;
use crate::protocol::state::DispatcherState;

/// How long figures may take to be collected.
const PATIENCE: Duration = Duration::from_secs(10);

/// What figures are made from.
pub(crate) struct Figures {
    api: Arc<Api>,
    tally: Tally,
    started_at: Timestamp,
}

impl Figures {
    /// Counting begins now.
    pub(crate) fn new(api: Arc<Api>) -> Self {
        let started_at = api.clock.now();
        Self { api, tally: Tally::new(started_at), started_at }
    }

    async fn collect(&self) -> Result<Snapshot, ApiError> {
        Ok(Snapshot {
            started_at: self.started_at,
            runs: self.tally.count(&self.api.store).await?,
            dispatchers: stored::dispatchers(&self.api.store).await?,
            nodes: self.api.store.nodes().await?,
            link: self.api.messenger.status().borrow().clone(),
            lines: *self.api.hub.lines_seen().borrow(),
            unreadable: self.api.hub.unreadable(),
            viewers: *self.api.hub.watchers().borrow(),
        })
    }
}

/// All figures of one moment.
struct Snapshot {
    started_at: Timestamp,
    runs: Runs,
    dispatchers: Vec<DispatcherState>,
    nodes: Vec<Node>,
    link: LinkStatus,
    lines: u64,
    unreadable: u64,
    viewers: usize,
}

/// `GET /metrics`: for a token with any role, or from an address within `Web.MetricsNetworks`.
pub(crate) async fn metrics(figures: Arc<Figures>, request: Request) -> Response {
    match answer(&figures, &request.into_parts().0).await {
        Ok(text) => {
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")], text).into_response()
        }
        Err(error) => {
            let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
            let mut response = (error.code(), headers, format!("{}\n", error.message())).into_response();
            if error.code() == StatusCode::UNAUTHORIZED {
                let challenge = axum::http::HeaderValue::from_static("ApiKey realm=\"switchboard\"");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            response
        }
    }
}

async fn answer(figures: &Figures, parts: &Parts) -> Result<String, ApiError> {
    let address = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip());
    let networks = figures.api.settings.borrow().text(METRICS_NETWORKS).to_owned();
    if !address.is_some_and(|address| is_within(address, &networks)) {
        let user = caller(&figures.api.sign_in, &parts.headers).await?;
        if !may(&user, Right::Metrics) {
            return Err(ApiError::forbidden(format!("{} may not read figures: metrics_viewer is needed", user.name)));
        }
    }
    let snapshot = tokio::time::timeout(PATIENCE, figures.collect()).await;
    Ok(render(&snapshot.map_err(|_| ApiError::timeout("the figures took too long to collect"))??))
}

/// Whether the address lies in one of the networks, as the setting writes them.
fn is_within(address: IpAddr, networks: &str) -> bool {
    let address = address.to_canonical();
    networks.split(',').filter_map(|text| text.trim().parse::<IpNet>().ok()).any(|network| network.contains(&address))
}

/// Text being written, figure by figure.
#[derive(Default)]
struct Page(String);

impl Page {
    /// A figure's name, kind and meaning, and its values: labels and number each.
    fn figure<V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        values: impl IntoIterator<Item = (Vec<(&'static str, String)>, V)>,
    ) {
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("a string takes everything");
        for (labels, value) in values {
            let labels: Vec<_> = labels.iter().map(|(label, text)| format!("{label}=\"{}\"", escape(text))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            writeln!(self.0, "{name}{labels} {value}").expect("a string takes everything");
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn seconds(at: Timestamp) -> String {
    let millis = at.as_millis();
    format!("{}.{:03}", millis.div_euclid(1_000), millis.rem_euclid(1_000))
}

fn render(snapshot: &Snapshot) -> String {
    let mut page = Page::default();
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    page.figure("switchboard_info", "gauge", "Which program this is.", [(version, 1)]);
    page.figure(
        "process_start_time_seconds",
        "gauge",
        "When this process began to serve, in seconds since 1970.",
        [(vec![], seconds(snapshot.started_at))],
    );
    page.figure(
        "switchboard_dispatcher_runs_total",
        "counter",
        "Runs that ended and were asked for since this process started.",
        snapshot.runs.iter().map(|((dispatcher, outcome), count)| {
            (vec![("dispatcher", dispatcher.clone()), ("outcome", (*outcome).to_owned())], count)
        }),
    );
    dispatchers(&mut page, &snapshot.dispatchers);
    page.figure(
        "switchboard_node_heartbeat_timestamp_seconds",
        "gauge",
        "When a node last wrote that it lives, in seconds since 1970.",
        snapshot.nodes.iter().filter(|node| node.stopped_at.is_none()).map(|node| {
            (vec![("node", node.id.to_string()), ("role", node.role.to_string())], seconds(node.heartbeat_at))
        }),
    );
    let up = u8::from(snapshot.link.state == LinkState::Live);
    page.figure("switchboard_messenger_up", "gauge", "Whether the service node is reached.", [(vec![], up)]);
    page.figure(
        "switchboard_messenger_failed_attempts",
        "gauge",
        "Failed attempts to reach it since it last was.",
        [(vec![], snapshot.link.attempts)],
    );
    page.figure(
        "switchboard_messenger_latency_seconds",
        "gauge",
        "How long it took to answer, last time it was measured.",
        snapshot.link.latency.map(|latency| (vec![], latency.as_secs_f64())),
    );
    page.figure(
        "switchboard_hub_lines_total",
        "counter",
        "Log lines that reached this web node; they come only while somebody watches.",
        [(vec![], snapshot.lines)],
    );
    page.figure(
        "switchboard_hub_unreadable_total",
        "counter",
        "Messages of the service node that this version could not read.",
        [(vec![], snapshot.unreadable)],
    );
    page.figure("switchboard_hub_viewers", "gauge", "Who watches at this web node.", [(vec![], snapshot.viewers)]);
    page.0
}

fn dispatchers(page: &mut Page, dispatchers: &[DispatcherState]) {
    let label = |dispatcher: &DispatcherState| vec![("dispatcher", dispatcher.name.clone())];
    page.figure(
        "switchboard_dispatcher_running",
        "gauge",
        "Runs that go on.",
        dispatchers.iter().map(|dispatcher| (label(dispatcher), dispatcher.running.len())),
    );
    page.figure(
        "switchboard_dispatcher_queued",
        "gauge",
        "Runs that wait.",
        dispatchers.iter().map(|dispatcher| (label(dispatcher), dispatcher.queued)),
    );
    page.figure(
        "switchboard_dispatcher_failures",
        "gauge",
        "Runs that failed one after the other, until one ends well.",
        dispatchers.iter().map(|dispatcher| (label(dispatcher), dispatcher.failures)),
    );
    page.figure(
        "switchboard_dispatcher_last_success_timestamp_seconds",
        "gauge",
        "When a run last ended well, in seconds since 1970.",
        dispatchers.iter().filter_map(|dispatcher| {
            let well = |outcome| matches!(outcome, Outcome::Normal | Outcome::Warning);
            let bar = dispatcher.recent.iter().rev().find(|bar| well(bar.outcome))?;
            Some((label(dispatcher), seconds(bar.finished_at)))
        }),
    );
    page.figure(
        "switchboard_dispatcher_last_duration_seconds",
        "gauge",
        "How long the last run took that ended.",
        dispatchers
            .iter()
            .filter_map(|dispatcher| Some((label(dispatcher), dispatcher.last()?.duration()?.as_secs_f64()))),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::ExecutionId;
    use crate::protocol::state::{Activity, Bar, Origin};

    const NOW: Timestamp = Timestamp::from_micros(1_795_223_419_123_000);

    fn snapshot() -> Snapshot {
        let bar = |finished_at: Timestamp, outcome| Bar {
            execution: ExecutionId(1),
            started_at: finished_at.minus(Duration::from_millis(1_500)),
            finished_at,
            outcome,
        };
        let dispatcher = DispatcherState {
            name: "we\"ird\\na\nme".into(),
            title: String::new(),
            description: String::new(),
            origin: Origin::Job,
            schedule: String::new(),
            activity: Activity::Idle,
            paused: None,
            next_at: None,
            running: vec![],
            limit: 1,
            queued: 2,
            recent: vec![bar(NOW, Outcome::Normal), bar(NOW.plus(Duration::from_mins(1)), Outcome::Error)],
            last_error: None,
            failures: 1,
            skipped: 0,
            stopping: false,
        };
        let link = LinkStatus {
            state: LinkState::Live,
            since: NOW,
            endpoint: "pipe:/tmp/x".into(),
            peer: None,
            error: None,
            attempts: 0,
            next_attempt_at: None,
            latency: Some(Duration::from_micros(250)),
        };
        let runs = Runs::from([(("disk-space".to_owned(), "normal"), 7)]);
        Snapshot {
            started_at: NOW,
            runs,
            dispatchers: vec![dispatcher],
            nodes: vec![],
            link,
            lines: 5,
            unreadable: 0,
            viewers: 2,
        }
    }

    #[test]
    fn figures_are_written_as_prometheus_reads_them() {
        let page = render(&snapshot());
        for line in [
            "switchboard_dispatcher_runs_total{dispatcher=\"disk-space\",outcome=\"normal\"} 7",
            "switchboard_dispatcher_queued{dispatcher=\"we\\\"ird\\\\na\\nme\"} 2",
            "switchboard_dispatcher_last_success_timestamp_seconds{dispatcher=\"we\\\"ird\\\\na\\nme\"} 1795223419.123",
            "switchboard_dispatcher_last_duration_seconds{dispatcher=\"we\\\"ird\\\\na\\nme\"} 1.5",
            "switchboard_messenger_up 1",
            "switchboard_messenger_latency_seconds 0.00025",
            "switchboard_hub_lines_total 5",
            "switchboard_hub_viewers 2",
            "process_start_time_seconds 1795223419.123",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is missing in\n{page}");
        }
        for line in page.lines() {
            let well_formed = line.starts_with("# HELP ")
                || line.starts_with("# TYPE ")
                || line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<f64>().is_ok());
            assert!(well_formed, "{line}");
        }
    }

    #[test]
    fn only_listed_networks_need_no_token() {
        let v4: IpAddr = "10.1.2.3".parse().unwrap();
        let mapped: IpAddr = "::ffff:10.1.2.3".parse().unwrap();
        assert!(!is_within(v4, ""));
        assert!(is_within(v4, "192.168.0.0/16, 10.0.0.0/8") && is_within(mapped, "10.0.0.0/8"));
        assert!(!is_within(v4, "10.2.0.0/16") && !is_within("::1".parse().unwrap(), "10.0.0.0/8"));
    }
}
