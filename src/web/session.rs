//! Who is signed in.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::uri::Scheme;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::cookie::{Cookie, CookieJar, SameSite};
use secrecy::{ExposeSecret as _, SecretString};

use crate::auth::access::{Right, may};
use crate::config::base_path::BasePath;
use crate::config::schema::name;
use crate::control::Actor;
use crate::model::user::Session;
use crate::web::problem::{Problem, wants_json};
use crate::web::texts::EN;
use crate::web::{WebState, csrf};

/// The cookie over plain http.
const COOKIE: &str = "switchboard_session";
/// The cookie over https: browsers accept it only with `Secure`, for this host alone.
const HOST_COOKIE: &str = "__Host-switchboard_session";
/// The cookie over https under a base path, where `__Host-` can't be: that wants the root.
const SECURE_COOKIE: &str = "__Secure-switchboard_session";

/// Somebody signed in who may look. As an extractor: no session → 303 to `/sign-in?next=…` for pages (401 for sockets and files); no right → 403.
pub struct SignedIn {
    /// The session.
    pub session: Session,
    /// The cookie's value, to check again later (a socket does so every 5 s at the latest).
    pub cookie: SecretString,
    /// Whether this user may act, not only look.
    pub may_act: bool,
}

impl SignedIn {
    /// What goes into every form, for browsers that say nothing of where a form came from.
    pub(crate) fn form_token(&self) -> String {
        csrf::token(self.cookie.expose_secret())
    }

    /// Who acts, for the door and the audit.
    pub(crate) fn actor(&self, address: impl Into<String>) -> Actor {
        Actor::user(&self.session.user, address)
    }
}

impl FromRequestParts<WebState> for SignedIn {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> Result<Self, Response> {
        match find(state, &parts.uri, &parts.headers).await {
            Ok(Some((session, cookie))) if may(&session.user, Right::Look) => {
                let may_act = may(&session.user, Right::Act);
                Ok(Self { session, cookie, may_act })
            }
            Ok(Some(_)) => Err(Problem::no_access().into_response()),
            Ok(None) => Err(to_sign_in(parts)),
            Err(error) => Err(Problem::from(error).into_response()),
        }
    }
}

/// The session of a request's cookie, whatever its user may do; none if there is none or it ended.
pub(crate) async fn find(
    state: &WebState,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Option<(Session, SecretString)>, crate::store::error::Error> {
    let Some(cookie) = cookie(uri, &state.base, headers) else { return Ok(None) };
    let (idle, age) = {
        let settings = state.settings.borrow();
        (settings.duration(name::SESSION_IDLE), settings.duration(name::SESSION_AGE))
    };
    let session = state.sign_in.session(cookie.expose_secret(), idle, age).await?;
    Ok(session.map(|session| (session, cookie)))
}

/// The value of the session's cookie, if the browser sent one of the right form. Only the name that is given out here counts:
/// over https whoever can write into a plain connection, or owns a neighbouring host, could set a plain cookie.
pub(crate) fn cookie(uri: &Uri, base: &BasePath, headers: &HeaderMap) -> Option<SecretString> {
    let jar = CookieJar::from_headers(headers);
    let value = jar.get(cookie_name(uri, base))?.value();
    (value.len() == 64 && value.bytes().all(|b| b.is_ascii_hexdigit())).then(|| SecretString::from(value))
}

/// The cookie that begins a session in this browser. It ends with the browser's own session; the database knows the true end.
pub(crate) fn beginning(value: &SecretString, uri: &Uri, base: &BasePath) -> Cookie<'static> {
    bare(uri, base, value.expose_secret().to_owned())
}

/// The cookie that takes it away.
pub(crate) fn ending(uri: &Uri, base: &BasePath) -> Cookie<'static> {
    let mut cookie = bare(uri, base, String::new());
    cookie.make_removal();
    cookie
}

fn bare(uri: &Uri, base: &BasePath, value: String) -> Cookie<'static> {
    Cookie::build((cookie_name(uri, base), value))
        .http_only(true)
        .same_site(SameSite::Lax)
        .path(base.cookie_path().to_owned())
        .secure(over_https(uri))
        .build()
}

fn cookie_name(uri: &Uri, base: &BasePath) -> &'static str {
    match (over_https(uri), base.is_none()) {
        (true, true) => HOST_COOKIE,
        (true, false) => SECURE_COOKIE,
        (false, _) => COOKIE,
    }
}

/// Whether a request came over https: whoever ended TLS has put the scheme into its address.
pub(crate) fn over_https(uri: &Uri) -> bool {
    uri.scheme() == Some(&Scheme::HTTPS)
}

/// Where a request came from, for the audit and the throttle.
pub(crate) fn address(parts: &Parts) -> String {
    parts
        .extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or_else(|| "unknown".to_owned(), |ConnectInfo(address)| address.ip().to_canonical().to_string())
}

/// A path on this site to go to after signing in; anything else becomes Service Status.
pub(crate) fn local_path(next: &str) -> &str {
    let sound = next.starts_with('/')
        && !next.starts_with("//")
        && next.len() <= 512
        && next.bytes().all(|b| (0x21..0x7f).contains(&b) && b != b'\\')
        && !next.starts_with("/sign-");
    if sound { next } else { "/status" }
}

fn to_sign_in(parts: &Parts) -> Response {
    let path = parts.uri.path();
    let is_file = path.starts_with("/status/") || std::path::Path::new(path).extension().is_some_and(|e| e == "txt");
    if is_file || parts.headers.contains_key(header::UPGRADE) || wants_json(&parts.headers) {
        return Problem::new(StatusCode::UNAUTHORIZED, EN.problem_sign_in).into_response();
    }
    // what was about to be done is asked for again after signing in, never done by itself
    let next = if parts.method == axum::http::Method::GET {
        parts.uri.path_and_query().map_or("/status", |whole| whole.as_str())
    } else {
        "/status"
    };
    let next: String = next.bytes().fold(String::new(), |mut text, b| {
        use std::fmt::Write as _;
        let _ = match b {
            b'/' | b'-' | b'_' | b'.' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => write!(text, "{}", b as char),
            _ => write!(text, "%{b:02X}"),
        };
        text
    });
    Redirect::to(&format!("/sign-in?next={next}")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_this_site_are_gone_to() {
        for good in ["/status", "/executions?outcome=error", "/settings/Web.SessionAge#history"] {
            assert_eq!(local_path(good), good);
        }
        let long = format!("/{}", "x".repeat(600));
        for bad in ["", "//evil.example", "https://evil.example", "/\\evil.example", "/a b", "/ü", "/sign-in", &long] {
            assert_eq!(local_path(bad), "/status", "{bad}");
        }
    }

    #[test]
    fn a_cookie_is_bound_to_the_host_where_it_can_be() {
        let plain = beginning(&"ab".repeat(32).into(), &"/x".parse().unwrap(), &BasePath::default()).to_string();
        assert!(plain.starts_with("switchboard_session=abab"), "{plain}");
        assert!(plain.contains("HttpOnly") && plain.contains("SameSite=Lax") && plain.contains("Path=/"));
        assert!(!plain.contains("Secure"));
        let (https, none) = ("https://h/x".parse().unwrap(), BasePath::default());
        let safe = beginning(&"ab".repeat(32).into(), &https, &none).to_string();
        assert!(safe.starts_with("__Host-switchboard_session=") && safe.contains("Secure"), "{safe}");
        let base: BasePath = "/sb".parse().unwrap();
        let under = beginning(&"ab".repeat(32).into(), &https, &base).to_string();
        assert!(under.starts_with("__Secure-switchboard_session=") && under.contains("Path=/sb"), "{under}");
        assert!(ending(&https, &base).to_string().contains("Path=/sb"), "it is taken away where it was put");
    }

    #[test]
    fn what_is_no_cookie_of_ours_is_not_looked_up() {
        for value in ["", "short", &"g".repeat(64)] {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, format!("{COOKIE}={value}").parse().unwrap());
            assert!(cookie(&"/".parse().unwrap(), &BasePath::default(), &headers).is_none(), "{value}");
        }
    }

    #[test]
    fn only_the_cookie_that_fits_scheme_and_base_path_counts() {
        let (plain, https) = ("/".parse().unwrap(), "https://h/".parse().unwrap());
        let (none, base) = (BasePath::default(), "/sb".parse().unwrap());
        for (uri, base, fits) in [(&plain, &none, COOKIE), (&https, &none, HOST_COOKIE), (&https, &base, SECURE_COOKIE)]
        {
            for name in [COOKIE, HOST_COOKIE, SECURE_COOKIE] {
                let mut headers = HeaderMap::new();
                headers.insert(header::COOKIE, format!("{name}={}", "ab".repeat(32)).parse().unwrap());
                assert_eq!(cookie(uri, base, &headers).is_some(), name == fits, "{name} at {uri} under {base:?}");
            }
        }
    }
}
