//! Failures in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`, all four always present.

use crate::{anthropic, caller::request_id, headers::refused};
use axum::{
    body::Body,
    extract::{
        Request,
        rejection::{BytesRejection, FailedToBufferBody, PathRejection, QueryRejection},
    },
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use contract::ids::RequestId;
use domain::{Actor, Error, Quota, error::seconds};
use serde::Serialize;
use std::borrow::Cow;
use utoipa::ToSchema;

/// Why a request was not answered.
#[derive(Clone, Debug)]
pub struct Failure {
    pub status: StatusCode,
    pub body: FailureBody,
    /// 32 bits keep failures small enough to be handed around; longer waits than 49 days mean nothing.
    retry_after_ms: Option<u32>,
    quota: Option<Quota>,
}

/// The value of `error`.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ErrorBody)]
pub struct FailureBody {
    pub message: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[schema(required)]
    pub param: Option<String>,
    #[schema(required)]
    pub code: Option<Cow<'static, str>>,
}

/// How it is sent.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub struct Envelope<'a> {
    error: &'a FailureBody,
}

const INVALID: &str = "invalid_request_error";
/// Headers of a refusal, the server's own among them. Room is made for all of them at once: refusing must be cheap.
const USUAL: usize = 10;
/// The code of a prompt that no model's context holds.
pub const TOO_LONG: &str = "context_length_exceeded";
/// The code of what was lost with whoever was computing it.
pub const INTERRUPTED: &str = "model_interrupted";

impl Failure {
    fn new(status: StatusCode, kind: &'static str, code: impl Into<Option<&'static str>>, message: impl Into<String>) -> Self {
        let body = FailureBody { message: message.into(), kind, param: None, code: code.into().map(Cow::Borrowed) };
        Self { status, body, retry_after_ms: None, quota: None }
    }

    /// A field that makes no sense; `param` is its path as the client wrote it.
    pub fn invalid(param: impl Into<String>, code: impl Into<Option<&'static str>>, message: impl Into<String>) -> Self {
        let mut failure = Self::new(StatusCode::BAD_REQUEST, INVALID, code, message);
        failure.body.param = Some(param.into());
        failure
    }

    /// A body that is not what the route takes.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, None, message)
    }

    /// Of a service, for the request with this id. Logs what is our fault: here and nowhere else.
    pub fn of(error: Error, request: RequestId) -> Self {
        match error {
            Error::Unauthenticated { message, .. } => Self::new(StatusCode::UNAUTHORIZED, INVALID, "invalid_api_key", message),
            Error::Forbidden { message } => Self::new(StatusCode::FORBIDDEN, "permission_error", None, message),
            Error::NotFound { what: "model" } => {
                let mut failure = Self::new(
                    StatusCode::NOT_FOUND,
                    INVALID,
                    "model_not_found",
                    "There is no such model, or this key may not use it. GET /v1/models lists those that it may.",
                );
                failure.body.param = Some("model".into());
                failure
            }
            Error::NotFound { what } => Self::new(StatusCode::NOT_FOUND, INVALID, "not_found", format!("There is no such {what}.")),
            Error::Invalid { field, code, message } => {
                // LangChain, LiteLLM and older programs know by these words alone that they must shorten the conversation.
                let message = if code == TOO_LONG { format!("prompt is too long: {message}") } else { message };
                let mut failure = Self::new(StatusCode::BAD_REQUEST, INVALID, code, message);
                failure.body.param = field.map(Into::into);
                failure
            }
            Error::Conflict { code, message } => Self::new(StatusCode::CONFLICT, INVALID, code, message),
            Error::QuotaExceeded { quota, which, retry_after_ms } => Self::of_quota(quota, &which, retry_after_ms),
            Error::GuardrailBlocked { rule } => {
                let message = format!("The rule \u{201c}{rule}\u{201d} does not allow this content.");
                Self::new(StatusCode::BAD_REQUEST, INVALID, "content_filter", message)
            }
            Error::Unavailable { what, retry_after } => {
                let code = match what {
                    "model" => "model_loading",
                    "worker" => INTERRUPTED,
                    _ => "unavailable",
                };
                let message = format!("The {what} is not available at the moment. Try again shortly.");
                let mut failure = Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", code, message);
                failure.retry_after_ms = retry_after.map(|seconds| seconds.saturating_mul(1000));
                failure
            }
            Error::Internal(source) => {
                tracing::error!(%request, error = %contract::chain(source.as_ref()), "a request failed");
                Self::our_fault(request)
            }
        }
    }

    /// What the log already knows of.
    fn our_fault(request: RequestId) -> Self {
        let message = format!("Something went wrong on our side. The log has more under the request id {request}.");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "internal_error", message)
    }

    /// The failure as clients of this address expect it.
    fn at(self, path: &str, request: RequestId) -> Response {
        if anthropic::is_at(path) { anthropic::refuse(self, request) } else { self.into_response() }
    }

    fn of_quota(quota: Quota, which: &str, retry_after_ms: Option<u64>) -> Self {
        let (kind, code, message) = match quota {
            Quota::Budget => (
                "insufficient_quota",
                "insufficient_quota",
                format!("The budget \u{201c}{which}\u{201d} does not cover this request. Ask whoever administers it for more."),
            ),
            Quota::Tokens(_) => ("tokens", "rate_limit_exceeded", format!("The limit \u{201c}{which}\u{201d} is reached.")),
            Quota::Requests(_) | Quota::Places(_) | Quota::Attempts => {
                ("requests", "rate_limit_exceeded", format!("The limit \u{201c}{which}\u{201d} is reached."))
            }
        };
        let mut failure = Self::new(StatusCode::TOO_MANY_REQUESTS, kind, code, message);
        failure.retry_after_ms = retry_after_ms.map(|ms| u32::try_from(ms).unwrap_or(u32::MAX));
        failure.quota = Some(quota);
        failure
    }

    /// When it may be asked again, if that is what it takes.
    pub fn retry_after_ms(&self) -> Option<u32> {
        self.retry_after_ms
    }

    /// What a stream that has begun says instead of a status; otherwise the body.
    pub fn event(&self) -> String {
        // Four fields of text always make JSON.
        serde_json::to_string(&Envelope { error: &self.body }).unwrap_or_default()
    }
}

/// What became of an actor's call.
pub fn failed(actor: &Actor) -> impl Fn(Error) -> Failure + use<> {
    let request = actor.request();
    move |error| Failure::of(error, request)
}

impl From<QueryRejection> for Failure {
    fn from(rejection: QueryRejection) -> Self {
        Self::malformed(format!("The query string cannot be read: {rejection}."))
    }
}

impl From<PathRejection> for Failure {
    fn from(rejection: PathRejection) -> Self {
        Self::malformed(format!("The address cannot be read: {rejection}."))
    }
}

impl From<BytesRejection> for Failure {
    fn from(rejection: BytesRejection) -> Self {
        match rejection {
            BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
                let message = format!("The request is larger than the {} MiB allowed.", crate::BODY_MAX_BYTES / (1024 * 1024));
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID, "request_too_large", message)
            }
            _ => Self::malformed("The request's body could not be read to its end."),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.event()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.reserve(USUAL);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(ms) = self.retry_after_ms {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds(ms.into())));
        }
        if let Some(quota) = self.quota {
            refused(headers, quota, self.retry_after_ms);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// An address under `/v1` that is not served.
pub async fn no_such_route(request: Request) -> Response {
    let path = request.uri().path();
    let message = format!("There is no {} {path} here. /docs lists what there is.", request.method());
    Failure::new(StatusCode::NOT_FOUND, INVALID, "unknown_url", message).at(path, request_id(request.extensions()))
}

/// A method that the address does not take.
pub async fn method_not_allowed(request: Request) -> Response {
    let path = request.uri().path();
    let message = format!("{path} takes no {}.", request.method());
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, INVALID, "method_not_allowed", message).at(path, request_id(request.extensions()))
}

/// The answer of an address under `/v1` whose handler panicked, as its clients expect it. Whoever caught it has logged it.
#[must_use]
pub fn panicked(path: &str, request: RequestId) -> Response {
    Failure::our_fault(request).at(path, request)
}

#[cfg(test)]
mod tests {
    use super::{Failure, seconds};
    use axum::response::IntoResponse;
    use contract::ids::RequestId;
    use domain::{Error, Quota};
    use uuid::Uuid;

    #[test]
    fn each_meaning_has_its_status_type_and_code() {
        let cases = [
            (Error::unauthenticated(), 401, r#""type":"invalid_request_error","param":null,"code":"invalid_api_key""#),
            (Error::forbidden("no"), 403, r#""type":"permission_error","param":null,"code":null"#),
            (Error::not_found("model"), 404, r#""type":"invalid_request_error","param":"model","code":"model_not_found""#),
            (
                Error::invalid("messages", "context_length_exceeded", "It is longer than the context."),
                400,
                r#""message":"prompt is too long: It is longer than the context.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded""#,
            ),
            (
                Error::invalid_whole("model_refused", "No."),
                400,
                r#""message":"No.","type":"invalid_request_error","param":null,"code":"model_refused""#,
            ),
            (
                Error::limited(Quota::Requests(9), "requests per minute", 2_001),
                429,
                r#""type":"requests","param":null,"code":"rate_limit_exceeded""#,
            ),
            (
                Error::limited(Quota::Tokens(9), "tokens per minute", 2_000),
                429,
                r#""type":"tokens","param":null,"code":"rate_limit_exceeded""#,
            ),
            (
                Error::QuotaExceeded { quota: Quota::Budget, which: "team Bau".into(), retry_after_ms: None },
                429,
                r#""type":"insufficient_quota","param":null,"code":"insufficient_quota""#,
            ),
            (Error::GuardrailBlocked { rule: "x".into() }, 400, r#""type":"invalid_request_error","param":null,"code":"content_filter""#),
            (Error::unavailable("worker", Some(5)), 503, r#""type":"server_error","param":null,"code":"model_interrupted""#),
            (Error::unavailable("model", Some(5)), 503, r#""type":"server_error","param":null,"code":"model_loading""#),
            (Error::internal("secret"), 500, r#""type":"server_error","param":null,"code":"internal_error""#),
        ];
        for (error, status, expected) in cases {
            let failure = Failure::of(error, RequestId(Uuid::nil()));
            let body = failure.event();
            assert!(body.contains(expected) && !body.contains("secret"), "{body}");
            let retry = failure.retry_after_ms.map(|ms| seconds(ms.into()));
            let response = failure.into_response();
            assert_eq!(response.status().as_u16(), status, "{body}");
            let told = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
            assert_eq!(told, retry.map(|seconds| seconds.to_string()).as_deref());
        }
    }
}
