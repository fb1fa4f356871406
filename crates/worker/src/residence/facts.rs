//! What a model file says of itself before it is loaded, and what it will need.

use std::path::Path;

use llama_cpp_2::gguf::GgufContext;
use worker_protocol::{LoadedModel, ModelKind, ModelState};

use crate::engine::embed::STEP_TOKENS;
use crate::model::{context_length, kind, version};
use crate::options::{CacheType, ModelOptions};

/// Buffers that are there whatever the model: llama.cpp's own, vocabulary, template, grammar tables.
const ALWAYS: u64 = 48 << 20;

/// See the module.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its `memory` is an estimate of what weights, cells and buffers will take.
    pub info: LoadedModel,
    /// The part of it that is taken only when it is needed: the context for requests with a seed.
    pub later: u64,
    /// How many equal parts it is divided into where there are several cards: its layers and what follows them.
    pub parts: u32,
}

impl Facts {
    /// Reads the file's header; `None` if there is none. Loading will say why. `on_card`: what counts is the graphics
    /// card's memory, of which only the layers there take any.
    pub fn read(options: &ModelOptions, on_card: bool) -> Option<Self> {
        let file = std::fs::metadata(&options.path).ok()?.len();
        let header = Header::open(&options.path)?;
        let kind = kind(|key| header.text(key));
        let length = context_length(options, kind, header.number("context_length").unwrap_or(u32::MAX));
        let width = header.number("embedding_length").unwrap_or(0);
        let mut info = LoadedModel {
            id: options.id.clone(),
            kind,
            dimensions: if kind == ModelKind::Embedding { width } else { 0 },
            context_length: length,
            slots: options.slots,
            state: ModelState::Absent,
            problem: None,
            memory: 0,
            version: version(options),
        };
        let layers = header.number("block_count").unwrap_or(0);
        // llama.cpp counts what follows the last layer as one more.
        let parts = layers.saturating_add(1);
        let here = if on_card { options.gpu_layers.min(parts) } else { parts };
        let weights = (u128::from(file) * u128::from(here)).div_ceil(u128::from(parts));
        let (at_once, later) = working_memory(options, &header, &info, width, here.min(layers));
        info.memory = u64::try_from(weights).unwrap_or(file) + at_once + later + ALWAYS;
        Some(Self { info, later, parts })
    }
}

/// Cells of the cache, scores of a step, and what a step is computed in; and the same of the context that is made when
/// the first request with a seed comes. Cells are counted for so many `layers`.
fn working_memory(options: &ModelOptions, header: &Header, info: &LoadedModel, width: u32, layers: u32) -> (u64, u64) {
    let product = |factors: &[u32]| factors.iter().map(|factor| u64::from(*factor)).fold(1, u64::saturating_mul);
    let heads = header.number("attention.head_count").unwrap_or(1).max(1);
    let feed = header.number("feed_forward_length").unwrap_or(width * 4) * 2 + width * 4;
    if info.kind != ModelKind::Chat {
        let step = STEP_TOKENS.max(info.context_length);
        return (product(&[step, heads, step, 4]) + product(&[step, feed, 4]), 0);
    }
    // Not told by models whose layers differ; then every head has its own.
    let kept = header.number("attention.head_count_kv").unwrap_or(heads);
    let key = header.number("attention.key_length").unwrap_or(width / heads);
    let value = header.number("attention.value_length").unwrap_or(width / heads);
    // Of 32 values with their scale, in bits.
    let bits = match options.cache_type {
        CacheType::F16 => 512,
        CacheType::Q8_0 => 272,
        CacheType::Q4_0 => 144,
    };
    let context = |cells: u32| {
        let cache = product(&[layers, kept, key + value, cells]) / 32 * bits / 8;
        let attention = product(&[options.batch, heads, cells, 4]);
        cache + attention + product(&[options.batch, feed.max(header.vocabulary), 4])
    };
    (context(options.cells(info.context_length)), context(info.context_length))
}

/// The key-value pairs at a file's beginning.
struct Header {
    context: GgufContext,
    architecture: String,
    vocabulary: u32,
}

impl Header {
    fn open(path: &Path) -> Option<Self> {
        let context = GgufContext::from_file(path)?;
        let mut header = Self { context, architecture: String::new(), vocabulary: 0 };
        header.architecture = header.text("general.architecture")?;
        header.vocabulary = header.number("vocab_size").unwrap_or(160_000);
        Some(header)
    }

    fn find(&self, key: &str, of_type: llama_cpp_sys_2::gguf_type) -> Option<i64> {
        // llama.cpp ends the process if a value is read as another type than it is.
        Some(self.context.find_key(key)).filter(|at| *at >= 0 && self.context.kv_type(*at) == of_type)
    }

    /// A number of the model's architecture, e.g. `block_count`.
    fn number(&self, key: &str) -> Option<u32> {
        self.whole(&format!("{}.{key}", self.architecture))
    }

    fn whole(&self, key: &str) -> Option<u32> {
        self.find(key, llama_cpp_sys_2::GGUF_TYPE_UINT32).map(|at| self.context.val_u32(at))
    }

    /// A value as text, as llama.cpp gives them once a model is loaded.
    fn text(&self, key: &str) -> Option<String> {
        let at = self.find(key, llama_cpp_sys_2::GGUF_TYPE_STRING);
        at.and_then(|at| self.context.val_str(at).map(str::to_owned)).or_else(|| self.whole(key).map(|number| number.to_string()))
    }
}
