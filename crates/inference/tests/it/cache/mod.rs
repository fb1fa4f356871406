//! Answers that are told again: exactly what was asked, to whom it was told, and at no cost.

mod at_once;
mod kept;

use crate::setup::{Setup, asker_of, eventually, read, request, setup};
use contract::model::Sampling;
use domain::{Actor, DataClass, Error, Quota, quota::Level};
use inference::{CacheUse, Cached, Catalogue, ChatMessage, ChatRole, Ended, Inference, Options, Outcome, Output, Request};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use testkit::{
    TestClock,
    fake_worker::{FAKE_MODEL, Script, fake_model, quick_pool},
    guardrails::guardrails,
    ledger::ledger,
    quotas::{limit, price},
    response_caches::keep_answers,
};

const HOUR: u32 = 3600;
const IBAN: &str = "DE89 3704 0044 0532 0130 00";
const OTHER_IBAN: &str = "GB82 WEST 1234 5698 7654 32";

/// A tenant whose answers are kept for an hour, and a worker that the pool knows.
async fn world() -> Setup {
    let s = setup().await;
    keep_answers(&s.db, s.actor.tenant(), HOUR).await;
    known(&s.inference).await;
    s
}

async fn known(inference: &Inference) {
    eventually("the pool knows the worker", || async { inference.ready().is_ok() }).await;
}

fn asks(text: &str, cache: CacheUse) -> Request {
    Request {
        messages: vec![ChatMessage::new(ChatRole::User, text)],
        sampling: Sampling { temperature: Some(0.0), ..Sampling::default() },
        options: Options { cache, ..Options::default() },
        ..request()
    }
}

struct Told {
    text: String,
    ended: Ended,
    cached: Cached,
}

impl Told {
    fn is_hit(&self) -> bool {
        matches!(self.cached, Cached::Hit { .. })
    }
}

async fn told(inference: &Inference, actor: &Actor, request: Request) -> Told {
    let mut generation = inference.admit(actor, request).await.expect("admitted");
    let (text, ended) = read(&mut generation).await;
    let cached = generation.route().map(|route| route.cached).unwrap_or_default();
    Told { text, ended, cached }
}

impl Setup {
    async fn told(&self, request: Request) -> Told {
        told(&self.inference, &self.actor, request).await
    }
}

#[tokio::test]
async fn an_equal_request_has_the_same_answer_for_nothing() {
    let s = world().await;
    price(&s.db, FAKE_MODEL, "EUR", "1", "2").await;
    s.worker.script(Script::answer("one two three"));
    let first = s.told(asks("x", CacheUse::Use)).await;
    assert_eq!((first.text.as_str(), first.cached), ("one two three", Cached::Miss));
    let mut again = s.inference.admit(&s.actor, asks("x", CacheUse::Use)).await.expect("admitted");
    let (text, ended) = read(&mut again).await;
    assert_eq!((text.as_str(), ended.outcome), ("one two three", Outcome::Ok));
    let tokens = |ended: &Ended| (ended.stats.prompt_tokens, ended.stats.completion_tokens, ended.stats.finish_reason.clone());
    assert_eq!(tokens(&ended), tokens(&first.ended));
    let route = again.route().expect("served");
    assert!(matches!(route.cached, Cached::Hit { age } if age < Duration::from_secs(60)), "{route:?}");
    assert_eq!((route.served_by.as_str(), route.attempts, route.model.as_str()), ("response cache", 0, FAKE_MODEL));
    assert_eq!(route.cost.map(|(_, cost)| cost), Some(domain::Amount::ZERO));
    assert_eq!(s.worker.requests().len(), 1);
    let rows = ledger(&s.db).await;
    assert_eq!(rows.len(), 2);
    let row = rows.iter().find(|row| row.id == again.usage_id().0).expect("a use like any other");
    assert_eq!((row.state.as_str(), row.outcome.as_deref()), ("settled", Some("cached")));
    assert_eq!((row.prompt_tokens, row.completion_tokens), (0, 0), "the ledger's tokens are those that a model computed");
    let free = "SELECT count(*) AS value FROM usage_event WHERE outcome = 'cached' AND cost = 0 AND reserved_cost = 0 AND currency = 'EUR'";
    assert_eq!(s.db.count_as_owner(free).await, 1);
    let figures = s.inference.cache_figures();
    assert_eq!((figures.hits, figures.misses, figures.answers), (1, 1, 1));
}

#[tokio::test]
async fn answers_are_told_within_their_class_alone() {
    let s = world().await;
    let confidential = s.actor.clone().raised_to(DataClass::Confidential);
    assert_eq!(told(&s.inference, &confidential, asks("x", CacheUse::Use)).await.cached, Cached::Miss);
    assert_eq!(
        s.told(asks("x", CacheUse::Use)).await.cached,
        Cached::Miss,
        "If you are here because this failed: what was made of confidential data is told to those who bring less guarded data."
    );
    assert!(told(&s.inference, &confidential, asks("x", CacheUse::Use)).await.is_hit());
    assert!(s.told(asks("x", CacheUse::Use)).await.is_hit());
}

#[tokio::test]
async fn whatever_is_not_equal_is_asked_anew() {
    let s = world().await;
    let stranger = asker_of(&s.db, "b").await;
    keep_answers(&s.db, stranger.tenant(), HOUR).await;
    let nobody = asker_of(&s.db, "c").await;
    assert_eq!(s.told(asks("x", CacheUse::Use)).await.cached, Cached::Miss);
    assert!(s.told(asks("x", CacheUse::Use)).await.is_hit());
    assert_eq!(s.told(asks("y", CacheUse::Use)).await.cached, Cached::Miss);
    let other = told(&s.inference, &stranger, asks("x", CacheUse::Use)).await;
    assert_eq!(
        other.cached,
        Cached::Miss,
        "If you are here because this failed: one tenant learns what another one asked. Nothing else matters until it passes."
    );
    assert_eq!(told(&s.inference, &nobody, asks("x", CacheUse::Use)).await.cached, Cached::Bypass, "whose tenant has not opted in");
    assert_eq!(s.told(asks("x", CacheUse::Off)).await.cached, Cached::Unasked);
    for _ in 0..2 {
        let warm = Request { sampling: Sampling::default(), ..asks("x", CacheUse::Use) };
        assert_eq!(s.told(warm).await.cached, Cached::Bypass, "without a temperature the model's own holds, which is none of 0");
    }
    let seeded = |n| Request {
        sampling: Sampling { temperature: Some(0.8), seed: Some(7), ..Sampling::default() },
        options: Options { n, cache: CacheUse::Use, ..Options::default() },
        ..request()
    };
    assert_eq!(s.told(seeded(1)).await.cached, Cached::Miss);
    assert!(s.told(seeded(1)).await.is_hit());
    assert_eq!(s.told(seeded(2)).await.cached, Cached::Bypass);
    // All but the hits.
    assert_eq!(s.worker.requests().len(), 9);
}

#[tokio::test]
async fn a_refresh_takes_the_place_of_what_is_there() {
    let s = world().await;
    for (text, cache, expected) in
        [("old", CacheUse::Use, "old"), ("new", CacheUse::Refresh, "new"), ("not asked for", CacheUse::Use, "new")]
    {
        s.worker.otherwise(Script::answer(text));
        let told = s.told(asks("x", cache)).await;
        assert_eq!((told.text.as_str(), told.is_hit()), (expected, text == "not asked for"));
    }
    assert_eq!(s.worker.requests().len(), 2);
}

#[tokio::test]
async fn all_that_was_said_is_said_again_in_its_order() {
    let s = world().await;
    s.worker.script(Script::answer("Let me see").thinks("Where is it?").calls("look", r#"{"at":1}"#).calls("look", r#"{"at":2}"#));
    let mut both = Vec::new();
    for _ in 0..2 {
        let mut generation = s.inference.admit(&s.actor, asks("x", CacheUse::Use)).await.expect("admitted");
        let mut said = String::new();
        while let Some(output) = generation.next().await {
            match output {
                Output::Started { prompt_tokens, cached_tokens } => said.push_str(&format!("{prompt_tokens}/{cached_tokens} ")),
                Output::Reasoning { text, .. } => said.push_str(&text.to_uppercase()),
                Output::Text { text, .. } => said.push_str(&text),
                Output::ToolCall { index, call, .. } => said.push_str(&format!(" {index} {} {} {}", call.id, call.name, call.arguments)),
                Output::End(ended) => said.push_str(&format!(" {}", ended.stats.finish_reason)),
                _ => {}
            }
        }
        both.push(said);
    }
    let expected = r#"12/4 WHERE IS IT?Let me see 0 call_0 look {"at":1} 1 call_1 look {"at":2} tool_calls"#;
    assert_eq!(both, [expected, expected]);
    assert_eq!(s.worker.requests().len(), 1);
}

#[tokio::test]
async fn other_rules_are_another_answer_and_what_was_hidden_stays_hidden() {
    let s = world().await;
    let rule = json!([{ "name": "contacts", "check": { "kind": "pii", "entities": ["email"] }, "on": ["output"], "action": "mask" }]);
    guardrails(&s.db, s.actor.tenant(), rule).await;
    s.worker.otherwise(Script::answer("Write to mail@example.org now."));
    for cached in [false, true] {
        let told = s.told(asks("x", CacheUse::Use)).await;
        assert_eq!((told.text.as_str(), told.is_hit()), ("Write to [EMAIL] now.", cached));
    }
    guardrails(&s.db, s.actor.tenant(), json!([])).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let told = s.told(asks("x", CacheUse::Use)).await;
    assert_eq!((told.text.as_str(), told.cached), ("Write to mail@example.org now.", Cached::Miss));
}

#[tokio::test]
async fn equal_pseudonyms_are_not_equal_requests() {
    let s = world().await;
    let rule = json!([{ "name": "people", "check": { "kind": "pii", "entities": ["iban"] }, "on": ["input"], "action": "mask" }]);
    guardrails(&s.db, s.actor.tenant(), rule).await;
    s.worker.otherwise(Script::answer("Pay [IBAN_1] now."));
    for (iban, cached) in [(IBAN, false), (OTHER_IBAN, false), (IBAN, true)] {
        let told = s.told(asks(&format!("Whom? {iban}"), CacheUse::Use)).await;
        assert_eq!(
            (told.text.clone(), told.is_hit()),
            (format!("Pay {iban} now."), cached),
            "If you are here because this failed: what one person wrote is told to another."
        );
    }
}

#[tokio::test]
async fn an_answer_is_told_until_it_is_too_old() {
    let s = setup().await;
    keep_answers(&s.db, s.actor.tenant(), 60).await;
    let (pool, clock) = (quick_pool(), Arc::new(TestClock::default()));
    pool.add("fake worker", s.worker.backend());
    let catalogue = Catalogue::new(vec![fake_model()]).expect("valid");
    let inference = Inference::new(s.db.db.clone(), catalogue, pool, clock.clone());
    known(&inference).await;
    assert_eq!(told(&inference, &s.actor, asks("x", CacheUse::Use)).await.cached, Cached::Miss);
    clock.advance(Duration::from_secs(59));
    let old = told(&inference, &s.actor, asks("x", CacheUse::Use)).await;
    assert_eq!(old.cached, Cached::Hit { age: Duration::from_secs(59) });
    clock.advance(Duration::from_secs(1));
    assert_eq!(told(&inference, &s.actor, asks("x", CacheUse::Use)).await.cached, Cached::Miss);
}

#[tokio::test]
async fn another_file_under_the_same_name_is_another_model() {
    let s = world().await;
    assert_eq!(s.told(asks("x", CacheUse::Use)).await.cached, Cached::Miss);
    assert!(s.told(asks("x", CacheUse::Use)).await.is_hit());
    s.worker.set_version("2");
    // The pool of the tests looks every 50 ms.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(s.told(asks("x", CacheUse::Use)).await.cached, Cached::Miss);
    s.worker.set_version("");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(s.told(asks("x", CacheUse::Use)).await.cached, Cached::Bypass, "nobody knows what would answer");
}

#[tokio::test]
async fn what_is_told_again_counts_as_a_request_and_not_as_tokens() {
    let s = world().await;
    limit(&s.db, s.actor.tenant(), Level::Tenant, |limit| (limit.requests, limit.tokens) = (Some(2), Some(1))).await;
    assert_eq!(s.told(asks("x", CacheUse::Use)).await.cached, Cached::Miss);
    assert!(s.told(asks("x", CacheUse::Use)).await.is_hit());
    let refused = s.inference.admit(&s.actor, asks("x", CacheUse::Use)).await;
    assert!(matches!(refused, Err(Error::QuotaExceeded { quota: Quota::Requests(2), .. })), "{refused:?}");
    assert_eq!(ledger(&s.db).await.len(), 2);
}

#[tokio::test]
async fn there_is_no_more_than_fits() {
    const ROOM: usize = 8 * 1024;
    let s = world().await;
    s.inference.keep_answers_within(ROOM);
    for number in 0..20 {
        assert_eq!(s.told(asks(&number.to_string(), CacheUse::Use)).await.cached, Cached::Miss);
    }
    let figures = s.inference.cache_figures();
    assert!((1..20).contains(&figures.answers) && figures.bytes <= ROOM, "{figures:?}");
    assert!(s.told(asks("19", CacheUse::Use)).await.is_hit());
    assert_eq!(s.told(asks("0", CacheUse::Use)).await.cached, Cached::Miss, "the oldest went first");
    s.inference.keep_answers_within(0);
    assert_eq!(s.told(asks("19", CacheUse::Use)).await.cached, Cached::Bypass);
}
