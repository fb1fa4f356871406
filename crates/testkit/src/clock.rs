//! A clock that a test turns.

use contract::Millis;
use domain::{Clock, SystemClock};
use std::sync::atomic::{AtomicI64, Ordering};

/// Stands still until it is turned.
#[derive(Debug)]
pub struct TestClock(AtomicI64);

impl Default for TestClock {
    /// Begins at the present: what Postgres stamps itself lies close by.
    fn default() -> Self {
        Self(AtomicI64::new(SystemClock.now()))
    }
}

impl TestClock {
    /// Turns it forward.
    pub fn advance(&self, by: std::time::Duration) {
        let by = i64::try_from(by.as_millis()).expect("less than 292 million years");
        self.0.fetch_add(by, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Millis {
        self.0.load(Ordering::Relaxed)
    }
}
