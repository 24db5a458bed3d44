//! Bar charts of runs, as SVG with attributes only: height is duration, shape and colour are the outcome.

use std::fmt::Write as _;
use std::time::Duration;

use crate::config::base_path::BasePath;
use crate::model::execution::Outcome;
use crate::protocol::state::Bar;
use crate::web::html::{Html, visible};
use crate::web::moment::{length, utc};
use crate::web::phrase::Fill as _;
use crate::web::texts::EN;
use crate::web::words;

/// How a chart is drawn, in its own units.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Room for so many bars; the newest stand at the right.
    pub(crate) slots: usize,
    /// From one bar to the next.
    pub(crate) step: usize,
    /// Of the bars, without the mark below.
    pub(crate) height: usize,
}

/// In a row of Service Status.
pub(crate) const SMALL: Shape = Shape { slots: crate::protocol::state::BARS, step: 4, height: 24 };

/// On a dispatcher's own page.
pub(crate) const LARGE: Shape = Shape { slots: 100, step: 10, height: 120 };

/// Room below the bars for the marks of runs that did not end normally.
const MARKS: usize = 6;

/// The chart. Bars are links for the mouse, not in the order of tabs; for everybody else it is summed up in words, and the same
/// runs stand in the dispatcher's table.
pub(crate) fn bars(runs: &[Bar], shape: Shape, base: &BasePath) -> Html {
    let Shape { slots, step, height } = shape;
    let runs = &runs[runs.len().saturating_sub(slots)..];
    let longest = runs.iter().filter_map(Bar::duration).max().unwrap_or_default();
    let (width, bar) = (slots * step, step - (step / 4).max(1));
    let mut svg = String::with_capacity(400 + runs.len() * 320);
    let _ = write!(
        svg,
        "<span class=\"unseen\">{label}</span><svg class=\"chart\" aria-hidden=\"true\" viewBox=\"0 0 {width} {total}\" \
         width=\"{width}\" height=\"{total}\">",
        total = height + MARKS,
        label = visible(&summary(runs)).as_str()
    );
    let empty = slots - runs.len();
    if empty > 0 {
        svg.push_str("<path class=\"ticks\" d=\"");
        for slot in 0..empty {
            let _ = write!(svg, "M{} {}h{bar}", slot * step, height - 1);
        }
        svg.push_str("\"/>");
    }
    for (place, run) in runs.iter().enumerate() {
        let x = (empty + place) * step;
        let tall = tallness(run.duration().unwrap_or_default(), longest, height);
        let title = EN
            .bar_title
            .with("n", run.execution)
            .with("outcome", words::outcome(run.outcome))
            .with("duration", run.duration().map_or_else(|| EN.duration_unknown.to_owned(), length))
            .with("when", utc(run.started_at));
        let _ = write!(
            svg,
            "<a href=\"{base}/executions/{id}\" tabindex=\"-1\" data-execution=\"{id}\" class=\"bar bar-{outcome}\">\
             <title>{title}</title><rect class=\"reach\" x=\"{x}\" y=\"0\" width=\"{step}\" height=\"{total}\"/>\
             <rect class=\"fill\" x=\"{x}\" y=\"{y}\" width=\"{bar}\" height=\"{tall}\"/>{mark}</a>",
            id = run.execution,
            outcome = run.outcome.as_str(),
            total = height + MARKS,
            y = height - tall,
            mark = mark(run.outcome, x, bar, height),
        );
    }
    svg.push_str("</svg>");
    Html::rendered(svg)
}

/// At least two units, so that the shortest run is seen; the longest takes all there is.
fn tallness(duration: Duration, longest: Duration, height: usize) -> usize {
    let most = height as u128;
    let part = duration.as_micros() * most / longest.as_micros().max(1);
    usize::try_from(part.clamp(2, most)).unwrap_or(height)
}

/// What stands below the bar of a run that did not end normally.
fn mark(outcome: Outcome, x: usize, bar: usize, height: usize) -> String {
    let (left, top, right) = (x, height + 2, x + bar);
    match outcome {
        Outcome::Normal => String::new(),
        Outcome::Warning => {
            format!("<path class=\"mark\" d=\"M{left} {0}L{right} {0}V{top}Z\"/>", top + 3)
        }
        Outcome::Error => format!("<path class=\"mark\" d=\"M{left} {top}H{right}V{}H{left}Z\"/>", top + 3),
        Outcome::Cancelled | Outcome::Abandoned => {
            format!("<path class=\"mark line\" d=\"M{left} {0}H{right}\"/>", top + 1)
        }
    }
}

/// What the chart shows, in words: how many ended how.
fn summary(runs: &[Bar]) -> String {
    if runs.is_empty() {
        return EN.bars_none.to_owned();
    }
    let counts = [Outcome::Normal, Outcome::Warning, Outcome::Error, Outcome::Cancelled, Outcome::Abandoned]
        .into_iter()
        .filter_map(|outcome| {
            let count = runs.iter().filter(|run| run.outcome == outcome).count();
            (count > 0).then(|| format!("{count} {}", words::outcome(outcome)))
        })
        .collect::<Vec<_>>()
        .join(", ");
    EN.bars_summary.count(runs.len() as u64).with("counts", counts).plain()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::base::id::ExecutionId;

    fn run(id: i64, millis: i64, outcome: Outcome) -> Bar {
        let at = Timestamp::from_micros(1_795_223_419_000_000 + id * 1_000_000);
        Bar {
            execution: ExecutionId(id),
            started_at: at,
            finished_at: Timestamp::from_micros(at.as_micros() + millis * 1000),
            outcome,
        }
    }

    #[test]
    fn height_is_duration_and_every_bar_leads_to_its_run() {
        let svg = bars(&[run(7, 500, Outcome::Normal), run(8, 1_000, Outcome::Error)], SMALL, &BasePath::default());
        let svg = svg.as_str();
        assert!(svg.contains("href=\"/executions/7\"") && svg.contains("href=\"/executions/8\""));
        assert!(
            svg.contains("y=\"12\" width=\"3\" height=\"12\"") && svg.contains("y=\"0\" width=\"3\" height=\"24\"")
        );
        assert!(svg.contains("bar-error") && svg.contains("class=\"mark\""));
        assert!(svg.contains(">Last 2 runs: 1 normal, 1 error<"), "{svg}");
        assert!(!svg.contains("style"));
    }

    #[test]
    fn a_run_of_which_nobody_knows_how_long_it_took_dwarfs_no_other() {
        let svg =
            bars(&[run(7, 500, Outcome::Normal), run(8, 3_600_000, Outcome::Abandoned)], SMALL, &BasePath::default());
        assert!(svg.as_str().contains("y=\"0\" width=\"3\" height=\"24\"") && svg.as_str().contains("height=\"2\""));
        assert!(svg.as_str().contains("#8: abandoned, duration unknown"), "{}", svg.as_str());
    }

    #[test]
    fn the_width_never_changes() {
        let width = |count: i64| {
            let runs: Vec<_> = (0..count).map(|id| run(id, 10, Outcome::Normal)).collect();
            let svg = bars(&runs, SMALL, &BasePath::default()).as_str().to_owned();
            (svg.contains("viewBox=\"0 0 160 30\""), svg.matches("<a ").count())
        };
        assert_eq!([width(0), width(1), width(40), width(90)], [(true, 0), (true, 1), (true, 40), (true, 40)]);
    }
}
