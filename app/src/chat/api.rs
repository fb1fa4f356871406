//! The chat's server functions: each parses, calls one service method and renders.
//!
//! All are POST with JSON under `/ui`, so the CSRF middleware covers them. Their names are part of
//! the stable surface.

use crate::UiError;
use contract::{
    chat::{Conversation, ConversationChange, ConversationSummary, ConversationView, MessagePage, NewAttachment, Rating, StartedTurn},
    ids::{AttachmentId, ConversationId, MessageId, TurnId},
    model::ModelInfo,
    page::Page,
};
use leptos::prelude::*;
use server_fn::codec::Json;

#[cfg(feature = "ssr")]
use crate::edge;

/// The models that the caller may use.
#[server(prefix = "/ui", endpoint = "list_models", input = Json, output = Json)]
pub async fn list_models() -> Result<Vec<ModelInfo>, UiError> {
    let (services, actor) = edge::actor().await?;
    services.models.list(&actor).await.map_err(edge::fail)
}

/// A page of the own conversations, newest first.
#[server(prefix = "/ui", endpoint = "list_conversations", input = Json, output = Json)]
pub async fn list_conversations(archived: bool, cursor: Option<String>) -> Result<Page<ConversationSummary>, UiError> {
    let (services, actor) = edge::actor().await?;
    services.chats.list(&actor, services::ListConversations { archived, cursor }).await.map_err(edge::fail)
}

/// A conversation with the newest page of its active branch.
#[server(prefix = "/ui", endpoint = "open_conversation", input = Json, output = Json)]
pub async fn open_conversation(conversation: ConversationId) -> Result<ConversationView, UiError> {
    let (services, actor) = edge::actor().await?;
    services.chats.view(&actor, conversation).await.map_err(edge::fail)
}

/// The page of the active branch before a message.
#[server(prefix = "/ui", endpoint = "earlier_messages", input = Json, output = Json)]
pub async fn earlier_messages(conversation: ConversationId, before: MessageId) -> Result<MessagePage, UiError> {
    let (services, actor) = edge::actor().await?;
    services.chats.earlier(&actor, conversation, before).await.map_err(edge::fail)
}

/// A conversation on the branch that holds a message.
#[server(prefix = "/ui", endpoint = "open_message", input = Json, output = Json)]
pub async fn open_message(conversation: ConversationId, message: MessageId) -> Result<ConversationView, UiError> {
    let (services, actor) = edge::actor().await?;
    services.chats.around(&actor, conversation, message).await.map_err(edge::fail)
}

/// Renames, pins, archives or sets up a conversation.
#[server(prefix = "/ui", endpoint = "change_conversation", input = Json, output = Json)]
pub async fn change_conversation(conversation: ConversationId, change: ConversationChange) -> Result<Conversation, UiError> {
    let (services, actor) = edge::actor().await?;
    services.chats.change(&actor, conversation, change).await.map_err(edge::fail)
}

/// Deletes a conversation; it can be restored for a while.
#[server(prefix = "/ui", endpoint = "delete_conversation", input = Json, output = Json)]
pub async fn delete_conversation(conversation: ConversationId) -> Result<(), UiError> {
    let (services, actor) = edge::actor().await?;
    services.chats.delete(&actor, conversation).await.map_err(edge::fail)
}

/// Takes a deletion back.
#[server(prefix = "/ui", endpoint = "restore_conversation", input = Json, output = Json)]
pub async fn restore_conversation(conversation: ConversationId) -> Result<(), UiError> {
    let (services, actor) = edge::actor().await?;
    services.chats.restore(&actor, conversation).await.map_err(edge::fail)
}

/// Makes the branch active that a message begins.
#[server(prefix = "/ui", endpoint = "select_branch", input = Json, output = Json)]
pub async fn select_branch(message: MessageId) -> Result<ConversationView, UiError> {
    let (services, actor) = edge::actor().await?;
    services.chats.select_branch(&actor, message).await.map_err(edge::fail)
}

/// Rates an answer; `None` takes the rating back.
#[server(prefix = "/ui", endpoint = "rate_answer", input = Json, output = Json)]
pub async fn rate_answer(message: MessageId, rating: Option<Rating>) -> Result<(), UiError> {
    let (services, actor) = edge::actor().await?;
    services.chats.rate(&actor, message, rating).await.map_err(edge::fail)
}

/// The text of an attachment.
#[server(prefix = "/ui", endpoint = "read_attachment", input = Json, output = Json)]
pub async fn read_attachment(attachment: AttachmentId) -> Result<NewAttachment, UiError> {
    let (services, actor) = edge::actor().await?;
    let text = services.chats.attachment(&actor, attachment).await.map_err(edge::fail)?;
    Ok(NewAttachment { name: text.name, content: text.content })
}

/// Asks a question.
#[server(name = AskInChat, prefix = "/ui", endpoint = "start_turn", input = Json, output = Json)]
pub async fn start_turn(turn: contract::chat::StartTurn) -> Result<StartedTurn, UiError> {
    let (services, actor) = edge::actor().await?;
    services.turns.start(&actor, turn).await.map_err(edge::fail)
}

/// Asks a question in a chat that is not stored.
#[server(name = AskTemporarily, prefix = "/ui", endpoint = "start_temporary_turn", input = Json, output = Json)]
pub async fn start_temporary_turn(turn: contract::chat::StartTemporaryTurn) -> Result<TurnId, UiError> {
    let (services, actor) = edge::actor().await?;
    services.turns.start_temporary(&actor, turn).await.map_err(edge::fail)
}

/// Makes another answer to the same question.
#[server(prefix = "/ui", endpoint = "regenerate_answer", input = Json, output = Json)]
pub async fn regenerate_answer(answer: MessageId) -> Result<StartedTurn, UiError> {
    let (services, actor) = edge::actor().await?;
    services.turns.regenerate(&actor, answer).await.map_err(edge::fail)
}

/// Goes on with an answer that ended early.
#[server(prefix = "/ui", endpoint = "continue_answer", input = Json, output = Json)]
pub async fn continue_answer(answer: MessageId) -> Result<StartedTurn, UiError> {
    let (services, actor) = edge::actor().await?;
    services.turns.resume(&actor, answer).await.map_err(edge::fail)
}

/// Stops a turn; what was produced is kept.
#[server(prefix = "/ui", endpoint = "stop_turn", input = Json, output = Json)]
pub async fn stop_turn(turn: TurnId) -> Result<(), UiError> {
    let (services, actor) = edge::actor().await?;
    services.turns.stop(&actor, turn).await.map_err(edge::fail)
}
