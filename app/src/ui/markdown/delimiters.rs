//! `\(…\)` and `\[…\]` in terms of `$…$` and `$$…$$`, the only forms the Markdown parser knows.

use std::{borrow::Cow, ops::Range};

/// Fills the second byte of a two-byte delimiter, so that offsets into the source stay valid. Not
/// white space, because `$ x $` is no formula; [`super::math`] removes it again.
pub const FILLER: char = '\u{1}';

/// The source with its formulas in dollar form.
#[derive(Debug, PartialEq)]
pub struct Normalised<'a> {
    /// As long as the source, byte for byte; only delimiters and line breaks within formulas differ.
    pub text: Cow<'a, str>,
    /// Where a formula begins whose end has not come yet: what follows may still change its meaning.
    pub open: Option<usize>,
}

/// Rewrites formulas outside code. `source` begins at the start of a top-level block.
#[must_use]
pub fn normalise(source: &str) -> Normalised<'_> {
    if !source.contains("\\(") && !source.contains("\\[") && !source.contains("$$") {
        return Normalised { text: Cow::Borrowed(source), open: None };
    }
    let mut bytes = source.as_bytes().to_vec();
    let mut open = None;
    let mut ix = 0;
    let mut line_start = true;
    while ix < source.len() {
        if line_start && let Some(end) = fence_end(source, ix) {
            ix = end;
            continue;
        }
        let byte = source.as_bytes()[ix];
        let rest = &source[ix..];
        line_start = byte == b'\n';
        ix += match byte {
            b'`' => code_span_len(rest),
            b'\\' => match delimiter(rest) {
                Some((close, display)) => match formula_len(rest, close) {
                    Some(len) => {
                        rewrite(&mut bytes, ix..ix + len, display);
                        len
                    }
                    None => {
                        if paragraph_is_open(rest) {
                            open = open.or(Some(ix));
                        }
                        2
                    }
                },
                // The escaped character, whatever its length; at the end of the text there is none.
                None => 1 + rest.chars().nth(1).filter(|c| *c != '\n').map_or(0, char::len_utf8),
            },
            b'$' if rest.starts_with("$$") => match formula_len(rest, "$$") {
                Some(len) => {
                    join_lines(&mut bytes[ix..ix + len]);
                    len
                }
                None => {
                    if paragraph_is_open(rest) {
                        open = open.or(Some(ix));
                    }
                    2
                }
            },
            _ => rest.chars().next().map_or(1, char::len_utf8),
        };
    }
    match String::from_utf8(bytes) {
        Ok(text) => Normalised { text: Cow::Owned(text), open },
        // Only ASCII bytes were replaced by ASCII bytes; should that ever be wrong, formulas stay raw.
        Err(_) => Normalised { text: Cow::Borrowed(source), open },
    }
}

/// The closing delimiter that belongs to the opening one at the start of `rest`, and whether it is a displayed formula.
fn delimiter(rest: &str) -> Option<(&'static str, bool)> {
    if rest.starts_with("\\(") {
        Some(("\\)", false))
    } else if rest.starts_with("\\[") {
        Some(("\\]", true))
    } else {
        None
    }
}

/// Bytes from the opening delimiter to the end of the closing one; a formula holds no blank line.
fn formula_len(rest: &str, close: &str) -> Option<usize> {
    let end = 2 + rest.get(2..)?.find(close)?;
    let inside = &rest[2..end];
    (!inside.trim().is_empty() && !has_blank_line(inside)).then_some(end + 2)
}

/// No blank line follows: the closing delimiter may still arrive.
fn paragraph_is_open(rest: &str) -> bool {
    !has_blank_line(rest)
}

fn has_blank_line(text: &str) -> bool {
    let mut lines = text.split('\n').skip(1).peekable();
    while let Some(line) = lines.next() {
        // The last line is not finished, so it is not blank yet.
        if lines.peek().is_some() && line.trim().is_empty() {
            return true;
        }
    }
    false
}

fn rewrite(bytes: &mut [u8], range: Range<usize>, display: bool) {
    let Range { start, end } = range;
    let filler = FILLER as u8;
    if display {
        bytes[start..start + 2].copy_from_slice(b"$$");
        bytes[end - 2..end].copy_from_slice(b"$$");
    } else {
        bytes[start..start + 2].copy_from_slice(&[b'$', filler]);
        bytes[end - 2..end].copy_from_slice(&[filler, b'$']);
    }
    join_lines(&mut bytes[start..end]);
}

/// A line of a formula may look like a heading underline or a list item; on one line it cannot.
fn join_lines(bytes: &mut [u8]) {
    for byte in bytes {
        if matches!(*byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

/// Length of the code span at the start of `rest`, or of its backticks if it is not closed in this paragraph.
fn code_span_len(rest: &str) -> usize {
    let run = rest.bytes().take_while(|b| *b == b'`').count();
    let mut ix = run;
    while let Some(at) = rest[ix..].find('`') {
        if rest[run..ix + at].contains("\n\n") {
            return run;
        }
        let found = rest[ix + at..].bytes().take_while(|b| *b == b'`').count();
        ix += at + found;
        if found == run {
            return ix;
        }
    }
    run
}

/// If a fenced code block begins on the line at `start`: where the line after it starts.
fn fence_end(source: &str, start: usize) -> Option<usize> {
    let line = source[start..].lines().next()?;
    let inner = line
        .trim_start_matches([' ', '\t', '>', '-', '*', '+', '.', ')'])
        .trim_start_matches(|c: char| c.is_ascii_digit() || " .)".contains(c));
    let mark = inner.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let run = inner.chars().take_while(|c| *c == mark).count();
    if run < 3 || (mark == '`' && inner[run..].contains('`')) {
        return None;
    }
    let mut at = start;
    for (number, line) in source[start..].split_inclusive('\n').enumerate() {
        at += line.len();
        let text = line.trim_matches([' ', '\t', '\r', '\n', '>']);
        if number > 0 && text.len() >= run && text.chars().all(|c| c == mark) {
            break;
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(source: &str) -> String {
        let done = normalise(source);
        assert_eq!(done.text.len(), source.len(), "If you are here because this failed: offsets into the source rely on equal lengths.");
        done.text.replace(FILLER, "~")
    }

    #[test]
    fn markdown_math_delimiters_become_dollars() {
        assert_eq!(text(r"a \(x\) b"), r"a $~x~$ b");
        assert_eq!(text("\\[\nx\n= 1\n\\]\n"), "$$ x = 1 $$\n");
        assert_eq!(text("$$\nx\n- 1\n$$\n"), "$$ x - 1 $$\n");
    }

    #[test]
    fn markdown_math_delimiters_in_code_stay() {
        for source in [r"`\(x\)`", "```\n\\[\nx\n\\]\n```\n", "- ```\n  \\(x\\)\n  ```\n", r"``a ` \(x\)``", "~~~\n$$\na\n$$\n"] {
            assert_eq!(text(source), source);
        }
    }

    #[test]
    fn markdown_math_escapes_and_open_formulas_stay() {
        assert_eq!(text(r"\\(x\\)"), r"\\(x\\)");
        assert_eq!(text("\\(a\n\nb\\)"), "\\(a\n\nb\\)");
        assert_eq!(normalise("ab \\[ x").open, Some(3));
        assert_eq!(normalise("ab \\[ x\n\ny").open, None);
        assert_eq!(text("ä\\ö \\(ü\\) \\"), "ä\\ö $~ü~$ \\");
    }
}
