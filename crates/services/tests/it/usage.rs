//! The usage report equals the ledger.

use crate::world::World;
use contract::{
    key::Scope,
    usage::{Purpose, UsageRange},
};
use domain::{Error, quota::Level};
use identity::{NewAccount, NewKey};
use testkit::{
    fake_worker::{FAKE_MODEL, Script},
    quotas::{budget, price},
};
use worker_protocol::FailCode;

fn wide() -> UsageRange {
    UsageRange { from: "2026-01-01".into(), to: "2027-12-31".into() }
}

#[tokio::test]
async fn the_report_equals_the_ledger() {
    let world = World::new().await;
    price(&world.db, FAKE_MODEL, "EUR", "1", "2").await;
    budget(&world.db, world.actor.tenant(), Level::Tenant, None, "5", false).await;
    budget(&world.db, world.actor.tenant(), Level::User, None, "1", true).await;
    budget(&world.db, world.actor.tenant(), Level::Team, None, "2", true).await;
    world.worker.script(Script::answer("one two three").prompt(100, 60));
    world.worker.script(Script::answer("Title").prompt(30, 0));
    world.ask_and_wait("First").await;
    world.worker.script(Script::answer("one two three").fails_after(2, FailCode::Engine).prompt(50, 10));
    world.ask_and_wait("Second").await;

    let report = world.services.usage.report(&world.actor, wide()).await.expect("report");
    let ledger = testkit::ledger::ledger(&world.db).await;
    assert_eq!(ledger.len(), 3);
    let sum = |of: fn(&testkit::ledger::LedgerRow) -> i32| ledger.iter().map(|row| i64::from(of(row))).sum::<i64>();
    let reported = |of: fn(&contract::usage::UsageRow) -> i64| report.rows.iter().map(of).sum::<i64>();
    assert_eq!(reported(|row| row.requests), 3);
    assert_eq!(reported(|row| row.prompt_tokens), sum(|row| row.prompt_tokens));
    assert_eq!(reported(|row| row.cached_tokens), sum(|row| row.cached_tokens));
    assert_eq!(reported(|row| row.completion_tokens), sum(|row| row.completion_tokens));
    assert_eq!(reported(|row| row.prompt_tokens), 180);
    let chat = report.rows.iter().find(|row| row.purpose == Purpose::Chat).expect("chats");
    assert_eq!((chat.requests, chat.prompt_tokens, chat.cached_tokens, chat.completion_tokens), (2, 150, 70, 5));
    assert!(report.as_of.is_some());

    let csv = world.services.usage.csv(&world.actor, wide()).await.expect("csv");
    assert_eq!(csv.lines().count(), 1 + report.rows.len());
    // 80 tokens read, 70 cached for a tenth, 5 of answers, at 1 and 2 € for a million.
    let cost = chat.cost.clone().expect("a cost");
    assert_eq!((cost.currency.as_str(), cost.pico), ("EUR", 80_000_000 + 7_000_000 + 10_000_000));
    assert!(csv.contains(",chat,2,150,70,5,0.000097,EUR"), "{csv}");
    world.services.drain().await;
    let told = world.services.usage.report(&world.actor, wide()).await.expect("report").budgets;
    let all: i64 = report.rows.iter().filter_map(|row| row.cost.as_ref()).map(|cost| cost.pico).sum();
    assert_eq!(told.len(), 1, "what others spend is nobody's business");
    let (amount, spent, hard) = (told[0].amount.pico, told[0].spent.pico, told[0].hard);
    assert_eq!((amount, spent, hard), (1_000_000_000_000, all, true), "what a person sees of a budget is what the ledger has");
    let bad = world.services.usage.report(&world.actor, UsageRange { from: "x".into(), to: "y".into() }).await;
    assert!(matches!(bad, Err(Error::Invalid { field: Some("from"), code: "bad_date", .. })));
}

#[tokio::test]
async fn budgets_are_told_with_names() {
    let world = World::new().await;
    let account = NewAccount {
        tenant: world.tenant.id,
        name: "Letters".into(),
        purpose: "Sorts letters".into(),
        team: String::new(),
        cost_center: String::new(),
        owner: None,
        models: None,
        class: None,
        expires_at: None,
    };
    let account = world.identity.create_service_account("test", account).await.expect("an account");
    let key = NewKey { name: "first".into(), scopes: vec![Scope::Inference], ..NewKey::default() };
    let key = world.identity.create_key("test", world.tenant.id, account, key).await.expect("a key");
    let user = world.actor.user().expect("a person");
    let names = world.services.quotas.names("test", world.tenant.id).await.expect("names");
    let name = |id: String| names.get(&id).map(String::as_str);
    assert_eq!((name(account.to_string()), name(key.id.to_string())), (Some("Letters"), Some("first of Letters")));
    assert!(name(user.to_string()).is_some_and(|email| email.contains('@')), "{names:?}");
}
