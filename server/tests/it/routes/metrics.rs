//! The metrics port.

use super::{
    v1::{House, make},
    v1_quotas::post,
};
use crate::app::{Person, TestApp};
use axum::{body::Body, http::Request};
use contract::account::Role;
use http_body_util::BodyExt;
use identity::{MadeKey, NewKey};
use inference::pool::{Reconciled, WorkerLoad};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use testkit::{eventually, fake_worker::Script};
use tower::ServiceExt;

/// What Prometheus is told.
async fn scrape(app: &TestApp) -> String {
    let router = server::http::metrics::router(app.state.metrics.clone(), app.state.inference.clone(), app.state.db.clone());
    let response = router.oneshot(Request::get("/metrics").body(Body::empty()).expect("a request")).await.expect("infallible");
    String::from_utf8(response.into_body().collect().await.expect("a body").to_bytes().to_vec()).expect("text")
}

/// Names and labels of all series, without their values.
async fn series(app: &TestApp) -> BTreeSet<String> {
    let text = scrape(app).await;
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series.to_owned()).collect()
}

/// A program asks with each key, and each person in a chat of their own.
async fn all_ask(house: &House, keys: &[MadeKey], people: &[Person]) {
    for key in keys {
        let answer = post(house, key.key.reveal(), "chat/completions", None).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    for person in people {
        house.app.ask(person, "A question").await;
    }
}

/// So many uses of models were counted, of programs, in chats and for titles of chats.
async fn counted(app: &TestApp, uses: [(&str, usize); 3]) {
    let lines = uses.map(|(purpose, uses)| {
        format!("kontor_model_requests_total{{model=\"fake-model\",purpose=\"{purpose}\",outcome=\"ok\"}} {uses}\n")
    });
    let what = format!("all is counted: {lines:?}");
    eventually(&what, 10, || async {
        let text = scrape(app).await;
        lines.iter().all(|line| text.contains(line))
    })
    .await;
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

#[tokio::test]
async fn the_number_of_series_does_not_grow_with_keys_people_and_chats() {
    // Beside the first of each. People cost more: their passwords are hashed.
    const KEYS: usize = 180;
    const PEOPLE: usize = 20;
    const MOST: usize = 5_000;
    let house = House::build().await;
    let app = &house.app;
    app.worker.otherwise(Script::answer("An answer."));
    let (mut keys, mut people) = (Vec::new(), Vec::new());
    for _ in 0..=KEYS {
        keys.push(make(app, house.tenant, house.account, NewKey::default()).await);
    }
    for number in 0..=PEOPLE {
        people.push(app.person(house.tenant, &format!("person-{number}"), &[Role::User]).await);
    }
    let ((key, keys), (person, people)) = (keys.split_first().expect("a key"), people.split_first().expect("a person"));
    all_ask(&house, std::slice::from_ref(key), std::slice::from_ref(person)).await;
    counted(app, [("api", 1), ("chat", 1), ("title", 1)]).await;
    // The worker counts what has ended, and has no ratio before.
    eventually("the worker's figures are there", 5, || async { scrape(app).await.contains("kontor_worker_prefix_hit_ratio{") }).await;
    let before = series(app).await;
    all_ask(&house, keys, people).await;
    counted(app, [("api", KEYS + 1), ("chat", PEOPLE + 1), ("title", PEOPLE + 1)]).await;
    let after = series(app).await;
    let new: Vec<_> = after.difference(&before).collect();
    assert!(
        new.is_empty(),
        "If you are here because this failed: the number of series grows with keys, people or chats, and with it the memory of this \
         process and of whoever scrapes it.\n{new:#?}"
    );
    assert!(after.len() < MOST, "{} series", after.len());
}
