//! llama.cpp's context and batch: the only place that computes.

use std::path::Path;
use std::time::{Duration, Instant};

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{KvCacheType, LlamaContextParams, LlamaPoolingType};
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;

use super::cells::Op;
use crate::error::Error;
use crate::model::backend;
use crate::options::{CacheType, FlashAttention, ModelOptions};
use crate::shared::Shared;
use crate::spin::Spin;

/// See the module.
pub struct Context<'a> {
    inner: LlamaContext<'a>,
    shared: &'a Shared,
    batch: LlamaBatch<'static>,
    /// That compute.
    threads: u32,
}

impl<'a> Context<'a> {
    /// A context of `cells` cells for `sequences` sequences.
    pub fn new(options: &ModelOptions, weights: &'a LlamaModel, shared: &'a Shared, cells: u32, sequences: u32) -> Result<Self, Error> {
        let threads = i32::try_from(options.threads).unwrap_or(1);
        let cache = match options.cache_type {
            CacheType::F16 => KvCacheType::F16,
            CacheType::Q8_0 => KvCacheType::Q8_0,
            CacheType::Q4_0 => KvCacheType::Q4_0,
        };
        let params = LlamaContextParams::default()
            .with_n_ctx(std::num::NonZero::new(cells))
            .with_n_seq_max(sequences)
            // One pool of cells: a shared beginning is stored once, and a step is one pass over the weights.
            .with_kv_unified(true)
            // Sliding-window models would forget what lies before the window, and with it every prefix.
            .with_swa_full(true)
            .with_flash_attention_policy(flash_attention(options))
            .with_type_k(cache)
            .with_type_v(cache)
            .with_n_batch(options.batch)
            .with_n_ubatch(options.batch)
            .with_n_threads(threads)
            .with_n_threads_batch(threads);
        let inner = weights
            .new_context(backend()?, params)
            .map_err(|error| Error::Engine(format!("no context of {cells} tokens: {error}; is there enough memory?")))?;
        let batch = LlamaBatch::new(usize::try_from(options.batch).unwrap_or(usize::MAX), 1);
        Ok(Self { inner, shared, batch, threads: options.threads })
    }

    /// A context that pools: `tokens` in a step, of at most `sequences` inputs.
    pub fn pooling(
        options: &ModelOptions,
        weights: &'a LlamaModel,
        shared: &'a Shared,
        tokens: u32,
        sequences: u32,
    ) -> Result<Self, Error> {
        let threads = i32::try_from(options.threads).unwrap_or(1);
        let params = LlamaContextParams::default()
            .with_n_ctx(std::num::NonZero::new(tokens))
            .with_n_seq_max(sequences)
            .with_kv_unified(true)
            .with_embeddings(true)
            // As the file says.
            .with_pooling_type(LlamaPoolingType::Unspecified)
            // An input that is not causal must be in one piece.
            .with_n_batch(tokens)
            .with_n_ubatch(tokens)
            .with_n_threads(threads)
            .with_n_threads_batch(threads);
        let inner =
            weights.new_context(backend()?, params).map_err(|error| Error::Engine(format!("no context of {tokens} tokens: {error}")))?;
        let batch = LlamaBatch::new(usize::try_from(tokens).unwrap_or(usize::MAX), 1);
        Ok(Self { inner, shared, batch, threads: options.threads })
    }

    /// What the inputs of sequence `seq` were pooled to in the last step.
    pub fn pooled(&self, seq: usize) -> Result<&[f32], Error> {
        self.inner.embeddings_seq_ith(signed(seq)?).map_err(engine)
    }

    /// Carries out what the books decided.
    pub fn apply(&mut self, ops: Vec<Op>) -> Result<(), Error> {
        for op in ops {
            match op {
                Op::Copy { from, to, start, end } => {
                    let (from, to) = (signed(from)?, signed(to)?);
                    self.inner.copy_kv_cache_seq(from, to, Some(unsigned(start)?), Some(unsigned(end)?)).map_err(engine)?;
                }
                Op::Remove { seq, start, end } => {
                    let end = end.map(unsigned).transpose()?;
                    let done = self.inner.clear_kv_cache_seq(Some(unsigned(seq)?), Some(unsigned(start)?), end).map_err(engine)?;
                    if !done {
                        return Err(Error::Engine(format!("llama.cpp does not carry out {op:?}")));
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes the cells of a sequence into a file; returns its size.
    pub fn save(&self, path: &Path, seq: usize, tokens: &[LlamaToken]) -> Result<u64, Error> {
        let written = self.inner.state_seq_save_file(path, signed(seq)?, tokens).map_err(engine)?;
        u64::try_from(written).map_err(engine)
    }

    /// Reads the `length` cells of an empty sequence from a file; returns their tokens.
    pub fn load(&mut self, path: &Path, seq: usize, length: usize) -> Result<Vec<LlamaToken>, Error> {
        let (tokens, _) = self.inner.state_seq_load_file(path, signed(seq)?, length).map_err(engine)?;
        if tokens.len() == length { Ok(tokens) } else { Err(Error::Engine(format!("{} tokens instead of {length}", tokens.len()))) }
    }

    /// Forgets everything that was computed.
    pub fn clear(&mut self) {
        self.inner.clear_kv_cache();
    }

    /// An empty step.
    pub fn begin_step(&mut self) {
        self.batch.clear();
    }

    /// Adds a token to the step; returns where its scores will be.
    pub fn add(&mut self, token: LlamaToken, position: usize, seq: usize, scores: bool) -> Result<i32, Error> {
        self.batch.add(token, signed(position)?, &[signed(seq)?], scores).map_err(engine)?;
        Ok(self.batch.n_tokens() - 1)
    }

    /// Computes the step.
    pub fn decode(&mut self) -> Result<Duration, Error> {
        let tokens = u32::try_from(self.batch.n_tokens()).map_err(engine)?;
        let turn = self.shared.house.turn.lock();
        let step = self.shared.pulse.begin(tokens);
        let began = Instant::now();
        self.inner.decode(&mut self.batch).map_err(engine)?;
        // Some back ends only queue the work in `decode`.
        self.inner.synchronize();
        let took = began.elapsed();
        drop((step, turn));
        if let Some(spin) = Spin::here() {
            spin.stepped(self.threads);
        }
        Ok(took)
    }

    /// The scores after the token at `index` of the step, which was added with `scores`.
    pub fn scores(&self, index: i32) -> &[f32] {
        self.inner.get_logits_ith(index)
    }
}

/// On processors llama.cpp's flash attention is slow unless 64 tokens are computed at once: an answer behind 512
/// tokens is written one and a half times as fast without it, behind 2,048 twice (docs/PERFORMANCE.md). Quantised
/// values need it.
pub fn flash_attention(options: &ModelOptions) -> llama_cpp_sys_2::llama_flash_attn_type {
    let plain = options.gpu_layers == 0 && options.cache_type == CacheType::F16;
    match options.flash_attention {
        FlashAttention::Auto if plain => llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_DISABLED,
        FlashAttention::Auto => llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_AUTO,
        FlashAttention::On => llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_ENABLED,
        FlashAttention::Off => llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_DISABLED,
    }
}

fn engine(error: impl std::fmt::Display) -> Error {
    Error::Engine(error.to_string())
}

fn signed(number: usize) -> Result<i32, Error> {
    i32::try_from(number).map_err(engine)
}

fn unsigned(number: usize) -> Result<u32, Error> {
    u32::try_from(number).map_err(engine)
}
