//! Staying awake for a moment after each request, instead of having the kernel wake a sleeping core for the next event.
//!
//! A core that sleeps answers some 50 µs later than one that is awake, more so in virtual machines, and a request that is
//! passed on waits for two such events: the upstream's answer, and what its client asks next. Linux' own `busy_poll` and
//! `haltpoll` trade processor time for latency in the same way, for one socket and for all of a machine.
//!
//! Whether that is worth it is learned: it stays awake once several events came one soon after the other, as with many short
//! requests and an upstream nearby, and no more once one came late, as with somebody who types. Nor while somebody else needs
//! the core: whoever always runs is given its next turn late, whoever sleeps is woken at once.
//!
//! It takes a runtime of one thread: of several, one that sleeps already keeps the others from asking the kernel.

use crate::startup::threads;
use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64,
            Ordering::{AcqRel, Relaxed},
        },
    },
    time::{Duration, Instant},
};
use tokio::{sync::Notify, task::yield_now};
use tokio_util::sync::CancellationToken;

/// So many events in a row, each soon after the one before, promise another one. Each request is two.
const PROMISING: u32 = 8;

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Awake(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// What counts as soon.
    lasts: Duration,
    /// What times are counted from.
    begun: Instant,
    /// The last event, in nanoseconds.
    last: AtomicU64,
    /// How often the core had been taken from this thread by then.
    taken: AtomicU64,
    /// Events in a row that came soon, up to [`PROMISING`].
    soon: AtomicU32,
    asleep: AtomicBool,
    wake: Notify,
}

impl Awake {
    /// For so long after an event at most; `None` where there is nothing to stay awake for.
    #[must_use]
    pub fn new(lasts: Duration) -> Option<Self> {
        let inner = Inner {
            lasts,
            begun: Instant::now(),
            last: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            soon: AtomicU32::new(0),
            asleep: AtomicBool::new(false),
            wake: Notify::new(),
        };
        (!lasts.is_zero()).then(|| Self(Arc::new(inner)))
    }

    /// Something happened that the next event may follow soon. Called on the thread that stays awake.
    pub fn touch(&self) {
        let Inner { lasts, begun, last, taken, soon, asleep, wake } = &*self.0;
        let (now, times) = (nanoseconds(begun.elapsed()), threads::taken());
        let came_soon = now.saturating_sub(last.swap(now, Relaxed)) < nanoseconds(*lasts);
        let undisturbed = taken.swap(times, Relaxed) == times;
        let in_a_row = if came_soon && undisturbed { PROMISING.min(soon.load(Relaxed) + 1) } else { 0 };
        soon.store(in_a_row, Relaxed);
        if in_a_row == PROMISING && asleep.swap(false, AcqRel) {
            wake.notify_one();
        }
    }

    /// Keeps a thread of the runtime looking for events, as long as the next one is likely to come soon.
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

    /// Nobody looks for the next event.
    #[cfg(test)]
    pub fn is_asleep(&self) -> bool {
        self.0.asleep.load(Relaxed)
    }

    fn is_due(&self) -> bool {
        let Inner { lasts, begun, last, soon, .. } = &*self.0;
        soon.load(Relaxed) == PROMISING && begun.elapsed().saturating_sub(Duration::from_nanos(last.load(Relaxed))) < *lasts
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Awake, Duration, Instant, PROMISING, Relaxed};
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

    /// Touches as often as it takes until it stays awake, since the test's own thread may be put aside between two events.
    fn rouse(awake: &Awake) {
        let begun = Instant::now();
        while !awake.is_due() {
            assert!(begun.elapsed() < Duration::from_secs(10), "events one after the other do not keep it awake");
            awake.touch();
        }
    }

    async fn until_asleep(awake: &Awake) {
        let sleeps = async {
            while !awake.is_asleep() {
                sleep(LASTS).await;
            }
        };
        timeout(Duration::from_secs(10), sleeps).await.expect("if you are here because this failed: a core would never sleep again");
    }

    #[tokio::test]
    async fn it_sleeps_after_its_time_wakes_with_further_requests_and_ends() {
        let (awake, stop) = (Awake::new(LASTS).expect("a time"), CancellationToken::new());
        let kept = TaskTracker::new().spawn(awake.clone().keep(stop.clone()));
        for _ in 0..2 {
            until_asleep(&awake).await;
            rouse(&awake);
            assert!(!awake.is_asleep());
        }
        until_asleep(&awake).await;
        stop.cancel();
        timeout(Duration::from_secs(10), kept).await.expect("in time").expect("without a panic");
    }

    #[tokio::test]
    async fn what_comes_late_does_not_keep_it_awake() {
        let (awake, stop) = (Awake::new(LASTS).expect("a time"), CancellationToken::new());
        let _kept = TaskTracker::new().spawn(awake.clone().keep(stop.clone()));
        rouse(&awake);
        until_asleep(&awake).await;
        sleep(LASTS * 2).await;
        for _ in 1..PROMISING {
            awake.touch();
            assert!(awake.is_asleep(), "a few events are not enough after a pause");
        }
    }

    #[test]
    fn a_core_that_others_need_is_left_to_them() {
        let awake = Awake::new(Duration::from_secs(60)).expect("a time");
        rouse(&awake);
        awake.0.taken.fetch_add(1, Relaxed);
        awake.touch();
        assert!(!awake.is_due());
    }

    /// On a thread of its own, which never comes back if it does not.
    #[test]
    fn it_leaves_others_their_turn() {
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let (awake, stop) = (Awake::new(Duration::from_secs(60)).expect("a time"), CancellationToken::new());
                rouse(&awake);
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
