//! The frame around every page, its menu and its errors.

use std::time::Duration;

use askama::Template;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{Html as HtmlBody, IntoResponse, Response};

use crate::auth::access::{Right, may};
use crate::base::chain::chain;
use crate::config::base_path::BasePath;
use crate::config::schema::name;
use crate::messenger::client::LinkState;
use crate::web::html::Html;
use crate::web::moment::stamp;
use crate::web::notice::DoneQuery;
use crate::web::phrase::{Fill as _, Phrase};
use crate::web::problem::{ForPages, Problem, wants_json, wants_page};
use crate::web::session::{SignedIn, cookie, find};
use crate::web::texts::{EN, Texts};
use crate::web::{WebState, assets, csrf};

/// What passes within this time is not worth a warning: a link made anew, another node becoming primary.
const PASSING: Duration = Duration::from_secs(3);

/// What the menu leads to, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Status,
    Executions,
    Settings,
    Nodes,
    Audit,
    Diagnostics,
    Users,
    About,
    /// Not in the menu.
    Elsewhere,
}

/// One line of the menu.
pub(crate) struct MenuItem {
    pub(crate) href: &'static str,
    pub(crate) text: &'static str,
    pub(crate) here: bool,
}

/// The frame: what stands around a page's own content.
pub(crate) struct Frame {
    pub(crate) title: String,
    pub(crate) place: Place,
    /// Who is signed in, if somebody is.
    pub(crate) user: Option<String>,
    /// Somebody may be signed in, but the database can't say now: the menu stays.
    pub(crate) unsure: bool,
    pub(crate) may_act: bool,
    /// What every form carries.
    pub(crate) token: String,
    /// Whether scripts open the socket on this page.
    pub(crate) live: bool,
    /// What every page says while the service can't be reached; one that is live says it itself.
    pub(crate) warning: Option<Phrase>,
    /// What every page says while no node is primary.
    pub(crate) unled: Option<Phrase>,
    /// What came of the action that led here.
    pub(crate) notice: Option<Phrase>,
    /// Where static files are.
    pub(crate) assets: &'static str,
    /// What stands before every path.
    pub(crate) base: BasePath,
    /// Which build of the pages this is.
    pub(crate) build: String,
}

impl Frame {
    /// For somebody signed in.
    pub(crate) async fn new(web: &WebState, who: &SignedIn, place: Place, title: impl Into<String>) -> Self {
        Self {
            user: Some(who.session.user.name.to_string()),
            may_act: who.may_act,
            token: who.form_token(),
            warning: warning(web),
            unled: unled(web).await,
            ..Self::bare(web, place, title)
        }
    }

    /// For somebody not signed in.
    pub(crate) fn bare(web: &WebState, place: Place, title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            place,
            user: None,
            unsure: false,
            may_act: false,
            token: String::new(),
            live: false,
            warning: None,
            unled: None,
            notice: None,
            assets: assets::base(),
            base: web.base.clone(),
            build: assets::build(),
        }
    }

    /// With the words for the code in the page's address.
    pub(crate) fn noting(mut self, done: &DoneQuery) -> Self {
        self.notice = done.words();
        self
    }

    /// The signs of states and actions, once in the page itself: a row that is replaced shows them at once.
    #[expect(clippy::unused_self, reason = "templates reach it through the frame")]
    pub(crate) fn icons(&self) -> Html {
        Html::rendered(include_str!("../../static/icons.svg").trim_end().to_owned())
    }

    /// The menu, in its order.
    pub(crate) fn menu(&self) -> Vec<MenuItem> {
        let t = EN;
        [
            (Place::Status, "/status", t.menu_status),
            (Place::Executions, "/executions", t.menu_executions),
            (Place::Settings, "/settings", t.menu_settings),
            (Place::Nodes, "/nodes", t.menu_nodes),
            (Place::Audit, "/audit", t.menu_audit),
            (Place::Diagnostics, "/diagnostics", t.menu_diagnostics),
            (Place::Users, "/users", t.menu_users),
            (Place::About, "/about", t.menu_about),
        ]
        .into_iter()
        .map(|(place, href, text)| MenuItem { href, text, here: place == self.place })
        .collect()
    }
}

/// A page, from its template.
pub(crate) fn show(template: &impl Template) -> Response {
    match template.render() {
        Ok(markup) => HtmlBody(markup).into_response(),
        Err(error) => {
            tracing::error!("a page could not be rendered: {}", chain(&error));
            Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR).into_response()
        }
    }
}

/// A page with another status than 200.
pub(crate) fn show_as(status: StatusCode, template: &impl Template) -> Response {
    let mut response = show(template);
    if response.status() == StatusCode::OK {
        *response.status_mut() = status;
    }
    response
}

fn warning(web: &WebState) -> Option<Phrase> {
    let link = web.messenger.status();
    let link = link.borrow();
    if link.state == LinkState::Live || web.clock.now().since(link.since) < PASSING {
        return None;
    }
    let poll = web.settings.borrow().text(name::POLL_INTERVAL).to_owned();
    let cause = link.error.clone().unwrap_or_else(|| EN.link_no_cause.to_owned());
    Some(EN.link_warning.with("cause", cause).markup("since", stamp(link.since)).with("poll", poll))
}

/// What there is to say while no node is primary. A database that can't say has pages of its own that do.
async fn unled(web: &WebState) -> Option<Phrase> {
    let leadership = web.store.leadership().await.ok()?;
    if leadership.primary().is_some() || leadership.over_for < PASSING {
        return None;
    }
    if leadership.fencing == 0 {
        return Some(EN.unled_never.into());
    }
    Some(EN.unled.markup("since", stamp(web.clock.now().minus(leadership.over_for))))
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage {
    t: &'static Texts,
    frame: Frame,
    status: u16,
    text: Phrase,
    /// Whether the same address may well answer in a moment.
    again: bool,
    back: Option<String>,
}

/// Puts a page around every problem (JSON for scripts), whoever found it: a handler, an extractor or the router.
pub(crate) async fn dress(State(web): State<WebState>, request: Request, next: Next) -> Response {
    let (uri, headers) = (request.uri().clone(), request.headers().clone());
    let is_get = request.method() == Method::GET;
    let response = next.run(request).await;
    let status = response.status();
    let found = response.extensions().get::<Problem>().cloned();
    let problem = match found {
        Some(problem) => problem,
        None if status == StatusCode::METHOD_NOT_ALLOWED => Problem::not_found(),
        None if status.as_u16() >= 400 && wants_page(&headers) && !has_page(&response) => {
            let said = response.extensions().get::<ForPages>().map(|ForPages(problem)| problem.clone());
            said.unwrap_or_else(|| Problem::of_status(status))
        }
        None => return response,
    };
    // an address that is only posted to is no page: whoever reloads or bookmarks it is told so
    let status = if status == StatusCode::METHOD_NOT_ALLOWED { StatusCode::NOT_FOUND } else { status };
    let mut dressed = if wants_json(&headers) {
        Json(serde_json::json!({ "ok": false, "text": problem.text.plain() })).into_response()
    } else {
        let mut frame = frame_of_problem(&web, &uri, &headers, status).await;
        problem.title.unwrap_or_else(|| EN.error_title(status.as_u16())).clone_into(&mut frame.title);
        let back = crate::web::notice::back(&headers, &web.base).filter(|_| frame.user.is_some() || frame.unsure);
        let again = is_get && status == StatusCode::SERVICE_UNAVAILABLE;
        show(&ErrorPage { t: EN, frame, status: status.as_u16(), text: problem.text, again, back })
    };
    *dressed.status_mut() = status;
    for (name, value) in response.headers() {
        if ![header::CONTENT_TYPE, header::CONTENT_LENGTH, header::ALLOW].contains(name) {
            dressed.headers_mut().append(name, value.clone());
        }
    }
    dressed
}

fn has_page(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    kind.starts_with("text/html")
}

/// The frame for whoever is signed in. While the database can't say, nobody is.
async fn frame_of_problem(web: &WebState, uri: &Uri, headers: &HeaderMap, status: StatusCode) -> Frame {
    let mut frame = Frame::bare(web, Place::Elsewhere, String::new());
    if status.is_server_error() {
        frame.unsure = cookie(uri, &web.base, headers).is_some();
        return frame;
    }
    if let Ok(Some((session, cookie))) = find(web, uri, headers).await
        && may(&session.user, Right::Look)
    {
        use secrecy::ExposeSecret as _;
        frame.user = Some(session.user.name.to_string());
        frame.may_act = may(&session.user, Right::Act);
        frame.token = csrf::token(cookie.expose_secret());
    }
    frame
}
