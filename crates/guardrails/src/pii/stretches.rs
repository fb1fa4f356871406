//! Where numbers may stand: around digits.

use crate::view::View;

/// No number of those that are looked for is longer, in bytes.
pub(super) const LONGEST: usize = 128;
/// So many bytes may stand in a number before its first digit: `DE89`.
const BEFORE: usize = 2;
/// Bytes from a digit on in which a number that it belongs to ends, with room for a character that must not be divided.
const REACH: usize = LONGEST + 4;
/// Bytes that are judged together: without a way out in between, compilers judge them all at once.
const BLOCK: usize = 64;

/// Stretches of a text, in order and apart from each other, outside of which no number stands. Each is the text up to some
/// byte, to be searched from another one on: a search sees what stands before, and no number reaches beyond the end.
pub(super) fn stretches(view: View<'_>) -> impl Iterator<Item = View<'_>> {
    let mut at = view.from;
    std::iter::from_fn(move || {
        let first = next_digit(view.text, at)?;
        let mut last = first;
        loop {
            at = last + 1;
            match next_digit(view.text, at) {
                Some(next) if next <= last + REACH + BEFORE => last = next,
                _ => break,
            }
        }
        let from = view.text.floor_char_boundary(first.saturating_sub(BEFORE)).max(view.from);
        Some(View { text: &view.text[..view.text.floor_char_boundary(last + REACH)], from, ..view })
    })
}

/// The first digit from a byte on.
fn next_digit(text: &str, mut at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    while bytes.get(at..at + BLOCK).is_some_and(|block| !block.iter().fold(false, |any, byte| any | byte.is_ascii_digit())) {
        at += BLOCK;
    }
    bytes.get(at..)?.iter().position(u8::is_ascii_digit).map(|skipped| at + skipped)
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, REACH, next_digit, stretches};
    use crate::{tricky, view::View};

    #[test]
    fn the_next_digit_is_found_wherever_it_stands() {
        for before in 0..3 * BLOCK {
            for text in [format!("{}7", "x".repeat(before)), format!("{}7{}", "x".repeat(before), "ö".repeat(BLOCK))] {
                assert_eq!(next_digit(&text, 0), Some(before), "{text:?}");
                assert_eq!(next_digit(&text, before + 1), None, "{text:?}");
            }
        }
        assert_eq!((next_digit("", 0), next_digit("7", 1), next_digit("٣²", 0)), (None, None, None));
    }

    #[test]
    fn digits_are_in_stretches_and_these_apart() {
        for gap in [0, 1, REACH - 1, REACH, REACH + 1, REACH + 2, REACH + 3, 3 * REACH] {
            let text = format!("ö7{}8{}", "ö".repeat(gap / 2), "ö".repeat(REACH));
            let mut end = 0;
            let mut digits = 0;
            for stretch in stretches(View::whole(&text)) {
                assert!(stretch.from >= end, "{text:?}");
                end = stretch.text.len();
                digits += text[stretch.from..end].bytes().filter(u8::is_ascii_digit).count();
            }
            assert_eq!(digits, 2, "{text:?}. If you are here because this failed: personal data goes out unseen.");
        }
        for text in tricky::texts() {
            let found: usize = stretches(View::whole(&text)).map(|it| it.text[it.from..].bytes().filter(u8::is_ascii_digit).count()).sum();
            assert_eq!(found, text.bytes().filter(u8::is_ascii_digit).count(), "{text:?}");
        }
    }
}
