//! The stages before the pool, many at once, and the sweeper.

use crate::setup::{Setup, asker_of, eventually, first_text, read, request, setup};
use contract::{
    account::Role,
    ids::{NodeId, UsageId},
    model::Sampling,
    usage::Purpose,
};
use domain::{Clock, DataClass, Error, SystemClock};
use futures::future::join_all;
use inference::{Catalogue, Inference, ModelConfig, Outcome, Request};
use std::{sync::Arc, time::Duration};
use store::usage::NewUsage;
use testkit::{
    fake_worker::{FAKE_MODEL, Script, fake_model, quick_pool},
    ledger::{execute_as_owner, hold_ledger, ledger},
    quotas::weigh,
};
use uuid::Uuid;

#[tokio::test]
async fn an_unknown_model_is_not_found_and_costs_nothing() {
    let s = setup().await;
    let refused = s.inference.admit(&s.actor, Request { model: Some("no-such".into()), ..request() }).await;
    assert!(matches!(refused, Err(Error::NotFound { what: "model" })), "{refused:?}");
    assert!(ledger(&s.db).await.is_empty());
    assert!(s.worker.requests().is_empty());
}

#[tokio::test]
async fn another_tenants_model_is_not_found() {
    let s = setup().await;
    let secret = ModelConfig { id: "theirs".into(), default: false, tenants: Some(["b".to_owned()].into()), ..fake_model() };
    let catalogue = Catalogue::new(vec![fake_model(), secret]).expect("valid");
    let inference = Inference::new(s.db.db.clone(), catalogue, quick_pool(), Arc::new(SystemClock));
    let refused = inference.admit(&s.actor, Request { model: Some("theirs".into()), ..request() }).await;
    assert!(matches!(refused, Err(Error::NotFound { what: "model" })), "{refused:?}");
    let ids: Vec<String> = inference.models(&s.actor).into_iter().map(|model| model.id).collect();
    assert_eq!(ids, [FAKE_MODEL]);
}

#[tokio::test]
async fn nonsense_is_refused_before_the_ledger() {
    let s = setup().await;
    let sampling = Sampling { temperature: Some(3.0), ..Sampling::default() };
    let refused = s.inference.admit(&s.actor, Request { sampling, ..request() }).await;
    assert!(matches!(refused, Err(Error::Invalid { field: Some("temperature"), .. })), "{refused:?}");
    assert!(ledger(&s.db).await.is_empty());
}

#[tokio::test]
async fn a_worker_is_told_what_the_tenant_weighs() {
    let s = setup().await;
    let other = asker_of(&s.db, "b").await;
    let told = async |actor| {
        read(&mut s.inference.admit(actor, request()).await.expect("admitted")).await;
        s.worker.requests().last().expect("asked").weight
    };
    weigh(&s.db, s.actor.tenant(), 7).await;
    assert_eq!((told(&s.actor).await, told(&other).await), (7, 1));
    weigh(&s.db, s.actor.tenant(), 2).await;
    eventually("the new weight is known", || async { told(&s.actor).await == 2 }).await;
}

#[tokio::test]
async fn the_reservation_is_never_less_than_the_use() {
    let s = setup().await;
    let sampling = Sampling { max_tokens: Some(100), ..Sampling::default() };
    let mut generation = s.inference.admit(&s.actor, Request { sampling, purpose: Purpose::Title, ..request() }).await.expect("admitted");
    read(&mut generation).await;
    let row = s.only_use().await;
    assert_eq!(row.purpose, "title");
    assert!(row.reserved_tokens >= row.prompt_tokens + row.completion_tokens);
    assert!(row.reserved_tokens >= 100 + "What is a kontor?".len() as i32 && row.reserved_tokens < 300, "{row:?}");
}

#[tokio::test]
async fn thirty_two_at_once() {
    let s = setup().await;
    s.worker.otherwise(Script::answer("one two three four five").delay(Duration::from_millis(10)));
    let all = join_all((0..32).map(|_| async { read(&mut s.ask().await).await })).await;
    assert!(all.iter().all(|(text, ended)| text == "one two three four five" && ended.outcome == Outcome::Ok));
    let rows = ledger(&s.db).await;
    assert_eq!(rows.len(), 32);
    assert!(rows.iter().all(|row| row.outcome.as_deref() == Some("ok")));
    let used: i64 = rows.iter().map(|row| i64::from(row.completion_tokens)).sum();
    assert_eq!(used.unsigned_abs(), s.worker.totals().completion_tokens, "the ledger and the worker's own count differ");
}

#[tokio::test]
async fn one_use_that_cannot_be_written_fails_alone() {
    let s = setup().await;
    let gone = crate::setup::asker_of(&s.db, "gone").await;
    testkit::ledger::execute_as_owner(&s.db, &format!("DELETE FROM tenant WHERE id = '{}'", gone.tenant())).await;
    let admit = async |n: usize| {
        let actor = if n % 10 == 3 { &gone } else { &s.actor };
        s.inference.admit(actor, request()).await.is_ok()
    };
    let admitted = join_all((0..30).map(admit)).await;
    assert_eq!(admitted.iter().filter(|ok| **ok).count(), 27, "If you are here because this failed: one refused use takes others with it.");
    assert!((0..30).all(|n| admitted[n] == (n % 10 != 3)), "{admitted:?}");
}

/// Until a statement waits for whoever holds the ledger; others then wait for that one.
async fn held_up(s: &Setup) {
    let waits = "SELECT count(*) AS value FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    eventually("a statement waits", || async { s.db.count_as_owner(waits).await > 0 }).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
}

#[tokio::test]
async fn one_use_that_cannot_be_written_does_not_have_each_of_the_others_written_alone() {
    let s = setup().await;
    let gone = crate::setup::asker_of(&s.db, "gone").await;
    execute_as_owner(&s.db, &format!("DELETE FROM tenant WHERE id = '{}'", gone.tenant())).await;
    // None ends before all are counted.
    s.worker.otherwise(Script::answer("one two").hangs_after(1));
    let held = hold_ledger(&s.db).await;
    let admit = |n: usize| s.inference.admit(if n == 77 { &gone } else { &s.actor }, request());
    let (admitted, ()) = tokio::join!(join_all((0..200).map(admit)), async {
        held_up(&s).await;
        held.let_go().await;
    });
    assert!((0..200).all(|n| admitted[n].is_ok() == (n != 77)));
    let statements = s.db.count_as_owner("SELECT count(DISTINCT xmin::text) AS value FROM usage_event").await;
    assert!(statements < 60, "200 uses, of which one is at fault, in {statements} statements");
}

#[tokio::test]
async fn a_use_that_is_open_in_the_ledger_is_admitted_though_another_one_cannot_be_settled() {
    let s = setup().await;
    s.worker.otherwise(Script::answer("one two").hangs_after(1));
    let mut running = s.ask().await;
    first_text(&mut running).await;
    execute_as_owner(&s.db, "REVOKE UPDATE ON usage_event FROM kontor_system").await;
    let held = hold_ledger(&s.db).await;
    let (first, second) = tokio::join!(s.inference.admit(&s.actor, request()), async {
        held_up(&s).await;
        // Its end and the beginning of another one wait for the same turn.
        running.cancel();
        let (second, ()) = tokio::join!(s.inference.admit(&s.actor, request()), async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            held.let_go().await;
        });
        second
    });
    assert!(
        first.is_ok() && second.is_ok(),
        "If you are here because this failed: a use is refused that stands open in the ledger. {first:?} {second:?}"
    );
    drop((first, second));
    let grant = "GRANT UPDATE ON usage_event TO kontor_system";
    execute_as_owner(&s.db, grant).await;
    eventually("all are settled", || async { ledger(&s.db).await.iter().filter(|row| row.state == "settled").count() == 3 }).await;
}

#[tokio::test]
async fn nothing_is_admitted_once_the_process_drains() {
    let s = setup().await;
    s.inference.drain().await;
    let refused = s.inference.admit(&s.actor, request()).await;
    assert!(matches!(refused, Err(Error::Unavailable { what: "model", .. })), "{refused:?}");
    assert!(ledger(&s.db).await.is_empty());
}

/// The machine's clock, ahead by this many milliseconds.
#[derive(Debug)]
struct Ahead(i64);

impl Clock for Ahead {
    fn now(&self) -> i64 {
        SystemClock.now() + self.0
    }
}

#[tokio::test]
async fn the_sweeper_settles_what_is_stale_and_nothing_else() {
    const HOUR: i64 = 60 * 60 * 1000;
    let s = setup().await;
    read(&mut s.ask().await).await;
    // What a process leaves that was killed right after it opened a use.
    let id = UsageId(Uuid::now_v7());
    let left = NewUsage {
        tenant: s.actor.tenant(),
        program: None,
        id,
        user: s.actor.user().ok(),
        model: FAKE_MODEL.into(),
        purpose: Purpose::Chat,
        reserved_tokens: 100,
        team: String::new(),
        cost_center: String::new(),
        reserved: None,
        node: NodeId(Uuid::now_v7()),
        request: s.actor.request(),
        created_at: SystemClock.now(),
    };
    s.db.db.write_ledger(&[&left], &[]).await.expect("opened");

    assert_eq!(s.inference.sweep(2 * HOUR).await.expect("swept"), 0);
    let catalogue = Catalogue::new(vec![fake_model()]).expect("valid");
    let later = Inference::new(s.db.db.clone(), catalogue, quick_pool(), Arc::new(Ahead(3 * HOUR)));
    assert_eq!(later.sweep(2 * HOUR).await.expect("swept"), 1);
    assert_eq!(later.sweep(2 * HOUR).await.expect("swept"), 0);
    let outcomes: Vec<_> = ledger(&s.db).await.into_iter().map(|row| (row.id == id.0, row.outcome)).collect();
    assert!(outcomes.contains(&(true, Some("swept".into()))) && outcomes.contains(&(false, Some("ok".into()))), "{outcomes:?}");
}

#[tokio::test]
async fn two_tenants_never_share_a_prefix() {
    let s = setup().await;
    let tenant = testkit::tenant(&s.db, "b").await;
    let stranger = testkit::user(&s.db, &tenant, &[Role::User]).await;
    read(&mut s.ask().await).await;
    read(&mut s.inference.admit(&stranger, request()).await.expect("admitted")).await;
    let partitions: Vec<String> = s.worker.requests().into_iter().map(|request| request.partition).collect();
    assert_ne!(partitions[0], partitions[1], "If you are here because this failed: one tenant can time another's prompts.");
}

#[tokio::test]
async fn nor_do_two_classes_of_data() {
    let s = setup().await;
    let confidential = s.actor.clone().raised_to(DataClass::Confidential);
    for actor in [&s.actor, &confidential, &s.actor] {
        read(&mut s.inference.admit(actor, request()).await.expect("admitted")).await;
    }
    let partitions: Vec<String> = s.worker.requests().into_iter().map(|request| request.partition).collect();
    assert_ne!(
        partitions[0], partitions[1],
        "If you are here because this failed: more guarded prompts can be timed with less guarded ones."
    );
    assert_eq!(partitions[0], partitions[2]);
}
