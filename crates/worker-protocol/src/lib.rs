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

use contract::model::Sampling;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Version of this protocol; a pool refuses a worker with another one.
pub const PROTOCOL: u32 = 1;

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
}

/// Make one completion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generate {
    /// The ledger's id of this use; appears in the worker's log.
    pub id: Uuid,
    pub model: String,
    /// Prefixes are shared only between requests of the same partition (tenant and data class).
    pub partition: String,
    pub messages: Vec<ChatMessage>,
    /// The last message is an unfinished answer that the completion goes on from.
    #[serde(default)]
    pub continue_last: bool,
    #[serde(default)]
    pub sampling: Sampling,
    /// Texts that end the completion; not part of it.
    #[serde(default)]
    pub stop: Vec<String>,
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
