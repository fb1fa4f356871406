//! The trace on its way between processes: `traceparent` and `tracestate`, as W3C's Trace Context (2021) has them.

use crate::trace::{At, Span, Trace, Tracer};
use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator},
    trace::{SpanContext, SpanKind, TraceContextExt},
};
use opentelemetry_http::HeaderInjector;
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{IdGenerator, RandomIdGenerator, SamplingDecision, ShouldSample},
};
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
    /// Begins our part of a request's work: below the caller's span if it sent one, else as a trace of its own. Whether the
    /// caller decides that it is recorded says [`Settings::accept`](crate::Settings).
    pub fn accept(&self, headers: &HeaderMap, kind: SpanKind, name: impl FnOnce() -> String) -> Span {
        match &self.0 {
            Some(inner) => {
                let (parent, name) = (sent(headers), name());
                let parent = inner.sampler.as_deref().map_or_else(|| parent.clone(), |sampler| decided(&parent, sampler, &kind, &name));
                Span::begin(inner.clone(), &parent, kind, name)
            }
            None => Span::default(),
        }
    }

    /// The same for a caller of our own, which has decided; nothing for one without a trace.
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

    /// What an upstream is told: empty unless [`Settings::upstreams`](crate::Settings) says so. What a caller's vendors noted
    /// in `tracestate` is not for others.
    #[must_use]
    pub fn headers_for_upstream(&self) -> HeaderMap {
        let mut headers = self.0.as_ref().filter(|at| at.tracer.upstreams).map_or_else(HeaderMap::new, told);
        headers.remove("tracestate");
        headers
    }
}

fn sent(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Sent(headers))
}

/// The caller's place, with a decision of ours. It is made for an id that nobody else knows: the caller's own may have been
/// chosen so that it is always, or never, recorded.
fn decided(parent: &Context, sampler: &dyn ShouldSample, kind: &SpanKind, name: &str) -> Context {
    let span = parent.span();
    let place = span.span_context();
    if !place.is_valid() {
        return parent.clone();
    }
    let id = RandomIdGenerator::default().new_trace_id();
    let sampled = sampler.should_sample(None, id, name, kind, &[], &[]).decision == SamplingDecision::RecordAndSample;
    let flags = place.trace_flags().with_sampled(sampled);
    parent.with_remote_span_context(SpanContext::new(place.trace_id(), place.span_id(), flags, true, place.trace_state().clone()))
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
    use opentelemetry_sdk::trace::Sampler;
    use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

    /// Not sampled by its caller.
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    /// Sampled, with the id that every ratio above 0 lets through.
    const LOUD: &str = "00-00000000000000000000000000000001-00f067aa0ba902b7-01";

    fn sent(parent: &str, state: &str) -> HeaderMap {
        let headers = [("traceparent", parent), ("tracestate", state)];
        headers.into_iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).expect("ASCII"))).collect()
    }

    fn tracer(ratio: f64, accept: bool, upstreams: bool) -> Tracer {
        let target = "http://127.0.0.1:9/v1/traces".into();
        let settings = Settings { target, service: Some("test"), ratio: Some(ratio), accept, upstreams };
        Tracer::export(&settings).expect("an exporter")
    }

    /// One that callers do not decide for, and whose environment names a sampler that asks no parent.
    fn of_environment(ratio: f64) -> Tracer {
        let target = "http://127.0.0.1:9/v1/traces".into();
        let settings = Settings { target, service: Some("test"), ratio: None, accept: false, upstreams: false };
        Tracer::export_sampled(&settings, || Box::new(Sampler::TraceIdRatioBased(ratio))).expect("an exporter")
    }

    /// What a worker is told of a request that came with `parent`.
    fn told(tracer: &Tracer, parent: &str) -> String {
        let span = tracer.accept(&sent(parent, "vendor=1"), Kind::Server, || "a request".into());
        span.trace().headers()["traceparent"].to_str().expect("text").to_owned()
    }

    #[tokio::test]
    async fn a_worker_is_always_told_and_an_upstream_if_it_shall_be() {
        for upstreams in [false, true] {
            let span = tracer(0.0, false, upstreams).accept(&sent(PARENT, "vendor=1"), Kind::Server, || "a request".into());
            let worker = span.trace().headers();
            let parent = worker["traceparent"].to_str().expect("text");
            assert!(parent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && parent.ends_with("-00") && parent != PARENT, "{parent}");
            assert_eq!(worker["tracestate"], "vendor=1");
            let upstream = span.trace().headers_for_upstream();
            assert_eq!(
                upstream.is_empty(),
                !upstreams,
                "If you are here because this failed: strangers learn ids of ours without anybody having wished it."
            );
            assert!(upstream.get("tracestate").is_none(), "what a caller's vendors noted goes to a stranger");
        }
    }

    // The last spans leave beside the test, which waits for them where it drops the tracer.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_caller_decides_about_its_trace_only_where_it_is_accepted() {
        let (never, always) = (tracer(0.0, false, false), tracer(1.0, false, false));
        let told_never = told(&never, LOUD);
        assert!(
            told_never.starts_with("00-00000000000000000000000000000001-") && told_never.ends_with("-00"),
            "If you are here because this failed: anybody makes us record, and pay for, what it likes: {told_never}"
        );
        assert!(told(&always, PARENT).ends_with("-01"), "anybody hides its requests from our traces");
        // Not even by an id that is made for it.
        let few = tracer(0.000_001, false, false);
        assert!((0..16).any(|_| told(&few, LOUD).ends_with("-00")), "the caller's own id decides");
        assert!(told(&tracer(0.0, true, false), LOUD).ends_with("-01"));
        assert!(told(&tracer(1.0, true, false), PARENT).ends_with("-00"));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn whatever_sampler_the_environment_names_a_stranger_does_not_decide() {
        let few = of_environment(0.000_001);
        assert!(
            (0..16).any(|_| told(&few, LOUD).ends_with("-00")),
            "If you are here because this failed: anybody makes us record, and pay for, what it likes, by an id that is made for it."
        );
        assert!(told(&of_environment(1.0), PARENT).ends_with("-01"), "anybody hides its requests from our traces");
        let joined = |ratio, parent| {
            let span = of_environment(ratio).join(&sent(parent, "vendor=1"), Kind::Server, || "an answer".into());
            span.trace().headers()["traceparent"].to_str().expect("text").to_owned()
        };
        assert!(joined(0.0, LOUD).ends_with("-01"), "a worker leaves out what was decided where the request came in");
        assert!(joined(1.0, PARENT).ends_with("-00"), "a worker records what was decided against where the request came in");
    }

    #[tokio::test]
    async fn what_is_too_long_is_left_out_and_without_a_trace_a_worker_makes_none() {
        let tracer = tracer(0.0, false, false);
        let long = tracer.accept(&sent(PARENT, &format!("vendor={}", "x".repeat(600))), Kind::Server, || "a request".into());
        assert!(long.trace().headers().get("tracestate").is_none());
        assert_eq!(tracer.join(&HeaderMap::new(), Kind::Server, || "an answer".into()).trace().id(), None);
        assert!(tracer.join(&sent(PARENT, "vendor=1"), Kind::Server, || "an answer".into()).trace().id().is_some());
        let off = Tracer::default().accept(&sent(PARENT, "vendor=1"), Kind::Server, || "a request".into());
        assert!(off.trace().headers().is_empty());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_we_decided_at_the_edge_holds_for_a_worker() {
        let span = tracer(0.0, false, false).join(&sent(LOUD, "vendor=1"), Kind::Server, || "an answer".into());
        let told = span.trace().headers()["traceparent"].to_str().expect("text").to_owned();
        assert!(told.ends_with("-01"), "{told}");
    }
}
