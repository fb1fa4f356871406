//! A policy, ready to be applied.

use crate::{
    decision::Tally,
    injection, pii,
    policy::{Action, Check, Entities, Kind, Policy, Rule, Stage},
    secrets,
    view::{Hit, View, What},
    words::WordList,
};

/// A rule, without what was compiled.
#[derive(Debug)]
pub(crate) struct Known {
    /// Its place in the policy.
    index: usize,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) action: Action,
    input: bool,
    output: bool,
    entities: Entities,
    /// A lower score is none.
    pub(crate) threshold: f32,
}

impl Known {
    fn new(index: usize, rule: &Rule) -> Self {
        let entities = if let Check::Pii { entities } = &rule.check { Entities::of(entities) } else { Entities::default() };
        let threshold = if let Check::Injection { threshold } = rule.check { threshold } else { 0.0 };
        let (input, output) = (rule.on.contains(&Stage::Input), rule.on.contains(&Stage::Output));
        Self { index, name: rule.name.clone(), kind: rule.check.kind(), action: rule.action, input, output, entities, threshold }
    }

    /// For those who want to know, after the rule is gone.
    pub(crate) fn name(&self) -> String {
        self.name.clone()
    }

    pub(crate) const fn is_on(&self, stage: Stage) -> bool {
        match stage {
            Stage::Input => self.input,
            Stage::Output => self.output,
        }
    }

    pub(crate) fn looks_for(&self, what: What) -> bool {
        match (what, self.kind) {
            (What::Entity(entity), Kind::Pii) => self.entities.contains(entity),
            (What::Word(rule), Kind::Words) => rule == self.index,
            (What::Secret(_), Kind::Secrets) | (What::SystemPrompt, Kind::SystemPrompt) => true,
            _ => false,
        }
    }
}

/// What has to be looked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Needs {
    pub(crate) entities: Entities,
    pub(crate) secrets: bool,
    pub(crate) words: bool,
    pub(crate) injection: bool,
    pub(crate) system_prompt: bool,
    pub(crate) json: bool,
    /// Something may be replaced.
    pub(crate) masks: bool,
    /// Something may have to stop within a text.
    pub(crate) stops: bool,
}

impl Needs {
    fn of<'a>(rules: impl Iterator<Item = &'a Known>) -> Self {
        let mut needs = Self::default();
        for rule in rules {
            needs.entities = needs.entities.with(rule.entities);
            needs.secrets |= rule.kind == Kind::Secrets;
            needs.words |= rule.kind == Kind::Words;
            needs.injection |= rule.kind == Kind::Injection;
            needs.system_prompt |= rule.kind == Kind::SystemPrompt;
            needs.json |= rule.kind == Kind::Json;
            needs.masks |= rule.action == Action::Mask;
            needs.stops |= rule.action == Action::Block && rule.kind != Kind::Json;
        }
        needs
    }

    /// Of a text that is meant to tell the model what to do.
    pub(crate) const fn trusted(self) -> Self {
        Self { injection: false, ..self }
    }

    /// Some text has to be looked at as it passes.
    pub(crate) const fn reads(self) -> bool {
        !self.entities.is_empty() || self.secrets || self.words || self.system_prompt
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) all: Vec<Known>,
    words: Option<WordList>,
    pub(crate) input: Needs,
    pub(crate) output: Needs,
    pub(crate) anywhere: Needs,
}

impl Rules {
    /// Compiles all that a text will be searched with.
    pub(crate) fn new(policy: &Policy) -> Self {
        let all: Vec<Known> = policy.rules.iter().enumerate().map(|(index, rule)| Known::new(index, rule)).collect();
        let on = |stage| Needs::of(all.iter().filter(move |rule| rule.is_on(stage)));
        let (input, output, anywhere) = (on(Stage::Input), on(Stage::Output), Needs::of(all.iter()));
        let lists = policy.rules.iter().enumerate().filter_map(|(index, rule)| match &rule.check {
            Check::Words { words, umlauts } => Some((index, words.as_slice(), *umlauts)),
            _ => None,
        });
        let words = anywhere.words.then(|| WordList::new(lists));
        pii::prepare(anywhere.entities);
        if anywhere.secrets {
            secrets::prepare();
        }
        if anywhere.injection {
            injection::prepare();
        }
        Self { all, words, input, output, anywhere }
    }

    /// Adds what is found; says where begins what is not decided yet.
    pub(crate) fn find(&self, view: View<'_>, needs: Needs, hits: &mut Vec<Hit>) -> usize {
        let mut undecided = view.text.len();
        if !needs.entities.is_empty() {
            undecided = undecided.min(pii::scan(view, needs.entities, hits));
        }
        if needs.secrets {
            undecided = undecided.min(secrets::scan(view, hits));
        }
        if let Some(words) = self.words.as_ref().filter(|_| needs.words) {
            undecided = undecided.min(words.scan(view, hits));
        }
        undecided
    }

    /// Those that look for it at this stage.
    fn concerned(&self, what: What, stage: Stage) -> impl Iterator<Item = &Known> {
        self.all.iter().filter(move |rule| rule.is_on(stage) && rule.looks_for(what))
    }

    /// Some rule wants this done about it.
    pub(crate) fn wants(&self, action: Action, what: What, stage: Stage) -> bool {
        self.concerned(what, stage).any(|rule| rule.action == action)
    }

    /// Counts what was found; the first rule of the policy that forbids some of it.
    pub(crate) fn judge<'a>(&self, hits: impl Iterator<Item = &'a Hit>, stage: Stage, tally: &mut Tally) -> Option<&Known> {
        let mut blocking: Option<&Known> = None;
        for hit in hits {
            for rule in self.concerned(hit.what, stage) {
                tally.add(&rule.name, rule.kind, hit.what.entity(), rule.action);
                blocking = first_blocking(blocking, rule);
            }
        }
        blocking
    }

    /// Counts a text for the rules that look at it as a whole; the first one that forbids it.
    pub(crate) fn judge_whole(&self, kind: Kind, score: f32, stage: Stage, tally: &mut Tally) -> Option<&Known> {
        let mut blocking = None;
        for rule in self.all.iter().filter(|rule| rule.kind == kind && rule.is_on(stage) && score >= rule.threshold) {
            tally.add(&rule.name, kind, None, rule.action);
            blocking = first_blocking(blocking, rule);
        }
        blocking
    }
}

/// The one of two rules that blocks and comes first in the policy.
pub(crate) fn first_blocking<'a>(known: Option<&'a Known>, rule: &'a Known) -> Option<&'a Known> {
    if rule.action == Action::Block && known.is_none_or(|known| rule.index < known.index) { Some(rule) } else { known }
}
