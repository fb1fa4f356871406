//! Keys, tokens and passwords: those with the form that an issuer gives them, and those that a text calls so.

mod assigned;

use crate::{
    begun::{begun, regex},
    view::{Certainty, Hit, Resume, View, What, each, undecided},
};
use regex::Regex;
use std::{ops::Range, sync::LazyLock};

/// A private key between its lines (RFC 7468, OpenPGP's as well), whole or only its beginning.
const PRIVATE_KEY: &str = concat!(
    r"-----BEGIN (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----(?:\s|\\[nr])*",
    r"(?:[A-Za-z-]{1,32}: [^\n\\]*(?:\s|\\[nr])+)*",
    r"[0-9A-Za-z+/=]{16,}[0-9A-Za-z+/=\s\\]*",
    r"(?:-----END (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----)?",
);
/// A signed JSON Web Token (RFC 7519): header and claims begin with `{"`. Its signature may be missing.
const WEB_TOKEN: &str = r"(?-u:\b)eyJ[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}(?:\.[0-9A-Za-z_-]*)?";
/// OpenAI, Anthropic, others who took over the form, and Kontor.
const SK: &str = r"(?-u:\b)sk-[0-9A-Za-z_-]{20,}";
const BEARER: &str = r"(?-u:\b)[Bb]earer [0-9A-Za-z._~+/-]{20,}=*";

/// Bytes of the shortest of all these.
const SHORTEST: usize = 15;

/// What needs no second look, by issuer.
const TOKENS: &[&str] = &[
    // Amazon Web Services: access key ids.
    r"(?-u:\b)(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}",
    // GitHub.
    r"(?-u:\b)gh[pousr]_[0-9A-Za-z]{36,}",
    r"(?-u:\b)github_pat_[0-9A-Za-z_]{22,}",
    // GitLab: personal, deploy, runner, pipeline and other tokens.
    r"(?-u:\b)gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|soat|ffct)-[0-9A-Za-z_.-]{20,}",
    // Slack: tokens and incoming webhooks.
    r"(?-u:\b)xox[abeoprs]-[0-9A-Za-z-]{10,}",
    r"(?-u:\b)xapp-[0-9]-[0-9A-Za-z-]{10,}",
    r"(?-u:\b)hooks\.slack\.com/services/T[0-9A-Z]+/B[0-9A-Z]+/[0-9A-Za-z]{20,}",
    // Google: API keys, OAuth access tokens and client secrets.
    r"(?-u:\b)AIza[0-9A-Za-z_-]{35}",
    r"(?-u:\b)ya29\.[0-9A-Za-z_-]{20,}",
    r"(?-u:\b)GOCSPX-[0-9A-Za-z_-]{20,}",
    // Stripe.
    r"(?-u:\b)[rs]k_(?:live|test)_[0-9A-Za-z]{16,}",
    r"(?-u:\b)whsec_[0-9A-Za-z]{24,}",
    // Hugging Face, npm.
    r"(?-u:\b)hf_[0-9A-Za-z]{30,}",
    r"(?-u:\b)npm_[0-9A-Za-z]{36}",
];

struct Patterns {
    private_key: Regex,
    web_token: Regex,
    sk: Regex,
    bearer: Regex,
    tokens: Regex,
    begun: Regex,
}

static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| {
    let own = [PRIVATE_KEY, WEB_TOKEN, SK, BEARER];
    let all: Vec<&str> = own.iter().chain(TOKENS).chain(&assigned::PATTERNS).copied().collect();
    Patterns {
        private_key: regex(PRIVATE_KEY),
        web_token: regex(WEB_TOKEN),
        sk: regex(SK),
        bearer: regex(BEARER),
        tokens: regex(&TOKENS.join("|")),
        begun: begun(&all),
    }
});

/// Compiles what the search needs, so that nobody waits for it later.
pub(crate) fn prepare() {
    scan(View::whole(""), &mut Vec::new());
}

/// Adds what is found; says where begins what is not decided yet.
pub(crate) fn scan(view: View<'_>, hits: &mut Vec<Hit>) -> usize {
    let mut found = Vec::new();
    let patterns = &*PATTERNS;
    if view.text.len() - view.from >= SHORTEST {
        of_known_form(view, patterns, &mut found);
    }
    assigned::scan(view, &mut found);
    let undecided = undecided(view, &patterns.begun, &found);
    hits.extend(distinct(found));
    undecided
}

/// Adds those with the form that somebody gives them.
fn of_known_form(view: View<'_>, patterns: &Patterns, hits: &mut Vec<Hit>) {
    let secret = |range: Range<usize>| Some((range, What::Secret(Certainty::Form)));
    each(&patterns.private_key, view, Resume::Behind, hits, secret);
    each(&patterns.web_token, view, Resume::Behind, hits, secret);
    each(&patterns.tokens, view, Resume::Behind, hits, |range| {
        // A longer word only begins like a key.
        let ends = !view.after(range.end).is_some_and(|c| c.is_ascii_alphanumeric());
        secret(range).filter(|_| ends)
    });
    each(&patterns.sk, view, Resume::Behind, hits, |range| secret(range).filter(|(range, _)| is_key(&view.text[range.clone()])));
    each(&patterns.bearer, view, Resume::Behind, hits, |range| {
        let token = range.start + "bearer ".len()..range.end;
        has_digit_and_letter(&view.text[token.clone()]).then_some((token, What::Secret(Certainty::Context)))
    });
}

/// One hit for each secret, however many patterns fit: the one that was sure of it.
fn distinct(mut found: Vec<Hit>) -> Vec<Hit> {
    found.sort_by_key(|hit| hit.range.start);
    let mut kept: Vec<Hit> = Vec::with_capacity(found.len());
    for hit in found {
        match kept.last_mut().filter(|last| last.overlaps(&hit)) {
            Some(last) => {
                last.range.end = last.range.end.max(hit.range.end);
                last.since = last.since.min(hit.since);
                if hit.what == What::Secret(Certainty::Form) {
                    last.what = hit.what;
                }
            }
            None => kept.push(hit),
        }
    }
    kept
}

/// `sk-` is also how ordinary names begin: a key has a known maker, or looks like drawn by lot.
fn is_key(text: &str) -> bool {
    let body = &text["sk-".len()..];
    let made = ["proj-", "ant-", "kontor-", "svcacct-", "admin-", "or-v1-"].iter().any(|maker| body.starts_with(maker));
    let drawn = || body.bytes().all(|byte| byte.is_ascii_alphanumeric()) || body.bytes().any(|byte| byte.is_ascii_uppercase());
    has_digit_and_letter(body) && (made || drawn())
}

fn has_digit_and_letter(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_digit()) && text.bytes().any(|byte| byte.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::scan;
    use crate::view::{View, tidy};

    fn found(text: &str) -> Vec<&str> {
        let mut hits = Vec::new();
        scan(View::whole(text), &mut hits);
        tidy(&mut hits);
        hits.into_iter().map(|hit| &text[hit.range]).collect()
    }

    /// So that no scanner of this repository finds them.
    fn made(parts: &[&str]) -> String {
        parts.concat()
    }

    #[track_caller]
    fn finds(secrets: &[String]) {
        let wrong: Vec<_> = secrets.iter().filter(|secret| found(&format!("so: {secret} .")) != [secret.as_str()]).collect();
        assert!(wrong.is_empty(), "{wrong:#?}. If you are here because this failed: secrets go out unseen.");
    }

    #[test]
    fn secrets_of_known_form() {
        let key = "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8";
        finds(&[
            made(&["AKIA", "IOSFODNN7EXAMPLE"]),
            made(&["ghp_", key]),
            made(&["gho_", key, "s9"]),
            made(&["github_pat_", "11ABCDE_", key]),
            made(&["glpat-", "a1B2c3D4e5F6g7H8i9J0"]),
            made(&["xoxb-", "123456789012-abcdefABCDEF"]),
            made(&["AIza", "SyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q"]),
            made(&["ya29.", key]),
            made(&["GOCSPX-", "a1B2c3D4e5F6g7H8i9J0"]),
            made(&["sk_live_", "a1B2c3D4e5F6g7H8"]),
            made(&["hf_", key]),
            made(&["sk-", "a1B2c3D4e5F6g7H8i9J0"]),
            made(&["sk-", "0123456789abcdef0123456789abcdef"]),
            made(&["sk-proj-", "a1B2-c3D4_e5F6g7H8"]),
            made(&["sk-ant-", "api03-a1B2c3D4e5F6g7H8"]),
            made(&["sk-kontor-", "a1b2c3d4e5f6g7h8i9j0"]),
            made(&["eyJ", "hbGciOiJIUzI1NiJ9.eyJ", "zdWIiOiIxMjM0In0.", "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"]),
            made(&["eyJ", "hbGciOiJIUzI1NiJ9.eyJ", "zdWIiOiIxMjM0In0"]),
        ]);
    }

    #[test]
    fn private_keys_whole_and_cut_off() {
        let body = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\nMzEfYyjiWA4R4/M2bS1GB4t7NXp98C3SC6dVMvDuictGeurT8jNbvJZHtCSuYEvu";
        let line = |word: &str, kind: &str| made(&["-----", word, " ", kind, "PRIVATE KEY-----"]);
        for kind in ["", "RSA ", "OPENSSH ", "EC ", "ENCRYPTED "] {
            let key = format!("{}\n{body}\n{}", line("BEGIN", kind), line("END", kind));
            assert_eq!(found(&format!("Hier:\n{key}\nEnde")), [key.as_str()], "{kind}");
        }
        let old = format!("{}\nProc-Type: 4,ENCRYPTED\n\n{body}\n{}", line("BEGIN", "RSA "), line("END", "RSA "));
        assert_eq!(found(&old), [old.as_str()]);
        let quoted = format!("{}\\n{}\\n{}\\n", line("BEGIN", ""), body.replace('\n', "\\n"), line("END", ""));
        assert_eq!(found(&quoted), [quoted.trim_end_matches("\\n")]);
        let cut = format!("{}\n{}", line("BEGIN", ""), &body[..40]);
        assert_eq!(found(&cut), [cut.as_str()]);
    }

    #[test]
    fn what_only_looks_like_a_secret() {
        for text in [
            "sk-learn-is-a-library-with-a-long-name",
            "task-0123456789abcdef0123456789abcdef",
            "AKIA is a prefix, AKIA1234 is too short",
            "AKIAIOSFODNN7EXAMPLEX7",
            "A key begins with -----BEGIN PRIVATE KEY----- and ends with -----END PRIVATE KEY-----",
            "-----BEGIN CERTIFICATE-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END CERTIFICATE-----",
            "-----BEGIN PUBLIC KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END PUBLIC KEY-----",
            "eyJ is how a token begins, and eyJhbGciOiJIUzI1NiJ9 is a header",
            "commit 0123456789abcdef0123456789abcdef01234567",
            "the bearer of this letter and the bearer responsibilities-of-the-role",
            "ghp_short, xoxb-no",
        ] {
            assert_eq!(found(text), Vec::<&str>::new(), "{text}. If you are here because this failed: harmless texts are changed.");
        }
    }
}
