//! Beginnings that are kept, however long unused.

use std::cmp::Reverse;

use llama_cpp_2::token::LlamaToken;

use super::{SeqSet, Tree};

impl Tree {
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
        let ends = self.roots.get(partition).map(|root| self.pinned_ends(*root));
        self.unpin_oldest_of(ends.unwrap_or_default())
    }

    /// Lets go of a pinned run that only sequences of `idle` have: of the partition that has most of these, the one unused
    /// for longest. False if there is none.
    pub fn unpin_idle(&mut self, idle: &SeqSet) -> bool {
        let idle_ends = |root: &usize| {
            let mut ends = self.pinned_ends(*root);
            ends.retain(|node| self.nodes[*node].holders.is_within(idle));
            ends
        };
        let oldest = |ends: &Vec<usize>| ends.iter().map(|node| self.nodes[*node].used).min();
        let most = self.roots.values().map(idle_ends).max_by_key(|ends| (ends.len(), Reverse(oldest(ends))));
        self.unpin_oldest_of(most.unwrap_or_default())
    }

    /// How many pinned beginnings a partition has that end differently: each keeps a sequence of its own.
    pub fn pinned_ends_in(&self, partition: &str) -> usize {
        self.roots.get(partition).map_or(0, |root| self.pinned_ends(*root).len())
    }

    /// Pinning the known beginning of `tokens` goes on from a pinned end, so that there are no more of these.
    pub fn extends_pinned_end(&self, partition: &str, tokens: &[LlamaToken]) -> bool {
        let Some(walk) = self.walk(partition, tokens) else { return false };
        let last = walk.path.iter().rev().find(|node| self.nodes[**node].pinned);
        last.is_some_and(|node| !self.nodes[*node].children.values().any(|child| self.nodes[*child].pinned))
    }

    fn unpin_oldest_of(&mut self, runs: Vec<usize>) -> bool {
        let Some(oldest) = runs.into_iter().min_by_key(|node| self.nodes[*node].used) else { return false };
        let node = &mut self.nodes[oldest];
        node.pinned = false;
        self.pinned -= node.tokens.len();
        true
    }

    /// Pinned runs behind which nothing is pinned.
    fn pinned_ends(&self, root: usize) -> Vec<usize> {
        let mut runs = self.pinned_runs(root);
        runs.retain(|node| !self.nodes[*node].children.values().any(|child| self.nodes[*child].pinned));
        runs
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
}
