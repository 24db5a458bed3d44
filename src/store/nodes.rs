//! Nodes and their heartbeats.

use std::fmt;

use sqlx::FromRow;

use crate::base::clock::Timestamp;
use crate::base::id::NodeId;
use crate::model::node::Node;
use crate::store::error::Error;
use crate::store::sql;
use crate::store::{Store, Transaction};

#[derive(FromRow)]
struct Row {
    id: String,
    role: String,
    host: String,
    version: String,
    pid: i64,
    started_at: i64,
    heartbeat_at: i64,
    stopped_at: Option<i64>,
    key_fingerprint: Option<String>,
    address: Option<String>,
    address_override: Option<String>,
    id_file: Option<String>,
}

impl TryFrom<Row> for Node {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        Ok(Self {
            id: NodeId::new(row.id),
            role: row.role.parse().map_err(Error::unreadable)?,
            host: row.host,
            version: row.version,
            pid: u32::try_from(row.pid).unwrap_or(0),
            started_at: Timestamp::from_micros(row.started_at),
            heartbeat_at: Timestamp::from_micros(row.heartbeat_at),
            stopped_at: row.stopped_at.map(Timestamp::from_micros),
            key_fingerprint: row.key_fingerprint,
            address: row.address,
            address_override: row.address_override,
            id_file: row.id_file,
        })
    }
}

/// What became of a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beat {
    /// It is written.
    Written,
    /// The node is not known: somebody removed it.
    Unknown,
    /// Another process is this node now, and nothing is written.
    Replaced(Double),
}

/// Another process that is the same node.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Double {
    id: String,
    host: String,
    pid: i64,
}

impl fmt::Display for Double {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, host, pid } = self;
        write!(
            f,
            "process {pid} on {host} is {id} now, and two processes can't be one node: most likely a data directory was copied. \
             In the copy remove the file that holds the id (node-….id) and start again: a new id is made"
        )
    }
}

impl Store {
    /// All, by id.
    pub async fn nodes(&self) -> Result<Vec<Node>, Error> {
        let rows: Vec<Row> = sql::query_as(
            "select id, role, host, version, pid, started_at, heartbeat_at, stopped_at, key_fingerprint, address,
                address_override, id_file
             from nodes order by id",
        )
        .fetch_all(self.read())
        .await?;
        rows.into_iter().map(Node::try_from).collect()
    }
}

impl Transaction {
    /// A node starts: this is what it is now. What an administrator said about its address stays. If another process is this node,
    /// that one finds out with its next beat.
    pub async fn register_node(&mut self, node: &Node) -> Result<(), Error> {
        sql::query(
            "insert into nodes
                (id, role, host, version, pid, started_at, heartbeat_at, stopped_at, key_fingerprint, address,
                 id_file)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
             on conflict (id) do update set
                role = excluded.role, host = excluded.host, version = excluded.version, pid = excluded.pid,
                started_at = excluded.started_at, heartbeat_at = excluded.heartbeat_at,
                stopped_at = excluded.stopped_at, key_fingerprint = excluded.key_fingerprint,
                address = excluded.address, id_file = excluded.id_file",
        )
        .bind(node.id.as_str())
        .bind(node.role.as_str())
        .bind(&node.host)
        .bind(&node.version)
        .bind(i64::from(node.pid))
        .bind(node.started_at.as_micros())
        .bind(node.heartbeat_at.as_micros())
        .bind(node.stopped_at.map(Timestamp::as_micros))
        .bind(&node.key_fingerprint)
        .bind(&node.address)
        .bind(&node.id_file)
        .execute(self.write())
        .await?;
        Ok(())
    }

    /// Its process, which has its id from this file, lives and uses the messenger key of this fingerprint. Others are told only if
    /// the key is another one. One that said that it stops stays stopped.
    pub async fn beat_node(
        &mut self,
        id: &NodeId,
        id_file: Option<&str>,
        key_fingerprint: Option<&str>,
        at: Timestamp,
    ) -> Result<Beat, Error> {
        let same = sql::query(
            "update nodes set heartbeat_at = $2
             where id = $1 and id_file is not distinct from $4 and key_fingerprint is not distinct from $3",
        )
        .bind(id.as_str())
        .bind(at.as_micros())
        .bind(key_fingerprint)
        .bind(id_file)
        .execute(self.write_quietly())
        .await?;
        if same.rows_affected() > 0 {
            return Ok(Beat::Written);
        }
        let other_key = sql::query(
            "update nodes set heartbeat_at = $2, key_fingerprint = $3 where id = $1 and id_file is not distinct from $4",
        )
        .bind(id.as_str())
        .bind(at.as_micros())
        .bind(key_fingerprint)
        .bind(id_file)
        .execute(self.write_quietly())
        .await?;
        if other_key.rows_affected() > 0 {
            self.notable = true;
            return Ok(Beat::Written);
        }
        let other: Option<Double> = sql::query_as("select id, host, pid from nodes where id = $1")
            .bind(id.as_str())
            .fetch_optional(self.write_quietly())
            .await?;
        Ok(other.map_or(Beat::Unknown, Beat::Replaced))
    }

    /// Its process, which has its id from this file, stops.
    pub async fn stop_node(&mut self, id: &NodeId, id_file: Option<&str>, at: Timestamp) -> Result<(), Error> {
        sql::query("update nodes set stopped_at = $2 where id = $1 and id_file is not distinct from $3")
            .bind(id.as_str())
            .bind(at.as_micros())
            .bind(id_file)
            .execute(self.write())
            .await?;
        Ok(())
    }

    /// When it last gave a sign of life, as far as rows tell: its heartbeat, its end, or the last line kept of it. None if it is
    /// not known. Of use before it registers again.
    pub async fn last_sign_of_life(&mut self, id: &NodeId) -> Result<Option<Timestamp>, Error> {
        let beat: Option<(i64, Option<i64>)> =
            sql::query_as("select heartbeat_at, stopped_at from nodes where id = $1")
                .bind(id.as_str())
                .fetch_optional(self.write())
                .await?;
        let line: Option<i64> = sql::query_scalar(
            "select at from log_rows where life = (select max(id) from log_lives where node = $1)
             order by seq desc limit 1",
        )
        .bind(id.as_str())
        .fetch_optional(self.write())
        .await?;
        let beats = beat.into_iter().flat_map(|(beat, stop)| [Some(beat), stop]).flatten();
        Ok(beats.chain(line).max().map(Timestamp::from_micros))
    }

    /// Says where a node is reached, whatever it says itself; none: where it says. False if there is none of this id.
    pub async fn override_address(&mut self, id: &NodeId, address: Option<&str>) -> Result<bool, Error> {
        let changed = sql::query("update nodes set address_override = $2 where id = $1")
            .bind(id.as_str())
            .bind(address)
            .execute(self.write())
            .await?;
        Ok(changed.rows_affected() > 0)
    }

    /// Forgets it. False if there is none of this id.
    pub async fn remove_node(&mut self, id: &NodeId) -> Result<bool, Error> {
        let gone = sql::query("delete from nodes where id = $1").bind(id.as_str()).execute(self.write()).await?;
        Ok(gone.rows_affected() > 0)
    }
}
