//! What a gateway adds: the way through it beside the direct way, which is measured before and after.

use std::time::Duration;

use super::client::Route;
use super::load::Load;
use super::sample::{P50, P99, Sample};
use crate::Result;
use crate::report::Figure;

/// The direct way may change by this part meanwhile; otherwise all is measured again, so often.
const MOVED: f64 = 0.10;
const ATTEMPTS: u32 = 3;

/// Both ways.
#[derive(Clone, Debug)]
pub struct Compared {
    pub direct: Sample,
    pub through: Sample,
    /// The part by which the direct way changed after all.
    pub moved: f64,
}

/// What the figures are called.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    pub p50: &'static str,
    pub p99: &'static str,
    pub added_p50: &'static str,
    pub added_p99: &'static str,
    pub moved: &'static str,
}

/// Where a scenario has one set of figures.
pub const NAMES: Names =
    Names { p50: "p50_us", p99: "p99_us", added_p50: "added_p50_us", added_p99: "added_p99_us", moved: "baseline_moved" };

impl Compared {
    /// Measures directly, through the gateway, and directly again.
    ///
    /// # Errors
    /// One of the ways fails.
    pub async fn measure(direct: impl AsyncFn() -> Result<Sample>, through: impl AsyncFn() -> Result<Sample>) -> Result<Self> {
        let mut attempt = 1;
        loop {
            let before = direct().await?;
            let through = through().await?;
            let after = direct().await?;
            let moved = moved(&before, &after);
            if moved <= MOVED || attempt == ATTEMPTS {
                return Ok(Self { direct: before.joined(after), through, moved });
            }
            eprintln!("  the direct way changed by {:.0} % meanwhile; once more", moved * 100.0);
            attempt += 1;
        }
    }

    /// In microseconds.
    pub fn added_us(&self, per_mille: usize) -> f64 {
        self.through.us(per_mille) - self.direct.us(per_mille)
    }

    /// In microseconds.
    pub fn figures(&self, clients: u32, names: &Names) -> Vec<Figure> {
        let mut figures = absolute(&self.through, clients, names);
        figures.extend([
            Figure::new(clients, names.added_p50, self.added_us(P50)),
            Figure::new(clients, names.added_p99, self.added_us(P99)),
            Figure::new(clients, names.moved, self.moved),
        ]);
        figures
    }
}

/// One way alone, in microseconds.
pub fn absolute(sample: &Sample, clients: u32, names: &Names) -> Vec<Figure> {
    vec![Figure::new(clients, names.p50, sample.us(P50)), Figure::new(clients, names.p99, sample.us(P99))]
}

/// One connection, one request after the other.
///
/// # Errors
/// Too many requests fail.
pub async fn one_by_one(route: &Route, prompt: &str, length: Duration) -> Result<Sample> {
    let body = route.body(prompt, false);
    let make = || route.request(&body);
    Load::new(route.addr(), &make).closed(1, length).await.sample()
}

fn moved(before: &Sample, after: &Sample) -> f64 {
    (after.us(P50) / before.us(P50) - 1.0).abs()
}

#[cfg(test)]
mod tests {
    use super::{ATTEMPTS, Compared, Sample};
    use crate::Result;
    use std::cell::Cell;
    use std::time::Duration;

    fn sample(us: u64) -> Sample {
        Sample::new(vec![Duration::from_micros(us)])
    }

    #[tokio::test]
    async fn what_is_added_is_the_difference_of_the_two_ways() {
        let direct = async || -> Result<Sample> { Ok(sample(100)) };
        let through = async || -> Result<Sample> { Ok(sample(350)) };
        let compared = Compared::measure(direct, through).await.unwrap();
        assert!((compared.added_us(500) - 250.0).abs() < 1e-6 && compared.moved < 1e-9);
    }

    #[tokio::test]
    async fn a_direct_way_that_changes_is_measured_again() {
        let (asked, runs) = (Cell::new(100), Cell::new(0));
        let direct = async || -> Result<Sample> {
            asked.set(asked.get() * 2);
            Ok(sample(asked.get()))
        };
        let through = async || -> Result<Sample> {
            runs.set(runs.get() + 1);
            Ok(sample(1_000_000))
        };
        let compared = Compared::measure(direct, through).await.unwrap();
        assert_eq!(runs.get(), ATTEMPTS);
        assert!((compared.moved - 1.0).abs() < 1e-9);
    }
}
