//! Nodes and their heartbeats.

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
        })
    }
}

impl Store {
    /// All, by id.
    pub async fn nodes(&self) -> Result<Vec<Node>, Error> {
        let rows: Vec<Row> = sql::query_as(
            "select id, role, host, version, pid, started_at, heartbeat_at, stopped_at, key_fingerprint, address,
                address_override
             from nodes order by id",
        )
        .fetch_all(self.read())
        .await?;
        rows.into_iter().map(Node::try_from).collect()
    }
}

impl Transaction {
    /// A node starts: this is what it is now. What an administrator said about its address stays.
    pub async fn register_node(&mut self, node: &Node) -> Result<(), Error> {
        sql::query(
            "insert into nodes
                (id, role, host, version, pid, started_at, heartbeat_at, stopped_at, key_fingerprint, address)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
             on conflict (id) do update set
                role = excluded.role, host = excluded.host, version = excluded.version, pid = excluded.pid,
                started_at = excluded.started_at, heartbeat_at = excluded.heartbeat_at,
                stopped_at = excluded.stopped_at, key_fingerprint = excluded.key_fingerprint,
                address = excluded.address",
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
        .execute(self.write())
        .await?;
        Ok(())
    }

    /// It lives, and uses the messenger key of this fingerprint. False if it is not known: somebody removed it. Others are told only
    /// if the key is another one.
    pub async fn beat_node(
        &mut self,
        id: &NodeId,
        key_fingerprint: Option<&str>,
        at: Timestamp,
    ) -> Result<bool, Error> {
        let same = sql::query(
            "update nodes set heartbeat_at = $2
             where id = $1 and key_fingerprint is not distinct from $3 and stopped_at is null",
        )
        .bind(id.as_str())
        .bind(at.as_micros())
        .bind(key_fingerprint)
        .execute(self.write_quietly())
        .await?;
        if same.rows_affected() > 0 {
            return Ok(true);
        }
        let other =
            sql::query("update nodes set heartbeat_at = $2, key_fingerprint = $3, stopped_at = null where id = $1")
                .bind(id.as_str())
                .bind(at.as_micros())
                .bind(key_fingerprint)
                .execute(self.write_quietly())
                .await?;
        self.notable |= other.rows_affected() > 0;
        Ok(other.rows_affected() > 0)
    }

    /// It stops.
    pub async fn stop_node(&mut self, id: &NodeId, at: Timestamp) -> Result<(), Error> {
        sql::query("update nodes set stopped_at = $2 where id = $1")
            .bind(id.as_str())
            .bind(at.as_micros())
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
