//! Durations, and what is told of them.

use std::time::Duration;

/// Many durations, shortest first.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    sorted: Vec<Duration>,
}

/// The median, in thousandths.
pub const P50: usize = 500;
pub const P99: usize = 990;

impl Sample {
    pub fn new(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        Self { sorted: durations }
    }

    /// Both together.
    pub fn joined(self, other: Self) -> Self {
        let mut all = self.sorted;
        all.extend(other.sorted);
        Self::new(all)
    }

    /// The shortest duration that so many thousandths of all do not exceed (nearest rank); `None` without any.
    pub fn at(&self, per_mille: usize) -> Option<Duration> {
        let rank = (self.sorted.len() * per_mille).div_ceil(1000);
        self.sorted.get(rank.saturating_sub(1)).copied()
    }

    /// [`Sample::at`] in microseconds; NaN without any.
    pub fn us(&self, per_mille: usize) -> f64 {
        self.at(per_mille).map_or(f64::NAN, |duration| duration.as_secs_f64() * 1e6)
    }

    /// [`Sample::at`] in milliseconds; NaN without any.
    pub fn ms(&self, per_mille: usize) -> f64 {
        self.us(per_mille) / 1e3
    }
}

/// A count as a figure.
#[expect(clippy::cast_precision_loss, reason = "counts and bytes are far below 2^52")]
pub fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::{P50, P99, Sample};
    use std::time::Duration;

    fn sample(ms: impl IntoIterator<Item = u64>) -> Sample {
        Sample::new(ms.into_iter().map(Duration::from_millis).collect())
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let hundred = sample((1..=100).rev());
        assert_eq!((hundred.at(P50), hundred.at(P99)), (Some(Duration::from_millis(50)), Some(Duration::from_millis(99))));
        assert_eq!((hundred.at(1000), hundred.at(0)), (Some(Duration::from_millis(100)), Some(Duration::from_millis(1))));
        // The hundredth of 99 is not there yet: the largest.
        assert_eq!(sample(1..=99).at(P99), Some(Duration::from_millis(99)));
        assert_eq!(sample([7]).at(P50), Some(Duration::from_millis(7)));
        assert_eq!(sample([]).at(P50), None);
        assert!(sample([]).ms(P99).is_nan());
    }

    #[test]
    fn units() {
        let two = sample([2]);
        assert!((two.us(P50) - 2_000.0).abs() < 1e-6 && (two.ms(P50) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn two_samples_become_one() {
        assert_eq!(sample([1, 5]).joined(sample([2, 3, 4])).at(P50), Some(Duration::from_millis(3)));
    }
}
