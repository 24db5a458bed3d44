//! The front door: what stands between the listener and the routers. Takes the base path off and puts it on, finds out who asks and by which
//! scheme, and says what browsers have to know of that.
//!
//! Behind it everything is as if pages stood at the root of a node of their own: the path has no base, the address
//! has the scheme, `ConnectInfo` is the client, `Host` the host that was asked for.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::uri::{Authority, PathAndQuery, Scheme};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use tokio::sync::watch;
use tower::ServiceExt as _;
use tower_http::catch_panic::CatchPanicLayer;

use crate::app::proxies::{Told, believe};
use crate::base::shutdown::Shutdown;
use crate::config::base_path::{BasePath, PROBES};
use crate::config::schema::name::TRUSTED_PROXIES;
use crate::config::settings::Settings;

/// Browsers that came over https once come so for a year, whatever is typed.
const ONLY_HTTPS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// What answers, and where it stands.
pub struct Front {
    within: Router,
    outside: Router,
    base: BasePath,
    settings: watch::Receiver<Arc<Settings>>,
    shutdown: Shutdown,
}

/// Where a request goes.
enum Way {
    Within(PathAndQuery),
    ToSlash(String),
    Outside,
}

impl Front {
    /// `within` answers under the base path, `outside` what stands elsewhere.
    #[must_use]
    pub fn new(
        within: Router,
        outside: Router,
        base: BasePath,
        settings: watch::Receiver<Arc<Settings>>,
        shutdown: Shutdown,
    ) -> Self {
        let guarded = |router: Router| router.layer(CatchPanicLayer::new());
        Self { within: guarded(within), outside: guarded(outside), base, settings, shutdown }
    }

    /// Answers a request that `peer` sent, over TLS or not.
    pub async fn answer(&self, mut request: Request, peer: SocketAddr, tls: bool) -> Response {
        let told = {
            let settings = self.settings.borrow();
            believe(request.headers(), peer.ip(), &settings.networks(TRUSTED_PROXIES))
        };
        let https = told.https.unwrap_or(tls);
        let way = self.way(request.uri());
        let outside = matches!(way, Way::Outside);
        let mut response = match way {
            Way::ToSlash(to) => Redirect::temporary(&to).into_response(),
            Way::Within(path) => {
                present(&mut request, told, peer, path, https);
                let Ok(response) = self.within.clone().oneshot(request).await;
                response
            }
            Way::Outside => {
                let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
                present(&mut request, told, peer, path, https);
                let Ok(response) = self.outside.clone().oneshot(request).await;
                response
            }
        };
        if !outside {
            self.lead_within(&mut response);
        }
        let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        if https {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, ONLY_HTTPS);
        }
        if self.shutdown.is_draining() && !upgraded {
            // whoever asks next is to ask another node
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Whether this address is a proxy's, by whose connections many people come.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.settings.borrow().networks(TRUSTED_PROXIES).iter().any(|network| network.contains(&address))
    }

    fn way(&self, uri: &Uri) -> Way {
        let whole = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let Some(rest) = self.base.within(whole) else {
            return match uri.path_and_query() {
                Some(probe) if PROBES.contains(&probe.path()) => Way::Within(probe.clone()),
                _ => Way::Outside,
            };
        };
        if !rest.starts_with('/') {
            return Way::ToSlash(format!("/{rest}"));
        }
        rest.parse().map_or(Way::Outside, Way::Within)
    }

    /// Puts the base path before where an answer leads to.
    fn lead_within(&self, response: &mut Response) {
        let Some(location) = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok()) else {
            return;
        };
        if self.base.is_none() || !location.starts_with('/') {
            return;
        }
        if let Ok(location) = HeaderValue::try_from(format!("{}{location}", self.base)) {
            response.headers_mut().insert(header::LOCATION, location);
        }
    }
}

/// Shows a request as the routers behind are to see it.
fn present(request: &mut Request<Body>, told: Told, peer: SocketAddr, path: PathAndQuery, https: bool) {
    let peer = SocketAddr::new(told.client, if told.client == peer.ip().to_canonical() { peer.port() } else { 0 });
    request.extensions_mut().insert(ConnectInfo(peer));
    if let Some(host) = told.host {
        request.headers_mut().insert(header::HOST, host);
    }
    let authority = request.headers().get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut parts = axum::http::uri::Parts::default();
    parts.path_and_query = Some(path);
    if https {
        // what a client writes there itself (`GET https://… HTTP/1.1`) does not count
        parts.scheme = Some(Scheme::HTTPS);
        parts.authority = Some(authority.unwrap_or(Authority::from_static("unknown")));
    }
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;
    use axum::routing::get;

    use super::*;
    use crate::config::settings::{Fixed, Source};

    struct Answer {
        status: u16,
        headers: HeaderMap,
        text: String,
    }

    fn front(base: &str) -> Front {
        let seen = async |ConnectInfo(peer): ConnectInfo<SocketAddr>, headers: HeaderMap, uri: Uri| {
            format!("{uri} {} {}", peer.ip(), headers[header::HOST].to_str().unwrap())
        };
        let within = Router::new()
            .route("/", get(async || Redirect::to("/status")))
            .route("/away", get(async || Redirect::to("https://elsewhere.example/")))
            .fallback(seen);
        let outside = Router::new().fallback(async || (StatusCode::NOT_FOUND, "elsewhere"));
        let mut fixed = Fixed::default();
        fixed.set(TRUSTED_PROXIES, "10.0.0.0/8", Source::File).unwrap();
        let settings = watch::channel(Arc::new(Settings::resolve(&fixed, []).0)).1;
        Front::new(within, outside, base.parse().unwrap(), settings, Shutdown::new())
    }

    async fn ask(front: &Front, peer: &str, tls: bool, uri: &str, pairs: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().uri(uri).header(header::HOST, "box:8080");
        for (name, value) in pairs {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = front.answer(request, SocketAddr::new(peer.parse().unwrap(), 1), tls).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        Answer { status, headers, text: String::from_utf8(body.to_vec()).unwrap() }
    }

    #[tokio::test]
    async fn the_base_path_is_taken_off_and_put_on() {
        let front = front("/sb");
        let ask = async |uri: &str| ask(&front, "192.0.2.1", false, uri, &[]).await;
        assert_eq!(ask("/sb/status?x=/sb").await.text, "/status?x=/sb 192.0.2.1 box:8080");
        let location = |answer: &Answer| answer.headers[header::LOCATION].to_str().unwrap().to_owned();
        assert_eq!(location(&ask("/sb/").await), "/sb/status");
        assert_eq!(location(&ask("/sb").await), "/sb/");
        assert_eq!(location(&ask("/sb?x=1").await), "/sb/?x=1");
        assert_eq!(location(&ask("/sb/away").await), "https://elsewhere.example/");
        for outside in ["/", "/status", "/sbx/status", "//sb/status"] {
            let answer = ask(outside).await;
            assert_eq!((answer.status, &*answer.text), (404, "elsewhere"), "{outside}");
        }
        for probe in ["/healthz", "/sb/healthz", "/readyz", "/metrics"] {
            assert_eq!(ask(probe).await.status, 200, "{probe}");
        }
    }

    #[tokio::test]
    async fn https_is_what_tls_or_a_trusted_proxy_says() {
        let front = front("");
        let told =
            [("x-forwarded-proto", "https"), ("x-forwarded-host", "sb.example"), ("x-forwarded-for", "192.0.2.9")];
        let behind = ask(&front, "10.0.0.1", false, "/x", &told).await;
        assert_eq!(behind.text, "https://sb.example/x 192.0.2.9 sb.example");
        assert!(behind.headers.contains_key(header::STRICT_TRANSPORT_SECURITY));
        let stranger = ask(&front, "192.0.2.1", false, "/x", &told).await;
        assert_eq!(stranger.text, "/x 192.0.2.1 box:8080");
        assert!(!stranger.headers.contains_key(header::STRICT_TRANSPORT_SECURITY));
        let over_tls = ask(&front, "192.0.2.1", true, "/x", &[]).await;
        assert_eq!(over_tls.text, "https://box:8080/x 192.0.2.1 box:8080");
        let claimed = ask(&front, "192.0.2.1", false, "https://evil/x", &[]).await;
        assert_eq!(claimed.text, "/x 192.0.2.1 box:8080", "an address in full is no proof of https");
    }

    #[tokio::test]
    async fn a_node_that_drains_asks_for_no_more_on_a_connection() {
        let front = front("");
        assert!(!ask(&front, "192.0.2.1", false, "/x", &[]).await.headers.contains_key(header::CONNECTION));
        front.shutdown.drain();
        assert_eq!(ask(&front, "192.0.2.1", false, "/x", &[]).await.headers[header::CONNECTION], "close");
    }
}
