//! E-mail addresses: what RFC 5321 allows of them and people use, also `name[at]domain.de`, which hides them from others.

use super::entity;
use crate::{
    begun::{begun, regex},
    policy::Entity,
    view::{Hit, Resume, View, each, undecided},
};
use regex::Regex;
use std::{ops::Range, sync::LazyLock};

/// Bytes before the `@`, RFC 5321.
const LONGEST_LOCAL: usize = 64;
/// Bytes in all, RFC 5321.
const LONGEST: usize = 254;
/// How far a link may begin before the address in it.
const LOOK_BACK: usize = 128;
/// What divides an address, or how that begins.
const MARKS: [char; 3] = ['@', '[', '('];
/// Ends of file names that look like an address: `icon@2x.png`.
const FILES: [&str; 10] = ["png", "jpg", "jpeg", "gif", "svg", "webp", "pdf", "css", "js", "ts"];

const PATTERN: &str = concat!(
    r"[0-9A-Za-zÀ-ɏ_%+-]+(?:\.[0-9A-Za-zÀ-ɏ_%+-]+)*",
    r"(?:@|\[at\]|\(at\))",
    r"[0-9A-Za-zÀ-ɏ](?:[0-9A-Za-zÀ-ɏ-]*)(?:\.[0-9A-Za-zÀ-ɏ-]+)*\.[A-Za-z]{2,24}",
);

/// What divides an address, whole: most texts have none.
static DIVIDED: LazyLock<Regex> = LazyLock::new(|| regex(r"@|\[at\]|\(at\)"));
static EMAIL: LazyLock<Regex> = LazyLock::new(|| regex(PATTERN));
static BEGUN: LazyLock<Regex> = LazyLock::new(|| begun(&[PATTERN]));

pub(super) fn scan(view: View<'_>, hits: &mut Vec<Hit>) -> usize {
    let from = hits.len();
    if DIVIDED.is_match_at(view.text, view.from) {
        each(&EMAIL, view, Resume::BehindFirst(MARKS), hits, |range| is_address(view, &range).then(|| (range, entity(Entity::Email))));
    }
    undecided(view, &BEGUN, &hits[from..])
}

fn is_address(view: View<'_>, range: &Range<usize>) -> bool {
    let address = &view.text[range.clone()];
    let local = address.find(MARKS).unwrap_or_default();
    let domain = address.rsplit('.').next().unwrap_or_default();
    let fits = local <= LONGEST_LOCAL && address.len() <= LONGEST && view.alone(range);
    // `git@host:path` names a repository, and what stands before the `@` of a link is no person.
    fits && &address[..local] != "git" && !FILES.contains(&domain.to_ascii_lowercase().as_str()) && !in_link(view, range.start)
}

fn in_link(view: View<'_>, at: usize) -> bool {
    let from = view.text.floor_char_boundary(at.saturating_sub(LOOK_BACK));
    let before = &view.text[from..at];
    let token = before.rfind(char::is_whitespace).map_or(before, |space| &before[space..]);
    token.contains("://")
}

#[cfg(test)]
mod tests {
    use super::{DIVIDED, EMAIL};
    use crate::tricky;

    #[test]
    fn a_text_without_what_divides_addresses_has_none() {
        for text in tricky::texts() {
            assert!(DIVIDED.is_match(&text) || !EMAIL.is_match(&text), "{text:?}");
        }
        assert!(DIVIDED.is_match("@") && DIVIDED.is_match("a[at]b") && DIVIDED.is_match("a(at)") && !DIVIDED.is_match("(a) [b]"));
    }
}
