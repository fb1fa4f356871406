//! Messages between the pool and a worker.
//!
//! Transport: HTTP/2, JSON bodies. Every call carries `Authorization: Bearer <token>`; the token is
//! random per worker process and handed over through its standard input, never through arguments or the
//! environment.
//!
//! | call | answer |
//! |---|---|
//! | `GET /status` | [`Status`] |
//! | `POST /generate` with [`Generate`] | newline-delimited [`Event`]s, ended by exactly one [`Event::Done`] or [`Event::Failed`] |
//!
//! Closing the response stream cancels: the worker frees the sequence before its next decode step.

#[cfg(target_family = "wasm")]
compile_error!("`worker-protocol` is server-only");

use std::collections::BTreeMap;

use contract::model::Sampling;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Version of this protocol; a pool refuses a worker with another one.
pub const PROTOCOL: u32 = 2;

/// First line that a worker prints on standard output, as JSON, once it listens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    pub protocol: u32,
    /// Where it listens, e.g. `127.0.0.1:41234`.
    pub addr: String,
}

/// What a worker is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub protocol: u32,
    pub state: State,
    /// The loaded model; `None` while loading.
    pub model: Option<LoadedModel>,
    /// Sequences decoding or prefilling now.
    pub busy: u32,
    /// Requests waiting for a slot.
    pub queued: u32,
    /// Since start; for reconciliation with the ledger.
    pub totals: Totals,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Loading,
    Ready,
    /// Finishes what it has, takes nothing new.
    Draining,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadedModel {
    pub id: String,
    /// Tokens of context for one sequence (prompt and completion together).
    pub context_length: u32,
    /// Sequences that run at the same time.
    pub slots: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub requests: u64,
    pub prompt_tokens: u64,
    pub cached_tokens: u64,
    pub completion_tokens: u64,
    /// Tokens that went through the model: what was not cached, computed anew after a pause, or tried in vain.
    pub evaluated_tokens: u64,
    /// Tokens guessed ahead (speculation), and how many of them were right.
    pub drafted_tokens: u64,
    pub accepted_tokens: u64,
    /// Cells of the prefix cache given up for room.
    pub evicted_cells: u64,
    /// Completions that made room for others for a while.
    pub pauses: u64,
}

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
    /// Text that this grammar in llguidance's dialect of Lark admits.
    Lark(String),
}

/// Make one completion.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Generate {
    /// The ledger's id of this use; appears in the worker's log.
    pub id: Uuid,
    pub model: String,
    /// Prefixes are shared only between requests of the same partition (tenant and data class).
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
    /// So many messages at the beginning are kept computed as long as there is room for pins (a quarter of
    /// the context): an assistant's instructions, for example.
    #[serde(default)]
    pub pinned_messages: u32,
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
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    pub role: ChatRole,
    pub content: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChatRole {
    System,
    User,
    Assistant,
}

/// One line of the answer to `POST /generate`.
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
    /// Whole characters. `completion_tokens` counts what has been produced so far, so that a crash
    /// after this line can be settled exactly up to it.
    Text {
        text: String,
        completion_tokens: u32,
        /// Of the tokens since the last such event, if asked for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        logprobs: Vec<TokenLogprob>,
    },
    Done {
        finish: Finish,
        usage: Usage,
        timings: Timings,
    },
    Failed {
        code: FailCode,
        message: String,
        usage: Usage,
    },
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailCode {
    /// The prompt alone does not fit; refused before any decoding.
    ContextLengthExceeded,
    /// The request makes no sense to this worker (unknown model, bad sampling value).
    Invalid,
    /// No slot and no room in the queue, or draining.
    Overloaded,
    /// The engine failed.
    Engine,
}

/// The worker's own counters for one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub prompt_tokens: u32,
    /// Part of `prompt_tokens` whose computation was reused.
    pub cached_tokens: u32,
    pub completion_tokens: u32,
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
