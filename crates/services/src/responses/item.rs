//! What is said in a response and before it: items. From them the model's view of the conversation is made.

use contract::ids::ResponseId;
use inference::{ChatMessage, ChatRole, ContentPart, Image, ToolCall};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    Developer,
    User,
    Assistant,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Item {
    Message {
        role: Role,
        /// In the parts that it was sent in; an answer has one.
        texts: Vec<String>,
        /// In their order.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        images: Vec<PlacedImage>,
    },
    /// What the model thought.
    Reasoning { text: String },
    /// A function that the model wants called.
    Call { call: ToolCall },
    /// What a call brought.
    CallOutput { call_id: String, output: String },
}

/// A picture among texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlacedImage {
    /// So many of the texts stand before it.
    pub after: usize,
    #[serde(flatten)]
    pub image: Image,
}

impl Item {
    /// A message of texts alone.
    #[must_use]
    pub fn says(role: Role, texts: Vec<String>) -> Self {
        Self::Message { role, texts, images: Vec::new() }
    }

    /// The id of the item number `at` in what a response said.
    #[must_use]
    pub fn id(&self, response: ResponseId, at: usize) -> String {
        format!("{}_{}{at:04x}", self.prefix(), response.0.simple())
    }

    /// The id of the item number `at` in what a response was asked.
    pub(crate) fn input_id(&self, response: ResponseId, at: usize) -> String {
        format!("{}_{}in{at:04x}", self.prefix(), response.0.simple())
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Message { texts, images, .. } => {
                texts.iter().map(String::len).sum::<usize>() + images.iter().map(|placed| placed.image.data.len()).sum::<usize>()
            }
            Self::Reasoning { text } => text.len(),
            Self::Call { call } => call.id.len() + call.name.len() + call.arguments.len(),
            Self::CallOutput { call_id, output } => call_id.len() + output.len(),
        }
    }

    fn prefix(&self) -> &'static str {
        match self {
            Self::Message { .. } => "msg",
            Self::Reasoning { .. } => "rs",
            Self::Call { .. } => "fc",
            Self::CallOutput { .. } => "fco",
        }
    }
}

/// An item of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputItem {
    /// `None` until the response has an id.
    pub id: Option<String>,
    #[serde(flatten)]
    pub item: Item,
}

/// What an id made by [`Item::id`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemName {
    pub response: ResponseId,
    pub at: usize,
}

impl ItemName {
    /// `None` for any other text.
    #[must_use]
    pub fn parse(id: &str) -> Option<Self> {
        let (_, name) = id.split_once('_')?;
        let (response, at) = name.split_at_checked(32)?;
        let response = Uuid::try_parse(response).ok()?.into();
        Some(Self { response, at: usize::from_str_radix(at, 16).ok()? })
    }
}

/// What the model reads: the instructions, then the items. What an answer thought, said and called becomes one message.
pub(crate) fn messages(instructions: Option<&str>, items: impl IntoIterator<Item = Item>) -> Vec<ChatMessage> {
    let mut messages: Vec<ChatMessage> = instructions.into_iter().map(|text| ChatMessage::new(ChatRole::System, text)).collect();
    for item in items {
        match item {
            Item::Message { role: Role::Assistant, texts, .. } => {
                let answer = answer(&mut messages, |last| last.tool_calls.is_empty());
                join(&mut answer.content, &texts.join("\n"));
            }
            Item::Message { role, texts, images } => {
                let images = images.into_iter().map(|placed| (placed.after, ContentPart::Image(placed.image)));
                messages.push(ChatMessage::of(chat_role(role), in_order(texts.into_iter().map(ContentPart::Text), images)));
            }
            Item::Reasoning { text } if text.is_empty() => {}
            Item::Reasoning { text } => {
                let answer = answer(&mut messages, |last| last.content.is_empty() && last.tool_calls.is_empty());
                join(answer.reasoning.get_or_insert_default(), &text);
            }
            Item::Call { call } => answer(&mut messages, |_| true).tool_calls.push(call),
            Item::CallOutput { call_id, output } => {
                messages.push(ChatMessage { tool_call_id: Some(call_id), ..ChatMessage::new(ChatRole::Tool, output) });
            }
        }
    }
    messages
}

/// Parts of a message in the order in which they were sent: its texts, and its pictures, each with how many texts stand before
/// it.
pub fn in_order<P>(texts: impl IntoIterator<Item = P>, images: impl IntoIterator<Item = (usize, P)>) -> Vec<P> {
    let mut images = images.into_iter().peekable();
    let mut parts = Vec::new();
    for (at, text) in texts.into_iter().enumerate() {
        while let Some((_, image)) = images.next_if(|(after, _)| *after <= at) {
            parts.push(image);
        }
        parts.push(text);
    }
    parts.extend(images.map(|(_, image)| image));
    parts
}

/// The answer at the end, if it can go on; else a new one.
fn answer(messages: &mut Vec<ChatMessage>, may_go_on: impl Fn(&ChatMessage) -> bool) -> &mut ChatMessage {
    let goes_on = messages.last().is_some_and(|last| last.role == ChatRole::Assistant && may_go_on(last));
    if !goes_on {
        messages.push(ChatMessage::new(ChatRole::Assistant, ""));
    }
    let last = messages.len() - 1;
    &mut messages[last]
}

fn join(text: &mut String, more: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(more);
}

fn chat_role(role: Role) -> ChatRole {
    match role {
        Role::System | Role::Developer => ChatRole::System,
        Role::User => ChatRole::User,
        Role::Assistant => ChatRole::Assistant,
    }
}

#[cfg(test)]
mod tests {
    use super::{InputItem, Item, ItemName, PlacedImage, Role, messages};
    use contract::ids::ResponseId;
    use inference::{ChatMessage, ChatRole, ContentPart, Detail, Image, ToolCall};
    use uuid::Uuid;

    fn says(role: Role, texts: &[&str]) -> Item {
        Item::says(role, texts.iter().map(|text| (*text).to_owned()).collect())
    }

    fn call(id: &str) -> ToolCall {
        ToolCall { id: id.into(), name: "f".into(), arguments: "{}".into() }
    }

    #[test]
    fn an_answer_becomes_one_message_whatever_it_is_made_of() {
        use ChatRole::{Assistant, System, Tool, User};
        let items = vec![
            says(Role::Developer, &["Be brief."]),
            says(Role::User, &["a", "b"]),
            Item::Reasoning { text: "hm".into() },
            says(Role::Assistant, &["One moment."]),
            Item::Call { call: call("1") },
            Item::Call { call: call("2") },
            Item::CallOutput { call_id: "1".into(), output: "42".into() },
            Item::CallOutput { call_id: "2".into(), output: "43".into() },
            says(Role::Assistant, &["85"]),
        ];
        let read = messages(Some("Speak German."), items);
        let roles: Vec<ChatRole> = read.iter().map(|message| message.role).collect();
        assert_eq!(roles, [System, System, User, Assistant, Tool, Tool, Assistant]);
        assert_eq!(read[0], ChatMessage::new(System, "Speak German."));
        assert_eq!(read[2].content, "a\nb");
        assert_eq!((read[3].content.as_str(), read[3].reasoning.as_deref()), ("One moment.", Some("hm")));
        assert_eq!(read[3].tool_calls, [call("1"), call("2")]);
        assert_eq!((read[4].content.as_str(), read[4].tool_call_id.as_deref()), ("42", Some("1")));
    }

    #[test]
    fn pictures_stand_where_they_stood_and_are_kept() {
        let low = Some(Detail::Low);
        let image = |data: &str| Image { media_type: "image/png".into(), data: data.into(), detail: low, path: String::new() };
        let placed = |after, data| PlacedImage { after, image: image(data) };
        let texts = vec!["a".into(), "b".into()];
        let item = Item::Message { role: Role::User, texts, images: vec![placed(0, "AAAA"), placed(1, "BBBB"), placed(2, "CCCC")] };
        let shown = |data| ContentPart::Image(image(data));
        let text = |text: &str| ContentPart::Text(text.into());
        let read = messages(None, [item.clone()]);
        assert_eq!(read[0].content, "");
        assert_eq!(read[0].more, [shown("AAAA"), text("a"), shown("BBBB"), text("b"), shown("CCCC")]);
        assert_eq!(item.bytes(), 2 + 3 * 4);
        let json = serde_json::to_value(&item).expect("JSON");
        assert_eq!(json["images"][1], serde_json::json!({ "after": 1, "media_type": "image/png", "data": "BBBB", "detail": "low" }));
        assert_eq!(
            serde_json::from_value::<Item>(json).expect("an item"),
            item,
            "If you are here because this failed: who goes on from a response finds the model blind to what it saw."
        );
    }

    #[test]
    fn thoughts_of_a_second_answer_are_not_those_of_the_first() {
        let items = vec![says(Role::Assistant, &["one"]), Item::Reasoning { text: "hm".into() }, says(Role::Assistant, &["two"])];
        let read = messages(None, items);
        assert_eq!(read.len(), 2);
        assert_eq!((read[1].content.as_str(), read[1].reasoning.as_deref()), ("two", Some("hm")));
    }

    #[test]
    fn an_id_leads_back_to_the_item() {
        let response = ResponseId(Uuid::now_v7());
        let item = says(Role::Assistant, &["x"]);
        let id = item.id(response, 3);
        assert!(id.starts_with("msg_") && id.len() == 4 + 32 + 4, "{id}");
        assert_eq!(ItemName::parse(&id), Some(ItemName { response, at: 3 }));
        for other in ["", "msg_", "msg_0198", "x", &item.input_id(response, 3), "msg_ä198c0de00007000800000000000000010003"] {
            assert_eq!(ItemName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn items_are_stored_and_read() {
        let input = InputItem { id: Some("msg_1".into()), item: says(Role::User, &["x"]) };
        let json = serde_json::to_string(&input).expect("JSON");
        assert_eq!(json, r#"{"id":"msg_1","type":"message","role":"user","texts":["x"]}"#);
        assert_eq!(serde_json::from_str::<InputItem>(&json).expect("an item"), input);
    }
}
