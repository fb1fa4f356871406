//! What is said in a response and before it: items. From them the model's view of the conversation is made.

use contract::ids::ResponseId;
use inference::{ChatMessage, ChatRole, ToolCall};
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
    },
    /// What the model thought.
    Reasoning { text: String },
    /// A function that the model wants called.
    Call { call: ToolCall },
    /// What a call brought.
    CallOutput { call_id: String, output: String },
}

impl Item {
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
            Self::Message { texts, .. } => texts.iter().map(String::len).sum(),
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
            Item::Message { role: Role::Assistant, texts } => {
                let answer = answer(&mut messages, |last| last.tool_calls.is_empty());
                join(&mut answer.content, &texts.join("\n"));
            }
            Item::Message { role, texts } => messages.push(ChatMessage::new(chat_role(role), texts.join("\n"))),
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
    use super::{InputItem, Item, ItemName, Role, messages};
    use contract::ids::ResponseId;
    use inference::{ChatMessage, ChatRole, ToolCall};
    use uuid::Uuid;

    fn says(role: Role, texts: &[&str]) -> Item {
        Item::Message { role, texts: texts.iter().map(|text| (*text).to_owned()).collect() }
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
