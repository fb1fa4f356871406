//! Texts that came with a question.

use crate::{
    chat_sql::{all, instant, one, run, sql},
    tx::TenantTx,
};
use contract::{
    Millis,
    chat::NewAttachment,
    ids::{AttachmentId, ConversationId, MessageId, UserId},
};
use domain::Result;
use sea_orm::FromQueryResult;
use uuid::Uuid;

/// The text of an attachment.
#[derive(Clone, Debug, FromQueryResult)]
pub struct StoredAttachment {
    pub name: String,
    pub content: String,
}

/// Repository of attachments. They belong to whom the message belongs to.
#[derive(Debug)]
pub struct Attachments<'a> {
    tx: &'a TenantTx,
}

#[derive(FromQueryResult)]
struct OwnedRow {
    message_id: Uuid,
    name: String,
    content: String,
}

impl<'a> Attachments<'a> {
    pub(crate) fn new(tx: &'a TenantTx) -> Self {
        Self { tx }
    }

    /// Stores an attachment of a message.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn insert(&self, id: AttachmentId, message: MessageId, new: &NewAttachment, at: Millis) -> Result<()> {
        let statement = sql(
            "INSERT INTO attachment (tenant_id, id, message_id, name, bytes, content, created_at)
             VALUES (app_tenant(), $1, $2, $3, octet_length($4), $4, $5)",
            [id.0.into(), message.0.into(), new.name.clone().into(), new.content.clone().into(), instant(at)?.into()],
        );
        run(self.tx.conn(), statement).await.map(drop)
    }

    /// An attachment of one of the user's questions, unless the conversation is deleted.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn find(&self, user: UserId, id: AttachmentId) -> Result<Option<StoredAttachment>> {
        let statement = sql(
            "SELECT a.name, a.content FROM attachment a JOIN message m ON m.id = a.message_id JOIN conversation c ON c.id = m.conversation_id
             WHERE a.id = $1 AND m.user_id = $2 AND c.deleted_at IS NULL",
            [id.0.into(), user.0.into()],
        );
        one(self.tx.conn(), statement).await
    }

    /// All attachments of a conversation with the message they belong to, in the order they were attached.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn of_conversation(&self, user: UserId, conversation: ConversationId) -> Result<Vec<(MessageId, StoredAttachment)>> {
        let statement = sql(
            "SELECT a.message_id, a.name, a.content FROM attachment a JOIN message m ON m.id = a.message_id
             WHERE m.conversation_id = $1 AND m.user_id = $2 ORDER BY a.id",
            [conversation.0.into(), user.0.into()],
        );
        let rows = all::<OwnedRow>(self.tx.conn(), statement).await?;
        Ok(rows.into_iter().map(|row| (row.message_id.into(), StoredAttachment { name: row.name, content: row.content })).collect())
    }
}
