//! For probes: whether the process answers, and whether it can serve. The messenger has no say in it: it is nonessential.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::IntoResponse;

use crate::api::Api;
use crate::base::chain::chain;

/// How long the database has to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a node that is about to stop is not ready, from before anything else changes.
const DRAINING: &str = "it is draining: a stop was asked for";

/// `GET /healthz`: whoever can say so lives.
pub(crate) async fn live() -> impl IntoResponse {
    text(StatusCode::OK, "ok\n")
}

/// Whether this node can serve, and what was said of it last: a change is logged once, not every probe.
pub(crate) struct Readiness {
    api: Arc<Api>,
    was_ready: AtomicBool,
}

impl Readiness {
    /// Taken for ready until it is asked.
    pub(crate) fn new(api: Arc<Api>) -> Self {
        Self { api, was_ready: AtomicBool::new(true) }
    }

    async fn why_not(&self) -> Option<String> {
        if self.api.shutdown.is_draining() {
            return Some(DRAINING.to_owned());
        }
        match tokio::time::timeout(PATIENCE, self.api.store.ping()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(chain(&error)),
            Err(_) => Some(format!("the database did not answer within {} s", PATIENCE.as_secs())),
        }
    }
}

/// `GET /readyz`: schema current, database answers, not stopping. The cause is for the log: anybody may ask.
pub(crate) async fn ready(readiness: Arc<Readiness>) -> impl IntoResponse {
    let why_not = readiness.why_not().await;
    let was_ready = readiness.was_ready.swap(why_not.is_none(), Ordering::Relaxed);
    match why_not {
        None => {
            if !was_ready {
                tracing::info!("this node is ready again");
            }
            text(StatusCode::OK, "ok\n")
        }
        Some(why) => {
            if was_ready {
                tracing::warn!("this node is not ready: {why}");
            }
            let said = if why == DRAINING { "draining\n" } else { "not ready\n" };
            text(StatusCode::SERVICE_UNAVAILABLE, said)
        }
    }
}

fn text(code: StatusCode, body: &'static str) -> impl IntoResponse {
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (code, headers, body)
}
