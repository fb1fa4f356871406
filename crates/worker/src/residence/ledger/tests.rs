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
        let mut now = self.now.lock();
        let reading = &mut now[memory];
        (reading.used, reading.free) = (reading.used + bytes, reading.free - bytes);
    }

    pub fn give(&self, memory: usize, bytes: u64) {
        let mut now = self.now.lock();
        let reading = &mut now[memory];
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
