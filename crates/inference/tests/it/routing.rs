//! What decides between members of the same order.

use crate::setup::{asker, eventually, read, request};
use domain::{Actor, SystemClock};
use inference::{Catalogue, ChatMessage, ChatRole, Inference, Pool, Prefer, Request, Route, Upstream};
use std::{sync::Arc, time::Duration};
use testkit::{
    TestDb,
    fake_upstream::{FakeUpstream, Mood},
    fake_worker::{FAKE_MODEL, fake_model, quick_pool},
};

struct World {
    _db: TestDb,
    actor: Actor,
    inference: Inference,
}

/// Once all of them are ready.
async fn world(prefer: Prefer, upstreams: Vec<Upstream>) -> World {
    let db = TestDb::new().await;
    let actor = asker(&db).await;
    let (pool, count): (Pool, _) = (quick_pool(), upstreams.len());
    pool.prefer(FAKE_MODEL, prefer);
    for upstream in upstreams {
        pool.add_upstream(upstream).expect("a client");
    }
    eventually("all are ready", || async { pool.describe().matches("ready with").count() == count }).await;
    let inference = Inference::new(db.db.clone(), Catalogue::new(vec![fake_model()]).expect("valid"), pool, Arc::new(SystemClock));
    World { _db: db, actor, inference }
}

impl World {
    /// Asks and reads to the end; nobody knows the beginning of a new question.
    async fn ask(&self, texts: &[&str]) -> Route {
        let messages = texts.iter().map(|text| ChatMessage::new(ChatRole::User, *text)).collect();
        let mut generation = self.inference.admit(&self.actor, Request { messages, ..request() }).await.expect("admitted");
        assert_eq!(read(&mut generation).await.0, "one two three");
        generation.route().expect("somebody answered")
    }
}

fn costing(upstream: Upstream, cost: u64) -> Upstream {
    let models = upstream.models.iter().cloned().map(|model| inference::UpstreamModel { cost, ..model }).collect();
    Upstream { models, ..upstream }
}

#[tokio::test]
async fn weights_are_shares_and_a_conversation_stays_where_it_was() {
    let (heavy, light) = (FakeUpstream::start().await, FakeUpstream::start().await);
    let upstreams = vec![Upstream { weight: 3, ..heavy.config("heavy", FAKE_MODEL) }, light.config("light", FAKE_MODEL)];
    let world = world(Prefer::Load, upstreams).await;
    for n in 0..60 {
        world.ask(&[&format!("Question {n}")]).await;
    }
    let shares = (heavy.requests().len(), light.requests().len());
    // Fifteen are likely; fewer than three or more than thirty come once in a hundred thousand runs.
    assert!(shares.0 + shares.1 == 60 && (3..=30).contains(&shares.1), "{shares:?}");
    let first = world.ask(&["The beginning"]).await.served_by;
    for n in 0..10 {
        let next = world.ask(&["The beginning", &format!("and number {n}")]).await.served_by;
        assert_eq!(next, first, "If you are here because this failed: a conversation leaves the member that has its beginning.");
    }
}

#[tokio::test]
async fn the_one_that_answers_sooner_is_preferred() {
    let (slow, fast) = (FakeUpstream::start().await, FakeUpstream::start().await);
    slow.set(Mood::AnswersLate(300));
    let patient = |upstream: Upstream| Upstream { first: Duration::from_secs(5), ..upstream };
    let world = world(Prefer::Latency, vec![patient(slow.config("slow", FAKE_MODEL)), patient(fast.config("fast", FAKE_MODEL))]).await;
    for n in 0..10 {
        world.ask(&[&format!("Question {n}")]).await;
    }
    assert_eq!((slow.requests().len(), fast.requests().len()), (1, 9), "each is tried once, then the faster one has all");
    assert_eq!(world.ask(&["Question 0", "More"]).await.served_by, "slow", "it has the conversation");
}

#[tokio::test]
async fn one_that_declines_at_once_is_not_the_fastest() {
    let (full, good) = (FakeUpstream::start().await, FakeUpstream::start().await);
    full.set(Mood::Refuses(429, "rate_limit"));
    let world = world(Prefer::Latency, vec![full.config("full", FAKE_MODEL), good.config("good", FAKE_MODEL)]).await;
    for n in 0..5 {
        assert_eq!(world.ask(&[&format!("Question {n}")]).await.served_by, "good");
    }
    assert_eq!(full.requests().len(), 1, "If you are here because this failed: who has no room is asked first for ever.");
}

#[tokio::test]
async fn the_cheaper_one_is_preferred_while_it_has_room() {
    let (dear, cheap) = (FakeUpstream::start().await, FakeUpstream::start().await);
    let upstreams = vec![costing(dear.config("dear", FAKE_MODEL), 3), costing(cheap.config("cheap", FAKE_MODEL), 2)];
    let world = world(Prefer::Cost, upstreams).await;
    for n in 0..5 {
        assert_eq!(world.ask(&[&format!("Question {n}")]).await.served_by, "cheap");
    }
    cheap.set(Mood::Refuses(429, "rate_limit"));
    let route = world.ask(&["Question 0", "More"]).await;
    assert_eq!((route.served_by.as_str(), route.attempts), ("dear", 2));
}

#[tokio::test]
async fn an_attempt_that_failed_is_told() {
    let (bad, good) = (FakeUpstream::start().await, FakeUpstream::start().await);
    bad.set(Mood::Refuses(500, "boom"));
    let upstreams = vec![bad.config("bad", FAKE_MODEL), Upstream { order: 2, ..good.config("good", FAKE_MODEL) }];
    let world = world(Prefer::Load, upstreams).await;
    let route = world.ask(&["Question"]).await;
    assert_eq!((route.served_by.as_str(), route.attempts), ("good", 2));
}
