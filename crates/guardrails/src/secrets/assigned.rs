//! Passwords and keys that a text names: `password = …`, “das Passwort lautet …”, `postgres://user:…@host`.

use super::has_digit_and_letter;
use crate::{
    begun::regex,
    view::{Certainty, Hit, View, What},
};
use regex::Regex;
use std::sync::LazyLock;

/// Bytes of what is looked at once more when it was no value. The cost is quadratic in it.
const LONGEST_NAME: usize = 64;

/// `password: value`, `"PASSWORT" => 'value'`.
const PASSWORD: &str = concat!(
    r#"(?i:passwor[dt]|passwd|passphrase|kennwort|pwd)["'`]?[ \t]{0,3}(?::=|=>|[:=])[ \t]{0,3}"#,
    r#"(?:["'`]([^"'`\s]{4,})["'`]|([^\s"'`<>{}$\[(,;/*%][^\s"'`,;&]{3,}))"#,
);
/// `api_key=value`.
const KEY: &str = concat!(
    r#"(?i:secret|token|api[_-]?key|access[_-]?key|account[_-]?key|private[_-]?key|encryption[_-]?key)"#,
    r#"["'`]?[ \t]{0,3}(?::=|=>|[:=])[ \t]{0,3}["'`]?([0-9A-Za-z+/_~.-]{16,}=*)"#,
);
/// “The password is value”.
const SENTENCE: &str = concat!(
    r#"(?i:passwor[dt]|kennwort|passphrase)[ ](?i:lautet|ist|is):?[ ]"#,
    r#"["'`„“”»«]?([^\s"'`„“”»«<>{}$\[(,;/*%][^\s"'`„“”»«,;]{5,})"#,
);
/// A password within an address.
const LINK: &str = r#"(?-u:\b)[A-Za-z][0-9A-Za-z+.-]{1,30}://[^\s:/@"'`<>]*:([^\s/@"'`<>]+)@[^\s@]"#;

pub(super) const PATTERNS: [&str; 4] = [PASSWORD, KEY, SENTENCE, LINK];

static REGEXES: LazyLock<[Regex; 4]> = LazyLock::new(|| PATTERNS.map(regex));
/// All but a sentence have one of these before the value, which much of prose does without.
static ASSIGNS: LazyLock<Regex> = LazyLock::new(|| regex("[:=]"));

/// Adds the values, without what names them: a text stays readable.
pub(super) fn scan(view: View<'_>, hits: &mut Vec<Hit>) {
    let assigns = ASSIGNS.is_match_at(view.text, view.from);
    for (regex, pattern) in REGEXES.iter().zip(PATTERNS).filter(|(_, pattern)| assigns || *pattern == SENTENCE) {
        let mut at = view.from;
        // Groups take a slower search; most texts have nothing to be grouped.
        while let Some(captures) = regex.find_at(view.text, at).and_then(|found| regex.captures_at(view.text, found.start())) {
            let all = captures.get_match();
            at = all.end();
            let Some(value) = captures.iter().skip(1).flatten().next() else { continue };
            // Another name may follow instead of a value.
            if value.len() <= LONGEST_NAME {
                at = value.start();
            }
            let exact = pattern == LINK || pattern == PASSWORD && captures.get(1).is_some();
            // A sentence may end behind it, but what a password ends with is a part of it.
            let (ends, marks): (&[char], &[char]) = if exact { (&[], &[]) } else { (&['.', ',', ';', ':', ')'], &['!', '?']) };
            let text = value.as_str().trim_end_matches(ends);
            let core = text.trim_end_matches(marks);
            let equals = view.text[all.start()..value.start()].contains('=');
            let fits = match pattern {
                _ if exact => true,
                KEY => has_digit_and_letter(core),
                PASSWORD if equals && core.bytes().all(|byte| byte.is_ascii_digit()) => core.len() > 5,
                _ => core.len() > 5 && is_mixed(core),
            };
            if fits && !stands_for_another(core) {
                let range = value.start()..value.start() + text.len();
                at = all.end();
                hits.push(Hit { range, since: all.start(), what: What::Secret(Certainty::Context) });
            }
        }
    }
}

/// Letters and digits, or something that is in no word.
fn is_mixed(text: &str) -> bool {
    has_digit_and_letter(text)
        || text.contains(['!', '#', '$', '%', '&', '*', '+', '=', '?', '@', '^', '~', '|', '§']) && !text.contains('(')
}

/// A variable, a piece of code or an example instead of a value.
fn stands_for_another(text: &str) -> bool {
    let first = text.chars().next().unwrap_or_default();
    let lower = text.to_lowercase();
    text.chars().all(|c| c == first)
        || matches!(first, '<' | '{' | '$' | '[' | '%' | '*')
        || text.contains(['(', ')'])
        || text.contains("${")
        || lower.contains("env.")
        || ["password", "passwort", "pass", "secret", "changeme", "example", "null", "none", "true", "false"].contains(&lower.as_str())
}

#[cfg(test)]
mod tests {
    use super::{ASSIGNS, PATTERNS, REGEXES, SENTENCE, scan};
    use crate::{tricky, view::View};

    fn found(text: &str) -> Vec<&str> {
        let mut hits = Vec::new();
        scan(View::whole(text), &mut hits);
        hits.into_iter().map(|hit| &text[hit.range]).collect()
    }

    #[test]
    fn values_are_found_by_what_names_them() {
        for (text, value) in [
            ("password = hunter2!", "hunter2!"),
            ("Passwort: Sommer2024", "Sommer2024"),
            ("DB_PASSWORD='correct-horse'", "correct-horse"),
            (r#"{"password": "geheim"}"#, "geheim"),
            ("pwd=12345678", "12345678"),
            ("Passwort: Passwort: Sommer2024", "Sommer2024"),
            ("Server=db;Password=Xy12!ab;Encrypt=true", "Xy12!ab"),
            ("Das Passwort lautet Sommer2024.", "Sommer2024"),
            ("the password is „Tr0ub4dor&3“", "Tr0ub4dor&3"),
            ("api_key: a1b2c3d4e5f6g7h8", "a1b2c3d4e5f6g7h8"),
            ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            ("AccountKey=a1b2c3d4e5f6g7h8i9j0==;", "a1b2c3d4e5f6g7h8i9j0=="),
            ("postgres://app:s3cret@db.example:5432/app", "s3cret"),
            ("redis://:s3cret@cache", "s3cret"),
            ("https://user:hunter2@example.org/x", "hunter2"),
        ] {
            assert_eq!(found(text), [value], "{text}. If you are here because this failed: secrets go out unseen.");
        }
    }

    #[test]
    fn a_text_that_assigns_nothing_has_values_in_sentences_only() {
        for text in tricky::texts().filter(|text| !ASSIGNS.is_match(text)) {
            for (regex, _) in REGEXES.iter().zip(PATTERNS).filter(|(_, pattern)| *pattern != SENTENCE) {
                assert!(!regex.is_match(&text), "{text:?}. If you are here because this failed: secrets go out unseen.");
            }
        }
    }

    #[test]
    fn talking_about_passwords_is_no_secret() {
        for text in [
            "Passwort: bitte ändern",
            "Passwort vergessen?",
            "password: required",
            "password: \"Your current password\"",
            "The password is required and must be long.",
            "Ihr Kennwort ist abgelaufen.",
            "Password: 8-20 characters",
            "password = getenv(\"DB_PASSWORD\")",
            "password: ${DB_PASSWORD}",
            "password: <your-password>",
            "password=********",
            "password = process.env.PASSWORD1",
            "password: /run/secrets/db1",
            "max_tokens: 4096",
            "token: see-the-documentation-of-it",
            "secret = true",
            "postgres://app:${PASSWORD}@db/app",
            "https://example.org:8443/path@1",
            "password: [SECRET]",
            "password: [SECRET_1]",
        ] {
            assert_eq!(found(text), Vec::<&str>::new(), "{text}. If you are here because this failed: harmless texts are changed.");
        }
    }
}
