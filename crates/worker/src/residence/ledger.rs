//! What the models of this process take of each memory: reserved before a load, corrected by what was measured after it.
//!
//! A memory is a graphics card's, or the processor's. What its driver says is free bounds what is promised of it, since
//! other processes take from it, too.

use std::collections::BTreeMap;

use super::plan::{Memory, Need, Room};

/// A memory as it is now, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Taken: of a card by anybody, of the processor's memory by this process.
    pub used: u64,
    /// What a load can have, whoever has the rest.
    pub free: u64,
}

/// The memories in which the models of this process lie.
pub trait Meter: Send + Sync {
    fn kind(&self) -> Kind;
    /// For people, and for files that stand for them: `card 0`.
    fn names(&self) -> Vec<String>;
    /// One reading for each of the names, in their order.
    fn read(&self) -> Vec<Reading>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Cards,
    Processor,
}

/// See the module. Models are known by their place.
pub struct Ledger {
    meter: Box<dyn Meter>,
    /// Bytes that all models may take together; `None`: as many as there are.
    limit: Option<u64>,
    /// Taken before anything was loaded.
    base: Vec<u64>,
    /// What did not come back.
    withheld: Vec<u64>,
    entries: BTreeMap<usize, Entry>,
}

/// Of one model, in bytes of each memory.
#[derive(Clone)]
struct Entry {
    reserved: Vec<u64>,
    /// By how much what is taken had grown when it was loaded.
    seen: Vec<u64>,
    /// Taken before its load, or before it went.
    before: Vec<u64>,
}

/// A model has gone.
#[derive(Debug, PartialEq, Eq)]
pub struct Release {
    /// Bytes that came back.
    pub released: u64,
    /// Bytes that should have come back, too; nobody is promised them as long as they are taken.
    pub withheld: u64,
    /// It had grown: so many bytes are to be reserved for it the next time.
    pub grown: Option<u64>,
}

impl Ledger {
    pub fn new(meter: Box<dyn Meter>, limit: Option<u64>) -> Self {
        let base: Vec<u64> = meter.read().iter().map(|reading| reading.used).collect();
        Self { withheld: vec![0; base.len()], meter, limit, base, entries: BTreeMap::new() }
    }

    /// The memories' names.
    pub fn names(&self) -> Vec<String> {
        self.meter.names()
    }

    /// What is neither taken by anybody, nor reserved, nor withheld.
    pub fn room(&mut self) -> Room {
        let now = self.meter.read();
        let unexplained = self.unexplained(&now);
        self.withheld.iter_mut().zip(unexplained).for_each(|(withheld, unexplained)| *withheld = unexplained.min(*withheld));
        let reserved: u64 = self.entries.values().flat_map(|entry| &entry.reserved).sum();
        let given = reserved.saturating_add(self.withheld.iter().sum());
        let promised = self.promised(&now);
        let memories = now.iter().zip(promised).map(|(reading, promised)| Memory { free: reading.free, promised });
        Room { budget: self.limit.map_or(u64::MAX, |limit| limit.saturating_sub(given)), memories: memories.collect() }
    }

    /// What each memory has free, for people.
    pub fn describe(&self) -> String {
        let told = self.meter.names().into_iter().zip(self.meter.read());
        told.map(|(name, reading)| format!("{name}: {} MiB", reading.free >> 20)).collect::<Vec<_>>().join(", ")
    }

    /// A model is about to be loaded.
    pub fn reserve(&mut self, place: usize, need: &Need) {
        let reserved = self.room().divide(need.total);
        let entry = Entry { seen: vec![0; reserved.len()], before: self.used(), reserved };
        self.entries.insert(place, entry);
    }

    /// Bytes in each memory that are reserved for a model.
    pub fn reserved(&self, place: usize) -> Vec<u64> {
        self.entries.get(&place).map_or_else(Vec::new, |entry| entry.reserved.clone())
    }

    /// A model has been loaded, and will take `later` bytes more. Returns what it was measured to take now, and what is
    /// to be reserved for it from now on if the estimate was wrong.
    pub fn loaded(&mut self, place: usize, later: u64) -> (u64, Option<u64>) {
        let used = self.used();
        let Some(entry) = self.entries.get_mut(&place) else { return (0, None) };
        entry.seen = grown(&entry.before, &used);
        let (measured, estimated): (u64, u64) = (entry.seen.iter().sum(), entry.reserved.iter().sum());
        match self.meter.kind() {
            // A card's memory is allocated at once. A fraction cannot be true: somebody else's memory came back just then.
            Kind::Cards if measured > estimated / 4 => {
                let part = |seen: &u64| seen.saturating_add(proportion(later, *seen, measured));
                entry.reserved = entry.seen.iter().map(part).collect();
            }
            // A processor's counts when it is first touched, so more is to come.
            Kind::Processor if measured > estimated => entry.reserved.clone_from(&entry.seen),
            _ => return (measured, None),
        }
        (measured, Some(entry.reserved.iter().sum()))
    }

    /// The model could not be loaded.
    pub fn forget(&mut self, place: usize) {
        self.entries.remove(&place);
    }

    /// A model is about to go.
    pub fn leaves(&mut self, place: usize) {
        let used = self.used();
        if let Some(entry) = self.entries.get_mut(&place) {
            entry.before = used;
        }
    }

    /// Whether as much of a model that goes has come back as can be told for certain.
    pub fn is_back(&self, place: usize) -> bool {
        self.entries.get(&place).is_none_or(|entry| self.missing(entry).iter().all(|missing| *missing == 0))
    }

    /// Strikes a model out that has gone, and withholds what has not come back.
    pub fn release(&mut self, place: usize) -> Release {
        let Some(entry) = self.entries.remove(&place) else { return Release { released: 0, withheld: 0, grown: None } };
        let now = self.meter.read();
        let used: Vec<u64> = now.iter().map(|reading| reading.used).collect();
        // What nobody here can explain may be another process's; then it is at most what this model had.
        let owed = self.missing(&entry).into_iter().zip(self.unexplained(&now)).zip(&self.withheld);
        let withheld: Vec<u64> = owed.map(|((missing, unexplained), before)| unexplained.min(before.saturating_add(missing))).collect();
        self.withheld = withheld;
        let released: u64 = grown(&used, &entry.before).iter().sum();
        let reserved: u64 = entry.reserved.iter().sum();
        let grown = (released > reserved).then_some(released);
        Release { released, withheld: self.withheld.iter().sum(), grown }
    }

    /// What should have come back of a model that goes, but for what need not.
    fn missing(&self, entry: &Entry) -> Vec<u64> {
        let released = grown(&self.used(), &entry.before);
        let expected = |seen: u64| match self.meter.kind() {
            // The driver counts a freed buffer as free at once; a little stays, e.g. of the library's own.
            Kind::Cards => seen - seen / 10,
            // Neighbours touch theirs at the same time, which hides what goes, and the allocator keeps some to use it again.
            Kind::Processor => seen / 2,
        };
        let missing = |(seen, released): (&u64, u64)| if released >= expected(*seen) { 0 } else { seen - released };
        entry.seen.iter().zip(released).map(missing).collect()
    }

    fn used(&self) -> Vec<u64> {
        self.meter.read().iter().map(|reading| reading.used).collect()
    }

    /// Sums of something over all models, in each memory.
    fn sums(&self, of: impl Fn(&Entry, usize) -> u64) -> Vec<u64> {
        (0..self.base.len()).map(|memory| self.entries.values().map(|entry| of(entry, memory)).sum()).collect()
    }

    /// What is taken and reserved by nobody.
    fn unexplained(&self, now: &[Reading]) -> Vec<u64> {
        let reserved = self.sums(|entry, memory| entry.reserved[memory]);
        let own = now.iter().zip(&self.base).map(|(reading, base)| reading.used.saturating_sub(*base));
        own.zip(reserved).map(|(own, reserved)| own.saturating_sub(reserved)).collect()
    }

    /// What is reserved and not taken yet.
    fn promised(&self, now: &[Reading]) -> Vec<u64> {
        match self.meter.kind() {
            // Others take from it, too, so what models took later than at their load cannot be told apart.
            Kind::Cards => self.sums(|entry, memory| entry.reserved[memory].saturating_sub(entry.seen[memory])),
            Kind::Processor => {
                let own = now.iter().zip(&self.base).map(|(reading, base)| reading.used.saturating_sub(*base));
                self.sums(|entry, memory| entry.reserved[memory])
                    .into_iter()
                    .zip(own)
                    .map(|(reserved, own)| reserved.saturating_sub(own))
                    .collect()
            }
        }
    }
}

/// By how much each of them has grown.
fn grown(before: &[u64], after: &[u64]) -> Vec<u64> {
    before.iter().zip(after).map(|(before, after)| after.saturating_sub(*before)).collect()
}

/// The part of `whole` that belongs to `part` of `all`.
fn proportion(whole: u64, part: u64, all: u64) -> u64 {
    let share = (u128::from(whole) * u128::from(part)).div_ceil(u128::from(all.max(1)));
    u64::try_from(share).unwrap_or(whole)
}

#[cfg(test)]
pub mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    /// Memories that a test fills itself.
    #[derive(Clone)]
    pub struct Fake {
        kind: Kind,
        now: Arc<Mutex<Vec<Reading>>>,
    }

    impl Fake {
        /// Empty ones of these sizes.
        pub fn new(kind: Kind, sizes: &[u64]) -> Self {
            let now = sizes.iter().map(|free| Reading { used: 0, free: *free }).collect();
            Self { kind, now: Arc::new(Mutex::new(now)) }
        }

        pub fn take(&self, memory: usize, bytes: u64) {
            let reading = &mut self.now.lock()[memory];
            (reading.used, reading.free) = (reading.used + bytes, reading.free - bytes);
        }

        pub fn give(&self, memory: usize, bytes: u64) {
            let reading = &mut self.now.lock()[memory];
            (reading.used, reading.free) = (reading.used - bytes, reading.free + bytes);
        }

        /// Of another process, where these do not count as taken by this one.
        fn shrink(&self, memory: usize, bytes: u64) {
            self.now.lock()[memory].free -= bytes;
        }

        pub fn ledger(&self, limit: Option<u64>) -> Ledger {
            Ledger::new(Box::new(self.clone()), limit)
        }
    }

    impl Meter for Fake {
        fn kind(&self) -> Kind {
            self.kind
        }

        fn names(&self) -> Vec<String> {
            (0..self.now.lock().len()).map(|number| format!("card {number}")).collect()
        }

        fn read(&self) -> Vec<Reading> {
            self.now.lock().clone()
        }
    }

    fn need(total: u64) -> Need {
        Need { total, piece: 0 }
    }

    fn memories(ledger: &mut Ledger) -> Vec<(u64, u64)> {
        ledger.room().memories.iter().map(|memory| (memory.free, memory.promised)).collect()
    }

    #[test]
    fn each_card_has_its_entry_and_what_was_measured_takes_the_estimates_place() {
        let cards = Fake::new(Kind::Cards, &[300, 100]);
        let mut ledger = cards.ledger(Some(350));
        ledger.reserve(0, &need(200));
        assert_eq!(ledger.reserved(0), [150, 50], "by what is free");
        assert_eq!((ledger.room().budget, memories(&mut ledger)), (150, vec![(300, 150), (100, 50)]));
        cards.take(0, 80);
        cards.take(1, 40);
        assert_eq!(ledger.loaded(0, 30), (120, Some(150)));
        assert_eq!(ledger.reserved(0), [100, 50], "and what comes later, in the same proportion");
        assert_eq!((ledger.room().budget, memories(&mut ledger)), (200, vec![(220, 20), (60, 10)]));
    }

    #[test]
    fn what_other_processes_take_is_not_free() {
        let cards = Fake::new(Kind::Cards, &[300, 100]);
        let mut ledger = cards.ledger(Some(1_000));
        cards.take(1, 90);
        assert_eq!((ledger.room().budget, memories(&mut ledger)), (1_000, vec![(300, 0), (10, 0)]));
        assert_eq!(ledger.describe(), "card 0: 0 MiB, card 1: 0 MiB");
    }

    #[test]
    fn a_fraction_of_the_estimate_is_not_believed() {
        let cards = Fake::new(Kind::Cards, &[300]);
        let mut ledger = cards.ledger(None);
        ledger.reserve(0, &need(200));
        cards.take(0, 50);
        assert_eq!(ledger.loaded(0, 0), (50, None));
        assert_eq!(ledger.reserved(0), [200]);
    }

    #[test]
    fn on_the_processor_a_reservation_only_grows_and_shrinks_what_is_promised_as_it_is_touched() {
        let processor = Fake::new(Kind::Processor, &[500]);
        let mut ledger = processor.ledger(None);
        ledger.reserve(0, &need(200));
        processor.take(0, 120);
        assert_eq!(ledger.loaded(0, 0), (120, None));
        assert_eq!(memories(&mut ledger), [(380, 80)]);
        processor.take(0, 50);
        processor.shrink(0, 100);
        assert_eq!(memories(&mut ledger), [(230, 30)], "another process has 100");
        ledger.reserve(1, &need(20));
        processor.take(0, 60);
        assert_eq!(ledger.loaded(1, 0), (60, Some(60)));
    }

    /// A ledger with one model of 100 bytes that is about to go.
    fn leaving(memory: &Fake) -> Ledger {
        let mut ledger = memory.ledger(Some(200));
        ledger.reserve(0, &need(100));
        memory.take(0, 100);
        ledger.loaded(0, 0);
        ledger.leaves(0);
        ledger
    }

    #[test]
    fn a_cards_memory_must_come_back_almost_all() {
        let card = Fake::new(Kind::Cards, &[1_000]);
        let mut ledger = leaving(&card);
        card.give(0, 89);
        assert!(!ledger.is_back(0));
        assert_eq!(ledger.release(0), Release { released: 89, withheld: 11, grown: None });
        assert_eq!(
            ledger.room().budget,
            189,
            "If you are here because this failed: memory that a model did not give back is promised to the next."
        );
        card.give(0, 8);
        assert_eq!(ledger.room().budget, 197, "some of it came later");
        card.take(0, 50);
        assert_eq!(ledger.room().budget, 197, "what somebody else takes then is not this model's");

        let card = Fake::new(Kind::Cards, &[1_000]);
        let mut ledger = leaving(&card);
        card.give(0, 90);
        assert!(ledger.is_back(0));
        assert_eq!(ledger.release(0), Release { released: 90, withheld: 0, grown: None });
    }

    #[test]
    fn of_the_processors_memory_half_is_enough() {
        let processor = Fake::new(Kind::Processor, &[1_000]);
        let mut ledger = leaving(&processor);
        processor.give(0, 49);
        assert!(!ledger.is_back(0));
        processor.give(0, 1);
        assert!(ledger.is_back(0));
        assert_eq!(ledger.release(0), Release { released: 50, withheld: 0, grown: None });
        assert_eq!(ledger.room().budget, 200);

        let processor = Fake::new(Kind::Processor, &[1_000]);
        let mut ledger = leaving(&processor);
        processor.give(0, 40);
        assert_eq!(ledger.release(0), Release { released: 40, withheld: 60, grown: None });
        assert_eq!(ledger.room().budget, 140);
    }

    #[test]
    fn no_more_is_withheld_than_the_model_had() {
        let card = Fake::new(Kind::Cards, &[1_000]);
        let mut ledger = leaving(&card);
        // All of it came back, and somebody took five times as much.
        card.give(0, 100);
        card.take(0, 500);
        assert_eq!(ledger.release(0), Release { released: 0, withheld: 100, grown: None });
    }

    #[test]
    fn a_model_that_had_grown_is_reserved_more_for_the_next_time() {
        let processor = Fake::new(Kind::Processor, &[1_000]);
        let mut ledger = processor.ledger(None);
        ledger.reserve(0, &need(100));
        processor.take(0, 80);
        ledger.loaded(0, 0);
        processor.take(0, 50);
        ledger.leaves(0);
        processor.give(0, 130);
        assert_eq!(ledger.release(0), Release { released: 130, withheld: 0, grown: Some(130) });
    }
}
