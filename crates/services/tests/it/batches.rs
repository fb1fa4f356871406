//! Batches: checked, worked off line by line, ended.

use crate::{
    files::{bring, read},
    world::{World, until},
};
use contract::ids::{ApiKeyId, BatchId, RequestId};
use domain::{Actor, Error};
use futures::future::{BoxFuture, join_all};
use serde_json::{Value, json};
use services::{
    FileLimits, Services,
    batches::{Batch, BatchStatus, CreateBatch, Endpoint, LineAnswer, Lines},
    files::{FilePurpose, Slice},
};
use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};
use testkit::{fake_worker::FAKE_MODEL, ledger::execute_as_owner};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Does what a line says.
#[derive(Default)]
pub struct Stub {
    /// Hang where a line says so.
    hangs: bool,
    asked: Mutex<Vec<(ApiKeyId, String)>>,
}

impl Stub {
    pub fn new(hangs: bool) -> Arc<Self> {
        Arc::new(Self { hangs, asked: Mutex::default() })
    }

    pub fn asked(&self) -> Vec<String> {
        let mut asked: Vec<String> = self.asked.lock().expect("no panic").iter().map(|(_, said)| said.clone()).collect();
        asked.sort();
        asked
    }

    /// How often it was asked this before.
    fn note(&self, actor: &Actor, said: &str) -> usize {
        let mut asked = self.asked.lock().expect("no panic");
        let before = asked.iter().filter(|(_, other)| other == said).count();
        asked.push((actor.as_program().expect("a program").key, said.to_owned()));
        before
    }
}

impl Lines for Stub {
    fn answer<'a>(&'a self, actor: Actor, endpoint: Endpoint, body: &'a str) -> BoxFuture<'a, LineAnswer> {
        Box::pin(async move {
            assert_eq!(endpoint, Endpoint::ChatCompletions);
            let body: Value = serde_json::from_str(body).expect("JSON");
            let said = body["say"].as_str().expect("a word").to_owned();
            let before = self.note(&actor, &said);
            let (status, retry_after) = match said.as_str() {
                "hang" if self.hangs => std::future::pending().await,
                "limited" if before < 2 => (429, Some(Duration::from_millis(10))),
                "busy" if before == 0 => (503, None),
                "poor" => (429, None),
                later if later.starts_with("later") && before == 0 => (429, Some(Duration::from_secs(600))),
                "kills" => (503, None),
                away if away.starts_with("away") => (503, None),
                "wrong" => (400, None),
                _ => (200, None),
            };
            LineAnswer { status, body: json!({ "said": said }).to_string(), retry_after, broke: said == "kills" }
        })
    }
}

/// A world with a program whose key works.
pub struct House {
    pub world: World,
    program: Actor,
    key: ApiKeyId,
}

impl House {
    pub async fn build() -> Self {
        let world = World::new().await;
        let (_, made) = testkit::keys::make(&world.identity, world.tenant.id).await;
        let request = RequestId(Uuid::now_v7());
        let program = world.identity.authenticate_key(made.key.reveal(), None, request).await.expect("a program");
        Self { world, program, key: made.id }
    }

    /// A batch of these lines.
    async fn batch_of(&self, lines: &str) -> BatchId {
        let file = bring(&self.world.services, &self.program, lines.as_bytes(), FilePurpose::Batch).await.expect("a file");
        let metadata = BTreeMap::from([("for".to_owned(), "tests\0".to_owned())]);
        let create = CreateBatch { input: file.id, endpoint: Endpoint::ChatCompletions, metadata };
        let batch = self.world.services.batches.create(&self.program, create).await.expect("a batch");
        assert_eq!((batch.status, batch.total, batch.metadata["for"].as_str()), (BatchStatus::Validating, 0, "tests"));
        batch.id
    }

    /// A batch that says these words.
    pub async fn batch(&self, words: &[&str]) -> BatchId {
        let lines: Vec<String> = words.iter().enumerate().map(|(at, say)| line(&format!("line-{at}"), say)).collect();
        self.batch_of(&lines.join("\n")).await
    }

    pub async fn get(&self, id: BatchId) -> Batch {
        self.world.services.batches.get(&self.program, id).await.expect("the batch")
    }

    pub async fn over(&self, id: BatchId) -> Batch {
        until("the batch is over", || async { self.get(id).await.status.is_over() }).await;
        self.get(id).await
    }

    /// The same, where its pauses are not for a test to wait for.
    pub async fn over_soon(&self, id: BatchId) -> Batch {
        until("the batch is over", || async {
            let due = "UPDATE batch_line SET waits_until = now(); UPDATE batch SET waits_until = now() WHERE waits_until IS NOT NULL";
            execute_as_owner(&self.world.db, due).await;
            self.get(id).await.status.is_over()
        })
        .await;
        self.get(id).await
    }

    /// The lines of a file, and which request each belongs to.
    pub async fn lines(&self, file: Option<contract::ids::FileId>) -> Vec<(String, Value)> {
        let Some(id) = file else { return Vec::new() };
        let text = String::from_utf8(read(&self.world.services, &self.program, id).await).expect("text");
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        lines.map(|line| (line["custom_id"].as_str().expect("an id").to_owned(), line)).collect()
    }
}

fn line(custom_id: &str, say: &str) -> String {
    let body = json!({ "model": FAKE_MODEL, "say": say });
    json!({ "custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body }).to_string()
}

pub fn ids(lines: &[(String, Value)]) -> Vec<&str> {
    lines.iter().map(|(id, _)| id.as_str()).collect()
}

/// Something, while batches are worked off.
pub async fn beside<T>(services: &Services, lines: Arc<impl Lines>, what: impl Future<Output = T>) -> T {
    let stop = CancellationToken::new();
    let work = services.batches.work(lines, 2, stop.clone());
    let what = async {
        let result = what.await;
        stop.cancel();
        result
    };
    tokio::join!(work, what).1
}

#[tokio::test]
async fn each_line_comes_to_its_end_once() {
    let house = House::build().await;
    let (stub, services) = (Stub::new(false), house.world.services.clone());
    let id = house.batch(&["fine", "wrong", "limited", "poor", "busy"]).await;
    let batch = beside(&services, stub.clone(), house.over(id)).await;
    assert_eq!((batch.status, batch.total, batch.completed, batch.failed), (BatchStatus::Completed, 5, 3, 2), "{:?}", batch.errors);
    assert!(batch.in_progress_at.is_some() && batch.finalizing_at.is_some() && batch.ended_at.is_some());
    let (poor, asked): (Vec<_>, Vec<_>) = stub.asked().into_iter().partition(|said| said == "poor");
    assert_eq!(asked, ["busy", "busy", "fine", "limited", "limited", "limited", "wrong"], "limits and absences pass");
    assert!(poor.len() > 1, "If you are here because this failed: what another line has reserved fails this one for good.");
    assert!(stub.asked.lock().expect("no panic").iter().all(|(key, _)| *key == house.key), "in the name of its key");
    let (answers, failures) = (house.lines(batch.output).await, house.lines(batch.error).await);
    assert_eq!((ids(&answers), ids(&failures)), (vec!["line-0", "line-2", "line-4"], vec!["line-1", "line-3"]));
    let (answer, failure) = (&answers[0].1, &failures[0].1);
    assert_eq!((&answer["response"]["status_code"], &answer["response"]["body"]), (&json!(200), &json!({ "said": "fine" })));
    assert!(answer["error"].is_null() && answer["response"]["request_id"].is_string());
    assert_eq!((&failure["response"]["status_code"], &failure["error"]), (&json!(400), &Value::Null));
    assert_eq!(house.world.db.count_as_owner("SELECT count(*) AS value FROM batch_line").await, 0);
    let written = "SELECT count(*) AS value FROM batch JOIN file ON file.batch_id = batch.id";
    assert_eq!(house.world.db.count_as_owner(written).await, 2, "what it wrote is taken from what was set aside");
}

#[tokio::test]
async fn a_batch_with_a_wrong_line_runs_none() {
    let house = House::build().await;
    let (stub, services) = (Stub::new(false), house.world.services.clone());
    let other = line("b", "x").replace("/v1/chat/completions", "/v1/embeddings");
    let foreign = line("c", "x").replace(FAKE_MODEL, "foreign");
    let text = format!("{}\n\n{{\n{}\n{other}\n{foreign}\n", line("a", "fine"), line("a", "again"));
    let (wrong, empty) = (house.batch_of(&text).await, house.batch_of("\n \n").await);
    let (wrong, empty) = beside(&services, stub.clone(), async { (house.over(wrong).await, house.over(empty).await) }).await;
    assert_eq!((wrong.status, wrong.total, wrong.output, wrong.error), (BatchStatus::Failed, 0, None, None));
    let errors: Vec<_> = wrong.errors.iter().map(|error| (error.line, error.code.as_str(), error.param.as_deref())).collect();
    let expected = [
        (Some(3), "invalid_json_line", None),
        (Some(4), "duplicate_custom_id", Some("custom_id")),
        (Some(5), "invalid_url", Some("url")),
        (Some(6), "model_not_found", Some("body.model")),
    ];
    assert_eq!(errors, expected);
    assert_eq!((empty.status, empty.errors[0].code.as_str()), (BatchStatus::Failed, "empty_file"));
    assert!(stub.asked().is_empty());
}

#[tokio::test]
async fn what_died_over_an_invalid_input_is_checked_again() {
    let house = House::build().await;
    let (stub, services) = (Stub::new(false), house.world.services.clone());
    let id = house.batch_of(&format!("{}\n{{\n", line("a", "fine"))).await;
    // As if a node had died between the end of the check and the end of the batch, its first line stored.
    let stored = format!(
        "INSERT INTO batch_line (tenant_id, batch_id, number, custom_id, body)
         SELECT tenant_id, id, 1, 'a', '{{\"model\": \"{FAKE_MODEL}\", \"say\": \"fine\"}}' FROM batch"
    );
    execute_as_owner(&house.world.db, &stored).await;
    execute_as_owner(&house.world.db, "UPDATE batch SET status = 'finalizing', finalizing_at = now()").await;
    let batch = beside(&services, stub.clone(), house.over(id)).await;
    assert_eq!((batch.status, batch.errors[0].code.as_str()), (BatchStatus::Failed, "invalid_json_line"));
    assert!(stub.asked().is_empty(), "If you are here because this failed: lines of an invalid batch run, and are paid for.");
}

#[tokio::test]
async fn what_is_taken_after_its_window_runs_no_line() {
    let house = House::build().await;
    let (stub, services) = (Stub::new(false), house.world.services.clone());
    let id = house.batch(&["late"]).await;
    execute_as_owner(&house.world.db, "UPDATE batch SET expires_at = now() - interval '1 second'").await;
    let batch = beside(&services, stub.clone(), house.over(id)).await;
    assert_eq!((batch.status, stub.asked()), (BatchStatus::Expired, Vec::new()));
}

#[tokio::test]
async fn an_input_that_ends_before_its_end_was_removed() {
    let house = House::build().await;
    let (stub, services) = (Stub::new(false), house.world.services.clone());
    let text: Vec<String> = (0..3).map(|at| line(&format!("line-{at}"), &"x".repeat(600_000))).collect();
    let id = house.batch_of(&text.join("\n")).await;
    execute_as_owner(&house.world.db, "DELETE FROM file_chunk WHERE number > 0").await;
    let batch = beside(&services, stub.clone(), house.over(id)).await;
    assert_eq!((batch.status, batch.errors.len(), batch.errors[0].code.as_str()), (BatchStatus::Failed, 1, "file_not_found"));
    assert!(stub.asked().is_empty());
}

#[tokio::test]
async fn batches_that_wait_keep_nobody_waiting_and_go_on_when_their_time_has_come() {
    let house = House::build().await;
    let (stub, services) = (Stub::new(false), house.world.services.clone());
    let mut waiting = Vec::new();
    for say in ["later 1", "later 2", "later 3", "later 4"] {
        waiting.push(house.batch(&[say]).await);
    }
    beside(&services, stub.clone(), async {
        let fine = house.batch(&["fine"]).await;
        let fine = tokio::time::timeout(Duration::from_secs(20), house.over(fine)).await;
        let fine = fine.expect("If you are here because this failed: batches that wait for a limit keep the others from being worked off.");
        assert_eq!((fine.status, fine.completed), (BatchStatus::Completed, 1));
        let all_wait = "SELECT count(*) AS value FROM batch WHERE lease IS NULL AND waits_until > now() + interval '9 minutes'";
        until("all four wait", || async { house.world.db.count_as_owner(all_wait).await == 4 }).await;
        assert_eq!(stub.asked().iter().filter(|said| said.starts_with("later")).count(), 4, "nobody asks before the time has come");
        execute_as_owner(
            &house.world.db,
            "UPDATE batch_line SET waits_until = now(); UPDATE batch SET waits_until = now() WHERE ended_at IS NULL",
        )
        .await;
        for id in waiting {
            assert_eq!(house.over(id).await.completed, 1);
        }
    })
    .await;
}

#[tokio::test]
async fn a_batch_that_waits_hears_that_its_end_is_asked_for() {
    let house = House::build().await;
    let (stub, services) = (Stub::new(false), house.world.services.clone());
    let id = house.batch(&["later"]).await;
    let batch = beside(&services, stub, async {
        let waits = "SELECT count(*) AS value FROM batch WHERE waits_until IS NOT NULL";
        until("it waits", || async { house.world.db.count_as_owner(waits).await == 1 }).await;
        services.batches.cancel(&house.program, id).await.expect("cancelled");
        tokio::time::timeout(Duration::from_secs(8), house.over(id)).await.expect("it ends in seconds")
    })
    .await;
    assert_eq!((batch.status, batch.completed), (BatchStatus::Cancelled, 0));
}

#[tokio::test]
async fn a_model_that_is_away_keeps_no_line_of_another_model_waiting() {
    let house = House::build().await;
    let stub = Stub::new(false);
    let id = house.batch(&["away 1", "away 2", "away 3", "fine 1", "fine 2"]).await;
    beside(&house.world.services, stub.clone(), async {
        let answered = until("the others are answered", || async { house.get(id).await.completed == 2 });
        let answered = tokio::time::timeout(Duration::from_secs(8), answered).await;
        answered
            .expect("If you are here because this failed: lines that wait for a model keep the places of those that could be answered.");
        let waits = "SELECT count(*) AS value FROM batch WHERE lease IS NULL AND waits_until IS NOT NULL";
        until("it is given back", || async { house.world.db.count_as_owner(waits).await == 1 }).await;
    })
    .await;
}

#[tokio::test]
async fn several_accounts_do_not_take_the_same_room() {
    let house = House::build().await;
    let services = house.world.services.clone();
    let mut inputs = Vec::new();
    for _ in 0..4 {
        let program = testkit::program(&house.world.db, &house.world.tenant).await;
        let file = bring(&services, &program, line("a", "fine").as_bytes(), FilePurpose::Batch).await.expect("a file");
        inputs.push((program, file));
    }
    let bytes = inputs[0].1.bytes;
    let tight = services.with_file_limits(FileLimits { file: bytes, tenant: 5 * bytes });
    let made = inputs.iter().map(|(program, file)| {
        let create = CreateBatch { input: file.id, endpoint: Endpoint::ChatCompletions, metadata: BTreeMap::new() };
        tight.batches.create(program, create)
    });
    let made = join_all(made).await;
    let full = |made: &&domain::Result<Batch>| matches!(made, Err(Error::Invalid { code: "storage_full", .. }));
    assert_eq!(
        (made.iter().filter(|made| made.is_ok()).count(), made.iter().filter(full).count()),
        (1, 3),
        "If you are here because this failed: accounts of one organisation set the same room aside: {made:?}"
    );
}

#[tokio::test]
async fn open_batches_and_the_room_for_what_they_write_are_limited() {
    let house = House::build().await;
    let services = house.world.services.clone().with_open_batches(2);
    let file = bring(&services, &house.program, line("a", "fine").as_bytes(), FilePurpose::Batch).await.expect("a file");
    let create = || CreateBatch { input: file.id, endpoint: Endpoint::ChatCompletions, metadata: BTreeMap::new() };
    let first = services.batches.create(&house.program, create()).await.expect("a batch");
    services.batches.create(&house.program, create()).await.expect("a batch");
    let refused = services.batches.create(&house.program, create()).await;
    assert!(matches!(refused, Err(Error::Conflict { code: "too_many_batches", .. })), "{refused:?}");
    services.batches.cancel(&house.program, first.id).await.expect("cancelled");
    beside(&services, Stub::new(false), house.over(first.id)).await;
    services.batches.create(&house.program, create()).await.expect("one has ended");

    // A file, and as much again for each open batch.
    let tight = house.world.services.clone().with_file_limits(FileLimits { file: file.bytes, tenant: 3 * file.bytes });
    until("all have ended", || async {
        beside(&services, Stub::new(false), async { tokio::time::sleep(Duration::from_millis(1500)).await }).await;
        house.world.db.count_as_owner("SELECT count(*) AS value FROM batch WHERE ended_at IS NULL").await == 0
    })
    .await;
    execute_as_owner(&house.world.db, "DELETE FROM file WHERE purpose = 'batch_output'").await;
    for _ in 0..2 {
        tight.batches.create(&house.program, create()).await.expect("there is room");
    }
    let refused = tight.batches.create(&house.program, create()).await;
    assert!(matches!(refused, Err(Error::Invalid { field: Some("input_file_id"), code: "storage_full", .. })), "{refused:?}");
}

#[tokio::test]
async fn a_batch_that_is_cancelled_ends_in_seconds_and_keeps_its_answers() {
    let house = House::build().await;
    let (stub, services) = (Stub::new(true), house.world.services.clone());
    let id = house.batch(&["one", "hang", "hang", "never"]).await;
    let colleague = testkit::program(&house.world.db, &house.world.tenant).await;
    let batch = beside(&services, stub.clone(), async {
        until("two lines hang", || async { house.get(id).await.completed == 1 && stub.asked().len() == 3 }).await;
        assert!(matches!(services.batches.cancel(&colleague, id).await, Err(Error::NotFound { .. })));
        let cancelling = services.batches.cancel(&house.program, id).await.expect("cancelled");
        assert_eq!(cancelling.status, BatchStatus::Cancelling);
        tokio::time::timeout(Duration::from_secs(8), house.over(id)).await.expect("it ends in seconds")
    })
    .await;
    assert_eq!((batch.status, batch.total, batch.completed, batch.failed, batch.error), (BatchStatus::Cancelled, 4, 1, 0, None));
    assert_eq!(ids(&house.lines(batch.output).await), ["line-0"]);
    assert!(matches!(services.batches.cancel(&house.program, id).await, Err(Error::Conflict { .. })));
    for action in ["batch.created", "batch.cancelled"] {
        let told = format!("SELECT count(*) AS value FROM audit_event WHERE action = '{action}'");
        assert_eq!(house.world.db.count_as_owner(&told).await, 1, "{action}");
    }
}

#[tokio::test]
async fn what_was_not_answered_in_time_expires() {
    let house = House::build().await;
    let (stub, services) = (Stub::new(true), house.world.services.clone());
    let id = house.batch(&["one", "hang"]).await;
    execute_as_owner(&house.world.db, "UPDATE batch SET expires_at = now() + interval '5 seconds'").await;
    let batch = beside(&services, stub, house.over(id)).await;
    assert_eq!((batch.status, batch.completed, batch.failed), (BatchStatus::Expired, 1, 1));
    let failures = house.lines(batch.error).await;
    assert_eq!((failures[0].0.as_str(), &failures[0].1["error"]["code"]), ("line-1", &json!("batch_expired")));
    assert_eq!(ids(&house.lines(batch.output).await), ["line-0"]);
}

#[tokio::test]
async fn a_key_that_is_closed_ends_its_batches() {
    let house = House::build().await;
    let (stub, services) = (Stub::new(false), house.world.services.clone());
    let id = house.batch(&["one"]).await;
    house.world.identity.disable_key("test", house.key, true).await.expect("disabled");
    let batch = beside(&services, stub.clone(), house.over(id)).await;
    assert_eq!((batch.status, batch.errors[0].code.as_str()), (BatchStatus::Failed, "invalid_api_key"));
    assert!(stub.asked().is_empty(), "If you are here because this failed: a key that was closed goes on spending.");
}

#[tokio::test]
async fn a_batch_needs_a_file_of_its_own_account_and_purpose() {
    let house = House::build().await;
    let services = &house.world.services;
    let data = bring(services, &house.program, b"{}", FilePurpose::UserData).await.expect("a file");
    let create = |input| CreateBatch { input, endpoint: Endpoint::ChatCompletions, metadata: BTreeMap::new() };
    let refused = services.batches.create(&house.program, create(data.id)).await;
    assert!(matches!(refused, Err(Error::Invalid { field: Some("input_file_id"), .. })), "{refused:?}");
    let colleague = testkit::program(&house.world.db, &house.world.tenant).await;
    let refused = services.batches.create(&colleague, create(data.id)).await;
    assert!(matches!(refused, Err(Error::NotFound { what: "file" })), "{refused:?}");
    let long = BTreeMap::from([("k".to_owned(), "x".repeat(513))]);
    let refused = services.batches.create(&house.program, CreateBatch { metadata: long, ..create(data.id) }).await;
    assert!(matches!(refused, Err(Error::Invalid { field: Some("metadata"), .. })), "{refused:?}");
    let slice = Slice { after: None, limit: 10, ascending: false };
    assert!(services.batches.list(&house.program, slice).await.expect("a list").is_empty());
    let (first, second) = (house.batch(&["a"]).await, house.batch(&["b"]).await);
    let listed: Vec<BatchId> =
        services.batches.list(&house.program, slice).await.expect("a list").into_iter().map(|batch| batch.id).collect();
    assert_eq!(listed, [second, first]);
    assert!(matches!(services.batches.get(&colleague, first).await, Err(Error::NotFound { .. })));
    assert!(services.batches.list(&colleague, slice).await.expect("a list").is_empty());
}
