//! The kept log: paging over lives, gaps, filters, and making way.

use std::time::Duration;

use switchboard::base::clock::Timestamp;
use switchboard::base::id::{Cursor, Epoch, ExecutionId, NodeId};
use switchboard::model::execution::{Cause, Outcome};
use switchboard::model::log_entry::{Level, LogEntry, LogGap, Stream};
use switchboard::store::Store;
use switchboard::store::executions::NewExecution;
use switchboard::store::logs::{KeptFilter, KeptRow, KeptSpan};

use super::{Data, at, number};

on_both_databases! {
    a_line_is_read_as_it_was_kept
    pages_go_forward_and_back_over_lives
    rows_of_other_nodes_are_kept_apart
    a_batch_kept_again_adds_only_what_is_new
    rows_are_bounded_by_their_bytes
    a_reader_within_a_gap_still_learns_of_the_rest
    spans_are_bounded_by_when_rows_were_kept
    filters_by_level_source_and_run_let_gaps_through
    old_rows_and_too_many_make_way_and_the_total_stays_true
    a_clock_set_back_keeps_the_order_and_stops_no_purge
}

const FIRST: Epoch = Epoch::from_u64(0xffff);
const SECOND_LIFE: Epoch = Epoch::from_u64(0x1);

fn here() -> NodeId {
    NodeId::new("service-1")
}

fn line(seconds: i64, text: &str) -> LogEntry {
    LogEntry {
        time: at(seconds),
        level: Level::Info,
        source: "disk-space".into(),
        execution: None,
        stream: None,
        text: text.into(),
    }
}

async fn keep(store: &Store, epoch: Epoch, lines: &[(u64, LogEntry)], gaps: &[(Timestamp, LogGap)]) {
    let mut tx = store.begin().await.unwrap();
    tx.keep_rows(&here(), epoch, lines, gaps).await.unwrap();
    tx.commit().await.unwrap();
}

async fn keep_numbers(store: &Store, epoch: Epoch, seqs: impl IntoIterator<Item = u64>) {
    let lines: Vec<_> = seqs.into_iter().map(|seq| (seq, line(0, &format!("line {seq}")))).collect();
    keep(store, epoch, &lines, &[]).await;
}

/// Numbers of lines, and of gaps' first and last.
async fn read(store: &Store, filter: KeptFilter) -> Vec<(Epoch, u64, Option<u64>)> {
    let rows = store.kept_rows(Some(&here()), &filter).await.unwrap();
    rows.into_iter()
        .map(|row| match row {
            KeptRow::Line(line) => (line.epoch, line.seq, None),
            KeptRow::Gap(_, epoch, gap) => (epoch, gap.from, Some(gap.to)),
        })
        .collect()
}

async fn seqs(store: &Store, filter: KeptFilter) -> Vec<u64> {
    read(store, filter).await.into_iter().map(|(_, seq, _)| seq).collect()
}

#[expect(clippy::unnecessary_wraps, reason = "filters take an option")]
fn cursor(epoch: Epoch, seq: u64) -> Option<Cursor> {
    Some(Cursor { epoch, seq })
}

fn newest(limit: u32) -> KeptFilter {
    KeptFilter { limit, ..Default::default() }
}

async fn a_line_is_read_as_it_was_kept(data: Data) {
    let store = data.open().await;
    let mut entry = line(3, "<b>ü\u{202e}' or 1=1");
    entry.level = Level::Error;
    entry.execution = Some(ExecutionId(7));
    entry.stream = Some(Stream::Stderr);
    let mut out = entry.clone();
    out.stream = Some(Stream::Stdout);
    let lines = [(1, entry.clone()), (2, out.clone()), (u64::MAX >> 1, line(4, ""))];
    let gap = LogGap { from: 3, to: 9, by_level: [1, 2, 3, 0, 1] };
    keep(&store, FIRST, &lines, &[(at(3), gap)]).await;
    let rows = store.kept_rows(None, &newest(10)).await.unwrap();
    let KeptRow::Line(first) = &rows[0] else { panic!("{rows:?}") };
    assert_eq!((&first.node, first.epoch, first.seq, &first.entry), (&here(), FIRST, 1, &entry));
    assert!(matches!(&rows[1], KeptRow::Line(line) if line.entry == out));
    assert_eq!(rows[2], KeptRow::Gap(here(), FIRST, gap));
    assert!(matches!(&rows[3], KeptRow::Line(line) if line.seq == u64::MAX >> 1 && line.entry.text.is_empty()));
}

async fn pages_go_forward_and_back_over_lives(data: Data) {
    let store = data.open().await;
    keep_numbers(&store, FIRST, 1..=10).await;
    // a later life has a smaller epoch and starts over with its numbers
    keep_numbers(&store, SECOND_LIFE, 1..=5).await;
    assert_eq!(seqs(&store, newest(4)).await, [2, 3, 4, 5]);
    let all: Vec<u64> = (1..=10).chain(1..=5).collect();
    assert_eq!(seqs(&store, newest(99)).await, all);
    assert!(seqs(&store, newest(0)).await.is_empty());

    let mut forward = Vec::new();
    let mut place = cursor(FIRST, 0);
    loop {
        let page = read(&store, KeptFilter { after: place, ..newest(4) }).await;
        let Some((epoch, seq, _)) = page.last().copied() else { break };
        place = cursor(epoch, seq);
        forward.extend(page.into_iter().map(|(_, seq, _)| seq));
    }
    assert_eq!(forward, all);

    let mut back: Vec<u64> = Vec::new();
    let mut place = None;
    loop {
        let page = read(&store, KeptFilter { before: place, ..newest(4) }).await;
        let Some((epoch, seq, _)) = page.first().copied() else { break };
        place = cursor(epoch, seq);
        back.splice(0..0, page.into_iter().map(|(_, seq, _)| seq));
    }
    assert_eq!(back, all);

    let between = KeptFilter { after: cursor(FIRST, 8), before: cursor(SECOND_LIFE, 3), ..newest(99) };
    assert_eq!(seqs(&store, between).await, [9, 10, 1, 2]);
    assert!(seqs(&store, KeptFilter { after: cursor(SECOND_LIFE, 9), ..newest(9) }).await.is_empty());
    let unknown = KeptFilter { after: cursor(Epoch::from_u64(5), 3), ..newest(2) };
    assert_eq!(seqs(&store, unknown).await, [4, 5], "of a life that nobody knows: the newest");
    let any = KeptFilter { after: cursor(FIRST, u64::MAX), ..newest(2) };
    assert_eq!(seqs(&store, any).await, [1, 2]);
}

async fn rows_of_other_nodes_are_kept_apart(data: Data) {
    let store = data.open().await;
    keep_numbers(&store, FIRST, 1..=2).await;
    let mut tx = store.begin().await.unwrap();
    tx.keep_rows(&NodeId::new("service-2"), SECOND_LIFE, &[(7, line(0, "theirs"))], &[]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(seqs(&store, newest(9)).await, [1, 2]);
    assert_eq!(store.kept_rows(None, &newest(9)).await.unwrap().len(), 3);
    assert_eq!(store.kept_rows(Some(&NodeId::new("service-2")), &newest(9)).await.unwrap().len(), 1);
    assert_eq!(store.kept_rows(Some(&NodeId::new("service-3")), &newest(9)).await.unwrap(), []);
}

async fn a_batch_kept_again_adds_only_what_is_new(data: Data) {
    let store = data.open().await;
    keep_numbers(&store, FIRST, 1..=300).await;
    let total = store.kept_total().await.unwrap();
    keep_numbers(&store, FIRST, 1..=300).await;
    assert_eq!(store.kept_total().await.unwrap(), total);
    keep_numbers(&store, FIRST, (290..=310).chain(305..=305)).await;
    assert_eq!(store.kept_total().await.unwrap().0, 310);
    keep(&store, FIRST, &[], &[]).await;
    let mut raw = data.raw().await;
    assert_eq!(number(&mut raw, "select count(*) from log_rows").await, 310);
    let bytes = number(&mut raw, "select cast(sum(bytes) as bigint) from log_rows").await;
    assert_eq!(store.kept_total().await.unwrap(), (310, bytes.cast_unsigned()));
}

async fn spans_are_bounded_by_when_rows_were_kept(data: Data) {
    let store = data.open().await;
    let other = Epoch::from_u64(0x2);
    for turn in 0..4 {
        keep_numbers(&store, FIRST, turn * 10 + 1..=turn * 10 + 2).await;
        keep_numbers(&store, other, turn * 10 + 5..=turn * 10 + 6).await;
    }
    let span = async |own, after: Option<u64>, upto: Option<u64>, limit| {
        let place = |seq| cursor(FIRST, seq);
        let span = KeptSpan { epoch: FIRST, own, nor: None, after: after.and_then(place), upto: upto.and_then(place) };
        let rows = store.kept_within(span, &newest(limit)).await.unwrap().rows;
        rows.iter().map(|row| if let KeptRow::Line(line) = row { line.seq } else { 0 }).collect::<Vec<_>>()
    };
    assert_eq!(span(false, None, None, 99).await, [5, 6, 15, 16, 25, 26, 35, 36]);
    // a line that was not kept stands for the last one before it
    assert_eq!(span(false, Some(9), Some(25), 99).await, [5, 6, 15, 16]);
    assert_eq!(span(false, Some(11), None, 3).await, [26, 35, 36], "the newest");
    let nor = KeptSpan { epoch: FIRST, own: false, nor: Some(other), after: None, upto: None };
    assert_eq!(store.kept_within(nor, &newest(9)).await.unwrap().rows, []);
    assert_eq!(span(true, Some(9), Some(25), 99).await, [11, 12, 21, 22]);
    assert_eq!(span(true, None, Some(1), 99).await, [1]);
    let filter = KeptFilter { sources: vec!["disk-space".to_owned()], ..newest(2) };
    let of = |epoch| KeptSpan { epoch, own: true, nor: None, after: None, upto: None };
    assert_eq!(store.kept_within(of(other), &filter).await.unwrap().rows.len(), 2);
    let unknown = store.kept_within(of(Epoch::from_u64(9)), &filter).await.unwrap();
    assert_eq!(unknown.rows, [], "of a life that nobody knows");
    let after = |upto| store.kept_after(Cursor { epoch: FIRST, seq: 2 }, upto, 99, usize::MAX);
    assert_eq!(after(cursor(FIRST, 12)).await.unwrap().rows.len(), 4);
    assert_eq!(after(cursor(Epoch::from_u64(9), 12)).await.unwrap().rows.len(), 14);
}

async fn rows_are_bounded_by_their_bytes(data: Data) {
    let store = data.open().await;
    let mut lines: Vec<_> = (1..=9).map(|seq| (seq, line(0, "six by"))).collect();
    lines.iter_mut().filter(|(seq, _)| seq % 3 == 0).for_each(|(_, entry)| entry.source = "other".into());
    keep(&store, FIRST, &lines, &[]).await;
    let filter = |bytes| KeptFilter { bytes: Some(bytes), ..newest(9) };
    assert_eq!(seqs(&store, filter(13)).await, [7, 8, 9], "the last one that begins within them is whole");
    assert_eq!(seqs(&store, KeptFilter { after: cursor(FIRST, 2), ..filter(0) }).await, [3], "one at least");
    // six bytes for each source and for gaps: 8 is the last of one, beyond it 6 of the other would be the next
    let of_both = KeptFilter { sources: vec!["disk-space".to_owned(), "other".to_owned()], ..filter(18) };
    assert_eq!(seqs(&store, of_both).await, [9]);
    let span = KeptSpan { epoch: FIRST, own: true, nor: None, after: None, upto: None };
    let cut = async |bytes, limit| {
        let found = store.kept_within(span, &KeptFilter { limit, ..filter(bytes) }).await.unwrap();
        (found.rows.len(), found.cut)
    };
    assert_eq!((cut(13, 9).await, cut(99, 9).await, cut(99, 2).await), ((3, true), (9, false), (2, false)));
}

async fn a_reader_within_a_gap_still_learns_of_the_rest(data: Data) {
    let store = data.open().await;
    let gap = LogGap { from: 11, to: 19, by_level: [0, 0, 9, 0, 0] };
    let lines: Vec<_> = (1..=10).chain(20..=22).map(|seq| (seq, line(0, "x"))).collect();
    keep(&store, FIRST, &lines, &[(at(0), gap)]).await;
    let after = async |seq| read(&store, KeptFilter { after: cursor(FIRST, seq), ..newest(2) }).await;
    assert_eq!(after(9).await, [(FIRST, 10, None), (FIRST, 11, Some(19))]);
    assert_eq!(after(10).await, [(FIRST, 11, Some(19)), (FIRST, 20, None)]);
    assert_eq!(after(15).await, [(FIRST, 16, Some(19)), (FIRST, 20, None)]);
    assert_eq!(after(19).await, [(FIRST, 20, None), (FIRST, 21, None)]);
}

async fn filters_by_level_source_and_run_let_gaps_through(data: Data) {
    let store = data.open().await;
    let mut tx = store.begin().await.unwrap();
    let new = NewExecution {
        dispatcher: "a".to_owned(),
        cause: Cause::Schedule,
        requested_by: None,
        queued_at: at(0),
        after: None,
        idempotency_key: None,
        retry_of: None,
    };
    data.clock.set(at(10));
    let run = tx.begin_execution(&new, &here(), 1).await.unwrap().unwrap().id;
    tx.finish_execution(run, Outcome::Normal, None, at(20)).await.unwrap();
    tx.commit().await.unwrap();

    let mut lines: Vec<(u64, LogEntry)> = (1..=40_u64).map(|seq| (seq, line(seq.cast_signed(), "x"))).collect();
    for (seq, entry) in &mut lines {
        entry.level = if *seq % 10 == 0 {
            Level::Error
        } else if *seq % 5 == 0 {
            Level::Warn
        } else {
            Level::Info
        };
        entry.source = if *seq % 2 == 0 { "even".into() } else { "odd".into() };
        entry.execution = (12..=18).contains(seq).then_some(run);
    }
    lines.retain(|(seq, _)| ![3, 16, 33].contains(seq));
    let gap = |seq: u64| (at(seq.cast_signed()), LogGap { from: seq, to: seq, by_level: [0, 0, 1, 0, 0] });
    keep(&store, FIRST, &lines, &[gap(3), gap(16), gap(33)]).await;

    let level = |level| KeptFilter { level: Some(level), ..newest(99) };
    assert_eq!(seqs(&store, level(Level::Warn)).await, [3, 5, 10, 15, 16, 20, 25, 30, 33, 35, 40]);
    assert_eq!(seqs(&store, level(Level::Error)).await, [3, 10, 16, 20, 30, 33, 40]);
    assert_eq!(seqs(&store, KeptFilter { limit: 2, ..level(Level::Error) }).await, [33, 40]);
    assert_eq!(seqs(&store, level(Level::Trace)).await.len(), 40);
    let even = KeptFilter { sources: vec!["even".to_owned(), "none".to_owned()], ..level(Level::Error) };
    assert_eq!(seqs(&store, even).await, [3, 10, 16, 20, 30, 33, 40]);
    let odd = KeptFilter { sources: vec!["odd".to_owned()], ..level(Level::Warn) };
    assert_eq!(seqs(&store, odd).await, [3, 5, 15, 16, 25, 33, 35]);

    let of_run = KeptFilter { execution: Some(run), ..newest(99) };
    assert_eq!(seqs(&store, of_run.clone()).await, [12, 13, 14, 15, 16, 17, 18], "with the gap in its time");
    assert_eq!(seqs(&store, KeptFilter { limit: 3, ..of_run.clone() }).await, [16, 17, 18]);
    let first = KeptFilter { after: cursor(FIRST, 0), limit: 2, ..of_run };
    assert_eq!(seqs(&store, first).await, [12, 13]);
    let unknown = KeptFilter { execution: Some(ExecutionId(99)), ..newest(99) };
    assert!(seqs(&store, unknown).await.is_empty());
}

async fn old_rows_and_too_many_make_way_and_the_total_stays_true(data: Data) {
    let store = data.open().await;
    let lines: Vec<_> = (1..=5000_u64).map(|seq| (seq, line(seq.cast_signed(), "0123456789"))).collect();
    keep(&store, FIRST, &lines, &[]).await;
    let (rows, bytes) = store.kept_total().await.unwrap();
    let each = bytes / rows;
    let purge = async |age, bytes, now| {
        let mut tx = store.begin().await.unwrap();
        let gone = tx.purge_rows(age, bytes, now).await.unwrap();
        tx.commit().await.unwrap();
        gone
    };
    assert_eq!(purge(Duration::from_secs(5000), u64::MAX, at(5001)).await, 0);
    assert_eq!(purge(Duration::from_secs(2000), u64::MAX, at(5000)).await, 2999);
    assert_eq!(seqs(&store, KeptFilter { after: cursor(FIRST, 0), ..newest(1) }).await, [3000]);
    assert_eq!(purge(Duration::from_mins(150), each * 100, at(5000)).await, 1901);
    assert_eq!(seqs(&store, newest(999)).await, (4901..=5000).collect::<Vec<_>>());
    assert_eq!(store.kept_total().await.unwrap(), (100, each * 100));
    assert_eq!(purge(Duration::from_mins(150), 0, at(5000)).await, 100);
    assert_eq!(store.kept_total().await.unwrap(), (0, 0));
    assert_eq!(purge(Duration::ZERO, 0, at(5000)).await, 0);

    // a cursor into a life whose rows are gone goes on with the next one
    keep_numbers(&store, SECOND_LIFE, 1..=3).await;
    assert_eq!(seqs(&store, KeptFilter { after: cursor(FIRST, 4000), ..newest(2) }).await, [1, 2]);
}

async fn a_clock_set_back_keeps_the_order_and_stops_no_purge(data: Data) {
    let store = data.open().await;
    let lines = [(1, line(7200, "before")), (2, line(3600, "set back")), (3, line(3601, "after"))];
    keep(&store, FIRST, &lines, &[]).await;
    assert_eq!(seqs(&store, newest(9)).await, [1, 2, 3]);
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.purge_rows(Duration::from_mins(1), u64::MAX, at(3700)).await.unwrap(), 2);
    tx.commit().await.unwrap();
    assert_eq!(seqs(&store, newest(9)).await, [1]);
}
