//! What stands for values on their way to the model, and how answers get the values back.

use crate::{
    policy::Entity,
    view::{Hit, View, What},
};
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fmt,
};

/// Bytes of a pseudonym, with room for backslashes.
const LONGEST: usize = 48;

/// The pseudonyms of one request, like `[IBAN_1]`: the same value has the same one wherever it stands.
///
/// It holds what people wrote: keep it as long as the answer takes, and write it nowhere. Its [`Debug`](fmt::Debug) says only
/// how many there are.
#[derive(Clone, Default)]
pub struct Pseudonyms {
    entries: Vec<Entry>,
    /// By tag and the value as it is compared.
    by_value: HashMap<(&'static str, String), usize>,
    by_name: HashMap<String, usize>,
    /// Numbers given so far, by tag.
    numbers: HashMap<&'static str, usize>,
    /// Names that the texts contain already.
    taken: HashSet<String>,
}

#[derive(Clone)]
struct Entry {
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

    /// Gives away no name that the text contains: who wrote `[IBAN_1]` himself gets it back as it is.
    pub(crate) fn avoid(&mut self, text: &str) {
        self.taken.extend(text.match_indices('[').filter_map(|(at, _)| bracketed(&text[at..])).map(|(name, _)| name.into_owned()));
    }

    /// The pseudonym of a value. `returns`: an answer may say it; once allowed, it stays so.
    pub(crate) fn of(&mut self, what: What, value: &str, returns: bool) -> &str {
        let tag = what.tag();
        let index = *self.by_value.entry((tag, comparable(what, value))).or_insert_with(|| {
            let number = self.numbers.entry(tag).or_default();
            let name = loop {
                *number += 1;
                let name = format!("[{tag}_{number}]");
                if !self.taken.contains(&name) {
                    break name;
                }
            };
            self.by_name.insert(name.clone(), self.entries.len());
            self.entries.push(Entry { name, value: value.to_owned(), returns: false });
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
        for (at, _) in view.text[view.from..].match_indices('[') {
            let at = view.from + at;
            let rest = &view.text[at..];
            match bracketed(rest) {
                Some((name, length)) => {
                    let known = self.by_name.get(&*name).filter(|index| self.entries[**index].returns);
                    hits.extend(known.map(|index| Hit::new(at..at + length, What::Pseudonym(*index))));
                }
                None if view.closes || rest.len() > LONGEST => {}
                None => {
                    let beginning = plain(rest.trim_end_matches('\\'));
                    if self.entries.iter().any(|entry| entry.name.starts_with(&*beginning)) {
                        return at;
                    }
                }
            }
        }
        len
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

/// What stands in brackets at the beginning of `text`, and its length there.
fn bracketed(text: &str) -> Option<(Cow<'_, str>, usize)> {
    let end = text.bytes().take(LONGEST).position(|byte| byte == b']')?;
    Some((plain(&text[..=end]), end + 1))
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
    use super::Pseudonyms;
    use crate::{
        policy::Entity,
        view::{Certainty, View, What},
    };

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
        assert_eq!(names.restore("[IBAN_1], [IBAN\\_2] [IBAN_3] [PERSON_1", false), "DE89 3704, DE89 3705 [IBAN_3] [PERSON_1");
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
        for (text, kept) in
            [("a [", "["), ("a [IBA", "[IBA"), ("a [IBAN\\", "[IBAN\\"), ("a [IBAN_1", "[IBAN_1"), ("a [x", ""), ("[IBAN_1]", "")]
        {
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
