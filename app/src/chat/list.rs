//! The conversations beside the page: loaded page by page, kept in step with what the chat does.

use super::api;
use crate::UiError;
use contract::{
    Millis,
    chat::{ConversationChange, ConversationSummary},
    ids::ConversationId,
    page::Page,
};
use leptos::{prelude::*, task::spawn_local};
use std::time::Duration;

/// How often the list looks at the server while an answer is being made that this page does not follow.
const POLL: Duration = Duration::from_secs(4);

/// One conversation in the list.
#[derive(Clone, Debug)]
pub struct Item {
    /// The list is keyed by it.
    pub id: ConversationId,
    /// What is shown; changes in place.
    pub summary: ArcRwSignal<ConversationSummary>,
}

/// The list; a handle that can be copied.
#[derive(Clone, Copy)]
pub struct Conversations {
    /// As the server orders them: by activity, newest first.
    pub items: RwSignal<Vec<Item>>,
    /// The cursor of the next page.
    pub next: RwSignal<Option<String>>,
    /// The archive is shown instead of the current conversations.
    pub archived: RwSignal<bool>,
    /// A page is under way.
    pub loading: RwSignal<bool>,
    /// Why the last page could not be loaded.
    pub failure: RwSignal<Option<UiError>>,
    /// The conversation whose title is being edited.
    pub renaming: RwSignal<Option<ConversationId>>,
    /// The last conversation that was renamed here, and its title.
    pub renamed: RwSignal<Option<(ConversationId, String)>>,
    /// Rises when *New chat* was pressed.
    pub fresh: RwSignal<u32>,
    /// When the list was loaded: what "today" is until the browser knows better.
    pub now: RwSignal<Millis>,
    polling: StoredValue<bool>,
}

impl Conversations {
    fn new() -> Self {
        Self {
            items: RwSignal::new(Vec::new()),
            next: RwSignal::new(None),
            archived: RwSignal::new(false),
            loading: RwSignal::new(false),
            failure: RwSignal::new(None),
            renaming: RwSignal::new(None),
            renamed: RwSignal::new(None),
            fresh: RwSignal::new(0),
            now: RwSignal::new(0),
            polling: StoredValue::new(false),
        }
    }

    /// Takes the first page. Items that are there already stay where they are on the page.
    pub fn take_first(&self, page: Page<ConversationSummary>) {
        self.items.update(|items| {
            let loaded: Vec<ConversationId> = page.items.iter().map(|summary| summary.id).collect();
            let mut fresh: Vec<Item> = page.items.into_iter().map(|summary| keep_or_make(items, summary)).collect();
            // What lies beyond the first page was loaded before and is still valid.
            if page.next.is_some() {
                fresh.extend(items.drain(..).filter(|item| !loaded.contains(&item.id)));
            }
            *items = fresh;
        });
        if self.next.with_untracked(Option::is_none) || page.next.is_none() {
            self.next.set(page.next);
        }
        self.watch();
    }

    /// Loads the first page again.
    pub fn refresh(self) {
        let archived = self.archived.get_untracked();
        spawn_local(async move {
            // Refreshing is a courtesy: what is shown stays valid, and the next action reports problems.
            if let Ok(page) = api::list_conversations(archived, None).await
                && self.archived.try_get_untracked() == Some(archived)
            {
                self.take_first(page);
            }
        });
    }

    /// Shows the archive or the current conversations.
    pub fn show_archived(self, archived: bool) {
        self.archived.set(archived);
        self.items.set(Vec::new());
        self.next.set(None);
        self.load(None);
    }

    /// Loads the next page, if there is one.
    pub fn load_more(self) {
        if let Some(cursor) = self.next.get_untracked() {
            self.load(Some(cursor));
        }
    }

    /// Loads the first page after a failure.
    pub fn retry(self) {
        self.load(None);
    }

    fn load(self, cursor: Option<String>) {
        if self.loading.get_untracked() {
            return;
        }
        self.loading.set(true);
        self.failure.set(None);
        let archived = self.archived.get_untracked();
        let is_first = cursor.is_none();
        spawn_local(async move {
            let result = api::list_conversations(archived, cursor).await;
            self.loading.set(false);
            if self.archived.get_untracked() != archived {
                return self.load(None);
            }
            match result {
                Ok(page) if is_first => self.take_first(page),
                Ok(page) => {
                    self.next.set(page.next);
                    self.items.update(|items| {
                        for summary in page.items {
                            let item = keep_or_make(items, summary);
                            if !items.iter().any(|present| present.id == item.id) {
                                items.push(item);
                            }
                        }
                    });
                }
                Err(error) => self.failure.set(Some(error)),
            }
        });
    }

    /// Puts a conversation first, new or not.
    pub fn raise(&self, id: ConversationId, title: &str, now: Millis) {
        if self.archived.get_untracked() {
            return;
        }
        self.items.update(|items| {
            let item = match items.iter().position(|item| item.id == id) {
                Some(at) => items.remove(at),
                None => Item {
                    id,
                    summary: ArcRwSignal::new(ConversationSummary {
                        id,
                        title: title.to_owned(),
                        pinned: false,
                        archived: false,
                        updated_at: now,
                        running: false,
                    }),
                },
            };
            item.summary.update(|summary| {
                summary.updated_at = now;
                summary.running = true;
            });
            items.insert(0, item);
        });
    }

    /// Changes one item in place.
    pub fn change(&self, id: ConversationId, change: impl FnOnce(&mut ConversationSummary)) {
        let item = self.items.with_untracked(|items| items.iter().find(|item| item.id == id).cloned());
        if let Some(item) = item {
            item.summary.update(change);
            // Pinning changes the group.
            self.items.update(|_| {});
        }
    }

    /// Takes an item out of the list.
    pub fn remove(&self, id: ConversationId) {
        self.items.update(|items| items.retain(|item| item.id != id));
    }

    /// Saves a change and shows it.
    ///
    /// # Errors
    /// The server's problem; the list then still shows the old state.
    pub async fn save(self, id: ConversationId, change: ConversationChange) -> Result<(), UiError> {
        let is_title = change.title.is_some();
        let saved = api::change_conversation(id, change).await?;
        if is_title {
            self.renamed.set(Some((id, saved.title.clone())));
        }
        if saved.archived != self.archived.get_untracked() {
            self.remove(id);
        } else {
            self.change(id, |summary| {
                summary.title = saved.title;
                summary.pinned = saved.pinned;
            });
        }
        Ok(())
    }

    /// Looks at the server from time to time as long as something runs.
    fn watch(self) {
        let running = || {
            self.items.try_with_untracked(|items| items.iter().any(|item| item.summary.with_untracked(|summary| summary.running)))
                == Some(true)
        };
        if !cfg!(feature = "hydrate") || !running() || self.polling.get_value() {
            return;
        }
        self.polling.set_value(true);
        set_timeout(
            move || {
                if self.polling.try_set_value(false).is_none() {
                    self.refresh();
                }
            },
            POLL,
        );
    }
}

fn keep_or_make(present: &[Item], summary: ConversationSummary) -> Item {
    match present.iter().find(|item| item.id == summary.id) {
        Some(item) => {
            if item.summary.with_untracked(|known| *known != summary) {
                item.summary.set(summary);
            }
            item.clone()
        }
        None => Item { id: summary.id, summary: ArcRwSignal::new(summary) },
    }
}

/// The list of this page, shared by side bar and chat. Provided by the frame around both.
#[must_use]
pub fn use_conversations() -> Conversations {
    use_context().unwrap_or_else(Conversations::new)
}

/// Puts the list into context; to be called by what holds side bar and page.
pub fn provide_conversations() {
    provide_context(Conversations::new());
}
