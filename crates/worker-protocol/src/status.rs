//! What a worker is and does.

use serde::{Deserialize, Serialize};

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
    /// Milliseconds by which the step that an engine computes takes longer than such a step may; 0 if none does. Older
    /// workers do not tell.
    #[serde(default)]
    pub stuck_ms: u64,
    /// Since start; for reconciliation with the ledger.
    pub totals: Totals,
    /// What the worker's machine draws, as far as its drivers tell; other workers of that machine tell the same.
    #[serde(default)]
    pub devices: Vec<Device>,
}

/// A processor or graphics card with a meter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// As its driver calls it; no other one of the same machine has this name.
    pub name: String,
    /// The machine that it belongs to, the same for all workers there and for no other machine; empty: nobody knows.
    #[serde(default)]
    pub machine: String,
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
    /// Why it could not be loaded, or what its load waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Bytes that it takes, or would take: estimated, and measured once it was loaded. 0 if nobody knows.
    #[serde(default)]
    pub memory: u64,
    /// Another one for another file under the same name; what the same version said is still what it says. Empty if nobody
    /// knows.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
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
    /// Tokens that a schema or grammar left no choice about and that needed no step of their own; older workers count them
    /// among those guessed ahead.
    #[serde(default)]
    pub forced_tokens: u64,
    /// Cells of the prefix cache given up for room.
    pub evicted_cells: u64,
    /// Completions that made room for others for a while.
    pub pauses: u64,
    /// Models that were loaded.
    pub loads: u64,
}
