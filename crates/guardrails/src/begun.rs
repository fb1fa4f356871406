//! From a pattern to a pattern of its beginnings, so that a stream keeps back exactly what may still become a match.
//!
//! Searched at the end of a text, such a pattern is run backwards and stops at the first character that rules a match out:
//! its cost is the length of what is kept back, not of the text.

use regex::Regex;
use regex_syntax::hir::{Hir, HirKind, Repetition};

/// Matches, at the end of a text, the longest piece that one of the patterns may begin with; an empty one where there is
/// none. Conditions on what stands around, like `\b`, are kept where a pattern begins with them and are otherwise forgotten.
pub(crate) fn begun(patterns: &[&str]) -> Regex {
    let beginnings = patterns.iter().map(|pattern| beginnings(&regex_syntax::parse(pattern).expect("a valid pattern")));
    let any = Hir::alternation(beginnings.collect());
    Regex::new(&format!(r"(?:{any})\z")).expect("a valid pattern")
}

/// The same as `pattern`, for a pattern that is known to be right.
pub(crate) fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a valid pattern")
}

fn beginnings(pattern: &Hir) -> Hir {
    match pattern.kind() {
        HirKind::Empty | HirKind::Look(_) => Hir::empty(),
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0).unwrap_or_default();
            text.chars().rev().fold(Hir::empty(), |rest, c| maybe(Hir::concat(vec![one(c), rest])))
        }
        HirKind::Class(_) => maybe(pattern.clone()),
        HirKind::Repetition(repetition) => {
            let before =
                Repetition { min: 0, max: repetition.max.map(|max| max.saturating_sub(1)), greedy: true, sub: repetition.sub.clone() };
            Hir::concat(vec![Hir::repetition(before), beginnings(&repetition.sub)])
        }
        HirKind::Capture(capture) => beginnings(&capture.sub),
        HirKind::Concat(parts) => parts
            .iter()
            .rev()
            .fold(Hir::empty(), |rest, part| Hir::alternation(vec![beginnings(part), Hir::concat(vec![part.clone(), rest])])),
        HirKind::Alternation(ways) => Hir::alternation(ways.iter().map(beginnings).collect()),
    }
}

fn one(c: char) -> Hir {
    Hir::literal(c.encode_utf8(&mut [0; 4]).as_bytes())
}

fn maybe(pattern: Hir) -> Hir {
    Hir::repetition(Repetition { min: 0, max: Some(1), greedy: true, sub: Box::new(pattern) })
}

#[cfg(test)]
mod tests {
    use super::begun;

    #[track_caller]
    fn kept(pattern: &str, text: &str, kept: &str) {
        let regex = begun(&[pattern]);
        let from = regex.find(text).map_or(text.len(), |found| found.start());
        assert_eq!(&text[from..], kept, "{pattern} in {text:?}");
    }

    #[test]
    fn every_beginning_is_kept_and_nothing_else() {
        let pattern = r"(?-u:\b)sk-[a-z]{2,4}(?: ?[0-9]+)?é";
        for beginning in ["", "s", "sk", "sk-", "sk-a", "sk-abcd", "sk-ab ", "sk-ab 123", "sk-ab 1é", "sk-abé"] {
            kept(pattern, &format!("so, {beginning}"), beginning);
        }
        for over in ["sk-abcde", "sk-a1", "sk-ab 1 ", "ask", "sk-abé."] {
            kept(pattern, over, "");
        }
    }

    #[test]
    fn the_longest_beginning_counts() {
        kept("ab+c|bbb", "abb", "abb");
        kept("a.c", "xaa", "aa");
        kept(r"(?i)[a-z]+@b\.c", "write to someone", "someone");
        kept(r"(?i)[a-z]+@b\.c", "write to someone@", "someone@");
        kept(r"(?i)[a-z]+@b\.c", "write to someone@a", "a");
    }
}
