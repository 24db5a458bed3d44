//! One dispatcher: what it is, its runs and how long they took; and the actions of all pages on it.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};

use crate::control::Asked;
use crate::messenger::client::LinkState;
use crate::model::execution::Cause;
use crate::protocol::state::{DispatcherState, Origin};
use crate::web::WebState;
use crate::web::asked::{Behind, InPath, Nothing, OfExecution};
use crate::web::form::Acting;
use crate::web::fragment::{dispatcher_row, link_pill, stale};
use crate::web::heard::Hearing;
use crate::web::history::history;
use crate::web::html::{Html, visible};
use crate::web::notice::{Code, Done};
use crate::web::page::{Frame, Place, show};
use crate::web::phrase::{Fill as _, Phrase};
use crate::web::problem::Problem;
use crate::web::session::SignedIn;
use crate::web::texts::{EN, Texts};

/// The service node is waited for so long after nobody watched for a while.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(300);

#[derive(Template)]
#[template(path = "pages/dispatcher.html")]
struct DispatcherPage {
    t: &'static Texts,
    frame: Frame,
    title: Html,
    description: Html,
    link: Html,
    stale: Option<Phrase>,
    row: Html,
    d: DispatcherState,
    origin: &'static str,
    history: Html,
}

/// GET `/dispatchers/{name}`
pub(crate) async fn dispatcher(
    State(web): State<WebState>,
    who: SignedIn,
    InPath(name): InPath<String>,
    Behind(Nothing {}, done): Behind<Nothing>,
) -> Result<Response, Problem> {
    let _watcher = web.hub.watch();
    let (d, live) = find(&web, &name)
        .await?
        .ok_or_else(|| Problem::new(axum::http::StatusCode::NOT_FOUND, EN.no_such_dispatcher.with("name", &name)))?;
    let link = web.hub.link();
    let mut frame = Frame::new(&web, &who, Place::Status, d.title.clone()).await.noting(&done);
    frame.live = true;
    let page = DispatcherPage {
        t: EN,
        title: visible(&d.title),
        description: visible(&d.description),
        link: Html::rendered(link_pill(&link, &web.base)),
        stale: (!live).then(stale),
        row: Html::rendered(dispatcher_row(&d, live, &web.base)),
        origin: match d.origin {
            Origin::BuiltIn => EN.origin_built_in,
            Origin::Job => EN.origin_job,
            Origin::Program => EN.origin_program,
        },
        history: Html::rendered(history(&web.store, &d.name, &web.base).await?),
        d,
        frame,
    };
    Ok(show(&page))
}

/// The dispatcher, and whether the service node says so itself.
pub(crate) async fn find(web: &WebState, name: &str) -> Result<Option<(DispatcherState, bool)>, Problem> {
    web.hub.current(PATIENCE).await;
    let picture = web.hub.picture();
    if picture.link.state == LinkState::Live
        && let Some(state) = &picture.state
    {
        return Ok(state.dispatchers.get(name).cloned().map(|dispatcher| (dispatcher, true)));
    }
    let stored = crate::live::stored::dispatchers(&web.store).await?;
    Ok(stored.into_iter().find(|dispatcher| dispatcher.name == name).map(|dispatcher| (dispatcher, false)))
}

/// POST `/dispatchers/{name}/{verb}`: run, pause, resume or cancel.
pub(crate) async fn act(
    State(web): State<WebState>,
    InPath((name, verb)): InPath<(String, String)>,
    Acting(form): Acting,
) -> Result<Response, Problem> {
    let actor = form.actor();
    let heard = Hearing::of(&web, &name, &form.headers).await;
    let done = match verb.as_str() {
        "run" => {
            let asked = web.control.run(&actor, &name, Cause::Manual, form.fields.number("after"), None).await?;
            if asked.new && asked.told {
                heard.until_changed().await;
            }
            Done::run(asked_code(&asked), asked.execution.id)
        }
        "pause" => {
            if web.control.pause(&actor, &name).await? {
                heard.until(|row| row.pause().is_some()).await;
            }
            Code::Paused.into()
        }
        "resume" => {
            if web.control.resume(&actor, &name).await? {
                heard.until(|row| row.pause().is_none()).await;
            }
            Code::Resumed.into()
        }
        "cancel" => match web.control.cancel_all(&actor, &name).await?.as_slice() {
            [] => Code::NothingToCancel.into(),
            runs => {
                heard.until_changed().await;
                match runs {
                    [one] => Done::run(Code::Cancelled, one.id),
                    _ => Done::count(Code::CancelledAll, runs.len()),
                }
            }
        },
        _ => return Ok(Problem::not_found().into_response()),
    };
    Ok(done.answer(&form.headers, &web.base, "/status"))
}

/// POST `/executions/{id}/cancel`
pub(crate) async fn cancel(
    State(web): State<WebState>,
    OfExecution(id): OfExecution,
    Acting(form): Acting,
) -> Result<Response, Problem> {
    let heard = match web.store.execution(id).await? {
        Some(run) => Hearing::of(&web, &run.dispatcher, &form.headers).await,
        None => Hearing::none(),
    };
    let run = web.control.cancel(&form.actor(), id).await?;
    heard.until_changed().await;
    Ok(Done::run(Code::Cancelled, run.id).answer(&form.headers, &web.base, &format!("/executions/{id}")))
}

fn asked_code(asked: &Asked) -> Code {
    match (asked.new, asked.told) {
        (false, _) => Code::Again,
        (true, true) => Code::Run,
        (true, false) => Code::RunLater,
    }
}

/// How long the Reconnect button waits to see whether it helped.
const RECONNECT_PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

/// POST `/messenger/reconnect`
pub(crate) async fn reconnect(State(web): State<WebState>, Acting(form): Acting) -> Response {
    let mut status = web.messenger.status();
    web.messenger.reconnect();
    let live = status.wait_for(|link| link.state == LinkState::Live);
    let came = matches!(tokio::time::timeout(RECONNECT_PATIENCE, live).await, Ok(Ok(_)));
    let code = if came { Code::Reconnected } else { Code::Reconnecting };
    Done::from(code).answer(&form.headers, &web.base, "/status")
}
