//! The API for programs, as a client sees it.

pub(super) use super::house::{House, make};
use crate::app::{Answer, TestApp};
use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use domain::SystemClock;
use futures::StreamExt;
use inference::{Catalogue, Inference, ModelConfig};
use serde_json::{Value, json};
use services::Services;
use std::{sync::Arc, time::Duration};
use testkit::{
    FakeWorker, eventually,
    fake_worker::{FAKE_MODEL, Script, fake_model, quick_pool},
    ledger::ledger,
};
use worker_protocol::FailCode;

/// The `data:` lines of a stream.
pub(super) fn data(answer: &Answer) -> Vec<String> {
    let text = answer.text();
    text.split("\n\n").filter_map(|block| block.strip_prefix("data: ")).map(str::to_owned).collect()
}

pub(super) fn chunks(answer: &Answer) -> Vec<Value> {
    data(answer).iter().filter(|line| *line != "[DONE]").map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn an_answer_in_one_piece() {
    let house = House::build().await;
    house.app.worker.otherwise(Script::answer("An answer."));
    let answer = house.chat(json!({ "temperature": 0 })).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let mut body: Value = answer.json();
    let id = body["id"].as_str().expect("an id").to_owned();
    assert!(id.starts_with("chatcmpl-") && body["created"].as_i64().expect("a time") > 1_700_000_000, "{body}");
    body["id"] = json!("");
    body["created"] = json!(0);
    body["system_fingerprint"] = json!("");
    let details = json!({ "reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0 });
    let expected = json!({
        "id": "", "object": "chat.completion", "created": 0, "model": FAKE_MODEL, "system_fingerprint": "",
        "choices": [{
            "index": 0, "logprobs": null, "finish_reason": "stop",
            "message": { "role": "assistant", "content": "An answer.", "refusal": null, "annotations": [] },
        }],
        "usage": {
            "prompt_tokens": 12, "completion_tokens": 2, "total_tokens": 14,
            "prompt_tokens_details": { "cached_tokens": 4, "audio_tokens": 0 }, "completion_tokens_details": details,
        },
    });
    assert_eq!(body, expected);
    let told = ["x-kontor-model", "x-kontor-served-by", "x-kontor-attempts", "x-kontor-fallback-from"].map(|name| answer.header(name));
    assert_eq!(told, [FAKE_MODEL, "fake worker", "1", ""]);
    assert!(answer.header("x-kontor-overhead-ms").parse::<f64>().is_ok_and(|ms| ms > 0.0));
    assert!(id.ends_with(answer.header("x-kontor-usage-id")), "the header names the use");
    assert!(!answer.header("x-request-id").is_empty() && !answer.header("openai-processing-ms").is_empty());
    let rows = ledger(&house.app.db).await;
    assert_eq!((rows.len(), rows[0].purpose.as_str(), rows[0].prompt_tokens, rows[0].completion_tokens), (1, "api", 12, 2));
}

#[tokio::test]
async fn an_answer_as_it_is_made() {
    let house = House::build().await;
    house.app.worker.otherwise(Script::answer("One two three."));
    let answer = house.chat(json!({ "stream": true, "stream_options": { "include_usage": true } })).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert!(answer.header("content-type").starts_with("text/event-stream"));
    assert_eq!(data(&answer).last().map(String::as_str), Some("[DONE]"));
    let chunks = chunks(&answer);
    for chunk in &chunks {
        assert_eq!((&chunk["id"], &chunk["created"], &chunk["model"]), (&chunks[0]["id"], &chunks[0]["created"], &json!(FAKE_MODEL)));
        assert_eq!(chunk["object"], "chat.completion.chunk");
    }
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "One two three.");
    let [.., last, usage] = chunks.as_slice() else { panic!("{chunks:?}") };
    assert_eq!((&last["choices"][0]["finish_reason"], &last["choices"][0]["delta"]), (&json!("stop"), &json!({})));
    assert!(chunks[..chunks.len() - 1].iter().all(|chunk| chunk["usage"].is_null() && chunk.get("usage").is_some()));
    assert_eq!((&usage["choices"], &usage["usage"]["total_tokens"]), (&json!([]), &json!(15)));
}

#[tokio::test]
async fn usage_is_told_only_to_those_who_ask() {
    let house = House::build().await;
    let answer = house.chat(json!({ "stream": true })).await;
    assert!(
        chunks(&answer).iter().all(|chunk| chunk.get("usage").is_none() && chunk["choices"].as_array().is_some_and(|all| all.len() == 1)),
        "{}\nIf you are here because this failed: clients that did not ask for usage break on a chunk without choices.",
        answer.text()
    );
}

#[tokio::test]
async fn a_failure_before_the_first_word_has_a_status_and_one_after_it_an_event() {
    let house = House::build().await;
    house.app.worker.script(Script::refuses(FailCode::ContextLengthExceeded));
    let answer = house.chat(json!({ "stream": true })).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.json::<Value>()["error"]["code"], "context_length_exceeded");
    house.app.worker.script(Script::answer("One two three.").fails_after(2, FailCode::Engine));
    let answer = house.chat(json!({ "stream": true })).await;
    assert_eq!(answer.status, StatusCode::OK);
    let last = data(&answer).pop().expect("an event");
    assert!(last.contains(r#"{"error":{"message""#) && !answer.text().contains("[DONE]"), "{}", answer.text());
}

#[tokio::test]
async fn a_large_body_is_read_and_one_over_the_limit_refused() {
    let house = House::build().await;
    let key = house.key.key.reveal();
    for (bytes, refusal) in [(3 << 20, (400, "context_length_exceeded")), ((64 << 20) + 1, (413, "request_too_large"))] {
        let text = "x".repeat(bytes);
        let body = format!(r#"{{"model":"{FAKE_MODEL}","messages":[{{"role":"user","content":"{text}"}}]}}"#);
        let answer = house.send(key, Method::POST, "/v1/chat/completions", Body::from(body)).await;
        let error = &answer.json::<Value>()["error"];
        assert_eq!((answer.status.as_u16(), error["code"].as_str().unwrap_or_default()), refusal, "{bytes} bytes: {error}");
    }
    let answer = house.get("/v1/no-such-thing").await;
    assert_eq!((answer.status.as_u16(), answer.header("openai-version").is_empty()), (404, false));
}

#[tokio::test]
async fn an_alias_leads_to_its_model_and_is_no_fallback() {
    let worker = FakeWorker::start().await;
    let app = TestApp::with(|state| {
        let pool = quick_pool();
        pool.add("chats", worker.backend());
        let catalogue = Catalogue::new(vec![ModelConfig { aliases: vec!["gpt-4o".into()], ..fake_model() }]).expect("a catalogue");
        state.inference = Inference::new(state.db.clone(), catalogue, pool, Arc::new(SystemClock));
        state.services = Services::new(state.db.clone(), state.inference.clone(), state.identity.clone(), Arc::new(SystemClock));
    })
    .await;
    let house = House::of(app).await;
    let key = house.key.key.reveal();
    for (path, asked) in [
        ("/v1/chat/completions", json!({ "model": "gpt-4o", "messages": [{ "role": "user", "content": "x" }] })),
        ("/v1/completions", json!({ "model": "gpt-4o", "prompt": "x" })),
    ] {
        let answer = house.send(key, Method::POST, path, Body::from(asked.to_string())).await;
        assert_eq!((answer.status, &answer.json::<Value>()["model"]), (StatusCode::OK, &json!(FAKE_MODEL)), "{path}");
        let told = ["x-kontor-model", "x-kontor-served-by", "x-kontor-fallback-from"].map(|name| answer.header(name));
        assert_eq!(told, [FAKE_MODEL, "chats", ""], "{path}");
    }
    let shown = house.send(key, Method::GET, "/v1/models/gpt-4o", Body::empty()).await;
    assert_eq!((shown.status, &shown.json::<Value>()["id"]), (StatusCode::OK, &json!(FAKE_MODEL)));
    assert!(ledger(&house.app.db).await.iter().all(|row| row.model == FAKE_MODEL));
}

#[tokio::test]
async fn models_are_listed_and_found() {
    let house = House::build().await;
    let list: Value = house.get("/v1/models").await.json();
    assert_eq!(
        (&list["object"], &list["data"][0]["id"], &list["data"][0]["object"]),
        (&json!("list"), &json!(FAKE_MODEL), &json!("model"))
    );
    let one: Value = house.get(&format!("/v1/models/{FAKE_MODEL}")).await.json();
    assert_eq!(one, list["data"][0]);
    let none = house.get("/v1/models/org/no-such-model").await;
    assert_eq!((none.status.as_u16(), none.json::<Value>()["error"]["code"].as_str()), (404, Some("model_not_found")));
}

#[tokio::test]
async fn unknown_fields_are_noted_or_refused() {
    let house = House::build().await;
    let answer = house.chat(json!({ "frobnicate": 1 })).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-kontor-ignored-fields")), (200, "frobnicate"));
    let request = Request::post("/v1/chat/completions")
        .header(header::AUTHORIZATION, format!("Bearer {}", house.key.key.reveal()))
        .header("x-kontor-strict", "true")
        .body(Body::from(json!({ "model": FAKE_MODEL, "messages": [{ "role": "user", "content": "x", "mood": "good" }] }).to_string()))
        .expect("a request");
    let refused = house.app.send(None, request).await;
    assert_eq!((refused.status.as_u16(), refused.json::<Value>()["error"]["param"].as_str()), (400, Some("messages[0].mood")));
}

#[tokio::test]
async fn what_is_not_there_is_said_in_the_same_shape() {
    let house = House::build().await;
    for path in ["/v1/audio/speech", "/v1/images/generations", "/v1/vector_stores", "/v1/vector_stores/vs_1/search", "/v1/uploads"] {
        let answer = house.post(path, &json!({})).await;
        let error = &answer.json::<Value>()["error"];
        let told = (answer.status.as_u16(), error["type"].as_str(), error["code"].as_str());
        assert_eq!(told, (404, Some("invalid_request_error"), Some("unknown_url")), "{path}");
        assert!(error["message"].is_string() && error["param"].is_null(), "{path}: {error}");
    }
    let method = house.get("/v1/chat/completions").await;
    assert_eq!((method.status.as_u16(), method.json::<Value>()["error"]["code"].as_str()), (405, Some("method_not_allowed")));
    let broken = house.send(house.key.key.reveal(), Method::POST, "/v1/chat/completions", Body::from("{")).await;
    assert_eq!((broken.status.as_u16(), broken.json::<Value>()["error"]["type"].as_str()), (400, Some("invalid_request_error")));
}

#[tokio::test]
async fn a_text_goes_on_without_a_conversation() {
    let house = House::build().await;
    house.app.worker.otherwise(Script::answer(" upon a time"));
    let body = json!({ "model": FAKE_MODEL, "prompt": ["Once", "Twice"], "echo": true, "max_tokens": 4 });
    let answer = house.post("/v1/completions", &body).await;
    let body: Value = answer.json();
    assert_eq!(body["object"], "text_completion", "{body}");
    let texts: Vec<_> =
        body["choices"].as_array().expect("choices").iter().map(|choice| (choice["index"].as_i64(), choice["text"].as_str())).collect();
    assert_eq!(texts, [(Some(0), Some("Once upon a time")), (Some(1), Some("Twice upon a time"))]);
    assert!(house.app.worker.requests().iter().all(|request| request.raw && request.messages.len() == 1));
    let stream = house.post("/v1/completions", &json!({ "model": FAKE_MODEL, "prompt": "Once", "stream": true })).await;
    let text: String = chunks(&stream).iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
    assert_eq!((text.as_str(), data(&stream).last().map(String::as_str)), (" upon a time", Some("[DONE]")));
}

#[tokio::test]
async fn whoever_leaves_pays_for_what_was_made_and_no_more() {
    let house = House::build().await;
    house.app.worker.otherwise(Script::answer("One two three four.").hangs_after(2));
    let request = Request::post("/v1/chat/completions")
        .header(header::AUTHORIZATION, format!("Bearer {}", house.key.key.reveal()))
        .body(Body::from(json!({ "model": FAKE_MODEL, "stream": true, "messages": [{ "role": "user", "content": "x" }] }).to_string()))
        .expect("a request");
    let mut body = house.app.respond(request).await.into_body().into_data_stream();
    let mut heard = String::new();
    while !heard.contains("two") {
        let frame = body.next().await.expect("more is to come").expect("a frame");
        heard.push_str(&String::from_utf8_lossy(&frame));
    }
    drop(body);
    eventually("the use is settled", 5, || async {
        let rows = ledger(&house.app.db).await;
        matches!(rows.as_slice(), [row] if row.outcome.as_deref() == Some("disconnected") && row.completion_tokens == 2)
    })
    .await;
}

#[tokio::test]
async fn whoever_leaves_an_answer_in_one_piece_stops_the_model_too() {
    let house = House::build().await;
    house.app.worker.otherwise(Script::answer("One two three four.").hangs_after(2));
    tokio::select! {
        answer = house.chat(json!({})) => panic!("it does not hang: {}", answer.text()),
        () = eventually("it is at work", 10, || async { house.app.worker.running() == 1 }) => {}
    }
    eventually("the use is settled and the worker free", 5, || async {
        let rows = ledger(&house.app.db).await;
        house.app.worker.running() == 0 && matches!(rows.as_slice(), [row] if row.outcome.as_deref() == Some("disconnected"))
    })
    .await;
}

#[tokio::test]
async fn the_end_of_the_process_ends_answers_with_a_word_and_a_bill() {
    let house = House::build().await;
    house.app.worker.otherwise(Script::answer("One two three four.").hangs_after(2));
    let drain = async {
        eventually("it is at work", 10, || async { house.app.worker.running() == 1 }).await;
        // Two of its tokens come.
        tokio::time::sleep(Duration::from_millis(300)).await;
        house.app.state.services.drain().await;
    };
    let (answer, ()) = tokio::join!(house.chat(json!({ "stream": true })), drain);
    assert!(answer.text().contains(r#""code":"unavailable""#) && !answer.text().contains("[DONE]"), "{}", answer.text());
    let rows = ledger(&house.app.db).await;
    assert!(matches!(rows.as_slice(), [row] if row.state == "settled" && row.completion_tokens > 0), "{rows:?}");
}

#[tokio::test]
async fn what_would_fill_the_memory_is_refused() {
    let house = House::build().await;
    let long = "x".repeat(3 * 1024 * 1024);
    let chat = house.chat(json!({ "messages": [{ "role": "user", "content": long }] })).await;
    assert_eq!((chat.status.as_u16(), chat.json::<Value>()["error"]["code"].as_str()), (400, Some("context_length_exceeded")));
    let bias: serde_json::Map<String, Value> = (0..2_000).map(|token| (token.to_string(), json!(1))).collect();
    assert_eq!(house.chat(json!({ "logit_bias": bias })).await.json::<Value>()["error"]["param"], "logit_bias");
    assert_eq!(house.chat(json!({ "stop": ["x".repeat(100_000)] })).await.json::<Value>()["error"]["param"], "stop");
    assert!(ledger(&house.app.db).await.is_empty(), "nothing was charged");
}
