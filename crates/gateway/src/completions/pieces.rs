//! Texts as they are made: chunks.

use super::{Body, BodyChoice, Echo, Logprobs, WORDS};
use crate::{
    chat::{Named, answer::FINGERPRINT},
    failure::Failure,
    follow::Render,
    sse,
    usage::{Cost, Usage},
};
use axum::body::Bytes;
use inference::{Ended, Finish, Output, TokenLogprob};
use std::collections::VecDeque;

/// See the module.
pub struct Pieces {
    id: String,
    named: Named,
    include_usage: bool,
    echo: Echo,
    /// How far each text came, in characters.
    lengths: Vec<usize>,
}

impl Pieces {
    /// `choices`: of all prompts together.
    pub fn new(named: Named, choices: u32, include_usage: bool, echo: Echo) -> Self {
        let lengths = vec![0; usize::try_from(choices).unwrap_or(1)];
        Self { id: named.id("cmpl"), named, include_usage, echo, lengths }
    }

    /// Says it, behind the prompt if the text begins with that. Prompts are copied when something follows them, and not all at
    /// once, before anybody looked at them.
    fn go_on(&mut self, index: u32, text: &str, logprobs: &[TokenLogprob], finish_reason: Option<&str>, frames: &mut VecDeque<Bytes>) {
        let begins = usize::try_from(index).ok().and_then(|at| self.lengths.get(at)).is_some_and(|length| *length == 0);
        let prompt = if begins { self.echo.before(index).to_owned() } else { String::new() };
        if !prompt.is_empty() {
            frames.extend(self.say(index, &prompt, &[], None));
        }
        frames.extend(self.say(index, text, logprobs, finish_reason));
    }

    fn say(&mut self, index: u32, text: &str, logprobs: &[TokenLogprob], finish_reason: Option<&str>) -> Option<Bytes> {
        let length = usize::try_from(index).ok().and_then(|at| self.lengths.get_mut(at))?;
        let logprobs = Logprobs::of(logprobs, *length);
        *length += text.chars().count();
        Some(self.piece(vec![BodyChoice { text, index, logprobs, finish_reason }], self.include_usage.then_some(None)))
    }

    fn piece(&self, choices: Vec<BodyChoice<'_>>, usage: Option<Option<Usage>>) -> Bytes {
        sse::data(&Body {
            id: &self.id,
            object: "text_completion",
            created: self.named.created,
            model: &self.named.model,
            system_fingerprint: FINGERPRINT,
            choices,
            usage,
        })
    }
}

impl Render for Pieces {
    /// Each text begins by itself.
    fn begin(&mut self, _: &mut VecDeque<Bytes>) {}

    fn take(&mut self, output: Output, frames: &mut VecDeque<Bytes>) {
        if let Output::Text { choice, text, logprobs } = output {
            self.go_on(choice, &text, &logprobs, None, frames);
        }
    }

    fn ended(&mut self, choice: u32, finish: Finish, frames: &mut VecDeque<Bytes>) {
        self.go_on(choice, "", &[], Some(finish.name()), frames);
    }

    /// Each text has told its end before.
    fn end(&mut self, ended: &Ended, cost: Cost, frames: &mut VecDeque<Bytes>) {
        if self.include_usage {
            frames.push_back(self.piece(Vec::new(), Some(Some(Usage::of(&ended.stats, cost)))));
        }
        frames.push_back(sse::DONE);
    }

    fn fail(&mut self, failure: &Failure, frames: &mut VecDeque<Bytes>) {
        frames.push_back(sse::text(&WORDS.tell(failure.clone()).event()));
    }
}

#[cfg(test)]
mod tests {
    use super::{Echo, Finish, Named, Output, Pieces, Render};
    use serde_json::Value;
    use std::collections::VecDeque;

    #[test]
    fn a_prompt_is_told_when_something_follows_it_and_not_before() {
        let named = Named { usage: "1".into(), model: "m".into(), created: 0 };
        let echo = Echo { prompts: vec!["Once".into(), "Twice".into()], each: 2 };
        let (mut pieces, mut frames) = (Pieces::new(named, 4, false, echo), VecDeque::new());
        pieces.begin(&mut frames);
        assert!(frames.is_empty(), "If you are here because this failed: copies of prompts that nobody looked at fill the memory.");
        for text in [" upon", " a time"] {
            pieces.take(Output::Text { choice: 2, text: text.into(), logprobs: Vec::new() }, &mut frames);
        }
        pieces.ended(2, Finish::Stop, &mut frames);
        pieces.ended(1, Finish::Length, &mut frames);
        let told = frames.iter().map(|frame| {
            let chunk: Value = serde_json::from_slice(&frame["data: ".len()..]).unwrap();
            let choice = &chunk["choices"][0];
            (choice["index"].as_u64().unwrap(), choice["text"].as_str().unwrap().to_owned())
        });
        let expected = [(2, "Twice"), (2, " upon"), (2, " a time"), (2, ""), (1, "Once"), (1, "")];
        assert_eq!(told.collect::<Vec<_>>(), expected.map(|(index, text)| (index, text.to_owned())));
    }
}
