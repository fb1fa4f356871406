//! Answers that are told again.

use serde::Deserialize;

/// A terabyte.
const MOST_MIB: u32 = 1 << 20;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResponseCache {
    /// What the answers of all tenants may take in this process, in MiB; 0: none are kept.
    pub memory_mib: u32,
}

impl ResponseCache {
    pub(super) fn check(&self, wrong: &mut Vec<String>) {
        if self.memory_mib > MOST_MIB {
            wrong.push(format!("`response_cache.memory_mib`: must be at most {MOST_MIB}"));
        }
    }

    /// The same in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        usize::try_from(self.memory_mib).unwrap_or(usize::MAX).saturating_mul(1 << 20)
    }
}
