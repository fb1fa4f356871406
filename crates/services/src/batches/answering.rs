//! The lines of a batch are answered: some at a time, each as often as it takes. Where all of them wait, the batch is given
//! back, so that it keeps no other one waiting.

use super::{
    Endpoint,
    output::given_up,
    patience::{Patience, persist},
    queue::{Queue, Sleeper, is_suspect, spread},
    run::{Outcome, Run},
};
use contract::ids::RequestId;
use domain::{Error, Result};
use futures::{StreamExt, stream::FuturesUnordered};
use std::time::Duration;
use store::batch_runs::{InVain, LineEnd, TakenBatch, WaitingLine};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

/// Lines that are read at a time.
const LINES_READ: u32 = 8;
/// A batch whose lines all wait for longer is given back: taking it again costs as much as some of its lines.
const WORTH_LEAVING: Duration = Duration::from_secs(2);

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
        let (mut running, mut queue, mut after, mut all_read) = (FuturesUnordered::new(), Queue::default(), 0, false);
        // One of those that run is a suspect; no other one of this batch takes a place in `running` to wait for it.
        let mut suspected = false;
        loop {
            while running.len() < self.parallel {
                if let Some(line) = queue.next(Instant::now(), !suspected) {
                    let suspect = is_suspect(&line);
                    suspected |= suspect;
                    running.push(async move { (suspect, self.ask(taken, endpoint, line).await) });
                } else if all_read || queue.is_full() {
                    break;
                } else {
                    let lines = persist(|| self.waiting(after)).await?;
                    let read_at = Instant::now();
                    all_read = lines.is_empty();
                    for line in lines {
                        after = line.number;
                        queue.add(Sleeper::since(read_at, line));
                    }
                }
            }
            let (now, next) = (Instant::now(), queue.due(!suspected));
            if running.is_empty() {
                let Some(next) = next else { return Ok(Outcome::Through) };
                let wait = next.saturating_duration_since(now);
                if wait >= WORTH_LEAVING {
                    return Ok(Outcome::Waits(wait));
                }
            }
            let room = running.len() < self.parallel;
            tokio::select! {
                Some((suspect, asked)) = running.next(), if !running.is_empty() => {
                    suspected &= !suspect;
                    match asked? {
                        Asked::Ended => {}
                        Asked::PutOff(sleeper) => queue.add(sleeper),
                        Asked::Over(outcome) => return Ok(outcome),
                    }
                }
                () = sleep_until(next.unwrap_or(now)), if room && next.is_some() => {}
            }
        }
    }

    async fn waiting(&self, after: u32) -> Result<Vec<WaitingLine>> {
        let tx = self.shared.db.begin(&self.actor).await?;
        let lines = tx.batch_runs().waiting(self.id, after, LINES_READ).await?;
        tx.commit().await?;
        Ok(lines)
    }

    /// Asks one line once, and keeps its answer if it is one.
    async fn ask(&self, taken: &TakenBatch, endpoint: Endpoint, line: WaitingLine) -> Result<Asked> {
        let request = RequestId(Uuid::now_v7());
        if Patience::is_over(line.vain) {
            return self.keep(line.number, &given_up(request)).await;
        }
        // Before the place: who waits for other suspects must not keep lines that nobody suspects from being computed.
        let suspect = if is_suspect(&line) { Some(self.suspects.acquire().await.map_err(Error::internal)?) } else { None };
        // All of them: nothing that this node has of any batch runs beside a line that this try may end.
        let last = Patience::is_last(line.vain);
        let places = if last { self.parallel } else { 1 };
        let places = self.places.acquire_many(u32::try_from(places).map_err(Error::internal)?).await.map_err(Error::internal)?;
        let program = match persist(|| self.program(taken, request)).await? {
            Ok(program) => program,
            Err(error) => return Ok(Asked::Over(Outcome::Failed(vec![error]))),
        };
        if !persist(|| self.note_asked(line.number)).await? {
            return Ok(Asked::Over(Outcome::Lost));
        }
        let said = self.lines.answer(program, endpoint, &line.body).await;
        // Whoever waits must not keep others from being computed.
        drop((places, suspect));
        let alone = self.places.available_permits() == self.parallel;
        let least = if last { self.stood_still.pause(self.actor.tenant(), &said) } else { Duration::ZERO };
        let mut patience = Patience::new(line.vain);
        if let Some(pause) = patience.pause(&said, alone) {
            let pause = if said.broke { spread(pause) } else { pause };
            return self.put_off(WaitingLine { vain: patience.vain(), wait: pause.max(least), ..line }).await;
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
        let since = Instant::now();
        let own = persist(|| self.note_put_off(line.number, line.vain, line.wait)).await?;
        Ok(if own { Asked::PutOff(Sleeper::since(since, line)) } else { Asked::Over(Outcome::Lost) })
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
