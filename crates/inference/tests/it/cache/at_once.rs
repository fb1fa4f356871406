//! Equal requests at the same time: one of them is computed.

use super::{asks, world};
use crate::setup::{eventually, read};
use futures::future::join_all;
use inference::{CacheUse, Cached, Outcome};
use std::time::Duration;
use testkit::{fake_worker::Script, ledger::ledger};
use worker_protocol::FailCode;

#[tokio::test]
async fn of_many_at_once_one_is_computed() {
    let s = world().await;
    s.worker.otherwise(Script::answer("one two three").delay(Duration::from_millis(200)));
    let all = join_all((0..8).map(|_| s.told(asks("x", CacheUse::Use)))).await;
    assert!(all.iter().all(|told| told.text == "one two three" && told.ended.outcome == Outcome::Ok));
    assert_eq!((s.worker.requests().len(), all.iter().filter(|told| told.is_hit()).count()), (1, 7));
    let outcomes: Vec<_> = ledger(&s.db).await.into_iter().filter_map(|row| row.outcome).collect();
    assert_eq!((outcomes.len(), outcomes.iter().filter(|outcome| *outcome == "cached").count()), (8, 7));
}

#[tokio::test]
async fn nobody_waits_for_the_reader_of_an_equal_answer() {
    let s = world().await;
    let long = "word ".repeat(300);
    s.worker.otherwise(Script::answer(&long));
    // It is made, and nobody takes it.
    let mut slow = s.inference.admit(&s.actor, asks("x", CacheUse::Use)).await.expect("admitted");
    eventually("it is being made", || async { s.worker.requests().len() == 1 }).await;
    let quick = tokio::time::timeout(Duration::from_secs(5), s.told(asks("x", CacheUse::Use))).await;
    let quick = quick.expect("If you are here because this failed: whoever reads slowly keeps everybody waiting who asks the same.");
    assert!(quick.is_hit() && quick.text == long, "{:?}", quick.cached);
    let (text, ended) = read(&mut slow).await;
    assert!(text == long && ended.outcome == Outcome::Ok);
    assert_eq!(s.worker.requests().len(), 1);
}

#[tokio::test]
async fn what_is_too_long_to_lie_about_is_not_waited_for_either() {
    let s = world().await;
    let endless = "a ".repeat(5_000);
    s.worker.otherwise(Script::answer(&endless));
    let slow = s.inference.admit(&s.actor, asks("x", CacheUse::Use)).await.expect("admitted");
    eventually("it is being made", || async { s.worker.requests().len() == 1 }).await;
    // Ten thousand pieces take a while, but less than anybody waits for an equal answer.
    let quick = tokio::time::timeout(Duration::from_secs(25), s.told(asks("x", CacheUse::Use))).await.expect("it is made once more");
    assert_eq!((quick.text == endless, quick.cached, s.worker.requests().len()), (true, Cached::Miss, 2));
    drop(slow);
}

#[tokio::test]
async fn a_failure_is_its_own() {
    let s = world().await;
    s.worker.script(Script::answer("one two").delay(Duration::from_millis(300)).fails_after(1, FailCode::Engine));
    s.worker.otherwise(Script::answer("three"));
    let all = join_all((0..3).map(|_| s.told(asks("x", CacheUse::Use)))).await;
    let failed = all.iter().filter(|told| told.ended.outcome == Outcome::Failed).count();
    assert_eq!((failed, all.iter().filter(|told| told.text == "three").count()), (1, 2));
    assert!(s.told(asks("x", CacheUse::Use)).await.is_hit());
}
