//! Failures in Anthropic's shape: `{"type": "error", "error": {"type", "message"}, "request_id"}`.

use crate::failure::{Failure, FailureBody, TOO_LONG};
use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use contract::ids::RequestId;
use serde::Serialize;
use utoipa::ToSchema;

/// Where Anthropic's clients look for the request's id.
static REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
/// What Anthropic answers where there is no room. Its clients have a class of its own for it and try again, as after every
/// status from 500 on, when `retry-after` says so.
const OVERLOADED: u16 = 529;

/// The body, and a stream's event of the name `error`.
#[derive(Serialize, ToSchema)]
#[schema(as = AnthropicError)]
pub struct Told {
    #[serde(rename = "type")]
    kind: &'static str,
    error: ToldError,
    request_id: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AnthropicErrorBody)]
struct ToldError {
    #[serde(rename = "type")]
    kind: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
}

/// The cause for programs, which must not have to read the message.
#[derive(Serialize, ToSchema)]
#[schema(as = AnthropicErrorDetails)]
struct Details {
    error_code: String,
}

impl Told {
    pub fn of(failure: &Failure, request: RequestId) -> Self {
        let details = failure.body.code.as_ref().map(|code| Details { error_code: code.clone().into_owned() });
        let error = ToldError { kind: kind(failure.status), message: message(failure.body.clone()), details };
        Self { kind: "error", error, request_id: request.to_string() }
    }
}

fn kind(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

/// There is no field for the path.
fn message(body: FailureBody) -> String {
    match (body.param, body.code.as_deref()) {
        // Programs know it by how it begins.
        (_, Some(TOO_LONG)) => body.message,
        (Some(param), _) if !body.message.starts_with(&param) => format!("{param}: {}", body.message),
        _ => body.message,
    }
}

/// The response, or the failure in this shape; with the request's id.
pub fn in_shape(result: Result<Response, Failure>, request: RequestId) -> Response {
    match result {
        Ok(response) => named(response, request),
        Err(failure) => refuse(failure, request),
    }
}

/// The response with the request's id, where Anthropic's clients look for it.
fn named(mut response: Response, request: RequestId) -> Response {
    if let Ok(id) = HeaderValue::from_str(&request.to_string()) {
        response.headers_mut().insert(REQUEST_ID.clone(), id);
    }
    response
}

/// The failure in this shape, with the request's id. When to try again is said in the same headers as elsewhere.
pub fn refuse(failure: Failure, request: RequestId) -> Response {
    let body = Json(Told::of(&failure, request)).into_response().into_body();
    let mut response = failure.into_response();
    *response.body_mut() = body;
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        *response.status_mut() = StatusCode::from_u16(OVERLOADED).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    }
    named(response, request)
}

#[cfg(test)]
mod tests {
    use super::{Told, in_shape};
    use crate::{anthropic::WORDS, failure::Failure};
    use contract::ids::RequestId;
    use domain::{Error, Quota};
    use serde_json::{Value, json};
    use uuid::Uuid;

    const REQUEST: RequestId = RequestId(Uuid::nil());

    fn told(failure: &Failure) -> Value {
        serde_json::to_value(Told::of(failure, REQUEST)).unwrap()
    }

    #[test]
    fn each_meaning_has_its_status_and_type() {
        let cases = [
            (Error::unauthenticated(), 401, "authentication_error"),
            (Error::forbidden("no"), 403, "permission_error"),
            (Error::not_found("model"), 404, "not_found_error"),
            (Error::invalid("messages", "messages_empty", "none"), 400, "invalid_request_error"),
            (Error::limited(Quota::Requests(1), "requests per minute", 3_000), 429, "rate_limit_error"),
            (Error::unavailable("model", Some(5)), 529, "overloaded_error"),
            (Error::internal("secret"), 500, "api_error"),
        ];
        for (error, status, kind) in cases {
            let failure = Failure::of(error, REQUEST);
            let body = told(&failure);
            assert_eq!((body["type"].as_str(), body["error"]["type"].as_str()), (Some("error"), Some(kind)));
            assert_eq!(body["request_id"], REQUEST.to_string());
            assert!(!body.to_string().contains("secret"), "{body}");
            let response = in_shape(Err(failure), REQUEST);
            assert_eq!((response.status().as_u16(), response.headers()["request-id"].to_str().unwrap()), (status, &*REQUEST.to_string()));
            assert_eq!(response.headers().contains_key("retry-after"), status == 429 || status == 529);
        }
    }

    #[test]
    fn the_message_says_where_and_the_code_why() {
        let image = told(&Failure::invalid("messages[0].content[0]", "unsupported_content", "No images."));
        assert_eq!(image["error"]["message"], "messages[0].content[0]: No images.");
        assert_eq!(image["error"]["details"], json!({ "error_code": "unsupported_content" }));
        let hot = told(&Failure::invalid("temperature", None, "temperature must lie between 0 and 1."));
        assert_eq!((hot["error"]["message"].as_str(), hot["error"].get("details")), (Some("temperature must lie between 0 and 1."), None));
        let ours = |error| told(&WORDS.tell(Failure::of(error, REQUEST)));
        let stops = ours(Error::invalid("stop", "out_of_range", "There can be at most 16 stop texts."));
        assert_eq!(stops["error"]["message"], "stop_sequences: There can be at most 16 stop texts.");
        let schema = ours(Error::invalid("response_format", "model_refused", "response_format: no such type"));
        assert_eq!(schema["error"]["message"], "output_config.format.schema: no such type");
        let long = Error::invalid("messages", "context_length_exceeded", "It is longer than the context.");
        let long = told(&Failure::of(long, REQUEST));
        assert_eq!(long["error"]["message"], "prompt is too long: It is longer than the context.");
    }
}
