//! Every request gets an id: in its log lines, in problems, in the ledger and in `x-request-id`.

use super::{metrics::Metrics, trace};
use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};
use contract::ids::RequestId;
use std::{sync::Arc, time::Instant};
use telemetry::Tracer;
use tracing::Instrument;
use uuid::Uuid;

/// The response header with the request's id.
pub static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives the request its id, a log span, a trace and a place in the metrics. A client's own id is not taken over:
/// the ledger refers to ours.
pub async fn identify(State((metrics, tracer)): State<(Arc<Metrics>, Tracer)>, mut request: Request, next: Next) -> Response {
    let id = RequestId(Uuid::now_v7());
    request.extensions_mut().insert(id);
    let route = request.extensions().get::<MatchedPath>().map_or_else(|| "other".to_owned(), |path| path.as_str().to_owned());
    let method = request.method().clone();
    let traced = trace::begin(&tracer, &request, &route, id);
    let span = tracing::info_span!("request", id = %id, %method, route, trace_id = tracing::field::Empty);
    if let Some(trace_id) = traced.trace().id() {
        span.record("trace_id", trace_id.as_str());
    }
    let started = Instant::now();
    let mut response = traced.trace().scope(next.run(request)).instrument(span.clone()).await;
    let took = started.elapsed();
    let status = response.status();
    metrics.answered(&method, &route, status, took);
    span.in_scope(|| tracing::debug!(status = status.as_u16(), ms = took.as_millis(), "answered"));
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(X_REQUEST_ID.clone(), value);
    }
    trace::end(traced, response)
}

/// The id given by [`identify`]; nil for a request that did not pass it.
#[must_use]
pub fn of(extensions: &axum::http::Extensions) -> RequestId {
    extensions.get::<RequestId>().copied().unwrap_or(RequestId(Uuid::nil()))
}
