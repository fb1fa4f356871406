//! What is kept: the whole answer of the model that was asked, and nothing else.

use super::{HOUR, asks, known, told, world};
use crate::setup::{eventually, read, setup};
use async_trait::async_trait;
use domain::quota::Level;
use futures::{StreamExt, stream};
use inference::{
    CacheUse, Cached, Catalogue, Generation, Inference, ModelConfig, Outcome, Work,
    meter::Ticket,
    pool::{Backend, BackendError, EventStream},
};
use serde_json::json;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};
use testkit::{
    FakeWorker,
    fake_worker::{FAKE_MODEL, Script, fake_model, quick_pool},
    guardrails::guardrails,
    quotas::{budget, price},
    response_caches::keep_answers,
};
use tokio::sync::Notify;
use worker_protocol::{Counted, Event, FailCode, Finish, Generate, Status, Timings, Usage};

#[tokio::test]
async fn what_is_not_whole_is_not_kept() {
    let s = world().await;
    s.worker.script(Script::answer("one two three").fails_after(2, FailCode::Engine));
    assert_eq!(s.told(asks("x", CacheUse::Use)).await.ended.outcome, Outcome::Failed);
    s.worker.script(Script::answer("one two three").hangs_after(1));
    let mut stopped = s.inference.admit(&s.actor, asks("x", CacheUse::Use)).await.expect("admitted");
    crate::setup::first_text(&mut stopped).await;
    stopped.cancel();
    assert_eq!(read(&mut stopped).await.1.outcome, Outcome::Cancelled);
    s.worker.script(Script::answer("one two three").hangs_after(1));
    let mut left = s.inference.admit(&s.actor, asks("x", CacheUse::Use)).await.expect("admitted");
    crate::setup::first_text(&mut left).await;
    drop(left);
    s.worker.script(Script::answer("one two three").ends_filtered());
    let filtered = s.told(asks("x", CacheUse::Use)).await.ended;
    assert_eq!((filtered.outcome, filtered.stats.finish_reason.as_str()), (Outcome::Ok, "content_filter"));
    // An end at the length that was asked for is one.
    s.worker.script(Script::answer("one two").ends_by_length());
    assert_eq!(s.told(asks("x", CacheUse::Use)).await.cached, Cached::Miss);
    assert_eq!((s.told(asks("x", CacheUse::Use)).await.text.as_str(), s.worker.requests().len()), ("one two", 5));
}

/// Answers all at once as soon as there is somebody who listens, who leaves as the answer begins.
#[derive(Debug)]
struct Left {
    worker: Arc<dyn Backend>,
    asked: AtomicUsize,
    listener: Arc<Mutex<Option<Generation>>>,
    listens: Arc<Notify>,
}

#[async_trait]
impl Backend for Left {
    async fn status(&self) -> Result<Status, BackendError> {
        self.worker.status().await
    }

    async fn start(&self, _: &Ticket, _: &Work) -> Result<EventStream, BackendError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let (listener, listens) = (self.listener.clone(), self.listens.clone());
        let first = stream::once(async move {
            listens.notified().await;
            drop(listener.lock().expect("the listener").take());
            Event::Started { prompt_tokens: 3, cached_tokens: 0 }
        });
        let usage = Usage { prompt_tokens: 3, completion_tokens: 2, ..Usage::default() };
        let rest = [
            Event::Text { choice: 0, text: "one two".into(), completion_tokens: 2, logprobs: Vec::new() },
            Event::Done { finish: Finish::Stop, stop: None, usage, timings: Timings::default() },
        ];
        Ok(first.chain(stream::iter(rest)).map(Ok).boxed())
    }

    /// So it is heard to its end, whoever leaves.
    fn counts_to_the_end(&self) -> bool {
        true
    }

    async fn count(&self, prompt: &Generate) -> Result<Counted, BackendError> {
        self.worker.count(prompt).await
    }
}

#[tokio::test]
async fn what_a_guardrail_did_not_see_to_its_end_is_not_kept() {
    let s = setup().await;
    keep_answers(&s.db, s.actor.tenant(), HOUR).await;
    let rule = json!([{ "name": "contacts", "check": { "kind": "pii", "entities": ["email"] }, "on": ["output"], "action": "mask" }]);
    guardrails(&s.db, s.actor.tenant(), rule).await;
    let (listener, listens) = (Arc::default(), Arc::new(Notify::new()));
    let left = Arc::new(Left { worker: s.worker.backend(), asked: AtomicUsize::new(0), listener, listens });
    let pool = quick_pool();
    pool.add("left", left.clone());
    let catalogue = Catalogue::new(vec![fake_model()]).expect("valid");
    let inference = Inference::new(s.db.db.clone(), catalogue, pool, Arc::new(domain::SystemClock));
    known(&inference).await;
    let generation = inference.admit(&s.actor, asks("x", CacheUse::Use)).await.expect("admitted");
    *left.listener.lock().expect("the listener") = Some(generation);
    left.listens.notify_one();
    s.settled().await;
    // The next one stays.
    left.listens.notify_one();
    let told = told(&inference, &s.actor, asks("x", CacheUse::Use)).await;
    assert_eq!((told.text.as_str(), told.cached), ("one two", Cached::Miss), "a part of an answer is told as all of it");
    assert_eq!(left.asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn what_another_model_or_a_short_budget_made_is_not_kept() {
    let s = setup().await;
    keep_answers(&s.db, s.actor.tenant(), HOUR).await;
    let other = FakeWorker::with_model("other").await;
    let pool = quick_pool();
    pool.add("busy", s.worker.backend());
    pool.add("other", other.backend());
    s.worker.otherwise(Script::overloaded());
    let models = vec![
        ModelConfig { fallback: vec!["other".into()], ..fake_model() },
        ModelConfig { id: "other".into(), default: false, ..fake_model() },
    ];
    let catalogue = Catalogue::new(models).expect("valid");
    let inference = Inference::new(s.db.db.clone(), catalogue, pool.clone(), Arc::new(domain::SystemClock));
    eventually("the pool knows both workers", || async { pool.is_ready(FAKE_MODEL) && pool.is_ready("other") }).await;
    for _ in 0..2 {
        let made = told(&inference, &s.actor, asks("x", CacheUse::Use)).await;
        assert_eq!((made.ended.stats.model.as_str(), made.cached), ("other", Cached::Miss));
    }
    assert_eq!(other.requests().len(), 2);

    // Enough for a few hundred tokens.
    let s = world().await;
    price(&s.db, FAKE_MODEL, "EUR", "1", "2").await;
    budget(&s.db, s.actor.tenant(), Level::Tenant, None, "0.0012", true).await;
    for number in 1..=2 {
        assert_eq!(s.told(asks("x", CacheUse::Use)).await.cached, Cached::Miss);
        let bound = s.worker.requests()[number - 1].sampling.max_tokens.expect("a bound");
        assert!(bound < 4096, "{bound}");
    }
}
