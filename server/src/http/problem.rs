//! The one renderer of failures for plain routes: `application/problem+json`.
//!
//! Server functions have their own in `app::edge`; both show the same [`Problem`].

use axum::{
    extract::{Query, rejection::QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use contract::{
    ids::RequestId,
    problem::{Problem, ProblemKind},
};

/// A failed plain route.
#[derive(Debug)]
pub struct Failure {
    error: domain::Error,
    request: RequestId,
}

impl Failure {
    /// A failure of the request with this id.
    #[must_use]
    pub fn new(error: domain::Error, request: RequestId) -> Self {
        Self { error, request }
    }
}

impl IntoResponse for Failure {
    /// Renders, and logs what is our fault: here and nowhere else for plain routes.
    fn into_response(self) -> Response {
        if let domain::Error::Internal(source) = &self.error {
            tracing::error!(request = %self.request, error = %contract::chain(source.as_ref()), "a request failed");
        }
        let mut problem = self.error.problem();
        problem.request_id = Some(self.request.to_string());
        let status = StatusCode::from_u16(problem.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        render(status, &problem)
    }
}

/// A problem as a response; `Retry-After` goes along where the problem has it.
#[must_use]
pub fn render(status: StatusCode, problem: &Problem) -> Response {
    let body = serde_json::to_vec(problem).unwrap_or_else(|_| b"{}".to_vec());
    let mut response =
        (status, [(header::CONTENT_TYPE, "application/problem+json"), (header::CACHE_CONTROL, "no-store")], body).into_response();
    if let Some(seconds) = problem.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// What is asked for behind the `?`, where axum would refuse in its own words and with plain text.
///
/// # Errors
/// [`domain::Error::Invalid`] on `query`.
pub fn query<T>(query: Result<Query<T>, QueryRejection>) -> domain::Result<T> {
    let unread = |_| domain::Error::invalid("query", "malformed_query", "The query could not be read: name each part once.");
    query.map(|Query(query)| query).map_err(unread)
}

/// A refusal that no service made: by middleware.
#[must_use]
pub fn refuse(status: StatusCode, kind: ProblemKind, code: &str, message: &str, request: RequestId) -> Response {
    let mut problem = Problem::new(kind, code, message);
    problem.request_id = Some(request.to_string());
    render(status, &problem)
}
