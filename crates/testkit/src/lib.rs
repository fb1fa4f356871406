//! What the tests of all crates share: a database for each test, tenants and people, a worker without a model.
//!
//! Test code only: it panics where a product would return an error.

pub mod actors;
pub mod clock;
pub mod db;
mod eventually;
pub mod fake_classifier;
pub mod fake_provider;
pub mod fake_upstream;
pub mod fake_worker;
pub mod generation;
pub mod guardrails;
pub mod keys;
pub mod ledger;
pub mod quotas;
pub mod response_caches;
mod script;

pub use actors::{TestTenant, anybody, program, tenant, user};
pub use clock::TestClock;
pub use db::TestDb;
pub use eventually::eventually;
pub use fake_worker::{FakeWorker, inference};
