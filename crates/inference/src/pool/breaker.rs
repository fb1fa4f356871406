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
    trial: Option<Trial>,
    /// Trials so far.
    trials: u64,
}

/// A request that finds out whether it is over; no two of a breaker are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trial(u64);

impl Breaker {
    /// May a request be sent?
    pub(super) fn admits(&self, now: Instant) -> bool {
        self.open_until.is_none_or(|until| now >= until && self.trial.is_none())
    }

    /// One is sent, perhaps to find out.
    pub(super) fn begin(&mut self) -> Option<Trial> {
        if self.open_until.is_none() || self.trial.is_some() {
            return None;
        }
        self.trials += 1;
        self.trial = Some(Trial(self.trials));
        self.trial
    }

    /// The first output of a trial came: its answer may take minutes, and others need not wait for its end. It may still
    /// break off, and until one came to its end a single failure opens the circuit again.
    pub(super) fn answers(&mut self, trial: Trial) {
        if self.trial == Some(trial) {
            self.close();
        }
    }

    /// It went well as far as the other side is concerned.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.close();
    }

    /// It failed, and that is the other side's fault.
    pub(super) fn failed(&mut self, now: Instant, trial: Option<Trial>) {
        self.failures = self.failures.saturating_add(1);
        self.ended(trial);
        if self.failures >= OPENS_AFTER {
            let doubled = 2_u32.saturating_pow((self.failures - OPENS_AFTER).min(16));
            self.open_until = Some(now + OPEN_FIRST.saturating_mul(doubled).min(OPEN_MOST));
        }
    }

    /// It ended without telling anything, for example because the caller went away.
    pub(super) fn told_nothing(&mut self, trial: Option<Trial>) {
        self.ended(trial);
    }

    fn close(&mut self) {
        (self.open_until, self.trial) = (None, None);
    }

    /// What was begun before the circuit opened may end at any time, and makes no room for a second trial.
    fn ended(&mut self, trial: Option<Trial>) {
        if trial.is_some() && self.trial == trial {
            self.trial = None;
        }
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
            let trial = breaker.begin();
            assert_eq!(trial, None, "it is closed");
            breaker.failed(now, trial);
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
        assert!(breaker.begin().is_some());
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
            let trial = breaker.begin();
            breaker.failed(now, trial);
            assert!(!breaker.admits(now + Duration::from_secs(expected) - Duration::from_millis(1)));
            assert!(breaker.admits(now + Duration::from_secs(expected)));
        }
    }

    #[test]
    fn failures_with_successes_between_them_do_not_open_it() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..20 {
            breaker.failed(now, None);
            breaker.succeeded();
        }
        assert!(breaker.admits(now));
    }

    #[test]
    fn a_trial_whose_caller_left_makes_room_for_another() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let trial = breaker.begin();
        breaker.told_nothing(trial);
        assert!(breaker.admits(now + OPEN_FIRST));
    }

    #[test]
    fn a_trial_lets_others_in_with_its_first_output() {
        let now = Instant::now();
        let later = now + OPEN_FIRST;
        let mut breaker = opened(now);
        let trial = breaker.begin().expect("a trial");
        breaker.answers(trial);
        assert!(breaker.admits(later), "If you are here because this failed: one long answer keeps a server out that is well again.");
        assert_eq!(breaker.begin(), None, "it is closed");
        // It may have begun and come to nothing.
        breaker.failed(later, Some(trial));
        assert!(!breaker.admits(later + 2 * OPEN_FIRST - Duration::from_millis(1)), "as after a trial that failed");
        assert!(breaker.admits(later + 2 * OPEN_FIRST));
        let trial = breaker.begin().expect("a trial");
        breaker.answers(trial);
        breaker.succeeded();
        breaker.failed(later, None);
        assert!(breaker.admits(later), "after a whole answer five failures open it again");
    }

    #[test]
    fn only_its_own_end_ends_a_trial() {
        let now = Instant::now();
        let later = now + OPEN_MOST;
        let mut breaker = opened(now);
        let first = breaker.begin().expect("a trial");
        let alone = "If you are here because this failed: what was begun earlier makes room for a second trial.";
        breaker.told_nothing(None);
        assert!(!breaker.admits(later), "{alone}");
        breaker.failed(now, None);
        assert!(!breaker.admits(later), "{alone}");
        breaker.told_nothing(Some(first));
        assert!(breaker.admits(later));
        let second = breaker.begin().expect("a trial");
        breaker.told_nothing(Some(first));
        breaker.answers(first);
        assert!(!breaker.admits(later), "{alone}");
        breaker.told_nothing(Some(second));
        assert!(breaker.admits(later));
    }
}
