//! Kept answers for tests. Set terms before the first use: a node looks for news once a second.

use crate::TestDb;
use contract::ids::TenantId;
use store::{Reason, response_caches::CacheTerms};

/// Keeps a tenant's answers for so long, in as much memory as there is.
///
/// # Panics
/// If the database refuses it.
pub async fn keep_answers(db: &TestDb, tenant: TenantId, ttl_seconds: u32) {
    let tx = db.db.begin_system("test", Reason::Administration).await.expect("a transaction");
    tx.response_caches().set(tenant, CacheTerms { ttl_seconds, memory_mib: 1024 }).await.expect("terms");
    tx.commit().await.expect("committing");
}
