//! How long single uses stay in the ledger.

use serde::Deserialize;

/// The ledger of a budget's longest period, a year, may have to be counted anew.
const DAYS_MIN: u32 = 367;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// 0: for ever.
    pub retention_days: u32,
}

impl Ledger {
    pub(super) fn check(&self, wrong: &mut Vec<String>) {
        if (1..DAYS_MIN).contains(&self.retention_days) {
            wrong.push(format!(
                "`ledger.retention_days`: must be at least {DAYS_MIN}, or 0 to keep everything; budgets of a year are counted from it"
            ));
        }
    }

    /// Days that a use stays in the ledger; `None`: for ever.
    #[must_use]
    pub fn kept_days(&self) -> Option<u32> {
        Some(self.retention_days).filter(|days| *days > 0)
    }
}
