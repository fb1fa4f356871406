//! A response that is made whether or not its client hears every word: its sink, its end.

use super::{Item, ResponseEnd, ResponseEntry, ResponseEvent, event::Speech, follow::read};
use crate::{
    check,
    running::{
        FINISH_PAUSES_MS, HEARTBEAT,
        hub::Numbered,
        runner::{Kept, Over, Runner, Sink, heard},
    },
    shared::Shared,
};
use contract::ids::ResponseId;
use domain::{Actor, Amount, Currency, Error, Result};
use inference::Generation;
use serde::Serialize;
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use store::{TenantTx, listen::Subscription, response_runs::Finished, turns::Appended};
use tokio::time::{Instant, sleep};

/// A response that is stored as unfinished and now has to be made.
pub(crate) struct Making {
    pub shared: Arc<Shared>,
    pub actor: Actor,
    pub id: ResponseId,
    pub background: bool,
}

impl Making {
    /// Makes it, up to its stored end.
    pub(crate) async fn run(self, mut generation: Generation, entry: ResponseEntry) {
        let (stop, shutdown, id) = (entry.stop.clone(), self.shared.shutdown.clone(), self.id);
        // Without it a cancellation on another node is seen by the next batch or heartbeat.
        let news = self.shared.db.subscribe(id).await.ok();
        let mut sink = StoredSink { making: self, entry, seq: 0, alive_at: Instant::now(), news };
        let over = Runner::new(&mut sink, Speech::default()).run(&mut generation, &stop, &shutdown).await;
        match over {
            Some(over) => sink.finish(over, generation.cost()).await,
            None => tracing::info!(response = %id, "the response was taken over or deleted"),
        }
    }
}

/// How a response is stored at its end.
///
/// # Errors
/// Items always serialise.
pub(crate) fn finished(items: &[Item], end: &ResponseEnd) -> Result<Finished> {
    let ResponseEnd { status, stats, cost, problem, at } = end.clone();
    Ok(Finished { status, output: storable(items)?, stats, cost, problem, at })
}

/// JSON as Postgres can store it.
///
/// # Errors
/// What our own types never give.
pub(crate) fn storable<T: Serialize + ?Sized>(value: &T) -> Result<Value> {
    let mut value = serde_json::to_value(value).map_err(Error::internal)?;
    check::clean_json(&mut value);
    Ok(value)
}

/// Writes events into the table and tells those who follow on this node.
struct StoredSink {
    making: Making,
    entry: ResponseEntry,
    /// Number of the last event.
    seq: i32,
    alive_at: Instant,
    news: Option<Subscription>,
}

impl StoredSink {
    async fn append_in(&self, tx: &TenantTx, events: &[ResponseEvent], last: bool) -> Result<Appended> {
        let Making { shared, id, background, .. } = &self.making;
        if *background && events.contains(&ResponseEvent::Started) {
            tx.response_runs().begin(*id, shared.node).await?;
        }
        tx.response_runs().append(*id, shared.node, self.seq + 1, storable(events)?, last).await
    }

    /// Counts stored events and tells those who follow.
    fn tell(&mut self, events: Vec<ResponseEvent>) {
        let numbered: Vec<Numbered<ResponseEvent>> = (self.seq + 1..).zip(events).collect();
        self.seq = numbered.last().map_or(self.seq, |(seq, _)| *seq);
        self.entry.tell(&numbered);
    }

    /// Tells what the table has beyond our own count: the reply to an earlier try got lost.
    async fn catch_up(&mut self) -> Result<()> {
        let tx = self.making.shared.db.begin(&self.making.actor).await?;
        let stored = read(&tx, self.making.id, self.seq, u32::MAX).await?;
        tx.commit().await?;
        self.tell(stored.into_iter().map(|(_, event)| event).collect());
        Ok(())
    }

    /// Stores the end, tries again if the database is away.
    async fn finish(mut self, over: Over<Speech>, cost: Option<(Currency, Amount)>) {
        let Over { draft: mut speech, why, stats } = over;
        let (id, end) = (self.making.id, ResponseEnd::of(why, stats, cost, self.making.shared.now()));
        for pause in FINISH_PAUSES_MS {
            sleep(Duration::from_millis(pause)).await;
            match self.store_end(&mut speech, &end).await {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, response = %id, "the end of a response could not be stored; trying again"),
            }
        }
        tracing::error!(response = %id, "the end of a response could not be stored; recovery will end it");
    }

    /// One transaction: the rest of the events, the response, the end itself.
    async fn store_end(&mut self, speech: &mut Speech, end: &ResponseEnd) -> Result<()> {
        let mut events = speech.rest();
        events.push(ResponseEvent::End(end.clone()));
        let tx = self.making.shared.db.begin(&self.making.actor).await?;
        match self.append_in(&tx, &events, true).await {
            // Somebody else has ended it, it was deleted, or the reply to an earlier try got lost.
            Ok(Appended::Lost) => return Ok(()),
            Ok(Appended::Stored | Appended::CancelRequested) => {}
            Err(Error::Conflict { .. }) => {
                drop(tx);
                self.catch_up().await?;
                speech.stored();
                return Err(Error::unavailable("database", None));
            }
            Err(error) => return Err(error),
        }
        tx.response_runs().finish(self.making.id, &finished(&speech.items, end)?).await?;
        tx.commit().await?;
        self.tell(events);
        Ok(())
    }
}

impl Sink<Speech> for StoredSink {
    async fn append(&mut self, speech: &mut Speech) -> Result<Kept> {
        let tx = self.making.shared.db.begin(&self.making.actor).await?;
        let appended = match self.append_in(&tx, speech.batch(), false).await {
            Err(Error::Conflict { .. }) => {
                drop(tx);
                self.catch_up().await?;
                speech.stored();
                return Ok(Kept::Yes);
            }
            other => other?,
        };
        tx.commit().await?;
        let kept = match appended {
            Appended::Lost => return Ok(Kept::Lost),
            Appended::Stored => Kept::Yes,
            Appended::CancelRequested => Kept::CancelRequested,
        };
        self.tell(speech.stored());
        Ok(kept)
    }

    async fn keep(&mut self, _: &mut Speech, look: bool) -> Result<Kept> {
        if !look && self.alive_at.elapsed() < HEARTBEAT {
            return Ok(Kept::Yes);
        }
        let Making { shared, actor, id, .. } = &self.making;
        let tx = shared.db.begin(actor).await?;
        let alive = tx.response_runs().heartbeat(*id, shared.node).await?;
        tx.commit().await?;
        self.alive_at = Instant::now();
        Ok(Kept::of_heartbeat(alive))
    }

    async fn news(&mut self) {
        heard(&mut self.news).await;
    }
}
