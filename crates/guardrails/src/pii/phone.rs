//! Telephone numbers: international ones (ITU-T E.164), German ones as people write them (DIN 5008 and before), and those
//! of North America.

use super::{entity, numbers::digits};
use crate::{
    begun::regex,
    policy::Entity,
    view::{Hit, Resume, View, each},
};
use regex::Regex;
use std::{ops::Range, sync::LazyLock};

/// `+49 30 123456`, `+49 (0)30/123-456`, `0049 …`.
pub(super) const INTERNATIONAL: &str = concat!(
    r"(?:\+|(?-u:\b)00[ \x{a0}]?)[1-9][0-9]{0,2}[ \x{a0}./-]?(?:\(0?[0-9]{0,5}\)[ \x{a0}]?)?",
    r"[0-9](?:(?: ?[./–-] ?|[ \x{a0}])?[0-9]){4,13}",
);
/// `030 123456`, `(030) 123456`, `030/123-45`, `0176 12345678`.
pub(super) const GERMAN: &str =
    concat!(r"(?:\(0[1-9][0-9]{1,4}\)[ \x{a0}]?[0-9]|(?-u:\b)0[1-9][0-9])", r"(?:(?: ?[/–-] ?|[ \x{a0}])?[0-9]){4,11}",);
/// `(555) 234-5678`, `555-234-5678`.
pub(super) const AMERICAN: &str = r"(?:\([2-9][0-9]{2}\)[ \x{a0}]?|(?-u:\b)[2-9][0-9]{2}[.-])[2-9][0-9]{2}[ .-][0-9]{4}";

/// Digits of a German number with its leading 0.
const GERMAN_DIGITS: std::ops::RangeInclusive<usize> = 9..=13;
/// With a word like “Tel.” before it.
const ANNOUNCED_DIGITS: std::ops::RangeInclusive<usize> = 7..=13;
/// Digits of an international number without `+` or `00`.
const INTERNATIONAL_DIGITS: std::ops::RangeInclusive<usize> = 8..=15;
/// Bytes before a number in which something may announce it.
const LOOK_BACK: usize = 28;
/// Words that begin so announce a number.
const ANNOUNCING: [&str; 13] =
    ["tel", "fon", "phone", "mobil", "handy", "fax", "rufnummer", "durchwahl", "call", "anruf", "cell", "erreich", "whatsapp"];

static PHONE: LazyLock<[Regex; 3]> = LazyLock::new(|| [INTERNATIONAL, GERMAN, AMERICAN].map(regex));

/// Adds the telephone numbers in a stretch of a text.
pub(super) fn scan(view: View<'_>, stretch: View<'_>, hits: &mut Vec<Hit>) {
    let from = hits.len();
    for regex in &*PHONE {
        each(regex, stretch, Resume::Inside, hits, |range| Some((phone(view, range)?, entity(Entity::Phone))));
    }
    // The same digits may look like more than one form.
    let mut found = hits.split_off(from);
    found.sort_by_key(|hit| hit.range.start);
    for hit in found {
        if !hits[from..].last().is_some_and(|last| last.overlaps(&hit)) {
            hits.push(hit);
        }
    }
}

/// The longest beginning of a candidate, in whole groups of digits, that is a telephone number.
fn phone(view: View<'_>, mut range: Range<usize>) -> Option<Range<usize>> {
    let announced = announced(view, range.start);
    if continues(view, range.start) && !announced {
        return None;
    }
    loop {
        let text = &view.text[range.clone()];
        let stands = view.alone(&range) && !view.glued(&range) && view.after(range.end) != Some('@');
        if stands && is_phone(text, announced) {
            return Some(range);
        }
        let group = text.rfind(|c: char| !c.is_ascii_digit())?;
        let rest = text[..group].trim_end_matches(|c: char| !c.is_ascii_digit());
        if rest.is_empty() {
            return None;
        }
        range.end = range.start + rest.len();
    }
}

/// The digits go on with those before them: the rest of a longer number in groups, unless a `+` begins it.
fn continues(view: View<'_>, at: usize) -> bool {
    let mut before = view.text[..at].chars().rev();
    let divided = before.next().is_some_and(|c| matches!(c, ' ' | '\u{a0}')) && before.next().is_some_and(|c| c.is_ascii_digit());
    divided && view.after(at) != Some('+')
}

fn is_phone(text: &str, announced: bool) -> bool {
    let number = digits(text);
    match number.as_slice() {
        _ if text.starts_with('+') => is_international(&number, text, true),
        [0, 0, number @ ..] => is_international(number, text, announced),
        [0, ..] => is_german(&number, text, announced),
        // The pattern has said all.
        _ => number.len() == 10,
    }
}

/// `plus`: a `+` or a word says that it is a telephone number.
fn is_international(number: &[u8], text: &str, plus: bool) -> bool {
    let dotted = text.contains('.') && !text.contains([' ', '\u{a0}', '-', '/', '(']);
    // +50.000.000 is a sum.
    if dotted && text.split('.').skip(1).all(|group| group.len() == 3) {
        return false;
    }
    let known = match number {
        [1, area, ..] => number.len() == 11 && *area > 1,
        // No country has these, see the annex to ITU-T E.164.
        [2 | 8, 8, ..] | [2, 9, 2..=6, ..] | [8, 3 | 9, ..] => false,
        [4, 1 | 3 | 9, ..] => true,
        _ => plus || text.contains([' ', '\u{a0}', '-', '/', '(']),
    };
    known && INTERNATIONAL_DIGITS.contains(&number.len())
}

fn is_german(number: &[u8], text: &str, announced: bool) -> bool {
    // More than one slash, and it is a file's number.
    if text.matches('/').count() > 1 {
        return false;
    }
    let area = text.trim_start_matches('(').bytes().take_while(u8::is_ascii_digit).count();
    let divided = area < number.len();
    match number {
        [0, 1, 5..=7, ..] => matches!(number.len(), 11 | 12) && (!divided || area > 3),
        _ if announced => ANNOUNCED_DIGITS.contains(&number.len()),
        [0, 2..=9, ..] => divided && (3..=6).contains(&area) && GERMAN_DIGITS.contains(&number.len()),
        _ => false,
    }
}

/// A word before it says that a telephone number follows.
fn announced(view: View<'_>, at: usize) -> bool {
    let from = view.text.floor_char_boundary(at.saturating_sub(LOOK_BACK));
    let before = view.text[from..at].to_lowercase();
    let words = before.split(|c: char| !c.is_alphabetic()).rev().filter(|word| !word.is_empty());
    let announces = |word: &str| ANNOUNCING.iter().any(|start| word.starts_with(start)) || word.ends_with("telefon");
    words.take(3).any(announces)
}
