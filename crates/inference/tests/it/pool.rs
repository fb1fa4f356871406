//! Which worker gets a completion, and what happens while there is none.

use crate::setup::{asker, eventually, first_text, read, request, setup};
use contract::account::Role;
use domain::{Error, SystemClock};
use inference::{Catalogue, ChatMessage, ChatRole, Inference, Outcome, Output, Pool, Request};
use std::{sync::Arc, time::Duration};
use testkit::{
    TestDb,
    fake_worker::{FakeWorker, Script, fake_model, quick_pool},
};
use worker_protocol::State;

fn over(db: &TestDb, pool: Pool) -> Inference {
    let catalogue = Catalogue::new(vec![fake_model()]).expect("valid");
    Inference::new(db.db.clone(), catalogue, pool, Arc::new(SystemClock))
}

#[tokio::test]
async fn places_in_the_queue_reach_the_consumer() {
    let s = setup().await;
    s.worker.script(Script::answer("at last").queued(&[2, 1, 0]));
    let mut generation = s.ask().await;
    let mut places = Vec::new();
    while let Some(Output::Queued { place, .. }) = generation.next().await {
        places.push(place);
    }
    assert_eq!(places, [2, 1, 0]);
    assert_eq!(read(&mut generation).await.0, "at last");
}

#[tokio::test]
async fn the_least_loaded_worker_is_taken() {
    let db = TestDb::new().await;
    let actor = asker(&db).await;
    let workers = [FakeWorker::start().await, FakeWorker::start().await];
    let pool = quick_pool();
    for (worker, name) in workers.iter().zip(["one", "two"]) {
        worker.otherwise(Script::answer("busy busy").hangs_after(1));
        pool.add(name, worker.backend());
    }
    let inference = over(&db, pool.clone());
    eventually("both are ready", || async { pool.describe().matches("ready with").count() == 2 }).await;
    let mut running = Vec::new();
    for n in 0..6 {
        // Different questions, so that nobody knows their beginning.
        let messages = vec![ChatMessage::new(ChatRole::User, format!("Question {n}"))];
        let mut generation = inference.admit(&actor, Request { messages, ..request() }).await.expect("admitted");
        first_text(&mut generation).await;
        running.push(generation);
    }
    assert_eq!((workers[0].running(), workers[1].running()), (3, 3));
}

#[tokio::test]
async fn a_conversation_goes_where_its_beginning_was_computed() {
    let db = TestDb::new().await;
    let (actor, stranger) = (asker(&db).await, testkit::user(&db, &testkit::tenant(&db, "b").await, &[Role::User]).await);
    let workers = [FakeWorker::start().await, FakeWorker::start().await];
    let pool = quick_pool();
    pool.add("one", workers[0].backend());
    let inference = over(&db, pool.clone());
    // Only one is there at first, so that it is known who has the beginning.
    read(&mut inference.admit(&actor, request()).await.expect("admitted")).await;
    pool.add("two", workers[1].backend());
    eventually("both are ready", || async { pool.describe().matches("ready with").count() == 2 }).await;
    // Somebody keeps the first one a little busier than the second.
    workers[0].script(Script::answer("busy busy").hangs_after(1));
    let mut busy = inference.admit(&actor, request()).await.expect("admitted");
    first_text(&mut busy).await;
    let more = |text: &str| {
        let mut request = request();
        request.messages.push(ChatMessage::new(ChatRole::Assistant, "A trading house."));
        request.messages.push(ChatMessage::new(ChatRole::User, text));
        request
    };
    for text in ["Since when?", "Where?"] {
        read(&mut inference.admit(&actor, more(text)).await.expect("admitted")).await;
    }
    assert_eq!((workers[0].requests().len(), workers[1].requests().len()), (4, 0));
    // For another tenant the same words are new ones.
    read(&mut inference.admit(&stranger, more("Where?")).await.expect("admitted")).await;
    assert_eq!((workers[0].requests().len(), workers[1].requests().len()), (4, 1));
}

#[tokio::test]
async fn a_full_worker_passes_the_completion_to_the_next() {
    let db = TestDb::new().await;
    let actor = asker(&db).await;
    let full = FakeWorker::start().await;
    full.otherwise(Script::overloaded());
    let free = FakeWorker::start().await;
    let pool = quick_pool();
    pool.add("full", full.backend());
    let inference = over(&db, pool.clone());

    let (_, ended) = read(&mut inference.admit(&actor, request()).await.expect("admitted")).await;
    assert!(matches!(ended.error, Some(Error::Unavailable { what: "model", retry_after: Some(_) })), "{ended:?}");

    pool.add("free", free.backend());
    eventually("the free one answers", || async {
        read(&mut inference.admit(&actor, request()).await.expect("admitted")).await.1.outcome == Outcome::Ok
    })
    .await;
    assert!(!full.requests().is_empty() && free.requests().len() == 1);
}

#[tokio::test]
async fn a_completion_waits_for_a_worker_that_loads() {
    let s = setup().await;
    s.worker.set_state(State::Loading);
    eventually("it is seen loading", || async { s.inference.ready().is_err_and(|reason| reason.contains("loading")) }).await;
    assert!(!s.inference.models(&s.actor)[0].ready);
    let mut generation = s.ask().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(s.worker.requests().is_empty());
    s.worker.set_state(State::Ready);
    assert_eq!(read(&mut generation).await.1.outcome, Outcome::Ok);
    assert!(s.inference.models(&s.actor)[0].ready);
    assert_eq!(s.inference.ready(), Ok(()));
}

#[tokio::test]
async fn without_any_worker_it_fails_at_once_and_is_settled() {
    let db = TestDb::new().await;
    let actor = asker(&db).await;
    let inference = over(&db, quick_pool());
    assert_eq!(inference.ready(), Err("no worker is ready (there is no worker)".into()));
    let (_, ended) = read(&mut inference.admit(&actor, request()).await.expect("admitted")).await;
    assert_eq!(ended.outcome, Outcome::Failed);
    assert!(matches!(ended.error, Some(Error::Unavailable { what: "model", retry_after: Some(_) })), "{ended:?}");
    let rows = testkit::ledger::ledger(&db).await;
    assert_eq!((rows.len(), rows[0].outcome.as_deref()), (1, Some("failed")));
}

#[tokio::test]
async fn a_slow_reader_loses_nothing() {
    let s = setup().await;
    let long = "word ".repeat(1000);
    s.worker.script(Script::answer(&long));
    let mut generation = s.ask().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (text, ended) = read(&mut generation).await;
    assert_eq!(text, long);
    assert_eq!(ended.stats.completion_tokens, 1000);
}
