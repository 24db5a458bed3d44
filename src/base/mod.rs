//! Floor 0: what every floor may stand on, knowing nothing of nodes' work, HTTP or SQL.

pub mod backoff;
pub mod chain;
pub mod clock;
pub mod cluster_clock;
pub mod id;
pub mod ring;
pub mod shutdown;
pub mod visible;
