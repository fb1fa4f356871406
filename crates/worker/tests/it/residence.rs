//! Several models in one worker. What depends on measured memory is tested with a process of its own, see the
//! server's tests.

use std::io::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tempfile::NamedTempFile;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use worker::{Error, ModelOptions, Options};
use worker_protocol::{Counted, Embed, EmbedInput, FailCode, Generate, ModelKind, ModelState, Status};

use crate::bert::{Bert, Pooling};
use crate::harness::{Alone, Pool, TOKEN, Worker, ask, options, quick};

/// A worker with models of these names, all of the same file.
struct Shared {
    client: Pool,
    worker: Worker,
    _turn: Alone,
}

impl Shared {
    async fn start(models: impl IntoIterator<Item = ModelOptions>) -> Self {
        Self::within(None, models).await
    }

    async fn within(memory: Option<u64>, models: impl IntoIterator<Item = ModelOptions>) -> Self {
        Self::with(Options { memory, ..Options::new(TOKEN, models) }).await
    }

    async fn with(options: Options) -> Self {
        let turn = quick().await;
        let worker = tokio::task::spawn_blocking(|| Worker::start_with(options)).await.unwrap();
        let client = Pool::new(worker.addr.clone(), "a");
        Self { client, worker, _turn: turn }
    }

    async fn stop(self) {
        self.worker.shutdown.cancel();
        tokio::task::spawn_blocking(move || self.worker.wait_for_end()).await.unwrap().unwrap();
    }

    async fn until_ready(&self, models: &[&str]) {
        self.client.until(|status| models.iter().all(|id| state(status, id) == ModelState::Ready)).await;
    }
}

fn model(id: &str) -> ModelOptions {
    let mut model = options("smollm2-135m-instruct-q4_1.gguf", id);
    model.slots = 2;
    model.queue_limit = 32;
    model
}

fn state(status: &Status, id: &str) -> ModelState {
    status.models.iter().find(|model| model.id == id).unwrap().state
}

fn of(model: &str, request: Generate) -> Generate {
    Generate { model: model.into(), ..request }
}

#[tokio::test]
async fn a_bad_file_and_an_unknown_name_are_nobody_elses_business() {
    let mut broken = NamedTempFile::new().unwrap();
    broken.write_all(b"<html>404</html>").unwrap();
    let shared = Shared::start([model("a"), ModelOptions { path: broken.path().into(), ..model("broken") }]).await;
    shared.until_ready(&["a"]).await;
    let (code, message) = shared.client.run(of("broken", ask("hello", 4))).await.failed();
    assert!(code == FailCode::Overloaded && message.contains("not a GGUF file"), "{message}");
    let (code, message) = shared.client.run(of("nowhere", ask("hello", 4))).await.failed();
    assert!(code == FailCode::Invalid && message.contains("nowhere"), "{message}");
    assert_eq!(shared.client.run(of("a", ask("hello", 4))).await.done().1.completion_tokens, 4);
    shared.stop().await;
}

#[tokio::test]
async fn kinds_live_together() {
    let (bert, file) = (Bert::new(Pooling::Mean), NamedTempFile::new().unwrap());
    bert.write(file.path());
    let vectors = ModelOptions { path: file.path().into(), context_length: None, ..model("vectors") };
    let shared = Shared::start([model("a"), vectors]).await;
    let known = shared.client.status().await.models;
    assert_eq!((known[1].kind, known[1].dimensions > 0), (ModelKind::Embedding, true), "known from the header alone");
    shared.until_ready(&["a", "vectors"]).await;

    let embed = |text: &str| Embed {
        id: Uuid::now_v7(),
        model: "vectors".into(),
        tenant: "t".into(),
        inputs: vec![EmbedInput::Text(text.into())],
        ..Embed::default()
    };
    let mut endless = of("a", ask("Tell me about the sea.", 60));
    endless.ignore_end = true;
    let answer = shared.client.run(endless);
    let embedded = join_all((0..20).map(|_| shared.client.embed(embed("the kontor trades in salt"))));
    let (answer, embedded) = tokio::join!(answer, embedded);
    assert_eq!(answer.done().1.completion_tokens, 60);
    let expected = bert.embed("the kontor trades in salt");
    for vectors in embedded.iter().map(|ended| &ended.vectors) {
        let similarity: f32 = vectors[0].iter().zip(&expected).map(|(a, b)| a * b).sum();
        assert!(similarity > 0.9999, "{vectors:?}");
    }
    let (code, message) = shared.client.run(of("vectors", ask("hello", 4))).await.failed();
    assert!(code == FailCode::Invalid && message.contains("no completions"), "{message}");
    shared.stop().await;
}

#[tokio::test]
async fn who_waits_for_a_model_is_told_when_the_worker_ends() {
    // Room for one, and nobody makes room for a minute.
    let shared = Shared::within(Some(500 << 20), ["a", "b"].map(model)).await;
    shared.until_ready(&["a"]).await;
    let waiting = shared.client.open(of("b", ask("hello", 4))).await;
    shared.client.until(|status| status.queued == 1).await;
    let began = Instant::now();
    shared.worker.shutdown.cancel();
    let (code, message) = waiting.rest().await.failed();
    assert!(code == FailCode::Overloaded && message.contains("shutting down"), "{message}");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "If you are here because this failed: who waits for a model holds the worker's end up, and does not ask another one."
    );
    shared.stop().await;
}

#[tokio::test]
async fn who_asks_for_many_models_does_not_keep_out_who_asks_for_one() {
    // Room for one.
    let models = ["a", "b", "c", "d"].map(model);
    let options = Options { memory: Some(600 << 20), residence: Duration::from_secs(2), ..Options::new(TOKEN, models) };
    let shared = Shared::with(options).await;
    shared.until_ready(&["a"]).await;
    let asked = |id: &str, tenant: &str, tokens: u32| Generate { tenant: tenant.into(), ..of(id, ask("Tell me about the sea.", tokens)) };
    let mut long = asked("a", "many", 900);
    long.ignore_end = true;
    let long = shared.client.open(long).await;
    shared.client.until(|status| status.busy == 1).await;

    let mut waiting = Vec::new();
    for (queued, (id, tenant)) in (1..).zip([("b", "many"), ("c", "many"), ("d", "few")]) {
        waiting.push((id, shared.client.open(asked(id, tenant, 4)).await));
        shared.client.until(|status| status.queued == queued).await;
    }
    assert_eq!(state(&shared.client.status().await, "d"), ModelState::Absent);
    // Everybody waits until this one ends.
    drop(long);
    let order = Mutex::new(Vec::new());
    let order_of = &order;
    join_all(waiting.into_iter().map(|(id, reply)| async move {
        assert_eq!(reply.rest().await.done().1.completion_tokens, 4, "{id}");
        order_of.lock().unwrap().push(id);
    }))
    .await;
    assert_eq!(
        *order.lock().unwrap(),
        ["b", "d", "c"],
        "If you are here because this failed: a model was loaded for the tenant that had one already, before the other had its first."
    );
    shared.stop().await;
}

#[tokio::test]
async fn a_flood_that_waits_for_a_model_keeps_nobody_else_out() {
    // Room for one, and nobody makes room for a minute.
    let shared = Shared::within(Some(500 << 20), [model("a"), ModelOptions { queue_limit: 3, ..model("b") }]).await;
    shared.until_ready(&["a"]).await;
    let of_tenant = |tenant: &str| Generate { tenant: tenant.into(), ..of("b", ask("hello", 4)) };
    let mut flood = Vec::new();
    for waiting in 1..=3 {
        flood.push(shared.client.open(of_tenant("flood")).await);
        shared.client.until(|status| status.queued == waiting).await;
    }
    let (code, message) = shared.client.run(of_tenant("flood")).await.failed();
    assert!(code == FailCode::Overloaded && message.contains("3 requests"), "{message}");
    let _quiet = shared.client.open(of_tenant("quiet")).await;
    let (code, message) = flood.pop().unwrap().rest().await.failed();
    assert!(code == FailCode::Overloaded && message.contains("latest request"), "{message}");
    assert_eq!(shared.client.status().await.queued, 3);
    drop(flood);
    shared.stop().await;
}

#[tokio::test]
async fn prompts_that_wait_for_a_model_to_be_counted_keep_no_other_count_out() {
    // Room for one, and nobody makes room for a minute.
    let shared = Shared::within(Some(500 << 20), ["a", "b"].map(model)).await;
    shared.until_ready(&["a"]).await;
    // As many as are counted at the same time.
    let waiting: Vec<_> = (0..64)
        .map(|_| {
            let client = shared.client.clone();
            tokio::spawn(async move { client.count(of("b", ask("How long is this?", 1))).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(waiting.iter().all(|counting| !counting.is_finished()), "they wait for their model");
    let counted = shared.client.count(Generate { tenant: "quiet".into(), ..of("a", ask("How long is this?", 1)) }).await;
    assert!(
        matches!(counted, Counted::Tokens(1..)),
        "If you are here because this failed: who asks for a model that is not there keeps everybody from counting. {counted:?}"
    );
    shared.worker.shutdown.cancel();
    for counting in waiting {
        let counted = counting.await.unwrap();
        assert!(matches!(counted, Counted::Refused { code: FailCode::Overloaded, .. }), "it is told when the worker ends: {counted:?}");
    }
    shared.stop().await;
}

#[tokio::test]
async fn who_goes_away_while_its_prompt_waits_to_be_counted_leaves_its_place() {
    // Room for one, and nobody makes room.
    let residence = Duration::from_secs(3600);
    let shared = Shared::with(Options { memory: Some(500 << 20), residence, ..Options::new(TOKEN, ["a", "b"].map(model)) }).await;
    shared.until_ready(&["a"]).await;
    // A connection does not carry so many requests at the same time.
    let clients = [(); 2].map(|()| Pool::new(shared.worker.addr.clone(), "a"));
    let counting: Vec<_> = (0..300_usize)
        .map(|n| {
            let client = clients[n % 2].clone();
            tokio::spawn(async move { client.count(of("b", ask("How long is this?", 1))).await })
        })
        .collect();
    shared.client.until(|_| counting.iter().filter(|counting| counting.is_finished()).count() == 300 - 256).await;
    let (refused, mut waiting): (Vec<_>, Vec<_>) = counting.into_iter().partition(|counting| counting.is_finished());
    for counting in refused {
        match counting.await.unwrap() {
            Counted::Refused { code: FailCode::Overloaded, message } => assert!(message.contains("256 prompts"), "{message}"),
            other => panic!("{other:?}"),
        }
    }
    let count = || shared.client.count(of("a", ask("How long is this?", 1)));
    let counted = count().await;
    assert!(matches!(counted, Counted::Refused { code: FailCode::Overloaded, .. }), "{counted:?}");
    waiting.pop().unwrap().abort();
    // The worker hears of it a moment later.
    let served = async {
        while !matches!(count().await, Counted::Tokens(1..)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let served = tokio::time::timeout(Duration::from_secs(60), served).await;
    assert!(
        served.is_ok(),
        "If you are here because this failed: clients that go away keep their places, and in the end nobody can count."
    );
    waiting.iter().for_each(|counting| counting.abort());
    shared.stop().await;
}

#[tokio::test]
async fn a_worker_whose_only_model_does_not_fit_ends_with_the_reason() {
    let _turn = quick().await;
    let options = Options { memory: Some(50 << 20), ..Options::new(TOKEN, [model("a")]) };
    match worker::run_with(options, CancellationToken::new(), |_| Ok(())).await {
        Err(error @ Error::Model { .. }) => assert!(error.to_string().contains("MiB of memory"), "{error}"),
        other => panic!("{other:?}"),
    }
}
