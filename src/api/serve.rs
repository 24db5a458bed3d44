//! Answers a request by the table of routes: which route, who asks, may they, what do they say, and what is done.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;

use crate::api::Api;
use crate::api::error::ApiError;
use crate::api::request::{Answer, Call};
use crate::api::route::{Path, Route};
use crate::api::routes::ROUTES;
use crate::auth::access::allow;
use crate::auth::sign_in::SignIn;
use crate::control::Actor;
use crate::model::user::User;

/// The largest body, in bytes.
const MAX_BODY: usize = 64 << 10;
/// How long a body may take to come.
const BODY_PATIENCE: Duration = Duration::from_secs(10);

/// Answers a request to `/api`.
pub(crate) async fn serve(State(api): State<Arc<Api>>, request: Request) -> Response {
    let mut response = match answer(api, request).await {
        Ok(Answer(body)) => {
            let json = HeaderValue::from_static("application/json; charset=utf-8");
            ([(header::CONTENT_TYPE, json)], body).into_response()
        }
        Err(error) => error.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn answer(api: Arc<Api>, request: Request) -> Result<Answer, ApiError> {
    let (parts, body) = request.into_parts();
    let (route, parameters) = find(&parts.method, parts.uri.path())?;
    let actor = match route.right {
        None => None,
        Some(right) => {
            // put there by the command line over the data directory; nothing that comes over HTTP can
            let actor = match parts.extensions.get::<Actor>() {
                Some(actor) => actor.clone(),
                None => Actor::user(&caller(&api.sign_in, &parts.headers).await?, address(&parts)),
            };
            if !allow(&actor.roles, right) {
                return Err(ApiError::forbidden(format!(
                    "{} may not do this: {} needs more rights",
                    actor.who, route.name
                )));
            }
            Some(actor)
        }
    };
    let query = query(route, &parts.uri)?;
    let idempotency_key = match parts.headers.get("idempotency-key").map(HeaderValue::to_str) {
        None => None,
        Some(Ok(key)) => Some(key.to_owned()),
        Some(Err(_)) => return Err(ApiError::invalid("Idempotency-Key: visible ASCII characters are allowed")),
    };
    let body = if route.method == Method::GET { Bytes::new() } else { read_body(&parts.headers, body).await? };
    (route.handler)(api, Call { parameters, query, idempotency_key, body, actor }).await
}

/// The route of a method and path, and what stands in the place of its parameters.
fn find(method: &Method, path: &str) -> Result<(&'static Route, Vec<String>), ApiError> {
    let nothing = || ApiError::not_found("there is nothing here; /api/openapi.json lists what there is");
    let path = Path::split(path).ok_or_else(nothing)?;
    // HTTP answers HEAD as GET and leaves the body out
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    let mut others = Vec::new();
    for route in ROUTES {
        if let Some(parameters) = route.matches(&path) {
            if route.method == *method {
                return Ok((route, parameters));
            }
            others.push(route.method.as_str());
        }
    }
    if others.is_empty() {
        return Err(nothing());
    }
    Err(ApiError::not_found(format!("{method} can't be done here; what can be is {}", others.join(", "))))
}

/// The user of the request's token.
///
/// # Errors
/// 401 without a token, or with one that nobody has.
pub(crate) async fn caller(sign_in: &SignIn, headers: &HeaderMap) -> Result<User, ApiError> {
    let Some(token) = headers.get("x-api-key") else {
        return Err(ApiError::unauthorized("a token is needed, in the header x-api-key"));
    };
    let unknown = || ApiError::unauthorized("this token is not known; `switchboard user add --token` makes one");
    let token = token.to_str().map_err(|_| unknown())?;
    sign_in.user_of_token(token.trim()).await?.ok_or_else(unknown)
}

/// Where a request comes from, as it is written down.
pub(crate) fn address(parts: &Parts) -> String {
    match parts.extensions.get::<ConnectInfo<SocketAddr>>() {
        Some(ConnectInfo(address)) => address.ip().to_canonical().to_string(),
        None => "unknown".to_owned(),
    }
}

/// What stands behind the `?`, if the route knows all of it.
fn query(route: &Route, uri: &Uri) -> Result<Vec<(String, String)>, ApiError> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| ApiError::invalid("what stands behind the ? can't be read"))?;
    let mut seen: Vec<&str> = Vec::new();
    for (name, _) in &pairs {
        let Some(known) = route.query.iter().find(|known| known.name == name) else {
            let short: String = name.chars().take(64).collect();
            let allowed: Vec<_> = route.query.iter().map(|known| known.name).collect();
            let allowed = if allowed.is_empty() { "nothing is".to_owned() } else { allowed.join(", ") };
            return Err(ApiError::invalid(format!("`{short}` means nothing behind the ? here; allowed: {allowed}")));
        };
        if seen.contains(&known.name) && !known.repeats {
            return Err(ApiError::invalid(format!("`{name}` stands behind the ? twice")));
        }
        seen.push(known.name);
    }
    Ok(pairs)
}

async fn read_body(headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
    let too_large = || ApiError::too_large(format!("the body is larger than the {MAX_BODY} bytes allowed"));
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_BODY as u64) {
        return Err(too_large());
    }
    let read = async {
        let (mut stream, mut bytes) = (body.into_data_stream(), Vec::new());
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|_| ApiError::invalid("the body broke off"))?;
            if bytes.len() + piece.len() > MAX_BODY {
                return Err(too_large());
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(Bytes::from(bytes))
    };
    let late = || ApiError::timeout(format!("the body did not come within {} s", BODY_PATIENCE.as_secs()));
    tokio::time::timeout(BODY_PATIENCE, read).await.map_err(|_| late())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(method: &Method, path: &str) -> ApiError {
        match find(method, path) {
            Err(error) => error,
            Ok((route, _)) => panic!("{method} {path} was answered by {}", route.name),
        }
    }

    #[test]
    fn an_unknown_path_and_a_wrong_method_are_not_found_with_words() {
        for path in
            ["/api", "/api/", "/api/nothing", "/api/dispatchers/x:explode", "/api/dispatchers/x:run/", "/api/%ff"]
        {
            let error = refused(&Method::GET, path);
            assert_eq!(error.code(), 404);
            assert!(error.message().contains("openapi.json"), "{path}: {}", error.message());
        }
        let error = refused(&Method::DELETE, "/api/status");
        assert_eq!((error.code().as_u16(), error.message()), (404, "DELETE can't be done here; what can be is GET"));
        assert!(refused(&Method::PATCH, "/api/settings/A.B").message().ends_with("GET, PUT, DELETE"));
        assert!(refused(&Method::OPTIONS, "/api/status").message().ends_with("GET"));
    }

    #[test]
    fn head_is_answered_as_get() {
        assert_eq!(find(&Method::HEAD, "/api/status").unwrap().0.name, "status:show");
    }

    #[test]
    fn an_unknown_or_repeated_parameter_is_refused() {
        let ask = |text: &str| {
            let uri: Uri = text.parse().unwrap();
            query(find(&Method::GET, uri.path()).unwrap().0, &uri)
        };
        assert!(ask("/api/executions?dispatcher=a&limit=5").is_ok());
        assert_eq!(ask("/api/logs?source=a&source=b%20c").unwrap()[1].1, "b c");
        let error = ask("/api/executions?dispacher=a").unwrap_err();
        assert!(error.message().contains("dispatcher, outcome"), "{}", error.message());
        assert!(ask("/api/executions?limit=5&limit=6").unwrap_err().message().contains("twice"));
        assert!(ask("/api/status?key=0123").unwrap_err().message().ends_with("nothing is"));
    }

    #[tokio::test]
    async fn a_large_body_is_refused_announced_or_not() {
        let fits = read_body(&HeaderMap::new(), Body::from(vec![b' '; MAX_BODY])).await.unwrap();
        assert_eq!(fits.len(), MAX_BODY);
        let error = read_body(&HeaderMap::new(), Body::from(vec![b' '; MAX_BODY + 1])).await.unwrap_err();
        assert_eq!(error.code(), 413);
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("99999999999"));
        assert_eq!(read_body(&headers, Body::empty()).await.unwrap_err().code(), 413);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_not_waited_for_long() {
        let never = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(read_body(&HeaderMap::new(), never).await.unwrap_err().code(), 408);
    }
}
