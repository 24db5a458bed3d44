//! Before a browser is led back to a page: the wait until this web node has heard what its action did.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;

use crate::live::applied::{Standing, of_living_nodes};
use crate::live::hub::{Hub, Watcher};
use crate::protocol::state::DispatcherState;
use crate::web::WebState;
use crate::web::problem::wants_json;

/// The service node is waited for so long after nobody watched for a while.
const UNTIL_CURRENT: Duration = Duration::from_millis(300);
/// What was asked for is waited for so long; usually the service says it within a few milliseconds.
const PATIENCE: Duration = Duration::from_millis(500);

/// Listens for what becomes of a dispatcher. A page with scripts hears it by itself, and nobody listens for it.
pub(crate) struct Hearing(Option<Listening>);

struct Listening {
    hub: Hub,
    _watcher: Watcher,
    before: Arc<DispatcherState>,
}

impl Hearing {
    /// Begins to listen, before the action is done.
    pub(crate) async fn of(web: &WebState, dispatcher: &str, headers: &HeaderMap) -> Self {
        if wants_json(headers) {
            return Self(None);
        }
        let watcher = web.hub.watch();
        if !web.hub.current(UNTIL_CURRENT).await {
            return Self(None);
        }
        let before = web.hub.dispatcher(dispatcher);
        Self(before.map(|before| Listening { hub: web.hub.clone(), _watcher: watcher, before }))
    }

    /// Listens for nothing.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// Waits until the dispatcher is as `wanted` says.
    pub(crate) async fn until(self, wanted: impl Fn(&DispatcherState) -> bool) {
        if let Self(Some(Listening { hub, _watcher, before })) = self {
            hub.shows(&before.name, PATIENCE, wanted).await;
        }
    }

    /// Waits until the dispatcher is another than before the action.
    pub(crate) async fn until_changed(self) {
        if let Self(Some(Listening { hub, _watcher, before })) = self {
            hub.shows(&before.name, PATIENCE, |now| *now != *before).await;
        }
    }
}

/// Waits until every living node has taken these settings up, or has said why it can't.
pub(crate) async fn settled(web: &WebState, saved: &[(String, i64)]) {
    let mut changes = web.store.changes();
    let settling = async {
        loop {
            changes.borrow_and_update();
            let Ok(everywhere) = of_living_nodes(&web.store, &web.fixed, web.clock.now()).await else { return };
            // a node that says nothing at all is of a version that does not
            let mut waiting = everywhere.iter().filter(|on| on.standing == Standing::Pending && on.in_force.is_some());
            if !waiting.any(|on| saved.iter().any(|(name, _)| name == on.setting.name))
                || changes.changed().await.is_err()
            {
                return;
            }
        }
    };
    // what still waits then is shown as such
    let _ = tokio::time::timeout(PATIENCE, settling).await;
}
