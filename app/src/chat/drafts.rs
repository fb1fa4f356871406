//! What was typed and not sent, kept for this tab per chat: a reload loses nothing.

use contract::ids::ConversationId;
use leptos::prelude::*;

fn key(chat: Option<ConversationId>) -> String {
    chat.map_or_else(|| "kontor.draft.new".to_owned(), |id| format!("kontor.draft.{id}"))
}

fn storage() -> Option<web_sys::Storage> {
    window().session_storage().ok().flatten()
}

/// The draft of a chat; empty without one.
#[must_use]
pub fn load(chat: Option<ConversationId>) -> String {
    storage().and_then(|storage| storage.get_item(&key(chat)).ok().flatten()).unwrap_or_default()
}

/// Keeps a draft. A full or forbidden storage only means that a reload loses it.
pub fn save(chat: Option<ConversationId>, text: &str) {
    let Some(storage) = storage() else { return };
    let kept = if text.is_empty() { storage.remove_item(&key(chat)) } else { storage.set_item(&key(chat), text) };
    if kept.is_err() {
        leptos::logging::warn!("the draft could not be kept");
    }
}

/// Lays a text ready for the next new chat: whoever opens `/` finds it in the message field.
pub fn prepare_new_chat(text: &str) {
    save(None, text);
}
