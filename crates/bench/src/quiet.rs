//! Is the machine quiet enough to measure, and did it stay so? Threads that compute together wait for the slowest, so a
//! compiler beside them costs not its share but nearly everything.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Result;
use crate::gateway::proc;

const SAMPLE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(120);
/// Part of all processors' time that others may take: before a measurement, and during it.
const TOLERATED: f64 = 0.05;
/// At most so often a measurement is made that others disturb.
const ATTEMPTS: usize = 4;

/// Waits until it is.
pub async fn wait() -> Result<()> {
    let begin = Instant::now();
    loop {
        let busy = busy_part().await?;
        if busy <= TOLERATED {
            return Ok(());
        }
        if begin.elapsed() > PATIENCE {
            return Err(
                format!("the machine is busy ({:.0} % of its processors); stop what else runs, or pass --busy", busy * 100.0).into()
            );
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn busy_part() -> Result<f64> {
    let begin = Ticks::now()?;
    tokio::time::sleep(SAMPLE).await;
    Ok(Ticks::now()?.others_since(begin, 0))
}

/// Watches what others take of the processors while something is measured.
pub struct Watch {
    /// Processes that belong to the measurement with all below them: this one, and databases that are nobody's children.
    trees: Vec<u32>,
    begin: Ticks,
    own: u64,
}

impl Watch {
    /// Begins. `besides` are processes that belong to the measurement though this one did not start them.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn begin(besides: impl IntoIterator<Item = u32>) -> Result<Self> {
        let trees: Vec<u32> = std::iter::once(std::process::id()).chain(besides).collect();
        let own = proc::ticks_of_trees(&trees)?;
        Ok(Self { trees, begin: Ticks::now()?, own })
    }

    /// The part of all processors' time that others have taken since.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn others(&self) -> Result<f64> {
        let own = proc::ticks_of_trees(&self.trees)?.saturating_sub(self.own);
        Ok(Ticks::now()?.others_since(self.begin, own))
    }
}

/// A measurement beside which others took more than is tolerated.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Disturbed {
    pub what: String,
    /// The part of all processors' time that others took, in each attempt that was discarded.
    pub discarded: Vec<f64>,
    /// And in the one that counts.
    pub counted: f64,
}

/// Measures until others leave the processors alone meanwhile. Where they never do, the least disturbed attempt counts. On a
/// machine that may be `busy` the first one does, whatever happens beside it. `measure` returns what others took as well.
///
/// # Errors
/// Those of `measure`.
pub async fn undisturbed<T>(
    what: impl Into<String>,
    busy: bool,
    mut measure: impl AsyncFnMut() -> Result<(T, f64)>,
) -> Result<(T, Option<Disturbed>)> {
    let (mut best, mut others) = measure().await?;
    let mut discarded = Vec::new();
    while !busy && others > TOLERATED && discarded.len() + 1 < ATTEMPTS {
        eprintln!("  others took {:.0} % of the processors meanwhile; once more", others * 100.0);
        let (again, others_again) = measure().await?;
        if others_again < others {
            discarded.push(others);
            (best, others) = (again, others_again);
        } else {
            discarded.push(others_again);
        }
    }
    if others > TOLERATED {
        eprintln!("  counts though others took {:.0} % of the processors meanwhile", others * 100.0);
    }
    let disturbed = others > TOLERATED || !discarded.is_empty();
    Ok((best, disturbed.then(|| Disturbed { what: what.into(), discarded, counted: others })))
}

/// Prints which measurements were disturbed.
#[expect(clippy::print_stdout, reason = "it is what the program is run for")]
pub fn print(disturbed: &[Disturbed]) {
    if disturbed.is_empty() {
        return;
    }
    println!("\nMeasurements beside which others took more than {:.0} % of the processors:", TOLERATED * 100.0);
    for Disturbed { what, discarded, counted } in disturbed {
        println!("- {what}: {} discarded; {:.0} % in the one that counts", discarded.len(), counted * 100.0);
    }
}

/// Clock ticks of all processors since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    /// By programs, and by other machines on the same processors. Interrupts are left out: most serve what is measured, and
    /// are on nobody's account.
    taken: u64,
    all: u64,
}

impl Ticks {
    fn now() -> Result<Self> {
        let stat = std::fs::read_to_string("/proc/stat")?;
        Self::read(stat.lines().next().unwrap_or_default()).ok_or_else(|| "/proc/stat is not understood".into())
    }

    /// From the line of all processors: user, nice, system, idle, iowait, irq, softirq, steal.
    fn read(line: &str) -> Option<Self> {
        let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).map_while(|ticks| ticks.parse().ok()).collect();
        let [user, nice, system, .., steal] = ticks.as_slice() else { return None };
        (ticks.len() == 8).then(|| Self { taken: user + nice + system + steal, all: ticks.iter().sum() })
    }

    /// The part of all processors' time since `begin` that neither was idle nor ours.
    #[expect(clippy::cast_precision_loss, reason = "clock ticks of some minutes")]
    fn others_since(self, begin: Self, own: u64) -> f64 {
        let others = self.taken.saturating_sub(begin.taken).saturating_sub(own);
        others as f64 / self.all.saturating_sub(begin.all).max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_what_is_neither_idle_nor_ours() {
        let begin = Ticks::read("cpu  100 10 50 1000 5 2 3 1 0 0").unwrap();
        assert_eq!(begin, Ticks { taken: 161, all: 1171 });
        let later = Ticks::read("cpu  150 10 70 1110 5 7 13 6 0 0").unwrap();
        assert_eq!(later.others_since(begin, 55), 0.1);
        assert_eq!(later.others_since(begin, 500), 0.0, "ours is rounded differently");
        assert_eq!(Ticks::read("cpu  1 2 3"), None);
    }

    /// If you are here because this failed: figures measured beside somebody else's compiler would count.
    #[tokio::test]
    async fn a_disturbed_measurement_is_made_again() {
        let (told, disturbed) = attempts(&[0.3, 0.01], false).await;
        assert_eq!(told, 1);
        assert_eq!(disturbed, Some(Disturbed { what: "it".into(), discarded: vec![0.3], counted: 0.01 }));
        assert_eq!(attempts(&[0.0], false).await, (0, None));
    }

    #[tokio::test]
    async fn the_least_disturbed_attempt_counts_where_all_are() {
        let (told, disturbed) = attempts(&[0.3, 0.2, 0.4, 0.5], false).await;
        assert_eq!(told, 1);
        assert_eq!(disturbed, Some(Disturbed { what: "it".into(), discarded: vec![0.3, 0.4, 0.5], counted: 0.2 }));
    }

    #[tokio::test]
    async fn on_a_busy_machine_nothing_is_made_again() {
        let (told, disturbed) = attempts(&[0.3], true).await;
        assert_eq!((told, disturbed.unwrap().counted), (0, 0.3));
    }

    /// The number of the attempt that counts, of those beside which others took so much.
    async fn attempts(others: &[f64], busy: bool) -> (usize, Option<Disturbed>) {
        let mut left = others.iter().copied().enumerate();
        undisturbed("it", busy, async || -> Result<(usize, f64)> { left.next().ok_or_else(|| "too many attempts".into()) }).await.unwrap()
    }

    #[test]
    fn what_this_process_takes_is_no_disturbance() {
        let watch = Watch::begin(None).unwrap();
        assert!(watch.others().unwrap() >= 0.0);
    }
}
