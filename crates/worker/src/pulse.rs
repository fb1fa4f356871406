//! Whether an engine comes to the end of its steps.
//!
//! A driver or a card may hang, and with it the thread that computes, while the process still answers all calls. What a step
//! may take is known only by those before it, and generously: whoever is taken for stuck is ended, with all its answers.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A step may take so many times what its tokens would have taken in the slowest step so far.
const GENEROUS: u32 = 4;
/// No step may take longer than this but the first; the second, to which nothing can be compared, may take as long.
const LONGEST: Duration = Duration::from_secs(10 * 60);

/// After so long without a step the system may have taken the weights from memory: the next one counts as a second one.
const REST: Duration = Duration::from_secs(5 * 60);

/// The steps of one engine. Anybody may look at any time.
#[derive(Default)]
pub struct Pulse(Mutex<Beat>);

/// A step that is being computed; it ends when this is dropped.
pub struct Step<'a>(&'a Pulse);

#[derive(Default)]
struct Beat {
    /// The step that is being computed: since when, and how many tokens it has.
    step: Option<(Instant, u32)>,
    /// The first step is over. It reads the weights from the disk, however long that takes, and says nothing about those
    /// after it.
    warm: bool,
    /// What a token took in the slowest step.
    slowest: Option<Duration>,
    /// When the last step was over.
    ended: Option<Instant>,
    /// The step comes after a rest.
    rested: bool,
}

impl Pulse {
    /// A step of so many tokens begins.
    pub fn begin(&self, tokens: u32) -> Step<'_> {
        self.0.lock().begin(Instant::now(), tokens);
        Step(self)
    }

    /// By how much the step that is being computed takes longer than it may; zero if it does not, or if there is none.
    pub fn overdue(&self) -> Duration {
        self.0.lock().overdue(Instant::now())
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        self.0.0.lock().end(Instant::now());
    }
}

impl Beat {
    fn begin(&mut self, now: Instant, tokens: u32) {
        self.rested = self.ended.is_some_and(|ended| now.saturating_duration_since(ended) > REST);
        self.step = Some((now, tokens.max(1)));
    }

    fn end(&mut self, now: Instant) {
        let Some((began, tokens)) = self.step.take() else { return };
        self.ended = Some(now);
        if std::mem::replace(&mut self.warm, true) && !self.rested {
            self.slowest = self.slowest.max(Some((now - began) / tokens));
        }
    }

    fn overdue(&self, now: Instant) -> Duration {
        let Some((began, tokens)) = self.step.filter(|_| self.warm) else { return Duration::ZERO };
        let usual =
            self.slowest.filter(|_| !self.rested).map_or(LONGEST, |slowest| slowest.saturating_mul(tokens.saturating_mul(GENEROUS)));
        (now - began).saturating_sub(usual.min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A beat after steps of so many tokens that took so long, and the time then.
    fn after(steps: &[(u32, Duration)]) -> (Beat, Instant) {
        let (mut beat, mut now) = (Beat::default(), Instant::now());
        for (tokens, took) in steps {
            beat.begin(now, *tokens);
            now += *took;
            beat.end(now);
        }
        (beat, now)
    }

    #[test]
    fn a_step_is_overdue_by_what_it_takes_beyond_four_times_the_slowest() {
        let (mut beat, now) = after(&[(1, 90 * SECOND), (1, SECOND / 10), (100, 2 * SECOND)]);
        assert_eq!(beat.overdue(now + 900 * SECOND), Duration::ZERO, "nothing is computed");
        beat.begin(now, 50);
        assert_eq!(beat.overdue(now + 20 * SECOND), Duration::ZERO, "50 tokens of a tenth of a second, four times");
        assert_eq!(beat.overdue(now + 50 * SECOND), 30 * SECOND);
        beat.end(now + 51 * SECOND);
        assert_eq!(beat.overdue(now + 900 * SECOND), Duration::ZERO);
    }

    #[test]
    fn long_inputs_on_slow_machines_are_not_overdue_and_what_hangs_is_nevertheless() {
        // An input of 8,192 tokens that are computed at once, at twenty tokens a second.
        let (mut beat, now) = after(&[(1024, 51 * SECOND), (1024, 51 * SECOND)]);
        beat.begin(now, 8192);
        assert_eq!(beat.overdue(now + 410 * SECOND), Duration::ZERO);
        assert_eq!(beat.overdue(now + LONGEST + SECOND), SECOND, "at some time there must be an end");
    }

    #[test]
    fn the_first_steps_may_take_long() {
        let (mut beat, now) = after(&[]);
        beat.begin(now, 1);
        assert_eq!(beat.overdue(now + 2 * LONGEST), Duration::ZERO, "a large model comes from a slow disk");
        let (mut beat, now) = after(&[(1, 120 * SECOND)]);
        beat.begin(now, 1);
        assert_eq!([LONGEST, LONGEST + SECOND].map(|passed| beat.overdue(now + passed)), [Duration::ZERO, SECOND]);
    }

    #[test]
    fn after_a_rest_a_step_may_take_as_long_as_a_second_one() {
        let (mut beat, now) = after(&[(1, SECOND), (1, SECOND / 10)]);
        let later = now + REST + SECOND;
        beat.begin(later, 1);
        assert_eq!([LONGEST, LONGEST + SECOND].map(|passed| beat.overdue(later + passed)), [Duration::ZERO, SECOND]);
        beat.end(later + 60 * SECOND);
        beat.begin(later + 60 * SECOND, 1);
        assert_eq!(beat.overdue(later + 70 * SECOND), 9 * SECOND + SECOND * 6 / 10, "it is no measure for those after it");
    }

    #[test]
    fn a_step_ends_however_it_is_left() {
        let pulse = Pulse::default();
        let step = pulse.begin(1);
        assert!(pulse.0.lock().step.is_some());
        drop(step);
        assert!(pulse.0.lock().step.is_none());
    }
}
