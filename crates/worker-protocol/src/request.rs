//! What a worker is asked for.

use crate::{ContentPart, Image, is_zero};
use contract::model::Sampling;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// What somebody waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// A person or a program waits.
    #[default]
    Interactive,
    /// Nobody waits; gets an eighth of a share where others want all.
    Batch,
}

/// What a completion must look like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value", rename_all = "snake_case")]
pub enum Format {
    /// JSON that this schema (draft 2020-12, as far as llguidance knows it) admits.
    JsonSchema(serde_json::Value),
    /// Text that matches this regular expression from beginning to end.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// Text that this grammar in llguidance's dialect of Lark admits.
    Lark(String),
}

/// Make one completion.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Generate {
    /// The ledger's id of this use; appears in the worker's log.
    pub id: Uuid,
    pub model: String,
    /// Prefixes are shared only between requests of the same partition (one tenant's data of one class), and never between one
    /// that is `transient` and one that is not.
    pub partition: String,
    /// Nothing of it may be kept beyond the worker's life (the prefix cache may be saved otherwise).
    #[serde(default)]
    pub transient: bool,
    /// Who is served fairly beside others; empty: the partition.
    #[serde(default)]
    pub tenant: String,
    /// The tenant's share relative to others; 0 counts as 1.
    #[serde(default)]
    pub weight: u16,
    #[serde(default)]
    pub priority: Priority,
    pub messages: Vec<ChatMessage>,
    /// No template is put around the prompt: it is the only message, or two of them, what comes before the completion and what
    /// comes behind it. Nothing in their texts is a control token.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub raw: bool,
    /// So many messages at the beginning are kept computed as long as there is room for pins (a quarter of
    /// the context): an assistant's instructions, for example.
    #[serde(default)]
    pub pinned_messages: u32,
    /// Only if a request before this one began with them, too. They end where the text of the message behind them begins.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pin_known_only: bool,
    /// The last message is an unfinished answer that the completion goes on from.
    #[serde(default)]
    pub continue_last: bool,
    #[serde(default)]
    pub sampling: Sampling,
    /// Texts that end the completion; not part of it.
    #[serde(default)]
    pub stop: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Added to the scores of tokens before anything else, -100 to 100.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub logit_bias: BTreeMap<i32, f32>,
    /// Tell each token's log-probability and so many likely alternatives, at most 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<u8>,
    /// Do not end before `max_tokens`, for measurements.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignore_end: bool,
    /// Guess tokens ahead from what was said before (n-gram speculation); `None`: as the worker was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speculate: Option<bool>,
    /// What the model may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
    #[serde(default)]
    pub tool_choice: ToolChoice,
    /// At most one call in an answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub single_tool_call: bool,
    /// Let a model that can think before it answers do so; `None`: as its template has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub think: Option<bool>,
    /// So many completions of the same prompt, which is computed once; 0 counts as 1.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub n: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    pub role: ChatRole,
    /// Its text, up to the first picture.
    pub content: String,
    /// In the place of its text: the model's own tokens, taken as they are, control tokens too. Of a raw prompt alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<u32>,
    /// Pictures, and texts behind them. For servers of others alone: a worker is asked for no message that has any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<ContentPart>,
    /// What an answer thought before it said its content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// What an answer called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// The call that a tool's message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl ChatMessage {
    /// A message of nothing but text.
    #[must_use]
    pub fn new(role: ChatRole, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), ..Self::default() }
    }

    /// A prompt as the model's own tokens.
    #[must_use]
    pub fn of_tokens(tokens: Vec<u32>) -> Self {
        Self { tokens, ..Self::default() }
    }

    /// A message of texts and pictures in this order. Texts that no picture parts become one, in lines.
    #[must_use]
    pub fn of(role: ChatRole, parts: impl IntoIterator<Item = ContentPart>) -> Self {
        let (mut content, mut more): (Option<String>, Vec<ContentPart>) = (None, Vec::new());
        for part in parts {
            match part {
                ContentPart::Text(text) if more.is_empty() => match &mut content {
                    Some(before) => add_line(before, &text),
                    None => content = Some(text),
                },
                ContentPart::Text(text) => match more.last_mut() {
                    Some(ContentPart::Text(before)) => add_line(before, &text),
                    _ => more.push(ContentPart::Text(text)),
                },
                image @ ContentPart::Image(_) => more.push(image),
            }
        }
        Self { more, ..Self::new(role, content.unwrap_or_default()) }
    }

    /// Its pictures.
    pub fn images(&self) -> impl Iterator<Item = &Image> {
        self.more.iter().filter_map(|part| match part {
            ContentPart::Image(image) => Some(image),
            ContentPart::Text(_) => None,
        })
    }

    /// Its texts behind the first picture.
    pub fn later_texts(&self) -> impl Iterator<Item = &str> {
        self.more.iter().filter_map(|part| match part {
            ContentPart::Text(text) => Some(text.as_str()),
            ContentPart::Image(_) => None,
        })
    }
}

fn add_line(text: &mut String, line: &str) {
    text.push('\n');
    text.push_str(line);
}

/// A function that a model may call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// Letters, digits, `_`, `-` and `.`, at most 64.
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON schema of its arguments, an object.
    pub parameters: serde_json::Value,
}

/// A function that a model called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    /// JSON as the model wrote it. It need not match the schema unless the call was forced.
    pub arguments: String,
}

/// Must tools be called?
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "name", rename_all = "snake_case")]
pub enum ToolChoice {
    #[default]
    Auto,
    None,
    /// At least one; the answer is constrained to it.
    Required,
    Named(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChatRole {
    System,
    #[default]
    User,
    Assistant,
    /// The result of a call.
    Tool,
}

/// End a use that runs or waits. One that is over, or that this worker never had, is none of its business: no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// The ledger's id of the use, as its request had it.
    pub id: Uuid,
}

/// Turn texts into vectors, or pairs into scores.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Embed {
    /// The ledger's id of this use; appears in the worker's log.
    pub id: Uuid,
    pub model: String,
    /// Who is served fairly beside others.
    pub tenant: String,
    /// The tenant's share relative to others; 0 counts as 1.
    #[serde(default)]
    pub weight: u16,
    #[serde(default)]
    pub priority: Priority,
    pub inputs: Vec<EmbedInput>,
    /// Cut what is longer than the model's context instead of refusing it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncate: bool,
}

/// One text for an embedding model, or one pair for a reranker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EmbedInput {
    Text(String),
    /// A text as the model's own tokens, taken as they are: nothing is put around them.
    Tokens(Vec<u32>),
    Pair {
        query: String,
        document: String,
    },
}
