//! Spans of a real worker process.

use crate::{
    collector::{Collector, only},
    world::{self, MODEL},
};
use axum::http::HeaderMap;
use inference::Outcome;
use std::time::Duration;
use telemetry::Kind;
use testkit::eventually;

#[tokio::test]
async fn a_worker_process_exports_its_own_spans_below_those_of_the_pool() {
    let collector = Collector::start().await;
    let (tracer, target) = (collector.tracer(), collector.target());
    let world = world::world(1, &["--traces", target.as_str()]).await;
    let span = tracer.accept(&HeaderMap::new(), Kind::Server, || "a test".into());
    let trace = span.trace().id().expect("traces are on");
    let generation = span.trace().scope(world.ask("Say hello to everybody.", 8)).await;
    assert_eq!(world::read(generation).await.1.outcome, Outcome::Ok);
    drop(span);
    tracer.shutdown(Duration::from_secs(5)).await;
    // The worker sends every five seconds.
    let generate = format!("generate {MODEL}");
    let came = || async { collector.trace(&trace).iter().any(|span| span.name() == generate) };
    eventually("the worker's spans have come", 20, came).await;

    let spans = collector.trace(&trace);
    let (attempt, whole) = (only(&spans, &format!("attempt {MODEL}")), only(&spans, &generate));
    assert_eq!((whole.parent(), whole.kind(), whole.service.as_str()), (attempt.id(), 2, "kontor-worker"));
    for phase in ["queue", "prefill", "decode"] {
        assert_eq!(only(&spans, phase).parent(), whole.id(), "{phase}");
    }
    assert!(whole.attribute("kontor.completion_tokens").parse::<u32>().is_ok_and(|tokens| tokens > 0));
    assert!(!format!("{spans:?}").contains("everybody"), "what people say leaves with the worker's spans");
}
