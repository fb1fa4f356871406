//! Watches one answer on its way out.

use super::{Guards, texts::strings};
use crate::generation::Output;
use domain::Actor;
use guardrails::{Decision, Guard, Kind, OutputGuard, Pseudonyms};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};
use worker_protocol::ToolCall;

/// What the model was told, as far as its answer is judged by it.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) system_prompt: String,
    /// JSON was asked for.
    pub(super) json: bool,
    pub(super) pseudonyms: Pseudonyms,
    /// Something may be changed; else everything passes as it is.
    pub(super) changes: bool,
}

/// See the module. Each completion of an answer, and its thoughts, are texts of their own.
pub(crate) struct Watch {
    guards: Guards,
    actor: Actor,
    guard: Arc<Guard>,
    told: Told,
    // A node of the map sets aside room for eleven, and most answers have one.
    texts: BTreeMap<Text, Box<OutputGuard>>,
    /// Names of rules that let the request pass and warn.
    warnings: Vec<String>,
    decisions: Vec<Decision>,
}

impl Passed {
    /// This, and then, unless a rule ended the answer, what comes next.
    fn and(mut self, next: impl FnOnce() -> Self) -> Self {
        if self.blocked.is_none() {
            let next = next();
            self.outputs.extend(next.outputs);
            self.blocked = next.blocked;
        }
        self
    }
}

/// One text of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Text {
    Answer(u32),
    Reasoning(u32),
}

/// What may go out.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    pub(crate) outputs: Vec<Output>,
    /// The rule that ends the answer here.
    pub(crate) blocked: Option<String>,
}

impl Watch {
    pub(super) fn new(guards: Guards, actor: Actor, guard: Arc<Guard>, told: Told, warnings: Vec<String>) -> Self {
        Self { guards, actor, guard, told, texts: BTreeMap::new(), warnings, decisions: Vec::new() }
    }

    /// Rules that let the request pass and warn.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What may go out now that the model said this. Where something may be changed, log-probabilities never do: they spell
    /// out what may be hidden.
    pub(crate) fn pass(&mut self, output: Output) -> Passed {
        match output {
            output if !self.told.changes => Passed { outputs: vec![output], blocked: None },
            Output::Text { choice, text, .. } => {
                let before = self.finish_texts(&[Text::Reasoning(choice)], false);
                before.and(|| self.push(Text::Answer(choice), &text))
            }
            Output::Reasoning { choice, text } => {
                let before = self.finish_texts(&[Text::Answer(choice)], false);
                before.and(|| self.push(Text::Reasoning(choice), &text))
            }
            Output::ToolCall { choice, index, call } => {
                let before = self.finish_choice(choice, false);
                before.and(|| self.call(choice, index, call))
            }
            Output::Ended { choice, finish } => {
                let mut passed = self.finish_choice(choice, true);
                if passed.blocked.is_none() {
                    passed.outputs.push(Output::Ended { choice, finish });
                }
                passed
            }
            other => Passed { outputs: vec![other], blocked: None },
        }
    }

    /// A stop text that was told of, in the words of whoever asked.
    pub(crate) fn turned_back(&self, text: String) -> String {
        if !self.told.changes {
            return text;
        }
        let mut guard = self.guard.output(&self.told.system_prompt, false, self.told.pseudonyms.clone());
        let (first, last) = (guard.push(&text), guard.finish());
        [first.text.as_ref(), &last.text].concat()
    }

    /// What was held back, now that no more comes. Only the whole of an answer can be JSON.
    pub(crate) fn finish(&mut self, whole: bool) -> Passed {
        let mut texts: Vec<Text> = self.texts.keys().copied().collect();
        // Thoughts come before what they lead to.
        texts.sort_by_key(|text| matches!(text, Text::Answer(_)));
        self.finish_texts(&texts, whole)
    }

    /// Audits what was decided about the answer. The answer is out by then: a failure is logged.
    pub(crate) async fn write_down(self: Box<Self>) {
        if let Err(error) = self.guards.write_down(&self.actor, &self.decisions).await {
            let rules: Vec<&str> = self.decisions.iter().map(|decision| decision.rule.as_str()).collect();
            tracing::error!(%error, request = %self.actor.request(), ?rules, "decisions of guardrails could not be audited");
        }
    }

    fn finish_choice(&mut self, choice: u32, whole: bool) -> Passed {
        self.finish_texts(&[Text::Reasoning(choice), Text::Answer(choice)], whole)
    }

    fn finish_texts(&mut self, texts: &[Text], whole: bool) -> Passed {
        let mut passed = Passed::default();
        for text in texts {
            let Some(mut guard) = self.texts.remove(text) else { continue };
            let mut released = guard.finish();
            released.decisions.retain(|decision| whole || decision.kind != Kind::Json);
            passed.outputs.extend(text.output(released.text.into_owned()));
            let rule = guard.blocked().filter(|rule| released.decisions.iter().any(|decision| decision.rule == *rule));
            passed.blocked = passed.blocked.or_else(|| rule.map(str::to_owned));
            self.decisions.extend(released.decisions);
        }
        passed
    }

    /// A call is whole, so it is looked at as what it says: each text in its arguments by itself.
    fn call(&mut self, choice: u32, index: u32, mut call: Box<ToolCall>) -> Passed {
        let mut blocked = None;
        let mut look = |text: &mut String| {
            let mut guard = self.guard.output(&self.told.system_prompt, false, self.told.pseudonyms.clone());
            let (first, last) = (guard.push(text), guard.finish());
            let changed = [first.text.as_ref(), &last.text].concat();
            self.decisions.extend(first.decisions.into_iter().chain(last.decisions));
            blocked = blocked.take().or_else(|| guard.blocked().map(str::to_owned));
            *text = changed;
        };
        look(&mut call.id);
        look(&mut call.name);
        match serde_json::from_str::<Value>(&call.arguments) {
            Ok(before) => {
                let mut after = before.clone();
                strings(&mut after, &mut look);
                // Written anew only if it is not what it was: models have their own way to space it.
                if after != before {
                    call.arguments = after.to_string();
                }
            }
            Err(_) => look(&mut call.arguments),
        }
        let outputs = if blocked.is_some() { Vec::new() } else { vec![Output::ToolCall { choice, index, call }] };
        Passed { outputs, blocked }
    }

    fn push(&mut self, text: Text, piece: &str) -> Passed {
        let guard = self.texts.entry(text).or_insert_with(|| {
            let json = self.told.json && matches!(text, Text::Answer(_));
            Box::new(self.guard.output(&self.told.system_prompt, json, self.told.pseudonyms.clone()))
        });
        let released = guard.push(piece);
        self.decisions.extend(released.decisions);
        let outputs = text.output(released.text.into_owned()).into_iter().collect();
        Passed { outputs, blocked: guard.blocked().map(str::to_owned) }
    }
}

impl Text {
    fn output(self, text: String) -> Option<Output> {
        (!text.is_empty()).then(|| match self {
            Self::Answer(choice) => Output::Text { choice, text, logprobs: Vec::new() },
            Self::Reasoning(choice) => Output::Reasoning { choice, text },
        })
    }
}
