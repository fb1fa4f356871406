//! `kontor admin export-charges` as a script calls it: whole lines of CSV and nothing else, or a failure.

use crate::world::Installation;
use testkit::ledger::execute_as_owner;

const MARCH: [&str; 4] = ["--from", "2026-03-01", "--to", "2026-03-31"];

/// One use of a day in March, of which 5 tokens were asked, 2 of them known, and 3 answered.
async fn one_use(house: &Installation, tenant: &str, account: &str) {
    let at = "'2026-03-05T12:00:00Z'";
    let statement = format!(
        "INSERT INTO usage_event (tenant_id, id, model, purpose, state, outcome, reserved_tokens, prompt_tokens, cached_tokens,
                                  completion_tokens, request_id, created_at, settled_at, account_id, team, cost_center, currency, cost)
           VALUES ('{tenant}', gen_random_uuid(), 'a-model', 'api', 'settled', 'ok', 100, 5, 2, 3, gen_random_uuid(), {at}, {at},
                   '{account}', 'Statistics', '4711', 'EUR', 0.000021)"
    );
    execute_as_owner(&house.db, &statement).await;
}

/// The lines that it prints.
async fn exported(house: &Installation, more: &[&str]) -> Vec<String> {
    let ended = house.admin(&[&["export-charges", "--tenant", "acme"][..], &MARCH[..], more].concat()).await;
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    let text = String::from_utf8(ended.stdout).expect("text");
    assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{text:?}");
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn charges_are_printed_as_csv_in_both_forms_and_what_is_wrong_fails() {
    let house = Installation::build().await;
    let tenant = house.told(&["create-tenant", "--slug", "acme", "--name", "Acme"]).await;
    let new = ["create-service-account", "--tenant", "acme", "--name", "Reports", "--purpose", "Tests"];
    let account = house.told(&[&new[..], &["--team", "Statistics", "--cost-center", "4711"]].concat()).await;
    let (tenant, account) = (tenant["id"].as_str().expect("an id"), account["id"].as_str().expect("an id"));

    let head = "day,service_account,team,cost_center,model,purpose,requests,prompt_tokens,cached_tokens,completion_tokens,cost,currency,from_cache";
    assert_eq!(exported(&house, &[]).await, [head], "nothing was used");
    one_use(&house, tenant, account).await;
    let line = "2026-03-05,Reports,Statistics,4711,a-model,api,1,5,2,3,0.000021,EUR,0";
    assert_eq!(exported(&house, &[]).await, [head, line]);
    assert_eq!(exported(&house, &["--json"]).await, [head, line], "it is for programs, whatever was asked for");

    let focus = exported(&house, &["--focus"]).await;
    let [head, line] = focus.as_slice() else { panic!("{focus:?}") };
    assert!(head.starts_with("BilledCost,BillingAccountId,BillingAccountName,") && head.ends_with(",SubAccountName,Tags"), "{head}");
    assert!(line.starts_with(&format!("0.000021,{tenant},acme,Tenant,EUR,2026-04-01T00:00:00Z,2026-03-01T00:00:00Z,Usage,")), "{line}");
    assert!(line.contains(&format!(",{account},Reports,")), "{line}");

    for (wrong, why) in [
        (["--tenant", "acme", "--from", "2026-03-31", "--to", "2026-03-01"], "must end after it begins"),
        (["--tenant", "acme", "--from", "March", "--to", "2026-03-31"], "from must be a day"),
        (["--tenant", "nobody", "--from", "2026-03-01", "--to", "2026-03-31"], "no such tenant"),
    ] {
        let ended = house.admin(&[&["export-charges"][..], &wrong[..]].concat()).await;
        let complained = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{wrong:?}: {complained}");
        assert!(complained.contains(why) && ended.stdout.is_empty(), "{wrong:?}: {complained}");
    }
}
