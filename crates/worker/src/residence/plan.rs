//! Who has to go so that another model fits. No I/O.

use std::time::Duration;

/// A model in memory that may be given up.
#[derive(Clone, Copy, Debug)]
pub struct Tenancy {
    pub place: usize,
    pub bytes: u64,
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
    /// Not even alone beside what is pinned.
    Never,
}

/// Decides about `need` bytes where `free` are free. Whoever is idle goes before whoever is busy, and whoever was not
/// asked for longest before others. Nobody goes before `residence` is over, neither their own nor that of the last
/// exchange: models that are asked for in turn would otherwise spend the time loading.
pub fn make_room(need: u64, free: u64, tenancies: &[Tenancy], residence: Duration, last_exchange: Option<Duration>) -> Step {
    if need <= free {
        return Step::Load;
    }
    let mut candidates: Vec<&Tenancy> = tenancies.iter().collect();
    candidates.sort_by_key(|tenancy| (!tenancy.idle, std::cmp::Reverse(tenancy.unused)));
    let mut room = free;
    let mut leaving = Vec::new();
    for tenancy in candidates {
        if room >= need {
            break;
        }
        room = room.saturating_add(tenancy.bytes);
        leaving.push(*tenancy);
    }
    if room < need {
        return Step::Never;
    }
    // The last ones may have made the first ones needless.
    let spare = |leaving: &[Tenancy]| free.saturating_add(leaving.iter().map(|tenancy| tenancy.bytes).sum()).saturating_sub(need);
    while let Some(at) = leaving.iter().position(|tenancy| tenancy.bytes <= spare(&leaving)) {
        leaving.remove(at);
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
        Tenancy { place, bytes, idle: true, age: 10 * MINUTE, unused: MINUTE }
    }

    fn decide(need: u64, free: u64, tenancies: &[Tenancy]) -> Step {
        make_room(need, free, tenancies, MINUTE, None)
    }

    #[test]
    fn what_fits_is_loaded_and_what_never_fits_is_refused() {
        assert_eq!(decide(10, 10, &[]), Step::Load);
        assert_eq!(decide(11, 10, &[]), Step::Never);
        assert_eq!(decide(30, 10, &[tenancy(0, 10)]), Step::Never, "and nobody is sent away for nothing");
    }

    #[test]
    fn the_idle_go_first_then_the_least_recently_used_and_no_more_than_needed() {
        let busy = Tenancy { idle: false, unused: 5 * MINUTE, ..tenancy(0, 10) };
        let recent = Tenancy { unused: Duration::ZERO, ..tenancy(1, 10) };
        let old = tenancy(2, 10);
        assert_eq!(decide(10, 0, &[busy, recent, old]), Step::Drain(vec![2]));
        assert_eq!(decide(20, 0, &[busy, recent, old]), Step::Drain(vec![2, 1]));
        assert_eq!(decide(10, 0, &[busy, recent]), Step::Drain(vec![1]));
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
        assert_eq!(make_room(10, 0, &[tenancy(0, 10)], MINUTE, Some(Duration::from_secs(45))), Step::Later(Duration::from_secs(15)));
        assert_eq!(make_room(10, 10, &[], MINUTE, Some(Duration::ZERO)), Step::Load, "into free room at once");
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
            if let Step::Drain(leaving) = make_room(10, 0, &present, MINUTE, last) {
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
