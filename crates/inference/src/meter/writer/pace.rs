//! When how much of what waits is written.
//!
//! After a first entry more is gathered for a moment ([`GATHER`]). Then a window of the same length begins: what waits by then
//! is written in equal parts at equal distances, and what comes meanwhile is the next window's. So whatever comes evenly waits
//! for that moment, by when most uses are over, and nothing longer than twice that.
//!
//! A part is [`FEW`] uses or less, for which Postgres needs a millisecond or two: where it shares a core with requests, these
//! wait for no more than that. A window has at most [`PARTS`] parts: the more waits, the larger they are. Whoever is late,
//! because a statement took longer than a part's share of the window, takes all parts at once that are due by then: the less the
//! database keeps up, the fewer statements there are.

use std::time::Duration;
use tokio::time::Instant;

/// What comes within this time after a first entry is written after it: the longer, the more uses are opened and settled by one
/// statement, which costs half.
pub(super) const GATHER: Duration = Duration::from_millis(200);
/// Uses in one part, unless there are more than [`PARTS`] such parts.
const FEW: usize = 24;
const PARTS: u8 = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Pace {
    /// When the next part is due, or the next window begins.
    next: Instant,
    /// From one part to the next.
    step: Duration,
    /// Uses in each part.
    each: usize,
    /// Parts of this window that were not due yet.
    parts: u8,
}

impl Pace {
    /// The first entry came now.
    pub(super) fn begun(now: Instant) -> Self {
        Self { next: now + GATHER, step: GATHER, each: 0, parts: 0 }
    }

    /// Until something is due.
    pub(super) fn pause(&self, now: Instant) -> Duration {
        self.next.saturating_duration_since(now)
    }

    /// How many of the uses that wait are to be written now. What is told once is not told again.
    pub(super) fn due(&mut self, now: Instant, waiting: usize) -> usize {
        if self.parts == 0 && self.next <= now {
            self.begin(now, waiting);
        }
        let mut due = 0_usize;
        while self.parts > 0 && self.next <= now {
            due += self.each;
            self.next += self.step;
            self.parts -= 1;
        }
        due.min(waiting)
    }

    fn begin(&mut self, now: Instant, waiting: usize) {
        let parts = u8::try_from(waiting.div_ceil(FEW)).unwrap_or(PARTS).clamp(1, PARTS);
        *self = Self { next: now, step: GATHER / u32::from(parts), each: waiting.div_ceil(usize::from(parts)), parts };
    }
}

#[cfg(test)]
mod tests {
    use super::{FEW, GATHER, PARTS, Pace};
    use std::time::Duration;
    use tokio::time::Instant;

    /// What is due each time, and how long the last one waited, where nothing comes any more.
    fn written(waiting: usize) -> (Vec<usize>, Duration) {
        let began = Instant::now();
        let (mut pace, mut now, mut left, mut due) = (Pace::begun(began), began, waiting, Vec::new());
        while left > 0 {
            let pause = pace.pause(now);
            assert!(!pause.is_zero(), "{waiting}: something is left that was due");
            now += pause;
            due.push(pace.due(now, left));
            left -= due[due.len() - 1];
        }
        (due, now - began)
    }

    #[test]
    fn few_are_one_statement_after_the_window() {
        for waiting in [1, 3, FEW] {
            assert_eq!(written(waiting), (vec![waiting], GATHER));
        }
    }

    #[test]
    fn many_are_spread_over_the_window_in_small_parts() {
        let (due, lasted) = written(320);
        assert_eq!((due.len(), due[0], due[13]), (14, 23, 21), "{due:?}");
        assert!(lasted > GATHER + GATHER * 9 / 10 && lasted < 2 * GATHER, "{lasted:?}");
        assert_eq!(written(FEW + 1).0, [13, 12]);
    }

    #[test]
    fn the_more_wait_the_more_are_in_each_part() {
        for waiting in [1_000, 20_000, 50_000] {
            let (due, lasted) = written(waiting);
            assert_eq!(due.len(), usize::from(PARTS));
            assert_eq!((due[0], due.iter().sum::<usize>()), (waiting.div_ceil(usize::from(PARTS)), waiting));
            assert!(lasted < 2 * GATHER, "{lasted:?}");
        }
    }

    #[test]
    fn whoever_is_late_writes_all_that_is_due_at_once() {
        let began = Instant::now();
        let mut pace = Pace::begun(began);
        assert_eq!(pace.due(began + GATHER / 2, 320), 0, "more may come");
        let window = began + GATHER;
        assert_eq!(pace.due(window, 320), 23);
        assert_eq!(pace.due(window, 297), 0, "once");
        // Seven more parts are due in the middle of the window.
        assert_eq!(pace.due(window + GATHER / 2, 297), 7 * 23);
        let late = window + 3 * GATHER;
        assert_eq!(pace.due(late, 136), 136, "all that is left");
        assert_eq!(pace.pause(late), Duration::ZERO, "and what came meanwhile has waited for long");
        assert_eq!(pace.due(late, 2_400), 150);
    }

    #[test]
    fn what_comes_evenly_waits_for_one_window() {
        // So many in each millisecond: as many wait after a window as before it, and parts stay what they are.
        let began = Instant::now();
        let (mut pace, mut waiting, mut largest) = (Pace::begun(began), 0_usize, 0_usize);
        for ms in 0..2_000 {
            waiting += 1;
            let due = pace.due(began + Duration::from_millis(ms), waiting);
            waiting -= due;
            largest = largest.max(due);
            assert!(waiting <= 2 * 200, "{waiting} wait after {ms} ms");
        }
        assert!((1..=FEW).contains(&largest), "{largest}");
    }
}
