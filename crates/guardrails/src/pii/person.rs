//! Names of people, by what stands around them: a title, an introduction, a label, the end of a letter, or a first name.
//!
//! Every German noun has a capital letter, so a capital alone says nothing. A name is therefore taken too short rather than
//! too often: what follows a title or a first name is a part of the name only if it does not look like a noun.

use super::{
    entity,
    names::{begins_given, given, is_given, is_nounlike, is_other, is_place, is_role, may_be_given, may_be_surname},
};
use crate::{
    policy::Entity,
    runs::Runs,
    sieve::Sieve,
    tokens::USUAL_WORD,
    view::{Hit, View},
};
use std::sync::LazyLock;

/// Capitalised words of one name.
const MOST_WORDS: usize = 4;
/// Words of one name, with particles and initials.
const MOST_PARTS: usize = 8;
/// Bytes of one of them.
const LONGEST_WORD: usize = 40;
/// Bytes before the search in which something may say that a name follows.
const LOOK_BACK: usize = 96;
const TITLES: &[&str] = &[
    "Herr", "Herrn", "Frau", "Hr", "Fr", "Dr", "Prof", "Mr", "Mrs", "Ms", "Mx", "Miss", "Madame", "Monsieur", "Familie", "Eheleute", "gez",
    "Dipl", "Ing",
];
/// They stand between a title and a name only.
const DEGREES: &[&str] = &["med", "jur", "phil", "rer", "nat", "h", "c", "habil", "oec", "pol", "theol", "vet"];
const PARTICLES: &[&str] =
    &["von", "van", "de", "der", "den", "dem", "di", "da", "del", "della", "ten", "ter", "zu", "el", "al", "ben", "bin", "le", "la"];
/// Particles that stand behind another one only.
const INNER_PARTICLES: &[&str] = &["der", "den", "dem"];
const LABELS: &[&str] = &["vorname", "vornamen", "nachname", "familienname", "geburtsname", "rufname", "surname", "lastname"];
/// They may introduce other things than people, so they need a first name and a surname.
const PAIR_LABELS: &[&str] = &[
    "name",
    "antragsteller",
    "antragstellerin",
    "ansprechpartner",
    "ansprechpartnerin",
    "sachbearbeiter",
    "sachbearbeiterin",
    "absender",
    "empfänger",
    "mieter",
    "vermieter",
    "eigentümer",
    "applicant",
    "contact",
    "unterzeichner",
    "bevollmächtigter",
];
const GREETINGS: &[&str] = &["hallo", "hi", "hey", "hello", "dear", "liebe", "lieber", "moin", "servus", "i'm", "i’m"];
const GOODBYES: &[&str] =
    &["grüßen", "grüssen", "gruß", "gruss", "grüße", "grüsse", "hochachtungsvoll", "regards", "sincerely", "wishes", "yours"];
/// The last words of what introduces a name in a sentence: “mein Name ist”. [`Reader::lead`] knows the others.
const INTRODUCING: &[&str] = &["ist", "is", "lautet", "heiße", "heisse", "bin", "am", "name"];

static LEADS: LazyLock<Sieve> = LazyLock::new(|| Sieve::of(leads()));
static LEADS_OR_GIVEN: LazyLock<Sieve> = LazyLock::new(|| Sieve::of(leads().chain(given())));

fn leads() -> impl Iterator<Item = &'static str> {
    [TITLES, LABELS, PAIR_LABELS, GREETINGS, GOODBYES, INTRODUCING].into_iter().flatten().copied()
}

/// What says that a name follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lead {
    Title,
    /// “Mein Name ist”, “Nachname:”.
    Introduction,
    /// “Hallo”, “ich bin”: a known first name has to follow.
    Greeting,
    /// “Antragsteller:”: two names have to follow.
    Pair,
    /// The name itself, by its first name.
    GivenName,
}

struct Word<'a> {
    start: usize,
    end: usize,
    text: &'a str,
    /// It may say that a name follows, or begin one. Hardly any other has this, so most need no second look.
    leads: bool,
}

enum Reading {
    Nothing,
    /// From word to byte, and the word after it.
    Name {
        end: usize,
        next: usize,
    },
    /// The text ends where it may go on.
    Open,
}

/// Adds names; says where begins what is not decided yet.
pub(super) fn scan(view: View<'_>, hits: &mut Vec<Hit>) -> usize {
    let from = view.back(LOOK_BACK);
    let reader = Reader { view, words: words(view.text, from) };
    let mut undecided = view.text.len();
    let mut at = usize::from(view.continues(from) && reader.words.first().is_some_and(|word| word.start == from));
    while at < reader.words.len() {
        // The last word may go on as another one.
        let looks = at + 1 == reader.words.len() || reader.words[at].leads;
        let Some((first, lead)) = looks.then(|| reader.lead(at)).flatten() else {
            at += 1;
            continue;
        };
        let start = reader.words[first].start;
        match reader.name(first, lead) {
            Reading::Name { end, next } => {
                hits.push(Hit::new(start..end, entity(Entity::Person)));
                at = next;
            }
            Reading::Open => {
                undecided = undecided.min(start);
                at += 1;
            }
            Reading::Nothing => at += 1,
        }
    }
    undecided
}

/// Whether a whole word may say that a name follows, or begin one.
fn may_lead(word: &str) -> bool {
    LEADS.passes(word) || is_capital(word) && is_given(word)
}

/// Runs of letters and digits from a byte on, with hyphens and apostrophes inside.
fn words(text: &str, from: usize) -> Vec<Word<'_>> {
    let mut words = Vec::with_capacity((text.len() - from) / USUAL_WORD);
    let leads = &*LEADS_OR_GIVEN;
    let bytes = text.as_bytes();
    let mut runs = Runs::<true>::of(text);
    let mut at = from;
    while at < text.len() {
        let start = at;
        at = runs.end(start);
        // Most words are of ASCII, and end at such a character: it is in no word.
        let over = bytes.get(at).is_none_or(|byte| byte.is_ascii() && !is_joint(char::from(*byte)));
        if at > start && over {
            let text = &text[start..at];
            words.push(Word { start, end: at, text, leads: leads.passes_ascii(text) && may_lead(text) });
            at += 1;
            continue;
        }
        let joint = runs.western_end(at);
        at = word_end(text, &mut runs, joint, start);
        if at > start {
            let text = &text[start..at];
            // A first name may be a part of it.
            words.push(Word { start, end: at, text, leads: (at > joint || leads.passes(text)) && may_lead(text) });
        }
        at += char_at(text, at).map_or(0, char::len_utf8);
    }
    words
}

/// Where ends the word that begins at `start` and goes on at `at`; at `start`, if none does.
fn word_end(text: &str, runs: &mut Runs<'_, true>, mut at: usize, start: usize) -> usize {
    let bytes = text.as_bytes();
    loop {
        at = runs.western_end(at);
        // Nearly all words end at a character of ASCII, which does not have to be decoded.
        let Some(byte) = bytes.get(at) else { return at };
        if byte.is_ascii() && (!is_joint(char::from(*byte)) || at == start) {
            return at;
        }
        let Some(c) = char_at(text, at) else { return at };
        let next = at + c.len_utf8();
        let inside = at > start && is_joint(c) && char_at(text, next).is_some_and(char::is_alphanumeric);
        if !c.is_alphanumeric() && !inside {
            return at;
        }
        at = next;
    }
}

fn char_at(text: &str, at: usize) -> Option<char> {
    text[at..].chars().next()
}

const fn is_joint(c: char) -> bool {
    matches!(c, '-' | '\'' | '’')
}

struct Reader<'a> {
    view: View<'a>,
    words: Vec<Word<'a>>,
}

impl Reader<'_> {
    /// What stands between a word and the next one.
    fn gap(&self, word: usize) -> &str {
        let end = self.words.get(word + 1).map_or(self.view.text.len(), |next| next.start);
        &self.view.text[self.words[word].end..end]
    }

    /// The next word, if nothing but a space or the full stop of an abbreviation is between.
    fn beside(&self, word: usize) -> Option<usize> {
        let gap = self.gap(word);
        let near = !gap.is_empty() && gap.len() <= 4 && gap.chars().all(|c| matches!(c, ' ' | '\u{a0}' | '.'));
        (near && word + 1 < self.words.len()).then_some(word + 1)
    }

    /// The next word, if a colon or nothing but spaces is between.
    fn after_colon(&self, word: usize, required: bool) -> Option<usize> {
        let gap = self.gap(word);
        let rest = gap.strip_prefix(':');
        let spaces = rest.unwrap_or(gap);
        let near = !gap.is_empty() && gap.len() <= 8 && spaces.chars().all(|c| matches!(c, ' ' | '\u{a0}' | '\t'));
        (near && (rest.is_some() || !required) && word + 1 < self.words.len()).then_some(word + 1)
    }

    fn lower(&self, at: Option<usize>) -> Option<String> {
        Some(self.words.get(at?)?.text.to_lowercase())
    }

    /// The word that a name begins with, if the word at `at` or the ones before it say that one follows.
    fn lead(&self, at: usize) -> Option<(usize, Lead)> {
        let word = self.words[at].text;
        if TITLES.contains(&word) && !self.unfinished(at) {
            let mut first = self.beside(at)?;
            while self.is_title(first) {
                first = self.beside(first)?;
            }
            return Some((first, Lead::Title));
        }
        if word.starts_with(char::is_uppercase) && (is_given(word) || self.unfinished(at) && begins_given(word)) {
            return Some((at, Lead::GivenName));
        }
        let lower = self.lower(Some(at))?;
        let labels = self.gap(at).starts_with(':');
        let before = || self.lower(at.checked_sub(1));
        let is_before = |word: &str| before().as_deref() == Some(word);
        match lower.as_str() {
            "ist" | "is" | "lautet" if is_before("name") => {
                let mine = matches!(self.lower(at.checked_sub(2)).as_deref(), Some("mein" | "my"));
                mine.then_some((self.after_colon(at, false)?, Lead::Introduction))
            }
            "heiße" | "heisse" if is_before("ich") => Some((self.beside(at)?, Lead::Introduction)),
            "bin" if is_before("ich") => Some((self.beside(at)?, Lead::Greeting)),
            "am" if is_before("i") => Some((self.beside(at)?, Lead::Greeting)),
            "name" if matches!(before().as_deref(), Some("first" | "last" | "family" | "given")) => {
                Some((self.after_colon(at, true)?, Lead::Introduction))
            }
            label if labels && LABELS.contains(&label) => Some((self.after_colon(at, true)?, Lead::Introduction)),
            label if labels && PAIR_LABELS.contains(&label) => Some((self.after_colon(at, true)?, Lead::Pair)),
            greeting if GREETINGS.contains(&greeting) => Some((self.beside(at)?, Lead::Greeting)),
            goodbye if GOODBYES.contains(&goodbye) => self.signature(at),
            _ => None,
        }
    }

    /// A word that stands between a title and a name.
    fn is_title(&self, at: usize) -> bool {
        let word = self.words[at].text;
        !self.unfinished(at) && (TITLES.contains(&word) || DEGREES.contains(&word) || is_role(word))
    }

    /// The line after the end of a letter.
    fn signature(&self, at: usize) -> Option<(usize, Lead)> {
        let gap = self.gap(at);
        let fits = gap.contains('\n') && gap.chars().all(|c| c.is_whitespace() || c == ',');
        (fits && gap.len() <= 8 && at + 1 < self.words.len()).then_some((at + 1, Lead::Pair))
    }

    /// The text may go on with the word.
    fn unfinished(&self, at: usize) -> bool {
        let rest = &self.view.text[self.words[at].end..];
        !self.view.closes && (rest.is_empty() || rest.chars().count() == 1 && rest.chars().all(is_joint))
    }

    fn name(&self, first: usize, lead: Lead) -> Reading {
        let given = may_be_given(self.words[first].text);
        let mut capitals = 0;
        let mut name = None;
        let mut after_particle = false;
        let mut at = Some(first);
        let mut next = first;
        while let Some(here) = at.filter(|_| capitals < MOST_WORDS && next - first < MOST_PARTS) {
            let word = &self.words[here];
            if self.unfinished(here) {
                if may_go_on(word.text) && word.text.len() <= LONGEST_WORD {
                    return Reading::Open;
                }
                break;
            }
            let particle = PARTICLES.contains(&word.text) && (after_particle || !INNER_PARTICLES.contains(&word.text));
            let initial = is_capital(word.text) && word.text.chars().count() == 1 && self.gap(here).starts_with('.');
            let owner = word.text.strip_suffix("'s").or(word.text.strip_suffix("’s"));
            if !particle && !initial {
                let text = owner.unwrap_or(word.text);
                if !fits(text, here == first, lead, given) {
                    break;
                }
                capitals += 1;
                name = Some(word.start + text.len());
            }
            after_particle = particle;
            next = here + 1;
            at = self.joined(here, initial).filter(|_| owner.is_none());
        }
        if next == self.words.len() && next - first < MOST_PARTS && self.trails(next - 1) {
            return Reading::Open;
        }
        let enough = match lead {
            Lead::Title | Lead::Introduction => true,
            Lead::Greeting => given,
            Lead::Pair | Lead::GivenName => capitals > 1,
        };
        match name.filter(|_| enough && !self.names_a_place(next)) {
            Some(end) => Reading::Name { end, next },
            None => Reading::Nothing,
        }
    }

    /// The next word of the same name, perhaps.
    fn joined(&self, at: usize, initial: bool) -> Option<usize> {
        let gap = self.gap(at);
        let gap = if initial { gap.trim_start_matches('.') } else { gap };
        (matches!(gap, " " | "\u{a0}" | "" if initial || !gap.is_empty()) && at + 1 < self.words.len()).then_some(at + 1)
    }

    /// The text ends after this word, in the middle of what may be a name.
    fn trails(&self, last: usize) -> bool {
        let rest = self.gap(last);
        let initial = self.words[last].text.chars().count() == 1;
        !self.view.closes && (matches!(rest, " " | "\u{a0}") || initial && matches!(rest, "." | ". " | ".\u{a0}"))
    }

    /// The word at `at` makes the name before it a place's.
    fn names_a_place(&self, at: usize) -> bool {
        let beside = at.checked_sub(1).and_then(|last| self.joined(last, false));
        beside.is_some_and(|next| is_place(self.words[next].text))
    }
}

/// Whether a word that goes on after `beginning` may be a part of a name.
fn may_go_on(beginning: &str) -> bool {
    is_capital(beginning) || PARTICLES.iter().any(|particle| particle.starts_with(beginning))
}

fn is_capital(word: &str) -> bool {
    word.starts_with(char::is_uppercase)
}

fn fits(word: &str, first: bool, lead: Lead, given: bool) -> bool {
    let titled = first && lead == Lead::Title;
    let count = word.chars().count();
    let letters = word.chars().all(|c| c.is_alphabetic() || is_joint(c));
    let other = is_other(word) && !(titled && may_be_surname(word));
    if !is_capital(word) || !letters || count < 2 || word.len() > LONGEST_WORD || other {
        return false;
    }
    // An abbreviation, unless something says that a name stands here.
    let shouted = !word.chars().any(char::is_lowercase);
    if shouted && (count < 4 || first && lead == Lead::GivenName) {
        return false;
    }
    titled || first && given || !is_nounlike(word) && !is_role(word)
}

#[cfg(test)]
mod tests {
    use super::{Reader, is_joint, words};
    use crate::{tricky, view::View};

    /// Character by character.
    fn plain_words(text: &str) -> Vec<&str> {
        let mut words = Vec::new();
        let mut rest = text.char_indices().peekable();
        while let Some((start, c)) = rest.next() {
            if !c.is_alphanumeric() {
                continue;
            }
            let mut end = start + c.len_utf8();
            while let Some((at, c)) = rest.peek().copied() {
                let inside = is_joint(c) && text[at + c.len_utf8()..].chars().next().is_some_and(char::is_alphanumeric);
                if !c.is_alphanumeric() && !inside {
                    break;
                }
                end = at + c.len_utf8();
                rest.next();
            }
            words.push(&text[start..end]);
        }
        words
    }

    #[test]
    fn words_end_where_they_do_character_by_character() {
        for text in tricky::texts() {
            let words = words(&text, 0);
            assert!(words.iter().all(|word| &text[word.start..word.end] == word.text), "{text:?}");
            assert_eq!(words.iter().map(|word| word.text).collect::<Vec<_>>(), plain_words(&text), "{text:?}");
        }
    }

    #[test]
    fn every_word_that_leads_to_a_name_passes() {
        for text in tricky::texts() {
            let reader = Reader { view: View::whole(&text), words: words(&text, 0) };
            let missed = (0..reader.words.len()).find(|at| reader.lead(*at).is_some() && !reader.words[*at].leads);
            assert_eq!(missed, None, "{text:?}. If you are here because this failed: names go out unseen.");
        }
    }
}
