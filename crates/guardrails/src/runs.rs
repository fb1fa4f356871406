//! Runs of letters, told by blocks: words are short, and a guess about each of their bytes would often be wrong.

use crate::sieve::{UMLAUT, spelt};

const BLOCK: usize = 64;
/// A byte each.
const EACH: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x80 * EACH;

/// Where end the runs of letters of ASCII in a text that is read from its beginning to its end; with `DIGITS`, of letters and
/// digits. It remembers the block that it was asked about last.
#[derive(Debug)]
pub(crate) struct Runs<'a, const DIGITS: bool> {
    bytes: &'a [u8],
    /// Which block is known.
    block: usize,
    /// A bit for each of its bytes that is in no run.
    others: u64,
}

impl<'a, const DIGITS: bool> Runs<'a, DIGITS> {
    pub(crate) const fn of(text: &'a str) -> Self {
        Self { bytes: text.as_bytes(), block: usize::MAX, others: 0 }
    }

    /// Where ends the run that begins at a byte; there, if none does.
    #[inline]
    pub(crate) fn end(&mut self, mut at: usize) -> usize {
        loop {
            if at / BLOCK != self.block {
                self.look(at / BLOCK);
            }
            let others = self.others >> (at % BLOCK);
            if others != 0 {
                return at + usize::try_from(others.trailing_zeros()).unwrap_or(0);
            }
            at = (at / BLOCK + 1) * BLOCK;
        }
    }

    #[inline(never)]
    fn look(&mut self, block: usize) {
        let rest = &self.bytes[(block * BLOCK).min(self.bytes.len())..];
        let mut padded = [0; BLOCK];
        let whole = rest.first_chunk().unwrap_or_else(|| {
            padded[..rest.len()].copy_from_slice(rest);
            &padded
        });
        self.block = block;
        self.others = !whole.as_chunks::<8>().0.iter().rev().fold(0, |bits, eight| {
            let eight = u64::from_le_bytes(*eight);
            let marked = if DIGITS { letters(eight) | between(eight, b'0', b'9') } else { letters(eight) };
            // The highest bits of eight bytes as those of one.
            (bits << 8) | ((marked >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56)
        });
    }
}

impl Runs<'_, true> {
    /// The same for a run with letters of the languages around Germany.
    pub(crate) fn western_end(&mut self, at: usize) -> usize {
        let mut end = self.end(at);
        // Latin-1 has no more letters than these, and no others here than the signs for times and divided by.
        while let [UMLAUT, second, ..] = self.bytes[end..]
            && !matches!(second, 0x97 | 0xb7)
        {
            end = self.end(end + 2);
        }
        end
    }
}

impl Runs<'_, false> {
    /// The same for a run with letters of German.
    pub(crate) fn german_end(&mut self, at: usize) -> usize {
        let mut end = self.end(at);
        while let [first, second, ..] = self.bytes[end..]
            && spelt(first, second).is_some()
        {
            end = self.end(end + 2);
        }
        end
    }
}

/// Marks the letters of ASCII.
const fn letters(eight: u64) -> u64 {
    // What becomes a small letter by this was one in either case.
    between(eight | (0x20 * EACH), b'a', b'z')
}

/// Marks the bytes from `first` to `last`, both of ASCII.
const fn between(eight: u64, first: u8, last: u8) -> u64 {
    let low = eight & !HIGH;
    // No sum goes beyond its byte.
    let from = low + (0x80 - first as u64) * EACH;
    let beyond = low + (0x7f - last as u64) * EACH;
    from & !beyond & !eight & HIGH
}

#[cfg(test)]
mod tests {
    use super::Runs;
    use crate::tricky;

    fn plain(text: &str, is: impl Fn(char) -> bool) -> usize {
        text.find(|c| !is(c)).unwrap_or(text.len())
    }

    #[test]
    fn runs_end_where_they_do_character_by_character() {
        let single = ('\0'..'\u{180}').flat_map(|c| (0..4).map(move |before| format!("{}{c}xyzXYZ019", "a".repeat(before * 21))));
        for text in single.chain(tricky::texts()) {
            let (mut letters, mut digits) = (Runs::<false>::of(&text), Runs::<true>::of(&text));
            for at in text.char_indices().map(|(at, _)| at).chain([text.len()]) {
                let rest = &text[at..];
                assert_eq!(letters.end(at) - at, plain(rest, |c| c.is_ascii_alphabetic()), "{rest:?}");
                assert_eq!(digits.end(at) - at, plain(rest, |c| c.is_ascii_alphanumeric()), "{rest:?}");
                assert_eq!(letters.german_end(at) - at, plain(rest, |c| c.is_ascii_alphabetic() || "äöüÄÖÜß".contains(c)), "{rest:?}");
                let latin = |c: char| c.is_ascii_alphanumeric() || ('À'..='ÿ').contains(&c) && c.is_alphanumeric();
                assert_eq!(digits.western_end(at) - at, plain(rest, latin), "{rest:?}");
            }
        }
    }
}
