//! Every inference route × every reason to refuse: the status and the body of the table of conventions, and nothing charged.

use super::{
    v1::{House, make},
    v1_quotas::{ROUTES, body, house_over, house_with_chats, told},
};
use crate::app::Answer;
use axum::{
    body::Body,
    http::{Method, Request, header},
    response::Response,
};
use domain::{Amount, quota::Level};
use futures::future::join_all;
use identity::NewKey;
use serde_json::{Value, json};
use std::time::Duration;
use store::rate_limits::RateLimit;
use testkit::{
    FakeWorker, eventually,
    fake_worker::{FAKE_MODEL, Script, quick_pool},
    guardrails::guardrails,
    ledger::ledger,
    quotas::{budget, limit, spent},
};
use worker_protocol::State;

/// Why a request is refused.
#[derive(Clone, Copy, Debug)]
enum Why {
    NoKey,
    DisabledKey,
    ForeignModel,
    EmptyBudget,
    Requests,
    Tokens,
    Places,
    Guardrail,
}

const ALL: [Why; 8] =
    [Why::NoKey, Why::DisabledKey, Why::ForeignModel, Why::EmptyBudget, Why::Requests, Why::Tokens, Why::Places, Why::Guardrail];

/// Routes that answer as a stream where they are asked to; the refusal is the same, with a status.
const STREAMING: [&str; 4] = ["chat/completions", "completions", "responses", "messages"];

/// Routes with a body that use no model, so that no budget and no limit concerns them: they only look, count or keep.
const WITHOUT_A_MODEL: [&str; 7] = [
    "/v1/moderations",
    "/v1/messages/count_tokens",
    "/v1/responses/input_tokens",
    "/v1/responses/{id}/cancel",
    // What a batch asks for comes by the routes above.
    "/v1/files",
    "/v1/batches",
    "/v1/batches/{id}/cancel",
];

/// Who asks, for what, and what must last as long as it is asked.
struct Asker {
    key: String,
    model: Option<&'static str>,
    _running: Option<Response>,
}

impl Why {
    /// Makes it so.
    async fn come_true(self, house: &House, chats: &FakeWorker) -> Asker {
        let (db, tenant) = (&house.app.db, house.tenant);
        let mut asker = Asker { key: house.key.key.reveal().to_owned(), model: None, _running: None };
        match self {
            Self::NoKey => asker.key.clear(),
            Self::DisabledKey => {
                let other = make(&house.app, tenant, house.account, NewKey::default()).await;
                house.app.state.identity.disable_key("test", other.id, true).await.expect("disabled");
                other.key.reveal().clone_into(&mut asker.key);
            }
            Self::ForeignModel => asker.model = Some("foreign"),
            Self::EmptyBudget => drop(budget(db, tenant, Level::Tenant, None, "0", true).await),
            Self::Requests => {
                limited(house, |limit| limit.requests = Some(1)).await;
                assert_eq!(ask(house, &asker, "chat/completions", false).await.status.as_u16(), 200);
            }
            Self::Tokens => {
                limited(house, |limit| limit.tokens = Some(1)).await;
                assert_eq!(ask(house, &asker, "chat/completions", false).await.status.as_u16(), 200);
            }
            Self::Places => {
                limited(house, |limit| limit.places = Some(1)).await;
                chats.script(Script::answer("One two three.").hangs_after(2));
                let running = house.app.respond(request(&asker, "chat/completions", true)).await;
                assert_eq!(running.status().as_u16(), 200);
                asker._running = Some(running);
            }
            Self::Guardrail => {
                let check = json!({ "kind": "words", "words": ["x"] });
                guardrails(db, tenant, json!([{ "name": "letter", "check": check, "on": ["input"], "action": "block" }])).await;
            }
        }
        asker
    }

    /// Status, type and code in OpenAI's shape, and the type in Anthropic's.
    fn expected(self) -> (u16, &'static str, &'static str, &'static str) {
        let invalid = "invalid_request_error";
        match self {
            Self::NoKey | Self::DisabledKey => (401, invalid, "invalid_api_key", "authentication_error"),
            Self::ForeignModel => (404, invalid, "model_not_found", "not_found_error"),
            Self::EmptyBudget => (429, "insufficient_quota", "insufficient_quota", "rate_limit_error"),
            Self::Requests | Self::Places => (429, "requests", "rate_limit_exceeded", "rate_limit_error"),
            Self::Tokens => (429, "tokens", "rate_limit_exceeded", "rate_limit_error"),
            Self::Guardrail => (400, invalid, "content_filter", invalid),
        }
    }

    /// What the headers say beside the status: whether and when to come again.
    fn headers(self, answer: &Answer) -> bool {
        let (should_retry, after) = (answer.header("x-should-retry"), answer.header("retry-after"));
        match self {
            Self::NoKey | Self::DisabledKey => answer.header("www-authenticate") == "Bearer" && after.is_empty(),
            Self::ForeignModel | Self::Guardrail => should_retry.is_empty() && after.is_empty(),
            Self::EmptyBudget => should_retry == "false" && after.is_empty(),
            Self::Requests | Self::Tokens => should_retry.is_empty() && after.parse::<u32>().is_ok_and(|after| (30..=60).contains(&after)),
            Self::Places => should_retry.is_empty() && after == "1",
        }
    }
}

/// One of all routes and models together.
async fn limited(house: &House, change: fn(&mut RateLimit)) {
    limit(&house.app.db, house.tenant, Level::Tenant, change).await;
}

fn request(asker: &Asker, route: &str, stream: bool) -> Request<Body> {
    let mut body = body(route, asker.model);
    if stream {
        body["stream"] = json!(true);
    }
    let mut request = Request::post(format!("/v1/{route}")).header(header::CONTENT_TYPE, "application/json");
    if !asker.key.is_empty() {
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", asker.key));
    }
    request.body(Body::from(body.to_string())).expect("a request")
}

/// Every route, in one piece and as a stream where there is one.
fn ways() -> impl Iterator<Item = (&'static str, bool)> {
    ROUTES.into_iter().map(|route| (route, false)).chain(STREAMING.into_iter().map(|route| (route, true)))
}

async fn ask(house: &House, asker: &Asker, route: &str, stream: bool) -> Answer {
    house.app.send(None, request(asker, route, stream)).await
}

/// Nothing more and nothing less than what clients of the route know, and a text for people.
fn has_the_shape(route: &str, answer: &Answer) -> bool {
    let body: Value = answer.json();
    let keys = |value: &Value| value.as_object().map(|object| object.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let expected: &[&str] = if route == "messages" { &["details", "message", "type"] } else { &["code", "message", "param", "type"] };
    let mut found = keys(&body["error"]);
    found.sort_unstable();
    let around = if route == "messages" { body["type"] == "error" && body["request_id"].is_string() } else { keys(&body) == ["error"] };
    found == expected && around && body["error"]["message"].as_str().is_some_and(|message| message.len() > 10)
}

#[tokio::test]
async fn each_route_refuses_for_each_reason_and_charges_nothing() {
    for why in ALL {
        let (house, chats) = house_with_chats().await;
        let asker = why.come_true(&house, chats).await;
        let before = (ledger(&house.app.db).await.len(), chats.requests().len());
        let (status, openai, code, anthropic) = why.expected();
        for (route, stream) in ways() {
            let answer = ask(&house, &asker, route, stream).await;
            let context = format!("{why:?} at {route}, stream: {stream}: {} {}", answer.status, answer.text());
            assert_eq!(answer.status.as_u16(), status, "{context}");
            let kind = if route == "messages" { anthropic } else { openai };
            assert_eq!(told(&answer), (kind.to_owned(), code.to_owned()), "{context}");
            assert!(has_the_shape(route, &answer), "{context}");
            assert!(why.headers(&answer), "{context}: {:?}", answer.headers);
            assert!(!answer.header("x-request-id").is_empty() && answer.header("x-kontor-usage-id").is_empty(), "{context}");
        }
        assert_eq!(
            (ledger(&house.app.db).await.len(), chats.requests().len()),
            before,
            "If you are here because this failed: something was computed or charged that was refused ({why:?})."
        );
        assert!(
            spent(&house.app.db, house.tenant).await.iter().all(|state| state.spent == Amount::ZERO && state.held == Amount::ZERO),
            "{why:?}"
        );
    }
}

#[tokio::test]
async fn while_nothing_is_ready_each_route_says_when_to_come_again_and_charges_nothing() {
    // The worker of the chats is about to end, the other models have none at all.
    let worker = FakeWorker::start().await;
    worker.set_state(State::Draining);
    let pool = quick_pool();
    pool.add("chats", worker.backend());
    let house = house_over(pool).await;
    budget(&house.app.db, house.tenant, Level::Tenant, None, "1", true).await;
    eventually("the pool knows it", 5, || async { house.app.state.inference.ready().is_err_and(|why| why.contains("shutting down")) })
        .await;
    let asker = Asker { key: house.key.key.reveal().to_owned(), model: None, _running: None };
    // Each waits as long as the pool has patience.
    let answers = join_all(ways().map(|(route, stream)| ask(&house, &asker, route, stream))).await;
    for ((route, stream), answer) in ways().zip(&answers) {
        let context = format!("{route}, stream: {stream}: {} {}", answer.status, answer.text());
        let (status, kind) = if route == "messages" { (529, "overloaded_error") } else { (503, "server_error") };
        assert_eq!((answer.status.as_u16(), told(answer)), (status, (kind.to_owned(), "model_loading".to_owned())), "{context}");
        assert!(has_the_shape(route, answer), "{context}");
        assert!(answer.header("content-type").starts_with("application/json"), "{context}: {:?}", answer.headers);
        assert!(
            answer.header("retry-after").parse::<u32>().is_ok_and(|seconds| (1..=60).contains(&seconds)),
            "{context}: {:?}",
            answer.headers
        );
    }
    assert!(worker.requests().is_empty());
    house.app.state.services.drain().await;
    let rows = ledger(&house.app.db).await;
    assert_eq!(rows.len(), answers.len(), "each was tried");
    for row in rows {
        assert_eq!((row.state.as_str(), row.outcome.as_deref()), ("settled", Some("failed")), "{row:?}");
        assert_eq!((row.prompt_tokens, row.completion_tokens), (0, 0), "{row:?}");
    }
    let states = spent(&house.app.db, house.tenant).await;
    assert!(!states.is_empty() && states.iter().all(|state| state.spent == Amount::ZERO), "nothing was charged");
}

#[tokio::test]
async fn what_uses_no_model_needs_a_key_all_the_same_and_never_costs_anything() {
    let (house, _) = house_with_chats().await;
    let disabled = make(&house.app, house.tenant, house.account, NewKey::default()).await;
    house.app.state.identity.disable_key("test", disabled.id, true).await.expect("disabled");
    budget(&house.app.db, house.tenant, Level::Tenant, None, "0", true).await;
    limited(&house, |limit| limit.requests = Some(3)).await;
    // The node looks for news once a second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let messages = json!([{ "role": "user", "content": "x" }]);
    let bodies = [
        ("/v1/moderations", json!({ "input": "x" })),
        ("/v1/messages/count_tokens", json!({ "model": FAKE_MODEL, "messages": messages })),
        ("/v1/responses/input_tokens", json!({ "model": FAKE_MODEL, "input": "x" })),
    ];
    for (path, body) in bodies {
        for key in ["", disabled.key.reveal()] {
            let answer = house.send(key, Method::POST, path, Body::from(body.to_string())).await;
            assert_eq!(answer.status.as_u16(), 401, "{path}: {}", answer.text());
        }
        for _ in 0..3 {
            let answer = house.post(path, &body).await;
            assert_eq!(answer.status.as_u16(), 200, "{path}: {}", answer.text());
        }
    }
    // A moderation is a request like others, though it costs nothing.
    let answer = house.post("/v1/moderations", &json!({ "input": "x" })).await;
    assert_eq!(answer.status.as_u16(), 429, "{}", answer.text());
    assert!(ledger(&house.app.db).await.is_empty());
}

#[test]
fn no_route_that_uses_a_model_is_forgotten() {
    let known = |path: &str| WITHOUT_A_MODEL.contains(&path) || path.strip_prefix("/v1/").is_some_and(|route| ROUTES.contains(&route));
    let forgotten: Vec<_> =
        gateway::ROUTES.iter().filter(|(method, path, _)| *method == "POST" && !known(path)).map(|(_, path, _)| path).collect();
    let gone: Vec<_> = WITHOUT_A_MODEL.iter().filter(|known| !gateway::ROUTES.iter().any(|(_, path, _)| path == *known)).collect();
    assert!(gone.is_empty(), "{gone:?}: there is no such route");
    assert!(
        forgotten.is_empty(),
        "{forgotten:?}: put each into `v1_quotas::ROUTES`, with a body, so that the tests ask whether it can be used without a key, \
         a budget or beside the guardrails; or say here why it uses no model."
    );
}
