//! A text without disguise: words in small Latin letters, whatever they were written with.

use super::stems::{ABOUT, Classes, FENCE, HIDDEN, MARKER, ORDER, SYSTEM, SYSTEM_TEXT, TEXT, classes, first_word, may_matter};
use crate::{
    begun::regex,
    runs::Runs,
    tokens::{USUAL_WORD, combining, ignorable},
};
use regex::Regex;
use std::{mem::take, sync::LazyLock};

/// So many single letters in a row are a word with spaces in it.
const SPREAD: usize = 4;

/// Control tokens of chat templates: no person writes them, and a model that reads them believes that somebody else speaks.
const MARKERS: &str = concat!(
    r"(?i)<\|(?:im_start|im_end|im_sep|system|user|assistant|endoftext|end_of_text|begin_of_text|start_header_id|end_header_id|eot_id|channel|message|start|end)\|>",
    r"|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<\u{ff5c}(?:User|Assistant|System)\u{ff5c}>",
);
/// What people write as well: headings and tags.
const FENCES: &str = concat!(
    r"(?im)^[ \t]*#{2,}[ ]*(?:system|instructions?|anweisung(?:en)?)(?-u:\b)[^\n]{0,20}$|</?(?:system|system_prompt|instructions)>",
    r"|^[ \t]*\[?(?:system|system prompt|system message)\]?[ ]*:|(?:begin|end|ende) (?:of|des) (?:the )?(?:system[ -]?)?prompts?(?-u:\b)",
);

/// Each of the fences has one of these, and stands in one line.
const FENCE_WORDS: &str = "(?i)system|instruction|anweisung|prompt";

static MARKER_REGEX: LazyLock<Regex> = LazyLock::new(|| regex(MARKERS));
static FENCE_REGEX: LazyLock<Regex> = LazyLock::new(|| regex(FENCES));
static FENCE_WORD_REGEX: LazyLock<Regex> = LazyLock::new(|| regex(FENCE_WORDS));

/// A word that may matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) classes: Classes,
    /// Its sentence, counted from 0.
    pub(super) sentence: usize,
    /// It stands in quotation marks.
    pub(super) quoted: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) tokens: Vec<Token>,
    /// By sentence, up to the last one of which it is so: it speaks about injections or what texts mean.
    pub(super) about: Vec<bool>,
}

/// Where a mark begins and ends, and its class.
type Mark = (usize, usize, Classes);

pub(super) fn read(text: &str) -> Reading {
    let mut marks: Vec<Mark> = MARKER_REGEX.find_iter(text).map(|mark| (mark.start(), mark.end(), MARKER)).collect();
    fences(text, &mut marks);
    marks.sort_unstable();
    let mut runs = Runs::of(text);
    read_marked(text, marks, |text, at| usual_word(text, at, &mut runs))
}

/// Adds the fences, from the lines that may have some.
fn fences(text: &str, marks: &mut Vec<Mark>) {
    let mut at = 0;
    while let Some(word) = FENCE_WORD_REGEX.find_at(text, at) {
        let start = text[..word.start()].rfind('\n').map_or(0, |end| end + 1);
        let end = text[word.start()..].find('\n').map_or(text.len(), |length| word.start() + length);
        marks.extend(FENCE_REGEX.find_iter(&text[start..end]).map(|mark| (start + mark.start(), start + mark.end(), FENCE)));
        at = end;
    }
}

/// A word that can be read as a whole: letters of German, and nothing that belongs to it behind them.
#[derive(Clone, Copy)]
struct Usual {
    /// Bytes; 0 if there is none.
    length: usize,
    /// Nothing in it is an umlaut.
    ascii: bool,
}

/// Reads a text with its marks, in order. `usual` says what word is at a byte.
fn read_marked(text: &str, marks: Vec<Mark>, mut usual: impl FnMut(&str, usize) -> Usual) -> Reading {
    let mut marks = marks.into_iter();
    let mut mark = marks.next();
    let mut reader = Reader::default();
    reader.reading.tokens.reserve(text.len() / USUAL_WORD);
    let (mut at, mut skip) = (0, 0);
    while at < text.len() {
        if let Some((_, end, class)) = mark.filter(|(start, ..)| *start <= at) {
            reader.end_word();
            reader.push(class);
            skip = skip.max(end);
            mark = marks.next();
        }
        if at >= skip && reader.word.is_empty() {
            let next = mark.map_or(usize::MAX, |(start, ..)| start);
            let Usual { length, ascii } = usual(text, at);
            if length > 0 && at + length <= next {
                reader.read_word(&text[at..], length, ascii);
                at += length;
                // Most words end at a space, which says nothing else.
                if text.as_bytes().get(at) == Some(&b' ') && at < next {
                    reader.gap += 1;
                    at += 1;
                }
                continue;
            }
        }
        let Some(c) = text[at..].chars().next() else { break };
        if at >= skip {
            reader.read(c);
        }
        at += c.len_utf8();
    }
    reader.finish()
}

/// The word at a byte if it can be read as a whole, as most can.
#[inline]
fn usual_word(text: &str, at: usize, runs: &mut Runs<'_, false>) -> Usual {
    let bytes = text.as_bytes();
    let letters = runs.end(at);
    let ascii = bytes.get(letters).is_none_or(u8::is_ascii);
    let end = if ascii { letters } else { runs.german_end(letters) };
    match bytes.get(end) {
        // The word goes on with a digit, behind an apostrophe, or perhaps with what is beyond ASCII.
        Some(byte) if !byte.is_ascii() || byte.is_ascii_digit() || matches!(byte, b'\'' | b'`') => Usual { length: 0, ascii },
        _ => Usual { length: end - at, ascii },
    }
}

#[derive(Default)]
struct Reader {
    reading: Reading,
    word: String,
    /// Single letters in a row, one character apart.
    spread: String,
    /// Characters since the last word.
    gap: usize,
    sentence: usize,
    /// A sentence ends here, if a space follows.
    stop: bool,
    quoted: bool,
}

impl Reader {
    fn read(&mut self, c: char) {
        if c == '\u{308}' && self.word.ends_with(['a', 'o', 'u']) {
            // What makes an umlaut of the letter before it.
            self.word.push('e');
        }
        let unseen = !c.is_ascii() && (ignorable(c) || combining(c));
        if unseen || matches!(c, '\'' | '’' | '`') && !self.word.is_empty() {
            return;
        }
        let length = self.word.len();
        plain(c, &mut self.word);
        if self.word.len() > length {
            self.stop = false;
            return;
        }
        self.end_word();
        self.gap += 1;
        if self.stop && !matches!(c, '.' | '!' | '?') {
            self.stop = false;
            self.sentence += 1;
        }
        match c {
            '.' | '!' | '?' | '…' => self.stop = true,
            '"' | '“' | '”' | '„' | '«' | '»' => self.quoted = !self.quoted,
            _ => {}
        }
    }

    /// The same for all letters of a word that `text` begins with. They are those of German, or of `ascii`.
    #[inline]
    fn read_word(&mut self, text: &str, length: usize, ascii: bool) {
        self.stop = false;
        if length == 1 {
            self.word.push_str(&text[..length]);
            self.word.make_ascii_lowercase();
            return self.end_word();
        }
        self.end_spread();
        self.gap = 0;
        let mut class = 0;
        if !ascii || may_matter(text, length) {
            spell(&text[..length], ascii, &mut self.word);
            if ascii || may_matter(&self.word, self.word.len()) {
                class = classes(&self.word);
            }
            self.word.clear();
        }
        self.push(class);
    }

    fn end_word(&mut self) {
        if self.word.is_empty() {
            return;
        }
        let mut word = take(&mut self.word);
        let letter = word.len() == 1 && word.as_bytes()[0].is_ascii_alphabetic();
        if !letter || self.gap > 1 {
            self.end_spread();
        }
        self.gap = 0;
        if letter {
            self.spread.push_str(&word);
        } else {
            self.push(classes(unleet(&mut word)));
        }
        word.clear();
        self.word = word;
    }

    /// Letters that were written apart, as the words they make.
    #[inline]
    fn end_spread(&mut self) {
        if !self.spread.is_empty() {
            self.read_spread();
        }
    }

    fn read_spread(&mut self) {
        let letters = take(&mut self.spread);
        if letters.len() < SPREAD {
            return;
        }
        let mut at = 0;
        while at < letters.len() {
            match first_word(&letters[at..]) {
                Some((length, classes)) => {
                    self.push(classes);
                    at += length;
                }
                None => at += 1,
            }
        }
    }

    #[inline]
    fn push(&mut self, classes: Classes) {
        let classes = if classes == 0 { 0 } else { self.together(classes) };
        self.reading.tokens.push(Token { classes, sentence: self.sentence, quoted: self.quoted });
    }

    /// The classes of a word behind the last one.
    fn together(&mut self, mut classes: Classes) -> Classes {
        if let Some(last) = self.reading.tokens.last().filter(|last| last.sentence == self.sentence) {
            let of_system = last.classes & SYSTEM != 0 && classes & TEXT != 0;
            if of_system || last.classes & HIDDEN != 0 && classes & ORDER != 0 {
                classes |= SYSTEM_TEXT;
            }
        }
        if classes & ABOUT != 0 {
            self.reading.about.resize(self.sentence + 1, false);
            self.reading.about[self.sentence] = true;
        }
        classes
    }

    fn finish(mut self) -> Reading {
        self.end_word();
        self.end_spread();
        self.reading
    }
}

/// Letters for the digits that stand for them in a word: `1gn0re`.
fn unleet(word: &mut String) -> &str {
    if word.bytes().any(|byte| byte.is_ascii_digit()) && word.bytes().any(|byte| byte.is_ascii_alphabetic()) {
        *word = word.replace('0', "o").replace('1', "i").replace('3', "e").replace('4', "a").replace('5', "s").replace('7', "t");
    }
    word
}

/// Sets `word` to letters of German in small ones, umlauts spelt out.
fn spell(letters: &str, ascii: bool, word: &mut String) {
    word.clear();
    if ascii {
        word.push_str(letters);
    } else {
        for c in letters.chars() {
            plain(c, word);
        }
    }
    word.make_ascii_lowercase();
}

/// Adds what a character looks like: small Latin letters, umlauts spelt out. Adds nothing if it is neither letter nor digit.
fn plain(c: char, word: &mut String) {
    if c.is_ascii() {
        if c.is_ascii_alphanumeric() {
            word.push(c.to_ascii_lowercase());
        }
        return;
    }
    let looks = match c {
        'ä' | 'Ä' => return word.push_str("ae"),
        'ö' | 'Ö' => return word.push_str("oe"),
        'ü' | 'Ü' => return word.push_str("ue"),
        'ß' | 'ẞ' => return word.push_str("ss"),
        'à'..='å' | 'À'..='Å' | 'а' | 'А' | 'α' | 'Α' | 'ɑ' => 'a',
        'в' | 'В' | 'Β' => 'b',
        'ç' | 'Ç' | 'с' | 'С' | 'ϲ' => 'c',
        'ԁ' => 'd',
        'è'..='ë' | 'È'..='Ë' | 'е' | 'Е' | 'ё' | 'ε' | 'Ε' | 'є' => 'e',
        'һ' | 'Н' | 'н' | 'Η' => 'h',
        'ì'..='ï' | 'Ì'..='Ï' | 'і' | 'І' | 'ı' | 'ι' | 'Ι' | 'ⅰ' => 'i',
        'ј' | 'Ј' => 'j',
        'к' | 'К' | 'κ' | 'Κ' => 'k',
        'ⅼ' | 'ӏ' | 'Ӏ' => 'l',
        'м' | 'М' | 'Μ' => 'm',
        'ñ' | 'Ñ' | 'Ν' | 'п' => 'n',
        'ò'..='õ' | 'Ò'..='Õ' | 'ø' | 'Ø' | 'о' | 'О' | 'ο' | 'Ο' => 'o',
        'р' | 'Р' | 'ρ' | 'Ρ' => 'p',
        'г' => 'r',
        'ѕ' | 'Ѕ' => 's',
        'т' | 'Т' | 'τ' | 'Τ' => 't',
        'ù'..='û' | 'Ù'..='Û' | 'υ' => 'u',
        'ν' | 'ѵ' => 'v',
        'ԝ' | 'ѡ' => 'w',
        'х' | 'Х' | 'χ' | 'Χ' => 'x',
        'у' | 'У' | 'Υ' | 'γ' | 'ý' => 'y',
        'Ζ' => 'z',
        // Fullwidth forms; circled letters; letters of mathematics, thirteen alphabets of 52.
        '\u{ff10}'..='\u{ff5e}' => return offset(c, 0xff01, 0x21, word),
        '\u{24b6}'..='\u{24cf}' => return offset(c, 0x24b6, 0x61, word),
        '\u{24d0}'..='\u{24e9}' => return offset(c, 0x24d0, 0x61, word),
        '\u{1d400}'..='\u{1d6a3}' => return math(c, word),
        other => return word.extend(other.to_lowercase().filter(|c| c.is_alphanumeric())),
    };
    word.push(looks);
}

fn offset(c: char, from: u32, to: u32, word: &mut String) {
    let looks = char::from_u32(u32::from(c) - from + to).filter(char::is_ascii_alphanumeric);
    word.extend(looks.map(|c| c.to_ascii_lowercase()));
}

fn math(c: char, word: &mut String) {
    let letter = (u32::from(c) - 0x1d400) % 52 % 26;
    word.extend(char::from_u32(0x61 + letter));
}

#[cfg(test)]
mod tests {
    use super::{FENCE, FENCE_REGEX, MARKER, MARKER_REGEX, Mark, Usual, fences, read, read_marked};
    use crate::tricky;

    /// All fences of a text, looked for in all of it.
    fn plain_fences(text: &str) -> Vec<Mark> {
        FENCE_REGEX.find_iter(text).map(|mark| (mark.start(), mark.end(), FENCE)).collect()
    }

    #[test]
    fn fences_are_found_line_by_line() {
        let lines = [
            "## System",
            "\r",
            "",
            "  [system prompt] :",
            "begin of the prompt, end of prompts",
            "</ſystem>",
            "nothing",
            "## system \u{2028}x",
        ];
        let whole = lines.join("\n");
        let more =
            [whole.as_str(), "system:", "\nsystem:\n", "\r\nsystem:\r\n", "## Anweisungen\n\n## instruction", "x system:\n## system"];
        for text in tricky::texts().chain(more.map(str::to_owned)) {
            let mut marks = Vec::new();
            fences(&text, &mut marks);
            assert_eq!(marks, plain_fences(&text), "{text:?}. If you are here because this failed: known injections reach the model.");
        }
        assert_eq!(plain_fences(&whole).len(), 6);
    }

    #[test]
    fn words_are_read_as_they_are_letter_by_letter() {
        for text in tricky::texts() {
            let mut marks: Vec<Mark> = MARKER_REGEX.find_iter(&text).map(|mark| (mark.start(), mark.end(), MARKER)).collect();
            marks.extend(plain_fences(&text));
            marks.sort_unstable();
            let plain = read_marked(&text, marks, |_, _| Usual { length: 0, ascii: false });
            assert_eq!(read(&text), plain, "{text:?}. If you are here because this failed: known injections reach the model.");
        }
    }
}
