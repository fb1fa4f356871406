//! Messages between the pool and a worker.
//!
//! Transport: HTTP/2, JSON bodies. Every call carries `Authorization: Bearer <token>`; the token is
//! random per worker process. A worker beside its pool gets it through its standard input, never through arguments or
//! the environment; one on another machine tells it when it registers ([`registration`]), and both sides authenticate
//! each other with certificates ([`tls`]).
//!
//! | call | answer |
//! |---|---|
//! | `GET /status` | [`Status`] |
//! | `POST /generate` with [`Generate`] | newline-delimited [`Event`]s, ended by exactly one [`Event::Done`] or [`Event::Failed`] |
//! | `POST /embed` with [`Embed`] | likewise |
//!
//! Closing the response stream cancels: the worker frees the sequence before its next decode step.

#[cfg(target_family = "wasm")]
compile_error!("`worker-protocol` is server-only");

pub mod registration;
pub mod tls;

use std::collections::BTreeMap;

use contract::model::Sampling;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Version of this protocol; a pool refuses a worker with another one.
pub const PROTOCOL: u32 = 4;

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
    /// What can be asked for, loaded or not.
    pub models: Vec<LoadedModel>,
    /// Sequences decoding or prefilling now.
    pub busy: u32,
    /// Requests waiting for a slot.
    pub queued: u32,
    /// Since start; for reconciliation with the ledger.
    pub totals: Totals,
    /// What the worker's machine draws, as far as its drivers tell; other workers of that machine tell the same.
    #[serde(default)]
    pub devices: Vec<Device>,
}

/// A processor or graphics card with a meter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// As its driver calls it.
    pub name: String,
    /// Draw now, in milliwatts.
    pub power_mw: Option<u64>,
    /// Energy in millijoules since some moment before now; never falls while the worker lives.
    pub energy_mj: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Loading,
    Ready,
    /// Finishes what it has, takes nothing new.
    Draining,
}

/// What a model can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelKind {
    /// Completes conversations.
    #[default]
    Chat,
    /// Turns texts into vectors of length 1.
    Embedding,
    /// Tells how well a document answers a query.
    Reranker,
}

/// Where a model is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelState {
    /// On disk; is loaded when it is asked for.
    Absent,
    Loading,
    #[default]
    Ready,
    /// Ends its running answers and makes room for another; is loaded again when it is asked for.
    Draining,
    /// It could not be loaded; is tried again later.
    Failed,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadedModel {
    pub id: String,
    #[serde(default)]
    pub kind: ModelKind,
    /// Of an embedding's vectors; 0 for other kinds.
    #[serde(default)]
    pub dimensions: u32,
    /// Tokens of context for one sequence (prompt and completion together).
    pub context_length: u32,
    /// Sequences that run at the same time.
    pub slots: u32,
    #[serde(default)]
    pub state: ModelState,
    /// Why it could not be loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Bytes that it takes, or would take: estimated, and measured once it was loaded. 0 if nobody knows.
    #[serde(default)]
    pub memory: u64,
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
    /// Models that were loaded.
    pub loads: u64,
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
    pub content: String,
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
    Pair { query: String, document: String },
}

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
    /// request, so that a crash after this line can be settled exactly up to it.
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
    /// All ended. `finish` is that of the first completion.
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
    /// The model ended after calling tools.
    ToolCalls,
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}
