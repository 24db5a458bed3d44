//! Every route, asked as it must not be: in bad paths, queries, bodies and by wrong methods. Pages answer with our error page and a
//! way out, `/api` in its one shape; nowhere do the framework's own words come through.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::Value;
use switchboard::model::user::ServiceRole;
use switchboard::web::pages::{ROUTES, Route};

use crate::front::Front;
use crate::pages::site::{Answer, HOST, Site};

/// Words of axum, hyper and serde that nobody should have to read.
const FRAMEWORK: &[&str] = &[
    "Failed to",
    "Cannot parse",
    "Invalid URL",
    "Form requests must",
    "Expected request",
    "Method Not Allowed",
    "deserialize",
];

/// What stands where a name, a number or a verb is expected.
const BAD_PATHS: &[&str] = &["abc", "0", "-1", "99999999999999999999", "%ff", "%3Cscript%3E", "%00", "a%2Fb", ".."];

/// Routes that are no pages: a socket, what scripts of ours poll, and a stream with words of its own.
fn is_page(route: &Route) -> bool {
    !["/status/live", "/status/poll", "/logs.txt"].contains(&route.path)
}

fn with(path: &str, value: &str) -> String {
    path.split('/').map(|part| if part.starts_with('{') { value } else { part }).collect::<Vec<_>>().join("/")
}

/// An address that is well but for what comes behind it.
fn well(path: &str) -> String {
    let name = if path.starts_with("/settings") { "Service.MessengerKey" } else { "disk-space" };
    let name = if path.starts_with("/users") { "ann" } else { name };
    path.replace("{name}", name).replace("{id}", "2").replace("{verb}", "run")
}

async fn ask(site: &Site, method: &str, path: &str, cookie: &str, headers: &[(&str, &str)], body: Body) -> Answer {
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, HOST);
    request = request.header(header::COOKIE, cookie).header(header::ORIGIN, format!("http://{HOST}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    site.send(request.body(body).unwrap()).await
}

/// Our page, with this status, in words of ours, and with a way out.
fn is_our_page(answer: &Answer, status: &[u16], what: &str) {
    assert!(status.contains(&answer.status.as_u16()), "{what}: {} {}", answer.status, answer.body);
    let kind = answer.headers.get(header::CONTENT_TYPE).map_or("", |kind| kind.to_str().unwrap());
    assert!(kind.starts_with("text/html"), "{what}: {kind}: {}", answer.body);
    assert!(
        answer.body.contains("class=\"problem\"") && answer.body.contains("href=\"/status\""),
        "{what}: no way out"
    );
    no_foreign_words(&answer.body, what);
    assert!(!answer.body.contains("<script>"), "{what}: what was sent stands there as markup");
    assert!(answer.body.len() < 20_000, "{what}: the answer repeats all that was sent");
}

fn no_foreign_words(text: &str, what: &str) {
    for words in FRAMEWORK {
        assert!(!text.contains(words), "{what}: {text}");
    }
}

#[tokio::test]
async fn pages_refuse_bad_addresses_with_a_page_of_ours() {
    let site = Site::new().await;
    let admin = site.admin().await;
    let long = "x".repeat(4000);
    for route in ROUTES.iter().filter(|route| is_page(route)) {
        // with and without saying that a page is wanted: a terminal says nothing
        for accept in ["text/html", "*/*"] {
            let headers = [("accept", accept), ("content-type", "application/x-www-form-urlencoded")];
            if route.path.contains('{') {
                for bad in BAD_PATHS.iter().copied().chain([long.as_str()]) {
                    let path = with(route.path, bad);
                    let what = format!("{} {path} ({accept})", route.method);
                    let answer = ask(&site, route.method, &path, &admin, &headers, Body::empty()).await;
                    is_our_page(&answer, &[400, 404, 422], &what);
                }
            }
            if route.method == "GET" {
                for query in ["page=x", "done=run&done=run", "%3Cscript%3E=1", &format!("{long}=1")] {
                    let path = format!("{}?{query}", well(route.path));
                    let answer = ask(&site, "GET", &path, &admin, &headers, Body::empty()).await;
                    is_our_page(&answer, &[400], &path);
                }
            }
        }
    }
}

#[tokio::test]
async fn filters_of_pages_are_refused_with_what_is_allowed() {
    let site = Site::new().await;
    let admin = site.admin().await;
    for (path, words) in [
        ("/executions?outcome=nonsense", "normal, warning, error"),
        ("/executions?phase=never", "queued, running, completed"),
        ("/executions?before=x", "Older"),
        ("/executions?page=x", "dispatcher, outcome, phase, before"),
        ("/executions/abc", "named by numbers"),
        ("/executions/abc/log.txt", "named by numbers"),
        ("/audit?before=-1", "Older"),
        ("/audit?whom=ann", "who, action, subject, before"),
        ("/diagnostics?level=loud", "trace, debug, info, warn and error"),
        ("/nodes?x=1", "takes nothing"),
    ] {
        let answer = site.get(path, Some(&admin)).await;
        is_our_page(&answer, &[400, 404], path);
        assert!(answer.body.contains(words), "{path}: {}", answer.body);
        let script = ask(&site, "GET", path, &admin, &[("accept", "application/json")], Body::empty()).await;
        let json: Value = serde_json::from_str(&script.body).unwrap_or_else(|_| panic!("{path}: {}", script.body));
        assert!(json["ok"] == false && json["text"].as_str().unwrap().contains(words), "{path}: {json}");
    }
    // empty fields of a filter are no filter: forms send them
    let empty = site.get("/executions?dispatcher=&outcome=&phase=", Some(&admin)).await;
    assert_eq!(empty.status, StatusCode::OK);
    let polled = site.get("/status/poll?version=x", Some(&admin)).await;
    assert_eq!(polled.status, StatusCode::BAD_REQUEST);
    no_foreign_words(&polled.body, "/status/poll");
    let origin = [("accept", "*/*"), ("x-api-key", "none")];
    for headers in [&origin[..1], &origin[..]] {
        let socket = ask(&site, "GET", "/status/live", &admin, headers, Body::empty()).await;
        assert!(socket.status.is_client_error() && !socket.body.contains("header"), "{}", socket.body);
    }
}

#[tokio::test]
async fn pages_refuse_bad_bodies_and_wrong_methods_with_a_page_of_ours() {
    let site = Site::new().await;
    let admin = site.admin().await;
    let form = ("content-type", "application/x-www-form-urlencoded");
    for route in ROUTES.iter().filter(|route| is_page(route)) {
        let path = well(route.path);
        for method in ["PUT", "PATCH", "DELETE", "OPTIONS"] {
            let what = format!("{method} {path}");
            is_our_page(&ask(&site, method, &path, &admin, &[form], Body::empty()).await, &[404], &what);
        }
        if route.method == "POST" {
            let json =
                ask(&site, "POST", &path, &admin, &[("content-type", "application/json")], Body::from("{}")).await;
            is_our_page(&json, &[415], &format!("POST {path} with JSON"));
            let bare = ask(&site, "POST", &path, &admin, &[], Body::from("a=b")).await;
            is_our_page(&bare, &[415], &format!("POST {path} without a kind"));
            let large = ask(&site, "POST", &path, &admin, &[form], Body::from("a=b&".repeat(20_000))).await;
            is_our_page(&large, &[413], &format!("POST {path} too large"));
        }
    }
    for path in ["/nowhere", "/static/x/app.exe", "/static/%ff/app.css", "/executions/1/2/3", "//", "/%ff"] {
        is_our_page(&site.get(path, Some(&admin)).await, &[400, 404], path);
    }
}

/// The error in an answer, which must have the one shape.
fn has_the_shape(code: StatusCode, text: &str, allowed: &[u16], what: &str) {
    assert!(allowed.contains(&code.as_u16()), "{what}: {code} {text}");
    let body: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("{what}: {text}"));
    let error = &body["error"];
    assert_eq!(error["code"], code.as_u16(), "{what}: {body}");
    assert!(error["status"].as_str().is_some_and(|word| !word.is_empty()), "{what}: {body}");
    assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{what}: {body}");
    no_foreign_words(text, what);
    assert!(text.len() < 2_000, "{what}: the answer repeats all that was sent");
}

#[tokio::test]
async fn every_api_route_refuses_in_its_one_shape() {
    let front = Front::new().await;
    front.declare(&["disk-space"]).await;
    let token = front.token("admin", ServiceRole::ServiceAdmin).await;
    let document = switchboard::api::openapi();
    let long = "x".repeat(4000);
    let large = format!("{{\"value\":\"{}\"}}", "x".repeat(70_000));
    for (template, operations) in document["paths"].as_object().unwrap() {
        let well = template.replace("{id}", "1").replace("{name}", "disk-space");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            let key = method.to_lowercase();
            let what = format!("{method} {template}");
            if operations.get(&key).is_none() {
                let wrong = front.call(method, &well, &token, "").await;
                has_the_shape(wrong.code, &wrong.text, &[404], &what);
                continue;
            }
            if !template.starts_with("/api/") {
                continue;
            }
            for query in ["page=x", "limit=many&limit=2", "%3Cscript%3E=1", &format!("{long}=1")] {
                let bad = front.call(method, &format!("{well}?{query}"), &token, "").await;
                has_the_shape(bad.code, &bad.text, &[400], &what);
            }
            if template.contains('{') {
                for bad in BAD_PATHS.iter().copied().chain([long.as_str()]) {
                    let path = template.replace("{id}", bad).replace("{name}", bad);
                    let answer = front.call(method, &path, &token, "").await;
                    has_the_shape(answer.code, &answer.text, &[400, 404], &format!("{method} {path}"));
                }
            }
            if method != "GET" {
                for body in ["{", "[]", "null", "{\"x-unknown\": 1}", "\u{1F600}"] {
                    let answer = front.call(method, &well, &token, body).await;
                    has_the_shape(answer.code, &answer.text, &[400, 404], &format!("{what} with {body}"));
                }
                let answer = front.call(method, &well, &token, &large).await;
                has_the_shape(answer.code, &answer.text, &[404, 413], &format!("{what} too large"));
            }
        }
    }
    for path in ["/api", "/api/", "/api/nowhere", "/api/%ff", "/api//status"] {
        let answer = front.call("GET", path, &token, "").await;
        has_the_shape(answer.code, &answer.text, &[404], path);
    }
    assert_eq!(front.store.settings().await.unwrap(), [], "nothing was changed by all that");
}
