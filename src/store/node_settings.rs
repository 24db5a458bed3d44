//! What each node made of each setting.

use sqlx::FromRow;

use crate::base::clock::Timestamp;
use crate::base::id::NodeId;
use crate::model::setting::NodeSetting;
use crate::store::error::Error;
use crate::store::sql;
use crate::store::{Store, Transaction};

#[derive(FromRow)]
struct Row {
    node: String,
    setting: String,
    wanted: String,
    in_force: String,
    fixed: bool,
    since: i64,
    error: Option<String>,
}

impl From<Row> for (NodeId, NodeSetting) {
    fn from(row: Row) -> Self {
        let Row { node, setting, wanted, in_force, fixed, since, error } = row;
        let since = Timestamp::from_micros(since);
        (NodeId::new(node), NodeSetting { setting, wanted, in_force, fixed, since, error })
    }
}

impl Store {
    /// Every node's word on every setting, by node and setting.
    pub async fn node_settings(&self) -> Result<Vec<(NodeId, NodeSetting)>, Error> {
        let rows: Vec<Row> = sql::query_as(
            "select node, setting, wanted, in_force, fixed, since, error from node_settings order by node, setting",
        )
        .fetch_all(self.read())
        .await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// Of how many settings a node has said anything.
    pub async fn told_settings(&self, node: &NodeId) -> Result<usize, Error> {
        let count: i64 = sql::query_scalar("select count(*) from node_settings where node = $1")
            .bind(node.as_str())
            .fetch_one(self.read())
            .await?;
        Ok(usize::try_from(count).unwrap_or(0))
    }
}

impl Transaction {
    /// A node says what it made of a setting. A node that was removed says nothing any more.
    pub async fn tell_node_setting(&mut self, node: &NodeId, told: &NodeSetting) -> Result<(), Error> {
        sql::query(
            "insert into node_settings (node, setting, wanted, in_force, fixed, since, error)
             select $1, $2, $3, $4, $5, $6, $7 where exists (select 1 from nodes where id = $1)
             on conflict (node, setting) do update set
                wanted = excluded.wanted, in_force = excluded.in_force, fixed = excluded.fixed, since = excluded.since,
                error = excluded.error",
        )
        .bind(node.as_str())
        .bind(&told.setting)
        .bind(&told.wanted)
        .bind(&told.in_force)
        .bind(told.fixed)
        .bind(told.since.as_micros())
        .bind(&told.error)
        .execute(self.write())
        .await?;
        Ok(())
    }

    /// Forgets what a node said of its settings in a former life.
    pub async fn forget_node_settings(&mut self, node: &NodeId) -> Result<(), Error> {
        sql::query("delete from node_settings where node = $1").bind(node.as_str()).execute(self.write()).await?;
        Ok(())
    }
}
