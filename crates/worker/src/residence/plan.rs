//! Who has to go so that another model fits. No I/O.

use std::time::Duration;

/// What a model will take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Bytes, wherever they come to lie.
    pub total: u64,
    /// Bytes of the smallest piece that several cards can divide among them: a layer.
    pub piece: u64,
}

/// What a model may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes of all memories together, as far as the operator allows.
    pub budget: u64,
    pub memories: Vec<Memory>,
}

/// A card's memory, or the processor's; in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Used by nobody, of this process or any other.
    pub free: u64,
    /// What of that is reserved for models that are here and have not taken it yet.
    pub promised: u64,
}

/// A model in memory that may be given up.
#[derive(Clone, Debug)]
pub struct Tenancy {
    pub place: usize,
    /// In each memory.
    pub bytes: Vec<u64>,
    /// Nothing of it runs.
    pub idle: bool,
    /// Since it was loaded.
    pub age: Duration,
    /// Since somebody asked for it.
    pub unused: Duration,
}

/// What to do about a model that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It fits.
    Load,
    /// These go first: no new requests, an end for the running ones, then their memory.
    Drain(Vec<usize>),
    /// Nobody has stayed long enough; look again after so long.
    Later(Duration),
    /// Not even alone beside what is pinned: the operator allows less.
    Never,
    /// Not even alone beside what is pinned: others have the machine's memory, who may give it back.
    Short,
}

impl Room {
    /// How llama.cpp divides a model: its layers go to the cards in proportion to what is free there.
    pub fn divide(&self, total: u64) -> Vec<u64> {
        let count = u128::try_from(self.memories.len()).unwrap_or(1).max(1);
        let all: u128 = self.memories.iter().map(|memory| u128::from(memory.free)).sum();
        let part = |memory: &Memory| match all {
            0 => u128::from(total).div_ceil(count),
            all => (u128::from(total) * u128::from(memory.free)).div_ceil(all),
        };
        self.memories.iter().map(|memory| u64::try_from(part(memory)).unwrap_or(total)).collect()
    }

    /// Each memory has room for its part of the model.
    fn holds(&self, need: &Need) -> bool {
        // A card gets whole layers, so it may be one more than its part.
        let rounding = if self.memories.len() > 1 { need.piece } else { 0 };
        let fits =
            |(part, memory): (u64, &Memory)| part == 0 || part.saturating_add(rounding).saturating_add(memory.promised) <= memory.free;
        need.total <= self.budget && self.divide(need.total).into_iter().zip(&self.memories).all(fits)
    }

    /// What it will be when these have gone.
    fn without(&self, leaving: &[Tenancy]) -> Self {
        let mut room = self.clone();
        for bytes in leaving.iter().map(|tenancy| &tenancy.bytes) {
            room.budget = bytes.iter().copied().fold(room.budget, u64::saturating_add);
            for (memory, bytes) in room.memories.iter_mut().zip(bytes) {
                memory.free = memory.free.saturating_add(*bytes);
            }
        }
        room
    }
}

/// Decides about a model where there is so much room. Whoever is idle goes before whoever is busy, and whoever was not
/// asked for longest before others. Nobody goes before `residence` is over, neither their own nor that of the last
/// exchange: models that are asked for in turn would otherwise spend the time loading.
pub fn make_room(need: &Need, room: &Room, tenancies: &[Tenancy], residence: Duration, last_exchange: Option<Duration>) -> Step {
    if room.holds(need) {
        return Step::Load;
    }
    let mut candidates: Vec<&Tenancy> = tenancies.iter().collect();
    candidates.sort_by_key(|tenancy| (!tenancy.idle, std::cmp::Reverse(tenancy.unused)));
    let mut leaving: Vec<Tenancy> = Vec::new();
    for tenancy in candidates {
        leaving.push(tenancy.clone());
        if room.without(&leaving).holds(need) {
            break;
        }
    }
    let most = room.without(&leaving);
    if !most.holds(need) {
        return if need.total > most.budget { Step::Never } else { Step::Short };
    }
    // The last ones may have made the first ones needless.
    let mut at = 0;
    while at < leaving.len() {
        let one = leaving.remove(at);
        if !room.without(&leaving).holds(need) {
            leaving.insert(at, one);
            at += 1;
        }
    }
    // A busy one whose time is over does not go in the place of an idle one whose time is nearly over.
    let ages = leaving.iter().map(|tenancy| tenancy.age).chain(last_exchange);
    match ages.map(|age| residence.saturating_sub(age)).max() {
        Some(pause) if !pause.is_zero() => Step::Later(pause),
        _ => Step::Drain(leaving.iter().map(|tenancy| tenancy.place).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn tenancy(place: usize, bytes: u64) -> Tenancy {
        Tenancy { place, bytes: vec![bytes], idle: true, age: 10 * MINUTE, unused: MINUTE }
    }

    fn need(total: u64) -> Need {
        Need { total, piece: 0 }
    }

    /// As the operator allows; the machine has enough.
    fn room(budget: u64) -> Room {
        Room { budget, memories: vec![Memory { free: 1_000, promised: 0 }] }
    }

    /// As the cards have; the operator allows all.
    fn cards(free: &[u64]) -> Room {
        Room { budget: u64::MAX, memories: free.iter().map(|free| Memory { free: *free, promised: 0 }).collect() }
    }

    fn decide(total: u64, free: u64, tenancies: &[Tenancy]) -> Step {
        make_room(&need(total), &room(free), tenancies, MINUTE, None)
    }

    #[test]
    fn what_fits_is_loaded_and_what_never_fits_is_refused() {
        assert_eq!(decide(10, 10, &[]), Step::Load);
        assert_eq!(decide(11, 10, &[]), Step::Never);
        assert_eq!(decide(30, 10, &[tenancy(0, 10)]), Step::Never, "and nobody is sent away for nothing");
    }

    #[test]
    fn what_the_operator_allows_is_not_enough_where_others_have_the_memory() {
        let mut room = room(1_000_000);
        assert_eq!(make_room(&need(1_000), &room, &[], MINUTE, None), Step::Load);
        assert_eq!(make_room(&need(1_001), &room, &[], MINUTE, None), Step::Short);
        assert_eq!(make_room(&need(1_001), &room, &[tenancy(0, 10)], MINUTE, None), Step::Drain(vec![0]));
        room.memories[0].promised = 10;
        assert_eq!(
            make_room(&need(1_000), &room, &[], MINUTE, None),
            Step::Short,
            "If you are here because this failed: what a loaded model has not taken yet is promised a second time."
        );
    }

    #[test]
    fn each_card_must_hold_its_part() {
        assert_eq!(cards(&[30, 10]).divide(20), [15, 5]);
        assert_eq!(cards(&[0, 0]).divide(20), [10, 10]);
        let decide = |need: Need, free: &[u64], tenancies: &[Tenancy]| make_room(&need, &cards(free), tenancies, MINUTE, None);
        assert_eq!(decide(need(40), &[30, 10], &[]), Step::Load);
        assert_eq!(decide(need(41), &[30, 10], &[]), Step::Short, "all of them together have less");
        assert_eq!(decide(Need { total: 36, piece: 2 }, &[30, 10], &[]), Step::Short, "a layer more than its part would not fit");
        assert_eq!(decide(Need { total: 30, piece: 2 }, &[30, 10], &[]), Step::Load);
        assert_eq!(decide(need(30), &[30, 0], &[]), Step::Load, "a full card gets no part");
        let mut promised = cards(&[30, 10]);
        promised.memories[1].promised = 6;
        assert_eq!(make_room(&need(20), &promised, &[], MINUTE, None), Step::Short, "there is enough in all, but not on the second");
    }

    #[test]
    fn who_goes_is_on_a_card_that_lacks_room() {
        let on = |place: usize, bytes: &[u64]| Tenancy { bytes: bytes.to_vec(), ..tenancy(place, 0) };
        let mut room = cards(&[20, 20]);
        room.memories[1].promised = 20;
        // The first one is idle longest, but its card has room.
        let first = Tenancy { unused: 9 * MINUTE, ..on(0, &[10, 0]) };
        assert_eq!(make_room(&need(20), &room, &[first, on(1, &[0, 20])], MINUTE, None), Step::Drain(vec![1]));
    }

    #[test]
    fn the_idle_go_first_then_the_least_recently_used_and_no_more_than_needed() {
        let busy = Tenancy { idle: false, unused: 5 * MINUTE, ..tenancy(0, 10) };
        let recent = Tenancy { unused: Duration::ZERO, ..tenancy(1, 10) };
        let old = tenancy(2, 10);
        let all = [busy.clone(), recent.clone(), old];
        assert_eq!(decide(10, 0, &all), Step::Drain(vec![2]));
        assert_eq!(decide(20, 0, &all), Step::Drain(vec![2, 1]));
        assert_eq!(decide(10, 0, &[busy.clone(), recent]), Step::Drain(vec![1]));
        assert_eq!(decide(10, 0, &[busy]), Step::Drain(vec![0]), "who is always busy must not keep others out for ever");
        // The small one is idle longest, but the large one has to go in any case and is enough.
        let small = Tenancy { unused: 9 * MINUTE, ..tenancy(3, 2) };
        assert_eq!(decide(10, 0, &[small, tenancy(4, 10)]), Step::Drain(vec![4]));
    }

    #[test]
    fn nobody_goes_before_their_time_nor_soon_after_the_last_exchange() {
        let young = |seconds| Tenancy { age: Duration::from_secs(seconds), ..tenancy(0, 10) };
        assert_eq!(decide(10, 0, &[young(50)]), Step::Later(Duration::from_secs(10)));
        let busy = Tenancy { idle: false, ..tenancy(1, 10) };
        assert_eq!(decide(10, 0, &[busy, young(50)]), Step::Later(Duration::from_secs(10)), "the idle one, a little later");
        let lately = |since, free| make_room(&need(10), &room(free), &[tenancy(0, 10)], MINUTE, Some(since));
        assert_eq!(lately(Duration::from_secs(45), 0), Step::Later(Duration::from_secs(15)));
        assert_eq!(lately(Duration::ZERO, 10), Step::Load, "into free room at once");
    }

    /// Three models in turn, room for two.
    #[test]
    fn alternating_demand_exchanges_at_most_once_per_residence() {
        let mut loaded = vec![(0, 0_u64), (1, 0)];
        let mut exchanges: Vec<u64> = Vec::new();
        let seconds = |now: u64, then: u64| Duration::from_secs(now - then);
        for now in 1..3_600 {
            let wanted = usize::try_from(now % 3).unwrap();
            if loaded.iter().any(|(place, _)| *place == wanted) {
                continue;
            }
            let present: Vec<Tenancy> =
                loaded.iter().map(|(place, since)| Tenancy { age: seconds(now, *since), ..tenancy(*place, 10) }).collect();
            let last = exchanges.last().map(|then| seconds(now, *then));
            if let Step::Drain(leaving) = make_room(&need(10), &room(0), &present, MINUTE, last) {
                loaded.retain(|(place, _)| !leaving.contains(place));
                loaded.push((wanted, now));
                exchanges.push(now);
            }
        }
        assert!(exchanges.len() > 50, "{exchanges:?}");
        assert!(
            exchanges.windows(2).all(|pair| pair[1] - pair[0] >= 60),
            "If you are here because this failed: models that are asked for in turn keep the worker loading. {exchanges:?}"
        );
    }
}
