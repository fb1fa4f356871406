//! The metrics port.

use super::v1::House;
use crate::app::TestApp;
use axum::{body::Body, http::Request};
use http_body_util::BodyExt;
use inference::pool::{Reconciled, WorkerLoad};
use serde_json::json;
use std::collections::BTreeMap;
use testkit::{eventually, fake_worker::Script};
use tower::ServiceExt;

/// What Prometheus is told.
async fn scrape(app: &TestApp) -> String {
    let router = server::http::metrics::router(app.state.metrics.clone(), app.state.inference.clone(), app.state.db.clone());
    let response = router.oneshot(Request::get("/metrics").body(Body::empty()).expect("a request")).await.expect("infallible");
    String::from_utf8(response.into_body().collect().await.expect("a body").to_bytes().to_vec()).expect("text")
}

#[tokio::test]
async fn requests_are_counted_by_pattern_and_workers_are_seen() {
    let app = TestApp::start().await;
    for _ in 0..2 {
        app.get(None, "/healthz").await;
    }
    for method in ["BREW", "WHEN"] {
        app.send(None, Request::builder().method(method).uri("/healthz").body(Body::empty()).expect("a request")).await;
    }
    app.get(None, "/ui/turns/0198c0de-0000-7000-8000-000000000001/events").await;
    let text = scrape(&app).await;
    for line in [
        "kontor_http_requests_total{route=\"/healthz\",method=\"GET\",status=\"200\"} 2",
        "kontor_http_requests_total{route=\"/healthz\",method=\"other\",status=\"405\"} 2",
        "kontor_http_request_duration_seconds_count{route=\"/healthz\"} 4",
        "kontor_http_requests_total{route=\"/ui/turns/{id}/events\",method=\"GET\",status=\"401\"} 1",
        "kontor_worker_busy{worker=\"fake worker\"}",
        "kontor_worker_model_ready{worker=\"fake worker\",model=\"fake-model\"} 1",
        "kontor_process_resident_memory_bytes ",
        "kontor_response_cache_hits_total 0",
        "kontor_response_cache_misses_total 0",
        "kontor_response_cache_answers 0",
        "kontor_response_cache_bytes 0",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("BREW"), "If you are here because this failed: clients make any number of series by making up methods.");
    assert!(!text.contains("0198c0de"), "If you are here because this failed: ids in labels make the number of series grow for ever.");
    assert_ne!(app.get(None, "/metrics").await.status, 200, "metrics have their own port");
}

#[tokio::test]
async fn the_hit_ratio_is_the_part_of_all_prompts_that_was_cached() {
    let house = House::build().await;
    let worker = &house.app.worker;
    assert!(!scrape(&house.app).await.contains("kontor_worker_prefix_hit_ratio{"), "without a prompt there is no part of it");
    // 5 of 20, then 40 of 80.
    for (prompt, cached, ratio) in [(20, 5, "0.25"), (60, 35, "0.5")] {
        worker.script(Script::answer("An answer.").prompt(prompt, cached));
        let answer = house.chat(json!({})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let line = format!("kontor_worker_prefix_hit_ratio{{worker=\"fake worker\"}} {ratio}\n");
        // The worker counts what has ended.
        eventually(&line, 5, || async { scrape(&house.app).await.contains(&line) }).await;
    }
}

#[tokio::test]
async fn a_worker_that_has_left_has_no_figures_but_its_drift() {
    let app = TestApp::start().await;
    let (metrics, inference) = (&app.state.metrics, &app.state.inference);
    let tell = |workers: &[WorkerLoad], reconciled: &BTreeMap<String, Reconciled>| {
        metrics.render(workers, reconciled, inference.cache_figures(), app.state.db.connections(), inference.metrics()).expect("a text")
    };
    let there = tell(&inference.pool().load().await, &inference.pool().reconciled());
    assert!(there.contains("kontor_worker_model_ready{worker=\"fake worker\",model=\"fake-model\"} 1"), "{there}");
    let power = "kontor_worker_device_power_watts{worker=\"fake worker\",machine=\"fake machine\",device=\"fake\"} 1";
    assert!(there.contains(power), "If you are here because this failed: equal cards of two machines count once.\n{there}");
    let left = tell(&[], &BTreeMap::new());
    assert!(
        !left.contains("worker=\"fake worker\""),
        "If you are here because this failed: a worker that has left counts as ready for ever, and no alert fires.\n{left}"
    );
    let drifted = Reconciled { cut: 3, drift: 12, ..Reconciled::default() };
    let left = tell(&[], &BTreeMap::from([("fake worker".to_owned(), drifted)]));
    for line in ["kontor_ledger_drift_tokens{worker=\"fake worker\"} 12", "kontor_ledger_cut_tokens{worker=\"fake worker\"} 3"] {
        assert!(left.contains(line), "If you are here because this failed: the alert of a drift ends with its worker.\n{left}");
    }
    assert_eq!(left.matches("worker=\"fake worker\"").count(), 2, "{left}");
}
