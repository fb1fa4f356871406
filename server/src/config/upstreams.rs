//! Servers that speak the OpenAI protocol and run models for us.

use super::{Models, bootstrap::secret};
use domain::secret::Secret;
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// For logs, metrics and `/readyz`.
    pub name: String,
    /// Up to and including the version, e.g. `https://llm.example.org/v1`.
    pub base_url: String,
    /// Sent as `Authorization: Bearer …`.
    #[serde(default, deserialize_with = "secret")]
    pub key: Option<Secret>,
    /// A file with the key, in place of `key`.
    pub key_file: Option<PathBuf>,
    /// A file with certificate authorities (PEM) to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// What it runs: the id among `models.offered` → its name there.
    pub models: BTreeMap<String, String>,
    /// Asked only if nothing of a lower order can be; workers have 0.
    #[serde(default = "one")]
    pub order: u32,
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

impl Upstream {
    fn complete(&mut self, models: &Models, wrong: &mut Vec<String>) {
        let mut complain = |problem: String| wrong.push(format!("`upstreams`: {} {problem}", self.name));
        if !self.base_url.starts_with("http://") && !self.base_url.starts_with("https://") {
            complain("has a base_url that begins with neither https:// nor http://".into());
        }
        self.base_url.truncate(self.base_url.trim_end_matches('/').len());
        if self.models.is_empty() {
            complain("runs no models".into());
        }
        for id in self.models.keys() {
            if !models.offered.iter().any(|model| model.id == *id) {
                complain(format!("runs {id}, which is not among `models.offered`"));
            }
        }
        for (key, value) in [
            ("slots", self.slots),
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
        match (&self.key, &self.key_file) {
            (Some(_), Some(_)) => complain("has both key and key_file: give one of the two".into()),
            (None, Some(file)) => match std::fs::read_to_string(file) {
                Ok(text) => self.key = Some(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned())),
                Err(error) => complain(format!("has a key_file that cannot be read: {}: {error}", file.display())),
            },
            _ => {}
        }
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
