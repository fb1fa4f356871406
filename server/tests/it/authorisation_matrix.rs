//! Who gets what from every route of the product. A route without a row fails.

use crate::app::{PASSWORD, Person, TestApp};
use contract::{account::Role, chat::StartedTurn};
use serde_json::{Value, json};
use server::http::PLAIN_ROUTES;
use std::collections::BTreeSet;
use testkit::fake_worker::Script;

/// Expected status for: nobody; a user of another tenant; a service admin and a system admin of the same
/// tenant, neither of whom is a user; the member whom the object belongs to.
struct Row {
    route: &'static str,
    input: fn(&World) -> Value,
    expected: [u16; 5],
}

/// The objects of the member that everybody reaches for.
struct World {
    turn: StartedTurn,
    session: String,
}

impl World {
    fn conversation(&self) -> Value {
        json!(self.turn.conversation)
    }

    fn answer(&self) -> Value {
        json!(self.turn.answer.id)
    }
}

/// Somebody else's object is not found; the chat is for users; own things are for everybody.
const MINE: [u16; 5] = [401, 404, 403, 403, 200];
const USERS: [u16; 5] = [401, 200, 403, 403, 200];
const EVERYBODY: [u16; 5] = [401, 200, 200, 200, 200];
const PUBLIC: [u16; 5] = [200, 200, 200, 200, 200];
/// Pages answer like the calls that fill them; visitors are sent to sign in.
const CHAT_PAGE: [u16; 5] = [303, 200, 403, 403, 200];
const PAGE: [u16; 5] = [303, 200, 200, 200, 200];

const fn row(route: &'static str, input: fn(&World) -> Value, expected: [u16; 5]) -> Row {
    Row { route, input, expected }
}

fn nothing(_: &World) -> Value {
    json!({})
}

/// The order matters where a call changes something: what deletes is followed by what restores.
const MATRIX: &[Row] = &[
    // Chats.
    row("/ui/list_models", nothing, USERS),
    row("/ui/list_conversations", |_| json!({ "archived": false, "cursor": null }), USERS),
    row("/ui/open_conversation", |w| json!({ "conversation": w.conversation() }), MINE),
    row("/ui/earlier_messages", |w| json!({ "conversation": w.conversation(), "before": w.answer() }), MINE),
    row("/ui/open_message", |w| json!({ "conversation": w.conversation(), "message": w.answer() }), MINE),
    row("/ui/change_conversation", |w| json!({ "conversation": w.conversation(), "change": { "title": "Renamed" } }), MINE),
    row("/ui/delete_conversation", |w| json!({ "conversation": w.conversation() }), MINE),
    row("/ui/restore_conversation", |w| json!({ "conversation": w.conversation() }), MINE),
    row("/ui/select_branch", |w| json!({ "message": w.answer() }), MINE),
    row("/ui/rate_answer", |w| json!({ "message": w.answer(), "rating": { "value": "up" } }), MINE),
    row("/ui/read_attachment", |w| json!({ "attachment": w.turn.question.attachments[0].id }), MINE),
    row("/ui/search_messages", |_| json!({ "query": "question", "cursor": null }), USERS),
    row("/ui/list_prompts", |_| json!({ "filter": {}, "cursor": null }), USERS),
    row("/ui/import_conversations", |_| json!({ "json": "{}" }), [401, 400, 403, 403, 400]),
    // Turns. The last answer of the conversation is complete, so it cannot be continued.
    row("/ui/start_turn", |_| json!({ "turn": { "content": "Another question" } }), USERS),
    row("/ui/start_temporary_turn", |_| json!({ "turn": { "messages": [{ "role": "user", "content": "Hello" }] } }), USERS),
    row("/ui/stop_turn", |w| json!({ "turn": w.turn.turn }), MINE),
    row("/ui/continue_answer", |w| json!({ "answer": w.answer() }), [401, 404, 403, 403, 409]),
    row("/ui/regenerate_answer", |w| json!({ "answer": w.answer() }), MINE),
    // The own account.
    row("/ui/current_user", nothing, EVERYBODY),
    row("/ui/usage_report", |_| json!({ "range": { "from": "2026-01-01", "to": "2026-01-31" } }), EVERYBODY),
    row("/ui/change_profile", |_| json!({ "profile": profile() }), EVERYBODY),
    row("/ui/change_password", |_| json!({ "current": "not it at all", "new": "another password" }), [401, 400, 400, 400, 400]),
    row("/ui/list_sessions", nothing, EVERYBODY),
    row("/ui/revoke_session", |w| json!({ "session": w.session }), [401, 404, 404, 404, 404]),
    row("/ui/revoke_other_sessions", nothing, EVERYBODY),
    row("/ui/delete_account", |_| json!({ "password": "not it at all" }), [401, 400, 400, 400, 400]),
    // Plain routes.
    row("/healthz", nothing, PUBLIC),
    row("/readyz", nothing, PUBLIC),
    row("/health", nothing, PUBLIC),
    row("/livez", nothing, PUBLIC),
    row("/health/liveliness", nothing, PUBLIC),
    row("/health/readiness", nothing, PUBLIC),
    row("/openapi.json", nothing, PUBLIC),
    row("/docs", nothing, PUBLIC),
    row("/docs/style.css", nothing, PUBLIC),
    row("/ui/turns/{id}/events", nothing, MINE),
    row("/ui/export/conversations/{id}/{format}", nothing, MINE),
    row("/ui/export/everything", nothing, EVERYBODY),
    row("/ui/export/usage.csv", nothing, EVERYBODY),
    // Pages.
    row("/", nothing, CHAT_PAGE),
    row("/c/{conversation}", nothing, [303, 404, 403, 403, 200]),
    row("/search", nothing, PAGE),
    row("/account", nothing, [303, 302, 302, 302, 302]),
    row("/account/profile", nothing, PAGE),
    row("/account/prompts", nothing, CHAT_PAGE),
    row("/account/usage", nothing, PAGE),
    row("/account/sessions", nothing, PAGE),
    row("/sign-in", nothing, [200, 303, 303, 303, 303]),
    // At the end, because they end sessions.
    row("/ui/sign_in", |_| json!({ "email": "nobody@example.org", "password": "not it at all" }), [401, 401, 401, 401, 401]),
    row("/ui/sign_out", nothing, PUBLIC),
];

fn profile() -> Value {
    json!({ "name": "Somebody", "language": "en", "theme": "dark", "default_model": null, "instructions": "" })
}

/// Addresses of the pages, in axum's notation.
fn pages() -> Vec<String> {
    leptos_axum::generate_route_list(app::App)
        .iter()
        .map(|listing| if listing.path().is_empty() { "/" } else { listing.path() }.to_owned())
        .collect()
}

#[tokio::test]
async fn every_route_has_a_row() {
    let functions = server_fn::axum::server_fn_paths().map(|(path, _)| path.to_owned());
    let plain = PLAIN_ROUTES.iter().map(|(_, path, _)| (*path).to_owned());
    let there: BTreeSet<String> = functions.chain(plain).chain(pages()).collect();
    let listed: BTreeSet<String> = MATRIX.iter().map(|row| row.route.to_owned()).collect();
    let missing: Vec<_> = there.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&there).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "without a row: {missing:?}; rows without a route: {gone:?}\nIf you are here because this failed: say in MATRIX who may call the new route, \
         and if it infers, add it to funnel.rs."
    );
}

#[tokio::test]
async fn everybody_gets_what_the_matrix_says() {
    let app = TestApp::start().await;
    app.worker.otherwise(Script::answer("An answer to the question."));
    let (ours, theirs) = (app.tenant("ours").await, app.tenant("theirs").await);
    let stranger = app.person(theirs, "stranger", &[Role::User]).await;
    let service = app.person(ours, "service", &[Role::ServiceAdmin]).await;
    let system = app.person(ours, "system", &[Role::SystemAdmin]).await;
    let member = app.person(ours, "member", &[Role::User]).await;
    let world = World { turn: app.ask(&member, "A question").await, session: "0198c0de-0000-7000-8000-000000000001".into() };
    let callers: [(&str, Option<&Person>); 5] = [
        ("nobody", None),
        ("stranger", Some(&stranger)),
        ("service admin", Some(&service)),
        ("system admin", Some(&system)),
        ("member", Some(&member)),
    ];
    let mut wrong = Vec::new();
    for row in MATRIX {
        for ((name, caller), expected) in callers.iter().zip(row.expected) {
            let answer = ask(&app, *caller, row, &world).await;
            if answer.0 != expected {
                wrong.push(format!("{} as {name}: expected {expected}, got {} {}", row.route, answer.0, answer.1));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\nIf you are here because this failed: somebody may now do more or less than was agreed. 403 for an object of another tenant would tell that \
         it exists.",
        wrong.join("\n")
    );
    let again = app.call(None, "sign_in", &json!({ "email": member.email, "password": PASSWORD })).await;
    assert_eq!(again.status, 200, "nothing above changed the member's password");
}

async fn ask(app: &TestApp, caller: Option<&Person>, row: &Row, world: &World) -> (u16, String) {
    let answer = match row.route.strip_prefix("/ui/") {
        Some(endpoint) if !endpoint.contains('/') => app.call(caller, endpoint, &(row.input)(world)).await,
        _ => {
            let path = row
                .route
                .replace("/ui/turns/{id}", &format!("/ui/turns/{}", world.turn.turn))
                .replace("conversations/{id}/{format}", &format!("conversations/{}/json", world.turn.conversation))
                .replace("{conversation}", &world.turn.conversation.to_string())
                .replace("usage.csv", "usage.csv?from=2026-01-01&to=2026-01-31");
            app.get(caller, &path).await
        }
    };
    let text = answer.text();
    (answer.status.as_u16(), text.chars().take(200).collect())
}
