//! Conversations, messages, turns and their events.

use crate::{
    Millis,
    ids::{AttachmentId, ConversationId, MessageId, TurnId},
    model::Sampling,
    problem::CONTENT_REFUSALS,
};
use serde::{Deserialize, Serialize};

/// Pasted text above this many bytes becomes an attachment instead of message text.
pub const PASTE_AS_ATTACHMENT_BYTES: usize = 8 * 1024;
/// Longest text of one message, in bytes.
pub const MESSAGE_MAX_BYTES: usize = 64 * 1024;
/// Largest attachment, in bytes.
pub const ATTACHMENT_MAX_BYTES: usize = 2 * 1024 * 1024;
/// Most attachments of one question.
pub const ATTACHMENTS_MAX: usize = 10;
/// Messages in one page of a conversation's path.
pub const MESSAGES_PER_PAGE: u32 = 40;

/// A row of the side bar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConversationSummary {
    pub id: ConversationId,
    pub title: String,
    pub pinned: bool,
    pub archived: bool,
    #[cfg_attr(feature = "openapi", schema(value_type = i64))]
    pub updated_at: Millis,
    /// An answer is being made right now.
    pub running: bool,
}

/// A conversation's settings, without its messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Conversation {
    pub id: ConversationId,
    pub title: String,
    pub pinned: bool,
    pub archived: bool,
    /// `None`: the user's default model, else the platform's.
    pub model: Option<String>,
    pub system_prompt: String,
    pub sampling: Sampling,
    #[cfg_attr(feature = "openapi", schema(value_type = i64))]
    pub created_at: Millis,
    #[cfg_attr(feature = "openapi", schema(value_type = i64))]
    pub updated_at: Millis,
}

/// The chat page: the conversation and the newest page of its active path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConversationView {
    pub conversation: Conversation,
    pub messages: MessagePage,
    /// The turn in progress, if any.
    pub running: Option<TurnId>,
}

/// Part of the active path, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MessagePage {
    pub messages: Vec<Message>,
    /// Messages of the path before the first one here; 0 at the start of the conversation.
    pub earlier: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum MessageRole {
    User,
    Assistant,
}

/// How far an answer came. Questions are always `Complete`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum MessageStatus {
    /// The turn has not ended.
    Running,
    Complete,
    /// The user pressed Stop; what was produced is kept.
    Stopped,
    /// It failed in the middle; *Continue* goes on from here.
    Interrupted,
}

/// One question or answer on the active path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Message {
    pub id: MessageId,
    pub parent: Option<MessageId>,
    pub role: MessageRole,
    pub content: String,
    pub status: MessageStatus,
    /// Why an interrupted answer ended, as a problem code (`unavailable`, `context_length_exceeded`, …).
    pub error: Option<String>,
    pub attachments: Vec<Attachment>,
    /// The branches at this point, oldest first, this message among them; one entry if there is no branch.
    pub siblings: Vec<MessageId>,
    pub rating: Option<Rating>,
    pub stats: Option<AnswerStats>,
    /// Rules that let what was sent for this answer pass, and warn of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    #[cfg_attr(feature = "openapi", schema(value_type = i64))]
    pub created_at: Millis,
}

/// Whether an answer with this error, these figures and this text never began, because a guardrail refused its question, or a
/// content filter of whoever runs the model: at once, or by ending the answer before a word of it. What follows must not bring
/// that question along.
#[must_use]
pub fn is_refused(error: Option<&str>, stats: Option<&AnswerStats>, content: &str) -> bool {
    let why = error.or(stats.map(|stats| stats.finish_reason.as_str()));
    content.is_empty() && why.is_some_and(|why| CONTENT_REFUSALS.contains(&why))
}

/// Tokens and speed of one answer, from the worker's own counters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AnswerStats {
    pub model: String,
    pub prompt_tokens: u32,
    /// Part of `prompt_tokens` that came out of the prefix cache.
    pub cached_tokens: u32,
    pub completion_tokens: u32,
    /// Part of `completion_tokens` that were thoughts; 0 where that was not kept.
    #[serde(default)]
    pub reasoning_tokens: u32,
    /// From dispatch to the first token.
    pub ttft_ms: u32,
    /// From dispatch to the end.
    pub duration_ms: u32,
    /// `stop`, `length`, `tool_calls` or `content_filter`; empty when the answer was stopped or interrupted.
    pub finish_reason: String,
}

/// A text that came with a question. The content is fetched by its own route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Attachment {
    pub id: AttachmentId,
    pub name: String,
    pub bytes: u32,
}

/// An attachment on its way to the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewAttachment {
    pub name: String,
    pub content: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rating {
    pub value: RatingValue,
    #[serde(default)]
    pub comment: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RatingValue {
    Up,
    Down,
}

/// Ask a question. Sends only the new turn, never the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StartTurn {
    /// `None` starts a new conversation.
    pub conversation: Option<ConversationId>,
    /// The message this question follows; `None` puts it at the start (also: editing the first question).
    pub parent: Option<MessageId>,
    pub content: String,
    #[serde(default)]
    pub attachments: Vec<NewAttachment>,
    /// Settings of a conversation that this call creates; ignored otherwise.
    #[serde(default)]
    pub settings: Option<ConversationSettings>,
}

/// Ask in a temporary chat: nothing of it is stored, so the caller sends what came before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StartTemporaryTurn {
    /// Oldest first; the last one is the question.
    pub messages: Vec<TemporaryMessage>,
    #[serde(default)]
    pub settings: ConversationSettings,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TemporaryMessage {
    pub role: MessageRole,
    pub content: String,
    #[serde(default)]
    pub attachments: Vec<NewAttachment>,
    /// An answer that never began because a guardrail or a content filter refused its question.
    #[serde(default)]
    pub refused: bool,
}

/// Model, system prompt and sampling of a chat.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct ConversationSettings {
    pub model: Option<String>,
    pub system_prompt: String,
    pub sampling: Sampling,
}

/// A turn that runs on the server now; follow it at `/ui/turns/{turn}/events`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StartedTurn {
    pub turn: TurnId,
    pub conversation: ConversationId,
    /// The question; for *Regenerate* and *Continue* the existing one.
    pub question: Message,
    /// The answer, `Running` (with the kept text for *Continue*).
    pub answer: Message,
}

/// What `/ui/turns/{id}/events` sends as `data:`; the SSE `id:` is the event's number in the turn.
///
/// Applying an event twice does no harm: `at` says where in the answer the text belongs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TurnEvent {
    /// Waiting for a slot; `place` 0 means next. `wait_ms`: about how long, once the worker knows.
    Queued {
        place: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wait_ms: Option<u32>,
    },
    /// Text that begins at byte `at` (UTF-8) of the answer.
    Text { at: u32, text: String },
    /// The conversation got a title; an empty one: it has none.
    Title { title: String },
    /// The turn is over; the answer is as stored.
    End {
        status: MessageStatus,
        error: Option<String>,
        stats: Option<AnswerStats>,
        /// Rules that let the request pass and warn of it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
    },
}

/// Changes to a conversation; `None` leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct ConversationChange {
    pub title: Option<String>,
    pub pinned: Option<bool>,
    pub archived: Option<bool>,
    pub settings: Option<ConversationSettings>,
}

/// A hit of the full-text search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SearchHit {
    pub conversation: ConversationId,
    pub message: MessageId,
    pub title: String,
    pub role: MessageRole,
    /// Text around the hit, cut into plain and matching pieces.
    pub snippet: Vec<SnippetPart>,
    #[cfg_attr(feature = "openapi", schema(value_type = i64))]
    pub created_at: Millis,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SnippetPart {
    pub text: String,
    pub hit: bool,
}

/// A row of the prompt history: a question the user once asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PromptEntry {
    pub message: MessageId,
    pub conversation: ConversationId,
    pub title: String,
    pub content: String,
    #[cfg_attr(feature = "openapi", schema(value_type = i64))]
    pub created_at: Millis,
}

/// Filter of the prompt history; empty matches all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct PromptFilter {
    /// Words that must occur.
    pub query: String,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>))]
    pub from: Option<Millis>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>))]
    pub to: Option<Millis>,
    pub conversation: Option<ConversationId>,
}

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Imported {
    pub conversations: u32,
    pub messages: u32,
}

#[cfg(test)]
mod tests {
    use super::{AnswerStats, is_refused};

    #[test]
    fn what_never_began_for_what_was_asked_is_refused_and_nothing_else_is() {
        let refused = |error: Option<&str>, finish_reason: &str, content: &str| {
            let stats = AnswerStats { finish_reason: finish_reason.into(), ..AnswerStats::default() };
            is_refused(error, Some(&stats), content)
        };
        assert!(is_refused(Some("guardrail_blocked"), None, "") && refused(Some("content_filter"), "", ""));
        assert!(refused(None, "content_filter", ""), "the filter ended it before a word");
        for error in [Some("content_filter"), None] {
            assert!(!refused(error, "content_filter", "one "), "what was said stays, with its question: {error:?}");
        }
        assert!(!is_refused(None, None, ""), "it has not ended");
        for (error, finish_reason) in
            [(None, "stop"), (None, "length"), (None, ""), (Some("insufficient_quota"), ""), (Some("model_unavailable"), "")]
        {
            assert!(!refused(error, finish_reason, ""), "{error:?} {finish_reason}");
        }
    }
}
