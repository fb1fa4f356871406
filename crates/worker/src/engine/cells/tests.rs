use std::{
    collections::BTreeMap,
    iter::{empty, once},
};

use super::*;

fn tokens(text: &str) -> Vec<LlamaToken> {
    text.bytes().map(|byte| LlamaToken(byte.into())).collect()
}

/// Begins, computes all of `text` and ends.
fn run(cells: &mut Cells, partition: &str, text: &str) -> Begun {
    let begun = start(cells, partition, text);
    cells.end(begun.seq);
    begun
}

fn start(cells: &mut Cells, partition: &str, text: &str) -> Begun {
    let prompt = tokens(text);
    let begun = cells.begin(partition, &prompt).unwrap();
    let rest = &prompt[begun.reused..];
    assert!(cells.make_room(rest.len()));
    cells.extend(begun.seq, rest, rest.len());
    cells.publish(begun.seq);
    begun
}

#[test]
fn a_conversation_goes_on_where_it_was() {
    let mut cells = Cells::new(100, 4, true);
    let first = run(&mut cells, "a", "system hello");
    run(&mut cells, "a", "entirely else");
    cells.take_ops();
    let second = cells.begin("a", &tokens("system hello, and then")).unwrap();
    assert_eq!(second.reused, 12);
    assert_eq!(cells.take_ops(), [Op::Copy { from: first.seq, to: second.seq, start: 0, end: 12 }]);
}

#[test]
fn what_was_said_twice_is_kept_once() {
    let mut cells = Cells::new(100, 6, true);
    run(&mut cells, "a", "system hello");
    run(&mut cells, "a", "system hello");
    run(&mut cells, "b", "system hello");
    run(&mut cells, "a", "system");
    let kept = |cells: &Cells| cells.kept().map(|kept| (kept.partition.to_owned(), kept.tokens.len())).collect::<Vec<_>>();
    assert_eq!(kept(&cells), [("b".to_owned(), 12), ("a".to_owned(), 12)]);
    run(&mut cells, "a", "system hello, and then");
    assert_eq!(kept(&cells), [("a".to_owned(), 22), ("b".to_owned(), 12)]);
}

#[test]
fn what_is_idle_is_kept_beside_one_that_goes_on_with_it() {
    let mut cells = Cells::new(100, 6, true);
    run(&mut cells, "a", "system hello");
    start(&mut cells, "a", "system hello, and then");
    assert_eq!(cells.kept().map(|kept| kept.tokens.len()).collect::<Vec<_>>(), [12]);
}

#[test]
fn what_is_adopted_takes_the_place_of_what_was_used_longest_ago() {
    let mut cells = Cells::new(100, 6, true);
    run(&mut cells, "a", "an old one");
    run(&mut cells, "a", "system hello");
    assert_eq!((cells.adopt("a", usize::MAX), cells.adopt("a", 101), cells.used()), (None, None, 22), "what never fits costs nothing");
    let adopted = cells.adopt("a", 80).expect("If you are here because this failed: a full cache forgets the latest at a restart.");
    cells.extend(adopted, &tokens(&"x".repeat(80)), 80);
    cells.end(adopted);
    assert_eq!(cells.kept().map(|kept| kept.tokens.len()).collect::<Vec<_>>(), [80, 12]);
}

#[test]
fn another_partition_shares_nothing() {
    let mut cells = Cells::new(100, 4, true);
    run(&mut cells, "a", "the same prompt");
    assert_eq!(
        run(&mut cells, "b", "the same prompt").reused,
        0,
        "If you are here because this failed: the time to the first token would tell a tenant what others asked; \
         a prefix may be reused only within its partition."
    );
}

#[test]
fn one_that_is_being_computed_lends_its_beginning() {
    let mut cells = Cells::new(100, 4, true);
    start(&mut cells, "a", "system: one");
    assert_eq!(start(&mut cells, "a", "system: two").reused, 8);
    assert_eq!(cells.used(), 14, "the common part is stored once");
}

#[test]
fn the_last_token_is_always_computed() {
    let mut cells = Cells::new(100, 4, true);
    run(&mut cells, "a", "same");
    assert_eq!(run(&mut cells, "a", "same").reused, 3);
    assert_eq!(cells.used(), 4, "and stored once nevertheless");
}

#[test]
fn numbers_run_out_only_when_all_are_busy() {
    let mut cells = Cells::new(100, 2, true);
    start(&mut cells, "a", "first");
    run(&mut cells, "b", "second");
    let third = start(&mut cells, "c", "third");
    assert_eq!((third.seq, third.reused), (1, 0));
    assert_eq!(cells.begin("d", &tokens("fourth")), None);
    assert_eq!(cells.used(), 10);
}

#[test]
fn room_is_made_from_what_is_unused_for_longest() {
    let mut cells = Cells::new(20, 8, true);
    run(&mut cells, "a", "system: old");
    run(&mut cells, "a", "system: new");
    let busy = start(&mut cells, "b", "busy");
    // 4 are computed; 2 are free and 14 could go, less those that the asking one would take over.
    assert_eq!((cells.used(), cells.available("b", &tokens("other"), empty())), (18, 16));
    assert_eq!(
        cells.available("a", &tokens("system: new, and more"), empty()),
        5,
        "If you are here because this failed: one that made room is let in again at once, and again, and nobody ever computes."
    );
    assert_eq!(cells.available("b", &tokens("other"), once(busy.seq)), 20, "if that one made room");
    assert!(cells.has_room(16) && !cells.has_room(17));
    assert_eq!((cells.used(), cells.take_evicted()), (18, 0), "nothing is given up by asking");
    assert!(cells.make_room(4));
    assert_eq!(cells.known("a", &tokens("system: new")), 10, "the older end went first");
    assert_eq!(cells.known("a", &tokens("system: old")), 8);
    assert!(cells.make_room(16));
    assert!(!cells.make_room(17), "not at the cost of one that is being computed");
    assert_eq!((cells.used(), cells.computed(busy.seq), cells.take_evicted()), (4, 4, 14));
}

#[test]
fn a_pinned_beginning_survives() {
    let mut cells = Cells::new(40, 8, true);
    let begun = start(&mut cells, "a", "system: x");
    cells.pin(begun.seq, 8);
    cells.end(begun.seq);
    assert!(cells.make_room(32));
    assert!(!cells.make_room(33));
    assert_eq!(cells.known("a", &tokens("system: y")), 8);
    // Pins are bounded: a new one replaces the oldest.
    let other = start(&mut cells, "a", "another-one");
    cells.pin(other.seq, 9);
    cells.end(other.seq);
    assert!(cells.make_room(31));
    assert_eq!(cells.known("a", &tokens("system: y")), 0);
}

#[test]
fn a_beginning_too_long_to_be_pinned_takes_no_pins_away() {
    let mut cells = Cells::new(40, 8, true);
    let begun = start(&mut cells, "a", "system: x");
    cells.pin(begun.seq, 8);
    cells.end(begun.seq);
    let long = start(&mut cells, "b", "much too long");
    cells.pin(long.seq, 13);
    cells.end(long.seq);
    assert!(cells.make_room(32));
    assert_eq!(cells.known("a", &tokens("system: y")), 8, "still pinned");
    assert_eq!(cells.known("b", &tokens("much too long.")), 0, "never was");
}

#[test]
fn pins_do_not_drive_each_other_out_without_need() {
    let mut cells = Cells::new(40, 8, true);
    for (partition, text, length) in [("a", "abcd-1", 4), ("b", "efgh-1", 4), ("a", "abcd-2", 4), ("c", "longer-than-pins", 16)] {
        let begun = start(&mut cells, partition, text);
        cells.pin(begun.seq, length);
        cells.end(begun.seq);
    }
    assert!(cells.make_room(32) && !cells.make_room(33), "what is pinned again counts once, and what is too long not at all");
    assert_eq!((cells.known("a", &tokens("abcd-3")), cells.known("b", &tokens("efgh-3"))), (4, 4));
}

#[test]
fn a_tenants_pins_take_the_place_of_its_own() {
    let mut cells = Cells::new(40, 8, true);
    for (partition, text) in [("a", "abcd-1"), ("b", "efgh-1"), ("b", "ijkl-1"), ("b", "mnop-1")] {
        let begun = start(&mut cells, partition, text);
        cells.pin(begun.seq, 4);
        cells.end(begun.seq);
    }
    assert!(cells.make_room(32) && !cells.make_room(33));
    let known = |partition, text| cells.known(partition, &tokens(text));
    assert_eq!(known("a", "abcd-2"), 4, "If you are here because this failed: one tenant displaces what others have pinned.");
    assert_eq!([known("b", "efgh-2"), known("b", "ijkl-2"), known("b", "mnop-2")], [0, 0, 4]);
}

#[test]
fn whoever_has_more_than_a_share_gives_way() {
    let mut cells = Cells::new(40, 8, true);
    for (partition, text, length) in [("a", "system: x", 8), ("b", "efgh-1", 4)] {
        let begun = start(&mut cells, partition, text);
        cells.pin(begun.seq, length);
        cells.end(begun.seq);
    }
    assert!(cells.make_room(36) && !cells.make_room(37));
    assert_eq!((cells.known("a", &tokens("system: y")), cells.known("b", &tokens("efgh-2"))), (0, 4));
}

#[test]
fn pins_leave_sequences_to_work_with() {
    for partition in [|n: usize| format!("tenant {n}"), |_: usize| "the same".to_owned()] {
        let mut cells = Cells::new(1000, 8, true);
        for n in 10..70 {
            let begun = start(&mut cells, &partition(n), &format!("{n}: system"));
            cells.pin(begun.seq, 9);
            cells.end(begun.seq);
        }
        assert_eq!(cells.known(&partition(69), &tokens("69: system, and more")), 10, "the latest is kept");
        let busy: Vec<_> = (0..8).map(|n: usize| cells.begin("other", &tokens(&n.to_string()))).collect();
        assert!(
            busy.iter().all(Option::is_some),
            "If you are here because this failed: short pinned instructions use up the sequences, and the worker ends. {busy:?}"
        );
        assert_eq!(cells.begin("other", &tokens("one more")), None);
    }
}

#[test]
fn pins_give_way_before_nothing_goes() {
    let mut cells = Cells::new(40, 8, true);
    for text in ["abcd-1", "efgh-1"] {
        let begun = start(&mut cells, "a", text);
        cells.pin(begun.seq, 4);
        cells.end(begun.seq);
    }
    assert!(cells.force_room(36), "one of the two");
    assert_eq!([cells.known("a", &tokens("abcd-2")), cells.known("a", &tokens("efgh-2"))], [0, 4]);
    let busy = start(&mut cells, "b", "busy");
    assert!(cells.force_room(36) && !cells.force_room(37), "not at the cost of one that is being computed");
    assert_eq!((cells.used(), cells.computed(busy.seq)), (4, 4));
}

#[test]
fn tokens_tried_in_vain_leave_no_cells() {
    let mut cells = Cells::new(40, 2, true);
    let begun = start(&mut cells, "a", "abc");
    cells.take_ops();
    cells.extend(begun.seq, &tokens("de"), 5);
    assert_eq!(cells.take_ops(), [Op::Remove { seq: begun.seq, start: 5, end: None }]);
    assert_eq!((cells.used(), cells.computed(begun.seq)), (5, 5));
}

#[test]
fn what_two_computed_is_kept_once() {
    let mut cells = Cells::new(40, 4, true);
    let one = start(&mut cells, "a", "abc");
    let two = start(&mut cells, "a", "abc");
    for begun in [one, two] {
        cells.extend(begun.seq, &tokens("def"), 3);
    }
    assert_eq!(cells.used(), 3 + 3 + 3);
    cells.end(one.seq);
    cells.take_ops();
    cells.end(two.seq);
    assert_eq!(cells.used(), 6);
    let expected = [Op::Remove { seq: two.seq, start: 3, end: Some(6) }, Op::Copy { from: one.seq, to: two.seq, start: 3, end: 6 }];
    assert_eq!(cells.take_ops(), expected);
}

#[test]
fn recurrent_models_reuse_nothing() {
    let mut cells = Cells::new(40, 1, false);
    run(&mut cells, "a", "same");
    assert_eq!(run(&mut cells, "a", "same").reused, 0);
    assert_eq!(cells.used(), 0);
}

#[test]
fn nothing_is_left_after_forgetting() {
    let mut cells = Cells::new(40, 2, true);
    run(&mut cells, "a", "same");
    cells.forget_all();
    assert_eq!((cells.used(), run(&mut cells, "a", "same").reused), (0, 0));
}

/// Carries the operations out as llama.cpp does, on a map from sequence and position to cell.
#[derive(Default)]
struct Context {
    cells: BTreeMap<(usize, usize), u64>,
    made: u64,
}

impl Context {
    fn apply(&mut self, ops: Vec<Op>) {
        for op in ops {
            match op {
                Op::Copy { from, to, start, end } => {
                    for position in start..end {
                        let cell = self.cells[&(from, position)];
                        assert!(self.cells.insert((to, position), cell).is_none(), "{op:?} over existing cells");
                    }
                }
                Op::Remove { seq, start, end } => {
                    self.cells.retain(|(owner, position), _| *owner != seq || *position < start || end.is_some_and(|end| *position >= end));
                }
            }
        }
    }

    fn compute(&mut self, seq: usize, start: usize, count: usize) {
        for position in start..start + count {
            self.made += 1;
            assert!(self.cells.insert((seq, position), self.made).is_none(), "computed over existing cells");
        }
    }

    fn used(&self) -> usize {
        let mut distinct: Vec<u64> = self.cells.values().copied().collect();
        distinct.sort_unstable();
        distinct.dedup();
        distinct.len()
    }
}

/// Random work; after every step the books must equal what a context would hold.
#[test]
fn the_books_agree_with_the_context() {
    let mut cells = Cells::new(60, 6, true);
    let mut context = Context::default();
    let mut busy: Vec<usize> = Vec::new();
    let mut random = 7_u64;
    let mut draw = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(random >> 33).unwrap() % below
    };
    for _ in 0..5_000 {
        match draw(4) {
            0 if busy.len() < 4 => {
                let text: String = (0..=draw(12)).map(|_| ['a', 'b'][draw(2)]).collect();
                let partition = ["p", "q"][draw(2)];
                if let Some(begun) = cells.begin(partition, &tokens(&text)) {
                    assert!(begun.reused < text.len());
                    busy.push(begun.seq);
                }
            }
            1 | 2 if !busy.is_empty() => {
                let seq = busy[draw(busy.len())];
                let tried = 1 + draw(3);
                let has_room = cells.has_room(tried);
                assert_eq!(cells.make_room(tried), has_room);
                if has_room {
                    context.apply(cells.take_ops());
                    context.compute(seq, cells.computed(seq), tried);
                    let more: String = (0..=draw(tried)).map(|_| ['a', 'b'][draw(2)]).collect();
                    cells.extend(seq, &tokens(&more), tried);
                    if draw(2) == 0 {
                        cells.publish(seq);
                    }
                }
            }
            3 if !busy.is_empty() => {
                let seq = busy.swap_remove(draw(busy.len()));
                if draw(3) == 0 {
                    cells.publish(seq);
                    cells.pin(seq, draw(8));
                }
                cells.end(seq);
            }
            _ => {}
        }
        context.apply(cells.take_ops());
        assert_eq!(context.used(), cells.used());
        assert!(cells.used() <= 60);
        for seq in 0..6 {
            let positions: Vec<usize> = context.cells.keys().filter(|(owner, _)| *owner == seq).map(|(_, position)| *position).collect();
            assert_eq!(positions, (0..cells.computed(seq)).collect::<Vec<_>>(), "sequence {seq} has a gap");
        }
    }
}
