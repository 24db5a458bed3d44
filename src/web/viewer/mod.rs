//! One browser tab over one WebSocket: the whole state first, then changes; lines by number, gaps told.

pub(crate) mod admission;
pub(crate) mod channel;
pub(crate) mod followed;
pub(crate) mod painted;
pub(crate) mod seats;
pub(crate) mod socket;
pub(crate) mod tab;
pub(crate) mod wire;
pub(crate) mod wish;

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};

use crate::config::base_path::BasePath;
use crate::web::WebState;
use crate::web::viewer::admission::{Admitted, Refused};
use crate::web::viewer::channel::Handshake;
use crate::web::viewer::painted::Painted;
use crate::web::viewer::seats::Seats;
use crate::web::viewer::socket::Socket;

/// How long a new socket waits until this web node has caught up with the service node.
const CATCH_UP: Duration = Duration::from_secs(1);

/// What all viewers of a web node share. Clones share it too.
#[derive(Clone, Debug, Default)]
pub struct Viewers {
    pub(crate) seats: Seats,
    pub(crate) painted: Painted,
}

impl Viewers {
    /// Nobody yet; their links stand under this path.
    #[must_use]
    pub fn new(base: BasePath) -> Self {
        Self { painted: Painted::new(base), ..Self::default() }
    }

    /// How many tabs, polls and streams follow now.
    pub fn count(&self) -> usize {
        self.seats.count()
    }
}

/// `GET /status/live`: the socket. 401 without a session, 403 from a foreign page, 429 or 503 if there are too many.
pub(crate) async fn live(
    State(state): State<WebState>,
    headers: HeaderMap,
    uri: Uri,
    admitted: Result<Admitted, Response>,
    handshake: Result<Handshake, Refused>,
) -> Result<Response, Response> {
    let admitted = admitted?;
    admitted.check_origin(&headers, &uri).map_err(IntoResponse::into_response)?;
    let handshake = handshake.map_err(IntoResponse::into_response)?;
    let seat = admitted.sit_down(&state).map_err(IntoResponse::into_response)?;
    let answer = handshake.answer();
    let shutdown = state.shutdown.clone();
    let watching = state.hub.watch();
    // a task of ours, so that a stop waits for its goodbye
    shutdown.spawn("viewer", async move {
        // in boxes, as a task is as large as the largest of what it goes through
        if let Some(channel) = Box::pin(handshake.open()).await {
            // a web node that has just started knows nothing yet: what it was told goes before what was kept
            Box::pin(state.hub.current(CATCH_UP)).await;
            Box::pin(Socket::new(channel, admitted, state).run()).await;
        }
        drop((seat, watching));
    });
    Ok(answer)
}
