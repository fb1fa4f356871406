//! Watches one answer on its way out.

use super::Guards;
use crate::generation::Output;
use domain::Actor;
use guardrails::{Decision, Guard, OutputGuard, Pseudonyms};
use std::{collections::BTreeMap, sync::Arc};

/// What the model was told, as far as its answer is judged by it.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) system_prompt: String,
    /// JSON was asked for.
    pub(super) json: bool,
    pub(super) pseudonyms: Pseudonyms,
}

/// See the module. Each completion of an answer, and its thoughts, are texts of their own.
pub(crate) struct Watch {
    guards: Guards,
    actor: Actor,
    guard: Arc<Guard>,
    told: Told,
    texts: BTreeMap<Text, OutputGuard>,
    /// Names of rules that let the request pass and warn.
    warnings: Vec<String>,
    decisions: Vec<Decision>,
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

    /// What may go out now that the model said this. Log-probabilities never do: they spell out what may be hidden.
    pub(crate) fn pass(&mut self, output: Output) -> Passed {
        match output {
            Output::Text { choice, text, .. } => self.push(Text::Answer(choice), &text),
            Output::Reasoning { choice, text } => self.push(Text::Reasoning(choice), &text),
            Output::ToolCall { choice, index, mut call } => {
                let mut guard = self.guard_of(true);
                let (first, last) = (guard.push(&call.arguments), guard.finish());
                let blocked = guard.blocked().map(str::to_owned);
                let arguments = [first.text.as_ref(), &last.text].concat();
                self.decisions.extend(first.decisions.into_iter().chain(last.decisions));
                call.arguments = arguments;
                let outputs = if blocked.is_some() { Vec::new() } else { vec![Output::ToolCall { choice, index, call }] };
                Passed { outputs, blocked }
            }
            Output::Ended { choice, finish } => {
                let mut passed = self.finish_choice(choice);
                if passed.blocked.is_none() {
                    passed.outputs.push(Output::Ended { choice, finish });
                }
                passed
            }
            other => Passed { outputs: vec![other], blocked: None },
        }
    }

    /// What was held back, now that the answer is over.
    pub(crate) fn finish(&mut self) -> Passed {
        let texts: Vec<Text> = self.texts.keys().copied().collect();
        self.finish_texts(&texts)
    }

    /// Audits what was decided about the answer. The answer is out by then: a failure is logged.
    pub(crate) async fn write_down(self) {
        if let Err(error) = self.guards.write_down(&self.actor, &self.decisions).await {
            let rules: Vec<&str> = self.decisions.iter().map(|decision| decision.rule.as_str()).collect();
            tracing::error!(%error, request = %self.actor.request(), ?rules, "decisions of guardrails could not be audited");
        }
    }

    fn finish_choice(&mut self, choice: u32) -> Passed {
        self.finish_texts(&[Text::Reasoning(choice), Text::Answer(choice)])
    }

    fn finish_texts(&mut self, texts: &[Text]) -> Passed {
        let mut passed = Passed::default();
        for text in texts {
            let Some(mut guard) = self.texts.remove(text) else { continue };
            let released = guard.finish();
            self.decisions.extend(released.decisions);
            passed.outputs.extend(text.output(released.text.into_owned()));
            passed.blocked = passed.blocked.or_else(|| guard.blocked().map(str::to_owned));
        }
        passed
    }

    fn push(&mut self, text: Text, piece: &str) -> Passed {
        let mut guard = match self.texts.remove(&text) {
            Some(guard) => guard,
            None => self.guard_of(self.told.json && matches!(text, Text::Answer(_))),
        };
        let released = guard.push(piece);
        self.decisions.extend(released.decisions);
        let outputs = text.output(released.text.into_owned()).into_iter().collect();
        let blocked = guard.blocked().map(str::to_owned);
        self.texts.insert(text, guard);
        Passed { outputs, blocked }
    }

    /// For one more text. `json`: it has to be JSON.
    fn guard_of(&self, json: bool) -> OutputGuard {
        self.guard.output(&self.told.system_prompt, json, self.told.pseudonyms.clone())
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
