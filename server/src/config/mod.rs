//! Configuration: defaults → `kontor.toml` → environment `KONTOR__SECTION__KEY` → `*_file` for secrets.
//!
//! [`default.toml`](self) is at once the defaults and their documentation. Loading reports everything that
//! is wrong at once, each with the key and where it was set. This module and its sources are the only
//! place of the product that reads the environment.

mod address;
mod batches;
mod bootstrap;
mod database;
mod files;
mod grants;
mod guardrails;
mod identity;
mod layers;
mod ledger;
mod log;
mod metrics;
mod models;
mod pool;
mod response_cache;
mod secrets;
mod server;
mod sources;
pub(crate) mod traces;
mod upstreams;
mod workers;

pub use batches::Batches;
pub use bootstrap::Bootstrap;
pub use database::Database;
pub use files::Files;
pub use guardrails::{Classifier, Guardrails};
pub use identity::Identity;
pub use ledger::Ledger;
pub use log::{Log, LogFormat};
pub use metrics::Metrics;
pub use models::{Model, Models};
pub use pool::{Pool, PoolPort};
pub use response_cache::ResponseCache;
pub use secrets::Secrets;
pub use server::Server;
pub use sources::{Sources, foreign_variable};
pub use traces::Traces;
pub use upstreams::Upstream;
pub use workers::Workers;

use serde::Deserialize;
use std::{fmt, path::PathBuf};

/// The defaults, with a comment for each key.
pub const DEFAULT_TOML: &str = include_str!("default.toml");

/// Everything the product can be told. Construct it with [`Config::load`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// State that belongs to this installation.
    pub data_dir: PathBuf,
    /// Things that can be fetched again: models, the embedded Postgres.
    pub cache_dir: PathBuf,
    pub server: Server,
    pub metrics: Metrics,
    pub database: Database,
    pub identity: Identity,
    pub ledger: Ledger,
    pub log: Log,
    pub traces: Traces,
    pub bootstrap: Bootstrap,
    pub workers: Workers,
    pub pool: Pool,
    pub files: Files,
    pub batches: Batches,
    pub models: Models,
    pub response_cache: ResponseCache,
    pub guardrails: Guardrails,
    pub secrets: Secrets,
    #[serde(default)]
    pub upstreams: Vec<Upstream>,
    /// Where this came from, beside defaults and environment.
    #[serde(skip)]
    pub file: Option<PathBuf>,
}

impl Config {
    /// Merges the layers, reads secret files and checks the result.
    ///
    /// # Errors
    /// [`ConfigErrors`] with one line for each thing that is wrong.
    pub fn load(sources: &Sources) -> Result<Self, ConfigErrors> {
        let mut config: Self = layers::extract(sources)?;
        config.file.clone_from(&sources.file);
        let mut wrong = Vec::new();
        config.database.check(&mut wrong);
        config.server.check(&mut wrong);
        config.workers.check(&mut wrong);
        config.pool.check(&mut wrong);
        config.files.check(&mut wrong);
        config.batches.check(&mut wrong);
        config.response_cache.check(&mut wrong);
        config.guardrails.check(&mut wrong);
        config.bootstrap.check(&mut wrong);
        config.ledger.check(&mut wrong);
        config.log.check(&mut wrong);
        config.traces.complete(sources, &mut wrong);
        config.models.complete(&config.cache_dir, &config.workers, &mut wrong);
        upstreams::complete(&mut config.upstreams, &config.models, &mut wrong);
        if wrong.is_empty() { Ok(config) } else { Err(ConfigErrors(wrong)) }
    }
}

/// All that is wrong with a configuration, one readable line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<String>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} error(s):", self.0.len())?;
        self.0.iter().try_for_each(|line| write!(f, "\n  - {line}"))
    }
}

impl std::error::Error for ConfigErrors {}
