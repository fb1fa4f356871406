//! What programs delete, and what becomes of a program that is deleted.

use super::{
    ui_keys::{EVERY_SCOPE, Program, account, refused},
    v1::House,
};
use axum::http::StatusCode;
use contract::{account::Role, key::Scope, problem::ProblemKind};
use domain::Error;
use serde_json::{Value, json};
use testkit::{
    TestDb, eventually,
    fake_worker::Script,
    ledger::{execute_as_owner, ledger},
};

async fn rows(db: &TestDb, of: &str) -> i64 {
    db.count_as_owner(&format!("SELECT count(*) AS value FROM {of}")).await
}

#[tokio::test]
async fn an_account_goes_with_what_it_owns_and_what_it_used_stays() {
    let house = House::build().await;
    let (app, tenant, whose) = (&house.app, house.tenant, house.account);
    let identity = &app.state.identity;
    app.worker.otherwise(Script::answer("An answer."));
    let program = Program::of(app, tenant, whose, &EVERY_SCOPE).await;
    let other = account(app, tenant, "Neighbour").await;
    let neighbour = Program::of(app, tenant, other, &[Scope::Chat]).await;
    program.ask("A question").await;
    neighbour.ask("Another question").await;
    let titles = || async { ledger(&app.db).await.iter().filter(|row| row.purpose == "title" && row.state == "settled").count() };
    eventually("both chats have titles", 10, || async { titles().await == 2 }).await;
    for (owner, bytes) in [(whose, 1000), (other, 24)] {
        let file = "INSERT INTO file (tenant_id, id, account_id, filename, bytes, created_at)";
        execute_as_owner(&app.db, &format!("{file} VALUES ('{tenant}', gen_random_uuid(), '{owner}', 'x', {bytes}, now())")).await;
    }
    let batch = "INSERT INTO batch (tenant_id, id, account_id, key_id, endpoint, input_file_id, status, created_at, expires_at)";
    let values = "gen_random_uuid(), '/v1/embeddings', gen_random_uuid(), 'in_progress', now(), now() + interval '1 day'";
    execute_as_owner(&app.db, &format!("{batch} VALUES ('{tenant}', gen_random_uuid(), '{whose}', {values})")).await;
    // A question that is still being answered.
    app.worker.script(Script::answer("A long answer.").hangs_after(1));
    let started = program.call("start_turn", &json!({ "turn": { "content": "A last question" } })).await;
    assert_eq!(started.status, StatusCode::OK, "{}", started.text());
    eventually("it is being answered", 10, || async { app.worker.running() == 1 }).await;
    let uses = ledger(&app.db).await.len();

    let refusal = identity.delete_service_account("test", tenant, "Reports").await;
    assert!(matches!(refusal, Err(Error::Conflict { code: "batches_open", .. })), "{refusal:?}");
    assert_eq!(program.call("list_models", &json!({})).await.status, StatusCode::OK, "nothing is gone");
    execute_as_owner(&app.db, "UPDATE batch SET status = 'cancelled', ended_at = now()").await;
    assert_eq!(identity.delete_service_account("test", tenant, "reports").await.expect("deleted"), whose);

    let answer = program.call("list_models", &json!({})).await;
    assert_eq!(refused(&answer, 401, ProblemKind::Unauthenticated).code, "invalid_api_key");
    eventually("its place is free", 10, || async { app.worker.running() == 0 }).await;
    for of in ["service_account WHERE id", "app_user WHERE id", "api_key WHERE account_id", "batch WHERE account_id", "turn WHERE user_id"]
    {
        assert_eq!(rows(&app.db, &format!("{of} = '{whose}'")).await, 0, "{of}");
    }
    assert_eq!(rows(&app.db, "conversation").await, 1, "If you are here because this failed: chats of a deleted account are left.");
    let left: Value = neighbour.call("list_conversations", &json!({ "archived": false })).await.json();
    assert_eq!(left["items"].as_array().map(Vec::len), Some(1), "{left}");
    let total = "SELECT sum(bytes)::bigint AS value FROM file_total";
    assert_eq!((rows(&app.db, "file").await, app.db.count_as_owner(total).await), (1, 24), "the files are counted");
    eventually("all uses are settled", 10, || async { ledger(&app.db).await.iter().all(|row| row.state == "settled") }).await;
    assert_eq!(ledger(&app.db).await.len(), uses, "If you are here because this failed: uses that were paid for are lost.");
    let told = format!("audit_event WHERE action = 'service_account.deleted' AND target = '{whose}' AND detail ->> 'name' = 'Reports'");
    assert_eq!(rows(&app.db, &told).await, 1);
    assert!(matches!(identity.delete_service_account("test", tenant, "Reports").await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn the_audit_trail_says_which_key_deleted_or_brought_chats_and_nothing_of_people() {
    let house = House::build().await;
    let app = &house.app;
    app.worker.otherwise(Script::answer("An answer."));
    let program = Program::of(app, house.tenant, house.account, &[Scope::Chat]).await;
    let kim = app.person(house.tenant, "kim", &[Role::User]).await;
    let (of_program, _) = program.ask("A program's question").await;
    let of_kim = app.ask(&kim, "A person's question").await;

    let path = format!("/ui/export/conversations/{}/json", of_program["conversation"].as_str().expect("an id"));
    let json = json!({ "json": program.get(&path).await.text() });
    assert_eq!(program.call("import_conversations", &json).await.json::<Value>()["conversations"], 1);
    assert_eq!(app.call(Some(&kim), "import_conversations", &json).await.status, StatusCode::OK);
    let deleted = program.call("delete_conversation", &json!({ "conversation": of_program["conversation"] })).await;
    assert_eq!(deleted.status, StatusCode::OK, "{}", deleted.text());
    let deleted = app.call(Some(&kim), "delete_conversation", &json!({ "conversation": of_kim.conversation })).await;
    assert_eq!(deleted.status, StatusCode::OK, "{}", deleted.text());

    let key = "detail ->> 'key' IN (SELECT id::text FROM api_key WHERE scopes = '{chat}')";
    let target = format!("target = {}", of_program["conversation"]).replace('"', "'");
    for (action, more) in
        [("conversation.deleted", target.as_str()), ("conversations.imported", r#"detail @> '{"conversations": 1, "messages": 2}'"#)]
    {
        assert_eq!(rows(&app.db, &format!("audit_event WHERE action = '{action}'")).await, 1, "people's chats are their own: {action}");
        let told = format!("audit_event WHERE action = '{action}' AND actor = '{}' AND {key} AND {more}", house.account);
        assert_eq!(rows(&app.db, &told).await, 1, "{action}");
    }
}
