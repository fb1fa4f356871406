//! Load in two ways: as many requests as so many connections carry (closed loop), and so many requests a second however
//! long they take (open loop).
//!
//! In the open loop a duration begins when the request was due, not when somebody was free to send it. So a gateway that
//! stands still is charged for all that it kept waiting, and not for one request for each connection.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::StatusCode;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use super::client::{Caller, Make, Reply};
use super::sample::{Sample, number};
use crate::Result;

/// After a failed request somebody waits so long, so that a gateway that refuses connections is not drowned in them.
const AFTER_FAILURE: Duration = Duration::from_millis(20);
/// A request that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// One request in so many may fail.
const FAILURES: usize = 100;
/// Between the first connection and the first request that is due.
const LEAD: Duration = Duration::from_millis(50);

/// What came of a load.
#[derive(Debug, Default)]
pub struct Run {
    took: Vec<Duration>,
    /// Requests that were answered before the time was over.
    in_time: u64,
    failures: usize,
    /// The first of them.
    failure: Option<String>,
    length: Duration,
}

/// What is asked of whom, and which answers are as they should be.
#[derive(Clone, Copy)]
pub struct Load<'a> {
    pub addr: SocketAddr,
    pub make: Make<'a>,
    pub wanted: fn(StatusCode) -> bool,
}

impl<'a> Load<'a> {
    /// Requests that are to be answered.
    pub fn new(addr: SocketAddr, make: Make<'a>) -> Self {
        Self { addr, make, wanted: |status| status.is_success() }
    }

    /// Closed loop: each of the connections has one request under way all the time.
    pub async fn closed(self, connections: usize, length: Duration) -> Run {
        let callers = self.connected(connections).await;
        let end = Instant::now() + length;
        let runs = join_all(callers.into_iter().map(|caller| self.busy(caller, end))).await;
        Run::sum(runs, length)
    }

    async fn busy(self, mut caller: Caller, end: Instant) -> Run {
        let mut run = Run::default();
        loop {
            let begin = Instant::now();
            if begin >= end {
                return run;
            }
            let outcome = self.ask(&mut caller).await;
            self.note(&mut run, begin, end, outcome).await;
        }
    }

    /// Open loop: `rate` requests a second, carried by so many connections.
    ///
    /// # Errors
    /// The rate is none.
    pub async fn open(self, rate: f64, connections: usize, length: Duration) -> Result<Run> {
        let gap = Duration::try_from_secs_f64(1.0 / rate).map_err(|error| format!("{rate} requests a second is no rate: {error}"))?;
        let count = u32::try_from(length.as_nanos() / gap.as_nanos().max(1))?;
        let callers = self.connected(connections).await;
        let (tell, dues) = unbounded_channel();
        let dues = Mutex::new(dues);
        let begin = Instant::now() + LEAD;
        let end = begin + length;
        // On a thread of its own, because tokio's clock ticks once a millisecond.
        let pacer = thread::spawn(move || pace(begin, gap, count, &tell));
        let runs = join_all(callers.into_iter().map(|caller| self.due(caller, &dues, end))).await;
        pacer.join().map_err(|_| "the thread that paces requests failed")?;
        Ok(Run::sum(runs, length))
    }

    async fn due(self, mut caller: Caller, dues: &Mutex<UnboundedReceiver<Instant>>, end: Instant) -> Run {
        let mut run = Run::default();
        while let Some(due) = next(dues).await {
            let outcome = self.ask(&mut caller).await;
            self.note(&mut run, due, end, outcome).await;
        }
        run
    }

    /// Callers with open connections: making them is not what is measured.
    async fn connected(self, count: usize) -> Vec<Caller> {
        join_all((0..count).map(|_| self.connect())).await
    }

    async fn connect(self) -> Caller {
        let mut caller = Caller::new(self.addr);
        // Whether it fails is seen when it counts.
        drop(self.ask(&mut caller).await);
        caller
    }

    async fn ask(self, caller: &mut Caller) -> Result<Reply> {
        timeout(PATIENCE, caller.exchange(self.make)).await.map_err(|_| format!("no answer within {PATIENCE:?}"))?
    }

    async fn note(self, run: &mut Run, begin: Instant, end: Instant, outcome: Result<Reply>) {
        let failure = match outcome {
            Ok(reply) if (self.wanted)(reply.status) => {
                let now = Instant::now();
                run.took.push(now - begin);
                run.in_time += u64::from(now <= end);
                return;
            }
            Ok(reply) => format!("HTTP status {}", reply.status),
            Err(error) => error.to_string(),
        };
        run.failures += 1;
        run.failure.get_or_insert(failure);
        tokio::time::sleep(AFTER_FAILURE).await;
    }
}

async fn next(dues: &Mutex<UnboundedReceiver<Instant>>) -> Option<Instant> {
    dues.lock().await.recv().await
}

/// Tells when each request is due, at that moment.
fn pace(begin: Instant, gap: Duration, count: u32, tell: &UnboundedSender<Instant>) {
    for number in 0..count {
        let due = begin + gap * number;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if tell.send(due).is_err() {
            return;
        }
    }
}

impl Run {
    fn sum(runs: Vec<Self>, length: Duration) -> Self {
        let mut sum = Self { length, ..Self::default() };
        for run in runs {
            sum.took.extend(run.took);
            sum.in_time += run.in_time;
            sum.failures += run.failures;
            sum.failure = sum.failure.or(run.failure);
        }
        sum
    }

    /// Answers a second.
    pub fn rate(&self) -> f64 {
        number(self.in_time) / self.length.as_secs_f64()
    }

    /// Answers altogether.
    pub fn answers(&self) -> usize {
        self.took.len()
    }

    /// The durations.
    ///
    /// # Errors
    /// Too many requests failed, so that the durations of the others tell nothing.
    pub fn sample(self) -> Result<Sample> {
        if self.took.is_empty() || self.failures * FAILURES > self.took.len() {
            let failure = self.failure.unwrap_or_else(|| "nothing was answered".into());
            return Err(format!("{} of {} requests failed: {failure}", self.failures, self.failures + self.took.len()).into());
        }
        Ok(Sample::new(self.took))
    }
}

#[cfg(test)]
mod tests {
    use super::{Load, Run, pace};
    use crate::gateway::client::Route;
    use crate::gateway::sample::P50;
    use crate::gateway::upstream::{MODEL, Script, Upstream};
    use std::time::{Duration, Instant};
    use tokio::sync::mpsc::unbounded_channel;

    #[test]
    fn requests_are_due_at_equal_distances_whatever_happened_before() {
        let (tell, mut dues) = unbounded_channel();
        let (begin, gap) = (Instant::now() - Duration::from_millis(30), Duration::from_millis(10));
        pace(begin, gap, 5, &tell);
        drop(tell);
        let told: Vec<Duration> = std::iter::from_fn(|| dues.try_recv().ok()).map(|due| due - begin).collect();
        assert_eq!(told, (0..5).map(|n| gap * n).collect::<Vec<_>>());
        assert!(begin.elapsed() >= gap * 4);
    }

    #[tokio::test]
    async fn loads_are_counted() {
        let upstream = Upstream::start().await.unwrap();
        let route = Route::new(upstream.addr(), "/v1/chat/completions", MODEL, &[]).unwrap();
        let body = route.body("Hello", false);
        let make = || route.request(&body);
        let load = Load::new(route.addr(), &make);
        let run = load.closed(2, Duration::from_millis(100)).await;
        // Each connection was opened with a request that does not count.
        assert_eq!(u64::try_from(run.answers()).unwrap() + 2, upstream.asked());
        assert!(run.rate() > 1.0 && run.sample().unwrap().at(P50).is_some());
        let run = load.open(200.0, 4, Duration::from_millis(100)).await.unwrap();
        assert_eq!(run.answers(), 20);
    }

    #[tokio::test]
    async fn a_load_that_fails_has_no_durations() {
        let upstream = Upstream::start().await.unwrap();
        upstream.play(Script::Failing);
        let route = Route::new(upstream.addr(), "/v1/chat/completions", MODEL, &[]).unwrap();
        let body = route.body("Hello", false);
        let make = || route.request(&body);
        let run = Load::new(route.addr(), &make).closed(1, Duration::from_millis(100)).await;
        let told = run.sample().unwrap_err().to_string();
        assert!(told.contains("HTTP status"), "{told}");
        assert!(Run::default().sample().is_err());
    }
}
