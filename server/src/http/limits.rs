//! How large a request may be, by route.

use super::{problem, request_id};
use axum::{
    body::Body,
    extract::Request,
    http::{StatusCode, header},
    middleware::Next,
    response::Response,
};
use contract::{
    chat::{ATTACHMENT_MAX_BYTES, ATTACHMENTS_MAX},
    problem::ProblemKind,
};
use http_body_util::Limited;

/// Bytes of an ordinary call.
const ORDINARY: usize = 1024 * 1024;
/// A question with all its attachments; JSON may escape every other character.
const QUESTION: usize = 2 * ATTACHMENT_MAX_BYTES * ATTACHMENTS_MAX;
/// A temporary chat sends its whole history, an import everything a person has.
const HISTORY: usize = 128 * 1024 * 1024;

/// Refuses bodies over the route's limit: announced ones at once, others while they are read.
pub async fn bound(request: Request, next: Next) -> Response {
    let limit = limit(request.uri().path());
    let announced =
        request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|value| value.parse::<usize>().ok());
    if announced.is_some_and(|bytes| bytes > limit) {
        let id = request_id::of(request.extensions());
        let message = format!("The request is larger than the {} MiB allowed here.", limit / (1024 * 1024));
        return problem::refuse(StatusCode::PAYLOAD_TOO_LARGE, ProblemKind::Invalid, "request_too_large", &message, id);
    }
    let (parts, body) = request.into_parts();
    next.run(Request::from_parts(parts, Body::new(Limited::new(body, limit)))).await
}

fn limit(path: &str) -> usize {
    match path {
        "/ui/start_turn" => QUESTION,
        "/ui/start_temporary_turn" | "/ui/import_conversations" => HISTORY,
        _ => ORDINARY,
    }
}
