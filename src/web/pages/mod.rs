//! Every page there is, in menu order.

pub(crate) mod about;
pub(crate) mod alerts;
pub(crate) mod audit;
pub(crate) mod diagnostics;
pub(crate) mod dispatcher;
pub(crate) mod execution;
pub(crate) mod executions;
pub(crate) mod nodes;
pub(crate) mod password;
pub(crate) mod setting;
pub(crate) mod settings;
pub(crate) mod settings_import;
pub(crate) mod setup;
pub(crate) mod sign_in;
pub(crate) mod status;
pub(crate) mod user;
pub(crate) mod users;

use axum::routing::{MethodRouter, get, post};

use crate::web::{WebState, logs_txt, poll, viewer};

/// Who may have a route. Posting needs, besides, proof that the form was ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody: nothing of the product is shown.
    Anybody,
    /// Whoever may look.
    Look,
    /// Whoever is signed in and may look, for what is its own: signing out, its password.
    Own,
    /// Administrators.
    Act,
}

/// A route of the pages: the tests walk this table, so that none is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// As axum writes it.
    pub path: &'static str,
    /// Who may have it.
    pub access: Access,
}

macro_rules! routes {
    ($($method:ident $path:literal $access:ident $handler:expr),+ $(,)?) => {
        /// Every route of the pages.
        pub const ROUTES: &[Route] = &[
            $(Route { method: stringify!($method), path: $path, access: Access::$access }),+
        ];

        /// What answers them.
        pub(crate) fn handlers() -> Vec<(&'static str, MethodRouter<WebState>)> {
            vec![$(($path, routes!(@ $method $handler))),+]
        }
    };
    (@ GET $handler:expr) => { get($handler) };
    (@ POST $handler:expr) => { post($handler) };
}

routes! {
    GET "/status" Look status::status,
    GET "/status/live" Look viewer::live,
    GET "/status/poll" Look poll::poll,
    GET "/logs.txt" Look logs_txt::logs,
    GET "/dispatchers/{name}" Look dispatcher::dispatcher,
    POST "/dispatchers/{name}/{verb}" Act dispatcher::act,
    GET "/executions" Look executions::executions,
    GET "/executions/{id}" Look execution::execution,
    GET "/executions/{id}/log.txt" Look execution::log,
    POST "/executions/{id}/cancel" Act dispatcher::cancel,
    POST "/messenger/reconnect" Act dispatcher::reconnect,
    GET "/settings" Look settings::settings,
    POST "/settings" Act settings::submit,
    GET "/settings/export" Look settings_import::export,
    GET "/settings/import" Look settings_import::form,
    POST "/settings/import" Act settings_import::submit,
    GET "/settings/troubles" Look settings_import::troubles_now,
    GET "/settings/{name}" Look setting::setting,
    POST "/settings/{name}/generate" Act setting::generate,
    GET "/nodes" Look nodes::nodes,
    POST "/nodes/{id}/{verb}" Act nodes::act,
    GET "/alerts" Look alerts::alerts,
    GET "/audit" Look audit::audit,
    GET "/diagnostics" Look diagnostics::diagnostics,
    POST "/diagnostics/doctor" Act diagnostics::examine,
    POST "/diagnostics/purge" Act diagnostics::purge,
    GET "/users" Look users::users,
    POST "/users" Act users::create,
    GET "/users/{name}" Look user::user,
    POST "/users/{name}/{verb}" Act user::act,
    GET "/about" Look about::about,
    GET "/password" Look password::password,
    POST "/password" Own password::change,
    GET "/sign-in" Anybody sign_in::sign_in,
    POST "/sign-in" Anybody sign_in::enter,
    POST "/sign-out" Own sign_in::leave,
    GET "/setup" Anybody setup::setup,
    POST "/setup" Anybody setup::create,
}
