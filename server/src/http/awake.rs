//! Staying awake for a moment after each request, instead of having the kernel wake a sleeping core for the next event.
//!
//! A core that sleeps answers some 50 µs later than one that is awake, more so in virtual machines, and a request that is
//! passed on waits for two such events: the upstream's answer, and what its client asks next. Linux' own `busy_poll` and
//! `haltpoll` trade processor time for latency in the same way, for one socket and for all of a machine.
//!
//! It takes a runtime of one thread: of several, one that sleeps already keeps the others from asking the kernel.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{AcqRel, Relaxed},
        },
    },
    time::{Duration, Instant},
};
use tokio::{sync::Notify, task::yield_now};
use tokio_util::sync::CancellationToken;

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Awake(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    lasts: Duration,
    /// What times are counted from.
    begun: Instant,
    /// The last event, in nanoseconds.
    last: AtomicU64,
    asleep: AtomicBool,
    wake: Notify,
}

impl Awake {
    /// For so long after each event; `None` where there is nothing to stay awake for.
    #[must_use]
    pub fn new(lasts: Duration) -> Option<Self> {
        let inner = Inner { lasts, begun: Instant::now(), last: AtomicU64::new(0), asleep: AtomicBool::new(false), wake: Notify::new() };
        (!lasts.is_zero()).then(|| Self(Arc::new(inner)))
    }

    /// Something happened that the next event may follow soon.
    pub fn touch(&self) {
        let Inner { begun, last, asleep, wake, .. } = &*self.0;
        last.store(nanoseconds(begun.elapsed()), Relaxed);
        if asleep.swap(false, AcqRel) {
            wake.notify_one();
        }
    }

    /// Keeps a thread of the runtime looking for events, as long as one was touched recently.
    ///
    /// A task that is always ready makes the runtime ask the kernel for events without waiting for them.
    pub async fn keep(self, stop: CancellationToken) {
        let Inner { asleep, wake, .. } = &*self.0;
        while !stop.is_cancelled() {
            while self.is_due() && !stop.is_cancelled() {
                yield_now().await;
            }
            asleep.swap(true, AcqRel);
            // What was touched before anybody could see that we sleep.
            if self.is_due() && asleep.swap(false, AcqRel) {
                continue;
            }
            tokio::select! {
                () = wake.notified() => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Nothing was touched for too long.
    #[cfg(test)]
    pub fn is_asleep(&self) -> bool {
        self.0.asleep.load(Relaxed)
    }

    fn is_due(&self) -> bool {
        let Inner { lasts, begun, last, .. } = &*self.0;
        begun.elapsed().saturating_sub(Duration::from_nanos(last.load(Relaxed))) < *lasts
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Awake, Duration};
    use std::{sync::mpsc, thread};
    use tokio::{
        runtime::Builder,
        time::{sleep, timeout},
    };
    use tokio_util::{sync::CancellationToken, task::TaskTracker};

    const LASTS: Duration = Duration::from_millis(20);

    #[test]
    fn whoever_stays_awake_for_no_time_sleeps() {
        assert!(Awake::new(Duration::ZERO).is_none());
    }

    #[tokio::test]
    async fn it_sleeps_after_its_time_wakes_with_the_next_request_and_ends() {
        let (awake, stop) = (Awake::new(LASTS).expect("a time"), CancellationToken::new());
        let kept = TaskTracker::new().spawn(awake.clone().keep(stop.clone()));
        for _ in 0..2 {
            awake.touch();
            assert!(!awake.is_asleep());
            timeout(Duration::from_secs(10), async {
                while !awake.is_asleep() {
                    sleep(LASTS).await;
                }
            })
            .await
            .expect("if you are here because this failed: a core would never sleep again");
        }
        stop.cancel();
        timeout(Duration::from_secs(10), kept).await.expect("in time").expect("without a panic");
    }

    /// On a thread of its own, which never comes back if it does not.
    #[test]
    fn it_leaves_others_their_turn() {
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let (awake, stop) = (Awake::new(Duration::from_secs(60)).expect("a time"), CancellationToken::new());
                awake.touch();
                let kept = TaskTracker::new().spawn(awake.keep(stop.clone()));
                sleep(Duration::from_millis(1)).await;
                let kept_on = !kept.is_finished();
                stop.cancel();
                kept.await.expect("without a panic");
                tell.send(kept_on).expect("somebody listens");
            });
        });
        assert!(told.recv_timeout(Duration::from_secs(10)).expect("if you are here because this failed: nobody else comes to run"));
    }
}
