//! Log lines as pages show them: the last ones on Service Status, a run's output on its page.

use serde::Deserialize;

use crate::base::id::{Cursor, Epoch};
use crate::live::filter::LineFilter;
use crate::live::hub::Lines;
use crate::model::log_entry::{Level, LogEntry, LogGap, Stream};
use crate::store::logs::KeptRow;
use crate::web::html::{Html, visible, visible_with_colours};
use crate::web::moment::clock;
use crate::web::phrase::{Fill as _, Phrase};
use crate::web::texts::EN;
use crate::web::viewer::wire::Wish;
use crate::web::viewer::wish;

/// The log's filter as it stands in the page's address.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LogQuery {
    pub(crate) level: String,
    pub(crate) source: String,
    pub(crate) q: String,
    pub(crate) inverse: String,
    pub(crate) execution: String,
}

impl LogQuery {
    /// The level and above that is asked for; info if none is.
    pub(crate) fn level(&self) -> Level {
        self.level.parse().unwrap_or(Level::Info)
    }

    /// Whether anything is filtered but the level.
    pub(crate) fn is_narrow(&self) -> bool {
        !(self.source.is_empty() && self.q.is_empty() && self.execution.is_empty())
    }

    /// The filter, and what is wrong with the search if it can't be used (then it is left out). The same rules as a socket's.
    pub(crate) fn filter(&self) -> (LineFilter, Option<Phrase>) {
        let mut wish = Wish {
            level: Some(self.level().as_str().to_owned()),
            sources: self.source.split(',').filter(|source| !source.is_empty()).map(str::to_owned).collect(),
            q: (!self.q.is_empty()).then(|| self.q.clone()),
            inverse: self.inverse == "1",
            execution: self.execution.parse().ok(),
        };
        match wish::check(&wish) {
            Ok(wanted) => (wanted.filter, None),
            Err(wrong) => {
                wish.q = None;
                wish.sources.retain(|_| wrong.field != "source");
                let filter = wish::check(&wish).map(|wanted| wanted.filter).unwrap_or_default();
                (filter, Some(EN.search_bad.with("why", wrong.text)))
            }
        }
    }
}

/// A row of a log.
pub(crate) enum LogRow {
    Line(LineRow),
    Gap(Phrase),
    Restart,
}

/// A line of a log.
pub(crate) struct LineRow {
    pub(crate) epoch: Epoch,
    pub(crate) seq: u64,
    pub(crate) millis: i64,
    pub(crate) level: &'static str,
    pub(crate) source: Html,
    /// The same, as it is: for choosing by.
    pub(crate) source_name: String,
    pub(crate) execution: Option<i64>,
    pub(crate) stream: Option<&'static str>,
    pub(crate) time: Html,
    pub(crate) text: Html,
}

impl LineRow {
    fn of(epoch: Epoch, seq: u64, entry: &LogEntry) -> Self {
        Self {
            epoch,
            seq,
            millis: entry.time.as_millis(),
            level: entry.level.as_str(),
            source: visible(&entry.source),
            source_name: entry.source.to_string(),
            execution: entry.execution.map(|id| id.0),
            stream: entry.stream.map(|stream| match stream {
                Stream::Stdout => "stdout",
                Stream::Stderr => "stderr",
            }),
            time: clock(entry.time),
            text: visible_with_colours(&entry.text),
        }
    }
}

/// What the hub gave, as rows.
pub(crate) fn of_hub(lines: &Lines) -> Vec<LogRow> {
    let Some(epoch) = lines.epoch else { return Vec::new() };
    let restart = lines.restart.iter().map(|_| LogRow::Restart);
    let gap = lines.gap.iter().map(|gap| LogRow::Gap(gap_text(gap)));
    restart
        .chain(gap)
        .chain(lines.lines.iter().map(|(seq, entry, _)| LogRow::Line(LineRow::of(epoch, *seq, entry))))
        .collect()
}

/// What the database kept, as rows; where another life of the node begins, a row says so.
pub(crate) fn of_kept(rows: &[KeptRow]) -> Vec<LogRow> {
    let mut shown = Vec::with_capacity(rows.len() + 1);
    let mut before = None;
    for row in rows {
        let of = match row {
            KeptRow::Line(line) => (&line.node, line.epoch),
            KeptRow::Gap(node, epoch, _) => (node, *epoch),
        };
        if before.is_some_and(|before| before != of) {
            shown.push(LogRow::Restart);
        }
        before = Some(of);
        shown.push(match row {
            KeptRow::Line(line) => LogRow::Line(LineRow::of(line.epoch, line.seq, &line.entry)),
            KeptRow::Gap(_, _, gap) => LogRow::Gap(gap_text(gap)),
        });
    }
    shown
}

/// The place after the last line shown, from which a socket goes on; none before the first.
pub(crate) fn end_of(rows: &[LogRow]) -> Option<Cursor> {
    rows.iter().rev().find_map(|row| match row {
        LogRow::Line(line) => Some(Cursor { epoch: line.epoch, seq: line.seq }),
        LogRow::Gap(_) | LogRow::Restart => None,
    })
}

fn gap_text(gap: &LogGap) -> Phrase {
    let lost = gap.to.saturating_sub(gap.from).saturating_add(1);
    let levels = Level::ALL
        .into_iter()
        .rev()
        .filter_map(|level| {
            let count = gap.by_level[usize::from(level.index())];
            (count > 0).then(|| format!("{count} {level}"))
        })
        .collect::<Vec<_>>()
        .join(", ");
    let text = if levels.is_empty() { EN.gap } else { EN.gap_levels };
    text.count(lost).with("from", gap.from).with("to", gap.to).with("levels", levels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::base::id::NodeId;
    use crate::model::log_entry::LogLine;

    fn kept(epoch: u64, seq: u64, text: &str) -> KeptRow {
        KeptRow::Line(LogLine {
            node: NodeId::new("service-1"),
            epoch: Epoch::from_u64(epoch),
            seq,
            entry: LogEntry {
                time: Timestamp::from_micros(1),
                level: Level::Warn,
                source: "<s>".into(),
                execution: None,
                stream: Some(Stream::Stderr),
                text: text.into(),
            },
        })
    }

    #[test]
    fn a_line_is_text_whatever_it_holds() {
        let rows = of_kept(&[kept(1, 1, "<script>\u{202e}\u{1b}[31mred")]);
        let [LogRow::Line(line)] = rows.as_slice() else { panic!("one line") };
        assert_eq!(line.source.as_str(), "&lt;s&gt;");
        assert_eq!(
            line.text.as_str(),
            "&lt;script&gt;<span class=\"ctrl\">⟦U+202E⟧</span><span class=\"ansi-fg-1\">red</span>"
        );
    }

    #[test]
    fn another_life_of_the_node_is_a_row_and_the_end_is_the_last_line() {
        let rows = of_kept(&[kept(1, 7, "a"), kept(2, 1, "b")]);
        assert!(matches!(rows.as_slice(), [LogRow::Line(_), LogRow::Restart, LogRow::Line(_)]));
        assert_eq!(end_of(&rows), Some(Cursor { epoch: Epoch::from_u64(2), seq: 1 }));
        assert_eq!(end_of(&[]), None);
    }

    #[test]
    fn a_gap_counts_what_is_lost_by_level() {
        let gap = LogGap { from: 5, to: 9, by_level: [0, 0, 3, 0, 2] };
        assert_eq!(gap_text(&gap).plain(), "5 lines are missing here (5 to 9): 2 error, 3 info");
    }

    #[test]
    fn a_bad_search_is_said_and_left_out() {
        let query = |q: &str| LogQuery { q: q.to_owned(), ..LogQuery::default() }.filter();
        let (filter, fault) = query("(");
        assert!(filter.search.is_none() && fault.unwrap().plain().contains("unclosed"));
        assert!(query(&"x".repeat(300)).1.is_some());
        assert!(query("a{1000}{1000}{1000}").1.is_some(), "one that would take too much memory");
        assert!(query("disk|cpu").0.search.unwrap().is_match("DISK"), "small letters match any");
    }
}
