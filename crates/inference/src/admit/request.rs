//! What is asked of a model.

use crate::cache::CacheUse;
use contract::{model::Sampling, usage::Purpose};
use std::collections::BTreeMap;
use worker_protocol::{ChatMessage, ChatRole, Format, Priority, Tool, ToolChoice};

/// What somebody wants from a model.
#[derive(Clone, Debug)]
pub struct Request {
    pub purpose: Purpose,
    /// `None` takes the catalogue's default.
    pub model: Option<String>,
    /// Oldest first; never empty.
    pub messages: Vec<ChatMessage>,
    /// The last message is an unfinished answer that the completion goes on from.
    pub continue_last: bool,
    pub sampling: Sampling,
    /// Nothing of it may outlive the worker's memory, as for temporary chats.
    pub transient: bool,
    pub options: Options,
}

/// What else a completion may be asked to be; the default is plain text.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Texts that end a completion.
    pub stop: Vec<String>,
    /// What it must look like.
    pub format: Option<Format>,
    /// Added to the scores of tokens, -100 to 100.
    pub logit_bias: BTreeMap<i32, f32>,
    /// Tell log-probabilities, with so many alternatives.
    pub logprobs: Option<u8>,
    /// What the model may call.
    pub tools: Vec<Tool>,
    pub tool_choice: ToolChoice,
    /// At most one call in an answer.
    pub single_tool_call: bool,
    /// Let a model that can think before it answers do so; `None`: as it is made.
    pub think: Option<bool>,
    /// Completions of the same prompt; 0 counts as 1.
    pub n: u32,
    pub priority: Priority,
    /// So many messages at the beginning are kept computed.
    pub pinned_messages: u32,
    /// Only if a request before this one began with them, too.
    pub pin_known_only: bool,
    /// Without the model's template: the only message is the whole prompt, or two are what comes before and behind the completion.
    pub raw: bool,
    /// May it come out of the response cache?
    pub cache: CacheUse,
}

impl Options {
    /// For a program's request with these messages: its instructions are kept computed, once they came a second time. They may
    /// be other ones in each request, and those of many would be kept for nobody.
    #[must_use]
    pub fn pinning_known(self, messages: &[ChatMessage]) -> Self {
        let leading = messages.iter().take_while(|message| message.role == ChatRole::System).count();
        Self { pinned_messages: u32::try_from(leading).unwrap_or(u32::MAX), pin_known_only: true, ..self }
    }
}
