//! How many requests may be somewhere at once, and who makes room when all places are taken.
//!
//! One number for everybody would be used up by whoever asks most, and all others would be turned away. So whoever has
//! few waiting takes the place of the latest request of whoever has most. Only what waits makes room; what has begun
//! goes on. Batch work counts eightfold and goes first.

use std::collections::{BTreeMap, HashMap};

use worker_protocol::Priority;

use crate::engine::queue::flows::Flow;

/// What those are told whose place was taken.
pub const DISPLACED: &str = "the queue is full, and this was the latest request of whoever has most in it";

/// See the module.
#[derive(Default)]
pub struct Bound {
    /// In order of arrival.
    requests: BTreeMap<u64, Request>,
    next: u64,
}

struct Request {
    flow: Flow,
    /// One for each of its completions that has not ended.
    places: u32,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Begun,
    /// Its places are somebody else's; it is still to be told.
    Displaced,
}

/// A request that was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entered {
    pub number: u64,
    /// Others made room and are to be told.
    pub displaces: bool,
}

impl Bound {
    /// Lets a request in that takes `places` of `limit`. A flow that would then have less waiting than another one
    /// had before takes the places that are missing from that one. A request of a person of whom nothing waits and
    /// that takes one place is therefore always let in while more than one place is taken by somebody else's waiting
    /// work. `None`: nobody has to make room. Who takes no places is let in, and nobody makes room for it or it for anybody.
    pub fn enter(&mut self, flow: &Flow, places: u32, limit: u32) -> Option<Entered> {
        let mut missing = self.inside().saturating_add(places).saturating_sub(limit);
        let mut leaving = Vec::new();
        while missing > 0 {
            let (number, given) = self.latest_of_largest(flow, places, &leaving)?;
            missing = missing.saturating_sub(given);
            leaving.push(number);
        }
        for number in &leaving {
            if let Some(request) = self.requests.get_mut(number) {
                request.stage = Stage::Displaced;
            }
        }
        let number = self.next;
        self.next += 1;
        let stage = if places == 0 { Stage::Begun } else { Stage::Waiting };
        self.requests.insert(number, Request { flow: flow.clone(), places, stage });
        Some(Entered { number, displaces: !leaving.is_empty() })
    }

    /// It keeps its places to its end. False if they are somebody else's already.
    pub fn begin(&mut self, number: u64) -> bool {
        let Some(request) = self.requests.get_mut(&number).filter(|request| request.stage != Stage::Displaced) else { return false };
        request.stage = Stage::Begun;
        true
    }

    /// Its places are somebody else's.
    pub fn is_displaced(&self, number: u64) -> bool {
        self.requests.get(&number).is_some_and(|request| request.stage == Stage::Displaced)
    }

    /// One of its completions ended, or it has none.
    pub fn leave(&mut self, number: u64) {
        if let Some(request) = self.requests.get_mut(&number) {
            request.places = request.places.saturating_sub(1);
            if request.places == 0 {
                self.requests.remove(&number);
            }
        }
    }

    /// Places that are taken.
    pub fn inside(&self) -> u32 {
        self.requests.values().filter(|request| request.stage != Stage::Displaced).map(|request| request.places).sum()
    }

    /// Nobody is here, not even somebody who is still to be told of having made room.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// The request that makes room for `places` of `flow`, and how many places that gives; `leaving` do already.
    fn latest_of_largest(&self, flow: &Flow, places: u32, leaving: &[u64]) -> Option<(u64, u32)> {
        let waiting = || self.requests.iter().filter(move |(number, request)| request.stage == Stage::Waiting && !leaving.contains(number));
        let mut held: HashMap<&Flow, u32> = HashMap::new();
        for (_, request) in waiting() {
            *held.entry(&request.flow).or_default() += request.places;
        }
        let of = |flow: &Flow| held.get(flow).copied().unwrap_or(0);
        let share = |places: u32, flow: &Flow| f64::from(places) / flow.part();
        let mine = share(of(flow).saturating_add(places), flow);
        // More than I shall have, so that whoever made room does not take it back at once.
        let larger = waiting().filter(|(_, request)| request.flow != *flow && share(of(&request.flow), &request.flow) > mine);
        let claim = |request: &Request| (request.flow.priority == Priority::Batch, of(&request.flow));
        // Of equal ones the last.
        larger.max_by_key(|(_, request)| claim(request)).map(|(number, request)| (*number, request.places))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(tenant: &str) -> Flow {
        Flow { tenant: tenant.into(), priority: Priority::Interactive }
    }

    fn batch(tenant: &str) -> Flow {
        Flow { tenant: tenant.into(), priority: Priority::Batch }
    }

    /// A bound of ten places, of which `flow` has taken as many as it could.
    fn full_of(flow: &Flow) -> (Bound, Vec<u64>) {
        let mut bound = Bound::default();
        let numbers = (0..200).filter_map(|_| bound.enter(flow, 1, 10)).map(|entered| entered.number).collect();
        (bound, numbers)
    }

    #[test]
    fn a_flood_takes_all_places_but_not_from_somebody_who_has_none() {
        let (mut bound, flood) = full_of(&person("a"));
        assert_eq!((flood.len(), bound.inside()), (10, 10));
        let other = bound.enter(&person("b"), 1, 10).expect("let in");
        assert!(other.displaces && bound.is_displaced(flood[9]) && !bound.is_displaced(flood[8]), "the latest makes room");
        assert_eq!(bound.inside(), 10, "no place is counted twice");
        bound.leave(flood[9]);
        assert_eq!(bound.inside(), 10, "nor given back twice");
        assert_eq!(bound.enter(&person("a"), 1, 10), None, "and does not take its place back");
    }

    #[test]
    fn places_end_up_shared_and_then_nobody_makes_room() {
        let (mut bound, _) = full_of(&person("a"));
        let let_in = (0..20).filter_map(|_| bound.enter(&person("b"), 1, 10)).count();
        assert_eq!(let_in, 5);
        let let_in = (0..20).filter(|n| bound.enter(&person(&n.to_string()), 1, 10).is_some()).count();
        assert_eq!((let_in, bound.inside()), (8, 10), "until each has one");
    }

    #[test]
    fn what_has_begun_stays() {
        let (mut bound, flood) = full_of(&person("a"));
        assert!(flood[1..].iter().all(|number| bound.begin(*number)));
        assert_eq!(bound.enter(&person("b"), 1, 10), None, "one that waits is not taken from somebody for another one");
        let (mut bound, flood) = full_of(&person("a"));
        bound.enter(&person("b"), 1, 10).expect("let in");
        assert!(!bound.begin(flood[9]), "it is too late");
    }

    #[test]
    fn who_takes_no_place_is_let_in_and_nobody_makes_room() {
        let (mut bound, flood) = full_of(&person("a"));
        let guest = bound.enter(&person("a"), 0, 10).expect("let in");
        assert!(!guest.displaces && !flood.iter().any(|number| bound.is_displaced(*number)));
        bound.enter(&person("b"), 1, 10).expect("let in");
        assert_eq!((bound.is_displaced(guest.number), bound.is_displaced(flood[9])), (false, true), "nor does it make room");
        flood.iter().for_each(|number| bound.leave(*number));
        assert_eq!((bound.inside(), bound.is_empty()), (1, false));
        bound.leave(guest.number);
        assert_eq!((bound.inside(), bound.is_empty()), (1, false), "the other one is still there");
    }

    #[test]
    fn batch_work_goes_first_and_takes_little() {
        let (mut bound, flood) = full_of(&person("a"));
        flood[7..].iter().for_each(|number| bound.leave(*number));
        let work: Vec<_> = (0..3).filter_map(|_| bound.enter(&batch("c"), 1, 10)).map(|entered| entered.number).collect();
        bound.enter(&person("b"), 1, 10).expect("let in");
        assert!(bound.is_displaced(work[2]), "although the flood of a person has more");
        let (mut bound, _) = full_of(&person("a"));
        let let_in = (0..20).filter_map(|_| bound.enter(&batch("c"), 1, 10)).count();
        assert_eq!(let_in, 1);
        let (mut bound, _) = full_of(&batch("c"));
        let let_in = (0..20).filter_map(|_| bound.enter(&person("a"), 1, 10)).count();
        assert!((8..10).contains(&let_in), "{let_in}");
    }

    #[test]
    fn completions_of_one_request_go_together_or_not_at_all() {
        let mut bound = Bound::default();
        let all = bound.enter(&person("a"), 8, 10).expect("let in");
        assert_eq!(bound.enter(&person("b"), 11, 10), None, "more than there are");
        assert!(!bound.is_displaced(all.number), "nobody made room in vain");
        bound.enter(&person("b"), 3, 10).expect("let in");
        assert_eq!((bound.is_displaced(all.number), bound.inside()), (true, 3));
        (0..8).for_each(|_| bound.leave(all.number));
        assert_eq!(bound.inside(), 3);
        assert!(!bound.is_empty());
    }
}
