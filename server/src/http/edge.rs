//! The layer around every route: the id, the trace, the log's span, the figures, panics and the headers of every answer.
//!
//! It is one layer, because axum clones and boxes all that lies within a layer, for each request.

use super::{awake::Awake, headers, metrics::Metrics, problem, request_id::X_REQUEST_ID, session::believe_proxy, state::AppState, trace};
use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderValue, StatusCode},
    response::Response,
};
use contract::{ids::RequestId, problem::ProblemKind};
use futures::{FutureExt, future::BoxFuture};
use std::{
    any::Any,
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};
use telemetry::Tracer;
use tower::{Layer, Service};
use tracing::Instrument;
use uuid::Uuid;

/// See the module. Cheap to clone.
///
/// A client's own id is not taken over: the ledger refers to ours.
#[derive(Clone)]
pub struct Edge {
    metrics: Arc<Metrics>,
    tracer: Tracer,
    /// How callers reach us, for traces.
    scheme: &'static str,
    trust_proxy: bool,
    awake: Option<Awake>,
}

impl Edge {
    #[must_use]
    pub fn new(state: &AppState) -> Self {
        // Cookies are for https alone just where people reach us by it.
        let scheme = if state.cookies.secure { "https" } else { "http" };
        let (metrics, tracer, awake) = (state.metrics.clone(), state.tracer.clone(), state.awake.clone());
        Self { metrics, tracer, scheme, trust_proxy: state.trust_proxy, awake }
    }
}

impl<S> Layer<S> for Edge {
    type Service = Behind<S>;

    fn layer(&self, inner: S) -> Behind<S> {
        Behind { edge: self.clone(), inner }
    }
}

/// A route behind the [`Edge`].
#[derive(Clone)]
pub struct Behind<S> {
    edge: Edge,
    inner: S,
}

impl<S> Service<Request> for Behind<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let started = Instant::now();
        let awake = self.edge.awake.clone();
        if let Some(awake) = &awake {
            awake.touch();
        }
        let id = RequestId(Uuid::now_v7());
        request.extensions_mut().insert(id);
        if self.edge.trust_proxy {
            believe_proxy(&mut request);
        }
        let path = request.extensions().get::<MatchedPath>().cloned();
        let method = request.method().clone();
        let traced = trace::begin(&self.edge.tracer, &request, pattern(path.as_ref()), self.edge.scheme, id);
        let span = tracing::info_span!("request", id = %id, %method, route = pattern(path.as_ref()), trace_id = tracing::field::Empty);
        if let Some(trace_id) = traced.trace().id() {
            span.record("trace_id", trace_id.as_str());
        }
        let metrics = self.edge.metrics.clone();
        // A route does nothing before it is polled, so all of its work is within trace and span.
        let answer = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        Box::pin(async move {
            let answered = traced.trace().scope(answer).instrument(span.clone()).await;
            let mut response = match answered {
                Ok(answered) => answered.unwrap_or_else(|never| match never {}),
                Err(panic) => span.in_scope(|| panicked(&*panic, pattern(path.as_ref()), id)),
            };
            let (route, status, took) = (pattern(path.as_ref()), response.status(), started.elapsed());
            metrics.answered(&method, route, status, took);
            // Within the span without entering it, which would cost something where nothing is logged.
            tracing::debug!(parent: &span, status = status.as_u16(), ms = took.as_millis(), "answered");
            if let Some(awake) = &awake {
                awake.touch();
            }
            let headers = response.headers_mut();
            headers::secure(headers);
            if is_api(route) {
                gateway::describe(headers, took);
            }
            if let Ok(value) = HeaderValue::from_str(id.0.hyphenated().encode_lower(&mut Uuid::encode_buffer())) {
                headers.insert(X_REQUEST_ID.clone(), value);
            }
            Ok(trace::end(traced, response))
        })
    }
}

/// The route's pattern, of which there are few.
fn pattern(path: Option<&MatchedPath>) -> &str {
    path.map_or("other", MatchedPath::as_str)
}

/// Whether it is one of the API for programs.
fn is_api(route: &str) -> bool {
    route.starts_with("/v1/")
}

/// The handler of a route panicked: the visitor gets a plain problem, a program what it expects there; the log has the text.
fn panicked(panic: &(dyn Any + Send), route: &str, id: RequestId) -> Response {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = text.unwrap_or_default(), "a handler panicked");
    if is_api(route) {
        return gateway::panicked(route, id);
    }
    let message = "Something went wrong on our side.";
    problem::refuse(StatusCode::INTERNAL_SERVER_ERROR, ProblemKind::Internal, "internal", message, id)
}

#[cfg(test)]
mod tests {
    use super::Edge;
    use crate::http::{awake::Awake, metrics::Metrics};
    use axum::{Router, body::Body, extract::Request, http::StatusCode, routing::get};
    use contract::ids::RequestId;
    use http_body_util::BodyExt;
    use std::{sync::Arc, time::Duration};
    use telemetry::Tracer;
    use tokio::time::{sleep, timeout};
    use tokio_util::{sync::CancellationToken, task::TaskTracker};
    use tower::ServiceExt;

    fn panics() -> StatusCode {
        panic!("a secret of the handler's")
    }

    #[tokio::test]
    async fn who_runs_into_a_panic_gets_what_is_expected_there_with_the_id_and_every_header() {
        let openai = r#""type":"server_error","param":null,"code":"internal_error"}}"#;
        let anthropic = r#"{"type":"error","error":{"type":"api_error","#;
        let cases: [(&str, &str, &str, &[&str]); 4] = [
            ("/x", "application/problem+json", r#""kind":"internal""#, &[]),
            ("/v1/x", "application/json", openai, &["openai-processing-ms", "openai-version"]),
            ("/v1/messages", "application/json", anthropic, &["openai-version", "request-id"]),
            ("/v1/messages/x", "application/json", anthropic, &["openai-version", "request-id"]),
        ];
        for (path, kind, shape, more) in cases {
            let metrics = Arc::new(Metrics::default());
            let edge = Edge { metrics, tracer: Tracer::default(), scheme: "http", trust_proxy: false, awake: None };
            let router: Router = Router::new().route(path, get(|| async { panics() })).layer(edge);
            let response = router.oneshot(Request::get(path).body(Body::empty()).expect("a request")).await.expect("infallible");
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR, "{path}");
            let headers = response.headers().clone();
            let body = response.into_body().collect().await.expect("a body").to_bytes();
            let body = String::from_utf8(body.to_vec()).expect("text");
            let id = headers["x-request-id"].to_str().expect("text");
            assert!(id.parse::<RequestId>().is_ok() && body.contains(id), "{id}: {body}");
            assert!(!body.contains("secret"), "If you are here because this failed: visitors read what only the log shall have.");
            assert!(headers["content-type"] == kind && body.contains(shape), "{path}: {headers:?} {body}");
            for name in ["x-content-type-options", "content-security-policy"].iter().chain(more) {
                assert!(headers.contains_key(*name), "{name} is missing in {headers:?}");
            }
        }
    }

    #[tokio::test]
    async fn each_request_keeps_awake() {
        let awake = Awake::new(Duration::from_secs(60)).expect("a time");
        let edge =
            Edge { metrics: Arc::default(), tracer: Tracer::default(), scheme: "http", trust_proxy: false, awake: Some(awake.clone()) };
        let router: Router = Router::new().route("/v1/x", get(|| async { "" })).layer(edge);
        let _kept = TaskTracker::new().spawn(awake.clone().keep(CancellationToken::new()));
        timeout(Duration::from_secs(10), async {
            while !awake.is_asleep() {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .expect("it sleeps without requests");
        // One is not enough; how many it takes depends on whether somebody else needs the core meanwhile.
        timeout(Duration::from_secs(10), async {
            while awake.is_asleep() {
                router.clone().oneshot(Request::get("/v1/x").body(Body::empty()).expect("a request")).await.expect("infallible");
            }
        })
        .await
        .expect("it stays awake for many");
    }
}
