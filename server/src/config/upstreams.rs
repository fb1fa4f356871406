//! Servers that somebody else runs and that run models for us.

use super::{
    Models,
    address::{self, Fault},
    bootstrap::secret,
    grants,
};
use contract::usage::Purpose;
use domain::{DataClass, secret::Secret};
use inference::{Clearance, LengthField, ModelKind, StructuredField, UpstreamKind};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};

/// Tokens of an answer of Anthropic's whose length nobody bounded; every model since Claude 3.5 makes as many.
const LONGEST_ANSWER: u32 = 8192;
/// Seconds between two polls of a provider.
const PROVIDER_POLL: u32 = 30;
/// Bytes of the key of salts.
const SHORTEST_SALT_KEY: usize = 32;

/// Whose API it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    #[default]
    OpenAi,
    Azure,
    Anthropic,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// For logs, metrics and `/readyz`.
    pub name: String,
    /// `openai`, `azure` or `anthropic`.
    #[serde(default)]
    pub kind: Kind,
    /// Up to and including the version, e.g. `https://llm.example.org/v1`; of Azure the resource alone, e.g.
    /// `https://name.openai.azure.com`.
    pub base_url: String,
    /// Azure's `api-version`, e.g. `2024-10-21`.
    pub api_version: Option<String>,
    /// Sent as `Authorization: Bearer …`, as `api-key` to Azure, as `x-api-key` to Anthropic, unless the database keeps another
    /// one.
    #[serde(default, deserialize_with = "secret")]
    pub key: Option<Secret>,
    /// A file with the key, in place of `key`.
    pub key_file: Option<PathBuf>,
    /// A file with certificate authorities (PEM) to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// What it runs: the id among `models.offered` → its name there, which is the deployment's at Azure.
    pub models: BTreeMap<String, String>,
    /// Asked only if nothing of a lower order can be; workers have 0.
    #[serde(default = "one")]
    pub order: u32,
    /// Its share beside others of the same order if their weights differ; workers have 1.
    #[serde(default = "one")]
    pub weight: u32,
    /// What models cost there, in any unit that all upstreams have in common; for `prefer = "cost"` alone.
    #[serde(default)]
    pub cost: BTreeMap<String, f64>,
    /// Where it is, in a word of the operator's; `own` is the installation itself, where workers are. Without one it runs no model
    /// that has zones.
    pub zone: Option<String>,
    /// It gets no data of a higher class. What somebody else runs sees what most of an organisation's data is, and no more, unless
    /// the operator says so.
    #[serde(default = "internal")]
    pub highest_class: DataClass,
    /// Tenants that it works for, by their short names; `None`: all.
    pub tenants: Option<BTreeSet<String>>,
    /// What it is used for; empty: everything.
    #[serde(default)]
    pub purposes: Vec<Purpose>,
    /// The name of the field that bounds an answer: `max_tokens` or `max_completion_tokens`; the latter is Azure's default.
    pub max_tokens_field: Option<LengthField>,
    /// How it is told of regular expressions and grammars: `structured_outputs` or `guided`, as newer and older releases of
    /// vLLM have it. Without it requests for them are refused.
    pub structured_field: Option<StructuredField>,
    /// Gives each tenant a `cache_salt` of its own, made with this key of 32 bytes or more; for servers, such as vLLM, that
    /// share prefixes between requests of the same salt. All nodes need the same one.
    #[serde(default, deserialize_with = "secret")]
    pub cache_salt_key: Option<Secret>,
    /// A file with that key, in place of `cache_salt_key`.
    pub cache_salt_key_file: Option<PathBuf>,
    /// Tokens that an answer of Anthropic's has at most.
    pub longest_answer: Option<u32>,
    /// Seconds for which a good answer to a poll is believed; 0 polls it as often as workers. Default: 30 for Azure and
    /// Anthropic, else 0.
    pub poll_seconds: Option<u32>,
    /// Requests that it runs at the same time.
    #[serde(default = "thirty_two")]
    pub slots: u32,
    /// Seconds for a connection to be made.
    #[serde(default = "five")]
    pub connect_seconds: u32,
    /// Seconds for the first piece of an answer.
    #[serde(default = "two_minutes")]
    pub first_seconds: u32,
    /// Seconds between two pieces of an answer.
    #[serde(default = "one_minute")]
    pub idle_seconds: u32,
}

fn internal() -> DataClass {
    DataClass::Internal
}

fn one() -> u32 {
    1
}

fn five() -> u32 {
    5
}

fn thirty_two() -> u32 {
    32
}

fn one_minute() -> u32 {
    60
}

fn two_minutes() -> u32 {
    120
}

impl fmt::Debug for Upstream {
    /// Without the address: until it is checked it may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, kind, models, .. } = self;
        f.debug_struct("Upstream").field("name", name).field("kind", kind).field("models", models).finish_non_exhaustive()
    }
}

impl Upstream {
    /// A key stands in the configuration file itself.
    #[must_use]
    pub fn has_plain_key(&self) -> bool {
        let keys = [(&self.key, &self.key_file), (&self.cache_salt_key, &self.cache_salt_key_file)];
        keys.into_iter().any(|(key, file)| key.is_some() && file.is_none())
    }

    /// The kind with what belongs to it.
    #[must_use]
    pub fn kind(&self) -> UpstreamKind {
        match self.kind {
            Kind::OpenAi => UpstreamKind::OpenAi,
            Kind::Azure => UpstreamKind::Azure { api_version: self.api_version.clone().unwrap_or_default() },
            Kind::Anthropic => UpstreamKind::Anthropic { longest_answer: self.longest_answer.unwrap_or(LONGEST_ANSWER) },
        }
    }

    /// What it may see.
    #[must_use]
    pub fn clearance(&self) -> Clearance {
        let Self { zone, highest_class, tenants, purposes, .. } = self;
        Clearance { zone: zone.clone(), highest_class: *highest_class, tenants: tenants.clone(), purposes: purposes.clone() }
    }

    /// Where the length of an answer is bounded.
    #[must_use]
    pub fn length(&self) -> LengthField {
        let usual = if self.kind == Kind::Azure { LengthField::MaxCompletionTokens } else { LengthField::MaxTokens };
        self.max_tokens_field.unwrap_or(usual)
    }

    /// Seconds for which a good answer to a poll is believed.
    #[must_use]
    pub fn poll_seconds(&self) -> u32 {
        self.poll_seconds.unwrap_or(if self.kind == Kind::OpenAi { 0 } else { PROVIDER_POLL })
    }

    /// What a model costs there, in millionths.
    #[must_use]
    pub fn cost(&self, model: &str) -> u64 {
        // Checked to lie between 0 and a billion.
        self.cost.get(model).map_or(0, |cost| (cost * 1e6).round() as u64)
    }

    /// What belongs to one kind alone.
    fn check_kind(&self, mut complain: impl FnMut(String)) {
        let plain = |text: &String| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        match (&self.api_version, self.kind) {
            (Some(version), Kind::Azure) if plain(version) => {}
            (_, Kind::Azure) => complain("needs an api_version, such as 2024-10-21".into()),
            (Some(_), _) => complain("has an api_version, which is for kind = \"azure\" alone".into()),
            (None, _) => {}
        }
        if self.kind == Kind::Azure {
            if self.base_url.contains("/openai") {
                complain("has a base_url with a path: give the resource alone, or leave kind out for Azure's /openai/v1".into());
            }
            if let Some(deployment) = self.models.values().find(|deployment| !plain(deployment)) {
                complain(format!("has a deployment `{deployment}`: such names have letters, digits, `-`, `_` and `.`"));
            }
        }
        if self.kind == Kind::Anthropic && self.max_tokens_field.is_some() {
            complain("has a max_tokens_field, which kind = \"anthropic\" has no choice of".into());
        }
        let vllm = [
            ("structured_field", self.structured_field.is_some()),
            ("cache_salt_key", self.cache_salt_key.is_some() || self.cache_salt_key_file.is_some()),
        ];
        for (name, _) in vllm.into_iter().filter(|(_, given)| *given && self.kind != Kind::OpenAi) {
            complain(format!("has a {name}, which is for kind = \"openai\" alone"));
        }
        match self.longest_answer {
            Some(_) if self.kind != Kind::Anthropic => complain("has a longest_answer, which is for kind = \"anthropic\" alone".into()),
            Some(0) => complain("has longest_answer = 0".into()),
            _ => {}
        }
    }

    fn complete(&mut self, models: &Models, wrong: &mut Vec<String>) {
        let mut complain = |problem: String| wrong.push(format!("`upstreams`: {} {problem}", self.name));
        match address::fault(&self.base_url) {
            None => {}
            Some(Fault::Scheme) => complain("has a base_url that begins with neither https:// nor http://".into()),
            Some(Fault::Host) => complain("has a base_url without a host that can be read".into()),
            Some(Fault::Credentials) => complain("has a base_url with credentials: it is logged, so give them as key or key_file".into()),
            Some(Fault::Extras) => complain("has a base_url with a query or a fragment: give the address up to its path alone".into()),
        }
        self.base_url.truncate(self.base_url.trim_end_matches('/').len());
        if self.models.is_empty() {
            complain("runs no models".into());
        }
        for id in self.models.keys() {
            match models.offered.iter().find(|model| model.id == *id) {
                None => complain(format!("runs {id}, which is not among `models.offered`")),
                Some(model) if self.kind == Kind::Anthropic && model.kind != ModelKind::Chat => {
                    complain(format!("runs {id}, but kind = \"anthropic\" makes neither vectors nor scores"));
                }
                Some(_) => {}
            }
        }
        for (id, cost) in &self.cost {
            if !self.models.contains_key(id) {
                complain(format!("has a cost of {id}, which it does not run"));
            } else if !(0.0..=1e9).contains(cost) {
                complain(format!("has a cost of {id} that does not lie between 0 and 1000000000"));
            }
        }
        grants::problems(self.tenants.as_ref(), self.zone.as_slice()).into_iter().for_each(&mut complain);
        self.check_kind(&mut complain);
        for (key, value) in [
            ("slots", self.slots),
            ("weight", self.weight),
            ("connect_seconds", self.connect_seconds),
            ("first_seconds", self.first_seconds),
            ("idle_seconds", self.idle_seconds),
        ] {
            if value == 0 {
                complain(format!("has {key} = 0"));
            }
        }
        if let Some(file) = &self.ca_file
            && !file.is_file()
        {
            complain(format!("has a ca_file that does not exist: {}", file.display()));
        }
        read_key("key", &mut self.key, self.key_file.as_deref(), &mut complain);
        read_key("cache_salt_key", &mut self.cache_salt_key, self.cache_salt_key_file.as_deref(), &mut complain);
        if self.cache_salt_key.as_ref().is_some_and(|key| key.reveal().len() < SHORTEST_SALT_KEY) {
            complain(format!("has a cache_salt_key of less than {SHORTEST_SALT_KEY} bytes"));
        }
    }
}

/// Reads a key from its file, where that is given in place of the key itself.
fn read_key(name: &str, key: &mut Option<Secret>, file: Option<&Path>, mut complain: impl FnMut(String)) {
    match (&*key, file) {
        (Some(_), Some(_)) => complain(format!("has both {name} and {name}_file: give one of the two")),
        (None, Some(file)) => match std::fs::read_to_string(file) {
            Ok(text) => *key = Some(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned())),
            Err(error) => complain(format!("has a {name}_file that cannot be read: {}: {error}", file.display())),
        },
        _ => {}
    }
}

/// Fills what was left open and checks the list, and that each model is run by somebody.
pub(super) fn complete(upstreams: &mut [Upstream], models: &Models, wrong: &mut Vec<String>) {
    let mut names = BTreeSet::new();
    for upstream in upstreams.iter_mut() {
        if upstream.name.is_empty() || !names.insert(upstream.name.clone()) {
            wrong.push(format!("`upstreams`: the name `{}` is empty or occurs twice", upstream.name));
        }
        upstream.complete(models, wrong);
    }
    for model in models.offered.iter().filter(|model| model.path.is_none()) {
        if !upstreams.iter().any(|upstream| upstream.models.contains_key(&model.id)) {
            wrong.push(format!("`models.offered`: {} has no path and no upstream runs it", model.id));
        }
    }
}
