//! What server functions take: objects with the names of their arguments, as `server_fn` reads them. They are declared once
//! more here because the API's description may not depend on the interface; a test of the server sends each example to the
//! function itself, and each without what is required.

#![expect(dead_code, reason = "they are described, and read by the functions themselves")]

use contract::{
    chat::{ConversationChange, PromptFilter, Rating, StartTemporaryTurn, StartTurn},
    ids::{AttachmentId, ConversationId, MessageId, TurnId},
    usage::UsageRange,
};
use utoipa::ToSchema;

/// An object without fields.
#[derive(ToSchema)]
#[schema(as = NoArguments)]
pub struct Nothing {}

#[derive(ToSchema)]
pub struct ListConversations {
    archived: bool,
    /// `next` of the page before.
    cursor: Option<String>,
}

#[derive(ToSchema)]
pub struct OfConversation {
    conversation: ConversationId,
}

#[derive(ToSchema)]
pub struct EarlierMessages {
    conversation: ConversationId,
    before: MessageId,
}

#[derive(ToSchema)]
pub struct OpenMessage {
    conversation: ConversationId,
    message: MessageId,
}

#[derive(ToSchema)]
pub struct ChangeConversation {
    conversation: ConversationId,
    change: ConversationChange,
}

#[derive(ToSchema)]
pub struct OfMessage {
    message: MessageId,
}

#[derive(ToSchema)]
pub struct RateAnswer {
    message: MessageId,
    /// Nothing takes the rating back.
    rating: Option<Rating>,
}

#[derive(ToSchema)]
pub struct OfAttachment {
    attachment: AttachmentId,
}

#[derive(ToSchema)]
pub struct SearchMessages {
    /// Words that all occur.
    query: String,
    /// `next` of the page before.
    cursor: Option<String>,
}

#[derive(ToSchema)]
pub struct ListPrompts {
    filter: PromptFilter,
    /// `next` of the page before.
    cursor: Option<String>,
}

#[derive(ToSchema)]
pub struct ImportConversations {
    /// An exported chat, or a list of several, as text.
    json: String,
}

#[derive(ToSchema)]
#[schema(as = AskInChat)]
pub struct Ask {
    turn: StartTurn,
}

#[derive(ToSchema)]
pub struct AskTemporarily {
    turn: StartTemporaryTurn,
}

#[derive(ToSchema)]
pub struct OfAnswer {
    answer: MessageId,
}

#[derive(ToSchema)]
pub struct OfTurn {
    turn: TurnId,
}

#[derive(ToSchema)]
pub struct ReadUsageReport {
    range: UsageRange,
}
