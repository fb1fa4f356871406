//! The response cache.

use super::{BY, output::Output};
use crate::{AnyError, cli::cache::CacheCommand, startup::product::Product};
use serde_json::{Value, json};
use store::response_caches::CacheTerms;

/// The commands about the response cache.
///
/// # Errors
/// The command is refused.
pub async fn execute(product: &Product, command: CacheCommand) -> Result<Output, AnyError> {
    let (identity, caches) = (&product.identity, &product.services.response_caches);
    match command {
        CacheCommand::SetResponseCache { tenant, ttl_seconds, memory_mib } => {
            let terms = CacheTerms { ttl_seconds, memory_mib };
            caches.set(BY, identity.tenant_by_slug(BY, &tenant).await?, terms).await?;
            Ok(Output::new(line(&tenant, terms), value(terms)))
        }
        CacheCommand::ShowResponseCache { tenant } => match caches.get(BY, identity.tenant_by_slug(BY, &tenant).await?).await? {
            None => Ok(Output::new(format!("No answers of {tenant} are kept."), Value::Null)),
            Some(terms) => Ok(Output::new(line(&tenant, terms), value(terms))),
        },
        CacheCommand::RemoveResponseCache { tenant } => {
            caches.remove(BY, identity.tenant_by_slug(BY, &tenant).await?).await?;
            Ok(Output::new(format!("No answers of {tenant} are kept any more."), json!({ "tenant": tenant })))
        }
    }
}

fn line(tenant: &str, terms: CacheTerms) -> String {
    format!("Answers of {tenant} are kept for {} s, in at most {} MiB of each node.", terms.ttl_seconds, terms.memory_mib)
}

fn value(terms: CacheTerms) -> Value {
    json!({ "ttl_seconds": terms.ttl_seconds, "memory_mib": terms.memory_mib })
}
