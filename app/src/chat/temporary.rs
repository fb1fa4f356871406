//! Chats that are stored nowhere: the page holds the messages and sends them along.

use super::{actions::Actions, api, rows::Row, state::Chat};
use contract::{
    chat::{Attachment, Message, MessageRole, MessageStatus, NewAttachment, StartTemporaryTurn, TemporaryMessage, is_refused},
    ids::{AttachmentId, MessageId},
};
use leptos::{prelude::*, task::spawn_local};
use std::{cell::RefCell, collections::HashMap};
use uuid::Uuid;

thread_local! {
    /// The texts that belong to this page's questions. In the browser there is one page and one
    /// thread; the server never sends, so there it stays empty.
    static ATTACHED: RefCell<HashMap<MessageId, Vec<NewAttachment>>> = RefCell::default();
    static LAST_ID: RefCell<u128> = const { RefCell::new(0) };
}

/// Forgets everything: the chat was left.
pub fn forget() {
    ATTACHED.with(|attached| attached.borrow_mut().clear());
}

/// The text of an attachment of this page.
#[must_use]
pub fn attachment(message: MessageId, index: usize) -> Option<NewAttachment> {
    ATTACHED.with(|attached| attached.borrow().get(&message).and_then(|texts| texts.get(index).cloned()))
}

/// Asks a question at the end.
pub fn send(actions: Actions, content: String, attachments: Vec<NewAttachment>, sent: impl FnOnce() + 'static) {
    let at = actions.chat.rows.with_untracked(Vec::len);
    ask(actions, at, content, attachments, sent);
}

/// Replaces the question at row `at` and everything after it: without a store there are no branches.
pub fn edit(actions: Actions, at: usize, content: String, done: impl FnOnce() + 'static) {
    let id = actions.chat.rows.with_untracked(|rows| rows.get(at).map(|row| row.id));
    let attachments = id.and_then(|id| ATTACHED.with(|attached| attached.borrow().get(&id).cloned())).unwrap_or_default();
    ask(actions, at, content, attachments, done);
}

/// Another answer instead of this one.
pub fn regenerate(actions: Actions, answer: MessageId) {
    if let Some(at) = actions.chat.index_of(answer) {
        run(actions, at, None, || {});
    }
}

/// The connection to a temporary turn is gone for good; what arrived stays.
pub fn lost(chat: Chat) {
    if let Some(row) = chat.running_row() {
        row.meta.update(|meta| meta.status = MessageStatus::Interrupted);
    }
    let _unused = chat.running.try_set(None);
}

fn ask(actions: Actions, at: usize, content: String, attachments: Vec<NewAttachment>, sent: impl FnOnce() + 'static) {
    let mut question = message(MessageRole::User, MessageStatus::Complete);
    question.content = content;
    question.attachments = attachments
        .iter()
        .map(|text| Attachment { id: AttachmentId(question.id.0), name: text.name.clone(), bytes: length(&text.content) })
        .collect();
    ATTACHED.with(|attached| attached.borrow_mut().insert(question.id, attachments));
    run(actions, at, Some(Row::new(question)), sent);
}

/// Sends rows up to `at` and the question; puts both question and answer on the page when the server has taken them.
fn run(actions: Actions, at: usize, question: Option<Row>, sent: impl FnOnce() + 'static) {
    let chat = actions.chat;
    let messages = chat.rows.with_untracked(|rows| rows.iter().take(at).chain(question.as_ref()).map(outgoing).collect());
    let settings = chat.settings.get_untracked();
    chat.busy.set(true);
    chat.failure.set(None);
    spawn_local(async move {
        match api::start_temporary_turn(StartTemporaryTurn { messages, settings }).await {
            Ok(turn) => {
                sent();
                chat.busy.set(false);
                if !chat.temporary.get_untracked() {
                    return;
                }
                let answer = Row::new(message(MessageRole::Assistant, MessageStatus::Running));
                chat.replace_from(at, question.into_iter().chain([answer]));
                chat.scroll_to_end();
                actions.follow(turn);
            }
            Err(error) => actions.fail(error),
        }
    });
}

fn outgoing(row: &Row) -> TemporaryMessage {
    let content = row.text.get_untracked();
    TemporaryMessage {
        role: row.role,
        refused: row.meta.with_untracked(|meta| is_refused(meta.error.as_deref(), meta.stats.as_ref(), &content)),
        content,
        attachments: ATTACHED.with(|attached| attached.borrow().get(&row.id).cloned()).unwrap_or_default(),
    }
}

fn message(role: MessageRole, status: MessageStatus) -> Message {
    let id = MessageId(Uuid::from_u128(LAST_ID.with(|last| {
        let mut last = last.borrow_mut();
        *last += 1;
        *last
    })));
    Message {
        id,
        parent: None,
        role,
        content: String::new(),
        status,
        error: None,
        attachments: Vec::new(),
        siblings: vec![id],
        rating: None,
        stats: None,
        warnings: Vec::new(),
        created_at: crate::ui::time::now(),
    }
}

fn length(text: &str) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}
