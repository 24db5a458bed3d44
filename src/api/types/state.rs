//! Nodes, dispatchers and the way to the service node, as `/api` tells them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::base::clock::Timestamp;
use crate::base::id::{ExecutionId, NodeId};
use crate::model::execution::{Cause, Outcome, Progress};
use crate::model::node::Role;
use crate::protocol::state::Origin;

/// Everything at a glance.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StatusAnswer {
    /// This web node's time.
    #[schema(value_type = String, format = DateTime)]
    pub now: Timestamp,
    /// Whether `dispatchers` is what the service node says now; otherwise it is what the database knows.
    pub live: bool,
    /// The way to the service node.
    pub messenger: MessengerStatus,
    /// Every node the database knows.
    pub nodes: Vec<NodeItem>,
    /// Every dispatcher, by name.
    pub dispatchers: Vec<Dispatcher>,
}

/// The way to the service node.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MessengerStatus {
    /// `live`; `connecting`: away, but no attempt has failed yet; `down`: at least one has, until it is live again.
    pub state: String,
    /// While it is live: since when. Otherwise: since when it is away, which no attempt changes; if it was never live, since this
    /// node started.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Where it leads.
    pub endpoint: String,
    /// Who is there, while it is live.
    #[schema(value_type = Option<String>)]
    pub peer: Option<NodeId>,
    /// The version of the messenger's protocol that is spoken with it, while it is live: the newest that both know.
    pub protocol: Option<u8>,
    /// Why it is not live.
    pub error: Option<String>,
    /// Failed attempts since it was last live.
    pub attempts: u64,
    /// When the next attempt is made; none while one is being made.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_attempt_at: Option<Timestamp>,
    /// How long the other end took to answer, in milliseconds.
    pub latency_ms: Option<f64>,
}

/// Every node.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NodesAnswer {
    /// Which service node is primary; none while nobody is.
    pub primary: Option<PrimaryItem>,
    /// The id of the encryption key that the database is sealed with: every living node has proved at its start that it holds this
    /// one. Nothing of the key can be told from it.
    pub encryption_key_id: String,
    /// By id.
    pub nodes: Vec<NodeItem>,
}

/// The service node whose dispatchers run.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PrimaryItem {
    /// Which one.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// The number of its term; it rises whenever a node becomes primary.
    pub term: i64,
    /// Whether it has been asked to hand over.
    pub handing_over: bool,
}

/// A hand-over that somebody wants.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HandOverBody {
    /// To which node; left out: to any other service node that lives.
    pub to: Option<String>,
}

/// A hand-over that was asked for; the primary gives its place away within a moment.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HandOverAnswer {
    /// Who is primary still.
    #[schema(value_type = String)]
    pub from: NodeId,
    /// Who is to be, if a certain node.
    #[schema(value_type = Option<String>)]
    pub to: Option<NodeId>,
}

/// Where web nodes are to reach a service node.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddressBody {
    /// A host name or address, with a port if it is not the endpoint's.
    pub address: String,
}

/// A web node's way to the service node.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NodeLinkItem {
    /// `live`, `connecting` or `down`.
    pub state: String,
    /// Who is there, while it is live.
    #[schema(value_type = Option<String>)]
    pub peer: Option<NodeId>,
    /// Where it leads.
    pub endpoint: String,
    /// While it is live: since when. Otherwise: since when it is away.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Why it is not live.
    pub error: Option<String>,
    /// How long the other end took to answer, in milliseconds.
    pub latency_ms: Option<f64>,
}

/// A node.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NodeItem {
    /// Which one.
    #[schema(value_type = String)]
    pub id: NodeId,
    /// `web`, `service` or `all`.
    #[schema(value_type = String)]
    pub role: Role,
    /// The machine it runs on.
    pub host: String,
    /// The program's version.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// When the process started.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// When it last wrote that it lives.
    #[schema(value_type = String, format = DateTime)]
    pub heartbeat_at: Timestamp,
    /// When it said that it stops.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub stopped_at: Option<Timestamp>,
    /// Whether it lives: it did not stop, and wrote so within `Service.StaleTime`.
    pub alive: bool,
    /// Whether it has been asked to stop and still works: runs that go on may finish, no other begins. Told of the service node
    /// that is heard.
    pub stopping: bool,
    /// The fingerprint of the messenger key it uses.
    pub key_fingerprint: Option<String>,
    /// Whether that is the primary's key; a living node with another one has no link.
    pub key_in_sync: bool,
    /// Whether that is the primary's version, or, while nobody is primary, the one that most living nodes run; told of living nodes
    /// only, others are always in sync.
    pub version_in_sync: bool,
    /// Whether it is the primary, whose dispatchers run.
    pub primary: bool,
    /// Where a service node says it is reached.
    pub address: Option<String>,
    /// Where an administrator says it is reached; this counts.
    pub address_override: Option<String>,
    /// How a living web node's way to the service node is.
    pub link: Option<NodeLinkItem>,
    /// The settings that are not in force here as they are wanted; `nodes` of a setting lists them all.
    pub settings: Vec<SettingOnNode>,
}

/// A setting on a node that lives.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SettingOnNode {
    /// Which setting.
    pub setting: String,
    /// On which node.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// `applied`; `pending`, if the node has not taken it up yet; `failed`, if it can't and tries again by itself.
    pub state: String,
    /// Since when it is in this state.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// The value that is wanted there, empty for the default; of a secret its fingerprint.
    pub wanted: String,
    /// The value in force there; none if the node has said nothing yet.
    pub in_force: Option<String>,
    /// Whether the node's own file or environment wants it, and not the database.
    pub fixed: bool,
    /// Why it can't be had.
    pub error: Option<String>,
    /// The value to save so that it is as before, if it failed and every living node has one and the same in force.
    pub revert_to: Option<String>,
}

/// Every dispatcher.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DispatchersAnswer {
    /// Whether this is what the service node says now; otherwise it is what the database knows.
    pub live: bool,
    /// By name.
    pub dispatchers: Vec<Dispatcher>,
}

/// A dispatcher.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Dispatcher {
    /// Its name.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// What it does.
    pub description: String,
    /// `built_in`, `job` or `program`.
    #[schema(value_type = String)]
    pub origin: Origin,
    /// When it runs, in words.
    pub schedule: String,
    /// `idle`, `queued`, `running`, `paused`, `failing`, `overdue`, `standby` or `disabled`.
    pub state: String,
    /// Why it is in this state, in words.
    pub reason: String,
    /// Who holds it back from beginning anything by itself, also while a run goes on.
    pub paused: Option<PausedItem>,
    /// When it runs by itself next; while the service node is away, when it was to.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_at: Option<Timestamp>,
    /// The runs that are going on.
    pub running: Vec<RunningItem>,
    /// How many may go on at once.
    pub limit: u32,
    /// How many wait.
    pub queued: u32,
    /// The last run that ended.
    pub last: Option<LastRun>,
    /// How long runs that ended well took, in the middle, in milliseconds.
    pub median_ms: Option<u64>,
    /// The last failure, until a run ends well again.
    pub last_error: Option<LastFailure>,
    /// How many runs failed one after the other.
    pub failures: u32,
    /// Times passed over because the run before had not ended.
    pub skipped: u64,
}

/// A dispatcher held back by somebody.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PausedItem {
    /// Who.
    pub by: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
}

/// A run that is going on.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RunningItem {
    /// Its execution.
    #[schema(value_type = i64)]
    pub execution: ExecutionId,
    /// Why it was started.
    #[schema(value_type = String)]
    pub cause: Cause,
    /// Who asked for it.
    pub by: Option<String>,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// How far it says it is: `done`, `total`, `text`.
    #[schema(value_type = Option<Object>)]
    pub progress: Option<Progress>,
    /// Who asked to end it.
    pub cancelled_by: Option<String>,
}

/// A run that ended.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LastRun {
    /// Its execution.
    #[schema(value_type = i64)]
    pub execution: ExecutionId,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// When it ended; of an abandoned one, when its node last gave a sign of life: not before that.
    #[schema(value_type = String, format = DateTime)]
    pub finished_at: Timestamp,
    /// How long it took, in milliseconds; none if nobody knows (abandoned).
    pub duration_ms: Option<u64>,
    /// `normal`, `warning`, `error`, `cancelled` or `abandoned`.
    #[schema(value_type = String)]
    pub outcome: Outcome,
}

/// A failure.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LastFailure {
    /// Of which execution.
    #[schema(value_type = i64)]
    pub execution: ExecutionId,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What it said.
    pub message: String,
}
