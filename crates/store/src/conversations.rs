//! Conversations of one user: settings, lists, soft deletion.

use crate::{
    chat_sql::{all, instant, millis, one, run, sql},
    tx::{SystemTx, TenantTx},
};
use contract::{
    Millis,
    chat::{Conversation, ConversationChange, ConversationSettings, ConversationSummary},
    ids::{ConversationId, MessageId, TurnId, UserId},
};
use domain::{Error, Result};
use sea_orm::{FromQueryResult, Value};
use time::OffsetDateTime;
use uuid::Uuid;

/// Who gave a conversation its title; a later source never overwrites the user's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TitleSource {
    /// The first words of the question, or nothing, until something better comes.
    None,
    Model,
    User,
    Import,
}

impl TitleSource {
    fn text(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Model => "model",
            Self::User => "user",
            Self::Import => "import",
        }
    }
}

/// A conversation to be stored.
#[derive(Clone, Debug)]
pub struct NewConversation {
    pub id: ConversationId,
    pub user: UserId,
    pub title: String,
    pub title_source: TitleSource,
    pub pinned: bool,
    pub archived: bool,
    pub settings: ConversationSettings,
    pub created_at: Millis,
    pub updated_at: Millis,
}

/// A conversation with what is needed to show or continue it.
#[derive(Clone, Debug)]
pub struct StoredConversation {
    pub conversation: Conversation,
    /// The newest message of the branch in view; `None` for an empty conversation.
    pub active_leaf: Option<MessageId>,
    /// The turn in progress.
    pub running: Option<TurnId>,
}

/// Where a page of the side bar begins: after this row.
#[derive(Clone, Copy, Debug)]
pub struct ConversationCursor {
    pub pinned: bool,
    pub updated_at: Millis,
    pub id: ConversationId,
}

/// Repository of conversations. Every query names the owner; a foreign row does not exist.
#[derive(Debug)]
pub struct Conversations<'a> {
    tx: &'a TenantTx,
}

#[derive(FromQueryResult)]
struct Row {
    id: Uuid,
    title: String,
    pinned: bool,
    archived_at: Option<OffsetDateTime>,
    model: Option<String>,
    system_prompt: String,
    sampling: serde_json::Value,
    active_leaf: Option<Uuid>,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
    running: Option<Uuid>,
}

impl Row {
    fn into_stored(self) -> Result<StoredConversation> {
        Ok(StoredConversation {
            conversation: Conversation {
                id: self.id.into(),
                title: self.title,
                pinned: self.pinned,
                archived: self.archived_at.is_some(),
                model: self.model,
                system_prompt: self.system_prompt,
                sampling: serde_json::from_value(self.sampling).map_err(Error::internal)?,
                created_at: millis(self.created_at),
                updated_at: millis(self.updated_at),
            },
            active_leaf: self.active_leaf.map(Into::into),
            running: self.running.map(Into::into),
        })
    }
}

#[derive(FromQueryResult)]
struct SummaryRow {
    id: Uuid,
    title: String,
    pinned: bool,
    archived: bool,
    updated_at: OffsetDateTime,
    running: bool,
}

#[derive(FromQueryResult)]
struct IdRow {
    id: Uuid,
}

const COLUMNS: &str =
    "c.id, c.title, c.pinned, c.archived_at, c.model, c.system_prompt, c.sampling, c.active_leaf, c.created_at, c.updated_at,
    (SELECT t.id FROM turn t WHERE t.conversation_id = c.id AND t.status = 'running') AS running";

impl<'a> Conversations<'a> {
    pub(crate) fn new(tx: &'a TenantTx) -> Self {
        Self { tx }
    }

    /// Stores a new conversation.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn insert(&self, new: &NewConversation) -> Result<()> {
        let statement = sql(
            "INSERT INTO conversation (tenant_id, id, user_id, title, title_source, pinned, archived_at, model, system_prompt, sampling, created_at, updated_at)
             VALUES (app_tenant(), $1, $2, $3, $4, $5, CASE WHEN $6 THEN $11::timestamptz END, $7, $8, $9, $10, $11)",
            [
                new.id.0.into(),
                new.user.0.into(),
                new.title.clone().into(),
                new.title_source.text().into(),
                new.pinned.into(),
                new.archived.into(),
                new.settings.model.clone().into(),
                new.settings.system_prompt.clone().into(),
                sampling(&new.settings)?,
                instant(new.created_at)?.into(),
                instant(new.updated_at)?.into(),
            ],
        );
        run(self.tx.conn(), statement).await.map(drop)
    }

    /// The user's own conversation, unless deleted.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn find(&self, user: UserId, id: ConversationId) -> Result<Option<StoredConversation>> {
        let text = format!("SELECT {COLUMNS} FROM conversation c WHERE c.id = $1 AND c.user_id = $2 AND c.deleted_at IS NULL");
        one::<Row>(self.tx.conn(), sql(&text, [id.0.into(), user.0.into()])).await?.map(Row::into_stored).transpose()
    }

    /// Like [`Self::find`], and nobody else changes the conversation until this transaction ends.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn lock(&self, user: UserId, id: ConversationId) -> Result<Option<StoredConversation>> {
        let text =
            format!("SELECT {COLUMNS} FROM conversation c WHERE c.id = $1 AND c.user_id = $2 AND c.deleted_at IS NULL FOR UPDATE OF c");
        one::<Row>(self.tx.conn(), sql(&text, [id.0.into(), user.0.into()])).await?.map(Row::into_stored).transpose()
    }

    /// A page of the side bar: pinned ones first, then by last change, newest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list(
        &self,
        user: UserId,
        archived: bool,
        after: Option<ConversationCursor>,
        limit: u32,
    ) -> Result<Vec<ConversationSummary>> {
        let (pinned, updated_at, id) = match after {
            Some(after) => (Some(after.pinned), Some(instant(after.updated_at)?), Some(after.id.0)),
            None => (None, None, None),
        };
        let statement = sql(
            "SELECT c.id, c.title, c.pinned, c.archived_at IS NOT NULL AS archived, c.updated_at,
                    EXISTS (SELECT 1 FROM turn t WHERE t.conversation_id = c.id AND t.status = 'running') AS running
             FROM conversation c
             WHERE c.user_id = $1 AND c.deleted_at IS NULL AND (c.archived_at IS NOT NULL) = $2
               AND ($5::uuid IS NULL OR (c.pinned, c.updated_at, c.id) < ($3::bool, $4::timestamptz, $5::uuid))
             ORDER BY c.pinned DESC, c.updated_at DESC, c.id DESC LIMIT $6",
            [user.0.into(), archived.into(), pinned.into(), updated_at.into(), id.into(), i64::from(limit).into()],
        );
        let rows = all::<SummaryRow>(self.tx.conn(), statement).await?;
        Ok(rows
            .into_iter()
            .map(|row| ConversationSummary {
                id: row.id.into(),
                title: row.title,
                pinned: row.pinned,
                archived: row.archived,
                updated_at: millis(row.updated_at),
                running: row.running,
            })
            .collect())
    }

    /// Ids of all conversations of the user that are not deleted, oldest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn ids(&self, user: UserId) -> Result<Vec<ConversationId>> {
        let statement =
            sql("SELECT id FROM conversation WHERE user_id = $1 AND deleted_at IS NULL ORDER BY created_at, id", [user.0.into()]);
        Ok(all::<IdRow>(self.tx.conn(), statement).await?.into_iter().map(|row| row.id.into()).collect())
    }

    /// Applies a change; `false` if there is no such conversation. Renaming, pinning and archiving do not
    /// count as activity: the order in the side bar stays.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn change(&self, user: UserId, id: ConversationId, change: &ConversationChange, at: Millis) -> Result<bool> {
        let (replace, settings) = match &change.settings {
            Some(settings) => (true, settings.clone()),
            None => (false, ConversationSettings::default()),
        };
        let statement = sql(
            "UPDATE conversation SET
               title = coalesce($3, title),
               title_source = CASE WHEN $3::text IS NULL THEN title_source ELSE 'user' END,
               pinned = coalesce($4, pinned),
               archived_at = CASE WHEN $5::bool IS NULL THEN archived_at WHEN $5 THEN coalesce(archived_at, $6::timestamptz) END,
               model = CASE WHEN $7 THEN $8 ELSE model END,
               system_prompt = CASE WHEN $7 THEN $9 ELSE system_prompt END,
               sampling = CASE WHEN $7 THEN $10::jsonb ELSE sampling END
             WHERE id = $1 AND user_id = $2 AND deleted_at IS NULL",
            [
                id.0.into(),
                user.0.into(),
                change.title.clone().into(),
                change.pinned.into(),
                change.archived.into(),
                instant(at)?.into(),
                replace.into(),
                settings.model.clone().into(),
                settings.system_prompt.clone().into(),
                sampling(&settings)?,
            ],
        );
        Ok(run(self.tx.conn(), statement).await? > 0)
    }

    /// The model's title; `false` if the conversation has a better one by now or is gone.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn suggest_title(&self, user: UserId, id: ConversationId, title: &str) -> Result<bool> {
        let statement = sql(
            "UPDATE conversation SET title = $3, title_source = 'model' WHERE id = $1 AND user_id = $2 AND title_source = 'none'",
            [id.0.into(), user.0.into(), title.into()],
        );
        Ok(run(self.tx.conn(), statement).await? > 0)
    }

    /// Gives the conversation a makeshift title if it has none.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn entitle(&self, user: UserId, id: ConversationId, title: &str) -> Result<()> {
        let statement = sql(
            "UPDATE conversation SET title = $3 WHERE id = $1 AND user_id = $2 AND title_source = 'none' AND title = ''",
            [id.0.into(), user.0.into(), title.into()],
        );
        run(self.tx.conn(), statement).await.map(drop)
    }

    /// Takes a makeshift title away again because the question that it quotes was refused; `false` if the conversation has a
    /// better one, or one of a question that was answered with something.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn take_title_back(&self, user: UserId, id: ConversationId) -> Result<bool> {
        let statement = sql(
            "UPDATE conversation SET title = '' WHERE id = $1 AND user_id = $2 AND title_source = 'none' AND NOT EXISTS
               (SELECT 1 FROM message m WHERE m.conversation_id = $1 AND m.role = 'assistant' AND m.content <> '')",
            [id.0.into(), user.0.into()],
        );
        Ok(run(self.tx.conn(), statement).await? > 0)
    }

    /// Whether the title is still the makeshift one.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn wants_title(&self, user: UserId, id: ConversationId) -> Result<bool> {
        let statement =
            sql("SELECT id FROM conversation WHERE id = $1 AND user_id = $2 AND title_source = 'none'", [id.0.into(), user.0.into()]);
        Ok(one::<IdRow>(self.tx.conn(), statement).await?.is_some())
    }

    /// Makes the branch that ends in `leaf` the one in view. `at` also marks activity.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn set_leaf(&self, user: UserId, id: ConversationId, leaf: MessageId, at: Option<Millis>) -> Result<()> {
        let at = at.map(instant).transpose()?;
        let statement = sql(
            "UPDATE conversation SET active_leaf = $3, updated_at = coalesce($4, updated_at) WHERE id = $1 AND user_id = $2",
            [id.0.into(), user.0.into(), leaf.0.into(), at.into()],
        );
        run(self.tx.conn(), statement).await.map(drop)
    }

    /// Marks activity: the conversation moves up in the side bar.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn touch(&self, user: UserId, id: ConversationId, at: Millis) -> Result<()> {
        let statement = sql(
            "UPDATE conversation SET updated_at = $3 WHERE id = $1 AND user_id = $2",
            [id.0.into(), user.0.into(), instant(at)?.into()],
        );
        run(self.tx.conn(), statement).await.map(drop)
    }

    /// Hides the conversation until it is restored or purged; `false` if there is none to hide.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn delete(&self, user: UserId, id: ConversationId, at: Millis) -> Result<bool> {
        let statement = sql(
            "UPDATE conversation SET deleted_at = $3 WHERE id = $1 AND user_id = $2 AND deleted_at IS NULL",
            [id.0.into(), user.0.into(), instant(at)?.into()],
        );
        Ok(run(self.tx.conn(), statement).await? > 0)
    }

    /// Brings a deleted conversation back; `true` also if it was not deleted.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn restore(&self, user: UserId, id: ConversationId) -> Result<bool> {
        let statement = sql("UPDATE conversation SET deleted_at = NULL WHERE id = $1 AND user_id = $2", [id.0.into(), user.0.into()]);
        Ok(run(self.tx.conn(), statement).await? > 0)
    }

    /// Erases all conversations of a user, deleted ones too; how many.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn erase(&self, user: UserId) -> Result<u64> {
        run(self.tx.conn(), sql("DELETE FROM conversation WHERE user_id = $1", [user.0.into()])).await
    }
}

fn sampling(settings: &ConversationSettings) -> Result<Value> {
    Ok(serde_json::to_value(&settings.sampling).map_err(Error::internal)?.into())
}

/// Conversations of all tenants, for the jobs. The system login cannot read titles, prompts or messages.
#[derive(Debug)]
pub struct SystemConversations<'a> {
    tx: &'a SystemTx,
}

impl<'a> SystemConversations<'a> {
    pub(crate) fn new(tx: &'a SystemTx) -> Self {
        Self { tx }
    }

    /// Erases the conversations that were deleted before `before`, with everything in them; how many.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn purge(&self, before: Millis) -> Result<u64> {
        let rows = run(self.tx.conn(), sql("DELETE FROM conversation WHERE deleted_at < $1", [instant(before)?.into()])).await?;
        Ok(self.tx.changed(rows))
    }
}
