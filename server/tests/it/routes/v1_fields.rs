//! Fields of requests: what a refusal calls them, and which of them have no effect.

use super::{
    v1::House,
    v1_quotas::{RANKS, house},
};
use crate::app::Answer;
use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use serde_json::{Value, json};
use testkit::{
    fake_worker::{FAKE_MODEL, Script},
    ledger::ledger,
};
use worker_protocol::FailCode;

/// The field of a refusal in OpenAI's shape.
fn param(answer: &Answer) -> Value {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text());
    answer.json::<Value>()["error"]["param"].clone()
}

fn message(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text());
    answer.json::<Value>()["error"]["message"].as_str().expect("a message").to_owned()
}

impl House {
    async fn text(&self, more: Value) -> Answer {
        let mut body = json!({ "model": FAKE_MODEL, "prompt": "Once" });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        self.post("/v1/completions", &body).await
    }

    async fn strict(&self, path: &str, body: &Value) -> Answer {
        let request = Request::post(path)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.key.key.reveal()))
            .header("x-kontor-strict", "true")
            .body(Body::from(body.to_string()))
            .expect("a request");
        self.app.send(None, request).await
    }
}

#[tokio::test]
async fn a_prompt_that_is_too_long_is_called_prompt() {
    let house = House::build().await;
    let long = house.text(json!({ "prompt": "x".repeat(3 << 20) })).await;
    assert_eq!((param(&long), &long.json::<Value>()["error"]["code"]), (json!("prompt"), &json!("context_length_exceeded")));
    assert!(ledger(&house.app.db).await.is_empty(), "nothing was charged");
    for stream in [false, true] {
        house.app.worker.script(Script::refuses(FailCode::ContextLengthExceeded));
        assert_eq!(param(&house.text(json!({ "stream": stream })).await), "prompt", "stream: {stream}");
    }
    assert_eq!(param(&house.text(json!({ "logprobs": 21 })).await), "logprobs");
    assert_eq!(param(&house.text(json!({ "max_tokens": 0 })).await), "max_tokens");
}

#[tokio::test]
async fn documents_are_called_documents() {
    let house = house().await;
    for documents in [json!([]), json!(["first", ""])] {
        let answer = house.post("/v1/rerank", &json!({ "model": RANKS, "query": "Where?", "documents": documents })).await;
        assert_eq!(param(&answer), "documents", "{}", answer.text());
    }
}

#[tokio::test]
async fn what_only_the_model_s_side_can_judge_names_a_field_that_was_sent_or_none() {
    let house = House::build().await;
    let refused = |reason: &'static str, more: Value| {
        let house = &house;
        async move {
            house.app.worker.script(Script::refuses(FailCode::Invalid).because(reason));
            house.chat(more).await
        }
    };
    let bias = refused("logit_bias: token 999999 cannot have 1", json!({ "logit_bias": { "999999": 1 } })).await;
    assert_eq!(param(&bias), "logit_bias");
    let whole = refused("The server that runs the model refused the request.", json!({})).await;
    assert_eq!((param(&whole), &whole.json::<Value>()["error"]["code"]), (Value::Null, &json!("model_refused")));
}

#[tokio::test]
async fn a_chat_s_fields_have_the_names_that_were_sent() {
    let house = House::build().await;
    for (more, name) in [
        (json!({ "logprobs": true, "top_logprobs": 21 }), "top_logprobs"),
        (json!({ "max_completion_tokens": 0 }), "max_completion_tokens"),
        (json!({ "max_tokens": 0 }), "max_tokens"),
    ] {
        let answer = house.chat(more).await;
        assert_eq!(param(&answer), name);
    }
    let newer = house.chat(json!({ "max_completion_tokens": 0 })).await;
    assert_eq!(message(&newer), "max_completion_tokens must be at least 1.");
}

#[tokio::test]
async fn other_faces_have_their_own_names() {
    let house = House::build().await;
    let said = json!([{ "role": "user", "content": "Hello" }]);
    let ask = async |more: Value| {
        let mut body = json!({ "model": FAKE_MODEL, "max_tokens": 9, "messages": said });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        message(&house.post("/v1/messages", &body).await)
    };
    let stops = ask(json!({ "stop_sequences": vec!["x"; 17] })).await;
    assert!(stops.starts_with("stop_sequences: "), "{stops}");
    let wrong = "response_format: the JSON schema cannot be used at properties.b: no";
    house.app.worker.script(Script::refuses(FailCode::Invalid).because(wrong));
    let schema = ask(json!({ "output_config": { "format": { "type": "json_schema", "schema": { "type": "nonsense" } } } })).await;
    assert_eq!(schema, "output_config.format.schema: the JSON schema cannot be used at properties.b: no");
    let none = ask(json!({ "max_tokens": 0 })).await;
    assert_eq!(none, "max_tokens must be at least 1.");
    house.app.worker.script(Script::refuses(FailCode::Invalid).because(wrong));
    let response = house.post("/v1/responses", &json!({ "model": FAKE_MODEL, "input": "Hello" })).await;
    assert_eq!(param(&response), "text.format");
    assert!(message(&response).starts_with("text.format: the JSON schema"), "{}", response.text());
}

#[tokio::test]
async fn an_address_that_cannot_be_read_is_refused_in_the_face_s_shape() {
    let house = House::build().await;
    let (get, delete, post) = (Method::GET, Method::DELETE, Method::POST);
    for (method, path) in [
        (&get, "/v1/models/%FF"),
        (&get, "/v1/responses/%FF"),
        (&delete, "/v1/responses/%FF"),
        (&post, "/v1/responses/%FF/cancel"),
        (&get, "/v1/responses/%FF/input_items"),
        (&get, "/v1/files/%FF"),
        (&delete, "/v1/files/%FF"),
        (&get, "/v1/files/%FF/content"),
        (&get, "/v1/batches/%FF"),
        (&post, "/v1/batches/%FF/cancel"),
    ] {
        let answer = house.send(house.key.key.reveal(), method.clone(), path, Body::empty()).await;
        assert_eq!(param(&answer), Value::Null, "{method} {path}");
        assert_eq!(answer.header("content-type"), "application/json", "{method} {path}");
        assert!(message(&answer).contains("address"), "{method} {path}: {}", answer.text());
        let unknown = house.send("", method.clone(), path, Body::empty()).await;
        assert_eq!(unknown.status, StatusCode::UNAUTHORIZED, "{method} {path}: strangers learn nothing");
    }
}

#[tokio::test]
async fn what_is_asked_for_and_not_done_is_named_or_refused() {
    let house = House::build().await;
    let chat = |more: Value| {
        let mut body = json!({ "model": FAKE_MODEL, "messages": [{ "role": "user", "content": "x" }] });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        ("/v1/chat/completions", body)
    };
    let response = |more: Value| {
        let mut body = json!({ "model": FAKE_MODEL, "input": "x" });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        ("/v1/responses", body)
    };
    let message = |more: Value| {
        let mut body = json!({ "model": FAKE_MODEL, "max_tokens": 9, "messages": [{ "role": "user", "content": "x" }] });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        ("/v1/messages", body)
    };
    let harmless = [
        chat(json!({ "store": false, "service_tier": "auto", "verbosity": "medium", "modalities": ["text"], "metadata": { "a": "b" } })),
        chat(json!({ "store": null, "service_tier": "default", "verbosity": null, "user": "kim", "prompt_cache_key": "x" })),
        response(json!({ "store": true, "top_logprobs": 0, "service_tier": "auto", "include": [], "truncation": "disabled" })),
        response(json!({ "text": { "verbosity": "medium" }, "reasoning": { "effort": "low", "summary": null }, "metadata": {} })),
        message(json!({ "service_tier": "auto", "metadata": { "user_id": "kim" }, "output_config": { "effort": "high" } })),
    ];
    for (path, body) in &harmless {
        let answer = house.strict(path, body).await;
        assert_eq!((answer.status, answer.header("x-kontor-ignored-fields")), (StatusCode::OK, ""), "{body}: {}", answer.text());
    }
    let wishes = [
        (chat(json!({ "verbosity": "low" })), "verbosity"),
        (chat(json!({ "store": true, "service_tier": "priority" })), "store, service_tier"),
        (chat(json!({ "modalities": ["text", "audio"] })), "modalities"),
        (response(json!({ "top_logprobs": 2 })), "top_logprobs"),
        (response(json!({ "service_tier": "flex", "truncation": "auto" })), "truncation, service_tier"),
        (response(json!({ "text": { "verbosity": "high" }, "reasoning": { "summary": "auto" } })), "text.verbosity, reasoning.summary"),
        (response(json!({ "include": ["message.output_text.logprobs"] })), "include"),
        (message(json!({ "output_config": { "effort": "low" } })), "output_config.effort"),
    ];
    for ((path, body), names) in &wishes {
        let answer = house.post(path, body).await;
        assert_eq!((answer.status, answer.header("x-kontor-ignored-fields")), (StatusCode::OK, *names), "{body}");
        let refused = house.strict(path, body).await;
        let first = names.split(", ").next().expect("a name");
        assert!(refused.status == StatusCode::BAD_REQUEST && refused.text().contains(first), "{body}: {}", refused.text());
        assert!(refused.text().contains("unsupported_value"), "{body}: {}", refused.text());
    }
}

#[tokio::test]
async fn a_field_that_nobody_knows_keeps_the_name_it_came_with() {
    let house = House::build().await;
    for (field, value) in [("stop", json!(["x"])), ("response_format", json!({})), ("reasoning_effort", json!("low"))] {
        let mut body = json!({ "model": FAKE_MODEL, "max_tokens": 9, "messages": [{ "role": "user", "content": "Hi" }] });
        body[field] = value;
        let answer = house.strict("/v1/messages", &body).await;
        let message = answer.json::<Value>()["error"]["message"].as_str().expect("words").to_owned();
        assert!(answer.status == StatusCode::BAD_REQUEST && message.starts_with(field), "{field}: {message}");
    }
}
