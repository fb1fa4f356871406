//! Charges are the ledger, by payer and day.

use crate::world::World;
use contract::usage::UsageRange;
use testkit::{
    fake_worker::{FAKE_MODEL, Script},
    quotas::price,
};
use time::{Date, OffsetDateTime};

#[tokio::test]
async fn people_are_taken_together_and_every_use_is_in_it() {
    let world = World::new().await;
    price(&world.db, FAKE_MODEL, "EUR", "1", "2").await;
    world.worker.script(Script::answer("one two three").prompt(100, 60));
    world.worker.script(Script::answer("Title").prompt(30, 0));
    world.ask_and_wait("First").await;
    world.services.drain().await;
    let today = OffsetDateTime::from_unix_timestamp(domain::Clock::now(&domain::SystemClock) / 1000).expect("a time").date();
    let range = |from: Date, to: Date| UsageRange { from: from.to_string(), to: to.to_string() };
    let day = range(today, today);
    let csv = |focus| world.services.charges.csv("test", world.actor.tenant(), "acme", &day, focus);
    let own = csv(false).await.expect("CSV");
    // 40 read, 60 cached for a tenth, 3 of the answer; 30 read and 1 of the title.
    assert!(own.contains(&format!("{today},,,,{FAKE_MODEL},chat,1,100,60,3,0.000052,EUR")), "{own}");
    assert!(own.contains(&format!("{today},,,,{FAKE_MODEL},title,1,30,0,1,0.000032,EUR")), "{own}");
    assert!(!own.contains(&world.actor.user().expect("a person").to_string()), "whoever pays does not learn who asked");
    assert_eq!(csv(true).await.expect("CSV").lines().count(), 3);
    let yesterday = today.previous_day().expect("a day");
    assert!(world.services.charges.csv("test", world.actor.tenant(), "acme", &range(today, yesterday), false).await.is_err());
}
