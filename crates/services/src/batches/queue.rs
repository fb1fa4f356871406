//! The lines of a batch that were read and are not being asked: which of them comes next, and when.

use std::time::Duration;
use store::batch_runs::WaitingLine;
use tokio::time::Instant;

/// Lines of a batch that may wait in memory, and bytes of their bodies. With more it reads no further ones.
const MOST_SLEEPING: usize = 256;
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// A line that is asked once its time has come.
#[derive(Debug)]
pub(super) struct Sleeper {
    pub(super) line: WaitingLine,
    pub(super) until: Instant,
}

impl Sleeper {
    /// Its pause began at `since`, wherever it waited meanwhile.
    pub(super) fn since(since: Instant, line: WaitingLine) -> Self {
        Self { until: since + line.wait, line }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue(Vec<Sleeper>);

impl Queue {
    pub(super) fn add(&mut self, sleeper: Sleeper) {
        self.0.push(sleeper);
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= MOST_SLEEPING || self.0.iter().map(|sleeper| sleeper.line.body.len()).sum::<usize>() >= MOST_BYTES
    }

    /// The line whose time came first; one over which somebody died only with `suspects`.
    pub(super) fn next(&mut self, now: Instant, suspects: bool) -> Option<WaitingLine> {
        let due = self.0.iter().enumerate().filter(|(_, sleeper)| sleeper.until <= now && (suspects || !is_suspect(&sleeper.line)));
        let (at, _) = due.min_by_key(|(_, sleeper)| (sleeper.until, sleeper.line.number))?;
        Some(self.0.swap_remove(at).line)
    }

    /// When [`Self::next`] will have one.
    pub(super) fn due(&self, suspects: bool) -> Option<Instant> {
        self.0.iter().filter(|sleeper| suspects || !is_suspect(&sleeper.line)).map(|sleeper| sleeper.until).min()
    }
}

/// Whoever computed it died once. That may have been because of another line that ran at the same time, so it is never asked
/// beside another suspect, and the last time beside nothing at all: the one that is to blame is found, and ends no other one.
pub(super) fn is_suspect(line: &WaitingLine) -> bool {
    line.vain.breaks > 0
}

/// A pause, and a random part of it more: what broke at the same moment does not come again at the same moment.
pub(super) fn spread(pause: Duration) -> Duration {
    pause + pause.mul_f64(rand::random())
}

#[cfg(test)]
mod tests {
    use super::{MOST_BYTES, MOST_SLEEPING, Queue, Sleeper, spread};
    use std::time::Duration;
    use store::batch_runs::{InVain, WaitingLine};
    use tokio::time::Instant;

    const SECOND: Duration = Duration::from_secs(1);

    fn line(number: u32, wait: Duration, breaks: u32) -> WaitingLine {
        WaitingLine { number, body: "{}".into(), vain: InVain { breaks, ..InVain::default() }, wait }
    }

    #[test]
    fn a_pause_begins_when_the_line_is_read() {
        let (mut queue, read_at) = (Queue::default(), Instant::now());
        queue.add(Sleeper::since(read_at, line(1, 2 * SECOND, 0)));
        queue.add(Sleeper::since(read_at, line(2, Duration::ZERO, 0)));
        assert_eq!(queue.next(read_at, true).map(|line| line.number), Some(2));
        assert_eq!((queue.next(read_at, true), queue.due(true)), (None, Some(read_at + 2 * SECOND)));
        assert_eq!(queue.next(read_at + 2 * SECOND, true).map(|line| line.number), Some(1));
        assert_eq!(queue.due(true), None);
    }

    #[test]
    fn a_suspect_is_left_out_and_keeps_no_other_waiting() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(Sleeper::since(now, line(1, Duration::ZERO, 1)));
        queue.add(Sleeper::since(now, line(2, SECOND, 0)));
        assert_eq!(queue.next(now, false), None);
        assert_eq!(queue.due(false), Some(now + SECOND), "If you are here because this failed: a node looks again and again meanwhile.");
        assert_eq!(queue.next(now + SECOND, false).map(|line| line.number), Some(2));
        assert_eq!(queue.next(now + SECOND, true).map(|line| line.number), Some(1));
    }

    #[test]
    fn a_queue_is_full_by_lines_or_by_bytes() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for number in 1..u32::try_from(MOST_SLEEPING).unwrap() {
            queue.add(Sleeper::since(now, line(number, SECOND, 0)));
        }
        assert!(!queue.is_full());
        queue.add(Sleeper::since(now, line(1_000, SECOND, 0)));
        assert!(queue.is_full());
        let mut queue = Queue::default();
        queue.add(Sleeper::since(now, WaitingLine { body: "x".repeat(MOST_BYTES), ..line(1, SECOND, 0) }));
        assert!(queue.is_full());
    }

    #[test]
    fn what_broke_together_does_not_come_again_together() {
        let pauses: Vec<Duration> = (0..32).map(|_| spread(SECOND)).collect();
        assert!(pauses.iter().all(|pause| (SECOND..2 * SECOND).contains(pause)));
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
    }
}
