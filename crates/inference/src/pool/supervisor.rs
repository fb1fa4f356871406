//! Worker processes of our own: started, watched, restarted.
//!
//! llama.cpp aborts its process on a failed assertion, so a worker that dies is a normal event here.

use super::{
    health::Phase,
    member::Member,
    process::{Running, WorkerProcess},
};
use futures::FutureExt;
use std::{io, process::ExitStatus, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// Pause before the first restart; doubles with every further one in a row.
const BACK_OFF_FIRST: Duration = Duration::from_millis(200);
const BACK_OFF_MOST: Duration = Duration::from_secs(10);
/// A process that lived this long did not fail at its start: the back-off begins anew.
const LIVED: Duration = Duration::from_secs(30);
/// After so many short lives in a row nobody waits for it any more, though it is still restarted.
const HOPELESS: u32 = 3;
/// How long the answers of a worker that was replaced may go on.
const RETIRING: Duration = Duration::from_secs(15 * 60);

/// Asks a supervisor to put a new process in the old one's place.
#[derive(Debug, Default)]
pub(super) struct Restart {
    asked: Notify,
    /// Counts what was asked for and is over, done or not.
    over: watch::Sender<u64>,
}

impl Restart {
    /// Waits until it is over.
    pub(super) async fn ask(&self) {
        let mut over = self.over.subscribe();
        self.asked.notify_one();
        // The sender is ours.
        let _ = over.changed().await;
    }

    /// A life has ended. Whoever asked meanwhile has what was asked for, since the next one is a new process; and nobody waits
    /// for one that never starts.
    fn settle(&self) {
        // What is left of it would replace the next process as soon as it runs.
        let _: Option<()> = self.asked.notified().now_or_never();
        self.over.send_modify(|over| *over += 1);
    }
}

/// Runs the process until `stop`, again and again.
pub(super) async fn supervise(process: WorkerProcess, member: Arc<Member>, restart: Arc<Restart>, stop: CancellationToken) {
    let mut back_off = BackOff::default();
    // Processes that were replaced and whose answers come to their end.
    let mut retiring = JoinSet::new();
    while !stop.is_cancelled() {
        let started = Instant::now();
        match live(&process, &member, &restart, &mut retiring, &stop).await {
            Ok(_) if stop.is_cancelled() => break,
            Ok(status) => tracing::error!(worker = process.name, %status, "worker ended"),
            Err(error) => tracing::error!(worker = process.name, %error, "worker did not start"),
        }
        restart.settle();
        let pause = back_off.after(started.elapsed());
        let (phase, reason) = if back_off.failures >= HOPELESS { (Phase::Down, "keeps failing") } else { (Phase::Starting, "restarting") };
        member.detach(phase, reason);
        let _: Option<()> = stop.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
    member.detach(Phase::Down, "shutting down");
}

/// Lives of the process, each in the place of the one before, to an exit or to `stop`.
async fn live(
    process: &WorkerProcess,
    member: &Member,
    restart: &Restart,
    retiring: &mut JoinSet<io::Result<ExitStatus>>,
    stop: &CancellationToken,
) -> io::Result<ExitStatus> {
    let Some(launched) = stop.run_until_cancelled(Running::launch(process)).await else {
        return Ok(ExitStatus::default());
    };
    let mut running = launched?;
    member.attach(running.backend.clone());
    loop {
        let backend = running.backend.clone();
        // Takes it along, since a process that is replaced lives as long as somebody has its backend.
        let hung = async move { member.hung(&backend).await };
        tokio::select! {
            () = stop.cancelled() => return running.end().await,
            status = running.exited() => return status,
            () = hung => {
                tracing::error!(worker = process.name, "a worker's engine is stuck; its process is ended");
                return running.end().await;
            }
            () = restart.asked.notified() => {}
            Some(_) = retiring.join_next() => continue,
        }
        let next = tokio::select! {
            () = stop.cancelled() => return running.end().await,
            // The next life is a new one in any case.
            status = running.exited() => Err(status?),
            next = successor(process) => Ok(next),
        };
        restart.over.send_modify(|over| *over += 1);
        match next {
            Err(status) => return Ok(status),
            Ok(Ok(next)) => {
                // What is stuck will not come to an end either.
                let most = if member.is_hung(&running.backend) { Duration::ZERO } else { RETIRING };
                member.attach(next.backend.clone());
                tracing::info!(worker = process.name, "a new worker process takes over");
                retiring.spawn(std::mem::replace(&mut running, next).retire(most));
            }
            Ok(Err(error)) => tracing::error!(worker = process.name, %error, "the new worker process is of no use; the old one stays"),
        }
    }
}

/// A process that could take over at once.
async fn successor(process: &WorkerProcess) -> io::Result<Running> {
    let mut next = Running::launch(process).await?;
    match next.until_ready().await {
        Ok(()) => Ok(next),
        Err(error) => {
            next.end().await?;
            Err(error)
        }
    }
}

/// How long to wait before the next start.
#[derive(Debug, Default)]
struct BackOff {
    /// Short lives in a row.
    failures: u32,
}

impl BackOff {
    /// The pause after a life of this length.
    fn after(&mut self, lived: Duration) -> Duration {
        self.failures = if lived >= LIVED { 1 } else { self.failures.saturating_add(1) };
        BACK_OFF_FIRST.saturating_mul(2_u32.saturating_pow(self.failures - 1)).min(BACK_OFF_MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::{BackOff, LIVED};
    use std::time::Duration;

    #[test]
    fn the_pause_doubles_up_to_ten_seconds_and_starts_anew_after_a_long_life() {
        let mut back_off = BackOff::default();
        let pauses: Vec<u128> = (0..8).map(|_| back_off.after(Duration::ZERO).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(back_off.after(LIVED).as_millis(), 200);
        for _ in 0..100 {
            assert!(back_off.after(Duration::ZERO) <= Duration::from_secs(10));
        }
    }
}
