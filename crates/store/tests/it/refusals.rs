//! Refusals on their way into the audit trail.

use testkit::{TestDb, ledger::execute_as_owner};

async fn events(test: &TestDb, condition: &str) -> i64 {
    test.count_as_owner(&format!("SELECT count(*) AS value FROM audit_event WHERE action = 'policy.refused' AND {condition}")).await
}

#[tokio::test]
async fn what_is_still_counted_is_written_when_the_process_ends() {
    let test = TestDb::new().await;
    let tenant = testkit::tenant(&test, "a").await;
    let program = testkit::program(&test, &tenant).await;
    for _ in 0..1000 {
        test.db.refusals().of(&program, "budget", "small");
        test.db.refusals().of_unknown("unknown_key", program.request());
    }
    assert_eq!(events(&test, "true").await, 0, "to refuse asks no database");
    test.db.close().await.expect("closed");
    let (account, key) = program.as_program().map(|program| (program.account, program.key)).expect("a program");
    let ours = format!(
        "tenant_id = '{}' AND actor = '{account}' AND target = 'small' AND request_id = '{}'
         AND detail @> '{{\"reason\": \"budget\", \"count\": 1000, \"key\": \"{key}\"}}'",
        tenant.id,
        program.request()
    );
    let why = "If you are here because this failed: what a process refused last is in no audit trail.";
    assert_eq!(events(&test, &ours).await, 1, "{why}");
    let unknown = "tenant_id IS NULL AND actor = 'unknown' AND detail @> '{\"reason\": \"unknown_key\", \"count\": 1000}'";
    assert_eq!((events(&test, unknown).await, events(&test, "true").await), (1, 2));
}

#[tokio::test]
async fn what_cannot_be_written_is_kept() {
    let test = TestDb::new().await;
    let tenant = testkit::tenant(&test, "a").await;
    let program = testkit::program(&test, &tenant).await;
    test.db.refusals().of(&program, "budget", "");
    execute_as_owner(&test, "REVOKE INSERT ON audit_event FROM kontor_system").await;
    assert!(test.db.write_refusals().await.is_err());
    test.db.refusals().of(&program, "budget", "");
    execute_as_owner(&test, "GRANT INSERT ON audit_event TO kontor_system").await;
    test.db.write_refusals().await.expect("written");
    test.db.write_refusals().await.expect("nothing more to write");
    assert_eq!((events(&test, "detail @> '{\"count\": 2}'").await, events(&test, "true").await), (1, 1));
}
