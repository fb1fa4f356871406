//! Whose turn it is when several tenants wait for models that are not there. No I/O.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After so long a load counts half.
const HALF_LIFE: Duration = Duration::from_secs(5 * 60);
/// Less than this is as good as nothing.
const FORGOTTEN: f64 = 0.25;

/// Somebody waits for a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    pub tenant: Arc<str>,
    pub place: usize,
    pub since: Instant,
}

/// The model to load next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Somebody waits for it.
    Asked(Wish),
    /// Nobody does. `firm`: it is to be here nevertheless, whoever has to go.
    Wished { place: usize, firm: bool },
}

impl Next {
    /// The model's.
    pub fn place(&self) -> usize {
        match self {
            Self::Asked(wish) => wish.place,
            Self::Wished { place, .. } => *place,
        }
    }

    /// Others may have to go for it.
    pub fn is_firm(&self) -> bool {
        match self {
            Self::Asked(_) => true,
            Self::Wished { firm, .. } => *firm,
        }
    }

    /// Who asked for it.
    pub fn wish(self) -> Option<Wish> {
        match self {
            Self::Asked(wish) => Some(wish),
            Self::Wished { .. } => None,
        }
    }
}

/// The loads that were made for each tenant lately. What counts is how many: each takes the time in which no other model
/// can come, its own and the residence after it, whatever its size.
#[derive(Default)]
pub struct Shares(HashMap<Arc<str>, Loads>);

struct Loads {
    number: f64,
    at: Instant,
}

impl Loads {
    fn aged(&self, now: Instant) -> f64 {
        self.number * 0.5_f64.powf(now.duration_since(self.at).as_secs_f64() / HALF_LIFE.as_secs_f64())
    }
}

impl Shares {
    /// A model is loaded because this tenant waits for it.
    pub fn charge(&mut self, tenant: &Arc<str>, now: Instant) {
        self.0.retain(|_, loads| loads.aged(now) >= FORGOTTEN);
        let before = self.0.get(tenant).map_or(0.0, |loads| loads.aged(now));
        self.0.insert(tenant.clone(), Loads { number: before + 1.0, at: now });
    }

    /// The wish to fulfil next: of the tenant for whom the fewest models were loaded lately, the oldest; among equals the
    /// oldest of all. Whoever waits is not charged, so what they were charged is forgotten within some half-lives; then
    /// nobody who comes later goes before them.
    pub fn first<'a>(&self, wishes: &'a [Wish], now: Instant) -> Option<&'a Wish> {
        // Rounded: who was served a moment earlier than another was not served less.
        let loads = |wish: &Wish| self.0.get(&wish.tenant).map_or(0.0, |loads| loads.aged(now).round());
        wishes.iter().min_by(|a, b| loads(a).total_cmp(&loads(b)).then_with(|| (a.since, a.place).cmp(&(b.since, b.place))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn wish(tenant: &str, place: usize, since: Instant) -> Wish {
        Wish { tenant: tenant.into(), place, since }
    }

    fn first(shares: &Shares, wishes: &[Wish], now: Instant) -> Option<usize> {
        shares.first(wishes, now).map(|wish| wish.place)
    }

    #[test]
    fn among_equals_whoever_waits_longest_comes_first() {
        let now = Instant::now();
        let wishes = [wish("a", 0, now + MINUTE), wish("b", 1, now), wish("a", 2, now + 2 * MINUTE)];
        assert_eq!(first(&Shares::default(), &wishes, now + 3 * MINUTE), Some(1));
        assert_eq!(first(&Shares::default(), &[], now), None);
    }

    #[test]
    fn whoever_had_fewer_loads_goes_before_whoever_waits_longer() {
        let now = Instant::now();
        let mut shares = Shares::default();
        shares.charge(&"many".into(), now);
        let wishes = [wish("many", 0, now), wish("many", 1, now), wish("few", 2, now + MINUTE)];
        assert_eq!(
            first(&shares, &wishes, now + MINUTE),
            Some(2),
            "If you are here because this failed: who asks for many models keeps those out who ask for one."
        );
        shares.charge(&"few".into(), now + MINUTE);
        assert_eq!(first(&shares, &wishes, now + MINUTE), Some(0), "both had one; now the oldest");
    }

    /// One asks for ten models all the time, the other for one now and then.
    #[test]
    fn two_tenants_get_about_as_many_loads_as_long_as_both_wait() {
        let begin = Instant::now();
        let mut shares = Shares::default();
        let mut served = [0_u32; 2];
        for minute in 0..40_u32 {
            let now = begin + minute * MINUTE;
            let mut wishes: Vec<Wish> = (0..10).map(|place| wish("many", place, begin)).collect();
            wishes.push(wish("few", 10, now));
            let chosen = shares.first(&wishes, now).unwrap().clone();
            shares.charge(&chosen.tenant, now);
            served[usize::from(chosen.place == 10)] += 1;
        }
        assert!(served[0].abs_diff(served[1]) <= 4, "{served:?}");
    }

    #[test]
    fn nobody_starves_because_new_tenants_come_all_the_time() {
        let begin = Instant::now();
        let mut shares = Shares::default();
        for _ in 0..20 {
            shares.charge(&"old".into(), begin);
        }
        let waited = (0_u32..).find(|minute| {
            let now = begin + *minute * MINUTE;
            let wishes = [wish("old", 0, begin), wish(&format!("new {minute}"), 1, now)];
            let chosen = shares.first(&wishes, now).unwrap().clone();
            shares.charge(&chosen.tenant, now);
            chosen.place == 0
        });
        assert!(waited.is_some_and(|minutes| (2..60).contains(&minutes)), "{waited:?}");
    }
}
