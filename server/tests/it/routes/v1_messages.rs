//! Anthropic's face of the API for programs, as a client sees it.

use super::v1::House;
use crate::app::Answer;
use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use serde_json::{Value, json};
use testkit::{
    fake_worker::{FAKE_MODEL, Script},
    ledger::ledger,
};
use worker_protocol::{ChatMessage, ChatRole, FailCode};

/// The least of a request, with more.
fn body(more: &Value) -> Value {
    let mut body = json!({ "model": FAKE_MODEL, "max_tokens": 64, "messages": [{ "role": "user", "content": "Hello" }] });
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    body
}

impl House {
    async fn message(&self, more: Value) -> Answer {
        self.post("/v1/messages", &body(&more)).await
    }
}

/// The events of a stream. Each has its type for a name.
fn events(answer: &Answer) -> Vec<Value> {
    let event = |block: &str| {
        let (name, data) = block.strip_prefix("event: ")?.split_once("\ndata: ")?;
        let value: Value = serde_json::from_str(data).expect("JSON");
        assert_eq!(value["type"], name);
        Some(value)
    };
    answer.text().split("\n\n").filter_map(event).collect()
}

/// Status and type of a failure, whose shape is checked.
fn refusal(answer: &Answer) -> (u16, String) {
    let body: Value = answer.json();
    assert_eq!((body["type"].as_str(), body["request_id"].as_str()), (Some("error"), Some(answer.header("request-id"))), "{body}");
    assert!(body["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    (answer.status.as_u16(), body["error"]["type"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn an_answer_in_one_piece() {
    let house = House::build().await;
    house.app.worker.otherwise(Script::answer("An answer."));
    let system = json!([{ "type": "text", "text": "Be brief.", "cache_control": { "type": "ephemeral" } }]);
    let answer = house.message(json!({ "system": system, "temperature": 0, "metadata": { "user_id": "kim" } })).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let expected = json!({
        "id": format!("msg_{}", answer.header("x-kontor-usage-id")), "type": "message", "role": "assistant", "model": FAKE_MODEL,
        "content": [{ "type": "text", "text": "An answer." }], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": { "input_tokens": 8, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4, "output_tokens": 2 },
    });
    assert_eq!(answer.json::<Value>(), expected);
    assert_eq!((answer.header("request-id"), answer.header("x-kontor-ignored-fields")), (answer.header("x-request-id"), ""));
    let asked = house.app.worker.requests().remove(0);
    assert_eq!(asked.messages, [ChatMessage::new(ChatRole::System, "Be brief."), ChatMessage::new(ChatRole::User, "Hello")]);
    assert_eq!((asked.sampling.max_tokens, asked.pinned_messages), (Some(64), 1));
    let rows = ledger(&house.app.db).await;
    assert_eq!((rows.len(), rows[0].purpose.as_str(), rows[0].prompt_tokens, rows[0].completion_tokens), (1, "api", 12, 2));
}

#[tokio::test]
async fn an_answer_as_it_is_made() {
    let house = House::build().await;
    house.app.worker.otherwise(Script::answer("One two three.").ends_by_length());
    let answer = house.message(json!({ "stream": true })).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert!(answer.header("content-type").starts_with("text/event-stream") && !answer.header("request-id").is_empty());
    let events = events(&answer);
    let names: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    let delta = "content_block_delta";
    let begins = ["message_start", "ping", "content_block_start"];
    let ends = ["content_block_stop", "message_delta", "message_stop"];
    assert_eq!(names, [&begins[..], &[delta; 3], &ends].concat());
    assert_eq!((&events[0]["message"]["usage"]["input_tokens"], &events[0]["message"]["content"]), (&json!(8), &json!([])));
    let text: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(text, "One two three.");
    assert_eq!(events[7]["delta"], json!({ "stop_reason": "max_tokens", "stop_sequence": null }));
    assert_eq!(events[7]["usage"]["output_tokens"], 3);
}

#[tokio::test]
async fn calls_and_what_tools_answered_reach_the_model() {
    let house = House::build().await;
    let weather = json!({ "name": "weather", "input_schema": { "type": "object" } });
    let said = json!([
        { "role": "user", "content": "How is the weather in Kiel?" },
        { "role": "assistant", "content": [{ "type": "tool_use", "id": "call_1", "name": "weather", "input": { "town": "Kiel" } }] },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "call_1", "content": "rain" }] },
    ]);
    let choice = json!({ "type": "auto", "disable_parallel_tool_use": true });
    let answer = house.message(json!({ "messages": said, "tools": [weather], "tool_choice": choice, "stop_sequences": ["END"] })).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let asked = house.app.worker.requests().remove(0);
    assert_eq!((asked.tools[0].name.as_str(), asked.single_tool_call, asked.stop.as_slice()), ("weather", true, &["END".to_owned()][..]));
    assert_eq!(asked.messages[1].tool_calls[0].arguments, r#"{"town":"Kiel"}"#);
    assert_eq!((asked.messages[2].role, asked.messages[2].tool_call_id.as_deref()), (ChatRole::Tool, Some("call_1")));
}

#[tokio::test]
async fn failures_have_anthropic_s_shape_and_statuses() {
    let house = House::build().await;
    let refused = |more: Value| {
        let house = &house;
        async move { refusal(&house.message(more).await) }
    };
    let invalid = (400, "invalid_request_error".to_owned());
    assert_eq!(refused(json!({ "max_tokens": null })).await, invalid);
    assert_eq!(refused(json!({ "messages": [{ "role": "user", "content": [{ "type": "image" }] }] })).await, invalid);
    assert_eq!(refused(json!({ "messages": 7 })).await, invalid);
    assert_eq!(refused(json!({ "model": "claude-9" })).await, (404, "not_found_error".to_owned()));
    house.app.worker.script(Script::refuses(FailCode::ContextLengthExceeded));
    let long = house.message(json!({ "stream": true })).await;
    assert_eq!(refusal(&long), invalid);
    assert!(long.text().contains("prompt is too long"), "{}", long.text());
    house.app.worker.script(Script::overloaded());
    let full = house.message(json!({})).await;
    assert_eq!((refusal(&full), full.header("retry-after")), ((529, "overloaded_error".to_owned()), "5"));
}

#[tokio::test]
async fn what_is_not_there_is_said_in_anthropic_s_shape() {
    let house = House::build().await;
    for path in ["/v1/messages/batches", "/v1/messages/count_tokens/x", "/v1/messages/"] {
        let answer = house.post(path, &json!({})).await;
        assert_eq!(refusal(&answer), (404, "not_found_error".to_owned()), "{path}");
        assert_eq!(answer.header("request-id"), answer.header("x-request-id"), "{path}");
    }
    let method = house.get("/v1/messages").await;
    assert_eq!(refusal(&method), (405, "invalid_request_error".to_owned()));
    assert_eq!(method.json::<Value>()["error"]["details"], json!({ "error_code": "method_not_allowed" }));
    assert_eq!(method.header("allow"), "POST");
    let beside = house.get("/v1/messagesx").await;
    assert_eq!((beside.status.as_u16(), beside.json::<Value>()["error"]["code"].as_str()), (404, Some("unknown_url")));
}

#[tokio::test]
async fn a_failure_after_the_first_word_is_an_event() {
    let house = House::build().await;
    house.app.worker.script(Script::answer("One two three.").fails_after(2, FailCode::Engine));
    let answer = house.message(json!({ "stream": true })).await;
    assert_eq!(answer.status, StatusCode::OK);
    let last = events(&answer).pop().expect("an event");
    assert_eq!((&last["type"], &last["error"]["type"]), (&json!("error"), &json!("overloaded_error")));
    assert_eq!(last["request_id"], answer.header("request-id"));
}

#[tokio::test]
async fn a_key_comes_in_anthropic_s_header() {
    let house = House::build().await;
    let with = |key: String| {
        let request = Request::post("/v1/messages?beta=true").header("x-api-key", key).header("anthropic-version", "2023-06-01");
        house.app.send(None, request.body(Body::from(body(&json!({})).to_string())).expect("a request"))
    };
    assert_eq!(with(house.key.key.reveal().to_owned()).await.status, StatusCode::OK);
    assert_eq!(refusal(&with("sk-ant-nothing".into()).await), (401, "authentication_error".to_owned()));
    assert_eq!(house.app.worker.requests().len(), 1, "nothing was computed for a stranger");
}

#[tokio::test]
async fn a_prompt_is_counted_and_costs_nothing() {
    let house = House::build().await;
    let weather = json!({ "name": "weather", "input_schema": { "type": "object" } });
    let asked = json!({ "system": "Be very brief.", "tools": [weather], "max_tokens": null });
    let counted = house.post("/v1/messages/count_tokens", &body(&asked)).await;
    assert_eq!((counted.status, counted.json::<Value>()), (StatusCode::OK, json!({ "input_tokens": 5 })));
    assert!(house.app.worker.requests().is_empty() && ledger(&house.app.db).await.is_empty());
    let unknown = house.post("/v1/messages/count_tokens", &body(&json!({ "model": "claude-9" }))).await;
    assert_eq!(refusal(&unknown), (404, "not_found_error".to_owned()));
}

#[tokio::test]
async fn the_stop_text_that_ended_an_answer_is_named() {
    let house = House::build().await;
    house.app.worker.otherwise(Script::answer("One two").ends_by_stop_text("END"));
    let whole: Value = house.message(json!({ "stop_sequences": ["END"] })).await.json();
    assert_eq!((&whole["stop_reason"], &whole["stop_sequence"]), (&json!("stop_sequence"), &json!("END")));
    let told = events(&house.message(json!({ "stop_sequences": ["END"], "stream": true })).await);
    assert_eq!(told[told.len() - 2]["delta"], json!({ "stop_reason": "stop_sequence", "stop_sequence": "END" }));
}
