//! Kept log lines: how they are written, many at once, and how the oldest make way.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::base::id::{Epoch, NodeId};
use crate::model::log_entry::{LogEntry, LogGap};
use crate::store::error::Error;
use crate::store::logs::{GAP_LEVEL, stream_number, write_counts};
use crate::store::sql::{self, Query};
use crate::store::{Transaction, cutoff};

/// How many rows go in one statement: the largest that fits first, so that few statement texts serve every number of rows.
const SIZES: [usize; 4] = [256, 64, 8, 1];

/// What a row takes on the disk besides its texts, in bytes: its numbers and its places in the indexes.
const ROW_BYTES: usize = 64;

/// The most rows that one call of [`Transaction::purge_rows`] deletes: others want to write, too.
pub const MOST_PURGED: u64 = 100_000;

/// Rows looked at in one go while purging.
const PURGE_STEP: i64 = 2_000;

/// Lives of nodes that are remembered though no row of theirs is left, so that a cursor into them still has its place.
const LIVES_KEPT: i64 = 1_000;

const COLUMNS: usize = 10;

static STATEMENTS: LazyLock<[String; SIZES.len()]> = LazyLock::new(|| SIZES.map(statement));

fn statement(rows: usize) -> String {
    let mut text = String::from(
        "insert into log_rows (life, seq, at, level, source, execution, stream, gap_to, bytes, text) values ",
    );
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..COLUMNS {
            let _ = write!(text, "{}${}", if column == 0 { "" } else { ", " }, row * COLUMNS + column + 1);
        }
        text.push(')');
    }
    text.push_str(" on conflict (life, seq) do nothing");
    text
}

/// A line or a gap about to be written.
enum NewRow<'a> {
    Line(u64, &'a LogEntry),
    Gap(Timestamp, &'a LogGap),
}

impl NewRow<'_> {
    const fn seq(&self) -> u64 {
        match self {
            Self::Line(seq, _) => *seq,
            Self::Gap(_, gap) => gap.from,
        }
    }

    fn bytes(&self) -> i64 {
        let bytes = match self {
            // the source stands in the row and in an index
            Self::Line(_, entry) => entry.text.len() + 2 * entry.source.len() + ROW_BYTES,
            Self::Gap(..) => 2 * ROW_BYTES,
        };
        i64::try_from(bytes).unwrap_or(i64::MAX)
    }
}

fn bind<'q>(query: Query<'q>, life: i64, row: &NewRow<'q>) -> Query<'q> {
    let query = query.bind(life).bind(row.seq().cast_signed());
    let query = match row {
        NewRow::Line(_, entry) => query
            .bind(entry.time.as_micros())
            .bind(i64::from(entry.level.index()))
            .bind(&*entry.source)
            .bind(entry.execution.map(|id| id.0))
            .bind(entry.stream.map(stream_number))
            .bind(None::<i64>),
        NewRow::Gap(at, gap) => query
            .bind(at.as_micros())
            .bind(GAP_LEVEL)
            .bind("")
            .bind(None::<i64>)
            .bind(None::<i64>)
            .bind(gap.to.cast_signed()),
    };
    let query = query.bind(row.bytes());
    match row {
        NewRow::Line(_, entry) => query.bind(&*entry.text),
        NewRow::Gap(_, gap) => query.bind(write_counts(&gap.by_level)),
    }
}

impl Transaction {
    /// Keeps these, in few statements. Rows kept before are left as they are, so that a batch may be kept again after a
    /// failure. Calls come in the order of the log: a gap no later than the lines after it.
    pub async fn keep_rows(
        &mut self,
        node: &NodeId,
        epoch: Epoch,
        lines: &[(u64, LogEntry)],
        gaps: &[(Timestamp, LogGap)],
    ) -> Result<(), Error> {
        let mut rows: Vec<NewRow<'_>> = lines.iter().map(|(seq, entry)| NewRow::Line(*seq, entry)).collect();
        rows.extend(gaps.iter().map(|(at, gap)| NewRow::Gap(*at, gap)));
        rows.sort_by_key(NewRow::seq);
        rows.dedup_by_key(|row| row.seq());
        let (Some(first), Some(last)) = (rows.first().map(NewRow::seq), rows.last().map(NewRow::seq)) else {
            return Ok(());
        };
        let life = self.life(node, epoch).await?;
        let kept: Vec<i64> = sql::query_scalar("select seq from log_rows where life = $1 and seq between $2 and $3")
            .bind(life)
            .bind(first.cast_signed())
            .bind(last.cast_signed())
            .fetch_all(self.write_quietly())
            .await?;
        if !kept.is_empty() {
            let kept: HashSet<u64> = kept.into_iter().map(i64::cast_unsigned).collect();
            rows.retain(|row| !kept.contains(&row.seq()));
        }
        let mut rest = &rows[..];
        for (size, text) in SIZES.into_iter().zip(STATEMENTS.iter()) {
            while let Some((batch, after)) = rest.split_at_checked(size) {
                let query = batch.iter().fold(sql::query(text.as_str()), |query, row| bind(query, life, row));
                query.execute(self.write_quietly()).await?;
                rest = after;
            }
        }
        let bytes = rows.iter().map(NewRow::bytes).sum();
        self.count_rows(i64::try_from(rows.len()).unwrap_or(i64::MAX), bytes).await
    }

    /// Deletes rows older than `age`, and the oldest until the rest takes at most `bytes`. How many went: at most
    /// [`MOST_PURGED`]; call again (in another transaction) while it was as many.
    ///
    /// Only the oldest rows are looked at: where the clock was set back, a row may stay until its elders go.
    pub async fn purge_rows(&mut self, age: Duration, bytes: u64, now: Timestamp) -> Result<u64, Error> {
        let mut gone = self.purge_old_rows(cutoff(now, age)).await?;
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        while gone < MOST_PURGED {
            let total: i64 = sql::query_scalar("select bytes from log_total").fetch_one(self.write_quietly()).await?;
            if total <= bytes {
                break;
            }
            let deleted = self.purge_oldest_rows(total - bytes).await?;
            if deleted == 0 {
                break;
            }
            gone += deleted;
        }
        sql::query(
            "delete from log_lives where id <= (select max(id) from log_lives) - $1
                and not exists (select 1 from log_rows where life = log_lives.id)",
        )
        .bind(LIVES_KEPT)
        .execute(self.write_quietly())
        .await?;
        Ok(gone)
    }

    async fn life(&mut self, node: &NodeId, epoch: Epoch) -> Result<i64, Error> {
        let epoch = epoch.to_string();
        sql::query("insert into log_lives (node, epoch) values ($1, $2) on conflict (epoch, node) do nothing")
            .bind(node.as_str())
            .bind(&epoch)
            .execute(self.write_quietly())
            .await?;
        let life = sql::query_scalar("select id from log_lives where epoch = $1 and node = $2")
            .bind(&epoch)
            .bind(node.as_str())
            .fetch_one(self.write_quietly())
            .await?;
        Ok(life)
    }

    /// Deletes rows written before `limit`, step by step from the oldest on, until a step holds none.
    async fn purge_old_rows(&mut self, limit: i64) -> Result<u64, Error> {
        let mut gone = 0;
        let mut above = 0;
        while gone < MOST_PURGED {
            let (last, old, bytes): (Option<i64>, i64, i64) = sql::query_as(
                "select max(id), cast(coalesce(sum(case when at < $2 then 1 else 0 end), 0) as bigint),
                    cast(coalesce(sum(case when at < $2 then bytes else 0 end), 0) as bigint)
                 from (select id, at, bytes from log_rows where id > $1 order by id limit $3) as step",
            )
            .bind(above)
            .bind(limit)
            .bind(PURGE_STEP)
            .fetch_one(self.write_quietly())
            .await?;
            let Some(last) = last.filter(|_| old > 0) else { break };
            let deleted = sql::query("delete from log_rows where id > $1 and id <= $2 and at < $3")
                .bind(above)
                .bind(last)
                .bind(limit)
                .execute(self.write_quietly())
                .await?;
            self.count_rows(-old, -bytes).await?;
            gone += deleted.rows_affected();
            above = last;
        }
        Ok(gone)
    }

    /// Deletes the oldest rows, at most [`PURGE_STEP`], until they make up `excess` bytes.
    async fn purge_oldest_rows(&mut self, excess: i64) -> Result<u64, Error> {
        let rows: Vec<(i64, i64)> = sql::query_as("select id, bytes from log_rows order by id limit $1")
            .bind(PURGE_STEP)
            .fetch_all(self.write_quietly())
            .await?;
        let (mut count, mut sum, mut last) = (0, 0, 0);
        for (id, bytes) in rows {
            count += 1;
            sum += bytes;
            last = id;
            if sum >= excess {
                break;
            }
        }
        let deleted =
            sql::query("delete from log_rows where id <= $1").bind(last).execute(self.write_quietly()).await?;
        self.count_rows(-count, -sum).await?;
        Ok(deleted.rows_affected())
    }

    async fn count_rows(&mut self, rows: i64, bytes: i64) -> Result<(), Error> {
        sql::query("update log_total set row_count = row_count + $1, bytes = bytes + $2")
            .bind(rows)
            .bind(bytes)
            .execute(self.write_quietly())
            .await?;
        Ok(())
    }
}
