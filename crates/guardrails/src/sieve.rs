//! A first look at words: most of a text are on no list, and need neither be written in small letters nor hashed to know that.

/// Numbers in a set are below 64 times this. It has the same size for all, so no bound has to be checked.
const WORDS: usize = 512;

/// A set of small numbers.
#[derive(Clone, Debug)]
pub(crate) struct Bits(Box<[u64; WORDS]>);

impl Bits {
    #[inline]
    pub(crate) fn has(&self, number: usize) -> bool {
        (self.0[number / 64 % WORDS] >> (number % 64)) & 1 == 1
    }
}

impl Default for Bits {
    fn default() -> Self {
        Self(Box::new([0; WORDS]))
    }
}

impl FromIterator<usize> for Bits {
    fn from_iter<I: IntoIterator<Item = usize>>(numbers: I) -> Self {
        let mut bits = Self::default();
        for number in numbers {
            bits.0[number / 64 % WORDS] |= 1_u64 << (number % 64);
        }
        bits
    }
}

/// Which words may be on a list, by their first two letters, their last one and their length.
///
/// Umlauts and `ß` count as the two letters that they are spelt out with, so it does not matter which of these the list and
/// the text have, nor how the two are compared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sieve(Bits);

impl Sieve {
    /// Of the words on the list, in whatever case.
    pub(crate) fn of<'w>(words: impl IntoIterator<Item = &'w str>) -> Self {
        Self(words.into_iter().filter_map(|word| if word.is_ascii() { slot(word) } else { spelt_slot(word) }).collect())
    }

    /// Whether a word of a text, in whatever case, may be on the list. Those that are always may, and all with letters that
    /// neither English nor German has: there is more than one way to write them.
    pub(crate) fn passes(&self, word: &str) -> bool {
        if word.is_ascii() { self.passes_ascii(word) } else { spelt_slot(word).is_none_or(|slot| self.0.has(slot)) }
    }

    /// The same for a word that is known to be of ASCII.
    #[inline]
    pub(crate) fn passes_ascii(&self, word: &str) -> bool {
        slot(word).is_some_and(|slot| self.0.has(slot))
    }
}

fn slot(word: &str) -> Option<usize> {
    let bytes = word.as_bytes();
    let (first, last) = (*bytes.first()?, *bytes.last()?);
    Some(place(first, bytes.get(1).copied(), last, bytes.len()))
}

/// The same for a word with umlauts; `None` if it has other letters beyond ASCII.
fn spelt_slot(word: &str) -> Option<usize> {
    let bytes = word.as_bytes();
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        if !byte.is_ascii() {
            spelt(*byte, *rest.next()?)?;
        }
    }
    let (first, second) = match *bytes {
        [UMLAUT, byte, ..] => spelt(UMLAUT, byte).map(|[first, second]| (first, Some(second)))?,
        [first, UMLAUT, byte, ..] => (first, spelt(UMLAUT, byte).map(|[second, _]| second)),
        [first, ref rest @ ..] => (first, rest.first().copied()),
        [] => return None,
    };
    let last = match *bytes {
        [.., UMLAUT, byte] => spelt(UMLAUT, byte)?[1],
        [.., last] => last,
        [] => return None,
    };
    // Each of them has as many bytes as letters.
    Some(place(first, second, last, bytes.len()))
}

fn place(first: u8, second: Option<u8>, last: u8, length: usize) -> usize {
    let second = second.map_or(0, letter);
    // The length goes into the same bits: so few stay near the processor.
    (letter(first) | (second << 5) | (letter(last) << 10)) ^ ((length & 15) << 6)
}

/// What umlauts and `ß` begin with in UTF-8.
pub(crate) const UMLAUT: u8 = 0xc3;

/// The small letters that an umlaut or `ß` is spelt out with, by its two bytes in UTF-8.
pub(crate) const fn spelt(first: u8, second: u8) -> Option<[u8; 2]> {
    match (first, second) {
        (UMLAUT, 0x84 | 0xa4) => Some(*b"ae"),
        (UMLAUT, 0x96 | 0xb6) => Some(*b"oe"),
        (UMLAUT, 0x9c | 0xbc) => Some(*b"ue"),
        (UMLAUT, 0x9f) => Some(*b"ss"),
        _ => None,
    }
}

/// A number below 32, the same for a letter of ASCII in both cases.
pub(crate) fn letter(byte: u8) -> usize {
    usize::from(byte & 31)
}

#[cfg(test)]
mod tests {
    use super::{Bits, Sieve, spelt};
    use crate::tokens::{expanded, folded};

    #[test]
    fn numbers_are_in_it_or_not() {
        let bits: Bits = [0, 63, 64, 1000].into_iter().collect();
        let has: Vec<usize> = (0..2000).filter(|number| bits.has(*number)).collect();
        assert_eq!(has, [0, 63, 64, 1000]);
        assert!(!Bits::default().has(0));
    }

    #[test]
    fn a_word_of_the_list_always_passes() {
        let long = "ein sehr langes Wort, länger als fünfzehn";
        let sieve = Sieve::of(["wein", "x", "c3", long, "über", "größe", "strasse", "maß", "rené", "ä"]);
        let same = [
            "wein", "WEIN", "wEiN", "x", "X", "C3", long, "über", "ÜBER", "ueber", "UEBER", "größe", "GRÖSSE", "Groesse", "Straße",
            "STRASSE", "MASS", "René", "RENÉ", "Ä", "ae",
        ];
        // Others can be written in more than one way.
        let others = ["u\u{308}ber", "STRAẞE", "we\u{ad}in", "слово"];
        for word in same.into_iter().chain(others) {
            assert!(sieve.passes(word), "{word}. If you are here because this failed: what a rule looks for passes unseen.");
        }
        for word in ["weine", "bein", "", "y", "übel", "größer", "Füße", "ö", "naß"] {
            assert!(!sieve.passes(word), "{word}");
        }
    }

    #[test]
    fn umlauts_are_spelt_out_as_in_words_that_are_compared() {
        for c in "äöüÄÖÜß".chars() {
            let letters = spelt(c.to_string().as_bytes()[0], c.to_string().as_bytes()[1]).expect("known");
            assert_eq!(letters.map(char::from).iter().collect::<String>(), expanded(&folded(&c.to_string())), "{c}");
        }
        assert!("éàñøÿÀ÷×".chars().all(|c| spelt(c.to_string().as_bytes()[0], c.to_string().as_bytes()[1]).is_none()));
    }
}
