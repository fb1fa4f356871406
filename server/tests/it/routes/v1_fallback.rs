//! Another model that answers in place of the one that was asked for, as a client sees it.

use super::v1::House;
use crate::app::{Answer, TestApp};
use axum::http::StatusCode;
use domain::SystemClock;
use inference::{Catalogue, Inference, ModelConfig};
use serde_json::{Value, json};
use services::Services;
use std::sync::Arc;
use testkit::{
    eventually,
    fake_upstream::{FakeUpstream, Mood},
    fake_worker::{FAKE_MODEL, fake_model, quick_pool},
    ledger::ledger,
};

pub(super) const PRIMARY: &str = "primary";

/// Two models, each with an upstream of its own, and the second may answer for the first.
pub(super) struct World {
    pub(super) house: House,
    pub(super) primary: FakeUpstream,
    pub(super) second: FakeUpstream,
}

impl World {
    pub(super) async fn new() -> Self {
        let (primary, second, pool) = (FakeUpstream::start().await, FakeUpstream::start().await, quick_pool());
        pool.add_upstream(primary.config("first", PRIMARY)).expect("a client");
        pool.add_upstream(second.config("second", FAKE_MODEL)).expect("a client");
        let both = pool.clone();
        let app = TestApp::with(|state| {
            let models = vec![
                ModelConfig { id: PRIMARY.into(), fallback: vec![FAKE_MODEL.into()], ..fake_model() },
                ModelConfig { default: false, ..fake_model() },
            ];
            let catalogue = Catalogue::new(models).expect("a catalogue");
            state.inference = Inference::new(state.db.clone(), catalogue, pool, Arc::new(SystemClock));
            state.services = Services::new(state.db.clone(), state.inference.clone(), state.identity.clone(), Arc::new(SystemClock));
        })
        .await;
        eventually("both are ready", 10, || async { both.is_ready(PRIMARY) && both.is_ready(FAKE_MODEL) }).await;
        Self { house: House::of(app).await, primary, second }
    }

    pub(super) async fn ask(&self, route: &str, more: &Value) -> Answer {
        let mut body = match route {
            "responses" => json!({ "model": PRIMARY, "input": "Hello" }),
            _ => json!({ "model": PRIMARY, "max_tokens": 16, "messages": [{ "role": "user", "content": "Hello" }] }),
        };
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        self.house.post(&format!("/v1/{route}"), &body).await
    }
}

/// What the headers say: who was asked for, who answers, who serves it, and at which attempt.
fn told(answer: &Answer) -> [&str; 4] {
    ["x-kontor-fallback-from", "x-kontor-model", "x-kontor-served-by", "x-kontor-attempts"].map(|name| answer.header(name))
}

/// The second model answered, and head and body say so.
fn is_of_the_second(answer: &Answer, asked: &str) {
    assert_eq!(answer.status, StatusCode::OK, "{asked}: {}", answer.text());
    assert_eq!(
        told(answer),
        [PRIMARY, FAKE_MODEL, "second", "2"],
        "{asked}. If you are here because this failed: nobody learns that another model answered than was asked for."
    );
    let model = format!(r#""model":"{FAKE_MODEL}""#);
    assert!(answer.text().contains(&model) && !answer.text().contains(PRIMARY), "{asked}: {}", answer.text());
}

#[tokio::test]
async fn an_answer_says_whose_place_was_taken() {
    let world = World::new().await;
    world.primary.set(Mood::Refuses(500, "boom"));
    let (whole, stream) = (json!({}), json!({ "stream": true }));
    for (route, more) in [("chat/completions", &whole), ("chat/completions", &stream), ("messages", &whole), ("messages", &stream)] {
        is_of_the_second(&world.ask(route, more).await, &format!("{route} {more}"));
    }
    assert_eq!((world.primary.requests().len(), world.second.requests().len()), (4, 4));

    world.primary.set(Mood::Answers);
    let answer = world.ask("chat/completions", &json!({})).await;
    assert_eq!((answer.status, told(&answer)), (StatusCode::OK, ["", PRIMARY, "first", "1"]), "{}", answer.text());

    world.house.app.state.inference.drain().await;
    let rows = ledger(&world.house.app.db).await;
    let models: Vec<&str> = rows.iter().map(|row| row.model.as_str()).collect();
    assert_eq!(models, [FAKE_MODEL, FAKE_MODEL, FAKE_MODEL, FAKE_MODEL, PRIMARY], "who answered is paid");
}

#[tokio::test]
async fn a_response_says_whose_place_was_taken_and_so_does_what_is_stored_of_it() {
    let world = World::new().await;
    world.primary.set(Mood::Refuses(500, "boom"));
    is_of_the_second(&world.ask("responses", &json!({ "stream": true, "store": false })).await, "a stream that is not stored");
    for more in [json!({}), json!({ "stream": true }), json!({ "background": true })] {
        let answer = world.ask("responses", &more).await;
        if more.get("background").is_none() {
            is_of_the_second(&answer, &more.to_string());
        }
        let path = format!("/v1/responses/resp_{}", answer.header("x-kontor-usage-id"));
        let stored = async || world.house.get(&path).await.json::<Value>();
        eventually("it is complete", 10, || async { stored().await["status"] == "completed" }).await;
        assert_eq!(stored().await["model"], FAKE_MODEL, "{more}");
        let told = world.house.get(&format!("{path}?stream=true")).await.text();
        let last = told.rsplit("event: ").next().unwrap_or_default();
        assert!(last.starts_with("response.completed") && last.contains(&format!(r#""model":"{FAKE_MODEL}""#)), "{more}: {last}");
    }
}

#[tokio::test]
async fn a_response_that_nobody_made_names_the_model_that_was_asked_for() {
    let world = World::new().await;
    world.primary.set(Mood::Refuses(500, "boom"));
    world.second.set(Mood::Refuses(500, "boom"));
    // In front of somebody who waits it would be a refusal, of which nothing is stored.
    let queued = world.ask("responses", &json!({ "background": true })).await;
    assert_eq!((queued.status, &queued.json::<Value>()["model"]), (StatusCode::OK, &json!(PRIMARY)), "{}", queued.text());
    let path = format!("/v1/responses/resp_{}", queued.header("x-kontor-usage-id"));
    let stored = async || world.house.get(&path).await.json::<Value>();
    eventually("it has failed", 30, || async { stored().await["status"] == "failed" }).await;
    assert!(!world.second.requests().is_empty(), "if nobody asked the second one, this shows nothing");
    assert_eq!(
        stored().await["model"],
        PRIMARY,
        "If you are here because this failed: what nobody answered is told as an answer of the model that was asked last."
    );
    let told = world.house.get(&format!("{path}?stream=true")).await.text();
    let last = told.rsplit("event: ").next().unwrap_or_default();
    assert!(last.starts_with("response.failed") && last.contains(&format!(r#""model":"{PRIMARY}""#)), "{last}");
    assert!(!told.contains(FAKE_MODEL), "{told}");

    world.house.app.state.inference.drain().await;
    let rows = ledger(&world.house.app.db).await;
    assert_eq!((rows.len(), rows[0].model.as_str(), rows[0].outcome.as_deref()), (1, PRIMARY, Some("failed")));
}

#[tokio::test]
async fn where_nobody_is_left_the_answer_is_a_refusal_without_a_fallback() {
    let world = World::new().await;
    world.primary.set(Mood::Refuses(500, "boom"));
    world.second.set(Mood::Refuses(500, "boom"));
    let answer = world.ask("chat/completions", &json!({})).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text());
    assert!(!answer.header("retry-after").is_empty() && answer.header("x-kontor-fallback-from").is_empty());
    assert!(!answer.text().contains("boom"), "what an upstream says of itself is the operator's business: {}", answer.text());
    assert_eq!((world.primary.requests().len(), world.second.requests().len()), (1, 1));
}
