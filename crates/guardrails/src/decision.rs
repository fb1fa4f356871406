//! What was decided. Never what was found: decisions go to logs, ledgers and other people's screens.

use crate::policy::{Action, Entity, Kind, Stage};
use serde::Serialize;

/// A rule that found something. It says which and how often, never what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// The rule's name.
    pub rule: String,
    /// What kind of rule it is.
    pub kind: Kind,
    /// What it found, if its kind is [`Kind::Pii`].
    pub entity: Option<Entity>,
    /// What was done about it.
    pub action: Action,
    /// On which way it was.
    pub stage: Stage,
    /// How often it was found: places in the texts, or whole texts for [`Kind::Injection`] and [`Kind::Json`].
    pub count: u32,
}

/// What a rule thinks of a text that nothing was done to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding<'a> {
    /// The rule's name.
    pub rule: &'a str,
    /// What kind of rule it is.
    pub kind: Kind,
    /// How sure it is: more than 0, at most 1.
    pub score: f32,
    /// Whether that is enough for it to act.
    pub flagged: bool,
}

/// Decisions as they add up.
#[derive(Debug)]
pub(crate) struct Tally {
    stage: Stage,
    decisions: Vec<Decision>,
}

impl Tally {
    pub(crate) const fn new(stage: Stage) -> Self {
        Self { stage, decisions: Vec::new() }
    }

    pub(crate) fn add(&mut self, rule: &str, kind: Kind, entity: Option<Entity>, action: Action) {
        match self.decisions.iter_mut().find(|decision| decision.rule == rule && decision.entity == entity) {
            Some(decision) => decision.count = decision.count.saturating_add(1),
            None => self.decisions.push(Decision { rule: rule.to_owned(), kind, entity, action, stage: self.stage, count: 1 }),
        }
    }

    pub(crate) fn into_decisions(self) -> Vec<Decision> {
        self.decisions
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;
    use crate::policy::{Action, Entity, Kind, Stage};

    #[test]
    fn the_same_is_counted_and_not_repeated() {
        let mut tally = Tally::new(Stage::Output);
        for entity in [Entity::Iban, Entity::Email, Entity::Iban] {
            tally.add("people", Kind::Pii, Some(entity), Action::Mask);
        }
        tally.add("keys", Kind::Secrets, None, Action::Block);
        let counted: Vec<_> = tally.into_decisions().into_iter().map(|one| (one.rule, one.entity, one.count)).collect();
        let people = || "people".to_owned();
        assert_eq!(counted, [(people(), Some(Entity::Iban), 2), (people(), Some(Entity::Email), 1), ("keys".into(), None, 1)]);
    }
}
