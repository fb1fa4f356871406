//! Whom models and upstreams are for, and where.

use std::collections::BTreeSet;

/// What is wrong with tenants and zones, each as the rest of a sentence. Whether such tenants exist is not asked: they may be made
/// later.
pub(super) fn problems(tenants: Option<&BTreeSet<String>>, zones: &[String]) -> Vec<String> {
    let mut problems = Vec::new();
    if tenants.is_some_and(BTreeSet::is_empty) {
        problems.push("has tenants = [], which is for nobody; leave it out for all".to_owned());
    }
    let plain = |slug: &str| !slug.is_empty() && slug.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if let Some(slug) = tenants.into_iter().flatten().find(|slug| !plain(slug)) {
        problems.push(format!("has a tenant {slug:?}: short names have lower-case letters, digits and hyphens"));
    }
    if zones.iter().any(|zone| zone.trim().is_empty()) {
        problems.push("has a zone without a name".to_owned());
    }
    problems
}
