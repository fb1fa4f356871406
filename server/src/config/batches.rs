//! Requests that nobody waits for.

use serde::Deserialize;

/// More lines at a time only wait for the pool.
const MOST_PARALLEL: usize = 256;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batches {
    /// Lines of batches that this process has answered at the same time; 0: it leaves them to others.
    pub parallel: usize,
    /// Batches of a service account that have not ended.
    pub open: u32,
}

impl Batches {
    pub(super) fn check(&self, wrong: &mut Vec<String>) {
        if self.parallel > MOST_PARALLEL {
            wrong.push(format!("`batches.parallel`: must be at most {MOST_PARALLEL}"));
        }
        if self.open == 0 {
            wrong.push("`batches.open`: must be at least 1".into());
        }
    }
}
