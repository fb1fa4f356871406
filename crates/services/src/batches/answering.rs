//! The lines of a batch are answered: some at a time, each as often as it takes. Where all of them wait, the batch is given
//! back, so that it keeps no other one waiting.

use super::{
    Endpoint,
    output::given_up,
    patience::{Patience, persist},
    run::{Outcome, Run},
};
use contract::ids::RequestId;
use domain::{Error, Result};
use futures::{StreamExt, stream::FuturesUnordered};
use std::{collections::VecDeque, time::Duration};
use store::batch_runs::{InVain, LineEnd, TakenBatch, WaitingLine};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

/// Lines that are read at a time.
const LINES_READ: u32 = 8;
/// A batch whose lines all wait for longer is given back: taking it again costs as much as some of its lines.
const WORTH_LEAVING: Duration = Duration::from_secs(2);

/// A line that is asked once its time has come.
struct Sleeper {
    line: WaitingLine,
    until: Instant,
}

/// What came of asking a line once.
enum Asked {
    /// It has its end.
    Ended,
    /// It is asked again.
    PutOff(Sleeper),
    /// The batch must not be gone on with.
    Over(Outcome),
}

impl Run {
    /// Answers all lines that have no end yet.
    pub(super) async fn answer_all(&self, taken: &TakenBatch, endpoint: Endpoint) -> Result<Outcome> {
        let (mut running, mut sleeping, mut ready, mut after) = (FuturesUnordered::new(), Vec::<Sleeper>::new(), VecDeque::new(), 0);
        loop {
            while running.len() + sleeping.len() < self.parallel {
                if ready.is_empty() {
                    ready = persist(|| self.waiting(after)).await?;
                }
                let Some(line) = ready.pop_front() else { break };
                after = line.number;
                sleeping.push(Sleeper { until: Instant::now() + line.wait, line });
            }
            let now = Instant::now();
            for due in sleeping.extract_if(.., |sleeper| sleeper.until <= now) {
                running.push(self.ask(taken, endpoint, due.line));
            }
            let next = sleeping.iter().map(|sleeper| sleeper.until).min();
            if running.is_empty() {
                let Some(next) = next else { return Ok(Outcome::Through) };
                let wait = next.saturating_duration_since(now);
                if wait >= WORTH_LEAVING {
                    return Ok(Outcome::Waits(wait));
                }
            }
            tokio::select! {
                Some(asked) = running.next(), if !running.is_empty() => match asked? {
                    Asked::Ended => {}
                    Asked::PutOff(sleeper) => sleeping.push(sleeper),
                    Asked::Over(outcome) => return Ok(outcome),
                },
                () = sleep_until(next.unwrap_or(now)), if next.is_some() => {}
            }
        }
    }

    async fn waiting(&self, after: u32) -> Result<VecDeque<WaitingLine>> {
        let tx = self.shared.db.begin(&self.actor).await?;
        let lines = tx.batch_runs().waiting(self.id, after, LINES_READ).await?;
        tx.commit().await?;
        Ok(lines.into())
    }

    /// Asks one line once, and keeps its answer if it is one.
    async fn ask(&self, taken: &TakenBatch, endpoint: Endpoint, line: WaitingLine) -> Result<Asked> {
        let request = RequestId(Uuid::now_v7());
        if Patience::is_over(line.vain) {
            return self.keep(line.number, &given_up(request)).await;
        }
        let place = self.places.acquire().await.map_err(Error::internal)?;
        let program = match persist(|| self.program(taken, request)).await? {
            Ok(program) => program,
            Err(error) => return Ok(Asked::Over(Outcome::Failed(vec![error]))),
        };
        if !persist(|| self.note_asked(line.number)).await? {
            return Ok(Asked::Over(Outcome::Lost));
        }
        let said = self.lines.answer(program, endpoint, &line.body).await;
        // Whoever waits must not keep others from being computed.
        drop(place);
        let alone = self.places.available_permits() == self.parallel;
        let mut patience = Patience::new(line.vain);
        if let Some(pause) = patience.pause(&said, alone) {
            return self.put_off(WaitingLine { vain: patience.vain(), wait: pause, ..line }).await;
        }
        self.keep(line.number, &LineEnd { request, status: said.status, response: said.body }).await
    }

    async fn note_asked(&self, line: u32) -> Result<bool> {
        let tx = self.shared.db.begin(&self.actor).await?;
        let own = tx.batch_runs().ask_line(self.id, self.lease, line).await?;
        tx.commit().await?;
        Ok(own)
    }

    async fn put_off(&self, line: WaitingLine) -> Result<Asked> {
        let until = Instant::now() + line.wait;
        let own = persist(|| self.note_put_off(line.number, line.vain, line.wait)).await?;
        Ok(if own { Asked::PutOff(Sleeper { line, until }) } else { Asked::Over(Outcome::Lost) })
    }

    async fn note_put_off(&self, line: u32, vain: InVain, wait: Duration) -> Result<bool> {
        let tx = self.shared.db.begin(&self.actor).await?;
        let own = tx.batch_runs().put_off_line(self.id, self.lease, line, vain, wait).await?;
        tx.commit().await?;
        Ok(own)
    }

    /// Keeps what became of a line.
    async fn keep(&self, line: u32, end: &LineEnd) -> Result<Asked> {
        let kept = persist(|| self.note_end(line, end)).await?;
        Ok(if kept { Asked::Ended } else { Asked::Over(Outcome::Lost) })
    }

    /// `false` if the batch is lost.
    async fn note_end(&self, line: u32, end: &LineEnd) -> Result<bool> {
        let tx = self.shared.db.begin(&self.actor).await?;
        if tx.batch_runs().end_line(self.id, self.lease, line, end).await? {
            tx.commit().await?;
            return Ok(true);
        }
        drop(tx);
        // A try whose end was not heard of may have kept it.
        let tx = self.shared.db.begin(&self.actor).await?;
        let own = tx.batch_runs().heartbeat(self.id, self.lease).await?.is_some();
        tx.commit().await?;
        Ok(own)
    }
}
