//! Follows one generation to its end and hands on what it says: batched, kept from time to time, stoppable.
//! What is made of it is the [`Draft`]'s business, where it goes the [`Sink`]'s: the database, or nothing but memory.

use contract::chat::AnswerStats;
use domain::{Error, Result};
use inference::{Ended, Generation, Outcome, Output};
use std::{future::Future, time::Duration};
use store::listen::Subscription;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

/// Events are handed on at most this often.
const BATCH: Duration = Duration::from_millis(50);
/// What is made is kept this often.
const KEEP: Duration = Duration::from_secs(1);
/// Pause after the sink failed.
const SINK_PAUSE: Duration = Duration::from_millis(500);
/// News from elsewhere are looked into after this time, unless an append has told what they are.
const NEWS_PAUSE: Duration = Duration::from_millis(150);
/// After an end was asked for, the generation's own end is waited for this long.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// What is made of a generation.
pub(crate) trait Draft: Send {
    /// Takes what the model says; never its end.
    fn take(&mut self, output: Output);
    /// There is something that the sink does not have.
    fn waits(&self) -> bool;
}

/// What became of something given to a [`Sink`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It is there.
    Yes,
    /// It is there, and somebody on another node asked for the end.
    CancelRequested,
    /// It is no longer ours to make.
    Lost,
}

impl Kept {
    /// What a heartbeat found: whether an end was asked for; `None`: it is no longer ours.
    pub(crate) fn of_heartbeat(cancel_requested: Option<bool>) -> Self {
        match cancel_requested {
            Some(false) => Self::Yes,
            Some(true) => Self::CancelRequested,
            None => Self::Lost,
        }
    }
}

/// Waits for news; without a subscription, or after it ended, for ever.
pub(crate) async fn heard(news: &mut Option<Subscription>) {
    let Some(subscription) = news else {
        return std::future::pending().await;
    };
    if !subscription.changed().await {
        *news = None;
    }
}

/// Where it goes.
pub(crate) trait Sink<D>: Send {
    /// Takes what waits in the draft.
    fn append(&mut self, draft: &mut D) -> impl Future<Output = Result<Kept>> + Send;
    /// Keeps what is worth it and shows that somebody is at work. `look` demands a look at whether it shall end; else
    /// that may wait.
    fn keep(&mut self, draft: &mut D, look: bool) -> impl Future<Output = Result<Kept>> + Send;
    /// Waits for news from elsewhere.
    fn news(&mut self) -> impl Future<Output = ()> + Send;
}

/// Why something ends that its model did not end.
#[derive(Debug)]
pub(crate) enum Why {
    Stopped,
    /// This process is about to end.
    Restart,
    Failed(Error),
}

/// What was made, and how it ended.
#[derive(Debug)]
pub(crate) struct Over<D> {
    pub draft: D,
    /// `None`: the model came to its end.
    pub why: Option<Why>,
    pub stats: Option<AnswerStats>,
}

impl<D> Over<D> {
    /// No model ever said anything, for this reason.
    pub(crate) fn before_it_began(draft: D, why: Why) -> Self {
        Self { draft, why: Some(why), stats: None }
    }

    /// `ended` is the generation's own end, `asked` the end that was asked for.
    pub(crate) fn of(draft: D, ended: Option<Ended>, asked: Option<Why>) -> Self {
        let stats = ended.as_ref().map(|ended| ended.stats.clone());
        let why = match (ended, asked) {
            // It came to its end while the end was being asked for.
            (Some(Ended { outcome: Outcome::Ok, .. }), _) => None,
            (_, Some(why)) => Some(why),
            (Some(Ended { outcome: Outcome::Failed, error: Some(error), .. }), None) => Some(Why::Failed(error)),
            (_, None) => Some(Why::Failed(Error::unavailable("model", None))),
        };
        Self { draft, why, stats }
    }
}

/// See the module.
pub(crate) struct Runner<'a, S, D> {
    sink: &'a mut S,
    draft: D,
    /// When the sink may be given something again.
    ready_at: Instant,
    /// When to look into news from elsewhere.
    look_at: Option<Instant>,
    /// The end that was asked for, and until when the generation's own end is waited for.
    why: Option<(Why, Instant)>,
    lost: bool,
}

impl<'a, S: Sink<D>, D: Draft> Runner<'a, S, D> {
    pub(crate) fn new(sink: &'a mut S, draft: D) -> Self {
        Self { sink, draft, ready_at: Instant::now(), look_at: None, why: None, lost: false }
    }

    /// Runs to the end; `None` if it was taken away from this process. Dropping the generation then ends it.
    pub(crate) async fn run(self, generation: &mut Generation, stop: &CancellationToken, shutdown: &CancellationToken) -> Option<Over<D>> {
        let canceller = generation.canceller();
        // The model's slot is free at once, even while the sink takes its time.
        let ends = async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = shutdown.cancelled() => {}
            }
            canceller.cancel();
            std::future::pending().await
        };
        tokio::select! {
            over = self.follow_to_its_end(generation, stop, shutdown) => over,
            never = ends => never,
        }
    }

    async fn follow_to_its_end(
        mut self,
        generation: &mut Generation,
        stop: &CancellationToken,
        shutdown: &CancellationToken,
    ) -> Option<Over<D>> {
        let mut keep = interval(KEEP);
        keep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        keep.reset();
        loop {
            if self.lost {
                return None;
            }
            let now = Instant::now();
            let patience = self.why.as_ref().map(|(_, until)| *until);
            tokio::select! {
                biased;
                () = stop.cancelled(), if self.why.is_none() => self.ask_end(generation, Why::Stopped),
                () = shutdown.cancelled(), if self.why.is_none() => self.ask_end(generation, Why::Restart),
                () = sleep_until(patience.unwrap_or(now)), if patience.is_some() => return Some(self.end(None)),
                () = sleep_until(self.ready_at), if self.draft.waits() => self.flush(generation).await,
                _ = keep.tick() => self.keep(generation, false).await,
                () = sleep_until(self.look_at.unwrap_or(now)), if self.look_at.is_some() => self.keep(generation, true).await,
                () = self.sink.news(), if self.why.is_none() && self.look_at.is_none() => self.look_at = Some(Instant::now() + NEWS_PAUSE),
                output = generation.next() => match output {
                    Some(Output::End(ended)) => return Some(self.end(Some(*ended))),
                    Some(output) => self.draft.take(output),
                    None => return Some(self.end(None)),
                },
            }
        }
    }

    fn ask_end(&mut self, generation: &Generation, why: Why) {
        generation.cancel();
        self.why = Some((why, Instant::now() + END_PATIENCE));
    }

    async fn flush(&mut self, generation: &Generation) {
        match self.sink.append(&mut self.draft).await {
            Ok(kept) => {
                self.ready_at = Instant::now() + BATCH;
                self.look_at = None;
                self.heed(generation, kept);
            }
            Err(error) => {
                tracing::warn!(%error, "events could not be stored; trying again");
                self.ready_at = Instant::now() + SINK_PAUSE;
            }
        }
    }

    async fn keep(&mut self, generation: &Generation, look: bool) {
        self.look_at = None;
        match self.sink.keep(&mut self.draft, look).await {
            Ok(kept) => self.heed(generation, kept),
            Err(error) => tracing::warn!(%error, "what is being made could not be kept; trying again"),
        }
    }

    fn heed(&mut self, generation: &Generation, kept: Kept) {
        match kept {
            Kept::CancelRequested if self.why.is_none() => self.ask_end(generation, Why::Stopped),
            Kept::Yes | Kept::CancelRequested => {}
            Kept::Lost => self.lost = true,
        }
    }

    fn end(self, ended: Option<Ended>) -> Over<D> {
        Over::of(self.draft, ended, self.why.map(|(why, _)| why))
    }
}
