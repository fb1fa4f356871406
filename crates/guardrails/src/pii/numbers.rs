//! Numbers that check themselves: bank accounts, cards, tax identification numbers.

use super::{
    NUMBERS, entity, phone,
    stretches::{Form, stretches},
};
use crate::{
    begun::{begun, regex},
    policy::Entity,
    view::{Hit, Resume, View, each, undecided},
};
use iban::Iban;
use regex::Regex;
use std::{ops::Range, sync::LazyLock};

const IBAN: &str = r"(?-u:\b)[A-Za-z]{2}[0-9]{2}(?:[ \x{a0}]?[0-9A-Za-z]){11,30}";
const CARD: &str = r"(?-u:\b)[2-6][0-9](?:[ \x{a0}-]?[0-9]){12,17}";
const TAX_ID: &str = r"(?-u:\b)[1-9][0-9](?:[0-9]{9}|[ \x{a0}][0-9]{3}[ \x{a0}][0-9]{3}[ \x{a0}][0-9]{3})";
/// What has to be known behind a number: whether it is a part of a longer one.
const BEHIND: &str = "(?:[.,:/@-][0-9]?)?";

/// An account number may have nothing but letters behind its check digits, as far as its form goes.
const ACCOUNT: Form = Form { letters: true, reach: 100, digits: 1 };
/// All others end with a digit, are divided by a few signs at most, and have no fewer digits than `+123456`.
const OTHER: Form = Form { letters: false, reach: 12, digits: 6 };

/// Characters of the shortest account number there is, Norway's.
const SHORTEST_IBAN: usize = 15;
const SHORTEST_CARD: usize = 14;

struct Patterns {
    iban: Regex,
    card: Regex,
    tax_id: Regex,
    begun: Regex,
}

static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| {
    let numbers = [CARD, TAX_ID, phone::INTERNATIONAL, phone::GERMAN, phone::AMERICAN];
    let numbers = numbers.map(|pattern| format!("(?:{pattern}){BEHIND}"));
    let all: Vec<&str> = numbers.iter().map(String::as_str).chain([IBAN]).collect();
    Patterns { iban: regex(IBAN), card: regex(CARD), tax_id: regex(TAX_ID), begun: begun(&all) }
});

/// Adds numbers of all kinds, no two of which overlap; says where begins what is not decided yet.
pub(super) fn scan(view: View<'_>, hits: &mut Vec<Hit>) -> usize {
    let (accounts, others): (Vec<_>, Vec<_>) = (stretches(view, ACCOUNT).collect(), stretches(view, OTHER).collect());
    let mut found = Vec::new();
    for kind in NUMBERS {
        let from = found.len();
        let stretches = if kind == Entity::Iban { &accounts } else { &others };
        for stretch in stretches {
            within(kind, view, *stretch, &mut found);
        }
        found = without_overlaps(found, from);
    }
    let undecided = undecided(view, &PATTERNS.begun, &found);
    hits.append(&mut found);
    undecided
}

/// Adds the numbers of one kind in a stretch of a text.
fn within(kind: Entity, view: View<'_>, stretch: View<'_>, found: &mut Vec<Hit>) {
    match kind {
        Entity::Iban => each(&PATTERNS.iban, stretch, Resume::Inside, found, |range| Some((iban(view, &range)?, entity(kind)))),
        Entity::CreditCard => each(&PATTERNS.card, stretch, Resume::Inside, found, |range| Some((card(view, &range)?, entity(kind)))),
        Entity::TaxId => each(&PATTERNS.tax_id, stretch, Resume::Inside, found, |range| {
            let sound = view.alone(&range) && !view.glued(&range) && is_tax_id(&digits(&view.text[range.clone()]));
            sound.then(|| (range, entity(kind)))
        }),
        _ => phone::scan(view, stretch, found),
    }
}

/// Drops from the hits after the first `sure` ones those that overlap one of the first.
fn without_overlaps(mut hits: Vec<Hit>, sure: usize) -> Vec<Hit> {
    let mut less_sure = hits.split_off(sure);
    hits.sort_unstable_by_key(|hit| hit.range.start);
    less_sure.retain(|hit| {
        let next = hits.partition_point(|other| other.range.end <= hit.range.start);
        !hits.get(next).is_some_and(|other| other.overlaps(hit))
    });
    hits.append(&mut less_sure);
    hits
}

/// Digits of a number, without what divides it.
pub(super) fn digits(text: &str) -> Vec<u8> {
    text.bytes().filter(u8::is_ascii_digit).map(|digit| digit - b'0').collect()
}

/// The longest beginning of a candidate that is an account number by ISO 13616: form of its country, and check digits by
/// ISO 7064 MOD 97-10.
fn iban(view: View<'_>, candidate: &Range<usize>) -> Option<Range<usize>> {
    let mut compact = String::with_capacity(34);
    let mut ends = Vec::with_capacity(34);
    for (at, c) in view.text[candidate.clone()].char_indices().filter(|(_, c)| c.is_ascii_alphanumeric()) {
        compact.push(c.to_ascii_uppercase());
        ends.push(candidate.start + at + 1);
    }
    let ranges = ends.iter().enumerate().skip(SHORTEST_IBAN - 1).rev().map(|(last, end)| (last + 1, candidate.start..*end));
    ranges.filter(|(_, range)| view.alone(range)).find(|(length, _)| compact[..*length].parse::<Iban>().is_ok()).map(|(_, range)| range)
}

/// The longest beginning of a candidate that is a card's number.
fn card(view: View<'_>, candidate: &Range<usize>) -> Option<Range<usize>> {
    if view.before(candidate.start) == Some('+') {
        return None;
    }
    let mut number = Vec::with_capacity(19);
    let mut ends = Vec::with_capacity(19);
    for (at, digit) in view.text[candidate.clone()].bytes().enumerate().filter(|(_, byte)| byte.is_ascii_digit()) {
        number.push(digit - b'0');
        ends.push(candidate.start + at + 1);
    }
    let ranges = ends.iter().enumerate().skip(SHORTEST_CARD - 1).rev().map(|(last, end)| (last + 1, candidate.start..*end));
    let sound = |length: usize| of_network(&number[..length]) && luhn(&number[..length]);
    ranges.filter(|(_, range)| view.alone(range) && !view.glued(range)).find(|(length, _)| sound(*length)).map(|(_, range)| range)
}

/// ISO/IEC 7812-1, annex B: every second digit from the right is doubled, the sum of all digits is a multiple of ten.
fn luhn(number: &[u8]) -> bool {
    let doubled = |digit: u8| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let values = number.iter().rev().enumerate().map(|(at, digit)| if at % 2 == 1 { doubled(*digit) } else { *digit });
    values.map(u32::from).sum::<u32>().is_multiple_of(10)
}

/// Whether some network gives out numbers of this length that begin so: without it every tenth long number would be a card's.
fn of_network(number: &[u8]) -> bool {
    let first = |count: usize| number.iter().take(count).fold(0_u32, |value, digit| value * 10 + u32::from(*digit));
    match (first(1), first(2), first(3), first(4)) {
        (4, ..) => matches!(number.len(), 16 | 19),
        (_, 34 | 37, ..) => number.len() == 15,
        (_, 51..=55, ..) | (_, _, _, 2221..=2720) => number.len() == 16,
        (_, 36 | 38 | 39, ..) | (_, _, 300..=305, _) => (14..=19).contains(&number.len()),
        (_, 62 | 65, ..) | (_, _, 644..=649, _) | (_, _, _, 6011 | 3528..=3589) => (16..=19).contains(&number.len()),
        (_, 50 | 56..=58 | 63 | 67, ..) => matches!(number.len(), 16 | 18 | 19),
        _ => false,
    }
}

/// § 139b AO: eleven digits, not beginning with 0; among the first ten one occurs twice or three times, though not three
/// times in a row, and the others once at most; the last one is the check digit by ISO 7064 MOD 11,10.
fn is_tax_id(number: &[u8]) -> bool {
    let [body @ .., check] = number else { return false };
    if body.len() != 10 || body[0] == 0 {
        return false;
    }
    let count = |digit: u8| body.iter().filter(|other| **other == digit).count();
    let repeated: Vec<usize> = (0..10).map(count).filter(|count| *count > 1).collect();
    let in_a_row = body.windows(3).any(|three| three[0] == three[1] && three[1] == three[2]);
    if !matches!(repeated[..], [2 | 3]) || in_a_row {
        return false;
    }
    let product = body.iter().fold(10, |product, digit| {
        let sum = (u32::from(*digit) + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    (11 - product) % 10 == u32::from(*check)
}

#[cfg(test)]
mod tests {
    use super::{ACCOUNT, IBAN, NUMBERS, digits, is_tax_id, luhn, of_network, scan, within, without_overlaps};
    use crate::{
        tricky,
        view::{Hit, View},
    };

    /// Looked for in all of the text.
    fn plain(view: View<'_>) -> Vec<Hit> {
        let mut found = Vec::new();
        for kind in NUMBERS {
            let from = found.len();
            within(kind, view, view, &mut found);
            found = without_overlaps(found, from);
        }
        found
    }

    #[test]
    fn numbers_are_found_around_digits_as_in_the_whole_text() {
        let far =
            ["+49\u{a0}()\u{a0}30\u{a0}/ 1234567", "030 – 1234 – 567", "(030)\u{a0}12 / 34 / 567", "FR14 2004 1010 0505 0001 3M02 606"];
        for text in tricky::texts().chain(far.map(|text| format!("ö 1 {text} 2"))) {
            for view in tricky::views(&text) {
                let mut found = Vec::new();
                scan(view, &mut found);
                assert_eq!(found, plain(view), "{view:?}. If you are here because this failed: personal data goes out unseen.");
            }
        }
    }

    #[test]
    fn no_account_number_is_longer_than_a_stretch_reaches() {
        let longest = regex_syntax::parse(IBAN).expect("a pattern").properties().maximum_len();
        assert!(longest.is_some_and(|longest| longest <= ACCOUNT.reach - 4), "{longest:?}");
    }

    #[test]
    fn check_digits_are_computed_as_their_standards_say() {
        for sound in ["86095742719", "47036892816", "65929970489", "57549285017", "25768131411"] {
            assert!(is_tax_id(&digits(sound)), "{sound}");
            let (last, rest) = (digits(sound)[10], &digits(sound)[..10]);
            let wrong = (0..10).filter(|check| *check != last && is_tax_id(&[rest, &[*check]].concat())).count();
            assert_eq!(wrong, 0, "{sound}: exactly one check digit is right");
        }
        assert!(luhn(&digits("4111111111111111")) && luhn(&digits("378282246310005")) && !luhn(&digits("4111111111111112")));
    }

    #[test]
    fn digits_are_spread_as_the_law_says() {
        // Each with the right check digit, which `is_tax_id` would accept if it looked at nothing else.
        for spread in ["1234567890", "1122345678", "1112345678", "1111234567", "0123456788"] {
            let digits = digits(spread);
            assert!((0..10).all(|check| !is_tax_id(&[&digits[..], &[check]].concat())), "{spread}");
        }
    }

    #[test]
    fn networks_have_their_lengths() {
        for (number, known) in [
            ("4111111111111111", true),
            ("5555555555554444", true),
            ("2223003122003222", true),
            ("378282246310005", true),
            ("30569309025904", true),
            ("6011111111111117", true),
            ("3530111333300000", true),
            ("411111111111111", false),
            ("4222222222222", false),
            ("9999999999999995", false),
        ] {
            assert_eq!(of_network(&digits(number)), known, "{number}");
        }
    }
}
