//! What a policy may say.

use crate::policy::{Action, Check, Policy, Rule, Stage};
use std::collections::HashSet;

/// Why a policy is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct PolicyError {
    /// What is wrong, as a path: `rules[2].check.threshold`.
    pub field: String,
    /// A sentence for the person who wrote it.
    pub message: String,
}

impl Policy {
    /// Rules of one policy.
    pub const MOST_RULES: usize = 64;
    /// Words of all rules of one policy together.
    pub const MOST_WORDS: usize = 10_000;
    /// Bytes of one word or phrase.
    pub const LONGEST_WORD: usize = 200;
    /// Characters of a rule's name.
    pub const LONGEST_NAME: usize = 64;

    /// Whether it can be enforced.
    ///
    /// # Errors
    /// The first thing that is wrong with it: too many rules or words, a name that is not one or occurs twice, or a
    /// combination that has no meaning, like JSON on the way in.
    pub fn check(&self) -> Result<(), PolicyError> {
        if self.rules.len() > Self::MOST_RULES {
            return refuse("rules".into(), format!("A policy has at most {} rules.", Self::MOST_RULES));
        }
        let mut names = HashSet::new();
        let mut words = 0;
        for (index, rule) in self.rules.iter().enumerate() {
            let field = |name: &str| format!("rules[{index}].{name}");
            name(rule, &field)?;
            if !names.insert(rule.name.as_str()) {
                return refuse(field("name"), format!("The name {:?} occurs twice.", rule.name));
            }
            stages(rule, &field)?;
            combination(rule, &field)?;
            match &rule.check {
                Check::Injection { threshold } if !(f32::MIN_POSITIVE..=1.0).contains(threshold) => {
                    return refuse(field("check.threshold"), "A threshold is more than 0 and at most 1.".into());
                }
                Check::Words { words: list, .. } => {
                    words += list.len();
                    self::words(list, &field)?;
                }
                _ => {}
            }
            if words > Self::MOST_WORDS {
                return refuse(field("check.words"), format!("A policy has at most {} words in all.", Self::MOST_WORDS));
            }
        }
        Ok(())
    }
}

fn refuse<T>(field: String, message: String) -> Result<T, PolicyError> {
    Err(PolicyError { field, message })
}

fn name(rule: &Rule, field: &dyn Fn(&str) -> String) -> Result<(), PolicyError> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    if (1..=Policy::LONGEST_NAME).contains(&rule.name.len()) && rule.name.bytes().all(fits) {
        return Ok(());
    }
    refuse(field("name"), format!("A name has 1 to {} of the characters a-z, 0-9, _ and -.", Policy::LONGEST_NAME))
}

fn stages(rule: &Rule, field: &dyn Fn(&str) -> String) -> Result<(), PolicyError> {
    match rule.on.as_slice() {
        [] => refuse(field("on"), "A rule applies to input, output or both.".into()),
        [_] | [Stage::Input, Stage::Output] | [Stage::Output, Stage::Input] => Ok(()),
        _ => refuse(field("on"), "Each of input and output is named once.".into()),
    }
}

fn combination(rule: &Rule, field: &dyn Fn(&str) -> String) -> Result<(), PolicyError> {
    let on = |stage| rule.on.contains(&stage);
    let masks = rule.action == Action::Mask;
    match rule.check {
        Check::Json {} if on(Stage::Input) => refuse(field("on"), "Only an answer can be checked for being JSON.".into()),
        Check::SystemPrompt {} if on(Stage::Input) => refuse(field("on"), "Only an answer can tell what the system prompt says.".into()),
        Check::Injection { .. } if on(Stage::Output) => {
            refuse(field("on"), "An injection is looked for in what goes to the model, not in its answer.".into())
        }
        Check::Json {} if masks => refuse(field("action"), "Nothing can stand for an answer that is not JSON.".into()),
        Check::Injection { .. } if masks => {
            refuse(field("action"), "An injection is a whole text, nothing can stand for it: block, warn or log.".into())
        }
        _ => Ok(()),
    }
}

fn words(words: &[String], field: &dyn Fn(&str) -> String) -> Result<(), PolicyError> {
    if words.is_empty() {
        return refuse(field("check.words"), "A list has at least one word.".into());
    }
    for (index, word) in words.iter().enumerate() {
        let field = || field(&format!("check.words[{index}]"));
        if word.len() > Policy::LONGEST_WORD {
            return refuse(field(), format!("A word has at most {} bytes.", Policy::LONGEST_WORD));
        }
        if !word.chars().any(char::is_alphanumeric) {
            return refuse(field(), "A word has at least one letter or digit.".into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::policy::{Action, Check, Policy, Rule, Stage};

    fn rule(name: &str, check: Check, on: &[Stage], action: Action) -> Rule {
        Rule { name: name.into(), check, on: on.into(), action }
    }

    fn words(count: usize, word: &str) -> Check {
        Check::Words { words: vec![word.into(); count], umlauts: false }
    }

    #[track_caller]
    fn refused(rules: Vec<Rule>, field: &str) {
        let error = Policy { rules, ..Policy::default() }.check().expect_err(field);
        assert_eq!(error.field, field);
        assert!(error.message.ends_with('.') && error.to_string().starts_with(field), "{error}");
    }

    #[test]
    fn limits_are_kept_and_named() {
        let secret = |name: &str| rule(name, Check::Secrets {}, &[Stage::Input], Action::Log);
        assert_eq!(Policy { rules: (0..64).map(|n| secret(&n.to_string())).collect(), ..Policy::default() }.check(), Ok(()));
        refused((0..65).map(|n| secret(&n.to_string())).collect(), "rules");
        assert_eq!(Policy { rules: vec![secret(&"a".repeat(64))], ..Policy::default() }.check(), Ok(()));
        for name in ["", "A", "a b", "ä", &"a".repeat(65)] {
            refused(vec![secret(name)], "rules[0].name");
        }
        refused(vec![secret("a"), secret("b"), secret("a")], "rules[2].name");
        refused(vec![rule("a", Check::Secrets {}, &[], Action::Log)], "rules[0].on");
        refused(vec![rule("a", Check::Secrets {}, &[Stage::Input; 2], Action::Log)], "rules[0].on");
    }

    #[test]
    fn words_are_counted_over_all_rules() {
        let list = |name: &str, check| rule(name, check, &[Stage::Input], Action::Mask);
        assert_eq!(Policy { rules: vec![list("a", words(5000, "x")), list("b", words(5000, "x"))], ..Policy::default() }.check(), Ok(()));
        refused(vec![list("a", words(5000, "x")), list("b", words(5001, "x"))], "rules[1].check.words");
        refused(vec![list("a", words(0, ""))], "rules[0].check.words");
        refused(vec![list("a", words(1, " - "))], "rules[0].check.words[0]");
        refused(vec![list("a", words(1, &"x".repeat(201)))], "rules[0].check.words[0]");
        assert_eq!(Policy { rules: vec![list("a", words(1, &"x".repeat(200)))], ..Policy::default() }.check(), Ok(()));
    }

    #[test]
    fn what_has_no_meaning_is_refused() {
        let injection = |threshold| Check::Injection { threshold };
        refused(vec![rule("a", Check::Json {}, &[Stage::Input], Action::Block)], "rules[0].on");
        refused(vec![rule("a", Check::Json {}, &[Stage::Output], Action::Mask)], "rules[0].action");
        refused(vec![rule("a", Check::SystemPrompt {}, &[Stage::Output, Stage::Input], Action::Block)], "rules[0].on");
        refused(vec![rule("a", injection(0.5), &[Stage::Output], Action::Block)], "rules[0].on");
        refused(vec![rule("a", injection(0.5), &[Stage::Input], Action::Mask)], "rules[0].action");
        for threshold in [0.0, -1.0, 1.1, f32::NAN, f32::INFINITY] {
            refused(vec![rule("a", injection(threshold), &[Stage::Input], Action::Block)], "rules[0].check.threshold");
        }
        let both = [Stage::Input, Stage::Output];
        for action in [Action::Block, Action::Mask, Action::Warn, Action::Log] {
            let policy = Policy { rules: vec![rule("a", Check::Pii { entities: Vec::new() }, &both, action)], ..Policy::default() };
            assert_eq!(policy.check(), Ok(()));
        }
    }
}
