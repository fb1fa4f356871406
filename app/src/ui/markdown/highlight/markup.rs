//! HTML and XML, and diffs: the two syntaxes that are not made of words.

use super::Token;

/// Tags, attributes, their values and comments; text between tags is plain.
pub fn lex_markup(code: &str, emit: &mut dyn FnMut(Token, &str)) {
    let mut rest = code;
    while !rest.is_empty() {
        let text = rest.find('<').unwrap_or(rest.len());
        if text > 0 {
            emit(Token::Plain, &rest[..text]);
            rest = &rest[text..];
        } else if rest.starts_with("<!--") {
            let end = rest.find("-->").map_or(rest.len(), |at| at + 3);
            emit(Token::Comment, &rest[..end]);
            rest = &rest[end..];
        } else if rest.starts_with("<!") || rest.starts_with("<?") {
            let end = rest.find('>').map_or(rest.len(), |at| at + 1);
            emit(Token::Meta, &rest[..end]);
            rest = &rest[end..];
        } else {
            rest = lex_tag(rest, emit);
        }
    }
}

/// One tag; what is left after it.
fn lex_tag<'a>(tag: &'a str, emit: &mut dyn FnMut(Token, &str)) -> &'a str {
    let open = if tag.starts_with("</") { 2 } else { 1 };
    let name = open + word_len(&tag[open..]);
    if name == open {
        emit(Token::Plain, &tag[..open]);
        return &tag[open..];
    }
    emit(Token::Tag, &tag[..name]);
    let mut rest = &tag[name..];
    loop {
        let Some(first) = rest.chars().next() else { return rest };
        let (token, len) = match first {
            '>' => {
                emit(Token::Tag, &rest[..1]);
                return &rest[1..];
            }
            '<' => return rest,
            '"' | '\'' => (Token::String, rest[1..].find(first).map_or(rest.len(), |at| at + 2)),
            _ => match word_len(rest) {
                0 => (Token::Plain, first.len_utf8()),
                len => (Token::Property, len),
            },
        };
        emit(token, &rest[..len]);
        rest = &rest[len..];
    }
}

fn word_len(text: &str) -> usize {
    text.find(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_' | ':' | '.' | '@'))).unwrap_or(text.len())
}

/// Whole lines by their first character.
pub fn lex_diff(code: &str, emit: &mut dyn FnMut(Token, &str)) {
    for line in code.split_inclusive('\n') {
        let token = if line.starts_with("+++") || line.starts_with("---") || line.starts_with("@@") || line.starts_with("diff ") {
            Token::Meta
        } else if line.starts_with('+') {
            Token::Added
        } else if line.starts_with('-') {
            Token::Removed
        } else {
            Token::Plain
        };
        emit(token, line);
    }
}
