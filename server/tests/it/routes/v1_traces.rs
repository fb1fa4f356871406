//! A request's trace, from its caller over edge and funnel to the worker.

use super::v1::House;
use crate::{
    app::{Answer, TestApp},
    collector::{Collector, only},
};
use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use serde_json::json;
use std::time::Duration;
use telemetry::Tracer;
use testkit::fake_worker::{FAKE_MODEL, Script};
use worker_protocol::FailCode;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

async fn house(tracer: Tracer) -> House {
    House::of(TestApp::with(|state| state.tracer = tracer).await).await
}

/// Asks with a trace of the caller's; `flags`: 01 if it is recorded.
async fn ask(house: &House, flags: &str, stream: bool) -> Answer {
    let body =
        json!({ "model": FAKE_MODEL, "stream": stream, "max_tokens": 7, "messages": [{ "role": "user", "content": "a secret question" }] });
    let request = Request::post("/v1/chat/completions")
        .header(header::AUTHORIZATION, format!("Bearer {}", house.key.key.reveal()))
        .header(header::CONTENT_TYPE, "application/json")
        .header("traceparent", format!("00-{TRACE}-{CALLER}-{flags}"))
        .header("tracestate", "vendor=1")
        .body(Body::from(body.to_string()))
        .expect("a request");
    house.app.send(None, request).await
}

#[tokio::test]
async fn one_trace_goes_from_the_caller_over_edge_and_funnel_to_the_worker() {
    let collector = Collector::start().await;
    let tracer = collector.tracer();
    let house = house(tracer.clone()).await;
    let answer = ask(&house, "01", false).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    tracer.shutdown(Duration::from_secs(5)).await;

    let spans = collector.trace(TRACE);
    let edge = only(&spans, "POST /v1/chat/completions");
    let funnel = only(&spans, "chat fake-model");
    let attempt = only(&spans, "attempt fake-model");
    assert_eq!((edge.parent().as_str(), edge.kind(), edge.state()), (CALLER, 2, "vendor=1"));
    assert_eq!((funnel.parent(), funnel.kind()), (edge.id(), 1));
    assert_eq!((attempt.parent(), attempt.kind()), (funnel.id(), 3));
    assert_eq!(
        house.app.worker.traceparents(),
        [format!("00-{TRACE}-{}-01", attempt.id())],
        "If you are here because this failed: a worker's own spans would not lie below ours."
    );
    assert!(spans.iter().all(|span| span.service == "kontor"));
    for (name, expected) in [
        ("http.request.method", "POST"),
        ("http.route", "/v1/chat/completions"),
        ("http.response.status_code", "200"),
        ("url.path", "/v1/chat/completions"),
        ("url.scheme", "http"),
        ("kontor.request.id", answer.header("x-request-id")),
    ] {
        assert_eq!(edge.attribute(name), expected, "{name}");
    }
    for (name, expected) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "kontor"),
        ("gen_ai.request.model", FAKE_MODEL),
        ("gen_ai.request.max_tokens", "7"),
        ("gen_ai.response.model", FAKE_MODEL),
        ("gen_ai.response.id", answer.header("x-kontor-usage-id")),
        ("gen_ai.usage.input_tokens", "12"),
        ("gen_ai.usage.cache_read.input_tokens", "4"),
        ("gen_ai.usage.output_tokens", "5"),
        ("gen_ai.response.finish_reasons", "stop"),
        ("kontor.purpose", "api"),
        ("kontor.outcome", "ok"),
    ] {
        assert_eq!(funnel.attribute(name), expected, "{name}");
    }
    assert_eq!((attempt.attribute("kontor.member").as_str(), attempt.attribute("server.address").as_str()), ("fake worker", "127.0.0.1"));
    let all = format!("{spans:?}");
    assert!(
        !all.contains("secret") && !all.contains("Hello"),
        "If you are here because this failed: what people and models say leaves with the traces."
    );
}

#[tokio::test]
async fn a_stream_is_within_its_span_and_a_failure_is_marked() {
    let collector = Collector::start().await;
    let tracer = collector.tracer();
    let house = house(tracer.clone()).await;
    house.app.worker.script(Script::answer("One two three."));
    house.app.worker.script(Script::answer("One two three.").fails_after(1, FailCode::Engine));
    for _ in 0..2 {
        let answer = ask(&house, "01", true).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    }
    tracer.shutdown(Duration::from_secs(5)).await;
    let spans = collector.trace(TRACE);
    let named = |name: &str| spans.iter().filter(|span| span.name() == name).collect::<Vec<_>>();
    let (edges, funnels) = (named("POST /v1/chat/completions"), named("chat fake-model"));
    assert_eq!((edges.len(), funnels.len(), named("attempt fake-model").len()), (2, 2, 2));
    let failed = funnels.iter().find(|span| span.failed()).expect("one failed");
    assert_eq!((failed.attribute("error.type").as_str(), failed.attribute("kontor.outcome").as_str()), ("unavailable", "failed"));
    assert_eq!(funnels.iter().filter(|span| span.failed()).count(), 1);
}

#[tokio::test]
async fn prompts_that_begin_while_others_are_told_are_within_the_request_s_span() {
    let collector = Collector::start().await;
    let tracer = collector.tracer();
    let house = house(tracer.clone()).await;
    let body = json!({ "model": FAKE_MODEL, "stream": true, "prompt": ["1", "2", "3", "4", "5", "6"] });
    let request = Request::post("/v1/completions")
        .header(header::AUTHORIZATION, format!("Bearer {}", house.key.key.reveal()))
        .header(header::CONTENT_TYPE, "application/json")
        .header("traceparent", format!("00-{TRACE}-{CALLER}-01"))
        .body(Body::from(body.to_string()))
        .expect("a request");
    let answer = house.app.send(None, request).await;
    assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
    tracer.shutdown(Duration::from_secs(5)).await;
    let spans = collector.trace(TRACE);
    let edge = only(&spans, "POST /v1/completions");
    let funnels = spans.iter().filter(|span| span.name() == "chat fake-model" && span.parent() == edge.id()).count();
    assert_eq!(funnels, 6, "If you are here because this failed: whoever looks for what was slow does not see the later prompts.");
}

#[tokio::test]
async fn a_refusal_says_why() {
    let collector = Collector::start().await;
    let tracer = collector.tracer();
    let house = house(tracer.clone()).await;
    let body = json!({ "model": "no-such-model", "messages": [{ "role": "user", "content": "x" }] });
    let request = Request::post("/v1/chat/completions")
        .header(header::AUTHORIZATION, format!("Bearer {}", house.key.key.reveal()))
        .header(header::CONTENT_TYPE, "application/json")
        .header("traceparent", format!("00-{TRACE}-{CALLER}-01"))
        .body(Body::from(body.to_string()))
        .expect("a request");
    assert_eq!(house.app.send(None, request).await.status, StatusCode::NOT_FOUND);
    tracer.shutdown(Duration::from_secs(5)).await;
    let spans = collector.trace(TRACE);
    let funnel = only(&spans, "chat");
    assert_eq!((funnel.failed(), funnel.attribute("error.type").as_str()), (true, "model_not_found"));
    assert!(!format!("{spans:?}").contains("no-such-model"), "what a stranger calls a model is no name of ours");
}

#[tokio::test]
async fn a_path_comes_with_its_ids_and_without_query_and_keys() {
    let collector = Collector::start().await;
    let tracer = collector.tracer();
    let house = house(tracer.clone()).await;
    let key = house.key.key.reveal();
    let paths = ["/v1/files/file-1?api_key=hidden".to_owned(), format!("/v1/files/{key}"), "/v1/models/hidden".to_owned()];
    for path in &paths {
        let request = Request::get(path)
            .header(header::AUTHORIZATION, format!("Bearer {key}"))
            .header("traceparent", format!("00-{TRACE}-{CALLER}-01"))
            .body(Body::empty())
            .expect("a request");
        assert_eq!(house.app.send(None, request).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    tracer.shutdown(Duration::from_secs(5)).await;
    let spans = collector.trace(TRACE);
    let mut told: Vec<String> = spans.iter().map(|span| span.attribute("url.path")).filter(|path| !path.is_empty()).collect();
    told.sort();
    assert_eq!(told, ["/v1/files/file-1", "/v1/files/{id}", "/v1/models/{*model}"]);
    let all = format!("{spans:?}");
    assert!(!all.contains("hidden") && !all.contains(key), "If you are here because this failed: secrets leave with the traces.");
}

#[tokio::test]
async fn a_callers_sampling_decides_where_it_is_accepted_and_without_a_collector_nobody_is_told() {
    let collector = Collector::start().await;
    let ours = collector.tracer();
    assert_eq!(ask(&house(ours.clone()).await, "00", false).await.status, StatusCode::OK);
    ours.shutdown(Duration::from_secs(5)).await;
    assert!(!collector.trace(TRACE).is_empty(), "If you are here because this failed: callers hide what they do from our traces.");

    let collector = Collector::start().await;
    let tracer = collector.tracer_that(true);
    let unsampled = house(tracer.clone()).await;
    assert_eq!(ask(&unsampled, "00", false).await.status, StatusCode::OK);
    let told = unsampled.app.worker.traceparents();
    assert!(told[0].starts_with(&format!("00-{TRACE}-")) && told[0].ends_with("-00"), "{told:?}");
    tracer.shutdown(Duration::from_secs(5)).await;
    assert_eq!(collector.count(), 0, "If you are here because this failed: what a caller does not record is exported.");

    let off = house(Tracer::default()).await;
    assert_eq!(ask(&off, "01", false).await.status, StatusCode::OK);
    assert_eq!(off.app.worker.traceparents(), [""]);
}
