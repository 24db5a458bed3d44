//! How each web node's way to the service node is.

use std::time::Duration;

use sqlx::FromRow;

use crate::base::clock::Timestamp;
use crate::base::id::NodeId;
use crate::model::node::NodeLink;
use crate::store::error::Error;
use crate::store::sql;
use crate::store::{Store, Transaction};

#[derive(FromRow)]
struct Row {
    node: String,
    state: String,
    peer: Option<String>,
    endpoint: String,
    since: i64,
    error: Option<String>,
    latency_micros: Option<i64>,
}

impl From<Row> for (NodeId, NodeLink) {
    fn from(row: Row) -> Self {
        let link = NodeLink {
            state: row.state,
            peer: row.peer.map(NodeId::new),
            endpoint: row.endpoint,
            since: Timestamp::from_micros(row.since),
            error: row.error,
            latency: row.latency_micros.and_then(|micros| u64::try_from(micros).ok()).map(Duration::from_micros),
        };
        (NodeId::new(row.node), link)
    }
}

impl Store {
    /// Every web node's word on its link, by node.
    pub async fn node_links(&self) -> Result<Vec<(NodeId, NodeLink)>, Error> {
        let rows: Vec<Row> = sql::query_as(
            "select node, state, peer, endpoint, since, error, latency_micros from node_links order by node",
        )
        .fetch_all(self.read())
        .await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }
}

impl Transaction {
    /// A node says how its link is. Nobody is told: pages look by themselves. A node that was removed says nothing any more.
    pub async fn tell_node_link(&mut self, node: &NodeId, link: &NodeLink) -> Result<(), Error> {
        sql::query(
            "insert into node_links (node, state, peer, endpoint, since, error, latency_micros)
             select $1, $2, $3, $4, $5, $6, $7 where exists (select 1 from nodes where id = $1)
             on conflict (node) do update set
                state = excluded.state, peer = excluded.peer, endpoint = excluded.endpoint, since = excluded.since,
                error = excluded.error, latency_micros = excluded.latency_micros",
        )
        .bind(node.as_str())
        .bind(&link.state)
        .bind(link.peer.as_ref().map(NodeId::as_str))
        .bind(&link.endpoint)
        .bind(link.since.as_micros())
        .bind(&link.error)
        .bind(link.latency.map(|latency| i64::try_from(latency.as_micros()).unwrap_or(i64::MAX)))
        .execute(self.write_quietly())
        .await?;
        Ok(())
    }
}
