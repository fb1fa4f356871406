//! Pictures in requests, from a client's bytes to those that an upstream reads.

use super::v1::House;
use crate::app::{Answer, TestApp};
use axum::http::StatusCode;
use domain::SystemClock;
use inference::{Catalogue, Inference, ModelConfig, Pool};
use serde_json::{Value, json};
use services::Services;
use std::sync::Arc;
use testkit::{
    FakeWorker, eventually,
    fake_upstream::FakeUpstream,
    fake_worker::{FAKE_MODEL, fake_model, quick_pool},
    guardrails::decided,
    ledger::ledger,
};

/// A PNG as far as its first bytes go, in base64.
const PNG: &str = "iVBORw0KGgo=";
const URL: &str = "data:image/png;base64,iVBORw0KGgo=";
/// A model that takes text alone.
const BLIND: &str = "blind";

/// A model that takes pictures, and one that does not, over whatever is in this pool.
async fn house_over(pool: Pool) -> House {
    let app = TestApp::with(|state| {
        let sees = ModelConfig { image_tokens: Some(1_000), ..fake_model() };
        let blind = ModelConfig { id: BLIND.into(), default: false, ..fake_model() };
        let catalogue = Catalogue::new(vec![sees, blind]).expect("a catalogue");
        state.inference = Inference::new(state.db.clone(), catalogue, pool, Arc::new(SystemClock));
        state.services = Services::new(state.db.clone(), state.inference.clone(), state.identity.clone(), Arc::new(SystemClock));
    })
    .await;
    House::of(app).await
}

/// The same, both run by this upstream.
async fn house(upstream: &FakeUpstream) -> House {
    let pool = quick_pool();
    pool.add_upstream(upstream.config("sees", FAKE_MODEL)).expect("a client");
    pool.add_upstream(upstream.config("blind", BLIND)).expect("a client");
    eventually("both are ready", 5, || async { pool.describe().matches("ready with").count() == 2 }).await;
    house_over(pool).await
}

/// The same question in the three dialects: two texts, and a picture between them.
fn asked(model: &str) -> [(&'static str, Value); 3] {
    let chat = json!([
        { "type": "text", "text": "What is" },
        { "type": "image_url", "image_url": { "url": URL, "detail": "high" } },
        { "type": "text", "text": "this?" },
    ]);
    let items = json!([
        { "type": "input_text", "text": "What is" },
        { "type": "input_image", "image_url": URL, "detail": "high" },
        { "type": "input_text", "text": "this?" },
    ]);
    let blocks = json!([
        { "type": "text", "text": "What is" },
        { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": PNG } },
        { "type": "text", "text": "this?" },
    ]);
    [
        ("/v1/chat/completions", json!({ "model": model, "messages": [{ "role": "user", "content": chat }] })),
        ("/v1/responses", json!({ "model": model, "input": [{ "role": "user", "content": items }] })),
        ("/v1/messages", json!({ "model": model, "max_tokens": 50, "messages": [{ "role": "user", "content": blocks }] })),
    ]
}

fn error(answer: &Answer) -> Value {
    answer.json::<Value>()["error"].clone()
}

#[tokio::test]
async fn an_upstream_sees_the_very_bytes_whatever_dialect_they_came_in() {
    let upstream = FakeUpstream::start().await;
    let house = house(&upstream).await;
    for (path, body) in asked(FAKE_MODEL) {
        let answer = house.post(path, &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        assert_eq!(answer.header("x-kontor-ignored-fields"), "", "{path}");
        let mut image = json!({ "type": "image_url", "image_url": { "url": URL, "detail": "high" } });
        if path == "/v1/messages" {
            // There is no such word in that dialect.
            image["image_url"].as_object_mut().expect("an object").remove("detail");
        }
        let expected = json!([
            { "role": "user", "content": [{ "type": "text", "text": "What is" }, image, { "type": "text", "text": "this?" }] },
        ]);
        assert_eq!(upstream.requests().last().expect("asked")["messages"], expected, "{path}");
    }
    let models: Value = house.get("/v1/models").await.json();
    assert_eq!(models["data"][0]["capabilities"], json!(["completion", "multimodal"]));
    assert_eq!(models["data"][1]["capabilities"], json!(["completion"]));
}

#[tokio::test]
async fn a_model_without_eyes_is_not_asked() {
    let upstream = FakeUpstream::start().await;
    let house = house(&upstream).await;
    for ((path, body), param) in asked(BLIND).into_iter().zip(["messages[0].content[1]", "input[0].content[1]", ""]) {
        let answer = house.post(path, &body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}: {}", answer.text());
        assert!(answer.text().contains("does not take images"), "{path}: {}", answer.text());
        if param.is_empty() {
            assert!(answer.text().contains("messages[0].content[1]: "), "its dialect has no field for it: {}", answer.text());
        } else {
            let told = error(&answer);
            assert_eq!((&told["param"], &told["code"]), (&json!(param), &json!("unsupported_content")), "{path}");
        }
    }
    let counted = json!({ "model": BLIND, "messages": asked(BLIND)[2].1["messages"] });
    assert_eq!(house.post("/v1/messages/count_tokens", &counted).await.status, StatusCode::BAD_REQUEST);
    let counted = json!({ "model": BLIND, "input": asked(BLIND)[1].1["input"] });
    let told = error(&house.post("/v1/responses/input_tokens", &counted).await);
    assert_eq!((&told["param"], &told["code"]), (&json!("input[0].content[1]"), &json!("unsupported_content")));
    assert!(upstream.requests().is_empty() && ledger(&house.app.db).await.is_empty(), "nothing is sent and nothing charged");
}

#[tokio::test]
async fn a_worker_is_never_sent_a_picture() {
    let worker = FakeWorker::start().await;
    let pool = quick_pool();
    pool.add("a worker of that name", worker.backend());
    let house = house_over(pool).await;
    let [(path, body), ..] = asked(FAKE_MODEL);
    let answer = house.post(path, &body).await;
    assert_eq!((answer.status, &error(&answer)["param"]), (StatusCode::BAD_REQUEST, &json!("messages")), "{}", answer.text());
    assert!(
        worker.requests().is_empty(),
        "If you are here because this failed: a worker answers as if there were no picture, and nobody is told."
    );
}

#[tokio::test]
async fn a_conversation_keeps_its_pictures() {
    let upstream = FakeUpstream::start().await;
    let house = house(&upstream).await;
    let [_, (path, body), _] = asked(FAKE_MODEL);
    let first: Value = house.post(path, &body).await.json();
    let id = first["id"].as_str().expect("an id");
    let next = json!({ "model": FAKE_MODEL, "input": "And its colour?", "previous_response_id": id });
    let answer = house.post(path, &next).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let told = upstream.requests().pop().expect("asked");
    assert_eq!(told["messages"][0]["content"][1]["image_url"], json!({ "url": URL, "detail": "high" }));
    let kept: Value = house.get(&format!("{path}/{id}/input_items")).await.json();
    assert_eq!(kept["data"][0]["content"], body["input"][0]["content"], "{kept}");
    let blind = json!({ "model": BLIND, "input": "And its colour?", "previous_response_id": id });
    let answer = house.post(path, &blind).await;
    assert_eq!((answer.status, &error(&answer)["param"]), (StatusCode::BAD_REQUEST, &json!("input")), "{}", answer.text());
}

#[tokio::test]
async fn what_no_rule_can_look_at_is_refused_where_a_rule_forbids() {
    let upstream = FakeUpstream::start().await;
    let house = house(&upstream).await;
    let rule = json!({ "name": "project", "check": { "kind": "words", "words": ["Kranich"] }, "on": ["input"], "action": "block" });
    let services = &house.app.state.services;
    services.guardrails.set("test", house.tenant, json!({ "rules": [rule] })).await.expect("guardrails");
    for (path, body) in asked(FAKE_MODEL) {
        let answer = house.post(path, &body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}: {}", answer.text());
        let text = answer.text();
        assert!(text.contains("content_filter") && text.contains("project") && text.contains("cannot look at images"), "{path}: {text}");
    }
    let counted = json!({ "model": FAKE_MODEL, "messages": asked(FAKE_MODEL)[2].1["messages"] });
    let answer = house.post("/v1/messages/count_tokens", &counted).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "a provider that counts sees it, too: {}", answer.text());
    assert!(
        upstream.requests().is_empty() && ledger(&house.app.db).await.is_empty(),
        "If you are here because this failed: a photograph of a text goes where the text may not."
    );
    assert_eq!(decided(&house.app.db, "guardrail.blocked", "project").await, 4);
    let text = json!({ "model": FAKE_MODEL, "messages": [{ "role": "user", "content": "x" }] });
    assert_eq!(house.post("/v1/chat/completions", &text).await.status, StatusCode::OK, "texts pass as before");
}

#[tokio::test]
async fn pictures_pass_where_the_organisation_says_so_and_texts_behind_them_are_looked_at() {
    let upstream = FakeUpstream::start().await;
    let house = house(&upstream).await;
    let rule = json!({ "name": "project", "check": { "kind": "words", "words": ["Kranich"] }, "on": ["input"], "action": "block" });
    let policy = json!({ "rules": [rule], "images": "allow" });
    house.app.state.services.guardrails.set("test", house.tenant, policy).await.expect("guardrails");
    for (path, mut body) in asked(FAKE_MODEL) {
        assert_eq!(house.post(path, &body).await.status, StatusCode::OK, "{path}");
        let messages = if path == "/v1/responses" { "input" } else { "messages" };
        body[messages][0]["content"][2]["text"] = json!("Is it for Kranich?");
        let answer = house.post(path, &body).await;
        assert_eq!(
            answer.status,
            StatusCode::BAD_REQUEST,
            "{path}. If you are here because this failed: a text behind a picture goes around the rules. {}",
            answer.text()
        );
    }
    assert_eq!(upstream.requests().len(), 3);
}

#[tokio::test]
async fn addresses_are_refused_and_nothing_is_fetched() {
    let upstream = FakeUpstream::start().await;
    let house = house(&upstream).await;
    let [(path, mut body), ..] = asked(FAKE_MODEL);
    body["messages"][0]["content"][1]["image_url"]["url"] = json!("http://169.254.169.254/latest/meta-data");
    let told = error(&house.post(path, &body).await);
    assert_eq!(
        (&told["param"], &told["code"]),
        (&json!("messages[0].content[1].image_url.url"), &json!("invalid_image_url")),
        "If you are here because this failed: whoever has a key lets the server look behind its own walls."
    );
    body["messages"][0]["content"][1]["image_url"]["url"] = json!(URL.replace("png", "jpeg"));
    assert_eq!(error(&house.post(path, &body).await)["code"], "invalid_image_format");
    assert!(upstream.requests().is_empty());
}
