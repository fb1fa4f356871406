//! The exported form of a chat. A stable format: change it only by a new [`SCHEMA`] that keeps reading the old one.

use contract::{
    Millis,
    chat::{AnswerStats, Message, MessageRole, MessageStatus, Rating},
    ids::MessageId,
    model::Sampling,
};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use store::{attachments::StoredAttachment, conversations::StoredConversation};

/// Name and version of the format.
pub(crate) const SCHEMA: &str = "kontor.chat/1";

/// A chat with everything in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Document {
    pub schema: String,
    #[serde(default)]
    pub exported_at: Millis,
    pub conversation: Head,
    /// Parents before children.
    pub messages: Vec<Node>,
}

/// The chat without its messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub title: String,
    #[serde(default)]
    pub pinned: bool,
    #[serde(default)]
    pub archived: bool,
    #[serde(default)]
    pub model: Option<String>,
    #[serde(default)]
    pub system_prompt: String,
    #[serde(default)]
    pub sampling: Sampling,
    #[serde(default)]
    pub created_at: Millis,
    #[serde(default)]
    pub updated_at: Millis,
    /// The message that the branch in view ends with.
    #[serde(default)]
    pub active_leaf: Option<String>,
}

/// A message of the tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Node {
    /// Unique in the document; means nothing outside.
    pub id: String,
    #[serde(default)]
    pub parent: Option<String>,
    pub role: MessageRole,
    pub content: String,
    #[serde(default = "complete")]
    pub status: MessageStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating: Option<Rating>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<AnswerStats>,
    #[serde(default)]
    pub created_at: Millis,
}

/// An attachment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Text {
    pub name: String,
    pub content: String,
}

fn complete() -> MessageStatus {
    MessageStatus::Complete
}

impl Document {
    /// A stored chat as a document. `messages` come parents before children.
    pub(crate) fn new(
        stored: StoredConversation,
        messages: Vec<Message>,
        mut texts: HashMap<MessageId, Vec<StoredAttachment>>,
        now: Millis,
    ) -> Self {
        let conversation = stored.conversation;
        let head = Head {
            title: conversation.title,
            pinned: conversation.pinned,
            archived: conversation.archived,
            model: conversation.model,
            system_prompt: conversation.system_prompt,
            sampling: conversation.sampling,
            created_at: conversation.created_at,
            updated_at: conversation.updated_at,
            active_leaf: stored.active_leaf.map(|id| id.to_string()),
        };
        let messages = messages
            .into_iter()
            .map(|message| Node {
                attachments: texts.remove(&message.id).unwrap_or_default().into_iter().map(Text::from).collect(),
                id: message.id.to_string(),
                parent: message.parent.map(|id| id.to_string()),
                role: message.role,
                content: message.content,
                status: message.status,
                error: message.error,
                rating: message.rating,
                stats: message.stats,
                created_at: message.created_at,
            })
            .collect();
        Self { schema: SCHEMA.into(), exported_at: now, conversation: head, messages }
    }
}

impl From<StoredAttachment> for Text {
    fn from(stored: StoredAttachment) -> Self {
        Self { name: stored.name, content: stored.content }
    }
}
