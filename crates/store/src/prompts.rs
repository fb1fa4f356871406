//! The prompt history: every question a user has asked.

use crate::{
    chat_sql::{all, instant, millis, sql},
    search::words_sql,
    tx::TenantTx,
};
use contract::{
    Millis,
    chat::{PromptEntry, PromptFilter},
    ids::{MessageId, UserId},
};
use domain::Result;
use sea_orm::FromQueryResult;
use time::OffsetDateTime;
use uuid::Uuid;

/// Repository of the prompt history.
#[derive(Debug)]
pub struct Prompts<'a> {
    tx: &'a TenantTx,
}

/// Where a page begins that is ordered by time, newest first: after this message.
#[derive(Clone, Copy, Debug)]
pub struct MessageCursor {
    pub created_at: Millis,
    pub id: MessageId,
}

#[derive(FromQueryResult)]
struct Row {
    id: Uuid,
    conversation_id: Uuid,
    title: String,
    content: String,
    created_at: OffsetDateTime,
}

impl<'a> Prompts<'a> {
    pub(crate) fn new(tx: &'a TenantTx) -> Self {
        Self { tx }
    }

    /// The user's questions that pass the filter, newest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list(
        &self,
        user: UserId,
        filter: &PromptFilter,
        words: &crate::search::Words,
        after: Option<MessageCursor>,
        limit: u32,
    ) -> Result<Vec<PromptEntry>> {
        let (created_at, id) = match after {
            Some(after) => (Some(instant(after.created_at)?), Some(after.id.0)),
            None => (None, None),
        };
        let text = format!(
            "WITH q AS MATERIALIZED ({})
             SELECT m.id, m.conversation_id, c.title, m.content, m.created_at
             FROM message m JOIN conversation c ON c.id = m.conversation_id, q
             WHERE m.user_id = $3 AND m.role = 'user' AND c.deleted_at IS NULL
               AND ($4 OR m.search @@ q.whole)
               AND ($5::timestamptz IS NULL OR m.created_at >= $5) AND ($6::timestamptz IS NULL OR m.created_at < $6)
               AND ($7::uuid IS NULL OR m.conversation_id = $7)
               AND ($9::uuid IS NULL OR (m.created_at, m.id) < ($8::timestamptz, $9::uuid))
             ORDER BY m.created_at DESC, m.id DESC LIMIT $10",
            words_sql()
        );
        let statement = sql(
            &text,
            [
                words.head.clone().into(),
                words.prefix.clone().into(),
                user.0.into(),
                words.is_empty().into(),
                filter.from.map(instant).transpose()?.into(),
                filter.to.map(instant).transpose()?.into(),
                filter.conversation.map(|id| id.0).into(),
                created_at.into(),
                id.into(),
                i64::from(limit).into(),
            ],
        );
        let rows = all::<Row>(self.tx.conn(), statement).await?;
        Ok(rows
            .into_iter()
            .map(|row| PromptEntry {
                message: row.id.into(),
                conversation: row.conversation_id.into(),
                title: row.title,
                content: row.content,
                created_at: millis(row.created_at),
            })
            .collect())
    }
}
