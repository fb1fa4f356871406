//! The services on top of an opened database.

use crate::config::Config;
use domain::{Clock, SystemClock};
use identity::{Identity, IdentityConfig};
use inference::{Catalogue, Inference, Pool};
use services::Services;
use std::sync::Arc;
use store::Db;

/// Everything that works on the database, built once.
#[derive(Clone)]
pub struct Product {
    pub db: Db,
    pub identity: Identity,
    pub inference: Inference,
    pub services: Services,
}

impl Product {
    /// Puts the parts together; starts nothing.
    #[must_use]
    pub fn new(config: &Config, db: Db, catalogue: Catalogue, pool: Pool) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let identity = identity(config, db.clone(), clock.clone());
        let inference = Inference::new(db.clone(), catalogue, pool, clock.clone());
        inference.keep_answers_within(config.response_cache.memory());
        let services = Services::new(db.clone(), inference.clone(), identity.clone(), clock);
        Self { db, identity, inference, services }
    }
}

/// Identity alone, for commands that need nothing else.
#[must_use]
pub fn identity(config: &Config, db: Db, clock: Arc<dyn Clock>) -> Identity {
    Identity::new(db, clock, IdentityConfig { session_days: config.identity.session_days, ..IdentityConfig::default() })
}
