//! A turn whose conversation is stored: its prompt, its sink, its end.

use super::{
    Numbered, Owner,
    answer::{Answer, Produced, text_event},
    prompt, title,
};
use crate::{
    running::{
        FINISH_PAUSES_MS, HEARTBEAT,
        hub::Entry,
        runner::{Kept, Over, Runner, Sink, Why, heard},
    },
    shared::Shared,
};
use contract::{
    chat::{AnswerStats, MessageStatus, TurnEvent},
    ids::{ConversationId, MessageId, TurnId, UserId},
    usage::Purpose,
};
use domain::{Actor, Error, Result};
use inference::{Generation, Options, Request};
use std::{sync::Arc, time::Duration};
use store::{TenantTx, listen::Subscription, messages::AnswerEnd, turns::Appended};
use tokio::time::{Instant, sleep, timeout};

/// The end of the first answer's events waits this long for the title.
const TITLE_PATIENCE: Duration = Duration::from_secs(3);

/// A turn on the hub.
pub(crate) type TurnEntry = Entry<TurnId, Owner, TurnEvent>;

/// A turn that is stored as running and now has to run.
pub(crate) struct StoredTurn {
    pub shared: Arc<Shared>,
    pub actor: Actor,
    pub user: UserId,
    pub turn: TurnId,
    pub conversation: ConversationId,
    pub question: MessageId,
    pub answer: MessageId,
    /// *Continue*: the answer's text and figures so far.
    pub before: Option<(String, Option<AnswerStats>)>,
    /// Told before anything else.
    pub first: Vec<TurnEvent>,
}

impl StoredTurn {
    /// Runs the turn to its stored end.
    pub(crate) async fn run(mut self, entry: TurnEntry) {
        let stop = entry.stop.clone();
        let mut sink = StoredSink::new(&self, entry).await;
        let first = std::mem::take(&mut self.first);
        if !first.is_empty()
            && let Err(error) = sink.store(first).await
        {
            tracing::warn!(%error, "the first events of a turn could not be stored");
        }
        let kept = self.before.as_ref().map_or_else(String::new, |(text, _)| text.clone());
        let shutdown = self.shared.shutdown.clone();
        let admitted = tokio::select! {
            biased;
            () = stop.cancelled() => Err(Why::Stopped),
            () = shutdown.cancelled() => Err(Why::Restart),
            admitted = self.admit(&kept) => admitted.map_err(Why::Failed),
        };
        let produced = match admitted {
            Ok(mut generation) => {
                let over = Runner::new(&mut sink, Answer::new(kept)).run(&mut generation, &stop, &shutdown).await;
                over.map(|over| Produced::of(over, &generation))
            }
            Err(why) => Some(Over::before_it_began(Answer::new(kept), why).into()),
        };
        match produced {
            Some(produced) => self.finish(sink, produced).await,
            None => tracing::info!(turn = %self.turn, "the turn was taken over or its conversation is gone"),
        }
    }

    /// Builds the prompt and asks for a generation.
    async fn admit(&self, kept: &str) -> Result<Generation> {
        let tx = self.shared.db.begin(&self.actor).await?;
        let profile = tx.users().get(self.user).await?.profile;
        let conversation =
            tx.conversations().find(self.user, self.conversation).await?.ok_or(Error::not_found("conversation"))?.conversation;
        let models = self.shared.inference.models(&self.actor);
        // A default model that is no longer offered is no reason to fail; one that the chat asks for is.
        let preferred = profile.default_model.filter(|id| models.iter().any(|model| model.id == *id));
        let model = conversation.model.or(preferred);
        let chosen = models.iter().find(|info| model.as_ref().map_or(info.is_default, |id| *id == info.id));
        let context = chosen.ok_or(Error::not_found("model"))?.context_length;
        let continue_last = !kept.is_empty();
        let leaf = if continue_last { self.answer } else { self.question };
        let path = tx.messages().prompt(self.user, self.conversation, leaf, prompt::bytes_worth_loading(context)).await?;
        tx.commit().await?;
        let system = prompt::system(&profile.instructions, &conversation.system_prompt);
        let messages = prompt::build(system, path, context, conversation.sampling.max_tokens, continue_last);
        let options = Options { pinned_messages: prompt::pinned(&messages), ..Options::default() };
        let request =
            Request { purpose: Purpose::Chat, model, messages, continue_last, sampling: conversation.sampling, transient: false, options };
        self.shared.inference.admit(&self.actor, request).await
    }

    /// Stores the end, tries again if the database is away, then sees to the title.
    async fn finish(&self, mut sink: StoredSink, mut produced: Produced) {
        produced.stats = added(self.before.as_ref().and_then(|(_, stats)| stats.clone()), produced.stats);
        for pause in FINISH_PAUSES_MS {
            sleep(Duration::from_millis(pause)).await;
            match self.store_end(&mut sink, &mut produced).await {
                Ok(Stored::Done) | Ok(Stored::Lost) => return,
                Ok(Stored::WantsTitle) => return self.give_title(&mut sink, &produced).await,
                Err(error) => tracing::warn!(%error, turn = %self.turn, "the end of a turn could not be stored; trying again"),
            }
        }
        tracing::error!(turn = %self.turn, "the end of a turn could not be stored; recovery will interrupt it");
    }

    /// One transaction: the rest of the text, the message, the turn, the conversation and the end itself.
    async fn store_end(&self, sink: &mut StoredSink, produced: &mut Produced) -> Result<Stored> {
        let tx = self.shared.db.begin(&self.actor).await?;
        let mut events: Vec<TurnEvent> = text_event(&produced.text, produced.sent).into_iter().collect();
        if !tx.turns().finish(self.turn, produced.status).await? {
            return Ok(Stored::Lost);
        }
        let end = AnswerEnd {
            status: produced.status,
            error: produced.error.clone(),
            stats: produced.stats.clone(),
            warnings: produced.warnings.clone(),
        };
        tx.messages().finish(self.answer, &produced.text, &end).await?;
        // What is kept from models is not for the side bar either.
        let refused = produced.is_refused();
        if refused && tx.conversations().take_title_back(self.user, self.conversation).await? {
            events.push(TurnEvent::Title { title: String::new() });
        }
        tx.conversations().touch(self.user, self.conversation, self.shared.now()).await?;
        let worth_a_title = produced.status == MessageStatus::Complete && !refused && !self.shared.shutdown.is_cancelled();
        let wants_title = worth_a_title && tx.conversations().wants_title(self.user, self.conversation).await?;
        if !wants_title {
            events.push(produced.end_event());
        }
        match sink.append_in(&tx, &events, true).await {
            Ok(Appended::Lost) => return Ok(Stored::Lost),
            Ok(_) => {}
            // The reply to an earlier batch got lost, though it was kept: look where we are and try again.
            Err(Error::Conflict { .. }) => {
                drop(tx);
                produced.sent = sink.catch_up().await?.unwrap_or(produced.sent).min(produced.text.len());
                return Err(Error::unavailable("database", None));
            }
            Err(error) => return Err(error),
        }
        tx.commit().await?;
        sink.tell(events);
        produced.sent = produced.text.len();
        Ok(if wants_title { Stored::WantsTitle } else { Stored::Done })
    }

    /// Asks for a title. The turn's last event waits for it, but not for long.
    async fn give_title(&self, sink: &mut StoredSink, produced: &Produced) {
        let making = self.make_title(produced);
        tokio::pin!(making);
        let shutdown = &self.shared.shutdown;
        let in_time = tokio::select! {
            title = timeout(TITLE_PATIENCE, &mut making) => title.ok(),
            () = shutdown.cancelled() => Some(None),
        };
        let mut events: Vec<TurnEvent> = in_time.clone().flatten().map(|title| TurnEvent::Title { title }).into_iter().collect();
        events.push(produced.end_event());
        if let Err(error) = sink.append_after_end(&events).await {
            // Those who follow make the end up from the message.
            tracing::warn!(%error, turn = %self.turn, "the last events of a turn could not be stored");
        }
        if in_time.is_none() {
            tokio::select! {
                _ = making => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    /// The model's title, stored; `None` without one, or if the user was quicker.
    async fn make_title(&self, produced: &Produced) -> Option<String> {
        // Not whoever answered in its place: that one may be asked in zones that this conversation must not leave its own for.
        let model = produced.asked.as_deref()?;
        let made = async {
            let tx = self.shared.db.begin(&self.actor).await?;
            let question = tx.messages().get(self.user, self.question).await?.ok_or(Error::not_found("message"))?;
            tx.commit().await?;
            let Some(title) = title::ask(&self.shared, &self.actor, model, &question.content, &produced.text).await else {
                return Ok(None);
            };
            let tx = self.shared.db.begin(&self.actor).await?;
            let taken = tx.conversations().suggest_title(self.user, self.conversation, &title).await?;
            tx.commit().await?;
            Ok::<_, Error>(taken.then_some(title))
        };
        made.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "a title could not be stored");
            None
        })
    }
}

/// What storing the end of a turn came to.
enum Stored {
    Done,
    /// All but the last event, which waits for the title.
    WantsTitle,
    /// Somebody else has ended the turn.
    Lost,
}

/// The figures of a continued answer: its own and those from before.
fn added(before: Option<AnswerStats>, now: Option<AnswerStats>) -> Option<AnswerStats> {
    match (before, now) {
        (Some(before), Some(now)) => Some(AnswerStats {
            prompt_tokens: before.prompt_tokens.saturating_add(now.prompt_tokens),
            cached_tokens: before.cached_tokens.saturating_add(now.cached_tokens),
            completion_tokens: before.completion_tokens.saturating_add(now.completion_tokens),
            reasoning_tokens: before.reasoning_tokens.saturating_add(now.reasoning_tokens),
            ttft_ms: if before.completion_tokens == 0 { now.ttft_ms } else { before.ttft_ms },
            duration_ms: before.duration_ms.saturating_add(now.duration_ms),
            ..now
        }),
        (before, now) => now.or(before),
    }
}

/// Writes events into the table and tells those who follow on this node.
pub(crate) struct StoredSink {
    shared: Arc<Shared>,
    actor: Actor,
    turn: TurnId,
    answer: MessageId,
    entry: TurnEntry,
    /// Number of the last event.
    seq: i32,
    alive_at: Instant,
    news: Option<Subscription>,
}

impl StoredSink {
    async fn new(turn: &StoredTurn, entry: TurnEntry) -> Self {
        // Without it a Stop from another node is seen by the next batch or heartbeat.
        let news = turn.shared.db.subscribe(turn.turn).await.ok();
        Self {
            shared: turn.shared.clone(),
            actor: turn.actor.clone(),
            turn: turn.turn,
            answer: turn.answer,
            entry,
            seq: 0,
            alive_at: Instant::now(),
            news,
        }
    }

    async fn append_in(&self, tx: &TenantTx, events: &[TurnEvent], after_end: bool) -> Result<Appended> {
        if events.is_empty() {
            return Ok(Appended::Stored);
        }
        tx.turns().append(self.turn, self.shared.node, self.seq + 1, events, after_end).await
    }

    /// Stores events and tells those who follow. With them comes up to where the answer's text was stored before, if the
    /// reply to an earlier try got lost.
    async fn store(&mut self, events: Vec<TurnEvent>) -> Result<(Kept, Option<usize>)> {
        let tx = self.shared.db.begin(&self.actor).await?;
        let appended = match self.append_in(&tx, &events, false).await {
            Err(Error::Conflict { .. }) => {
                drop(tx);
                return Ok((Kept::Yes, self.catch_up().await?));
            }
            other => other?,
        };
        tx.commit().await?;
        let kept = match appended {
            Appended::Lost => return Ok((Kept::Lost, None)),
            Appended::Stored => Kept::Yes,
            Appended::CancelRequested => Kept::CancelRequested,
        };
        self.tell(events);
        Ok((kept, None))
    }

    async fn append_after_end(&mut self, events: &[TurnEvent]) -> Result<()> {
        let tx = self.shared.db.begin(&self.actor).await?;
        self.append_in(&tx, events, true).await?;
        tx.commit().await?;
        self.tell(events.to_vec());
        Ok(())
    }

    /// Counts stored events and tells those who follow.
    fn tell(&mut self, events: Vec<TurnEvent>) {
        let numbered: Vec<Numbered> = events
            .into_iter()
            .map(|event| {
                self.seq += 1;
                (self.seq, event)
            })
            .collect();
        self.entry.tell(&numbered);
    }

    /// Reads what the table has beyond our own count. Up to where the answer's text goes there.
    async fn catch_up(&mut self) -> Result<Option<usize>> {
        let tx = self.shared.db.begin(&self.actor).await?;
        let stored = tx.turns().events(self.turn, self.seq, u32::MAX).await?;
        tx.commit().await?;
        let mut end = None;
        for (seq, event) in &stored {
            self.seq = *seq;
            if let TurnEvent::Text { at, text } = event {
                end = Some(usize::try_from(*at).unwrap_or(usize::MAX).saturating_add(text.len()));
            }
        }
        self.entry.tell(&stored);
        Ok(end)
    }
}

impl Sink<Answer> for StoredSink {
    async fn append(&mut self, answer: &mut Answer) -> Result<Kept> {
        let (kept, up_to) = self.store(answer.events()).await?;
        answer.told();
        if let Some(up_to) = up_to {
            answer.told_up_to(up_to);
        }
        Ok(kept)
    }

    async fn keep(&mut self, answer: &mut Answer, look: bool) -> Result<Kept> {
        let text = answer.unkept();
        if text.is_none() && !look && self.alive_at.elapsed() < HEARTBEAT {
            return Ok(Kept::Yes);
        }
        let tx = self.shared.db.begin(&self.actor).await?;
        tx.turns().without_waiting_for_disk().await?;
        let alive = tx.turns().heartbeat(self.turn, self.shared.node).await?;
        if let (Some(_), Some(text)) = (alive, text) {
            tx.messages().checkpoint(self.answer, text).await?;
        }
        tx.commit().await?;
        if text.is_some() {
            answer.keep();
        }
        self.alive_at = Instant::now();
        Ok(Kept::of_heartbeat(alive))
    }

    async fn news(&mut self) {
        heard(&mut self.news).await;
    }
}

#[cfg(test)]
mod tests {
    use super::added;
    use contract::chat::AnswerStats;

    #[test]
    fn the_figures_of_a_continued_answer_add_up() {
        let stats = |n: u32| AnswerStats {
            model: "m".into(),
            prompt_tokens: n,
            cached_tokens: n,
            completion_tokens: n,
            reasoning_tokens: n,
            ttft_ms: n,
            duration_ms: n,
            finish_reason: format!("r{n}"),
        };
        let sum = added(Some(stats(2)), Some(stats(3))).expect("some");
        assert_eq!((sum.prompt_tokens, sum.cached_tokens, sum.completion_tokens, sum.duration_ms), (5, 5, 5, 5));
        assert_eq!((sum.ttft_ms, sum.finish_reason.as_str()), (2, "r3"));
        assert_eq!(added(Some(stats(2)), None).expect("some").prompt_tokens, 2);
    }
}
