//! The ledger's upkeep: single uses go, what is told of them stays.

use crate::world::World;
use contract::{
    ids::{NodeId, RequestId, UsageId},
    usage::{Purpose, UsageRange},
};
use domain::{Amount, Clock, SystemClock};
use store::usage::{NewUsage, Outcome, Settlement};
use testkit::fake_worker::Script;
use uuid::Uuid;

/// 2020-03-01T12:00:00Z
const LONG_AGO: i64 = 1_583_064_000_000;

async fn use_long_ago(world: &World) {
    let new = NewUsage {
        tenant: world.actor.tenant(),
        program: None,
        id: UsageId(Uuid::now_v7()),
        user: Some(world.actor.user().expect("a person")),
        model: "m".into(),
        purpose: Purpose::Chat,
        reserved_tokens: 100,
        team: "Statistics".into(),
        cost_center: String::new(),
        reserved: Some(("EUR".parse().expect("a currency"), Amount::ZERO)),
        node: NodeId(Uuid::now_v7()),
        request: RequestId(Uuid::now_v7()),
        created_at: LONG_AGO,
    };
    let with = Settlement {
        tenant: new.tenant,
        id: new.id,
        opened_at: new.created_at,
        outcome: Outcome::Ok,
        model: None,
        prompt_tokens: 10,
        cached_tokens: 4,
        completion_tokens: 7,
        cost: Amount::new("cost", "0.000000000123".parse().expect("a number")).expect("an amount"),
        ttft_ms: Some(5),
        duration_ms: Some(9),
        at: LONG_AGO + 1_000,
    };
    world.db.db.write_ledger(&[&new], &[&with]).await.expect("written");
}

#[tokio::test]
async fn uses_of_long_ago_go_and_reports_stay() {
    let world = World::new().await;
    use_long_ago(&world).await;
    world.worker.script(Script::answer("one two three").prompt(100, 60));
    world.ask_and_wait("First").await;
    world.services.drain().await;
    let march = UsageRange { from: "2020-03-01".into(), to: "2020-03-31".into() };
    let told = || async {
        let charges = world.services.charges.csv("test", world.actor.tenant(), "a", &march, false).await.expect("charges");
        let focus = world.services.charges.csv("test", world.actor.tenant(), "a", &march, true).await.expect("charges");
        let own = world.services.usage.report(&world.actor, march.clone()).await.expect("a report");
        (charges, focus, own.rows, own.as_of)
    };
    let before = told().await;
    assert!(before.0.contains("2020-03-01,,Statistics,,m,chat,1,10,4,7,0.000000000123,EUR"), "{}", before.0);
    let uses = "SELECT count(*) AS value FROM usage_event";
    let all = world.db.count_as_owner(uses).await;
    assert!(all > 1);

    let tend = |keep| world.services.clone().keeping_ledger(keep);
    tend(None).tend_ledger().await.expect("upkeep");
    assert_eq!((told().await, world.db.count_as_owner(uses).await), (before.clone(), all), "summed up, and kept");
    assert!(world.db.count_as_owner("SELECT count(*) AS value FROM usage_daily WHERE day = '2020-03-01'").await > 0);

    let days = (SystemClock.now() - LONG_AGO) / (24 * 60 * 60 * 1000);
    tend(Some(u32::try_from(days).expect("days") + 1)).tend_ledger().await.expect("upkeep");
    assert_eq!(world.db.count_as_owner(uses).await, all, "not old enough");

    for _ in 0..2 {
        tend(Some(400)).tend_ledger().await.expect("upkeep");
        assert_eq!((told().await, world.db.count_as_owner(uses).await), (before.clone(), all - 1));
    }
    let audited =
        "SELECT count(*) AS value FROM audit_event WHERE action = 'ledger.day_ended' AND target = '2020-03-01' AND detail->>'uses' = '1'";
    assert_eq!(world.db.count_as_owner(audited).await, 1);
}
