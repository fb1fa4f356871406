//! What a worker is started with.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use telemetry::Tracer;

use crate::error::Error;
use crate::join::Join;

/// Shortest acceptable token: 32 characters of hex are 128 random bits.
pub const MIN_TOKEN_CHARS: usize = 32;
/// More sequences than this in one context slow each other down without gaining throughput.
const MAX_SLOTS: u32 = 64;
/// Most requests that may wait for a model: all of them are looked at before each step.
pub const MAX_WAITING: u32 = 4096;

/// Contexts' worth of cells where the options say nothing, on a graphics card and on the processor: there, without
/// flash attention, every token looks at all cells that are in use, whoever's they are.
const CARD_CELLS: u32 = 4;
const PROCESSOR_CELLS: u32 = 2;

/// How a worker process runs. [`Options::new`] gives the defaults, the fields are open to change.
#[derive(Clone)]
pub struct Options {
    /// Where to listen; port 0 takes a free one, which `Hello` then names.
    pub addr: SocketAddr,
    /// What callers present as `Authorization: Bearer …`.
    pub token: String,
    /// The pool on another machine that it belongs to: it registers there and takes mutual TLS alone. `None`: whoever
    /// started it is beside it and has the token.
    pub join: Option<Join>,
    /// At least one. A single one is loaded at once and for good, and the worker ends if it cannot be.
    pub models: Vec<ModelOptions>,
    /// Bytes that several models may take together, on all cards; `None`: as many as are free.
    pub memory: Option<u64>,
    /// A folder in which the worker processes of this machine lock files, so that one after the other loads a model into
    /// the same memory. It is made if it is not there. `None`: there are no others.
    pub lock_dir: Option<PathBuf>,
    /// How long a model stays at least before it makes room for another.
    pub residence: Duration,
    /// How long running answers may take to end after shutdown was asked for.
    pub drain_limit: Duration,
    /// Makes spans of answers whose caller sends a trace along; off by default.
    pub tracer: Tracer,
}

/// How one model runs. [`ModelOptions::new`] gives the defaults, the fields are open to change.
#[derive(Clone, Debug)]
pub struct ModelOptions {
    /// The name that requests use for it.
    pub id: String,
    /// A GGUF file.
    pub path: PathBuf,
    /// Never makes room for another.
    pub pinned: bool,
    /// Tokens of context for one sequence; `None`: 8192, or the model's training length if that is smaller.
    pub context_length: Option<u32>,
    /// Completions that run at the same time.
    pub slots: u32,
    /// Tokens that the context holds, of those that run and of the prefix cache; `None`: twice the context length,
    /// four times on a graphics card. At least one completion of full length always fits.
    pub cells: Option<u32>,
    /// How keys and values are stored.
    pub cache_type: CacheType,
    pub flash_attention: FlashAttention,
    /// Where the prefix cache is kept over a restart; `None`: nowhere.
    pub state_dir: Option<PathBuf>,
    /// Most bytes to keep there.
    pub state_limit: u64,
    /// After so long without work it is saved, one sequence after the other.
    pub state_quiet: Duration,
    /// Guess tokens ahead where a request does not say (n-gram speculation).
    pub speculate: bool,
    /// Threads that compute.
    pub threads: u32,
    /// Most tokens in one step. The engine takes fewer where the machine is slow, see `engine::batch::budget`.
    pub batch: u32,
    /// Layers on the graphics card; has a meaning only with the feature `cuda` or `vulkan`.
    pub gpu_layers: u32,
    /// Graphics cards to use, by their number; the layers are divided among them. Empty: all.
    pub cards: Vec<usize>,
    /// Requests that may wait for a slot, and that may wait until the model is loaded; 1 to 4,096. Whoever has few of them takes the
    /// place of whoever has most.
    pub queue_limit: u32,
}

/// How the context stores keys and values. Fewer bits hold more tokens in the same memory and cost a little
/// quality; quantised kinds need flash attention, which the context switches on where the back end has it: an option that
/// switches it off is refused beside them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheType {
    #[default]
    F16,
    Q8_0,
    Q4_0,
}

/// Whether attention is computed in one go, without writing its matrix down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlashAttention {
    /// As is best where the model runs.
    #[default]
    Auto,
    On,
    Off,
}

impl std::str::FromStr for FlashAttention {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            other => Err(format!("{other:?} is none of auto, on, off")),
        }
    }
}

impl std::str::FromStr for CacheType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f16" => Ok(Self::F16),
            "q8_0" => Ok(Self::Q8_0),
            "q4_0" => Ok(Self::Q4_0),
            other => Err(format!("{other:?} is none of f16, q8_0, q4_0")),
        }
    }
}

/// What may be said of one model in JSON; see [`ModelOptions`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FurtherModel {
    id: String,
    path: PathBuf,
    pinned: Option<bool>,
    context_length: Option<u32>,
    slots: Option<u32>,
    state_dir: Option<PathBuf>,
    gpu_layers: Option<u32>,
    /// 0: as if no model said so.
    cells: Option<u32>,
    cache_type: Option<CacheType>,
    flash_attention: Option<FlashAttention>,
}

impl FurtherModel {
    /// How it runs. What it does not say is as in `common`, but for the folder: no two models share one.
    #[must_use]
    pub fn over(self, common: &ModelOptions) -> ModelOptions {
        let common = common.clone();
        ModelOptions {
            id: self.id,
            path: self.path,
            pinned: self.pinned.unwrap_or(common.pinned),
            context_length: self.context_length.or(common.context_length),
            slots: self.slots.unwrap_or(common.slots),
            state_dir: self.state_dir,
            gpu_layers: self.gpu_layers.unwrap_or(common.gpu_layers),
            cells: self.cells.map_or(common.cells, |cells| (cells > 0).then_some(cells)),
            cache_type: self.cache_type.unwrap_or(common.cache_type),
            flash_attention: self.flash_attention.unwrap_or(common.flash_attention),
            ..common
        }
    }
}

impl ModelOptions {
    /// The defaults: 4 slots, all processors, 64 waiting requests.
    pub fn new(path: impl Into<PathBuf>, id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            path: path.into(),
            pinned: false,
            context_length: None,
            slots: 4,
            cells: None,
            cache_type: CacheType::F16,
            flash_attention: FlashAttention::Auto,
            speculate: true,
            state_dir: None,
            state_limit: 256 << 20,
            state_quiet: Duration::from_secs(20),
            threads: std::thread::available_parallelism().map_or(1, NonZero::get).try_into().unwrap_or(u32::MAX),
            batch: 256,
            gpu_layers: 0,
            cards: Vec::new(),
            queue_limit: 64,
        }
    }

    /// Tokens that the context holds, for completions of `context_length` tokens at most.
    pub(crate) fn cells(&self, context_length: u32) -> u32 {
        let contexts = if self.gpu_layers > 0 { CARD_CELLS } else { PROCESSOR_CELLS };
        self.cells.unwrap_or_else(|| context_length.saturating_mul(contexts)).max(context_length)
    }

    fn validate(&self) -> Result<(), Error> {
        let fail = |name, problem: String| Err(Error::Option { name, problem });
        if self.id.is_empty() {
            return fail("model_id", "must not be empty".into());
        }
        if self.slots == 0 || self.slots > MAX_SLOTS {
            return fail("slots", format!("must be 1 to {MAX_SLOTS}, is {}", self.slots));
        }
        if self.threads == 0 || self.threads > 1024 {
            return fail("threads", format!("must be 1 to 1024, is {}", self.threads));
        }
        // Every running sequence needs its token in every step, and prefill some room beside them.
        if self.batch < self.slots + 16 || self.batch > 4096 {
            return fail("batch", format!("must be {} (slots + 16) to 4096, is {}", self.slots + 16, self.batch));
        }
        // llama.cpp makes no such context and does not say why.
        if self.cache_type != CacheType::F16 && self.flash_attention == FlashAttention::Off {
            return fail("flash_attention", format!("must not be off where cache_type is {:?}: quantised values need it", self.cache_type));
        }
        if let Some(length) = self.context_length
            && !(64..=1 << 20).contains(&length)
        {
            return fail("context_length", format!("must be 64 to {}, is {length}", 1 << 20));
        }
        if self.queue_limit == 0 || self.queue_limit > MAX_WAITING {
            return fail("queue_limit", format!("must be 1 to {MAX_WAITING}, is {}", self.queue_limit));
        }
        Ok(())
    }
}

impl Options {
    /// The defaults: 127.0.0.1 with a free port, a minute's residence, no limit of memory, no other process.
    pub fn new(token: impl Into<String>, models: impl IntoIterator<Item = ModelOptions>) -> Self {
        Self {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            token: token.into(),
            join: None,
            models: models.into_iter().collect(),
            memory: None,
            lock_dir: None,
            residence: Duration::from_secs(60),
            drain_limit: Duration::from_secs(30),
            tracer: Tracer::default(),
        }
    }

    /// Refuses what cannot work, before anything is loaded.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let fail = |name, problem: String| Err(Error::Option { name, problem });
        if self.token.chars().count() < MIN_TOKEN_CHARS {
            return fail("token", format!("must have at least {MIN_TOKEN_CHARS} characters"));
        }
        if self.models.is_empty() {
            return fail("models", "must not be empty".into());
        }
        let mut ids = BTreeSet::new();
        if let Some(twice) = self.models.iter().find(|model| !ids.insert(&model.id)) {
            return fail("models", format!("{} occurs twice", twice.id));
        }
        self.join.iter().try_for_each(Join::validate)?;
        self.models.iter().try_for_each(ModelOptions::validate)
    }
}

/// Without the token, so that options can be logged.
impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("addr", &self.addr)
            .field("join", &self.join)
            .field("models", &self.models)
            .field("memory", &self.memory)
            .field("lock_dir", &self.lock_dir)
            .field("residence", &self.residence)
            .field("drain_limit", &self.drain_limit)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options::new("0123456789abcdef0123456789abcdef", [ModelOptions::new("model.gguf", "m")])
    }

    #[test]
    fn the_defaults_are_valid() {
        assert!(options().validate().is_ok());
    }

    #[test]
    fn each_bad_option_is_named() {
        type Spoil = fn(&mut Options);
        let bad: [(&str, Spoil); 10] = [
            ("token", |o| o.token = "short".into()),
            ("models", |o| o.models.clear()),
            ("twice", |o| o.models.push(o.models[0].clone())),
            ("slots", |o| o.models[0].slots = 0),
            ("threads", |o| o.models[0].threads = 0),
            ("batch", |o| o.models[0].batch = 8),
            ("context_length", |o| o.models[0].context_length = Some(1)),
            ("queue_limit", |o| o.models[0].queue_limit = 0),
            ("queue_limit", |o| o.models[0].queue_limit = MAX_WAITING + 1),
            ("flash_attention", |o| (o.models[0].cache_type, o.models[0].flash_attention) = (CacheType::Q8_0, FlashAttention::Off)),
        ];
        for (name, spoil) in bad {
            let mut options = options();
            spoil(&mut options);
            let text = options.validate().map_or_else(|error| error.to_string(), |()| String::new());
            assert!(text.contains(name), "{name}: {text}");
        }
    }

    #[test]
    fn a_further_model_is_like_the_others_where_it_says_nothing() {
        let common = ModelOptions {
            gpu_layers: 99,
            cells: Some(32_768),
            cache_type: CacheType::Q8_0,
            flash_attention: FlashAttention::On,
            ..ModelOptions::new("", "")
        };
        let read = |json: &str| serde_json::from_str::<FurtherModel>(json).map(|further| further.over(&common));
        let like = read(r#"{"id": "e", "path": "e.gguf"}"#).unwrap();
        assert_eq!((like.id.as_str(), like.gpu_layers, like.cells), ("e", 99, Some(32_768)));
        assert_eq!((like.cache_type, like.flash_attention), (CacheType::Q8_0, FlashAttention::On));
        let own =
            r#"{"id": "e", "path": "e.gguf", "gpu_layers": 0, "cells": 0, "cache_type": "f16", "flash_attention": "off", "slots": 2}"#;
        let own = read(own).unwrap();
        assert_eq!((own.gpu_layers, own.cells, own.slots), (0, None, 2));
        assert_eq!((own.cache_type, own.flash_attention), (CacheType::F16, FlashAttention::Off));
        for (json, named) in
            [(r#"{"id": "e", "path": "e", "cache_type": "q5"}"#, "q5"), (r#"{"id": "e", "path": "e", "layers": 1}"#, "layers")]
        {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn every_way_to_name_a_kind_is_the_same() {
        for (name, kind) in [("f16", CacheType::F16), ("q8_0", CacheType::Q8_0), ("q4_0", CacheType::Q4_0)] {
            assert_eq!(name.parse(), Ok(kind));
            assert_eq!(serde_json::from_value::<CacheType>(name.into()).unwrap(), kind);
        }
        for (name, kind) in [("auto", FlashAttention::Auto), ("on", FlashAttention::On), ("off", FlashAttention::Off)] {
            assert_eq!(name.parse(), Ok(kind));
            assert_eq!(serde_json::from_value::<FlashAttention>(name.into()).unwrap(), kind);
        }
    }

    #[test]
    fn the_log_never_shows_the_token() {
        assert!(
            !format!("{:?}", options()).contains("0123456789abcdef"),
            "If you are here because this failed: whoever reads the log could call the worker; keep the token out of Debug."
        );
    }
}
