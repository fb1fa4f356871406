//! Turns: the making of answers. A turn belongs to the server, not to the browser that asked for it.

mod answer;
mod follow;
mod prompt;
pub(crate) mod recovery;
mod start;
mod stored;
pub(crate) mod temporary;
mod title;

pub use follow::Events;
pub(crate) use prompt::fence;

use crate::{
    check,
    running::runner::{Over, Runner, Why},
    shared::Shared,
};
use answer::{Answer, Produced};
use contract::{
    chat::{MESSAGE_MAX_BYTES, MessageRole, StartTemporaryTurn, StartTurn, StartedTurn, TemporaryMessage, TurnEvent},
    ids::{MessageId, TenantId, TurnId, UserId},
    usage::Purpose,
};
use domain::{Action, Actor, Error, Result};
use inference::{Options, Request};
use std::sync::Arc;
use store::messages::PromptMessage;
use telemetry::carried;
use temporary::MemorySink;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// An event with its number in the turn.
pub(crate) type Numbered = (i32, TurnEvent);

/// Whose turn it is.
pub(crate) type Owner = (TenantId, UserId);

/// How the limit of turns that run at the same time is called.
const AT_A_TIME: &str = "answers at a time";
/// Most messages that a temporary chat may send along.
const TEMPORARY_MESSAGES_MAX: usize = 400;
/// Longest answer that comes back with a temporary chat, in bytes.
const TEMPORARY_ANSWER_MAX_BYTES: usize = 4 * MESSAGE_MAX_BYTES;

/// Asking, regenerating, continuing, stopping, following.
#[derive(Clone)]
pub struct Turns {
    shared: Arc<Shared>,
}

impl Turns {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Asks a question; the turn runs when this returns. Without a conversation a new one begins.
    ///
    /// # Errors
    /// [`Error::NotFound`] for `conversation` or `parent`; [`Error::Invalid`] for `content`, `attachments`, `parent`
    /// or a setting; [`Error::Conflict`] (`turn_running`); [`Error::QuotaExceeded`] with too many turns at a time;
    /// [`Error::Unavailable`] while the process is ending.
    pub async fn start(&self, actor: &Actor, input: StartTurn) -> Result<StartedTurn> {
        actor.may(Action::Chat)?;
        let attachments = check::attachments(input.attachments)?;
        let content = check::question(input.content, &attachments)?;
        let settings = input.settings.map(|settings| check::settings(&self.shared.inference, actor, settings)).transpose()?;
        let input = StartTurn { content, attachments, settings, ..input };
        self.launch(actor, start::What::Ask(input)).await
    }

    /// Makes another answer to the same question, beside the one given.
    ///
    /// # Errors
    /// [`Error::NotFound`] unless it is one of the user's answers; [`Error::Conflict`] (`turn_running`);
    /// [`Error::QuotaExceeded`] with too many turns at a time.
    pub async fn regenerate(&self, actor: &Actor, answer: MessageId) -> Result<StartedTurn> {
        actor.may(Action::Chat)?;
        self.launch(actor, start::What::Regenerate(answer)).await
    }

    /// Goes on with an answer that was stopped, interrupted or reached its length.
    ///
    /// # Errors
    /// [`Error::NotFound`] unless it is one of the user's answers; [`Error::Conflict`] (`turn_running`, or
    /// `answer_complete` if there is nothing to go on with); [`Error::QuotaExceeded`] with too many turns at a time.
    pub async fn resume(&self, actor: &Actor, answer: MessageId) -> Result<StartedTurn> {
        actor.may(Action::Chat)?;
        self.launch(actor, start::What::Resume(answer)).await
    }

    /// Ends a turn, wherever it runs; what was produced is kept. Does nothing to a turn that has ended.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the user has no such turn.
    pub async fn stop(&self, actor: &Actor, turn: TurnId) -> Result<()> {
        actor.may(Action::Chat)?;
        let user = actor.user()?;
        let owner = (actor.tenant(), user);
        // A turn that runs here ends without a word to the database: the slot is free that much sooner.
        if self.shared.temporary.stop(turn, owner) || self.shared.hub.stop(turn, owner) {
            return Ok(());
        }
        let tx = self.shared.db.begin(actor).await?;
        if !tx.turns().request_cancel(user, turn).await? {
            // It has ended, or it is not the user's.
            return tx.turns().state(user, turn).await?.map(drop).ok_or(Error::not_found("turn"));
        }
        tx.commit().await?;
        // It may have been stored but not yet running a moment ago.
        self.shared.hub.stop(turn, owner);
        Ok(())
    }

    /// The turn's events after number `after` (0: all), then those that come; ends after
    /// [`TurnEvent::End`]. Works on every node and after a restart; a temporary turn only where it runs.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the user has no such turn.
    pub async fn events(&self, actor: &Actor, turn: TurnId, after: i32) -> Result<Events> {
        actor.may(Action::Chat)?;
        let user = actor.user()?;
        if let Some(events) = follow::follow_temporary(self.shared.clone(), actor, user, turn, after) {
            return Ok(events);
        }
        follow::follow(self.shared.clone(), actor.clone(), user, turn, after).await
    }

    /// Asks in a temporary chat. Nothing of it is stored but the use of the model.
    ///
    /// # Errors
    /// [`Error::Invalid`] for `messages`, `content`, `attachments` or a setting; [`Error::QuotaExceeded`] with too many
    /// temporary turns at a time; [`Error::Unavailable`] while the process is ending.
    pub async fn start_temporary(&self, actor: &Actor, input: StartTemporaryTurn) -> Result<TurnId> {
        actor.may(Action::Chat)?;
        let user = actor.user()?;
        self.shared.refuse_while_ending()?;
        let settings = check::settings(&self.shared.inference, actor, input.settings)?;
        let path = temporary_path(input.messages)?;
        let tx = self.shared.db.begin(actor).await?;
        let profile = tx.users().get(user).await?.profile;
        tx.commit().await?;

        let models = self.shared.inference.models(actor);
        let preferred = profile.default_model.filter(|id| models.iter().any(|model| model.id == *id));
        let model = settings.model.or(preferred);
        let chosen = models.iter().find(|info| model.as_ref().map_or(info.is_default, |id| *id == info.id));
        let context = chosen.ok_or(Error::not_found("model"))?.context_length;
        let system = prompt::system(&profile.instructions, &settings.system_prompt);
        let messages = prompt::build(system, path, context, settings.sampling.max_tokens, false);
        let request = Request {
            purpose: Purpose::TemporaryChat,
            model,
            messages,
            continue_last: false,
            sampling: settings.sampling,
            transient: true,
            options: Options::default(),
        };

        let turn = TurnId(Uuid::now_v7());
        let (sink, stop) = self.shared.temporary.enter(turn, (actor.tenant(), user))?;
        self.shared.tracker.spawn(carried(run_temporary(self.shared.clone(), actor.clone(), request, sink, stop)));
        Ok(turn)
    }

    /// The user's running turns.
    pub(crate) async fn running(&self, actor: &Actor) -> Result<Vec<TurnId>> {
        let tx = self.shared.db.begin(actor).await?;
        let running = tx.turns().running(actor.user()?).await?;
        tx.commit().await?;
        Ok(running)
    }

    /// Ends turns whose rows are gone with their user, on all nodes, and forgets the user's temporary ones.
    pub(crate) async fn abandon(&self, actor: &Actor, turns: Vec<TurnId>) -> Result<()> {
        let owner = (actor.tenant(), actor.user()?);
        self.shared.temporary.forget(owner);
        for turn in turns {
            self.shared.hub.stop(turn, owner);
            self.shared.db.notify(turn).await?;
        }
        Ok(())
    }

    /// Stores the turn and runs it. In a task of its own: a browser that goes away in between must not leave a turn
    /// that is stored as running and does not run.
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`] with too many turns at a time; those of [`start::store`].
    async fn launch(&self, actor: &Actor, what: start::What) -> Result<StartedTurn> {
        self.shared.refuse_while_ending()?;
        let (shared, actor) = (self.shared.clone(), actor.clone());
        let (id, owner) = (TurnId(Uuid::now_v7()), (actor.tenant(), actor.user()?));
        let entry = self.shared.hub.enter_within(id, owner, CancellationToken::new(), AT_A_TIME)?;
        let launched = self.shared.tracker.spawn(carried(async move {
            let (started, turn) = start::store(&shared, &actor, id, what).await?;
            shared.tracker.spawn(carried(turn.run(entry)));
            Ok(started)
        }));
        launched.await.map_err(Error::internal)?
    }
}

/// What a temporary chat sends along, checked: ends with a question.
fn temporary_path(messages: Vec<TemporaryMessage>) -> Result<Vec<PromptMessage>> {
    if messages.len() > TEMPORARY_MESSAGES_MAX {
        let text = format!("A temporary chat may have at most {TEMPORARY_MESSAGES_MAX} messages.");
        return Err(Error::invalid("messages", "too_many", text));
    }
    if messages.last().is_none_or(|last| last.role != MessageRole::User) {
        return Err(Error::invalid("messages", "last_not_question", "The last message must be the question."));
    }
    messages.into_iter().map(temporary_message).collect()
}

fn temporary_message(message: TemporaryMessage) -> Result<PromptMessage> {
    let attachments = check::attachments(message.attachments)?;
    let content = match message.role {
        MessageRole::User => check::question(message.content, &attachments)?,
        MessageRole::Assistant => {
            check::at_most("content", &message.content, TEMPORARY_ANSWER_MAX_BYTES)?;
            message.content
        }
    };
    let attachments = attachments.into_iter().map(|attachment| (attachment.name, attachment.content)).collect();
    let refused = message.refused && message.role == MessageRole::Assistant;
    Ok(PromptMessage { role: message.role, content, attachments, refused })
}

async fn run_temporary(shared: Arc<Shared>, actor: Actor, request: Request, mut sink: MemorySink, stop: CancellationToken) {
    let admitted = tokio::select! {
        biased;
        () = stop.cancelled() => Err(Why::Stopped),
        () = shared.shutdown.cancelled() => Err(Why::Restart),
        admitted = shared.inference.admit(&actor, request) => admitted.map_err(Why::Failed),
    };
    let nothing = Answer::new(String::new());
    let produced = match admitted {
        Ok(mut generation) => {
            let over = Runner::new(&mut sink, nothing).run(&mut generation, &stop, &shared.shutdown).await;
            over.map(|over| Produced::of(over, &generation))
        }
        Err(why) => Some(Over::before_it_began(nothing, why).into()),
    };
    let Some(produced) = produced else { return };
    let mut events: Vec<TurnEvent> = answer::text_event(&produced.text, produced.sent).into_iter().collect();
    events.push(produced.end_event());
    sink.end(events);
}
