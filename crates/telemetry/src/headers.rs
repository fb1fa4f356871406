//! The trace on its way between processes: `traceparent` and `tracestate`, as W3C's Trace Context (2021) has them.

use crate::trace::{At, Span, Trace, Tracer};
use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator},
    trace::{SpanKind, TraceContextExt},
};
use opentelemetry_http::HeaderInjector;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use reqwest::header::HeaderMap;

/// Bytes of a header that is taken in: as much of `tracestate` as everybody has to pass on.
const LONGEST: usize = 512;

/// What somebody sent, who may be anybody.
struct Sent<'a>(&'a HeaderMap);

impl Extractor for Sent<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok()).filter(|value| value.len() <= LONGEST)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|name| name.as_str()).collect()
    }
}

impl Tracer {
    /// Begins our part of a request's work: below the caller's span if it sent one, else as a trace of its own.
    pub fn accept(&self, headers: &HeaderMap, kind: SpanKind, name: impl FnOnce() -> String) -> Span {
        match &self.0 {
            Some(inner) => Span::begin(inner.clone(), &sent(headers), kind, name()),
            None => Span::default(),
        }
    }

    /// The same, but nothing for a caller without a trace.
    pub fn join(&self, headers: &HeaderMap, kind: SpanKind, name: impl FnOnce() -> String) -> Span {
        let Some(inner) = &self.0 else { return Span::default() };
        let parent = sent(headers);
        if parent.has_active_span() { Span::begin(inner.clone(), &parent, kind, name()) } else { Span::default() }
    }
}

impl Trace {
    /// What a worker is told, so that its spans lie below this place; empty outside of a trace.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        self.0.as_ref().map_or_else(HeaderMap::new, told)
    }

    /// What an upstream is told: empty unless [`Settings::upstreams`](crate::Settings) says so.
    #[must_use]
    pub fn headers_for_upstream(&self) -> HeaderMap {
        self.0.as_ref().filter(|at| at.tracer.upstreams).map_or_else(HeaderMap::new, told)
    }
}

fn sent(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Sent(headers))
}

fn told(at: &At) -> HeaderMap {
    let mut headers = HeaderMap::new();
    TraceContextPropagator::new().inject_context(&at.context, &mut HeaderInjector(&mut headers));
    if headers.get("tracestate").is_some_and(|state| state.is_empty()) {
        headers.remove("tracestate");
    }
    headers
}

#[cfg(test)]
mod tests {
    use crate::{Kind, Settings, Tracer};
    use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

    /// Not sampled, so that nothing is exported.
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    fn sent(state: &str) -> HeaderMap {
        let headers = [("traceparent", PARENT), ("tracestate", state)];
        headers.into_iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).expect("ASCII"))).collect()
    }

    fn tracer(upstreams: bool) -> Tracer {
        let settings = Settings { target: "http://127.0.0.1:9/v1/traces".into(), service: Some("test"), ratio: None, upstreams };
        Tracer::export(&settings).expect("an exporter")
    }

    #[tokio::test]
    async fn a_worker_is_always_told_and_an_upstream_if_it_shall_be() {
        for upstreams in [false, true] {
            let span = tracer(upstreams).accept(&sent("vendor=1"), Kind::Server, || "a request".into());
            let worker = span.trace().headers();
            let parent = worker["traceparent"].to_str().expect("text");
            assert!(parent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && parent.ends_with("-00") && parent != PARENT, "{parent}");
            assert_eq!(worker["tracestate"], "vendor=1");
            assert_eq!(
                span.trace().headers_for_upstream().is_empty(),
                !upstreams,
                "If you are here because this failed: strangers learn ids of ours without anybody having wished it."
            );
        }
    }

    #[tokio::test]
    async fn what_is_too_long_is_left_out_and_without_a_trace_a_worker_makes_none() {
        let long = tracer(false).accept(&sent(&format!("vendor={}", "x".repeat(600))), Kind::Server, || "a request".into());
        assert!(long.trace().headers().get("tracestate").is_none());
        assert_eq!(tracer(false).join(&HeaderMap::new(), Kind::Server, || "an answer".into()).trace().id(), None);
        assert!(tracer(false).join(&sent("vendor=1"), Kind::Server, || "an answer".into()).trace().id().is_some());
        let off = Tracer::default().accept(&sent("vendor=1"), Kind::Server, || "a request".into());
        assert!(off.trace().headers().is_empty());
    }
}
