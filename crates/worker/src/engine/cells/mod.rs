//! Who has which cells of the context: room, reuse and giving up.
//!
//! Pure bookkeeping. What llama.cpp has to do for it comes out as [`Op`]s, which must be carried out in order
//! before the next step. A sequence's cells are *private* while they are computed and *published* into the
//! [`tree`] as its prompt advances and when it ends; what is published can be taken over by others of the same
//! partition, at the cost of a few bits per cell. How fast an answer starts must not tell one tenant what
//! another one asked, so nothing is ever shared between partitions.

mod set;
mod tree;

use llama_cpp_2::token::LlamaToken;

pub use set::MOST_SEQUENCES;
use set::SeqSet;
use tree::Tree;

/// At most this part of the context may be pinned: the rest must be enough to work with.
const PINNED_PART: usize = 4;
/// At most this part of the sequences may be kept by pins, however short these are.
const PINNING_PART: usize = 2;

/// Something to be done to the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `to` gets the cells of `from` at the positions `start..end`.
    Copy { from: usize, to: usize, start: usize, end: usize },
    /// `seq` loses its cells from `start` up to `end`, or all from `start` on.
    Remove { seq: usize, start: usize, end: Option<usize> },
}

/// A sequence that may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// llama.cpp's number for it.
    pub seq: usize,
    /// Tokens of its prompt that need no computation.
    pub reused: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Free,
    /// Being computed.
    Busy,
    /// Kept for reuse.
    Idle,
}

#[derive(Default)]
struct Held {
    state: State,
    partition: String,
    /// Tokens whose cells are in the context, in order from position 0.
    tokens: Vec<LlamaToken>,
    /// How many of them are in the tree.
    published: usize,
    /// Value of the clock when it was last used.
    used: u64,
}

/// What an idle sequence has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept<'a> {
    pub seq: usize,
    pub partition: &'a str,
    pub tokens: &'a [LlamaToken],
}

/// See the module.
pub struct Cells {
    tree: Tree,
    held: Vec<Held>,
    idle: SeqSet,
    capacity: usize,
    private: usize,
    clock: u64,
    /// Recurrent models keep one state per sequence instead of cells; it can be neither cut nor shared.
    reuse: bool,
    evicted: u64,
    ops: Vec<Op>,
}

impl Cells {
    /// A context of `capacity` cells and `sequences` sequences.
    pub fn new(capacity: usize, sequences: usize, reuse: bool) -> Self {
        Self {
            tree: Tree::default(),
            held: (0..sequences.min(MOST_SEQUENCES)).map(|_| Held::default()).collect(),
            idle: SeqSet::default(),
            capacity,
            private: 0,
            clock: 0,
            reuse,
            evicted: 0,
            ops: Vec::new(),
        }
    }

    /// What is to be done to the context before its next step.
    pub fn take_ops(&mut self) -> Vec<Op> {
        std::mem::take(&mut self.ops)
    }

    /// Cells that hold something now.
    pub fn used(&self) -> usize {
        self.tree.cells() + self.private
    }

    /// Cells given up for room since the start.
    pub fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted)
    }

    /// Tokens of `tokens` that need no computation if they came now. The last one is always computed, because
    /// its scores are needed.
    pub fn known(&self, partition: &str, tokens: &[LlamaToken]) -> usize {
        if !self.reuse {
            return 0;
        }
        self.tree.find(partition, tokens).map_or(0, |known| known.length).min(tokens.len().saturating_sub(1))
    }

    /// Cells that `tokens` could have beside what is known of them if the sequences `ended` were no longer computed, without
    /// touching what still is.
    pub fn available(&self, partition: &str, tokens: &[LlamaToken], ended: impl Iterator<Item = usize>) -> usize {
        let (mut idle, mut private) = (self.idle, 0);
        for seq in ended {
            idle.insert(seq);
            private += self.held[seq].tokens.len() - self.held[seq].published;
        }
        self.capacity.saturating_sub(self.used()) + private + self.tree.evictable(&idle, partition, tokens)
    }

    /// A sequence for `tokens`, which takes over what is known of them. `None` if all are busy.
    pub fn begin(&mut self, partition: &str, tokens: &[LlamaToken]) -> Option<Begun> {
        self.clock += 1;
        // What it will take over must not be given up for its number.
        self.tree.touch(partition, tokens, self.clock);
        let seq = self.number()?;
        let reused = self.known(partition, tokens);
        if let Some(known) = self.tree.find(partition, tokens).filter(|_| reused > 0) {
            self.ops.push(Op::Copy { from: known.holder, to: seq, start: 0, end: reused });
            // They are there already, so the overlap is the copy itself.
            let _ = self.tree.hold(partition, seq, &tokens[..reused], self.clock);
        }
        let held = &mut self.held[seq];
        partition.clone_into(&mut held.partition);
        held.tokens.clear();
        held.tokens.extend_from_slice(&tokens[..reused]);
        held.published = reused;
        held.state = State::Busy;
        held.used = self.clock;
        Some(Begun { seq, reused })
    }

    /// Whether [`Cells::make_room`] could, without giving up anything.
    pub fn has_room(&self, cells: usize) -> bool {
        self.used() + cells <= self.capacity || self.available("", &[], std::iter::empty()) >= cells
    }

    /// Makes room for `cells` more. False if that would take cells of sequences that are being computed, or that are pinned.
    pub fn make_room(&mut self, cells: usize) -> bool {
        while self.used() + cells > self.capacity {
            if !self.give_up_oldest() {
                return false;
            }
        }
        true
    }

    /// As [`Cells::make_room`], at the cost of pins.
    pub fn force_room(&mut self, cells: usize) -> bool {
        while !self.make_room(cells) {
            if !self.tree.unpin_idle(&self.idle) {
                return false;
            }
        }
        true
    }

    /// `tokens` of `seq` were computed; cells behind them that a step tried in vain are dropped.
    pub fn extend(&mut self, seq: usize, tokens: &[LlamaToken], tried: usize) {
        let held = &mut self.held[seq];
        held.tokens.extend_from_slice(tokens);
        self.private += tokens.len();
        if tried > tokens.len() {
            self.ops.push(Op::Remove { seq, start: held.tokens.len(), end: None });
        }
    }

    /// Tokens of `seq` that are in the context; its next position.
    pub fn computed(&self, seq: usize) -> usize {
        self.held.get(seq).map_or(0, |held| held.tokens.len())
    }

    /// Lets others take over what `seq` has computed so far.
    pub fn publish(&mut self, seq: usize) {
        let held = &mut self.held[seq];
        if !self.reuse || held.published == held.tokens.len() {
            return;
        }
        self.clock += 1;
        let overlap = self.tree.hold(&held.partition, seq, &held.tokens, self.clock);
        if let Some(overlap) = overlap {
            // Computed twice: one of the two is enough.
            self.ops.push(Op::Remove { seq, start: overlap.start, end: Some(overlap.end) });
            self.ops.push(Op::Copy { from: overlap.holder, to: seq, start: overlap.start, end: overlap.end });
        }
        self.private -= held.tokens.len() - held.published;
        held.published = held.tokens.len();
        held.used = self.clock;
    }

    /// Keeps the first `length` tokens of `seq` from being given up, as far as pins may go. All partitions that have pins have
    /// equal shares, and what one does not use is for the others. New pins take the place of the partition's own old ones;
    /// those of others give way only where these have more than their share. What is longer than a partition's pins may be is
    /// not pinned: it would only drive out what is shorter. Nor may pins keep too many sequences, which answers need: then one
    /// of the partition that has most makes way.
    pub fn pin(&mut self, seq: usize, length: usize) {
        let Self { tree, held, capacity, .. } = self;
        let (held, held_count) = (&held[seq], held.len());
        let (partition, tokens) = (held.partition.as_str(), &held.tokens[..length.min(held.published)]);
        if tree.unpinned(partition, tokens) == 0 {
            return;
        }
        let most = *capacity / PINNED_PART;
        let others = tree.pinned_beside(partition);
        let share = most / (others.len() + 1);
        let bound = most - others.iter().map(|(_, cells)| (*cells).min(share)).sum::<usize>();
        if tokens.len() > bound {
            return;
        }
        while tree.pinned_in(partition) + tree.unpinned(partition, tokens) > bound {
            if !tree.unpin_oldest(partition) {
                return;
            }
        }
        while tree.pinned() + tree.unpinned(partition, tokens) > most {
            let largest = tree.pinned_beside(partition).into_iter().max_by_key(|(_, cells)| *cells).map(|(other, _)| other.to_owned());
            if !largest.is_some_and(|other| tree.unpin_oldest(&other)) {
                return;
            }
        }
        let most_ends = held_count / PINNING_PART;
        loop {
            let (own, others) = (tree.pinned_ends_in(partition), tree.pinned_beside(partition));
            let ends = others.iter().map(|(other, _)| (tree.pinned_ends_in(other), *other));
            let total = own + ends.clone().map(|(ends, _)| ends).sum::<usize>();
            if total + usize::from(!tree.extends_pinned_end(partition, tokens)) <= most_ends {
                break;
            }
            let largest = ends.max().filter(|(ends, _)| *ends > own).map_or(partition, |(_, other)| other).to_owned();
            if !tree.unpin_oldest(&largest) {
                return;
            }
        }
        tree.pin(partition, tokens);
    }

    /// `seq` is no longer computed; its cells stay for reuse.
    pub fn end(&mut self, seq: usize) {
        self.publish(seq);
        if self.reuse && self.computed(seq) > 0 {
            self.held[seq].state = State::Idle;
            self.idle.insert(seq);
        } else {
            self.drop_all(seq);
        }
    }

    /// What the idle sequences have, the one used last first; without those that others cover.
    pub fn kept(&self) -> impl Iterator<Item = Kept<'_>> {
        let mut idle: Vec<usize> = self.idle.iter().filter(|seq| !self.is_covered(*seq)).collect();
        idle.sort_by_key(|seq| std::cmp::Reverse(self.held[*seq].used));
        idle.into_iter().map(|seq| Kept { seq, partition: &self.held[seq].partition, tokens: &self.held[seq].tokens })
    }

    /// Another idle one has all that `seq` has: more than that, or the same and was used later. One that is still being
    /// computed may never be kept.
    fn is_covered(&self, seq: usize) -> bool {
        let held = &self.held[seq];
        let covers = |other: &Held| {
            (other.tokens.len(), other.used) > (held.tokens.len(), held.used)
                && other.partition == held.partition
                && other.tokens.starts_with(&held.tokens)
        };
        self.tree.is_redundant(seq) && self.idle.iter().any(|other| covers(&self.held[other]))
    }

    /// A sequence with nothing in it yet, for `length` tokens that were computed before. What was used longest ago makes room
    /// for it. `None` if there is none.
    pub fn adopt(&mut self, partition: &str, length: usize) -> Option<usize> {
        if !self.reuse || length > self.capacity || !self.make_room(length) {
            return None;
        }
        let seq = self.number()?;
        self.clock += 1;
        self.held[seq] = Held { state: State::Busy, partition: partition.to_owned(), used: self.clock, ..Held::default() };
        Some(seq)
    }

    /// The context was cleared.
    pub fn forget_all(&mut self) {
        let Self { capacity, reuse, evicted, .. } = *self;
        *self = Self { evicted, ..Self::new(capacity, self.held.len(), reuse) };
    }

    /// A number that is free, or that nothing or the least would be lost with. `None` if all are busy.
    fn number(&mut self) -> Option<usize> {
        loop {
            if let Some(free) = self.held.iter().position(|held| held.state == State::Free) {
                return Some(free);
            }
            if let Some(redundant) = self.tree.redundant(&self.idle) {
                self.drop_all(redundant);
            } else if !self.give_up_oldest() && !self.tree.unpin_idle(&self.idle) {
                return None;
            }
        }
    }

    fn give_up_oldest(&mut self) -> bool {
        let Some(leaf) = self.tree.oldest_leaf(&self.idle) else { return false };
        let before = self.tree.cells();
        for seq in leaf.holders.iter() {
            if leaf.start == 0 {
                self.drop_all(seq);
            } else {
                self.cut(seq, leaf.start);
            }
        }
        self.evicted += u64::try_from(before - self.tree.cells()).unwrap_or_default();
        true
    }

    fn cut(&mut self, seq: usize, keep: usize) {
        let held = &mut self.held[seq];
        self.tree.release(&held.partition, seq, keep);
        held.tokens.truncate(keep);
        held.published = keep;
        self.ops.push(Op::Remove { seq, start: keep, end: None });
    }

    fn drop_all(&mut self, seq: usize) {
        let held = &mut self.held[seq];
        self.tree.release(&held.partition, seq, 0);
        self.private -= held.tokens.len() - held.published;
        *held = Held::default();
        self.idle.remove(seq);
        self.ops.push(Op::Remove { seq, start: 0, end: None });
    }
}

#[cfg(test)]
mod tests;
