//! Every request gets an id: in its log lines, in problems, in the ledger and in `x-request-id`.

use axum::http::HeaderName;
use contract::ids::RequestId;
use uuid::Uuid;

/// The response header with the request's id.
pub static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id given by [`Edge`](super::edge::Edge); nil for a request that did not pass it.
#[must_use]
pub fn of(extensions: &axum::http::Extensions) -> RequestId {
    extensions.get::<RequestId>().copied().unwrap_or(RequestId(Uuid::nil()))
}
