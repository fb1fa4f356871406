//! A turn's events for those who follow: from the table, then as they come.

use super::hub::Numbered;
use crate::shared::Shared;
use contract::{
    chat::{MessageStatus, TurnEvent},
    ids::{TurnId, UserId},
};
use domain::{Actor, Error, Result};
use futures::{Stream, stream};
use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};
use store::{listen::Subscription, turns::TurnState};
use tokio::{
    sync::broadcast,
    time::{sleep, timeout},
};

/// Events with their numbers; ends after [`TurnEvent::End`].
pub type Events = Pin<Box<dyn Stream<Item = (i32, TurnEvent)> + Send + 'static>>;

/// Rows of one look into the table.
const ROWS: u32 = 500;
/// A look into the table without any news, in case one got lost.
const LOOK_ANYWAY: Duration = Duration::from_secs(5);
/// Pause after the database failed.
const PAUSE: Duration = Duration::from_secs(1);
/// After this many failures in a row the stream ends; the browser connects again.
const FAILURES: u32 = 30;

/// One who follows a stored turn.
struct Follower {
    shared: Arc<Shared>,
    actor: Actor,
    user: UserId,
    turn: TurnId,
    /// Number of the last event handed on.
    last: i32,
    ready: VecDeque<Numbered>,
    /// Events of this process, if the turn runs here.
    live: Option<broadcast::Receiver<Numbered>>,
    /// News from all processes.
    news: Option<Subscription>,
    failures: u32,
    /// The table has more rows than the last look brought.
    more: bool,
    over: bool,
}

/// Follows a stored turn from after event number `after`.
///
/// # Errors
/// [`Error::NotFound`] if the user has no such turn.
pub(crate) async fn follow(shared: Arc<Shared>, actor: Actor, user: UserId, turn: TurnId, after: i32) -> Result<Events> {
    // News first, table second: nothing can slip through in between.
    let live = shared.hub.follow(turn);
    let news = match shared.db.subscribe(turn).await {
        Ok(news) => Some(news),
        Err(error) => {
            tracing::warn!(%error, "no news from other nodes; looking now and then instead");
            None
        }
    };
    let mut follower = Follower {
        shared,
        actor,
        user,
        turn,
        last: after.max(0),
        ready: VecDeque::new(),
        live,
        news,
        failures: 0,
        more: false,
        over: false,
    };
    follower.look().await?;
    Ok(Box::pin(stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((event, follower))
    })))
}

impl Follower {
    async fn next(&mut self) -> Option<Numbered> {
        loop {
            if let Some((seq, event)) = self.ready.pop_front() {
                self.last = seq;
                self.over = self.over || matches!(event, TurnEvent::End { .. });
                return Some((seq, event));
            }
            if self.over || self.failures > FAILURES {
                return None;
            }
            if !self.more
                && let Some(event) = self.wait().await
            {
                self.ready.push_back(event);
                continue;
            }
            match self.look().await {
                Ok(()) => self.failures = 0,
                // The conversation was purged meanwhile.
                Err(Error::NotFound { .. }) => return None,
                Err(error) => {
                    tracing::warn!(%error, "the events of a turn could not be read; trying again");
                    self.failures += 1;
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Waits for the next event of this process, or (`None`) for a reason to look into the table.
    async fn wait(&mut self) -> Option<Numbered> {
        loop {
            let told = match (&mut self.live, &mut self.news) {
                (Some(live), _) => timeout(LOOK_ANYWAY, live.recv()).await.ok(),
                (None, Some(news)) => {
                    if let Ok(false) = timeout(LOOK_ANYWAY, news.changed()).await {
                        self.news = None;
                    }
                    None
                }
                (None, None) => {
                    sleep(PAUSE).await;
                    None
                }
            };
            match told {
                None => return None,
                Some(Ok((seq, _))) if seq <= self.last => {}
                Some(Ok((seq, event))) if seq == self.last + 1 => return Some((seq, event)),
                // A gap: the table has what is missing.
                Some(Ok(_) | Err(broadcast::error::RecvError::Lagged(_))) => return None,
                Some(Err(broadcast::error::RecvError::Closed)) => {
                    self.live = None;
                    return None;
                }
            }
        }
    }

    /// Reads what the table has beyond the last event; for a turn that will get no more, makes up what is missing.
    async fn look(&mut self) -> Result<()> {
        let tx = self.shared.db.begin(&self.actor).await?;
        // State first: whoever sees the end here also sees the events that came with it.
        let state = tx.turns().state(self.user, self.turn).await?.ok_or(Error::not_found("turn"))?;
        let events = tx.turns().events(self.turn, self.last, ROWS).await?;
        tx.commit().await?;
        if events.is_empty() && state.settled && state.status != MessageStatus::Running {
            self.ready.extend(self.made_up(state).await?);
            self.over = true;
        }
        self.more = events.len() >= usize::try_from(ROWS).unwrap_or(usize::MAX);
        self.ready.extend(events);
        Ok(())
    }

    /// The events of a turn whose own are purged, or whose process ended before the last one: the message has all
    /// of it. Text from the beginning does no harm to those who have some of it already.
    async fn made_up(&self, state: TurnState) -> Result<Vec<Numbered>> {
        let tx = self.shared.db.begin(&self.actor).await?;
        let message = tx.messages().get(self.user, state.message).await?.ok_or(Error::not_found("turn"))?;
        tx.commit().await?;
        let text = TurnEvent::Text { at: 0, text: message.content };
        let end = TurnEvent::End { status: state.status, error: message.error, stats: message.stats };
        Ok(vec![(self.last + 1, text), (self.last + 2, end)])
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
