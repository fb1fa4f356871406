//! Ways of writing calls. Each takes what stands between the marks, and gives `None` if it is anything else.

pub mod gemma;
pub mod objects;
pub mod python;
pub mod sections;
pub mod tags;

/// How deep values may lie in each other; what is deeper is no call. JSON has its own limit, which is a little higher.
const DEPTH: usize = 64;

/// What stands behind each `mark`; `None` if there is anything before the first.
fn behind<'a>(text: &'a str, mark: &'static str) -> Option<impl Iterator<Item = &'a str>> {
    let mut pieces = text.split(mark);
    pieces.next()?.trim().is_empty().then_some(pieces)
}

/// What stands before `end`, which may be missing, and which nothing may follow.
fn up_to<'a>(text: &'a str, end: &str) -> Option<&'a str> {
    match text.split_once(end) {
        Some((before, after)) => after.trim().is_empty().then_some(before),
        None => Some(text),
    }
}

/// Whether a comma may stand before the end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastComma {
    Allowed,
    Wrong,
}

/// Lets `item` take what stands before `end`, one after the other with commas in between; gives what follows `end`.
/// `item` gives what follows what it has taken.
fn items<'a>(text: &'a str, end: char, last_comma: LastComma, mut item: impl FnMut(&'a str) -> Option<&'a str>) -> Option<&'a str> {
    let mut rest = text.trim_start();
    let mut may_end = true;
    loop {
        if let Some(after) = rest.strip_prefix(end).filter(|_| may_end) {
            return Some(after);
        }
        rest = item(rest)?.trim_start();
        if let Some(after) = rest.strip_prefix(end) {
            return Some(after);
        }
        rest = rest.strip_prefix(',')?.trim_start();
        may_end = last_comma == LastComma::Allowed;
    }
}
