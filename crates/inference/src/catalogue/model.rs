//! One model, as it is configured.

use crate::clearance::OWN_ZONE;
use contract::usage::Purpose;
use domain::{Actor, DataClass};
use serde::Deserialize;
use std::collections::BTreeSet;
use worker_protocol::ModelKind;

/// One model as the configuration describes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The name in requests and in the ledger, e.g. `qwen2.5-coder-1.5b-instruct`.
    pub id: String,
    /// Other names that requests may have for it, e.g. `gpt-4o`. Answers, ledger, limits and keys know the id alone.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The name shown to people.
    pub name: String,
    /// One line on what it is good at; may be empty.
    #[serde(default)]
    pub description: String,
    /// What it makes: completions, vectors or scores.
    #[serde(default)]
    pub kind: ModelKind,
    /// Tokens of context for one conversation, prompt and answer together.
    pub context_length: u32,
    /// Tokens that a picture counts as at most, where it takes pictures; absent: it takes text alone.
    #[serde(default)]
    pub image_tokens: Option<u32>,
    /// Models to take, in this order, where this one cannot be had; the actor must be granted them as well.
    #[serde(default)]
    pub fallback: Vec<String>,
    /// What a new chat takes when the user chose nothing. Without any such model the first one is it.
    #[serde(default)]
    pub default: bool,
    /// What it may be used for; empty means everything.
    #[serde(default)]
    pub purposes: Vec<Purpose>,
    /// Tenants that may use it, by their short names; absent means all.
    #[serde(default)]
    pub tenants: Option<BTreeSet<String>>,
    /// Where those may be who run it, also where they answer in its place; empty means anywhere. Workers may always.
    #[serde(default)]
    pub zones: Vec<String>,
    /// Data of a higher class is not for it.
    #[serde(default = "restricted")]
    pub highest_class: DataClass,
}

fn restricted() -> DataClass {
    DataClass::Restricted
}

impl ModelConfig {
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.id == name || self.aliases.iter().any(|alias| alias == name)
    }

    pub(super) fn granted_to(&self, actor: &Actor) -> bool {
        let known = |tenants: &BTreeSet<String>| actor.tenant_slug().is_some_and(|slug| tenants.contains(&**slug));
        self.tenants.as_ref().is_none_or(known) && actor.class() <= self.highest_class && actor.allows_model(&self.id)
    }

    /// It may be used in this zone.
    pub(crate) fn lies_in(&self, zone: Option<&str>) -> bool {
        self.zones.is_empty() || zone.is_some_and(|zone| zone == OWN_ZONE || self.zones.iter().any(|allowed| allowed == zone))
    }

    pub(super) fn serves(&self, purpose: Purpose) -> bool {
        self.kind == kind_for(purpose) && (self.purposes.is_empty() || self.purposes.contains(&purpose))
    }
}

/// The kind of model that can do it.
fn kind_for(purpose: Purpose) -> ModelKind {
    match purpose {
        Purpose::Chat | Purpose::TemporaryChat | Purpose::Title | Purpose::Api => ModelKind::Chat,
        Purpose::Embedding => ModelKind::Embedding,
        Purpose::Rerank => ModelKind::Reranker,
    }
}
