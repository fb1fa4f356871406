//! What the response cache says to programs.

use super::{
    v1::{House, make},
    v1_quotas::{ROUTES, VECTORS, body, house, post},
};
use crate::app::Answer;
use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use identity::NewKey;
use serde_json::{Value, json};
use testkit::{fake_worker::FAKE_MODEL, ledger::ledger, response_caches::keep_answers};

/// The same request each time, with this word in `x-kontor-cache`.
async fn ask(house: &House, key: &str, route: &str, cache: &str, more: Value) -> Answer {
    let mut body = body(route, None);
    body["temperature"] = json!(0);
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let request = Request::post(format!("/v1/{route}"))
        .header(header::AUTHORIZATION, format!("Bearer {key}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header("x-kontor-cache", cache)
        .body(Body::from(body.to_string()))
        .expect("a request");
    house.app.send(None, request).await
}

/// A world whose tenant has its answers kept, and whose pool knows its workers: each was asked once.
async fn keeping() -> House {
    let house = house().await;
    keep_answers(&house.app.db, house.tenant, 3600).await;
    for route in ROUTES {
        let answer = post(&house, house.key.key.reveal(), route, None).await;
        assert_eq!((answer.status, said(&answer).0), (StatusCode::OK, ""), "{route}: {}", answer.text());
    }
    house
}

fn said(answer: &Answer) -> (&str, &str) {
    (answer.header("x-kontor-cache"), answer.header("x-kontor-cost"))
}

#[tokio::test]
async fn each_route_tells_again_what_it_told() {
    let house = keeping().await;
    let key = house.key.key.reveal().to_owned();
    for route in ROUTES {
        let more = own(route);
        let first = ask(&house, &key, route, "use", more.clone()).await;
        assert_eq!(first.status, StatusCode::OK, "{route}: {}", first.text());
        assert_eq!((said(&first).0, first.header("age")), ("miss", ""), "{route}");
        let second = ask(&house, &key, route, "use", more.clone()).await;
        assert_eq!(said(&second), ("hit", "0.00 EUR"), "{route}: {}", second.text());
        assert!(second.header("age").parse::<u64>().is_ok_and(|age| age < 60), "{route}: {}", second.header("age"));
        assert_eq!(second.header("x-kontor-served-by"), "response cache", "{route}");
        let (one, other) = (first.header("x-kontor-usage-id"), second.header("x-kontor-usage-id"));
        assert!(!one.is_empty() && one != other, "{route}: each is a use of its own");
        let same = |answer: &Answer, id: &str| scrubbed(answer.text().replace(id, "ID"));
        assert_eq!(same(&first, one), same(&second, other), "{route}");
        let never = ask(&house, &key, route, "off", more.clone()).await;
        assert_eq!((said(&never).0, never.header("age")), ("", ""), "{route}");
        let anew = ask(&house, &key, route, "refresh", more.clone()).await;
        assert_eq!(said(&anew).0, "miss", "{route}");
        let wrong = ask(&house, &key, route, "always", more.clone()).await;
        assert_eq!(wrong.status, StatusCode::BAD_REQUEST, "{route}");
        assert!(wrong.text().contains("x-kontor-cache"), "{route}: {}", wrong.text());
    }
    let cached = ledger(&house.app.db).await.into_iter().filter(|row| row.outcome.as_deref() == Some("cached")).count();
    assert_eq!(cached, ROUTES.len());
    let same = ask(&house, &key, "responses", "use", json!({})).await;
    assert_eq!(said(&same).0, "hit", "it is what chat/completions asked the model: {}", same.text());
}

/// What makes a route's request one that no other route asked.
fn own(route: &str) -> Value {
    if route == "responses" { json!({ "input": "y" }) } else { json!({}) }
}

/// Without moments and costs, which differ.
fn scrubbed(text: String) -> Value {
    let mut value: Value = serde_json::from_str(&text).expect("JSON");
    for moment in ["created", "created_at", "completed_at"] {
        if let Some(field) = value.get_mut(moment) {
            *field = json!(0);
        }
    }
    let cost = value["usage"].as_object_mut().expect("figures").remove("kontor_cost");
    assert!(cost.is_some_and(|cost| cost.is_string()), "{text}");
    value
}

#[tokio::test]
async fn a_stream_is_told_again_as_a_stream() {
    let house = keeping().await;
    let key = house.key.key.reveal().to_owned();
    let whole = ask(&house, &key, "chat/completions", "use", json!({})).await;
    let text = whole.json::<Value>()["choices"][0]["message"]["content"].as_str().expect("text").to_owned();
    let stream = ask(&house, &key, "chat/completions", "use", json!({ "stream": true, "stream_options": { "include_usage": true } })).await;
    assert_eq!((said(&stream).0, stream.header("content-type")), ("hit", "text/event-stream; charset=utf-8"));
    assert!(!stream.header("age").is_empty());
    let events = stream.text();
    let data: Vec<&str> = events.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
    assert_eq!(data.last(), Some(&"[DONE]"));
    let chunks: Vec<Value> = data.iter().filter(|line| **line != "[DONE]").map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let streamed: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(streamed, text);
    assert!(chunks.iter().any(|chunk| chunk["choices"][0]["finish_reason"] == "stop"));
    let mut usage = whole.json::<Value>()["usage"].clone();
    usage["kontor_cost"] = json!("0.00");
    assert_eq!(chunks.last().expect("chunks")["usage"], usage);
}

#[tokio::test]
async fn a_key_without_the_model_does_not_find_its_answers() {
    let house = keeping().await;
    assert_eq!(said(&ask(&house, house.key.key.reveal(), "chat/completions", "use", json!({})).await).0, "miss");
    let narrow = NewKey { models: Some(vec![VECTORS.into()]), ..NewKey::default() };
    let narrow = make(&house.app, house.tenant, house.account, narrow).await;
    let refused = ask(&house, narrow.key.reveal(), "chat/completions", "use", json!({})).await;
    assert_eq!(
        refused.status,
        StatusCode::NOT_FOUND,
        "If you are here because this failed: {FAKE_MODEL} answers whom it was not granted to."
    );
    let other = make(&house.app, house.tenant, house.account, NewKey::default()).await;
    assert_eq!(said(&ask(&house, other.key.reveal(), "chat/completions", "use", json!({})).await).0, "hit", "it is the tenant's");
}

#[tokio::test]
async fn what_is_not_the_same_each_time_goes_by() {
    let house = keeping().await;
    let key = house.key.key.reveal().to_owned();
    for _ in 0..2 {
        let warm = ask(&house, &key, "chat/completions", "use", json!({ "temperature": 0.5 })).await;
        assert_eq!((warm.status, said(&warm).0), (StatusCode::OK, "bypass"));
        let unkept = ask(&house, &key, "responses", "use", json!({ "store": false })).await;
        assert_eq!((unkept.status, said(&unkept).0), (StatusCode::OK, "bypass"), "who wants nothing kept has nothing kept");
    }
}
