//! What is found, what is shared, and what goes.

use super::*;

fn tokens(text: &str) -> Vec<LlamaToken> {
    text.bytes().map(|byte| LlamaToken(byte.into())).collect()
}

fn hold(tree: &mut Tree, seq: usize, text: &str, now: u64) -> Option<Overlap> {
    tree.hold("p", seq, &tokens(text), now)
}

fn found(tree: &Tree, text: &str) -> Option<(usize, usize)> {
    tree.find("p", &tokens(text)).map(|known| (known.length, known.holder))
}

#[test]
fn the_longest_beginning_is_found() {
    let mut tree = Tree::default();
    assert_eq!(found(&tree, "x"), None);
    assert_eq!(hold(&mut tree, 0, "system: hello", 1), None);
    assert_eq!(found(&tree, "system: hello, and"), Some((13, 0)));
    assert_eq!(found(&tree, "system: other"), Some((8, 0)));
    assert_eq!(found(&tree, "no"), None);
    assert_eq!(tree.find("q", &tokens("system: hello")), None, "another partition knows nothing");
}

#[test]
fn a_run_is_stored_once() {
    let mut tree = Tree::default();
    hold(&mut tree, 0, "system: one", 1);
    // Sequence 1 copied the beginning, so it holds it before it computes its own end.
    assert_eq!(hold(&mut tree, 1, "system: ", 2), Some(Overlap { holder: 0, start: 0, end: 8 }));
    assert_eq!(hold(&mut tree, 1, "system: two", 3), None);
    assert_eq!(tree.cells(), 8 + 3 + 3);
}

#[test]
fn what_was_computed_twice_is_told() {
    let mut tree = Tree::default();
    hold(&mut tree, 0, "abc", 1);
    hold(&mut tree, 0, "abcdef", 2);
    hold(&mut tree, 1, "abc", 3);
    assert_eq!(hold(&mut tree, 1, "abcdefg", 4), Some(Overlap { holder: 0, start: 3, end: 6 }));
    assert_eq!(tree.cells(), 7);
}

#[test]
fn runs_go_with_their_last_holder() {
    let mut tree = Tree::default();
    hold(&mut tree, 0, "abcdef", 1);
    hold(&mut tree, 1, "abcxyz", 2);
    tree.release("p", 0, 4);
    assert_eq!((tree.cells(), found(&tree, "abcdef")), (4 + 3, Some((4, 0))));
    tree.release("p", 0, 0);
    assert_eq!((tree.cells(), found(&tree, "abcdef")), (6, Some((3, 1))));
    tree.release("p", 1, 0);
    assert_eq!((tree.cells(), tree.nodes.len()), (0, 0));
}

#[test]
fn the_leaf_unused_for_longest_goes_first() {
    let mut tree = Tree::default();
    hold(&mut tree, 0, "system: old", 1);
    hold(&mut tree, 1, "system: new", 2);
    let mut idle = SeqSet::of(0);
    let leaf = tree.oldest_leaf(&idle).unwrap();
    assert_eq!((leaf.start, leaf.holders), (8, SeqSet::of(0)));
    tree.touch("p", &tokens("system: old"), 3);
    idle.insert(1);
    assert_eq!(tree.oldest_leaf(&idle).unwrap().holders, SeqSet::of(1));
    assert_eq!(tree.evictable(&idle, "", &[]), 14);
    assert_eq!(tree.evictable(&SeqSet::of(0), "", &[]), 3, "the beginning belongs to a busy one as well");
}

#[test]
fn a_pinned_beginning_stays() {
    let mut tree = Tree::default();
    hold(&mut tree, 0, "system: old", 1);
    assert_eq!(tree.unpinned("p", &tokens("system: ")), 8);
    tree.pin("p", &tokens("system: "));
    assert_eq!(tree.pinned(), 8);
    assert_eq!(["system: ", "sys", "system: old", "other"].map(|text| tree.unpinned("p", &tokens(text))), [0, 0, 3, 0]);
    let idle = SeqSet::of(0);
    let leaf = tree.oldest_leaf(&idle).unwrap();
    assert_eq!(leaf.start, 8);
    tree.release("p", 0, leaf.start);
    assert_eq!((tree.oldest_leaf(&idle), tree.evictable(&idle, "", &[])), (None, 0));
    assert_eq!((tree.pinned_in("p"), tree.pinned_beside("p"), tree.pinned_beside("q")), (8, vec![], vec![("p", 8)]));
    assert!(!tree.unpin_oldest("q") && tree.unpin_oldest("p") && !tree.unpin_oldest("p"));
    assert_eq!((tree.pinned(), tree.oldest_leaf(&idle).is_some()), (0, true));
}

#[test]
fn a_sequence_that_others_cover_is_redundant() {
    let mut tree = Tree::default();
    hold(&mut tree, 0, "abc", 1);
    let mut idle = SeqSet::of(0);
    assert_eq!(tree.redundant(&idle), None);
    hold(&mut tree, 1, "abcdef", 2);
    idle.insert(1);
    assert_eq!(tree.redundant(&idle), Some(0));
}

/// Against a list of texts, the obvious way to say what the tree should know.
#[test]
fn it_agrees_with_a_plain_list() {
    let mut tree = Tree::default();
    let mut model: Vec<String> = vec![String::new(); 8];
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(random >> 33).unwrap() % below
    };
    for now in 0..4_000 {
        let seq = draw(8);
        if draw(3) == 0 {
            let keep = draw(model[seq].len() + 1);
            model[seq].truncate(keep);
            tree.release("p", seq, keep);
        } else {
            // A sequence may only grow; its beginning stays.
            let more: String = (0..draw(6)).map(|_| ['a', 'b'][draw(2)]).collect();
            model[seq].push_str(&more);
            hold(&mut tree, seq, &model[seq].clone(), now);
        }
        let mut beginnings: Vec<&str> = model.iter().flat_map(|text| (1..=text.len()).map(move |end| &text[..end])).collect();
        beginnings.sort_unstable();
        beginnings.dedup();
        assert_eq!(tree.cells(), beginnings.len(), "one cell for each distinct beginning");
        let probe: String = (0..draw(12)).map(|_| ['a', 'b'][draw(2)]).collect();
        let common = |text: &str| text.bytes().zip(probe.bytes()).take_while(|(a, b)| a == b).count();
        let longest = model.iter().map(|text| common(text)).max().filter(|length| *length > 0);
        let known = tree.find("p", &tokens(&probe));
        assert_eq!(known.map(|known| known.length), longest);
        assert!(known.is_none_or(|known| common(&model[known.holder]) == known.length), "the holder has it");
    }
}
