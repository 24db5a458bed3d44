//! Who may dial the messenger: followed in a task of its own, so that neither a new link nor a slow database delays a change.

use std::sync::Arc;

use tokio::sync::watch;

use crate::app::applied;
use crate::base::clock::SharedClock;
use crate::base::shutdown::Shutdown;
use crate::config::schema::name::MESSENGER_ALLOWED_NETWORKS;
use crate::config::settings::Settings;
use crate::config::value::parse_networks;
use crate::messenger::server::Server;
use crate::model::setting::NodeSetting;

/// Lets in only whom the settings allow.
pub fn allow(server: &Server, settings: &Settings) {
    server.allow(parse_networks(settings.text(MESSENGER_ALLOWED_NETWORKS)));
}

/// Lets in only whom the settings allow, now and after every change, and says so after that. A web node lets nobody in: what is
/// wanted is in force there.
pub fn keep_allowing(
    server: Option<Server>,
    mut settings: watch::Receiver<Arc<Settings>>,
    told: watch::Sender<Vec<NodeSetting>>,
    clock: &SharedClock,
    shutdown: &Shutdown,
) {
    let (clock, stopping) = (Arc::clone(clock), shutdown.clone());
    shutdown.spawn("messenger allowed networks", async move {
        let mut before: Option<NodeSetting> = None;
        loop {
            let now = Arc::clone(&settings.borrow_and_update());
            let wanted = now.get(MESSENGER_ALLOWED_NETWORKS);
            if before.as_ref().is_none_or(|before| before.wanted != wanted.value) {
                if let Some(server) = &server {
                    allow(server, &now);
                }
                let in_force = NodeSetting {
                    setting: MESSENGER_ALLOWED_NETWORKS.to_owned(),
                    wanted: wanted.value.clone(),
                    in_force: wanted.value.clone(),
                    fixed: wanted.source.locks(),
                    since: clock.now(),
                    error: None,
                };
                applied::say(&told, [in_force.clone()]);
                before = Some(in_force);
            }
            tokio::select! {
                changed = settings.changed() => if changed.is_err() { return },
                () = stopping.stopping() => return,
            }
        }
    });
}
