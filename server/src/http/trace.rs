//! The span of a request at the edge: below its caller's, if that sent one, and open until the last byte of the answer.

use axum::{
    body::{Body, HttpBody},
    extract::Request,
    response::Response,
};
use contract::ids::RequestId;
use http_body_util::BodyExt;
use identity::KEY_PREFIX;
use telemetry::{KeyValue, Kind, Span, Tracer};

/// What is traced: what programs and our own pages call. Health, files and pages would be noise.
const TRACED: [&str; 2] = ["/v1/", "/ui/"];

/// Begins it; nothing if traces are off or the route is none of [`TRACED`]. `scheme` is how callers reach us.
pub fn begin(tracer: &Tracer, request: &Request, route: &str, scheme: &'static str, id: RequestId) -> Span {
    if !TRACED.iter().any(|prefix| route.starts_with(prefix)) {
        return Span::default();
    }
    let span = tracer.accept(request.headers(), Kind::Server, || format!("{} {route}", request.method()));
    span.set(|| {
        [
            KeyValue::new("http.request.method", request.method().to_string()),
            KeyValue::new("http.route", route.to_owned()),
            KeyValue::new("url.path", path(request.uri().path(), route).to_owned()),
            KeyValue::new("url.scheme", scheme),
            KeyValue::new("kontor.request.id", id.to_string()),
        ]
    });
    span
}

/// What a span tells of a path. Ids may be in it; but below a route that takes any path stands whatever somebody wrote there,
/// and a key may have got into any, in whatever spelling.
fn path<'a>(path: &'a str, route: &'a str) -> &'a str {
    if route.contains("{*") || path.contains('%') || path.contains(KEY_PREFIX) { route } else { path }
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

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn a_path_is_told_with_its_ids_and_without_what_nobody_shall_read() {
        assert_eq!(path("/v1/files/file-1", "/v1/files/{id}"), "/v1/files/file-1");
        assert_eq!(path("/v1/files/sk-kontor-abc", "/v1/files/{id}"), "/v1/files/{id}");
        assert_eq!(path("/v1/files/%73k-kontor-abc", "/v1/files/{id}"), "/v1/files/{id}");
        assert_eq!(path("/v1/models/a-secret", "/v1/models/{*model}"), "/v1/models/{*model}");
    }
}
