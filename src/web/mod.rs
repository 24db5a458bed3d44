//! Floor 4: the web node shows what service nodes tell.

mod applied;
mod asked;
mod assets;
pub mod certificate;
mod chart;
mod csrf;
mod examined;
mod form;
pub mod fragment;
mod headers;
mod health;
mod heard;
mod history;
mod html;
mod lines;
pub mod logs_txt;
mod moment;
mod notice;
pub mod origin;
mod outlook;
mod page;
pub mod pages;
mod phrase;
pub mod poll;
mod problem;
mod query;
pub mod session;
mod setting_field;
mod texts;
pub mod viewer;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use tokio::sync::watch;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;

use crate::auth::sign_in::SignIn;
use crate::base::clock::SharedClock;
use crate::base::shutdown::Shutdown;
use crate::config::base_path::BasePath;
use crate::config::settings::{Fixed, Settings};
use crate::control::Control;
use crate::live::hub::Hub;
use crate::messenger::client::Client;
use crate::store::Store;
use crate::web::certificate::Certificate;
use crate::web::phrase::Fill as _;
use crate::web::problem::Problem;
use crate::web::texts::EN;
use crate::web::viewer::Viewers;

/// What pages and sockets work with.
pub struct Web {
    /// What stands before the path of every address a browser sees.
    pub base: BasePath,
    /// The certificate of the pages; none over plain HTTP.
    pub certificate: watch::Receiver<Option<Certificate>>,
    /// What service nodes tell.
    pub hub: Hub,
    /// The database.
    pub store: Store,
    /// Which database, for people: `SQLite, ./data/switchboard.db`.
    pub database: String,
    /// The door for actions.
    pub control: Control,
    /// The door for people.
    pub sign_in: SignIn,
    /// The settings in force.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// What is fixed outside the database.
    pub fixed: Arc<Fixed>,
    /// The way to the service node: its status, and the Reconnect button.
    pub messenger: Client,
    /// Tells the time.
    pub clock: SharedClock,
    /// Sockets say goodbye when a stop is asked for.
    pub shutdown: Shutdown,
    /// What sockets share: seats, rendered rows, batches.
    pub viewers: Viewers,
}

/// What handlers get.
pub type WebState = Arc<Web>;

/// Every page, socket and file.
///
/// Served with `into_make_service_with_connect_info::<SocketAddr>()`, so that the audit and the throttle know addresses.
pub fn router(state: WebState) -> Router {
    let files = Router::new().route("/static/{hash}/{name}", get(assets::file)).layer(CompressionLayer::new());
    let mut router = Router::new().route("/", get(async || Redirect::to("/status"))).merge(files);
    for (path, handler) in pages::handlers() {
        router = router.route(path, handler);
    }
    let router = router.fallback(async || Problem::not_found());
    dressed(router, state)
}

/// What answers where no page of ours is, because all stand under the base path.
pub fn outside(state: WebState) -> Router {
    let problem = Problem::new(StatusCode::NOT_FOUND, EN.problem_outside.with("base", format!("{}/", state.base)));
    dressed(Router::new().fallback(async move || problem.clone()), state)
}

/// With a page around every problem, and what browsers have to be told.
fn dressed(router: Router<WebState>, state: WebState) -> Router {
    router
        .layer(DefaultBodyLimit::max(form::MAX_BODY))
        .layer(CatchPanicLayer::custom(|_| -> Response {
            Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR).into_response()
        }))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&state), page::dress))
        .layer(axum::middleware::from_fn(headers::secure))
        .with_state(state)
}
