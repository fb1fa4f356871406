//! The span of a request at the edge: below its caller's, if that sent one, and open until the last byte of the answer.

use axum::{
    body::{Body, HttpBody},
    extract::Request,
    response::Response,
};
use contract::ids::RequestId;
use http_body_util::BodyExt;
use telemetry::{KeyValue, Kind, Span, Tracer};

/// What is traced: what programs and our own pages call. Health, files and pages would be noise.
const TRACED: [&str; 2] = ["/v1/", "/ui/"];

/// Begins it; nothing if traces are off or the route is none of [`TRACED`].
pub fn begin(tracer: &Tracer, request: &Request, route: &str, id: RequestId) -> Span {
    if !TRACED.iter().any(|prefix| route.starts_with(prefix)) {
        return Span::default();
    }
    let span = tracer.accept(request.headers(), Kind::Server, || format!("{} {route}", request.method()));
    span.set(|| {
        [
            KeyValue::new("http.request.method", request.method().to_string()),
            KeyValue::new("http.route", route.to_owned()),
            KeyValue::new("kontor.request.id", id.to_string()),
        ]
    });
    span
}

/// Ends it with the answer: a whole one now, a stream when its last piece was sent or nobody wants it any more.
pub fn end(span: Span, response: Response) -> Response {
    let status = response.status();
    span.set(|| [KeyValue::new("http.response.status_code", i64::from(status.as_u16()))]);
    if status.is_server_error() {
        span.fail(status.as_u16().to_string());
    }
    if span.trace().id().is_none() || response.body().size_hint().exact().is_some() {
        return response;
    }
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _ = &span;
            frame
        }))
    })
}
