//! Texts that go on: several prompts at once, prompts of token ids, and middles that are filled in.

use super::{
    v1::{House, chunks, data},
    v1_quotas::{house as priced, house_over},
};
use crate::app::Answer;
use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use futures::StreamExt;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use testkit::{
    eventually,
    fake_upstream::FakeUpstream,
    fake_worker::{FAKE_MODEL, Script, quick_pool},
    guardrails::guardrails,
    ledger::ledger,
};
use worker_protocol::FailCode;

fn asking(more: Value) -> Value {
    let mut body = json!({ "model": FAKE_MODEL, "prompt": "Once" });
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    body
}

impl House {
    async fn complete(&self, more: Value) -> Answer {
        self.post("/v1/completions", &asking(more)).await
    }
}

/// Status, field and code of a refusal.
fn refusal(answer: &Answer) -> (u16, String, String) {
    let error = &answer.json::<Value>()["error"];
    let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
    (answer.status.as_u16(), text("param"), text("code"))
}

fn refused(param: &str, code: &str) -> (u16, String, String) {
    (400, param.to_owned(), code.to_owned())
}

/// A rule that forbids a word in what is asked.
async fn forbid(house: &House, word: &str) {
    let rule = json!([{ "name": "project", "check": { "kind": "words", "words": [word] }, "on": ["input"], "action": "block" }]);
    guardrails(&house.app.db, house.tenant, rule).await;
}

#[tokio::test]
async fn several_prompts_are_told_as_they_are_made_and_come_to_the_same_as_in_one_piece() {
    let house = House::build().await;
    house.app.worker.otherwise(Script::answer(" upon a time").ends_by_length());
    let (prompts, options) = (["Once", "Twice", "Thrice"], json!({ "include_usage": true }));
    let whole: Value = house.complete(json!({ "prompt": prompts, "n": 2, "echo": true })).await.json();
    let streamed = json!({ "prompt": prompts, "n": 2, "echo": true, "stream": true, "stream_options": options });
    let answer = house.complete(streamed).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(data(&answer).last().map(String::as_str), Some("[DONE]"));
    let told = chunks(&answer);
    assert!(told.iter().all(|chunk| chunk["id"] == told[0]["id"] && chunk["created"] == told[0]["created"]), "{told:?}");
    let (mut texts, mut ends): (BTreeMap<u64, String>, BTreeMap<u64, Vec<String>>) = (BTreeMap::new(), BTreeMap::new());
    let [pieces @ .., last] = told.as_slice() else { panic!("nothing was told") };
    for piece in pieces {
        assert!(piece["usage"].is_null() && piece.get("usage").is_some(), "{piece}");
        let choice = &piece["choices"][0];
        let index = choice["index"].as_u64().expect("a number");
        assert!(!ends.contains_key(&index), "it ended, and goes on: {piece}");
        texts.entry(index).or_default().push_str(choice["text"].as_str().expect("text"));
        if let Some(reason) = choice["finish_reason"].as_str() {
            ends.entry(index).or_default().push(reason.to_owned());
        }
    }
    let choices = whole["choices"].as_array().expect("choices");
    assert_eq!((choices.len(), texts.len(), ends.len()), (6, 6, 6), "{whole}");
    for (index, choice) in (0..).zip(choices) {
        assert_eq!(choice["index"].as_u64(), Some(index));
        assert_eq!((choice["text"].as_str(), choice["finish_reason"].as_str()), (Some(texts[&index].as_str()), Some("length")));
        assert_eq!(ends[&index], ["length"]);
    }
    assert_eq!((texts[&2].as_str(), texts[&3].as_str()), ("Twice upon a time", "Twice"), "the fake worker makes one of two");
    assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &whole["usage"]));
    assert_eq!((&last["usage"]["prompt_tokens"], &last["usage"]["completion_tokens"]), (&json!(36), &json!(12)));
    let rows = ledger(&house.app.db).await;
    assert_eq!(rows.len(), 6, "each prompt is a use of its own");
    assert!(rows.iter().all(|row| (row.prompt_tokens, row.completion_tokens) == (12, 4)), "{rows:?}");
}

#[tokio::test]
async fn what_several_prompts_cost_is_told_at_the_end_of_their_stream() {
    let house = priced().await;
    let prompt = json!(["Once", "Twice", "Thrice", "A fourth time", "A fifth time"]);
    let whole = house.complete(json!({ "prompt": prompt })).await;
    let streamed = house.complete(json!({ "prompt": prompt, "stream": true, "stream_options": { "include_usage": true } })).await;
    let usage = chunks(&streamed).pop().expect("the last chunk")["usage"].clone();
    let text = |name: &str| usage[name].as_str().unwrap_or_default().to_owned();
    let cost = format!("{} {}", text("kontor_cost"), text("kontor_currency"));
    assert_eq!(cost, whole.header("x-kontor-cost"), "{usage}");
    assert!(cost.ends_with(" EUR") && cost != "0.00 EUR", "{cost}");
}

#[tokio::test]
async fn a_prompt_that_fails_within_a_stream_ends_it_with_an_event_and_all_are_settled() {
    let house = House::build().await;
    house.app.worker.otherwise(Script::answer("One two three.").fails_after(2, FailCode::Engine));
    let answer = house.complete(json!({ "prompt": ["Once", "Twice"], "stream": true })).await;
    assert_eq!(answer.status, StatusCode::OK);
    let told = data(&answer);
    let errors: Vec<&String> = told.iter().filter(|line| line.contains(r#"{"error":{"message""#)).collect();
    assert_eq!((errors.len(), errors.first().copied()), (1, told.last()), "{told:?}");
    eventually("all are settled and the worker is free", 5, || async {
        let rows = ledger(&house.app.db).await;
        rows.len() == 2 && rows.iter().all(|row| row.state == "settled") && house.app.worker.running() == 0
    })
    .await;
    assert!(ledger(&house.app.db).await.iter().any(|row| row.outcome.as_deref() == Some("failed")));
}

#[tokio::test]
async fn a_refusal_has_a_status_among_the_first_prompts_and_is_an_event_behind_them() {
    let house = House::build().await;
    forbid(&house, "Kranich").await;
    let first = house.complete(json!({ "prompt": ["Once", "Kranich", "Thrice"], "stream": true })).await;
    assert_eq!(refusal(&first), refused("", "content_filter"));
    let fifth = house.complete(json!({ "prompt": ["1", "2", "3", "4", "Kranich"], "stream": true })).await;
    assert_eq!(fifth.status, StatusCode::OK, "{}", fifth.text());
    let last = data(&fifth).pop().expect("an event");
    assert!(last.contains(r#""code":"content_filter""#), "{last}");
    let asked = house.app.worker.requests();
    assert!(
        asked.iter().all(|request| request.messages[0].content != "Kranich"),
        "If you are here because this failed: a prompt of several goes around the guardrails."
    );
    eventually("all are settled", 5, || async { ledger(&house.app.db).await.iter().all(|row| row.state == "settled") }).await;
}

#[tokio::test]
async fn a_few_prompts_are_computed_at_a_time_and_whoever_leaves_stops_all() {
    let house = House::build().await;
    house.app.worker.otherwise(Script::answer("One two three.").hangs_after(1));
    let request = Request::post("/v1/completions")
        .header(header::AUTHORIZATION, format!("Bearer {}", house.key.key.reveal()))
        .body(Body::from(asking(json!({ "prompt": ["1", "2", "3", "4", "5", "6"], "stream": true })).to_string()))
        .expect("a request");
    let mut body = house.app.respond(request).await.into_body().into_data_stream();
    let mut heard = String::new();
    while !heard.contains("One ") {
        let frame = body.next().await.expect("more is to come").expect("a frame");
        heard.push_str(&String::from_utf8_lossy(&frame));
    }
    eventually("four are at work", 5, || async { house.app.worker.running() == 4 }).await;
    assert_eq!(house.app.worker.requests().len(), 4, "If you are here because this failed: one program's prompts take all places.");
    drop(body);
    eventually("all uses are settled and the worker is free", 5, || async {
        let rows = ledger(&house.app.db).await;
        let left = rows.iter().all(|row| row.outcome.as_deref() == Some("disconnected"));
        rows.len() == 4 && left && house.app.worker.running() == 0
    })
    .await;
}

#[tokio::test]
async fn token_ids_reach_the_worker_as_they_are() {
    let house = House::build().await;
    for (prompt, mut expected) in [
        (json!([7, 8]), vec![vec![7, 8]]),
        (json!([[7, 8]]), vec![vec![7, 8]]),
        (json!([[7, 8], "Once", [9]]), vec![vec![7, 8], vec![], vec![9]]),
    ] {
        let before = house.app.worker.requests().len();
        let answer = house.complete(json!({ "prompt": prompt })).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let asked = house.app.worker.requests().split_off(before);
        assert!(asked.iter().all(|request| request.raw && request.messages.len() == 1));
        let mut tokens: Vec<Vec<u32>> = asked.into_iter().map(|mut request| request.messages.remove(0).tokens).collect();
        // Prompts of one request begin at the same time.
        tokens.sort();
        expected.sort();
        assert_eq!(tokens, expected, "{prompt}");
    }
}

#[tokio::test]
async fn token_ids_that_make_no_prompt_are_refused() {
    let house = House::build().await;
    for (more, expected) in [
        (json!({ "prompt": [] }), refused("prompt", "out_of_range")),
        (json!({ "prompt": [[]] }), refused("prompt", "empty")),
        (json!({ "prompt": [1, "Once"] }), refused("prompt", "")),
        (json!({ "prompt": vec!["x"; 65] }), refused("prompt", "")),
        (json!({ "prompt": vec![1; 5_000] }), refused("prompt", "context_length_exceeded")),
        (json!({ "prompt": [1, 2], "echo": true }), refused("echo", "unsupported")),
    ] {
        let told = house.complete(more.clone()).await;
        assert_eq!(refusal(&told), expected, "{}: {}", more.to_string().chars().take(80).collect::<String>(), told.text());
    }
    let unknown = "prompt: there is no token 99; this model's are 0 to 9";
    house.app.worker.script(Script::refuses(FailCode::Invalid).because(unknown));
    let told = house.complete(json!({ "prompt": [99] })).await;
    assert_eq!((refusal(&told), told.text().contains(unknown)), (refused("prompt", "model_refused"), true));
}

#[tokio::test]
async fn token_ids_do_not_go_round_the_guardrails() {
    let house = House::build().await;
    forbid(&house, "Kranich").await;
    for stream in [false, true] {
        let told = house.complete(json!({ "prompt": [1, 2], "stream": stream })).await;
        assert_eq!(refusal(&told), refused("prompt", "unreadable"), "{}", told.text());
    }
    assert!(house.app.worker.requests().is_empty() && ledger(&house.app.db).await.is_empty(), "nothing was asked, nothing charged");
}

#[tokio::test]
async fn what_comes_behind_goes_along_and_is_looked_at() {
    let house = House::build().await;
    let behind = |suffix: &str| json!({ "prompt": ["def one():", "def two():"], "suffix": suffix });
    let answer = house.complete(behind("\nreturn")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert!(house.app.worker.requests().iter().all(|request| request.messages.len() == 2 && request.messages[1].content == "\nreturn"));
    house.complete(behind("")).await;
    assert!(house.app.worker.requests()[2..].iter().all(|request| request.messages.len() == 1), "nothing comes behind");
    for stream in [false, true] {
        let cannot = Script::refuses(FailCode::Unsupported).because("suffix: this model cannot fill in the middle");
        house.app.worker.script(cannot);
        let told = house.complete(json!({ "suffix": "x", "stream": stream })).await;
        assert_eq!(refusal(&told), refused("suffix", "unsupported"), "{}", told.text());
    }
    let house = House::build().await;
    forbid(&house, "Kranich").await;
    let told = house.complete(behind("It is Kranich.")).await;
    assert_eq!(
        refusal(&told),
        refused("", "content_filter"),
        "If you are here because this failed: what comes behind a prompt goes around the guardrails."
    );
    assert!(ledger(&house.app.db).await.is_empty());
}

#[tokio::test]
async fn upstreams_are_asked_with_token_ids_and_what_comes_behind_as_they_came() {
    let upstream = FakeUpstream::start().await;
    let pool = quick_pool();
    pool.add_upstream(upstream.config("vllm", FAKE_MODEL)).expect("a client");
    eventually("it is ready", 5, || async { pool.describe().contains("ready with") }).await;
    let house = house_over(pool).await;
    let answer = house.complete(json!({ "prompt": [7, 8], "suffix": "\nreturn", "stream": true })).await;
    let text: String = chunks(&answer).iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
    assert_eq!(text, "one two three", "{}", answer.text());
    let asked = upstream.requests();
    assert_eq!((&asked[0]["prompt"], &asked[0]["suffix"]), (&json!([7, 8]), &json!("\nreturn")));
}
