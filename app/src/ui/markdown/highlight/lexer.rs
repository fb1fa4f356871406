//! One lexer for all languages made of words, strings, comments and numbers.

use super::{Token, languages::Language};

/// Cuts `code` into tokens that, joined, are `code` again.
pub fn lex(language: &Language, code: &str, emit: &mut dyn FnMut(Token, &str)) {
    let mut lexer = Lexer { language, code, ix: 0, fresh_line: true };
    while lexer.ix < code.len() {
        let start = lexer.ix;
        let token = lexer.step();
        // A step that consumed nothing would never end.
        if lexer.ix == start {
            lexer.advance_char();
        }
        let text = &code[start..lexer.ix];
        lexer.fresh_line = text.ends_with('\n') || (lexer.fresh_line && text.chars().all(|c| c.is_whitespace() || c == '-'));
        emit(token, text);
    }
}

struct Lexer<'a> {
    language: &'a Language,
    code: &'a str,
    ix: usize,
    /// Only white space since the line began.
    fresh_line: bool,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.code[self.ix..]
    }

    fn advance_char(&mut self) {
        self.ix += self.rest().chars().next().map_or(1, char::len_utf8);
    }

    fn advance_while(&mut self, test: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.ix += rest.find(|c| !test(c)).unwrap_or(rest.len());
    }

    fn step(&mut self) -> Token {
        let Some(first) = self.rest().chars().next() else {
            return Token::Plain;
        };
        if first.is_whitespace() {
            // Up to the line's end at most, so that `fresh_line` sees every line.
            self.advance_char();
            if first != '\n' {
                self.advance_while(|c| c.is_whitespace() && c != '\n');
            }
            return Token::Plain;
        }
        if self.comment() {
            return Token::Comment;
        }
        if self.meta() {
            return Token::Meta;
        }
        if let Some(token) = self.string(first) {
            return token;
        }
        if self.language.dollar && first == '$' {
            return self.dollar();
        }
        if first.is_ascii_digit() {
            self.advance_while(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '%'));
            return Token::Number;
        }
        if self.language.key_mark.is_some()
            && first == '#'
            && self.rest()[1..].starts_with(|c: char| c.is_ascii_hexdigit())
            && !self.fresh_line
        {
            self.advance_char();
            self.advance_while(|c| c.is_ascii_hexdigit());
            return Token::Number;
        }
        if first.is_alphabetic()
            || first == '_'
            || (first == '-' && self.language.word_extra.contains(&'-') && self.rest().starts_with("--"))
        {
            return self.word();
        }
        self.advance_char();
        Token::Plain
    }

    fn comment(&mut self) -> bool {
        let rest = self.rest();
        if let Some((open, close)) = self.language.block_comment
            && let Some(inner) = rest.strip_prefix(open)
        {
            self.ix += inner.find(close).map_or(rest.len(), |at| open.len() + at + close.len());
            return true;
        }
        // `#` within a word (`a#b`, `$#`) is no comment in the languages that use it.
        let after_word = self.code[..self.ix].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '$' | '{' | '\\' | ':'));
        let starts = self.language.line_comments.iter().any(|mark| rest.starts_with(mark) && !(after_word && mark.len() == 1));
        if starts {
            self.ix += rest.find('\n').unwrap_or(rest.len());
        }
        starts
    }

    fn meta(&mut self) -> bool {
        let rest = self.rest();
        let Some(mark) = self.language.meta.iter().find(|mark| rest.starts_with(**mark)) else {
            return false;
        };
        match *mark {
            "#" if self.fresh_line => self.ix += rest.find('\n').unwrap_or(rest.len()),
            "#" => return false,
            "@" if rest[1..].starts_with(|c: char| c.is_alphabetic()) => {
                self.advance_char();
                self.advance_while(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-'));
            }
            "@" => return false,
            _ => self.ix += rest.find(']').map_or(rest.len(), |at| at + 1),
        }
        true
    }

    fn string(&mut self, first: char) -> Option<Token> {
        let rest = self.rest();
        if self.language.lifetimes && first == '\'' && is_lifetime(rest) {
            self.advance_char();
            self.advance_while(|c| c.is_alphanumeric() || c == '_');
            return Some(Token::Variable);
        }
        let long = self.language.long_quotes.iter().find(|quote| rest.starts_with(**quote));
        let len = match long {
            Some(quote) => quoted_len(rest, quote, true),
            None if self.language.quotes.contains(&first) => quoted_len(rest, &rest[..1], false),
            None => return None,
        };
        self.ix += len;
        Some(if self.is_key() { Token::Property } else { Token::String })
    }

    fn dollar(&mut self) -> Token {
        self.advance_char();
        if self.rest().starts_with('{') {
            self.ix += self.rest().find('}').map_or(1, |at| at + 1);
        } else {
            self.advance_while(|c| c.is_alphanumeric() || c == '_');
        }
        Token::Variable
    }

    fn word(&mut self) -> Token {
        let start = self.ix;
        let first_in_line = self.fresh_line;
        let extra = self.language.word_extra;
        self.advance_while(|c| c.is_alphanumeric() || c == '_' || extra.contains(&c));
        let word = &self.code[start..self.ix];
        let is_key = self.is_key() && (first_in_line || !self.language.keys_first);
        if is_key {
            Token::Property
        } else if self.is_keyword(word) {
            Token::Keyword
        } else if self.language.calls && self.rest().starts_with(['(', '!']) && !self.rest().starts_with("!=") {
            Token::Function
        } else if self.language.types && word.starts_with(char::is_uppercase) {
            Token::Type
        } else {
            Token::Plain
        }
    }

    fn is_keyword(&self, word: &str) -> bool {
        let mut keywords = self.language.keywords.split(' ');
        if self.language.case_insensitive {
            keywords.any(|keyword| keyword.eq_ignore_ascii_case(word))
        } else {
            keywords.any(|keyword| keyword == word)
        }
    }

    /// The next thing on this line is the language's key mark.
    fn is_key(&self) -> bool {
        let Some(mark) = self.language.key_mark else { return false };
        let after = self.rest().trim_start_matches([' ', '\t']);
        after.starts_with(mark) && !after.starts_with("::")
    }
}

/// `'a` without a closing quote right after one character.
fn is_lifetime(rest: &str) -> bool {
    let mut chars = rest.chars().skip(1);
    matches!((chars.next(), chars.next()), (Some(name), next) if (name.is_alphabetic() || name == '_') && next != Some('\''))
}

/// Length of the string at the start of `rest`, quotes included; to the end of the line (or text) if it is not closed.
fn quoted_len(rest: &str, quote: &str, multiline: bool) -> usize {
    let mut ix = quote.len();
    while ix < rest.len() {
        let here = &rest[ix..];
        if here.starts_with(quote) {
            return ix + quote.len();
        }
        let Some(c) = here.chars().next() else { break };
        if c == '\n' && !multiline {
            return ix;
        }
        ix += c.len_utf8();
        if c == '\\' {
            ix += rest[ix..].chars().next().filter(|c| multiline || *c != '\n').map_or(0, char::len_utf8);
        }
    }
    rest.len()
}
