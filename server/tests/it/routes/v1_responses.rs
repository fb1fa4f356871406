//! Responses, as a client of OpenAI's API sees them.

use super::v1::{House, make};
use crate::app::Answer;
use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use identity::{NewAccount, NewKey};
use serde_json::{Value, json};
use std::time::Duration;
use testkit::{
    eventually,
    fake_worker::{FAKE_MODEL, Script},
    ledger::ledger,
};
use worker_protocol::{FailCode, Format, ToolChoice};

const PATH: &str = "/v1/responses";

/// The least of a request, with more.
fn body(more: &Value) -> Value {
    let mut body = json!({ "model": FAKE_MODEL, "input": "Hello" });
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    body
}

impl House {
    async fn respond(&self, more: Value) -> Answer {
        self.post(PATH, &body(&more)).await
    }

    /// The same for those that must succeed.
    async fn response(&self, more: Value) -> Value {
        let answer = self.respond(more).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        answer.json()
    }

    async fn call(&self, method: Method, path: &str) -> Answer {
        self.send(self.key.key.reveal(), method, path, Body::empty()).await
    }
}

fn id(response: &Value) -> String {
    response["id"].as_str().expect("an id").to_owned()
}

/// The events of a stream. Each has its type for a name.
fn events(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let event = |block: &str| {
        let (name, data) = block.strip_prefix("event: ")?.split_once("\ndata: ")?;
        let value: Value = serde_json::from_str(data).expect("JSON");
        assert_eq!(value["type"], name);
        Some(value)
    };
    answer.text().split("\n\n").filter_map(event).collect()
}

/// The texts of a stream's deltas.
fn text(events: &[Value]) -> String {
    events.iter().filter(|event| event["type"] == "response.output_text.delta").filter_map(|event| event["delta"].as_str()).collect()
}

/// Status and code of a failure.
fn refusal(answer: &Answer) -> (u16, String) {
    let body: Value = answer.json();
    (answer.status.as_u16(), body["error"]["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_response_in_one_piece() {
    let house = House::build().await;
    house.app.worker.otherwise(Script::answer("An answer."));
    let answer = house.respond(json!({ "temperature": 0.5, "metadata": { "a": "b" }, "instructions": "Be brief." })).await;
    let mut body: Value = answer.json();
    let id = id(&body);
    assert_eq!(id, format!("resp_{}", answer.header("x-kontor-usage-id")));
    assert_eq!((answer.header("x-kontor-model"), answer.header("x-kontor-served-by")), (FAKE_MODEL, "fake worker"));
    assert!(body["created_at"].as_i64().is_some_and(|at| at > 1_700_000_000) && body["completed_at"].is_i64(), "{body}");
    assert_eq!(house.get(&format!("{PATH}/{id}")).await.json::<Value>(), body, "it is as it was told");
    body["created_at"] = json!(0);
    body["completed_at"] = json!(0);
    let expected = json!({
        "id": id, "object": "response", "created_at": 0, "completed_at": 0, "status": "completed", "background": false, "error": null,
        "incomplete_details": null, "instructions": "Be brief.", "metadata": { "a": "b" }, "model": FAKE_MODEL,
        "output": [{
            "id": id.replace("resp_", "msg_") + "0000", "type": "message", "status": "completed", "role": "assistant",
            "content": [{ "type": "output_text", "text": "An answer.", "annotations": [], "logprobs": [] }],
        }],
        "previous_response_id": null,
        "usage": {
            "input_tokens": 12, "input_tokens_details": { "cached_tokens": 4, "cache_write_tokens": 0 },
            "output_tokens": 2, "output_tokens_details": { "reasoning_tokens": 0 }, "total_tokens": 14,
        },
        "store": true, "max_output_tokens": null, "temperature": 0.5, "top_p": null, "text": { "format": { "type": "text" } },
        "reasoning": { "effort": null, "summary": null }, "tools": [], "tool_choice": "auto", "parallel_tool_calls": true,
        "truncation": "disabled", "max_tool_calls": null, "service_tier": "default", "user": null, "safety_identifier": null,
        "prompt_cache_key": null,
    });
    assert_eq!(body, expected);
    let rows = ledger(&house.app.db).await;
    assert_eq!((rows.len(), rows[0].purpose.as_str(), rows[0].outcome.as_deref()), (1, "api", Some("ok")));
}

#[tokio::test]
async fn a_response_as_it_is_made_and_again_from_anywhere() {
    let house = House::build().await;
    let script = Script::answer("One two three.").thinks("Let me see.").calls("f", r#"{"a":1}"#);
    house.app.worker.otherwise(script.delay(Duration::from_millis(15)));
    let answer = house.respond(json!({ "stream": true })).await;
    assert!(answer.header("content-type").starts_with("text/event-stream") && !answer.text().contains("[DONE]"));
    let all = events(&answer);
    assert!((0u64..).zip(&all).all(|(number, event)| event["sequence_number"] == number), "{all:?}");
    assert_eq!(text(&all), "One two three.");
    let kinds: Vec<&str> = all.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(kinds[..4], ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]);
    assert_eq!(*kinds.last().expect("an end"), "response.completed");
    let done: Vec<&Value> = all.iter().filter(|event| event["type"] == "response.output_item.done").map(|event| &event["item"]).collect();
    let types: Vec<&Value> = done.iter().map(|item| &item["type"]).collect();
    assert_eq!(types, ["reasoning", "message", "function_call"]);
    assert_eq!((&done[2]["call_id"], &done[2]["arguments"]), (&json!("call_0"), &json!(r#"{"a":1}"#)));
    let whole = &all.last().expect("an end")["response"];
    assert_eq!(whole["output"].as_array().expect("items").iter().collect::<Vec<_>>(), done);
    assert_eq!(whole["usage"]["output_tokens_details"], json!({ "reasoning_tokens": 3 }));
    let path = format!("{PATH}/{}", id(whole));
    assert_eq!(&house.get(&path).await.json::<Value>(), whole);
    assert_eq!(events(&house.get(&format!("{path}?stream=true")).await), all);
    for after in [0, 1, all.len() / 2, all.len() - 2] {
        let rest = events(&house.get(&format!("{path}?stream=true&starting_after={after}")).await);
        assert_eq!(rest, all[after + 1..], "after {after}");
    }
}

#[tokio::test]
async fn what_is_not_stored_streams_the_same_events() {
    let house = House::build().await;
    house.app.worker.otherwise(Script::answer("One two three."));
    let answer = house.respond(json!({ "stream": true, "store": false })).await;
    let all = events(&answer);
    assert_eq!((text(&all).as_str(), &all[all.len() - 1]["type"]), ("One two three.", &json!("response.completed")));
    let whole = &all[all.len() - 1]["response"];
    assert_eq!(whole["store"], false);
    assert_eq!(refusal(&house.get(&format!("{PATH}/{}", id(whole))).await), (404, "not_found".into()));
}

#[tokio::test]
async fn a_conversation_goes_on_and_its_input_can_be_listed() {
    let house = House::build().await;
    house.app.worker.script(Script::answer("The first."));
    let first = house.response(json!({ "input": "One?", "instructions": "Speak French." })).await;
    let input = json!([
        { "role": "user", "content": [{ "type": "input_text", "text": "Two?" }] },
        { "type": "function_call", "id": "fc_mine", "call_id": "call_1", "name": "f", "arguments": "{}" },
        { "type": "function_call_output", "call_id": "call_1", "output": "42" },
    ]);
    let second = house.response(json!({ "input": input, "previous_response_id": first["id"] })).await;
    assert_eq!((&second["previous_response_id"], &second["instructions"]), (&first["id"], &Value::Null));
    let asked = house.app.worker.requests();
    let read: Vec<&str> = asked[1].messages.iter().map(|message| message.content.as_str()).collect();
    assert_eq!(read, ["One?", "The first.", "Two?", "", "42"]);
    let path = format!("{PATH}/{}/input_items", id(&second));
    let list: Value = house.get(&format!("{path}?order=asc")).await.json();
    let expected = json!([
        { "type": "message", "id": list["data"][0]["id"], "status": "completed", "role": "user", "content": [{ "type": "input_text", "text": "Two?" }] },
        { "type": "function_call", "id": "fc_mine", "status": "completed", "call_id": "call_1", "name": "f", "arguments": "{}" },
        { "type": "function_call_output", "id": list["data"][2]["id"], "status": "completed", "call_id": "call_1", "output": "42" },
    ]);
    assert_eq!((&list["object"], &list["data"], &list["has_more"]), (&json!("list"), &expected, &json!(false)));
    let page: Value = house.get(&format!("{path}?limit=1&after=fc_mine")).await.json();
    assert_eq!((&page["data"][0]["role"], &page["first_id"], &page["has_more"]), (&json!("user"), &list["data"][0]["id"], &json!(false)));
    // An item of an answer may be named instead of sent.
    let reference = json!([{ "type": "item_reference", "id": first["output"][0]["id"] }, { "role": "user", "content": "Three?" }]);
    house.response(json!({ "input": reference })).await;
    let read: Vec<String> = house.app.worker.requests()[2].messages.iter().map(|message| message.content.clone()).collect();
    assert_eq!(read, ["The first.", "Three?"]);
}

#[tokio::test]
async fn parameters_reach_the_model() {
    let house = House::build().await;
    let tools = json!([{ "type": "function", "name": "f", "parameters": { "type": "object" }, "strict": true }]);
    let schema = json!({ "type": "json_schema", "name": "town", "strict": true, "schema": { "type": "object" } });
    house
        .response(json!({
            "tools": tools, "tool_choice": "required", "parallel_tool_calls": false, "text": { "format": schema },
            "reasoning": { "effort": "none" }, "max_output_tokens": 7, "temperature": 0.5, "top_p": 0.25,
            "truncation": "auto", "include": ["reasoning.encrypted_content"],
        }))
        .await;
    let asked = &house.app.worker.requests()[0];
    assert_eq!((asked.tools[0].name.as_str(), &asked.tool_choice, asked.single_tool_call), ("f", &ToolChoice::Required, true));
    assert_eq!((asked.format.clone(), asked.think), (Some(Format::JsonSchema(json!({ "type": "object" }))), Some(false)));
    assert_eq!((asked.sampling.max_tokens, asked.sampling.temperature, asked.sampling.top_p), (Some(7), Some(0.5), Some(0.25)));
}

#[tokio::test]
async fn ends_have_their_names() {
    let house = House::build().await;
    house.app.worker.script(Script::answer("Once upon ").ends_by_length());
    let short = house.response(json!({ "max_output_tokens": 2 })).await;
    assert_eq!((&short["status"], &short["incomplete_details"]), (&json!("incomplete"), &json!({ "reason": "max_output_tokens" })));
    assert_eq!(short["output"][0]["status"], "incomplete");
    for store in [true, false] {
        house.app.worker.script(Script::answer("One two three.").fails_after(2, FailCode::Engine));
        let all = events(&house.respond(json!({ "stream": true, "store": store })).await);
        let last = all.last().expect("an end");
        assert_eq!((&last["type"], &last["response"]["error"]["code"]), (&json!("response.failed"), &json!("server_error")));
        assert_eq!(last["response"]["output"][0]["content"][0]["text"], "One two ", "what was said is kept");
        house.app.worker.script(Script::refuses(FailCode::ContextLengthExceeded));
        let refused = house.respond(json!({ "stream": true, "store": store })).await;
        assert_eq!(refusal(&refused), (400, "context_length_exceeded".into()), "before it begins, a failure has a status");
        assert_eq!(refused.json::<Value>()["error"]["param"], "input");
    }
    let refused = house.respond(json!({ "model": "none" })).await;
    assert_eq!(refusal(&refused), (404, "model_not_found".into()));
    let refused = house.respond(json!({ "previous_response_id": "resp_00000000000000000000000000000000" })).await;
    assert_eq!(refusal(&refused), (400, "previous_response_not_found".into()));
    let refused = house.respond(json!({ "input": [] })).await;
    assert_eq!((refused.status.as_u16(), refused.json::<Value>()["error"]["param"].as_str()), (400, Some("input")));
}

#[tokio::test]
async fn an_input_is_counted_with_what_it_goes_on_from_and_costs_nothing() {
    let house = House::build().await;
    house.app.worker.script(Script::answer("One two."));
    let first = house.response(json!({ "input": "Say two words." })).await;
    let before = (house.app.worker.requests().len(), ledger(&house.app.db).await.len());
    let path = format!("{PATH}/input_tokens");
    // The worker counts words, and one for each tool.
    let alone = house.post(&path, &body(&json!({ "input": "Say two words." }))).await;
    assert_eq!((alone.status, alone.json::<Value>()), (StatusCode::OK, json!({ "object": "response.input_tokens", "input_tokens": 3 })));
    let tools = json!([{ "type": "function", "name": "f" }]);
    let more = json!({ "previous_response_id": id(&first), "instructions": "Be brief.", "input": "And now?", "tools": tools, "mood": 1 });
    let counted = house.post(&path, &body(&more)).await;
    assert_eq!((counted.status, &counted.json::<Value>()["input_tokens"]), (StatusCode::OK, &json!(3 + 2 + 2 + 2 + 1)));
    assert_eq!(counted.header("x-kontor-ignored-fields"), "mood");
    assert_eq!((house.app.worker.requests().len(), ledger(&house.app.db).await.len()), before);
    let unknown = house.post(&path, &body(&json!({ "model": "none" }))).await;
    assert_eq!(refusal(&unknown), (404, "model_not_found".into()));
    let lost = house.post(&path, &body(&json!({ "previous_response_id": "resp_00000000000000000000000000000000" }))).await;
    assert_eq!(refusal(&lost), (400, "previous_response_not_found".into()));
}

#[tokio::test]
async fn in_the_background_it_is_polled_and_cancelled() {
    let house = House::build().await;
    house.app.worker.script(Script::answer("One two three.").delay(Duration::from_millis(20)));
    let queued = house.response(json!({ "background": true })).await;
    assert_eq!((&queued["status"], &queued["background"], &queued["output"]), (&json!("queued"), &json!(true), &json!([])));
    let path = format!("{PATH}/{}", id(&queued));
    eventually("it is complete", 10, || async { house.get(&path).await.json::<Value>()["status"] == "completed" }).await;
    let all = events(&house.get(&format!("{path}?stream=true")).await);
    let kinds: Vec<&str> = all.iter().filter_map(|event| event["type"].as_str()).take(3).collect();
    assert_eq!(kinds, ["response.created", "response.queued", "response.in_progress"]);
    assert_eq!((&all[0]["response"]["status"], &all[2]["response"]["status"]), (&json!("queued"), &json!("in_progress")));

    house.app.worker.script(Script::answer("One two three.").hangs_after(2));
    let path = format!("{PATH}/{}", id(&house.response(json!({ "background": true })).await));
    eventually("it has begun", 10, || async { house.get(&path).await.json::<Value>()["status"] == "in_progress" }).await;
    eventually("both words are stored", 10, || async { house.app.db.responses_that_said("One two ").await > 0 }).await;
    let cancelled: Value = house.call(Method::POST, &format!("{path}/cancel")).await.json();
    assert_eq!((&cancelled["status"], &cancelled["output"][0]["content"][0]["text"]), (&json!("cancelled"), &json!("One two ")));
    let last = events(&house.get(&format!("{path}?stream=true")).await).pop().expect("an end");
    assert_eq!((&last["type"], &last["response"]["status"]), (&json!("response.incomplete"), &json!("cancelled")));
    let foreground = house.response(json!({})).await;
    let refused = house.call(Method::POST, &format!("{PATH}/{}/cancel", id(&foreground))).await;
    assert_eq!(refusal(&refused), (400, "not_background".into()));
}

#[tokio::test]
async fn whoever_leaves_ends_a_response_that_is_not_in_the_background() {
    let house = House::build().await;
    for (background, status) in [(false, "cancelled"), (true, "completed")] {
        house.app.worker.script(Script::answer("One two three four.").delay(Duration::from_millis(if background { 100 } else { 400 })));
        let request = Request::post(PATH)
            .header(header::AUTHORIZATION, format!("Bearer {}", house.key.key.reveal()))
            .body(Body::from(body(&json!({ "stream": true, "background": background })).to_string()))
            .expect("a request");
        let response = house.app.respond(request).await;
        assert_eq!(response.status(), StatusCode::OK);
        let id = response.headers()["x-kontor-usage-id"].to_str().expect("text").to_owned();
        drop(response);
        let path = format!("{PATH}/resp_{id}");
        eventually("it ends", 10, || async { house.get(&path).await.json::<Value>()["status"] == status }).await;
    }
    let outcomes: Vec<_> = ledger(&house.app.db).await.into_iter().filter_map(|row| row.outcome).collect();
    assert_eq!(outcomes, ["cancelled", "ok"]);
}

#[tokio::test]
async fn deleted_is_deleted() {
    let house = House::build().await;
    let response = house.response(json!({})).await;
    let path = format!("{PATH}/{}", id(&response));
    let deleted: Value = house.call(Method::DELETE, &path).await.json();
    assert_eq!(deleted, json!({ "id": response["id"], "object": "response", "deleted": true }));
    for (method, path) in [
        (Method::GET, path.clone()),
        (Method::GET, format!("{path}?stream=true")),
        (Method::GET, format!("{path}/input_items")),
        (Method::POST, format!("{path}/cancel")),
        (Method::DELETE, path.clone()),
        (Method::GET, format!("{PATH}/not-an-id")),
    ] {
        assert_eq!(refusal(&house.call(method, &path).await), (404, "not_found".into()), "{path}");
    }
}

#[tokio::test]
async fn another_accounts_response_is_not_found() {
    let house = House::build().await;
    let response = house.response(json!({ "background": true })).await;
    let new = |name: &str, tenant| NewAccount {
        tenant,
        name: name.into(),
        purpose: "Others".into(),
        team: String::new(),
        cost_center: String::new(),
        owner: None,
        models: None,
        class: None,
        expires_at: None,
    };
    let theirs = house.app.tenant("theirs").await;
    for tenant in [house.tenant, theirs] {
        let account = house.app.state.identity.create_service_account("test", new("Others", tenant)).await.expect("an account");
        let key = make(&house.app, tenant, account, NewKey::default()).await;
        // The node knows a new key a quarter of a second later.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let path = format!("{PATH}/{}", id(&response));
        for (method, path) in [
            (Method::GET, path.clone()),
            (Method::GET, format!("{path}?stream=true")),
            (Method::GET, format!("{path}/input_items")),
            (Method::POST, format!("{path}/cancel")),
            (Method::DELETE, path.clone()),
        ] {
            let answer = house.send(key.key.reveal(), method.clone(), &path, Body::empty()).await;
            assert_eq!(refusal(&answer), (404, "not_found".into()), "{method} {path}");
        }
        let body = body(&json!({ "previous_response_id": response["id"] })).to_string();
        let answer = house.send(key.key.reveal(), Method::POST, PATH, Body::from(body)).await;
        assert_eq!(refusal(&answer), (400, "previous_response_not_found".into()));
    }
}

#[tokio::test]
async fn the_query_string_is_checked_in_the_same_shape() {
    let house = House::build().await;
    let path = format!("{PATH}/{}", id(&house.response(json!({})).await));
    for query in ["?stream=true&starting_after=-1", "/input_items?limit=many", "/input_items?after=nothing"] {
        let answer = house.get(&format!("{path}{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
        assert_eq!(answer.json::<Value>()["error"]["type"], "invalid_request_error", "{query}");
    }
    let answer = house.respond(json!({ "frobnicate": 1, "include": [], "stream_options": { "include_obfuscation": false } })).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-kontor-ignored-fields")), (200, "frobnicate"));
}
