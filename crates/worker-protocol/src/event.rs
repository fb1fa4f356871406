//! What a worker answers, line by line.

use crate::{is_zero, request::ToolCall};
use serde::{Deserialize, Serialize};

/// One line of the answer to `POST /generate` or `POST /embed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// Waiting for a slot; 0 is next. Sent when the place changes.
    Queued {
        place: u32,
        /// About how long, in milliseconds; `None` until the worker has seen enough.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wait_ms: Option<u32>,
    },
    /// Prefill begins; the prompt fits.
    Started {
        prompt_tokens: u32,
        cached_tokens: u32,
    },
    /// Whole characters. `completion_tokens` counts what has been produced so far, by all completions of the
    /// request, so that a crash after this line can be settled exactly up to it. Without any text it tells the count alone,
    /// while a call is being made.
    Text {
        /// Which of the `n` completions, from 0.
        #[serde(default, skip_serializing_if = "is_zero")]
        choice: u32,
        text: String,
        completion_tokens: u32,
        /// Of the tokens since the last such event, if asked for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        logprobs: Vec<TokenLogprob>,
    },
    /// What the model thinks before it answers; not part of the answer.
    Reasoning {
        #[serde(default, skip_serializing_if = "is_zero")]
        choice: u32,
        text: String,
        completion_tokens: u32,
    },
    /// A complete call.
    ToolCall {
        #[serde(default, skip_serializing_if = "is_zero")]
        choice: u32,
        /// Its number within the completion, from 0.
        index: u32,
        call: ToolCall,
        completion_tokens: u32,
    },
    /// The vectors of the inputs from `first` on, in order; a reranker's have one number, the better the higher.
    Vectors {
        first: u32,
        vectors: Vec<Vec<f32>>,
    },
    /// One of several completions ended; the others go on.
    Ended {
        choice: u32,
        finish: Finish,
    },
    /// All ended. `finish` and `stop` are those of the first completion.
    Done {
        finish: Finish,
        /// The stop text that ended it; older workers do not tell it, nor do most servers of others.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stop: Option<String>,
        usage: Usage,
        timings: Timings,
    },
    Failed {
        code: FailCode,
        message: String,
        usage: Usage,
    },
}

/// The answer to `POST /count`: how long the prompt is that `POST /generate` would make of the same request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// It has so many tokens, whether or not they fit into the context.
    Tokens(u32),
    /// There is no such prompt, or nobody could make one.
    Refused { code: FailCode, message: String },
}

/// How likely a token was, by the model's own scores before any sampling parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    /// What it stands for; may be part of a character.
    pub bytes: Vec<u8>,
    pub logprob: f32,
    /// The likeliest, best first; empty in alternatives themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<TokenLogprob>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model ended, or a stop text came.
    Stop,
    /// `max_tokens` or the context's end.
    Length,
    /// The model ended after calling tools.
    ToolCalls,
    /// A content filter ended it, or the model declined to go on. Servers of others say so; workers have no filter.
    ContentFilter,
}

impl Finish {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Stop, Self::Length, Self::ToolCalls, Self::ContentFilter];

    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|finish| finish.name() == name)
    }

    /// Its name for programs, in traces and wherever it is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailCode {
    /// The prompt alone does not fit; refused before any decoding.
    ContextLengthExceeded,
    /// The request makes no sense to this worker (unknown model, bad sampling value).
    Invalid,
    /// It makes sense, and this model cannot do it. The message begins with the field.
    Unsupported,
    /// A content filter does not let the prompt through. Servers of others say so; workers have none.
    ContentFilter,
    /// No slot and no room in the queue, or draining. Told of one that waited, too, if somebody who has less in the full
    /// queue came after it; never of one that has started.
    Overloaded,
    /// The engine failed.
    Engine,
    /// The pool asked for the end.
    Cancelled,
}

/// The worker's own counters for one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub prompt_tokens: u32,
    /// Part of `prompt_tokens` whose computation was reused.
    pub cached_tokens: u32,
    pub completion_tokens: u32,
    /// Part of `completion_tokens` that the model chose while it thought, the mark that ended its thoughts included. Known at
    /// the end alone; older workers do not tell it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reasoning_tokens: u32,
}

/// Milliseconds, measured in the worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    pub queued_ms: u32,
    pub prefill_ms: u32,
    /// From arrival to the first token.
    pub ttft_ms: u32,
    pub decode_ms: u32,
}
