//! Storing a turn so that it can run: question, empty answer and turn in one transaction.

use super::stored::StoredTurn;
use crate::shared::Shared;
use contract::{
    chat::{ConversationSettings, MessageRole, MessageStatus, StartTurn, StartedTurn, TurnEvent},
    ids::{AttachmentId, ConversationId, MessageId, TurnId, UserId},
    title::first_words,
};
use domain::{Actor, Error, Result};
use std::sync::Arc;
use store::{
    TenantTx,
    conversations::{NewConversation, TitleSource},
    messages::{NewMessage, Placed},
    turns::NewTurn,
};
use uuid::Uuid;

/// What shall be made.
pub(crate) enum What {
    /// An answer to a new question.
    Ask(StartTurn),
    /// Another answer beside this one.
    Regenerate(MessageId),
    /// More of this answer.
    Resume(MessageId),
}

/// Question and answer, stored, and what to tell first.
struct Pair {
    conversation: ConversationId,
    question: MessageId,
    answer: MessageId,
    /// The conversation has no title yet.
    untitled: bool,
}

/// Stores the turn as running.
pub(crate) async fn store(shared: &Arc<Shared>, actor: &Actor, turn: TurnId, what: What) -> Result<(StartedTurn, StoredTurn)> {
    let user = actor.user()?;
    let tx = shared.db.begin(actor).await?;
    let resumes = matches!(what, What::Resume(_));
    let pair = match what {
        What::Ask(input) => ask(shared, &tx, user, input).await?,
        What::Regenerate(answer) => regenerate(shared, &tx, user, answer).await?,
        What::Resume(answer) => resume(shared, &tx, user, answer).await?,
    };
    tx.turns().insert(NewTurn { id: turn, conversation: pair.conversation, message: pair.answer, user, node: shared.node }).await?;
    let question = tx.messages().get(user, pair.question).await?.ok_or(Error::not_found("message"))?;
    let answer = tx.messages().get(user, pair.answer).await?.ok_or(Error::not_found("message"))?;
    let mut first = Vec::new();
    if pair.untitled {
        let title = first_words(&question.content, question.attachments.first().map(|file| file.name.as_str()));
        tx.conversations().entitle(user, pair.conversation, &title).await?;
        first.push(TurnEvent::Title { title });
    }
    tx.commit().await?;

    let before = resumes.then(|| (answer.content.clone(), answer.stats.clone()));
    let started = StartedTurn { turn, conversation: pair.conversation, question, answer };
    let stored = StoredTurn {
        shared: shared.clone(),
        actor: actor.clone(),
        user,
        turn,
        conversation: pair.conversation,
        question: pair.question,
        answer: pair.answer,
        before,
        first,
    };
    Ok((started, stored))
}

async fn ask(shared: &Shared, tx: &TenantTx, user: UserId, input: StartTurn) -> Result<Pair> {
    let now = shared.now();
    let (conversation, depth, untitled) = match input.conversation {
        Some(conversation) => {
            let stored = tx.conversations().lock(user, conversation).await?.ok_or(Error::not_found("conversation"))?;
            (conversation, depth_below(tx, user, conversation, input.parent).await?, stored.conversation.title.is_empty())
        }
        None if input.parent.is_some() => return Err(Error::not_found("message")),
        None => (begin(tx, user, input.settings.clone().unwrap_or_default(), now).await?, 0, true),
    };
    let question = MessageId(Uuid::now_v7());
    let new = NewMessage {
        id: question,
        conversation,
        user,
        parent: input.parent,
        role: MessageRole::User,
        content: input.content,
        status: MessageStatus::Complete,
        depth,
        created_at: now,
    };
    tx.messages().insert(&new).await?;
    for attachment in &input.attachments {
        tx.attachments().insert(AttachmentId(Uuid::now_v7()), question, attachment, now).await?;
    }
    let answer = empty_answer(shared, tx, user, conversation, question, depth + 1).await?;
    Ok(Pair { conversation, question, answer, untitled })
}

async fn begin(tx: &TenantTx, user: UserId, settings: ConversationSettings, now: contract::Millis) -> Result<ConversationId> {
    let id = ConversationId(Uuid::now_v7());
    let new = NewConversation {
        id,
        user,
        title: String::new(),
        title_source: TitleSource::None,
        pinned: false,
        archived: false,
        settings,
        created_at: now,
        updated_at: now,
    };
    tx.conversations().insert(&new).await?;
    Ok(id)
}

/// Depth of a question below its parent, which must be an ended answer of the same conversation.
async fn depth_below(tx: &TenantTx, user: UserId, conversation: ConversationId, parent: Option<MessageId>) -> Result<u32> {
    let Some(parent) = parent else { return Ok(0) };
    let place = tx.messages().place(user, parent).await?.filter(|place| place.conversation == conversation);
    let place = place.ok_or(Error::not_found("message"))?;
    if place.role != MessageRole::Assistant {
        return Err(Error::invalid("parent", "parent_not_answer", "A question follows an answer, or nothing."));
    }
    if place.status == MessageStatus::Running {
        return Err(running());
    }
    Ok(place.depth + 1)
}

async fn regenerate(shared: &Shared, tx: &TenantTx, user: UserId, answer: MessageId) -> Result<Pair> {
    let (place, question, untitled) = answer_and_question(tx, user, answer).await?;
    let answer = empty_answer(shared, tx, user, place.conversation, question, place.depth).await?;
    Ok(Pair { conversation: place.conversation, question, answer, untitled })
}

async fn resume(shared: &Shared, tx: &TenantTx, user: UserId, answer: MessageId) -> Result<Pair> {
    let (place, question, untitled) = answer_and_question(tx, user, answer).await?;
    let unfinished = match place.status {
        MessageStatus::Stopped | MessageStatus::Interrupted => true,
        MessageStatus::Complete => place.finish_reason == "length",
        MessageStatus::Running => return Err(running()),
    };
    if !unfinished {
        return Err(Error::conflict("answer_complete", "This answer is complete; there is nothing to go on with."));
    }
    if !tx.messages().resume(user, answer).await? {
        return Err(running());
    }
    let leaf = tx.messages().newest_leaf(user, place.conversation, answer).await?.unwrap_or(answer);
    tx.conversations().set_leaf(user, place.conversation, leaf, Some(shared.now())).await?;
    Ok(Pair { conversation: place.conversation, question, answer, untitled })
}

/// An answer of the user with its question, and whether the conversation, which is locked, has no title.
async fn answer_and_question(tx: &TenantTx, user: UserId, answer: MessageId) -> Result<(Placed, MessageId, bool)> {
    let place = tx.messages().place(user, answer).await?.filter(|place| place.role == MessageRole::Assistant);
    let place = place.ok_or(Error::not_found("message"))?;
    let stored = tx.conversations().lock(user, place.conversation).await?.ok_or(Error::not_found("message"))?;
    // Now that nobody else changes it: how it stands after the lock.
    let place = tx.messages().place(user, answer).await?.ok_or(Error::not_found("message"))?;
    let question = place.parent.ok_or(Error::not_found("message"))?;
    Ok((place, question, stored.conversation.title.is_empty()))
}

/// The answer to be made, empty, at the end of the branch in view.
async fn empty_answer(
    shared: &Shared,
    tx: &TenantTx,
    user: UserId,
    conversation: ConversationId,
    question: MessageId,
    depth: u32,
) -> Result<MessageId> {
    let now = shared.now();
    let id = MessageId(Uuid::now_v7());
    let new = NewMessage {
        id,
        conversation,
        user,
        parent: Some(question),
        role: MessageRole::Assistant,
        content: String::new(),
        status: MessageStatus::Running,
        depth,
        created_at: now,
    };
    tx.messages().insert(&new).await?;
    tx.conversations().set_leaf(user, conversation, id, Some(now)).await?;
    Ok(id)
}

fn running() -> Error {
    Error::conflict("turn_running", "An answer is still being made in this chat. Stop it or wait for its end.")
}
