//! Fragments of pages that are also sent alone, rendered the same way in both cases.

use std::time::Duration;

use askama::Template;

use crate::base::chain::chain;
use crate::base::clock::{Clock as _, SystemClock, Timestamp};
use crate::config::base_path::BasePath;
use crate::messenger::client::{LinkState, LinkStatus};
use crate::model::execution::Progress;
use crate::protocol::state::{Activity, DispatcherState, NodeFacts, Run};
use crate::web::html::{Html, visible};
use crate::web::moment::{ago, coming, length, since, soon, stamp};
use crate::web::phrase::{Fill as _, Phrase};
use crate::web::texts::{EN, Texts};
use crate::web::{chart, words};

/// A run has to have gone on for so long before a guess at its end is worth anything.
const GUESS_AFTER: Duration = Duration::from_secs(10);

/// The longest error shown in a row without opening it, in characters.
const ERROR_HEAD: usize = 90;

/// A dispatcher's row: `<tr id="d-NAME" …>`. Holds no user, right or token, and no relative time: all viewers share it.
///
/// `live` is whether the service node can be reached; while it can't, or is stopping, no next run is promised. The clock is asked only for the
/// guess when a run will end, which is written down as a moment, and for whether a time has passed.
pub fn dispatcher_row(dispatcher: &DispatcherState, live: bool, base: &BasePath) -> String {
    row_at(dispatcher, live, SystemClock.now(), base)
}

fn row_at(dispatcher: &DispatcherState, live: bool, now: Timestamp, base: &BasePath) -> String {
    let row = Row::of(dispatcher, live, now, base);
    row.render().unwrap_or_else(|error| {
        tracing::error!("a row could not be rendered: {}", chain(&error));
        format!("<tr id=\"d-{}\" class=\"row\"></tr>", visible(&dispatcher.name))
    })
}

/// The pill that says how the link is, with the cause and the Reconnect button: `<div id="link" …>`.
pub fn link_pill(link: &LinkStatus, base: &BasePath) -> String {
    let pill = Pill {
        t: EN,
        base,
        state: link.state.as_str(),
        word: words::link(link.state),
        since: stamp(link.since),
        live: link.state == LinkState::Live,
        peer: link.peer.as_ref().map(|peer| peer.node.to_string()),
        latency: link.latency.map(length),
        endpoint: &link.endpoint,
        error: link.error.as_deref().map(visible),
        attempts: (link.attempts > 0).then(|| EN.link_attempts.count(link.attempts)),
        next: match (link.state, link.next_attempt_at) {
            (LinkState::Live, _) | (LinkState::Connecting, None) => None,
            (LinkState::Down, None) => Some(EN.link_trying.into()),
            (_, Some(at)) => Some(EN.link_next.markup("when", soon(at))),
        },
    };
    pill.render().unwrap_or_else(|error| {
        tracing::error!("the link's pill could not be rendered: {}", chain(&error));
        "<div id=\"link\" class=\"pill\"></div>".to_owned()
    })
}

/// What stands above a page while the service node can't be reached: the pill beside it says since when and why.
pub(crate) fn stale() -> Phrase {
    EN.stale.into()
}

/// Which service node is heard, how long it has been up, and that it is stopping; while it can't be reached, since when:
/// `<dl id="node" …>`.
pub(crate) fn node_strip(node: Option<&NodeFacts>, link: &LinkStatus) -> String {
    let strip = Strip {
        t: EN,
        node,
        stopping: link.state == LinkState::Live && node.is_some_and(|node| node.stopping),
        away: (link.state != LinkState::Live).then(|| stamp(link.since)),
        up: node.map(|node| since(node.started_at)).unwrap_or_default(),
        up_since: node.map(|node| stamp(node.started_at)).unwrap_or_default(),
    };
    strip.render().unwrap_or_else(|error| {
        tracing::error!("the node's strip could not be rendered: {error}");
        "<dl id=\"node\" class=\"strip\"></dl>".to_owned()
    })
}

#[derive(Template)]
#[template(path = "live/node_strip.html")]
struct Strip<'a> {
    t: &'static Texts,
    node: Option<&'a NodeFacts>,
    stopping: bool,
    away: Option<Html>,
    up: Html,
    up_since: Html,
}

#[derive(Template)]
#[template(path = "live/link_pill.html")]
struct Pill<'a> {
    t: &'static Texts,
    base: &'a BasePath,
    state: &'static str,
    word: &'static str,
    since: Html,
    live: bool,
    peer: Option<String>,
    latency: Option<String>,
    endpoint: &'a str,
    error: Option<Html>,
    attempts: Option<Phrase>,
    next: Option<Phrase>,
}

#[derive(Template)]
#[template(path = "live/dispatcher_row.html")]
struct Row<'a> {
    t: &'static Texts,
    base: &'a BasePath,
    d: &'a DispatcherState,
    state: &'static str,
    word: &'static str,
    title: Html,
    reason: Phrase,
    /// Who paused it, if the state does not say so.
    held: Option<Phrase>,
    running: Vec<Running>,
    last: Option<Last>,
    next: Option<Html>,
    chart: Html,
    error: Option<Failure>,
    skipped: Option<Phrase>,
    /// The newest run known of: pressing "run now" twice on the same page asks once.
    newest: i64,
    /// How much of the limit is used, of 24 units.
    gauge: u32,
    queued: Option<Phrase>,
    paused: bool,
    can_run: bool,
    can_cancel: bool,
    cancel_warning: String,
}

struct Running {
    execution: i64,
    going: Phrase,
    /// Whether it is known to go on.
    live: bool,
    percent: Option<u8>,
    steps: Option<Phrase>,
    end: Option<Phrase>,
    ending: Option<Phrase>,
}

struct Last {
    execution: i64,
    outcome: &'static str,
    word: &'static str,
    when: Html,
    took: Option<String>,
    /// With how long it usually takes; or that nobody knows how long it took.
    compared: Option<Phrase>,
}

struct Failure {
    execution: i64,
    when: Html,
    head: Html,
    whole: Option<Html>,
}

impl<'a> Row<'a> {
    fn of(d: &'a DispatcherState, live: bool, now: Timestamp, base: &'a BasePath) -> Self {
        let pause = d.pause();
        let median = d.median_duration();
        let newest =
            d.running.iter().map(|run| run.execution.0).chain(d.recent.iter().map(|bar| bar.execution.0)).max();
        let used = u32::try_from(d.running.len()).unwrap_or(u32::MAX);
        let at_stake = d.running.len() as u64 + u64::from(d.queued);
        Self {
            t: EN,
            base,
            d,
            state: d.activity.as_str(),
            word: words::activity(&d.activity),
            title: visible(&d.title),
            reason: reason(d, live, now),
            held: pause
                .as_ref()
                .filter(|_| !matches!(d.activity, Activity::Paused { .. }))
                .map(|pause| EN.paused_by.with("who", &pause.by).markup("when", ago(pause.since))),
            running: d.running.iter().map(|run| Running::of(run, median, live, now)).collect(),
            last: d.last().map(|bar| Last {
                execution: bar.execution.0,
                outcome: bar.outcome.as_str(),
                word: words::outcome(bar.outcome),
                when: ago(bar.finished_at),
                took: bar.duration().map(length),
                compared: match bar.duration() {
                    None => Some(EN.duration_unknown.into()),
                    Some(_) => {
                        median.filter(|_| d.recent.len() > 1).map(|median| EN.usually.with("duration", length(median)))
                    }
                },
            }),
            next: d.next_at.map(|at| if live && !d.stopping { coming(at) } else { due(at, now) }),
            chart: chart::bars(&d.recent, chart::SMALL, base),
            error: d.last_error.as_ref().map(|error| {
                let head: String = error.message.chars().take(ERROR_HEAD).collect();
                let whole = (head.len() < error.message.len()).then(|| visible(&error.message));
                Failure { execution: error.execution.0, when: ago(error.at), head: visible(&head), whole }
            }),
            skipped: (d.skipped > 0).then(|| EN.skipped.count(d.skipped)),
            newest: newest.unwrap_or(0),
            gauge: used.min(d.limit).saturating_mul(24) / d.limit.max(1),
            queued: (d.queued > 0).then(|| EN.queue.count(u64::from(d.queued))),
            paused: pause.is_some(),
            can_run: !matches!(d.activity, Activity::Disabled { .. }),
            can_cancel: at_stake > 0,
            cancel_warning: EN.cancel_warning.count(at_stake).with("name", &d.name).plain(),
        }
    }
}

impl Running {
    /// Whether there is anything to tell of it but that it goes on.
    fn has_more(&self) -> bool {
        self.steps.is_some() || self.end.is_some() || self.ending.is_some()
    }

    fn of(run: &Run, median: Option<Duration>, live: bool, now: Timestamp) -> Self {
        let elapsed = now.since(run.started_at);
        let by_progress = run
            .progress
            .as_ref()
            .filter(|progress| elapsed >= GUESS_AFTER && progress.done > 0 && progress.done < progress.total)
            .map(|progress| {
                let whole = elapsed.as_micros() * u128::from(progress.total) / u128::from(progress.done);
                run.started_at.plus(Duration::from_micros(u64::try_from(whole).unwrap_or(u64::MAX)))
            });
        let by_habit = median
            .filter(|median| by_progress.is_none() && run.progress.is_none() && *median >= GUESS_AFTER)
            .map(|median| EN.usually.with("duration", length(median)));
        Self {
            execution: run.execution.0,
            going: EN.running_for.markup("when", ago(run.started_at)),
            live,
            percent: run.progress.as_ref().map(Progress::percent),
            steps: run.progress.as_ref().map(|progress| match progress.text.as_deref() {
                Some(text) => EN.steps_of.with("done", progress.done).with("total", progress.total).with("text", text),
                None => EN.steps.with("done", progress.done).with("total", progress.total),
            }),
            end: by_progress.map(|at| EN.done_about.markup("when", coming(at))).or(by_habit).filter(|_| live),
            ending: run.cancelled_by.as_deref().map(|who| EN.ending.with("who", who)),
        }
    }
}

/// Why it does what it does, in words: the answer to "why is nothing happening?".
fn reason(d: &DispatcherState, live: bool, now: Timestamp) -> Phrase {
    match (&d.activity, d.next_at) {
        (Activity::Idle, Some(next)) if !live => EN.reason_away.markup("due", due(next, now)),
        (Activity::Failing { next_attempt: Some(at) }, _) if !live => {
            EN.reason_failing_away.count(u64::from(d.failures.max(1))).markup("due", due(*at, now))
        }
        (Activity::Idle, Some(next)) if d.stopping => EN.reason_stopping.markup("due", due(next, now)),
        (Activity::Idle, None) if d.stopping => EN.reason_stopping_told.into(),
        (Activity::Failing { next_attempt: Some(at) }, _) if d.stopping => {
            EN.reason_failing_stopping.count(u64::from(d.failures.max(1))).markup("due", due(*at, now))
        }
        (Activity::Idle, Some(next)) => EN.reason_next.markup("when", coming(next)),
        (Activity::Idle, None) => EN.reason_told.into(),
        (Activity::Queued, _) => EN.reason_queued.count(u64::from(d.queued.max(1))),
        (Activity::Running, _) => EN.reason_running.with("n", d.running.len().max(1)).with("limit", d.limit.max(1)),
        (Activity::Paused { by, since }, _) => EN.reason_paused.with("who", by).markup("when", ago(*since)),
        (Activity::Failing { next_attempt: Some(at) }, _) => {
            EN.reason_failing_next.count(u64::from(d.failures.max(1))).markup("when", coming(*at))
        }
        (Activity::Failing { next_attempt: None }, _) => EN.reason_failing.count(u64::from(d.failures.max(1))),
        (Activity::Overdue { expected_by }, _) => EN.reason_overdue.markup("when", ago(*expected_by)),
        (Activity::Standby { primary }, _) if primary.as_str().is_empty() => EN.reason_unled.into(),
        (Activity::Standby { primary }, _) => EN.reason_standby.with("node", primary),
        (Activity::Disabled { by }, _) => EN.reason_disabled.with("by", by),
    }
}

/// When something was to happen that only the service node can do, and it can't be reached.
fn due(at: Timestamp, now: Timestamp) -> Html {
    let text = if at < now { EN.was_due } else { EN.is_due };
    Html::rendered(format!("<span>{}</span>", text.markup("when", ago(at))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::{ExecutionId, NodeId};
    use crate::messenger::Peer;
    use crate::model::execution::{Cause, Outcome};
    use crate::protocol::state::{Bar, LastError, Origin, Pause};

    const NOW: Timestamp = Timestamp::from_micros(1_795_223_419_000_000);

    fn idle() -> DispatcherState {
        DispatcherState {
            name: "disk-space".into(),
            title: "Disk space".into(),
            description: "Looks at the disks.".into(),
            origin: Origin::Job,
            schedule: "every 5 m".into(),
            activity: Activity::Idle,
            paused: None,
            next_at: Some(NOW.plus(Duration::from_mins(1))),
            running: vec![],
            limit: 1,
            queued: 0,
            recent: vec![],
            last_error: None,
            failures: 0,
            skipped: 0,
            stopping: false,
        }
    }

    #[test]
    fn every_state_says_its_word_and_its_reason() {
        let at = NOW;
        for (activity, expected) in [
            (Activity::Idle, "next <time class=\"ago coming\""),
            (Activity::Queued, "waiting"),
            (Activity::Running, "1 of 1"),
            (Activity::Paused { by: "<Ann>".into(), since: at }, "by &lt;Ann&gt;"),
            (Activity::Failing { next_attempt: Some(at) }, "next attempt <time"),
            (Activity::Failing { next_attempt: None }, "failed once"),
            (Activity::Overdue { expected_by: at }, "expected"),
            (Activity::Standby { primary: NodeId::new("service-2") }, "primary is service-2"),
            (Activity::Standby { primary: NodeId::new("") }, "no node is primary yet"),
            (Activity::Disabled { by: "line 12 of switchboard.toml".into() }, "line 12 of switchboard.toml"),
        ] {
            let state = activity.as_str();
            let row = row_at(&DispatcherState { activity, ..idle() }, true, NOW, &BasePath::default());
            assert!(row.starts_with(&format!("<tr id=\"d-disk-space\" class=\"row state-{state}\"")), "{row}");
            assert!(row.contains(expected), "{state}: {row}");
            assert!(!row.contains("style=") && !row.contains("<script"));
        }
    }

    #[test]
    fn a_node_that_stops_says_so_and_promises_no_run() {
        for (activity, next_at) in [
            (Activity::Idle, Some(NOW.plus(Duration::from_mins(4)))),
            (Activity::Idle, None),
            (Activity::Failing { next_attempt: Some(NOW) }, Some(NOW)),
        ] {
            let row = row_at(
                &DispatcherState { activity, next_at, stopping: true, ..idle() },
                true,
                NOW,
                &BasePath::default(),
            );
            assert!(row.contains("the service is stopping"), "{row}");
            assert!(!row.contains("next <time") && !row.contains("next attempt <time"), "{row}");
        }
    }

    #[test]
    fn a_pause_shows_beside_a_run_that_goes_on_and_offers_to_resume() {
        let pause = Pause { by: "<Ann>".into(), since: NOW };
        for activity in [Activity::Running, Activity::Queued, Activity::Overdue { expected_by: NOW }] {
            let row = row_at(
                &DispatcherState { activity, paused: Some(pause.clone()), ..idle() },
                true,
                NOW,
                &BasePath::default(),
            );
            assert!(row.contains("paused by &lt;Ann&gt; <time"), "{row}");
            assert!(row.contains("/disk-space/resume\"") && !row.contains("/disk-space/pause\""), "{row}");
        }
        let activity = Activity::Paused { by: pause.by.clone(), since: NOW };
        let row = row_at(&DispatcherState { activity, paused: Some(pause), ..idle() }, true, NOW, &BasePath::default());
        assert_eq!(row.matches("&lt;Ann&gt;").count(), 1, "once is enough: {row}");
        let row = row_at(&DispatcherState { activity: Activity::Running, ..idle() }, true, NOW, &BasePath::default());
        assert!(row.contains("/disk-space/pause\"") && !row.contains("/disk-space/resume\""), "{row}");
    }

    #[test]
    fn while_the_service_is_away_no_next_run_is_promised() {
        let row = |activity: &Activity, live, after| {
            let state = DispatcherState { activity: activity.clone(), failures: 2, ..idle() };
            row_at(&state, live, NOW.plus(Duration::from_secs(after)), &BasePath::default())
        };
        assert!(row(&Activity::Idle, true, 0).contains(">next <time"));
        let (early, late) = (row(&Activity::Idle, false, 0), row(&Activity::Idle, false, 90));
        assert!(
            early.contains(">due <time") && early.contains("; the service is away") && !early.contains("next <time")
        );
        assert_eq!(late.matches("was due <time").count(), 2, "as reason and as next run: {late}");
        let failing = row(&Activity::Failing { next_attempt: Some(NOW) }, false, 90);
        assert!(failing.contains("failed 2 times in a row; the next attempt <span>was due <time"), "{failing}");
        assert!(!failing.contains("next attempt <time"), "{failing}");
    }

    #[test]
    fn while_the_service_is_away_nobody_says_that_a_run_goes_on() {
        let run = Run {
            execution: ExecutionId(7),
            cause: Cause::Schedule,
            by: None,
            started_at: NOW,
            progress: None,
            cancelled_by: None,
        };
        let state = DispatcherState { activity: Activity::Running, running: vec![run], ..idle() };
        let (here, away) =
            (row_at(&state, true, NOW, &BasePath::default()), row_at(&state, false, NOW, &BasePath::default()));
        assert!(here.contains("began <time") && !here.contains("not heard of"), "{here}");
        assert!(away.contains("not heard of since the service is away") && !here.contains("service is away"), "{away}");
    }

    #[test]
    fn an_end_is_guessed_only_after_ten_seconds() {
        let mut state = idle();
        let run = |seconds| Run {
            execution: ExecutionId(9),
            cause: Cause::Manual,
            by: Some("ann".into()),
            started_at: NOW.minus(Duration::from_secs(seconds)),
            progress: Some(Progress { done: 1, total: 4, text: Some("<indexing>".into()) }),
            cancelled_by: None,
        };
        state.activity = Activity::Running;
        state.running = vec![run(9)];
        let early = row_at(&state, true, NOW, &BasePath::default());
        assert!(early.contains("1 of 4 · &lt;indexing&gt;") && early.contains("value=\"25\""), "{early}");
        assert!(!early.contains("done about"));
        state.running = vec![run(20)];
        let later = row_at(&state, true, NOW, &BasePath::default());
        let end = NOW.plus(Duration::from_mins(1));
        assert!(later.contains(&format!("done about <time class=\"ago coming\" datetime=\"{end}\"")), "{later}");
    }

    #[test]
    fn what_others_wrote_is_text_and_the_newest_run_guards_the_button() {
        let mut state = idle();
        state.name = "\"><script>alert(1)</script>".into();
        state.title = "\u{202e}evil".into();
        state.recent = vec![Bar {
            execution: ExecutionId(41),
            started_at: NOW,
            finished_at: NOW.plus(Duration::from_millis(1200)),
            outcome: Outcome::Error,
        }];
        state.last_error =
            Some(LastError { execution: ExecutionId(41), at: NOW, message: format!("<img src=x>{}", "y".repeat(200)) });
        let row = row_at(&state, true, NOW, &BasePath::default());
        assert!(!row.contains("<script") && !row.contains("<img") && !row.contains('\u{202e}'), "{row}");
        assert!(row.contains("name=\"after\" value=\"41\""));
        assert!(row.contains("<details"));
    }

    #[test]
    fn the_pill_says_the_cause_and_offers_to_reconnect() {
        let mut link = LinkStatus {
            state: LinkState::Live,
            since: NOW,
            endpoint: "pipe:/data/pipe".into(),
            peer: Some(Peer { node: NodeId::new("service-1"), version: 1 }),
            error: None,
            attempts: 0,
            next_attempt_at: None,
            latency: Some(Duration::from_micros(400)),
        };
        let live = link_pill(&link, &BasePath::default());
        assert!(live.starts_with("<div id=\"link\" class=\"pill link-live\"") && !live.contains("<button"), "{live}");
        link.state = LinkState::Down;
        link.error = Some("key mismatch: <web-2>".into());
        link.attempts = 3;
        let down = link_pill(&link, &BasePath::default());
        assert!(down.contains("key mismatch: &lt;web-2&gt;") && down.contains("3 attempts"), "{down}");
        assert!(down.contains("formaction=\"/messenger/reconnect\""));
        assert!(down.contains("trying now") && down.contains(&format!("since <time datetime=\"{NOW}\"")), "{down}");
    }
}
