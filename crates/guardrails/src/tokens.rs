//! Words of a text, and when two of them are the same.

use crate::{runs::Runs, sieve::Sieve};
use foldhash::HashMap;
use std::collections::BTreeSet;

/// Bytes from one word to the next one in most texts, or fewer: room is made for so many words.
pub(crate) const USUAL_WORD: usize = 5;

/// A word, or a character that is neither in a word nor space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) word: bool,
    /// All of it is of ASCII, which was cheap to be seen. Others may be as well.
    pub(crate) ascii: bool,
}

/// The tokens of a text, in order.
pub(crate) struct Tokens<'a> {
    text: &'a str,
    at: usize,
    runs: Runs<'a, true>,
}

impl<'a> Tokens<'a> {
    pub(crate) const fn new(text: &'a str) -> Self {
        Self::after(text, 0)
    }

    /// Those from this byte on.
    pub(crate) const fn after(text: &'a str, at: usize) -> Self {
        Self { text, at, runs: Runs::of(text) }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    #[inline]
    fn next(&mut self) -> Option<Token<'a>> {
        let bytes = self.text.as_bytes();
        // Nearly all spaces are of ASCII, so nothing has to be decoded, and so are most words.
        while matches!(bytes.get(self.at), Some(b' ' | b'\t'..=b'\r')) {
            self.at += 1;
        }
        let start = self.at;
        let end = self.runs.end(start);
        if end > start && bytes.get(end).is_none_or(|byte| byte.is_ascii() && *byte != b'_') {
            self.at = end;
            return Some(Token { text: &self.text[start..end], start, end, word: true, ascii: true });
        }
        self.other(end)
    }
}

impl<'a> Tokens<'a> {
    /// The next token, whatever it is, if it goes on to this byte at least.
    #[inline(never)]
    fn other(&mut self, begun: usize) -> Option<Token<'a>> {
        let begun = self.runs.western_end(begun);
        let (start, word, begun) = if begun > self.at {
            (self.at, true, begun)
        } else {
            let (start, first) = self.visible()?;
            (start, first.is_alphanumeric() || first == '_', start + first.len_utf8())
        };
        let end = if word { word_end(self.text, &mut self.runs, begun) } else { begun };
        self.at = end;
        Some(Token { text: &self.text[start..end], start, end, word, ascii: false })
    }

    /// The next character that is neither space nor unseen, and where it stands.
    fn visible(&self) -> Option<(usize, char)> {
        let mut rest = self.text[self.at..].char_indices();
        rest.find(|(_, c)| !c.is_whitespace() && !ignorable(*c)).map(|(skipped, c)| (self.at + skipped, c))
    }
}

/// Where ends the word that goes on at a byte.
fn word_end(text: &str, runs: &mut Runs<'_, true>, mut at: usize) -> usize {
    let bytes = text.as_bytes();
    loop {
        at = runs.western_end(at);
        // Only characters of few words have to be decoded.
        let next = bytes.get(at).filter(|byte| !byte.is_ascii() || **byte == b'_').and_then(|_| text[at..].chars().next());
        match next.filter(|c| continues(*c)) {
            Some(c) => at += c.len_utf8(),
            None => return at,
        }
    }
}

fn continues(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || combining(c) || ignorable(c)
}

/// Marks that belong to the letter before them.
pub(crate) const fn combining(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}')
}

/// Characters that nobody sees, with which words are hyphenated or hidden.
pub(crate) const fn ignorable(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// Writes a word as it is compared: in small letters, `ß` as `ss`, umlauts as one character, without what nobody sees.
pub(crate) fn fold(word: &str, folded: &mut String) {
    folded.clear();
    if word.is_ascii() {
        folded.push_str(word);
        folded.make_ascii_lowercase();
        return;
    }
    for c in word.chars() {
        match c {
            'ß' | 'ẞ' => folded.push_str("ss"),
            '\u{308}' => {
                let base = folded.pop();
                folded.extend(base.map(|base| match base {
                    'a' => 'ä',
                    'o' => 'ö',
                    'u' => 'ü',
                    other => other,
                }));
            }
            c if ignorable(c) => {}
            c => folded.extend(c.to_lowercase()),
        }
    }
}

/// A word as it is compared; see [`fold`].
pub(crate) fn folded(word: &str) -> String {
    let mut folded = String::with_capacity(word.len());
    fold(word, &mut folded);
    folded
}

/// With `ae`, `oe` and `ue` for umlauts.
pub(crate) fn expanded(folded: &str) -> String {
    folded.replace('ä', "ae").replace('ö', "oe").replace('ü', "ue")
}

/// Folded words, each with its number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vocabulary {
    /// By their beginnings.
    sorted: Vec<Box<str>>,
    /// Texts say what is looked up and not what is in it, so a hash has to be fast only.
    ids: HashMap<Box<str>, usize>,
    sieve: Sieve,
}

impl Vocabulary {
    /// The word's number, less than the count of words.
    pub(crate) fn id(&self, folded: &str) -> Option<usize> {
        self.ids.get(folded).copied()
    }

    /// Whether a word of a text may be among them once it is folded. Hardly any that is not passes.
    pub(crate) fn passes(&self, word: &str) -> bool {
        self.sieve.passes(word)
    }

    /// The same for a token.
    pub(crate) fn passes_token(&self, token: &Token<'_>) -> bool {
        if token.ascii { self.sieve.passes_ascii(token.text) } else { self.passes(token.text) }
    }

    /// In order.
    pub(crate) fn words(&self) -> impl Iterator<Item = &str> {
        self.sorted.iter().map(|word| &**word)
    }

    pub(crate) fn contains(&self, folded: &str) -> bool {
        self.id(folded).is_some()
    }

    /// Some word begins with this.
    pub(crate) fn begins(&self, folded: &str) -> bool {
        let at = self.sorted.partition_point(|word| **word < *folded);
        self.sorted.get(at).is_some_and(|word| word.starts_with(folded))
    }

    /// Whether a word that goes on after `folded` may be among them. Its last letter may still become an umlaut.
    pub(crate) fn may_become(&self, folded: &str) -> bool {
        self.begins(folded) || folded.strip_suffix(['a', 'o', 'u']).is_some_and(|stem| self.begins(stem))
    }
}

impl FromIterator<String> for Vocabulary {
    fn from_iter<I: IntoIterator<Item = String>>(words: I) -> Self {
        let words: BTreeSet<Box<str>> = words.into_iter().map(String::into_boxed_str).collect();
        let sorted: Vec<Box<str>> = words.into_iter().collect();
        let ids = sorted.iter().enumerate().map(|(id, word)| (word.clone(), id)).collect();
        let sieve = Sieve::of(sorted.iter().map(|word| &**word));
        Self { sorted, ids, sieve }
    }
}

#[cfg(test)]
mod tests {
    use super::{Token, Tokens, Vocabulary, continues, expanded, folded, ignorable};
    use crate::tricky;

    /// Character by character.
    fn plain_tokens(text: &str) -> Vec<Token<'_>> {
        let mut tokens = Vec::new();
        let mut at = 0;
        while let Some(skipped) = text[at..].find(|c: char| !c.is_whitespace() && !ignorable(c)) {
            let start = at + skipped;
            let rest = &text[start..];
            let first = rest.chars().next().expect("a character");
            let word = first.is_alphanumeric() || first == '_';
            let length = if word { rest.find(|c: char| !continues(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
            at = start + length;
            tokens.push(Token { text: &rest[..length], start, end: at, word, ascii: false });
        }
        tokens
    }

    #[test]
    fn words_end_where_they_do_character_by_character() {
        for text in tricky::texts() {
            let tokens: Vec<_> = Tokens::new(&text).collect();
            assert!(tokens.iter().all(|token| !token.ascii || token.text.is_ascii()), "{text:?}");
            assert_eq!(
                tokens.into_iter().map(|token| Token { ascii: false, ..token }).collect::<Vec<_>>(),
                plain_tokens(&text),
                "{text:?}"
            );
        }
    }

    #[test]
    fn words_that_do_not_pass_are_not_among_them() {
        let vocabulary: Vocabulary =
            plain_tokens(&tricky::texts().collect::<String>()).iter().step_by(3).map(|token| folded(token.text)).collect();
        for text in tricky::texts() {
            let missed = Tokens::new(&text).find(|token| vocabulary.contains(&folded(token.text)) && !vocabulary.passes_token(token));
            assert_eq!(missed, None, "{text:?}. If you are here because this failed: words that a tenant forbids pass unseen.");
        }
    }

    #[test]
    fn a_text_falls_into_words_and_signs() {
        let tokens: Vec<_> = Tokens::new("C++ ist\u{a0}schön, §12_a \u{200b}x\u{ad}y!").map(|token| token.text).collect();
        assert_eq!(tokens, ["C", "+", "+", "ist", "schön", ",", "§", "12_a", "x\u{ad}y", "!"]);
        let text = "Grüße an";
        assert!(Tokens::new(text).all(|token| &text[token.start..token.end] == token.text && token.word));
    }

    #[test]
    fn the_same_word_looks_the_same() {
        for same in ["Straße", "STRASSE", "Stra\u{ad}ße", "STRAẞE"] {
            assert_eq!(folded(same), "strasse");
        }
        assert_eq!(folded("U\u{308}bel"), "übel");
        assert_eq!(expanded(&folded("Übergrößenträger")), "uebergroessentraeger");
        assert_ne!(folded("Müller"), folded("Mueller"));
    }

    #[test]
    fn words_are_found_by_their_beginnings() {
        let words: Vocabulary = ["wein", "über", "weinen"].map(str::to_owned).into_iter().collect();
        assert!(words.contains("wein") && !words.contains("wei") && !words.contains("weiner"));
        assert!(words.begins("wei") && words.begins("weinen") && !words.begins("weinend") && !words.begins("x"));
        assert!(words.may_become("u") && !words.may_become("ub"));
    }
}
