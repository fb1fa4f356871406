//! What the comparisons of workers came to that have left: a difference does not go away with its worker.

use super::Reconciled;
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Workers may have a new name with each start, so they are not kept without end.
const MOST: usize = 256;

/// By name, until the process ends. Of more than 256 those that differ least are forgotten.
#[derive(Debug, Default)]
pub(super) struct Departed(Mutex<BTreeMap<String, Reconciled>>);

impl Departed {
    fn by_name(&self) -> MutexGuard<'_, BTreeMap<String, Reconciled>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what a worker's comparisons came to, in the end, to what those before it under this name came to.
    pub(super) fn keep(&self, name: &str, reconciled: Reconciled) {
        if reconciled == Reconciled::default() {
            return;
        }
        let mut by_name = self.by_name();
        by_name.entry(name.to_owned()).or_default().add(reconciled);
        if by_name.len() > MOST {
            let least = by_name.iter().min_by_key(|(_, one)| (one.drift, one.cut)).map(|(name, _)| name.clone());
            if let Some(least) = least {
                by_name.remove(&least);
            }
        }
    }

    pub(super) fn all(&self) -> BTreeMap<String, Reconciled> {
        self.by_name().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::{Departed, MOST};
    use crate::{
        meter::Ticket,
        pool::{Backend, BackendError, EventStream, Pool, PoolTiming, Reconciled, Tokens, choice::Terms},
        work::Work,
    };
    use async_trait::async_trait;
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };
    use worker_protocol::{Counted, Generate, PROTOCOL, State, Status, Totals};

    /// A worker that counts what nobody asked for.
    #[derive(Debug, Default)]
    struct Miscounting(AtomicU64);

    #[async_trait]
    impl Backend for Miscounting {
        async fn status(&self) -> Result<Status, BackendError> {
            let totals = Totals { completion_tokens: self.0.load(Ordering::Relaxed), ..Totals::default() };
            Ok(Status {
                protocol: PROTOCOL,
                state: State::Ready,
                models: Vec::new(),
                busy: 0,
                queued: 0,
                stuck_ms: 0,
                totals,
                devices: Vec::new(),
            })
        }

        async fn start(&self, _: &Ticket, _: &Work) -> Result<EventStream, BackendError> {
            Err(BackendError::Lost("it only counts".into()))
        }

        fn counts_to_the_end(&self) -> bool {
            true
        }

        async fn count(&self, _: &Generate) -> Result<Counted, BackendError> {
            Err(BackendError::Lost("it only counts".into()))
        }
    }

    /// A life of the worker in which it counts so many tokens too many.
    async fn live(pool: &Pool, tokens: u64) {
        let (member, backend) = (pool.join("w", Terms::worker(Vec::new())), Arc::new(Miscounting::default()));
        member.attach(backend.clone());
        member.poll_once(&PoolTiming::default()).await;
        backend.0.store(tokens, Ordering::Relaxed);
        member.poll_once(&PoolTiming::default()).await;
        assert_eq!(member.reconciled().drift, tokens);
        assert!(pool.reconciled().contains_key("w"));
        pool.part(&member);
    }

    #[tokio::test]
    async fn a_difference_stays_when_its_worker_leaves_and_the_next_one_adds_to_it() {
        let pool = Pool::default();
        live(&pool, 12).await;
        let left = pool.reconciled();
        assert_eq!((left.len(), left["w"].drift, left["w"].counted.completion), (1, 12, 12));
        live(&pool, 5).await;
        assert_eq!(pool.reconciled()["w"].drift, 17);
        let new = pool.reconciled()["w"].since(&left["w"]);
        assert_eq!(new, Reconciled { counted: Tokens { prompt: 0, completion: 5 }, drift: 5, ..Reconciled::default() });
    }

    #[test]
    fn of_many_those_that_differ_least_are_forgotten() {
        let departed = Departed::default();
        departed.keep("nothing was computed", Reconciled::default());
        assert!(departed.all().is_empty());
        departed.keep("differs", Reconciled { drift: 1, ..Reconciled::default() });
        for n in 0..2 * MOST {
            departed.keep(&format!("agrees {n}"), Reconciled { counted: Tokens { prompt: 1, completion: 1 }, ..Reconciled::default() });
        }
        let all = departed.all();
        assert_eq!((all.len(), all["differs"].drift), (MOST, 1));
    }
}
