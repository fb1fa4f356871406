//! Whom models and upstreams are for, and where.

use identity::is_slug;
use std::collections::BTreeSet;

/// What is wrong with tenants and zones, each as the rest of a sentence. Whether such tenants exist is not asked: they may be made
/// later.
pub(super) fn problems(tenants: Option<&BTreeSet<String>>, zones: &[String]) -> Vec<String> {
    let mut problems = Vec::new();
    if tenants.is_some_and(BTreeSet::is_empty) {
        problems.push("has tenants = [], which is for nobody; leave it out for all".to_owned());
    }
    if let Some(slug) = tenants.into_iter().flatten().find(|slug| !is_slug(slug)) {
        let names = "short names have 1 to 63 lower-case letters, digits and hyphens, and begin with a letter or digit";
        problems.push(format!("has a tenant {slug:?}: {names}"));
    }
    if zones.iter().any(|zone| zone.trim().is_empty()) {
        problems.push("has a zone without a name".to_owned());
    }
    problems
}
