//! Static files, embedded; their address carries a hash over all of them, so they are kept for ever.

use std::sync::LazyLock;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest as _, Sha256};

use crate::web::asked::InPath;
use crate::web::problem::Problem;

const SVG: &str = "image/svg+xml";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";

macro_rules! files {
    ($($name:literal: $kind:ident),* $(,)?) => {
        &[$(($name, $kind, include_bytes!(concat!("../../static/", $name)))),*]
    };
}

/// Name, type and content of every file. Scripts import each other by relative addresses, so all share one folder.
const FILES: &[(&str, &str, &[u8])] = files! {
    "app.css": CSS,
    "favicon.svg": SVG,
    "favicon-busy.svg": SVG,
    "favicon-failing.svg": SVG,
    "favicon-gone.svg": SVG,
    "live.js": JAVASCRIPT,
    "actions.js": JAVASCRIPT,
    "copy.js": JAVASCRIPT,
    "fresh.js": JAVASCRIPT,
    "run.js": JAVASCRIPT,
    "link.js": JAVASCRIPT,
    "log.js": JAVASCRIPT,
    "log-asked.js": JAVASCRIPT,
    "log-buffer.js": JAVASCRIPT,
    "log-text.js": JAVASCRIPT,
    "rows.js": JAVASCRIPT,
    "times.js": JAVASCRIPT,
    "words.js": JAVASCRIPT,
};

/// Where the files are: `/static/HASH`.
pub(crate) fn base() -> &'static str {
    static BASE: LazyLock<String> = LazyLock::new(|| format!("/static/{}", hash()));
    &BASE
}

/// The hash over all files: twelve hexadecimal digits. Names this build of the pages.
pub(crate) fn hash() -> &'static str {
    static HASH: LazyLock<String> = LazyLock::new(|| {
        let mut all = Sha256::new();
        for (name, _, content) in FILES {
            all.update(name.len().to_le_bytes());
            all.update(name);
            all.update(content.len().to_le_bytes());
            all.update(content);
        }
        all.finalize().iter().take(6).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    });
    &HASH
}

/// Which build of the program and its pages this is: an open tab of another one is told to reload.
pub(crate) fn build() -> String {
    format!("{}+{}", env!("CARGO_PKG_VERSION"), hash())
}

/// Answers a file. One of another build is answered as well, but not kept: the tab that asks is about to be reloaded.
pub(crate) async fn file(InPath((asked, name)): InPath<(String, String)>) -> Response {
    let Some((_, kind, content)) = FILES.iter().find(|(known, ..)| *known == name) else {
        return Problem::not_found().into_response();
    };
    let keep = if asked == hash() { "public, max-age=31536000, immutable" } else { "no-cache" };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static(keep)),
    ];
    (headers, *content).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    #[tokio::test]
    async fn a_file_is_kept_only_at_the_address_of_its_content() {
        let ask = async |hash: &str, name: &str| file(InPath((hash.to_owned(), name.to_owned()))).await;
        let fresh = ask(hash(), "app.css").await;
        assert_eq!(fresh.status(), StatusCode::OK);
        assert_eq!(fresh.headers()[header::CONTENT_TYPE], "text/css; charset=utf-8");
        assert!(fresh.headers()[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"));
        let stale = ask("000000000000", "app.css").await;
        assert_eq!(stale.headers()[header::CACHE_CONTROL], "no-cache");
        assert_eq!(ask(hash(), "../Cargo.toml").await.status(), StatusCode::NOT_FOUND);
    }
}
