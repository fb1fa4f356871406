//! `POST /count`: how long a prompt is. The engine has no part in it.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use worker_protocol::{FailCode, Generate};

use super::generate::{flow, prompt};
use super::{Refusal, Worker, gone};
use crate::engine::Link;
use crate::residence::Guest;

/// Prompts that are counted at the same time.
const MOST_COUNTS: usize = 64;
/// The same with those that wait, also until their model is loaded, and hold what is to be counted meanwhile.
const MOST_COUNTED: usize = 256;

/// The places of those who count.
#[derive(Clone)]
pub(super) struct Counts {
    inside: Arc<Semaphore>,
    at_work: Arc<Semaphore>,
}

/// One of [`MOST_COUNTED`]; given back when dropped.
struct Inside {
    _place: OwnedSemaphorePermit,
    at_work: Arc<Semaphore>,
}

/// One of [`MOST_COUNTS`]; given back when dropped.
struct AtWork {
    _inside: Inside,
    _place: OwnedSemaphorePermit,
}

impl Default for Counts {
    fn default() -> Self {
        Self { inside: Arc::new(Semaphore::new(MOST_COUNTED)), at_work: Arc::new(Semaphore::new(MOST_COUNTS)) }
    }
}

impl Counts {
    /// Refused where too many are counted or wait for it.
    fn enter(&self) -> Result<Inside, Refusal> {
        let full = |_| Refusal(FailCode::Overloaded, format!("{MOST_COUNTED} prompts are being counted already"));
        let place = self.inside.clone().try_acquire_owned().map_err(full)?;
        Ok(Inside { _place: place, at_work: self.at_work.clone() })
    }
}

impl Inside {
    /// Waits for its turn.
    async fn begin(self) -> Result<AtWork, Refusal> {
        let place = self.at_work.clone().acquire_owned().await.map_err(|_| gone())?;
        Ok(AtWork { _inside: self, _place: place })
    }
}

impl Worker {
    /// A model that is not there is loaded for it: nobody else knows its vocabulary and its template.
    /// The engine does nothing for it, so it takes no place of those who ask the engine, and nobody makes room for it.
    pub(super) async fn count(&self, request: Generate) -> Result<u32, Refusal> {
        let inside = self.counts.enter()?;
        let Guest { stay, admissions } = self.enter(&request.model, &flow(&request), 0, &Link::nowhere()).await?;
        // Only now: those who wait for a model would keep out those whose model is there.
        let at_work = inside.begin().await?;
        let shared = stay.shared.clone();
        let count = move || -> Result<u32, Refusal> {
            // The model stays as long as somebody is in.
            let _inside = (admissions, at_work);
            let prompt = prompt(shared.model.get().ok_or_else(gone)?, &request)?;
            Ok(u32::try_from(prompt.tokens.len()).unwrap_or(u32::MAX))
        };
        tokio::task::spawn_blocking(count).await.map_err(|error| Refusal(FailCode::Engine, error.to_string()))?
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::future::BoxFuture;

    use super::*;

    type Waiting = BoxFuture<'static, Result<AtWork, Refusal>>;

    fn enter(counts: &Counts) -> Option<Inside> {
        counts.enter().ok()
    }

    /// Looks once whether it is its turn.
    fn begins(waiting: &mut Waiting) -> Option<AtWork> {
        waiting.now_or_never().and_then(Result::ok)
    }

    /// As many as there are places: who is at work, and who waits in this order.
    fn full(counts: &Counts) -> (Vec<AtWork>, Vec<Waiting>) {
        let mut all: Vec<Waiting> = (0..MOST_COUNTED).filter_map(|_| enter(counts)).map(|inside| inside.begin().boxed()).collect();
        assert_eq!(all.len(), MOST_COUNTED);
        let mut waiting = all.split_off(MOST_COUNTS);
        let at_work: Vec<AtWork> = all.iter_mut().filter_map(begins).collect();
        assert_eq!(at_work.len(), MOST_COUNTS, "at once");
        assert!(waiting.iter_mut().all(|waiting| begins(waiting).is_none()), "more are counted at the same time than should be");
        (at_work, waiting)
    }

    #[test]
    fn who_finds_all_places_taken_is_told_how_many_there_are() {
        let counts = Counts::default();
        let _all = full(&counts);
        let Err(Refusal(code, message)) = counts.enter() else {
            panic!("If you are here because this failed: prompts that wait to be counted use up the memory.")
        };
        assert!(code == FailCode::Overloaded && message.contains("256 prompts"), "{code:?}: {message}");
    }

    #[test]
    fn who_has_waited_longest_is_next() {
        let counts = Counts::default();
        let (mut at_work, mut waiting) = full(&counts);
        drop(at_work.pop());
        assert!(begins(&mut waiting[1]).is_none());
        at_work.extend(begins(&mut waiting[0]));
        assert_eq!(at_work.len(), MOST_COUNTS, "If you are here because this failed: who waits to be counted is not served any more.");
        assert!(begins(&mut waiting[1]).is_none(), "one went, one came");
        let late = enter(&counts);
        assert!(late.is_some() && enter(&counts).is_none(), "as many may come as have gone");
    }

    #[test]
    fn who_gives_up_waiting_leaves_its_place_to_others() {
        let counts = Counts::default();
        let (mut at_work, mut waiting) = full(&counts);
        drop(waiting.pop());
        let late = enter(&counts);
        assert!(late.is_some() && enter(&counts).is_none(), "one went, one came");
        // Its turn comes, and it goes before it knows.
        drop(at_work.pop());
        drop(waiting.remove(0));
        assert!(
            begins(&mut waiting[0]).is_some(),
            "If you are here because this failed: clients that go away keep their places, and in the end nobody can count."
        );
    }
}
