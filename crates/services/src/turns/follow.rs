//! A turn's events for those who follow: from the table, then as they come.

use super::Numbered;
use crate::{
    running::follow::{self, Log, Look, ROWS},
    shared::Shared,
};
use contract::{
    chat::{MessageStatus, TurnEvent},
    ids::{TurnId, UserId},
};
use domain::{Actor, Error, Result};
use futures::{Stream, stream};
use std::{collections::VecDeque, pin::Pin, sync::Arc};
use store::turns::TurnState;

/// Events with their numbers; ends after [`TurnEvent::End`].
pub type Events = Pin<Box<dyn Stream<Item = (i32, TurnEvent)> + Send + 'static>>;

/// The events of a stored turn.
struct TurnLog {
    shared: Arc<Shared>,
    actor: Actor,
    user: UserId,
    turn: TurnId,
}

/// Follows a stored turn from after event number `after`.
///
/// # Errors
/// [`Error::NotFound`] if the user has no such turn.
pub(crate) async fn follow(shared: Arc<Shared>, actor: Actor, user: UserId, turn: TurnId, after: i32) -> Result<Events> {
    let live = shared.hub.follow(turn);
    let news = follow::news(&shared.db, turn).await;
    follow::follow(TurnLog { shared, actor, user, turn }, live, news, after).await
}

impl Log for TurnLog {
    type Event = TurnEvent;

    async fn look(&self, after: i32) -> Result<Look<TurnEvent>> {
        let tx = self.shared.db.begin(&self.actor).await?;
        // State first: whoever sees the end here also sees the events that came with it.
        let state = tx.turns().state(self.user, self.turn).await?.ok_or(Error::not_found("turn"))?;
        let events = tx.turns().events(self.turn, after, ROWS).await?;
        tx.commit().await?;
        if events.is_empty() && state.settled && state.status != MessageStatus::Running {
            return Ok(Look { events: self.made_up(state, after).await?, over: true });
        }
        Ok(Look { events, over: false })
    }

    fn is_last(event: &TurnEvent) -> bool {
        matches!(event, TurnEvent::End { .. })
    }
}

impl TurnLog {
    /// The events of a turn whose own are purged, or whose process ended before the last one: the message has all
    /// of it. Text from the beginning does no harm to those who have some of it already.
    async fn made_up(&self, state: TurnState, after: i32) -> Result<Vec<Numbered>> {
        let tx = self.shared.db.begin(&self.actor).await?;
        let message = tx.messages().get(self.user, state.message).await?.ok_or(Error::not_found("turn"))?;
        tx.commit().await?;
        let text = TurnEvent::Text { at: 0, text: message.content };
        let end = TurnEvent::End { status: state.status, error: message.error, stats: message.stats, warnings: message.warnings };
        Ok(vec![(after + 1, text), (after + 2, end)])
    }
}

/// Follows a temporary turn from after event number `after`; `None` if the user has no such turn here.
pub(crate) fn follow_temporary(shared: Arc<Shared>, actor: &Actor, user: UserId, turn: TurnId, after: i32) -> Option<Events> {
    let owner = (actor.tenant(), user);
    shared.temporary.look(turn, owner, after)?;
    let start = (shared, after, VecDeque::<Numbered>::new());
    Some(Box::pin(stream::unfold(start, move |(shared, mut last, mut ready)| async move {
        loop {
            if let Some((seq, event)) = ready.pop_front() {
                last = seq;
                return Some(((seq, event), (shared, last, ready)));
            }
            let mut look = shared.temporary.look(turn, owner, last)?;
            if look.events.is_empty() {
                // Ended, or waiting; a turn that vanishes closes the channel.
                if look.ended || look.changed.changed().await.is_err() {
                    return None;
                }
            }
            ready.extend(look.events);
        }
    })))
}
