//! What is tried again, and after which pauses: lines that were refused for a while, steps that the database refused.

use super::LineAnswer;
use contract::ids::TenantId;
use domain::Result;
use std::{
    collections::HashMap,
    future::Future,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use store::batch_runs::InVain;
use tokio::time::sleep;

/// Pauses before a line is asked again whose model could not be had, or died over it: after the last one it fails. Also the
/// least ones after a last try that a limit refused.
const PAUSES_S: [u64; 5] = [1, 10, 60, 300, 900];
/// Pauses before a line is asked again that a budget refused: what others have reserved comes back in part.
const BUDGET_PAUSES_S: [u64; 4] = [1, 5, 15, 60];
/// Times that whoever computes a line may die, a worker or a whole node. One may have died of something else, or of another
/// line at the same time; and what was answered by then is paid for each time.
const MOST_BREAKS: u32 = 3;
/// Pauses between tries of a step without which the lines that run, and are paid for, would be lost.
const STEP_PAUSES_MS: [u64; 4] = [100, 500, 2_000, 5_000];
/// The least pause before a line is asked again that a limit refused.
const LIMIT_PAUSE: Duration = Duration::from_millis(500);

/// How long a line is tried. What it was tried goes with it from node to node.
pub(super) struct Patience(InVain);

impl Patience {
    pub(super) fn new(vain: InVain) -> Self {
        Self(vain)
    }

    /// It kills whoever computes it, as far as anybody can tell.
    pub(super) fn is_over(vain: InVain) -> bool {
        vain.breaks >= MOST_BREAKS
    }

    /// If whoever computes it dies once more, it is over: that must be no other line's fault.
    pub(super) fn is_last(vain: InVain) -> bool {
        vain.breaks + 1 >= MOST_BREAKS
    }

    /// What it was asked in vain, with the last time.
    pub(super) fn vain(&self) -> InVain {
        self.0
    }

    /// The pause before the line is asked again, if it is. `alone` is whether no other line is being computed here.
    pub(super) fn pause(&mut self, said: &LineAnswer, alone: bool) -> Option<Duration> {
        match (said.status, said.retry_after) {
            (429, Some(after)) => Some(after.max(LIMIT_PAUSE)),
            (429, None) => self.budget(alone),
            // Who may see its data may only be away: a worker of another machine is not known until it registers.
            (403 | 503, after) => {
                // Others may have been to blame for a death: it takes none of the tries that an absence has.
                let tries = if said.broke { &mut self.0.breaks } else { &mut self.0.absences };
                let pause = Duration::from_secs(next(&PAUSES_S, tries)?);
                (!Self::is_over(self.0)).then(|| after.map_or(pause, |after| after.max(pause)))
            }
            _ => None,
        }
    }

    /// A budget refuses without a time to come back. It may be used up, or reserved by what runs at the same time.
    fn budget(&mut self, alone: bool) -> Option<Duration> {
        if alone && self.0.refusals > 0 {
            return None;
        }
        next(&BUDGET_PAUSES_S, &mut self.0.refusals).map(Duration::from_secs)
    }
}

/// How often in a row a limit refused a line's last try, by tenant. All that a node has of any batch stands still before
/// such a try, and a limit that is used up must not do that to others again and again.
#[derive(Debug, Default)]
pub(super) struct StoodStill(Mutex<HashMap<TenantId, u32>>);

impl StoodStill {
    /// The least pause after this answer to a last try.
    pub(super) fn pause(&self, tenant: TenantId, said: &LineAnswer) -> Duration {
        let mut in_vain = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.status != 429 || said.retry_after.is_none() {
            in_vain.remove(&tenant);
            return Duration::ZERO;
        }
        let pause = next(&PAUSES_S, in_vain.entry(tenant).or_default());
        Duration::from_secs(pause.or(PAUSES_S.last().copied()).unwrap_or_default())
    }
}

/// The pause after so many tries, and one try more.
fn next(pauses: &[u64], tries: &mut u32) -> Option<u64> {
    let pause = usize::try_from(*tries).ok().and_then(|at| pauses.get(at).copied());
    *tries = tries.saturating_add(1);
    pause
}

/// Tries a step again, some times, before its error ends the run.
pub(super) async fn persist<T, F: Future<Output = Result<T>>>(step: impl Fn() -> F) -> Result<T> {
    let mut pauses = STEP_PAUSES_MS.into_iter();
    loop {
        let error = match step().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let Some(pause) = pauses.next() else { return Err(error) };
        tracing::warn!(%error, "a step of a batch failed; it is tried again");
        sleep(Duration::from_millis(pause)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::{super::LineAnswer, MOST_BREAKS, Patience, StoodStill, persist};
    use contract::ids::TenantId;
    use domain::Error;
    use std::{cell::Cell, time::Duration};
    use store::batch_runs::InVain;
    use uuid::Uuid;

    fn said(status: u16, retry_after: Option<Duration>) -> LineAnswer {
        LineAnswer { status, body: String::new(), retry_after, broke: false }
    }

    /// Seconds of the pauses until it fails.
    fn pauses(said: &LineAnswer, alone: bool) -> Vec<u64> {
        let mut patience = Patience::new(InVain::default());
        std::iter::from_fn(|| patience.pause(said, alone)).map(|pause| pause.as_secs()).collect()
    }

    #[test]
    fn a_budget_is_waited_for_while_others_may_hold_it() {
        assert_eq!(pauses(&said(429, None), false), [1, 5, 15, 60]);
        assert_eq!(pauses(&said(429, None), true), [1], "nobody else will give anything back");
    }

    #[test]
    fn limits_and_absences_are_waited_for() {
        let long = Some(Duration::from_secs(100));
        for status in [403, 503] {
            assert_eq!(pauses(&said(status, None), true), [1, 10, 60, 300, 900], "{status}");
        }
        assert_eq!(pauses(&said(503, long), false), [100, 100, 100, 300, 900]);
        let mut patience = Patience::new(InVain::default());
        assert!((0..1_000).all(|_| patience.pause(&said(429, long), true) == long));
        assert!(pauses(&said(200, None), false).is_empty() && pauses(&said(400, None), false).is_empty());
    }

    #[test]
    fn what_kills_workers_is_given_up_wherever_that_happened() {
        let broke = LineAnswer { broke: true, ..said(503, None) };
        let mut patience = Patience::new(InVain::default());
        let asked = 1 + std::iter::from_fn(|| patience.pause(&broke, true)).count();
        assert_eq!(asked, 3, "If you are here because this failed: a line kills a worker, and is paid for, again and again.");
        assert!(Patience::is_over(patience.vain()));
        let elsewhere = InVain { breaks: MOST_BREAKS - 1, ..InVain::default() };
        assert!(!Patience::is_over(elsewhere));
        assert_eq!(Patience::new(elsewhere).pause(&broke, true), None);
    }

    #[test]
    fn a_death_takes_no_try_from_a_line_whose_model_is_away() {
        let mut patience = Patience::new(InVain::default());
        let broke = LineAnswer { broke: true, ..said(503, None) };
        assert_eq!(patience.pause(&broke, true), Some(Duration::from_secs(1)));
        assert!(!Patience::is_last(patience.vain()));
        assert_eq!(patience.pause(&broke, true), Some(Duration::from_secs(10)));
        assert!(Patience::is_last(patience.vain()) && !Patience::is_over(patience.vain()));
        let away: Vec<u64> = std::iter::from_fn(|| patience.pause(&said(503, None), true)).map(|pause| pause.as_secs()).collect();
        assert_eq!(away, [1, 10, 60, 300, 900]);
    }

    #[test]
    fn a_used_up_limit_makes_others_stand_still_less_and_less_often() {
        let (stood_still, ours, theirs) = (StoodStill::default(), TenantId(Uuid::now_v7()), TenantId(Uuid::now_v7()));
        let limited = said(429, Some(Duration::from_millis(500)));
        let pauses = |times: usize| -> Vec<u64> { (0..times).map(|_| stood_still.pause(ours, &limited).as_secs()).collect() };
        assert_eq!(pauses(7), [1, 10, 60, 300, 900, 900, 900]);
        assert_eq!(stood_still.pause(theirs, &limited), Duration::from_secs(1), "it is the other one's limit");
        for answered in [said(200, None), said(503, Some(Duration::from_secs(1))), said(429, None)] {
            assert_eq!(stood_still.pause(ours, &answered), Duration::ZERO);
            assert_eq!(pauses(2), [1, 10]);
        }
    }

    #[test]
    fn another_node_goes_on_counting() {
        let mut first = Patience::new(InVain::default());
        assert_eq!(first.pause(&said(503, None), true), Some(Duration::from_secs(1)));
        assert_eq!(first.pause(&said(429, None), false), Some(Duration::from_secs(1)));
        let mut second = Patience::new(first.vain());
        assert_eq!(second.pause(&said(503, None), true), Some(Duration::from_secs(10)));
        assert_eq!(second.pause(&said(429, None), false), Some(Duration::from_secs(5)));
    }

    #[tokio::test]
    async fn a_step_that_fails_is_tried_again() {
        let tries = Cell::new(0);
        let step = || async {
            tries.set(tries.get() + 1);
            if tries.get() < 3 { Err(Error::internal("away for a moment")) } else { Ok(tries.get()) }
        };
        assert_eq!(persist(step).await.unwrap(), 3);
    }
}
