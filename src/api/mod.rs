//! Floor 4: our own JSON for scripts, health and metrics.

mod error;
mod executions;
mod health;
mod logs;
mod metrics;
mod nodes;
mod openapi;
mod request;
mod route;
mod routes;
mod serve;
mod settings;
mod status;
mod tally;
pub mod types;
mod users;

use std::sync::Arc;

use axum::http::Method;
use axum::routing::{any, get};
use tokio::sync::watch;

use crate::api::error::ApiError;
use crate::auth::sign_in::SignIn;
use crate::base::clock::SharedClock;
use crate::base::shutdown::Shutdown;
use crate::config::base_path::BasePath;
use crate::config::settings::{Fixed, Settings};
use crate::control::Control;
use crate::live::hub::Hub;
use crate::messenger::client::Client;
use crate::store::Store;

/// What handlers work with.
pub struct Api {
    /// What stands before the path of every address.
    pub base: BasePath,
    /// What service nodes tell.
    pub hub: Hub,
    /// The database.
    pub store: Store,
    /// The door for actions.
    pub control: Control,
    /// Users by token.
    pub sign_in: SignIn,
    /// The settings in force.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// What is fixed outside the database.
    pub fixed: Arc<Fixed>,
    /// The way to the service node.
    pub messenger: Client,
    /// Tells the time.
    pub clock: SharedClock,
    /// Not ready while a stop is asked for.
    pub shutdown: Shutdown,
}

/// `/api/…`, `/healthz`, `/readyz`, `/metrics`. Callers' addresses are taken from `ConnectInfo<SocketAddr>`.
pub fn router(state: Arc<Api>) -> axum::Router {
    let readiness = Arc::new(health::Readiness::new(Arc::clone(&state)));
    let figures = Arc::new(metrics::Figures::new(Arc::clone(&state)));
    axum::Router::new()
        .route("/api", any(serve::serve))
        .route("/api/", any(serve::serve))
        .route("/api/{*rest}", any(serve::serve))
        .with_state(state)
        .route("/healthz", get(health::live))
        .route("/readyz", get(move || health::ready(readiness)))
        .route("/metrics", get(move |request: axum::extract::Request| metrics::metrics(figures, request)))
        .method_not_allowed_fallback(async |method: Method| {
            ApiError::not_found(format!("{method} can't be done here; what can be is GET"))
        })
}

/// The OpenAPI document, as `/api/openapi.json` answers it.
pub fn openapi() -> serde_json::Value {
    openapi::document(routes::ROUTES, &BasePath::default())
}
