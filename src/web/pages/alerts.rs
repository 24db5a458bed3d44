//! What every page says above itself while the service can't be reached or no node is primary, alone: pages ask for it anew.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;

use crate::web::WebState;
use crate::web::asked::Behind;
use crate::web::page::{Frame, Place, show};
use crate::web::session::SignedIn;
use crate::web::texts::{EN, Texts};

/// Who asks.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AlertsQuery {
    /// `1`: a page that says itself how the link is.
    live: String,
}

#[derive(Template)]
#[template(path = "live/alerts.html")]
struct Alerts {
    t: &'static Texts,
    frame: Frame,
}

/// GET `/alerts`
pub(crate) async fn alerts(
    State(web): State<WebState>,
    who: SignedIn,
    Behind(asked, _): Behind<AlertsQuery>,
) -> Response {
    let mut frame = Frame::new(&web, &who, Place::Elsewhere, EN.menu_nodes).await;
    frame.live = asked.live == "1";
    show(&Alerts { t: EN, frame })
}
