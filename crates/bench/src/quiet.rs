//! Is the machine quiet enough to measure? Threads that compute together wait for the slowest, so a compiler
//! beside them costs not its share but nearly everything.

use std::time::{Duration, Instant};

use crate::Result;

const SAMPLE: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(120);
/// Part of all processors' time that others may take.
const TOLERATED: f64 = 0.10;

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
    let (busy, total) = times()?;
    tokio::time::sleep(SAMPLE).await;
    let (busy_later, total_later) = times()?;
    #[expect(clippy::cast_precision_loss, reason = "a few clock ticks")]
    let part = (busy_later - busy) as f64 / (total_later - total).max(1) as f64;
    Ok(part)
}

/// Clock ticks of all processors since boot: not idle, and all.
fn times() -> Result<(u64, u64)> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let first = stat.lines().next().ok_or("/proc/stat is empty")?;
    let ticks: Vec<u64> = first.split_whitespace().skip(1).map(str::parse).collect::<std::result::Result<_, _>>()?;
    let total = ticks.iter().take(8).sum();
    // idle and iowait
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    Ok((total - idle, total))
}
