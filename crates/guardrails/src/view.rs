//! A text as those who look for something see it, and what they found in it.

use crate::policy::Entity;
use regex::Regex;
use std::{cmp::Reverse, ops::Range};

/// Bytes at the end of a text that are kept back at most because they may become something, as long as nothing was found in
/// them. No key, address or number is determined later.
pub(crate) const LONGEST_BEGINNING: usize = 512;

/// A stretch of a text: all of it, or a window on a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) text: &'a str,
    /// Where the search begins. What stands before is decided; it is there to be looked back at.
    pub(crate) from: usize,
    /// Its first character does not continue a word.
    pub(crate) opens: bool,
    /// Nothing comes after it.
    pub(crate) closes: bool,
}

impl<'a> View<'a> {
    pub(crate) const fn whole(text: &'a str) -> Self {
        Self { text, from: 0, opens: true, closes: true }
    }

    pub(crate) fn before(self, at: usize) -> Option<char> {
        self.text[..at].chars().next_back()
    }

    pub(crate) fn after(self, at: usize) -> Option<char> {
        self.text[at..].chars().next()
    }

    /// The beginning of a word at most so many bytes before the search begins.
    pub(crate) fn back(self, bytes: usize) -> usize {
        let at = self.text.floor_char_boundary(self.from.saturating_sub(bytes));
        if at == 0 {
            return 0;
        }
        self.text[at..self.from].find(char::is_whitespace).map_or(self.from, |space| at + space)
    }

    /// What begins at `at` continues a word.
    pub(crate) fn continues(self, at: usize) -> bool {
        if at == 0 { !self.opens } else { self.before(at).is_some_and(joins) }
    }

    /// Neither end continues a word.
    pub(crate) fn alone(self, range: &Range<usize>) -> bool {
        !self.continues(range.start) && !self.after(range.end).is_some_and(joins)
    }

    /// It is a part of a longer number: `1.234`, `17/2024`, `2024-01-31`.
    pub(crate) fn glued(self, range: &Range<usize>) -> bool {
        let mut left = self.text[..range.start].chars().rev();
        let mut right = self.text[range.end..].chars();
        glue(left.next(), left.next()) || glue(right.next(), right.next())
    }
}

/// It belongs to the word beside it.
pub(crate) fn joins(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn glue(next: Option<char>, beyond: Option<char>) -> bool {
    next.is_some_and(|c| matches!(c, '.' | ',' | '-' | '/' | ':')) && beyond.is_some_and(|c| c.is_ascii_digit())
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    /// Its bytes.
    pub(crate) range: Range<usize>,
    /// Where begins what says so, at its range or before it. Without that it would not be found again.
    pub(crate) since: usize,
    pub(crate) what: What,
}

impl Hit {
    /// What is found by itself.
    pub(crate) fn new(range: Range<usize>, what: What) -> Self {
        Self { since: range.start, range, what }
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.range.start < other.range.end && other.range.start < self.range.end
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Entity(Entity),
    Secret(Certainty),
    /// On the list of the rule with this number.
    Word(usize),
    SystemPrompt,
    /// The pseudonym with this number, which stands for a value.
    Pseudonym(usize),
}

/// How sure it is that something is a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Certainty {
    /// It has the form of some issuer's secrets.
    Form,
    /// Only what stands before it says so.
    Context,
}

impl What {
    /// What stands for it in a text.
    pub(crate) const fn tag(self) -> &'static str {
        match self {
            Self::Entity(entity) => entity.tag(),
            Self::Secret(_) => "SECRET",
            Self::Word(_) => "WORD",
            Self::SystemPrompt => "SYSTEM_PROMPT",
            Self::Pseudonym(_) => "",
        }
    }

    pub(crate) const fn entity(self) -> Option<Entity> {
        match self {
            Self::Entity(entity) => Some(entity),
            _ => None,
        }
    }

    /// How sure it is, for people who compare scores.
    pub(crate) const fn score(self) -> f32 {
        match self {
            Self::Entity(Entity::Email) => 0.95,
            Self::Entity(Entity::Phone) => 0.85,
            Self::Entity(Entity::Person) => 0.7,
            Self::Secret(Certainty::Context) => 0.8,
            _ => 1.0,
        }
    }
}

/// Where the search goes on after a refused candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    /// One character after its beginning. For candidates of limited length only: the cost is quadratic in it.
    Inside,
    /// After its end.
    Behind,
    /// After the first of these characters in it; what stands behind that may begin another one.
    BehindFirst([char; 3]),
}

/// Looks for candidates; what `accept` makes of one is a hit.
pub(crate) fn each(
    regex: &Regex,
    view: View<'_>,
    resume: Resume,
    hits: &mut Vec<Hit>,
    mut accept: impl FnMut(Range<usize>) -> Option<(Range<usize>, What)>,
) {
    let mut at = view.from;
    while let Some(found) = regex.find_at(view.text, at) {
        let one_on = found.start() + view.after(found.start()).map_or(1, char::len_utf8);
        match accept(found.range()) {
            Some((range, what)) => {
                at = range.end.max(one_on);
                hits.push(Hit { range, since: found.start(), what });
            }
            None => {
                at = one_on.max(match resume {
                    Resume::Inside => one_on,
                    Resume::Behind => found.end(),
                    Resume::BehindFirst(marks) => found.as_str().find(marks).map_or(found.end(), |mark| found.start() + mark + 1),
                });
            }
        }
        if at > view.text.len() {
            break;
        }
    }
}

/// Where begins what is not decided yet: what may still become a match, or a match that may still grow. `begun` matches every
/// beginning of a match at the end of a text, `hits` are what the same search found.
pub(crate) fn undecided(view: View<'_>, begun: &Regex, hits: &[Hit]) -> usize {
    let len = view.text.len();
    if view.closes {
        return len;
    }
    let growing = hits.iter().filter(|hit| hit.range.end == len).map(|hit| hit.since).min().unwrap_or(len);
    let begins = begun.find(view.text).map_or(len, |found| found.start());
    let known = hits.iter().any(|hit| hit.range.start >= begins);
    let begins = if known { begins } else { begins.max(view.text.floor_char_boundary(len.saturating_sub(LONGEST_BEGINNING))) };
    begins.min(growing)
}

/// Puts hits in order and drops those inside another one of the same kind: who forbids `a` and `a b` forbids `a b` once.
pub(crate) fn tidy(hits: &mut Vec<Hit>) {
    hits.sort_by_key(|hit| (hit.range.start, Reverse(hit.range.end)));
    let mut kept: Vec<Hit> = Vec::with_capacity(hits.len());
    for hit in hits.drain(..) {
        let covers = |other: &&Hit| other.what == hit.what && other.range.end >= hit.range.end;
        // Only the last few can reach so far; a longer look back would be quadratic.
        if !kept.iter().rev().take(16).any(|other| covers(&other)) {
            kept.push(hit);
        }
    }
    *hits = kept;
}

/// The places to be changed, from hits in order: those that overlap become one, so that no part of either remains.
pub(crate) fn places<'a>(hits: impl Iterator<Item = &'a Hit>) -> Vec<Hit> {
    let mut places: Vec<Hit> = Vec::new();
    for hit in hits {
        match places.last_mut().filter(|last| hit.range.start < last.range.end) {
            Some(last) => {
                last.range.end = last.range.end.max(hit.range.end);
                if matches!(last.what, What::Pseudonym(_)) {
                    last.what = hit.what;
                }
            }
            None => places.push(hit.clone()),
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::{Hit, View, What, places, tidy};

    fn hit(start: usize, end: usize, what: What) -> Hit {
        Hit::new(start..end, what)
    }

    #[test]
    fn whole_words_end_at_letters_of_any_script() {
        let view = View::whole("größe ab_c");
        assert!(view.alone(&(0..7)), "größe");
        assert!(!view.alone(&(4..7)), "ße");
        assert!(!view.alone(&(8..10)), "ab before an underscore");
        assert!(!View { opens: false, ..view }.alone(&(0..7)), "the word began earlier");
    }

    #[test]
    fn looking_back_ends_at_a_word() {
        let view = View { from: 14, ..View::whole("eins zwei drei vier") };
        assert_eq!((view.back(100), view.back(8), view.back(3)), (0, 9, 14));
        assert!(view.continues(2) && !view.continues(5) && !view.continues(0));
    }

    #[test]
    fn parts_of_numbers_are_glued() {
        for (text, range) in [("1.234", 2..5), ("17/2024", 0..2), ("2024-01", 0..4)] {
            assert!(View::whole(text).glued(&range), "{text}");
        }
        for (text, range) in [("Nr.234", 3..6), ("17, 18", 0..2), ("17.", 0..2)] {
            assert!(!View::whole(text).glued(&range), "{text}");
        }
    }

    #[test]
    fn what_overlaps_is_changed_as_one() {
        let (a, b) = (What::Word(0), What::Word(1));
        let hits = [hit(0, 4, What::Pseudonym(0)), hit(2, 6, a), hit(6, 8, b)];
        assert_eq!(places(hits.iter()), [hit(0, 6, a), hit(6, 8, b)]);
    }

    #[test]
    fn a_part_of_the_same_is_not_counted() {
        let (a, b) = (What::Word(0), What::Word(1));
        let mut hits = vec![hit(0, 3, a), hit(0, 7, a), hit(4, 7, b)];
        tidy(&mut hits);
        assert_eq!(hits, [hit(0, 7, a), hit(4, 7, b)]);
    }
}
