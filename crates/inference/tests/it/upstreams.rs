//! Servers that speak the OpenAI protocol: as good as workers while they answer, and no burden when they do not.

use crate::setup::{asker, asker_of, eventually, first_text, read, request};
use domain::{Actor, Error, SystemClock, secret::Secret};
use futures::future::join_all;
use inference::{Catalogue, Ended, Inference, ModelConfig, Outcome, Pool, Upstream};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use testkit::{
    TestDb,
    fake_upstream::{FakeUpstream, Mood},
    fake_worker::{FAKE_MODEL, FakeWorker, Script, fake_model, quick_pool},
    ledger::{LedgerRow, ledger},
};

struct World {
    db: TestDb,
    actor: Actor,
    pool: Pool,
    inference: Inference,
}

async fn world(models: Vec<ModelConfig>, upstreams: Vec<Upstream>) -> World {
    let db = TestDb::new().await;
    let actor = asker(&db).await;
    let pool = quick_pool();
    for upstream in upstreams {
        pool.add_upstream(upstream).expect("a client");
    }
    let catalogue = Catalogue::new(models).expect("valid");
    let inference = Inference::new(db.db.clone(), catalogue, pool.clone(), Arc::new(SystemClock));
    World { db, actor, pool, inference }
}

impl World {
    async fn ask(&self) -> (String, Ended) {
        read(&mut self.inference.admit(&self.actor, request()).await.expect("admitted")).await
    }

    async fn rows(&self) -> Vec<LedgerRow> {
        self.inference.drain().await;
        ledger(&self.db).await
    }
}

#[tokio::test]
async fn an_upstream_answers_and_its_figures_are_the_ledger_s() {
    let upstream = FakeUpstream::start().await;
    let world = world(vec![fake_model()], vec![upstream.config("vllm", FAKE_MODEL)]).await;
    let (text, ended) = world.ask().await;
    assert_eq!((text.as_str(), ended.outcome, ended.stats.finish_reason.as_str()), ("one two three", Outcome::Ok, "stop"));
    let sent = &upstream.requests()[0];
    assert_eq!((&sent["model"], &sent["stream"]), (&"their-model".into(), &true.into()));
    assert_eq!(upstream.keys(), ["Bearer sk-upstream"]);
    let secretive = Upstream { base_url: "https://kim:hunter2@llm.example.org".into(), ..upstream.config("vllm", FAKE_MODEL) };
    let shown = format!("{secretive:?}");
    assert!(shown.contains("vllm") && !shown.contains("sk-upstream") && !shown.contains("hunter2"), "{shown}");
    let rows = world.rows().await;
    assert_eq!((rows[0].prompt_tokens, rows[0].cached_tokens, rows[0].completion_tokens), (20, 8, 3));
}

#[tokio::test]
async fn tenants_are_parted_by_salts_that_do_not_name_them() {
    let upstream = FakeUpstream::start().await;
    let key = Some(Secret::new("a-key-of-salts-that-nobody-guesses"));
    let world = world(vec![fake_model()], vec![Upstream { salt_key: key, ..upstream.config("vllm", FAKE_MODEL) }]).await;
    let neighbour = asker_of(&world.db, "b").await;
    for actor in [&world.actor, &world.actor, &neighbour] {
        read(&mut world.inference.admit(actor, request()).await.expect("admitted")).await;
    }
    let salts: Vec<String> = upstream.requests().iter().map(|sent| sent["cache_salt"].as_str().expect("a salt").to_owned()).collect();
    assert!(
        salts[0] == salts[1] && salts[1] != salts[2],
        "{salts:?}. If you are here because this failed: one tenant can find out by the time it takes what another one asked."
    );
    for actor in [&world.actor, &neighbour] {
        assert!(!upstream.requests().iter().any(|sent| sent.to_string().contains(&actor.tenant().to_string())));
    }
}

#[tokio::test]
async fn workers_come_first_and_a_full_one_passes_on() {
    let upstream = FakeUpstream::start().await;
    let worker = FakeWorker::start().await;
    let world = world(vec![fake_model()], vec![upstream.config("vllm", FAKE_MODEL)]).await;
    world.pool.add("worker", worker.backend());
    eventually("both are ready", || async { world.pool.describe().matches("ready with").count() == 2 }).await;
    assert_eq!(world.ask().await.0, "Hello from the fake worker.");
    worker.otherwise(Script::overloaded());
    assert_eq!(world.ask().await.0, "one two three");
}

#[tokio::test]
async fn a_failing_upstream_is_replaced_before_the_first_word_and_then_left_alone() {
    let (bad, good) = (FakeUpstream::start().await, FakeUpstream::start().await);
    bad.set(Mood::Refuses(500, "boom"));
    let world =
        world(vec![fake_model()], vec![bad.config("bad", FAKE_MODEL), Upstream { order: 2, ..good.config("good", FAKE_MODEL) }]).await;
    eventually("both are ready", || async { world.pool.describe().matches("ready with").count() == 2 }).await;
    for _ in 0..10 {
        let (text, ended) = world.ask().await;
        assert_eq!((text.as_str(), ended.outcome), ("one two three", Outcome::Ok), "{ended:?}");
    }
    assert_eq!(bad.requests().len(), 5, "If you are here because this failed: the circuit breaker does not open after five failures.");
    assert!(world.pool.describe().contains("left alone"), "{}", world.pool.describe());
}

#[tokio::test]
async fn one_that_does_not_answer_in_time_is_replaced_too() {
    let (bad, good) = (FakeUpstream::start().await, FakeUpstream::start().await);
    bad.set(Mood::Hangs);
    let world =
        world(vec![fake_model()], vec![bad.config("bad", FAKE_MODEL), Upstream { order: 2, ..good.config("good", FAKE_MODEL) }]).await;
    eventually("both are ready", || async { world.pool.describe().matches("ready with").count() == 2 }).await;
    let began = Instant::now();
    assert_eq!(world.ask().await.0, "one two three");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_was_said_is_not_said_again_by_another_one() {
    for mood in [Mood::FallsSilent, Mood::BreaksOff] {
        let (bad, good) = (FakeUpstream::start().await, FakeUpstream::start().await);
        bad.set(mood);
        let world =
            world(vec![fake_model()], vec![bad.config("bad", FAKE_MODEL), Upstream { order: 2, ..good.config("good", FAKE_MODEL) }]).await;
        let (text, ended) = world.ask().await;
        assert_eq!((text.as_str(), ended.outcome), ("one ", Outcome::Failed), "{mood:?}");
        assert!(good.requests().is_empty());
        let rows = world.rows().await;
        assert_eq!((rows[0].completion_tokens, rows[0].outcome.as_deref()), (1, Some("failed")), "what came is paid for");
        assert!(rows[0].prompt_tokens > 0, "an estimate, since it did not come to tell");
    }
}

#[tokio::test]
async fn another_model_steps_in_where_it_was_allowed_to() {
    let upstream = FakeUpstream::start().await;
    let primary = ModelConfig { id: "primary".into(), fallback: vec![FAKE_MODEL.into()], ..fake_model() };
    let second = ModelConfig { default: false, ..fake_model() };
    let world = world(vec![primary, second], vec![upstream.config("vllm", FAKE_MODEL)]).await;
    eventually("it is ready", || async { world.inference.ready().is_ok() }).await;
    let (text, ended) = world.ask().await;
    assert_eq!((text.as_str(), ended.stats.model.as_str()), ("one two three", FAKE_MODEL));
    let rows = world.rows().await;
    assert_eq!(
        (rows.len(), rows[0].model.as_str()),
        (1, FAKE_MODEL),
        "If you are here because this failed: a use is booked for a model that did not answer."
    );
}

#[tokio::test]
async fn a_substitute_that_was_still_waited_for_did_not_answer() {
    let upstream = FakeUpstream::start().await;
    upstream.set(Mood::Hangs);
    let primary = ModelConfig { id: "primary".into(), fallback: vec![FAKE_MODEL.into()], ..fake_model() };
    let second = ModelConfig { default: false, ..fake_model() };
    let world = world(vec![primary, second], vec![upstream.config("vllm", FAKE_MODEL)]).await;
    eventually("it is ready", || async { world.inference.ready().is_ok() }).await;
    let mut generation = world.inference.admit(&world.actor, request()).await.expect("admitted");
    eventually("it is asked", || async { !upstream.requests().is_empty() }).await;
    generation.cancel();
    let (_, ended) = read(&mut generation).await;
    assert_eq!((ended.outcome, ended.stats.model.as_str()), (Outcome::Cancelled, "primary"));
    assert_eq!(world.rows().await[0].model, "primary");
}

#[tokio::test]
async fn refusals_keep_their_meaning() {
    let upstream = FakeUpstream::start().await;
    let world = world(vec![fake_model()], vec![upstream.config("vllm", FAKE_MODEL)]).await;
    upstream.set(Mood::Refuses(400, "context_length_exceeded"));
    let error = world.ask().await.1.error;
    assert!(matches!(error, Some(Error::Invalid { code: "context_length_exceeded", .. })), "{error:?}");
    upstream.set(Mood::Refuses(400, "unknown_field"));
    let error = world.ask().await.1.error;
    assert!(matches!(error, Some(Error::Invalid { field: None, .. })), "{error:?}");
    upstream.set(Mood::Refuses(429, "rate_limit"));
    let error = world.ask().await.1.error;
    assert!(matches!(error, Some(Error::Unavailable { what: "model", retry_after: Some(_) })), "{error:?}");
    upstream.set(Mood::Refuses(401, "wrong_key"));
    let error = world.ask().await.1.error;
    assert!(matches!(error, Some(Error::Unavailable { what: "model", .. })), "a wrong key is the operator's business: {error:?}");
}

#[tokio::test]
async fn one_that_does_not_take_our_key_or_account_is_replaced_and_left_alone() {
    for (status, code) in [(401, "wrong_key"), (404, "model_not_found"), (400, "billing_hard_limit_reached")] {
        let (bad, good) = (FakeUpstream::start().await, FakeUpstream::start().await);
        bad.set(Mood::Refuses(status, code));
        let world =
            world(vec![fake_model()], vec![bad.config("bad", FAKE_MODEL), Upstream { order: 2, ..good.config("good", FAKE_MODEL) }]).await;
        eventually("both are ready", || async { world.pool.describe().matches("ready with").count() == 2 }).await;
        for _ in 0..6 {
            let (text, ended) = world.ask().await;
            assert_eq!((text.as_str(), ended.outcome), ("one two three", Outcome::Ok), "{status}: {ended:?}");
        }
        assert_eq!(bad.requests().len(), 5, "{status}: the circuit breaker opens after five failures");
    }
}

#[tokio::test]
async fn stop_ends_it_there() {
    let upstream = FakeUpstream::start().await;
    upstream.set(Mood::FallsSilent);
    let world = world(vec![fake_model()], vec![upstream.config("vllm", FAKE_MODEL)]).await;
    let mut generation = world.inference.admit(&world.actor, request()).await.expect("admitted");
    first_text(&mut generation).await;
    generation.cancel();
    let (_, ended) = read(&mut generation).await;
    assert_eq!((ended.outcome, ended.stats.completion_tokens), (Outcome::Cancelled, 1));
}

#[tokio::test]
async fn second_tries_end_with_their_budget_and_first_ones_do_not() {
    const REQUESTS: usize = 75;
    const AT_ONCE: usize = 25;
    // What `pool` allows in ten seconds; a fifth of the requests comes on top.
    const LEAST: usize = 100;
    let upstream = FakeUpstream::start().await;
    upstream.set(Mood::Refuses(500, "boom"));
    // So many places that the budget ends before the last one is left alone.
    let place = |n| Upstream { believed: Duration::from_secs(60), ..upstream.config(&format!("bad-{n}"), FAKE_MODEL) };
    let world = world(vec![fake_model()], (0..50).map(place).collect()).await;
    eventually("all are ready", || async { world.pool.describe().matches("ready with").count() == 50 }).await;
    let began = Instant::now();
    for _ in 0..REQUESTS / AT_ONCE {
        for (text, ended) in join_all((0..AT_ONCE).map(|_| world.ask())).await {
            assert_eq!((text.as_str(), ended.outcome), ("", Outcome::Failed));
            assert!(matches!(ended.error, Some(Error::Unavailable { what: "model", retry_after: Some(_) })), "{ended:?}");
        }
    }
    let again = upstream.requests().len() - REQUESTS;
    // On a slow machine more of those ten seconds pass; the oldest of their seconds ends a little earlier.
    let windows = 1 + usize::try_from(began.elapsed().as_secs() / 9).expect("soon");
    assert!(
        (LEAST..=windows * LEAST + REQUESTS / 5).contains(&again),
        "{again} second tries of {REQUESTS} requests. If you are here because this failed: an installation that fails is asked \
         several times as much."
    );
    upstream.set(Mood::Answers);
    assert_eq!(world.ask().await.1.outcome, Outcome::Ok, "a first try needs no budget");
    let rows = world.rows().await;
    let failed: Vec<_> = rows.iter().filter(|row| row.outcome.as_deref() == Some("failed")).collect();
    assert_eq!((rows.len(), failed.len()), (REQUESTS + 1, REQUESTS), "one use, one event, however often it was tried");
    assert!(failed.iter().all(|row| (row.prompt_tokens, row.completion_tokens) == (0, 0)), "{failed:?}");
}
