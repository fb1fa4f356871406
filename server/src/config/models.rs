//! Which models are offered.

use super::{Workers, grants, workers::attention};
use contract::usage::Purpose;
use domain::DataClass;
use inference::{ModelKind, Prefer};
use serde::Deserialize;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// The model of the cache that is offered when nothing is configured.
const DEFAULT_FILE: &str = "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf";

/// What is offered beside it if the cache has it: vectors of texts.
const EMBEDDING_FILE: &str = "multilingual-e5-small-q4_0.gguf";

/// Tokens that the usual embedding models and rerankers were trained for.
const OTHER_CONTEXT: u32 = 512;

/// Tokens that are set aside for a picture, where nothing is configured. An estimate: 3.75 megapixels by Anthropic's 750 to a
/// token, which is more than OpenAI's tiles or 1,536 patches come to; some models count more.
const USUAL_IMAGE: u32 = 5_000;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Models {
    /// The file to offer when `offered` is empty.
    pub default_path: Option<PathBuf>,
    /// After loading never empty, with exactly one default if any is for chats.
    pub offered: Vec<Model>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The name in requests and in the ledger.
    pub id: String,
    /// Other names that requests may have for it.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The name for people; the id if empty.
    #[serde(default)]
    pub name: String,
    /// One line on what it is good at.
    #[serde(default)]
    pub description: String,
    /// What it makes: `chat`, `embedding` or `reranker`.
    #[serde(default)]
    pub kind: ModelKind,
    /// The GGUF file that a worker of ours loads; `None`: an upstream runs it.
    pub path: Option<PathBuf>,
    /// Tokens of context for one conversation; `None`: `workers.context_length`, 512 if it is not for chats.
    pub context_length: Option<u32>,
    /// Conversations at the same time; `None`: `workers.slots`.
    pub slots: Option<u32>,
    /// Layers on the graphics card, 0: the processor computes it; `None`: `workers.gpu_layers`.
    pub gpu_layers: Option<u32>,
    /// Tokens that its context holds; `None`: `workers.cells`.
    pub cells: Option<u32>,
    /// How its keys and values are stored; `None`: `workers.cache_type`.
    pub cache_type: Option<String>,
    /// `None`: `workers.flash_attention`.
    pub flash_attention: Option<String>,
    /// Where models share a worker: it never makes room for another.
    #[serde(default)]
    pub pinned: bool,
    /// What a new chat takes; the first model if none says so.
    #[serde(default)]
    pub default: bool,
    /// Ids of models to take, in this order, where this one cannot be had.
    #[serde(default)]
    pub fallback: Vec<String>,
    /// What decides between workers and upstreams of the same order: `load`, `latency` or `cost`.
    #[serde(default)]
    pub prefer: Prefer,
    /// Tenants that may use it, by their short names; `None`: all.
    pub tenants: Option<BTreeSet<String>>,
    /// What it may be used for; empty: everything.
    #[serde(default)]
    pub purposes: Vec<Purpose>,
    /// Zones of the upstreams that may run it, also where they answer in its place; empty: all. Workers always may.
    #[serde(default)]
    pub zones: Vec<String>,
    /// Data of a higher class is not for it; `None`: all of it is.
    pub highest_class: Option<DataClass>,
    /// It takes pictures beside text, with every upstream that runs it. Workers take none.
    #[serde(default)]
    pub images: bool,
    /// Tokens that are set aside for each picture; `None`: 5000.
    pub image_tokens: Option<u32>,
}

impl Model {
    /// Tokens of context for one conversation.
    #[must_use]
    pub fn context_length(&self, workers: &Workers) -> u32 {
        let usual = if self.kind == ModelKind::Chat { workers.context_length } else { OTHER_CONTEXT };
        self.context_length.unwrap_or(usual)
    }

    /// Tokens that a picture counts as at most; `None`: it takes none.
    #[must_use]
    pub fn image_tokens(&self) -> Option<u32> {
        self.images.then(|| self.image_tokens.unwrap_or(USUAL_IMAGE))
    }

    /// What is wrong with what it says of pictures.
    fn wrong_images(&self) -> Option<&'static str> {
        match (self.images, self.image_tokens) {
            (true, _) if self.path.is_some() => Some("takes no images, because a worker runs it: only upstreams can see"),
            (true, _) if self.kind != ModelKind::Chat => Some("takes no images, because it makes no answers"),
            (true, Some(0)) => Some("has image_tokens = 0"),
            (false, Some(_)) => Some("has image_tokens, which are for images = true alone"),
            _ => None,
        }
    }

    /// Conversations at the same time.
    #[must_use]
    pub fn slots(&self, workers: &Workers) -> u32 {
        self.slots.unwrap_or(workers.slots)
    }

    /// Layers on the graphics card.
    #[must_use]
    pub fn gpu_layers(&self, workers: &Workers) -> u32 {
        self.gpu_layers.unwrap_or(workers.gpu_layers)
    }

    /// Tokens that its context holds; 0: as many as are usual where it runs.
    #[must_use]
    pub fn cells(&self, workers: &Workers) -> u32 {
        self.cells.unwrap_or(workers.cells)
    }

    /// How its keys and values are stored.
    #[must_use]
    pub fn cache_type<'a>(&'a self, workers: &'a Workers) -> &'a str {
        self.cache_type.as_deref().unwrap_or(&workers.cache_type)
    }

    /// Whether attention is computed without writing its matrix down.
    #[must_use]
    pub fn flash_attention<'a>(&'a self, workers: &'a Workers) -> &'a str {
        self.flash_attention.as_deref().unwrap_or(&workers.flash_attention)
    }

    /// A model known by its file alone: the name without quantisation and extension becomes the id.
    fn of_file(path: PathBuf) -> Self {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().to_lowercase()).unwrap_or_default();
        let id = match stem.rsplit_once("-q") {
            Some((base, quantisation)) if quantisation.starts_with(|first: char| first.is_ascii_digit()) => base.to_owned(),
            _ => stem,
        };
        let (name, description) = describe(&id);
        Self {
            id,
            aliases: Vec::new(),
            name,
            description,
            kind: ModelKind::Chat,
            path: Some(path),
            context_length: None,
            slots: None,
            gpu_layers: None,
            cells: None,
            cache_type: None,
            flash_attention: None,
            pinned: false,
            default: true,
            fallback: Vec::new(),
            prefer: Prefer::Load,
            tenants: None,
            purposes: Vec::new(),
            zones: Vec::new(),
            highest_class: None,
            images: false,
            image_tokens: None,
        }
    }
}

/// Friendly names of the models that the set-up fetches.
fn describe(id: &str) -> (String, String) {
    match id {
        "qwen2.5-coder-1.5b-instruct" => ("Qwen2.5 Coder 1.5B".into(), "General chat and programming; runs on this machine".into()),
        "qwen2.5-coder-0.5b-instruct" => ("Qwen2.5 Coder 0.5B".into(), "Small and quick; runs on this machine".into()),
        "multilingual-e5-small" => ("Multilingual E5 small".into(), "Vectors of texts in a hundred languages; runs on this machine".into()),
        _ => (id.to_owned(), String::new()),
    }
}

impl Models {
    /// Fills what was left open and checks the list.
    pub(super) fn complete(&mut self, cache: &Path, workers: &Workers, wrong: &mut Vec<String>) {
        if self.offered.is_empty() {
            let models = cache.join("models");
            self.offered.push(Model::of_file(self.default_path.clone().unwrap_or_else(|| models.join(DEFAULT_FILE))));
            let embedding = models.join(EMBEDDING_FILE);
            if self.default_path.is_none() && embedding.is_file() {
                self.offered.push(Model { kind: ModelKind::Embedding, default: false, ..Model::of_file(embedding) });
            }
        }
        let mut ids = BTreeSet::new();
        for model in &mut self.offered {
            if model.name.is_empty() {
                model.name.clone_from(&model.id);
            }
            if model.id.is_empty() {
                wrong.push("`models.offered`: a model has an empty id".into());
            } else if !ids.insert(model.id.clone()) {
                wrong.push(format!("`models.offered`: the id {} occurs twice", model.id));
            }
            if model.context_length(workers) < 512 {
                wrong.push(format!("`models.offered`: {} needs a context_length of at least 512 tokens", model.id));
            }
            if !(1..=64).contains(&model.slots(workers)) {
                wrong.push(format!("`models.offered`: slots of {} must lie between 1 and 64", model.id));
            }
            for problem in grants::problems(model.tenants.as_ref(), &model.zones) {
                wrong.push(format!("`models.offered`: {} {problem}", model.id));
            }
            if let Some(problem) = model.wrong_images() {
                wrong.push(format!("`models.offered`: {} {problem}", model.id));
            }
            // What all have in common is told once, of `workers`.
            if model.cache_type.is_some() || model.flash_attention.is_some() {
                for (field, problem) in attention(model.cache_type(workers), model.flash_attention(workers)) {
                    wrong.push(format!("`models.offered`: {field} of {}: {problem}", model.id));
                }
            }
        }
        for (id, alias) in self.offered.iter().flat_map(|model| model.aliases.iter().map(move |alias| (&model.id, alias))) {
            if alias.is_empty() {
                wrong.push(format!("`models.offered`: {id} has an empty alias"));
            } else if !ids.insert(alias.clone()) {
                wrong.push(format!("`models.offered`: the alias {alias} of {id} is the name of a model, or occurs twice"));
            }
        }
        match self.offered.iter().filter(|model| model.default).count() {
            0 => {
                if let Some(first) = self.offered.iter_mut().find(|model| model.kind == ModelKind::Chat) {
                    first.default = true;
                }
            }
            1 => {}
            _ => wrong.push("`models.offered`: more than one model is the default".into()),
        }
    }
}
