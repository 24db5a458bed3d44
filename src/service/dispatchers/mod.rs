//! The dispatchers that do the product's own work.

pub(crate) mod clean_up;
pub(crate) mod execution_dispatch;
pub(crate) mod failover;
pub(crate) mod heartbeat;

use std::time::Duration;

use crate::config::job::Schedule;
use crate::protocol::state::Origin;
use crate::service::dispatcher::Definition;

/// What the built-in dispatchers have in common: they run at the start, one at a time, and tell only what is worth telling.
fn built_in(name: &str, title: &str, description: &str, interval: Duration, timeout: Duration) -> Definition {
    Definition {
        name: name.to_owned(),
        title: title.to_owned(),
        description: description.to_owned(),
        origin: Origin::BuiltIn,
        schedule: Schedule::Every(interval),
        disabled_by: None,
        limit: 1,
        timeout: Some(timeout),
        retries: 0,
        retry_delay: Duration::from_secs(1),
        run_at_start: true,
        catch_up: false,
        overlap: false,
        quiet: true,
    }
}
