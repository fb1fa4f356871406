//! What stands for values on their way to the model, and how answers get the values back.

use crate::{
    policy::Entity,
    view::{Hit, View, What, joins},
};
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fmt,
};

/// Bytes of a pseudonym, with room for backslashes.
const LONGEST: usize = 48;

/// The pseudonyms of one request, like `[IBAN_1]`: the same value has the same one wherever it stands. Models drop the
/// brackets, so in an answer `IBAN_1` is the same, if it is a whole word.
///
/// It holds what people wrote: keep it as long as the answer takes, and write it nowhere. Its [`Debug`](fmt::Debug) says only
/// how many there are.
#[derive(Clone, Default)]
pub struct Pseudonyms {
    entries: Vec<Entry>,
    /// By tag and the value as it is compared.
    by_value: HashMap<(&'static str, String), usize>,
    /// By name, without brackets.
    by_name: HashMap<String, usize>,
    /// Numbers given so far, by tag.
    numbers: HashMap<&'static str, usize>,
    /// Names that the texts contain already, without brackets.
    taken: HashSet<String>,
}

#[derive(Clone)]
struct Entry {
    /// In brackets.
    name: String,
    value: String,
    /// An answer gets the value back.
    returns: bool,
}

impl Pseudonyms {
    /// Nothing was replaced.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// So many different values were replaced.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// A text with the values in place of the pseudonyms, for answers that come in one piece. With `json` the values are
    /// escaped as they have to be within a string of JSON.
    #[must_use]
    pub fn restore(&self, text: &str, json: bool) -> String {
        let mut hits = Vec::new();
        self.scan(View::whole(text), &mut hits);
        let mut restored = String::with_capacity(text.len());
        let mut at = 0;
        for hit in hits {
            restored.push_str(&text[at..hit.range.start]);
            if let What::Pseudonym(index) = hit.what {
                restored.push_str(&self.value(index, json));
            }
            at = hit.range.end;
        }
        restored.push_str(&text[at..]);
        restored
    }

    /// Gives away no name that the text contains: who wrote `[IBAN_1]` or `IBAN_1` himself gets it back as it is.
    pub(crate) fn avoid(&mut self, text: &str) {
        let mut at = 0;
        // Every name has one of these, and few words have.
        while let Some(skipped) = text[at..].find('_') {
            let start = at + beginning(&text[at..at + skipped]);
            at = start + word(&text[start..]);
            let name = plain(&text[start..at]);
            if name.ends_with(|c: char| c.is_ascii_digit()) {
                self.taken.insert(name.into_owned());
            }
        }
    }

    /// The pseudonym of a value. `returns`: an answer may say it; once allowed, it stays so.
    pub(crate) fn of(&mut self, what: What, value: &str, returns: bool) -> &str {
        let tag = what.tag();
        let index = *self.by_value.entry((tag, comparable(what, value))).or_insert_with(|| {
            let number = self.numbers.entry(tag).or_default();
            let name = loop {
                *number += 1;
                let name = format!("{tag}_{number}");
                if !self.taken.contains(&name) {
                    break name;
                }
            };
            self.entries.push(Entry { name: format!("[{name}]"), value: value.to_owned(), returns: false });
            self.by_name.insert(name, self.entries.len() - 1);
            self.entries.len() - 1
        });
        let entry = &mut self.entries[index];
        entry.returns |= returns;
        &entry.name
    }

    /// Adds the pseudonyms in an answer; says where begins what may become one.
    pub(crate) fn scan(&self, view: View<'_>, hits: &mut Vec<Hit>) -> usize {
        let len = view.text.len();
        if self.is_empty() {
            return len;
        }
        let mut at = view.from;
        while let Some(skipped) = view.text[at..].find(|c| c == '[' || joins(c)) {
            at += skipped;
            let rest = &view.text[at..];
            let brackets = rest.starts_with('[');
            let length = if brackets { bracketed(rest) } else { Some(word(rest)).filter(|length| view.closes || !open(&rest[*length..])) };
            // What continues a word is not the beginning of a name.
            let begins = brackets || !view.continues(at);
            if length.is_none() && begins && !view.closes && self.may_become(rest, brackets) {
                return at;
            }
            let name = length.map(|length| plain(if brackets { &rest[1..length - 1] } else { &rest[..length] }));
            let known = name.filter(|_| begins).and_then(|name| self.by_name.get(&*name)).filter(|index| self.entries[**index].returns);
            let length = length.unwrap_or(rest.len());
            hits.extend(known.map(|index| Hit::new(at..at + length, What::Pseudonym(*index))));
            // Something in brackets that is no name may contain one.
            at += if brackets && known.is_none() { 1 } else { length };
        }
        len
    }

    /// What stands at the end of a text may go on as a name.
    fn may_become(&self, end: &str, brackets: bool) -> bool {
        if end.len() > LONGEST {
            return false;
        }
        let beginning = plain(end.trim_end_matches('\\'));
        self.entries.iter().any(|entry| entry.name[usize::from(!brackets)..].starts_with(&*beginning))
    }

    /// The value of a pseudonym that was found.
    pub(crate) fn value(&self, index: usize, json: bool) -> Cow<'_, str> {
        let Some(Entry { value, .. }) = self.entries.get(index) else { return Cow::Borrowed("") };
        match serde_json::to_string(value) {
            Ok(quoted) if json => Cow::Owned(quoted[1..quoted.len() - 1].to_owned()),
            _ => Cow::Borrowed(value),
        }
    }
}

impl fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pseudonyms").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Bytes of what stands in brackets at the beginning of `text`, with them.
fn bracketed(text: &str) -> Option<usize> {
    text.bytes().take(LONGEST).position(|byte| byte == b']').map(|end| end + 1)
}

/// Where begins the word at the end of `text`, if an underscore follows.
fn beginning(text: &str) -> usize {
    let (mut start, mut next) = (text.len(), '_');
    for (at, c) in text.char_indices().rev() {
        if joins(c) {
            start = at;
        } else if c != '\\' || next != '_' {
            break;
        }
        next = c;
    }
    start
}

/// Bytes of the word at the beginning of `text`.
fn word(text: &str) -> usize {
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let escapes = c == '\\' && chars.peek().is_some_and(|(_, next)| *next == '_');
        if !joins(c) && !escapes {
            return at;
        }
    }
    text.len()
}

/// A word before this may go on with what comes next.
fn open(after: &str) -> bool {
    matches!(after, "" | "\\")
}

/// Models escape what has a meaning in Markdown: `[IBAN\_1]`.
fn plain(text: &str) -> Cow<'_, str> {
    if text.contains('\\') { Cow::Owned(text.replace("\\_", "_")) } else { Cow::Borrowed(text) }
}

/// A value such that two ways to write it are equal.
fn comparable(what: What, value: &str) -> String {
    match what {
        What::Entity(Entity::Email) | What::Word(_) => value.to_lowercase(),
        What::Entity(Entity::Person) => value.split_whitespace().collect::<Vec<_>>().join(" "),
        What::Entity(_) => value.chars().filter(|c| c.is_alphanumeric() || *c == '+').flat_map(char::to_uppercase).collect(),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Pseudonyms, plain, word};
    use crate::{
        policy::Entity,
        tricky,
        view::{Certainty, View, What, joins},
    };
    use std::collections::HashSet;

    const IBAN: What = What::Entity(Entity::Iban);
    const SECRET: What = What::Secret(Certainty::Form);

    #[test]
    fn one_value_has_one_name_however_it_is_written() {
        let mut names = Pseudonyms::default();
        assert_eq!(names.of(IBAN, "DE89 3704", true), "[IBAN_1]");
        assert_eq!(names.of(IBAN, "de893704", true), "[IBAN_1]");
        assert_eq!(names.of(IBAN, "DE89 3705", true), "[IBAN_2]");
        assert_eq!(names.of(What::Entity(Entity::Person), "Weber", true), "[PERSON_1]");
        assert_eq!((names.len(), names.is_empty()), (3, false));
        assert_eq!(names.restore("[IBAN_1], [IBAN\\_2] [IBAN_3] [PERSON_1", false), "DE89 3704, DE89 3705 [IBAN_3] [Weber");
    }

    #[test]
    fn a_name_without_brackets_is_one_if_it_is_a_whole_word() {
        let mut names = Pseudonyms::default();
        names.of(IBAN, "DE89", true);
        names.of(IBAN, "DE90", true);
        for (text, restored) in [
            ("IBAN_1", "DE89"),
            ("**IBAN_1**, (IBAN\\_2).", "**DE89**, (DE90)."),
            ("[IBAN_1, IBAN_2]", "[DE89, DE90]"),
            ("[[IBAN_1]]", "[DE89]"),
            ("IBAN_1\\", "DE89\\"),
            ("IBAN_12 IBAN_3 iban_1 xIBAN_1 üIBAN_1 IBAN_1a IBAN_1_2 IBAN_1\\_2 x\\_IBAN_1", ""),
        ] {
            let restored = if restored.is_empty() { text } else { restored };
            assert_eq!(names.restore(text, false), restored, "If you are here because this failed: people read placeholders.");
        }
    }

    #[test]
    fn names_that_occur_without_brackets_are_not_given() {
        let mut names = Pseudonyms::default();
        names.avoid("The column IBAN_1, and IBAN\\_2, but not XIBAN_3.");
        assert_eq!(names.of(IBAN, "a", true), "[IBAN_3]", "If you are here because this failed: foreign text is taken for ours.");
        assert_eq!(names.restore("IBAN_1 IBAN_2 IBAN_3", false), "IBAN_1 IBAN_2 a");
    }

    #[test]
    fn all_names_that_occur_are_seen() {
        let of_words = |text: &str| {
            let (mut names, mut at) = (HashSet::new(), 0);
            while let Some(skipped) = text[at..].find(joins) {
                at += skipped;
                let length = word(&text[at..]);
                let name = plain(&text[at..at + length]).into_owned();
                if name.contains('_') && name.ends_with(|c: char| c.is_ascii_digit()) {
                    names.insert(name);
                }
                at += length;
            }
            names
        };
        let more = ["_1", "a\\\\_1 b\\_\\_2", "\\_3_ x_4", "é_5\\_6"].map(str::to_owned);
        for text in tricky::texts().chain(more) {
            let mut names = Pseudonyms::default();
            names.avoid(&text);
            assert_eq!(names.taken, of_words(&text), "{text:?}. If you are here because this failed: foreign text is taken for ours.");
        }
    }

    #[test]
    fn names_that_occur_are_not_given() {
        let mut names = Pseudonyms::default();
        names.avoid("I wrote [IBAN_1] and [IBAN\\_3] and [IBAN_x] and [");
        assert_eq!(names.of(IBAN, "a", true), "[IBAN_2]");
        assert_eq!(names.of(IBAN, "b", true), "[IBAN_4]", "If you are here because this failed: foreign text is taken for ours.");
        assert_eq!(names.restore("[IBAN_1] [IBAN_2]", false), "[IBAN_1] a");
    }

    #[test]
    fn what_must_not_return_does_not() {
        let mut names = Pseudonyms::default();
        let name = names.of(SECRET, "hunter2", false).to_owned();
        assert_eq!(names.restore(&name, false), name, "If you are here because this failed: answers tell the operator's secrets.");
        names.of(SECRET, "hunter2", true);
        assert_eq!(names.restore(&name, false), "hunter2");
    }

    #[test]
    fn values_are_escaped_for_json() {
        let mut names = Pseudonyms::default();
        names.of(SECRET, "a\"b\\c\nd", true);
        assert_eq!(names.restore(r#"{"x":"[SECRET_1]"}"#, true), r#"{"x":"a\"b\\c\nd"}"#);
    }

    #[test]
    fn only_what_may_become_a_name_is_kept_back() {
        let mut names = Pseudonyms::default();
        names.of(IBAN, "DE89", true);
        for (text, kept) in [
            ("a [", "["),
            ("a [IBA", "[IBA"),
            ("a [IBAN\\", "[IBAN\\"),
            ("a [IBAN_1", "[IBAN_1"),
            ("a [x", ""),
            ("[IBAN_1]", ""),
            ("a IBA", "IBA"),
            ("a IBAN\\", "IBAN\\"),
            ("a IBAN_1", "IBAN_1"),
            ("a IBAN_1\\", "IBAN_1\\"),
            ("[x IBAN", "IBAN"),
            ("a IBAN_2", ""),
            ("aIBAN", ""),
            ("IBAN_1,", ""),
        ] {
            let from = names.scan(View { closes: false, ..View::whole(text) }, &mut Vec::new());
            assert_eq!(&text[from..], kept, "{text:?}");
        }
    }

    #[test]
    fn logs_never_show_values() {
        let mut names = Pseudonyms::default();
        names.of(IBAN, "DE89", true);
        let shown = format!("{names:?} {names:#?}");
        assert!(!shown.contains("DE89"), "{shown}. If you are here because this failed: personal data gets into logs.");
    }
}
