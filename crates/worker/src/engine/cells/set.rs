//! A set of llama.cpp's sequence numbers.

/// Sequences that one context can have (`LLAMA_MAX_SEQ`).
pub const MOST_SEQUENCES: usize = 256;

const WORDS: usize = MOST_SEQUENCES / 64;

/// Small enough to be copied; every operation is a few instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeqSet([u64; WORDS]);

impl SeqSet {
    /// The set of one.
    pub fn of(seq: usize) -> Self {
        let mut set = Self::default();
        set.insert(seq);
        set
    }

    pub fn insert(&mut self, seq: usize) {
        if let Some(word) = self.0.get_mut(seq / 64) {
            *word |= 1 << (seq % 64);
        }
    }

    pub fn remove(&mut self, seq: usize) {
        if let Some(word) = self.0.get_mut(seq / 64) {
            *word &= !(1 << (seq % 64));
        }
    }

    pub fn contains(&self, seq: usize) -> bool {
        self.0.get(seq / 64).is_some_and(|word| word & (1 << (seq % 64)) != 0)
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Everything in it is in `other`, too.
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a & !b == 0)
    }

    /// In ascending order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..MOST_SEQUENCES).filter(move |seq| self.contains(*seq))
    }

    pub fn first(self) -> Option<usize> {
        self.0
            .iter()
            .enumerate()
            .find(|(_, word)| **word != 0)
            .map(|(at, word)| at * 64 + usize::try_from(word.trailing_zeros()).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_kept_and_forgotten() {
        let mut set = SeqSet::of(3);
        set.insert(64);
        set.insert(255);
        assert_eq!(set.iter().collect::<Vec<_>>(), [3, 64, 255]);
        set.remove(3);
        assert_eq!((set.first(), set.contains(3), set.is_empty()), (Some(64), false, false));
        assert!(SeqSet::of(64).is_within(&set) && !SeqSet::of(3).is_within(&set));
        assert!(SeqSet::default().is_within(&set));
        assert_eq!(SeqSet::default().first(), None);
    }
}
