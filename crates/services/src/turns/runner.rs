//! Follows one generation to its end and hands on what it says: batched, kept from time to time, stoppable.
//! Where the events go is the [`Sink`]'s business: the database, or nothing but memory.

use contract::chat::{AnswerStats, MessageStatus, TurnEvent};
use domain::{Error, Result};
use inference::{Ended, Generation, Outcome, Output};
use std::{future::Future, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

/// Events are handed on at most this often.
const BATCH: Duration = Duration::from_millis(50);
/// The answer's text is kept this often.
const KEEP: Duration = Duration::from_secs(1);
/// ... if it has grown by one part in this many.
const KEEP_GROWTH: usize = 16;
/// Pause after the sink failed.
const SINK_PAUSE: Duration = Duration::from_millis(500);
/// News from elsewhere are looked into after this time, unless an append has told what they are.
const NEWS_PAUSE: Duration = Duration::from_millis(150);
/// After an end was asked for, the generation's own end is waited for this long.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// What became of something given to a [`Sink`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It is there.
    Yes,
    /// It is there, and somebody on another node asked for the end.
    CancelRequested,
    /// It was there already, up to this byte of the answer: the reply to an earlier try got lost.
    UpTo(usize),
    /// The turn is no longer ours.
    Lost,
}

/// Where events go.
pub(crate) trait Sink: Send {
    /// Takes events in order.
    fn append(&mut self, events: Vec<TurnEvent>) -> impl Future<Output = Result<Kept>> + Send;
    /// Keeps the answer so far (`None`: it has not changed) and shows that the turn is alive. `look` demands a look
    /// at whether the turn shall end; else that may wait.
    fn keep(&mut self, text: Option<&str>, look: bool) -> impl Future<Output = Result<Kept>> + Send;
    /// Waits for news of the turn from elsewhere.
    fn news(&mut self) -> impl Future<Output = ()> + Send;
}

/// What a turn produced, and how it ended.
#[derive(Debug)]
pub(crate) struct Produced {
    pub text: String,
    /// Bytes of `text` that the sink has.
    pub sent: usize,
    pub status: MessageStatus,
    pub error: Option<String>,
    pub stats: Option<AnswerStats>,
}

impl Produced {
    /// Nothing came, for this reason.
    pub(crate) fn nothing(text: String, why: Why) -> Self {
        let sent = text.len();
        let (status, error) = why.end();
        Self { text, sent, status, error, stats: None }
    }
}

/// Why a turn ends that its model did not end.
#[derive(Debug)]
pub(crate) enum Why {
    Stopped,
    /// This process is about to end.
    Restart,
    Failed(Error),
}

impl Why {
    fn end(self) -> (MessageStatus, Option<String>) {
        match self {
            Self::Stopped => (MessageStatus::Stopped, None),
            Self::Restart => (MessageStatus::Interrupted, Some(SERVER_RESTARTED.into())),
            Self::Failed(error) => {
                if let Error::Internal(source) = &error {
                    // No edge sees this error; it is logged here, once.
                    tracing::error!(%source, "a turn failed");
                }
                (MessageStatus::Interrupted, Some(error.problem().code))
            }
        }
    }
}

/// The problem code of a turn whose process ended.
pub(crate) const SERVER_RESTARTED: &str = "server_restarted";

/// See the module.
pub(crate) struct Runner<'a, S> {
    sink: &'a mut S,
    text: String,
    sent: usize,
    kept: usize,
    /// Place in the queue and expected wait that are to be told.
    queued: Option<(u32, Option<u32>)>,
    /// When the sink may be given something again.
    ready_at: Instant,
    /// When to look into news from elsewhere.
    look_at: Option<Instant>,
    /// The end that was asked for, and until when the generation's own end is waited for.
    why: Option<(Why, Instant)>,
    lost: bool,
}

impl<'a, S: Sink> Runner<'a, S> {
    /// `text` is what the answer has already (*Continue*).
    pub(crate) fn new(sink: &'a mut S, text: String) -> Self {
        let sent = text.len();
        Self { sink, sent, kept: sent, text, queued: None, ready_at: Instant::now(), look_at: None, why: None, lost: false }
    }

    /// Runs to the end; `None` if the turn was taken away from this process. Dropping the generation then ends it.
    pub(crate) async fn run(
        mut self,
        generation: &mut Generation,
        stop: &CancellationToken,
        shutdown: &CancellationToken,
    ) -> Option<Produced> {
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
                () = sleep_until(self.ready_at), if self.sent < self.text.len() || self.queued.is_some() => self.flush(generation).await,
                _ = keep.tick() => self.keep(generation, false).await,
                () = sleep_until(self.look_at.unwrap_or(now)), if self.look_at.is_some() => self.keep(generation, true).await,
                () = self.sink.news(), if self.why.is_none() && self.look_at.is_none() => self.look_at = Some(Instant::now() + NEWS_PAUSE),
                output = generation.next() => match output {
                    Some(Output::Queued { place, wait_ms }) => self.queued = Some((place, wait_ms)),
                    // Chats offer no tools, ask for one answer and show what is said, not what is thought.
                    Some(Output::Started { .. } | Output::Reasoning { .. } | Output::ToolCall { .. } | Output::Vectors { .. } | Output::Ended { .. }) => {}
                    Some(Output::Text { text, .. }) => self.take(text),
                    Some(Output::End(ended)) => return Some(self.end(Some(ended))),
                    None => return Some(self.end(None)),
                },
            }
        }
    }

    fn take(&mut self, text: String) {
        self.queued = None;
        // NUL is the one character that Postgres cannot store.
        if text.contains('\0') {
            self.text.push_str(&text.replace('\0', ""));
        } else {
            self.text.push_str(&text);
        }
    }

    fn ask_end(&mut self, generation: &Generation, why: Why) {
        generation.cancel();
        self.why = Some((why, Instant::now() + END_PATIENCE));
    }

    async fn flush(&mut self, generation: &Generation) {
        let mut events = Vec::new();
        events.extend(self.queued.map(|(place, wait_ms)| TurnEvent::Queued { place, wait_ms }));
        events.extend(text_event(&self.text, self.sent));
        match self.sink.append(events).await {
            Ok(kept) => {
                self.queued = None;
                self.sent = self.text.len();
                self.ready_at = Instant::now() + BATCH;
                self.look_at = None;
                self.heed(generation, kept);
            }
            Err(error) => {
                tracing::warn!(%error, "events of a turn could not be stored; trying again");
                self.ready_at = Instant::now() + SINK_PAUSE;
            }
        }
    }

    async fn keep(&mut self, generation: &Generation, look: bool) {
        self.look_at = None;
        // Keeping costs as much as the text is long (it is indexed for the search), so a long one is kept less often.
        // Until then the events have it.
        let grown = self.text.len() - self.kept;
        let changed = (grown > 0 && grown * KEEP_GROWTH >= self.text.len()).then_some(self.text.as_str());
        match self.sink.keep(changed, look).await {
            Ok(kept) => {
                if changed.is_some() {
                    self.kept = self.text.len();
                }
                self.heed(generation, kept);
            }
            Err(error) => tracing::warn!(%error, "the text of a running turn could not be kept; trying again"),
        }
    }

    fn heed(&mut self, generation: &Generation, kept: Kept) {
        match kept {
            Kept::Yes => {}
            Kept::CancelRequested if self.why.is_none() => self.ask_end(generation, Why::Stopped),
            Kept::CancelRequested => {}
            Kept::UpTo(sent) => self.sent = sent.min(self.text.len()),
            Kept::Lost => self.lost = true,
        }
    }

    fn end(self, ended: Option<Ended>) -> Produced {
        let asked = self.why.map(|(why, _)| why);
        let stats = ended.as_ref().map(|ended| ended.stats.clone());
        let (status, error) = match (ended, asked) {
            // It came to its end while the end was being asked for.
            (Some(Ended { outcome: Outcome::Ok, .. }), _) => (MessageStatus::Complete, None),
            (Some(Ended { outcome: Outcome::Failed, error: Some(error), .. }), None) => Why::Failed(error).end(),
            (_, Some(why)) => why.end(),
            (_, None) => Why::Failed(Error::unavailable("model", None)).end(),
        };
        Produced { text: self.text, sent: self.sent, status, error, stats }
    }
}

/// The part of the answer that the sink does not have yet.
pub(crate) fn text_event(text: &str, sent: usize) -> Option<TurnEvent> {
    let rest = text.get(sent..).filter(|rest| !rest.is_empty())?;
    Some(TurnEvent::Text { at: u32::try_from(sent).unwrap_or(u32::MAX), text: rest.into() })
}
