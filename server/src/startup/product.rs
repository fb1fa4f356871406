//! The services on top of an opened database.

use super::master_key::MasterKeyFile;
use crate::config::Config;
use domain::{Clock, SystemClock};
use identity::{Identity, IdentityConfig};
use inference::{Catalogue, Inference, Pool};
use services::{Services, UpstreamCredentials};
use std::{io, sync::Arc};
use store::Db;

/// The folder for journals of the ledger, in the data folder.
const JOURNALS: &str = "ledger";

/// Everything that works on the database, built once.
#[derive(Clone)]
pub struct Product {
    pub db: Db,
    pub identity: Identity,
    pub inference: Inference,
    pub services: Services,
    /// Keys of upstreams that the database keeps.
    pub upstream_credentials: UpstreamCredentials,
}

impl Product {
    /// Puts the parts together; starts nothing.
    #[must_use]
    pub fn new(config: &Config, db: Db, catalogue: Catalogue, pool: Pool) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let inference = Inference::new(db.clone(), catalogue, pool, clock.clone());
        Self::of(config, db, inference, clock)
    }

    /// The same for a process in which models are used: with the ledger's journal.
    ///
    /// # Errors
    /// The data folder cannot be written; the classifier of injections cannot be used.
    pub fn with_journal(config: &Config, db: Db, catalogue: Catalogue, pool: Pool) -> io::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let inference = Inference::with_journal(db.clone(), catalogue, pool, clock.clone(), &config.data_dir.join(JOURNALS))?;
        inference.keep_answers_within(config.response_cache.memory());
        if let Some(classifier) = config.guardrails.classifier.config() {
            inference.ask_classifier(classifier).map_err(io::Error::other)?;
        }
        Ok(Self::of(config, db, inference, clock))
    }

    fn of(config: &Config, db: Db, inference: Inference, clock: Arc<dyn Clock>) -> Self {
        let identity = identity(config, db.clone(), clock.clone());
        let services = Services::new(db.clone(), inference.clone(), identity.clone(), clock)
            .with_file_limits(config.files.limits())
            .with_open_batches(config.batches.open)
            .keeping_ledger(config.ledger.kept_days());
        let master_keys = Arc::new(MasterKeyFile::of(config));
        let upstream_credentials = UpstreamCredentials::new(db.clone(), inference.pool().clone(), master_keys);
        Self { db, identity, inference, services, upstream_credentials }
    }
}

/// Identity alone, for commands that need nothing else.
#[must_use]
pub fn identity(config: &Config, db: Db, clock: Arc<dyn Clock>) -> Identity {
    Identity::new(db, clock, IdentityConfig { session_days: config.identity.session_days, ..IdentityConfig::default() })
}
