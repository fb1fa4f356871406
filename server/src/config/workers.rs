//! Worker processes started by `serve`.

use serde::Deserialize;
use worker::{CacheType, FlashAttention, MAX_WAITING};

/// A terabyte.
const MOST_CACHE_MIB: u64 = 1 << 20;

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
    /// Attention without writing its matrix down: `auto`, `on` or `off`.
    pub flash_attention: String,
    /// Requests that may wait for a model's slots. Beyond that, whoever has fewest waiting takes the place of the latest one
    /// of whoever has most.
    pub queue_limit: u32,
    /// Guess tokens ahead from what was said before (n-gram speculation).
    pub speculation: bool,
    /// Keep the prefix cache in the data folder over a restart.
    pub keep_cache: bool,
    /// Most that is kept of a worker's prefix cache of one model, in MiB.
    pub cache_mib: u64,
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
        for (field, problem) in attention(&self.cache_type, &self.flash_attention) {
            wrong.push(format!("`workers.{field}`: {problem}"));
        }
        if !(1..=MAX_WAITING).contains(&self.queue_limit) {
            wrong.push(format!("`workers.queue_limit`: must lie between 1 and {MAX_WAITING}"));
        }
        if !(1..=MOST_CACHE_MIB).contains(&self.cache_mib) {
            wrong.push(format!("`workers.cache_mib`: must lie between 1 and {MOST_CACHE_MIB}; `workers.keep_cache = false` keeps nothing"));
        }
    }
}

/// What is wrong with `cache_type` and `flash_attention`, each with the key's name.
pub(super) fn attention(cache_type: &str, flash_attention: &str) -> Vec<(&'static str, String)> {
    match (cache_type.parse::<CacheType>(), flash_attention.parse::<FlashAttention>()) {
        (Ok(CacheType::Q8_0 | CacheType::Q4_0), Ok(FlashAttention::Off)) => {
            vec![("flash_attention", format!("cannot be off where cache_type is {cache_type}"))]
        }
        (cache_type, flash_attention) => {
            let wrong = [("cache_type", cache_type.err()), ("flash_attention", flash_attention.err())];
            wrong.into_iter().filter_map(|(field, problem)| Some((field, problem?))).collect()
        }
    }
}
