//! Conversations: the side bar, the chat page, branches, ratings, search.

mod search;

use crate::{check, cursor, shared::Shared, turns::Turns};
use contract::{
    chat::{
        Conversation, ConversationChange, ConversationSummary, ConversationView, MESSAGES_PER_PAGE, MessagePage, MessageStatus, Rating,
    },
    ids::{AttachmentId, ConversationId, MessageId, UserId},
    page::Page,
};
use domain::{Action, Actor, Error, Result};
use std::sync::Arc;
use store::{TenantTx, audit::AuditEvent, conversations::StoredConversation};

/// Longest comment of a rating, in bytes.
const COMMENT_MAX_BYTES: usize = 4 * 1024;

/// Which part of the side bar.
#[derive(Clone, Debug, Default)]
pub struct ListConversations {
    /// The archived ones instead of the others.
    pub archived: bool,
    /// From [`Page::next`].
    pub cursor: Option<String>,
}

/// The text of an attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachmentText {
    pub name: String,
    pub content: String,
}

/// Conversations of one user.
#[derive(Clone)]
pub struct Chats {
    shared: Arc<Shared>,
    turns: Turns,
}

impl Chats {
    pub(crate) fn new(shared: Arc<Shared>, turns: Turns) -> Self {
        Self { shared, turns }
    }

    /// A page of the side bar: pinned ones first, then by activity, newest first.
    ///
    /// # Errors
    /// [`Error::Invalid`] for `cursor` (`bad_cursor`).
    pub async fn list(&self, actor: &Actor, input: ListConversations) -> Result<Page<ConversationSummary>> {
        actor.may(Action::Chat)?;
        let after = cursor::parse_conversation(input.cursor.as_deref())?;
        let tx = self.shared.db.begin(actor).await?;
        let rows = tx.conversations().list(actor.user()?, input.archived, after, cursor::PAGE + 1).await?;
        tx.commit().await?;
        Ok(cursor::cut(rows, cursor::PAGE, |row| cursor::conversation(row.pinned, row.updated_at, row.id)))
    }

    /// The chat page: settings and the newest page of the active path.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn view(&self, actor: &Actor, id: ConversationId) -> Result<ConversationView> {
        actor.may(Action::Chat)?;
        let user = actor.user()?;
        let tx = self.shared.db.begin(actor).await?;
        let stored = tx.conversations().find(user, id).await?.ok_or(Error::not_found("conversation"))?;
        let view = view(&tx, user, stored).await?;
        tx.commit().await?;
        Ok(view)
    }

    /// The page of the path that ends just before the message.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn earlier(&self, actor: &Actor, id: ConversationId, before: MessageId) -> Result<MessagePage> {
        actor.may(Action::Chat)?;
        let user = actor.user()?;
        let tx = self.shared.db.begin(actor).await?;
        let place = tx.messages().place(user, before).await?.filter(|place| place.conversation == id);
        let page = match place.ok_or(Error::not_found("message"))?.parent {
            Some(parent) => tx.messages().page(user, id, parent, MESSAGES_PER_PAGE).await?,
            None => MessagePage::default(),
        };
        tx.commit().await?;
        Ok(page)
    }

    /// The conversation with the branch in view that holds the message: for search hits and deep links. Earlier
    /// pages are fetched until the message is among them.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn around(&self, actor: &Actor, id: ConversationId, message: MessageId) -> Result<ConversationView> {
        actor.may(Action::Chat)?;
        let user = actor.user()?;
        let tx = self.shared.db.begin(actor).await?;
        let mut stored = tx.conversations().lock(user, id).await?.ok_or(Error::not_found("conversation"))?;
        let place =
            tx.messages().place(user, message).await?.filter(|place| place.conversation == id).ok_or(Error::not_found("message"))?;
        let on_path = match stored.active_leaf {
            Some(leaf) => tx.messages().is_on_path(user, id, leaf, message).await?,
            None => false,
        };
        if !on_path {
            activate(&tx, user, &mut stored, place.id).await?;
        }
        let mut view = view(&tx, user, stored).await?;
        while !holds(&view.messages, message) {
            let Some(parent) = view.messages.messages.first().and_then(|first| first.parent) else {
                break;
            };
            let mut page = tx.messages().page(user, id, parent, MESSAGES_PER_PAGE).await?;
            page.messages.append(&mut view.messages.messages);
            view.messages = page;
        }
        tx.commit().await?;
        Ok(view)
    }

    /// Renames, pins, archives or changes settings; only what is given.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] for `title`, `model`, `system_prompt` or a sampling parameter.
    pub async fn change(&self, actor: &Actor, id: ConversationId, change: ConversationChange) -> Result<Conversation> {
        actor.may(Action::Chat)?;
        let user = actor.user()?;
        let title = change.title.as_deref().map(check::title).transpose()?;
        let settings = change.settings.map(|settings| check::settings(&self.shared.inference, actor, settings)).transpose()?;
        let change = ConversationChange { title, settings, ..change };
        let tx = self.shared.db.begin(actor).await?;
        if !tx.conversations().change(user, id, &change, self.shared.now()).await? {
            return Err(Error::not_found("conversation"));
        }
        let stored = tx.conversations().find(user, id).await?.ok_or(Error::not_found("conversation"))?;
        tx.commit().await?;
        Ok(stored.conversation)
    }

    /// Hides a conversation and stops its running turn. It can be restored until it is purged, 30 days later. Of programs it is in
    /// the audit trail: several people may hold their keys.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn delete(&self, actor: &Actor, id: ConversationId) -> Result<()> {
        actor.may(Action::Chat)?;
        let user = actor.user()?;
        let tx = self.shared.db.begin(actor).await?;
        let stored = tx.conversations().lock(user, id).await?.ok_or(Error::not_found("conversation"))?;
        tx.conversations().delete(user, id, self.shared.now()).await?;
        if actor.as_program().is_some() {
            tx.audit().add(&AuditEvent::by(actor, "conversation.deleted").target(id)).await?;
        }
        tx.commit().await?;
        match stored.running {
            Some(turn) => self.turns.stop(actor, turn).await,
            None => Ok(()),
        }
    }

    /// Brings a deleted conversation back.
    ///
    /// # Errors
    /// [`Error::NotFound`], also once it is purged.
    pub async fn restore(&self, actor: &Actor, id: ConversationId) -> Result<()> {
        actor.may(Action::Chat)?;
        let tx = self.shared.db.begin(actor).await?;
        if !tx.conversations().restore(actor.user()?, id).await? {
            return Err(Error::not_found("conversation"));
        }
        tx.commit().await
    }

    /// Brings the branch of a message into view, down to its newest leaf.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn select_branch(&self, actor: &Actor, message: MessageId) -> Result<ConversationView> {
        actor.may(Action::Chat)?;
        let user = actor.user()?;
        let tx = self.shared.db.begin(actor).await?;
        let place = tx.messages().place(user, message).await?.ok_or(Error::not_found("message"))?;
        let mut stored = tx.conversations().lock(user, place.conversation).await?.ok_or(Error::not_found("message"))?;
        activate(&tx, user, &mut stored, message).await?;
        let view = view(&tx, user, stored).await?;
        tx.commit().await?;
        Ok(view)
    }

    /// Thumbs up, down, or neither.
    ///
    /// # Errors
    /// [`Error::NotFound`] unless it is one of the user's answers; [`Error::Invalid`] for `comment` (`too_long`).
    pub async fn rate(&self, actor: &Actor, message: MessageId, rating: Option<Rating>) -> Result<()> {
        actor.may(Action::Chat)?;
        let rating = rating.map(|rating| Rating { comment: check::clean(rating.comment), ..rating });
        if let Some(rating) = &rating {
            check::at_most("comment", &rating.comment, COMMENT_MAX_BYTES)?;
        }
        let tx = self.shared.db.begin(actor).await?;
        if !tx.messages().rate(actor.user()?, message, rating.as_ref(), self.shared.now()).await? {
            return Err(Error::not_found("message"));
        }
        tx.commit().await
    }

    /// The text of an attachment.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn attachment(&self, actor: &Actor, id: AttachmentId) -> Result<AttachmentText> {
        actor.may(Action::Chat)?;
        let tx = self.shared.db.begin(actor).await?;
        let stored = tx.attachments().find(actor.user()?, id).await?.ok_or(Error::not_found("attachment"))?;
        tx.commit().await?;
        Ok(AttachmentText { name: stored.name, content: stored.content })
    }
}

fn holds(page: &MessagePage, message: MessageId) -> bool {
    page.messages.iter().any(|one| one.id == message)
}

/// Settings and newest page of what is in view.
async fn view(tx: &TenantTx, user: UserId, stored: StoredConversation) -> Result<ConversationView> {
    let messages = match stored.active_leaf {
        Some(leaf) => tx.messages().page(user, stored.conversation.id, leaf, MESSAGES_PER_PAGE).await?,
        None => MessagePage::default(),
    };
    // A turn of another branch is none of this view's business.
    let running = stored.running.filter(|_| messages.messages.iter().any(|one| one.status == MessageStatus::Running));
    Ok(ConversationView { conversation: stored.conversation, messages, running })
}

/// Makes the newest leaf below the message the one in view.
async fn activate(tx: &TenantTx, user: UserId, stored: &mut StoredConversation, message: MessageId) -> Result<()> {
    let id = stored.conversation.id;
    let leaf = tx.messages().newest_leaf(user, id, message).await?.ok_or(Error::not_found("message"))?;
    tx.conversations().set_leaf(user, id, leaf, None).await?;
    stored.active_leaf = Some(leaf);
    Ok(())
}
