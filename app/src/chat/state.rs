//! What the chat page knows. All signals live as long as the page is mounted; going from one chat to
//! another changes their values.

use super::{
    list::Conversations,
    rows::{Row, reconciled},
};
use crate::UiError;
use contract::{
    chat::{ConversationSettings, ConversationView, MessageRole, MessageStatus},
    ids::{ConversationId, MessageId, TurnId},
    model::ModelInfo,
};
use leptos::prelude::*;

/// The chat page's state; a handle that can be copied into every closure.
#[derive(Clone, Copy)]
pub struct Chat {
    /// The conversation shown; `None` for a new or a temporary chat.
    pub id: RwSignal<Option<ConversationId>>,
    /// Nothing of this chat is stored.
    pub temporary: RwSignal<bool>,
    /// The conversation's title; empty for a new chat.
    pub title: RwSignal<String>,
    /// Model, system prompt and sampling.
    pub settings: RwSignal<ConversationSettings>,
    /// The loaded end of the active branch, oldest first.
    pub rows: RwSignal<Vec<Row>>,
    /// How many messages there are before the first row.
    pub earlier: RwSignal<u32>,
    /// The turn in progress.
    pub running: RwSignal<Option<TurnId>>,
    /// A request that starts or stops a turn is under way.
    pub busy: RwSignal<bool>,
    /// Requests ahead of this turn, while it waits for a free place.
    pub queued: RwSignal<Option<(u32, Option<u32>)>>,
    /// Why the last action failed.
    pub failure: RwSignal<Option<UiError>>,
    /// Another conversation is being loaded.
    pub loading: RwSignal<bool>,
    /// Why the conversation could not be loaded.
    pub refused: RwSignal<Option<UiError>>,
    /// The message that a link leads to.
    pub target: RwSignal<Option<MessageId>>,
    /// Rises when the list should show its end (a question was asked, a chat was opened).
    pub to_end: RwSignal<u32>,
    /// The models on offer.
    pub models: RwSignal<Vec<ModelInfo>>,
    /// The side bar's list.
    pub conversations: Conversations,
}

impl Chat {
    /// An empty chat.
    #[must_use]
    pub fn new(conversations: Conversations, models: Vec<ModelInfo>) -> Self {
        Self {
            id: RwSignal::new(None),
            temporary: RwSignal::new(false),
            title: RwSignal::new(String::new()),
            settings: RwSignal::new(ConversationSettings::default()),
            rows: RwSignal::new(Vec::new()),
            earlier: RwSignal::new(0),
            running: RwSignal::new(None),
            busy: RwSignal::new(false),
            queued: RwSignal::new(None),
            failure: RwSignal::new(None),
            loading: RwSignal::new(false),
            refused: RwSignal::new(None),
            target: RwSignal::new(None),
            to_end: RwSignal::new(0),
            models: RwSignal::new(models),
            conversations,
        }
    }

    /// Shows a conversation as the server has it.
    pub fn show(&self, view: ConversationView) {
        let ConversationView { conversation, messages, running } = view;
        let same = self.id.get_untracked() == Some(conversation.id);
        self.id.set(Some(conversation.id));
        self.temporary.set(false);
        self.title.set(conversation.title);
        self.settings.set(ConversationSettings {
            model: conversation.model,
            system_prompt: conversation.system_prompt,
            sampling: conversation.sampling,
        });
        let present = if same { self.rows.get_untracked() } else { Vec::new() };
        self.rows.set(reconciled(&present, messages.messages));
        self.earlier.set(messages.earlier);
        self.running.set(running);
        self.queued.set(None);
        self.failure.set(None);
        self.refused.set(None);
        self.busy.set(false);
    }

    /// Empties the page for a new chat.
    pub fn reset(&self) {
        self.id.set(None);
        self.temporary.set(false);
        self.title.set(String::new());
        self.settings.set(ConversationSettings::default());
        self.rows.set(Vec::new());
        self.earlier.set(0);
        self.running.set(None);
        self.queued.set(None);
        self.failure.set(None);
        self.refused.set(None);
        self.target.set(None);
        self.busy.set(false);
    }

    /// Whether there is nothing to show yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.with(Vec::is_empty)
    }

    /// The row of a message, if it is loaded.
    #[must_use]
    pub fn row(&self, id: MessageId) -> Option<Row> {
        self.rows.with_untracked(|rows| rows.iter().find(|row| row.id == id).cloned())
    }

    /// The answer that is being written.
    #[must_use]
    pub fn running_row(&self) -> Option<Row> {
        self.rows.with_untracked(|rows| rows.iter().rev().find(|row| row.status() == MessageStatus::Running).cloned())
    }

    /// The newest answer.
    #[must_use]
    pub fn last_answer(&self) -> Option<Row> {
        self.rows.with_untracked(|rows| rows.iter().rev().find(|row| row.role == MessageRole::Assistant).cloned())
    }

    /// Keeps the rows before `index` and puts others after them.
    pub fn replace_from(&self, index: usize, added: impl IntoIterator<Item = Row>) {
        self.rows.update(|rows| {
            rows.truncate(index);
            rows.extend(added);
        });
    }

    /// Where a message is among the rows.
    #[must_use]
    pub fn index_of(&self, id: MessageId) -> Option<usize> {
        self.rows.with_untracked(|rows| rows.iter().position(|row| row.id == id))
    }

    /// Lets the list show its end.
    pub fn scroll_to_end(&self) {
        self.to_end.update(|count| *count = count.wrapping_add(1));
    }

    /// The model that answers next: the chat's, else the platform's default.
    #[must_use]
    pub fn model(&self, own_default: Option<String>) -> Option<ModelInfo> {
        let chosen = self.settings.with(|settings| settings.model.clone()).or(own_default);
        self.models.with(|models| {
            let by_id = chosen.and_then(|id| models.iter().find(|model| model.id == id));
            by_id.or_else(|| models.iter().find(|model| model.is_default)).or_else(|| models.first()).cloned()
        })
    }
}
