//! What becomes of the data of an earlier version.

use testkit::{TestDb, ledger::execute_as_owner};

/// Before the ledger lay by day.
const STEPS: u32 = 8;

/// A person with uses of today, of last week and of more than a year ago, one of them not settled.
const LEDGER: &str = "
  INSERT INTO tenant (id, slug, name) VALUES ('00000000-0000-7000-8000-00000000000a', 'a', 'A');
  INSERT INTO app_user (tenant_id, id, email, name)
  VALUES ('00000000-0000-7000-8000-00000000000a', '00000000-0000-7000-8000-00000000000b', 'a@example.org', 'A');
  INSERT INTO usage_event (tenant_id, id, user_id, model, purpose, state, outcome, reserved_tokens, prompt_tokens, cached_tokens,
                           completion_tokens, request_id, created_at, settled_at, currency, cost)
  SELECT '00000000-0000-7000-8000-00000000000a', gen_random_uuid(), '00000000-0000-7000-8000-00000000000b', 'm', 'chat',
         'settled', 'ok', 100, 10, 4, 7, gen_random_uuid(), now() - make_interval(days => n * 7), now(), 'EUR', 0.000000000123 * (n + 1)
  FROM generate_series(0, 60) AS n;
  INSERT INTO usage_event (tenant_id, id, model, purpose, reserved_tokens, request_id)
  VALUES ('00000000-0000-7000-8000-00000000000a', gen_random_uuid(), 'm', 'api', 100, gen_random_uuid());";

const SUM: &str = "SELECT (sum(cost) * 1000000000000)::bigint AS value FROM usage_event WHERE state = 'settled' AND prompt_tokens = 10
                   AND cached_tokens = 4 AND completion_tokens = 7 AND user_id IS NOT NULL";

#[tokio::test]
async fn the_ledger_of_an_earlier_version_is_there_to_the_last_digit_and_lies_by_day() {
    let test = TestDb::of_earlier_version(STEPS).await;
    execute_as_owner(&test, LEDGER).await;
    let before = test.count_as_owner(SUM).await;
    assert!(before > 0);
    test.upgrade().await;
    assert_eq!(test.count_as_owner(SUM).await, before, "If you are here because this failed: an upgrade loses money.");
    assert_eq!(test.count_as_owner("SELECT count(*) AS value FROM usage_event WHERE state = 'open'").await, 1);
    assert_eq!(test.count_as_owner("SELECT count(*) AS value FROM usage_event_rest").await, 0, "each day has a partition");
    let days = "SELECT count(DISTINCT tableoid) AS value FROM usage_event";
    assert_eq!(test.count_as_owner(days).await, 61);
    let tx = test.db.begin_system("upkeep", store::Reason::Sweep).await.unwrap();
    assert_eq!(tx.ledger_days().prepare().await.unwrap(), 0, "the days to come are there already");
}

/// Before totals of files were counted along with them.
const UNCOUNTED: u32 = 13;

/// A program with two files.
const FILES: &str = "
  INSERT INTO tenant (id, slug, name) VALUES ('00000000-0000-7000-8000-00000000000a', 'a', 'A');
  INSERT INTO service_account (tenant_id, id, name, purpose)
  VALUES ('00000000-0000-7000-8000-00000000000a', '00000000-0000-7000-8000-00000000000b', 'a', 'a');
  INSERT INTO file (tenant_id, id, account_id, filename, bytes, created_at)
  SELECT '00000000-0000-7000-8000-00000000000a', gen_random_uuid(), '00000000-0000-7000-8000-00000000000b', 'a', n, now()
  FROM generate_series(3, 4) AS n;";

#[tokio::test]
async fn files_of_an_earlier_version_count() {
    let test = TestDb::of_earlier_version(UNCOUNTED).await;
    execute_as_owner(&test, FILES).await;
    test.upgrade().await;
    assert_eq!(test.count_as_owner("SELECT bytes AS value FROM file_total").await, 7);
    execute_as_owner(&test, "DELETE FROM file WHERE bytes = 3").await;
    assert_eq!(test.count_as_owner("SELECT bytes AS value FROM file_total").await, 4);
}
