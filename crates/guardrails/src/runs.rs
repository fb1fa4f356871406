//! Runs of letters, sixteen bytes at a time: words are short, and a guess about each of their bytes would often be wrong.

use crate::sieve::{UMLAUT, spelt};

/// A byte each.
const EACH: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x80 * EACH;

/// Bytes of the letters and digits of ASCII that a text begins with.
#[inline]
pub(crate) fn alphanumeric(bytes: &[u8]) -> usize {
    run(bytes, |eight| letters(eight) | between(eight, b'0', b'9'), u8::is_ascii_alphanumeric)
}

/// Bytes of the letters of ASCII that a text begins with.
#[inline]
pub(crate) fn alphabetic(bytes: &[u8]) -> usize {
    run(bytes, letters, u8::is_ascii_alphabetic)
}

/// Bytes of the letters of German that a text begins with.
pub(crate) fn german(bytes: &[u8]) -> usize {
    let mut length = alphabetic(bytes);
    while let [first, second, ..] = bytes[length..]
        && spelt(first, second).is_some()
    {
        length += 2;
        length += alphabetic(&bytes[length..]);
    }
    length
}

/// Bytes of the letters and digits of ASCII and of the letters of the languages around Germany that a text begins with.
pub(crate) fn western(bytes: &[u8]) -> usize {
    let mut length = alphanumeric(bytes);
    // Latin-1 has no more letters than these and no others here than the signs for times and divided by.
    while let [UMLAUT, second, ..] = bytes[length..]
        && !matches!(second, 0x97 | 0xb7)
    {
        length += 2;
        length += alphanumeric(&bytes[length..]);
    }
    length
}

/// Bytes in a row that are of a kind: `marked` marks those of eight in their highest bit, `is` knows one.
#[inline(always)]
fn run(bytes: &[u8], marked: impl Fn(u64) -> u64, is: impl Fn(&u8) -> bool) -> usize {
    let others = |eight: [u8; 8]| HIGH & !marked(u64::from_le_bytes(eight));
    let mut length = 0;
    while let Some(([eight, more], _)) = bytes[length..].first_chunk::<16>().map(|block| block.as_chunks::<8>()) {
        let (first, second) = (others(*eight), others(*more));
        // Chosen rather than guessed.
        let few = if first > 0 { first.trailing_zeros() } else { 64 + second.trailing_zeros() } / 8;
        length += usize::try_from(few).unwrap_or(0);
        if few < 16 {
            return length;
        }
    }
    length + bytes[length..].iter().take_while(|byte| is(byte)).count()
}

/// Marks the letters of ASCII.
const fn letters(eight: u64) -> u64 {
    // What becomes a small letter by this was one in either case.
    between(eight | 0x20 * EACH, b'a', b'z')
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
    use super::{alphabetic, alphanumeric, german, western};
    use crate::tricky;

    fn plain(text: &str, is: impl Fn(char) -> bool) -> usize {
        text.find(|c| !is(c)).unwrap_or(text.len())
    }

    #[test]
    fn runs_end_where_they_do_character_by_character() {
        let single = ('\0'..'\u{180}').flat_map(|c| (0..18).map(move |before| format!("{}{c}xyzXYZ019", "a".repeat(before))));
        for text in single.chain(tricky::texts()) {
            for (at, _) in text.char_indices() {
                let (rest, bytes) = (&text[at..], &text.as_bytes()[at..]);
                assert_eq!(alphanumeric(bytes), plain(rest, |c| c.is_ascii_alphanumeric()), "{rest:?}");
                assert_eq!(alphabetic(bytes), plain(rest, |c| c.is_ascii_alphabetic()), "{rest:?}");
                assert_eq!(german(bytes), plain(rest, |c| c.is_ascii_alphabetic() || "äöüÄÖÜß".contains(c)), "{rest:?}");
                let latin = |c: char| c.is_ascii_alphanumeric() || ('À'..='ÿ').contains(&c) && c.is_alphanumeric();
                assert_eq!(western(bytes), plain(rest, latin), "{rest:?}");
            }
        }
    }
}
