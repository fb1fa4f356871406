//! What the interface itself calls, below `/ui`: its server functions, and the routes beside them. Programs may call them with
//! a key of fitting scope (ADR 20).
//!
//! Names, bodies and results are promised: `functions.txt` beside this file is how they are in [`FUNCTIONS_VERSION`], and a
//! test of the server compares. Everything else below `/ui` stands in [`PEOPLE_ONLY`].

use super::{Described, arguments as args};
use contract::{
    chat::{
        Conversation, ConversationSummary, ConversationView, Imported, MessagePage, NewAttachment, PromptEntry, SearchHit, StartedTurn,
        TurnEvent,
    },
    ids::TurnId,
    key::Scope,
    model::ModelInfo,
    usage::UsageReport,
};
use serde_json::json;
use utoipa::openapi::{HttpMethod, Object, Type};

/// Version of the names, bodies and results below `/ui`; each answer has it in `x-kontor-version`.
pub const FUNCTIONS_VERSION: &str = "1";

/// What people who signed in may call and no key opens: their own account.
pub const PEOPLE_ONLY: &[&str] = &[
    "/ui/sign_in",
    "/ui/sign_out",
    "/ui/current_user",
    "/ui/change_profile",
    "/ui/change_password",
    "/ui/list_sessions",
    "/ui/revoke_session",
    "/ui/revoke_other_sessions",
    "/ui/delete_account",
    "/ui/export/everything",
];

pub const CHATS: &str = "Server functions: chats";
pub const USAGE: &str = "Server functions: usage";
pub const ABOUT_CHATS: &str = "Chats that are kept, as in the interface: with branches, attachments, titles and a search. They belong to the \
                               service account, whichever of its keys asks. Each function takes an object with its arguments' names. \
                               A method that an address does not take is refused with 405 and `method_not_allowed`, a body \
                               that is too large with 413 and `request_too_large`, one that is no JSON with 415 and `not_json`: \
                               a problem like all others.";

/// Method, path as the document writes it, the scope that the key needs, and what it says.
type Function = (HttpMethod, &'static str, Scope, fn(Described) -> Described);

/// Whether an address belongs to what the interface itself calls.
#[must_use]
pub fn is_function(path: &str) -> bool {
    path.starts_with("/ui/")
}

/// Where the document puts a function.
pub fn tag(scope: Scope) -> &'static str {
    match scope {
        Scope::Usage => USAGE,
        Scope::Chat | Scope::Inference => CHATS,
    }
}

/// Of whatever the examples are about.
const ID: &str = "0198c0de-0000-7000-8000-000000000001";
const WHOSE: &str = "What somebody else has is as unknown as what is not there.";

/// Everything below `/ui` that a key can open.
pub const OPERATIONS: &[Function] = &[
    (HttpMethod::Post, "/ui/list_models", Scope::Chat, |it| {
        it.named("list_models", "Models for chats", "Those that the key may use.")
            .takes::<args::Nothing>(json!({}))
            .answers_list::<ModelInfo>("The models.")
    }),
    (HttpMethod::Post, "/ui/start_turn", Scope::Chat, |it| {
        let text = "In a new chat, or in one that is there. The answer is made by the server, whoever listens: follow it at \
                    `/ui/turns/{id}/events`. What a budget, a limit or a guardrail refuses ends with that code in the event `end`.";
        it.named("start_turn", "Ask a question", text)
            .takes::<args::Ask>(json!({ "turn": { "content": "Say hello." } }))
            .answers::<StartedTurn>("Question and answer, which is still being made.")
            .fails(&[404, 409])
    }),
    (HttpMethod::Get, "/ui/turns/{id}/events", Scope::Chat, |it| {
        let text = "From the beginning, or behind the event that the header `Last-Event-ID` or `after` names, until `end`.";
        it.named("turn_events", "Follow an answer", text)
            .addressed("id", &format!("The turn's id. {WHOSE}"))
            .asked("after", Object::with_type(Type::Integer), "The number of the last event seen.")
            .follows::<TurnEvent>("Events; `id` is the number, `data` one of these.")
    }),
    (HttpMethod::Post, "/ui/stop_turn", Scope::Chat, |it| {
        it.named("stop_turn", "Stop an answer", "What was made until then is kept and paid for.")
            .takes::<args::OfTurn>(json!({ "turn": ID }))
            .answers_nothing()
            .fails(&[404])
    }),
    (HttpMethod::Post, "/ui/regenerate_answer", Scope::Chat, |it| {
        it.named("regenerate_answer", "Answer once more", "Another answer to the same question, as a branch beside the one given.")
            .takes::<args::OfAnswer>(json!({ "answer": ID }))
            .answers::<StartedTurn>("Question and new answer.")
            .fails(&[404, 409])
    }),
    (HttpMethod::Post, "/ui/continue_answer", Scope::Chat, |it| {
        it.named("continue_answer", "Go on with an answer", "With one that was stopped, broken off or reached its length.")
            .takes::<args::OfAnswer>(json!({ "answer": ID }))
            .answers::<StartedTurn>("Question and answer.")
            .fails(&[404, 409])
    }),
    (HttpMethod::Post, "/ui/start_temporary_turn", Scope::Chat, |it| {
        let text = "Nothing of it is stored, so what came before comes along. It lives on the node that runs it: follow and stop it \
                    there. All keys of an account share the account's places for such turns.";
        it.named("start_temporary_turn", "Ask in a temporary chat", text)
            .takes::<args::AskTemporarily>(json!({ "turn": { "messages": [{ "role": "user", "content": "Say hello." }] } }))
            .answers::<TurnId>("The turn, to be followed at `/ui/turns/{id}/events`.")
            .fails(&[404])
    }),
    (HttpMethod::Post, "/ui/list_conversations", Scope::Chat, |it| {
        it.named("list_conversations", "Own chats", "Pinned ones first, then the newest.")
            .takes::<args::ListConversations>(json!({ "archived": false, "cursor": null }))
            .answers_cursor_page::<ConversationSummary>("A page of chats.")
    }),
    (HttpMethod::Post, "/ui/open_conversation", Scope::Chat, |it| {
        it.named("open_conversation", "A chat", &format!("With the newest messages of the branch in view. {WHOSE}"))
            .takes::<args::OfConversation>(json!({ "conversation": ID }))
            .answers::<ConversationView>("The chat.")
            .fails(&[404])
    }),
    (HttpMethod::Post, "/ui/earlier_messages", Scope::Chat, |it| {
        it.named("earlier_messages", "Earlier messages of a chat", "Those of the branch in view before a message.")
            .takes::<args::EarlierMessages>(json!({ "conversation": ID, "before": ID }))
            .answers::<MessagePage>("The messages.")
            .fails(&[404])
    }),
    (HttpMethod::Post, "/ui/open_message", Scope::Chat, |it| {
        it.named("open_message", "A chat where a message is", "On the branch that holds it.")
            .takes::<args::OpenMessage>(json!({ "conversation": ID, "message": ID }))
            .answers::<ConversationView>("The chat.")
            .fails(&[404])
    }),
    (HttpMethod::Post, "/ui/change_conversation", Scope::Chat, |it| {
        it.named("change_conversation", "Change a chat", "Name, pin, archive or settings; what is not named stays.")
            .takes::<args::ChangeConversation>(json!({ "conversation": ID, "change": { "title": "Letters" } }))
            .answers::<Conversation>("The chat as it is now.")
            .fails(&[404])
    }),
    (HttpMethod::Post, "/ui/delete_conversation", Scope::Chat, |it| {
        it.named("delete_conversation", "Delete a chat", "It can be restored for a while.")
            .takes::<args::OfConversation>(json!({ "conversation": ID }))
            .answers_nothing()
            .fails(&[404])
    }),
    (HttpMethod::Post, "/ui/restore_conversation", Scope::Chat, |it| {
        it.named("restore_conversation", "Restore a chat", "As long as it can be.")
            .takes::<args::OfConversation>(json!({ "conversation": ID }))
            .answers_nothing()
            .fails(&[404])
    }),
    (HttpMethod::Post, "/ui/select_branch", Scope::Chat, |it| {
        it.named("select_branch", "Choose a branch", "The one that a message begins.")
            .takes::<args::OfMessage>(json!({ "message": ID }))
            .answers::<ConversationView>("The chat on that branch.")
            .fails(&[404])
    }),
    (HttpMethod::Post, "/ui/rate_answer", Scope::Chat, |it| {
        it.named("rate_answer", "Rate an answer", "Or take the rating back.")
            .takes::<args::RateAnswer>(json!({ "message": ID, "rating": { "value": "up" } }))
            .answers_nothing()
            .fails(&[404])
    }),
    (HttpMethod::Post, "/ui/read_attachment", Scope::Chat, |it| {
        it.named("read_attachment", "The text of an attachment", "As it came with its question.")
            .takes::<args::OfAttachment>(json!({ "attachment": ID }))
            .answers::<NewAttachment>("The attachment.")
            .fails(&[404])
    }),
    (HttpMethod::Post, "/ui/search_messages", Scope::Chat, |it| {
        it.named("search_messages", "Search in own chats", "Messages that hold all words, best first.")
            .takes::<args::SearchMessages>(json!({ "query": "dog tax", "cursor": null }))
            .answers_cursor_page::<SearchHit>("A page of messages.")
    }),
    (HttpMethod::Post, "/ui/list_prompts", Scope::Chat, |it| {
        it.named("list_prompts", "Own questions", "Newest first.")
            .takes::<args::ListPrompts>(json!({ "filter": { "query": "" }, "cursor": null }))
            .answers_cursor_page::<PromptEntry>("A page of questions.")
    }),
    (HttpMethod::Post, "/ui/import_conversations", Scope::Chat, |it| {
        it.named("import_conversations", "Import chats", "Everything gets new ids; nothing is overwritten.")
            .takes::<args::ImportConversations>(json!({ "json": "[]" }))
            .answers::<Imported>("How much was imported.")
    }),
    (HttpMethod::Get, "/ui/export/conversations/{id}/{format}", Scope::Chat, |it| {
        it.named("export_conversation", "Download a chat", "With all branches and attachments.")
            .addressed("id", &format!("The chat's id. {WHOSE}"))
            .addressed("format", "`json`, fit for an import, or `markdown`.")
            .answers_text("application/json", "The file.")
            .answers_text("text/markdown", "The file.")
    }),
    (HttpMethod::Post, "/ui/usage_report", Scope::Usage, |it| {
        it.named("usage_report", "Usage and cost", "By day (UTC, both ends included), model and purpose; settled uses only.")
            .takes::<args::ReadUsageReport>(json!({ "range": { "from": "2026-01-01", "to": "2026-01-31" } }))
            .answers::<UsageReport>("The figures, and the budgets of the account and of this key.")
    }),
    (HttpMethod::Get, "/ui/export/usage.csv", Scope::Usage, |it| {
        let day = Object::with_type(Type::String);
        it.named("export_usage", "Download the usage", "The same as a table.")
            .asked("from", day.clone(), "First day, `YYYY-MM-DD`.")
            .asked("to", day, "Last day.")
            .answers_text("text/csv", "The file.")
    }),
];
