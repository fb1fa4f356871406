//! A conversation stays within the zones of the model that was chosen for it.

use crate::world::{World, follow, question, until};
use contract::chat::TurnEvent;
use domain::SystemClock;
use inference::{Catalogue, Clearance, Inference, ModelConfig, Upstream};
use services::Services;
use std::sync::Arc;
use testkit::{
    fake_upstream::FakeUpstream,
    fake_worker::{FAKE_MODEL, fake_model, quick_pool},
};

#[tokio::test]
async fn its_title_leads_no_further_than_its_answer() {
    let world = World::new().await;
    let (eu, us) = (FakeUpstream::start().await, FakeUpstream::start().await);
    let place = |at: &FakeUpstream, zone: &str, order: u32| {
        let clearance = Clearance { zone: Some(zone.to_owned()), ..Clearance::own() };
        Upstream { clearance, order, ..at.config(zone, FAKE_MODEL) }
    };
    let pool = quick_pool();
    for upstream in [place(&us, "us", 1), place(&eu, "eu", 2)] {
        pool.add_upstream(upstream).expect("a client");
    }
    // Nobody runs it at the moment, so another one answers, which may be asked anywhere.
    let chosen = ModelConfig { id: "chosen".into(), fallback: vec![FAKE_MODEL.into()], zones: vec!["eu".into()], ..fake_model() };
    let second = ModelConfig { default: false, ..fake_model() };
    let catalogue = Catalogue::new(vec![chosen, second]).expect("valid");
    let inference = Inference::new(world.db.db.clone(), catalogue, pool.clone(), Arc::new(SystemClock));
    let services = Services::new(world.db.db.clone(), inference, world.identity.clone(), Arc::new(SystemClock));
    until("both are ready", || async { pool.describe().matches("ready with").count() == 2 }).await;

    let started = services.turns.start(&world.actor, question(None, None, "What is it?")).await.expect("a turn");
    let events = follow(&services, &world.actor, started.turn, 0).await;
    assert!(events.iter().any(|(_, event)| *event == TurnEvent::Title { title: "one two three".into() }), "{events:?}");
    assert!(
        us.requests().is_empty(),
        "If you are here because this failed: a chat that must not leave its zone is shown elsewhere for its title."
    );
    assert_eq!(eu.requests().len(), 2, "the answer and the title");
}
