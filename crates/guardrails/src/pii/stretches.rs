//! Where numbers may stand: around their digits, or behind how account numbers begin.

use crate::view::View;

/// So many bytes may stand in a number before its first digit: `DE89`.
const BEFORE: usize = 2;
/// Bytes that are judged together: without a way out in between, compilers judge them all at once.
const BLOCK: usize = 64;

/// How numbers may be written.
#[derive(Clone, Copy)]
pub(super) struct Form {
    /// It begins with two letters right before two digits, the first of which is the only one that counts here. Without this
    /// no letter stands between its digits.
    pub(super) letters: bool,
    /// From a digit of one to its end, or to its next digit if it has more, there are fewer bytes.
    pub(super) reach: usize,
    /// None has fewer digits.
    pub(super) digits: usize,
}

/// Stretches of a text, in order and apart from each other, outside of which no number of this form stands. Each is the text
/// up to some byte, to be searched from another one on: a search sees what stands before, and no number goes beyond the end.
pub(super) fn stretches(view: View<'_>, form: Form) -> impl Iterator<Item = View<'_>> {
    let bytes = view.text.as_bytes();
    let mut end = view.from;
    let mut ahead = form.next(view.text, view.from);
    let all = std::iter::from_fn(move || {
        let first = ahead?;
        let (mut last, mut digits) = (first, 0);
        while let Some(next) = ahead.filter(|next| *next == first || form.goes_on(bytes, last, *next)) {
            (last, digits) = (next, digits + 1);
            ahead = form.next(view.text, next + 1);
        }
        let from = view.text.floor_char_boundary(first.saturating_sub(BEFORE)).max(end);
        // No further than to where the next one may begin.
        let next = ahead.map_or(usize::MAX, |next| next.saturating_sub(BEFORE).max(last + 1));
        end = view.text.floor_char_boundary(next.min(last + form.reach));
        Some((View { text: &view.text[..end], from, ..view }, digits))
    });
    all.filter(move |(_, digits)| *digits >= form.digits).map(|(stretch, _)| stretch)
}

impl Form {
    /// The next digit that counts.
    fn next(self, text: &str, at: usize) -> Option<usize> {
        if self.letters { next_account(text.as_bytes(), at) } else { next_digit(text, at) }
    }

    /// Both digits may be in one number.
    fn goes_on(self, bytes: &[u8], last: usize, next: usize) -> bool {
        next <= last + self.reach + BEFORE && (self.letters || !bytes[last..next].iter().any(u8::is_ascii_alphabetic))
    }
}

/// The first of the digits with which an account number goes on that begins at this byte or later.
fn next_account(bytes: &[u8], mut at: usize) -> Option<usize> {
    let begins = |four: [u8; 4]| {
        let [country, code, check, digit] = four;
        country.is_ascii_alphabetic() & code.is_ascii_alphabetic() & check.is_ascii_digit() & digit.is_ascii_digit()
    };
    let here =
        |block: &[u8; BLOCK + 3]| (0..BLOCK).fold(false, |any, at| any | begins([block[at], block[at + 1], block[at + 2], block[at + 3]]));
    while bytes.get(at..)?.first_chunk().is_some_and(|block| !here(block)) {
        at += BLOCK;
    }
    bytes.get(at..)?.array_windows().position(|four| begins(*four)).map(|skipped| at + skipped + BEFORE)
}

/// The first digit from a byte on.
fn next_digit(text: &str, mut at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    // Digits stand together.
    if bytes.get(at).is_some_and(u8::is_ascii_digit) {
        return Some(at);
    }
    while bytes.get(at..at + BLOCK).is_some_and(|block| !block.iter().fold(false, |any, byte| any | byte.is_ascii_digit())) {
        at += BLOCK;
    }
    bytes.get(at..)?.iter().position(u8::is_ascii_digit).map(|skipped| at + skipped)
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, Form, next_account, next_digit, stretches};
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
            for stretch in stretches(View::whole(&text), Form { letters: false, reach, digits: 1 }) {
                assert!(stretch.from >= end, "{text:?}");
                end = stretch.text.len();
                digits += text[stretch.from..end].bytes().filter(u8::is_ascii_digit).count();
            }
            assert_eq!(digits, 2, "{text:?}. If you are here because this failed: personal data goes out unseen.");
        }
        for text in tricky::texts() {
            let all = stretches(View::whole(&text), Form { letters: false, reach: 8, digits: 1 });
            let found: usize = all.map(|it| it.text[it.from..].bytes().filter(u8::is_ascii_digit).count()).sum();
            assert_eq!(found, text.bytes().filter(u8::is_ascii_digit).count(), "{text:?}");
        }
    }

    #[test]
    fn too_few_digits_make_no_stretch() {
        let count = |digits| stretches(View::whole("12 3, 4"), Form { letters: false, reach: 8, digits }).count();
        assert_eq!((count(1), count(4), count(5)), (1, 1, 0));
    }

    #[test]
    fn letters_stand_between_numbers_or_begin_one() {
        let found = |text: &str, form: Form| stretches(View::whole(text), form).map(|it| it.text[it.from..].to_owned()).collect::<Vec<_>>();
        let plain = |digits| Form { letters: false, reach: 8, digits };
        assert_eq!(found("12. Mai 34 (5)", plain(1)), ["12. Ma", "i 34 (5)"]);
        assert_eq!(found("1a2 ä 3", plain(1)), ["1", "a2 ä 3"]);
        assert_eq!(found("12. Mai 34 (5)", plain(3)), ["i 34 (5)"]);
        let account = Form { letters: true, reach: 8, digits: 1 };
        assert_eq!(found("12 D3 DE4 DE 56", account), Vec::<String>::new());
        assert_eq!(found("1 DE56 xyz 7, 1234567", account), ["DE56 xyz 7"]);
        for before in 0..3 * BLOCK {
            let text = format!("{}DE5678{}", " ".repeat(before), "ö".repeat(BLOCK));
            assert_eq!(next_account(text.as_bytes(), 0), Some(before + 2), "{text:?}");
            assert_eq!(next_account(text.as_bytes(), before + 1), None, "{text:?}");
        }
    }
}
