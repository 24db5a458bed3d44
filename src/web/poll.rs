//! The same messages as the socket's, for browsers behind something that lets no WebSocket pass: one long poll after the other.

use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use crate::base::id::{BadCursor, Cursor};
use crate::web::WebState;
use crate::web::asked::Behind;
use crate::web::problem::Problem;
use crate::web::viewer::admission::{Admitted, Refused};
use crate::web::viewer::followed::{Followed, changed_after};
use crate::web::viewer::tab::{Sources, Tab};
use crate::web::viewer::wire::{self, Wish};
use crate::web::viewer::wish::{self, Wanted};

/// An answer without news is given after so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer has at most about so many bytes; the page asks again at once.
const LONGEST: usize = 256 << 10;

/// What a poll asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Asked {
    /// The version of the status the page has; everything for none or 0.
    version: Option<u64>,
    /// Of the status only this dispatcher, with its history.
    dispatcher: Option<String>,
    /// The `mark` of the history the page has.
    history: Option<String>,
    /// The last line the page has (`EPOCH:SEQ`); the newest lines for none.
    since: Option<String>,
    /// Whether lines are wanted: `1`.
    log: Option<u8>,
    level: Option<String>,
    /// Names, separated by commas.
    source: Option<String>,
    q: Option<String>,
    inverse: Option<u8>,
    execution: Option<String>,
}

impl Asked {
    fn lines(&self) -> Result<(Wanted, Option<Cursor>), Refused> {
        let (level, source, q) = (self.level.as_deref(), self.source.as_deref(), self.q.as_deref());
        let wanted = wanted(level, source, q, self.inverse, self.execution.as_deref())?;
        Ok((wanted, place(self.since.as_deref())?))
    }
}

/// Which lines an address asks for.
pub(crate) fn wanted(
    level: Option<&str>,
    source: Option<&str>,
    q: Option<&str>,
    inverse: Option<u8>,
    execution: Option<&str>,
) -> Result<Wanted, Refused> {
    let execution = match execution.filter(|text| !text.is_empty()) {
        Some(text) => Some(text.parse().map_err(|_| Refused::bad_request("execution: a number is expected"))?),
        None => None,
    };
    let wish = Wish {
        level: level.map(str::to_owned),
        sources: source.unwrap_or_default().split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        q: q.map(str::to_owned),
        inverse: inverse == Some(1),
        execution,
    };
    wish::check(&wish).map_err(|wrong| Refused::bad_request(format!("{}: {}", wrong.field, wrong.text)))
}

/// The place an address asks for.
pub(crate) fn place(since: Option<&str>) -> Result<Option<Cursor>, Refused> {
    since
        .filter(|since| !since.is_empty())
        .map(str::parse)
        .transpose()
        .map_err(|error: BadCursor| Refused::bad_request(error.to_string()))
}

/// `GET /status/poll`: messages as a JSON array; waits at most 20 s for news. 401, 403, 429, 503 as the socket, 400 for a
/// filter that is none.
pub(crate) async fn poll(
    State(state): State<WebState>,
    asked: Result<Behind<Asked>, Problem>,
    admitted: Result<Admitted, Response>,
) -> Result<Response, Response> {
    let admitted = admitted?;
    let Behind(asked, _) = asked.map_err(|problem| Refused::bad_request(problem.text.plain()).into_response())?;
    let _seat = admitted.sit_down(&state).map_err(IntoResponse::into_response)?;
    let _watching = state.hub.watch();
    let mut tab = Tab::default();
    let only = asked.dispatcher.as_deref().map(|name| Followed::new(name, asked.history.clone())).transpose();
    let only = only.map_err(|text| Refused::bad_request(format!("dispatcher: {text}")).into_response())?;
    tab.follow_status(asked.version.unwrap_or(0), only);
    if asked.log == Some(1) {
        let (wanted, since) = asked.lines().map_err(IntoResponse::into_response)?;
        tab.follow_log(wanted, since);
    }
    let sources = Sources { hub: &state.hub, painted: &state.viewers.painted, store: Some(&state.store) };
    let (mut versions, mut lines, mut changes) = (state.hub.versions(), state.hub.lines_seen(), state.store.changes());
    let until = Instant::now() + PATIENCE;
    let mut messages = Vec::new();
    loop {
        versions.borrow_and_update();
        lines.borrow_and_update();
        while tab.collect(sources, &mut messages).await {
            if messages.iter().map(|message| message.len()).sum::<usize>() > LONGEST {
                break;
            }
        }
        if !messages.is_empty() {
            break;
        }
        let news = async {
            tokio::select! {
                () = state.shutdown.stopping() => true,
                _ = versions.changed() => false,
                _ = lines.changed(), if tab.takes_lines() => false,
                () = changed_after(&mut changes, tab.history_due_at()) => false,
            }
        };
        match timeout_at(until, news).await {
            Ok(false) => {}
            Ok(true) | Err(_) => break,
        }
    }
    let mut body = format!("[{}", wire::hello(state.clock.now()));
    for message in messages {
        body.push(',');
        body.push_str(&message);
    }
    body.push(']');
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, body).into_response())
}
