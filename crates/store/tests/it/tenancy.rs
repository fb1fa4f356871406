//! What Postgres itself refuses, whatever the code above it asks for.

use crate::statement;
use contract::{
    account::Role,
    ids::{SessionId, UserId},
};
use domain::{Actor, Clock, SystemClock};
use sea_orm::{ConnectionTrait, DatabaseConnection};
use store::Reason;
use testkit::{TestDb, TestTenant, ledger::execute_as_owner};
use uuid::Uuid;

/// Two tenants with a person each, and one row of every tenant table for either.
struct House {
    test: TestDb,
    a: TestTenant,
    b: TestTenant,
    anna: Actor,
    bert: Actor,
}

impl House {
    async fn build() -> Self {
        let test = TestDb::new().await;
        let (a, b) = (testkit::tenant(&test, "a").await, testkit::tenant(&test, "b").await);
        let anna = testkit::user(&test, &a, &[Role::User]).await;
        let bert = testkit::user(&test, &b, &[Role::User]).await;
        furnish(&test, &a, &anna).await;
        furnish(&test, &b, &bert).await;
        Self { test, a, b, anna, bert }
    }
}

/// One row of every table that the actors did not fill already.
async fn furnish(test: &TestDb, tenant: &TestTenant, actor: &Actor) {
    let (tenant, user) = (tenant.id, actor.user().unwrap());
    let [conversation, message, turn] = [Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7()];
    execute_as_owner(
        test,
        &format!(
            "INSERT INTO local_credential (tenant_id, user_id, email_key, password_hash) VALUES ('{tenant}', '{user}', '{user}@example.org', 'x');
             INSERT INTO conversation (tenant_id, id, user_id, title, system_prompt) VALUES ('{tenant}', '{conversation}', '{user}', 'secret', 'secret');
             INSERT INTO message (tenant_id, id, conversation_id, user_id, role, content, status, depth)
               VALUES ('{tenant}', '{message}', '{conversation}', '{user}', 'user', 'a secret', 'complete', 0);
             INSERT INTO attachment (tenant_id, id, message_id, name, bytes, content) VALUES ('{tenant}', '{message}', '{message}', 'secret.txt', 6, 'secret');
             INSERT INTO turn (tenant_id, id, conversation_id, message_id, user_id, node, status)
               VALUES ('{tenant}', '{turn}', '{conversation}', '{message}', '{user}', '{turn}', 'complete');
             INSERT INTO turn_event (tenant_id, turn_id, seq, payload) VALUES ('{tenant}', '{turn}', 1, '{{}}');
             INSERT INTO usage_event (tenant_id, id, user_id, model, purpose, reserved_tokens, request_id)
               VALUES ('{tenant}', '{turn}', '{user}', 'm', 'chat', 1, '{turn}');
             INSERT INTO usage_daily (tenant_id, day, user_id, team, cost_center, model, purpose, requests, failures, from_cache, prompt_tokens, cached_tokens,
                 completion_tokens, cost, ttft_ms, ttft_count, duration_ms, duration_count, settled_at)
               VALUES ('{tenant}', '2020-01-01', '{user}', '', '', 'm', 'chat', 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, now());
             INSERT INTO ledger_count (tenant_id, day, node_id, uses, prompt_tokens, cached_tokens, completion_tokens, settled_at)
               VALUES ('{tenant}', '2020-01-01', '{turn}', 1, 0, 0, 0, now());
             INSERT INTO service_account (tenant_id, id, name, purpose) VALUES ('{tenant}', '{turn}', 'secret', 'secret');
             INSERT INTO api_key (tenant_id, id, account_id, hash, hint, scopes)
               VALUES ('{tenant}', '{turn}', '{turn}', sha256('{turn}'::text::bytea), 'abcd', '{{inference}}');
             INSERT INTO response (tenant_id, id, account_id, model, status, instructions, echo, input, bytes, background, node, expires_at)
               VALUES ('{tenant}', '{turn}', '{turn}', 'm', 'in_progress', 'secret', '{{}}', '[\"secret\"]', 10, false, '{turn}', now());
             INSERT INTO response_event (tenant_id, response_id, seq, payload) VALUES ('{tenant}', '{turn}', 1, '{{}}');
             INSERT INTO file (tenant_id, id, account_id, filename, created_at) VALUES ('{tenant}', '{turn}', '{turn}', 'secret.txt', now());
             INSERT INTO file_chunk (tenant_id, file_id, number, bytes) VALUES ('{tenant}', '{turn}', 0, sha256('secret'));
             INSERT INTO file_total (tenant_id, bytes) VALUES ('{tenant}', 6);
             INSERT INTO batch (tenant_id, id, account_id, key_id, endpoint, input_file_id, status, metadata, created_at, expires_at)
               VALUES ('{tenant}', '{turn}', '{turn}', '{turn}', '/v1/x', '{turn}', 'validating', '{{\"a\": \"secret\"}}', now(), now());
             INSERT INTO batch_line (tenant_id, batch_id, number, custom_id, body) VALUES ('{tenant}', '{turn}', 1, 'secret', '{{}}');
             INSERT INTO budget (tenant_id, id, level, currency, amount, period) VALUES ('{tenant}', '{turn}', 'tenant', 'EUR', 1, 'total');
             INSERT INTO budget_period (tenant_id, budget_id, subject, starts_at) VALUES ('{tenant}', '{turn}', '{tenant}', 'epoch');
             INSERT INTO budget_share (tenant_id, budget_id, subject, starts_at, node_id) VALUES ('{tenant}', '{turn}', '{tenant}', 'epoch', '{turn}');
             INSERT INTO rate_limit (tenant_id, id, level, requests) VALUES ('{tenant}', '{turn}', 'tenant', 1);
             INSERT INTO limit_minute (tenant_id, limit_id, subject, unit, ends_at, taken) VALUES ('{tenant}', '{turn}', 'x', 'tokens', now(), 1);
             INSERT INTO limit_place (tenant_id, limit_id, subject, node_id, held) VALUES ('{tenant}', '{turn}', 'x', '{turn}', 1);
             INSERT INTO guardrail_policy (tenant_id, policy) VALUES ('{tenant}', '{{\"rules\": []}}');
             INSERT INTO response_cache (tenant_id, ttl_seconds, memory_mib) VALUES ('{tenant}', 60, 1);
             INSERT INTO audit_event (id, tenant_id, actor, action) VALUES ('{turn}', '{tenant}', '{user}', 'test');"
        ),
    )
    .await;
}

/// A connection of the web's login, bound to a tenant as `Db::begin` binds it, but for the whole session.
async fn bound(test: &TestDb, tenant: &TestTenant) -> DatabaseConnection {
    let connection = test.login("kontor_tenant").await;
    connection.execute_raw(statement("SELECT set_config('app.tenant_id', $1, false)", [tenant.id.to_string().into()])).await.unwrap();
    connection
}

async fn tables(test: &TestDb) -> Vec<String> {
    let owner = sea_orm::Database::connect(&test.owner_url).await.unwrap();
    let rows = owner
        .query_all_raw(statement(
            "SELECT table_name::text AS name FROM information_schema.columns WHERE table_schema = 'public' AND column_name = 'tenant_id'
               AND table_name NOT IN (SELECT relname FROM pg_class WHERE relispartition)",
            [],
        ))
        .await
        .unwrap();
    rows.iter().map(|row| row.try_get("", "name").unwrap()).collect()
}

async fn count(connection: &DatabaseConnection, sql: &str) -> i64 {
    connection.query_one_raw(statement(sql, [])).await.unwrap().unwrap().try_get("", "value").unwrap()
}

#[tokio::test]
async fn a_tenant_sees_its_own_rows_and_nobody_elses() {
    let house = House::build().await;
    let (own, other) = (house.a.id, house.b.id);
    let connection = bound(&house.test, &house.a).await;
    for table in tables(&house.test).await {
        assert!(
            count(&connection, &format!("SELECT count(*) AS value FROM {table} WHERE tenant_id = '{own}'")).await > 0,
            "{table}: nothing to see"
        );
        let foreign = count(&connection, &format!("SELECT count(*) AS value FROM {table} WHERE tenant_id = '{other}'")).await;
        assert_eq!(
            foreign, 0,
            "{table} shows another tenant's rows. If you are here because this failed: nothing else matters until it passes."
        );
    }
    assert_eq!(count(&connection, "SELECT count(*) AS value FROM tenant").await, 1);
}

#[tokio::test]
async fn without_a_tenant_there_is_nothing_to_see() {
    let house = House::build().await;
    let connection = house.test.login("kontor_tenant").await;
    for table in tables(&house.test).await {
        assert_eq!(count(&connection, &format!("SELECT count(*) AS value FROM {table}")).await, 0, "{table}");
    }
}

#[tokio::test]
async fn a_tenant_changes_and_removes_nobody_elses_rows() {
    let house = House::build().await;
    let other = house.b.id;
    let connection = bound(&house.test, &house.a).await;
    let attempts = [
        "UPDATE app_user SET name = 'x' WHERE tenant_id = ",
        "UPDATE local_credential SET password_hash = 'x' WHERE tenant_id = ",
        "UPDATE session SET revoked_at = now() WHERE tenant_id = ",
        "UPDATE conversation SET title = 'x' WHERE tenant_id = ",
        "UPDATE message SET content = 'x' WHERE tenant_id = ",
        "UPDATE turn SET status = 'stopped' WHERE tenant_id = ",
        "DELETE FROM app_user WHERE tenant_id = ",
        "DELETE FROM conversation WHERE tenant_id = ",
        "DELETE FROM message WHERE tenant_id = ",
        "DELETE FROM attachment WHERE tenant_id = ",
        "DELETE FROM turn_event WHERE tenant_id = ",
        "UPDATE response SET status = 'cancelled', ended_at = now() WHERE tenant_id = ",
        "DELETE FROM response WHERE tenant_id = ",
        "DELETE FROM response_event WHERE tenant_id = ",
        "UPDATE file SET bytes = 0 WHERE tenant_id = ",
        "DELETE FROM file WHERE tenant_id = ",
        "UPDATE file_total SET bytes = 0 WHERE tenant_id = ",
        "DELETE FROM file_chunk WHERE tenant_id = ",
        "UPDATE batch SET lease = NULL WHERE tenant_id = ",
        "DELETE FROM batch WHERE tenant_id = ",
        "UPDATE batch_line SET body = 'x' WHERE tenant_id = ",
        "DELETE FROM batch_line WHERE tenant_id = ",
    ];
    for attempt in attempts {
        let touched = connection.execute_raw(statement(&format!("{attempt}'{other}'"), [])).await.unwrap().rows_affected();
        assert_eq!(touched, 0, "{attempt}");
    }
}

#[tokio::test]
async fn a_tenant_adds_nothing_to_another_and_moves_nothing_there() {
    let house = House::build().await;
    let (own, other) = (house.a.id, house.b.id);
    let (anna, bert) = (house.anna.user().unwrap(), house.bert.user().unwrap());
    let new = Uuid::now_v7();
    let connection = bound(&house.test, &house.a).await;
    let attempts = [
        format!("INSERT INTO conversation (tenant_id, id, user_id) VALUES ('{other}', '{new}', '{bert}')"),
        // Own tenant, somebody else's person: the composite key refuses it.
        format!("INSERT INTO conversation (tenant_id, id, user_id) VALUES ('{own}', '{new}', '{bert}')"),
        format!("UPDATE conversation SET tenant_id = '{other}' WHERE user_id = '{anna}'"),
        format!("INSERT INTO audit_event (id, tenant_id, actor, action) VALUES ('{new}', '{other}', 'x', 'x')"),
        format!("INSERT INTO audit_event (id, tenant_id, actor, action) VALUES ('{new}', NULL, 'x', 'x')"),
        format!("INSERT INTO user_role (tenant_id, user_id, role) VALUES ('{own}', '{anna}', 'system_admin')"),
        "UPDATE audit_event SET actor = 'somebody else'".to_owned(),
        "DELETE FROM audit_event".to_owned(),
        // The ledger is read only, and only as a whole.
        format!("INSERT INTO usage_event (tenant_id, id, model, purpose, reserved_tokens, request_id) VALUES ('{own}', '{new}', 'm', 'chat', 1, '{new}')"),
        "UPDATE usage_event SET prompt_tokens = 1".to_owned(),
        "DELETE FROM usage_event".to_owned(),
        "SELECT * FROM usage_event_rest".to_owned(),
        "UPDATE usage_daily SET cost = 0".to_owned(),
        "DELETE FROM usage_daily".to_owned(),
        "UPDATE ledger_day SET closed_at = now()".to_owned(),
        "UPDATE ledger_day SET drift_uses = 0".to_owned(),
        "UPDATE ledger_count SET uses = 2".to_owned(),
        "DELETE FROM ledger_count".to_owned(),
        "SELECT ledger_prepare(1)".to_owned(),
        "SELECT ledger_hold('2020-01-01')".to_owned(),
        "SELECT ledger_drop('2020-01-01')".to_owned(),
        // Nobody gives themselves money, or makes what they spent undone.
        "UPDATE budget SET amount = 1000".to_owned(),
        "UPDATE budget_period SET spent = 0".to_owned(),
        "DELETE FROM budget_share".to_owned(),
        "DELETE FROM rate_limit".to_owned(),
        "UPDATE limit_minute SET taken = 0".to_owned(),
        // Nor does anybody take off what watches them.
        "DELETE FROM guardrail_policy".to_owned(),
        // Or has what is kept of their answers kept longer.
        "UPDATE response_cache SET ttl_seconds = 1000000".to_owned(),
        "INSERT INTO price (id, model, currency, input, cached_input, output, per_request, valid_from) VALUES (gen_random_uuid(), 'm', 'EUR', 0, 0, 0, 0, now())"
            .to_owned(),
        "SELECT * FROM audit_seal".to_owned(),
        "SELECT * FROM sign_in_throttle".to_owned(),
        "SET ROLE kontor_system".to_owned(),
    ];
    for attempt in attempts {
        assert!(connection.execute_unprepared(&attempt).await.is_err(), "this worked: {attempt}");
    }
}

#[tokio::test]
async fn the_system_login_takes_nothing_out_of_the_ledger() {
    let house = House::build().await;
    let tenant = house.a.id;
    let ended = "INSERT INTO ledger_day (day, closed_at, dropped_at) VALUES ('2020-01-01', now(), now())";
    execute_as_owner(&house.test, ended).await;
    let connection = house.test.login("kontor_system").await;
    let attempts = [
        "DELETE FROM usage_event".to_owned(),
        "UPDATE usage_event SET created_at = now()".to_owned(),
        "SELECT * FROM usage_event_rest".to_owned(),
        "DELETE FROM usage_event_rest".to_owned(),
        "UPDATE usage_daily SET cost = 0".to_owned(),
        // Nobody but the sums has it any more.
        format!("DELETE FROM usage_daily WHERE tenant_id = '{tenant}'"),
        "UPDATE ledger_day SET dropped_at = NULL".to_owned(),
        "DELETE FROM ledger_day".to_owned(),
        "SELECT ledger_add_day('2020-01-01')".to_owned(),
        // Neither what is young nor what is not summed up.
        "SELECT ledger_drop((now() AT TIME ZONE 'UTC')::date - 300)".to_owned(),
        "SELECT ledger_drop('2019-01-01')".to_owned(),
    ];
    for attempt in attempts {
        assert!(connection.execute_unprepared(&attempt).await.is_err(), "this worked: {attempt}");
    }
}

#[tokio::test]
async fn the_system_login_cannot_read_what_people_wrote() {
    let house = House::build().await;
    let connection = house.test.login("kontor_system").await;
    let content = [
        ("message", "content"),
        ("message", "search"),
        ("message", "rating_comment"),
        ("attachment", "content"),
        ("attachment", "name"),
        ("turn_event", "payload"),
        ("response", "input"),
        ("response", "output"),
        ("response", "instructions"),
        ("response", "echo"),
        ("response", "metadata"),
        ("response_event", "payload"),
        ("file", "filename"),
        ("file_chunk", "bytes"),
        ("batch", "metadata"),
        ("batch", "errors"),
        ("batch_line", "custom_id"),
        ("batch_line", "body"),
        ("batch_line", "response"),
        ("conversation", "title"),
        ("conversation", "system_prompt"),
        ("app_user", "instructions"),
    ];
    for (table, column) in content {
        let refused = connection.query_all_raw(statement(&format!("SELECT {column} FROM {table}"), [])).await;
        let refused = refused.expect_err("If you are here because this failed: administrators of the platform must never see content.");
        assert!(refused.to_string().contains("permission denied"), "{table}.{column}: {refused}");
        assert_eq!(
            count(&connection, &format!("SELECT count(tenant_id) AS value FROM {table}")).await,
            2,
            "{table}: the other columns are its business"
        );
    }
}

#[tokio::test]
async fn somebody_elses_object_is_not_found() {
    let house = House::build().await;
    let tx = house.test.db.begin(&house.anna).await.unwrap();
    let bert: UserId = house.bert.user().unwrap();
    assert_eq!(tx.users().get(bert).await.unwrap_err().problem().code, "user_not_found");
    assert_eq!(tx.users().delete(bert).await.unwrap_err().problem().code, "user_not_found");
    assert!(tx.sessions().list(bert, SystemClock.now()).await.unwrap().is_empty());
    let session: SessionId = house.bert.session().unwrap();
    assert!(!tx.sessions().revoke(bert, session, SystemClock.now()).await.unwrap());
    assert_eq!(tx.credentials().hash(bert).await.unwrap(), None);
    assert_eq!(tx.credentials().hash(house.anna.user().unwrap()).await.unwrap().as_deref(), Some("x"));
}

#[tokio::test]
async fn an_account_takes_everything_along_but_the_ledger() {
    let house = House::build().await;
    let tx = house.test.db.begin(&house.anna).await.unwrap();
    tx.users().delete(house.anna.user().unwrap()).await.unwrap();
    tx.commit().await.unwrap();
    let own = house.a.id;
    for table in ["app_user", "user_role", "local_credential", "session", "conversation", "message", "attachment", "turn", "turn_event"] {
        let left = house.test.count_as_owner(&format!("SELECT count(*) AS value FROM {table} WHERE tenant_id = '{own}'")).await;
        assert_eq!(left, 0, "{table}");
    }
    for table in ["usage_event", "usage_daily"] {
        let nameless = format!("SELECT count(*) AS value FROM {table} WHERE tenant_id = '{own}' AND user_id IS NULL");
        assert_eq!(house.test.count_as_owner(&nameless).await, 1, "{table}");
    }
}

#[tokio::test]
async fn work_across_tenants_leaves_a_trace() {
    let test = TestDb::new().await;
    let traces = "SELECT count(*) AS value FROM audit_event WHERE actor = 'tester'";
    // Even if nothing is kept.
    drop(test.db.begin_system("tester", Reason::Administration).await.unwrap());
    assert_eq!(test.count_as_owner(traces).await, 1);
    // A job that found nothing to do does not count.
    let sweep = test.db.begin_system("tester", Reason::Sweep).await.unwrap();
    assert_eq!(sweep.usage().settle_stale(SystemClock.now(), SystemClock.now()).await.unwrap(), 0);
    sweep.commit().await.unwrap();
    assert_eq!(test.count_as_owner(traces).await, 1);
    let tenant = testkit::tenant(&test, "a").await;
    let actor = testkit::user(&test, &tenant, &[]).await;
    furnish(&test, &tenant, &actor).await;
    let sweep = test.db.begin_system("tester", Reason::Sweep).await.unwrap();
    assert_eq!(sweep.usage().settle_stale(SystemClock.now() + 1_000, SystemClock.now()).await.unwrap(), 1);
    sweep.commit().await.unwrap();
    assert_eq!(test.count_as_owner(traces).await, 2);
}
