//! Worker processes started by `serve`.

use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workers {
    /// Start and supervise workers for the offered models.
    pub enabled: bool,
    /// 0: a worker for each model. Else one for all, which keeps as many loaded as fit into so many MiB.
    pub memory_mib: u64,
    /// How long a model stays loaded at least before it makes room for another, in seconds.
    pub residence_seconds: u32,
    /// Conversations decoded at the same time.
    pub slots: u32,
    /// Tokens of context for one conversation.
    pub context_length: u32,
    /// Threads; 0: what the machine has.
    pub threads: u32,
    /// Tokens that a worker's context holds, prefix cache included; 0: two conversations of full length, four on a graphics card.
    pub cells: u32,
    /// How keys and values are stored: `f16`, `q8_0` or `q4_0`.
    pub cache_type: String,
    /// Guess tokens ahead from what was said before (n-gram speculation).
    pub speculation: bool,
    /// Keep the prefix cache in the data folder over a restart.
    pub keep_cache: bool,
    /// Layers on the graphics card; needs a build with the feature `cuda` or `vulkan`.
    pub gpu_layers: u32,
    /// For each group of cards workers of their own; empty: one worker for a model, which uses all cards.
    pub cards: Vec<Vec<usize>>,
}

impl Workers {
    pub(super) fn check(&self, wrong: &mut Vec<String>) {
        if !(1..=64).contains(&self.slots) {
            wrong.push("`workers.slots`: must lie between 1 and 64".into());
        }
        if self.context_length < 512 {
            wrong.push("`workers.context_length`: must be at least 512 tokens".into());
        }
        if let Err(error) = self.cache_type.parse::<worker::CacheType>() {
            wrong.push(format!("`workers.cache_type`: {error}"));
        }
    }
}
