//! Every route of `/api`: name, method, path, right, handler. Requests are answered, and the OpenAPI document is made, from it.

use axum::http::Method;

use crate::api::request::Answer;
use crate::api::route::{Described, LIMIT, Parameter, Route, SINCE, parameter};
use crate::api::types::executions::{ExecutionItem, ExecutionsAnswer, RunAnswer, RunBody, ToldAnswer};
use crate::api::types::logs::LogsAnswer;
use crate::api::types::settings::{
    ExportAnswer, GenerateBody, HistoryAnswer, ImportAnswer, ImportBody, SettingBody, SettingItem, SettingsAnswer,
};
use crate::api::types::state::{
    AddressBody, Dispatcher, DispatchersAnswer, HandOverAnswer, HandOverBody, NodeItem, NodesAnswer, StatusAnswer,
};
use crate::api::types::users::{AuditAnswer, RolesBody, TokenAnswer, UserBody, UserCreated, UserItem, UsersAnswer};
use crate::api::types::{Document, Done};
use crate::api::{executions, logs, nodes, openapi, settings, status, users};
use crate::auth::access::Right;

const LOOK: Option<Right> = Some(Right::Look);
const ACT: Option<Right> = Some(Right::Act);

/// All of them, in the order of the document.
pub(crate) static ROUTES: &[Route] = &[
    Route {
        name: "status:show",
        method: Method::GET,
        template: "/api/status",
        right: LOOK,
        summary: "Every dispatcher and node, and the way to the service node.",
        query: &[],
        body: None,
        answer: Described::of::<StatusAnswer>(),
        handler: |api, call| Box::pin(status::status(api, call)),
    },
    Route {
        name: "logs:list",
        method: Method::GET,
        template: "/api/logs",
        right: LOOK,
        summary: "Lines of the log after a place, or the newest; what can't be shown any more is told as a gap.",
        query: &[
            parameter("node", "Of which node; of the service node this web node watches, if left out."),
            SINCE,
            parameter("level", "Of this level and above: trace, debug, info, warn or error."),
            Parameter { name: "source", help: "From this source; may stand several times.", repeats: true },
            parameter("execution", "Of this execution."),
            parameter("wait", "Wait at most so many seconds (30) for a line, if there is none yet."),
            LIMIT,
        ],
        body: None,
        answer: Described::of::<LogsAnswer>(),
        handler: |api, call| Box::pin(logs::list(api, call)),
    },
    Route {
        name: "dispatchers:list",
        method: Method::GET,
        template: "/api/dispatchers",
        right: LOOK,
        summary: "Every dispatcher: state with reason, running, last and next run.",
        query: &[],
        body: None,
        answer: Described::of::<DispatchersAnswer>(),
        handler: |api, call| Box::pin(status::list(api, call)),
    },
    Route {
        name: "dispatchers:show",
        method: Method::GET,
        template: "/api/dispatchers/{name}",
        right: LOOK,
        summary: "One dispatcher.",
        query: &[],
        body: None,
        answer: Described::of::<Dispatcher>(),
        handler: |api, call| Box::pin(status::show(api, call)),
    },
    Route {
        name: "dispatchers:run",
        method: Method::POST,
        template: "/api/dispatchers/{name}:run",
        right: ACT,
        summary: "Asks for a run now. The header Idempotency-Key, or `after`, makes asking twice run once.",
        query: &[],
        body: Some((Described::of::<RunBody>(), false)),
        answer: Described::of::<RunAnswer>(),
        handler: |api, call| Box::pin(executions::run(api, call)),
    },
    Route {
        name: "dispatchers:pause",
        method: Method::POST,
        template: "/api/dispatchers/{name}:pause",
        right: ACT,
        summary: "Keeps a dispatcher from running by itself; runs that go on are not ended.",
        query: &[],
        body: None,
        answer: Described::of::<ToldAnswer>(),
        handler: |api, call| Box::pin(executions::pause(api, call)),
    },
    Route {
        name: "dispatchers:resume",
        method: Method::POST,
        template: "/api/dispatchers/{name}:resume",
        right: ACT,
        summary: "Lets a paused dispatcher go on.",
        query: &[],
        body: None,
        answer: Described::of::<ToldAnswer>(),
        handler: |api, call| Box::pin(executions::resume(api, call)),
    },
    Route {
        name: "dispatchers:cancel",
        method: Method::POST,
        template: "/api/dispatchers/{name}:cancel",
        right: ACT,
        summary: "Cancels every run of a dispatcher, waiting or going on, and answers those it reached.",
        query: &[],
        body: None,
        answer: Described::of::<ExecutionsAnswer>(),
        handler: |api, call| Box::pin(executions::cancel_all(api, call)),
    },
    Route {
        name: "executions:list",
        method: Method::GET,
        template: "/api/executions",
        right: LOOK,
        summary: "Runs, newest first.",
        query: &[
            parameter("dispatcher", "Of this dispatcher."),
            parameter("outcome", "That ended so: normal, warning, error, cancelled or abandoned."),
            parameter("phase", "That are so far: queued, running or completed."),
            parameter("before", "Older than this one: the `next` of an earlier answer."),
            LIMIT,
        ],
        body: None,
        answer: Described::of::<ExecutionsAnswer>(),
        handler: |api, call| Box::pin(executions::list(api, call)),
    },
    Route {
        name: "executions:show",
        method: Method::GET,
        template: "/api/executions/{id}",
        right: LOOK,
        summary: "One run.",
        query: &[],
        body: None,
        answer: Described::of::<ExecutionItem>(),
        handler: |api, call| Box::pin(executions::show(api, call)),
    },
    Route {
        name: "executions:log",
        method: Method::GET,
        template: "/api/executions/{id}/log",
        right: LOOK,
        summary: "The kept output of one run.",
        query: &[SINCE, LIMIT],
        body: None,
        answer: Described::of::<LogsAnswer>(),
        handler: |api, call| Box::pin(logs::of_execution(api, call)),
    },
    Route {
        name: "executions:cancel",
        method: Method::POST,
        template: "/api/executions/{id}:cancel",
        right: ACT,
        summary: "Cancels one run, waiting or going on.",
        query: &[],
        body: None,
        answer: Described::of::<ExecutionItem>(),
        handler: |api, call| Box::pin(executions::cancel(api, call)),
    },
    Route {
        name: "settings:list",
        method: Method::GET,
        template: "/api/settings",
        right: LOOK,
        summary: "Every setting: value, default, source; secrets are never shown.",
        query: &[],
        body: None,
        answer: Described::of::<SettingsAnswer>(),
        handler: |api, call| Box::pin(settings::list(api, call)),
    },
    Route {
        name: "settings:export",
        method: Method::GET,
        template: "/api/settings:export",
        right: LOOK,
        summary: "What the database holds of settings, as TOML; secrets as placeholders.",
        query: &[parameter("all", "`true`: also what stands at its default.")],
        body: None,
        answer: Described::of::<ExportAnswer>(),
        handler: |api, call| Box::pin(settings::export(api, call)),
    },
    Route {
        name: "settings:import",
        method: Method::POST,
        template: "/api/settings:import",
        right: ACT,
        summary: "Takes settings in from TOML, all or none; everything wrong is told at once. Placeholders leave a secret as it is.",
        query: &[],
        body: Some((Described::of::<ImportBody>(), true)),
        answer: Described::of::<ImportAnswer>(),
        handler: |api, call| Box::pin(settings::import(api, call)),
    },
    Route {
        name: "settings:show",
        method: Method::GET,
        template: "/api/settings/{name}",
        right: LOOK,
        summary: "One setting.",
        query: &[],
        body: None,
        answer: Described::of::<SettingItem>(),
        handler: |api, call| Box::pin(settings::show(api, call)),
    },
    Route {
        name: "settings:history",
        method: Method::GET,
        template: "/api/settings/{name}/history",
        right: LOOK,
        summary: "The changes of a setting, newest first: by whom, when, from what to what; a secret's values are never told.",
        query: &[LIMIT],
        body: None,
        answer: Described::of::<HistoryAnswer>(),
        handler: |api, call| Box::pin(settings::history(api, call)),
    },
    Route {
        name: "settings:save",
        method: Method::PUT,
        template: "/api/settings/{name}",
        right: ACT,
        summary: "Changes a setting; refused if it was changed since the version given, or is fixed outside the database.",
        query: &[],
        body: Some((Described::of::<SettingBody>(), true)),
        answer: Described::of::<SettingItem>(),
        handler: |api, call| Box::pin(settings::save(api, call)),
    },
    Route {
        name: "settings:clear",
        method: Method::DELETE,
        template: "/api/settings/{name}",
        right: ACT,
        summary: "Puts a setting back to its default.",
        query: &[parameter("version", "The version you saw; left out: not checked.")],
        body: None,
        answer: Described::of::<SettingItem>(),
        handler: |api, call| Box::pin(settings::clear(api, call)),
    },
    Route {
        name: "settings:generate",
        method: Method::POST,
        template: "/api/settings/Service.MessengerKey:generate",
        right: ACT,
        summary: "Replaces the messenger's key by a new one; the former is valid for at most 60 s more, unless `at_once`.",
        query: &[],
        body: Some((Described::of::<GenerateBody>(), false)),
        answer: Described::of::<SettingItem>(),
        handler: |api, call| Box::pin(settings::generate(api, call)),
    },
    Route {
        name: "nodes:list",
        method: Method::GET,
        template: "/api/nodes",
        right: LOOK,
        summary: "Every node.",
        query: &[],
        body: None,
        answer: Described::of::<NodesAnswer>(),
        handler: |api, call| Box::pin(status::nodes(api, call)),
    },
    Route {
        name: "nodes:remove",
        method: Method::POST,
        template: "/api/nodes/{id}:remove",
        right: ACT,
        summary: "Forgets a node that does not live any more, with all it said of itself; one that lives is refused.",
        query: &[],
        body: None,
        answer: Described::of::<Done>(),
        handler: |api, call| Box::pin(nodes::remove(api, call)),
    },
    Route {
        name: "nodes:setAddress",
        method: Method::PUT,
        template: "/api/nodes/{id}/address",
        right: ACT,
        summary: "Says where web nodes reach a service node, whatever it says itself.",
        query: &[],
        body: Some((Described::of::<AddressBody>(), true)),
        answer: Described::of::<NodeItem>(),
        handler: |api, call| Box::pin(nodes::set_address(api, call)),
    },
    Route {
        name: "nodes:clearAddress",
        method: Method::DELETE,
        template: "/api/nodes/{id}/address",
        right: ACT,
        summary: "Web nodes reach a service node where it says itself again.",
        query: &[],
        body: None,
        answer: Described::of::<NodeItem>(),
        handler: |api, call| Box::pin(nodes::clear_address(api, call)),
    },
    Route {
        name: "primary:handOver",
        method: Method::POST,
        template: "/api/primary:handOver",
        right: ACT,
        summary: "Asks the primary to hand over to another service node; runs that go on end where they are.",
        query: &[],
        body: Some((Described::of::<HandOverBody>(), false)),
        answer: Described::of::<HandOverAnswer>(),
        handler: |api, call| Box::pin(nodes::hand_over(api, call)),
    },
    Route {
        name: "audit:list",
        method: Method::GET,
        template: "/api/audit",
        right: LOOK,
        summary: "Who did what, when, from where; newest first.",
        query: &[
            parameter("who", "By this user."),
            parameter("action", "Of this action, as `dispatcher:run`."),
            parameter("subject", "About this."),
            parameter("before", "Older than this entry: the `next` of an earlier answer."),
            LIMIT,
        ],
        body: None,
        answer: Described::of::<AuditAnswer>(),
        handler: |api, call| Box::pin(users::audit(api, call)),
    },
    Route {
        name: "users:list",
        method: Method::GET,
        template: "/api/users",
        right: LOOK,
        summary: "Every user.",
        query: &[],
        body: None,
        answer: Described::of::<UsersAnswer>(),
        handler: |api, call| Box::pin(users::list(api, call)),
    },
    Route {
        name: "users:create",
        method: Method::POST,
        template: "/api/users",
        right: ACT,
        summary: "Makes a user; its token, if it gets one, is shown this once.",
        query: &[],
        body: Some((Described::of::<UserBody>(), true)),
        answer: Described::of::<UserCreated>(),
        handler: |api, call| Box::pin(users::create(api, call)),
    },
    Route {
        name: "users:update",
        method: Method::PUT,
        template: "/api/users/{name}",
        right: ACT,
        summary: "Replaces a user's roles; its sessions end. The last administrator stays one.",
        query: &[],
        body: Some((Described::of::<RolesBody>(), true)),
        answer: Described::of::<UserItem>(),
        handler: |api, call| Box::pin(users::set_roles(api, call)),
    },
    Route {
        name: "users:delete",
        method: Method::DELETE,
        template: "/api/users/{name}",
        right: ACT,
        summary: "Deletes a user, its sessions and its token. The last administrator stays.",
        query: &[],
        body: None,
        answer: Described::of::<Done>(),
        handler: |api, call| Box::pin(users::delete(api, call)),
    },
    Route {
        name: "users:refreshToken",
        method: Method::POST,
        template: "/api/users/{name}:refreshToken",
        right: ACT,
        summary: "Gives a user a new token, shown this once; the one before is valid no more.",
        query: &[],
        body: None,
        answer: Described::of::<TokenAnswer>(),
        handler: |api, call| Box::pin(users::refresh_token(api, call)),
    },
    Route {
        name: "openapi:show",
        method: Method::GET,
        template: "/api/openapi.json",
        right: None,
        summary: "This description.",
        query: &[],
        body: None,
        answer: Described::of::<Document>(),
        handler: |api, _| Box::pin(async move { Ok(Answer::json(&openapi::document(ROUTES, &api.base))) }),
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::route::Path;

    #[test]
    fn every_route_is_well_formed_and_found_by_its_own_path_only() {
        let mut names = BTreeSet::new();
        for route in ROUTES {
            assert!(names.insert(route.name), "{} stands here twice", route.name);
            assert!(route.summary.ends_with('.'), "{}: the summary is a sentence", route.name);
            assert!(route.template.starts_with("/api/"), "{}", route.template);
            let changes = route.method != Method::GET;
            assert_eq!(changes, route.right == ACT, "{}: what changes something needs the right to", route.name);
            let path = Path::split(&route.template.replace(['{', '}'], "")).unwrap();
            let found: Vec<_> = ROUTES
                .iter()
                .filter(|other| other.method == route.method && other.matches(&path).is_some())
                .map(|other| other.name)
                .collect();
            assert_eq!(found, [route.name]);
        }
    }
}
