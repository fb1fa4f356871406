//! Expressions and grammars that an answer must match: what they say goes to a model as well.

use guardrails::{Action, Decision, Guard, Input, Part, Role};

/// Looks at a pattern as it is written and as what it matches. It cannot be masked, because `[IBAN_1]` in it is a class of
/// characters; where a rule masks, the request is blocked.
pub(super) fn look(guard: &Guard, pattern: &str, checked: &mut Input) {
    let plain = unescaped(pattern);
    let other = (plain != pattern).then_some(plain);
    let mut found: Vec<Decision> = Vec::new();
    for mut text in std::iter::once(pattern.to_owned()).chain(other) {
        let looked = guard.input(&mut [Part { role: Role::User, text: &mut text }]);
        let masked = looked.decisions.iter().find(|decision| decision.action == Action::Mask).map(|decision| decision.rule.clone());
        checked.blocked = checked.blocked.take().or(looked.blocked).or(masked);
        for decision in looked.decisions {
            // Both are the same text: what is in both was found once.
            if !found.iter().any(|known| known.rule == decision.rule && known.entity == decision.entity) {
                let action = if decision.action == Action::Mask { Action::Block } else { decision.action };
                found.push(Decision { action, ..decision });
            }
        }
    }
    checked.decisions.extend(found);
}

/// A pattern without the backslashes of signs that stand for themselves, and with characters in place of their numbers.
pub(super) fn unescaped(pattern: &str) -> String {
    let mut plain = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some((before, behind)) = rest.split_once('\\') {
        plain.push_str(before);
        rest = behind;
        let Some(sign) = rest.chars().next() else { break };
        let digits = match sign {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        if let Some((number, behind)) = numbered(&rest[sign.len_utf8()..], digits) {
            plain.push(number);
            rest = behind;
        } else {
            if !sign.is_ascii_punctuation() && sign != ' ' {
                plain.push('\\');
            }
            plain.push(sign);
            rest = &rest[sign.len_utf8()..];
        }
    }
    plain.push_str(rest);
    plain
}

/// The character whose hexadecimal number a text begins with, of so many digits or in braces, and what comes behind it.
fn numbered(text: &str, digits: usize) -> Option<(char, &str)> {
    if digits == 0 {
        return None;
    }
    let (number, behind) = match text.strip_prefix('{') {
        Some(text) => text.split_once('}')?,
        None => text.split_at_checked(digits)?,
    };
    Some((char::from_u32(u32::from_str_radix(number, 16).ok()?)?, behind))
}

#[cfg(test)]
mod tests {
    use super::unescaped;

    #[test]
    fn a_pattern_is_read_as_what_it_matches() {
        let cases = [
            (r"anna@example\.org", "anna@example.org"),
            (r"\x61nn\u0061@\u{65}x\U00000061mple\x{2e}org", "anna@example.org"),
            (r"\d{3}\\\w", r"\d{3}\\w"),
            (r"\u12\x{110000}\x", r"\u12\x{110000}\x"),
            (r"DE89\ 3704", "DE89 3704"),
            (r"a\", "a"),
            (r"\é\n", r"\é\n"),
        ];
        for (pattern, plain) in cases {
            assert_eq!(unescaped(pattern), plain, "{pattern}");
        }
    }
}
