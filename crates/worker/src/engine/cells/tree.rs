//! A radix tree over what the context's cells hold.
//!
//! The idea is RadixAttention's (Zheng et al., "SGLang: Efficient Execution of Structured Language Model
//! Programs", 2024): every computed beginning is a path from a root, so the longest known beginning of a new
//! prompt is found by walking down. Each partition (a tenant, or what it asks not to have kept) has a root of
//! its own, and no walk ever leaves it. llama.cpp's cells are single tokens, so edges are runs of tokens of any length.

use std::collections::HashMap;

use llama_cpp_2::token::LlamaToken;
use slab::Slab;

use super::set::SeqSet;

/// A run of tokens, each in one cell.
#[derive(Debug)]
struct Node {
    parent: Option<usize>,
    /// By the first token of their run.
    children: HashMap<LlamaToken, usize>,
    tokens: Vec<LlamaToken>,
    /// Sequences whose cells include the whole run (and so all runs above it).
    holders: SeqSet,
    /// Value of the clock when it was last walked over.
    used: u64,
    /// Not given up for room, however long unused.
    pinned: bool,
}

/// The longest known beginning of some tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    pub length: usize,
    /// A sequence that has it.
    pub holder: usize,
}

/// Cells that a sequence holds although another one had the same tokens computed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// Who had them.
    pub holder: usize,
    pub start: usize,
    pub end: usize,
}

/// A run that may be given up: nobody goes on from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Positions before the run.
    pub start: usize,
    pub holders: SeqSet,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Tree {
    nodes: Slab<Node>,
    roots: HashMap<String, usize>,
    cells: usize,
    pinned: usize,
}

/// Where a walk along some tokens ended.
struct Walk {
    /// Nodes whose runs were passed or entered, root first.
    path: Vec<usize>,
    /// Tokens that agreed.
    length: usize,
    /// How many of them lie in the last node.
    within: usize,
}

impl Tree {
    /// Cells that the tree's runs occupy; a run is stored once, however many sequences have it.
    pub fn cells(&self) -> usize {
        self.cells
    }

    /// Cells of pinned runs.
    pub fn pinned(&self) -> usize {
        self.pinned
    }

    /// The longest beginning of `tokens` that some sequence of the partition has.
    pub fn find(&self, partition: &str, tokens: &[LlamaToken]) -> Option<Known> {
        let walk = self.walk(partition, tokens)?;
        let holder = self.nodes[*walk.path.last()?].holders.first()?;
        (walk.length > 0).then_some(Known { length: walk.length, holder })
    }

    /// Marks the known beginning of `tokens` as used now.
    pub fn touch(&mut self, partition: &str, tokens: &[LlamaToken], now: u64) {
        for node in self.walk(partition, tokens).map(|walk| walk.path).unwrap_or_default() {
            self.nodes[node].used = now;
        }
    }

    /// Records that `seq` has all of `tokens`. It may have had a beginning of them before; what lies between
    /// that and what others had is returned, since those cells exist twice now.
    pub fn hold(&mut self, partition: &str, seq: usize, tokens: &[LlamaToken], now: u64) -> Option<Overlap> {
        let root = self.root(partition);
        let walk = self.walk(partition, tokens)?;
        let mut had = 0;
        let mut other = None;
        let mut at = 0;
        for (step, node) in walk.path.iter().copied().enumerate() {
            let last = step + 1 == walk.path.len();
            if last && walk.within < self.nodes[node].tokens.len() {
                self.split(node, walk.within);
            }
            let node = &mut self.nodes[node];
            node.used = now;
            at += node.tokens.len();
            if node.holders.contains(seq) {
                had = at;
            } else {
                other = node.holders.first().or(other);
                node.holders.insert(seq);
            }
        }
        if walk.length < tokens.len() {
            self.grow(walk.path.last().copied().unwrap_or(root), seq, &tokens[walk.length..], now);
        }
        other.filter(|_| had < walk.length).map(|holder| Overlap { holder, start: had, end: walk.length })
    }

    /// Lets `seq` have only its first `keep` tokens. Runs that nobody has any more are gone.
    pub fn release(&mut self, partition: &str, seq: usize, keep: usize) {
        let Some(mut node) = self.roots.get(partition).copied() else { return };
        let mut start = 0;
        let mut given_up = Vec::new();
        while let Some(child) = self.nodes[node].children.values().copied().find(|child| self.nodes[*child].holders.contains(seq)) {
            if start < keep && start + self.nodes[child].tokens.len() > keep {
                self.split(child, keep - start);
            }
            if start >= keep {
                given_up.push(child);
            }
            start += self.nodes[child].tokens.len();
            node = child;
        }
        for node in given_up.into_iter().rev() {
            self.nodes[node].holders.remove(seq);
            if self.nodes[node].holders.is_empty() {
                self.remove(node);
            }
        }
        self.forget_empty_root(partition);
    }

    /// The run unused for longest among those that nobody goes on from, that only sequences of `idle` have
    /// and that are not pinned.
    pub fn oldest_leaf(&self, idle: &SeqSet) -> Option<Leaf> {
        let leaves = self
            .nodes
            .iter()
            .filter(|(_, node)| node.children.is_empty() && node.parent.is_some() && !node.pinned && node.holders.is_within(idle));
        let (mut at, leaf) = leaves.min_by_key(|(_, node)| node.used)?;
        let mut start = 0;
        while let Some(parent) = self.nodes[at].parent {
            start += self.nodes[parent].tokens.len();
            at = parent;
        }
        Some(Leaf { start, holders: leaf.holders })
    }

    /// Cells that could be given up if everything in `idle` went but what is known of `tokens`.
    pub fn evictable(&self, idle: &SeqSet, partition: &str, tokens: &[LlamaToken]) -> usize {
        let kept = self.walk(partition, tokens).map(|walk| walk.path).unwrap_or_default();
        let may_go = |(at, node): &(usize, &Node)| !node.pinned && node.holders.is_within(idle) && !kept.contains(at);
        self.nodes.iter().filter(may_go).map(|(_, node)| node.tokens.len()).sum()
    }

    /// A sequence of `idle` without which nothing would be lost: all that it has, another one has, too.
    pub fn redundant(&self, idle: &SeqSet) -> Option<usize> {
        idle.iter().find(|seq| self.is_redundant(*seq))
    }

    /// All that `seq` has, another one has, too.
    pub fn is_redundant(&self, seq: usize) -> bool {
        let alone = SeqSet::of(seq);
        !self.nodes.iter().any(|(_, node)| node.holders == alone)
    }

    /// Keeps the known beginning of `tokens` from being given up.
    pub fn pin(&mut self, partition: &str, tokens: &[LlamaToken]) {
        let Some(walk) = self.walk(partition, tokens) else { return };
        if let Some(last) = walk.path.last().copied()
            && walk.within > 0
            && walk.within < self.nodes[last].tokens.len()
        {
            self.split(last, walk.within);
        }
        for node in walk.path {
            let node = &mut self.nodes[node];
            if !node.pinned {
                node.pinned = true;
                self.pinned += node.tokens.len();
            }
        }
    }

    /// How much of the known beginning of `tokens` pinning would add to the pins.
    pub fn unpinned(&self, partition: &str, tokens: &[LlamaToken]) -> usize {
        let Some(walk) = self.walk(partition, tokens) else { return 0 };
        let pinned: usize = walk.path.iter().map(|node| &self.nodes[*node]).filter(|node| node.pinned).map(|node| node.tokens.len()).sum();
        // A pinned run may go on behind the tokens.
        walk.length.saturating_sub(pinned)
    }

    /// Cells of pinned runs of one partition.
    pub fn pinned_in(&self, partition: &str) -> usize {
        self.roots.get(partition).map_or(0, |root| self.pinned_below(*root))
    }

    /// The other partitions that have pinned runs, and cells of these.
    pub fn pinned_beside(&self, partition: &str) -> Vec<(&str, usize)> {
        let others = self.roots.iter().filter(|(name, _)| *name != partition);
        others.map(|(name, root)| (name.as_str(), self.pinned_below(*root))).filter(|(_, cells)| *cells > 0).collect()
    }

    /// Lets go of the partition's pinned run unused for longest. False if there is none.
    pub fn unpin_oldest(&mut self, partition: &str) -> bool {
        let Some(root) = self.roots.get(partition).copied() else { return false };
        let is_end = |node: &usize| !self.nodes[*node].children.values().any(|child| self.nodes[*child].pinned);
        let ends = self.pinned_runs(root).into_iter().filter(is_end);
        let Some(oldest) = ends.min_by_key(|node| self.nodes[*node].used) else { return false };
        let node = &mut self.nodes[oldest];
        node.pinned = false;
        self.pinned -= node.tokens.len();
        true
    }

    fn pinned_below(&self, root: usize) -> usize {
        self.pinned_runs(root).into_iter().map(|node| self.nodes[node].tokens.len()).sum()
    }

    /// All above a pinned run is pinned, too.
    fn pinned_runs(&self, root: usize) -> Vec<usize> {
        let mut runs = Vec::new();
        let mut below = vec![root];
        while let Some(node) = below.pop() {
            let pinned = self.nodes[node].children.values().copied().filter(|child| self.nodes[*child].pinned);
            let known = runs.len();
            runs.extend(pinned);
            below.extend_from_slice(&runs[known..]);
        }
        runs
    }

    fn root(&mut self, partition: &str) -> usize {
        if let Some(root) = self.roots.get(partition) {
            return *root;
        }
        let root = self.nodes.insert(Node {
            parent: None,
            children: HashMap::new(),
            tokens: Vec::new(),
            holders: SeqSet::default(),
            used: 0,
            pinned: false,
        });
        self.roots.insert(partition.to_owned(), root);
        root
    }

    /// Along `tokens` as far as they are known. The root itself is not part of the path.
    fn walk(&self, partition: &str, tokens: &[LlamaToken]) -> Option<Walk> {
        let mut walk = Walk { path: Vec::new(), length: 0, within: 0 };
        let mut node = *self.roots.get(partition)?;
        while let Some(child) = tokens.get(walk.length).and_then(|first| self.nodes[node].children.get(first)).copied() {
            let run = &self.nodes[child].tokens;
            walk.within = run.iter().zip(&tokens[walk.length..]).take_while(|(a, b)| a == b).count();
            walk.length += walk.within;
            walk.path.push(child);
            if walk.within < run.len() {
                break;
            }
            node = child;
        }
        Some(walk)
    }

    /// Adds `tokens` of `seq` behind `node`, in its own run where that is possible.
    fn grow(&mut self, node: usize, seq: usize, tokens: &[LlamaToken], now: u64) {
        self.cells += tokens.len();
        let parent = &mut self.nodes[node];
        if parent.parent.is_some() && parent.children.is_empty() && parent.holders == SeqSet::of(seq) && !parent.pinned {
            parent.tokens.extend_from_slice(tokens);
            return;
        }
        let child = self.nodes.insert(Node {
            parent: Some(node),
            children: HashMap::new(),
            tokens: tokens.to_vec(),
            holders: SeqSet::of(seq),
            used: now,
            pinned: false,
        });
        if let Some(first) = tokens.first() {
            self.nodes[node].children.insert(*first, child);
        }
    }

    /// Cuts a run after `at` tokens; the node keeps the first part.
    fn split(&mut self, node: usize, at: usize) {
        let upper = &mut self.nodes[node];
        let tokens = upper.tokens.split_off(at);
        let Some(first) = tokens.first().copied() else { return };
        let lower = Node {
            parent: Some(node),
            children: std::mem::take(&mut upper.children),
            tokens,
            holders: upper.holders,
            used: upper.used,
            pinned: upper.pinned,
        };
        let lower = self.nodes.insert(lower);
        self.nodes[node].children.insert(first, lower);
        let moved: Vec<usize> = self.nodes[lower].children.values().copied().collect();
        for child in moved {
            self.nodes[child].parent = Some(lower);
        }
    }

    fn remove(&mut self, node: usize) {
        let gone = self.nodes.remove(node);
        self.cells -= gone.tokens.len();
        if gone.pinned {
            self.pinned -= gone.tokens.len();
        }
        if let (Some(parent), Some(first)) = (gone.parent, gone.tokens.first()) {
            self.nodes[parent].children.remove(first);
        }
    }

    fn forget_empty_root(&mut self, partition: &str) {
        if let Some(root) = self.roots.get(partition).copied()
            && self.nodes[root].children.is_empty()
        {
            self.nodes.remove(root);
            self.roots.remove(partition);
        }
    }
}

#[cfg(test)]
mod tests {
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
}
