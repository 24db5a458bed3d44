//! Every page through the router, over a real store: who gets it, what is in it, and what is refused.

mod base_path;
pub(crate) mod site;

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use switchboard::base::id::NodeId;
use switchboard::config::settings::{Fixed, Source};
use switchboard::model::execution::Cause;
use switchboard::store::executions::NewExecution;
use switchboard::web::pages::{Access, ROUTES};

use self::site::{HOST, PASSWORD, SCRIPT, Site};

/// An address for every route with a place in it.
fn address(path: &str) -> String {
    let name = match path {
        path if path.starts_with("/settings") => "Service.MessengerKey",
        path if path.starts_with("/users") => "ann",
        _ => "disk-space",
    };
    let (verb, id) = match path {
        path if path.starts_with("/users") => ("roles", "2"),
        path if path.starts_with("/nodes") => ("address", "service-1"),
        _ => ("run", "2"),
    };
    path.replace("{name}", name).replace("{verb}", verb).replace("{id}", id)
}

/// Pages; not the socket and what streams.
fn pages() -> impl Iterator<Item = (String, Access)> {
    let get = ROUTES.iter().filter(|route| route.method == "GET");
    get.map(|route| (address(route.path), route.access))
        .filter(|(path, _)| !["/status/live", "/status/poll", "/logs.txt"].contains(&path.as_str()))
}

fn posts() -> impl Iterator<Item = (String, Access)> {
    ROUTES.iter().filter(|route| route.method == "POST").map(|route| (address(route.path), route.access))
}

/// The values of an attribute, wherever it stands.
fn attributes<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!(" {name}=\"");
    page.match_indices(&start).filter_map(|(at, _)| page[at + start.len()..].split('"').next()).collect()
}

#[tokio::test]
async fn every_page_is_had_by_administrators_with_strict_headers_and_nothing_inline() {
    let site = Site::new().await;
    let admin = site.admin().await;
    for (path, access) in pages() {
        let cookie = (access != Access::Anybody).then_some(admin.as_str());
        let answer = site.get(&path, cookie).await;
        let expected = if path == "/setup" { StatusCode::GONE } else { StatusCode::OK };
        assert_eq!(answer.status, expected, "{path}: {}", answer.body);
        let policy = answer.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{path}");
        assert_eq!(answer.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store", "{path}");
        // these are parts of pages, and no pages of their own
        let is_part = ["/settings/troubles", "/alerts"].contains(&path.as_str());
        if is_part || !answer.headers[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/html") {
            continue;
        }
        assert!(answer.body.contains("<title>") && answer.body.contains("<h1"), "{path}");
        assert!(!answer.body.contains("<style") && !answer.body.contains(" style="), "{path}: inline style");
        assert!(!answer.body.contains(" onclick=") && !answer.body.contains("javascript:"), "{path}");
        assert_eq!(
            answer.body.matches("<script").count(),
            answer.body.matches("<script type=\"module\" src=\"/static/").count(),
            "{path}: inline script"
        );
        assert!(!answer.body.contains('\u{202e}'), "{path}: a character that acts unseen");
        let ids = attributes(&answer.body, "id");
        let once: BTreeSet<_> = ids.iter().collect();
        assert_eq!(ids.len(), once.len(), "{path}: an id twice in {ids:?}");
    }
}

#[tokio::test]
async fn no_link_is_dead_and_every_form_leads_somewhere() {
    let site = Site::new().await;
    let admin = site.admin().await;
    let mut seen = BTreeSet::new();
    for (path, access) in pages() {
        let answer = site.get(&path, (access != Access::Anybody).then_some(admin.as_str())).await;
        for link in attributes(&answer.body, "href").into_iter().chain(attributes(&answer.body, "src")) {
            let link = link.replace("&amp;", "&").replace("&#38;", "&");
            let target = link.split('#').next().unwrap().to_owned();
            // runs and dispatchers of the made-up state stand in no row
            let made_up = target.strip_prefix("/executions/").is_some_and(|id| id.parse::<i64>().is_ok());
            if target.is_empty() || target.starts_with("/logs.txt") || made_up || !seen.insert(target.clone()) {
                continue;
            }
            assert!(target.starts_with('/'), "{path} leads away from here: {link}");
            let answer = site.get(&target, Some(&admin)).await;
            assert!(
                matches!(answer.status, StatusCode::OK | StatusCode::SEE_OTHER),
                "{path} → {link}: {}",
                answer.status
            );
        }
        for target in attributes(&answer.body, "formaction").into_iter().chain(attributes(&answer.body, "action")) {
            let known = ROUTES.iter().any(|route| {
                let path = target.split('#').next().unwrap();
                let (route, target) = (route.path.split('/'), path.split('/'));
                route.clone().count() == target.clone().count()
                    && route.zip(target).all(|(a, b)| a == b || a.starts_with('{'))
            });
            assert!(known, "{path} has a form to {target}");
        }
    }
    assert!(seen.len() > 15, "{seen:?}");
}

#[tokio::test]
async fn without_a_session_pages_lead_to_the_sign_in_and_scripts_are_told() {
    let site = Site::new().await;
    site.admin().await;
    for (path, access) in pages().filter(|(_, access)| *access != Access::Anybody) {
        let answer = site.get(&path, None).await;
        if path.ends_with("log.txt") {
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path} {access:?}");
        } else {
            assert_eq!(answer.status, StatusCode::SEE_OTHER, "{path}");
            assert_eq!(answer.location(), format!("/sign-in?next={path}"));
        }
    }
    for (path, _) in posts().filter(|(_, access)| *access != Access::Anybody) {
        let own = [("origin", &*format!("http://{HOST}")), ("accept", "application/json")];
        let answer = site.post_as(&path, None, &[], &own).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        assert!(answer.body.starts_with("{\"ok\":false"), "{path}: {}", answer.body);
    }
    for path in ["/status/poll", "/logs.txt"] {
        assert_eq!(site.get(path, None).await.status, StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[tokio::test]
async fn who_may_look_sees_every_page_and_changes_nothing() {
    let site = Site::new().await;
    let admin = site.admin().await;
    let viewer = site.user(&admin, "vic", "admin_viewer").await;
    for (path, access) in pages().filter(|(_, access)| *access == Access::Look) {
        let answer = site.get(&path, Some(&viewer)).await;
        assert_eq!(answer.status, StatusCode::OK, "{path} {access:?}");
        assert!(!answer.body.contains("data-may-act"), "{path}");
    }
    for (path, _) in posts().filter(|(_, access)| *access == Access::Act) {
        assert_eq!(site.post(&path, Some(&viewer), &[]).await.status, StatusCode::FORBIDDEN, "{path}");
    }
    // who reads metrics may not even look, and one who may no longer look is not let further
    let fields = [("name", "meg"), ("role", "metrics_viewer"), ("password", PASSWORD)];
    assert_eq!(site.post("/users", Some(&admin), &fields).await.status, StatusCode::CREATED);
    let refused = site.post("/sign-in", None, &[("name", "meg"), ("password", PASSWORD)]).await;
    assert!(refused.status == StatusCode::FORBIDDEN && refused.cookie().is_none(), "{}", refused.body);
}

#[tokio::test]
async fn forms_of_foreign_pages_are_refused_on_every_route() {
    let site = Site::new().await;
    let admin = site.admin().await;
    for (path, _) in posts() {
        for foreign in [("origin", "https://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")] {
            let answer = site.post_as(&path, Some(&admin), &[], &[foreign]).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} {foreign:?}");
        }
        // neither header, and no token: nothing proves that it is ours
        assert_eq!(site.post_as(&path, Some(&admin), &[], &[]).await.status, StatusCode::FORBIDDEN, "{path}");
    }
    // an old browser sends neither, but the form's token
    let page = site.get("/settings", Some(&admin)).await;
    let token = page.body.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let paused = site.post_as("/dispatchers/disk-space/pause", Some(&admin), &[("token", &token)], &[]).await;
    assert_eq!(paused.status, StatusCode::SEE_OTHER, "{}", paused.body);
    let dispatchers = site.store.dispatchers().await.unwrap();
    let paused: Vec<_> = dispatchers.iter().filter(|known| known.paused.is_some()).map(|known| &*known.name).collect();
    assert_eq!(paused, ["disk-space"]);
}

#[tokio::test]
async fn a_set_up_link_works_once_and_a_second_use_is_a_clear_page() {
    use secrecy::ExposeSecret as _;
    let site = Site::new().await;
    let link = site.web.sign_in.new_setup_link().await.unwrap().unwrap();
    let link = link.expose_secret();
    for wrong in [String::new(), "0".repeat(64), "nonsense".to_owned()] {
        let dead = site.get(&format!("/setup?link={wrong}"), None).await;
        assert_eq!(dead.status, StatusCode::GONE, "{wrong}: no form that leads nowhere");
    }
    for _ in 0..2 {
        let page = site.get(&format!("/setup?link={link}"), None).await;
        assert_eq!(page.status, StatusCode::OK, "looking does not use it up");
    }
    let fields = |again| vec![("link", link), ("name", "ann"), ("password", PASSWORD), ("again", again)];
    let differs = site.post("/setup", None, &fields("something else")).await;
    assert_eq!(differs.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(differs.body.contains("value=\"ann\"") && !differs.body.contains(PASSWORD), "{}", differs.body);
    let made = site.post("/setup", None, &fields(PASSWORD)).await;
    assert_eq!((made.status, made.location()), (StatusCode::SEE_OTHER, "/status"));
    assert_eq!(site.get("/status", made.cookie().as_deref()).await.status, StatusCode::OK);
    for again in
        [site.get(&format!("/setup?link={link}"), None).await, site.post("/setup", None, &fields(PASSWORD)).await]
    {
        assert_eq!(again.status, StatusCode::GONE);
        assert!(again.body.contains("Used, or replaced by a newer one") && again.body.contains("href=\"/sign-in\""));
    }
}

#[tokio::test]
async fn signing_in_and_out_and_a_password_of_a_megabyte() {
    let site = Site::new().await;
    let first = site.admin().await;
    let wrong = site.post("/sign-in", None, &[("name", "<ann>"), ("password", "nonsense nonsense")]).await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert!(wrong.cookie().is_none() && wrong.body.contains("&#60;ann&#62;") && !wrong.body.contains("nonsense"));
    let huge = "x".repeat(1 << 20);
    for path in ["/sign-in", "/password", "/users", "/settings"] {
        let answer = site.post(path, Some(&first), &[("name", "ann"), ("password", &huge)]).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{path}");
        assert!(answer.body.contains("Too large"), "{path}: a clear page");
    }
    let next = [("name", "ann"), ("password", PASSWORD), ("next", "/executions?outcome=error")];
    let second = site.post("/sign-in", None, &next).await;
    assert_eq!((second.status, second.location()), (StatusCode::SEE_OTHER, "/executions?outcome=error"));
    let elsewhere = site.post("/sign-in", None, &[("name", "ann"), ("password", PASSWORD), ("next", "//evil.example")]);
    assert_eq!(elsewhere.await.location(), "/status");
    let second = second.cookie().unwrap();
    // a new password ends the other sessions, and keeps this one
    let fields = [("old", PASSWORD), ("new", "another good sentence"), ("again", "another good sentence")];
    let changed = site.post("/password", Some(&second), &fields).await;
    assert_eq!((changed.status, changed.location()), (StatusCode::SEE_OTHER, "/password?done=password"));
    assert_eq!(site.get("/status", Some(&first)).await.status, StatusCode::SEE_OTHER);
    assert_eq!(site.get("/status", Some(&second)).await.status, StatusCode::OK);
    let left = site.post("/sign-out", Some(&second), &[]).await;
    assert_eq!((left.status, left.location()), (StatusCode::SEE_OTHER, "/sign-in?done=signed-out"));
    assert_eq!(site.get("/status", Some(&second)).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn service_status_shows_every_state_with_its_reason_and_the_log() {
    let site = Site::new().await;
    let admin = site.admin().await;
    let page = site.get("/status?level=debug", Some(&admin)).await.body;
    for expected in [
        "id=\"link\" class=\"pill link-live\"",
        "state-failing",
        "failed 3 times in a row; next attempt",
        "by ann",
        "3 of 10 · customers",
        "done about",
        "line 41 of switchboard.toml",
        "4 times skipped",
        "name=\"after\" value=\"70\"",
        "looked into the queue",
        "ansi-fg-1",
        "data-since=\"0000000000000001:9\"",
        "service-1",
    ] {
        assert!(page.contains(expected), "{expected} is not in {page}");
    }
    assert!(!page.contains(SCRIPT) && !page.contains("<script>"));
    // filters work without scripts, and say what they hide
    let narrow = site.get("/status?level=warn&source=backup", Some(&admin)).await.body;
    assert!(narrow.contains("no space left") && !narrow.contains("Permission denied"));
    assert!(narrow.contains("lines hidden by the filter"));
    let found = site.get("/status?q=permission", Some(&admin)).await.body;
    assert!(found.contains("Permission denied") && !found.contains("no space left"));
    let bad = site.get("/status?q=%28", Some(&admin)).await;
    assert!(bad.status == StatusCode::OK && bad.body.contains("The search is left out until it is corrected"));
    let none = site.get("/status?q=nowhere", Some(&admin)).await.body;
    assert!(none.contains("No line matches the filter.") && none.contains("Clear the filter"));
}

#[tokio::test]
async fn without_a_service_node_the_page_says_why_and_shows_what_the_database_knows() {
    let site = Site::start(false, Fixed::default()).await;
    let admin = site.admin().await;
    let mut status = site.web.messenger.status();
    status.wait_for(|link| link.error.is_some()).await.unwrap();
    let page = site.get("/status", Some(&admin)).await.body;
    assert!(page.contains("formaction=\"/messenger/reconnect\"") && page.contains("nobody listens at"), "{page}");
    assert!(page.contains("This is what the database knows"));
    assert_eq!(page.matches("nobody listens at").count(), 1, "said once: {page}");
    assert!(
        page.contains(">due <time") && page.contains("; the service is away") && !page.contains("next <time"),
        "{page}"
    );
    let own = site.get("/dispatchers/disk-space", Some(&admin)).await.body;
    assert!(own.contains("nobody listens at") && own.contains("; the service is away"), "{own}");
    assert!(page.contains("id=\"d-disk-space\"") && page.contains("df: /mnt/backup: Permission denied"));
    // every other page warns as well
    let warned = async || {
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        while !site.get("/nodes", Some(&admin)).await.body.contains("What you ask for is stored") {
            looks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), warned()).await.expect("every other page warns after a few seconds");
    assert!(
        !site.get("/alerts?live=1", Some(&admin)).await.body.contains("What you ask for is stored"),
        "live pages say it"
    );
    let diagnostics = site.get("/diagnostics", Some(&admin)).await.body;
    assert!(diagnostics.contains("What to do:") && diagnostics.contains("press Reconnect"));
    let tried = site.post("/messenger/reconnect", Some(&admin), &[]).await;
    assert_eq!(tried.location(), "/status?done=reconnecting");
    // an action is a row first: it waits for the service, and the page says so
    let run = site.post("/dispatchers/disk-space/run", Some(&admin), &[("after", "3")]).await;
    assert_eq!(run.location(), "/status?done=run-later&n=4");
    assert!(site.get(run.location(), Some(&admin)).await.body.contains("Run #4 is queued."));
}

#[tokio::test]
async fn a_double_click_runs_once_and_scripts_get_json() {
    let site = Site::new().await;
    let admin = site.admin().await;
    let own = [("origin", &*format!("http://{HOST}")), ("accept", "application/json")];
    let press = async || site.post_as("/dispatchers/disk-space/run", Some(&admin), &[("after", "3")], &own).await;
    let (one, two) = tokio::join!(press(), press());
    let answers: Vec<serde_json::Value> =
        [one, two].iter().map(|answer| serde_json::from_str(&answer.body).unwrap()).collect();
    assert_eq!((&answers[0]["execution"], &answers[1]["execution"]), (&4.into(), &4.into()), "{answers:?}");
    let words: Vec<_> = answers.iter().map(|answer| answer["text"].as_str().unwrap()).collect();
    assert_eq!(words.iter().filter(|text| text.contains("had been asked for already")).count(), 1, "{words:?}");
    let unknown = site.post_as("/dispatchers/nobody/run", Some(&admin), &[], &own).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert!(unknown.body.starts_with("{\"ok\":false"), "{}", unknown.body);
    let cancelled = site.post("/executions/4/cancel", Some(&admin), &[]).await;
    assert_eq!(cancelled.location(), "/executions/4?done=cancelled&n=4");
    let page = site.get("/executions/4", Some(&admin)).await.body;
    assert!(page.contains("run now, by ann") && page.contains("cancelled"), "{page}");
    for after in ["4", "5"] {
        site.post_as("/dispatchers/disk-space/run", Some(&admin), &[("after", after)], &own).await;
    }
    let all = site.post("/dispatchers/disk-space/cancel", Some(&admin), &[]).await;
    assert_eq!(all.location(), "/status?done=cancelled-all&n=2");
    assert!(site.get(all.location(), Some(&admin)).await.body.contains("2 runs are being ended."));
    let log = site.get("/audit?action=dispatcher:run", Some(&admin)).await.body;
    assert!(log.contains("disk-space"), "{log}");
}

#[tokio::test]
async fn settings_are_reviewed_saved_refused_and_reverted() {
    let mut fixed = Fixed::default();
    fixed.set("Service.StopPatience", "5s", Source::Environment).unwrap();
    let site = Site::start(true, fixed).await;
    let admin = site.admin().await;
    let list = site.get("/settings", Some(&admin)).await.body;
    assert!(list.contains("Fixed by the environment variable SWITCHBOARD_SETTING_SERVICE_STOPPATIENCE"));
    let poll =
        |value, seen, step| [("Service.PollInterval", value), ("seen:Service.PollInterval", seen), ("step", step)];
    let bad = site.post("/settings", Some(&admin), &poll("<soon>", "0", "review")).await;
    assert_eq!(bad.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(bad.body.contains("value=\"&#60;soon&#62;\"") && bad.body.contains("is no length of time"), "{}", bad.body);
    let review = site.post("/settings", Some(&admin), &poll("10 s", "0", "review")).await;
    assert!(
        review.body.contains("<ins>10s</ins>") && review.body.contains("<del>default (15s)</del>"),
        "{}",
        review.body
    );
    assert!(site.store.settings().await.unwrap().is_empty(), "a review saves nothing");
    let same = site.post("/settings", Some(&admin), &poll("", "0", "review")).await;
    assert_eq!(same.location(), "/settings?done=unchanged");
    let saved = site.post("/settings", Some(&admin), &poll("10s", "0", "save")).await;
    assert_eq!(saved.location(), "/settings?done=saved&n=1");
    // somebody who opened the form before that is told who was faster, and may insist
    let late = site.post("/settings", Some(&admin), &poll("20s", "0", "save")).await;
    assert_eq!(late.status, StatusCode::CONFLICT);
    assert!(late.body.contains("Somebody else was faster") && late.body.contains("ann"), "{}", late.body);
    let version = site.store.settings().await.unwrap()[0].version.to_string();
    assert!(late.body.contains(&format!("name=\"seen:Service.PollInterval\" value=\"{version}\"")));
    let insisted = site.post("/settings", Some(&admin), &poll("20s", &version, "save")).await;
    assert_eq!(insisted.location(), "/settings?done=saved&n=1");
    let page = site.get("/settings/service.pollinterval", Some(&admin)).await.body;
    assert!(page.contains("Go back to this") && page.contains("name=\"Service.PollInterval\" value=\"10s\""), "{page}");
    let unknown = site.post("/settings", Some(&admin), &[("Service.PollIntervall", "1s"), ("step", "save")]).await;
    assert_eq!(unknown.status, StatusCode::BAD_REQUEST);
    assert!(unknown.body.contains("perhaps Service.PollInterval is meant"), "{}", unknown.body);
    let locked = site.post("/settings", Some(&admin), &[("Service.StopPatience", "9s"), ("step", "save")]).await;
    assert_eq!(locked.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(site.get("/settings?q=UNASKED", Some(&admin)).await.body.contains("1 setting<"));
}

#[tokio::test]
async fn two_browsers_with_the_same_form_do_not_undo_each_other() {
    let site = Site::new().await;
    let ann = site.admin().await;
    let bob = site.user(&ann, "bob", "service_admin").await;
    let (poll, stop) = ("Service.PollInterval", "Service.StopPatience");
    let fields = |polls, stops, seen, step| {
        [
            (poll, polls),
            ("seen:Service.PollInterval", seen),
            (stop, stops),
            ("seen:Service.StopPatience", "0"),
            ("step", step),
        ]
    };
    // both have opened the form; ann changes one setting, bob the other
    let first = site.post("/settings", Some(&ann), &fields("10s", "", "0", "save")).await;
    assert_eq!(first.location(), "/settings?done=saved&n=1");
    let review = site.post("/settings", Some(&bob), &fields("", "30s", "0", "review")).await;
    assert!(review.body.contains("<ins>30s</ins>") && !review.body.contains("10s"), "{}", review.body);
    let second = site.post("/settings", Some(&bob), &fields("", "30s", "0", "save")).await;
    assert_eq!(second.location(), "/settings?done=saved&n=1");
    // now both change the same: the second sees both values and whose the other is, and decides
    let late = site
        .post("/settings", Some(&bob), &[(poll, "20s"), ("seen:Service.PollInterval", "0"), ("step", "save")])
        .await;
    assert_eq!(late.status, StatusCode::CONFLICT);
    for words in ["10s", "20s", "ann", "Keep theirs", "Save mine nevertheless"] {
        assert!(late.body.contains(words), "{words}: {}", late.body);
    }
    // the same if the other went back to the default
    let back =
        site.post("/settings", Some(&ann), &[(poll, ""), ("seen:Service.PollInterval", "1"), ("step", "save")]).await;
    assert_eq!(back.location(), "/settings?done=saved&n=1");
    let late = site
        .post("/settings", Some(&bob), &[(poll, "20s"), ("seen:Service.PollInterval", "1"), ("step", "review")])
        .await;
    assert_eq!(late.status, StatusCode::CONFLICT);
    assert!(late.body.contains("default (15s)") && late.body.contains("ann"), "{}", late.body);
    let values: Vec<_> = site.store.settings().await.unwrap().into_iter().map(|one| (one.name, one.value)).collect();
    assert_eq!(values, [(stop.to_owned(), "30s".to_owned())]);
    // the history leads back to what was, but not to what is
    let page = site.get("/settings/Service.PollInterval", Some(&ann)).await.body;
    assert_eq!(page.matches("Go back to this").count(), 1, "{page}");
}

#[tokio::test]
async fn a_review_says_whom_it_concerns_and_what_happens() {
    let site = Site::new().await;
    let admin = site.admin().await;
    let fields =
        [("Web.SessionIdle", "1h"), ("Retention.LogAge", "1d"), ("Service.PollInterval", "9s"), ("step", "review")];
    let review = site.post("/settings", Some(&admin), &fields).await.body;
    for words in
        ["<ins>1h</ins>", "are signed out", "deleted when the database is cleaned up", "at once, on every node"]
    {
        assert!(review.contains(words), "{words}: {review}");
    }
    assert_eq!(review.matches("class=\"caution\"").count(), 2, "{review}");
    let hasty = [("Service.StaleTime", "3s"), ("Service.HeartbeatInterval", "1s"), ("step", "review")];
    let review = site.post("/settings", Some(&admin), &hasty).await.body;
    for words in [
        "makes another node primary",
        "a command that ignores SIGTERM can overlap",
        "writes into the database so often",
    ] {
        assert!(review.contains(words), "{words}: {review}");
    }
    let clash = [("Web.SessionIdle", "8d"), ("Service.PollInterval", "9s"), ("step", "review")];
    let clash = site.post("/settings", Some(&admin), &clash).await;
    assert_eq!(clash.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(clash.body.contains("Web.SessionIdle (8d) has to be at most Web.SessionAge (7d)"), "{}", clash.body);
    assert!(clash.body.contains("value=\"9s\""), "nothing that was typed is lost");
}

#[tokio::test]
async fn of_two_values_one_is_chosen_and_nothing_that_was_typed_is_lost() {
    let site = Site::new().await;
    let ann = site.admin().await;
    let (poll, stop) = ("Service.PollInterval", "Service.StopPatience");
    site.post("/settings", Some(&ann), &[(poll, "10s"), ("step", "save")]).await;
    let mine = |take: &'static str, seen: &'static str, step: &'static str| {
        vec![
            (poll, "21s"),
            ("seen:Service.PollInterval", seen),
            (stop, "30s"),
            ("take:Service.PollInterval", take),
            ("step", step),
        ]
    };
    let late = site.post("/settings", Some(&ann), &mine("", "0", "save")).await;
    assert_eq!(late.status, StatusCode::CONFLICT);
    for part in ["value=\"theirs\"", "value=\"mine\"", "10s", "21s", "name=\"Service.StopPatience\" value=\"30s\""] {
        assert!(late.body.contains(part), "{part}: {}", late.body);
    }
    let theirs = site.post("/settings", Some(&ann), &mine("theirs", "1", "review")).await.body;
    assert!(theirs.contains("<ins>30s</ins>") && !theirs.contains("21s"), "{theirs}");
    let own = site.post("/settings", Some(&ann), &mine("mine", "1", "review")).await.body;
    assert!(own.contains("<ins>30s</ins>") && own.contains("<ins>21s</ins>"), "{own}");
}

#[tokio::test]
async fn settings_leave_as_a_file_and_come_in_by_the_review() {
    let site = Site::new().await;
    let admin = site.admin().await;
    site.post("/settings", Some(&admin), &[("Service.PollInterval", "10s"), ("step", "save")]).await;
    let file = site.get("/settings/export", Some(&admin)).await;
    assert!(file.headers["content-disposition"].to_str().unwrap().contains("switchboard-settings.toml"));
    assert!(
        file.body.contains("Service.PollInterval = \"10s\"") && !file.body.contains("StopPatience"),
        "{}",
        file.body
    );
    assert!(site.get("/settings/export?all=1", Some(&admin)).await.body.contains("Service.StopPatience = \"20s\""));
    let changed = file.body.replace("10s", "11s") + "Service.StopPatience = \"9s\"\n";
    let review = site.post("/settings/import", Some(&admin), &[("toml", &changed)]).await;
    for words in ["<del>10s</del>", "<ins>11s</ins>", "<ins>9s</ins>", "Nothing has been saved yet"] {
        assert!(review.body.contains(words), "{words}: {}", review.body);
    }
    assert_eq!(site.store.setting("Service.PollInterval").await.unwrap().unwrap().value, "10s");
    let same = site.post("/settings/import", Some(&admin), &[("toml", &file.body)]).await;
    assert_eq!(same.location(), "/settings?done=unchanged");
    let bad = site.post("/settings/import", Some(&admin), &[("toml", "No.Such = 1\nLog.RingLines = \"<b>\"")]).await;
    assert_eq!(bad.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(bad.body.contains("line 1") && bad.body.contains("line 2") && !bad.body.contains("<b>\""), "{}", bad.body);
    let key = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=";
    let secret = format!("Service.MessengerKey = \"{key}\"");
    let secret = site.post("/settings/import", Some(&admin), &[("toml", &secret)]).await;
    assert_eq!(secret.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(secret.body.contains("on its own page only") && !secret.body.contains(key), "{}", secret.body);
}

#[tokio::test]
async fn a_setting_shows_every_source_and_which_wins() {
    let mut fixed = Fixed::default();
    fixed.set_at("Service.StopPatience", "5s", Source::File, "/etc/sb.toml, line 3".to_owned()).unwrap();
    fixed.set("Service.StopPatience", "6s", Source::Flag).unwrap();
    let site = Site::start(true, fixed).await;
    let admin = site.admin().await;
    for path in ["/settings/Service.StopPatience", "/settings"] {
        let page = site.get(path, Some(&admin)).await.body;
        for words in
            ["<b>6s</b>", "<del>5s</del>", "/etc/sb.toml, line 3", "overruled by flag", "--set Service.StopPatience"]
        {
            assert!(page.contains(words), "{path} {words}: {page}");
        }
    }
    assert!(site.get("/settings?q=6s", Some(&admin)).await.body.contains("1 setting<"), "found by its value");
    let saved = [("Service.PollInterval", "7s"), ("step", "save")];
    site.post("/settings", Some(&admin), &saved).await;
    let page = site.get("/settings/Service.PollInterval", Some(&admin)).await.body;
    assert!(page.contains("<del>default (15s)</del>") && page.contains(">7s</td>"), "{page}");
}

#[tokio::test]
async fn the_messenger_key_is_in_no_page() {
    let site = Site::new().await;
    let admin = site.admin().await;
    let key = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=";
    let name = "Service.MessengerKey";
    let short = site.post("/settings", Some(&admin), &[(name, "c2hvcnQ="), ("step", "save")]).await;
    assert_eq!(short.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(short.body.contains("exactly 32 are needed") && !short.body.contains("c2hvcnQ="), "{}", short.body);
    assert!(short.body.contains("id=\"replacement-fault\""), "on its own page, beside its field: {}", short.body);
    let empty = site.post("/settings", Some(&admin), &[(name, ""), ("step", "save")]).await;
    assert_eq!(empty.status, StatusCode::UNPROCESSABLE_ENTITY, "an empty key is none");
    for step in ["review", "edit", "save"] {
        let answer = site.post("/settings", Some(&admin), &[(name, key), ("step", step)]).await;
        assert!(!answer.body.contains(key), "{step}");
    }
    assert_eq!(site.store.settings().await.unwrap()[0].value, key);
    let unsure = site.post(&format!("/settings/{name}/generate"), Some(&admin), &[]).await;
    assert_eq!(unsure.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(site.store.settings().await.unwrap()[0].value, key);
    let stored: Vec<_> = site.store.settings().await.unwrap();
    let seen = stored.iter().find(|setting| setting.name == name).unwrap().version.to_string();
    let fields = [("confirm", "1"), ("at_once", "1"), ("seen", &*seen)];
    let generated = site.post(&format!("/settings/{name}/generate"), Some(&admin), &fields).await;
    assert_eq!(generated.location(), format!("/settings/{name}?done=key-now"), "{}", generated.body);
    let now = site.store.settings().await.unwrap().into_iter().find(|setting| setting.name == name).unwrap().value;
    assert_ne!(now, key);
    for (path, _) in pages() {
        let page = site.get(&path, Some(&admin)).await.body;
        assert!(!page.contains(&now) && !page.contains(key), "{path}");
    }
}

#[tokio::test]
async fn users_are_made_changed_and_deleted_and_one_administrator_stays() {
    let site = Site::new().await;
    let admin = site.admin().await;
    let made =
        site.post("/users", Some(&admin), &[("name", "bot"), ("role", "metrics_viewer"), ("with_token", "1")]).await;
    assert_eq!(made.status, StatusCode::OK);
    let token = made.body.split("class=\"token\">").nth(1).unwrap().split('<').next().unwrap().to_owned();
    assert!(site.web.sign_in.user_of_token(&token).await.unwrap().is_some());
    for path in ["/users", "/users/bot", "/audit"] {
        assert!(!site.get(path, Some(&admin)).await.body.contains(&token), "{path}: a token is shown once");
    }
    let nameless =
        site.post("/users", Some(&admin), &[("name", "a b"), ("email", "<x>"), ("role", "admin_viewer")]).await;
    assert_eq!(nameless.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(nameless.body.contains("value=\"&#60;x&#62;\""), "what was typed stays");
    assert_eq!(
        site.post("/users/ann/roles", Some(&admin), &[("role", "admin_viewer")]).await.status,
        StatusCode::CONFLICT
    );
    assert_eq!(site.post("/users/ann/delete", Some(&admin), &[("confirm", "ann")]).await.status, StatusCode::CONFLICT);
    let unsure = site.post("/users/bot/delete", Some(&admin), &[("confirm", "bo")]).await;
    assert_eq!(unsure.status, StatusCode::UNPROCESSABLE_ENTITY);
    let deleted = site.post("/users/bot/delete", Some(&admin), &[("confirm", "bot")]).await;
    assert_eq!(deleted.location(), "/users?done=user-deleted");
    assert_eq!(site.get("/users/bot", Some(&admin)).await.status, StatusCode::NOT_FOUND);
    let viewer = site.user(&admin, "vic", "admin_viewer").await;
    site.post("/users/vic/roles", Some(&admin), &[("role", "service_admin")]).await;
    assert_eq!(site.get("/status", Some(&viewer)).await.status, StatusCode::SEE_OTHER, "a changed role ends sessions");
}

#[tokio::test]
async fn the_output_of_a_run_is_downloaded_as_text_that_does_nothing_to_a_terminal() {
    let site = Site::new().await;
    let admin = site.admin().await;
    let page = site.get("/executions/2", Some(&admin)).await.body;
    assert!(page.contains("class=\"level-error stderr\"") && page.contains("no space left"), "{page}");
    let file = site.get("/executions/2/log.txt", Some(&admin)).await;
    assert_eq!(file.headers[header::CONTENT_TYPE], "text/plain; charset=utf-8");
    assert!(file.headers[header::CONTENT_DISPOSITION].to_str().unwrap().contains("execution-2.log.txt"));
    assert!(file.body.contains("error stderr ␛[31mno space left␛[0m <script>"), "{}", file.body);
    assert_eq!(file.body.lines().count(), 1);
    assert_eq!(site.get("/executions/999/log.txt", Some(&admin)).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn nobody_pretends_to_know_how_long_an_abandoned_run_took() {
    let site = Site::start(false, Fixed::default()).await;
    let admin = site.admin().await;
    let node = NodeId::new("service-1");
    let began = site.web.clock.now();
    let new = NewExecution {
        dispatcher: "disk-space".to_owned(),
        cause: Cause::Schedule,
        requested_by: None,
        queued_at: began,
        after: None,
        idempotency_key: None,
        retry_of: None,
    };
    let mut transaction = site.store.begin().await.unwrap();
    let run = transaction.begin_execution(&new, &node, 1).await.unwrap().unwrap();
    let seen = began.plus(Duration::from_hours(3));
    transaction.abandon_executions(&node, Some(seen), "the service node ended while this ran").await.unwrap();
    transaction.commit().await.unwrap();
    let page = site.get(&format!("/executions/{}", run.id), Some(&admin)).await.body;
    let ended = format!("<dt>Ended</dt><dd>not known; not before <time datetime=\"{seen}\"");
    assert!(page.contains(&ended) && page.contains("<dt>Duration</dt><dd>unknown</dd>"), "{page}");
    assert!(page.contains("the service node ended while this ran"), "{page}");
    for path in ["/dispatchers/disk-space", "/executions"] {
        let page = site.get(path, Some(&admin)).await.body;
        assert!(page.contains("class=\"right number took\">unknown</td>") && !page.contains("3 h"), "{path}: {page}");
    }
    let status = site.get("/status", Some(&admin)).await.body;
    assert!(status.contains("abandoned, duration unknown, ") && status.contains(">duration unknown<"), "{status}");
}

#[tokio::test]
async fn errors_are_pages_with_a_way_out() {
    let site = Site::new().await;
    let admin = site.admin().await;
    for path in
        ["/nowhere", "/dispatchers/nobody", "/executions/999", "/executions/x", "/settings/No.Such", "/users/nobody"]
    {
        let answer = site.get(path, Some(&admin)).await;
        assert!(matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST), "{path}: {}", answer.status);
        assert!(answer.body.contains("<h1>") && answer.body.contains("href=\"/status\""), "{path}: {}", answer.body);
    }
    // an address that is only posted to is no page
    assert_eq!(site.get("/dispatchers/disk-space/run", Some(&admin)).await.status, StatusCode::NOT_FOUND);
    let nobody = site.get("/nowhere", None).await;
    assert!(nobody.status == StatusCode::NOT_FOUND && nobody.body.contains("href=\"/sign-in\""));
    let script = Request::get("/nowhere").header(header::ACCEPT, "application/json").body(Body::empty()).unwrap();
    assert!(site.send(script).await.body.starts_with("{\"ok\":false"));
    assert_eq!(site.get("/", None).await.location(), "/status");
}
