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

const PRIMARY: &str = "primary";

/// Two models, each with an upstream of its own, and the second may answer for the first.
struct World {
    house: House,
    primary: FakeUpstream,
    second: FakeUpstream,
}

impl World {
    async fn new() -> Self {
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

    async fn ask(&self, route: &str, more: &Value) -> Answer {
        let mut body = json!({ "model": PRIMARY, "max_tokens": 16, "messages": [{ "role": "user", "content": "Hello" }] });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        self.house.post(&format!("/v1/{route}"), &body).await
    }
}

/// What the headers say: who was asked for, who answers, who serves it, and at which attempt.
fn told(answer: &Answer) -> [&str; 4] {
    ["x-kontor-fallback-from", "x-kontor-model", "x-kontor-served-by", "x-kontor-attempts"].map(|name| answer.header(name))
}

#[tokio::test]
async fn an_answer_says_whose_place_was_taken() {
    let world = World::new().await;
    world.primary.set(Mood::Refuses(500, "boom"));
    let (whole, stream) = (json!({}), json!({ "stream": true }));
    for (route, more) in [("chat/completions", &whole), ("chat/completions", &stream), ("messages", &whole), ("messages", &stream)] {
        let answer = world.ask(route, more).await;
        assert_eq!(answer.status, StatusCode::OK, "{route} {more}: {}", answer.text());
        assert_eq!(
            told(&answer),
            [PRIMARY, FAKE_MODEL, "second", "2"],
            "{route} {more}. If you are here because this failed: nobody learns that another model answered than was asked for."
        );
        let model = format!(r#""model":"{FAKE_MODEL}""#);
        assert!(answer.text().contains(&model) && !answer.text().contains(PRIMARY), "{route} {more}: {}", answer.text());
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
