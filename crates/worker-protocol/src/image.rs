//! Pictures in messages.
//!
//! They are for servers that somebody else runs: no worker sees, and a pool sends it none.

use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

/// One picture.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// E.g. `image/png`.
    pub media_type: String,
    /// In base64, as it came and as it is sent on.
    pub data: String,
    /// How closely it is to be looked at; `None`: as the model has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Detail>,
    /// Where whoever asked wrote it, for refusals that name the place; it says nothing to a model.
    #[serde(skip)]
    pub path: String,
}

/// How closely a model looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Detail {
    #[default]
    Auto,
    Low,
    High,
    Original,
}

/// What a message consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContentPart {
    Text(String),
    Image(Image),
}

/// A picture as an address that holds it.
#[derive(Clone, Copy, Debug)]
pub struct DataUrl<'a>(pub &'a Image);

/// Without the picture: it is nobody's business in a log.
impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { media_type, data, detail, path } = self;
        let mut shown = f.debug_struct("Image");
        shown.field("media_type", media_type).field("base64_bytes", &data.len()).field("detail", detail).field("path", path).finish()
    }
}

impl fmt::Display for DataUrl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "data:{};base64,{}", self.0.media_type, self.0.data)
    }
}

impl Serialize for DataUrl<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::{ContentPart, DataUrl, Detail, Image};
    use crate::{ChatMessage, ChatRole};

    fn image(data: &str) -> Image {
        Image { media_type: "image/png".into(), data: data.into(), detail: Some(Detail::Low), path: "messages[0]".into() }
    }

    fn text(text: &str) -> ContentPart {
        ContentPart::Text(text.into())
    }

    #[test]
    fn a_message_keeps_its_order() {
        let picture = || ContentPart::Image(image("AAAA"));
        let message = ChatMessage::of(ChatRole::User, [text("a"), text("b"), picture(), text("c"), text("d"), picture()]);
        assert_eq!(message.content, "a\nb");
        assert_eq!(message.more, [picture(), text("c\nd"), picture()]);
        assert_eq!(message.images().count(), 2);
        assert_eq!(ChatMessage::of(ChatRole::User, [text("a"), text("b")]), ChatMessage::new(ChatRole::User, "a\nb"));
        let first = ChatMessage::of(ChatRole::User, [picture(), text("a")]);
        assert_eq!((first.content.as_str(), first.more.len()), ("", 2));
    }

    #[test]
    fn a_picture_is_sent_and_never_shown() {
        let image = image("c2VjcmV0");
        assert_eq!(DataUrl(&image).to_string(), "data:image/png;base64,c2VjcmV0");
        let json = serde_json::to_string(&image).unwrap();
        assert_eq!(json, r#"{"media_type":"image/png","data":"c2VjcmV0","detail":"low"}"#);
        assert!(!format!("{image:?}").contains("c2VjcmV0"), "If you are here because this failed: pictures of people end up in logs.");
    }

    #[test]
    fn a_message_of_texts_is_written_as_before() {
        let json = serde_json::to_string(&ChatMessage::new(ChatRole::User, "hi")).unwrap();
        assert_eq!(json, r#"{"role":"user","content":"hi"}"#);
    }
}
