//! Vectors and scores come through the same funnel as completions.

use crate::setup::{Setup, setup};
use domain::{Error, SystemClock};
use inference::{CacheUse, Cached, Catalogue, Inference, ModelConfig, ModelKind, VectorRequest};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use testkit::{
    fake_upstream::FakeUpstream,
    fake_worker::{FAKE_MODEL, Script, fake_model, quick_pool},
    guardrails::guardrails,
    ledger::ledger,
    quotas::weigh,
    response_caches::keep_answers,
};
use worker_protocol::{EmbedInput, FailCode};

/// The same world, in which the fake model is of another kind.
async fn of_kind(kind: ModelKind) -> Setup {
    let Setup { db, worker, actor, .. } = setup().await;
    let pool = quick_pool();
    pool.add("fake worker", worker.backend());
    let catalogue = Catalogue::new(vec![ModelConfig { kind, default: false, ..fake_model() }]).expect("valid");
    let inference = Inference::new(db.db.clone(), catalogue, pool, Arc::new(SystemClock));
    Setup { db, worker, inference, actor }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn inputs(texts: &[&str]) -> Vec<EmbedInput> {
    texts.iter().map(|text| EmbedInput::Text((*text).to_owned())).collect()
}

#[tokio::test]
async fn texts_become_vectors_and_one_use() {
    let s = of_kind(ModelKind::Embedding).await;
    weigh(&s.db, s.actor.tenant(), 5).await;
    let made = s.inference.embed(&s.actor, inputs(&["salt", "herring"]), VectorRequest::default()).await.expect("vectors");
    assert_eq!(made.vectors, [[0.0, 4.0], [1.0, 7.0]]);
    assert_eq!((made.stats.prompt_tokens, made.stats.completion_tokens), (12, 0));
    let asked = &s.worker.embedded()[0];
    assert_eq!((asked.tenant.as_str(), asked.weight), (s.actor.tenant().to_string().as_str(), 5));
    let row = s.settled().await;
    assert_eq!((row.outcome.as_deref(), row.prompt_tokens), (Some("ok"), 12));
    assert!(row.reserved_tokens >= 12, "{row:?}");
}

#[tokio::test]
async fn vectors_of_the_same_texts_are_told_again() {
    let s = of_kind(ModelKind::Embedding).await;
    keep_answers(&s.db, s.actor.tenant(), 60).await;
    crate::setup::eventually("the pool knows the worker", || async { s.inference.ready().is_ok() }).await;
    let ask = async |words: &[&str]| {
        let wanted = VectorRequest { cache: CacheUse::Use, ..VectorRequest::default() };
        let made = s.inference.embed(&s.actor, inputs(words), wanted).await.expect("vectors");
        (made.vectors, made.stats.prompt_tokens, matches!(made.route.expect("served").cached, Cached::Hit { .. }))
    };
    let both = vec![vec![0.0, 4.0], vec![1.0, 7.0]];
    assert_eq!(ask(&["salt", "herring"]).await, (both.clone(), 12, false));
    assert_eq!(ask(&["salt", "herring"]).await, (both, 12, true));
    assert!(!ask(&["herring", "salt"]).await.2);
    assert_eq!(s.worker.embedded().len(), 2);
    let outcomes: Vec<_> = ledger(&s.db).await.into_iter().filter_map(|row| row.outcome).collect();
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "cached").count(), 1);
}

#[tokio::test]
async fn tokens_go_to_the_model_as_they_came() {
    let s = of_kind(ModelKind::Embedding).await;
    let tokens = vec![EmbedInput::Tokens(vec![5, 7, 9]), EmbedInput::Tokens(vec![5])];
    let made = s.inference.embed(&s.actor, tokens.clone(), VectorRequest::default()).await.expect("vectors");
    assert_eq!((made.vectors.len(), &s.worker.embedded()[0].inputs), (2, &tokens));
    assert!(s.settled().await.reserved_tokens >= 4);
}

#[tokio::test]
async fn tokens_do_not_go_around_the_rules() {
    let s = of_kind(ModelKind::Embedding).await;
    let rule = json!([{ "name": "accounts", "check": { "kind": "pii", "entities": ["iban"] }, "on": ["input"], "action": "block" }]);
    guardrails(&s.db, s.actor.tenant(), rule).await;
    let refused = s.inference.embed(&s.actor, vec![EmbedInput::Tokens(vec![7])], VectorRequest::default()).await;
    assert!(matches!(refused, Err(Error::Invalid { field: Some("input"), code: "unreadable", .. })), "{refused:?}");
    assert!(s.worker.embedded().is_empty(), "If you are here because this failed: what is written as token ids is not looked at.");
}

#[tokio::test]
async fn documents_are_scored_for_a_query() {
    let s = of_kind(ModelKind::Reranker).await;
    let made = s.inference.rerank(&s.actor, "fish", texts(&["salt", "herring"]), VectorRequest::default()).await.expect("scores");
    assert_eq!(made.vectors.len(), 2);
    let pair = |document: &str| EmbedInput::Pair { query: "fish".into(), document: document.into() };
    assert_eq!(s.worker.embedded()[0].inputs, [pair("salt"), pair("herring")]);
    s.settled().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_the_ledger() {
    let s = of_kind(ModelKind::Embedding).await;
    let tokens = |count| EmbedInput::Tokens(vec![7; count]);
    for wrong in [inputs(&[]), inputs(&["salt", ""]), vec![tokens(0)], vec![tokens(150_000), tokens(150_001)]] {
        let refused = s.inference.embed(&s.actor, wrong, VectorRequest::default()).await;
        assert!(matches!(refused, Err(Error::Invalid { field: Some("input"), .. })), "{refused:?}");
    }
    let other_kind = s.inference.rerank(&s.actor, "q", texts(&["d"]), VectorRequest::default()).await;
    assert!(matches!(other_kind, Err(Error::NotFound { what: "model" })), "{other_kind:?}");
    assert!(ledger(&s.db).await.is_empty());
}

#[tokio::test]
async fn a_failure_is_settled_and_a_second_worker_takes_over() {
    let s = of_kind(ModelKind::Embedding).await;
    s.worker.script(Script::refuses(FailCode::ContextLengthExceeded));
    let refused = s.inference.embed(&s.actor, inputs(&["too long"]), VectorRequest::default()).await;
    assert!(matches!(refused, Err(Error::Invalid { field: Some("input"), code: "context_length_exceeded", .. })), "{refused:?}");
    assert_eq!(s.settled().await.outcome.as_deref(), Some("failed"));

    // Dies in the middle; the next try, on the same worker restarted, is whole.
    s.worker.script(Script::answer("").drops_after(0));
    let made = s.inference.embed(&s.actor, inputs(&["salt"]), VectorRequest::default()).await.expect("vectors");
    assert_eq!(made.vectors, [[0.0, 4.0]]);
    assert_eq!(s.worker.embedded().len(), 3);
}

#[tokio::test]
async fn a_caller_that_leaves_cancels() {
    let s = of_kind(ModelKind::Embedding).await;
    s.worker.script(Script::answer("").delay(Duration::from_secs(60)).queued(&[0]));
    let asking = s.inference.embed(&s.actor, inputs(&["salt"]), VectorRequest::default());
    assert!(tokio::time::timeout(Duration::from_millis(500), asking).await.is_err());
    assert_eq!(s.settled().await.outcome.as_deref(), Some("disconnected"));
}

#[tokio::test]
async fn upstreams_are_asked_in_their_words() {
    let upstream = FakeUpstream::start().await;
    for (kind, tokens) in [(ModelKind::Embedding, 7), (ModelKind::Reranker, 9)] {
        let Setup { db, actor, .. } = setup().await;
        let pool = quick_pool();
        pool.add_upstream(upstream.config("tei", FAKE_MODEL)).expect("a client");
        let catalogue = Catalogue::new(vec![ModelConfig { kind, default: false, ..fake_model() }]).expect("valid");
        let inference = Inference::new(db.db.clone(), catalogue, pool, Arc::new(SystemClock));
        let words = ["salt", "herring"];
        let made = match kind {
            ModelKind::Reranker => inference.rerank(&actor, "fish", texts(&words), VectorRequest::default()).await,
            _ => inference.embed(&actor, inputs(&words), VectorRequest::default()).await,
        };
        let made = made.expect("an answer");
        let expected = if kind == ModelKind::Reranker { vec![vec![0.0], vec![1.0]] } else { vec![vec![1.0, 0.0]; 2] };
        assert_eq!((made.vectors, made.stats.prompt_tokens), (expected, tokens), "in the order of the inputs");
        let sent = upstream.requests().pop().expect("a request");
        assert_eq!(sent["model"], "their-model");
        inference.drain().await;
        assert_eq!(ledger(&db).await[0].state, "settled");
    }
}
