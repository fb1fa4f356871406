//! The message tree of a conversation: pages of a path, branches, the making of an answer.

use crate::{
    chat_sql::{all, count, instant, int, millis, one, rating, rating_text, role, role_text, run, sql, status, status_text},
    tx::TenantTx,
};
use contract::{
    Millis,
    chat::{AnswerStats, Attachment, Message, MessagePage, MessageRole, MessageStatus, Rating},
    ids::{ConversationId, MessageId, UserId},
    problem::CONTENT_REFUSALS,
};
use domain::{Error, Result};
use sea_orm::FromQueryResult;
use time::OffsetDateTime;
use uuid::Uuid;

/// A question or answer to be stored.
#[derive(Clone, Debug)]
pub struct NewMessage {
    pub id: MessageId,
    pub conversation: ConversationId,
    pub user: UserId,
    pub parent: Option<MessageId>,
    pub role: MessageRole,
    pub content: String,
    pub status: MessageStatus,
    /// Distance from the start of the conversation; the first question has 0.
    pub depth: u32,
    pub created_at: Millis,
}

/// Where a message stands, without its text.
#[derive(Clone, Debug)]
pub struct Placed {
    pub id: MessageId,
    pub conversation: ConversationId,
    pub parent: Option<MessageId>,
    pub role: MessageRole,
    pub status: MessageStatus,
    pub depth: u32,
    pub finish_reason: String,
}

/// How an answer ended.
#[derive(Clone, Debug)]
pub struct AnswerEnd {
    pub status: MessageStatus,
    /// Problem code of an interruption.
    pub error: Option<String>,
    pub stats: Option<AnswerStats>,
    /// Rules that warn. None of them: those of before stay.
    pub warnings: Vec<String>,
}

/// A message as part of a prompt: its text and the texts that came with it.
#[derive(Clone, Debug)]
pub struct PromptMessage {
    pub role: MessageRole,
    pub content: String,
    /// `(name, content)`, in the order they were attached.
    pub attachments: Vec<(String, String)>,
    /// An answer that never began because a guardrail or a content filter refused its question.
    pub refused: bool,
}

/// Repository of messages. Every query names the owner; a foreign row does not exist.
#[derive(Debug)]
pub struct Messages<'a> {
    tx: &'a TenantTx,
}

/// Before the parameter with [`CONTENT_REFUSALS`]: the message `m` is an answer that never began for one of them. The same as
/// [`contract::chat::is_refused`].
const REFUSED: &str = "m.content = '' AND coalesce(m.error, m.finish_reason, '') = ANY";

/// What a [`Row`] is made of; attachments and branches come along, so that a page is one query.
const COLUMNS: &str = "m.id, m.parent_id, m.role, m.content, m.status, m.error, m.depth, m.model, m.prompt_tokens, m.cached_tokens,
    m.completion_tokens, m.ttft_ms, m.duration_ms, m.finish_reason, m.rating, m.rating_comment, m.warnings, m.created_at,
    coalesce((SELECT jsonb_agg(jsonb_build_object('id', a.id, 'name', a.name, 'bytes', a.bytes) ORDER BY a.id)
              FROM attachment a WHERE a.message_id = m.id), '[]'::jsonb) AS attachments,
    CASE WHEN m.parent_id IS NULL
         THEN ARRAY(SELECT s.id FROM message s WHERE s.conversation_id = m.conversation_id AND s.parent_id IS NULL ORDER BY s.id)
         ELSE ARRAY(SELECT s.id FROM message s WHERE s.conversation_id = m.conversation_id AND s.parent_id = m.parent_id ORDER BY s.id)
    END AS siblings";

#[derive(FromQueryResult)]
pub(crate) struct Row {
    id: Uuid,
    parent_id: Option<Uuid>,
    role: String,
    content: String,
    status: String,
    error: Option<String>,
    depth: i32,
    model: Option<String>,
    prompt_tokens: Option<i32>,
    cached_tokens: Option<i32>,
    completion_tokens: Option<i32>,
    ttft_ms: Option<i32>,
    duration_ms: Option<i32>,
    finish_reason: Option<String>,
    rating: Option<String>,
    rating_comment: String,
    warnings: Vec<String>,
    created_at: OffsetDateTime,
    attachments: serde_json::Value,
    siblings: Vec<Uuid>,
}

impl Row {
    fn into_message(self) -> Result<Message> {
        let stats = self.model.map(|model| AnswerStats {
            model,
            prompt_tokens: count(self.prompt_tokens.unwrap_or(0)),
            cached_tokens: count(self.cached_tokens.unwrap_or(0)),
            completion_tokens: count(self.completion_tokens.unwrap_or(0)),
            // Of the answers of chats they are not kept.
            reasoning_tokens: 0,
            ttft_ms: count(self.ttft_ms.unwrap_or(0)),
            duration_ms: count(self.duration_ms.unwrap_or(0)),
            finish_reason: self.finish_reason.unwrap_or_default(),
        });
        let rated = self.rating.as_deref().map(rating).transpose()?;
        Ok(Message {
            id: self.id.into(),
            parent: self.parent_id.map(Into::into),
            role: role(&self.role)?,
            content: self.content,
            status: status(&self.status)?,
            error: self.error,
            attachments: serde_json::from_value::<Vec<Attachment>>(self.attachments).map_err(Error::internal)?,
            siblings: self.siblings.into_iter().map(Into::into).collect(),
            rating: rated.map(|value| Rating { value, comment: self.rating_comment }),
            stats,
            warnings: self.warnings,
            created_at: millis(self.created_at),
        })
    }
}

#[derive(FromQueryResult)]
struct PlacedRow {
    id: Uuid,
    conversation_id: Uuid,
    parent_id: Option<Uuid>,
    role: String,
    status: String,
    depth: i32,
    finish_reason: Option<String>,
}

#[derive(FromQueryResult)]
struct PromptRow {
    role: String,
    content: String,
    refused: bool,
    attachments: serde_json::Value,
}

#[derive(FromQueryResult)]
struct IdRow {
    id: Uuid,
}

#[derive(FromQueryResult)]
struct ContentRow {
    content: String,
}

impl<'a> Messages<'a> {
    pub(crate) fn new(tx: &'a TenantTx) -> Self {
        Self { tx }
    }

    /// Stores a message.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn insert(&self, new: &NewMessage) -> Result<()> {
        let statement = sql(
            "INSERT INTO message (tenant_id, id, conversation_id, user_id, parent_id, role, content, status, depth, created_at)
             VALUES (app_tenant(), $1, $2, $3, $4, $5, $6, $7, $8, $9)",
            [
                new.id.0.into(),
                new.conversation.0.into(),
                new.user.0.into(),
                new.parent.map(|id| id.0).into(),
                role_text(new.role).into(),
                new.content.clone().into(),
                status_text(new.status).into(),
                int(new.depth).into(),
                instant(new.created_at)?.into(),
            ],
        );
        run(self.tx.conn(), statement).await.map(drop)
    }

    /// The newest `limit` messages of the path from the start of the conversation to `leaf`, oldest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn page(&self, user: UserId, conversation: ConversationId, leaf: MessageId, limit: u32) -> Result<MessagePage> {
        let text = format!(
            "WITH RECURSIVE path AS (
               SELECT m.id, m.parent_id, 1 AS n FROM message m WHERE m.id = $3 AND m.conversation_id = $1 AND m.user_id = $2
               UNION ALL
               SELECT m.id, m.parent_id, p.n + 1 FROM path p JOIN message m ON m.id = p.parent_id AND m.conversation_id = $1 WHERE p.n < $4
             )
             SELECT {COLUMNS} FROM path p JOIN message m ON m.id = p.id ORDER BY m.depth"
        );
        let statement = sql(&text, [conversation.0.into(), user.0.into(), leaf.0.into(), int(limit).into()]);
        let rows = all::<Row>(self.tx.conn(), statement).await?;
        let earlier = rows.first().map_or(0, |row| count(row.depth));
        let messages = rows.into_iter().map(Row::into_message).collect::<Result<_>>()?;
        Ok(MessagePage { messages, earlier })
    }

    /// All messages of a conversation in every branch, parents before children.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn tree(&self, user: UserId, conversation: ConversationId) -> Result<Vec<Message>> {
        let text = format!("SELECT {COLUMNS} FROM message m WHERE m.conversation_id = $1 AND m.user_id = $2 ORDER BY m.depth, m.id");
        let rows = all::<Row>(self.tx.conn(), sql(&text, [conversation.0.into(), user.0.into()])).await?;
        rows.into_iter().map(Row::into_message).collect()
    }

    /// One whole message.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn get(&self, user: UserId, id: MessageId) -> Result<Option<Message>> {
        let text = format!("SELECT {COLUMNS} FROM message m WHERE m.id = $1 AND m.user_id = $2");
        one::<Row>(self.tx.conn(), sql(&text, [id.0.into(), user.0.into()])).await?.map(Row::into_message).transpose()
    }

    /// Where a message of the user stands; `None` also if its conversation is deleted.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn place(&self, user: UserId, id: MessageId) -> Result<Option<Placed>> {
        let statement = sql(
            "SELECT m.id, m.conversation_id, m.parent_id, m.role, m.status, m.depth, m.finish_reason
             FROM message m JOIN conversation c ON c.id = m.conversation_id
             WHERE m.id = $1 AND m.user_id = $2 AND c.deleted_at IS NULL",
            [id.0.into(), user.0.into()],
        );
        let Some(row) = one::<PlacedRow>(self.tx.conn(), statement).await? else {
            return Ok(None);
        };
        Ok(Some(Placed {
            id: row.id.into(),
            conversation: row.conversation_id.into(),
            parent: row.parent_id.map(Into::into),
            role: role(&row.role)?,
            status: status(&row.status)?,
            depth: count(row.depth),
            finish_reason: row.finish_reason.unwrap_or_default(),
        }))
    }

    /// Whether the message lies on the path from the start of the conversation to `leaf`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn is_on_path(&self, user: UserId, conversation: ConversationId, leaf: MessageId, message: MessageId) -> Result<bool> {
        let statement = sql(
            "WITH RECURSIVE path AS (
               SELECT m.id, m.parent_id FROM message m WHERE m.id = $3 AND m.conversation_id = $1 AND m.user_id = $2
               UNION ALL
               SELECT m.id, m.parent_id FROM path p JOIN message m ON m.id = p.parent_id AND m.conversation_id = $1 WHERE p.id <> $4
             )
             SELECT p.id FROM path p WHERE p.id = $4",
            [conversation.0.into(), user.0.into(), leaf.0.into(), message.0.into()],
        );
        Ok(one::<IdRow>(self.tx.conn(), statement).await?.is_some())
    }

    /// The newest leaf below (or at) a message.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn newest_leaf(&self, user: UserId, conversation: ConversationId, from: MessageId) -> Result<Option<MessageId>> {
        let statement = sql(
            "WITH RECURSIVE below AS (
               SELECT m.id FROM message m WHERE m.id = $3 AND m.conversation_id = $1 AND m.user_id = $2
               UNION ALL
               SELECT m.id FROM below b JOIN message m ON m.parent_id = b.id AND m.conversation_id = $1
             )
             SELECT b.id FROM below b
             WHERE NOT EXISTS (SELECT 1 FROM message child WHERE child.conversation_id = $1 AND child.parent_id = b.id)
             ORDER BY b.id DESC LIMIT 1",
            [conversation.0.into(), user.0.into(), from.0.into()],
        );
        Ok(one::<IdRow>(self.tx.conn(), statement).await?.map(|row| row.id.into()))
    }

    /// The end of the path to `leaf` with attachments, oldest first: as many messages as bring at least
    /// `bytes` of text (attachments counted), all of them if there is less.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn prompt(&self, user: UserId, conversation: ConversationId, leaf: MessageId, bytes: i64) -> Result<Vec<PromptMessage>> {
        let size = "octet_length(m.content) + coalesce((SELECT sum(a.bytes) FROM attachment a WHERE a.message_id = m.id), 0)::bigint";
        let text = format!(
            "WITH RECURSIVE path AS (
               SELECT m.id, m.parent_id, {size} AS bytes
               FROM message m WHERE m.id = $3 AND m.conversation_id = $1 AND m.user_id = $2
               UNION ALL
               SELECT m.id, m.parent_id, p.bytes + {size}
               FROM path p JOIN message m ON m.id = p.parent_id AND m.conversation_id = $1 WHERE p.bytes < $4
             )
             SELECT m.role, m.content, {REFUSED}($5) AS refused,
                    coalesce((SELECT jsonb_agg(jsonb_build_array(a.name, a.content) ORDER BY a.id)
                              FROM attachment a WHERE a.message_id = m.id), '[]'::jsonb) AS attachments
             FROM path p JOIN message m ON m.id = p.id ORDER BY m.depth"
        );
        let refusals = Vec::from(CONTENT_REFUSALS.map(str::to_owned));
        let statement = sql(&text, [conversation.0.into(), user.0.into(), leaf.0.into(), bytes.into(), refusals.into()]);
        let rows = all::<PromptRow>(self.tx.conn(), statement).await?;
        rows.into_iter()
            .map(|row| {
                Ok(PromptMessage {
                    role: role(&row.role)?,
                    content: row.content,
                    refused: row.refused,
                    attachments: serde_json::from_value(row.attachments).map_err(Error::internal)?,
                })
            })
            .collect()
    }

    /// Thumbs up, down or neither; `false` if there is no such answer.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn rate(&self, user: UserId, id: MessageId, rating: Option<&Rating>, at: Millis) -> Result<bool> {
        let statement = sql(
            "UPDATE message m SET rating = $3, rating_comment = $4, rated_at = CASE WHEN $3::text IS NULL THEN NULL ELSE $5::timestamptz END
             WHERE m.id = $1 AND m.user_id = $2 AND m.role = 'assistant'
               AND EXISTS (SELECT 1 FROM conversation c WHERE c.id = m.conversation_id AND c.deleted_at IS NULL)",
            [
                id.0.into(),
                user.0.into(),
                rating.map(|rating| rating_text(rating.value)).into(),
                rating.map_or("", |rating| rating.comment.as_str()).into(),
                instant(at)?.into(),
            ],
        );
        Ok(run(self.tx.conn(), statement).await? > 0)
    }

    /// Sets an ended answer running again (*Continue*); `false` if it is running already.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn resume(&self, user: UserId, id: MessageId) -> Result<bool> {
        let statement = sql(
            "UPDATE message SET status = 'running', error = NULL WHERE id = $1 AND user_id = $2 AND role = 'assistant' AND status <> 'running'",
            [id.0.into(), user.0.into()],
        );
        Ok(run(self.tx.conn(), statement).await? > 0)
    }

    /// Keeps what an answer has so far; `false` if it does not run any more.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn checkpoint(&self, id: MessageId, content: &str) -> Result<bool> {
        let statement = sql("UPDATE message SET content = $2 WHERE id = $1 AND status = 'running'", [id.0.into(), content.into()]);
        Ok(run(self.tx.conn(), statement).await? > 0)
    }

    /// The text of an answer that runs.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn running_text(&self, id: MessageId) -> Result<Option<String>> {
        let statement = sql("SELECT content FROM message WHERE id = $1 AND status = 'running'", [id.0.into()]);
        Ok(one::<ContentRow>(self.tx.conn(), statement).await?.map(|row| row.content))
    }

    /// Ends a running answer; `false` if it does not run any more.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn finish(&self, id: MessageId, content: &str, end: &AnswerEnd) -> Result<bool> {
        let stats = end.stats.as_ref();
        let number = |of: fn(&AnswerStats) -> u32| stats.map(|stats| int(of(stats)));
        let statement = sql(
            "UPDATE message SET content = $2, status = $3, error = $4, model = coalesce($5, model), prompt_tokens = coalesce($6, prompt_tokens),
                    cached_tokens = coalesce($7, cached_tokens), completion_tokens = coalesce($8, completion_tokens),
                    ttft_ms = coalesce($9, ttft_ms), duration_ms = coalesce($10, duration_ms), finish_reason = coalesce($11, finish_reason),
                    warnings = CASE WHEN cardinality($12::text[]) > 0 THEN $12::text[] ELSE warnings END
             WHERE id = $1 AND status = 'running'",
            [
                id.0.into(),
                content.into(),
                status_text(end.status).into(),
                end.error.clone().into(),
                stats.map(|stats| stats.model.clone()).into(),
                number(|stats| stats.prompt_tokens).into(),
                number(|stats| stats.cached_tokens).into(),
                number(|stats| stats.completion_tokens).into(),
                number(|stats| stats.ttft_ms).into(),
                number(|stats| stats.duration_ms).into(),
                stats.map(|stats| stats.finish_reason.clone()).into(),
                end.warnings.clone().into(),
            ],
        );
        Ok(run(self.tx.conn(), statement).await? > 0)
    }
}
