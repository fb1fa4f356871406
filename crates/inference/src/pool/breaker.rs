//! A circuit breaker: who fails again and again is left alone for a while, then tried with one request.
//!
//! Health polls do not see everything: a server may answer its poll and fail every completion. No I/O.

use std::time::Duration;
use tokio::time::Instant;

/// Failures in a row that open the circuit.
const OPENS_AFTER: u32 = 5;
/// How long it stays open the first time; doubles with every trial that fails.
const OPEN_FIRST: Duration = Duration::from_secs(5);
const OPEN_MOST: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Failures in a row.
    failures: u32,
    /// Until when nothing is sent; `None`: closed.
    open_until: Option<Instant>,
    /// One request is on its way to find out.
    trial: bool,
}

impl Breaker {
    /// May a request be sent?
    pub(super) fn admits(&self, now: Instant) -> bool {
        self.open_until.is_none_or(|until| now >= until && !self.trial)
    }

    /// One is sent.
    pub(super) fn begin(&mut self) {
        self.trial = self.open_until.is_some();
    }

    /// It went well as far as the other side is concerned.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// It failed, and that is the other side's fault.
    pub(super) fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.trial = false;
        if self.failures >= OPENS_AFTER {
            let doubled = 2_u32.saturating_pow((self.failures - OPENS_AFTER).min(16));
            self.open_until = Some(now + OPEN_FIRST.saturating_mul(doubled).min(OPEN_MOST));
        }
    }

    /// It ended without telling anything, for example because the caller went away.
    pub(super) fn told_nothing(&mut self) {
        self.trial = false;
    }
}

#[cfg(test)]
mod tests {
    use super::{Breaker, OPEN_FIRST, OPEN_MOST, OPENS_AFTER};
    use std::time::Duration;
    use tokio::time::Instant;

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..OPENS_AFTER {
            assert!(breaker.admits(now));
            breaker.begin();
            breaker.failed(now);
        }
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_trial_closes_it() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert!(!breaker.admits(now));
        let later = now + OPEN_FIRST;
        assert!(breaker.admits(later));
        breaker.begin();
        assert!(!breaker.admits(later), "one trial at a time");
        breaker.succeeded();
        assert!(breaker.admits(later));
    }

    #[test]
    fn a_failed_trial_doubles_the_pause_up_to_a_limit() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        for expected in [10, 20, 40, 60, 60] {
            now += OPEN_MOST;
            breaker.begin();
            breaker.failed(now);
            assert!(!breaker.admits(now + Duration::from_secs(expected) - Duration::from_millis(1)));
            assert!(breaker.admits(now + Duration::from_secs(expected)));
        }
    }

    #[test]
    fn failures_with_successes_between_them_do_not_open_it() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..20 {
            breaker.failed(now);
            breaker.succeeded();
        }
        assert!(breaker.admits(now));
    }

    #[test]
    fn a_trial_whose_caller_left_makes_room_for_another() {
        let now = Instant::now();
        let mut breaker = opened(now);
        breaker.begin();
        breaker.told_nothing();
        assert!(breaker.admits(now + OPEN_FIRST));
    }
}
