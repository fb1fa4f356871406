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
        self.entries.get(&place).map(|entry| entry.reserved.clone()).unwrap_or_default()
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
        (0..self.base.len()).map(|memory| self.entries.values().map(|entry| of(entry, memory)).sum::<u64>()).collect()
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
pub mod tests;
