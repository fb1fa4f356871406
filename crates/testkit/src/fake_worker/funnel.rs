//! The funnel over a fake worker.

use super::{FAKE_CONTEXT, FAKE_MODEL, FakeWorker};
use crate::TestDb;
use domain::{DataClass, SystemClock};
use inference::{Catalogue, Inference, ModelConfig, Pool, PoolTiming};
use std::{path::Path, sync::Arc, time::Duration};
use store::Db;
use worker_protocol::ModelKind;

/// [`FAKE_MODEL`] as configuration.
#[must_use]
pub fn fake_model() -> ModelConfig {
    ModelConfig {
        id: FAKE_MODEL.into(),
        name: "Fake model".into(),
        aliases: Vec::new(),
        description: "Says what a test scripted.".into(),
        kind: ModelKind::Chat,
        context_length: FAKE_CONTEXT,
        image_tokens: None,
        fallback: Vec::new(),
        default: true,
        purposes: Vec::new(),
        tenants: None,
        zones: Vec::new(),
        highest_class: DataClass::Restricted,
    }
}

/// A pool with quick polls and little patience, for tests.
#[must_use]
pub fn quick_pool() -> Pool {
    Pool::new(PoolTiming { poll: Duration::from_millis(50), answer: Duration::from_secs(2), wait: Duration::from_secs(3) })
}

/// The funnel over this database and this worker.
#[must_use]
pub fn inference(db: &TestDb, worker: &FakeWorker) -> Inference {
    let pool = quick_pool();
    pool.add("fake worker", worker.backend());
    let catalogue = Catalogue::new(vec![fake_model()]).expect("a valid catalogue");
    Inference::new(db.db.clone(), catalogue, pool, Arc::new(SystemClock))
}

/// The same with journals in a folder.
///
/// # Panics
/// If the folder cannot be written.
#[must_use]
pub fn inference_with_journal(db: Db, worker: &FakeWorker, folder: &Path) -> Inference {
    let pool = quick_pool();
    pool.add("fake worker", worker.backend());
    let catalogue = Catalogue::new(vec![fake_model()]).expect("a valid catalogue");
    Inference::with_journal(db, catalogue, pool, Arc::new(SystemClock), folder).expect("a folder for journals")
}
