//! Starting with something wrong, and ending.

use std::io::Write;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use worker::{Error, ModelOptions, Options};
use worker_protocol::State;

use crate::harness::{Pool, QUICK, TOKEN, Worker, ask, model_file, options, quick};

async fn start_with(bytes: &[u8]) -> String {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let result = worker::run_with(Options::new(TOKEN, [ModelOptions::new(file.path(), "m")]), CancellationToken::new(), |_| Ok(())).await;
    match result {
        Err(error @ Error::Model { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_bad_file_ends_the_worker_with_the_reason() {
    assert!(start_with(b"").await.contains("cannot be read"));
    assert!(start_with(b"<html>404</html>").await.contains("not a GGUF file"));
    let model = std::fs::read(model_file("smollm2-135m-instruct-q4_1.gguf")).unwrap();
    // Cut in the header, in the vocabulary and in the weights.
    for length in [12, 500_000, model.len() / 2] {
        let text = start_with(&model[..length]).await;
        assert!(text.contains("incomplete"), "{length}: {text}");
    }
}

#[tokio::test]
async fn a_missing_file_is_named() {
    let result =
        worker::run_with(Options::new(TOKEN, [ModelOptions::new("/nowhere/model.gguf", "m")]), CancellationToken::new(), |_| Ok(())).await;
    assert!(result.unwrap_err().to_string().contains("/nowhere/model.gguf"));
}

#[tokio::test]
async fn shutdown_lets_running_answers_end() {
    // Holds the turn, so that two engines do not compete for the processors.
    let _turn = quick().await;
    let mut options = options("smollm2-135m-instruct-q4_1.gguf", QUICK);
    options.slots = 1;
    let worker = tokio::task::spawn_blocking(|| Worker::start(options)).await.unwrap();
    let pool = Pool::new(worker.addr.clone(), QUICK);
    if pool.status().await.state == State::Loading {
        let early = pool.run(ask("hello", 2)).await;
        assert!(early.last.is_some(), "refused or, if loading ended just now, answered");
    }
    pool.until(|status| status.state == State::Ready).await;
    let mut reply = pool.open(ask("Write an essay about the sea.", 80)).await;
    reply.first_text().await;
    let began = Instant::now();
    worker.shutdown.cancel();
    assert!(reply.rest().await.done().1.completion_tokens > 5);
    tokio::task::spawn_blocking(move || worker.wait_for_end()).await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(28), "ended by itself, not by the limit: {:?}", began.elapsed());
}
