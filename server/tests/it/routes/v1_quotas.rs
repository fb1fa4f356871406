//! What budgets and limits say to programs, on every route that uses a model.

use super::v1::{House, make};
use crate::app::{Answer, TestApp};
use axum::{
    body::Body,
    http::{Method, StatusCode},
};
use domain::{SystemClock, quota::Level};
use identity::{NewAccount, NewKey};
use inference::{Catalogue, Inference, ModelConfig, ModelKind, Pool};
use serde_json::{Value, json};
use services::Services;
use std::sync::Arc;
use store::rate_limits::RateLimit;
use testkit::{
    FakeWorker,
    fake_worker::{FAKE_MODEL, fake_model, quick_pool},
    keys,
    ledger::ledger,
    quotas::{budget, limit, price, spent},
};

pub const VECTORS: &str = "vectors";
pub const RANKS: &str = "ranks";
/// Every route that uses a model, and a body for it.
pub const ROUTES: [&str; 6] = ["chat/completions", "completions", "responses", "messages", "embeddings", "rerank"];

pub fn body(route: &str, model: Option<&str>) -> Value {
    let chat = model.unwrap_or(FAKE_MODEL);
    let messages = json!([{ "role": "user", "content": "x" }]);
    match route {
        "chat/completions" => json!({ "model": chat, "messages": messages }),
        "completions" => json!({ "model": chat, "prompt": "x" }),
        "responses" => json!({ "model": chat, "input": "x" }),
        "messages" => json!({ "model": chat, "messages": messages, "max_tokens": 5 }),
        "embeddings" => json!({ "model": model.unwrap_or(VECTORS), "input": "x" }),
        _ => json!({ "model": model.unwrap_or(RANKS), "query": "x", "documents": ["x"] }),
    }
}

/// A world with a model of each kind, each with a price.
pub async fn house() -> House {
    house_with_chats().await.0
}

/// The same, and the worker of the model for chats.
pub async fn house_with_chats() -> (House, &'static FakeWorker) {
    let (chats, vectors, ranks) = (FakeWorker::start().await, FakeWorker::with_model(VECTORS).await, FakeWorker::with_model(RANKS).await);
    let pool = quick_pool();
    pool.add("chats", chats.backend());
    pool.add("vectors", vectors.backend());
    pool.add("ranks", ranks.backend());
    // They end with the test.
    let workers: &'static (FakeWorker, FakeWorker, FakeWorker) = Box::leak(Box::new((chats, vectors, ranks)));
    (house_over(pool).await, &workers.0)
}

/// The same models over whatever is in this pool.
pub async fn house_over(pool: Pool) -> House {
    let app = TestApp::with(|state| {
        let of = |id: &str, kind| ModelConfig { id: id.into(), kind, default: false, ..fake_model() };
        let models = vec![fake_model(), of(VECTORS, ModelKind::Embedding), of(RANKS, ModelKind::Reranker)];
        let catalogue = Catalogue::new(models).expect("a catalogue");
        state.inference = Inference::new(state.db.clone(), catalogue, pool, Arc::new(SystemClock));
        state.services = Services::new(state.db.clone(), state.inference.clone(), state.identity.clone(), Arc::new(SystemClock));
    })
    .await;
    for model in [FAKE_MODEL, VECTORS, RANKS] {
        price(&app.db, model, "EUR", "1", "2").await;
    }
    House::of(app).await
}

pub async fn post(house: &House, key: &str, route: &str, model: Option<&str>) -> Answer {
    house.send(key, Method::POST, &format!("/v1/{route}"), Body::from(body(route, model).to_string())).await
}

/// Type and code, wherever the shape has them.
pub fn told(answer: &Answer) -> (String, String) {
    let error = &answer.json::<Value>()["error"];
    let code = if error["code"].is_string() { &error["code"] } else { &error["details"]["error_code"] };
    (error["type"].as_str().unwrap_or_default().to_owned(), code.as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn each_route_refuses_by_the_table_and_charges_nothing() {
    let house = house().await;
    let (ours, disabled) = (house.key.key.reveal().to_owned(), make(&house.app, house.tenant, house.account, NewKey::default()).await);
    house.app.state.identity.disable_key("test", disabled.id, true).await.expect("disabled");
    budget(&house.app.db, house.tenant, Level::Team, Some("Statistics"), "0", true).await;
    for route in ROUTES {
        let kind = |openai: &'static str, anthropic: &'static str| if route == "messages" { anthropic } else { openai };
        for key in ["", disabled.key.reveal()] {
            let answer = post(&house, key, route, None).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{route}: {}", answer.text());
            assert_eq!(told(&answer), (kind("invalid_request_error", "authentication_error").into(), "invalid_api_key".into()), "{route}");
        }
        let answer = post(&house, &ours, route, Some("foreign")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{route}: {}", answer.text());
        assert_eq!(told(&answer), (kind("invalid_request_error", "not_found_error").into(), "model_not_found".into()), "{route}");
        let answer = post(&house, &ours, route, None).await;
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{route}: {}", answer.text());
        assert_eq!(told(&answer), (kind("insufficient_quota", "rate_limit_error").into(), "insufficient_quota".into()), "{route}");
        assert_eq!(answer.header("x-should-retry"), "false", "{route}: each refusal comes three times without it");
        assert_eq!(answer.header("retry-after"), "", "{route}: waiting does not help");
        assert!(answer.text().contains("team Statistics: 0.00 EUR in total"), "{}", answer.text());
    }
    assert!(
        ledger(&house.app.db).await.is_empty(),
        "If you are here because this failed: a route can be used without a budget, or charges for a refusal."
    );
    assert!(spent(&house.app.db, house.tenant).await.iter().all(|state| state.spent == domain::Amount::ZERO));
}

#[tokio::test]
async fn each_route_refuses_beyond_a_limit_and_says_when_to_come_back() {
    for (unit, change) in
        [("requests", (|limit| limit.requests = Some(1)) as fn(&mut RateLimit)), ("tokens", |limit| limit.tokens = Some(1))]
    {
        let house = house().await;
        for model in [FAKE_MODEL, VECTORS, RANKS] {
            limit(&house.app.db, house.tenant, Level::Key, |limit| {
                change(limit);
                limit.model = Some(model.into());
            })
            .await;
        }
        let key = house.key.key.reveal().to_owned();
        for model in [Some(VECTORS), Some(RANKS), None] {
            let route = match model {
                Some(VECTORS) => "embeddings",
                Some(_) => "rerank",
                None => "chat/completions",
            };
            let answer = post(&house, &key, route, None).await;
            assert_eq!(answer.status, StatusCode::OK, "{route}: {}", answer.text());
            let standing = |what: &str| answer.header(&format!("x-ratelimit-{what}-{unit}")).to_owned();
            assert_eq!((standing("limit").as_str(), standing("remaining").as_str()), ("1", "0"), "{route}");
            assert!(["1m0s", "59s"].contains(&standing("reset").as_str()), "{}", standing("reset"));
        }
        for route in ROUTES {
            let answer = post(&house, &key, route, None).await;
            assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{route}: {}", answer.text());
            let kind = if route == "messages" { "rate_limit_error" } else { unit };
            assert_eq!(told(&answer), (kind.into(), "rate_limit_exceeded".into()), "{route}");
            let after: u32 = answer.header("retry-after").parse().expect("seconds");
            assert!((50..=60).contains(&after), "{route}: {after}");
            assert_eq!(answer.header(&format!("x-ratelimit-remaining-{unit}")), "0", "{route}");
            assert_eq!(answer.header("x-should-retry"), "", "{route}");
        }
        assert_eq!(ledger(&house.app.db).await.len(), 3, "what is refused is not in the ledger");
    }
}

#[tokio::test]
async fn a_budget_and_a_limit_of_each_level_that_a_program_has_are_its_own() {
    let house = house().await;
    let mut programs = Vec::new();
    // No program is a person.
    for level in Level::ALL.into_iter().filter(|level| *level != Level::User) {
        for limited in [false, true] {
            let tenant = house.app.tenant(&format!("tenant-{}", programs.len())).await;
            let new = NewAccount { team: "Statistics".into(), cost_center: "4711".into(), ..keys::reports(tenant) };
            let account = house.app.state.identity.create_service_account("test", new).await.expect("an account");
            let key = make(&house.app, tenant, account, NewKey::default()).await;
            if limited {
                limit(&house.app.db, tenant, level, |limit| limit.requests = Some(1)).await;
            } else {
                budget(&house.app.db, tenant, level, None, "0", true).await;
            }
            programs.push((level, limited, key));
        }
    }
    for (level, limited, key) in &programs {
        let asked = async || post(&house, key.key.reveal(), "chat/completions", None).await;
        if *limited {
            let answer = asked().await;
            assert_eq!(answer.status, StatusCode::OK, "{level:?}: {}", answer.text());
        }
        let answer = asked().await;
        let code = if *limited { "rate_limit_exceeded" } else { "insufficient_quota" };
        assert_eq!((answer.status.as_u16(), told(&answer).1.as_str()), (429, code), "{level:?}: {}", answer.text());
        assert!(answer.text().contains(&format!("{}: ", level.noun())), "{level:?}: {}", answer.text());
    }
}

#[tokio::test]
async fn an_answer_in_one_piece_says_what_it_cost() {
    let house = house().await;
    let answer = post(&house, house.key.key.reveal(), "embeddings", None).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let tokens = answer.json::<Value>()["usage"]["prompt_tokens"].as_u64().expect("a number");
    assert!(tokens > 0);
    let cost = answer.header("x-kontor-cost").strip_suffix(" EUR").expect("euros").to_owned();
    assert!(cost.parse::<f64>().is_ok_and(|cost| cost > 0.0), "{cost}");
}

#[tokio::test]
async fn each_usage_says_what_it_cost() {
    let house = house().await;
    let key = house.key.key.reveal().to_owned();
    for route in ROUTES {
        let whole = post(&house, &key, route, None).await;
        let cost = whole.header("x-kontor-cost").strip_suffix(" EUR").expect("euros").to_owned();
        let usage = &whole.json::<Value>()["usage"];
        assert_eq!((&usage["kontor_cost"], &usage["kontor_currency"]), (&json!(cost), &json!("EUR")), "{route}");
        if ["embeddings", "rerank"].contains(&route) {
            continue;
        }
        let mut asked = body(route, None);
        asked["stream"] = json!(true);
        if route.ends_with("completions") {
            let silent = house.post(&format!("/v1/{route}"), &asked).await;
            assert!(!silent.text().contains("kontor_cost"), "{route}: nobody asked: {}", silent.text());
            asked["stream_options"] = json!({ "include_usage": true });
        }
        let stream = house.post(&format!("/v1/{route}"), &asked).await;
        let told = format!(r#""kontor_cost":"{cost}","kontor_currency":"EUR""#);
        assert_eq!(stream.text().matches(&told).count(), 1, "{route}: {}", stream.text());
    }
    let response: Value = post(&house, &key, "responses", None).await.json();
    let path = format!("/v1/responses/{}", response["id"].as_str().expect("an id"));
    assert_eq!(house.get(&path).await.json::<Value>()["usage"], response["usage"], "it is kept");
}

#[tokio::test]
async fn moderation_counts_as_a_request_and_as_nothing_else() {
    let house = house().await;
    budget(&house.app.db, house.tenant, Level::Team, Some("Statistics"), "0", true).await;
    limit(&house.app.db, house.tenant, Level::Key, |limit| (limit.requests, limit.tokens) = (Some(2), Some(1))).await;
    let moderate = async |input: Value| house.post("/v1/moderations", &json!({ "input": input })).await;
    assert_eq!(moderate(json!([])).await.status, StatusCode::BAD_REQUEST, "what is refused before counts for nothing");
    for remaining in ["1", "0"] {
        let answer = moderate(json!("x")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let standing = (answer.header("x-ratelimit-limit-requests"), answer.header("x-ratelimit-remaining-requests"));
        assert_eq!((standing, answer.header("x-ratelimit-limit-tokens")), (("2", remaining), ""));
    }
    let answer = moderate(json!("x")).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{}", answer.text());
    assert_eq!(told(&answer), ("requests".into(), "rate_limit_exceeded".into()));
    assert!(ledger(&house.app.db).await.is_empty());
}
