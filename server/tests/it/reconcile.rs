//! `kontor admin reconcile`: what scripts go by.

use crate::world::Installation;
use domain::{Clock, SystemClock};
use serde_json::{Value, json};
use testkit::ledger::execute_as_owner;
use time::OffsetDateTime;

/// A use of yesterday, in the ledger and as its process counted it.
fn use_of_yesterday(tenant: impl std::fmt::Display) -> String {
    let day = "(now() AT TIME ZONE 'UTC')::date - 1";
    let noon = format!("({day})::timestamp AT TIME ZONE 'UTC' + interval '12 hours'");
    format!(
        "INSERT INTO usage_event (tenant_id, id, model, purpose, state, outcome, reserved_tokens, prompt_tokens, cached_tokens,
                                  completion_tokens, request_id, created_at, settled_at, node_id)
           VALUES ('{tenant}', gen_random_uuid(), 'm', 'api', 'settled', 'ok', 100, 10, 4, 7, gen_random_uuid(), {noon}, {noon}, '{tenant}');
         INSERT INTO ledger_count (tenant_id, day, node_id, uses, prompt_tokens, cached_tokens, completion_tokens, settled_at)
           VALUES ('{tenant}', {day}, '{tenant}', 1, 10, 4, 7, {noon})"
    )
}

#[tokio::test]
async fn a_day_that_differs_is_printed_and_fails() {
    let house = Installation::build().await;
    let tenant = testkit::tenant(&house.db, "a").await.id;
    let reconcile = async |arguments: &[&str]| {
        let output = house.admin(&[&["--json", "reconcile"][..], arguments].concat()).await;
        let complained = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default(), complained)
    };
    execute_as_owner(&house.db, &use_of_yesterday(tenant)).await;
    let (code, told, complained) = reconcile(&[]).await;
    assert_eq!((code, &told["drift"]), (Some(0), &json!({ "uses": 0, "tokens": 0 })), "{told} {complained}");
    assert_eq!(told["settled"], told["ledger"]);

    execute_as_owner(&house.db, "UPDATE ledger_count SET uses = 2, completion_tokens = 14").await;
    let (code, told, complained) = reconcile(&[]).await;
    assert_eq!((code, &told["drift"]), (Some(1), &json!({ "uses": 1, "tokens": 7 })), "{told} {complained}");
    let tenant = tenant.to_string();
    assert_eq!((&told["differing"][0]["tenant"], &told["differing"][0]["too_many"]["uses"]), (&json!(tenant), &json!(-1)), "{told}");
    assert!(complained.contains("differ by 1 uses and 7 tokens"), "{complained}");

    let today = OffsetDateTime::from_unix_timestamp(SystemClock.now() / 1000).expect("a time").date().to_string();
    for day in [today.as_str(), "yesterday"] {
        let (code, told, complained) = reconcile(&["--day", day]).await;
        assert_eq!((code, told), (Some(1), Value::Null), "{complained}");
    }
}
