//! Which of the members that could take a completion gets it. No I/O.

use super::member::{FULL, MemberId};
use crate::clearance::Clearance;
use std::{collections::BTreeMap, time::Duration};

/// The member that knows a beginning is preferred unless it is this much (thousandths of its slots) busier than the
/// least busy one and would let the request wait.
const WORTH_A_WAIT: u64 = FULL / 4;
/// Who is slower than the fastest by no more than this part of it is as fast.
const AS_FAST: u32 = 5;

/// What decides between members of the same order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prefer {
    /// The least busy one.
    #[default]
    Load,
    /// The one whose first output came soonest of late.
    Latency,
    /// The cheapest one.
    Cost,
}

/// What a member is to the pool, whatever it does at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// Members of a higher number are asked only if none of a lower one can be.
    pub order: u32,
    /// Its share beside others of the same order, if theirs is another one.
    pub weight: u32,
    /// What its models cost, by our names; others cost nothing.
    pub costs: BTreeMap<String, u64>,
    /// Failed completions are counted against it. Not with workers: a worker's own engine gives up after three failed
    /// steps and is started anew.
    pub breaks: bool,
    /// The models that it will have once it is up; empty if only its status tells.
    pub expects: Vec<String>,
    /// What it may see.
    pub clearance: Clearance,
}

impl Terms {
    /// Those of a worker.
    pub(super) fn worker(expects: Vec<String>) -> Self {
        Self { order: 0, weight: 1, costs: BTreeMap::new(), breaks: false, expects, clearance: Clearance::own() }
    }
}

/// Who computed the beginning of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Knows {
    pub member: MemberId,
    /// More of it than the instructions that many conversations begin with.
    pub conversation: bool,
}

/// A member that could take it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub id: MemberId,
    pub order: u32,
    /// Thousandths of its slots.
    pub load: u64,
    pub weight: u32,
    pub cost: u64,
    /// Until its first output, of late; `None`: nobody knows.
    pub latency: Option<Duration>,
    /// Nothing of ours runs on it.
    pub idle: bool,
}

impl Candidate {
    fn has_room(&self) -> bool {
        self.load < FULL
    }

    /// One that nobody knows is tried, by one request at a time.
    fn expected(&self) -> Duration {
        self.latency.unwrap_or(if self.idle { Duration::ZERO } else { Duration::MAX })
    }
}

/// Of the first order: who knows the beginning; else of those with room the preferred ones, by their weights if these
/// differ, otherwise the least busy. `random` is from 0 up to, but not, 1.
pub(super) fn choose(prefer: Prefer, knows: Option<Knows>, candidates: &[Candidate], random: f64) -> Option<MemberId> {
    let order = candidates.iter().map(|candidate| candidate.order).min()?;
    let first: Vec<&Candidate> = candidates.iter().filter(|candidate| candidate.order == order).collect();
    let least = first.iter().map(|candidate| candidate.load).min()?;
    let mut open: Vec<&Candidate> = first.iter().copied().filter(|candidate| candidate.has_room()).collect();
    if open.is_empty() {
        open.clone_from(&first);
    }
    let cheapest = open.iter().map(|candidate| candidate.cost).min()?;
    let plain = prefer == Prefer::Load && same_weights(&first);
    let keeps = |candidate: &&&Candidate| {
        // What many conversations begin with must not decide where all of them go.
        knows.is_some_and(|knows| knows.member == candidate.id && (knows.conversation || plain))
            && (candidate.has_room() || candidate.load <= least + WORTH_A_WAIT)
            && (prefer != Prefer::Cost || candidate.cost <= cheapest)
    };
    if let Some(knowing) = first.iter().find(keeps) {
        return Some(knowing.id);
    }
    // Nobody has room: the queue that is shortest, whatever is preferred.
    if open.iter().any(|candidate| candidate.has_room()) {
        narrow(prefer, &mut open);
        if !same_weights(&open) {
            return by_weight(&open, random);
        }
    }
    open.iter().min_by_key(|candidate| candidate.load).map(|candidate| candidate.id)
}

/// Leaves those that are as good as the best.
fn narrow(prefer: Prefer, open: &mut Vec<&Candidate>) {
    match prefer {
        Prefer::Load => {}
        Prefer::Latency => {
            let best = open.iter().map(|candidate| candidate.expected()).min().unwrap_or_default();
            let bound = best.saturating_add(best / AS_FAST);
            open.retain(|candidate| candidate.expected() <= bound);
        }
        Prefer::Cost => {
            let best = open.iter().map(|candidate| candidate.cost).min().unwrap_or_default();
            open.retain(|candidate| candidate.cost <= best);
        }
    }
}

fn same_weights(candidates: &[&Candidate]) -> bool {
    candidates.windows(2).all(|pair| pair[0].weight == pair[1].weight)
}

fn by_weight(open: &[&Candidate], random: f64) -> Option<MemberId> {
    let total: f64 = open.iter().map(|candidate| f64::from(candidate.weight)).sum();
    let mut left = random * total;
    let chosen = open.iter().find(|candidate| {
        left -= f64::from(candidate.weight);
        left < 0.0
    });
    chosen.or(open.last()).map(|candidate| candidate.id)
}

#[cfg(test)]
mod tests {
    use super::{Candidate, FULL, Knows, Prefer, choose};
    use std::time::Duration;

    const IDLE: Candidate = Candidate { id: 0, order: 1, load: 0, weight: 1, cost: 0, latency: None, idle: true };

    fn known(id: usize, ms: u64) -> Candidate {
        Candidate { id, latency: Some(Duration::from_millis(ms)), ..IDLE }
    }

    /// How often each of three is chosen in a thousand requests whose chances are spread evenly.
    fn shares(prefer: Prefer, knows: Option<Knows>, candidates: &[Candidate]) -> [u32; 3] {
        let mut shares = [0; 3];
        for n in 0..1000 {
            shares[choose(prefer, knows, candidates, (f64::from(n) + 0.5) / 1000.0).expect("one")] += 1;
        }
        shares
    }

    #[test]
    fn weights_are_shares_whatever_the_load_as_long_as_there_is_room() {
        let heavy = Candidate { weight: 90, load: FULL - 1, ..IDLE };
        let light = Candidate { id: 1, weight: 10, ..IDLE };
        assert_eq!(shares(Prefer::Load, None, &[heavy, light]), [900, 100, 0]);
        let full = Candidate { load: FULL, ..heavy };
        assert_eq!(shares(Prefer::Load, None, &[full, light]), [0, 1000, 0], "who is full gets nothing while another has room");
        let fuller = Candidate { load: FULL + 1, ..light };
        assert_eq!(shares(Prefer::Load, None, &[full, fuller]), [1000, 0, 0], "the shortest queue where nobody has room");
    }

    #[test]
    fn a_higher_order_is_asked_only_if_no_lower_one_offers() {
        let later = Candidate { id: 1, order: 2, weight: 1000, ..IDLE };
        assert_eq!(shares(Prefer::Load, None, &[Candidate { load: 5 * FULL, ..IDLE }, later]), [1000, 0, 0]);
        assert_eq!(choose(Prefer::Load, None, &[later], 0.0), Some(1));
        assert_eq!(choose(Prefer::Load, None, &[], 0.0), None);
    }

    #[test]
    fn without_weights_the_least_busy_one_is_taken() {
        let busy = Candidate { load: 10, ..IDLE };
        assert_eq!(shares(Prefer::Load, None, &[busy, Candidate { id: 1, load: 9, ..IDLE }]), [0, 1000, 0]);
    }

    #[test]
    fn the_fastest_is_preferred_and_those_as_fast_share() {
        let slow = known(0, 300);
        assert_eq!(shares(Prefer::Latency, None, &[slow, known(1, 100)]), [0, 1000, 0]);
        let shared = [slow, Candidate { weight: 3, ..known(1, 100) }, known(2, 115)];
        assert_eq!(shares(Prefer::Latency, None, &shared), [0, 750, 250]);
        let full = Candidate { load: FULL, ..known(1, 100) };
        assert_eq!(shares(Prefer::Latency, None, &[slow, full]), [1000, 0, 0], "the fastest is full");
    }

    #[test]
    fn one_that_nobody_knows_is_tried_by_one_request_at_a_time() {
        let unknown = Candidate { id: 1, ..IDLE };
        assert_eq!(shares(Prefer::Latency, None, &[known(0, 100), unknown]), [0, 1000, 0]);
        let tried = Candidate { idle: false, load: 1, ..unknown };
        assert_eq!(shares(Prefer::Latency, None, &[known(0, 100), tried]), [1000, 0, 0]);
    }

    #[test]
    fn the_cheapest_with_room_is_preferred() {
        let (dear, cheap) = (Candidate { cost: 7, ..IDLE }, Candidate { id: 1, cost: 3, load: FULL / 2, ..IDLE });
        assert_eq!(shares(Prefer::Cost, None, &[dear, cheap]), [0, 1000, 0]);
        assert_eq!(shares(Prefer::Cost, None, &[dear, Candidate { load: FULL, ..cheap }]), [1000, 0, 0]);
    }

    #[test]
    fn a_conversation_stays_where_it_was_but_instructions_alone_decide_nothing() {
        let light = Candidate { id: 1, weight: 10, ..IDLE };
        let both = [Candidate { weight: 90, ..IDLE }, light];
        let knows = |conversation| Some(Knows { member: 1, conversation });
        assert_eq!(shares(Prefer::Load, knows(true), &both), [0, 1000, 0]);
        assert_eq!(shares(Prefer::Load, knows(false), &both), [900, 100, 0]);
        let even = [IDLE, Candidate { weight: 1, ..light }];
        assert_eq!(shares(Prefer::Load, knows(false), &even), [0, 1000, 0], "the computed instructions are worth it");
        assert_eq!(shares(Prefer::Latency, knows(true), &[known(0, 1), known(1, 900)]), [0, 1000, 0]);
        let dear = Candidate { id: 1, cost: 3, ..IDLE };
        assert_eq!(shares(Prefer::Cost, knows(true), &[IDLE, dear]), [1000, 0, 0], "the price comes first where it is to decide");
        let waiting = Candidate { load: FULL + FULL / 2, ..light };
        assert_eq!(shares(Prefer::Load, knows(true), &[Candidate { weight: 10, ..IDLE }, waiting]), [1000, 0, 0]);
    }
}
