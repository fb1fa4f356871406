//! What the interface itself calls, as a program sees it: by key, over HTTP and by nothing else.

use super::v1::House;
use crate::app::{Answer, PASSWORD, Person, TestApp, events, replay};
use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use contract::{
    account::Role,
    ids::{ServiceAccountId, TenantId},
    key::Scope,
    problem::{Problem, ProblemKind},
};
use domain::{Clock, SystemClock, quota::Level};
use identity::{NewAccount, NewKey};
use serde_json::{Value, json};
use testkit::{
    eventually,
    fake_worker::{FAKE_MODEL, Script},
    guardrails::guardrails,
    ledger::ledger,
    quotas::{budget, limit, price},
};

pub(super) const EVERY_SCOPE: [Scope; 3] = Scope::ALL;

/// Somebody with a key.
pub(super) struct Program<'a> {
    app: &'a TestApp,
    pub(super) key: String,
}

impl<'a> Program<'a> {
    /// With a new key of the account.
    pub(super) async fn of(app: &'a TestApp, tenant: TenantId, account: ServiceAccountId, scopes: &[Scope]) -> Self {
        let new = NewKey { scopes: scopes.to_vec(), ..NewKey::default() };
        let made = app.state.identity.create_key("test", tenant, account, new).await.expect("a key");
        Self { app, key: made.key.reveal().to_owned() }
    }

    /// Calls a server function.
    pub(super) async fn call(&self, function: &str, arguments: &Value) -> Answer {
        self.send(Request::post(format!("/ui/{function}")), Body::from(arguments.to_string())).await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path), Body::empty()).await
    }

    pub(super) async fn send(&self, request: axum::http::request::Builder, body: Body) -> Answer {
        let request =
            request.header(header::AUTHORIZATION, format!("Bearer {}", self.key)).header(header::CONTENT_TYPE, "application/json");
        self.app.send(None, request.body(body).expect("a request")).await
    }

    /// Asks in a new chat and follows the answer to its end: the turn as it was begun, and its events.
    pub(super) async fn ask(&self, question: &str) -> (Value, Vec<(i32, Value)>) {
        let started = self.call("start_turn", &json!({ "turn": { "content": question } })).await;
        assert_eq!(started.status, StatusCode::OK, "{}", started.text());
        let started: Value = started.json();
        let followed = self.get(&format!("/ui/turns/{}/events", text(&started["turn"]))).await;
        assert_eq!((followed.status, followed.header("content-type")), (StatusCode::OK, "text/event-stream"), "{}", followed.text());
        (started, events(&followed.text()))
    }
}

pub(super) async fn account(app: &TestApp, tenant: TenantId, name: &str) -> ServiceAccountId {
    let new = NewAccount {
        tenant,
        name: name.into(),
        purpose: "Tests".into(),
        team: "Statistics".into(),
        cost_center: String::new(),
        owner: None,
        models: None,
        class: None,
        expires_at: None,
    };
    app.state.identity.create_service_account("test", new).await.expect("an account")
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// How it was refused.
pub(super) fn refused(answer: &Answer, status: u16, kind: ProblemKind) -> Problem {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
    assert!(["application/json", "application/problem+json"].contains(&answer.header("content-type")), "{:?}", answer.headers);
    assert_eq!(answer.header("x-kontor-version"), gateway::FUNCTIONS_VERSION, "a refusal has it, too");
    let problem: Problem = answer.json();
    assert_eq!(problem.kind, kind, "{problem:?}");
    assert!(problem.request_id.is_some(), "{problem:?}");
    problem
}

/// The code with which a turn ended.
fn ended(events: &[(i32, Value)]) -> &Value {
    let end = &events.last().expect("events").1;
    assert_eq!(end["type"], "end", "{end}");
    &end["error"]
}

#[tokio::test]
async fn a_chat_from_its_first_question_to_its_deletion() {
    let house = House::build().await;
    let program = Program::of(&house.app, house.tenant, house.account, &[Scope::Chat]).await;
    house.app.worker.otherwise(Script::answer("An answer."));

    let models = program.call("list_models", &json!({})).await;
    assert_eq!((models.status, models.header("x-kontor-version")), (StatusCode::OK, gateway::FUNCTIONS_VERSION), "{}", models.text());
    assert_eq!(models.json::<Value>()[0]["id"], FAKE_MODEL);

    let (started, events) = program.ask("What is it?").await;
    assert_eq!(replay(&events), "An answer.");
    assert_eq!(*ended(&events), Value::Null);

    let conversation = json!({ "conversation": started["conversation"] });
    let opened: Value = program.call("open_conversation", &conversation).await.json();
    let said: Vec<&str> = opened["messages"]["messages"].as_array().expect("messages").iter().map(|one| text(&one["content"])).collect();
    assert_eq!(said, ["What is it?", "An answer."]);

    let listed: Value = program.call("list_conversations", &json!({ "archived": false })).await.json();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
    let export = program.get(&format!("/ui/export/conversations/{}/json", text(&started["conversation"]))).await;
    assert!(export.status == StatusCode::OK && export.text().contains("An answer."), "{}", export.text());

    let deleted = program.call("delete_conversation", &conversation).await;
    assert_eq!((deleted.status, deleted.text().as_str()), (StatusCode::OK, "null"));
    let gone = program.call("open_conversation", &conversation).await;
    assert_eq!(refused(&gone, 404, ProblemKind::NotFound).code, "conversation_not_found");
    assert_eq!(program.call("restore_conversation", &conversation).await.status, StatusCode::OK);
    assert_eq!(program.call("open_conversation", &conversation).await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_account_pays_and_reads_what_it_used() {
    let house = House::build().await;
    price(&house.app.db, FAKE_MODEL, "EUR", "1", "2").await;
    budget(&house.app.db, house.tenant, Level::ServiceAccount, None, "100", true).await;
    house.app.worker.otherwise(Script::answer("An answer."));
    let program = Program::of(&house.app, house.tenant, house.account, &EVERY_SCOPE).await;
    program.ask("What is it?").await;
    let body = json!({ "model": FAKE_MODEL, "messages": [{ "role": "user", "content": "x" }] });
    assert_eq!(house.post("/v1/chat/completions", &body).await.status, StatusCode::OK, "another key of the account");
    eventually("all uses are settled", 10, || async {
        let rows = ledger(&house.app.db).await;
        ["chat", "title", "api"].iter().all(|purpose| rows.iter().any(|row| row.purpose == *purpose && row.state == "settled"))
    })
    .await;
    assert!(
        ledger(&house.app.db).await.iter().all(|row| row.user_id.is_none()),
        "If you are here because this failed: a program's chats are charged to a person that does not exist."
    );

    let today = time::OffsetDateTime::from_unix_timestamp(SystemClock.now() / 1000).expect("a time").date();
    let range = json!({ "range": { "from": (today - time::Duration::days(1)).to_string(), "to": today.to_string() } });
    let report = program.call("usage_report", &range).await;
    assert_eq!(report.status, StatusCode::OK, "{}", report.text());
    let report: Value = report.json();
    let purposes: Vec<&str> = report["rows"].as_array().expect("rows").iter().map(|row| text(&row["purpose"])).collect();
    assert_eq!(purposes, ["api", "chat", "title"]);
    assert!(report["rows"].as_array().expect("rows").iter().all(|row| row["cost"]["currency"] == "EUR"), "{report}");
    assert_eq!(report["budgets"].as_array().map(Vec::len), Some(1), "that of the account: {report}");
    let table = program.get(&format!("/ui/export/usage.csv?from={today}&to={today}")).await;
    assert!(table.status == StatusCode::OK && table.text().contains(FAKE_MODEL), "{}", table.text());

    let other = account(&house.app, house.tenant, "Other").await;
    let other = Program::of(&house.app, house.tenant, other, &[Scope::Usage]).await;
    let nothing: Value = other.call("usage_report", &range).await.json();
    assert_eq!(nothing["rows"], json!([]), "what another account used is nobody's business");
}

/// Everything that the document has below `/ui`: method, path, the operation.
async fn described(app: &TestApp) -> Vec<(Method, String, Value)> {
    let document: Value = app.get(None, "/openapi.json").await.json();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths").iter().filter(|(path, _)| gateway::is_function(path)) {
        for (method, operation) in item.as_object().expect("operations") {
            found.push((method.to_uppercase().parse().expect("a method"), path.clone(), operation.clone()));
        }
    }
    assert!(found.len() > 20, "{}", found.len());
    found
}

/// Sends an operation's own example.
async fn send_example(program: &Program<'_>, method: &Method, path: &str, operation: &Value) -> Answer {
    let path = path.replace("{id}", "0198c0de-0000-7000-8000-000000000001").replace("{format}", "json");
    match *method {
        Method::GET => program.get(&path).await,
        _ => program.call(path.trim_start_matches("/ui/"), &operation["requestBody"]["content"]["application/json"]["example"]).await,
    }
}

#[tokio::test]
async fn each_operation_needs_a_key_that_is_open_and_has_its_scope() {
    let house = House::build().await;
    house.app.worker.otherwise(Script::answer("An answer."));
    let identity = &house.app.state.identity;
    let closed = identity.create_key("test", house.tenant, house.account, NewKey { scopes: EVERY_SCOPE.to_vec(), ..NewKey::default() });
    let closed = closed.await.expect("a key");
    identity.disable_key("test", closed.id, true).await.expect("disabled");
    let closed = Program { app: &house.app, key: closed.key.reveal().to_owned() };
    let wrong = Program { app: &house.app, key: "sk-kontor-wrong".into() };
    for (method, path, operation) in described(&house.app).await {
        let scope = Scope::named(text(&operation["security"][0]["bearer"][0])).expect("a scope");
        for program in [&closed, &wrong] {
            let answer = send_example(program, &method, &path, &operation).await;
            assert_eq!(refused(&answer, 401, ProblemKind::Unauthenticated).code, "invalid_api_key", "{path}");
            assert_eq!(answer.header("www-authenticate"), "Bearer", "{path}");
        }
        let others: Vec<Scope> = Scope::ALL.into_iter().filter(|other| *other != scope).collect();
        let without = Program::of(&house.app, house.tenant, house.account, &others).await;
        let problem = refused(&send_example(&without, &method, &path, &operation).await, 403, ProblemKind::Forbidden);
        assert!(problem.message.contains(&format!("`{}`", scope.name())), "{path} says which one: {}", problem.message);
        let with = Program::of(&house.app, house.tenant, house.account, &[scope]).await;
        let answer = send_example(&with, &method, &path, &operation).await;
        assert!([200, 400, 404].contains(&answer.status.as_u16()), "{path}: {} {}", answer.status, answer.text());
        assert!(!answer.text().contains("malformed_request"), "{path} does not read its own example: {}", answer.text());
    }
}

#[tokio::test]
async fn what_is_required_is_missed_by_name() {
    let house = House::build().await;
    let program = Program::of(&house.app, house.tenant, house.account, &EVERY_SCOPE).await;
    let document: Value = house.app.get(None, "/openapi.json").await.json();
    let mut missed = 0;
    for (_, path, operation) in described(&house.app).await {
        let content = &operation["requestBody"]["content"]["application/json"];
        let Some(reference) = content["schema"]["$ref"].as_str() else { continue };
        let schema = document.pointer(reference.trim_start_matches('#')).expect("a schema");
        for name in schema["required"].as_array().into_iter().flatten().map(text) {
            let mut body = content["example"].clone();
            body.as_object_mut().expect("an object").remove(name).unwrap_or_else(|| panic!("{path}: its example has no {name}"));
            let answer = program.call(path.trim_start_matches("/ui/"), &body).await;
            let problem = refused(&answer, 400, ProblemKind::Invalid);
            assert_eq!((problem.code.as_str(), problem.field.as_deref()), ("malformed_request", Some(name)), "{path}");
            missed += 1;
        }
    }
    assert!(missed > 15, "{missed}");

    let unknown = program.call("start_everything", &json!({})).await;
    assert_eq!(refused(&unknown, 404, ProblemKind::NotFound).code, "function_not_found");
    let empty = program.call("start_turn", &json!({ "turn": { "content": " " } })).await;
    assert_eq!(refused(&empty, 400, ProblemKind::Invalid).field.as_deref(), Some("content"));
    let day = program.call("usage_report", &json!({ "range": { "from": "yesterday", "to": "2026-01-31" } })).await;
    assert_eq!(refused(&day, 400, ProblemKind::Invalid).field.as_deref(), Some("from"));
    let number = program.call("search_messages", &json!({ "query": 5 })).await;
    assert_eq!(refused(&number, 400, ProblemKind::Invalid).code, "malformed_request");
    let form = Request::post("/ui/list_models").header("x-api-key", &program.key).header(header::CONTENT_TYPE, "text/plain");
    let form = house.app.send(None, form.body(Body::from("{}")).expect("a request")).await;
    assert_eq!(refused(&form, 415, ProblemKind::Invalid).code, "not_json");
}

#[tokio::test]
async fn people_and_programs_do_not_see_each_other() {
    let house = House::build().await;
    let app = &house.app;
    app.worker.otherwise(Script::answer("An answer."));
    let program = Program::of(app, house.tenant, house.account, &[Scope::Chat]).await;
    let neighbour = Program::of(app, house.tenant, account(app, house.tenant, "Neighbour").await, &[Scope::Chat]).await;
    let theirs = app.tenant("theirs").await;
    let stranger = Program::of(app, theirs, account(app, theirs, "Reports").await, &[Scope::Chat]).await;
    let kim = app.person(house.tenant, "kim", &[Role::User]).await;

    let of_kim = app.ask(&kim, "A person's question").await;
    let (of_program, _) = program.ask("A program's question").await;
    let cases = [(&program, json!(of_kim.conversation), of_kim.turn.to_string())]
        .into_iter()
        .chain([&neighbour, &stranger].map(|other| (other, of_program["conversation"].clone(), text(&of_program["turn"]).to_owned())));
    for (other, conversation, turn) in cases {
        for function in ["open_conversation", "delete_conversation"] {
            let answer = other.call(function, &json!({ "conversation": conversation })).await;
            assert_eq!(refused(&answer, 404, ProblemKind::NotFound).code, "conversation_not_found");
        }
        assert_eq!(refused(&other.get(&format!("/ui/turns/{turn}/events")).await, 404, ProblemKind::NotFound).code, "turn_not_found");
        let found: Value = other.call("search_messages", &json!({ "query": "question" })).await.json();
        assert!(found["items"].as_array().is_some_and(|hits| hits.iter().all(|hit| hit["conversation"] != conversation)), "{found}");
    }
    let opened = app.call(Some(&kim), "open_conversation", &json!({ "conversation": of_program["conversation"] })).await;
    assert_eq!(opened.status, StatusCode::NOT_FOUND, "nor does a person see a program's: {}", opened.text());
    let same = Program::of(app, house.tenant, house.account, &[Scope::Chat]).await;
    let opened = same.call("open_conversation", &json!({ "conversation": of_program["conversation"] })).await;
    assert_eq!(opened.status, StatusCode::OK, "chats belong to the account, not to the key: {}", opened.text());
}

/// A call with a key and a cookie.
async fn with_both(app: &TestApp, key: &str, who: &Person, marks: &[(&str, &str)]) -> Answer {
    let mut request = Request::post("/ui/list_conversations")
        .header(header::AUTHORIZATION, format!("Bearer {key}"))
        .header(header::CONTENT_TYPE, "application/json");
    for (name, value) in marks {
        request = request.header(*name, *value);
    }
    app.send(Some(who), request.body(Body::from(r#"{"archived":false}"#)).expect("a request")).await
}

#[tokio::test]
async fn beside_a_key_no_cookie_counts() {
    let house = House::build().await;
    let app = &house.app;
    app.worker.otherwise(Script::answer("An answer."));
    let program = Program::of(app, house.tenant, house.account, &[Scope::Chat]).await;
    let kim = app.person(house.tenant, "kim", &[Role::User]).await;
    app.ask(&kim, "A person's question").await;
    let own = [("sec-fetch-site", "same-origin")];

    let marks: [&[(&str, &str)]; 3] = [&own, &[("sec-fetch-site", "cross-site")], &[]];
    for marks in marks {
        let answer = with_both(app, &program.key, &kim, marks).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        assert_eq!(answer.json::<Value>()["items"], json!([]), "If you are here because this failed: a key acts in a person's name.");
    }
    let wrong = with_both(app, "sk-kontor-wrong", &kim, &own).await;
    refused(&wrong, 401, ProblemKind::Unauthenticated);
    // A proxy before us may add a token of its own to all that browsers send: it is no key, so the cookie and its rules count.
    let proxied = with_both(app, "eyJhbGciOi.x.y", &kim, &own).await;
    assert_eq!(proxied.json::<Value>()["items"].as_array().map(Vec::len), Some(1), "{}", proxied.text());
    let foreign = with_both(app, "eyJhbGciOi.x.y", &kim, &[]).await;
    assert_eq!(refused(&foreign, 403, ProblemKind::Forbidden).code, "cross_site");
    // A key opens no page.
    let page = Request::get("/account/usage").header(header::AUTHORIZATION, format!("Bearer {}", program.key));
    assert_eq!(app.send(None, page.body(Body::empty()).expect("a request")).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn what_is_for_people_alone_no_key_opens() {
    let house = House::build().await;
    let app = &house.app;
    let kim = app.person(house.tenant, "kim", &[Role::User]).await;
    let program = Program::of(app, house.tenant, house.account, &EVERY_SCOPE).await;
    let profile = json!({ "name": "Somebody", "language": "en", "theme": "dark", "default_model": null, "instructions": "" });
    let session = "0198c0de-0000-7000-8000-000000000001";
    for path in gateway::PEOPLE_ONLY {
        let answer = match *path {
            "/ui/sign_in" => program.call("sign_in", &json!({ "email": kim.email, "password": PASSWORD })).await,
            "/ui/change_profile" => program.call("change_profile", &json!({ "profile": profile })).await,
            "/ui/change_password" => program.call("change_password", &json!({ "current": PASSWORD, "new": "another password" })).await,
            "/ui/revoke_session" => program.call("revoke_session", &json!({ "session": session })).await,
            "/ui/delete_account" => program.call("delete_account", &json!({ "password": PASSWORD })).await,
            "/ui/export/everything" => program.get(path).await,
            other => program.call(other.trim_start_matches("/ui/"), &json!({})).await,
        };
        let problem = refused(&answer, 403, ProblemKind::Forbidden);
        assert!(problem.message.contains("no key opens it"), "{path}: {}", problem.message);
        assert_eq!(answer.header("set-cookie"), "", "{path}");
    }
}

#[tokio::test]
async fn nobody_signs_in_as_a_service_account() {
    let house = House::build().await;
    let app = &house.app;
    Program::of(app, house.tenant, house.account, &[Scope::Chat]).await;
    Program::of(app, house.tenant, house.account, &[Scope::Chat, Scope::Usage]).await;
    assert_eq!(app.db.count_as_owner("SELECT count(*) AS value FROM app_user WHERE service_account_id IS NOT NULL").await, 1);
    assert!(app.state.identity.people("test", None).await.expect("people").is_empty(), "it is no person");
    for email in ["", " "] {
        let answer = app.call(None, "sign_in", &json!({ "email": email, "password": PASSWORD })).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.text());
    }
}

#[tokio::test]
async fn budgets_limits_and_guardrails_refuse_as_elsewhere() {
    let money = House::build().await;
    price(&money.app.db, FAKE_MODEL, "EUR", "1", "2").await;
    budget(&money.app.db, money.tenant, Level::Team, Some("Statistics"), "0", true).await;
    let program = Program::of(&money.app, money.tenant, money.account, &[Scope::Chat]).await;
    assert_eq!(*ended(&program.ask("x").await.1), "insufficient_quota");
    assert!(ledger(&money.app.db).await.is_empty(), "what is refused costs nothing");

    let limited = House::build().await;
    limit(&limited.app.db, limited.tenant, Level::Key, |limit| limit.requests = Some(1)).await;
    let program = Program::of(&limited.app, limited.tenant, limited.account, &[Scope::Chat]).await;
    // The title after the first answer is refused as well, and nobody hears of that.
    assert_eq!(*ended(&program.ask("x").await.1), Value::Null);
    assert_eq!(*ended(&program.ask("y").await.1), "quota_exceeded");

    let guarded = House::build().await;
    let check = json!({ "kind": "words", "words": ["adler"] });
    guardrails(&guarded.app.db, guarded.tenant, json!([{ "name": "project", "check": check, "on": ["input"], "action": "block" }])).await;
    let program = Program::of(&guarded.app, guarded.tenant, guarded.account, &[Scope::Chat]).await;
    assert_eq!(*ended(&program.ask("Tell me of Adler.").await.1), "guardrail_blocked");
}
