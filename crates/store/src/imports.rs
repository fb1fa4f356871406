//! Many messages at once: what an import or a generated chat brings.

use crate::{
    chat_sql::{run, sql},
    tx::TenantTx,
};
use contract::{
    Millis,
    chat::{AnswerStats, MessageRole, MessageStatus, RatingValue},
    ids::{AttachmentId, ConversationId, MessageId, UserId},
};
use domain::{Error, Result};
use serde::Serialize;

/// A message that was made elsewhere, complete.
#[derive(Clone, Debug, Serialize)]
pub struct ImportedMessage {
    pub id: MessageId,
    pub parent_id: Option<MessageId>,
    pub role: MessageRole,
    pub content: String,
    pub status: MessageStatus,
    pub error: Option<String>,
    /// Distance from the start of the conversation.
    pub depth: u32,
    #[serde(flatten)]
    pub stats: Option<AnswerStats>,
    pub rating: Option<RatingValue>,
    pub rating_comment: String,
    pub created_at: Millis,
}

/// An attachment that was made elsewhere.
#[derive(Clone, Debug, Serialize)]
pub struct ImportedAttachment {
    pub id: AttachmentId,
    pub message_id: MessageId,
    pub name: String,
    pub content: String,
    pub created_at: Millis,
}

/// Repository for imports.
#[derive(Debug)]
pub struct Imports<'a> {
    tx: &'a TenantTx,
}

/// Rows of one statement; a parent may be in the same one.
const CHUNK: usize = 500;

impl<'a> Imports<'a> {
    pub(crate) fn new(tx: &'a TenantTx) -> Self {
        Self { tx }
    }

    /// Stores messages of one conversation, parents before children.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn messages(&self, user: UserId, conversation: ConversationId, messages: &[ImportedMessage]) -> Result<()> {
        for chunk in messages.chunks(CHUNK) {
            let statement = sql(
                "INSERT INTO message (tenant_id, id, conversation_id, user_id, parent_id, role, content, status, error, depth, model, prompt_tokens,
                                      cached_tokens, completion_tokens, ttft_ms, duration_ms, finish_reason, rating, rating_comment, created_at)
                 SELECT app_tenant(), x.id, $1, $2, x.parent_id, x.role, x.content, x.status, x.error, x.depth, x.model, x.prompt_tokens,
                        x.cached_tokens, x.completion_tokens, x.ttft_ms, x.duration_ms, x.finish_reason, x.rating, x.rating_comment,
                        to_timestamp(x.created_at / 1000.0)
                 FROM jsonb_to_recordset($3) AS x (id uuid, parent_id uuid, role text, content text, status text, error text, depth int, model text,
                        prompt_tokens int, cached_tokens int, completion_tokens int, ttft_ms int, duration_ms int, finish_reason text,
                        rating text, rating_comment text, created_at bigint)",
                [conversation.0.into(), user.0.into(), serde_json::to_value(chunk).map_err(Error::internal)?.into()],
            );
            run(self.tx.conn(), statement).await?;
        }
        Ok(())
    }

    /// Stores attachments of messages that are stored already.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn attachments(&self, attachments: &[ImportedAttachment]) -> Result<()> {
        for chunk in attachments.chunks(CHUNK) {
            let statement = sql(
                "INSERT INTO attachment (tenant_id, id, message_id, name, bytes, content, created_at)
                 SELECT app_tenant(), x.id, x.message_id, x.name, octet_length(x.content), x.content, to_timestamp(x.created_at / 1000.0)
                 FROM jsonb_to_recordset($1) AS x (id uuid, message_id uuid, name text, content text, created_at bigint)",
                [serde_json::to_value(chunk).map_err(Error::internal)?.into()],
            );
            run(self.tx.conn(), statement).await?;
        }
        Ok(())
    }
}
