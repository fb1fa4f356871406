//! The content filter of whoever runs a model, as clients see it.

use super::{
    v1::House,
    v1_fallback::{PRIMARY, World},
    v1_quotas::told,
};
use axum::http::StatusCode;
use domain::{Amount, quota::Level};
use serde_json::{Value, json};
use testkit::{
    fake_upstream::Mood,
    fake_worker::{FAKE_MODEL, Script},
    ledger::ledger,
    quotas::{budget, price, spent},
};

const ROUTES: [&str; 3] = ["chat/completions", "messages", "responses"];

/// What an answer that was filtered says of its end.
fn end(route: &str) -> &'static str {
    match route {
        "messages" => r#""stop_reason":"refusal""#,
        "responses" => r#""incomplete_details":{"reason":"content_filter"}"#,
        _ => r#""finish_reason":"content_filter""#,
    }
}

#[tokio::test]
async fn an_answer_that_is_filtered_ends_with_what_was_said() {
    let world = World::new().await;
    world.primary.set(Mood::Filters);
    for route in ROUTES {
        for more in [json!({}), json!({ "stream": true })] {
            let answer = world.ask(route, &more).await;
            assert_eq!(answer.status, StatusCode::OK, "{route} {more}: {}", answer.text());
            let text = answer.text();
            assert!(text.contains("one ") && text.contains("two "), "{route} {more}: what was said is lost: {text}");
            assert!(text.contains(end(route)), "{route} {more}: {text}");
        }
    }
    assert!(world.second.requests().is_empty(), "it answered: nobody else is asked");
    world.house.app.state.inference.drain().await;
    let rows = ledger(&world.house.app.db).await;
    assert_eq!(rows.len(), 6);
    for row in rows {
        assert_eq!((row.outcome.as_deref(), row.prompt_tokens, row.completion_tokens), (Some("ok"), 20, 3), "what was made is paid");
    }
}

#[tokio::test]
async fn a_completion_and_a_response_say_so_too() {
    let house = House::build().await;
    house.app.worker.otherwise(Script::answer("one two ").ends_filtered());
    let completion: Value = house.post("/v1/completions", &json!({ "model": FAKE_MODEL, "prompt": "x" })).await.json();
    let choice = &completion["choices"][0];
    assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!("one two "), &json!("content_filter")));
    let response: Value = house.post("/v1/responses", &json!({ "model": FAKE_MODEL, "input": "x" })).await.json();
    assert_eq!((&response["status"], &response["output"][0]["status"]), (&json!("incomplete"), &json!("incomplete")));
    let path = format!("/v1/responses/{}", response["id"].as_str().expect("an id"));
    assert_eq!(house.get(&path).await.json::<Value>(), response, "it is stored as it was told");
}

#[tokio::test]
async fn a_prompt_that_is_filtered_is_refused_and_costs_nothing() {
    let world = World::new().await;
    let db = &world.house.app.db;
    for model in [PRIMARY, FAKE_MODEL] {
        price(db, model, "EUR", "1", "2").await;
    }
    budget(db, world.house.tenant, Level::Team, Some("Statistics"), "1", true).await;
    world.primary.set(Mood::Refuses(400, "content_filter"));
    for route in ROUTES {
        for more in [json!({}), json!({ "stream": true })] {
            let answer = world.ask(route, &more).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{route} {more}: {}", answer.text());
            assert_eq!(told(&answer), ("invalid_request_error".into(), "content_filter".into()), "{route} {more}");
            let error = &answer.json::<Value>()["error"];
            assert!(error["param"].is_null() && !error["message"].as_str().expect("words").starts_with("request"), "{error}");
        }
    }
    assert_eq!((world.primary.requests().len(), world.second.requests().len()), (6, 0), "nobody else is asked");
    world.house.app.state.inference.drain().await;
    let spent = spent(db, world.house.tenant).await;
    assert!(!spent.is_empty() && spent.iter().all(|state| state.spent == Amount::ZERO), "{spent:?}");
}
