//! About: version and licences.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use crate::web::WebState;
use crate::web::asked::{Behind, Nothing};
use crate::web::page::{Frame, Place, show};
use crate::web::session::SignedIn;
use crate::web::texts::{EN, Texts};

#[derive(Template)]
#[template(path = "pages/about.html")]
struct AboutPage {
    t: &'static Texts,
    frame: Frame,
    version: &'static str,
    database: String,
}

/// GET `/about`
pub(crate) async fn about(
    State(web): State<WebState>,
    who: SignedIn,
    Behind(Nothing {}, done): Behind<Nothing>,
) -> Response {
    let frame = Frame::new(&web, &who, Place::About, EN.menu_about).await.noting(&done);
    show(&AboutPage { t: EN, frame, version: env!("CARGO_PKG_VERSION"), database: web.database.clone() })
}
