//! Syntax highlighting by a small lexer and a table of language families.
//!
//! It colours what a reader looks for (words of the language, strings, comments, numbers, names)
//! and knows no grammar: the grammars of a real highlighter are larger than the rest of the page.

mod languages;
mod lexer;
mod markup;

use super::escape::push_escaped;
pub use languages::label;

/// Longest code that is coloured, in bytes; a longer block stays plain so that a frame stays short.
const MAX_BYTES: usize = 96 * 1024;

/// What a piece of code is; the class is what the style sheet colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    Plain,
    Keyword,
    Type,
    Function,
    String,
    Number,
    Comment,
    /// Key of an object, attribute of a tag, CSS property.
    Property,
    Variable,
    Tag,
    Meta,
    Added,
    Removed,
}

impl Token {
    fn class(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Keyword => "tok-keyword",
            Self::Type => "tok-type",
            Self::Function => "tok-function",
            Self::String => "tok-string",
            Self::Number => "tok-number",
            Self::Comment => "tok-comment",
            Self::Property => "tok-property",
            Self::Variable => "tok-variable",
            Self::Tag => "tok-tag",
            Self::Meta => "tok-meta",
            Self::Added => "tok-inserted",
            Self::Removed => "tok-deleted",
        }
    }
}

/// Appends `code` as escaped HTML, coloured if the fence's info string names a known language.
pub fn push_highlighted(out: &mut String, info: &str, code: &str) {
    let mut writer = Writer { out, pending: Token::Plain, text: String::new() };
    match languages::find(info).filter(|_| code.len() <= MAX_BYTES) {
        Some(languages::Syntax::Words(language)) => lexer::lex(language, code, &mut |token, text| writer.push(token, text)),
        Some(languages::Syntax::Markup) => markup::lex_markup(code, &mut |token, text| writer.push(token, text)),
        Some(languages::Syntax::Diff) => markup::lex_diff(code, &mut |token, text| writer.push(token, text)),
        None => writer.push(Token::Plain, code),
    }
    writer.flush();
}

/// Joins neighbours of one kind: fewer elements, same picture.
struct Writer<'a> {
    out: &'a mut String,
    pending: Token,
    text: String,
}

impl Writer<'_> {
    fn push(&mut self, token: Token, text: &str) {
        // White space has no colour; attaching it to what came before saves elements.
        if token != self.pending && !text.chars().all(char::is_whitespace) {
            self.flush();
            self.pending = token;
        }
        self.text.push_str(text);
    }

    fn flush(&mut self) {
        if self.text.is_empty() {
            return;
        }
        if self.pending == Token::Plain {
            push_escaped(self.out, &self.text);
        } else {
            self.out.push_str("<span class=\"");
            self.out.push_str(self.pending.class());
            self.out.push_str("\">");
            push_escaped(self.out, &self.text);
            self.out.push_str("</span>");
        }
        self.text.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(info: &str, code: &str) -> String {
        let mut out = String::new();
        push_highlighted(&mut out, info, code);
        out
    }

    /// The code that a reader would copy.
    fn visible(html: &str) -> String {
        let mut text = String::new();
        let mut inside = false;
        for c in html.chars() {
            match c {
                '<' => inside = true,
                '>' => inside = false,
                c if !inside => text.push(c),
                _ => {}
            }
        }
        text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#39;", "'").replace("&amp;", "&")
    }

    #[test]
    fn markdown_highlighting_finds_the_obvious() {
        for (info, code, piece) in [
            ("rust", "fn main() {}", "<span class=\"tok-keyword\">fn </span>"),
            ("rust", "let c: char = 'a';", "<span class=\"tok-string\">&#39;a&#39;</span>"),
            ("rust", "fn f<'a>(x: &'a str)", "tok-variable\">&#39;a</span>"),
            ("python", "x = 1  # one", "<span class=\"tok-comment\"># one</span>"),
            (
                "python",
                "s = \"\"\"a\n\"b\" c\"\"\"\nx",
                "<span class=\"tok-string\">&quot;&quot;&quot;a\n&quot;b&quot; c&quot;&quot;&quot;\n</span>",
            ),
            ("ts", "const a = `x ${y}`", "<span class=\"tok-string\">`x ${y}`</span>"),
            ("sql", "select 1 -- x", "<span class=\"tok-keyword\">select </span>"),
            ("sh", "echo \"$HOME\" # hi", "<span class=\"tok-comment\"># hi</span>"),
            ("html", "<a href=\"x\">y</a>", "<span class=\"tok-property\">href</span>"),
            ("css", ".a { color: #fff; }", "<span class=\"tok-property\">color</span>"),
            ("json", "{\"a\": 1.5e3}", "<span class=\"tok-property\">&quot;a&quot;</span>"),
            ("yaml", "key: true", "<span class=\"tok-property\">key</span>"),
            ("toml", "[a]\nb = 1", "<span class=\"tok-property\">b </span>"),
            ("diff", "-a\n+b\n", "<span class=\"tok-inserted\">+b"),
            ("java", "String x = new Foo();", "<span class=\"tok-type\">String </span>"),
            ("go", "func f() {}", "<span class=\"tok-keyword\">func </span>"),
            ("cs", "var x = 1;", "<span class=\"tok-keyword\">var </span>"),
            ("c", "#include <stdio.h>", "tok-meta"),
        ] {
            let html = html(info, code);
            assert!(html.contains(piece), "{info}: {html} lacks {piece}");
        }
    }

    #[test]
    fn markdown_highlighting_changes_no_character() {
        let nasty = "</code><script>\"'`${ \\ 'x \"\"\" /* // # -- <!-- @media ä🦀 0x1f 1e9 $x @y\n\t{a: 'b'} <a b='c\nend";
        for info in [
            "rust", "c", "js", "ts", "java", "go", "cs", "python", "sh", "sql", "html", "css", "json", "yaml", "toml", "diff", "",
            "unknown", "kotlin", "php",
        ] {
            for end in (0..=nasty.len()).filter(|ix| nasty.is_char_boundary(*ix)) {
                let html = html(info, &nasty[..end]);
                assert_eq!(visible(&html), nasty[..end], "{info}");
                assert!(
                    !html.contains("<script"),
                    "{info}. If you are here because this failed: code is foreign text and must be escaped."
                );
            }
        }
    }
}
