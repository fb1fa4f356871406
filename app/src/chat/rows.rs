//! The messages on the page. Text is a signal of its own, because it is what changes while an answer
//! streams in; everything else about a message changes seldom.

use contract::{
    chat::{Message, MessageRole, MessageStatus},
    ids::MessageId,
};
use leptos::prelude::*;

/// One message on the page.
#[derive(Clone, Debug)]
pub struct Row {
    /// The message's id; rows are keyed by it.
    pub id: MessageId,
    /// Question or answer.
    pub role: MessageRole,
    /// The message without its text.
    pub meta: ArcRwSignal<Message>,
    /// The text, as it grows.
    pub text: ArcRwSignal<String>,
}

impl Row {
    /// A row of a message.
    #[must_use]
    pub fn new(mut message: Message) -> Self {
        let text = std::mem::take(&mut message.content);
        Self { id: message.id, role: message.role, meta: ArcRwSignal::new(message), text: ArcRwSignal::new(text) }
    }

    /// Takes over what the server says now. Text that is ahead of the server's last checkpoint stays.
    pub fn refresh(&self, mut message: Message) {
        let text = std::mem::take(&mut message.content);
        let ahead = message.status == MessageStatus::Running && self.text.with_untracked(|present| present.starts_with(&text));
        if !ahead && self.text.with_untracked(|present| *present != text) {
            self.text.set(text);
        }
        if self.meta.with_untracked(|present| *present != message) {
            self.meta.set(message);
        }
    }

    /// How far the answer came.
    #[must_use]
    pub fn status(&self) -> MessageStatus {
        self.meta.with_untracked(|meta| meta.status)
    }
}

/// What to do with a piece of text that belongs at byte `at` of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// It is there already: an event that came again.
    Known,
    /// It was put in its place; what followed it is gone.
    Applied,
    /// Text before it is missing: the events must be read from the start.
    Gap,
}

/// Puts `text` at byte `at`; see [`Piece`].
pub fn apply(present: &mut String, at: u32, text: &str) -> Piece {
    let Ok(at) = usize::try_from(at) else { return Piece::Gap };
    if present.get(at..).is_some_and(|rest| rest.starts_with(text)) {
        // Appending nothing is also known.
        return if text.is_empty() || present.len() > at { Piece::Known } else { Piece::Applied };
    }
    if present.len() < at || !present.is_char_boundary(at) {
        return Piece::Gap;
    }
    present.truncate(at);
    present.push_str(text);
    Piece::Applied
}

/// Rows for `messages`; a row that is there already keeps its place on the page.
#[must_use]
pub fn reconciled(present: &[Row], messages: Vec<Message>) -> Vec<Row> {
    messages
        .into_iter()
        .map(|message| match present.iter().find(|row| row.id == message.id) {
            Some(row) => {
                row.refresh(message);
                row.clone()
            }
            None => Row::new(message),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Piece, apply};

    #[test]
    fn chat_text_events_may_come_twice_and_out_of_step() {
        let mut text = String::new();
        assert_eq!(apply(&mut text, 0, "Hallo "), Piece::Applied);
        assert_eq!(apply(&mut text, 6, "Wörld"), Piece::Applied);
        assert_eq!(apply(&mut text, 0, "Hallo "), Piece::Known);
        assert_eq!(apply(&mut text, 6, "Wörld"), Piece::Known);
        assert_eq!(apply(&mut text, 20, "!"), Piece::Gap);
        assert_eq!(apply(&mut text, 8, "x"), Piece::Gap, "in the middle of ö");
        assert_eq!(apply(&mut text, 12, "!"), Piece::Applied);
        assert_eq!(
            text, "Hallo Wörld!",
            "If you are here because this failed: a reload in mid-stream would show another text than the stored one."
        );
        assert_eq!(apply(&mut text, 6, "Welt"), Piece::Applied);
        assert_eq!(text, "Hallo Welt");
    }
}
