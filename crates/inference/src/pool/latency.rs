//! How soon a member's first output came of late, for each of its models. No I/O.

use std::{collections::HashMap, time::Duration};
use tokio::time::Instant;

/// The part that the newest observation has: the last ten or so count.
const NEWEST: f64 = 0.2;
/// After so long without an observation nobody knows: a member that was slow gets another chance.
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// What one that gave no output counts as at least: it must not stay unknown, nor look fast because it declines fast.
const UNANSWERED: Duration = Duration::from_secs(1);

/// Exponentially weighted means by model.
#[derive(Debug, Default)]
pub(super) struct Latencies(HashMap<String, Mean>);

#[derive(Clone, Copy, Debug)]
struct Mean {
    seconds: f64,
    at: Instant,
}

impl Latencies {
    /// A first output came after `took`.
    pub(super) fn observe(&mut self, model: &str, took: Duration, now: Instant) {
        let seconds = match self.known(model, now) {
            Some(mean) => mean.seconds + NEWEST * (took.as_secs_f64() - mean.seconds),
            None => took.as_secs_f64(),
        };
        self.0.insert(model.to_owned(), Mean { seconds, at: now });
    }

    /// No output came, which was clear after `took`.
    pub(super) fn penalise(&mut self, model: &str, took: Duration, now: Instant) {
        self.observe(model, took.max(UNANSWERED), now);
    }

    /// `None`: nobody knows, or not any more.
    pub(super) fn of(&self, model: &str, now: Instant) -> Option<Duration> {
        self.known(model, now).map(|mean| Duration::from_secs_f64(mean.seconds))
    }

    fn known(&self, model: &str, now: Instant) -> Option<Mean> {
        self.0.get(model).copied().filter(|mean| now.duration_since(mean.at) < KNOWN_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::{KNOWN_FOR, Latencies, UNANSWERED};
    use std::time::Duration;
    use tokio::time::Instant;

    #[test]
    fn the_mean_follows_slowly_and_is_forgotten() {
        let (mut latencies, now) = (Latencies::default(), Instant::now());
        assert_eq!(latencies.of("m", now), None);
        latencies.observe("m", Duration::from_secs(1), now);
        assert_eq!(latencies.of("m", now), Some(Duration::from_secs(1)));
        latencies.observe("m", Duration::from_secs(2), now);
        assert!((latencies.of("m", now).unwrap().as_secs_f64() - 1.2).abs() < 1e-6);
        assert_eq!(latencies.of("other", now), None);
        let later = now + KNOWN_FOR;
        assert_eq!(latencies.of("m", later), None);
        latencies.observe("m", Duration::from_secs(5), later);
        assert_eq!(latencies.of("m", later), Some(Duration::from_secs(5)), "what was forgotten has no part in it");
    }

    #[test]
    fn who_declines_at_once_is_not_fast() {
        let (mut latencies, now) = (Latencies::default(), Instant::now());
        latencies.penalise("m", Duration::from_millis(1), now);
        assert_eq!(latencies.of("m", now), Some(UNANSWERED));
        latencies.penalise("slow", Duration::from_secs(7), now);
        assert_eq!(latencies.of("slow", now), Some(Duration::from_secs(7)));
    }
}
