//! Under a base path: no link, form, file or redirect of any page leads out of it.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use regex::Regex;
use switchboard::app::front::Front;
use switchboard::base::shutdown::Shutdown;
use switchboard::config::settings::Fixed;
use switchboard::web::outside;

use super::site::{HOST, Site};

const BASE: &str = "/tools/switchboard";

struct Under {
    site: Site,
    front: Front,
    cookie: String,
}

struct Answer {
    status: StatusCode,
    location: String,
    kind: String,
    text: String,
    cookies: Vec<String>,
}

impl Under {
    async fn new() -> Self {
        let site = Site::under(BASE.parse().unwrap(), true, Fixed::default()).await;
        let front = Front::new(
            site.router.clone(),
            outside(site.web.clone()),
            BASE.parse().unwrap(),
            site.web.settings.clone(),
            Shutdown::new(),
        );
        let cookie = site.admin().await;
        Self { site, front, cookie }
    }

    async fn ask(&self, method: &str, path: &str, body: &'static str) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, HOST)
            .header(header::ACCEPT, "text/html")
            .header(header::COOKIE, &self.cookie)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header("sec-fetch-site", "same-origin")
            .body(Body::from(body))
            .unwrap();
        let response = self.front.answer(request, "127.0.0.1:1".parse().unwrap(), false).await;
        let text = |name| response.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        let (status, location, kind) = (response.status(), text(header::LOCATION), text(header::CONTENT_TYPE));
        let cookies = response.headers().get_all(header::SET_COOKIE).iter();
        let cookies = cookies.map(|cookie| cookie.to_str().unwrap().to_owned()).collect();
        let body = axum::body::to_bytes(response.into_body(), 32 << 20).await.unwrap();
        Answer { status, location, kind, text: String::from_utf8_lossy(&body).into_owned(), cookies }
    }
}

#[tokio::test]
async fn nothing_on_any_page_leads_out_of_the_base_path() {
    let under = Under::new().await;
    let leads =
        Regex::new(r#"\b(?:href|action|formaction|src|data-live|data-poll|data-sign-in|data-url)="([^"]*)""#).unwrap();
    let imports = Regex::new(r"(?:from|import) *\(?'([^']*)'").unwrap();
    let mut open = vec![format!("{BASE}/"), format!("{BASE}/no-such-page"), format!("{BASE}/executions/999999")];
    let (mut seen, mut forms) = (BTreeSet::new(), 0);
    while let Some(path) = open.pop() {
        let whole = path.split('#').next().unwrap().replace("&amp;", "&").replace("&#38;", "&");
        if !seen.insert(whole.clone()) || whole.ends_with("/status/live") || whole.ends_with("/status/poll") {
            continue;
        }
        let answer = under.ask("GET", &whole, "").await;
        assert!(!answer.status.is_server_error(), "{whole}: {}", answer.status);
        if answer.status.is_redirection() {
            assert!(answer.location.starts_with(&format!("{BASE}/")), "{whole} leads to {}", answer.location);
            open.push(answer.location);
            continue;
        }
        if answer.kind.starts_with("text/javascript") {
            for found in imports.captures_iter(&answer.text) {
                assert!(found[1].starts_with("./"), "{whole} imports {}", &found[1]);
            }
        }
        if !answer.kind.starts_with("text/html") {
            continue;
        }
        for found in leads.captures_iter(&answer.text) {
            let to = &found[1];
            if to.starts_with('#') || to.starts_with("https://") {
                continue;
            }
            assert!(to.starts_with(&format!("{BASE}/")), "{whole} leads out: {}", &found[0]);
            if found[0].starts_with("href") || found[0].starts_with("src") {
                open.push(to.to_owned());
            } else {
                forms += 1;
            }
        }
    }
    for page in
        ["/status", "/settings", "/users", "/nodes", "/audit", "/diagnostics", "/about", "/password", "/executions"]
    {
        assert!(seen.contains(&format!("{BASE}{page}")), "{page} was not seen: {seen:?}");
    }
    assert!(seen.len() > 30 && forms > 50, "{} pages and files, {forms} forms", seen.len());
    let row = under.site.web.hub.picture();
    assert!(!row.rows.is_empty(), "rows were among them");
}

#[tokio::test]
async fn what_is_asked_for_elsewhere_is_told_the_right_address() {
    let under = Under::new().await;
    for outside in ["/", "/status", "/tools", "/tools/switchboards", "/api/status"] {
        let answer = under.ask("GET", outside, "").await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{outside}");
        assert!(answer.text.contains(&format!("the pages stand under {BASE}/")), "{}", answer.text);
    }
    assert_eq!(under.ask("GET", BASE, "").await.location, format!("{BASE}/"));
}

#[tokio::test]
async fn actions_and_cookies_stay_within() {
    let mut under = Under::new().await;
    let answer = under.ask("POST", &format!("{BASE}/diagnostics/purge"), "").await;
    assert!(answer.location.starts_with(&format!("{BASE}/diagnostics?done=")), "{}", answer.location);
    let answer = under.ask("POST", &format!("{BASE}/sign-out"), "").await;
    assert_eq!(answer.location, format!("{BASE}/sign-in?done=signed-out"));
    assert!(answer.cookies[0].contains(&format!("Path={BASE}")), "{:?}", answer.cookies);
    under.cookie = String::new();
    let answer = under.ask("GET", &format!("{BASE}/executions"), "").await;
    assert_eq!(answer.location, format!("{BASE}/sign-in?next=/executions"));
    let page = under.ask("GET", &answer.location, "").await;
    assert!(page.cookies[0].contains(&format!("Path={BASE}")), "{:?}", page.cookies);
    assert!(page.text.contains("value=\"/executions\""), "where to go is kept");
}
