//! One error shape for every answer: `{"error":{"code":404,"message":"…","status":"NOT_FOUND"}}`.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::api::types::{ErrorAnswer, ErrorBody, FieldError};
use crate::base::chain::chain;
use crate::control::Refusal;
use crate::store::error::Error;
use crate::store::outage;

/// Why a request was not answered as asked. What stands in it goes to the client; causes are logged where they are made.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    code: StatusCode,
    status: &'static str,
    message: String,
    errors: Vec<FieldError>,
}

impl ApiError {
    fn new(code: StatusCode, status: &'static str, message: impl Into<String>) -> Self {
        Self { code, status, message: message.into(), errors: Vec::new() }
    }

    /// 400: something in the request is not as it must be.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", message)
    }

    /// 401: no token, or none that is known.
    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message)
    }

    /// 403: known, and not allowed.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", message)
    }

    /// 404.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
    }

    /// 408: the body did not come.
    pub(crate) fn timeout(message: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "TIMEOUT", message)
    }

    /// 413.
    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "INVALID_ARGUMENT", message)
    }

    /// The HTTP status.
    pub(crate) fn code(&self) -> StatusCode {
        self.code
    }

    /// The text for people.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::Forbidden => Self::forbidden(message),
            Refusal::NotFound(_) => Self::not_found(message),
            Refusal::Conflict(_) => Self::new(StatusCode::CONFLICT, "CONFLICT", message),
            Refusal::Invalid(fields) => {
                let errors = fields.into_iter().map(|(field, message)| FieldError { field, message }).collect();
                Self { errors, ..Self::invalid(message) }
            }
            Refusal::Busy(_) => Self::new(StatusCode::TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED", message),
            Refusal::Store(error) => Self::from(error),
        }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let unavailable = |message: &str| Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message);
        match error {
            Error::Conflict(message) => Self::new(StatusCode::CONFLICT, "CONFLICT", message),
            Error::Busy(_) => {
                outage::refused("a request", &error);
                unavailable(&format!("{error}; nothing was changed"))
            }
            Error::Sealed(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_SERVER_ERROR", error.to_string())
            }
            Error::Broken(_) => {
                tracing::error!("a request was not answered: {}", chain(&error));
                unavailable(
                    "the database failed, and a change that was asked for may or may not have been made: look before you ask again, or ask with the same Idempotency-Key; this node's log says how",
                )
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self { code, status, message, errors } = self;
        let answer =
            ErrorAnswer { error: ErrorBody { code: code.as_u16(), message, status: status.to_owned(), errors } };
        let mut response = (code, axum::Json(answer)).into_response();
        if matches!(code, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if code == StatusCode::UNAUTHORIZED {
            // browsers must not open their own password window for it
            let challenge = HeaderValue::from_static("ApiKey realm=\"switchboard\", header=\"x-api-key\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn parts(error: ApiError) -> (StatusCode, serde_json::Value) {
        let response = error.into_response();
        let code = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
        (code, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn an_error_has_the_shape_that_clients_of_ams_know() {
        let (code, body) = parts(ApiError::not_found("there is no such thing")).await;
        assert_eq!(code, StatusCode::NOT_FOUND);
        let expected = serde_json::json!(
            {"error": {"code": 404, "message": "there is no such thing", "status": "NOT_FOUND"}});
        assert_eq!(body, expected);
    }

    #[tokio::test]
    async fn every_refusal_has_its_code() {
        let invalid = vec![("a".to_owned(), "is bad".to_owned()), ("b".to_owned(), "is worse".to_owned())];
        for (refusal, expected) in [
            (Refusal::Forbidden, 403),
            (Refusal::NotFound("x".into()), 404),
            (Refusal::Conflict("x".into()), 409),
            (Refusal::Invalid(invalid), 400),
            (Refusal::Busy("x".into()), 429),
            (Refusal::Store(Error::Busy(sqlx::Error::PoolTimedOut)), 503),
            (Refusal::Store(Error::Broken(sqlx::Error::PoolClosed)), 503),
        ] {
            let (code, body) = parts(refusal.into()).await;
            assert_eq!((code.as_u16(), body["error"]["code"].as_u64()), (expected, Some(u64::from(expected))));
            if expected == 400 {
                assert_eq!(body["error"]["errors"][1], serde_json::json!({"field": "b", "message": "is worse"}));
            }
            if expected == 503 {
                let words = body["error"]["message"].as_str().unwrap();
                let is_clear = words.contains("nothing was changed") || words.contains("may or may not have been made");
                assert!(is_clear, "whether it was done is said, or that nobody knows: {words}");
                assert!(!body.to_string().contains("pool"), "the cause is for the log: {body}");
            }
        }
    }
}
