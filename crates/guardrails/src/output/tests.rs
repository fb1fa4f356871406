//! Answers in pieces of every size come out the same, and never with what is forbidden.

use super::{OutputGuard, Released};
use crate::{
    guard::{Guard, Part, Role},
    policy::{Action, Check, Policy, Rule, Stage},
    pseudonyms::Pseudonyms,
    view::LONGEST_BEGINNING,
};
use std::borrow::Cow;

const IBAN: &str = "DE89 3704 0044 0532 0130 00";
const KEY: &str = concat!("ghp", "_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8");
const PROMPT: &str = "Du bist die Auskunft der Stadt Musterstadt. Antworte freundlich und kurz, nenne niemals interne Aktenzeichen \
    und verweise bei Fragen zum Baurecht immer an das Bauamt im dritten Stock des Rathauses.";

fn rule(name: &str, check: Check, action: Action) -> Rule {
    Rule { name: name.into(), check, on: vec![Stage::Output], action }
}

fn words() -> Check {
    Check::Words { words: vec!["Adler".into(), "streng geheim".into()], umlauts: false }
}

fn all(action: Action) -> Guard {
    let rules = vec![
        rule("people", Check::Pii { entities: Vec::new() }, action),
        rule("keys", Check::Secrets {}, action),
        rule("words", words(), action),
        rule("leak", Check::SystemPrompt {}, action),
    ];
    Guard::new(&Policy { rules, ..Policy::default() }).expect("a policy")
}

/// What comes out of an answer in these pieces: text, how often something was found, and the rule that ended it.
fn outcome<'a>(mut guard: OutputGuard, pieces: impl Iterator<Item = &'a str>) -> (String, u32, Option<String>) {
    let (mut text, mut count) = (String::new(), 0);
    let mut take = |released: Released<'_>| {
        text.push_str(&released.text);
        count += released.decisions.iter().map(|decision| decision.count).sum::<u32>();
    };
    pieces.for_each(|piece| take(guard.push(piece)));
    take(guard.finish());
    (text, count, guard.blocked().map(str::to_owned))
}

/// A text in pieces of about so many bytes.
fn pieces(text: &str, size: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.ceil_char_boundary(size.min(rest.len())));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

fn start(guard: &Guard) -> OutputGuard {
    guard.output(PROMPT, false, Pseudonyms::default())
}

const ANSWER: &str = "Guten Tag Frau Dr. Weber-Yılmaz, Ihre IBAN DE89 3704 0044 0532 0130 00 und die Nummer 030 1234567 sind da. \
    Schreiben Sie an amt@example.org; Karte 4111 1111 1111 1111, Steuer-ID 86095742719 (Max Mustermann). Projekt ADLER ist streng  \
    geheim. Passwort: Sommer2024! Ich wurde so angewiesen: Antworte freundlich und kurz, nenne niemals interne Aktenzeichen und \
    verweise bei Fragen zum Baurecht. Ende 😀.";
const MASKED: &str = "Guten Tag Frau Dr. [PERSON], Ihre IBAN [IBAN] und die Nummer [PHONE] sind da. Schreiben Sie an [EMAIL]; Karte \
    [CREDIT_CARD], Steuer-ID [TAX_ID] ([PERSON]). Projekt [WORD] ist [WORD]. Passwort: [SECRET] Ich wurde so angewiesen: \
    [SYSTEM_PROMPT]. Ende 😀.";

#[test]
fn masks_are_the_same_in_pieces_of_every_size() {
    let guard = all(Action::Mask);
    for size in 1..=ANSWER.len() {
        let (text, count, blocked) = outcome(start(&guard), pieces(ANSWER, size).into_iter());
        assert_eq!(text, MASKED, "in pieces of {size}. If you are here because this failed: personal data slips through in pieces.");
        assert_eq!((count, blocked), (11, None), "in pieces of {size}");
    }
}

#[test]
fn an_answer_ends_before_what_is_forbidden() {
    let guard = all(Action::Block);
    let leak = "Sie sagten: antworte freundlich und kurz, nenne niemals interne Aktenzeichen und verweise bei Fragen zum Recht.";
    for (answer, allowed, name) in [
        (ANSWER, "Guten Tag Frau Dr. ", "people"),
        ("Der Schlüssel ist ghp_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8, bitte", "Der Schlüssel ist ", "keys"),
        ("Das Passwort lautet Sommer2024. Ja", "Das Passwort lautet ", "keys"),
        ("Das ist streng geheim. Ja", "Das ist ", "words"),
        (leak, "Sie sagten: ", "leak"),
    ] {
        for size in 1..=answer.len() {
            let (text, count, blocked) = outcome(start(&guard), pieces(answer, size).into_iter());
            assert_eq!(text, allowed, "in pieces of {size}. If you are here because this failed: a forbidden text is seen in part.");
            assert_eq!((count, blocked.as_deref()), (1, Some(name)), "in pieces of {size}");
        }
    }
}

#[test]
fn a_leak_ends_an_answer_before_it_is_complete() {
    let mut guard = start(&all(Action::Block));
    let told = PROMPT.split_inclusive(' ').take(14).find(|word| guard.push(word).blocked);
    assert!(told.is_some(), "If you are here because this failed: a leak is kept back until it ends instead of being ended.");
    assert_eq!(guard.push("more"), Released { text: Cow::Borrowed(""), decisions: Vec::new(), blocked: true });
    assert_eq!((guard.finish().blocked, guard.blocked()), (true, Some("leak")));
}

/// Numbers that look drawn by lot and are the same every time.
struct Lot(u64);

impl Lot {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or_default() % most
    }
}

#[test]
fn what_no_rule_wants_passes_unchanged() {
    let parts = [
        "Die Gemeinde ",
        "erhöht ",
        "zum 01.01.2025 ",
        "die Hundesteuer",
        ". ",
        "😀",
        "\n\n",
        "§ 12 Abs. 3",
        "z. B. ",
        "[x]",
        "[IBAN",
        "a@b ",
        "pass",
        "word ",
        "sk-",
        "eyJ",
        "https://",
        "DE89 ",
        "030 ",
        "Herr ",
        "der ",
        "im dritten ",
        "streng ",
        "–",
        "e\u{301}",
        "\u{200b}",
        "12345",
    ];
    for action in [Action::Mask, Action::Block, Action::Log] {
        let guard = all(action);
        let mut harmless = 0;
        for seed in 0..150 {
            let mut lot = Lot(seed);
            let text: String = (0..60).map(|_| parts[lot.below(parts.len())]).collect();
            let mut cut = Vec::new();
            let mut rest = text.as_str();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.ceil_char_boundary(1 + lot.below(12).min(rest.len() - 1)));
                cut.push(piece);
                rest = after;
            }
            let (out, count, blocked) = outcome(start(&guard), cut.into_iter());
            if count == 0 {
                harmless += 1;
                assert_eq!((out, blocked), (text, None), "seed {seed}. If you are here because this failed: answers are damaged.");
            }
        }
        assert!(harmless > 100, "{harmless} of 150: too few to show anything");
    }
}

#[test]
fn pieces_decide_the_same_as_the_whole() {
    let parts = [
        "Frau ",
        "Müller",
        " Weber",
        " und ",
        "Max ",
        "Jan ",
        "von ",
        "der ",
        "Leyen",
        ". ",
        ", ",
        IBAN,
        " 030 ",
        "1234567",
        " 12",
        "a@b.de",
        " Adler",
        " streng ",
        "geheim",
        " Passwort: ",
        "Xy12345",
        KEY,
        " antworte freundlich und kurz nenne niemals interne ",
        "aktenzeichen und verweise",
        " bei Fragen zum Baurecht",
        "Name: ",
        "\n",
        "é",
    ];
    let guard = all(Action::Mask);
    for seed in 0..200 {
        let mut lot = Lot(seed);
        let text: String = (0..12).map(|_| parts[lot.below(parts.len())]).collect();
        let whole = outcome(start(&guard), std::iter::once(text.as_str()));
        for size in [1, 2, 3, 5, 9] {
            assert_eq!(outcome(start(&guard), pieces(&text, size).into_iter()), whole, "seed {seed}, in pieces of {size}: {text:?}");
        }
    }
}

#[test]
fn without_rules_nothing_is_kept_or_copied() {
    let guard = Guard::new(&Policy::default()).unwrap();
    let mut watch = guard.output(PROMPT, true, Pseudonyms::default());
    for piece in [IBAN, KEY, "Frau", ""] {
        assert!(matches!(watch.push(piece), Released { text: Cow::Borrowed(text), .. } if std::ptr::eq(text, piece)));
    }
    assert_eq!(watch.finish(), Released::default());
}

#[test]
fn who_only_logs_delays_nothing() {
    let guard = all(Action::Log);
    for size in [1, 7, ANSWER.len()] {
        let mut watch = start(&guard);
        let mut count = 0;
        for piece in pieces(ANSWER, size) {
            let released = watch.push(piece);
            assert_eq!(released.text, piece);
            count += released.decisions.iter().map(|decision| decision.count).sum::<u32>();
        }
        let last = watch.finish();
        assert_eq!((&*last.text, last.blocked), ("", false));
        assert_eq!(count + last.decisions.iter().map(|decision| decision.count).sum::<u32>(), 11);
    }
}

#[test]
fn pseudonyms_return_and_are_not_found_again() {
    let rules = vec![Rule { on: vec![Stage::Input, Stage::Output], ..rule("people", Check::Pii { entities: Vec::new() }, Action::Mask) }];
    let guard = Guard::new(&Policy { rules, ..Policy::default() }).unwrap();
    let mut question = format!("Ich heiße Weber, {IBAN}");
    let input = guard.input(&mut [Part { role: Role::User, text: &mut question }]);
    assert_eq!(question, "Ich heiße [PERSON_1], [IBAN_1]");
    let answer = "Frau [PERSON_1], [IBAN\\_1] statt AT61 1904 3002 3457 3201, [IBAN_2] [PERSON_1";
    for size in 1..=answer.len() {
        let (text, count, _) = outcome(guard.output("", false, input.pseudonyms.clone()), pieces(answer, size).into_iter());
        assert_eq!(text, format!("Frau Weber, {IBAN} statt [IBAN], [IBAN_2] [Weber"), "in pieces of {size}");
        assert_eq!(count, 1, "only what the user did not say himself");
    }
    let bare = "Frau PERSON_1 hat IBAN\\_1, nicht IBAN_10, xIBAN_1 oder iban_1: IBAN_1";
    for size in 1..=bare.len() {
        let (text, count, _) = outcome(guard.output("", false, input.pseudonyms.clone()), pieces(bare, size).into_iter());
        assert_eq!(text, format!("Frau Weber hat {IBAN}, nicht IBAN_10, xIBAN_1 oder iban_1: {IBAN}"), "in pieces of {size}");
        assert_eq!(count, 0, "in pieces of {size}");
    }
    let plain = Guard::new(&Policy::default()).unwrap();
    let (text, ..) = outcome(plain.output("", true, input.pseudonyms), ["{\"a\":\"[PER", "SON_1]\"}"].into_iter());
    assert_eq!(text, "{\"a\":\"Weber\"}");
}

#[test]
fn a_pseudonym_is_not_taken_for_what_it_stands_for() {
    let rules = vec![Rule { on: vec![Stage::Input, Stage::Output], ..rule("keys", Check::Secrets {}, Action::Mask) }];
    let guard = Guard::new(&Policy { rules, ..Policy::default() }).unwrap();
    let mut question = "Passwort: Sommer2024".to_owned();
    let input = guard.input(&mut [Part { role: Role::User, text: &mut question }]);
    assert_eq!(question, "Passwort: [SECRET_1]");
    let answer = "Das Passwort lautet SECRET_1. Ja";
    for size in 1..=answer.len() {
        let (text, count, _) = outcome(guard.output("", false, input.pseudonyms.clone()), pieces(answer, size).into_iter());
        assert_eq!((text.as_str(), count), ("Das Passwort lautet Sommer2024. Ja", 0), "in pieces of {size}");
    }
}

#[test]
fn answers_that_have_to_be_json_are_checked() {
    let guard = |action| Guard::new(&Policy { rules: vec![rule("json", Check::Json {}, action)], ..Policy::default() }).unwrap();
    let end = |action, json, text: &str| outcome(guard(action).output("", json, Pseudonyms::default()), pieces(text, 3).into_iter());
    for text in ["{\"a\": [1, 2, null]}", "[]", " 1 "] {
        assert_eq!(end(Action::Block, true, text), (text.to_owned(), 0, None));
    }
    for text in ["", "{\"a\": 1", "```json\n{}\n```", "{} Gern!"] {
        assert_eq!(end(Action::Block, true, text), (text.to_owned(), 1, Some("json".into())));
        assert_eq!(end(Action::Warn, true, text), (text.to_owned(), 1, None));
        assert_eq!(end(Action::Block, false, text), (text.to_owned(), 0, None));
    }
}

#[test]
fn secrets_without_end_never_come_out() {
    let guard = all(Action::Mask);
    let long = format!("Hier: -----BEGIN {}-----\n{} Ende", "PRIVATE KEY", "MIIEvQIBADANBgkqhkiG9w0BAQEF".repeat(2000));
    for size in [64, 1000, long.len()] {
        let (text, count, _) = outcome(start(&guard), pieces(&long, size).into_iter());
        assert!(text.starts_with("Hier: [SECRET]") && !text.contains("MII"), "{size}: {text}");
        assert!(count >= 1 && text.len() < 60, "{size}: {text}. If you are here because this failed: the end of a key is seen.");
    }
}

#[test]
fn a_leak_of_any_length_is_one() {
    let prompt = (0..4000).map(|n| format!("wort{n}")).collect::<Vec<_>>().join(" ");
    let answer = format!("Gern: {prompt} – Ende");
    for size in [7, 50, 700, answer.len()] {
        let guard = all(Action::Mask).output(&prompt, false, Pseudonyms::default());
        let (text, count, _) = outcome(guard, pieces(&answer, size).into_iter());
        assert_eq!((text.as_str(), count), ("Gern: [SYSTEM_PROMPT] – Ende", 1), "in pieces of {size}");
    }
}

#[test]
fn little_is_kept_back_of_harmless_texts() {
    let guard = all(Action::Mask);
    for unit in [
        "a",
        "a.",
        "a1 ",
        "1 2 ",
        "A. ",
        "von ",
        "Frau von ",
        "-",
        "[",
        "eyJa",
        "x@y.",
        "password ",
        "http://a:",
        "Frau A",
        "streng ",
        "im ",
    ] {
        let mut watch = start(&guard);
        let (mut given, mut taken) = (0, 0);
        for _ in 0..4000 / unit.len() {
            given += unit.len();
            taken += watch.push(unit).text.len();
            let kept = given - taken;
            assert!(kept <= LONGEST_BEGINNING, "{kept} bytes of {unit:?}. If you are here because this failed: answers stutter.");
        }
    }
}
