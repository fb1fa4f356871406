//! What guardrails say to programs, on every route that uses a model.

use super::{
    v1::House,
    v1_quotas::{ROUTES, house, post, told},
};
use crate::app::TestApp;
use axum::{
    body::Body,
    http::{Method, StatusCode},
};
use serde_json::{Value, json};
use testkit::{
    fake_worker::{FAKE_MODEL, Script},
    guardrails::{decided, guardrails},
    ledger::ledger,
};

#[tokio::test]
async fn each_route_refuses_what_is_blocked_and_charges_nothing() {
    let house = house().await;
    let rule = json!([{ "name": "letter", "check": { "kind": "words", "words": ["x"] }, "on": ["input"], "action": "block" }]);
    guardrails(&house.app.db, house.tenant, rule).await;
    for route in ROUTES {
        let answer = post(&house, house.key.key.reveal(), route, None).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{route}: {}", answer.text());
        let (kind, code) = told(&answer);
        assert_eq!((kind.as_str(), code.as_str()), ("invalid_request_error", "content_filter"), "{route}");
        assert!(answer.text().contains("letter"), "{route}: the rule is named");
    }
    assert!(
        ledger(&house.app.db).await.is_empty(),
        "If you are here because this failed: a route goes around the guardrails, or charges for a refusal."
    );
    assert_eq!(decided(&house.app.db, "guardrail.blocked", "letter").await, i64::try_from(ROUTES.len()).expect("few"));
}

#[tokio::test]
async fn a_stream_says_why_it_ends_and_a_warning_is_a_header() {
    let house = House::of(TestApp::start().await).await;
    let rules = json!([
        { "name": "secret-project", "check": { "kind": "words", "words": ["Kranich"] }, "on": ["output"], "action": "block" },
        { "name": "careful", "check": { "kind": "words", "words": ["project"] }, "on": ["input"], "action": "warn" },
    ]);
    guardrails(&house.app.db, house.tenant, rules).await;
    house.app.worker.script(Script::answer("It is called Kranich and nobody knows."));
    let body = json!({ "model": FAKE_MODEL, "stream": true, "messages": [{ "role": "user", "content": "Which project?" }] });
    let answer = house.send(house.key.key.reveal(), Method::POST, "/v1/chat/completions", Body::from(body.to_string())).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("x-kontor-guardrail-warnings"), "careful");
    assert!(answer.text().contains("content_filter") && !answer.text().contains("Kranich"), "{}", answer.text());
}

#[tokio::test]
async fn moderation_tells_what_the_rules_see() {
    let house = House::of(TestApp::start().await).await;
    let ask = async |input: Value| {
        let body = json!({ "input": input, "model": "omni-moderation-latest" }).to_string();
        house.send(house.key.key.reveal(), Method::POST, "/v1/moderations", Body::from(body)).await
    };
    let before = ask(json!("mail@example.org")).await;
    assert_eq!(before.json::<Value>()["results"][0]["flagged"], false, "there are no rules yet");
    let rule = json!([{ "name": "contacts", "check": { "kind": "pii", "entities": ["email"] }, "on": ["input"], "action": "block" }]);
    guardrails(&house.app.db, house.tenant, rule).await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let answer = ask(json!(["Write to mail@example.org.", "Nothing here."])).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let results = answer.json::<Value>()["results"].clone();
    assert_eq!(
        (&results[0]["flagged"], &results[0]["categories"]["pii"], &results[0]["rules"][0]),
        (&json!(true), &json!(true), &json!("contacts"))
    );
    assert_eq!(results[1]["flagged"], false);
    let part = |text: &str| json!({ "type": "text", "text": text });
    let parts = ask(json!([part("Nothing here."), part("Write to mail@example.org.")])).await;
    let results = parts.json::<Value>()["results"].clone();
    assert_eq!((results.as_array().map(Vec::len), &results[0]["rules"]), (Some(1), &json!(["contacts"])), "parts are one input");
    let picture = ask(json!([part("Look."), { "type": "image_url", "image_url": { "url": "https://example.org/a.png" } }])).await;
    assert_eq!((picture.status, &picture.json::<Value>()["error"]["param"]), (StatusCode::BAD_REQUEST, &json!("input[1]")));
    assert_eq!(ask(json!([])).await.status, StatusCode::BAD_REQUEST);
    assert!(ledger(&house.app.db).await.is_empty(), "it costs nothing");
}
