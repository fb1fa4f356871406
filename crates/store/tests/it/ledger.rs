//! The ledger: opened once, settled once, reported as it is.

use contract::{
    account::Role,
    ids::{ApiKeyId, NodeId, RequestId, ServiceAccountId, TenantId, UsageId, UserId},
    usage::Purpose,
};
use domain::{Actor, Amount, Clock, SystemClock};
use std::collections::HashMap;
use store::{
    Reason,
    ledger::{Entry, Settling, WriteError},
    usage::{NewUsage, Outcome, Settlement},
};
use testkit::{TestDb, ledger::execute_as_owner};
use time::macros::date;
use uuid::Uuid;

/// 2026-03-01T23:59:59.500Z
const LATE: i64 = 1_772_409_599_500;

pub fn usage(actor: &Actor, created_at: i64) -> NewUsage {
    NewUsage {
        tenant: actor.tenant(),
        program: None,
        id: UsageId(Uuid::now_v7()),
        user: Some(actor.user().unwrap()),
        model: "m".into(),
        purpose: Purpose::Chat,
        reserved_tokens: 100,
        team: String::new(),
        cost_center: String::new(),
        reserved: None,
        node: NodeId(Uuid::now_v7()),
        request: RequestId(Uuid::now_v7()),
        created_at,
    }
}

pub fn settlement(new: &NewUsage, outcome: Outcome, at: i64) -> Settlement {
    Settlement {
        tenant: new.tenant,
        id: new.id,
        opened_at: new.created_at,
        outcome,
        model: None,
        prompt_tokens: 10,
        cached_tokens: 4,
        completion_tokens: 7,
        cost: Amount::ZERO,
        ttft_ms: Some(5),
        duration_ms: Some(9),
        at,
    }
}

pub async fn open(test: &TestDb, new: &NewUsage) {
    test.db.write_ledger(&[new], &[]).await.unwrap();
}

pub async fn settle(test: &TestDb, new: &NewUsage, outcome: Outcome, at: i64) -> bool {
    test.db.write_ledger(&[], &[&settlement(new, outcome, at)]).await.unwrap()[&new.id] == Settling::Done
}

#[tokio::test]
async fn an_event_is_settled_only_once() {
    let test = TestDb::new().await;
    let tenant = testkit::tenant(&test, "a").await;
    let actor = testkit::user(&test, &tenant, &[Role::User]).await;
    let new = usage(&actor, SystemClock.now());
    open(&test, &new).await;
    let ways_out = [Outcome::Ok, Outcome::Cancelled, Outcome::Disconnected, Outcome::Failed];
    let settled = futures::future::join_all(ways_out.map(|outcome| settle(&test, &new, outcome, SystemClock.now()))).await;
    assert_eq!(
        settled.iter().filter(|settled| **settled).count(),
        1,
        "{settled:?}. If you are here because this failed: somebody would pay twice, or for nothing."
    );
    // The sweeper comes too late as well.
    let tx = test.db.begin_system("sweeper", Reason::Sweep).await.unwrap();
    assert_eq!(tx.usage().settle_stale(SystemClock.now() + 10_000, SystemClock.now()).await.unwrap(), 0);
}

#[tokio::test]
async fn many_uses_of_several_tenants_are_written_together_or_not_at_all() {
    let test = TestDb::new().await;
    let mut uses = Vec::new();
    for slug in ["a", "b"] {
        let tenant = testkit::tenant(&test, slug).await;
        let actor = testkit::user(&test, &tenant, &[Role::User]).await;
        uses.extend((0..3).map(|_| usage(&actor, SystemClock.now())));
    }
    let nobodys = NewUsage { tenant: TenantId(Uuid::now_v7()), id: UsageId(Uuid::now_v7()), ..uses[0].clone() };
    let all: Vec<&NewUsage> = uses.iter().collect();
    assert!(test.db.write_ledger(&[&uses[0], &nobodys], &[]).await.is_err(), "there is no such tenant");
    assert_eq!(test.count_as_owner("SELECT count(*) AS value FROM usage_event").await, 0);
    test.db.write_ledger(&all, &[]).await.unwrap();
    test.db.write_ledger(&all, &[]).await.expect("what was not heard is said again");
    assert_eq!(test.count_as_owner("SELECT count(*) AS value FROM usage_event").await, 6);
    let cost = Amount::new("cost", "0.000000000123".parse().unwrap()).unwrap();
    let mut settlements: Vec<Settlement> = uses.iter().map(|new| settlement(new, Outcome::Ok, SystemClock.now())).collect();
    settlements[0].cost = cost;
    let first: Vec<&Settlement> = settlements.iter().take(4).collect();
    let settled = test.db.write_ledger(&[], &first).await.unwrap();
    assert!(settled.len() == 4 && settled.values().all(|settling| *settling == Settling::Done), "{settled:?}");
    let settled = test.db.write_ledger(&[], &settlements.iter().collect::<Vec<_>>()).await.unwrap();
    let again = uses.iter().map(|new| settled[&new.id] == Settling::Done).collect::<Vec<_>>();
    assert_eq!(again, [false, false, false, false, true, true], "each once");
    let exact = "SELECT count(*) AS value FROM usage_event WHERE cost = 0.000000000123 AND state = 'settled' AND completion_tokens = 7";
    assert_eq!(test.count_as_owner(exact).await, 1, "to the last digit");
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test is what holds the row")]
async fn a_row_that_somebody_holds_keeps_nobody_else_waiting() {
    let test = TestDb::new().await;
    let tenant = testkit::tenant(&test, "a").await;
    let (gone, stays) = (testkit::user(&test, &tenant, &[Role::User]).await, testkit::user(&test, &tenant, &[Role::User]).await);
    let uses = [usage(&gone, SystemClock.now()), usage(&stays, SystemClock.now())];
    test.db.write_ledger(&[&uses[0], &uses[1]], &[]).await.unwrap();
    let owner = sea_orm::Database::connect(&test.owner_url).await.unwrap();
    let deleting = sea_orm::TransactionTrait::begin(&owner).await.unwrap();
    let delete = format!("DELETE FROM app_user WHERE id = '{}'", gone.user().unwrap());
    sea_orm::ConnectionTrait::execute_unprepared(&deleting, &delete).await.unwrap();
    let settlements = uses.each_ref().map(|new| settlement(new, Outcome::Ok, SystemClock.now()));
    let both = [&settlements[0], &settlements[1]];
    let settled = test.db.write_ledger(&[], &both).await.unwrap();
    assert_eq!((settled[&uses[0].id], settled[&uses[1].id]), (Settling::Busy, Settling::Done));
    deleting.commit().await.unwrap();
    let settled = test.db.write_ledger(&[], &both).await.unwrap();
    assert_eq!((settled[&uses[0].id], settled[&uses[1].id]), (Settling::Done, Settling::Before));
}

#[tokio::test]
async fn a_use_is_opened_and_settled_by_the_same_call() {
    let test = TestDb::new().await;
    let tenant = testkit::tenant(&test, "a").await;
    let actor = testkit::user(&test, &tenant, &[Role::User]).await;
    let now = SystemClock.now();
    // One is open already, one is only opened, one is of another day; of one nobody knows.
    let [open_before, both, stays_open, of_last_year, unknown] =
        [now, now, now, now - 400 * 24 * 60 * 60 * 1000, now].map(|created_at| usage(&actor, created_at));
    open(&test, &open_before).await;
    let settlements = [&open_before, &both, &of_last_year, &unknown].map(|new| settlement(new, Outcome::Failed, now));
    let settle = settlements.each_ref();
    let write = || async { test.db.write_ledger(&[&open_before, &both, &stays_open, &of_last_year], &settle).await.unwrap() };
    let told = write().await;
    let of = |told: &std::collections::HashMap<UsageId, Settling>| settlements.each_ref().map(|with| told[&with.id]);
    assert_eq!(of(&told), [Settling::Done, Settling::Done, Settling::Done, Settling::Missing]);
    let told = write().await;
    let again = [Settling::Before, Settling::Before, Settling::Before, Settling::Missing];
    assert_eq!(of(&told), again, "what was not heard is said again");
    let settled = "SELECT count(*) AS value FROM usage_event WHERE state = 'settled' AND outcome = 'failed' AND completion_tokens = 7 AND ttft_ms = 5";
    assert_eq!(test.count_as_owner(settled).await, 3);
    assert_eq!(test.count_as_owner("SELECT count(*) AS value FROM usage_event WHERE state = 'open'").await, 1);
    assert!(test.db.write_ledger(&[], &[]).await.unwrap().is_empty());
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test is the one who has not finished")]
async fn a_use_that_another_statement_is_opening_is_settled_after_that() {
    let test = TestDb::new().await;
    let tenant = testkit::tenant(&test, "a").await;
    let actor = testkit::user(&test, &tenant, &[Role::User]).await;
    let new = usage(&actor, SystemClock.now());
    let with = settlement(&new, Outcome::Ok, SystemClock.now());
    let owner = sea_orm::Database::connect(&test.owner_url).await.unwrap();
    let opening = sea_orm::TransactionTrait::begin(&owner).await.unwrap();
    let insert = format!(
        "INSERT INTO usage_event (tenant_id, id, model, purpose, reserved_tokens, request_id, created_at)
         VALUES ('{}', '{}', 'm', 'chat', 100, '{}', 'epoch'::timestamptz + {} * interval '1 millisecond')",
        new.tenant, new.id, new.id, new.created_at
    );
    sea_orm::ConnectionTrait::execute_unprepared(&opening, &insert).await.unwrap();
    let (open, settle) = ([&new], [&with]);
    let (told, ()) = tokio::join!(test.db.write_ledger(&open, &settle), async {
        let waits = "SELECT count(*) AS value FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        testkit::eventually("the second one waits for the first", 20, || async { test.count_as_owner(waits).await > 0 }).await;
        opening.commit().await.unwrap();
    });
    assert_eq!(told.unwrap()[&new.id], Settling::Done, "once the other one has opened it");
    let told = test.db.write_ledger(&[&new], &[&with]).await.unwrap();
    assert_eq!(told[&new.id], Settling::Before);
}

/// What a batch may have of everything, on both sides of midnight.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test is what holds the row")]
async fn one_call_settles_what_it_opens_and_what_others_opened_on_either_day() {
    let test = TestDb::new().await;
    let tenant = testkit::tenant(&test, "a").await;
    let actor = testkit::user(&test, &tenant, &[Role::User]).await;
    let days = "SELECT count(*) FILTER (WHERE ledger_add_day(day)) AS value FROM unnest('{2026-03-01,2026-03-02}'::date[]) AS day";
    assert_eq!(test.count_as_owner(days).await, 2);
    let at = [LATE, LATE + 499, LATE + 500, LATE + 1_000];
    let [evening, held, midnight, both] = at.map(|created_at| usage(&actor, created_at));
    let (conflict, missing) = (usage(&actor, LATE + 600), usage(&actor, LATE + 600));
    test.db.write_ledger(&[&evening, &held, &midnight, &conflict], &[]).await.unwrap();
    let owner = sea_orm::Database::connect(&test.owner_url).await.unwrap();
    let holding = sea_orm::TransactionTrait::begin(&owner).await.unwrap();
    let hold = format!("SELECT FROM usage_event WHERE id = '{}' FOR UPDATE", held.id);
    sea_orm::ConnectionTrait::execute_unprepared(&holding, &hold).await.unwrap();
    let settlements = [&evening, &held, &midnight, &both, &conflict, &missing].map(|new| settlement(new, Outcome::Ok, LATE + 2_000));
    let open = [&both, &conflict];
    let told = test.db.write_ledger(&open, &settlements.each_ref()).await.unwrap();
    let of = |new: &NewUsage| told[&new.id];
    assert_eq!([&evening, &midnight, &both, &conflict].map(of), [Settling::Done; 4]);
    assert_eq!((of(&held), of(&missing)), (Settling::Busy, Settling::Missing));
    holding.rollback().await.unwrap();
    let told = test.db.write_ledger(&open, &settlements.each_ref()).await.unwrap();
    assert_eq!((told[&held.id], told[&both.id], told[&missing.id]), (Settling::Done, Settling::Before, Settling::Missing));
    for (day, uses) in [("20260301", 2), ("20260302", 3)] {
        let settled = format!("SELECT count(*) AS value FROM usage_event_{day} WHERE state = 'settled' AND completion_tokens = 7");
        assert_eq!(test.count_as_owner(&settled).await, uses, "{day}");
    }
}

/// Connections keep plans from when the day had a few rows, which fit into a page or two.
#[tokio::test]
async fn a_use_is_looked_up_by_its_key_however_much_the_day_has_grown() {
    let test = TestDb::new().await;
    let tenant = testkit::tenant(&test, "a").await;
    let actor = testkit::user(&test, &tenant, &[Role::User]).await;
    assert_eq!(test.count_as_owner("SELECT count(*) FILTER (WHERE ledger_add_day('2026-03-01')) AS value").await, 1);
    let filled_with = |uses: u32| {
        format!(
            "INSERT INTO usage_event (tenant_id, id, model, purpose, reserved_tokens, request_id, created_at)
             SELECT '{}', gen_random_uuid(), 'm', 'api', 1, gen_random_uuid(), '2026-03-01T12:00:00Z' FROM generate_series(1, {uses});",
            actor.tenant()
        )
    };
    execute_as_owner(&test, &format!("{} ANALYZE usage_event_20260301;", filled_with(60))).await;
    let unknown: Vec<Settlement> = (0..200).map(|_| settlement(&usage(&actor, LATE), Outcome::Ok, LATE + 1_000)).collect();
    let settle: Vec<&Settlement> = unknown.iter().collect();
    let write = || async { test.db.write_ledger(&[], &settle).await.unwrap() };
    for _ in 0..20 {
        assert!(write().await.values().all(|settling| *settling == Settling::Missing));
    }
    execute_as_owner(&test, &filled_with(20_000)).await;
    let lookups = "SELECT coalesce(sum(idx_scan), 0)::bigint AS value FROM pg_stat_user_indexes WHERE relname = 'usage_event_20260301'";
    testkit::eventually("each is looked up by its key", 20, || async {
        // A connection tells its statistics with a statement, not more often than once a second.
        assert_eq!(write().await.len(), 200);
        test.count_as_owner(lookups).await >= 200
    })
    .await;
}

#[tokio::test]
async fn a_person_who_is_gone_is_not_named_and_a_program_is() {
    let test = TestDb::new().await;
    let tenant = testkit::tenant(&test, "a").await;
    let actor = testkit::user(&test, &tenant, &[Role::User]).await;
    let named = usage(&actor, SystemClock.now());
    let gone = NewUsage { id: UsageId(Uuid::now_v7()), user: Some(UserId(Uuid::now_v7())), ..named.clone() };
    let program = Some((ServiceAccountId(Uuid::now_v7()), ApiKeyId(Uuid::now_v7())));
    let euro = Some(("EUR".parse().unwrap(), Amount::ZERO));
    let programs = NewUsage { id: UsageId(Uuid::now_v7()), user: None, program, reserved: euro, ..named.clone() };
    test.db.write_ledger(&[&named, &gone, &programs], &[]).await.unwrap();
    for (what, uses) in [
        ("user_id IS NOT NULL AND account_id IS NULL AND key_id IS NULL AND currency IS NULL", 1),
        ("user_id IS NULL AND account_id IS NULL AND key_id IS NULL", 1),
        ("user_id IS NULL AND account_id IS NOT NULL AND key_id IS NOT NULL AND currency = 'EUR'", 1),
        ("outcome IS NULL AND settled_at IS NULL AND ttft_ms IS NULL AND duration_ms IS NULL", 3),
    ] {
        let count = format!("SELECT count(*) AS value FROM usage_event WHERE {what}");
        assert_eq!(test.count_as_owner(&count).await, uses, "{what}");
    }
}

#[tokio::test]
async fn figures_at_the_border_are_kept_and_those_beyond_it_refused() {
    let test = TestDb::new().await;
    let tenant = testkit::tenant(&test, "a").await;
    let actor = testkit::user(&test, &tenant, &[Role::User]).await;
    let most = Amount::new("cost", "999999999999.999999999999".parse().unwrap()).unwrap();
    let euro = "EUR".parse().unwrap();
    // The same figures where a use is opened and settled at once, and where it is opened first.
    let uses = [0, 253_402_300_799_999].map(|created_at| NewUsage {
        reserved_tokens: u32::MAX,
        reserved: Some((euro, most)),
        ..usage(&actor, created_at)
    });
    let settlements = uses.each_ref().map(|new| Settlement {
        model: Some("another".into()),
        prompt_tokens: u32::MAX,
        cached_tokens: u32::MAX,
        completion_tokens: u32::MAX,
        cost: most,
        ttft_ms: Some(0),
        duration_ms: None,
        ..settlement(new, Outcome::Ok, 253_402_300_799_999)
    });
    open(&test, &uses[0]).await;
    let told = test.db.write_ledger(&[&uses[1]], &settlements.each_ref()).await.unwrap();
    assert!(told.len() == 2 && told.values().all(|settling| *settling == Settling::Done), "{told:?}");
    let kept = "SELECT count(*) AS value FROM usage_event
                WHERE reserved_tokens = 2147483647 AND prompt_tokens = 2147483647 AND cached_tokens = 2147483647
                  AND completion_tokens = 2147483647 AND cost = 999999999999.999999999999 AND reserved_cost = cost AND currency = 'EUR'
                  AND model = 'another' AND ttft_ms = 0 AND duration_ms IS NULL AND settled_at = '9999-12-31T23:59:59.999Z'
                  AND created_at IN ('1970-01-01T00:00:00Z', '9999-12-31T23:59:59.999Z')";
    assert_eq!(test.count_as_owner(kept).await, 2);
    let beyond = usage(&actor, 253_402_300_800_000);
    assert!(test.db.write_ledger(&[&beyond], &[]).await.is_err(), "there is no such year");
    let too_much = NewUsage { reserved: Some((euro, most.times(1_000))), ..usage(&actor, SystemClock.now()) };
    assert!(test.db.write_ledger(&[&too_much], &[]).await.is_err(), "there is no room for that much");
}

#[tokio::test]
async fn what_is_opened_is_told_of_though_something_else_cannot_be_settled() {
    let test = TestDb::new().await;
    let tenant = testkit::tenant(&test, "a").await;
    let actor = testkit::user(&test, &tenant, &[Role::User]).await;
    let now = SystemClock.now();
    let [open_before, both, opened] = [now; 3].map(|created_at| usage(&actor, created_at));
    open(&test, &open_before).await;
    let too_much = Amount::new("cost", "999999999999.999999999999".parse().unwrap()).unwrap().times(1_000);
    let beyond = Settlement { cost: too_much, ..settlement(&open_before, Outcome::Ok, now) };
    let settled = settlement(&both, Outcome::Ok, now);
    let entries = [Entry::open(&both), Entry::open(&opened), Entry::settle(&settled), Entry::settle(&beyond)].map(Result::unwrap);
    let wrote = test.db.write_entries(&entries.each_ref()).await.unwrap();
    assert!(matches!(wrote.failed, Some(WriteError::Rejected(_))), "{wrote:?}");
    assert_eq!(wrote.told, HashMap::from([(both.id, Settling::Done)]));
    for (state, uses) in [("settled", 1), ("open", 2)] {
        assert_eq!(
            test.count_as_owner(&format!("SELECT count(*) AS value FROM usage_event WHERE state = '{state}'")).await,
            uses,
            "{state}"
        );
    }
    let alone = test.db.write_entries(&[&entries[3]]).await;
    assert!(matches!(alone, Err(WriteError::Rejected(_))), "{alone:?}");
    execute_as_owner(&test, "REVOKE UPDATE ON usage_event FROM kontor_system").await;
    let another = Entry::open(&usage(&actor, now)).unwrap();
    let in_time = Entry::settle(&settlement(&open_before, Outcome::Ok, now)).unwrap();
    let wrote = test.db.write_entries(&[&another, &in_time]).await.unwrap();
    assert!(wrote.told.is_empty() && matches!(wrote.failed, Some(WriteError::Failed(_))), "{wrote:?}");
    assert_eq!(test.count_as_owner("SELECT count(*) AS value FROM usage_event WHERE state = 'open'").await, 3);
}

#[tokio::test]
async fn postgres_refuses_to_change_a_settled_event() {
    let test = TestDb::new().await;
    let tenant = testkit::tenant(&test, "a").await;
    let actor = testkit::user(&test, &tenant, &[Role::User]).await;
    let new = usage(&actor, SystemClock.now());
    open(&test, &new).await;
    assert!(settle(&test, &new, Outcome::Ok, SystemClock.now()).await);
    let forged = std::panic::AssertUnwindSafe(execute_as_owner(&test, "UPDATE usage_event SET prompt_tokens = 0"));
    assert!(futures::FutureExt::catch_unwind(forged).await.is_err(), "even the owner cannot change a settled event by mistake");
}

#[tokio::test]
async fn the_report_counts_settled_events_by_utc_day() {
    let test = TestDb::new().await;
    let tenant = testkit::tenant(&test, "a").await;
    let actor = testkit::user(&test, &tenant, &[Role::User]).await;
    let colleague = testkit::user(&test, &tenant, &[Role::User]).await;
    for (who, created_at) in [(&actor, LATE), (&actor, LATE + 400), (&actor, LATE + 600), (&colleague, LATE)] {
        let new = usage(who, created_at);
        open(&test, &new).await;
        assert!(settle(&test, &new, Outcome::Ok, created_at + 1_000).await);
    }
    open(&test, &usage(&actor, LATE)).await;

    let tx = test.db.begin(&actor).await.unwrap();
    let rows = tx.usage().report(actor.user().unwrap(), date!(2026 - 03 - 01), date!(2026 - 03 - 02)).await.unwrap();
    let figures: Vec<_> =
        rows.iter().map(|row| (row.day.as_str(), row.requests, row.prompt_tokens, row.cached_tokens, row.completion_tokens)).collect();
    assert_eq!(figures, [("2026-03-02", 1, 10, 4, 7), ("2026-03-01", 2, 20, 8, 14)]);
    let first = tx.usage().report(actor.user().unwrap(), date!(2026 - 03 - 01), date!(2026 - 03 - 01)).await.unwrap();
    assert_eq!(first.len(), 1);
    assert_eq!(tx.usage().as_of(actor.user().unwrap()).await.unwrap(), Some(LATE + 1_600));
}

#[tokio::test]
async fn the_sweeper_settles_only_what_is_old() {
    let test = TestDb::new().await;
    let tenant = testkit::tenant(&test, "a").await;
    let actor = testkit::user(&test, &tenant, &[Role::User]).await;
    let now = SystemClock.now();
    open(&test, &usage(&actor, now - 60_000)).await;
    open(&test, &usage(&actor, now)).await;
    let tx = test.db.begin_system("sweeper", Reason::Sweep).await.unwrap();
    assert_eq!(tx.usage().settle_stale(now - 30_000, now).await.unwrap(), 1);
    tx.commit().await.unwrap();
    assert_eq!(test.count_as_owner("SELECT count(*) AS value FROM usage_event WHERE outcome = 'swept' AND completion_tokens = 0").await, 1);
    assert_eq!(test.count_as_owner("SELECT count(*) AS value FROM usage_event WHERE state = 'open'").await, 1);
}
