//! What a message says in the OpenAI protocol's words.

use serde::Serialize;
use worker_protocol::{ChatMessage, ContentPart, DataUrl, Detail};

/// Parts only where there are pictures: not all servers take them.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Content<'a> {
    Text(&'a str),
    Parts(Vec<Part<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Part<'a> {
    Text { text: &'a str },
    ImageUrl { image_url: ImageUrl<'a> },
}

#[derive(Serialize)]
pub(super) struct ImageUrl<'a> {
    url: DataUrl<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Detail>,
}

impl<'a> Content<'a> {
    pub(super) fn of(message: &'a ChatMessage) -> Self {
        if message.more.is_empty() {
            return Self::Text(&message.content);
        }
        let first = Some(message.content.as_str()).filter(|text| !text.is_empty()).map(|text| Part::Text { text });
        let more = message.more.iter().map(|part| match part {
            ContentPart::Text(text) => Part::Text { text },
            ContentPart::Image(image) => Part::ImageUrl { image_url: ImageUrl { url: DataUrl(image), detail: image.detail } },
        });
        Self::Parts(first.into_iter().chain(more).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::Content;
    use serde_json::json;
    use worker_protocol::{ChatMessage, ChatRole, ContentPart, Detail, Image};

    #[test]
    fn pictures_are_parts_in_their_order() {
        let image = |detail| Image { media_type: "image/png".into(), data: "iVBORw0KGgo=".into(), detail, path: "not sent".into() };
        let parts = [
            ContentPart::Text("This:".into()),
            ContentPart::Image(image(None)),
            ContentPart::Text("and this?".into()),
            ContentPart::Image(image(Some(Detail::High))),
        ];
        let messages = [
            ChatMessage::new(ChatRole::System, "Be brief."),
            ChatMessage::of(ChatRole::User, parts),
            ChatMessage::of(ChatRole::User, [ContentPart::Image(image(None))]),
        ];
        let url = "data:image/png;base64,iVBORw0KGgo=";
        let expected = json!([
            "Be brief.",
            [
                {"type": "text", "text": "This:"},
                {"type": "image_url", "image_url": {"url": url}},
                {"type": "text", "text": "and this?"},
                {"type": "image_url", "image_url": {"url": url, "detail": "high"}},
            ],
            [{"type": "image_url", "image_url": {"url": url}}],
        ]);
        let sent: Vec<Content<'_>> = messages.iter().map(Content::of).collect();
        assert_eq!(serde_json::to_value(sent).unwrap(), expected);
    }
}
