//! What a person can do in a chat: each action calls the server, then brings the page in line.

use super::{
    api,
    rows::{Piece, Row, apply},
    speech::Reader,
    state::Chat,
    stream::{self, News},
    temporary,
};
use crate::{UiError, ui::live::Announcer, ui::time::now};
use contract::{
    chat::{ConversationView, MessageStatus, NewAttachment, Rating, StartTurn, StartedTurn, TurnEvent},
    ids::{MessageId, TurnId},
    title::first_words,
};
use leptos::{prelude::*, task::spawn_local};
use std::{cell::RefCell, time::Duration};

/// When the list is asked for the title that the model gives a new chat after its first answer.
const TITLE_AFTER_MS: [u64; 3] = [1_500, 5_000, 12_000];

/// The actions of one page; a handle that can be copied.
#[derive(Clone, Copy)]
pub struct Actions {
    /// What they act on.
    pub chat: Chat,
    announcer: Announcer,
    navigate: Callback<String>,
    answer_ended: &'static str,
}

impl Actions {
    /// `navigate` changes the address; `answer_ended` is what screen readers hear at the end of an answer.
    #[must_use]
    pub fn new(chat: Chat, announcer: Announcer, navigate: Callback<String>, answer_ended: &'static str) -> Self {
        Self { chat, announcer, navigate, answer_ended }
    }

    /// Asks a question at the end of the chat. `sent` runs when the server has it.
    pub fn send(self, content: String, attachments: Vec<NewAttachment>, sent: impl FnOnce() + 'static) {
        if self.chat.temporary.get_untracked() {
            return temporary::send(self, content, attachments, sent);
        }
        let parent = self.chat.rows.with_untracked(|rows| rows.last().map(|row| row.id));
        let at = self.chat.rows.with_untracked(Vec::len);
        self.ask(at, parent, content, attachments, sent);
    }

    /// Asks an earlier question again in other words: a branch beside it.
    pub fn edit(self, question: &Row, content: String, done: impl FnOnce() + 'static) {
        let Some(at) = self.chat.index_of(question.id) else { return };
        if self.chat.temporary.get_untracked() {
            return temporary::edit(self, at, content, done);
        }
        let (parent, kept) = question.meta.with_untracked(|meta| (meta.parent, meta.attachments.clone()));
        self.chat.busy.set(true);
        self.chat.failure.set(None);
        spawn_local(async move {
            let mut attachments = Vec::with_capacity(kept.len());
            for attachment in kept {
                match api::read_attachment(attachment.id).await {
                    Ok(text) => attachments.push(text),
                    Err(error) => return self.fail(error),
                }
            }
            self.ask(at, parent, content, attachments, done);
        });
    }

    fn ask(self, at: usize, parent: Option<MessageId>, content: String, attachments: Vec<NewAttachment>, sent: impl FnOnce() + 'static) {
        let chat = self.chat;
        chat.busy.set(true);
        chat.failure.set(None);
        let conversation = chat.id.get_untracked();
        let settings = conversation.is_none().then(|| chat.settings.get_untracked());
        spawn_local(async move {
            match api::start_turn(StartTurn { conversation, parent, content, attachments, settings }).await {
                Ok(started) => {
                    sent();
                    // Meanwhile the reader may have gone to another chat; the turn runs on without us.
                    if chat.id.get_untracked() == conversation {
                        self.begin(started, Some(at));
                    } else {
                        chat.busy.set(false);
                    }
                }
                Err(error) => self.fail(error),
            }
        });
    }

    /// Another answer to the same question.
    pub fn regenerate(self, answer: MessageId) {
        if self.chat.temporary.get_untracked() {
            return temporary::regenerate(self, answer);
        }
        let at = self.chat.index_of(answer);
        self.start(async move { api::regenerate_answer(answer).await }, at);
    }

    /// Goes on where an answer ended early.
    pub fn resume(self, answer: MessageId) {
        let at = self.chat.index_of(answer);
        self.start(async move { api::continue_answer(answer).await }, at);
    }

    fn start(self, call: impl Future<Output = Result<StartedTurn, UiError>> + 'static, answer_at: Option<usize>) {
        let chat = self.chat;
        chat.busy.set(true);
        chat.failure.set(None);
        let conversation = chat.id.get_untracked();
        spawn_local(async move {
            match call.await {
                Ok(started) if chat.id.get_untracked() == conversation => {
                    let question_at = chat.index_of(started.question.id).or(answer_at.and_then(|at| at.checked_sub(1)));
                    self.begin(started, question_at);
                }
                Ok(_) => chat.busy.set(false),
                Err(error) => self.fail(error),
            }
        });
    }

    /// Shows a started turn, its question at row `at`, and follows it.
    fn begin(self, started: StartedTurn, at: Option<usize>) {
        let chat = self.chat;
        let StartedTurn { turn, conversation, question, answer } = started;
        let is_new = chat.id.get_untracked().is_none();
        let title = first_words(&question.content, question.attachments.first().map(|file| file.name.as_str()));
        chat.id.set(Some(conversation));
        let keep = at.unwrap_or_else(|| chat.rows.with_untracked(Vec::len));
        let present = chat.rows.get_untracked();
        let added = super::rows::reconciled(&present, vec![question, answer]);
        chat.replace_from(keep, added);
        chat.busy.set(false);
        chat.conversations.raise(conversation, &title, now());
        if is_new {
            chat.title.set(title);
            self.navigate.run(format!("/c/{conversation}"));
        }
        chat.scroll_to_end();
        self.follow(turn);
    }

    /// Stops the running turn. The page shows it as stopped when the turn's own end arrives.
    pub fn stop(self) {
        let Some(turn) = self.chat.running.get_untracked() else { return };
        spawn_local(async move {
            if let Err(error) = api::stop_turn(turn).await {
                self.chat.failure.set(Some(error));
            }
        });
    }

    /// Shows another branch.
    pub fn select_branch(self, message: MessageId) {
        let chat = self.chat;
        chat.busy.set(true);
        spawn_local(async move {
            match api::select_branch(message).await {
                Ok(view) if chat.id.get_untracked() == Some(view.conversation.id) => self.show(view),
                Ok(_) => chat.busy.set(false),
                Err(error) => self.fail(error),
            }
        });
    }

    /// Rates an answer; `None` takes the rating back.
    pub fn rate(self, answer: &Row, rating: Option<Rating>) {
        let (id, meta) = (answer.id, answer.meta.clone());
        let before = meta.with_untracked(|meta| meta.rating.clone());
        meta.update(|meta| meta.rating = rating.clone());
        spawn_local(async move {
            if let Err(error) = api::rate_answer(id, rating).await {
                meta.update(|meta| meta.rating = before);
                self.chat.failure.set(Some(error));
            }
        });
    }

    /// Shows a conversation and follows its turn, if one is in progress.
    pub fn show(self, view: ConversationView) {
        let running = view.running;
        self.chat.show(view);
        match running {
            Some(turn) => self.follow(turn),
            None => stream::stop_following(),
        }
    }

    /// Follows a turn whose answer is among the rows.
    pub fn follow(self, turn: TurnId) {
        self.chat.running.set(Some(turn));
        let said = self.chat.running_row().map_or(0, |row| row.text.with_untracked(String::len));
        let reader = RefCell::new(Reader::after(said));
        stream::follow(turn, move |news| match news {
            News::Events(events) => self.take(turn, events, &mut reader.borrow_mut()),
            News::Lost => self.reload(),
        });
    }

    fn take(self, turn: TurnId, events: Vec<TurnEvent>, reader: &mut Reader) {
        // The page may have gone, or show another turn, since the frame was asked for.
        if self.chat.running.try_get_untracked().flatten() != Some(turn) {
            return;
        }
        let Some(answer) = self.chat.running_row() else {
            return self.reload();
        };
        let mut gap = false;
        let grown = events.iter().any(|event| matches!(event, TurnEvent::Text { .. }));
        if grown {
            self.chat.queued.set(None);
            answer.text.maybe_update(|text| {
                let mut changed = false;
                for event in &events {
                    if let TurnEvent::Text { at, text: piece } = event {
                        match apply(text, *at, piece) {
                            Piece::Known => {}
                            Piece::Applied => changed = true,
                            Piece::Gap => gap = true,
                        }
                    }
                }
                changed
            });
        }
        if gap {
            return stream::rewind();
        }
        if let Some(sentences) = answer.text.with_untracked(|text| reader.next(text)) {
            self.announcer.say(sentences);
        }
        for event in events {
            match event {
                TurnEvent::Queued { place, wait_ms } => self.chat.queued.set(Some((place, wait_ms))),
                TurnEvent::Text { .. } => {}
                TurnEvent::Title { title } => self.retitle(title),
                TurnEvent::End { status, error, stats, warnings } => {
                    answer.meta.update(|meta| {
                        meta.status = status;
                        meta.error = error;
                        meta.stats = stats.or(meta.stats.take());
                        if !warnings.is_empty() {
                            meta.warnings = warnings;
                        }
                    });
                    self.ended(&answer, reader);
                }
            }
        }
    }

    fn retitle(self, title: String) {
        if let Some(id) = self.chat.id.get_untracked() {
            self.chat.conversations.change(id, |summary| summary.title.clone_from(&title));
        }
        self.chat.title.set(title);
    }

    fn ended(self, answer: &Row, reader: &mut Reader) {
        let chat = self.chat;
        chat.running.set(None);
        chat.queued.set(None);
        stream::stop_following();
        let rest = answer.text.with_untracked(|text| reader.finish(text));
        self.announcer.say(rest.map_or_else(|| self.answer_ended.to_owned(), |rest| format!("{rest} {}", self.answer_ended)));
        let Some(id) = chat.id.get_untracked() else { return };
        chat.conversations.change(id, |summary| summary.running = false);
        if chat.rows.with_untracked(Vec::len) <= 2 && answer.status() == MessageStatus::Complete {
            for pause in TITLE_AFTER_MS {
                set_timeout(move || self.look_for_title(), Duration::from_millis(pause));
            }
        }
    }

    /// The title comes after the answer; the list knows it.
    fn look_for_title(self) {
        let Some(Some(id)) = self.chat.id.try_get_untracked() else { return };
        let archived = self.chat.conversations.archived.get_untracked();
        spawn_local(async move {
            if let Ok(page) = api::list_conversations(archived, None).await {
                let title = page.items.iter().find(|item| item.id == id).map(|item| item.title.clone());
                if self.chat.conversations.archived.try_get_untracked() == Some(archived) {
                    self.chat.conversations.take_first(page);
                }
                if let Some(title) = title
                    && self.chat.id.try_get_untracked() == Some(Some(id))
                {
                    self.chat.title.set(title);
                }
            }
        });
    }

    /// Asks the server how the conversation is now.
    pub fn reload(self) {
        stream::stop_following();
        let chat = self.chat;
        let Some(Some(id)) = chat.id.try_get_untracked() else {
            // A temporary turn that cannot be followed any more is over.
            temporary::lost(chat);
            return;
        };
        spawn_local(async move {
            match api::open_conversation(id).await {
                Ok(view) if chat.id.try_get_untracked() == Some(Some(id)) => self.show(view),
                Ok(_) => {}
                Err(error) => self.fail(error),
            }
        });
    }

    /// Loads the page anew after a conversation could not be opened.
    pub fn retry_open(self) {
        crate::ui::browser::reload_page();
    }

    /// Shows why an action failed.
    pub fn fail(self, error: UiError) {
        self.chat.busy.set(false);
        self.chat.failure.set(Some(error));
    }
}
