//! Data goes to nobody who may not see it, whatever becomes of those who may.

use crate::setup::{asker, asker_of, eventually, read, request};
use domain::{Actor, DataClass, Error, SystemClock};
use inference::{Catalogue, Clearance, Ended, Inference, ModelConfig, Outcome, Upstream};
use std::sync::Arc;
use testkit::{
    TestDb,
    fake_upstream::{FakeUpstream, Mood},
    fake_worker::{FAKE_MODEL, fake_model, quick_pool},
    ledger::ledger,
};

/// Two servers that are asked in this order, and somebody whose data is internal.
struct World {
    db: TestDb,
    actor: Actor,
    inference: Inference,
}

async fn world(models: Vec<ModelConfig>, upstreams: Vec<Upstream>) -> World {
    let db = TestDb::new().await;
    let actor = asker(&db).await;
    let (pool, count) = (quick_pool(), upstreams.len());
    for upstream in upstreams {
        pool.add_upstream(upstream).expect("a client");
    }
    let inference = Inference::new(db.db.clone(), Catalogue::new(models).expect("valid"), pool.clone(), Arc::new(SystemClock));
    eventually("all are ready", || async { pool.describe().matches("ready with").count() == count }).await;
    World { db, actor, inference }
}

impl World {
    async fn ask(&self, actor: &Actor) -> (String, Ended) {
        read(&mut self.inference.admit(actor, request()).await.expect("admitted")).await
    }

    fn confidential(&self) -> Actor {
        self.actor.clone().raised_to(DataClass::Confidential)
    }
}

/// Somebody else's, who may see internal data.
fn elsewhere(upstream: Upstream, zone: Option<&str>) -> Upstream {
    let clearance = Clearance { zone: zone.map(str::to_owned), highest_class: DataClass::Internal, ..Clearance::own() };
    Upstream { clearance, order: 2, ..upstream }
}

#[tokio::test]
async fn neither_a_failure_nor_a_lack_of_room_leads_confidential_data_elsewhere() {
    for mood in [Mood::Refuses(500, "boom"), Mood::Refuses(429, "full"), Mood::Hangs] {
        let (own, other) = (FakeUpstream::start().await, FakeUpstream::start().await);
        own.set(mood);
        let upstreams = vec![own.config("own", FAKE_MODEL), elsewhere(other.config("elsewhere", FAKE_MODEL), None)];
        let world = world(vec![fake_model()], upstreams).await;
        let (_, ended) = world.ask(&world.confidential()).await;
        assert!(matches!(ended.error, Some(Error::Unavailable { .. })), "{mood:?}: {ended:?}");
        assert!(
            other.requests().is_empty(),
            "If you are here because this failed: confidential data leaves the house ({mood:?}). Nothing else matters until it passes."
        );
        let (text, ended) = world.ask(&world.actor).await;
        assert_eq!((text.as_str(), ended.outcome), ("one two three", Outcome::Ok), "{mood:?}: internal data may go there");
        assert_eq!(other.requests().len(), 1);
    }
}

#[tokio::test]
async fn while_those_who_may_see_it_answer_the_others_are_not_asked() {
    let (own, other) = (FakeUpstream::start().await, FakeUpstream::start().await);
    // Asked first, if it were for the order alone.
    let first = Upstream { order: 0, ..elsewhere(other.config("elsewhere", FAKE_MODEL), None) };
    let world = world(vec![fake_model()], vec![own.config("own", FAKE_MODEL), first]).await;
    for _ in 0..4 {
        assert_eq!(world.ask(&world.confidential()).await.1.outcome, Outcome::Ok);
    }
    assert_eq!((own.requests().len(), other.requests().len()), (4, 0));
    assert_eq!(world.ask(&world.actor).await.1.outcome, Outcome::Ok);
    assert_eq!((own.requests().len(), other.requests().len()), (4, 1));
}

#[tokio::test]
async fn where_nobody_may_see_it_the_refusal_says_so_and_costs_nothing() {
    let other = FakeUpstream::start().await;
    let world = world(vec![fake_model()], vec![elsewhere(other.config("elsewhere", FAKE_MODEL), None)]).await;
    let refused = world.inference.admit(&world.confidential(), request()).await;
    assert!(matches!(&refused, Err(Error::Forbidden { message }) if message.contains("confidential")), "{refused:?}");
    let refused = world.inference.count_tokens(&world.confidential(), request()).await;
    assert!(matches!(refused, Err(Error::Forbidden { .. })), "{refused:?}");
    assert!(other.requests().is_empty() && ledger(&world.db).await.is_empty());
    assert!(!world.inference.models(&world.confidential())[0].ready && world.inference.models(&world.actor)[0].ready);
}

#[tokio::test]
async fn a_fallback_leads_out_of_neither_class_nor_zone() {
    for (zones, zone, reached) in [(&[][..], None, true), (&["eu"][..], Some("eu"), true), (&["eu"][..], Some("us"), false)] {
        let (own, other) = (FakeUpstream::start().await, FakeUpstream::start().await);
        own.set(Mood::Refuses(500, "boom"));
        let zones = zones.iter().map(|zone| (*zone).to_owned()).collect();
        let primary = ModelConfig { id: "primary".into(), fallback: vec![FAKE_MODEL.into()], zones, ..fake_model() };
        let second = ModelConfig { default: false, ..fake_model() };
        let upstreams = vec![own.config("own", "primary"), elsewhere(other.config("elsewhere", FAKE_MODEL), zone)];
        let world = world(vec![primary, second], upstreams).await;
        assert_eq!(world.ask(&world.confidential()).await.1.outcome, Outcome::Failed, "{zone:?}");
        assert!(other.requests().is_empty(), "If you are here because this failed: a fallback shows data to who may not see it.");
        let (_, ended) = world.ask(&world.actor).await;
        assert_eq!((ended.outcome == Outcome::Ok, !other.requests().is_empty()), (reached, reached), "{zone:?}: {ended:?}");
    }
}

#[tokio::test]
async fn who_works_for_others_is_not_there() {
    let other = FakeUpstream::start().await;
    let clearance = Clearance { tenants: Some(["b".to_owned()].into()), ..Clearance::own() };
    let world = world(vec![fake_model()], vec![Upstream { clearance, ..other.config("theirs", FAKE_MODEL) }]).await;
    let refused = world.inference.admit(&world.actor, request()).await;
    assert!(matches!(refused, Err(Error::NotFound { what: "model" })), "{refused:?}");
    let theirs = asker_of(&world.db, "b").await;
    assert_eq!(world.ask(&theirs).await.0, "one two three", "a tenant that is made later is known by its short name");
    let listed = |actor| (world.inference.models(actor).len(), world.inference.offered(actor).len());
    assert_eq!(
        (listed(&world.actor), listed(&theirs)),
        ((0, 0), (1, 1)),
        "If you are here because this failed: a tenant is shown a model that it cannot ask for."
    );
}

#[tokio::test]
async fn where_others_have_the_default_one_takes_the_next() {
    let (server, other) = (FakeUpstream::start().await, FakeUpstream::start().await);
    let clearance = Clearance { tenants: Some(["b".to_owned()].into()), ..Clearance::own() };
    let second = ModelConfig { id: "second".into(), default: false, ..fake_model() };
    let upstreams = vec![Upstream { clearance, ..other.config("theirs", FAKE_MODEL) }, server.config("all", "second")];
    let world = world(vec![fake_model(), second], upstreams).await;
    let theirs = asker_of(&world.db, "b").await;
    for (actor, models) in [(&world.actor, &["second"][..]), (&theirs, &[FAKE_MODEL, "second"][..])] {
        let listed = world.inference.models(actor);
        assert_eq!(listed.iter().map(|model| model.id.as_str()).collect::<Vec<_>>(), models);
        assert_eq!(listed.iter().position(|model| model.is_default), Some(0), "what it takes who names none");
        assert_eq!(world.ask(actor).await.0, "one two three");
    }
    assert_eq!((server.requests().len(), other.requests().len()), (1, 1));
}

#[tokio::test]
async fn a_model_that_others_have_is_there_where_another_one_answers_in_its_place() {
    let (server, other) = (FakeUpstream::start().await, FakeUpstream::start().await);
    let clearance = Clearance { tenants: Some(["b".to_owned()].into()), ..Clearance::own() };
    let first = ModelConfig { fallback: vec!["second".into()], ..fake_model() };
    let second = ModelConfig { id: "second".into(), default: false, ..fake_model() };
    let upstreams = vec![Upstream { clearance, ..other.config("theirs", FAKE_MODEL) }, server.config("all", "second")];
    let world = world(vec![first, second], upstreams).await;
    assert_eq!(world.inference.models(&world.actor).len(), 2, "asking for it is answered");
    assert_eq!(world.ask(&world.actor).await.0, "one two three");
    assert_eq!((server.requests().len(), other.requests().len()), (1, 0));
}
