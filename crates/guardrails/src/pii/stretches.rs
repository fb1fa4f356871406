//! Where numbers may stand: around digits.

use crate::view::View;

/// So many bytes may stand in a number before its first digit: `DE89`.
const BEFORE: usize = 2;
/// Bytes that are judged together: without a way out in between, compilers judge them all at once.
const BLOCK: usize = 64;

/// How numbers may be written.
#[derive(Clone, Copy)]
pub(super) struct Form {
    /// From a digit of one to its end, or to its next digit if it has more, there are fewer bytes.
    pub(super) reach: usize,
    /// None has fewer digits.
    pub(super) digits: usize,
}

/// Stretches of a text, in order and apart from each other, outside of which no number of this form stands. Each is the text
/// up to some byte, to be searched from another one on: a search sees what stands before, and no number goes beyond the end.
pub(super) fn stretches(view: View<'_>, form: Form) -> impl Iterator<Item = View<'_>> {
    let mut ahead = next_digit(view.text, view.from);
    let all = std::iter::from_fn(move || {
        let first = ahead?;
        let (mut last, mut digits) = (first, 0);
        while let Some(next) = ahead.filter(|next| *next <= last + form.reach + BEFORE) {
            (last, digits) = (next, digits + 1);
            ahead = next_digit(view.text, next + 1);
        }
        let from = view.text.floor_char_boundary(first.saturating_sub(BEFORE)).max(view.from);
        let until = view.text.floor_char_boundary(last + form.reach);
        Some((View { text: &view.text[..until], from, ..view }, digits))
    });
    all.filter(move |(_, digits)| *digits >= form.digits).map(|(stretch, _)| stretch)
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
    use super::{BLOCK, Form, next_digit, stretches};
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
        for (reach, gap) in [4, 8, 100].into_iter().flat_map(|reach| (0..2 * reach).map(move |gap| (reach, gap))) {
            let text = format!("ö7{}8{}", "ö".repeat(gap / 2), "ö".repeat(reach));
            let (mut end, mut digits) = (0, 0);
            for stretch in stretches(View::whole(&text), Form { reach, digits: 1 }) {
                assert!(stretch.from >= end, "{text:?}");
                end = stretch.text.len();
                digits += text[stretch.from..end].bytes().filter(u8::is_ascii_digit).count();
            }
            assert_eq!(digits, 2, "{text:?}. If you are here because this failed: personal data goes out unseen.");
        }
        for text in tricky::texts() {
            let all = stretches(View::whole(&text), Form { reach: 8, digits: 1 });
            let found: usize = all.map(|it| it.text[it.from..].bytes().filter(u8::is_ascii_digit).count()).sum();
            assert_eq!(found, text.bytes().filter(u8::is_ascii_digit).count(), "{text:?}");
        }
    }

    #[test]
    fn too_few_digits_make_no_stretch() {
        let count = |digits| stretches(View::whole("12 3, 4"), Form { reach: 8, digits }).count();
        assert_eq!((count(1), count(4), count(5)), (1, 1, 0));
    }
}
