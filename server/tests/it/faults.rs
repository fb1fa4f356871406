//! Real workers that die, hang or run out of room: clear ends, unharmed neighbours, and a ledger that says what the
//! workers' own counters say.

#![expect(clippy::disallowed_methods, reason = "tests find the model by the environment, and wait for their tasks themselves")]

use contract::{account::Role, model::Sampling, usage::Purpose};
use domain::{Actor, Error, SystemClock};
use inference::{
    Catalogue, ChatMessage, ChatRole, Ended, Generation, Inference, ModelConfig, Options, Outcome, Output, Pool, PoolTiming, Request,
    WorkerProcess, pool::Totals,
};
use std::{future::Future, path::PathBuf, process::Command, sync::Arc, time::Duration};
use testkit::{
    TestDb,
    fake_worker::fake_model,
    ledger::{LedgerRow, ledger},
};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, sleep},
};

const MODEL: &str = "smollm2-135m-instruct";
/// Two engines at a time would only slow each other down.
static TURN: Mutex<()> = Mutex::const_new(());

struct World {
    db: TestDb,
    actor: Actor,
    pool: Pool,
    inference: Inference,
    _turn: MutexGuard<'static, ()>,
}

/// `workers` real worker processes with these arguments.
async fn world(workers: usize, arguments: &[&str]) -> World {
    let turn = TURN.lock().await;
    let db = TestDb::new().await;
    let tenant = testkit::tenant(&db, "a").await;
    let actor = testkit::user(&db, &tenant, &[Role::User]).await;
    let pool = Pool::new(PoolTiming { wait: Duration::from_secs(60), ..PoolTiming::default() });
    for n in 1..=workers {
        let mut args = vec!["worker", "--model-id", MODEL, "--model"];
        let file = model_file().display().to_string();
        args.extend([file.as_str(), "--threads", "2", "--log", "info"]);
        args.extend(arguments);
        pool.supervise(WorkerProcess {
            name: format!("worker-{n}"),
            model: MODEL.into(),
            program: env!("CARGO_BIN_EXE_kontor").into(),
            args: args.into_iter().map(Into::into).collect(),
            env: vec![("GOMP_SPINCOUNT".into(), "1000".into())],
        });
    }
    let model = ModelConfig { id: MODEL.into(), context_length: 1024, ..fake_model() };
    let catalogue = Catalogue::new(vec![model]).expect("valid");
    let inference = Inference::new(db.db.clone(), catalogue, pool.clone(), Arc::new(SystemClock));
    eventually("all workers are ready", 60, || async { pool.describe().matches("ready with").count() == workers }).await;
    World { db, actor, pool, inference, _turn: turn }
}

fn model_file() -> PathBuf {
    let cache = std::env::var_os("KONTOR_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache/kontor"))).expect("a cache");
    cache.join("models/smollm2-135m-instruct-q4_1.gguf")
}

fn request(text: String, max_tokens: u32) -> Request {
    Request {
        purpose: Purpose::Chat,
        model: None,
        messages: vec![ChatMessage::new(ChatRole::User, text)],
        continue_last: false,
        sampling: Sampling { max_tokens: Some(max_tokens), temperature: Some(0.0), ..Sampling::default() },
        transient: false,
        options: Options::default(),
    }
}

fn words(n: usize) -> String {
    "the quick brown fox ".repeat(n / 4)
}

impl World {
    async fn ask(&self, text: &str, max_tokens: u32) -> Generation {
        self.inference.admit(&self.actor, request(text.into(), max_tokens)).await.expect("admitted")
    }

    /// Process ids of the workers, by name.
    fn pids(&self) -> Vec<u32> {
        let me = std::process::id().to_string();
        let children = Command::new("pgrep").args(["-P", &me, "-f", "worker --model-id"]).output().expect("pgrep runs");
        String::from_utf8_lossy(&children.stdout).split_whitespace().map(|pid| pid.parse().expect("a pid")).collect()
    }

    async fn totals(&self) -> Totals {
        let loads = self.pool.load().await;
        loads.iter().fold(Totals::default(), |sum, load| Totals {
            requests: sum.requests + load.totals.requests,
            prompt_tokens: sum.prompt_tokens + load.totals.prompt_tokens,
            cached_tokens: sum.cached_tokens + load.totals.cached_tokens,
            completion_tokens: sum.completion_tokens + load.totals.completion_tokens,
            pauses: sum.pauses + load.totals.pauses,
            ..Totals::default()
        })
    }

    /// The ledger, once nothing is open any more.
    async fn settled(&self) -> Vec<LedgerRow> {
        eventually("everything is settled", 20, || async { ledger(&self.db).await.iter().all(|row| row.state == "settled") }).await;
        ledger(&self.db).await
    }
}

fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().expect("kill runs");
    assert!(status.success(), "{name} to {pid}");
}

/// Prompt, cached and completion tokens of the rows together.
fn sum<'a>(rows: impl IntoIterator<Item = &'a LedgerRow>) -> (u64, u64, u64) {
    let number = |n: i32| u64::try_from(n).expect("not negative");
    rows.into_iter().fold((0, 0, 0), |(prompt, cached, completion), row| {
        (prompt + number(row.prompt_tokens), cached + number(row.cached_tokens), completion + number(row.completion_tokens))
    })
}

async fn read(mut generation: Generation) -> (String, Ended) {
    testkit::generation::read(&mut generation).await
}

async fn eventually<F: Future<Output = bool>>(what: &str, seconds: u64, mut check: impl FnMut() -> F) {
    let begin = Instant::now();
    while !check().await {
        assert!(begin.elapsed() < Duration::from_secs(seconds), "did not happen within {seconds} s: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_worker_killed_under_32_streams_loses_only_what_had_begun() {
    let world = world(1, &["--context-length", "1024", "--slots", "16"]).await;
    let mut streams = Vec::new();
    for n in 0..32 {
        let generation = world.ask(&format!("Write a long story about the number {n}."), 60).await;
        streams.push(tokio::spawn(read(generation)));
    }
    let half_way = || async { world.totals().await.completion_tokens > 200 };
    eventually("sixteen answers are being written", 60, half_way).await;
    let [pid] = world.pids()[..] else { panic!("one worker: {:?}", world.pids()) };
    signal(pid, "KILL");
    let (mut interrupted, mut finished) = (0, 0);
    for stream in streams {
        let (text, ended) = tokio::time::timeout(Duration::from_secs(120), stream).await.expect("an end").expect("no panic");
        match ended.outcome {
            Outcome::Ok => finished += 1,
            Outcome::Failed => {
                interrupted += 1;
                assert!(!text.is_empty() && ended.stats.completion_tokens > 0, "one without any text is tried again: {ended:?}");
                assert!(matches!(ended.error, Some(Error::Unavailable { what: "model", retry_after: Some(_) })), "{ended:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(interrupted > 0 && finished >= 8, "{interrupted} interrupted, {finished} finished");
    let rows = world.settled().await;
    assert_eq!(rows.len(), 32, "one use, one event");
    let finished: Vec<&LedgerRow> = rows.iter().filter(|row| row.outcome.as_deref() == Some("ok")).collect();
    // The new worker has counted those that it finished, and nothing else.
    let totals = world.totals().await;
    assert_eq!(sum(finished), (totals.prompt_tokens, totals.cached_tokens, totals.completion_tokens));
    world.pool.shutdown().await;
}

#[tokio::test]
async fn a_full_cache_delays_and_the_ledger_says_what_the_worker_counted() {
    // One conversation of full length fits, four want to run.
    let world = world(1, &["--context-length", "1024", "--slots", "4", "--cells", "1024"]).await;
    let mut streams = Vec::new();
    for n in 0..4 {
        streams.push(tokio::spawn(read(world.ask(&format!("Number {n}. {}Tell a story.", words(280)), 150).await)));
    }
    let mut gone = world.ask(&format!("{}Nobody waits for this.", words(600)), 20).await;
    loop {
        match gone.next().await.expect("more") {
            Output::Started { .. } => break,
            Output::End(ended) => panic!("{ended:?}"),
            _ => {}
        }
    }
    drop(gone);
    let too_long = read(world.ask(&words(3000), 5).await).await.1;
    assert!(matches!(too_long.error, Some(Error::Invalid { code: "context_length_exceeded", .. })), "{too_long:?}");
    for stream in streams {
        let (text, ended) = stream.await.expect("no panic");
        assert!(ended.outcome == Outcome::Ok && !text.is_empty(), "{ended:?}");
    }
    let rows = world.settled().await;
    let totals = world.totals().await;
    assert!(totals.pauses > 0, "the cache was never full: {totals:?}");
    assert_eq!(sum(&rows), (totals.prompt_tokens, totals.cached_tokens, totals.completion_tokens), "{rows:?}");
    world.pool.shutdown().await;
}

#[tokio::test]
async fn a_worker_that_hangs_for_90_seconds_is_worked_around() {
    let world = world(2, &["--context-length", "1024", "--slots", "4"]).await;
    let mut streams = Vec::new();
    for n in 0..8 {
        streams.push(tokio::spawn(read(world.ask(&format!("Write a very long story about the number {n}."), 200).await)));
    }
    eventually("both are at work", 30, || async { world.pool.load().await.iter().all(|load| load.totals.completion_tokens > 20) }).await;
    let hung = world.pids()[0];
    signal(hung, "STOP");
    let began = Instant::now();
    let (mut failed, mut fine) = (0, 0);
    for stream in streams {
        let (_, ended) = tokio::time::timeout(Duration::from_secs(60), stream).await.expect("an end").expect("no panic");
        match ended.outcome {
            Outcome::Ok => fine += 1,
            Outcome::Failed => failed += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((failed, fine), (4, 4), "those of the other worker are unaffected");
    // For the rest of the 90 seconds everybody gets an answer from the other one.
    let mut answered = 0;
    while began.elapsed() < Duration::from_secs(90) {
        let asked = Instant::now();
        let (_, ended) = read(world.ask("Say hello.", 5).await).await;
        assert_eq!(ended.outcome, Outcome::Ok, "{ended:?}");
        assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
        answered += 1;
        sleep(Duration::from_secs(5)).await;
    }
    assert!(answered >= 8, "{answered}");
    signal(hung, "CONT");
    eventually("it is used again", 30, || async { world.pool.describe().matches("ready with").count() == 2 }).await;
    eventually("it has let go of what nobody reads", 30, || async { world.pool.load().await.iter().all(|load| load.busy == 0) }).await;
    let rows = world.settled().await;
    let (ledger, totals) = (sum(&rows), world.totals().await);
    assert_eq!((ledger.0, ledger.1), (totals.prompt_tokens, totals.cached_tokens));
    // What it produced while nobody could hear it is not charged: at most the step in which it was stopped.
    let unheard = totals.completion_tokens - ledger.2;
    assert!(unheard <= 4 * 2, "{unheard} tokens unheard");
    world.pool.shutdown().await;
}
