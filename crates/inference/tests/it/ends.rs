//! Every way a completion can end leaves exactly one settled event with the right outcome and figures.

use crate::setup::{eventually, first_text, read, request, setup};
use async_trait::async_trait;
use domain::{Error, SystemClock};
use inference::{
    Catalogue, Inference, Options, Outcome, Output, Priority, Request, Work,
    meter::Ticket,
    pool::{Backend, BackendError, EventStream},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use testkit::{
    fake_upstream::FakeUpstream,
    fake_worker::{FAKE_CONTEXT, FAKE_MODEL, FakeWorker, Script, fake_model, quick_pool},
    ledger::{LedgerRow, execute_as_owner, ledger},
};
use worker_protocol::{Counted, FailCode, Generate, Status};

/// Fails with a hint at the rule if the row is not settled like this.
fn assert_settled(row: &LedgerRow, outcome: &str, (prompt, cached, completion): (i32, i32, i32)) {
    let found = (row.state.as_str(), row.outcome.as_deref(), row.prompt_tokens, row.cached_tokens, row.completion_tokens);
    assert_eq!(
        found,
        ("settled", Some(outcome), prompt, cached, completion),
        "If you are here because this failed: an end of a completion is not settled as it was used."
    );
}

#[tokio::test]
async fn ok() {
    let s = setup().await;
    s.worker.script(Script::answer("a house of trade").prompt(20, 8));
    let mut generation = s.ask().await;
    assert_eq!(generation.model(), FAKE_MODEL);

    assert!(matches!(generation.next().await, Some(Output::Started { prompt_tokens: 20, cached_tokens: 8 })));
    let (text, ended) = read(&mut generation).await;
    assert_eq!(text, "a house of trade");
    assert_eq!(ended.outcome, Outcome::Ok);
    assert!(ended.error.is_none());
    assert_eq!((ended.stats.model.as_str(), ended.stats.finish_reason.as_str()), (FAKE_MODEL, "stop"));
    assert_eq!((ended.stats.prompt_tokens, ended.stats.cached_tokens, ended.stats.completion_tokens), (20, 8, 4));
    assert!(generation.next().await.is_none());

    // The end comes after the settlement: no waiting here.
    let row = s.only_use().await;
    assert_settled(&row, "ok", (20, 8, 4));
    assert_eq!(row.id, generation.usage_id().0);
    assert_eq!(row.purpose, "chat");
    assert_eq!(row.user_id, s.actor.user().ok().map(|user| user.0));
    assert_eq!(row.reserved_tokens, FAKE_CONTEXT as i32);
    assert!(row.ttft_ms.is_some() && row.duration_ms.is_some());
    let asked = s.worker.requests();
    assert_eq!(asked[0].id, row.id);
    assert_eq!(asked[0].partition, format!("{} internal", s.actor.tenant()), "prefixes are one tenant's, of one class");
}

#[tokio::test]
async fn ok_by_length() {
    let s = setup().await;
    s.worker.script(Script::answer("cut off").ends_by_length());
    let (_, ended) = read(&mut s.ask().await).await;
    assert_eq!((ended.outcome, ended.stats.finish_reason.as_str()), (Outcome::Ok, "length"));
}

#[tokio::test]
async fn worker_error() {
    let s = setup().await;
    s.worker.script(Script::answer("one two three four").fails_after(2, FailCode::Engine));
    let (text, ended) = read(&mut s.ask().await).await;
    assert_eq!(text, "one two ");
    assert_eq!(ended.outcome, Outcome::Failed);
    assert!(matches!(ended.error, Some(Error::Unavailable { what: "worker", .. })));
    assert_settled(&s.only_use().await, "failed", (12, 4, 2));
}

#[tokio::test]
async fn an_engine_that_fails_before_the_first_token_leaves_it_to_another_member() {
    let s = setup().await;
    s.worker.otherwise(Script::answer("never").fails_after(0, FailCode::Engine));
    let upstream = FakeUpstream::start().await;
    let pool = quick_pool();
    pool.add("worker", s.worker.backend());
    // Of a higher order than the worker, which is therefore asked first.
    pool.add_upstream(upstream.config("vllm", FAKE_MODEL)).expect("a client");
    let catalogue = Catalogue::new(vec![fake_model()]).expect("valid");
    let inference = Inference::new(s.db.db.clone(), catalogue, pool.clone(), Arc::new(SystemClock));
    eventually("both are ready", || async { pool.describe().matches("ready with").count() == 2 }).await;
    let (text, ended) = read(&mut inference.admit(&s.actor, request()).await.expect("admitted")).await;
    assert_eq!((text.as_str(), ended.outcome), ("one two three", Outcome::Ok));
    assert_eq!((s.worker.requests().len(), upstream.requests().len()), (1, 1));
    inference.drain().await;
    assert_settled(&s.only_use().await, "ok", (20, 8, 3));
}

#[tokio::test]
async fn an_engine_that_fails_and_has_no_substitute_ends_the_use() {
    let s = setup().await;
    s.worker.otherwise(Script::answer("never").fails_after(0, FailCode::Engine));
    let (text, ended) = read(&mut s.ask().await).await;
    assert_eq!((text.as_str(), ended.outcome), ("", Outcome::Failed));
    assert!(matches!(ended.error, Some(Error::Unavailable { what: "worker", .. })), "{ended:?}");
    assert_eq!(s.worker.requests().len(), 1, "it would fail again");
    assert_settled(&s.only_use().await, "failed", (0, 0, 0));
}

#[tokio::test]
async fn what_makes_engines_fail_is_carried_to_two_of_them_and_costs_nothing() {
    let s = setup().await;
    let others = [FakeWorker::start().await, FakeWorker::start().await];
    let (pool, workers) = (quick_pool(), [&s.worker, &others[0], &others[1]]);
    for (worker, name) in workers.into_iter().zip(["one", "two", "three"]) {
        worker.otherwise(Script::answer("never").fails_after(0, FailCode::Engine));
        pool.add(name, worker.backend());
    }
    let catalogue = Catalogue::new(vec![fake_model()]).expect("valid");
    let inference = Inference::new(s.db.db.clone(), catalogue, pool.clone(), Arc::new(SystemClock));
    eventually("all are ready", || async { pool.describe().matches("ready with").count() == 3 }).await;
    let (text, ended) = read(&mut inference.admit(&s.actor, request()).await.expect("admitted")).await;
    assert_eq!((text.as_str(), ended.outcome), ("", Outcome::Failed));
    assert!(matches!(ended.error, Some(Error::Unavailable { what: "worker", .. })), "{ended:?}");
    let asked: usize = workers.iter().map(|worker| worker.requests().len()).sum();
    assert_eq!(asked, 2, "If you are here because this failed: one request can break all workers, one after the other.");
    inference.drain().await;
    assert_settled(&s.only_use().await, "failed", (0, 0, 0));
}

#[tokio::test]
async fn prompt_too_long() {
    let s = setup().await;
    s.worker.script(Script::refuses(FailCode::ContextLengthExceeded));
    let (_, ended) = read(&mut s.ask().await).await;
    assert!(matches!(ended.error, Some(Error::Invalid { code: "context_length_exceeded", .. })));
    assert_settled(&s.only_use().await, "failed", (0, 0, 0));
    assert_eq!(s.worker.requests().len(), 1, "no other worker could do better");
}

#[tokio::test]
async fn connection_lost_before_the_first_token_is_tried_again_unseen() {
    let s = setup().await;
    s.worker.script(Script::answer("never").prompt(99, 0).drops_after(0));
    s.worker.script(Script::answer("second try").prompt(20, 0));
    let mut generation = s.ask().await;
    let (text, ended) = read(&mut generation).await;
    assert_eq!((text.as_str(), ended.outcome), ("second try", Outcome::Ok));
    assert_eq!(s.worker.requests().len(), 2);
    assert_settled(&s.only_use().await, "ok", (20, 0, 2));
}

#[tokio::test]
async fn what_ends_two_workers_that_had_begun_with_it_is_not_carried_to_a_third() {
    let s = setup().await;
    s.worker.otherwise(Script::answer("never").drops_after(0));
    let (text, ended) = read(&mut s.ask().await).await;
    assert_eq!((text.as_str(), ended.outcome), ("", Outcome::Failed));
    assert!(matches!(ended.error, Some(Error::Unavailable { what: "worker", .. })));
    assert_eq!(s.worker.requests().len(), 2, "If you are here because this failed: one request can end all workers, one after the other.");
    assert_settled(&s.only_use().await, "failed", (0, 0, 0));
}

#[tokio::test]
async fn connection_lost_again_and_again_while_it_waits_fails() {
    let s = setup().await;
    s.worker.otherwise(Script::answer("never").queued(&[3]).drops_in_the_queue());
    let (text, ended) = read(&mut s.ask().await).await;
    assert_eq!((text.as_str(), ended.outcome), ("", Outcome::Failed));
    assert!(matches!(ended.error, Some(Error::Unavailable { what: "worker", .. })));
    assert_eq!(s.worker.requests().len(), 3, "two second tries: it is not what ended the worker");
    assert_settled(&s.only_use().await, "failed", (0, 0, 0));
}

#[tokio::test]
async fn a_line_of_a_batch_that_loses_its_worker_is_not_tried_again_here() {
    let s = setup().await;
    s.worker.otherwise(Script::answer("never").drops_after(0));
    let options = Options { priority: Priority::Batch, ..Options::default() };
    let mut generation = s.inference.admit(&s.actor, Request { options, ..request() }).await.expect("admitted");
    let (_, ended) = read(&mut generation).await;
    assert!(matches!(ended.error, Some(Error::Unavailable { what: "worker", .. })), "{ended:?}");
    assert_eq!(s.worker.requests().len(), 1, "If you are here because this failed: each try of a batch kills three workers.");
    assert_settled(&s.only_use().await, "failed", (0, 0, 0));
}

#[tokio::test]
async fn connection_lost_after_the_first_token_keeps_and_bills_what_came() {
    let s = setup().await;
    s.worker.script(Script::answer("one two three four").drops_after(3));
    let (text, ended) = read(&mut s.ask().await).await;
    assert_eq!(text, "one two three ");
    assert_eq!((ended.outcome, ended.stats.completion_tokens), (Outcome::Failed, 3));
    assert!(matches!(ended.error, Some(Error::Unavailable { what: "worker", .. })));
    assert_eq!(s.worker.requests().len(), 1, "half an answer must not be made twice");
    assert_settled(&s.only_use().await, "failed", (12, 4, 3));
}

#[tokio::test]
async fn client_gone() {
    let s = setup().await;
    s.worker.script(Script::answer("one two three").hangs_after(2));
    let mut generation = s.ask().await;
    first_text(&mut generation).await;
    first_text(&mut generation).await;
    let gone = Instant::now();
    drop(generation);
    assert_settled(&s.settled().await, "disconnected", (12, 4, 2));
    eventually("the worker is free", || async { s.worker.running() == 0 }).await;
    let freed = s.worker.cancelled()[0] - gone;
    assert!(freed < Duration::from_millis(500), "the slot was freed after {freed:?}");
}

#[tokio::test]
async fn client_gone_while_it_is_admitted() {
    let s = setup().await;
    s.worker.otherwise(Script::answer("one two three").hangs_after(2));
    for pause in 0..20 {
        let _ = tokio::time::timeout(Duration::from_millis(pause), s.inference.admit(&s.actor, request())).await;
    }
    s.inference.drain().await;
    let rows = ledger(&s.db).await;
    assert!(
        rows.iter().all(|row| row.state == "settled" && row.outcome.as_deref() == Some("disconnected")),
        "If you are here because this failed: a caller that leaves during admission leaves an open use. {rows:?}"
    );
}

#[tokio::test]
async fn cancel() {
    let s = setup().await;
    s.worker.script(Script::answer("one two three").hangs_after(1));
    let mut generation = s.ask().await;
    assert_eq!(first_text(&mut generation).await, "one ");
    let stopped = Instant::now();
    generation.cancel();
    let (text, ended) = read(&mut generation).await;
    assert_eq!((text.as_str(), ended.outcome), ("", Outcome::Cancelled));
    assert_eq!((ended.stats.completion_tokens, ended.stats.finish_reason.as_str()), (1, ""));
    assert!(ended.error.is_none());
    assert_settled(&s.only_use().await, "cancelled", (12, 4, 1));
    eventually("the worker is free", || async { s.worker.running() == 0 }).await;
    let freed = s.worker.cancelled()[0] - stopped;
    assert!(freed < Duration::from_millis(500), "the slot was freed after {freed:?}");
}

#[tokio::test]
async fn a_stop_before_all_was_read_is_no_whole_answer() {
    let s = setup().await;
    // More than waits for a slow reader; the model has long ended.
    s.worker.script(Script::answer(&"word ".repeat(300)));
    let mut generation = s.ask().await;
    first_text(&mut generation).await;
    eventually("the model has ended", || async { s.worker.running() == 0 || s.worker.totals().completion_tokens == 300 }).await;
    generation.cancel();
    let (text, ended) = read(&mut generation).await;
    assert!(text.len() < 5 * 299, "all of it was read");
    assert_eq!(ended.outcome, Outcome::Cancelled, "If you are here because this failed: an answer that was cut is kept as complete.");
}

#[tokio::test]
async fn a_stop_wins_over_leaving() {
    let s = setup().await;
    s.worker.script(Script::answer("one two three").hangs_after(1));
    let mut generation = s.ask().await;
    first_text(&mut generation).await;
    generation.canceller().cancel();
    drop(generation);
    assert_settled(&s.settled().await, "cancelled", (12, 4, 1));
}

#[tokio::test]
async fn ledger_down_means_no_inference() {
    let s = setup().await;
    execute_as_owner(&s.db, "ALTER TABLE usage_event RENAME TO usage_event_gone").await;
    let refused = s.inference.admit(&s.actor, request()).await;
    assert!(matches!(refused, Err(Error::Unavailable { what: "ledger", .. })), "{refused:?}");
    assert!(s.worker.requests().is_empty(), "If you are here because this failed: something was computed that was not written down.");
    execute_as_owner(&s.db, "ALTER TABLE usage_event_gone RENAME TO usage_event").await;
    assert!(ledger(&s.db).await.is_empty());
}

#[tokio::test]
async fn a_ledger_that_comes_back_is_settled_then() {
    let s = setup().await;
    s.worker.script(Script::answer("one two").hangs_after(2));
    let mut generation = s.ask().await;
    first_text(&mut generation).await;
    first_text(&mut generation).await;
    execute_as_owner(&s.db, "ALTER TABLE usage_event RENAME TO usage_event_gone").await;
    generation.cancel();
    // The consumer is not kept waiting for the ledger.
    let (_, ended) = tokio::time::timeout(Duration::from_secs(4), read(&mut generation)).await.expect("an end in time");
    assert_eq!(ended.outcome, Outcome::Cancelled);
    execute_as_owner(&s.db, "ALTER TABLE usage_event_gone RENAME TO usage_event").await;
    s.inference.drain().await;
    assert_settled(&s.only_use().await, "cancelled", (12, 4, 2));
}

/// Brings the driver down that asks it.
#[derive(Debug)]
struct Bomb(Arc<dyn Backend>);

#[async_trait]
impl Backend for Bomb {
    async fn status(&self) -> Result<Status, BackendError> {
        self.0.status().await
    }

    async fn start(&self, _: &Ticket, _: &Work) -> Result<EventStream, BackendError> {
        panic!("as the test wants it");
    }

    async fn count(&self, prompt: &Generate) -> Result<Counted, BackendError> {
        self.0.count(prompt).await
    }
}

#[tokio::test]
async fn a_driver_that_panics_leaves_no_open_use() {
    let s = setup().await;
    let pool = quick_pool();
    pool.add("bomb", Arc::new(Bomb(s.worker.backend())));
    let catalogue = Catalogue::new(vec![fake_model()]).expect("valid");
    let inference = Inference::new(s.db.db.clone(), catalogue, pool, Arc::new(SystemClock));
    let mut generation = inference.admit(&s.actor, request()).await.expect("admitted");
    let (_, ended) = read(&mut generation).await;
    assert_eq!(ended.outcome, Outcome::Failed);
    assert!(matches!(ended.error, Some(Error::Internal(_))));
    inference.drain().await;
    assert_settled(&s.only_use().await, "failed", (0, 0, 0));
}
