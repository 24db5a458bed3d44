//! Floor 3: what pages, socket and `/api` read: the state and the log of service nodes, as they reach this web node.

pub mod applied;
mod borders;
pub mod cluster;
pub mod feed;
pub mod filter;
pub mod held;
pub mod hub;
pub mod kept;
pub mod life;
pub mod log;
pub mod mirror;
mod newest;
pub mod read;
pub mod reader;
pub mod stored;
