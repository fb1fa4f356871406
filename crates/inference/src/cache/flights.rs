//! Equal requests at the same time: one is computed, the others wait for it.

use super::key::Key;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::timeout};

/// What is being computed.
#[derive(Default)]
pub(super) struct Flights {
    running: Mutex<HashMap<Key, watch::Receiver<()>>>,
}

/// Whose turn it is.
pub(super) enum Turn {
    First(Flight),
    Later(Later),
}

/// The computation that others wait for. It is over once this is dropped, for whatever reason.
pub(super) struct Flight {
    of: Arc<Flights>,
    key: Key,
    /// Closes when it is dropped.
    _over: watch::Sender<()>,
}

/// One that waits.
pub(super) struct Later(watch::Receiver<()>);

impl Flights {
    pub(super) fn turn(self: &Arc<Self>, key: Key) -> Turn {
        let mut running = self.lock();
        if let Some(first) = running.get(&key) {
            return Turn::Later(Later(first.clone()));
        }
        let (over, waiting) = watch::channel(());
        running.insert(key, waiting);
        Turn::First(Flight { of: self.clone(), key, _over: over })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, watch::Receiver<()>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.of.lock().remove(&self.key);
    }
}

impl Later {
    /// The first one is over, or that took too long.
    pub(super) async fn over(mut self, patience: Duration) {
        // Nothing is ever sent: it ends when the sender is gone, or with the patience.
        let _ = timeout(patience, self.0.changed()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::{Flights, Turn};
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn others_wait_until_the_first_is_gone_and_not_for_ever() {
        let flights = Arc::new(Flights::default());
        let Turn::First(first) = flights.turn([1; 32]) else { panic!("nobody was before") };
        assert!(matches!(flights.turn([2; 32]), Turn::First(_)), "another request is another flight");
        let Turn::Later(later) = flights.turn([1; 32]) else { panic!("somebody is before") };
        let began = Instant::now();
        later.over(SHORT).await;
        assert!(began.elapsed() >= SHORT);
        let Turn::Later(later) = flights.turn([1; 32]) else { panic!("somebody is still before") };
        drop(first);
        later.over(LONG).await;
        assert!(began.elapsed() < LONG);
        assert!(matches!(flights.turn([1; 32]), Turn::First(_)));
    }
}
