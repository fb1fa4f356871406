//! A radix tree over what the context's cells hold.
//!
//! The idea is RadixAttention's (Zheng et al., "SGLang: Efficient Execution of Structured Language Model
//! Programs", 2024): every computed beginning is a path from a root, so the longest known beginning of a new
//! prompt is found by walking down. Each partition (a tenant, or what it asks not to have kept) has a root of
//! its own, and no walk ever leaves it. llama.cpp's cells are single tokens, so edges are runs of tokens of any length.

mod pins;

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
mod tests;
