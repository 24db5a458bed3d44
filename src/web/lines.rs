//! Log lines as pages show them: the last ones on Service Status, a run's output on its page.

use serde::Deserialize;

use crate::base::id::{Epoch, NodeId};
use crate::live::filter::{LineFilter, Missed};
use crate::live::kept::Piece;
use crate::live::life::{Restart, Turn};
use crate::live::read::Lines;
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
    Gap(GapRow),
    Restart(RestartRow),
}

/// Where lines of another life begin.
pub(crate) struct RestartRow {
    pub(crate) epoch: Epoch,
    pub(crate) restart: Restart,
}

impl RestartRow {
    /// In words.
    pub(crate) fn text(&self) -> String {
        turn(&self.restart).unwrap_or_else(|| EN.restart.to_owned())
    }
}

/// That another node's lines begin, in words; none if it is the same node, or nobody knows.
pub(crate) fn turn(restart: &Restart) -> Option<String> {
    let (text, node, before) = match restart.turn() {
        Turn::Again => return None,
        Turn::Primary { node, before } => (EN.turn_primary, node, before),
        Turn::Lines { node, before } => (EN.turn_lines, node, before),
    };
    Some(text.with("node", node).with("before", before).plain())
}

/// Lines of a log that can't be had any more.
pub(crate) struct GapRow {
    pub(crate) epoch: Epoch,
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// How many of them could have been wanted.
    pub(crate) missed: Missed,
    /// Whether more is filtered than can be told of a lost line.
    pub(crate) narrow: bool,
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

/// Rows in the making: gaps with nothing between them become one, those that could hold nothing wanted none.
struct Rows<'a> {
    rows: Vec<LogRow>,
    filter: &'a LineFilter,
}

impl Rows<'_> {
    fn line(&mut self, epoch: Epoch, seq: u64, entry: &LogEntry) {
        self.rows.push(LogRow::Line(LineRow::of(epoch, seq, entry)));
    }

    fn lose(&mut self, epoch: Epoch, gap: &LogGap) {
        let missed = self.filter.missed(gap);
        match self.rows.last_mut() {
            _ if missed.count() == 0 => {}
            Some(LogRow::Gap(before)) if before.epoch == epoch => {
                before.to = gap.to;
                before.missed.add(&missed);
            }
            _ => self.rows.push(LogRow::Gap(GapRow {
                epoch,
                from: gap.from,
                to: gap.to,
                missed,
                narrow: self.filter.is_narrow(),
            })),
        }
    }
}

/// The newest lines, kept ones and those the hub holds, as rows.
pub(crate) fn of_newest(older: &[Piece], held: &Lines, filter: &LineFilter) -> Vec<LogRow> {
    let mut rows = Rows { rows: Vec::with_capacity(older.len() + held.lines.len() + 1), filter };
    for piece in older {
        match piece {
            Piece::Line(line) => rows.line(line.epoch, line.seq, &line.entry),
            Piece::Gap(epoch, gap) => rows.lose(*epoch, gap),
            Piece::Restart(epoch, restart) => {
                rows.rows.push(LogRow::Restart(RestartRow { epoch: *epoch, restart: restart.clone() }));
            }
            Piece::Hidden(..) => {}
        }
    }
    if let Some(epoch) = held.epoch {
        held.gap.iter().for_each(|gap| rows.lose(epoch, gap));
        held.lines.iter().for_each(|(seq, entry, _)| rows.line(epoch, *seq, entry));
    }
    rows.rows
}

/// What the database kept, as rows; where another life of the node begins, a row says so.
pub(crate) fn of_kept(kept: &[KeptRow], filter: &LineFilter) -> Vec<LogRow> {
    let mut rows = Rows { rows: Vec::with_capacity(kept.len() + 1), filter };
    let mut before = None;
    for row in kept {
        let of = match row {
            KeptRow::Line(line) => (&line.node, line.epoch),
            KeptRow::Gap(node, epoch, _) => (node, *epoch),
        };
        if let Some((node, _)) = before.replace(of).filter(|before| *before != of) {
            let (before, node): (&NodeId, &NodeId) = (node, of.0);
            let restart = Restart { before: Some(before.clone()), node: Some(node.clone()), ..Restart::default() };
            rows.rows.push(LogRow::Restart(RestartRow { epoch: of.1, restart }));
        }
        match row {
            KeptRow::Line(line) => rows.line(line.epoch, line.seq, &line.entry),
            KeptRow::Gap(_, epoch, gap) => rows.lose(*epoch, gap),
        }
    }
    rows.rows
}

impl GapRow {
    /// All of a gap, whatever was wanted.
    pub(crate) fn of(epoch: Epoch, gap: &LogGap) -> Self {
        Self { epoch, from: gap.from, to: gap.to, missed: Missed::of(gap), narrow: false }
    }

    /// How many of each level, as scripts read it.
    pub(crate) fn counts(&self) -> String {
        self.missed.by_level.map(|count| count.to_string()).join(" ")
    }

    /// In words.
    pub(crate) fn text(&self) -> Phrase {
        let known = Level::ALL.into_iter().zip(self.missed.by_level).rev().filter(|(_, count)| *count > 0);
        let mut levels: Vec<String> = known.map(|(level, count)| format!("{count} {level}")).collect();
        if self.missed.unknown > 0 {
            levels.push(EN.gap_unknown.with("n", self.missed.unknown).plain());
        }
        let levels = levels.join(", ");
        let text = EN.gap.count(self.missed.count()).with("from", self.from).with("to", self.to).with("levels", levels);
        if self.narrow { EN.gap_narrow.with("gap", text.plain()) } else { text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
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
        let rows = of_kept(&[kept(1, 1, "<script>\u{202e}\u{1b}[31mred")], &LineFilter::default());
        let [LogRow::Line(line)] = rows.as_slice() else { panic!("one line") };
        assert_eq!(line.source.as_str(), "&lt;s&gt;");
        assert_eq!(
            line.text.as_str(),
            "&lt;script&gt;<span class=\"ctrl\">⟦U+202E⟧</span><span class=\"ansi-fg-1\">red</span>"
        );
    }

    #[test]
    fn another_life_of_the_node_is_a_row() {
        let rows = of_kept(&[kept(1, 7, "a"), kept(2, 1, "b")], &LineFilter::default());
        assert!(matches!(rows.as_slice(), [LogRow::Line(_), LogRow::Restart(_), LogRow::Line(_)]));
    }

    #[test]
    fn gaps_are_counted_by_level_joined_and_left_out_where_nothing_wanted_is_lost() {
        let lost = |from, to, by_level| {
            KeptRow::Gap(NodeId::new("service-1"), Epoch::from_u64(1), LogGap { from, to, by_level })
        };
        let rows = [
            lost(5, 9, [0, 0, 3, 0, 2]),
            lost(10, 12, [0, 0, 2, 0, 0]),
            kept(1, 13, "x"),
            lost(14, 14, [0, 0, 1, 0, 0]),
        ];
        let told = |level| {
            let shown = of_kept(&rows, &LineFilter { level, ..LineFilter::default() });
            let gaps =
                shown.iter().filter_map(|row| if let LogRow::Gap(gap) = row { Some(gap.text().plain()) } else { None });
            gaps.collect::<Vec<_>>()
        };
        assert_eq!(
            told(None),
            [
                "8 lines can't be had any more (5 to 12): 2 error, 5 info, 1 of a level that nobody knows",
                "1 line can't be had any more (14 to 14): 1 info"
            ]
        );
        let errors = "3 lines can't be had any more (5 to 12): 2 error, 1 of a level that nobody knows";
        assert_eq!(told(Some(Level::Error)), [errors]);
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
