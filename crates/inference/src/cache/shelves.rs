//! Where answers are kept: a shelf for each tenant, from which the least recently used ones go. Nobody's answers go for
//! somebody else's.

use super::{Answer, PARTS, Terms, key::Key};
use contract::{Millis, ids::TenantId};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What an answer takes beside its text: keys, counters, allocations. Bytes.
const AROUND: usize = 512;

/// See the module.
#[derive(Default)]
pub(super) struct Shelves {
    shelves: Mutex<HashMap<TenantId, Shelf>>,
}

/// The answers of one tenant.
#[derive(Default)]
struct Shelf {
    answers: HashMap<Key, Kept>,
    /// The least recently used first.
    uses: BTreeMap<u64, Key>,
    /// The number of the next use.
    next: u64,
    bytes: usize,
}

struct Kept {
    answer: Arc<Answer>,
    bytes: usize,
    at: Millis,
    /// The number of its last use.
    used: u64,
}

impl Shelves {
    /// An answer that is not too old, and its age in milliseconds.
    pub(super) fn find(&self, tenant: TenantId, key: &Key, now: Millis, terms: Terms) -> Option<(Arc<Answer>, Millis)> {
        self.lock().get_mut(&tenant)?.find(key, now, terms)
    }

    /// Keeps an answer, in the place of an older one. One that is too large for its tenant is let go.
    pub(super) fn keep(&self, tenant: TenantId, key: Key, answer: Answer, now: Millis, terms: Terms) {
        let bytes = answer.bytes() + AROUND;
        if bytes <= terms.share / PARTS {
            self.lock().entry(tenant).or_default().keep(key, answer, bytes, now, terms.share);
        }
    }

    /// Throws away what is too old or too much, by the terms that hold now; `None`: nothing is kept.
    pub(super) fn tidy(&self, now: Millis, terms: impl Fn(TenantId) -> Option<Terms>) {
        self.lock().retain(|tenant, shelf| {
            let Some(terms) = terms(*tenant) else { return false };
            shelf.tidy(now, terms);
            !shelf.answers.is_empty()
        });
    }

    /// How many answers there are, and what they take.
    pub(super) fn figures(&self) -> (usize, usize) {
        self.lock().values().fold((0, 0), |(answers, bytes), shelf| (answers + shelf.answers.len(), bytes + shelf.bytes))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, Shelf>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    fn find(&mut self, key: &Key, now: Millis, terms: Terms) -> Option<(Arc<Answer>, Millis)> {
        let kept = self.answers.get_mut(key)?;
        let age = now.saturating_sub(kept.at).max(0);
        if age >= terms.ttl {
            self.remove(key);
            return None;
        }
        self.uses.remove(&kept.used);
        kept.used = self.next;
        self.uses.insert(kept.used, *key);
        self.next += 1;
        Some((kept.answer.clone(), age))
    }

    fn keep(&mut self, key: Key, answer: Answer, bytes: usize, now: Millis, share: usize) {
        self.remove(&key);
        let used = self.next;
        self.next += 1;
        self.uses.insert(used, key);
        self.answers.insert(key, Kept { answer: Arc::new(answer), bytes, at: now, used });
        self.bytes += bytes;
        self.shrink(share);
    }

    fn tidy(&mut self, now: Millis, terms: Terms) {
        let old: Vec<Key> = self.answers.iter().filter(|(_, kept)| now.saturating_sub(kept.at) >= terms.ttl).map(|(key, _)| *key).collect();
        old.iter().for_each(|key| self.remove(key));
        self.shrink(terms.share);
    }

    fn shrink(&mut self, share: usize) {
        while self.bytes > share {
            let Some(key) = self.uses.first_key_value().map(|(_, key)| *key) else { return };
            self.remove(&key);
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(kept) = self.answers.remove(key) {
            self.uses.remove(&kept.used);
            self.bytes -= kept.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AROUND, Answer, Key, Shelves, Terms};
    use contract::{Millis, ids::TenantId};
    use uuid::Uuid;

    const TTL: Millis = 1_000;

    fn answer() -> Answer {
        Answer::of_text(&"x".repeat(1_000))
    }

    /// What one of them takes.
    fn each() -> usize {
        answer().bytes() + AROUND
    }

    /// There is room for ten of them.
    fn terms() -> Terms {
        Terms { ttl: TTL, share: 10 * each() }
    }

    fn tenants() -> [TenantId; 2] {
        [TenantId(Uuid::now_v7()), TenantId(Uuid::now_v7())]
    }

    fn key(number: u8) -> Key {
        [number; 32]
    }

    #[test]
    fn the_least_recently_used_goes_and_only_ones_own() {
        let (shelves, [ours, theirs]) = (Shelves::default(), tenants());
        shelves.keep(theirs, key(0), answer(), 0, terms());
        (0..10).for_each(|number| shelves.keep(ours, key(number), answer(), 0, terms()));
        assert_eq!(shelves.figures(), (11, 11 * each()));
        assert!(shelves.find(ours, &key(0), 1, terms()).is_some());
        shelves.keep(ours, key(10), answer(), 1, terms());
        let there = |number| shelves.find(ours, &key(number), 2, terms()).is_some();
        assert_eq!([0, 1, 2, 10].map(there), [true, false, true, true], "1 was used before all others");
        assert!(
            shelves.find(theirs, &key(0), 2, terms()).is_some(),
            "If you are here because this failed: one tenant pushes out another one's answers."
        );
        assert!(shelves.find(theirs, &key(2), 2, terms()).is_none());
        assert_eq!(shelves.figures(), (11, 11 * each()));
    }

    #[test]
    fn what_is_too_old_is_not_told_and_goes() {
        let (shelves, [ours, theirs]) = (Shelves::default(), tenants());
        shelves.keep(ours, key(1), answer(), 0, terms());
        shelves.keep(ours, key(2), answer(), 500, terms());
        assert_eq!(shelves.find(ours, &key(1), 999, terms()).map(|(_, age)| age), Some(999));
        // A clock that is put back makes nothing younger than new.
        assert_eq!(shelves.find(ours, &key(2), 400, terms()).map(|(_, age)| age), Some(0));
        assert!(shelves.find(ours, &key(1), 1_000, terms()).is_none());
        assert_eq!(shelves.figures().0, 1);
        // New terms hold for what is there already.
        assert!(shelves.find(ours, &key(2), 900, Terms { ttl: 400, ..terms() }).is_none());
        shelves.keep(ours, key(3), answer(), 1_000, terms());
        shelves.keep(theirs, key(3), answer(), 1_000, terms());
        shelves.tidy(1_500, |tenant| (tenant == ours).then_some(terms()));
        assert!(shelves.find(theirs, &key(3), 1_500, terms()).is_none() && shelves.find(ours, &key(3), 1_500, terms()).is_some());
        shelves.tidy(2_000, |_| Some(terms()));
        assert_eq!(shelves.figures(), (0, 0));
    }

    #[test]
    fn a_newer_answer_takes_the_place_and_a_huge_one_takes_none() {
        let (shelves, [ours, _]) = (Shelves::default(), tenants());
        shelves.keep(ours, key(1), answer(), 0, terms());
        shelves.keep(ours, key(1), answer(), 700, terms());
        assert_eq!(shelves.figures(), (1, each()));
        assert_eq!(shelves.find(ours, &key(1), 1_100, terms()).map(|(_, age)| age), Some(400));
        shelves.keep(ours, key(2), Answer::of_text(&"x".repeat(terms().share / 2)), 0, terms());
        assert!(shelves.find(ours, &key(2), 1, terms()).is_none());
        assert_eq!(shelves.figures(), (1, each()));
    }
}
