//! What a request holds beside texts, and not every model takes.

use crate::images::has_images;
use worker_protocol::{ChatMessage, EmbedInput};

/// See the module. It narrows down who may answer in the place of the model that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    Texts,
    /// Models that see.
    Images,
    /// Token ids mean what they mean to the one model that was asked.
    Tokens,
}

impl Holds {
    pub(crate) fn of(messages: &[ChatMessage]) -> Self {
        match (tokens(messages), has_images(messages)) {
            (0, false) => Self::Texts,
            (0, true) => Self::Images,
            _ => Self::Tokens,
        }
    }

    pub(crate) fn of_inputs(inputs: &[EmbedInput]) -> Self {
        let ids = inputs.iter().any(|input| matches!(input, EmbedInput::Tokens(_)));
        if ids { Self::Tokens } else { Self::Texts }
    }
}

/// Token ids of all messages.
pub(crate) fn tokens(messages: &[ChatMessage]) -> usize {
    messages.iter().map(|message| message.tokens.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::Holds;
    use worker_protocol::{ChatMessage, ChatRole, ContentPart, EmbedInput, Image};

    #[test]
    fn what_is_no_text_is_known_wherever_it_is() {
        let text = || ChatMessage::new(ChatRole::User, "hi");
        let image = Image { media_type: "image/png".into(), data: "AAAA".into(), detail: None, path: String::new() };
        assert_eq!(Holds::of(&[text(), text()]), Holds::Texts);
        assert_eq!(Holds::of(&[text(), ChatMessage::of(ChatRole::User, [ContentPart::Image(image)])]), Holds::Images);
        assert_eq!(Holds::of(&[ChatMessage::of_tokens(vec![1, 2]), text()]), Holds::Tokens);
        assert_eq!(Holds::of_inputs(&[EmbedInput::Text("a".into())]), Holds::Texts);
        assert_eq!(Holds::of_inputs(&[EmbedInput::Text("a".into()), EmbedInput::Tokens(vec![1])]), Holds::Tokens);
    }
}
