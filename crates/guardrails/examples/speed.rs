//! What each kind of rule costs on a long prompt in which there is nothing to be found. Microseconds for a thousand bytes are
//! nanoseconds for each.
//!
//! ```text
//! cargo run --release -p guardrails --example speed
//! ```

use guardrails::{Action, Check, Entity, Guard, Kind, Part, Policy, PolicyError, Role, Rule, Stage};
use std::time::{Duration, Instant};

/// About a hundred thousand tokens.
const BYTES: usize = 400_000;
/// The fastest of these counts: the others were disturbed.
const TURNS: usize = 20;
const ENGLISH: &str = "The old captain carries a letter beyond the harbour and seldom returns before winter. The council describes \
    every bridge, repairs the narrow ones and measures what the river took. ";
const GERMAN: &str = "Die Gemeinde übernimmt die Kosten für größere Brücken, soweit der Träger zuvor zugestimmt hat; am 12. März 2024 \
    (siehe Seite 17) wurden 3.400 Bescheide verschickt. ";

fn main() -> Result<(), PolicyError> {
    let pii = |entities: &[Entity]| Check::Pii { entities: entities.to_vec() };
    let words = || Check::Words { words: vec!["Kranich".into()], umlauts: false };
    let injection = || Check::Injection { threshold: Check::USUAL_THRESHOLD };
    let checks = [
        ("numbers", vec![pii(&[Entity::Iban, Entity::CreditCard, Entity::TaxId, Entity::Phone])]),
        ("addresses", vec![pii(&[Entity::Email])]),
        ("people", vec![pii(&[Entity::Person])]),
        ("secrets", vec![Check::Secrets {}]),
        ("words", vec![words()]),
        ("injection", vec![injection()]),
        ("all", vec![pii(&[]), Check::Secrets {}, words(), injection()]),
    ];
    for (language, sentence) in [("English", ENGLISH), ("German", GERMAN)] {
        let text = shuffled(sentence);
        for (name, checks) in &checks {
            let policy = Policy { rules: checks.iter().cloned().enumerate().map(rule).collect(), ..Policy::default() };
            let took = fastest(&Guard::new(&policy)?, &text);
            let bytes = u32::try_from(text.len()).unwrap_or(u32::MAX);
            eprintln!("{language}, {name}: {:.2?} for 1,000 bytes, {took:.2?} for all", took * 1000 / bytes);
        }
    }
    Ok(())
}

/// Words in an order that no processor learns by heart, which makes texts look faster than they are; always the same.
fn shuffled(sentence: &str) -> String {
    let words: Vec<&str> = sentence.split_whitespace().collect();
    let mut text = String::with_capacity(BYTES + sentence.len());
    let mut state = 0_u64;
    while text.len() < BYTES {
        // SplitMix64 (Steele, Lea, Flood 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let most = u64::try_from(words.len()).unwrap_or(1);
        text.push_str(words[usize::try_from((z ^ (z >> 31)) % most).unwrap_or(0)]);
        text.push(' ');
    }
    text
}

fn rule((index, check): (usize, Check)) -> Rule {
    // Whoever masks has to know which names are taken, and nothing can stand for an injection.
    let action = if check.kind() == Kind::Injection { Action::Block } else { Action::Mask };
    Rule { name: format!("rule-{index}"), check, on: vec![Stage::Input], action }
}

fn fastest(guard: &Guard, text: &str) -> Duration {
    let turn = |_| {
        let mut asked = text.to_owned();
        let begin = Instant::now();
        let input = guard.input(&mut [Part { role: Role::User, text: &mut asked }]);
        let took = begin.elapsed();
        assert!(input.decisions.is_empty(), "what is measured is a text without hits: {:?}", input.decisions);
        took
    };
    (0..TURNS).map(turn).min().unwrap_or_default()
}
