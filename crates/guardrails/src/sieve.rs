//! A first look at words: most of a text are on no list, and need neither be written in small letters nor hashed to know that.

/// A set of small numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    pub(crate) fn has(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|bits| (bits >> (number % 64)) & 1 == 1)
    }
}

impl FromIterator<usize> for Bits {
    fn from_iter<I: IntoIterator<Item = usize>>(numbers: I) -> Self {
        let mut bits: Vec<u64> = Vec::new();
        for number in numbers {
            let at = number / 64;
            if bits.len() <= at {
                bits.resize(at + 1, 0);
            }
            bits[at] |= 1_u64 << (number % 64);
        }
        Self(bits)
    }
}

/// Which words may be on a list, by their first two letters, their last one and their length.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sieve(Bits);

impl Sieve {
    /// Of the words on the list, in whatever case.
    pub(crate) fn of<'w>(words: impl IntoIterator<Item = &'w str>) -> Self {
        Self(words.into_iter().filter_map(slot).collect())
    }

    /// Whether a word of a text, in whatever case, may be on the list. Those that are always may, and all with letters beyond
    /// ASCII: there is more than one way to write them.
    pub(crate) fn passes(&self, word: &str) -> bool {
        self.passes_ascii(word) || !word.is_ascii()
    }

    /// The same for a word that is known to be of ASCII.
    pub(crate) fn passes_ascii(&self, word: &str) -> bool {
        slot(word).is_some_and(|slot| self.0.has(slot))
    }
}

fn slot(word: &str) -> Option<usize> {
    let bytes = word.as_bytes();
    let (first, last) = (*bytes.first()?, *bytes.last()?);
    let second = bytes.get(1).map_or(0, |second| letter(*second));
    // The length goes into the same bits: so few stay near the processor.
    Some((letter(first) | (second << 5) | (letter(last) << 10)) ^ ((bytes.len() & 15) << 6))
}

/// A number below 32, the same for a letter of ASCII in both cases.
pub(crate) fn letter(byte: u8) -> usize {
    usize::from(byte & 31)
}

#[cfg(test)]
mod tests {
    use super::{Bits, Sieve};

    #[test]
    fn numbers_are_in_it_or_not() {
        let bits: Bits = [0, 63, 64, 1000].into_iter().collect();
        let has: Vec<usize> = (0..2000).filter(|number| bits.has(*number)).collect();
        assert_eq!(has, [0, 63, 64, 1000]);
        assert!(!Bits::default().has(0));
    }

    #[test]
    fn a_word_of_the_list_always_passes() {
        let sieve = Sieve::of(["wein", "x", "c3", "ein sehr langes Wort, länger als fünfzehn", "über"]);
        for word in ["wein", "WEIN", "wEiN", "x", "X", "C3", "ein sehr langes Wort, länger als fünfzehn", "über", "ÜBER", "größe"] {
            assert!(sieve.passes(word), "{word}. If you are here because this failed: what a rule looks for passes unseen.");
        }
        assert!(!sieve.passes("weine") && !sieve.passes("bein") && !sieve.passes("") && !sieve.passes("y"));
    }
}
