//! What a tenant wants to be looked for and what then happens, as data.

use serde::{Deserialize, Serialize};

/// The rules of a tenant, in the order in which they are named when several forbid the same text. Without any, everything
/// passes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// At most [`MOST_RULES`](Self::MOST_RULES).
    pub rules: Vec<Rule>,
    /// What becomes of pictures, which no rule can look at.
    #[serde(default, skip_serializing_if = "Images::is_usual")]
    pub images: Images,
}

/// What becomes of pictures on their way to a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Images {
    /// They are refused if any rule keeps texts from models (it blocks or masks on the way in): what it forbids may as well
    /// be photographed.
    #[default]
    Refuse,
    /// They pass without anybody having looked at them.
    Allow,
}

impl Images {
    /// Its name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Allow => "allow",
        }
    }

    // Taken by reference: serde hands it over so.
    const fn is_usual(&self) -> bool {
        matches!(self, Self::Refuse)
    }
}

impl Policy {
    /// The first rule for whose sake pictures are refused, if they are.
    #[must_use]
    pub fn unseeing(&self) -> Option<&Rule> {
        let keeps = |rule: &&Rule| rule.on.contains(&Stage::Input) && matches!(rule.action, Action::Block | Action::Mask);
        self.rules.iter().find(keeps).filter(|_| self.images == Images::Refuse)
    }
}

/// One thing to look for, where, and what happens when it is found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its public name, distinct within a policy: 1 to 64 of `a-z`, `0-9`, `_` and `-`.
    pub name: String,
    /// What is looked for.
    pub check: Check,
    /// On the way in, out, or both; at least one.
    pub on: Vec<Stage>,
    /// What happens when it is found.
    pub action: Action,
}

/// What is looked for. In JSON an object with its `kind`: `{"kind": "pii", "entities": ["iban", "email"]}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Check {
    /// Data about people.
    Pii {
        /// Empty: all of them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        entities: Vec<Entity>,
    },
    /// Keys, tokens and passwords.
    Secrets {},
    /// Attempts to make the model disobey; on the way in only. What the operator wrote himself is not looked at.
    Injection {
        /// More than 0 and at most 1; the usual one is [`USUAL_THRESHOLD`](Self::USUAL_THRESHOLD).
        #[serde(default = "usual_threshold")]
        threshold: f32,
    },
    /// Words and phrases, whole and whatever their case.
    Words {
        /// At most [`Policy::MOST_WORDS`] in all rules together, of at most [`Policy::LONGEST_WORD`] bytes each.
        words: Vec<String>,
        /// `ae`, `oe` and `ue` are the same as `ä`, `ö` and `ü`. `ss` and `ß` always are.
        #[serde(default)]
        umlauts: bool,
    },
    /// An answer that tells what the system prompt says; on the way out only.
    SystemPrompt {},
    /// An answer that is not JSON although JSON was asked for; on the way out only.
    Json {},
}

impl Check {
    /// The threshold of an injection that names none.
    pub const USUAL_THRESHOLD: f32 = 0.7;

    /// What kind of check it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Pii { .. } => Kind::Pii,
            Self::Secrets {} => Kind::Secrets,
            Self::Injection { .. } => Kind::Injection,
            Self::Words { .. } => Kind::Words,
            Self::SystemPrompt {} => Kind::SystemPrompt,
            Self::Json {} => Kind::Json,
        }
    }
}

fn usual_threshold() -> f32 {
    Check::USUAL_THRESHOLD
}

/// A kind of check, for decisions and findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// [`Check::Pii`].
    Pii,
    /// [`Check::Secrets`].
    Secrets,
    /// [`Check::Injection`].
    Injection,
    /// [`Check::Words`].
    Words,
    /// [`Check::SystemPrompt`].
    SystemPrompt,
    /// [`Check::Json`].
    Json,
}

impl Kind {
    /// Its name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pii => "pii",
            Self::Secrets => "secrets",
            Self::Injection => "injection",
            Self::Words => "words",
            Self::SystemPrompt => "system_prompt",
            Self::Json => "json",
        }
    }
}

/// Data about a person that can be found in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entity {
    /// A bank account's number (ISO 13616) of any registered country, with its check digits.
    Iban,
    /// A German tax identification number (§ 139b AO), with its check digit.
    TaxId,
    /// A telephone number in German, North American or international form.
    Phone,
    /// An e-mail address.
    Email,
    /// A payment card's number (ISO/IEC 7812) of a known network, with its check digit.
    CreditCard,
    /// A name of a person. The least certain of all: see [`crate`].
    Person,
}

impl Entity {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Iban, Self::TaxId, Self::Phone, Self::Email, Self::CreditCard, Self::Person];

    /// What stands for it in a text: `[IBAN]`, and numbered where it is turned back, `[IBAN_1]`.
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Iban => "IBAN",
            Self::TaxId => "TAX_ID",
            Self::Phone => "PHONE",
            Self::Email => "EMAIL",
            Self::CreditCard => "CREDIT_CARD",
            Self::Person => "PERSON",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Some of the [`Entity`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entities(u8);

impl Entities {
    /// Those of a rule, where none means all.
    pub(crate) fn of(entities: &[Entity]) -> Self {
        let chosen = if entities.is_empty() { &Entity::ALL[..] } else { entities };
        Self(chosen.iter().fold(0, |bits, entity| bits | entity.bit()))
    }

    pub(crate) const fn contains(self, entity: Entity) -> bool {
        self.0 & entity.bit() != 0
    }

    pub(crate) const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Where a text is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// To the model.
    Input,
    /// From the model.
    Output,
}

impl Stage {
    /// Its name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

/// What happens to what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The request is refused, or the answer ends before it.
    Block,
    /// Something else stands for it: a pseudonym on the way in, a tag on the way out.
    Mask,
    /// The text stays; whoever asked is told. To this crate the same as [`Action::Log`].
    Warn,
    /// The text stays; only the decision remains.
    Log,
}

impl Action {
    /// Its name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Mask => "mask",
            Self::Warn => "warn",
            Self::Log => "log",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, Check, Entity, Images, Policy, Stage};

    fn read(json: &str) -> Result<Policy, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    fn rule(check: &str) -> String {
        format!(r#"{{"rules": [{{"name": "a", "check": {check}, "on": ["input"], "action": "mask"}}]}}"#)
    }

    #[test]
    fn every_check_is_read_and_written_the_same() {
        for check in [
            r#"{"kind":"pii"}"#,
            r#"{"kind":"pii","entities":["iban","tax_id","phone","email","credit_card","person"]}"#,
            r#"{"kind":"secrets"}"#,
            r#"{"kind":"injection","threshold":0.5}"#,
            r#"{"kind":"words","words":["a","b c"],"umlauts":true}"#,
            r#"{"kind":"system_prompt"}"#,
            r#"{"kind":"json"}"#,
        ] {
            let policy = read(&rule(check)).expect(check);
            assert_eq!(serde_json::to_string(&policy.rules[0].check).unwrap(), check);
            assert_eq!((policy.rules[0].on.as_slice(), policy.rules[0].action), (&[Stage::Input][..], Action::Mask));
        }
    }

    #[test]
    fn what_is_left_out_has_its_usual_value() {
        assert_eq!(read(&rule(r#"{"kind":"injection"}"#)).unwrap().rules[0].check, Check::Injection { threshold: 0.7 });
        let words = Check::Words { words: vec!["a".into()], umlauts: false };
        assert_eq!(read(&rule(r#"{"kind":"words","words":["a"]}"#)).unwrap().rules[0].check, words);
        assert_eq!(Policy::default().rules, []);
    }

    #[test]
    fn pictures_are_refused_where_a_rule_would_have_to_see_them() {
        let policy = |on: &str, action: &str, images: &str| {
            let rule = format!(r#"{{"name": "a", "check": {{"kind": "secrets"}}, "on": ["{on}"], "action": "{action}"}}"#);
            read(&format!(r#"{{"rules": [{rule}]{images}}}"#)).unwrap()
        };
        for (on, action, images, refused) in [
            ("input", "block", "", true),
            ("input", "mask", r#", "images": "refuse""#, true),
            ("input", "warn", "", false),
            ("input", "log", "", false),
            ("output", "block", "", false),
            ("input", "block", r#", "images": "allow""#, false),
        ] {
            let unseeing = policy(on, action, images).unseeing().map(|rule| rule.name.clone());
            assert_eq!(
                unseeing.is_some(),
                refused,
                "{on} {action} {images}. If you are here because this failed: a photograph goes around the rules, or nobody may send any."
            );
        }
        assert!(Policy::default().unseeing().is_none());
        let stored = |policy: &Policy| serde_json::to_string(policy).unwrap();
        assert!(!stored(&policy("input", "block", "")).contains("images"), "older versions read it");
        assert!(stored(&Policy { images: Images::Allow, ..Policy::default() }).contains(r#""images":"allow""#));
        for images in [Images::Refuse, Images::Allow] {
            assert_eq!(serde_json::to_value(images).unwrap(), images.name());
        }
    }

    #[test]
    fn what_nobody_knows_is_refused() {
        for check in [
            r#"{"kind":"secrets","threshold":0.5}"#,
            r#"{"kind":"pii","entity":["iban"]}"#,
            r#"{"kind":"pii","entities":["passport"]}"#,
            r#"{"kind":"json","strict":true}"#,
            r#"{"kind":"toxicity"}"#,
        ] {
            assert!(read(&rule(check)).is_err(), "{check}. If you are here because this failed: a misspelt rule guards nothing.");
        }
        assert!(read(r#"{"rules": [], "rule": []}"#).is_err());
        assert!(read(r#"{"rules": [], "images": "some"}"#).is_err());
    }

    #[test]
    fn names_are_those_of_json() {
        for entity in Entity::ALL {
            let json = serde_json::to_string(&entity).unwrap();
            assert_eq!(json.trim_matches('"').to_uppercase(), entity.tag());
        }
        let kinds = [Check::Pii { entities: Vec::new() }, Check::Secrets {}, Check::SystemPrompt {}, Check::Json {}];
        for kind in kinds.map(|check| check.kind()) {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("{:?}", kind.name()));
        }
        for stage in [Stage::Input, Stage::Output] {
            assert_eq!(serde_json::to_string(&stage).unwrap(), format!("{:?}", stage.name()));
        }
    }
}
