//! The key that an upstream is asked with may be another one from one request to the next.

use crate::setup::{asker, eventually, read, request};
use domain::{SystemClock, secret::Secret};
use futures::future::join_all;
use inference::{Catalogue, Credential, Ended, Inference, Outcome, Pool, Upstream};
use std::{sync::Arc, time::Duration};
use testkit::{
    TestDb,
    fake_upstream::{FakeUpstream, Mood},
    fake_worker::{FAKE_MODEL, fake_model, quick_pool},
};

struct World {
    _db: TestDb,
    actor: domain::Actor,
    pool: Pool,
    inference: Inference,
}

async fn world(upstream: Upstream) -> World {
    let db = TestDb::new().await;
    let actor = asker(&db).await;
    let pool = quick_pool();
    pool.add_upstream(upstream).expect("a client");
    let catalogue = Catalogue::new(vec![fake_model()]).expect("valid");
    let inference = Inference::new(db.db.clone(), catalogue, pool.clone(), Arc::new(SystemClock));
    World { _db: db, actor, pool, inference }
}

impl World {
    async fn ask(&self) -> Ended {
        read(&mut self.inference.admit(&self.actor, request()).await.expect("admitted")).await.1
    }

    fn show(&self, credential: &Credential) -> bool {
        self.pool.show_credential("vllm", credential)
    }

    async fn ready(&self) {
        eventually("it is ready", || async { self.inference.ready().is_ok() }).await;
    }
}

fn key(text: &str) -> Credential {
    Credential::Key(Secret::new(text))
}

#[tokio::test]
async fn requests_and_polls_that_begin_after_a_change_bear_the_new_key() {
    let upstream = FakeUpstream::start().await;
    let world = world(upstream.config("vllm", FAKE_MODEL)).await;
    world.ready().await;
    assert_eq!(world.ask().await.outcome, Outcome::Ok);
    assert!(world.show(&key("sk-kept")) && !world.show(&key("sk-kept")), "it is told whether that is another one");
    assert_eq!(world.ask().await.outcome, Outcome::Ok);
    assert!(world.show(&Credential::Configured));
    assert_eq!(world.ask().await.outcome, Outcome::Ok);
    assert_eq!(upstream.keys(), ["Bearer sk-upstream", "Bearer sk-kept", "Bearer sk-upstream"]);
    assert!(!world.pool.show_credential("nobody", &key("sk-kept")));

    world.show(&key("sk-third"));
    eventually("polls bear it", || async { upstream.polled_with().last().is_some_and(|last| last == "Bearer sk-third") }).await;
}

#[tokio::test]
async fn a_request_goes_on_with_the_key_of_its_beginning() {
    let upstream = FakeUpstream::start().await;
    let world = world(upstream.config("vllm", FAKE_MODEL)).await;
    world.ready().await;
    upstream.set(Mood::AnswersLate(300));
    let changed = async {
        eventually("it is asked", || async { upstream.requests().len() == 1 }).await;
        world.show(&key("sk-kept"))
    };
    let (ended, changed) = tokio::join!(world.ask(), changed);
    assert_eq!((ended.outcome, changed), (Outcome::Ok, true));
    assert_eq!(upstream.keys(), ["Bearer sk-upstream"]);
}

#[tokio::test]
async fn one_that_refused_the_old_key_is_there_again_with_the_new_one() {
    let upstream = FakeUpstream::start().await;
    // Believes a poll for longer than the test lasts: the answer to the old key must not count for the new one.
    let world = world(Upstream { believed: Duration::from_secs(600), ..upstream.config("vllm", FAKE_MODEL) }).await;
    world.ready().await;
    upstream.take_only("sk-kept");
    for _ in 0..5 {
        assert_ne!(world.ask().await.outcome, Outcome::Ok);
    }
    assert!(world.pool.describe().contains("left alone"), "{}", world.pool.describe());
    let polls = upstream.polled_with().len();
    world.show(&key("sk-kept"));
    assert_eq!(world.ask().await.outcome, Outcome::Ok, "If you are here because this failed: a new key is in force only after a minute.");
    eventually("it is polled anew", || async { upstream.polled_with().len() > polls }).await;
}

#[tokio::test]
async fn failures_that_began_with_the_old_key_do_not_count_against_the_new_one() {
    let upstream = FakeUpstream::start().await;
    let world = world(upstream.config("vllm", FAKE_MODEL)).await;
    world.ready().await;
    upstream.set(Mood::Hangs);
    let changed = async {
        eventually("all are asked", || async { upstream.requests().len() == 5 }).await;
        world.show(&key("sk-kept"));
    };
    let (ended, ()) = tokio::join!(join_all((0..5).map(|_| world.ask())), changed);
    assert!(ended.iter().all(|ended| ended.outcome == Outcome::Failed), "{ended:?}");
    assert!(upstream.keys().iter().all(|key| key == "Bearer sk-upstream"), "{:?}", upstream.keys());
    upstream.set(Mood::Answers);
    assert_eq!(world.ask().await.outcome, Outcome::Ok, "{}", world.pool.describe());
}

#[tokio::test]
async fn one_whose_key_cannot_be_used_is_not_asked_at_all_and_says_why() {
    let upstream = FakeUpstream::start().await;
    let world = world(upstream.config("vllm", FAKE_MODEL)).await;
    world.ready().await;
    assert!(world.show(&Credential::Unusable("its key cannot be opened: for the test".into())));
    let told = world.inference.ready().expect_err("out of service at once");
    assert!(told.contains("vllm: its key cannot be opened: for the test"), "{told}");
    tokio::time::sleep(Duration::from_millis(100)).await;
    let polls = upstream.polled_with().len();
    assert_ne!(world.ask().await.outcome, Outcome::Ok);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(
        (upstream.requests().len(), upstream.polled_with().len()),
        (0, polls),
        "If you are here because this failed: it is asked with the key that was replaced, or without any."
    );
    world.show(&key("sk-kept"));
    world.ready().await;
    assert_eq!(world.ask().await.outcome, Outcome::Ok);
    assert_eq!(upstream.keys(), ["Bearer sk-kept"]);
}

#[test]
fn no_key_is_seen_in_logs() {
    let shown = format!("{:?}", key("sk-kept"));
    assert!(shown.starts_with("Key(") && !shown.contains("sk-kept"), "{shown}");
}
