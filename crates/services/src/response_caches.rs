//! Whose answers are kept to be told again, for whoever administers it.

use crate::shared::Shared;
use contract::ids::TenantId;
use domain::{Error, Result};
use std::sync::Arc;
use store::{Reason, audit::AuditEvent, response_caches::CacheTerms};

/// A month: what is older was not asked for again.
const LONGEST_TTL_SECONDS: u32 = 30 * 24 * 60 * 60;
/// A terabyte.
const MOST_MEMORY_MIB: u32 = 1 << 20;

/// See the module. Methods take the name of who acts, for the audit trail.
#[derive(Clone)]
pub struct ResponseCaches {
    shared: Arc<Shared>,
}

impl ResponseCaches {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Lets a tenant's answers be kept on these terms, in the place of those that it has. They are in force everywhere within
    /// two seconds.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `ttl_seconds` or `memory_mib`.
    pub async fn set(&self, by: &str, tenant: TenantId, terms: CacheTerms) -> Result<()> {
        within("ttl_seconds", terms.ttl_seconds, LONGEST_TTL_SECONDS)?;
        within("memory_mib", terms.memory_mib, MOST_MEMORY_MIB)?;
        let tx = self.shared.db.begin_system(by, Reason::Administration).await?;
        tx.response_caches().set(tenant, terms).await?;
        let event = AuditEvent::new(by, "response_cache.set").target(tenant);
        let event = event.detail("ttl_seconds", terms.ttl_seconds).detail("memory_mib", terms.memory_mib);
        tx.audit(&event, Some(tenant)).await?;
        tx.commit().await
    }

    /// A tenant's terms; `None` if its answers are not kept.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn get(&self, by: &str, tenant: TenantId) -> Result<Option<CacheTerms>> {
        let tx = self.shared.db.begin_system(by, Reason::Administration).await?;
        let terms = tx.response_caches().get(tenant).await?;
        tx.commit().await?;
        Ok(terms)
    }

    /// Keeps nothing of a tenant any more. Nothing is told from then on, within two seconds; what is kept is gone everywhere
    /// within a quarter of a minute.
    ///
    /// # Errors
    /// [`Error::NotFound`] if nothing is kept.
    pub async fn remove(&self, by: &str, tenant: TenantId) -> Result<()> {
        let tx = self.shared.db.begin_system(by, Reason::Administration).await?;
        tx.response_caches().remove(tenant).await?;
        tx.audit(&AuditEvent::new(by, "response_cache.removed").target(tenant), Some(tenant)).await?;
        tx.commit().await
    }
}

fn within(field: &'static str, number: u32, most: u32) -> Result<()> {
    if (1..=most).contains(&number) {
        return Ok(());
    }
    Err(Error::invalid(field, "out_of_range", format!("{field} must lie between 1 and {most}.")))
}

#[cfg(test)]
mod tests {
    use super::within;
    use domain::Error;

    #[test]
    fn terms_are_checked() {
        assert!(within("ttl_seconds", 1, 10).is_ok() && within("ttl_seconds", 10, 10).is_ok());
        for wrong in [0, 11] {
            assert!(matches!(within("ttl_seconds", wrong, 10), Err(Error::Invalid { field: Some("ttl_seconds"), .. })), "{wrong}");
        }
    }
}
