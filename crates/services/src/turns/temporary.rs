//! Temporary turns: nothing of them is ever stored but what they used. They live in the memory of the process that
//! runs them, readable by the one user, and vanish a while after their end.

use super::{Numbered, Owner, answer::Answer};
use crate::running::runner::{Kept, Sink};
use contract::{Millis, chat::TurnEvent, ids::TurnId};
use domain::{Clock, Error, Quota, Result};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long after its end a temporary turn can be read.
const KEPT_MS: Millis = 10 * 60 * 1000;
/// Most temporary turns of one user at a time, ended ones included.
const PER_USER: usize = 50;
/// Most temporary turns of the process.
const IN_ALL: usize = 5_000;

struct Temporary {
    owner: Owner,
    events: Vec<Numbered>,
    changed: watch::Sender<()>,
    stop: CancellationToken,
    ended_at: Option<Millis>,
}

/// What a follower gets to see of a temporary turn.
pub(crate) struct Look {
    /// Events after the number asked for.
    pub events: Vec<Numbered>,
    /// No more will come.
    pub ended: bool,
    /// Tells when there are more.
    pub changed: watch::Receiver<()>,
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Registry {
    turns: Arc<Mutex<HashMap<TurnId, Temporary>>>,
    clock: Arc<dyn Clock>,
}

impl Registry {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { turns: Arc::default(), clock }
    }

    /// Makes room for a turn; the sink to write it with and the token that stops it. The user's oldest ended turn
    /// makes way if there are too many.
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`] if too many of the user's are running, [`Error::Unavailable`] if too many of all are.
    pub(crate) fn enter(&self, turn: TurnId, owner: Owner) -> Result<(MemorySink, CancellationToken)> {
        self.purge();
        let mut turns = self.lock();
        if turns.values().filter(|one| one.owner == owner).count() >= PER_USER {
            let oldest = turns.iter().filter(|(_, one)| one.owner == owner && one.ended_at.is_some()).min_by_key(|(_, one)| one.ended_at);
            let oldest =
                oldest.map(|(id, _)| *id).ok_or_else(|| Error::limited(Quota::Places(PER_USER as u64), "temporary chats", 10_000))?;
            turns.remove(&oldest);
        }
        if turns.len() >= IN_ALL {
            return Err(Error::unavailable("server", Some(60)));
        }
        let stop = CancellationToken::new();
        let temporary = Temporary { owner, events: Vec::new(), changed: watch::channel(()).0, stop: stop.clone(), ended_at: None };
        turns.insert(turn, temporary);
        Ok((MemorySink { registry: self.clone(), turn }, stop))
    }

    /// Events after number `after`; `None` if the user has no such turn.
    pub(crate) fn look(&self, turn: TurnId, owner: Owner, after: i32) -> Option<Look> {
        let turns = self.lock();
        let one = turns.get(&turn).filter(|one| one.owner == owner)?;
        let events = one.events.iter().filter(|(seq, _)| *seq > after).cloned().collect();
        Some(Look { events, ended: one.ended_at.is_some(), changed: one.changed.subscribe() })
    }

    /// Asks a turn for its end; `false` if the user has no such turn.
    pub(crate) fn stop(&self, turn: TurnId, owner: Owner) -> bool {
        match self.lock().get(&turn).filter(|one| one.owner == owner) {
            Some(one) => {
                one.stop.cancel();
                true
            }
            None => false,
        }
    }

    /// Stops and forgets everything of a user.
    pub(crate) fn forget(&self, owner: Owner) {
        self.lock().retain(|_, one| {
            let theirs = one.owner == owner;
            if theirs {
                one.stop.cancel();
            }
            !theirs
        });
    }

    /// Forgets turns that ended long ago.
    pub(crate) fn purge(&self) {
        let before = self.clock.now() - KEPT_MS;
        self.lock().retain(|_, one| one.ended_at.is_none_or(|at| at > before));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TurnId, Temporary>> {
        // The map is whole whenever the lock is released, even by a panic.
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a temporary turn. Dropped without an end (a panic), it forgets the turn.
pub(crate) struct MemorySink {
    registry: Registry,
    turn: TurnId,
}

impl MemorySink {
    fn push(&self, events: Vec<TurnEvent>, end: bool) -> bool {
        let mut turns = self.registry.lock();
        let Some(one) = turns.get_mut(&self.turn) else { return false };
        for event in events {
            let seq = one.events.last().map_or(1, |(seq, _)| seq + 1);
            one.events.push((seq, event));
        }
        if end {
            one.ended_at = Some(self.registry.clock.now());
        }
        one.changed.send_replace(());
        true
    }

    /// Appends the last events.
    pub(crate) fn end(self, events: Vec<TurnEvent>) {
        self.push(events, true);
    }
}

impl Drop for MemorySink {
    fn drop(&mut self) {
        let mut turns = self.registry.lock();
        if turns.get(&self.turn).is_some_and(|one| one.ended_at.is_none()) {
            turns.remove(&self.turn);
        }
    }
}

impl Sink<Answer> for MemorySink {
    async fn append(&mut self, answer: &mut Answer) -> Result<Kept> {
        let kept = self.push(answer.events(), false);
        answer.told();
        Ok(if kept { Kept::Yes } else { Kept::Lost })
    }

    async fn keep(&mut self, _: &mut Answer, _: bool) -> Result<Kept> {
        Ok(Kept::Yes)
    }

    async fn news(&mut self) {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::{KEPT_MS, Owner, PER_USER, Registry};
    use contract::{
        Millis,
        chat::{MessageStatus, TurnEvent},
        ids::TurnId,
    };
    use domain::{Clock, Error};
    use std::sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    };
    use uuid::Uuid;

    #[derive(Debug, Default)]
    struct Hand(AtomicI64);

    impl Clock for Hand {
        fn now(&self) -> Millis {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn owner() -> Owner {
        (Uuid::now_v7().into(), Uuid::now_v7().into())
    }

    fn end() -> Vec<TurnEvent> {
        vec![TurnEvent::End { status: MessageStatus::Complete, error: None, stats: None, warnings: Vec::new() }]
    }

    #[test]
    fn only_the_owner_sees_it_and_only_for_a_while() {
        let clock = Arc::new(Hand::default());
        let registry = Registry::new(clock.clone());
        let (turn, owner, stranger) = (TurnId(Uuid::now_v7()), owner(), owner());
        let (sink, stop) = registry.enter(turn, owner).expect("room");
        assert!(registry.look(turn, stranger, 0).is_none() && !registry.stop(turn, stranger) && !stop.is_cancelled());
        sink.end(end());
        let look = registry.look(turn, owner, 0).expect("there");
        assert!(look.ended && look.events.len() == 1);
        assert!(registry.look(turn, owner, 1).expect("there").events.is_empty());
        clock.0.store(KEPT_MS + 1, Ordering::Relaxed);
        registry.purge();
        assert!(registry.look(turn, owner, 0).is_none());
    }

    #[test]
    fn the_registry_is_bounded() {
        let registry = Registry::new(Arc::new(Hand::default()));
        let owner = owner();
        let mut sinks: Vec<_> = (0..PER_USER).map(|_| registry.enter(TurnId(Uuid::now_v7()), owner).expect("room").0).collect();
        assert!(matches!(registry.enter(TurnId(Uuid::now_v7()), owner), Err(Error::QuotaExceeded { .. })));
        sinks.remove(0).end(end());
        assert!(registry.enter(TurnId(Uuid::now_v7()), owner).is_ok(), "an ended turn makes way");
    }
}
