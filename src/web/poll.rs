//! The same messages as the socket's, for browsers behind something that lets no WebSocket pass: one long poll after the other.

use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use tokio::time::{Instant, sleep, timeout_at};

use crate::web::WebState;
use crate::web::query::Asked;
use crate::web::viewer::admission::{ASKED_EVERY, Admitted, Checks, Refused, Standing};
use crate::web::viewer::followed::changed_after;
use crate::web::viewer::tab::{Sources, Tab};
use crate::web::viewer::wire;

/// An answer without news is given after so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer has at most about so many bytes; the page asks again at once.
const LONGEST: usize = 256 << 10;

/// Comes back when the session or token has ended.
async fn ended(checks: &mut Checks, admitted: &Admitted, state: &WebState) {
    loop {
        sleep(ASKED_EVERY).await;
        if checks.ask(admitted, state).await != Standing::Good {
            return;
        }
    }
}

/// `GET /status/poll`: messages as a JSON array; waits at most 20 s for news. 401, 403, 429, 503 as the socket, 400 for a
/// filter that is none.
pub(crate) async fn poll(
    State(state): State<WebState>,
    admitted: Result<Admitted, Response>,
    asked: Result<Asked, Refused>,
) -> Result<Response, Response> {
    let admitted = admitted?;
    let asked = asked.map_err(IntoResponse::into_response)?;
    let version = asked.number("version").map_err(IntoResponse::into_response)?;
    let only = asked.followed().map_err(IntoResponse::into_response)?;
    let lines = if asked.switch("log").map_err(IntoResponse::into_response)? {
        Some(asked.lines().map_err(IntoResponse::into_response)?)
    } else {
        None
    };
    let _seat = admitted.sit_down(&state).map_err(IntoResponse::into_response)?;
    let _watching = state.hub.watch();
    let mut tab = Tab::default();
    tab.follow_status(version.unwrap_or(0), only);
    if let Some((wanted, since)) = lines {
        tab.follow_log(wanted, since);
    }
    let sources = Sources { hub: &state.hub, painted: &state.viewers.painted, store: Some(&state.store) };
    let (mut versions, mut lines, mut changes) = (state.hub.versions(), state.hub.lines_seen(), state.store.changes());
    let (until, mut checks) = (Instant::now() + PATIENCE, Checks::new(&state));
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
                // whoever may not look any more gets no news; the next poll says why
                () = ended(&mut checks, &admitted, &state) => true,
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
